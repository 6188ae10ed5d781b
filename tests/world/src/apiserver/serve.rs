//! From a request to its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use serde_json::{Value, json};

use super::faults::{Action, Call, Verb};
use super::kinds::list;
use super::route::Route;
use super::store::{Event, Refusal, Write};
use super::watch::{self, Scope};
use super::{ApiServer, Broken, State};

/// Unless the client says how long a watch lasts.
const WATCH_LIMIT: Duration = Duration::from_secs(1800);

/// Answers a request, as the faults will have it.
pub(super) async fn serve(
    server: &ApiServer,
    client: Arc<str>,
    parts: &Parts,
    body: &Bytes,
) -> Result<Response<Body>, Broken> {
    let route =
        Route::of(&server.state().store.kinds, parts.uri.path(), parts.uri.query().unwrap_or_default());
    let Some(route) = route else { return Ok(refused(server, &Refusal::NotFound)) };
    let Some(verb) = verb(&parts.method, &route) else { return Ok(refused(server, &Refusal::Unsupported)) };
    let (action, index) = {
        let faults = &mut server.state().faults;
        let call = Call {
            sequence: faults.log.len() + 1,
            client,
            verb,
            plural: route.kind.plural.clone(),
            subresource: route.subresource.clone(),
            namespace: route.namespace.clone(),
            name: route.name.clone(),
        };
        let action = (faults.decide)(&call);
        faults.log.push((call, None));
        (action, faults.log.len() - 1)
    };
    let answer = match action {
        Action::Pass => carry_out(server, verb, &route, parts, body, None),
        Action::Lose => return Err(Broken),
        Action::LoseAnswer => {
            carry_out(server, verb, &route, parts, body, None);
            return Err(Broken);
        }
        Action::Refuse(code) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                "message": "the fault that a test asked for", "reason": reason(code),
            });
            answer(server, code, &status)
        }
        Action::Delay(time) => {
            tokio::time::sleep(time).await;
            carry_out(server, verb, &route, parts, body, None)
        }
        Action::DelayAnswer(time) => {
            let answer = carry_out(server, verb, &route, parts, body, None);
            tokio::time::sleep(time).await;
            answer
        }
        Action::Stale(version) => carry_out(server, verb, &route, parts, body, Some(version)),
    };
    server.state().faults.log[index].1 = Some(answer.status().as_u16());
    Ok(answer)
}

fn verb(method: &Method, route: &Route) -> Option<Verb> {
    Some(match (method, route.name.is_empty()) {
        (&Method::GET, _) if route.asks("watch") => Verb::Watch,
        (&Method::GET, true) => Verb::List,
        (&Method::GET, false) => Verb::Get,
        (&Method::POST, true) => Verb::Create,
        (&Method::PUT, false) => Verb::Update,
        (&Method::PATCH, false) => Verb::Patch,
        (&Method::DELETE, false) => Verb::Delete,
        _ => return None,
    })
}

fn carry_out(
    server: &ApiServer,
    verb: Verb,
    route: &Route,
    parts: &Parts,
    body: &Bytes,
    behind: Option<u64>,
) -> Response<Body> {
    let state = &mut *server.state();
    let result = match verb {
        Verb::Watch => return begin_watch(server, state, route).unwrap_or_else(|why| refused(server, &why)),
        Verb::List => listed(state, route, behind).map(|list| (200, list)),
        Verb::Get => got(state, route, behind).map(|object| (200, object)),
        Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => write(state, verb, route, parts, body)
            .map(|(code, object, events)| {
                for event in &events {
                    state.watches.tell(event);
                }
                (code, object)
            }),
    };
    match result {
        Ok((code, value)) => answer(server, code, &value),
        Err(refusal) => refused(server, &refusal),
    }
}

fn write(
    state: &mut State,
    verb: Verb,
    route: &Route,
    parts: &Parts,
    body: &Bytes,
) -> Result<(u16, Value, Vec<Event>), Refusal> {
    let Route { kind, namespace, name, .. } = route;
    let body: Value = match body.as_ref() {
        b"" => Value::Null,
        // JSON is YAML; nobody here sends other YAML.
        body => serde_json::from_slice(body).map_err(|_| Refusal::BadRequest)?,
    };
    let status = route.subresource == "status";
    let store = &mut state.store;
    let done = |(object, events)| (200, object, events);
    match verb {
        Verb::Create => {
            let (object, events) = store.create(kind, namespace, body, None)?;
            Ok((201, object, events))
        }
        Verb::Update => store.write(kind, namespace, name, status, Write::Replace(body)).map(done),
        Verb::Patch => {
            let format = parts.headers.get("content-type").and_then(|format| format.to_str().ok());
            match format.unwrap_or_default() {
                "application/merge-patch+json" => {
                    store.write(kind, namespace, name, status, Write::Merge(&body)).map(done)
                }
                "application/apply-patch+yaml" => {
                    let manager = route.query.get("fieldManager").ok_or(Refusal::BadRequest)?;
                    let there = store.find(&kind.plural, namespace, name).is_some();
                    if !there && !status {
                        if body["metadata"]["resourceVersion"].is_string() {
                            return Err(Refusal::Conflict);
                        }
                        let mut body = body;
                        body["metadata"]["name"] = json!(name);
                        let (object, events) = store.create(kind, namespace, body, Some(manager))?;
                        return Ok((201, object, events));
                    }
                    let write = Write::Apply { manager, force: route.asks("force"), body: &body };
                    store.write(kind, namespace, name, status, write).map(done)
                }
                _ => Err(Refusal::Unsupported),
            }
        }
        Verb::Delete => {
            let (object, gone, events) = store.delete(kind, namespace, name, &body["preconditions"])?;
            let success = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": {"name": name, "kind": kind.plural, "uid": object["metadata"]["uid"]},
            });
            Ok((200, if gone { success } else { object }, events))
        }
        Verb::Get | Verb::List | Verb::Watch => Err(Refusal::Unsupported),
    }
}

