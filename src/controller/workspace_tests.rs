//! A session with its observer on paused time, against the fake: what is seen, when, and at which cost.

use super::*;
use crate::api::{ExtractRefresh, FlowDeployment};
use crate::controller::wakes::Wakeups;
use crate::model::extract::Selection;
use crate::model::feeds::Selector;
use crate::model::ids::DeploymentId;
use crate::prefect::fake::FakePrefect;
use crate::prefect::{NewDeployment, StateType};
use kube::runtime::watcher::Event;
use serde_json::json;

#[path = "looking_back_tests.rs"]
mod looking_back;

const POLL: Duration = Duration::from_secs(30);

struct Rig {
    prefect: Arc<FakePrefect>,
    clock: Clock,
    index: Arc<Index>,
    session: Arc<WorkspaceSession>,
    wakeups: Wakeups,
    cursors: Arc<Mutex<Vec<jiff::Timestamp>>>,
}

fn name() -> DeploymentName {
    DeploymentName { flow: "orders".into(), deployment: "nightly".into() }
}

fn told(run: &str, deployment: Option<&DeploymentId>) -> Hint {
    let deployment = deployment.cloned();
    Hint::Run(RunEvent { run: run.into(), deployment, tags: Vec::new(), work_pool: None })
}

async fn deploy(prefect: &FakePrefect) {
    let flow = prefect.ensure_flow("orders").await.unwrap();
    let new = NewDeployment { name: "nightly".into(), fields: serde_json::Map::new().into() };
    prefect.create_deployment(&flow, &new).await.unwrap();
}

/// A workspace with one deployment that one extract is fed by.
async fn rig(gap: bool, before: impl AsyncFnOnce(&FakePrefect)) -> Rig {
    let clock = Clock::virtual_from("2026-11-24T10:00:00Z".parse().unwrap());
    let prefect = Arc::new(FakePrefect::new(clock.clone()));
    before(&prefect).await;
    prefect.state().calls.clear();
    let index = Arc::new(Index::default());
    let flow: FlowDeployment = serde_json::from_value(json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment",
        "metadata": {"name": "f", "namespace": "a", "uid": "1"},
        "spec": {"workspaceRef": {"name": "prod"}, "flowName": "orders", "deploymentName": "nightly",
                 "entrypoint": "x.py:x", "workPool": {"name": "etl"}}
    }))
    .unwrap();
    index.on_flow(&Event::Apply(flow));
    let extract: ExtractRefresh = serde_json::from_value(json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh",
        "metadata": {"name": "e", "namespace": "a", "uid": "2"},
        "spec": {"siteRef": {"name": "acme"}, "target": {"kind": "Datasource", "projectPath": "P", "name": "N"},
                 "upstreams": [{"name": "orders", "flowDeploymentRef": {"name": "f"}}]}
    }))
    .unwrap();
    index.on_refresh(&Event::Apply(extract));
    let users = Arc::new(Users::default());
    users.add(ObjectName { namespace: "a".into(), name: "prod".into() }, POLL);
    let (wakes, wakeups) = Wakes::new();
    let cursors: Arc<Mutex<Vec<jiff::Timestamp>>> = Arc::default();
    let told = cursors.clone();
    let session = WorkspaceSession::start(
        prefect.clone(),
        Setup {
            clock: clock.clone(),
            index: index.clone(),
            wakes,
            users,
            lane: Lane::adaptive(clock.clone()),
            written: Arc::default(),
            metrics: Arc::new(Metrics::default()),
            gap: Arc::new(move || gap),
            cursor: Arc::new(move |at, _| told.lock().unwrap().push(at)),
            connected: Arc::new(|_| {}),
        },
    );
    Rig { prefect, clock, index, session, wakeups, cursors }
}

