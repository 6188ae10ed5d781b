//! Schedules that Tableau runs, through their whole life on both editions, by the simulator's log of what it was asked.

use crate::stage::{LIMIT, Setting, Stage, is, told};
use feedwater::api::{ExtractRefresh, TableauSite};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;
use world::tableau::{Config, Edition, Kind, TaskHabits, TaskTruth, Truth};

/// Everything that changes tasks or schedules.
const CHANGES: [&str; 9] = [
    "createExtractRefreshTask",
    "updateExtractRefreshTask",
    "deleteExtractRefreshTask",
    "runExtractRefreshTask",
    "createSchedule",
    "updateSchedule",
    "deleteSchedule",
    "addDatasourceToSchedule",
    "addWorkbookToSchedule",
];

async fn stage(name: &str, edition: Edition, tasks: TaskHabits) -> Stage {
    let tableau = Config { edition, tasks, ..Config::default() };
    let stage = Stage::set_with(name, Setting { tableau, ..Setting::default() }).await;
    let edition = if edition == Edition::Cloud { "Cloud" } else { "Server" };
    stage.change::<TableauSite>("acme", json!({"spec": {"edition": edition}})).await;
    stage.connected().await;
    stage
}

/// An extract without upstreams, with these schedules.
fn with(stage: &Stage, name: &str, schedules: &Value) -> Value {
    let mut extract = stage.extract_object(name, "Orders", &[]);
    extract["spec"]["schedules"] = schedules.clone();
    extract
}

fn nightly() -> Value {
    json!({"name": "nightly", "frequency": "Daily", "start": "02:00"})
}

fn weekly() -> Value {
    json!({"name": "weekly", "frequency": "Weekly", "start": "05:00", "weekDays": ["Sunday"], "refreshType": "Incremental"})
}

/// Waits until the tasks of a content are as wanted.
async fn tasks(stage: &Stage, luid: &str, what: &str, holds: impl Fn(&[&TaskTruth]) -> bool) {
    let found = |truth: &Truth| holds(&truth.tasks_of(luid));
    if let Err(truth) = stage.tableau.wait_for(LIMIT, found).await {
        panic!("{what}: {:#?}\noperator's log:\n{}", truth.tasks_of(luid), stage.log_tail());
    }
}

