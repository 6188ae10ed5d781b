//! The client of Prefect's REST API.

use super::wire::{self, DeploymentRow, FlowRow, IdRow, RunRow};
use super::{Deployment, NewDeployment, NewSchedule, Prefect, PrefectError, Run, RunEvent, RunQuery, events};
use crate::http::{Answer, Call, Failure, Http, Method};
use crate::model::ids::{DeploymentId, DeploymentName, FlowId, ScheduleId};
use crate::model::time::ClockReading;
use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::stream::BoxStream;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};

/// Rows a page: the server's own limit, unless an administrator lowered it.
const PAGE: u32 = 200;

/// How to sign in (reference 15).
#[derive(Clone, Debug)]
pub enum Auth {
    /// Not at all.
    None,
    /// The server's auth string.
    Basic {
        /// Before the colon.
        username: String,
        /// After it.
        password: SecretString,
    },
    /// An API key of Prefect Cloud.
    ApiKey(SecretString),
}

impl Auth {
    /// `Authorization`, marked sensitive; an error if the secret holds what no header can.
    fn header(&self) -> Result<Option<HeaderValue>, PrefectError> {
        let text = match self {
            Self::None => return Ok(None),
            Self::Basic { .. } => {
                let raw = self.token().unwrap_or_default();
                SecretString::from(format!("Basic {}", BASE64_STANDARD.encode(raw.expose_secret())))
            }
            Self::ApiKey(key) => SecretString::from(format!("Bearer {}", key.expose_secret())),
        };
        let mut value =
            HeaderValue::from_str(text.expose_secret()).map_err(|_| PrefectError::Unauthorized)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The token of the websocket's auth message: the raw auth string or the key.
    pub(super) fn token(&self) -> Option<SecretString> {
        match self {
            Self::None => None,
            Self::Basic { username, password } => {
                Some(format!("{username}:{}", password.expose_secret()).into())
            }
            Self::ApiKey(key) => Some(key.clone()),
        }
    }
}

/// One workspace under one credential. Repeats nothing.
#[derive(Debug)]
pub struct PrefectClient {
    http: Http,
    auth: Auth,
    authorization: Option<HeaderValue>,
    /// Rows a page as last told by the server.
    page: AtomicU32,
}

impl PrefectClient {
    /// A client of the API at `http`'s base, such as `https://prefect.example.com/api`.
    ///
    /// # Errors
    /// The credential holds characters no header can carry: `Unauthorized`.
    pub fn new(http: Http, auth: Auth) -> Result<Self, PrefectError> {
        let authorization = auth.header()?;
        Ok(Self { http, auth, authorization, page: AtomicU32::new(PAGE) })
    }

    async fn call(
        &self,
        operation: &'static str,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<Answer, PrefectError> {
        let url = self.http.url(path).ok_or_else(|| PrefectError::Invalid { fields: vec!["name".into()] })?;
        let mut call = Call::new(operation, method, url);
        if let Some(authorization) = &self.authorization {
            call = call.header(AUTHORIZATION, authorization.clone());
        }
        if let Some(body) = body {
            call = call.json(body);
        }
        Ok(self.http.send(call).await?)
    }

    /// A call whose answer holds nothing.
    async fn done(
        &self,
        operation: &'static str,
        method: Method,
        path: &[&str],
        body: Value,
    ) -> Result<(), PrefectError> {
        success(&self.call(operation, method, path, Some(body)).await?)
    }

    /// A DELETE; what is already gone is success.
    async fn delete(&self, operation: &'static str, path: &[&str]) -> Result<(), PrefectError> {
        match success(&self.call(operation, Method::DELETE, path, None).await?) {
            Err(PrefectError::NotFound) => Ok(()),
            other => other,
        }
    }

    /// One page; `body` is made for a number of rows, which shrinks when the server says that it allows fewer.
    async fn page<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &[&str],
        most: u32,
        body: impl Fn(u32) -> Value,
    ) -> Result<Page<T>, PrefectError> {
        let mut limit = self.page.load(Ordering::Relaxed).min(most);
        let mut answer = self.call(operation, Method::POST, path, Some(body(limit))).await?;
        if answer.status == 422
            && let Some(told) = wire::page_limit(&answer.body).filter(|told| (1..limit).contains(told))
        {
            self.page.store(told, Ordering::Relaxed);
            limit = told;
            answer = self.call(operation, Method::POST, path, Some(body(limit))).await?;
        }
        let rows: Vec<T> = decode(&answer)?;
        let last = rows.len() < limit as usize;
        Ok(Page { rows, last })
    }

