//! The CRDs as they are applied: what kube generates, with `nullable` taken out under `spec` and one default put under `status`.

use super::{
    ClusterPrefectWorkspace, ClusterTableauSite, ExtractRefresh, FlowDeployment, PrefectWorkspace,
    TableauSite,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

/// Every CRD, as JSON, in the order they are printed.
///
/// # Errors
/// Only if a CRD cannot be represented as JSON, which the tests rule out.
pub fn crds() -> Result<Vec<Value>, serde_json::Error> {
    let namespaced =
        [PrefectWorkspace::crd(), TableauSite::crd(), FlowDeployment::crd(), ExtractRefresh::crd()];
    let cluster = [ClusterPrefectWorkspace::crd(), ClusterTableauSite::crd()];
    let cluster = cluster.into_iter().map(|crd| {
        let mut crd = finish(crd)?;
        at_home(&mut crd);
        Ok(crd)
    });
    namespaced.into_iter().map(finish).chain(cluster).collect()
}

/// What a connection of a namespace has beside it, one of the cluster has in the namespace of the operator.
fn at_home(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text
                    .replace("the namespace of this resource", "the operator's namespace")
                    .replace("in the same namespace", "in the operator's namespace")
                    .replace("and this namespace", "and the operator's namespace");
            }
            map.values_mut().for_each(at_home);
        }
        Value::Array(list) => list.iter_mut().for_each(at_home),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn finish(crd: CustomResourceDefinition) -> Result<Value, serde_json::Error> {
    let mut crd = serde_json::to_value(crd)?;
    if let Some(metadata) = crd.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("labels".into(), json!({ "app.kubernetes.io/name": "feedwater" }));
    }
    if let Some(versions) = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            if let Some(schema) = version.get_mut("schema") {
                // A null that GitOps renders is then pruned to "unset" instead of being stored or refused.
                strip_null(schema);
            }
            if let Some(fields) = version.pointer_mut(
                "/schema/openAPIV3Schema/properties/status/properties/conditions/items/properties",
            ) {
                bound_condition(fields);
            }
            // kstatus must not call an object current that nobody has looked at.
            if let Some(status) = version
                .pointer_mut("/schema/openAPIV3Schema/properties/status")
                .and_then(Value::as_object_mut)
            {
                status.insert("default".into(), json!({ "observedGeneration": -1 }));
                // Without it a server-side apply of an empty status is refused [measured on 1.36.3].
                status.insert("nullable".into(), json!(true));
                if let Some(generation) =
                    status.get_mut("properties").and_then(|p| p.get_mut("observedGeneration"))
                    && let Some(generation) = generation.as_object_mut()
                {
                    generation.remove("default");
                }
            }
        }
    }
    Ok(crd)
}

/// The bounds of Kubernetes' own `Condition`, which k8s-openapi leaves out.
fn bound_condition(fields: &mut Value) {
    for (field, bounds) in [
        ("type", json!({ "maxLength": 316 })),
        ("status", json!({ "enum": ["True", "False", "Unknown"] })),
        ("reason", json!({ "minLength": 1, "maxLength": 1024 })),
        ("message", json!({ "maxLength": 32768 })),
    ] {
        if let (Some(Value::Object(field)), Value::Object(bounds)) = (fields.get_mut(field), bounds) {
            field.extend(bounds);
        }
    }
}

fn strip_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("nullable").is_some_and(Value::is_boolean) {
                map.remove("nullable");
            }
            if let Some(Value::Array(members)) = map.get_mut("enum") {
                members.retain(|m| !m.is_null());
            }
            // serde's defaults are for reading; the API server must not fill anything in.
            if map.get("type").is_some_and(Value::is_string) {
                map.remove("default");
            }
            map.values_mut().for_each(strip_null);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
