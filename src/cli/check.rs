//! `feedwater check`: what can be said about a manifest without a cluster.

use super::schedules;
use super::structure::{self, Fault};
use crate::api::{ClusterPrefectWorkspace, ClusterTableauSite, GROUP, VERSION, schema};
use crate::model::connection::{DesiredSite, DesiredWorkspace};
use crate::model::{extract, flow, tenancy};
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

/// Checks every document of ours in a YAML text. The rest of the rules (CEL) is the API server's.
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
    // What the schema does not see the operator does, for example a union with no member, or a date that is none.
    if faults.is_empty()
        && let Err(error) = decode(kind, document)
    {
        faults.push(Fault::new("", error));
    }
    faults
}

/// As the operator reads it.
fn decode(kind: &str, document: &Value) -> Result<(), String> {
    match kind {
        "PrefectWorkspace" => {
            DesiredWorkspace::parse(&parse(document)?).map(drop).map_err(|error| error.to_string())
        }
        "TableauSite" => DesiredSite::parse(&parse(document)?).map(drop).map_err(|error| error.to_string()),
        "ClusterPrefectWorkspace" => {
            let object: ClusterPrefectWorkspace = parse(document)?;
            tenancy::check_prefect(object.spec.allow.as_deref())?;
            DesiredWorkspace::parse(&object.connection()).map(drop).map_err(|error| error.to_string())
        }
        "ClusterTableauSite" => {
            let object: ClusterTableauSite = parse(document)?;
            tenancy::check_tableau(object.spec.allow.as_deref())?;
            DesiredSite::parse(&object.connection()).map(drop).map_err(|error| error.to_string())
        }
        "FlowDeployment" => {
            flow::Desired::parse(&parse(document)?, "").map(drop).map_err(|error| error.to_string())?;
            schedules::faults(document)
        }
        "ExtractRefresh" => {
            extract::Desired::parse(&parse(document)?, None).map(drop).map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

fn parse<K: DeserializeOwned>(document: &Value) -> Result<K, String> {
    K::deserialize(document).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_is_none_is_a_fault() {
        let faults = |zone: &str| {
            let text = GOOD.replace("'0 2 * * *'}", &format!("'0 2 * * *'}}, timeZone: {zone}"));
            check(&text).unwrap().faults
        };
        assert_eq!(faults("Europe/Berlin"), [""; 0]);
        let wrong = faults("Europe/Berln");
        assert!(
            wrong.len() == 1 && wrong[0].contains("schedule `nightly`: timeZone `Europe/Berln`"),
            "{wrong:?}"
        );
    }

    #[test]
    fn a_schedule_that_prefect_certainly_refuses_is_a_fault() {
        let found = check(&GOOD.replace("'0 2 * * *'", "'0 24 * * *'")).unwrap().faults;
        let fault = "FlowDeployment orders: schedule `nightly`: cron `0 24 * * *`: `24` is no hour: those are 0 to 23";
        assert_eq!(found, [fault]);
        let rule = "rrule: {rule: 'FREQ=NIGHTLY'}";
        let found = check(&GOOD.replace("cron: {expression: '0 2 * * *'}", rule)).unwrap().faults;
        assert!(found.len() == 1 && found[0].contains("FREQ `NIGHTLY` is none of"), "{found:?}");
    }

    #[test]
    fn a_pattern_of_a_rule_that_is_none_is_a_fault() {
        let faults = |kind: &str, spec: &str, rule: &str| {
            let allow = format!("allow: [{{name: a, namespaces: {{names: [finance]}}, {rule}}}]");
            let text = format!(
                "apiVersion: feedwater.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{{spec}, {allow}}}"
            );
            check(&text).unwrap().faults
        };
        let prefect =
            |rule: &str| faults("ClusterPrefectWorkspace", "apiUrl: 'https://p.example.com/api'", rule);
        assert_eq!(prefect("flows: ['a*'], workPools: ['*'], upstreams: ['a*/*', '**']"), [""; 0]);
        assert!(prefect("upstreams: ['a/**b']")[0].contains("spec.allow `a`: upstreams `a/**b`"));
        assert!(prefect("projects: ['**']")[0].contains("spec.allow[0].projects: is not a field"));
        let auth =
            "serverUrl: 'https://t.example.com', auth: {personalAccessToken: {secretRef: {name: pat}}}";
        assert_eq!(faults("ClusterTableauSite", auth, "projects: ['Finance/**']"), [""; 0]);
        assert!(
            faults("ClusterTableauSite", auth, "projects: ['/Finance']")[0]
                .contains("`/Finance` has an empty part")
        );
    }

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
            ("v1alpha1", "v1", "feedwater.dev/v1 has no kind FlowDeployment"),
        ] {
            let found = faults(&GOOD.replace(from, to));
            assert!(found.iter().any(|f| f.contains(fault)), "{to}: {found:?}");
        }
        let found = faults(&format!("{GOOD}  deletionPolicy: Keep\n"));
        assert_eq!(found, ["FlowDeployment orders: spec.deletionPolicy: must be one of Delete, Orphan"]);
        let anchor = "interval: {every: 1h, anchor: yesterday}";
        let found = faults(&GOOD.replace("cron: {expression: '0 2 * * *'}", anchor));
        assert_eq!(found.len(), 1, "{found:?}");
        let found = faults(&GOOD.replace(", cron: {expression: '0 2 * * *'}", ""));
        assert_eq!(found.len(), 1, "a schedule of no kind: {found:?}");
    }
}
