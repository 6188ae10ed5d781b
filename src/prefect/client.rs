//! The client of Prefect's REST API.

use super::csrf::Csrf;
use super::paging::Page;
use super::wire::{self, DeploymentRow, FlowRow, IdRow, RunRow, ScheduledRow};
use super::{
    Deployment, NewDeployment, NewSchedule, Prefect, PrefectError, Run, RunEvent, RunQuery, Server, events,
};
use crate::api::PrefectHosting;
use crate::http::{Answer, Call, Failure, Http, Method};
use crate::model::ids::{DeploymentId, DeploymentName, FlowId, ScheduleId, is_id};
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
use std::sync::atomic::AtomicU32;
use url::Url;

/// Rows a page: the server's own limit, unless an administrator lowered it.
pub(super) const PAGE: u32 = 200;

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
    hosting: PrefectHosting,
    csrf: Csrf,
    /// Rows a page as last told by the server.
    pub(super) page: AtomicU32,
}

impl PrefectClient {
    /// A client of the API at `http`'s base, such as `https://prefect.example.com/api`.
    ///
    /// # Errors
    /// The credential holds characters no header can carry: `Unauthorized`.
    pub fn new(http: Http, auth: Auth) -> Result<Self, PrefectError> {
        let authorization = auth.header()?;
        let (hosting, csrf, page) = (PrefectHosting::SelfHosted, Csrf::new(), AtomicU32::new(PAGE));
        Ok(Self { http, auth, authorization, hosting, csrf, page })
    }

    /// The same, of a server that this one runs. Cloud has neither a version nor CSRF tokens.
    #[must_use]
    pub fn hosted(mut self, hosting: PrefectHosting) -> Self {
        self.hosting = hosting;
        self
    }

    pub(super) async fn call(
        &self,
        operation: &'static str,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<Answer, PrefectError> {
        let url = self.http.url(path).ok_or_else(|| PrefectError::Invalid { fields: vec!["name".into()] })?;
        let make = |body: Option<Value>| {
            let call = self.signed(operation, method.clone(), url.clone());
            match body {
                Some(body) => call.json(body),
                None => call,
            }
        };
        if method == Method::GET || self.hosting == PrefectHosting::Cloud {
            return Ok(self.http.send(make(body)).await?);
        }
        let token = self.csrf.token();
        let answer = self.http.send(self.with_token(make(body.clone()), token.as_ref())).await?;
        if answer.status != 403 || !wire::wants_csrf_token(&answer.body) {
            return Ok(answer);
        }
        // Refused before anything was done, before the credentials were looked at even: to send it once more repeats nothing.
        let token = self.fresh_token(token.as_ref()).await?;
        Ok(self.http.send(self.with_token(make(body), token.as_ref())).await?)
    }

    fn signed(&self, operation: &'static str, method: Method, url: Url) -> Call {
        let call = Call::new(operation, method, url);
        match &self.authorization {
            Some(authorization) => call.header(AUTHORIZATION, authorization.clone()),
            None => call,
        }
    }

    fn with_token(&self, call: Call, token: Option<&HeaderValue>) -> Call {
        let headers = token.and_then(|token| self.csrf.headers(token.clone()));
        headers.into_iter().flatten().fold(call, |call, (name, value)| call.header(name, value))
    }

    /// A token after this one was refused, or none was sent.
    async fn fresh_token(&self, refused: Option<&HeaderValue>) -> Result<Option<HeaderValue>, PrefectError> {
        let _alone = self.csrf.alone().await;
        let known = self.csrf.token();
        if known.as_ref() == refused {
            self.fetch_token().await?;
            return Ok(self.csrf.token());
        }
        Ok(known)
    }

    /// Asks for a token; whether the server wants one.
    async fn fetch_token(&self) -> Result<bool, PrefectError> {
        let mut url = self.http.url(&["csrf-token"]).ok_or(PrefectError::WrongServer)?;
        url.query_pairs_mut().append_pair("client", self.csrf.client());
        let answer = self.http.send(self.signed("csrf_token", Method::GET, url)).await?;
        let token = match success(&answer) {
            Ok(()) => Some(wire::csrf_token(&answer.body).ok_or(PrefectError::WrongServer)?),
            // 422: it is off. 404, also of a proxy that lets nothing else through: this version has none.
            Err(PrefectError::Invalid { .. } | PrefectError::NotFound) => None,
            Err(PrefectError::WrongServer) if answer.status == 404 => None,
            Err(error) => return Err(error),
        };
        let wanted = token.is_some();
        self.csrf.put(token);
        Ok(wanted)
    }

