//! `docs/prefect-fields.md`: made of the CRD and the reviewed list, and held to what is sent.

use crate::prefect_fields::{LEFT_OUT, MANAGED, SCHEMAS, of_schema};
use crate::root;
use feedwater::api::{FlowDeployment, FlowDeploymentStatus, schema};
use feedwater::model::connection::Standing;
use feedwater::model::deployments::Deployment;
use feedwater::model::flow::{
    Claim, Desired, Heir, Observed, Step, Turn, Values, View, WorkspaceView, Write, decide,
};
use feedwater::model::ids::{DeploymentId, DeploymentName};
use feedwater::model::tenancy::Access;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::{env, fs};

const PAGE: &str = "docs/prefect-fields.md";
const BEGIN: &str = "<!-- Generated: UPDATE=1 cargo test --test crds -->\n";
const END: &str = "<!-- End of what is generated. -->\n";

/// Fields under `spec` that are not Prefect's but say how Feedwater acts.
const OURS: [&str; 9] = [
    "workspaceRef",
    "workPool",
    "valuesFrom",
    "foreignSchedules",
    "driftDetection",
    "managementPolicy",
    "adoptionPolicy",
    "deletionPolicy",
    "suspend",
];

fn spec() -> Value {
    let crds = schema::crds().unwrap();
    let crd = crds.iter().find(|crd| crd["spec"]["names"]["kind"] == "FlowDeployment").unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The schema of a path such as `schedules[].cron.expression`.
fn at<'a>(spec: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(spec, |schema, name| {
        let (name, entries) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
        let field = &schema["properties"][name];
        assert!(field.is_object(), "the CRD has no {path}");
        if entries { &field["items"] } else { field }
    })
}

