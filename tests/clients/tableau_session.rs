//! Signing in to Tableau: one session, one sign-in at a time, no hot loop.

use crate::prefect::CANARY;
use crate::stub::{Reply, Stub, json, text};
use crate::tableau::{client, client_while, error, server_info, signed_in, site};
use feedwater::api::{RefreshType, TargetKind};
use feedwater::tableau::{RefreshError, Tableau, TableauError};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A server where only the newest of its sessions counts, and `contested` ones are dead at once.
async fn newest_session_only(contested: bool) -> Stub {
    let sessions = AtomicUsize::new(0);
    let kill = AtomicUsize::new(0);
    Stub::start(move |seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.27"),
        "/api/3.27/auth/signin" => signed_in(&format!("t{}", sessions.fetch_add(1, Ordering::SeqCst) + 1)),
        "/kill" => {
            kill.store(sessions.load(Ordering::SeqCst), Ordering::SeqCst);
            text(200, "")
        }
        target => {
            let token: usize = seen.headers["x-tableau-auth"].trim_start_matches('t').parse().unwrap();
            let live = token == sessions.load(Ordering::SeqCst) && token > kill.load(Ordering::SeqCst);
            match (live && !contested, target.contains("refresh")) {
                (false, _) => error(401, "401002"),
                (true, true) => json(202, &json!({"job": {"id": "j"}})),
                (true, false) => json(200, &json!({"projects": {}})),
            }
        }
    })
    .await
}

/// Ends all sessions at the server.
async fn end_sessions(stub: &Stub) {
    let http = stub.http("test", "");
    let kill = feedwater::http::Call::new("kill", feedwater::http::Method::GET, http.url(&["kill"]).unwrap());
    http.send(kill).await.unwrap();
}

#[tokio::test]
async fn ten_at_once_sign_in_once_and_renew_once() {
    let stub = newest_session_only(false).await;
    let client = client(&stub);
    let ten = || futures::future::join_all((0..10).map(|_| client.projects()));
    assert!(ten().await.iter().all(Result::is_ok));
    assert_eq!((stub.count("signin"), stub.count("serverinfo")), (1, 1));
    end_sessions(&stub).await;
    assert!(ten().await.iter().all(Result::is_ok));
    assert_eq!((stub.count("signin"), stub.count("serverinfo")), (2, 1));
}

#[tokio::test]
async fn one_that_does_not_lead_any_more_leaves_the_session_to_its_successor() {
    let stub = newest_session_only(false).await;
    let leads = Arc::new(AtomicBool::new(true));
    let client = client_while(&stub, leads.clone());
    client.site().await.unwrap();
    end_sessions(&stub).await;
    leads.store(false, Ordering::SeqCst);
    assert_eq!(client.projects().await, Err(TableauError::NotLeading));
    let luid = "l".into();
    let refresh = client.refresh(TargetKind::Datasource, &luid, RefreshType::Full, Duration::from_secs(3));
    assert!(matches!(refresh.await, Err(RefreshError::NotSent(_))));
    assert_eq!((stub.count("signin"), stub.count("refresh")), (1, 0));
}

#[tokio::test]
async fn after_a_401_a_call_is_repeated_once_in_a_new_session() {
    let stub = newest_session_only(false).await;
    let client = client(&stub);
    client.site().await.unwrap();
    end_sessions(&stub).await;
    let luid = "l".into();
    let deadline = Duration::from_secs(3);
    let started = client.refresh(TargetKind::Workbook, &luid, RefreshType::Full, deadline).await;
    assert_eq!(started, Ok("j".into()));
    assert_eq!((stub.count("signin"), stub.count("/refresh")), (2, 2));

    let stub = newest_session_only(true).await;
    let client = crate::tableau::client(&stub);
    assert_eq!(client.projects().await, Err(TableauError::SessionContested));
    assert_eq!((stub.count("signin"), stub.count("/projects")), (2, 2));
    let refused = client.refresh(TargetKind::Workbook, &luid, RefreshType::Full, deadline).await;
    assert_eq!(refused, Err(RefreshError::SignInRefused));
    assert_eq!(stub.count("/refresh"), 2);
}

/// The lease was measured by the deadline of the POST: what signing in takes of it is not there for the POST.
#[tokio::test]
async fn a_slow_sign_in_leaves_a_refresh_what_is_left_of_its_deadline() {
    let slow = Duration::from_millis(700);
    let late = move |reply| Reply::Late(slow, Box::new(reply));
    let stub = Stub::start(move |seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.27"),
        "/api/3.27/auth/signin" => late(signed_in("t")),
        _ => late(json(202, &json!({"job": {"id": "j"}}))),
    })
    .await;
    let luid = "l".into();
    for (deadline, expected, posts) in [
        (350, Err(RefreshError::NotSent(feedwater::http::Unreachable::Connect)), 0),
        (1050, Err(RefreshError::Ambiguous), 1),
        (4000, Ok("j".into()), 1),
    ] {
        let (client, before) = (client(&stub), stub.count("/refresh"));
        let deadline = Duration::from_millis(deadline);
        let result = client.refresh(TargetKind::Workbook, &luid, RefreshType::Full, deadline).await;
        assert_eq!((result, stub.count("/refresh") - before), (expected, posts), "{deadline:?}");
    }
}

