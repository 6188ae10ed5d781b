//! Refresh now, and the jobs that come of it.

use std::time::Duration;

use tokio::time::Instant;

use super::super::config::{Kind, Outcome};
use super::super::element::Element;
use super::super::input::Input;
use super::super::jobs::{Job, Phase};
use super::super::query::{Field, Row};
use super::super::refusal::Refusal;
use super::super::site::{ContentKind, Site};
use super::super::state::{Refused, State};
use super::super::truth::RequestedBy;
use super::auth::Caller;
use super::content;
use super::{Call, Reply};

const FIELDS: [&str; 9] = [
    "completedAt",
    "createdAt",
    "endedAt",
    "jobType",
    "priority",
    "progress",
    "startedAt",
    "status",
    "title",
];

const HOUR: Duration = Duration::from_secs(3600);

/// The API version from which on a refresh can be asked to be incremental.
const INCREMENTAL_SINCE: (u32, u32) = (3, 25);

pub(super) fn refresh(
    state: &mut State,
    caller: &Caller,
    kind: ContentKind,
    id: &str,
    version: (u32, u32),
    call: &Call<'_>,
) -> Result<Reply, Refusal> {
    let wanted = wanted(call, version)?;
    content::find(content::site(state, caller)?, kind, id)?;
    start(state, caller, id, wanted, call)
}

/// Starts a refresh of content that is there, if the site may start one more.
pub(super) fn start(
    state: &mut State,
    caller: &Caller,
    id: &str,
    wanted: Kind,
    call: &Call<'_>,
) -> Result<Reply, Refusal> {
    let site = state.site(&caller.site).map_err(|_| Refusal::site(&caller.site))?;
    within_budget(site, call)?;
    let requested_by = RequestedBy::Api { user: caller.user_name.clone() };
    let job = state.start_refresh(id, wanted, requested_by, &caller.user_name, call.config, call.now);
    let job = job.map_err(|refused| match refused {
        Refused::Duplicate(name) => Refusal::already_queued(&name),
        Refused::NoExtract(name) => Refusal::no_extract(&name),
        Refused::Missing(_) => Refusal::datasource(id),
    })?;
    let element = about(job).attribute("createdAt", call.clock.body_date(job.created));
    let element = element.child(Element::new("extractRefreshJob").child(subject(job)));
    if let Ok(site) = state.site(&caller.site) {
        site.starts.push_back(call.now);
    }
    Ok(Reply { status: 202, elements: vec![element], hold: state.take_hold(id) })
}

/// A body is required. `extractRefresh` may be left out.
fn wanted(call: &Call<'_>, version: (u32, u32)) -> Result<Kind, Refusal> {
    let request = Input::parse(call.content_type, call.body)?;
    request.allow(&[], &["extractRefresh"])?;
    let Some(refresh) = request.child("extractRefresh") else { return Ok(Kind::Full) };
    let known: &[&str] = if version >= INCREMENTAL_SINCE { &["incremental"] } else { &[] };
    refresh.allow(known, &[])?;
    match refresh.attribute("incremental") {
        None | Some("false") => Ok(Kind::Full),
        Some("true") => Ok(Kind::Incremental),
        Some(other) => Err(Refusal::bad_request(format!("'{other}' is not a boolean."))),
    }
}

/// 429000 when the starts of the last hour have used up what the site may have.
fn within_budget(site: &mut Site, call: &Call<'_>) -> Result<(), Refusal> {
    let age = |start: &Instant| call.now.saturating_duration_since(*start);
    while site.starts.front().is_some_and(|start| age(start) >= HOUR) {
        site.starts.pop_front();
    }
    let Some(limit) = call.config.refreshes_per_hour else { return Ok(()) };
    if site.starts.len() < limit as usize {
        return Ok(());
    }
    let wait = site.starts.front().map_or(HOUR, |start| HOUR.saturating_sub(age(start)));
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Err(Refusal::too_many_refreshes(seconds, call.config.retry_after_header))
}

pub(super) fn get(state: &State, caller: &Caller, id: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    let mut readable = state.jobs.readable(&caller.site, call.now, call.config.job_retention);
    let job = readable.find(|job| job.id == id).ok_or_else(|| Refusal::job(id))?;
    Ok(Reply::ok(vec![detail(job, call)]))
}