    /// All pages by offset.
    async fn all<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &[&str],
        filter: &Value,
    ) -> Result<Vec<T>, PrefectError> {
        let mut rows = Vec::new();
        loop {
            let page = self
                .page(operation, path, PAGE, |limit| {
                    let mut body = filter.clone();
                    body["limit"] = limit.into();
                    body["offset"] = rows.len().into();
                    body["sort"] = "NAME_ASC".into();
                    body
                })
                .await?;
            rows.extend(page.rows);
            if page.last {
                return Ok(rows);
            }
        }
    }
}

struct Page<T> {
    rows: Vec<T>,
    last: bool,
}

#[async_trait]
impl Prefect for PrefectClient {
    async fn version(&self) -> Result<String, PrefectError> {
        let answer = self.call("version", Method::GET, &["admin", "version"], None).await?;
        match success(&answer) {
            Ok(()) => wire::version(&answer.body).ok_or(PrefectError::WrongServer),
            Err(PrefectError::NotFound) => Err(PrefectError::WrongServer),
            Err(error) => Err(error),
        }
    }

    fn clock(&self) -> Option<ClockReading> {
        self.http.reading()
    }

    async fn deployments(&self, flows: &[String]) -> Result<Vec<Deployment>, PrefectError> {
        let mut found = HashMap::new();
        for names in flows.chunks(PAGE as usize) {
            let filter = json!({"flows": {"name": {"any_": names}}});
            let flows: HashMap<_, _> = self
                .all::<FlowRow>("list_flows", &["flows", "filter"], &filter)
                .await?
                .into_iter()
                .map(|flow| (flow.id, flow.name))
                .collect();
            if flows.is_empty() {
                continue;
            }
            let rows: Vec<DeploymentRow> =
                self.all("list_deployments", &["deployments", "filter"], &filter).await?;
            found.extend(rows.into_iter().filter_map(|row| {
                let flow = flows.get(&row.flow_id)?;
                let deployment = row.into_model(flow);
                Some((deployment.id.clone(), deployment))
            }));
        }
        Ok(found.into_values().collect())
    }

