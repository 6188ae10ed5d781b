//! The cluster's administrator over REST: a run makes dozens of calls, and a kubectl for each costs more than the operator itself.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::FaultsError;
use crate::cluster::Kubectl;
use crate::{layout, operator};

/// A client with the rights of the administrator's kubeconfig.
pub struct Admin {
    client: reqwest::Client,
    base: String,
    authority: String,
    /// What `manifests/namespaced` gives an operator, without the Deployment, which never runs here.
    rights: Vec<Value>,
}

impl Admin {
    /// The administrator of the cluster of this kubectl.
    pub async fn of(kubectl: &Kubectl) -> Result<Self, FaultsError> {
        crate::install_tls_provider();
        let config: Value = read_json(kubectl.kubeconfig())?;
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let pem = |value: &Value| {
            STANDARD.decode(value.as_str().unwrap_or_default()).map_err(|_| FaultsError::Kubeconfig)
        };
        let identity = [pem(&user["client-certificate-data"])?, pem(&user["client-key-data"])?].concat();
        let authority = pem(&cluster["certificate-authority-data"])?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(&authority)?])
            .identity(reqwest::Identity::from_pem(&identity)?)
            .build()?;
        let manifests = layout::manifests().join("namespaced");
        // `create --dry-run` turns YAML documents into JSON.
        let rendered = kubectl.run(&["kustomize", &manifests.to_string_lossy()]).await?;
        let arguments = ["create", "--dry-run=client", "--output", "json", "--validate=false", "-f", "-"];
        let text = kubectl.run_with_input(&arguments, &rendered).await?;
        let rights = serde_json::Deserializer::from_str(&text)
            .into_iter::<Value>()
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| FaultsError::Kubeconfig)?;
        Ok(Self {
            client,
            base: cluster["server"].as_str().unwrap_or_default().to_owned(),
            authority: String::from_utf8_lossy(&authority).into_owned(),
            rights: flat(rights).into_iter().filter(|object| object["kind"] != "Deployment").collect(),
        })
    }

    /// Makes a namespace with an operator's `ServiceAccount` and rights in it, as the shipped manifests give them, and writes a kubeconfig
    /// of it for the kube-apiserver at `url`.
    pub async fn install(&self, namespace: &str, url: &str, kubeconfig: &Path) -> Result<(), FaultsError> {
        self.apply(&crate::resources::namespace(namespace)).await?;
        for object in &self.rights {
            let mut object = object.clone();
            object["metadata"]["namespace"] = namespace.into();
            if let Some(subject) = object.pointer_mut("/subjects/0/namespace") {
                *subject = namespace.into();
            }
            self.apply(&object).await?;
        }
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{}", operator::SERVICE_ACCOUNT);
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let made = self.call(Method::POST, &format!("{account}/token"), Some(("json", request))).await?;
        let token = made.map(|made| made["status"]["token"].clone()).unwrap_or_default();
        crate::cluster::write_kubeconfig(kubeconfig, url, &self.authority, &json!({"token": token}))
            .map_err(|source| FaultsError::File { path: kubeconfig.to_owned(), source })
    }

    /// Makes an object as it is written, or changes it to be so (server-side apply).
    pub async fn apply(&self, object: &Value) -> Result<(), FaultsError> {
        for object in flat(vec![object.clone()]) {
            let path = format!("{}?fieldManager=world&force=true", path_of(&object));
            self.call(Method::PATCH, &path, Some(("apply-patch+yaml", object))).await?;
        }
        Ok(())
    }

    /// Changes an object by a merge patch; nothing when it is not there.
    pub async fn merge(&self, path: &str, change: Value) -> Result<(), FaultsError> {
        self.call(Method::PATCH, path, Some(("merge-patch+json", change))).await.map(drop)
    }

    /// Asks for an object's deletion; nothing when it is not there.
    pub async fn delete(&self, path: &str) -> Result<(), FaultsError> {
        self.call(Method::DELETE, path, None).await.map(drop)
    }

    /// An object or a list; `None` when it is not there.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, FaultsError> {
        self.call(Method::GET, path, None).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Value)>,
    ) -> Result<Option<Value>, FaultsError> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        if let Some((kind, body)) = body {
            request = request.header("Content-Type", format!("application/{kind}")).body(body.to_string());
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(serde_json::from_str(&text).unwrap_or_default())),
            status => {
                let what = format!("{method} {path}");
                Err(FaultsError::Kubernetes { what, status: status.as_u16(), said: text })
            }
        }
    }
}

/// Path of a kind of the operator's in a namespace, such as `extractrefreshes`.
pub fn crs(namespace: &str, plural: &str) -> String {
    format!("/apis/feedwater.dev/v1alpha1/namespaces/{namespace}/{plural}")
}

/// Path of an object, by its kind.
fn path_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    let group = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = match kind.to_lowercase() {
        kind if kind.ends_with("refresh") => format!("{kind}es"),
        kind => format!("{kind}s"),
    };
    if namespace.is_empty() {
        format!("{group}/{plural}/{name}")
    } else {
        format!("{group}/namespaces/{namespace}/{plural}/{name}")
    }
}

/// Objects, those of lists one by one.
fn flat(objects: Vec<Value>) -> Vec<Value> {
    let items = |object: Value| match object["items"].as_array() {
        Some(items) if object["kind"] == "List" => items.clone(),
        _ => vec![object],
    };
    objects.into_iter().flat_map(items).collect()
}

fn read_json(path: &Path) -> Result<Value, FaultsError> {
    let text = std::fs::read(path).map_err(|source| FaultsError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|_| FaultsError::Kubeconfig)
}
