//! The admin API: everything a [`Simulator`](super::Simulator) can do, as JSON over HTTP, for demos and shells.
//!
//! `GET /` lists it. Bodies are objects with these members; answers are objects as well.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /sites` | `contentUrl` | `site` (LUID) |
//! | `POST /pats` | `site`, `name`, `secret`, `user` | |
//! | `POST /revoke` | `site`, `name` | |
//! | `POST /users` | `site`, `name` | |
//! | `POST /connected-apps` | `site`, `clientId`, `secretId`, `secretValue` | |
//! | `POST /connected-apps/secrets/remove` | `site`, `clientId`, `secretId` | |
//! | `POST /authorization-servers` | `site`, `issuer`, `jwksUrl` | |
//! | `POST /sessions/end` | `site` | |
//! | `POST /projects` | `site`, `path` (list of names) | `luid` |
//! | `POST /datasources`, `/workbooks` | `site`, `project` (list of names), `name`, `hasExtracts` (true when left out) | `luid` |
//! | `POST /remove` | `luid` | |
//! | `POST /move` | `luid`, `project` | |
//! | `POST /scripts` | `luid`, `queued`, `running` (seconds, or `"untilReleased"`), `outcome` (`success`, `failed`, `cancelled`, `vanish`), `notes` | |
//! | `POST /jobs` | `luid`, `kind` (`full`, `incremental`), `by` | `job`; 409 when refused |
//! | `POST /release` | `luid` | |
//! | `POST /cancel` | `job` | |
//! | `POST /holds` | `luid` | `hold` (id) |
//! | `POST /holds/taken` | `hold`, `within` (seconds) | 408 when nothing was taken in that time |
//! | `POST /holds/release` | `hold` | |
//! | `POST /availability` | `state` (`up`, `reset`, `refuse`, `hang`), `status` (of `refuse`; 503 when left out) | |
//! | `POST /jobs-list` | `allowed` | |
//! | `POST /tasks` | `luid`, `kind`, `schedule` (its definition; Cloud) or `on` (name of a shared one; Server) | `task` |
//! | `POST /tasks/change` | `task`, `schedule` | |
//! | `POST /tasks/remove` | `task` | |
//! | `POST /tasks/suspend` | `task`, `failures` (0 when left out) | |
//! | `POST /schedules` | `name`, `schedule` | `id` |
//! | `POST /schedules/change` | `name`, `schedule` | |
//! | `POST /warnings` | `luid` of a data source, `type`, `message`, `by` (`somebody` when left out) | `warning` (id) |
//! | `POST /warnings/change` | `warning`, `type`, `message` | |
//! | `POST /warnings/remove` | `warning` | |
//! | `POST /data-management` | `licensed` | |
//! | `GET /truth?since=n&within=s` | | the [`Truth`](super::Truth), with the requests after the n-th; with `within`, waits up to so many seconds for one |
//!
//! A `site` is a LUID or a content URL. What is named and not there is answered 404 with `error`.

mod behave;
mod members;
mod schedules;
mod warnings;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Json, Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::Body};
use serde::Deserialize;
use serde_json::{Value, json};

use self::behave::seconds_of;
use super::config::Kind;
use super::hold::Hold;
use super::shared::Shared;
use super::site::ContentKind;
use super::state::{Missing, Refused};

/// Holds live here until they are released.
#[derive(Clone)]
struct Admin {
    shared: Arc<Shared>,
    holds: Arc<Mutex<HashMap<String, Arc<Hold>>>>,
}

type Answer = Result<Json<Value>, Failure>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let admin = Admin { shared, holds: Arc::default() };
    Router::new()
        .route("/", get(index))
        .route("/sites", post(add_site))
        .route("/pats", post(add_pat))
        .route("/revoke", post(revoke))
        .route("/users", post(members::add_user))
        .route("/connected-apps", post(members::add_secret))
        .route("/connected-apps/secrets/remove", post(members::remove_secret))
        .route("/authorization-servers", post(members::register))
        .route("/sessions/end", post(end_sessions))
        .route("/projects", post(add_project))
        .route("/datasources", post(add_datasource))
        .route("/workbooks", post(add_workbook))
        .route("/remove", post(remove))
        .route("/move", post(move_content))
        .route("/scripts", post(behave::script))
        .route("/jobs", post(start_refresh))
        .route("/release", post(release))
        .route("/cancel", post(cancel))
        .route("/holds", post(behave::hold))
        .route("/holds/taken", post(behave::taken))
        .route("/holds/release", post(behave::release_hold))
        .route("/availability", post(behave::availability))
        .route("/jobs-list", post(jobs_list))
        .route("/tasks", post(schedules::add_task))
        .route("/tasks/change", post(schedules::change_task))
        .route("/tasks/remove", post(schedules::remove_task))
        .route("/tasks/suspend", post(schedules::suspend_task))
        .route("/schedules", post(schedules::add_schedule))
        .route("/schedules/change", post(schedules::change_schedule))
        .route("/warnings", post(warnings::add))
        .route("/warnings/change", post(warnings::change))
        .route("/warnings/remove", post(warnings::remove))
        .route("/data-management", post(warnings::data_management))
        .route("/truth", get(truth))
        .with_state(admin)
}

