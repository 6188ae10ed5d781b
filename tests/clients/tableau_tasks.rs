//! Tasks over REST: one by its id, and the deadline of a creation.

use crate::stub::{Reply, Stub, json};
use crate::tableau::{client, error, server_info, signed_in, site};
use feedwater::api::{Edition, RefreshType, TableauSchedule, TargetKind};
use feedwater::model::timing::Timing;
use feedwater::tableau::{NewTask, Tableau, TableauError, TaskSchedule};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn daily() -> Value {
    let days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let mut intervals: Vec<_> = days.iter().map(|day| json!({"weekDay": day})).collect();
    intervals.push(json!({"hours": "24"}));
    let details = json!({"start": "02:00:00", "end": "02:00:00", "intervals": {"interval": intervals}});
    json!({"frequency": "Daily", "frequencyDetails": details})
}

fn timing() -> Timing {
    let declared: TableauSchedule =
        serde_json::from_value(json!({"name": "x", "frequency": "Daily", "start": "02:00"})).unwrap();
    Timing::declared(&declared, Edition::Cloud).unwrap()
}

fn new() -> NewTask {
    NewTask { kind: TargetKind::Datasource, luid: "l".into(), refresh_type: RefreshType::Incremental }
}

#[tokio::test]
async fn one_task_is_read_however_it_is_wrapped() {
    let bare = json!({"id": "t", "type": "RefreshExtractTask", "datasource": {"id": "l"}});
    let mut whole = bare.clone();
    whole["schedule"] = daily();
    for body in [
        json!({"task": {"extractRefresh": whole}}),
        json!({"extractRefresh": whole}),
        json!({"extractRefresh": bare, "schedule": daily()}),
    ] {
        let stub = site(move |_| json(200, &body)).await;
        let task = client(&stub).task(&"t".into()).await.unwrap().unwrap();
        assert_eq!((task.id.as_str(), task.content), ("t", Some("l".into())));
        assert_eq!(task.schedule, TaskSchedule::Own(Some(timing())));
        assert_eq!(stub.count("GET /api/3.27/sites/"), 1);
        assert_eq!(stub.count("/tasks/extractRefreshes/t"), 1);
    }
}

#[tokio::test]
async fn only_tableaus_own_404_of_a_task_means_that_it_is_gone() {
    let asked = |status, code| async move {
        let stub = site(move |_| error(status, code)).await;
        client(&stub).task(&"t".into()).await
    };
    assert_eq!(asked(404, "404018").await, Ok(None));
    assert_eq!(asked(404, "404000").await, Err(TableauError::NotFound("404000".into())));
    assert_eq!(asked(403, "403004").await, Err(TableauError::Forbidden("403004".into())));
    assert_eq!(asked(500, "500000").await, Err(TableauError::Ambiguous));
    let stub = site(|_| json(200, &json!({}))).await;
    assert_eq!(client(&stub).task(&"t".into()).await, Err(TableauError::WrongServer));
}

/// A site that answers creations, by their number, and signs in at once.
async fn creating(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Stub {
    let creations = AtomicUsize::new(0);
    Stub::start(move |seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.27"),
        "/api/3.27/auth/signin" => signed_in("t"),
        _ => reply(creations.fetch_add(1, Ordering::SeqCst)),
    })
    .await
}

#[tokio::test]
async fn a_creation_under_either_name_and_after_a_401_keeps_one_deadline() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let late = |reply| Reply::Late(DEADLINE * 3 / 4, Box::new(reply));
    // The first call is answered late; the second, under the other name or in a new session, never.
    let name = move |n| if n == 0 { late(error(400, "400000")) } else { Reply::Silence };
    let session = move |n| if n == 0 { late(error(401, "401002")) } else { Reply::Silence };
    let create = async |stub: Stub| {
        let client = client(&stub);
        client.site().await.unwrap();
        let began = std::time::Instant::now();
        let result = client.create_task(&new(), &timing(), DEADLINE).await;
        assert_eq!((result, stub.count("/tasks/extractRefreshes")), (Err(TableauError::Ambiguous), 2));
        assert!(began.elapsed() < DEADLINE * 3 / 2, "{:?}", began.elapsed());
    };
    tokio::join!(create(creating(name).await), create(creating(session).await));
}
