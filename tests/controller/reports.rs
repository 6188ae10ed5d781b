//! Refreshes shown in Prefect: each once, whatever happens, and never at the cost of a refresh.

use crate::remote::{Remote, Trouble};
use crate::world::{NAMESPACE, POLL, Process, World};
use feedwater::model::ids::Luid;
use feedwater::model::reports::Phase;
use feedwater::prefect::fake::ToldRun;
use feedwater::prefect::{PrefectError, Run, StateType};
use feedwater::tableau::JobStatus;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use world::resources::condition;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// What telling consists of.
const TELLING: [&str; 10] = [
    "find_run",
    "ensure_task_run",
    "ensure_run",
    "set_run_state",
    "log",
    "loggers",
    "has_artifact",
    "add_artifact",
    "assets_made_by",
    "emit",
];

async fn in_sync() -> (World, Luid, Process) {
    let world = World::new();
    let luid = world.with_orders();
    let operator = world.operator("one");
    world.settle().await;
    (world, luid, operator)
}

fn told(world: &World) -> Vec<ToldRun> {
    world.prefect.state().told.runs.clone()
}

/// Calls of telling since then.
fn telling(world: &World, since: usize) -> Vec<&'static str> {
    let log = world.troubles.log();
    log[since..].iter().map(|call| call.operation).filter(|operation| TELLING.contains(operation)).collect()
}

fn counted(operator: &Process) -> Vec<String> {
    let metrics = operator.metrics.encode().unwrap();
    let lines = metrics.lines().filter(|line| !line.ends_with(" 0"));
    let lines = lines.filter_map(|line| line.strip_prefix("feedwater_reports_total"));
    lines.map(str::to_owned).collect()
}

fn fresh(world: &World) -> bool {
    condition(&world.exr("orders"), "Fresh") == Some(("True", "UpToDate"))
}

