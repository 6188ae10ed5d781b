//! The REST API: from an HTTP request to an answer, and into the truth log.

mod answer;
mod auth;
mod content;
mod jobs;
mod projects;
mod route;
mod schedules;
mod tasks;
mod warnings;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State as Extract;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{HeaderMap, Request as HttpRequest, Response};
use axum::routing::get;
use tokio::time::Instant;

use self::answer::{Format, gateway_page, home, render};
use self::route::{Operation, Target, route};
use super::clock::Clock;
use super::config::{Availability, Config};
use super::element::Element;
use super::hold::Ticket;
use super::query::Query;
use super::refusal::Refusal;
use super::shared::Shared;
use super::state::State;
use super::trust::Keys;
use super::truth::Request;

/// No request that the simulator reads is larger.
const BODY_LIMIT: usize = 1 << 20;

/// The router of the REST API.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let home = get(async |Extract(shared): Extract<Arc<Shared>>| home(&shared.clock));
    Router::new().route("/", home).fallback(handle).with_state(shared)
}

/// What a request asks for, in the simulator's own terms.
struct Call<'a> {
    query: Query,
    token: Option<&'a str>,
    content_type: Option<&'a str>,
    body: &'a [u8],
    /// As the client wrote it, for links in answers.
    host: &'a str,
    config: &'a Config,
    clock: &'a Clock,
    now: Instant,
}

/// A good answer.
struct Reply {
    status: u16,
    elements: Vec<Element>,
    /// The answer is to be sent only when this is released.
    hold: Option<Ticket>,
}

impl Reply {
    fn ok(elements: Vec<Element>) -> Self {
        Self { status: 200, elements, hold: None }
    }

    fn empty(status: u16) -> Self {
        Self { status, elements: Vec::new(), hold: None }
    }
}

async fn handle(Extract(shared): Extract<Arc<Shared>>, request: HttpRequest<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    // A body that breaks off or is too large is as good as none.
    let body = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    let (method, path, query) = (head.method.as_str(), head.uri.path(), head.uri.query());
    let target = route(method, path, &shared.config.rest_api_version);
    let entry = |now: Instant, state: &State| Request {
        n: state.requests.len() as u64 + 1,
        at: shared.clock.true_time(now),
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.map(str::to_owned),
        site: target.as_ref().ok().and_then(|target| target.site).map(str::to_owned),
        user_agent: header(&head.headers, USER_AGENT.as_str()).map(str::to_owned),
        operation: target.as_ref().map_or("unknown", |target| target.operation.name()),
        status: 0,
        code: None,
    };
    let availability = *shared.availability.borrow();
    match availability {
        Availability::Up | Availability::Reset => {}
        Availability::Refuse(status) => {
            shared.change(|state, now| state.requests.push(Request { status, ..entry(now, state) }));
            return gateway_page(status, &shared.clock);
        }
        Availability::Hang => {
            shared.change(|state, now| state.requests.push(entry(now, state)));
            let mut later = shared.availability.subscribe();
            let _ = later.wait_for(|now| *now != Availability::Hang).await;
            return gateway_page(504, &shared.clock);
        }
    }
    let call = |now| Call {
        query: Query::parse(query),
        token: header(&head.headers, "x-tableau-auth"),
        content_type: header(&head.headers, CONTENT_TYPE.as_str()),
        body: &body,
        host: header(&head.headers, HOST.as_str()).unwrap_or("localhost"),
        config: &shared.config,
        clock: &shared.clock,
        now,
    };
    let keys = match &target {
        Ok(Target { operation: Operation::SignIn, .. }) => {
            match shared.change(|state, now| auth::server_of(state, &call(now))) {
                Some((server, kid)) => shared.keys.of(&server.jwks_url, kid.as_deref()).await,
                None => Keys::default(),
            }
        }
        _ => Keys::default(),
    };
    let result = shared.change(|state, now| {
        let mut entry = entry(now, state);
        let call = call(now);
        let result =
            target.as_ref().map_err(Refusal::clone).and_then(|target| perform(target, state, &keys, &call));
        (entry.status, entry.code) = match &result {
            Ok(reply) => (reply.status, None),
            Err(refusal) => (refusal.status(), Some(refusal.code)),
        };
        state.requests.push(entry);
        result
    });
    if let Ok(Reply { hold: Some(hold), .. }) = &result {
        hold.released().await;
    }
    let format = Format::wanted(header(&head.headers, ACCEPT.as_str()));
    render(result, format, &shared)
}

/// Does what was asked for, if the caller may. What the operation does not know is refused: a client that sends it errs about Tableau.
fn perform(target: &Target<'_>, state: &mut State, keys: &Keys, call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query.allow(target.operation.parameters())?;
    if !target.operation.has_body() && !call.body.is_empty() {
        return Err(Refusal::bad_request("A body is not allowed here."));
    }
    match target.operation {
        Operation::ServerInfo => return Ok(auth::server_info(call)),
        Operation::SignIn => return auth::sign_in(state, target.version, keys, call),
        _ => {}
    }
    let caller = auth::caller(state, target.site, target.operation.scope(call.config.scopes), call)?;
    match target.operation {
        Operation::ServerInfo | Operation::SignIn => unreachable!("answered above"),
        Operation::SignOut => Ok(auth::sign_out(state, call)),
        Operation::QuerySchedules => schedules::list(state, call),
        Operation::QuerySchedule(id) => schedules::get(state, id, call),
        Operation::CreateSchedule => schedules::create(state, call),
        Operation::UpdateSchedule(id) => schedules::update(state, id, call),
        Operation::DeleteSchedule(id) => schedules::delete(state, id, call),
        Operation::QueryScheduleExtracts(id) => schedules::extracts(state, &caller, id, call),
        Operation::AddToSchedule(id, kind) => schedules::attach(state, &caller, (id, kind), call),
        Operation::QueryUser(id) => auth::user(state, &caller, id),
        Operation::QueryProjects => projects::list(state, &caller, call),
        Operation::QueryContents(kind) => content::list(state, &caller, kind, call),
        Operation::QueryContent(kind, id) => content::get(state, &caller, kind, id, call),
        Operation::QueryViews(id) => content::views(state, &caller, id),
        Operation::Refresh(kind, id) => jobs::refresh(state, &caller, kind, id, target.version, call),
        Operation::QueryJobs => jobs::list(state, &caller, call),
        Operation::QueryJob(id) => jobs::get(state, &caller, id, call),
        Operation::CancelJob(id) => jobs::cancel(state, &caller, id, call),
        Operation::QueryTasks => Ok(tasks::list(state, &caller, call)),
        Operation::QueryTask(id) => tasks::get(state, &caller, id, call),
        Operation::CreateTask => tasks::create(state, &caller, call),
        Operation::UpdateTask(id) => tasks::update(state, &caller, id, call),
        Operation::DeleteTask(id) => tasks::delete(state, &caller, id),
        Operation::RunTask(id) => tasks::run(state, &caller, id, call),
        Operation::QueryWarnings(on) => warnings::list(state, &caller, on, call),
        Operation::AddWarning(on) => warnings::add(state, &caller, on, call),
        Operation::DeleteWarnings(on) => warnings::delete_all(state, &caller, on),
        Operation::DeleteWarning(id) => warnings::delete(state, &caller, id),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
