//! Tableau's REST API: what becomes of every answer. What is sent, is in `tableau_requests.http`.

use crate::prefect::CANARY;
use crate::stub::{Reply, Seen, Stub, json, text};
use feedwater::api::{RefreshType, TargetKind};
use feedwater::model::ids::{JobId, Luid, ProjectId};
use feedwater::tableau::{
    Content, Credential, JobStatus, Questions, RefreshError, Tableau, TableauClient, TableauError,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(3);

pub fn client(stub: &Stub) -> TableauClient {
    client_while(stub, Arc::new(true.into()))
}

/// A client of a process that leads while `leads` says so.
pub fn client_while(stub: &Stub, leads: Arc<AtomicBool>) -> TableauClient {
    let credential =
        Credential::PersonalAccessToken { name: format!("{CANARY}-name").into(), secret: CANARY.into() };
    TableauClient::new(
        stub.http("tableau", ""),
        "bi",
        credential,
        Arc::new(move || leads.load(Ordering::SeqCst)),
    )
}

pub fn server_info(version: &str) -> Reply {
    let product = json!({"value": "2025.3.0", "build": "20254.25.1215.1100"});
    json(200, &json!({"serverInfo": {"productVersion": product, "restApiVersion": version}}))
}

pub fn signed_in(token: &str) -> Reply {
    let site = json!({"id": "site-1", "contentUrl": "bi"});
    json(
        200,
        &json!({"credentials": {"site": site, "user": {"id": "u"}, "token": token,
        "estimatedTimeToExpiration": "177:05:38"}}),
    )
}

pub fn error(status: u16, code: &str) -> Reply {
    json(status, &json!({"error": {"summary": CANARY, "detail": CANARY, "code": code}}))
}

/// A server that lets everybody in and answers the rest by a script.
pub async fn site(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Stub {
    Stub::start(move |seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.30"),
        "/api/3.27/auth/signin" => signed_in(&format!("{CANARY}-token")),
        _ => script(seen),
    })
    .await
}

fn pagination(size: usize, total: usize) -> Value {
    json!({"pageNumber": "1", "pageSize": size.to_string(), "totalAvailable": total.to_string()})
}

#[tokio::test]
async fn each_answer_is_read_as_the_reference_says() {
    let stub = site(|seen| {
        let datasource = json!({"id": "l1", "name": "Sales & more", "hasExtracts": "true", "tags": {},
            "project": {"id": "p2", "name": "Finance"}});
        let path = seen.target.split('?').next().unwrap().trim_start_matches("/api/3.27/sites/site-1/");
        match (seen.method.as_str(), path) {
            ("GET", "projects") => json(
                200,
                &json!({"pagination": pagination(1000, 2), "projects": {"project": [
                {"id": "p1", "name": "Finance"}, {"id": "p2", "name": "Sub", "parentProjectId": "p1"}]}}),
            ),
            ("GET", "workbooks") => json(200, &json!({"pagination": pagination(1000, 0), "workbooks": {}})),
            ("GET", "datasources/l1") => json(200, &json!({"datasource": datasource})),
            ("GET", "jobs") => json(
                200,
                &json!({"pagination": pagination(1000, 1), "backgroundJobs": {
                "backgroundJob": {"id": "j1", "status": "InProgress", "createdAt": "2026-11-24T10:00:00Z",
                    "startedAt": "2026-11-24T10:00:05Z", "priority": "50", "jobType": "increment_extracts",
                    "title": "Sales"}}}),
            ),
            ("GET", "jobs/j1") => json(
                200,
                &json!({"job": {"id": "j1", "type": "RefreshExtract", "progress": "100",
                "finishCode": "0", "createdAt": "2026-11-24T10:00:00Z", "startedAt": "2026-11-24T10:00:05Z",
                "completedAt": "2026-11-24T03:01:00-0700",
                "extractRefreshJob": {"notes": CANARY, "workbook": {"id": "l2", "name": "W"}}}}),
            ),
            ("POST", _) => json(202, &json!({"job": {"id": "j1"}})),
            ("PUT", _) => text(200, "{}"),
            other => panic!("{other:?}"),
        }
    })
    .await;
    let client = client(&stub);

    let site = client.site().await.unwrap();
    assert_eq!((site.luid.as_str(), site.rest_api_version.as_str()), ("site-1", "3.27"));
    let projects = client.projects().await.unwrap();
    assert_eq!(projects[1].parent.as_ref().map(ProjectId::as_str), Some("p1"));
    assert_eq!(client.contents(TargetKind::Workbook, &["A b".into(), "Ü".into()]).await.unwrap(), []);
    let content = client.content(TargetKind::Datasource, &"l1".into()).await.unwrap();
    assert_eq!(
        content,
        Some(Content {
            luid: "l1".into(),
            kind: TargetKind::Datasource,
            name: "Sales & more".into(),
            project: Some("p2".into()),
            has_extracts: Some(true),
            web_url: None,
        })
    );
    let jobs = client.jobs("2026-11-24T09:59:59.9Z".parse().unwrap(), &Questions::default()).await.unwrap();
    assert_eq!(
        (jobs[0].status, jobs[0].refresh_type),
        (JobStatus::InProgress, Some(RefreshType::Incremental))
    );
    assert_eq!((jobs[0].title.as_deref(), jobs[0].ended_at), (Some("Sales"), None));
    let job = client.job(&"j1".into()).await.unwrap().job.unwrap();
    assert_eq!(
        (job.status, job.content, job.completed_at),
        (JobStatus::Success, Some("l2".into()), Some("2026-11-24T10:01:00Z".parse().unwrap()))
    );
    for (kind, refresh_type) in
        [(TargetKind::Datasource, RefreshType::Full), (TargetKind::Workbook, RefreshType::Incremental)]
    {
        assert_eq!(client.refresh(kind, &"l1".into(), refresh_type, DEADLINE).await.unwrap().as_str(), "j1");
    }
    client.cancel(&"j1".into()).await.unwrap();

    assert!(!format!("{client:?}").contains(CANARY));
}

#[tokio::test]
async fn every_status_is_one_decision() {
    for (reply, expected) in [
        (error(403, "403004"), TableauError::Forbidden("403004".into())),
        (error(404, "404003"), TableauError::NotFound("404003".into())),
        (text(404, "<html>"), TableauError::NotFound("404".into())),
        (
            error(429, "429000").with("retry-after", "9"),
            TableauError::Throttled { retry_after: Some(Duration::from_secs(9)) },
        ),
        (error(400, "400006"), TableauError::Rejected("400006".into())),
        (json(400, &json!({"error": {"code": CANARY}})), TableauError::Rejected("400".into())),
        (text(302, "").with("location", "/x"), TableauError::Rejected("302".into())),
        (error(500, "500000"), TableauError::Ambiguous),
        (text(502, "<html>"), TableauError::Ambiguous),
        (Reply::Reset, TableauError::Ambiguous),
        (text(200, "<html>"), TableauError::WrongServer),
    ] {
        let stub = once(reply).await;
        let got = client(&stub).projects().await.unwrap_err();
        assert_eq!(got, expected);
        assert!(!format!("{got} {got:?}").contains(CANARY));
    }
}

/// A site with one answer for everything but signing in.
async fn once(reply: Reply) -> Stub {
    let reply = std::sync::Mutex::new(Some(reply));
    site(move |_| reply.lock().unwrap().take().unwrap_or_else(|| text(500, ""))).await
}

#[tokio::test]
async fn every_answer_to_a_refresh_is_one_decision_and_it_is_sent_once() {
    for (reply, expected) in [
        (error(409, "409093"), RefreshError::AlreadyQueued),
        (error(409, "409090"), RefreshError::NoExtract),
        (error(400, "409090"), RefreshError::NoExtract),
        (error(409, "409004"), RefreshError::Rejected("409004".into())),
        (error(403, "403004"), RefreshError::Forbidden("403004".into())),
        (error(404, "404004"), RefreshError::NotFound("404004".into())),
        (error(429, "429000"), RefreshError::Throttled { retry_after: None }),
        (error(400, "400000"), RefreshError::Rejected("400000".into())),
        (error(500, "500000"), RefreshError::Ambiguous),
        (error(503, "409093"), RefreshError::Ambiguous),
        (text(502, "<html>"), RefreshError::Ambiguous),
        (text(202, "{}"), RefreshError::Ambiguous),
        // No status can keep such an id.
        (json(202, &json!({"job": {"id": "j".repeat(65)}})), RefreshError::Ambiguous),
        (json(202, &json!({"job": {"id": ""}})), RefreshError::Ambiguous),
        (text(202, ""), RefreshError::Ambiguous),
        (Reply::Reset, RefreshError::Ambiguous),
    ] {
        let stub = once(reply).await;
        let result =
            client(&stub).refresh(TargetKind::Datasource, &"l".into(), RefreshType::Full, DEADLINE).await;
        assert_eq!(result, Err(expected));
        assert_eq!(stub.count("/refresh"), 1);
    }
}

#[tokio::test]
async fn a_refresh_that_is_not_answered_in_time_is_ambiguous() {
    let stub = once(Reply::Silence).await;
    let client = client(&stub);
    client.site().await.unwrap();
    let deadline = Duration::from_millis(200);
    let result = client.refresh(TargetKind::Workbook, &"l".into(), RefreshType::Full, deadline).await;
    assert_eq!(result, Err(RefreshError::Ambiguous));
    assert_eq!(stub.count("/refresh"), 1);
}

#[tokio::test]
async fn a_refresh_without_a_session_was_not_sent() {
    let stub = Stub::start(|seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.27"),
        _ => text(503, ""),
    })
    .await;
    let result = client(&stub).refresh(TargetKind::Workbook, &"l".into(), RefreshType::Full, DEADLINE).await;
    assert!(matches!(result, Err(RefreshError::NotSent(_))), "{result:?}");
    assert_eq!(stub.count("/refresh"), 0);
}