/// The one run that was told of, whole, under the run that caused it.
fn shown_once(world: &World, cause: &Run, what: &str) -> ToldRun {
    let mut runs = told(world);
    assert_eq!(runs.len(), 1, "{what}: {runs:#?}");
    let run = runs.remove(0);
    assert_eq!(run.parent.as_ref(), Some(&cause.id), "{what}");
    assert_eq!(
        run.state_types(),
        [StateType::Pending, StateType::Running, StateType::Completed],
        "{what}: {run:#?}"
    );
    assert_eq!((run.artifacts.len(), world.prefect.state().told.assets.len()), (1, 1), "{what}");
    let loggers: Vec<_> = run.lines.iter().map(|line| line.logger).collect();
    let queued = "feedwater.queued";
    let each_once_in_order = [queued, queued, queued, "feedwater.running", "feedwater.ended"];
    assert_eq!(loggers, each_once_in_order, "{what}: {:#?}", run.lines);
    run
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_shown_under_the_run_that_caused_it() {
    let (world, _, operator) = in_sync().await;
    let before = world.troubles.log().len();
    let cause = world.complete("orders");
    world.prefect.state().told.made.insert(cause.id.clone(), vec!["postgres://prod/orders".into()]);
    world.settle().await;
    let run = shown_once(&world, &cause, "a refresh");
    assert_eq!(run.new.name, "Finance/orders");
    assert_eq!(run.new.labels["feedwater.dev/refresh"], json!("finance/orders"));
    let asset = world.prefect.state().told.assets[0].clone();
    assert_eq!(asset.event, "prefect.asset.materialization.succeeded");
    assert_eq!(asset.parents, ["postgres://prod/orders"]);
    assert!(asset.asset.starts_with("tableau://tableau.example/acme/datasources/"), "{asset:?}");
    assert_eq!(
        telling(&world, before),
        [
            "ensure_task_run",
            "ensure_run",
            "log",
            "set_run_state",
            "log",
            "set_run_state",
            "log",
            "has_artifact",
            "assets_made_by",
            "emit",
            "add_artifact"
        ]
    );
    assert_eq!(counted(&operator), [r#"{outcome="Shown"} 1"#]);

    // At rest nothing of it is left, and the next process finds that all is told.
    let (calls, writes) = (world.troubles.log().len(), world.troubles.writes());
    sleep(POLL * 2).await;
    assert_eq!(telling(&world, calls), [""; 0]);
    operator.terminate().await.unwrap();
    let _next = world.operator("two");
    sleep(POLL * 4).await;
    assert_eq!(telling(&world, calls), ["find_run", "has_artifact"]);
    assert_eq!(world.troubles.writes(), writes);
    shown_once(&world, &cause, "after a restart");
}

#[tokio::test(start_paused = true)]
async fn a_failed_try_and_its_retry_are_two_runs_under_the_same_one() {
    let (world, luid, _operator) = in_sync().await;
    world.engine.lock().unwrap().ends.push_back(JobStatus::Failed);
    let cause = world.complete("orders");
    world.until("the retry succeeds", |world| world.jobs_of(&luid) == 2 && fresh(world)).await;
    world.settle().await;
    let runs = told(&world);
    let ends: Vec<_> = runs.iter().map(|run| *run.state_types().last().unwrap()).collect();
    assert_eq!(ends, [StateType::Failed, StateType::Completed]);
    assert!(runs.iter().all(|run| run.parent.as_ref() == Some(&cause.id) && run.artifacts.len() == 1));
    let events: Vec<_> = world.prefect.state().told.assets.iter().map(|asset| asset.event).collect();
    assert_eq!(events, ["prefect.asset.materialization.failed", "prefect.asset.materialization.succeeded"]);
}

/// Time from a completion until the extract is fresh.
async fn takes(world: &World) -> Duration {
    let began = Instant::now();
    world.complete("orders");
    world.until("it is refreshed", |world| world.exr("orders")["status"]["history"][0].is_object()).await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_prefect_that_hangs_or_refuses_delays_no_refresh() {
    let (world, _, _operator) = in_sync().await;
    let usual = takes(&world).await;
    for trouble in [Trouble::Delay(HOUR), Trouble::DelayAnswer(HOUR), Trouble::Lose] {
        let (world, luid, operator) = in_sync().await;
        world.troubles.on_call(
            move |call| {
                if TELLING.contains(&call.operation) { trouble } else { Trouble::None }
            },
        );
        assert_eq!(takes(&world).await, usual, "{trouble:?}");
        // Nor does it keep a change of a deployment from being written for longer than one call may take.
        let began = Instant::now();
        let mut flow = world.flow_object("orders");
        flow["spec"]["description"] = json!("changed");
        world.server.put("flowdeployments", flow).unwrap();
        world
            .until("the change is written", |world| {
                let state = world.prefect.state();
                state.deployments.values().any(|d| d.fields.get("description") == Some(&json!("changed")))
            })
            .await;
        assert!(began.elapsed() < 15 * SECOND, "{trouble:?}: {:?}", began.elapsed());
        // It is not tried for ever, nor often.
        let calls = world.troubles.log().len();
        sleep(HOUR).await;
        assert!(telling(&world, calls).len() < 20, "{trouble:?}");
        assert_eq!(counted(&operator), [r#"{outcome="Expired"} 1"#], "{trouble:?}");
        assert_eq!(world.jobs_of(&luid), 1);
        let calls = world.troubles.log().len();
        sleep(HOUR).await;
        assert_eq!(telling(&world, calls), [""; 0], "{trouble:?}");
    }
}

/// Each call of telling, by how manieth it is of its kind.
const CALLS: [(&str, usize); 10] = [
    ("ensure_flow", 0),
    ("ensure_task_run", 0),
    ("ensure_run", 0),
    ("log", 0),
    ("set_run_state", 0),
    ("log", 1),
    ("set_run_state", 1),
    ("log", 2),
    ("emit", 0),
    ("add_artifact", 0),
];

/// The nth call of the first process to this operation fares so; what is given back says whether it was met.
fn trouble_at(
    world: &World,
    (operation, mut left): (&'static str, usize),
    trouble: Trouble,
) -> Arc<Mutex<bool>> {
    let met = Arc::new(Mutex::new(false));
    let meets = met.clone();
    world.troubles.on_call(move |call: &Remote| {
        if &*call.process != "one" || call.operation != operation || *meets.lock().unwrap() {
            return Trouble::None;
        }
        if left > 0 {
            left -= 1;
            return Trouble::None;
        }
        *meets.lock().unwrap() = true;
        trouble
    });
    met
}

/// At every call: it does not arrive, or its answer does not, and then the process dies.
#[tokio::test(start_paused = true)]
async fn a_crash_between_any_two_calls_makes_no_second_run_and_costs_no_line() {
    for call in CALLS {
        for trouble in [Trouble::Delay(HOUR), Trouble::DelayAnswer(HOUR)] {
            let what = format!("{call:?} {trouble:?}");
            let (world, luid, operator) = in_sync().await;
            let met = trouble_at(&world, call, trouble);
            let cause = world.complete("orders");
            world.until(&what, |_| *met.lock().unwrap()).await;
            sleep(SECOND / 5).await;
            operator.kill();
            let _next = world.operator("two");
            world.until(&what, fresh).await;
            world.settle().await;
            shown_once(&world, &cause, &what);
            assert_eq!(world.jobs_of(&luid), 1, "{what}");
        }
    }
}

/// The same without a crash: what Prefect has is read once, and nothing is told again that is there.
#[tokio::test(start_paused = true)]
async fn what_is_lost_on_the_way_is_told_again_and_what_only_its_answer_is_not() {
    for call in CALLS {
        for trouble in [Trouble::Lose, Trouble::LoseAnswer, Trouble::Delay(HOUR), Trouble::DelayAnswer(HOUR)]
        {
            let what = format!("{call:?} {trouble:?}");
            let (world, luid, operator) = in_sync().await;
            let before = world.troubles.log().len();
            let met = trouble_at(&world, call, trouble);
            let cause = world.complete("orders");
            world.until(&what, |_| *met.lock().unwrap()).await;
            world.until(&what, fresh).await;
            world.settle().await;
            shown_once(&world, &cause, &what);
            assert_eq!(
                (world.jobs_of(&luid), counted(&operator)),
                (1, vec![r#"{outcome="Shown"} 1"#.into()]),
                "{what}"
            );
            let read = telling(&world, before).iter().filter(|operation| **operation == "loggers").count();
            assert!(read <= 1, "{what}");
        }
    }
}

/// States are told while Prefect takes no lines, and those come in their order as soon as it does.
#[tokio::test(start_paused = true)]
async fn states_do_not_wait_for_log_lines() {
    let (world, _, _operator) = in_sync().await;
    // It has ended before lines have failed so often that the report goes on without them.
    world.engine.lock().unwrap().running = SECOND;
    let broken = Arc::new(Mutex::new(true));
    let breaks = broken.clone();
    world.troubles.on_call(move |call| {
        if call.operation == "log" && *breaks.lock().unwrap() { Trouble::Lose } else { Trouble::None }
    });
    let cause = world.complete("orders");
    let ended = |run: &ToldRun| run.state_types().last() == Some(&StateType::Completed);
    world.until("it is told that it has ended", |world| told(world).first().is_some_and(ended)).await;
    let run = &told(&world)[0];
    assert_eq!((run.lines.len(), run.artifacts.len()), (0, 0));
    *broken.lock().unwrap() = false;
    world.until("all of it is told", |world| told(world)[0].artifacts.len() == 1).await;
    shown_once(&world, &cause, "Prefect takes log lines again");
}

/// Nor does anything else wait for them for long, of this report or of one behind it; and none is told twice.
#[tokio::test(start_paused = true)]
async fn where_log_lines_fail_for_ever_reports_go_without_them() {
    // Of the kinds of calls that have to do with lines, the last time one can be used.
    for (trouble, failing) in
        [(Trouble::Lose, 2), (Trouble::Delay(HOUR), 2), (Trouble::LoseAnswer, 2), (Trouble::Lose, 1)]
    {
        let (world, _, operator) = in_sync().await;
        let broken = Arc::new(Mutex::new(true));
        let breaks = broken.clone();
        world.troubles.on_call(move |call| {
            let lines = ["log", "loggers"][..failing].contains(&call.operation);
            if lines && *breaks.lock().unwrap() { trouble } else { Trouble::None }
        });
        for (nth, most) in [(1, 200), (2, 60), (3, 60)] {
            world.complete("orders");
            let refreshed = |world: &World| {
                world.exr("orders")["status"]["history"].as_array().map(Vec::len) == Some(nth)
            };
            world.until("it is refreshed", refreshed).await;
            let began = Instant::now();
            let whole =
                |world: &World| told(world).iter().filter(|run| run.artifacts.len() == 1).count() == nth;
            world.until("it is told whole", whole).await;
            assert!(began.elapsed() < SECOND * most, "{trouble:?} {nth}: {:?}", began.elapsed());
        }
        assert!(told(&world).iter().all(|run| run.lines.len() <= 5), "{trouble:?}: {:#?}", told(&world));
        assert_eq!(counted(&operator), [r#"{outcome="Shown"} 3"#], "{trouble:?}");
        // They are told again when Prefect takes them again.
        *broken.lock().unwrap() = false;
        sleep(HOUR).await;
        world.complete("orders");
        world.until("it is told", |world| told(world).iter().any(|run| run.lines.len() == 5)).await;
    }
}

/// To slow down is asked of everything that is written there, and says nothing of log lines.
#[tokio::test(start_paused = true)]
async fn where_prefect_asks_to_slow_down_log_lines_are_told_when_it_says() {
    let (world, _, operator) = in_sync().await;
    for operation in ["log", "loggers", "loggers", "loggers", "loggers", "log"] {
        world.prefect.fail(operation, PrefectError::Throttled { retry_after: Some(SECOND * 20) });
    }
    let began = Instant::now();
    let cause = world.complete("orders");
    world.until("it is told", |world| told(world).first().is_some_and(|run| run.artifacts.len() == 1)).await;
    assert!(began.elapsed() < SECOND * 240, "{:?}", began.elapsed());
    sleep(SECOND).await;
    shown_once(&world, &cause, "Prefect takes more again");
    assert_eq!(counted(&operator), [r#"{outcome="Shown"} 1"#]);
}

/// As a proxy does while the server behind it is replaced.
#[tokio::test(start_paused = true)]
async fn what_is_not_prefect_for_a_moment_is_told_again() {
    for operation in ["ensure_run", "set_run_state", "log", "add_artifact"] {
        let (world, _, operator) = in_sync().await;
        world.prefect.fail(operation, PrefectError::WrongServer);
        let cause = world.complete("orders");
        let whole = |world: &World| told(world).first().is_some_and(|run| run.artifacts.len() == 1);
        world.until("it is told whole", whole).await;
        sleep(SECOND).await;
        shown_once(&world, &cause, operation);
        assert_eq!(counted(&operator), [r#"{outcome="Shown"} 1"#], "{operation}");
    }
}

/// A key that may write and not read: none twice, and the rest is told.
#[tokio::test(start_paused = true)]
async fn where_log_lines_may_not_be_read_none_is_sent_again() {
    let (world, _, operator) = in_sync().await;
    world.prefect.fail("loggers", PrefectError::Forbidden);
    let met = trouble_at(&world, ("log", 1), Trouble::DelayAnswer(HOUR));
    world.complete("orders");
    world.until("a line is on its way", |_| *met.lock().unwrap()).await;
    operator.kill();
    let next = world.operator("two");
    world.until("it is refreshed", fresh).await;
    world.settle().await;
    let run = &told(&world)[0];
    assert_eq!((run.lines.len(), run.artifacts.len()), (5, 1), "{run:#?}");
    assert_eq!(counted(&next), [r#"{outcome="Shown"} 1"#]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_may_not_write_is_not_tried_again_and_again() {
    let (world, _, operator) = in_sync().await;
    world.prefect.fail("ensure_flow", PrefectError::Forbidden);
    let before = world.prefect.operations().len();
    for _ in 0..3 {
        takes(&world).await;
        world.settle().await;
    }
    let asked = |world: &World| {
        let operations = world.prefect.operations();
        operations[before..].iter().filter(|operation| *operation == "ensure_flow").count()
    };
    assert_eq!((asked(&world), told(&world).len()), (1, 0));
    assert_eq!(counted(&operator), [r#"{outcome="Forbidden"} 3"#]);
    // Somebody gives the right: within an hour it is noticed.
    sleep(HOUR).await;
    world.complete("orders");
    world.settle().await;
    assert_eq!((asked(&world), told(&world).len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn where_it_is_not_wanted_nothing_is_told() {
    let (world, luid, operator) = in_sync().await;
    let mut workspace = world.server.object("prefectworkspaces", NAMESPACE, "prod").unwrap();
    workspace["spec"]["refreshReports"] = json!("Disabled");
    world.server.put("prefectworkspaces", workspace).unwrap();
    world.settle().await;
    let before = world.troubles.log().len();
    world.complete("orders");
    world.settle().await;
    assert_eq!((world.jobs_of(&luid), fresh(&world)), (1, true));
    assert_eq!(telling(&world, before), [""; 0]);
    assert!(world.prefect.state().flows.keys().all(|flow| flow != "tableau-extract-refresh"));
    assert_eq!(counted(&operator), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_somebody_deletes_is_let_be_and_one_whose_cause_is_deleted_stands_alone() {
    let (world, luid, operator) = in_sync().await;
    world.complete("orders");
    world.until("it is told of", |world| told(world).len() == 1).await;
    world.prefect.state().told.runs.clear();
    world.until("it is refreshed", fresh).await;
    world.settle().await;
    assert_eq!(told(&world).len(), 0, "it is not made again");
    assert_eq!(counted(&operator), [r#"{outcome="Refused"} 1"#]);

    world.troubles.on_call({
        let prefect = world.prefect.clone();
        move |call| {
            if call.operation == "ensure_task_run" {
                prefect.state().runs.clear();
            }
            Trouble::None
        }
    });
    world.complete("orders");
    world.until("a second refresh", |world| world.jobs_of(&luid) == 2).await;
    world.settle().await;
    let runs = told(&world);
    assert_eq!((runs.len(), runs[0].parent.as_ref(), runs[0].artifacts.len()), (1, None, 1));
}

#[tokio::test(start_paused = true)]
async fn the_report_of_a_refresh_whose_resource_is_deleted_does_not_run_for_ever() {
    let (world, _, _operator) = in_sync().await;
    world.engine.lock().unwrap().running = HOUR;
    world.complete("orders");
    let running = |run: &ToldRun| run.state_types().last() == Some(&StateType::Running);
    world.until("it is told that it runs", |world| told(world).first().is_some_and(running)).await;
    world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
    world
        .until("it is told that nobody follows it", |world| {
            told(world)[0].state_types().last() == Some(&StateType::Crashed)
        })
        .await;
    let phases: Vec<_> = told(&world)[0].state_types().into_iter().map(Phase::told).collect();
    assert_eq!(phases, [Phase::Queued, Phase::Running, Phase::Ended]);
    assert!(world.tableau.state().calls.iter().all(|call| !call.starts_with("cancel")), "the job goes on");
}

/// docs/trigger.md 2, with a gate that any upstream opens.
#[tokio::test(start_paused = true)]
async fn runs_that_report_refreshes_are_never_occasions() {
    let world = World::new();
    world.connections();
    let luid = world.publish("orders");
    // Somebody has deployed a flow of our name, and made it an upstream; another run carries our label.
    for flow in ["orders", "tableau-extract-refresh"] {
        world.server.put("flowdeployments", World::flow(flow)).unwrap();
    }
    let mut refresh = World::refresh("orders", &["orders", "tableau-extract-refresh"]);
    refresh["spec"]["trigger"] = json!({"require": "Any"});
    world.server.put("extractrefreshes", refresh).unwrap();
    let _operator = world.operator("one");
    world.settle().await;
    world.complete("tableau-extract-refresh");
    {
        let mut state = world.prefect.state();
        let deployment = state.deployments.values().find(|d| d.name == World::deployment("orders")).unwrap();
        let (id, now) = (deployment.id.clone(), world.now());
        let labelled = Run {
            id: "labelled".into(),
            name: "labelled".into(),
            flow: "flow-0".into(),
            deployment: Some(id),
            state: "state-labelled".into(),
            state_type: StateType::Completed,
            state_name: "Completed".into(),
            state_at: now,
            started_at: Some(now),
            ended_at: Some(now),
            parameters: feedwater::model::parameters::Parameters::default(),
            tags: Vec::new(),
            work_pool: None,
            reports_refresh: true,
        };
        state.runs.push(labelled);
    }
    // A real one comes later, and is the only cause.
    sleep(POLL * 2).await;
    let cause = world.complete("orders");
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 1);
    assert_eq!(world.exr("orders")["status"]["history"][0]["runs"], json!([cause.id.as_str()]));
    shown_once(&world, &cause, "the real one");
}