/// Lets virtual time pass, with nothing in flight.
async fn pass(length: Duration) {
    tokio::time::pause();
    tokio::time::advance(length).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_session_is_renewed_before_it_ends_of_age() {
    let stub = newest_session_only(false).await;
    let client = client(&stub);
    client.projects().await.unwrap();
    pass(Duration::from_secs(99 * 60)).await;
    client.projects().await.unwrap();
    assert_eq!(stub.count("signin"), 1);
    pass(Duration::from_secs(2 * 60)).await;
    client.projects().await.unwrap();
    assert_eq!((stub.count("signin"), stub.count("/projects")), (2, 3));
    // Also before a refresh: its POST goes out once, in a session that outlives it.
    pass(Duration::from_secs(101 * 60)).await;
    let deadline = Duration::from_secs(3);
    let started = client.refresh(TargetKind::Workbook, &"l".into(), RefreshType::Full, deadline).await;
    assert_eq!((started, stub.count("signin"), stub.count("/refresh")), (Ok("j".into()), 3, 1));
}

#[tokio::test]
async fn a_refused_sign_in_is_not_tried_again_at_once() {
    let stub = Stub::start(|seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.27"),
        _ => error(401, "401001"),
    })
    .await;
    let client = client(&stub);
    let refused = || async {
        assert_eq!(client.projects().await, Err(TableauError::SignInRefused));
    };
    refused().await;
    refused().await;
    let error =
        client.refresh(TargetKind::Workbook, &"l".into(), RefreshType::Full, Duration::from_secs(1)).await;
    assert_eq!(error, Err(RefreshError::SignInRefused));
    assert_eq!(stub.count("signin"), 1);
    // 30 s, 60 s, … up to 10 min.
    for (wait, sign_ins) in
        [(29, 1), (2, 2), (31, 2), (30, 3), (120, 4), (240, 5), (480, 6), (601, 7), (601, 8)]
    {
        pass(Duration::from_secs(wait)).await;
        refused().await;
        assert_eq!(stub.count("signin"), sign_ins, "after {wait} s");
    }
}

#[tokio::test]
async fn signing_out_ends_the_session_and_only_once() {
    let stub = site(|_| text(204, "")).await;
    let client = client(&stub);
    client.sign_out().await;
    assert!(stub.seen().is_empty(), "no session, nothing to end");
    client.site().await.unwrap();
    client.sign_out().await;
    client.sign_out().await;
    let out: Vec<_> = stub.seen().into_iter().filter(|s| s.target.contains("signout")).collect();
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].line(), "POST /api/3.27/auth/signout");
    assert_eq!(out[0].headers["x-tableau-auth"], format!("{CANARY}-token"));
}

#[tokio::test]
async fn the_server_and_its_version_are_told_apart() {
    let old =
        |version: &str| Some(TableauError::UnsupportedVersion { version: version.into(), oldest: "3.8" });
    for (reply, expected) in [
        (server_info("3.7"), old("3.7")),
        (server_info("2.8"), old("2.8")),
        (text(200, "<html>"), Some(TableauError::WrongServer)),
        (text(404, "<html>"), Some(TableauError::WrongServer)),
        (json(200, &json!({"serverInfo": {}})), Some(TableauError::WrongServer)),
        (text(503, ""), Some(TableauError::Ambiguous)),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let stub = Stub::start(move |_| reply.lock().unwrap().take().unwrap_or(Reply::Reset)).await;
        assert_eq!(client(&stub).site().await.err(), expected);
    }
    for (told, used) in [("3.8", "3.8"), ("3.27", "3.27"), ("3.30", "3.27"), ("4.0", "3.27")] {
        let stub = Stub::start(move |seen| match seen.target.as_str() {
            "/api/2.4/serverinfo" => server_info(told),
            _ => signed_in("t"),
        })
        .await;
        assert_eq!(client(&stub).site().await.unwrap().rest_api_version, used);
    }
}

#[tokio::test]
async fn what_a_sign_in_answers_is_one_decision() {
    for (reply, expected) in [
        (error(401, "401001"), TableauError::SignInRefused),
        (error(403, "403004"), TableauError::Forbidden("403004".into())),
        (error(429, "429000"), TableauError::Throttled { retry_after: None }),
        (error(500, "500000"), TableauError::Ambiguous),
        (Reply::Reset, TableauError::Ambiguous),
        (text(200, "{}"), TableauError::WrongServer),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let stub = Stub::start(move |seen| match seen.target.as_str() {
            "/api/2.4/serverinfo" => server_info("3.27"),
            _ => reply.lock().unwrap().take().unwrap(),
        })
        .await;
        let got = client(&stub).projects().await.unwrap_err();
        assert_eq!(got, expected);
        assert!(!format!("{got} {got:?}").contains(CANARY));
    }
}
