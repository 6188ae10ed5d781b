//! A session with its observer on paused time, against the fake: what is seen, when, and at which cost. To sleep is how time passes here: nothing is
//! waited for, and how often something is asked within a time is what is tested.

use super::*;
use crate::api::{Edition, ExtractRefresh, RefreshType};
use crate::controller::wakes::Wakeups;
use crate::model::budget::Limits;
use crate::model::ids::ObjectName;
use crate::model::jobs::JobStatus;
use crate::model::tasks::{ServerSchedule, TaskSchedule};
use crate::tableau::NewTask;
use crate::tableau::fake::FakeTableau;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use std::time::Duration;

#[path = "site_jobs_tests.rs"]
mod jobs;

const POLL: Duration = Duration::from_secs(30);

struct Rig {
    tableau: Arc<FakeTableau>,
    clock: Clock,
    index: Arc<Index>,
    session: Arc<SiteSession>,
    wakeups: Wakeups,
}

async fn rig(targets: &[Value], before: impl FnOnce(&FakeTableau)) -> Rig {
    rig_within(Limits::of(Edition::Server), targets, before).await
}

async fn rig_within(limits: Limits, targets: &[Value], before: impl FnOnce(&FakeTableau)) -> Rig {
    let clock = Clock::virtual_from("2026-11-24T10:00:00Z".parse().unwrap());
    let tableau = Arc::new(FakeTableau::new(clock.clone()));
    before(&tableau);
    let index = Arc::new(Index::default());
    for (n, target) in targets.iter().enumerate() {
        index.on_refresh(&Event::Apply(extract(n, target, &json!({}))));
    }
    let users = Arc::new(Users::default());
    users.add(ObjectName { namespace: "a".into(), name: "acme".into() }, POLL);
    let (wakes, wakeups) = Wakes::new();
    let session = SiteSession::start(
        tableau.clone(),
        Setup {
            clock: clock.clone(),
            index: index.clone(),
            edition: Edition::Server,
            budget: SiteBudget::new(limits, wakes.clone()),
            wakes,
            users,
            metrics: Arc::new(Metrics::default()),
        },
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    Rig { tableau, clock, index, session, wakeups }
}

fn extract(n: usize, target: &Value, status: &Value) -> ExtractRefresh {
    serde_json::from_value(json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh",
        "metadata": {"name": format!("e{n}"), "namespace": "a", "uid": n.to_string()},
        "spec": {"siteRef": {"name": "acme"}, "target": target}, "status": status
    }))
    .unwrap()
}

fn orders() -> Value {
    json!({"kind": "Datasource", "projectPath": "Finance/Sales", "name": "Orders"})
}

fn publish_orders(tableau: &FakeTableau) {
    let finance = tableau.project("Finance", None);
    let sales = tableau.project("Sales", Some(&finance));
    // Names are unique per parent only.
    let other = tableau.project("Sales", None);
    tableau.publish(TargetKind::Datasource, "Orders", &sales);
    tableau.publish(TargetKind::Datasource, "Orders", &other);
}

