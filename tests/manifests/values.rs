//! The chart's values: every one is described, in `manifests/helm/feedwater/README.md`, which is made of the comments of `values.yaml`, and has a type.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

const BEGIN: &str = "<!-- values -->\n";
const END: &str = "<!-- end -->\n";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/helm/feedwater")
}

/// A value as `values.yaml` has it.
struct Row {
    path: String,
    default: String,
    says: String,
}

/// Two spaces a level; a key without a value has others below it; the comment of a value stands right above it.
fn rows() -> Vec<Row> {
    let (mut rows, mut parents, mut says) = (Vec::new(), Vec::<String>::new(), Vec::<String>::new());
    for line in fs::read_to_string(chart().join("values.yaml")).unwrap().lines() {
        let text = line.trim_start();
        if text.is_empty() {
            says.clear();
            continue;
        }
        if let Some(comment) = text.strip_prefix("# ") {
            says.push(comment.to_owned());
            continue;
        }
        parents.truncate((line.len() - text.len()) / 2);
        let (name, default) = text.split_once(':').unwrap();
        parents.push(name.to_owned());
        if !default.is_empty() {
            let (path, default) = (parents.join("."), default.trim().to_owned());
            rows.push(Row { path, default, says: says.join(" ") });
        }
        says.clear();
    }
    rows
}

#[test]
fn every_value_is_described_in_the_charts_readme() {
    let mut table = "| value | default | what it is |\n|---|---|---|\n".to_owned();
    for Row { path, default, says } in rows() {
        assert!(says.len() >= 8 && says.ends_with('.'), "{path} is not described: `{says}`");
        writeln!(table, "| `{path}` | `{default}` | {says} |").unwrap();
    }
    let file = chart().join("README.md");
    let text = fs::read_to_string(&file).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (now, tail) = rest.split_once(END).unwrap();
    if env::var_os("UPDATE").is_some() {
        fs::write(&file, format!("{head}{BEGIN}{table}{END}{tail}")).unwrap();
        return;
    }
    assert!(
        now == table,
        "manifests/helm/feedwater/README.md is stale: UPDATE=1 cargo test --test manifests"
    );
}

/// What the schema lets through is what there is, by name: a misspelt value is refused.
#[test]
fn the_schema_of_the_values_has_every_one_and_no_other() {
    let text = fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let mut typed = BTreeSet::new();
    leaves(&serde_json::from_str(&text).unwrap(), "", &mut typed);
    // Helm's own.
    assert!(typed.remove("global"));
    assert_eq!(typed, rows().into_iter().map(|row| row.path).collect());
}

fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties) => {
            for (name, inner) in properties {
                leaves(inner, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
            }
        }
        None => drop(found.insert(path.to_owned())),
    }
}