impl Rig {
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
    fn occasions(&self) -> Vec<String> {
        let snapshot = self.session.snapshot();
        snapshot
            .runs
            .get(&Feed::Deployment(name()))
            .map_or_else(Vec::new, |runs| runs.occasions.iter().map(|seen| seen.run.to_string()).collect())
    }
    fn woken(&mut self) -> usize {
        std::iter::from_fn(|| self.wakeups.refreshes.try_recv().ok()).count()
    }
    fn reads(&self) -> usize {
        self.prefect.operations().iter().filter(|call| *call != "events").count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_completion_is_seen_at_once_by_its_event_and_within_the_interval_without_events() {
    let mut rig = rig(false, deploy).await;
    rig.pass(Duration::from_secs(1)).await;
    rig.woken();
    let run = rig.prefect.run(&name(), StateType::Completed);
    rig.pass(Duration::from_millis(200)).await;
    assert_eq!(rig.occasions(), [run.id.to_string()]);
    assert_eq!(rig.woken(), 1);

    rig.prefect.cut_events();
    rig.prefect.fail("events", PrefectError::Ambiguous);
    for _ in 0..20 {
        rig.prefect.fail("events", PrefectError::Ambiguous);
    }
    rig.pass(Duration::from_secs(5)).await;
    rig.woken();
    let later = rig.prefect.run(&name(), StateType::Completed);
    rig.pass(POLL + Duration::from_secs(1)).await;
    assert_eq!(rig.occasions(), [run.id.to_string(), later.id.to_string()]);
    assert_eq!(rig.woken(), 1);
}

fn selector(tags: &[&str], pool: Option<&str>) -> Feed {
    Feed::Runs(Selector::new(tags.iter().copied(), pool).unwrap())
}

impl Rig {
    /// An extract that is fed by runs, beside.
    fn selects(&self, name: &str, runs: &serde_json::Value) {
        let mut runs = runs.clone();
        runs["workspaceRef"] = json!({"name": "prod"});
        let parameters = runs.as_object_mut().unwrap().remove("parameters");
        let extract: ExtractRefresh = serde_json::from_value(json!({
            "apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh",
            "metadata": {"name": name, "namespace": "a", "uid": name},
            "spec": {"siteRef": {"name": "acme"}, "target": {"kind": "Datasource", "projectPath": "P", "name": "N"},
                     "upstreams": [{"name": "crm", "prefectRuns": runs, "parameters": parameters}]}
        }))
        .unwrap();
        self.index.on_refresh(&Event::Apply(extract));
        self.session.hint(Hint::Interest);
    }

    fn of(&self, feed: &Feed) -> Vec<String> {
        let snapshot = self.session.snapshot();
        let runs = snapshot.runs.get(feed).map(|runs| runs.occasions.clone()).unwrap_or_default();
        runs.iter().map(|seen| seen.run.to_string()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn runs_by_tag_are_seen_at_once_at_first_sight_and_by_the_sweep() {
    let mut rig = rig(false, deploy).await;
    // More than a day ago, behind more reports of refreshes than a page holds.
    let first = rig.prefect.run_of("a", &["crm", "x"], None, StateType::Completed);
    {
        let mut state = rig.prefect.state();
        let long_ago = state.runs[0].state_at - jiff::SignedDuration::from_hours(30);
        (state.runs[0].state_at, state.runs[0].ended_at) = (long_ago, Some(long_ago));
    }
    for _ in 0..250 {
        rig.prefect.run_of("a", &["crm"], None, StateType::Completed);
        rig.prefect.state().runs.last_mut().unwrap().reports_refresh = true;
    }
    let crashed = rig.prefect.run_of("b", &["crm"], None, StateType::Crashed);
    rig.selects("crm", &json!({"tags": ["crm"]}));
    rig.pass(Duration::from_secs(1)).await;
    let crm = selector(&["crm"], None);
    assert_eq!(rig.of(&crm), [first.id.to_string()], "the newest that counts");
    let newest = rig.session.snapshot().runs[&crm].newest_end(&Selection::default());
    assert_eq!(newest, Some((StateType::Crashed, crashed.id.clone())));

    rig.woken();
    let live = rig.prefect.run_of("c", &["y", "crm"], Some("etl"), StateType::Completed);
    rig.prefect.run_of("c", &["y"], Some("etl"), StateType::Completed);
    rig.pass(Duration::from_secs(1)).await;
    assert_eq!(rig.of(&crm), [first.id.to_string(), live.id.to_string()]);
    assert_eq!(rig.woken(), 1);
    // Forced without an event, long after its end.
    for _ in 0..200 {
        rig.prefect.fail("events", PrefectError::Ambiguous);
    }
    rig.prefect.cut_events();
    rig.pass(Duration::from_secs(3600)).await;
    rig.prefect.set_state(&crashed.id, StateType::Completed).unwrap();
    rig.pass(Duration::from_secs(700)).await;
    assert_eq!(rig.of(&crm).last(), Some(&crashed.id.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_told_to_every_feed_it_belongs_to() {
    let rig = rig(false, deploy).await;
    rig.selects("all", &json!({"workPool": "etl"}));
    rig.selects("both", &json!({"workPool": "etl", "tags": ["t"]}));
    rig.pass(Duration::from_secs(2)).await;
    let own = rig.prefect.run(&name(), StateType::Completed);
    {
        let mut state = rig.prefect.state();
        let run = state.runs.last_mut().unwrap();
        (run.tags, run.work_pool) = (vec!["t".into()], Some("etl".into()));
    }
    let other = rig.prefect.run_of("x", &[], Some("etl"), StateType::Completed);
    rig.pass(POLL * 2).await;
    assert_eq!(rig.occasions(), [own.id.to_string()]);
    assert_eq!(rig.of(&selector(&["t"], Some("etl"))), [own.id.to_string()]);
    assert_eq!(rig.of(&selector(&[], Some("etl"))), [own.id.to_string(), other.id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn rows_of_which_the_flow_cannot_be_found_out_are_read_again() {
    let rig = rig(false, deploy).await;
    rig.selects("crm", &json!({"tags": ["crm"]}));
    rig.pass(Duration::from_secs(2)).await;
    for _ in 0..3 {
        rig.prefect.fail("flow", PrefectError::Unavailable);
    }
    let run = rig.prefect.run_of("new", &["crm"], None, StateType::Completed);
    rig.pass(Duration::from_secs(2)).await;
    let crm = selector(&["crm"], None);
    assert_eq!(rig.of(&crm), Vec::<String>::new(), "it may be a report");
    rig.pass(Duration::from_secs(600)).await;
    assert_eq!(rig.of(&crm), [run.id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn what_was_found_before_a_failure_is_looked_for_again() {
    let rig = rig(true, async |prefect| {
        deploy(prefect).await;
        prefect.run(&name(), StateType::Completed);
        let mut state = prefect.state();
        let long_ago = state.runs[0].state_at - jiff::SignedDuration::from_hours(48);
        (state.runs[0].state_at, state.runs[0].ended_at) = (long_ago, Some(long_ago));
    })
    .await;
    // Its flow is not known, and finding it out fails once.
    rig.prefect.run_of("new", &["crm"], None, StateType::Crashed);
    rig.prefect.fail("flow", PrefectError::Unavailable);
    rig.selects("crm", &json!({"tags": ["crm"]}));
    rig.pass(POLL * 3).await;
    assert_eq!(rig.occasions().len(), 1, "completed before the last day");
}

#[tokio::test(start_paused = true)]
async fn many_selectors_cost_one_question_a_poll() {
    let rig = rig(false, deploy).await;
    for n in 0..50 {
        rig.selects(&format!("e{n}"), &json!({"tags": [format!("tag-{n}"), "prod"]}));
    }
    rig.pass(POLL * 2).await;
    let before = rig.reads();
    rig.pass(POLL * 10).await;
    assert!(rig.reads() - before <= 10 * 4, "{}", rig.reads() - before);
}

#[tokio::test(start_paused = true)]
async fn at_rest_a_cycle_costs_three_calls_and_wakes_nobody() {
    let mut rig = rig(false, deploy).await;
    rig.prefect.run(&name(), StateType::Completed);
    rig.pass(POLL * 3).await;
    rig.woken();
    let (before, at) = (rig.reads(), rig.clock.now());
    rig.pass(POLL * 10).await;
    let cycles = 10;
    assert!(rig.reads() - before <= cycles * 3, "{} calls since {at}", rig.reads() - before);
    assert_eq!(rig.woken(), 0);
}

#[tokio::test(start_paused = true)]
async fn more_rows_than_a_page_in_one_end_time_are_all_seen() {
    let rig = rig(false, async |prefect| {
        deploy(prefect).await;
        // Time stands still here: all of these end in the same moment.
        for _ in 0..450 {
            prefect.run(&name(), StateType::Completed);
        }
    })
    .await;
    rig.pass(Duration::from_secs(1)).await;
    assert_eq!(rig.occasions().len(), 450);
}

#[tokio::test(start_paused = true)]
async fn a_forced_change_keeps_its_end_time_and_is_found_by_the_sweep() {
    let rig = rig(false, async |prefect| {
        deploy(prefect).await;
        prefect.run(&name(), StateType::Crashed);
    })
    .await;
    rig.pass(Duration::from_secs(3600)).await;
    // A later end takes the cursor past the crash.
    rig.prefect.run(&name(), StateType::Failed);
    rig.pass(POLL * 2).await;
    assert_eq!(rig.occasions(), Vec::<String>::new());
    // Nobody hears of it: the events are cut, and its end is an hour behind the cursor.
    for _ in 0..200 {
        rig.prefect.fail("events", PrefectError::Ambiguous);
    }
    rig.prefect.cut_events();
    rig.pass(Duration::from_secs(2)).await;
    let crashed = rig.prefect.state().runs[0].clone();
    let end = crashed.ended_at;
    let forced = rig.prefect.set_state(&crashed.id, StateType::Completed).unwrap();
    assert_eq!(forced.ended_at, end, "as measured: the fake must not help");
    rig.pass(Duration::from_secs(700)).await;
    assert_eq!(rig.occasions(), [crashed.id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn the_newest_completion_is_asked_for_at_first_sight_and_not_again() {
    let rig = rig(false, async |prefect| {
        deploy(prefect).await;
        prefect.run(&name(), StateType::Completed);
        // Two days ago, as far as the window of a day is concerned.
        let mut state = prefect.state();
        let run = &mut state.runs[0];
        let long_ago = run.state_at - jiff::SignedDuration::from_hours(48);
        (run.state_at, run.ended_at) = (long_ago, Some(long_ago));
    })
    .await;
    rig.pass(Duration::from_secs(1)).await;
    assert_eq!(rig.occasions().len(), 1);
    let calls = rig.prefect.state().calls.iter().filter(|c| c.starts_with("runs")).count();
    rig.pass(POLL * 4).await;
    let later = rig.prefect.state().calls.iter().filter(|c| c.starts_with("runs")).count();
    assert!(later - calls <= 5, "{} reads of runs in four cycles", later - calls);
}

#[tokio::test(start_paused = true)]
async fn absence_counts_after_two_complete_reads_and_never_after_a_failed_one() {
    let rig = rig(false, async |_| {}).await;
    rig.prefect.fail("deployments", PrefectError::Unavailable);
    rig.pass(Duration::from_secs(1)).await;
    assert_eq!(rig.session.deployment(&name()), DeploymentView::Unread);
    rig.pass(POLL * 3).await;
    assert_eq!(rig.session.deployment(&name()), DeploymentView::Absent);
}

#[tokio::test(start_paused = true)]
async fn what_we_wrote_is_dirty_until_a_read_begun_later_is_back() {
    let rig = rig(false, deploy).await;
    rig.pass(Duration::from_secs(1)).await;
    assert!(matches!(rig.session.deployment(&name()), DeploymentView::Present(_)));
    let name = name();
    let write = rig.session.writes(&name);
    assert_eq!(rig.session.deployment(&name), DeploymentView::Dirty);
    // Whatever is read while it is under way may come from before it.
    rig.session.hint(Hint::Interest);
    rig.pass(POLL * 3).await;
    assert_eq!(rig.session.deployment(&name), DeploymentView::Dirty);
    drop(write);
    assert_eq!(rig.session.deployment(&name), DeploymentView::Dirty);
    rig.pass(Duration::from_secs(1)).await;
    assert!(matches!(rig.session.deployment(&name), DeploymentView::Present(_)));
}

#[tokio::test(start_paused = true)]
async fn the_cursor_goes_forward_only_and_stays_behind_prefects_clock() {
    let rig = rig(false, deploy).await;
    for _ in 0..5 {
        rig.prefect.run(&name(), StateType::Completed);
        rig.pass(Duration::from_secs(300)).await;
    }
    let cursors = rig.cursors.lock().unwrap().clone();
    assert!(cursors.len() > 3);
    assert!(cursors.is_sorted());
    assert!(*cursors.last().unwrap() <= rig.clock.now() - jiff::SignedDuration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_is_asked_ever_more_seldom_and_what_was_asked_for_is_not_forgotten() {
    let rig = rig(false, deploy).await;
    rig.pass(Duration::from_secs(1)).await;
    for _ in 0..6 {
        rig.prefect.fail("deployments", PrefectError::Unavailable);
    }
    rig.prefect.run(&name(), StateType::Completed);
    let before = rig.prefect.operations().len();
    rig.pass(Duration::from_secs(20 * 60)).await;
    assert!(rig.prefect.operations().len() - before < 200);
    assert_eq!(rig.occasions().len(), 1);
    assert!(matches!(rig.session.snapshot().health, Health::Connected(_)));
    let _ = &rig.index;
}

fn flow() -> FlowDeployment {
    serde_json::from_value(json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment",
        "metadata": {"name": "f", "namespace": "a", "uid": "1"},
        "spec": {"workspaceRef": {"name": "prod"}, "flowName": "orders", "deploymentName": "nightly",
                 "entrypoint": "x.py:x", "workPool": {"name": "etl"}}
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn rows_that_the_cursor_has_passed_are_kept_when_a_later_read_fails() {
    let rig = rig(false, deploy).await;
    rig.pass(Duration::from_secs(1)).await;
    for _ in 0..200 {
        rig.prefect.fail("events", PrefectError::Ambiguous);
    }
    rig.prefect.cut_events();
    for _ in 0..3 {
        rig.prefect.fail("deployments", PrefectError::Unavailable);
    }
    rig.pass(POLL + Duration::from_secs(1)).await;
    let early = rig.prefect.run(&name(), StateType::Completed);
    rig.pass(Duration::from_secs(90)).await;
    let late = rig.prefect.run(&name(), StateType::Completed);
    rig.session.hint(told(late.id.as_str(), late.deployment.as_ref()));
    rig.prefect.fail_named();
    rig.pass(Duration::from_secs(400)).await;
    assert_eq!(rig.occasions(), [early.id.to_string(), late.id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_comes_back_shows_its_completions_again() {
    let rig = rig(false, deploy).await;
    rig.pass(Duration::from_secs(1)).await;
    let run = rig.prefect.run(&name(), StateType::Completed);
    rig.pass(Duration::from_secs(1)).await;
    assert_eq!(rig.occasions(), [run.id.to_string()]);
    rig.index.on_flow(&Event::Delete(flow()));
    rig.session.hint(Hint::Interest);
    rig.pass(Duration::from_secs(1)).await;
    assert_eq!(rig.occasions(), Vec::<String>::new());
    rig.index.on_flow(&Event::Apply(flow()));
    rig.session.hint(Hint::Interest);
    rig.pass(Duration::from_secs(2)).await;
    assert_eq!(rig.occasions(), [run.id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn runs_of_others_cost_no_reads_and_a_flood_of_ours_a_bounded_number() {
    let rig = rig(false, deploy).await;
    rig.pass(Duration::from_secs(2)).await;
    let before = rig.reads();
    for n in 0..500u32 {
        rig.session.hint(told(&format!("run-{n}"), Some(&"foreign".into())));
        rig.pass(Duration::from_millis(60)).await;
    }
    let (polls, per_poll) = (2, 3);
    assert!(rig.reads() - before <= polls * per_poll, "{}", rig.reads() - before);
    let ours = rig.prefect.run(&name(), StateType::Running).deployment;
    let before = rig.reads();
    for n in 0..500u32 {
        rig.session.hint(told(&format!("run-{n}"), ours.as_ref()));
        rig.pass(Duration::from_millis(60)).await;
    }
    assert!(rig.reads() - before <= 60 * 2 + polls * per_poll + 2, "{}", rig.reads() - before);
}
