//! Kubernetes objects as tests and benchmarks write them: plain JSON by the published API, to be changed by index where a test
//! needs something else (`object["spec"]["pollInterval"] = "2s".into()`).

use serde_json::{Value, json};

use crate::operator::SERVICE_ACCOUNT;

const API_VERSION: &str = "feedwater.dev/v1alpha1";

/// A Namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A Secret with text values.
pub fn secret(namespace: &str, name: &str, values: &[(&str, &str)]) -> Value {
    let values: Value = values.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(namespace, name), "stringData": values})
}

/// A Secret with a personal access token, as a `TableauSite` wants it.
pub fn personal_access_token(namespace: &str, name: &str, token: &str, secret_value: &str) -> Value {
    secret(namespace, name, &[("name", token), ("secret", secret_value)])
}

/// The right to read these Secrets by name, for the operator whose `ServiceAccount` lives in `operator_namespace`.
pub fn secret_reader(namespace: &str, secrets: &[&str], operator_namespace: &str) -> Value {
    let rule = json!({
        "apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get", "list", "watch"],
    });
    let group = "rbac.authorization.k8s.io";
    let name = "feedwater-secrets";
    list(&[
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata(namespace, name),
            "rules": [rule],
        }),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata(namespace, name),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": operator_namespace}],
        }),
    ])
}

/// A `PrefectWorkspace` without authentication.
pub fn prefect_workspace(namespace: &str, name: &str, api_url: &str) -> Value {
    object("PrefectWorkspace", namespace, name, &json!({"apiUrl": api_url}))
}

/// A `TableauSite` that signs in with a personal access token.
pub fn tableau_site(namespace: &str, name: &str, url: &str, content_url: &str, secret: &str) -> Value {
    let auth = json!({"personalAccessToken": {"secretRef": {"name": secret}}});
    let spec = json!({"serverUrl": url, "siteContentUrl": content_url, "auth": auth});
    object("TableauSite", namespace, name, &spec)
}

/// A `FlowDeployment` of one of the flows in `tests/world/flows` on the world's work pool.
pub fn flow_deployment(namespace: &str, name: &str, workspace: &str, flow: &str) -> Value {
    let spec = json!({
        "workspaceRef": {"name": workspace}, "flowName": flow,
        "entrypoint": format!("flows/{flow}.py:{flow}"), "workPool": {"name": crate::prefect::WORK_POOL},
    });
    object("FlowDeployment", namespace, name, &spec)
}

/// An `ExtractRefresh` of a data source in a project, after flows declared by `FlowDeployment`s.
pub fn extract_refresh(
    namespace: &str,
    name: &str,
    site: &str,
    (project_path, data_source): (&str, &str),
    flow_deployments: &[&str],
) -> Value {
    let upstreams: Vec<_> = flow_deployments
        .iter()
        .map(|name| json!({"name": name, "flowDeploymentRef": {"name": name}}))
        .collect();
    let target = json!({"kind": "Datasource", "projectPath": project_path, "name": data_source});
    let spec = json!({"siteRef": {"name": site}, "target": target, "upstreams": upstreams});
    object("ExtractRefresh", namespace, name, &spec)
}

/// Several objects in one, as `kubectl apply` takes them. Lists among them are laid flat: a list within a list is refused.
pub fn list(items: &[Value]) -> Value {
    let flat: Vec<&Value> = items
        .iter()
        .flat_map(|item| match item["items"].as_array() {
            Some(inner) if item["kind"] == "List" => inner.iter().collect(),
            _ => vec![item],
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "items": flat})
}

/// The status (`True`, `False`, `Unknown`) and the reason of a condition; `None` when it is absent.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some((found["status"].as_str()?, found["reason"].as_str()?))
}

/// Whether a condition is `True`.
pub fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|(status, _)| status == "True")
}

fn object(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata(namespace, name), "spec": spec})
}

fn metadata(namespace: &str, name: &str) -> Value {
    json!({"name": name, "namespace": namespace})
}
