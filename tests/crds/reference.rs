//! `docs/api.md`: every field of every kind, made of the CRDs.

use crate::fields::{bound, hold, said};
use feedwater::api::schema;
use serde_json::Value;
use std::fmt::Write;

const PAGE: &str = "docs/api.md";

#[test]
fn the_page_of_the_api_is_what_the_crds_say() {
    let mut text = String::new();
    for crd in schema::crds().unwrap() {
        kind(&crd, &mut text);
    }
    hold(PAGE, &text);
}

fn kind(crd: &Value, text: &mut String) {
    let (names, version) = (&crd["spec"]["names"], &crd["spec"]["versions"][0]);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let schema = &version["schema"]["openAPIV3Schema"];
    writeln!(text, "## {}\n\n{}\n", word(&names["kind"]), word(&schema["description"])).unwrap();
    writeln!(
        text,
        "`apiVersion: {}/{}`, {}, `kubectl get {}`\n",
        word(&crd["spec"]["group"]),
        word(&version["name"]),
        word(&crd["spec"]["scope"]).to_lowercase(),
        names["shortNames"]
            .as_array()
            .and_then(|short| short.first())
            .map_or_else(|| word(&names["plural"]), word),
    )
    .unwrap();
    for (part, title) in
        [("spec", "meaning | unset | bound |\n|---|---|---|---|---|"), ("status", "meaning |\n|---|---|---|")]
    {
        writeln!(text, "| field | type | {title}").unwrap();
        rows(&schema["properties"][part], part, part == "spec", text);
        text.push('\n');
    }
}

/// A field and those below it; of lists of objects the entries, of a status without what only `spec` has.
fn rows(schema: &Value, path: &str, bounds: bool, text: &mut String) {
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|all| all.iter().any(|required| required == name))
    };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let (meaning, unset) = said(field);
        let must = if required(name) && bounds { ", required" } else { "" };
        write!(text, "| `{path}` | {}{must} | {meaning} |", type_of(field)).unwrap();
        if bounds {
            write!(text, " {unset} | {} |", bound(field)).unwrap();
        }
        text.push('\n');
        rows(field, &path, bounds, text);
        if field["items"]["properties"].is_object() {
            rows(&field["items"], &format!("{path}[]"), bounds, text);
        }
    }
}

fn type_of(field: &Value) -> String {
    let name = |field: &Value| field["type"].as_str().unwrap_or("any").to_owned();
    if field["items"].is_object() { format!("list of {}", name(&field["items"])) } else { name(field) }
}
