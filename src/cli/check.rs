//! `feedwater check`: what can be said about a manifest without a cluster.

use super::structure::{self, Fault};
use crate::api::{ExtractRefresh, FlowDeployment, GROUP, PrefectWorkspace, TableauSite, VERSION, schema};
use crate::yaml::{self, YamlError};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What was found in one text.
#[derive(Debug, Default)]
pub struct Report {
    /// The resources of ours, as `Kind name`.
    pub checked: Vec<String>,
    /// What is wrong, one line each, beginning with the resource.
    pub faults: Vec<String>,
}

/// Checks every document of ours in a YAML text. Rules across fields (CEL) are the API server's.
///
/// # Errors
/// The text is not YAML.
pub fn check(text: &str) -> Result<Report, YamlError> {
    let crds = schema::crds().map_err(YamlError::Shape)?;
    let mut report = Report::default();
    for document in yaml::documents(text)? {
        let text_at = |path: &str| document.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = text_at("/apiVersion").split_once('/').unwrap_or_default();
        if group != GROUP {
            continue;
        }
        let (kind, name) = (text_at("/kind"), text_at("/metadata/name"));
        let resource = format!("{kind} {name}");
        let faults = match crds.iter().find(|crd| crd.pointer("/spec/names/kind") == Some(&kind.into())) {
            Some(crd) if version == VERSION => faults(crd, kind, name, &document),
            _ => vec![Fault::new(
                "",
                format!("{GROUP}/{version} has no kind {kind} in this version of feedwater"),
            )],
        };
        report.faults.extend(faults.iter().map(|fault| format!("{resource}: {fault}")));
        report.checked.push(resource);
    }
    Ok(report)
}

fn faults(crd: &Value, kind: &str, name: &str, document: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    if name.is_empty() {
        faults.push(Fault::new("metadata.name", "is required"));
    }
    if let Some(schema) = crd.pointer("/spec/versions/0/schema/openAPIV3Schema") {
        faults.extend(structure::faults(schema, document));
    }
    // What the schema does not see the types do, for example a date that is none.
    if faults.is_empty()
        && let Err(error) = decode(kind, document)
    {
        faults.push(Fault::new("", error.to_string()));
    }
    faults
}

fn decode(kind: &str, document: &Value) -> Result<(), serde_json::Error> {
    fn parse<K: DeserializeOwned>(document: &Value) -> Result<(), serde_json::Error> {
        K::deserialize(document).map(drop)
    }
    match kind {
        "PrefectWorkspace" => parse::<PrefectWorkspace>(document),
        "TableauSite" => parse::<TableauSite>(document),
        "FlowDeployment" => parse::<FlowDeployment>(document),
        "ExtractRefresh" => parse::<ExtractRefresh>(document),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
apiVersion: feedwater.dev/v1alpha1
kind: FlowDeployment
metadata: {name: orders, namespace: finance}
spec:
  workspaceRef: {name: prod}
  flowName: orders
  entrypoint: flows/orders.py:orders
  workPool: {name: etl}
  pullSteps: [{prefect.deployments.steps.git_clone: {repository: git}}]
  schedules: [{slug: nightly, cron: {expression: '0 2 * * *'}}]
";

    fn faults(text: &str) -> Vec<String> {
        check(text).unwrap().faults
    }

    #[test]
    fn a_good_manifest_has_no_fault_and_others_are_passed_over() {
        let report = check(&format!("kind: Secret\napiVersion: v1\nwhatever: 1\n---{GOOD}")).unwrap();
        assert_eq!(report.checked, ["FlowDeployment orders"]);
        assert!(report.faults.is_empty(), "{:?}", report.faults);
    }

    #[test]
    fn each_fault_is_named_with_its_path() {
        for (from, to, fault) in [
            ("flowName: orders", "flowname: orders", "spec.flowname: is not a field"),
            ("flowName: orders", "flowName: 7", "spec.flowName: must be a string"),
            ("flowName: orders", "flowName: a/b", "spec.flowName: does not match ^[^/%&><]+$"),
            ("  entrypoint: flows/orders.py:orders\n", "", "spec.entrypoint: is required"),
            ("slug: nightly", "slugg: nightly", "spec.schedules[0].slugg: is not a field"),
            ("slug: nightly", "slug: ''", "spec.schedules[0].slug: is shorter than 1"),
            ("deletionPolicy: Keep", "", ""),
            ("v1alpha1", "v1", "feedwater.dev/v1 has no kind FlowDeployment"),
        ] {
            let found = faults(&GOOD.replace(from, to));
            assert!(found.iter().any(|f| f.contains(fault)) || fault.is_empty(), "{to}: {found:?}");
        }
        let found = faults(&format!("{GOOD}  deletionPolicy: Keep\n"));
        assert_eq!(found, ["FlowDeployment orders: spec.deletionPolicy: must be one of Delete, Orphan"]);
        let anchor = "interval: {every: 1h, anchor: yesterday}";
        let found = faults(&GOOD.replace("cron: {expression: '0 2 * * *'}", anchor));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