/// No effect on a job that has ended. There is no body in the answer.
pub(super) fn cancel(
    state: &mut State,
    caller: &Caller,
    id: &str,
    call: &Call<'_>,
) -> Result<Reply, Refusal> {
    get(state, caller, id, call)?;
    state.jobs.cancel(id, call.now);
    Ok(Reply::empty(200))
}

/// Oldest first, as on Tableau.
pub(super) fn list(state: &State, caller: &Caller, call: &Call<'_>) -> Result<Reply, Refusal> {
    if state.jobs_list_forbidden {
        return Err(Refusal::forbidden("Only site administrators can query jobs."));
    }
    let readable = state.jobs.readable(&caller.site, call.now, call.config.job_retention);
    let (pagination, page) = call.query.page(&FIELDS, readable.map(|job| row(job, call)).collect())?;
    Ok(Reply::ok(vec![pagination, Element::list("backgroundJobs", page)]))
}

fn detail(job: &Job, call: &Call<'_>) -> Element {
    let date = |at| call.clock.body_date(at);
    let mut element = about(job)
        .attribute("progress", if job.has_ended() { "100" } else { "0" })
        .attribute("createdAt", date(job.created))
        .maybe("startedAt", job.started().map(date));
    let mut refresh = Element::new("extractRefreshJob");
    if let Some((ended, outcome)) = job.end() {
        let (finish_code, notes) = match outcome {
            Outcome::Success | Outcome::Vanish => {
                ("0", Some(format!("Finished refresh of extracts for '{}'", job.title)))
            }
            Outcome::Failed { notes } => ("1", Some(notes.clone())),
            Outcome::Cancelled => ("2", None),
        };
        element = element.attribute("completedAt", date(ended)).attribute("finishCode", finish_code);
        if let Some(notes) = notes {
            refresh = refresh.child(Element::text("notes", notes));
        }
    }
    element.child(refresh.child(subject(job)))
}

/// What the answers to a refresh and to a query of the job have in common.
fn about(job: &Job) -> Element {
    Element::new("job")
        .attribute("id", &job.id)
        .attribute("mode", "Asynchronous")
        .attribute("type", "RefreshExtract")
}

fn subject(job: &Job) -> Element {
    let name = match job.content_kind {
        ContentKind::Datasource => "datasource",
        ContentKind::Workbook => "workbook",
    };
    Element::new(name).attribute("id", &job.content).attribute("name", &job.title)
}

/// Rows do not tell the content's id, and they have `endedAt` where the detail has `completedAt`.
fn row(job: &Job, call: &Call<'_>) -> Row {
    let status = match &job.phase {
        Phase::Queued { .. } => "Pending",
        Phase::Running { .. } => "InProgress",
        Phase::Ended { outcome: Outcome::Success | Outcome::Vanish, .. } => "Success",
        Phase::Ended { outcome: Outcome::Failed { .. }, .. } => "Failed",
        Phase::Ended { outcome: Outcome::Cancelled, .. } => "Cancelled",
    };
    let job_type = match job.kind {
        Kind::Full => "refresh_extracts",
        Kind::Incremental => "increment_extracts",
    };
    let ended = job.end().map(|(at, _)| at);
    let date = |at| call.clock.body_date(at);
    let element = Element::new("backgroundJob")
        .attribute("id", &job.id)
        .attribute("status", status)
        .attribute("createdAt", date(job.created))
        .maybe("startedAt", job.started().map(date))
        .maybe("endedAt", ended.map(date))
        .attribute("priority", "50")
        .attribute("jobType", job_type)
        .attribute("title", &job.title);
    let time = |at| Field::Time(call.clock.tableau_time(at));
    let mut fields = vec![
        ("createdAt", time(job.created)),
        ("jobType", Field::Text(job_type.to_owned())),
        ("priority", Field::Number(50)),
        ("progress", Field::Number(if ended.is_some() { 100 } else { 0 })),
        ("status", Field::Text(status.to_owned())),
        ("title", Field::Text(job.title.clone())),
    ];
    fields.extend(job.started().map(|at| ("startedAt", time(at))));
    fields.extend(ended.into_iter().flat_map(|at| [("completedAt", time(at)), ("endedAt", time(at))]));
    Row { element, fields }
}
