//! The few calls of Prefect's REST API that tests and the demo make themselves.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Prefect did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No answer.
    #[error("Prefect: {0}")]
    Http(#[from] reqwest::Error),
    /// An answer that was not expected. The world holds no secret, so the body is shown.
    #[error("Prefect answered {status} to {method} {path}: {body}")]
    Refused {
        /// The request's method.
        method: Method,
        /// Its path below the base URL.
        path: String,
        /// The status of the answer.
        status: StatusCode,
        /// The body of the answer.
        body: String,
    },
    /// What was waited for did not come.
    #[error("flow run {run} is {state}, not {wanted}, after {} s", limit.as_secs())]
    Timeout {
        /// The run's id.
        run: String,
        /// The type of its state.
        state: String,
        /// The type that was wanted.
        wanted: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// A client of one Prefect server.
#[derive(Debug, Clone)]
pub struct Rest {
    client: reqwest::Client,
    base: String,
}

impl Rest {
    /// A client of the API at `base`, which ends with `/api`.
    pub fn new(base: &str) -> Result<Self, RestError> {
        crate::install_tls_provider();
        let client = builder().build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned() })
    }

    /// A client of a server that asks for `user:password` and for CSRF tokens; it is good for an hour.
    pub async fn protected(base: &str, auth: &str) -> Result<Self, RestError> {
        const CLIENT: &str = "feedwater-world";
        let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(auth));
        let with = |headers: &[(&'static str, &str)]| {
            let headers = headers
                .iter()
                .filter_map(|(name, value)| {
                    Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
                })
                .collect();
            builder().default_headers(headers).build()
        };
        let mut rest = Self::new(base)?;
        rest.client = with(&[("authorization", &basic)])?;
        let token = rest.call(Method::GET, &format!("/csrf-token?client={CLIENT}"), None).await?;
        let token = text(&token["token"]);
        rest.client = with(&[
            ("authorization", &basic),
            ("prefect-csrf-token", &token),
            ("prefect-csrf-client", CLIENT),
        ])?;
        Ok(rest)
    }

    /// Whether the server answers and has its database.
    pub async fn ready(&self) -> bool {
        self.call(Method::GET, "/ready", None).await.is_ok()
    }

    /// Whether a worker has said that it is there.
    pub async fn worker_online(&self, pool: &str, worker: &str) -> bool {
        let path = format!("/work_pools/{pool}/workers/filter");
        let Ok(workers) = self.call(Method::POST, &path, Some(json!({}))).await else { return false };
        workers.as_array().into_iter().flatten().any(|w| w["name"] == worker && w["status"] == "ONLINE")
    }

    /// Makes a process work pool if it is not there. Its runs start in `folder`, so that `flows/orders.py:orders` is an
    /// entrypoint there, as in an image that holds the flows.
    pub async fn ensure_work_pool(&self, name: &str, folder: &Path) -> Result<(), RestError> {
        let body = json!({"name": name, "type": "process", "base_job_template": process_template(folder)});
        match self.call(Method::POST, "/work_pools/", Some(body)).await {
            Err(RestError::Refused { status: StatusCode::CONFLICT, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes a flow if it is not there, and returns its id.
    pub async fn ensure_flow(&self, name: &str) -> Result<String, RestError> {
        let flow = self.call(Method::POST, "/flows/", Some(json!({"name": name}))).await?;
        Ok(text(&flow["id"]))
    }

    /// Makes (or changes) a deployment by the fields given, and returns it.
    pub async fn create_deployment(&self, fields: Value) -> Result<Value, RestError> {
        self.call(Method::POST, "/deployments/", Some(fields)).await
    }

    /// The deployment `flow/name`; `None` when there is none.
    pub async fn deployment(&self, flow: &str, name: &str) -> Result<Option<Value>, RestError> {
        match self.call(Method::GET, &format!("/deployments/name/{flow}/{name}"), None).await {
            Err(RestError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Makes a run of a deployment for a worker to pick up now, and returns its id.
    pub async fn run(&self, deployment: &str) -> Result<String, RestError> {
        self.run_in_state(deployment, "SCHEDULED").await
    }

    /// Makes a run of a deployment directly in a state, such as `PENDING`, which no worker touches, and returns its id.
    pub async fn run_in_state(&self, deployment: &str, state: &str) -> Result<String, RestError> {
        let path = format!("/deployments/{deployment}/create_flow_run");
        let run = self.call(Method::POST, &path, Some(json!({"state": {"type": state}}))).await?;
        Ok(text(&run["id"]))
    }

    /// Sets a run's state by hand, whatever it was.
    pub async fn set_state(&self, run: &str, state: &str) -> Result<(), RestError> {
        let body = json!({"state": {"type": state}, "force": true});
        self.call(Method::POST, &format!("/flow_runs/{run}/set_state"), Some(body)).await.map(drop)
    }

    /// A run that goes to `RUNNING` and then to `COMPLETED` at once, without a worker; returns its id.
    pub async fn complete(&self, deployment: &str) -> Result<String, RestError> {
        let run = self.run_in_state(deployment, "PENDING").await?;
        self.set_state(&run, "RUNNING").await?;
        self.set_state(&run, "COMPLETED").await?;
        Ok(run)
    }

    /// Waits until a run is in a state of type `wanted`, such as `COMPLETED`.
    pub async fn until(&self, run: &str, wanted: &str, limit: Duration) -> Result<Value, RestError> {
        let started = tokio::time::Instant::now();
        loop {
            let seen = self.call(Method::GET, &format!("/flow_runs/{run}"), None).await?;
            let state = text(&seen["state"]["type"]);
            if state == wanted {
                return Ok(seen);
            }
            if started.elapsed() > limit {
                let (run, wanted) = (run.to_owned(), wanted.to_owned());
                return Err(RestError::Timeout { run, state, wanted, limit });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// One call, and its JSON answer (`null` where the body is empty). A server on SQLite answers 503 when two writes
    /// meet, so a 503 is asked again for some seconds.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, RestError> {
        let mut tries = 0;
        loop {
            let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await?;
            let status = answer.status();
            let body = answer.text().await?;
            if status.is_success() {
                return Ok(serde_json::from_str(&body).unwrap_or_default());
            }
            tries += 1;
            if status != StatusCode::SERVICE_UNAVAILABLE || tries > 100 {
                return Err(RestError::Refused { method, path: path.to_owned(), status, body });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What a process worker brings itself, except that the working directory has a default.
fn process_template(folder: &Path) -> Value {
    let names = ["command", "env", "labels", "name", "stream_output", "working_dir"];
    let configuration: Value =
        names.iter().map(|name| ((*name).to_owned(), json!(format!("{{{{ {name} }}}}")))).collect();
    json!({
        "job_configuration": configuration,
        "variables": {"type": "object", "properties": {
            "command": {"type": "string"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "name": {"type": "string"},
            "stream_output": {"type": "boolean", "default": true},
            "working_dir": {"type": "string", "default": folder},
        }},
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Each call has a connection of its own: Prefect's server ends one that was idle for five seconds, also in the moment in which it is used again.
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).pool_max_idle_per_host(0)
}