fn got(state: &State, route: &Route, behind: Option<u64>) -> Result<Value, Refusal> {
    let Route { kind, namespace, name, .. } = route;
    match behind {
        None => state.store.find(&kind.plural, namespace, name).ok_or(Refusal::NotFound),
        Some(version) => {
            let then = state.store.at(&kind.plural, version)?;
            let key = (kind.plural.clone(), namespace.clone(), name.clone());
            then.into_iter().find(|(of, _)| *of == key).map(|(_, object)| object).ok_or(Refusal::NotFound)
        }
    }
}

fn listed(state: &State, route: &Route, behind: Option<u64>) -> Result<Value, Refusal> {
    let scope = scope(route)?;
    let page = match route.query.get("continue").filter(|token| !token.is_empty()) {
        None => None,
        Some(token) => {
            let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| Refusal::BadRequest)?;
            Some(
                serde_json::from_slice::<(u64, (String, String, String))>(&token)
                    .map_err(|_| Refusal::BadRequest)?,
            )
        }
    };
    let version = page.as_ref().map(|(version, _)| *version).or(behind).unwrap_or(state.store.version());
    let mut all = state.store.at(&route.kind.plural, version)?;
    all.retain(|(key, _)| scope.includes(key) && page.as_ref().is_none_or(|(_, last)| key > last));
    let limit = route.number("limit").filter(|limit| *limit > 0).unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let next = match all.get(limit.saturating_sub(1)) {
        Some((last, _)) if all.len() > limit => {
            let token = serde_json::to_vec(&(version, last)).map_err(|_| Refusal::BadRequest)?;
            Some(URL_SAFE_NO_PAD.encode(token))
        }
        Some(_) | None => None,
    };
    let items: Vec<Value> = all.into_iter().take(limit).map(|(_, object)| object).collect();
    Ok(list(&route.kind, version, &items, next))
}

fn begin_watch(server: &ApiServer, state: &mut State, route: &Route) -> Result<Response<Body>, Refusal> {
    let scope = scope(route)?;
    let kind = &route.kind;
    let initial = route.asks("sendInitialEvents");
    let from = route.number("resourceVersion").filter(|from| *from > 0 && !initial);
    let first: Vec<Bytes> = match from.map(|from| state.store.since(&kind.plural, from)) {
        Some(Err(_)) => return Ok(response(server, 200, watch::too_late())),
        Some(Ok(events)) => events
            .iter()
            .filter(|event| scope.includes(&event.key))
            .map(|event| watch::line(event.what, &event.object))
            .collect(),
        None => {
            let now = state.store.at(&kind.plural, state.store.version())?;
            let all = now.iter().filter(|(key, _)| scope.includes(key));
            let end = initial.then(|| watch::bookmark(kind, state.store.version(), true));
            all.map(|(_, object)| watch::line("ADDED", object)).chain(end).collect()
        }
    };
    let limit = route.number("timeoutSeconds").map_or(WATCH_LIMIT, Duration::from_secs);
    let bookmarks = route.asks("allowWatchBookmarks");
    let body = watch::open(&mut state.watches, server, kind, scope, first, bookmarks, limit);
    Ok(response(server, 200, body))
}

fn scope(route: &Route) -> Result<Scope, Refusal> {
    let selected = route.selected().map_err(|()| Refusal::BadRequest)?;
    let named = Some(route.name.as_str()).filter(|name| !name.is_empty());
    Ok(Scope {
        plural: route.kind.plural.clone(),
        namespace: route.namespace.clone(),
        name: selected.or(named).map(str::to_owned),
    })
}

fn refused(server: &ApiServer, refusal: &Refusal) -> Response<Body> {
    answer(server, refusal.code().0, &status(refusal))
}

/// The `Status` object of a refusal.
pub(super) fn status(refusal: &Refusal) -> Value {
    let (code, reason) = refusal.code();
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "message": refusal.to_string(), "reason": reason,
    })
}

fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    }
}

fn answer(server: &ApiServer, code: u16, value: &Value) -> Response<Body> {
    response(server, code, Body::from(value.to_string()))
}

fn response(server: &ApiServer, code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let date = server.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (name, value) in [("date", date.as_str()), ("content-type", "application/json")] {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