#[tokio::test]
async fn only_tableaus_own_404_of_the_thing_means_absent() {
    let (luid, job) = (Luid::from("l"), JobId::from("j"));
    for code in ["404004", "404006"] {
        let stub = once(error(404, code)).await;
        assert_eq!(client(&stub).content(TargetKind::Workbook, &luid).await, Ok(None));
    }
    for (status, code) in [(400, "400031"), (404, "404012")] {
        let stub = once(error(status, code)).await;
        assert_eq!(client(&stub).job(&job).await.unwrap().job, None);
    }
    for reply in [error(404, "404000"), error(404, "404001"), error(404, "404003"), text(404, "<html>")] {
        let stub = once(reply).await;
        let client = client(&stub);
        assert!(matches!(client.content(TargetKind::Workbook, &luid).await, Err(TableauError::NotFound(_))));
    }
    let stub = once(text(404, "<html>")).await;
    assert!(client(&stub).job(&job).await.is_err(), "a proxy says nothing about a job");
}

/// It is asked for JSON, and nothing else is read: neither what nests without end, nor XML, whose entities would unfold into gigabytes.
#[tokio::test]
async fn an_answer_of_tableau_that_nests_or_unfolds_without_end_is_refused() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let entity = |n: usize| format!(r#"<!ENTITY e{n} "{}">"#, format!("&e{};", n - 1).repeat(10));
    let entities = (1..20).map(entity).collect::<Vec<_>>().concat();
    let unfolds = format!(
        r#"<?xml version="1.0"?><!DOCTYPE tsResponse [<!ENTITY e0 "aaaaaaaaaa">{entities}]><tsResponse><error code="&e19;"><summary>&e19;</summary></error></tsResponse>"#
    );
    for body in [deep("[", "]"), deep(r#"{"projects":"#, "}"), deep("<tsResponse>", "</tsResponse>"), unfolds]
    {
        let begun = std::time::Instant::now();
        for status in [200, 400] {
            let reply = body.clone();
            let stub = site(move |_| text(status, &reply)).await;
            let client = client(&stub);
            let expected =
                if status == 200 { TableauError::WrongServer } else { TableauError::Rejected("400".into()) };
            assert_eq!(client.projects().await.err(), Some(expected.clone()));
            assert_eq!(
                client.jobs(jiff::Timestamp::UNIX_EPOCH, &Questions::default()).await.err(),
                Some(expected.clone())
            );
            assert_eq!(client.tasks().await.err(), Some(expected.clone()));
            assert_eq!(client.content(TargetKind::Workbook, &"l".into()).await.err(), Some(expected));
        }
        let reply = body.clone();
        let stub = site(move |_| text(202, &reply)).await;
        let refreshed =
            client(&stub).refresh(TargetKind::Workbook, &"l".into(), RefreshType::Full, DEADLINE).await;
        assert_eq!(refreshed, Err(RefreshError::Ambiguous));
        // Instead of the session, and of the version.
        let reply = body.clone();
        let stub = Stub::start(move |seen| match seen.target.as_str() {
            "/api/2.4/serverinfo" => server_info("3.27"),
            _ => text(200, &reply),
        })
        .await;
        assert_eq!(client(&stub).site().await.err(), Some(TableauError::WrongServer));
        let stub = Stub::start(move |_| text(200, &body)).await;
        assert_eq!(client(&stub).site().await.err(), Some(TableauError::WrongServer));
        assert!(begun.elapsed() < Duration::from_secs(20), "it takes {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_list_is_read_whole_and_again_when_it_shrinks_meanwhile() {
    // 5 rows at 2 a page; before the third page of the first reading the first row is deleted.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let stub = site(move |seen| {
        let nth = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let gone = usize::from(nth >= 2);
        let page: usize = seen.target.rsplit_once("pageNumber=").unwrap().1.parse().unwrap();
        let rows: Vec<_> = (gone..5)
            .skip(2 * (page - 1))
            .take(2)
            .map(|n| json!({"id": format!("p{n}"), "name": "n"}))
            .collect();
        json(200, &json!({"pagination": pagination(2, 5 - gone), "projects": {"project": rows}}))
    })
    .await;
    let ids: Vec<_> = client(&stub).projects().await.unwrap().into_iter().map(|p| p.id.to_string()).collect();
    assert_eq!(ids, ["p1", "p2", "p3", "p4"]);
    assert_eq!(stub.count("/projects"), 5, "three pages, then two");
}

#[tokio::test]
async fn names_are_matched_here_whatever_the_server_finds() {
    let stub = site(|_| {
        let row = |id: &str, name: &str| json!({"id": id, "name": name, "project": {"id": "p"}});
        let rows = [row("1", "Sales"), row("2", "sales"), row("3", "Sales, EMEA"), row("1", "Sales")];
        json(200, &json!({"pagination": pagination(1000, 4), "datasources": {"datasource": rows}}))
    })
    .await;
    let client = client(&stub);
    let found = |names: &'static [&str]| {
        let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
        let client = &client;
        async move {
            let found = client.contents(TargetKind::Datasource, &names).await.unwrap();
            found.into_iter().map(|c| c.luid.to_string()).collect::<Vec<_>>()
        }
    };
    assert_eq!(found(&["Sales"]).await, ["1"]);
    assert_eq!(found(&["Sales", "Sales, EMEA"]).await, ["1", "3"]);
    assert!(found(&[]).await.is_empty());
    assert_eq!(stub.count("/datasources"), 2);
    assert_eq!(stub.count("filter=name"), 1, "a comma cannot be in a filter: all are listed");
}

#[tokio::test]
async fn many_names_are_asked_for_in_urls_of_bounded_length() {
    let stub = site(|_| json(200, &json!({"pagination": pagination(1000, 0), "workbooks": {}}))).await;
    let names: Vec<_> = (0..200).map(|n| format!("Übersicht Nr {n}")).collect();
    client(&stub).contents(TargetKind::Workbook, &names).await.unwrap();
    let lists: Vec<_> = stub.seen().into_iter().filter(|s| s.target.contains("/workbooks")).collect();
    assert!(lists.len() > 1 && lists.iter().all(|s| s.target.len() < 1800), "{}", lists.len());
    let asked: String = lists.iter().map(|s| s.target.as_str()).collect();
    assert!((0..200).all(|n| asked.contains(&format!("Nr+{n}%"))));
}