/// What is said of a field: its meaning, and what it is when unset.
pub fn said(schema: &Value) -> (String, String) {
    let text = schema["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
    match text.split_once("Unset: ") {
        Some((meaning, unset)) => (meaning.trim().to_owned(), unset.trim_end_matches('.').to_owned()),
        None => (text, String::new()),
    }
}

/// The bounds the API server holds it to.
pub fn bound(schema: &Value) -> String {
    let mut bounds = Vec::new();
    let range = |least: &Value, most: &Value| match (least.as_f64(), most.as_f64()) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (None, Some(most)) => Some(format!("at most {most}")),
        _ => None,
    };
    bounds
        .extend(range(&schema["minLength"], &schema["maxLength"]).map(|range| format!("{range} characters")));
    bounds.extend(range(&schema["minimum"], &schema["maximum"]));
    bounds.extend(range(&Value::Null, &schema["maxItems"]).map(|range| format!("{range} entries")));
    if let Some(names) = schema["enum"].as_array() {
        bounds.push(names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "));
    }
    bounds.extend(schema["pattern"].as_str().map(|pattern| format!("`{}`", pattern.replace('|', "\\|"))));
    bounds.extend(schema["items"].get("maxLength").map(|most| format!("each at most {most} characters")));
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    bounds.extend(rules.filter_map(|rule| rule["message"].as_str()).map(str::to_owned));
    bounds.join("; ")
}

fn tables() -> String {
    let spec = spec();
    let mut text = String::new();
    let row = |text: &mut String, first: &str, ours: &str| {
        let schema = at(&spec, ours);
        let (meaning, unset) = said(schema);
        writeln!(text, "| {first}`{ours}` | {meaning} | {unset} | {} |", bound(schema)).unwrap();
    };
    for (schemas, title) in SCHEMAS {
        writeln!(
            text,
            "## {title}\n\n`{}`\n\n| Prefect | ours | meaning | unset | bound |\n|---|---|---|---|---|",
            schemas.join("`, `")
        )
        .unwrap();
        for managed in MANAGED.iter().filter(|m| m.schemas == schemas) {
            row(&mut text, &format!("`{}` | ", managed.field), managed.ours);
        }
        text.push('\n');
    }
    text.push_str("## Left out\n\n| Prefect | in | why |\n|---|---|---|\n");
    for (schemas, field, why) in LEFT_OUT {
        writeln!(text, "| `{field}` | `{}` | {why} |", schemas.join("`, `")).unwrap();
    }
    text.push_str("\n## Feedwater's own\n\n| field | meaning | unset | bound |\n|---|---|---|---|\n");
    for ours in OURS {
        row(&mut text, "", ours);
    }
    text
}

#[test]
fn the_page_of_prefects_fields_is_what_the_code_says() {
    hold(PAGE, &tables());
}

/// Holds what is generated of a page against what it should be.
pub fn hold(page: &str, generated: &str) {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let made = format!("{before}{BEGIN}\n{generated}\n{END}{after}");
    if env::var_os("UPDATE").is_some() {
        fs::write(root().join(page), &made).unwrap();
    }
    let found = fs::read_to_string(root().join(page)).unwrap();
    assert!(found == made, "{page} is stale: UPDATE=1 cargo test --test crds");
}

/// So that nothing of ours is on no page.
#[test]
fn every_field_of_the_spec_is_on_the_page_once() {
    let mut leaves = BTreeSet::new();
    collect(&spec(), "", &mut leaves);
    for leaf in &leaves {
        let named = MANAGED.iter().any(|m| m.ours == leaf)
            || OURS.iter().any(|ours| {
                leaf == ours
                    || leaf.starts_with(&format!("{ours}."))
                    || leaf.starts_with(&format!("{ours}[]"))
            });
        assert!(named, "spec.{leaf} is in no table of {PAGE}");
    }
    assert!(leaves.len() > 30, "{leaves:?}");
}

fn collect(schema: &Value, path: &str, leaves: &mut BTreeSet<String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (schema["properties"].as_object(), schema["items"]["properties"].as_object()) {
        (Some(fields), _) => fields.iter().for_each(|(name, field)| collect(field, &below(name), leaves)),
        (None, Some(fields)) => {
            fields.iter().for_each(|(name, field)| collect(field, &format!("{path}[].{name}"), leaves));
        }
        (None, None) => {
            leaves.insert(path.to_owned());
        }
    }
}

fn everything() -> FlowDeployment {
    let spec = json!({
        "workspaceRef": {"name": "prod"}, "flowName": "orders", "entrypoint": "f.py:f", "workPool": {"name": "etl", "workQueue": "fast"},
        "description": "d", "version": "1", "versionInfo": {"type": "vcs:git", "version": "abc"}, "tags": ["t"], "path": "/p",
        "pullSteps": [{"a": {}}], "jobVariables": {"env": {"A": "1"}}, "parameters": {"a": 1}, "parameterOpenApiSchema": {"title": "x"},
        "enforceParameterSchema": false, "concurrencyLimit": {"limit": 2, "collisionStrategy": "CancelNew"}, "paused": true,
        "labels": {"team": "bi"}, "adoptionPolicy": "Adopt",
    });
    let metadata = json!({"name": "orders", "namespace": "finance", "generation": 1, "finalizers": ["feedwater.dev/cleanup"]});
    serde_json::from_value(json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment", "metadata": metadata, "spec": spec})).unwrap()
}

/// The writes of a resource that sets everything, once its intent is in status.
fn writes(deployment: View<Deployment>) -> Vec<Write> {
    let d = Desired::parse(&everything(), "abc").unwrap();
    let o = Observed {
        workspace: WorkspaceView::Ready,
        access: Access::Allowed,
        turn: Turn::None,
        ahead: None,
        standing: Standing::Held,
        cloud: true,
        values: Values::Put(std::collections::BTreeMap::new()),
        deployment,
        claim: Claim::Ours,
        heir: Heir::None,
        clock: Some(jiff::Timestamp::UNIX_EPOCH),
        cleanup_deadline: std::time::Duration::from_secs(600),
        memory: None,
    };
    let mut status = FlowDeploymentStatus::default();
    for _ in 0..5 {
        let decision = decide(&d, &o, &status, jiff::Timestamp::UNIX_EPOCH);
        if let Step::Do(writes) = decision.step {
            return writes;
        }
        status = decision.status;
    }
    panic!("nothing is written: {status:?}");
}

fn set_of(names: impl IntoIterator<Item = impl Into<String>>) -> BTreeSet<String> {
    names.into_iter().map(Into::into).collect()
}

/// "Managed" is no mere word: each such field is sent when a deployment is made, and when everything differs.
#[test]
fn what_is_managed_is_what_is_sent() {
    let created = writes(View::Absent);
    let [Write::Create { new, .. }] = created.as_slice() else { panic!("{created:?}") };
    let apart = ["name", "flow_id", "schedules"].map(str::to_owned);
    let sent: BTreeSet<String> = new.fields.keys().cloned().chain(apart).collect();
    assert_eq!(sent, set_of(of_schema("DeploymentCreate").0));

    let there = Deployment {
        id: DeploymentId::new("id"),
        name: DeploymentName { flow: "orders".into(), deployment: "orders".into() },
        tags: vec![],
        paused: false,
        fields: Map::new().into(),
        schedules: vec![],
        shares_limit: false,
        touched: feedwater::model::deployments::Touched::default(),
    };
    let changed = writes(View::Present(there));
    let Some(Write::Patch { fields, .. }) = changed.first() else { panic!("{changed:?}") };
    let sent: BTreeSet<String> = fields.keys().cloned().chain(["schedules".to_owned()]).collect();
    assert_eq!(sent, set_of(of_schema("DeploymentUpdate").0));
}
