//! The demo applies `examples/` as they are: only the two URLs differ, and Secrets are added. Run by `cargo world test`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use world::{Info, Kubectl, layout, overlay};

#[tokio::test]
async fn the_demo_changes_two_urls_and_adds_secrets_and_nothing_else() {
    let kubectl = Info::shared().unwrap().kubectl();
    let scratch = tempfile::tempdir_in(layout::worlds()).unwrap();
    let demo = scratch.path().join("demo");
    overlay::write(&demo, "http://prefect/api", "http://tableau").unwrap();

    let mut expected = objects(&kubectl, &layout::checkout().join("examples")).await;
    let changed = expected.values_mut().filter_map(set_url).count();
    assert!(changed >= 2, "the examples have a PrefectWorkspace and a TableauSite");
    let rendered = objects(&kubectl, &demo).await;
    let (secrets, rendered): (BTreeMap<_, _>, BTreeMap<_, _>) =
        rendered.into_iter().partition(|(_, object)| object["kind"] == "Secret");
    assert_eq!(rendered, expected);

    for secret in secrets.values() {
        assert_eq!(expected.values().filter(|object| refers_to(object, secret)).count(), 1, "{secret}");
    }
    assert!(!secrets.is_empty());
}

/// What the demo is meant to change.
fn set_url(object: &mut Value) -> Option<()> {
    let (field, url) = match object["kind"].as_str()? {
        "PrefectWorkspace" => ("apiUrl", "http://prefect/api"),
        "TableauSite" => ("serverUrl", "http://tableau"),
        _ => return None,
    };
    object["spec"][field] = json!(url);
    Some(())
}

/// Whether a connection takes its credentials from this Secret.
fn refers_to(object: &Value, secret: &Value) -> bool {
    let (own, its) = (&object["metadata"], &secret["metadata"]);
    let reference = json!({"secretRef": {"name": its["name"]}}).to_string();
    own["namespace"] == its["namespace"] && object["spec"]["auth"].to_string().contains(&reference)
}

async fn objects(kubectl: &Kubectl, directory: &Path) -> BTreeMap<String, Value> {
    let yaml = kubectl.run(&["kustomize", &directory.to_string_lossy()]).await.unwrap();
    let documents = serde_yaml::Deserializer::from_str(&yaml).map(|one| Value::deserialize(one).unwrap());
    documents
        .map(|object| {
            let (kind, metadata) = (&object["kind"], &object["metadata"]);
            (format!("{kind} {}/{}", metadata["namespace"], metadata["name"]), object)
        })
        .collect()
}