    /// A call whose answer holds nothing.
    pub(super) async fn done(
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
}

#[async_trait]
impl Prefect for PrefectClient {
    async fn probe(&self) -> Result<Server, PrefectError> {
        let hosting = self.hosting;
        if hosting == PrefectHosting::Cloud {
            // It tells no version; what tells its errors apart is any read.
            let body = json!({"limit": 1});
            return match success(&self.call("probe", Method::POST, &["flows", "filter"], Some(body)).await?) {
                Ok(()) => Ok(Server { version: None, hosting, csrf: false }),
                Err(PrefectError::NotFound) => Err(PrefectError::WrongServer),
                Err(error) => Err(error),
            };
        }
        let answer = self.call("probe", Method::GET, &["admin", "version"], None).await?;
        let version = match success(&answer) {
            Ok(()) => wire::version(&answer.body).ok_or(PrefectError::WrongServer)?,
            Err(PrefectError::NotFound) => return Err(PrefectError::WrongServer),
            Err(error) => return Err(error),
        };
        let csrf = self.fetch_token().await?;
        Ok(Server { version: Some(version), hosting, csrf })
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
            Err(PrefectError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn work_pool_exists(&self, name: &str) -> Result<bool, PrefectError> {
        let answer = self.call("get_work_pool", Method::GET, &["work_pools", name], None).await?;
        match success(&answer) {
            Ok(()) => Ok(true),
            Err(PrefectError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn flow(&self, name: &str) -> Result<Option<FlowId>, PrefectError> {
        let answer = self.call("get_flow", Method::GET, &["flows", "name", name], None).await?;
        match decode::<FlowRow>(&answer) {
            Ok(row) => Ok(Some(row.id.into())),
            Err(PrefectError::NotFound) => Ok(None),
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
        taken(&answer)?;
        created(&answer).map(Into::into)
    }

    async fn patch_deployment(
        &self,
        id: &DeploymentId,
        fields: &Map<String, Value>,
    ) -> Result<(), PrefectError> {
        let path = ["deployments", id.as_str()];
        let answer = self.call("patch_deployment", Method::PATCH, &path, Some(fields.clone().into())).await?;
        taken(&answer)
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

    async fn late_runs(
        &self,
        id: &DeploymentId,
        before: Timestamp,
        leaving: &[ScheduleId],
    ) -> Result<Vec<Timestamp>, PrefectError> {
        let filter = |limit| wire::late_filter(id, before, limit);
        let page: Page<ScheduledRow> =
            self.page("list_late_runs", &["flow_runs", "filter"], PAGE, filter).await?;
        Ok(page
            .rows
            .into_iter()
            .filter(|row| row.auto_scheduled && !row.is_of(leaving))
            .map(|row| row.expected_start_time)
            .collect())
    }

    async fn restore_runs(
        &self,
        id: &DeploymentId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(), PrefectError> {
        let path = ["deployments", id.as_str(), "schedule"];
        self.done("restore_runs", Method::POST, &path, json!({"start_time": from, "end_time": to})).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RunEvent, PrefectError>>, PrefectError> {
        events::open(&self.http, &self.auth).await
    }
}

/// 2xx, or what the status means (reference 2.1).
pub(super) fn success(answer: &Answer) -> Result<(), PrefectError> {
    Err(match answer.status.as_u16() {
        200..=299 => return Ok(()),
        401 => PrefectError::Unauthorized,
        403 => PrefectError::Forbidden,
        404 if is_json(answer) => PrefectError::NotFound,
        404 => PrefectError::WrongServer,
        409 => PrefectError::Conflict,
        422 => PrefectError::Invalid { fields: wire::invalid_fields(&answer.body) },
        429 => PrefectError::Throttled { retry_after: answer.retry_after },
        503 => PrefectError::Unavailable,
        // A gateway's: the server behind it may have done the work.
        502 | 504 => PrefectError::Ambiguous,
        other => PrefectError::Rejected(other),
    })
}

/// The same of a deployment that is made or changed: what is wrong with it stands in a text only.
fn taken(answer: &Answer) -> Result<(), PrefectError> {
    success(answer).map_err(|error| wire::complaint(answer.status.as_u16(), &answer.body).unwrap_or(error))
}

/// What was read.
pub(super) fn decode<T: DeserializeOwned>(answer: &Answer) -> Result<T, PrefectError> {
    success(answer)?;
    serde_json::from_slice(&answer.body).map_err(|_| PrefectError::WrongServer)
}

/// The id of what was made. An answer without one leaves open what was done.
pub(super) fn created(answer: &Answer) -> Result<String, PrefectError> {
    success(answer)?;
    let row = serde_json::from_slice::<IdRow>(&answer.body).ok();
    row.map(|row| row.id).filter(|id| is_id(id)).ok_or(PrefectError::Ambiguous)
}

/// Prefect's own 404 is JSON; a proxy's is not, and says nothing about what exists or is gone.
fn is_json(answer: &Answer) -> bool {
    serde_json::from_slice::<Map<String, Value>>(&answer.body).is_ok()
}

impl From<Failure> for PrefectError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(why) => Self::Unreachable(why),
            Failure::Unanswered => Self::Ambiguous,
            Failure::TimedOut => Self::TimedOut,
        }
    }
}
