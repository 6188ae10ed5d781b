//! A server to be asked plainly: paths and JSON, so that nothing of a client's own mends an answer.

use futures::{AsyncBufRead, AsyncBufReadExt};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use std::pin::Pin;
use std::time::Duration;
use world::apiserver::{ApiServer, Kind};
use world::{Info, resources};

/// One of the two, with a namespace of its own.
pub struct Server {
    client: Client,
    pub namespace: String,
    in_memory: Option<ApiServer>,
}

/// What was answered: the object, or the code and reason of a refusal.
pub type Answer = Result<Value, (u16, String)>;

impl Server {
    pub fn in_memory() -> Self {
        let crds = feedwater::api::schema::crds().unwrap();
        let clock = feedwater::clock::Clock::system();
        let kinds = crds.iter().map(|crd| Kind::of_crd(crd).unwrap());
        let server = ApiServer::new(kinds, move || clock.now());
        let client = Client::new(server.door("conformance"), "default");
        let namespace = "conformance".to_owned();
        server.put("namespaces", resources::namespace(&namespace)).unwrap();
        Self { client, namespace, in_memory: Some(server) }
    }

    pub async fn real(check: &str) -> Self {
        world::install_tls_provider();
        let info = Info::shared().unwrap();
        let kubeconfig = Kubeconfig::read_from(&info.kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let client =
            Client::try_from(kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap())
                .unwrap();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let namespace = format!("{}-{}", &check.replace('_', "-")[..check.len().min(40)], &id[..6]);
        let server = Self { client, namespace, in_memory: None };
        server.post("/api/v1/namespaces", &resources::namespace(&server.namespace)).await.unwrap();
        server
    }

    /// Path of the `ExtractRefresh`es of the namespace.
    pub fn all(&self) -> String {
        format!("/apis/feedwater.dev/v1alpha1/namespaces/{}/extractrefreshes", self.namespace)
    }

    pub fn one(&self, name: &str) -> String {
        format!("{}/{name}", self.all())
    }

    pub fn status(&self, name: &str) -> String {
        format!("{}/{name}/status", self.all())
    }

    pub fn in_namespace(&self, api: &str, plural: &str) -> String {
        format!("/{api}/namespaces/{}/{plural}", self.namespace)
    }

    /// An `ExtractRefresh` as a person writes it.
    pub fn refresh(&self, name: &str) -> Value {
        resources::extract_refresh(&self.namespace, name, "acme", ("Finance", "Orders"), &["orders"])
    }

    /// That, created.
    pub async fn created(&self, name: &str) -> Value {
        self.post(&self.all(), &self.refresh(name)).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "application/json", None).await
    }
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, "application/json", Some(body)).await
    }
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, "application/json", Some(body)).await
    }
    pub async fn merge(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, "application/merge-patch+json", Some(body)).await
    }
    pub async fn delete(&self, path: &str, body: Option<&Value>) -> Answer {
        self.send(Method::DELETE, path, "application/json", body).await
    }
    pub async fn apply(&self, path: &str, manager: &str, force: bool, body: &Value) -> Answer {
        let path = format!("{path}?fieldManager={manager}&force={force}");
        self.send(Method::PATCH, &path, "application/apply-patch+yaml", Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, format: &str, body: Option<&Value>) -> Answer {
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("content-type", format);
        let answer = self.client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        if code < 300 { Ok(value) } else { Err((code, word(&value["reason"]))) }
    }

    /// Begins to watch.
    pub async fn watch(&self, path: &str, query: &str) -> Watch {
        let request = Request::get(format!("{path}?watch=true&{query}")).body(Vec::new()).unwrap();
        Watch(Box::pin(self.client.request_stream(request).await.unwrap()))
    }

    /// Makes the server forget what happened so far. The real one needs not be asked: version 1 is from before it kept anything of the kind.
    pub fn forget(&self) {
        if let Some(server) = &self.in_memory {
            server.compact();
        }
    }
}

/// An open watch.
pub struct Watch(Pin<Box<dyn AsyncBufRead + Send>>);

impl Watch {
    /// The next event; `None`: the watch has ended.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(30), self.0.read_line(&mut line));
        if read.await.expect("an event within 30 seconds").unwrap() == 0 {
            return None;
        }
        let event: Value = serde_json::from_str(&line).unwrap();
        Some((word(&event["type"]), event["object"].clone()))
    }

    /// What is told next, and about whom.
    pub async fn told(&mut self) -> (String, String) {
        let (what, object) = self.next().await.expect("the watch goes on");
        (what, word(&object["metadata"]["name"]))
    }
}

pub fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn version(object: &Value) -> u64 {
    word(&object["metadata"]["resourceVersion"]).parse().unwrap()
}

pub fn refused(code: u16, reason: &str) -> Answer {
    Err((code, reason.to_owned()))
}

/// What an operator applies as status.
pub fn applied_status(status: &Value, version: Option<&Value>) -> Value {
    let mut body =
        json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh", "status": status});
    if let Some(version) = version {
        body["metadata"] = json!({"resourceVersion": version});
    }
    body
}