/// Waits until Tableau's clock shows that what was seen before is older than what starts now.
async fn passed(stage: &Stage, fence: Timestamp) {
    let info = format!("{}/api/2.4/serverinfo", stage.tableau.url());
    loop {
        let answer = reqwest::get(&info).await.unwrap();
        let date = answer.headers()["date"].to_str().unwrap();
        let now = Timestamp::strptime("%a, %d %b %Y %H:%M:%S %z", date.replace("GMT", "+0000")).unwrap();
        if now >= fence {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The calls that changed something, since the last look.
struct Changes(u64);

impl Changes {
    fn next(&mut self, stage: &Stage) -> Vec<&'static str> {
        let truth = stage.tableau.truth();
        let new: Vec<_> = truth.requests.iter().filter(|r| r.n > self.0 && r.status < 300).collect();
        self.0 = truth.requests.last().map_or(self.0, |last| last.n);
        new.into_iter().map(|r| r.operation).filter(|operation| CHANGES.contains(operation)).collect()
    }
}

fn in_sync(e: &ExtractRefresh, count: usize) -> bool {
    let status = e.status.as_ref();
    is(e, "Ready", "True", "InSync")
        && is(e, "Drifted", "False", "NoDrift")
        && status
            .is_some_and(|s| s.schedules.len() == count && s.schedules.iter().all(|s| s.definition.is_some()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_life_on_cloud() {
    let stage = stage("sched-cloud", Edition::Cloud, TaskHabits::default()).await;
    let luid = stage.datasource("Orders");
    let mut calls = Changes(0);

    stage.apply(&[with(&stage, "orders", &json!([nightly(), weekly()]))]).await;
    let made = stage.extract("orders", "both are there", |e| in_sync(e, 2)).await;
    assert_eq!(calls.next(&stage), ["createExtractRefreshTask"; 2]);
    let truth = stage.tableau.truth();
    let timings: Vec<_> = truth.tasks_of(&luid).iter().map(|t| (t.timing.clone(), t.kind)).collect();
    let days = "weekDay=Friday weekDay=Monday weekDay=Saturday weekDay=Sunday weekDay=Thursday weekDay=Tuesday weekDay=Wednesday";
    assert_eq!(
        timings,
        [
            (format!("Daily 02:00-02:00 hours=24 {days}"), Kind::Full),
            ("Weekly 05:00 weekDay=Sunday".into(), Kind::Incremental)
        ],
        "Daily always with hours: without, Cloud runs it every hour"
    );
    let status = made.status.unwrap();
    let ids: Vec<_> = status.schedules.iter().map(|s| s.task_id.clone().unwrap()).collect();
    assert_eq!(ids, truth.tasks_of(&luid).iter().map(|t| t.id.clone()).collect::<Vec<_>>());
    assert_eq!(status.schedules[0].next_run_at.map(|at| at.0), truth.tasks_of(&luid)[0].next_run_at);

    // Edited in Git.
    let mut later = nightly();
    later["start"] = json!("03:00");
    stage.apply(&[with(&stage, "orders", &json!([later, weekly()]))]).await;
    tasks(&stage, &luid, "the edit", |t| t[0].timing.starts_with("Daily 03:00")).await;
    stage.extract("orders", "in sync after the edit", |e| in_sync(e, 2)).await;
    assert_eq!(calls.next(&stage), ["updateExtractRefreshTask"]);

    // Changed and deleted by hand.
    let monthly = json!({"frequency": "Monthly", "frequencyDetails": {"start": "05:00:00", "intervals": {"interval": [{"monthDay": "1"}]}}});
    stage.tableau.change_task(&ids[0], &monthly);
    tasks(&stage, &luid, "the drift is put right", |t| t[0].timing.starts_with("Daily 03:00")).await;
    stage
        .extract("orders", "the drift is told", |e| e.status.as_ref().is_some_and(|s| s.last_drift.is_some()))
        .await;
    assert_eq!(calls.next(&stage), ["updateExtractRefreshTask"]);
    // Without its hours Cloud would run it every hour.
    let week = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let days: Vec<_> = week.iter().map(|day| json!({"weekDay": day})).collect();
    let trap = json!({"frequency": "Daily", "frequencyDetails": {"start": "03:00:00", "intervals": {"interval": days}}});
    stage.tableau.change_task(&ids[0], &trap);
    tasks(&stage, &luid, "the trap is put right", |t| t[0].timing.contains("hours=24")).await;
    stage.extract("orders", "in sync after the trap", |e| in_sync(e, 2)).await;
    assert_eq!(calls.next(&stage), ["updateExtractRefreshTask"]);
    // Kept from the account for a while: neither made again nor forgotten.
    stage.tableau.set_leads(&luid, false);
    let kept = stage.extract("orders", "kept from us", |e| is(e, "Ready", "False", "PermissionDenied")).await;
    assert!(told(&kept, "Ready").contains("`nightly`"), "{}", told(&kept, "Ready"));
    stage.tableau.set_leads(&luid, true);
    let shown = stage.extract("orders", "shown again", |e| in_sync(e, 2)).await.status.unwrap();
    assert_eq!(shown.schedules.iter().map(|s| s.task_id.clone().unwrap()).collect::<Vec<_>>(), ids);
    assert_eq!(calls.next(&stage), [""; 0]);
    stage.tableau.remove_task(&ids[1]);
    tasks(&stage, &luid, "it is made again", |t| t.len() == 2).await;
    stage.extract("orders", "in sync again", |e| in_sync(e, 2)).await;
    assert_eq!(calls.next(&stage), ["createExtractRefreshTask"]);

    // What the site cannot run is refused, and what was there goes on.
    let mut odd = nightly();
    odd["start"] = json!("02:32");
    stage.apply(&[with(&stage, "orders", &json!([odd, weekly()]))]).await;
    let refused =
        stage.extract("orders", "refused", |e| is(e, "Ready", "False", "ScheduleNotExpressible")).await;
    assert!(told(&refused, "Ready").contains("02:30"), "{}", told(&refused, "Ready"));
    assert!(is(&refused, "Stalled", "True", "ScheduleNotExpressible"));

    // Somebody else declares the same extract.
    stage.apply(&[with(&stage, "rival", &json!([nightly()]))]).await;
    stage.extract("rival", "a conflict", |e| is(e, "Ready", "False", "TargetConflict")).await;
    stage.delete::<ExtractRefresh>("rival").await;
    assert_eq!(calls.next(&stage), [""; 0], "neither changes anything");

    // Removed from Git, one and then all.
    stage.apply(&[with(&stage, "orders", &json!([weekly()]))]).await;
    stage.extract("orders", "one is left", |e| in_sync(e, 1)).await;
    assert_eq!(calls.next(&stage), ["deleteExtractRefreshTask"]);
    stage.delete::<ExtractRefresh>("orders").await;
    assert_eq!(calls.next(&stage), ["deleteExtractRefreshTask"]);
    assert!(stage.tableau.truth().tasks.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_life_on_a_server() {
    let stage = stage("sched-server", Edition::Server, TaskHabits::default()).await;
    let luid = stage.datasource("Orders");
    let mut calls = Changes(0);
    let shared = json!({"name": "shared", "serverSchedule": "Nightly"});
    let nightly_by_hand =
        json!({"frequency": "Daily", "frequencyDetails": {"start": "01:00:00", "intervals": {}}});

    // Without the right to make one.
    stage.tableau.set_server_admin(false);
    stage.apply(&[with(&stage, "orders", &json!([weekly()]))]).await;
    let lacks =
        stage.extract("orders", "no right", |e| is(e, "Ready", "False", "ServerSchedulePermission")).await;
    assert!(told(&lacks, "Ready").contains("administrator"), "{}", told(&lacks, "Ready"));
    assert_eq!(calls.next(&stage), [""; 0]);
    stage.tableau.set_server_admin(true);
    stage.extract("orders", "made once it may be", |e| in_sync(e, 1)).await;
    assert_eq!(calls.next(&stage), ["createSchedule", "addDatasourceToSchedule"]);
    assert_eq!(stage.tableau.truth().schedules[0].0, "feedwater Weekly 05:00 on Sunday");

    // One that administrators make is found by its name, and never made.
    stage.apply(&[with(&stage, "orders", &json!([weekly(), shared]))]).await;
    let missing =
        stage.extract("orders", "not there", |e| is(e, "Ready", "False", "ScheduleNotExpressible")).await;
    assert!(told(&missing, "Ready").contains("`Nightly`"), "{}", told(&missing, "Ready"));
    stage.tableau.add_schedule("Nightly", &nightly_by_hand);
    stage.extract("orders", "both", |e| in_sync(e, 2)).await;
    assert_eq!(calls.next(&stage), ["addDatasourceToSchedule"]);

    // A second extract of the same definition uses the same schedule.
    let mut other = stage.extract_object("other", "Other", &[]);
    other["spec"]["schedules"] = json!([weekly()]);
    stage.datasource("Other");
    stage.apply(&[other]).await;
    stage.extract("other", "it too", |e| in_sync(e, 1)).await;
    assert_eq!(calls.next(&stage), ["addDatasourceToSchedule"]);

    // An edit leaves the shared one to who uses it.
    let mut later = weekly();
    later["start"] = json!("06:00");
    stage.apply(&[with(&stage, "orders", &json!([later, shared]))]).await;
    tasks(&stage, &luid, "the edit", |t| {
        t.len() == 2 && t.iter().any(|t| t.schedule.as_deref() == Some("feedwater Weekly 06:00 on Sunday"))
    })
    .await;
    stage.extract("orders", "in sync after the edit", |e| in_sync(e, 2)).await;
    // What there is goes on until it can be replaced.
    assert_eq!(calls.next(&stage), ["createSchedule", "deleteExtractRefreshTask", "addDatasourceToSchedule"]);
    stage.tableau.set_server_admin(false);
    let mut without = later.clone();
    without["start"] = json!("07:00");
    stage.apply(&[with(&stage, "orders", &json!([without, shared]))]).await;
    let lacks =
        stage.extract("orders", "no right", |e| is(e, "Ready", "False", "ServerSchedulePermission")).await;
    let message = told(&lacks, "Ready");
    assert!(message.contains("`feedwater Weekly 07:00 on Sunday` (Weekly 07:00 on Sunday)"), "{message}");
    stage.apply(&[with(&stage, "orders", &json!([later, shared]))]).await;
    stage.extract("orders", "in sync again", |e| in_sync(e, 2)).await;
    assert_eq!(calls.next(&stage), [""; 0]);
    stage.tableau.set_server_admin(true);

    // An administrator suspends one, of ours and of others.
    stage.tableau.suspend_schedule("feedwater Weekly 06:00 on Sunday", true);
    stage.extract("orders", "ours is suspended", |e| is(e, "Drifted", "True", "DriftDetected")).await;
    stage.tableau.suspend_schedule("feedwater Weekly 06:00 on Sunday", false);
    stage.extract("orders", "ours is resumed", |e| in_sync(e, 2)).await;
    assert_eq!(calls.next(&stage), [""; 0], "and not got round");
    stage.tableau.suspend_schedule("Nightly", true);
    let suspended = stage.extract("orders", "suspended", |e| is(e, "Drifted", "True", "DriftDetected")).await;
    assert!(told(&suspended, "Drifted").contains("administrator"), "{}", told(&suspended, "Drifted"));
    stage.tableau.suspend_schedule("Nightly", false);
    stage.extract("orders", "resumed", |e| in_sync(e, 2)).await;

    let truth = stage.tableau.truth();
    assert!(
        !truth.requests.iter().any(|r| r.status == 409),
        "a schedule that was just made is not made again"
    );
    stage.delete::<ExtractRefresh>("orders").await;
    assert_eq!(calls.next(&stage), ["deleteExtractRefreshTask"; 2]);
    let left: Vec<_> = stage.tableau.truth().schedules.into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["feedwater Weekly 05:00 on Sunday", "Nightly", "feedwater Weekly 06:00 on Sunday"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_tell_the_first_monday_is_taken_at_the_name() {
    let stage = stage("sched-customized", Edition::Server, TaskHabits::other()).await;
    stage.datasource("Orders");
    let mut calls = Changes(0);
    let first = json!({"name": "first", "frequency": "Monthly", "start": "05:00", "monthDays": ["First"], "weekDays": ["Monday"]});
    stage.apply(&[with(&stage, "orders", &json!([first]))]).await;
    stage.extract("orders", "in sync", |e| in_sync(e, 1)).await;
    assert_eq!(calls.next(&stage), ["createSchedule", "addDatasourceToSchedule"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_made_is_reported_adopted_and_removed_whatever_tableaus_habits() {
    for (name, habits) in [("sched-one", TaskHabits::default()), ("sched-other", TaskHabits::other())] {
        let stage = stage(name, Edition::Cloud, habits).await;
        let luid = stage.datasource("Orders");
        let by_hand = json!({"frequency": "Weekly", "frequencyDetails": {"start": "05:00:00", "intervals": {"interval": [{"weekDay": "Sunday"}]}}});
        let theirs = stage.tableau.add_task(&luid, Kind::Incremental, &by_hand);
        stage.tableau.add_task(&luid, Kind::Full, &by_hand);
        let mut calls = Changes(0);

        stage.apply(&[with(&stage, "orders", &json!([weekly()]))]).await;
        let fails = stage
            .extract("orders", "a person decides", |e| is(e, "Ready", "False", "AdoptionRequired"))
            .await;
        assert_eq!(fails.status.unwrap().foreign_schedules.len(), 2);
        stage.change::<ExtractRefresh>("orders", json!({"spec": {"adoptionPolicy": "Adopt"}})).await;
        let adopted = stage.extract("orders", "adopted", |e| in_sync(e, 1)).await.status.unwrap();
        assert_eq!(adopted.schedules[0].task_id.as_deref(), Some(theirs.as_str()));
        assert_eq!(adopted.foreign_schedules.len(), 1);
        assert_eq!(calls.next(&stage), [""; 0], "nothing is written to adopt");

        stage
            .change::<ExtractRefresh>(
                "orders",
                json!({"spec": {"managementPolicy": "Observe", "foreignSchedules": "Remove"}}),
            )
            .await;
        let plan = stage
            .extract("orders", "a plan", |e| is(e, "Ready", "True", "Observing"))
            .await
            .status
            .unwrap()
            .plan;
        assert_eq!(plan, ["delete foreign schedule: Weekly 05:00 on Sunday, Full"]);
        assert_eq!(calls.next(&stage), [""; 0]);
        stage.change::<ExtractRefresh>("orders", json!({"spec": {"managementPolicy": null}})).await;
        tasks(&stage, &luid, "the other is removed", |t| t.len() == 1).await;
        stage
            .extract("orders", "in sync", |e| {
                in_sync(e, 1) && e.status.as_ref().unwrap().foreign_schedules.is_empty()
            })
            .await;
        assert_eq!(calls.next(&stage), ["deleteExtractRefreshTask"]);

        // Incremental by either of Tableau's words; dates with either offset; a creation by either status.
        stage.apply(&[with(&stage, "orders", &json!([weekly(), nightly(), {"name": "more", "frequency": "Weekly", "start": "06:00", "weekDays": ["Monday"], "refreshType": "Incremental"}]))]).await;
        stage.extract("orders", "three", |e| in_sync(e, 3)).await;
        assert_eq!(calls.next(&stage), ["createExtractRefreshTask"; 2]);

        // Suspended after failures: told, or made again.
        stage.tableau.suspend_task(&theirs, 5);
        stage.extract("orders", "suspended", |e| is(e, "Drifted", "True", "DriftDetected")).await;
        assert_eq!(calls.next(&stage), [""; 0]);
        stage.change::<ExtractRefresh>("orders", json!({"spec": {"suspendedSchedules": "Recreate"}})).await;
        stage.extract("orders", "made again", |e| in_sync(e, 3)).await;
        assert_eq!(calls.next(&stage), ["deleteExtractRefreshTask", "createExtractRefreshTask"]);

        // Left behind on purpose.
        stage.change::<ExtractRefresh>("orders", json!({"spec": {"deletionPolicy": "Orphan"}})).await;
        stage.extract("orders", "seen", |e| in_sync(e, 3)).await;
        stage.delete::<ExtractRefresh>("orders").await;
        assert_eq!((calls.next(&stage).len(), stage.tableau.truth().tasks_of(&luid).len()), (0, 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_answer_was_lost_with_the_process_is_not_made_twice() {
    let mut stage = stage("sched-lost", Edition::Cloud, TaskHabits::default()).await;
    let luid = stage.datasource("Orders");
    let hold = stage.tableau.hold_task_answer(&luid);
    stage.apply(&[with(&stage, "orders", &json!([nightly()]))]).await;
    tokio::time::timeout(LIMIT, hold.taken()).await.expect("no task is made");
    stage.operator.kill().await;
    drop(hold);
    stage.operator.restart().await.unwrap();
    let there = stage.extract("orders", "found", |e| in_sync(e, 1)).await.status.unwrap();
    let truth = stage.tableau.truth();
    assert_eq!((truth.count("createExtractRefreshTask"), truth.tasks_of(&luid).len()), (1, 1));
    assert_eq!(there.schedules[0].task_id.as_deref(), Some(truth.tasks_of(&luid)[0].id.as_str()));
}

/// A trigger that a window holds, and a schedule that runs meanwhile: what it contains is not done again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_native_run_that_contains_what_is_owed_is_not_repeated() {
    let stage = stage("sched-native", Edition::Cloud, TaskHabits::default()).await;
    let luid = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    let mut extract = stage.extract_object("orders", "Orders", &["orders"]);
    extract["spec"]["schedules"] = json!([nightly()]);
    extract["spec"]["refreshWindows"] =
        json!([{"name": "closed", "policy": "Deny", "schedule": "* * * * *", "duration": "168h"}]);
    stage.apply(&[extract]).await;
    stage
        .extract("orders", "in sync", |e| in_sync(e, 1) && e.status.as_ref().unwrap().baseline.is_some())
        .await;
    stage.prefect.complete(&flow).await.unwrap();
    let held = stage.extract("orders", "held", |e| is(e, "Refreshing", "False", "HeldByWindow")).await;
    let status = held.status.unwrap();
    let task = status.schedules[0].task_id.clone().unwrap();
    // What has waited for ten seconds is not started without a look at what others did meanwhile; one of the last half minute does, and there is one
    // when it is held.
    let formed = status.owed.as_ref().unwrap().formed_at.0;
    let fence = status.owed.unwrap().occasions[0].occasion.fence.unwrap().0;
    passed(&stage, fence.max(formed + jiff::SignedDuration::from_secs(35))).await;

    stage.tableau.tick(&task);
    stage.refreshes(&luid, 1).await;
    let job = stage.tableau.truth().refreshes_of(&luid)[0].job.clone();
    stage.ended(&job).await;
    stage.change::<ExtractRefresh>("orders", json!({"spec": {"refreshWindows": []}})).await;
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!((stage.refreshed(&luid), stage.ours(&luid)), (1, 0));
    assert_eq!(history[0].origin, Some(feedwater::api::JobOrigin::Adopted));
}