/// The table above, as the documentation has it.
async fn index() -> String {
    let source = include_str!("mod.rs");
    let table = source.lines().map_while(|line| line.strip_prefix("//!"));
    let text: Vec<&str> = table.map(str::trim_start).collect();
    format!("This is Feedwater's Tableau simulator, not Tableau.\n\n{}\n", text.join("\n"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewSite {
    content_url: String,
}

async fn add_site(Extract(admin): Extract<Admin>, Json(new): Json<NewSite>) -> Answer {
    let site = admin.shared.change(|state, now| state.add_site(&new.content_url, now));
    Ok(Json(json!({ "site": site })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPat {
    site: String,
    name: String,
    secret: String,
    user: String,
}

async fn add_pat(Extract(admin): Extract<Admin>, Json(new): Json<NewPat>) -> Answer {
    admin.shared.change(|state, _| state.add_pat(&new.site, &new.name, &new.secret, &new.user))?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldPat {
    site: String,
    name: String,
}

async fn revoke(Extract(admin): Extract<Admin>, Json(old): Json<OldPat>) -> Answer {
    admin.shared.change(|state, _| state.revoke_pat(&old.site, &old.name))?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfSite {
    site: String,
}

async fn end_sessions(Extract(admin): Extract<Admin>, Json(of): Json<OfSite>) -> Answer {
    admin.shared.change(|state, _| state.end_sessions(&of.site))?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProject {
    site: String,
    path: Vec<String>,
}

async fn add_project(Extract(admin): Extract<Admin>, Json(new): Json<NewProject>) -> Answer {
    admin.shared.change(|state, now| {
        let luid = state.site(&new.site)?.project(&new.path, now);
        Ok(Json(json!({ "luid": luid })))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewContent {
    site: String,
    project: Vec<String>,
    name: String,
    has_extracts: Option<bool>,
}

async fn add_datasource(Extract(admin): Extract<Admin>, Json(new): Json<NewContent>) -> Answer {
    admin.add_content(ContentKind::Datasource, &new)
}

async fn add_workbook(Extract(admin): Extract<Admin>, Json(new): Json<NewContent>) -> Answer {
    admin.add_content(ContentKind::Workbook, &new)
}

impl Admin {
    fn add_content(&self, kind: ContentKind, new: &NewContent) -> Answer {
        let extracts = new.has_extracts.unwrap_or(true);
        self.shared.change(|state, now| {
            let luid = state.site(&new.site)?.add_content(kind, &new.project, &new.name, extracts, now);
            Ok(Json(json!({ "luid": luid })))
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfContent {
    luid: String,
}

async fn remove(Extract(admin): Extract<Admin>, Json(of): Json<OfContent>) -> Answer {
    admin.shared.change(|state, _| state.remove_content(&of.luid))?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    luid: String,
    project: Vec<String>,
}

async fn move_content(Extract(admin): Extract<Admin>, Json(to): Json<Move>) -> Answer {
    let lag = admin.shared.config.index_lag;
    admin.shared.change(|state, now| state.move_content(&to.luid, &to.project, lag, now))?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRefresh {
    luid: String,
    kind: Option<Kind>,
    by: Option<String>,
}

async fn start_refresh(Extract(admin): Extract<Admin>, Json(new): Json<NewRefresh>) -> Answer {
    let kind = new.kind.unwrap_or(Kind::Full);
    let job = admin.shared.start_refresh(&new.luid, kind, new.by.as_deref().unwrap_or("somebody"))?;
    Ok(Json(json!({ "job": job })))
}

async fn release(Extract(admin): Extract<Admin>, Json(of): Json<OfContent>) -> Answer {
    admin.shared.change(|state, now| {
        state.content(&of.luid)?;
        state.jobs.release(&of.luid, now);
        Ok(done())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfJob {
    job: String,
}

async fn cancel(Extract(admin): Extract<Admin>, Json(of): Json<OfJob>) -> Answer {
    if admin.shared.change(|state, now| state.jobs.cancel(&of.job, now)) {
        Ok(done())
    } else {
        Err(Failure(StatusCode::NOT_FOUND, format!("no job '{}'", of.job)))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobsList {
    allowed: bool,
}

async fn jobs_list(Extract(admin): Extract<Admin>, Json(new): Json<JobsList>) -> Answer {
    admin.shared.change(|state, _| state.jobs_list_forbidden = !new.allowed);
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    #[serde(default)]
    since: u64,
    within: Option<f64>,
}

async fn truth(Extract(admin): Extract<Admin>, Query(of): Query<Since>) -> Answer {
    if let Some(within) = of.within {
        let newer =
            admin.shared.wait_for(seconds_of(within)?, |truth| truth.requests.len() as u64 > of.since);
        // Without news the truth is told as it is.
        let _ = newer.await;
    }
    let mut truth = admin.shared.truth();
    truth.requests.retain(|request| request.n > of.since);
    serde_json::to_value(truth)
        .map(Json)
        .map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn done() -> Json<Value> {
    Json(json!({}))
}

/// A status and what to say.
struct Failure(StatusCode, String);

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        Self(StatusCode::NOT_FOUND, missing.to_string())
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Missing(missing) => missing.into(),
            Refused::Duplicate(_) | Refused::NoExtract(_) => Self(StatusCode::CONFLICT, refused.to_string()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}