impl Rig {
    fn resolve(&self, path: &str, name: &str) -> TargetView {
        self.resolve_after(path, name, None)
    }
    /// The same, where this content was found by these names before.
    fn resolve_after(&self, path: &str, name: &str, before: Option<&Luid>) -> TargetView {
        let snapshot = self.session.snapshot();
        let target = Target::Named {
            kind: TargetKind::Datasource,
            path: ProjectPath::parse(path).unwrap(),
            name: name.into(),
        };
        snapshot.contents.resolve(snapshot.health.site().unwrap(), &target, before)
    }
    fn woken(&mut self) -> usize {
        std::iter::from_fn(|| self.wakeups.refreshes.try_recv().ok()).count()
    }
    /// The extract owes a refresh from now on, with this job to follow.
    fn owes(&self, job: Option<&JobId>) {
        let now = self.clock.now();
        let mut attempt = json!({
            "id": "i", "phase": "Submitted", "intendedAt": now, "fence": now, "siteLuid": "site-1",
            "kind": "Datasource", "luid": "content-1", "refreshType": "Full"
        });
        if let Some(job) = job {
            attempt["jobId"] = job.as_str().into();
        }
        self.index.on_refresh(&Event::Apply(extract(0, &orders(), &json!({"attempt": attempt}))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_names_one_content_among_namesakes() {
    let rig = rig(&[orders()], publish_orders).await;
    let TargetView::Found(found) = rig.resolve("Finance/Sales", "Orders") else { panic!("not found") };
    assert_eq!(found.path.as_deref(), Some("Finance/Sales"));
    let TargetView::Found(other) = rig.resolve("Sales", "Orders") else { panic!("not found") };
    assert_ne!(found.luid, other.luid);
    assert_eq!(rig.resolve("Finance", "Orders"), TargetView::NotFound);
    assert_eq!(rig.resolve("Finance/Sales", "Returns"), TargetView::Unread, "nobody asked for it");
}

#[tokio::test(start_paused = true)]
async fn at_rest_only_the_contents_are_read_and_that_every_few_minutes() {
    let mut rig = rig(&[orders()], publish_orders).await;
    rig.woken();
    let before = rig.tableau.operations().len();
    rig.tableau.state().calls.clear();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let calls = rig.tableau.operations();
    assert!(before > 0 && calls.iter().all(|call| call == "projects" || call == "contents"), "{calls:?}");
    assert!(calls.len() <= 2 * 12, "{} calls in an hour", calls.len());
    assert_eq!(rig.woken(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_followed_to_its_end_closely_at_first_and_then_at_every_poll() {
    let mut rig = rig(&[orders()], publish_orders).await;
    let luid = rig.tableau.state().contents[0].luid.clone();
    let job = rig.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    rig.owes(Some(&job));
    rig.session.hint(Hint::Jobs([job.clone()].into()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let queued = rig.session.snapshot().details[&job].clone();
    assert_eq!(queued.job.as_ref().map(|j| j.status), Some(JobStatus::Pending));
    assert!(rig.woken() > 0);

    rig.tableau.advance(&job, JobStatus::InProgress).unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    rig.tableau.state().calls.clear();
    tokio::time::sleep(POLL * 10).await;
    let asked = |what: &str| rig.tableau.operations().iter().filter(|call| *call == what).count();
    assert!((9..=11).contains(&asked("job")), "{} questions in ten polls", asked("job"));
    assert_eq!(asked("jobs"), 0, "the list is of no use for a job that is known");

    rig.tableau.advance(&job, JobStatus::Success).unwrap();
    tokio::time::sleep(POLL * 2).await;
    let ended = rig.session.snapshot().details[&job].job.clone().unwrap();
    assert_eq!(ended.status, JobStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_job_list_that_may_not_be_read_is_said_to_be_so_and_the_job_is_followed_by_itself() {
    let rig = rig(&[orders()], publish_orders).await;
    let luid = rig.tableau.state().contents[0].luid.clone();
    let job = rig.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    rig.tableau.fail("jobs", TableauError::Forbidden("403004".into()));
    rig.owes(Some(&job));
    rig.session.hint(Hint::JobList(rig.clock.now()));
    tokio::time::sleep(POLL + Duration::from_secs(1)).await;
    let snapshot = rig.session.snapshot();
    assert_eq!(snapshot.list, JobList::NotAllowed);
    assert!(snapshot.details.contains_key(&job));
    assert!(matches!(snapshot.health, Health::Connected(_)));
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_job_that_may_not_be_read_does_not_stop_the_others() {
    let rig = rig(&[orders()], publish_orders).await;
    let luid = rig.tableau.state().contents[0].luid.clone();
    let job = rig.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    rig.owes(None);
    rig.tableau.fail("job", TableauError::Forbidden("403004".into()));
    // Sorted before our own, so that it is asked for first.
    rig.session.hint(Hint::Jobs(["a-foreign-job".into(), job.clone()].into()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let snapshot = rig.session.snapshot();
    assert!(snapshot.details.contains_key(&job));
    assert!(matches!(snapshot.health, Health::Connected(_)));
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_wakes_nobody_to_ask_again() {
    let mut rig = rig(&[orders()], publish_orders).await;
    let luid = rig.tableau.state().contents[0].luid.clone();
    let job = rig.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    for _ in 0..500 {
        rig.tableau.fail("jobs", TableauError::Forbidden("403004".into()));
        rig.tableau.fail("job", TableauError::Forbidden("403004".into()));
    }
    rig.owes(Some(&job));
    rig.tableau.state().calls.clear();
    // As the reconcile does: woken, it asks again.
    for _ in 0..200 {
        if rig.woken() > 0 {
            rig.session.hint(Hint::JobList(rig.clock.now()));
            rig.session.hint(Hint::Jobs([job.clone()].into()));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let asked = rig.tableau.operations().iter().filter(|call| call.starts_with("job")).count();
    assert!((1..12).contains(&asked), "{asked} calls in a hundred seconds");
}

#[tokio::test(start_paused = true)]
async fn a_refused_sign_in_is_no_hot_loop() {
    let refuse = |tableau: &FakeTableau| {
        for _ in 0..1000 {
            tableau.fail("site", TableauError::SignInRefused);
        }
    };
    let rig = rig(&[orders()], refuse).await;
    assert_eq!(rig.session.snapshot().health, Health::Failed(TableauError::SignInRefused, None));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let tries = rig.tableau.operations().iter().filter(|call| *call == "site").count();
    assert!((3..20).contains(&tries), "{tries} in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_new_interest_is_read_at_once_and_its_owner_woken() {
    let mut rig = rig(&[orders()], publish_orders).await;
    rig.woken();
    let returns = json!({"kind": "Datasource", "projectPath": "Sales", "name": "Returns"});
    let project = rig.tableau.state().projects[2].id.clone();
    rig.tableau.publish(TargetKind::Datasource, "Returns", &project);
    rig.index.on_refresh(&Event::Apply(extract(1, &returns, &json!({}))));
    rig.session.hint(Hint::Interest);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(matches!(rig.resolve("Sales", "Returns"), TargetView::Found(_)));
    assert_eq!(rig.woken(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_content_that_may_not_be_seen_is_no_concern_of_the_others() {
    let forbid = |tableau: &FakeTableau| {
        publish_orders(tableau);
        for _ in 0..100 {
            tableau.fail("content", TableauError::Forbidden("403004".into()));
        }
    };
    let luid = json!({"kind": "Datasource", "luid": "00000000-0000-0000-0000-000000000001"});
    let rig = rig(&[orders(), luid], forbid).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let health = rig.session.snapshot().health.clone();
    assert!(matches!(health, Health::Connected(_)), "{health:?}");
    assert!(matches!(rig.resolve("Finance/Sales", "Orders"), TargetView::Found(_)));
    let snapshot = rig.session.snapshot();
    assert_eq!(snapshot.contents.by_luid.values().collect::<Vec<_>>(), [&Lookup::Forbidden]);
}

/// What was found by a name and is in no list any more is read by its LUID: lists lag, and what was renamed is there all the same.
#[tokio::test(start_paused = true)]
async fn a_target_that_no_list_has_any_more_is_read_by_its_luid() {
    let mut rig = rig(&[orders()], publish_orders).await;
    let luid = rig.tableau.state().contents[0].luid.clone();
    let found = json!({"target": {"kind": "Datasource", "siteLuid": "site-1", "luid": luid.as_str(),
        "projectPath": "Finance/Sales", "name": "Orders", "refreshType": "Full"}});
    rig.index.on_refresh(&Event::Apply(extract(0, &orders(), &found)));
    let seen = |rig: &Rig| rig.resolve_after("Finance/Sales", "Orders", Some(&luid));
    let asked = |rig: &Rig| rig.tableau.operations().iter().filter(|call| *call == "content").count();
    look(&rig, Hint::Contents).await;
    assert!(matches!(seen(&rig), TargetView::Found(_)));
    assert_eq!(asked(&rig), 0, "the list has it");

    rig.tableau.state().unlisted.insert(luid.clone());
    look(&rig, Hint::Contents).await;
    assert!(matches!(seen(&rig), TargetView::Found(_)), "the list lags");
    assert_eq!(asked(&rig), 1);
    assert_eq!(rig.resolve("Finance/Sales", "Orders"), TargetView::NotFound, "for those who never found it");

    rig.woken();
    rig.tableau.state().unlisted.clear();
    rig.tableau.state().contents[0].name = "Old".into();
    look(&rig, Hint::Contents).await;
    assert!(rig.woken() > 0);
    let elsewhere = |view| match view {
        TargetView::Elsewhere(found) => (found.luid, found.path.unwrap(), found.name.unwrap()),
        other => panic!("{other:?}"),
    };
    assert_eq!(elsewhere(seen(&rig)), (luid.clone(), "Finance/Sales".into(), "Old".into()));

    // A namesake elsewhere is seen in the list of names.
    let other = rig.tableau.state().projects[2].id.clone();
    {
        let mut state = rig.tableau.state();
        (state.contents[0].name, state.contents[0].project) = ("Orders".into(), Some(other));
    }
    let before = asked(&rig);
    look(&rig, Hint::Contents).await;
    assert_eq!(elsewhere(seen(&rig)), (luid.clone(), "Sales".into(), "Orders".into()));
    assert_eq!(asked(&rig), before);

    rig.tableau.state().contents.remove(0);
    rig.woken();
    look(&rig, Hint::Contents).await;
    assert_eq!((seen(&rig), rig.woken() > 0), (TargetView::NotFound, true));
}

#[tokio::test(start_paused = true)]
async fn namesakes_in_one_project_are_told_apart_by_their_luids() {
    let rig = rig(&[orders()], |tableau| {
        publish_orders(tableau);
        let sales = tableau.state().contents[0].project.clone().unwrap();
        tableau.publish(TargetKind::Datasource, "Orders", &sales);
    })
    .await;
    let TargetView::Ambiguous(luids) = rig.resolve("Finance/Sales", "Orders") else { panic!("one only") };
    assert_eq!(luids.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_contents_named_by_luid_are_read_by_one_list() {
    let targets: Vec<Value> = (0..50)
        .map(|n| json!({"kind": "Datasource", "luid": format!("00000000-0000-0000-0000-{n:012}")}))
        .collect();
    let rig = rig(&targets, |tableau| {
        let project = tableau.project("P", None);
        for n in 0..40 {
            let luid = tableau.publish(TargetKind::Datasource, &format!("n{n}"), &project);
            let mut state = tableau.state();
            let content = state.contents.iter_mut().find(|c| c.luid == luid).unwrap();
            content.luid = format!("00000000-0000-0000-0000-{n:012}").as_str().into();
        }
    })
    .await;
    let contents = rig.session.snapshot().contents.clone();
    assert_eq!(contents.by_luid.len(), 50);
    assert_eq!(contents.by_luid.values().filter_map(Lookup::there).count(), 40);
    assert_eq!(rig.tableau.operations().iter().filter(|call| call.contains("content")).count(), 1);
}

/// `orders` has this task in status; or, without one, nothing to do with tasks.
async fn has_task(rig: &Rig, task: Option<&TaskId>) {
    let schedules = task.map(|task| json!({"name": "nightly", "taskId": task.as_str()}));
    let status = json!({"schedules": schedules.into_iter().collect::<Vec<_>>()});
    rig.index.on_refresh(&Event::Apply(extract(0, &orders(), &status)));
    look(rig, Hint::Tasks).await;
}

async fn look(rig: &Rig, hint: Hint) {
    rig.session.hint(hint);
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn a_task(rig: &Rig) -> (Luid, TaskId) {
    let luid = rig.tableau.state().contents[0].luid.clone();
    let new = NewTask { kind: TargetKind::Datasource, luid: luid.clone(), refresh_type: RefreshType::Full };
    let id = rig.tableau.state().add_task(&new, TaskSchedule::Own(None));
    (luid, id)
}

#[tokio::test(start_paused = true)]
async fn a_task_that_the_list_leaves_out_is_asked_for_by_its_id() {
    let rig = rig(&[orders()], publish_orders).await;
    let (luid, id) = a_task(&rig);
    has_task(&rig, Some(&id)).await;
    let asked = || rig.tableau.operations().iter().filter(|call| *call == "task").count();
    let seen = || match rig.session.tasks_of(&luid, &|_| false) {
        TasksView::Read { tasks, unlisted, .. } => (tasks.len(), unlisted.get(&id).copied()),
        other => panic!("{other:?}"),
    };
    assert_eq!((seen(), asked()), ((1, None), 0), "the list has it");
    rig.tableau.state().hidden.insert(id.clone());
    look(&rig, Hint::Tasks).await;
    assert_eq!((seen(), asked()), ((0, Some(Unlisted::Hidden)), 1));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!((5..=7).contains(&asked()), "{} in an hour", asked());
    rig.tableau.state().hidden.clear();
    look(&rig, Hint::Tasks).await;
    assert_eq!(seen(), (1, None));

    // What is no refusal says nothing, and fails nobody else.
    rig.tableau.state().hidden.insert(id.clone());
    rig.tableau.fail("task", TableauError::Ambiguous);
    look(&rig, Hint::Tasks).await;
    assert_eq!(seen(), (0, Some(Unlisted::Unclear)));
    assert!(matches!(rig.session.snapshot().health, Health::Connected(_)));
    rig.tableau.state().hidden.clear();
    rig.tableau.state().tasks.clear();
    look(&rig, Hint::Tasks).await;
    assert_eq!(seen(), (0, Some(Unlisted::Gone)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let before = asked();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((asked(), seen()), (before, (0, Some(Unlisted::Gone))), "said for long enough");
}

#[tokio::test(start_paused = true)]
async fn schedules_that_may_not_be_read_are_no_concern_of_the_rest_of_the_site() {
    let rig = rig(&[orders()], publish_orders).await;
    let (luid, id) = a_task(&rig);
    let schedule = |name: &str| ServerSchedule {
        id: name.into(),
        name: name.into(),
        active: true,
        updated_at: "1".into(),
        timing: Some(nightly()),
    };
    rig.tableau.state().schedules =
        vec![schedule("feedwater a"), schedule("feedwater b"), schedule("feedwater c")];
    rig.tableau.fail("server_schedule", TableauError::Forbidden("403004".into()));
    rig.tableau.fail("server_schedule", TableauError::NotFound("404021".into()));
    rig.tableau.fail("server_schedule", TableauError::Ambiguous);
    has_task(&rig, Some(&id)).await;
    let known = || match &rig.session.snapshot().schedules {
        ServerView::Read(all) => all.iter().map(|s| (s.name.clone(), s.timing.is_some())).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(known(), [("feedwater a".to_owned(), false), ("feedwater c".to_owned(), false)]);
    assert!(matches!(rig.session.snapshot().health, Health::Connected(_)));
    // Rights are given: with the next look it is known, and from then on not asked for again.
    look(&rig, Hint::Tasks).await;
    assert!(known().len() == 3 && known().iter().all(|(_, known)| *known), "{:?}", known());
    let asked = || rig.tableau.operations().iter().filter(|call| *call == "server_schedule").count();
    let before = asked();
    look(&rig, Hint::Tasks).await;
    assert_eq!(asked(), before);

    rig.tableau.fail("tasks", TableauError::Forbidden("403004".into()));
    look(&rig, Hint::Tasks).await;
    assert_eq!(rig.session.tasks_of(&luid, &|_| false), TasksView::Forbidden);
    assert!(matches!(rig.session.snapshot().health, Health::Connected(_)));
    assert!(matches!(rig.resolve("Finance/Sales", "Orders"), TargetView::Found(_)));
    look(&rig, Hint::Tasks).await;
    assert!(matches!(rig.session.tasks_of(&luid, &|_| false), TasksView::Read { .. }));

    // Nobody asks any more: whoever does next is not to find what was read long ago.
    has_task(&rig, None).await;
    assert_eq!(rig.session.tasks_of(&luid, &|_| false), TasksView::Unread);
}

fn nightly() -> crate::model::timing::Timing {
    let declared = json!({"name": "x", "frequency": "Daily", "start": "02:00"});
    crate::model::timing::Timing::declared(&serde_json::from_value(declared).unwrap(), Edition::Server)
        .unwrap()
}