    async fn deployment(&self, name: &DeploymentName) -> Result<Option<Deployment>, PrefectError> {
        let path = ["deployments", "name", &name.flow, &name.deployment];
        let answer = self.call("get_deployment", Method::GET, &path, None).await?;
        match decode::<DeploymentRow>(&answer) {
            Ok(row) => Ok(Some(row.into_model(&name.flow))),
            Err(PrefectError::NotFound) if is_json(&answer) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn work_pool_exists(&self, name: &str) -> Result<bool, PrefectError> {
        let answer = self.call("get_work_pool", Method::GET, &["work_pools", name], None).await?;
        match success(&answer) {
            Ok(()) => Ok(true),
            Err(PrefectError::NotFound) if is_json(&answer) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<Run>, PrefectError> {
        let most = query.limit.min(PAGE) as usize;
        let (mut known, mut rows): (HashSet<_>, Vec<Run>) = Default::default();
        let mut next = query.clone();
        let mut read = 0u32;
        // Once, unless the server's page is smaller than what was asked for.
        while rows.len() < most {
            let left = u32::try_from(most - rows.len()).unwrap_or(PAGE);
            let page: Page<RunRow> = self
                .page("list_runs", &["flow_runs", "filter"], left, |limit| wire::run_filter(&next, limit))
                .await?;
            read += u32::try_from(page.rows.len()).unwrap_or_default();
            let end = page.rows.last().and_then(|row| row.end_time);
            let fresh = page.rows.into_iter().filter_map(RunRow::into_model);
            rows.extend(fresh.filter(|run| known.insert(run.id.clone())));
            if page.last {
                break;
            }
            // Go on from the last row's `end_time`; by offset only among those that share it.
            (next.ended_before, next.offset) = match end {
                Some(end) => {
                    let same = rows.iter().filter(|run| run.ended_at == Some(end)).count();
                    let before = if query.ended_before == Some(end) { query.offset } else { 0 };
                    (Some(end), before + u32::try_from(same).unwrap_or_default())
                }
                None => (query.ended_before, query.offset + read),
            };
        }
        Ok(rows)
    }

    async fn ensure_flow(&self, name: &str) -> Result<FlowId, PrefectError> {
        let answer =
            self.call("ensure_flow", Method::POST, &["flows", ""], Some(json!({"name": name}))).await?;
        created(&answer).map(Into::into)
    }

    async fn create_deployment(
        &self,
        flow: &FlowId,
        new: &NewDeployment,
    ) -> Result<DeploymentId, PrefectError> {
        let mut body = new.fields.clone();
        body.remove("schedules");
        body.insert("name".into(), json!(new.name));
        body.insert("flow_id".into(), json!(flow.as_str()));
        let answer =
            self.call("create_deployment", Method::POST, &["deployments", ""], Some(body.into())).await?;
        created(&answer).map(Into::into)
    }

    async fn patch_deployment(
        &self,
        id: &DeploymentId,
        fields: &Map<String, Value>,
    ) -> Result<(), PrefectError> {
        let path = ["deployments", id.as_str()];
        self.done("patch_deployment", Method::PATCH, &path, fields.clone().into()).await
    }

    async fn delete_deployment(&self, id: &DeploymentId) -> Result<(), PrefectError> {
        self.delete("delete_deployment", &["deployments", id.as_str()]).await
    }

    async fn add_schedule(&self, id: &DeploymentId, schedule: &NewSchedule) -> Result<(), PrefectError> {
        let path = ["deployments", id.as_str(), "schedules"];
        self.done("add_schedule", Method::POST, &path, json!([wire::schedule(schedule)])).await
    }

    async fn put_schedule(
        &self,
        id: &DeploymentId,
        schedule: &ScheduleId,
        new: &NewSchedule,
    ) -> Result<(), PrefectError> {
        let path = ["deployments", id.as_str(), "schedules", schedule.as_str()];
        self.done("put_schedule", Method::PATCH, &path, wire::schedule(new)).await
    }

    async fn delete_schedule(&self, id: &DeploymentId, schedule: &ScheduleId) -> Result<(), PrefectError> {
        let path = ["deployments", id.as_str(), "schedules", schedule.as_str()];
        self.delete("delete_schedule", &path).await
    }

    async fn schedule_runs(&self, id: &DeploymentId, since: Timestamp) -> Result<(), PrefectError> {
        let path = ["deployments", id.as_str(), "schedule"];
        self.done("schedule_runs", Method::POST, &path, json!({"start_time": since})).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RunEvent, PrefectError>>, PrefectError> {
        events::open(&self.http, &self.auth).await
    }
}

/// 2xx, or what the status means (reference 2.1).
fn success(answer: &Answer) -> Result<(), PrefectError> {
    Err(match answer.status.as_u16() {
        200..=299 => return Ok(()),
        401 => PrefectError::Unauthorized,
        403 => PrefectError::Forbidden,
        404 => PrefectError::NotFound,
        409 => PrefectError::Conflict,
        422 => PrefectError::Invalid { fields: wire::invalid_fields(&answer.body) },
        429 => PrefectError::Throttled { retry_after: answer.retry_after },
        503 => PrefectError::Unavailable,
        // A gateway's: the server behind it may have done the work.
        502 | 504 => PrefectError::Ambiguous,
        other => PrefectError::Rejected(other),
    })
}

/// What was read.
fn decode<T: DeserializeOwned>(answer: &Answer) -> Result<T, PrefectError> {
    success(answer)?;
    serde_json::from_slice(&answer.body).map_err(|_| PrefectError::WrongServer)
}

/// The id of what was made. An answer without one leaves open what was done.
fn created(answer: &Answer) -> Result<String, PrefectError> {
    success(answer)?;
    serde_json::from_slice::<IdRow>(&answer.body).map(|row| row.id).map_err(|_| PrefectError::Ambiguous)
}

/// Prefect's own 404 is JSON; a proxy's is not, and says nothing about what exists.
fn is_json(answer: &Answer) -> bool {
    serde_json::from_slice::<Map<String, Value>>(&answer.body).is_ok()
}

impl From<Failure> for PrefectError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(why) => Self::Unreachable(why),
            Failure::Unanswered => Self::Ambiguous,
        }
    }
}
