//! The spec names another connection than the one through which the ids in status were learnt. Whoever runs a server of their own can have it answer
//! with the ids of others.

use super::scheduling::{Site, nightly, weekly};
use super::*;
use crate::api::{DeletionPolicy, Edition, ManagementPolicy, Outcome};
use crate::model::ids::TaskId;

pub(super) const EVIL: &str = "evil";
/// A task of somebody else, on the site of the cluster's connection.
const THEIRS: &str = "theirs";

pub(super) fn ready() -> SiteView {
    SiteView::Ready { luid: SITE.into() }
}

pub(super) fn unusable() -> SiteView {
    SiteView::NotReady { reason: "Unreachable" }
}

/// The connection of the cluster is named now, and status holds a task of a connection that the namespace has made.
pub(super) fn planted(learnt: Option<&str>) -> Site {
    let mut site = Site::new(Edition::Cloud, vec![nightly(), weekly()]);
    site.settle();
    site.taken();
    for entry in &mut site.bench.s.schedules {
        entry.site = Some("cluster:acme".into());
    }
    let entry = &mut site.bench.s.schedules[0];
    (entry.task_id, entry.site) = (Some(THEIRS.into()), learnt.map(Into::into));
    site.tasks.remove(0);
    // It is there, and refreshes something else.
    let mut theirs = site.tasks[0].clone();
    (theirs.id, theirs.content) = (THEIRS.into(), Some("other".into()));
    site.tasks.push(theirs);
    site.edit(|d| d.site = ConnectionName::cluster("acme"));
    site.bench.o.formers.insert(ConnectionName::parse(EVIL), ready());
    site.read();
    site
}

/// Every write until nothing more happens, or for so long.
pub(super) fn writes(site: &mut Site) -> Vec<ScheduleWrite> {
    let mut all = Vec::new();
    for _ in 0..60 {
        match site.pass() {
            (Step::Schedule(write), _) => {
                let elsewhere = write.site().is_some_and(|at| *at != site.bench.d.site);
                let ack = if elsewhere { ScheduleAck::Done(None) } else { site.perform(&write) };
                site.fold(&write, &ack);
                site.read();
                all.push(write);
            }
            (Step::LookAtTasks, _) => site.read(),
            (_, true) => {}
            (_, false) => return all,
        }
    }
    panic!("no rest: {:#?}", site.bench.s);
}

/// Whether it does something with their id on the site of the cluster's connection.
fn harms(write: &ScheduleWrite) -> bool {
    match write {
        ScheduleWrite::Delete { site, task } => task.as_str() == THEIRS && site.is_cluster(),
        ScheduleWrite::Update { task, .. } => task.as_str() == THEIRS,
        ScheduleWrite::Create { .. } | ScheduleWrite::Attach { .. } | ScheduleWrite::MakeShared { .. } => {
            false
        }
    }
}

#[test]
fn a_task_of_an_own_server_is_nothing_to_a_connection_of_the_cluster() {
    type Edit = fn(&mut Desired);
    let edits: [Edit; 6] = [
        |_| {},
        |d| d.schedules.all.clear(),
        |d| d.schedules.all[0].start = Some("03:00".into()),
        |d| d.schedules.deletion = DeletionPolicy::Orphan,
        |d| d.schedules.suspended = crate::api::SuspendedSchedules::Recreate,
        |d| d.schedules.foreign = crate::api::ForeignSchedules::Remove,
    ];
    for learnt in [Some(EVIL), Some("acme"), None] {
        for (n, edit) in edits.iter().enumerate() {
            for former in [Some(ready()), Some(unusable()), None] {
                let mut site = planted(learnt);
                site.bench.o.formers.clear();
                if let (Some(view), Some(learnt)) = (&former, learnt) {
                    site.bench.o.formers.insert(ConnectionName::parse(learnt), view.clone());
                }
                site.edit(edit);
                let mut all = writes(&mut site);
                // Beyond the time that anything is waited for.
                site.bench.wait(3600);
                site.read();
                all.extend(writes(&mut site));
                assert!(!all.iter().any(harms), "{learnt:?} {n} {former:?}: {all:?}");
                assert!(site.tasks.iter().any(|task| task.id.as_str() == THEIRS));
                let named =
                    site.bench.s.schedules.iter().any(|entry| entry.task_id.as_deref() == Some(THEIRS));
                assert!(!named, "in the end nothing is known of it: {learnt:?} {n} {former:?}");
                // Nor when it is deleted, whenever that is.
                let mut site = planted(learnt);
                edit(&mut site.bench.d);
                let since = site.bench.now();
                for _ in 0..10 {
                    let bench = &site.bench;
                    let Parting::Write(write) =
                        part(&bench.d, &bench.o, &bench.s, since, Duration::from_secs(600), bench.now())
                    else {
                        break;
                    };
                    assert!(!harms(&write), "{learnt:?} {n} {former:?}: {write:?}");
                    site.part(&write, &ScheduleAck::Done(None));
                }
            }
        }
    }
}

/// As a legitimate move to a connection of the platform is.
#[test]
fn a_task_that_the_new_connection_shows_on_the_target_stays() {
    for (before, now) in
        [(Some("acme"), "cluster:acme"), (None, "cluster:acme"), (Some("cluster:old"), "acme")]
    {
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        site.settle();
        site.taken();
        site.bench.s.schedules[0].site = before.map(Into::into);
        site.edit(|d| d.site = ConnectionName::parse(now));
        site.settle();
        assert_eq!(site.taken(), Vec::<String>::new(), "{before:?}");
        let entry = &site.bench.s.schedules[0];
        assert_eq!((entry.task_id.as_deref(), entry.site.as_deref()), (Some("t1"), Some(now)), "{before:?}");
        assert_eq!(site.bench.reason("Ready"), "True/InSync");
    }
}

/// Also one of the cluster, where the spec is still the one that it wrote about.
#[test]
fn what_an_earlier_build_wrote_gets_its_connection() {
    for (named, edited, stamped) in
        [("acme", false, true), ("cluster:acme", false, true), ("cluster:acme", true, false)]
    {
        let mut bench = Bench::any();
        bench.completes("a");
        bench.submits("job-1");
        bench.s.attempt.as_mut().unwrap().site = None;
        bench.d.site = ConnectionName::parse(named);
        bench.d.generation += i64::from(edited);
        bench.pass();
        let site = bench.s.attempt.as_ref().and_then(|attempt| attempt.site.as_deref());
        assert_eq!(site, stamped.then_some(named), "{named} {edited}: else it is lost");
        let mut site = planted(None);
        site.bench.d.site = ConnectionName::parse(named);
        (site.bench.o.schedules.tasks, site.bench.s.observed_generation) =
            (TasksView::Unread, site.bench.d.generation - i64::from(edited));
        while site.pass().1 {}
        let site = site.bench.s.schedules[0].site.clone();
        assert_eq!(site.as_deref(), Some(if stamped { named } else { "" }), "{named} {edited}");
    }
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.settle();
    site.taken();
    site.bench.s.schedules[0].site = None;
    site.settle();
    assert_eq!(site.taken(), Vec::<String>::new());
    assert_eq!(site.bench.s.schedules[0].site.as_deref(), Some("acme"));
}

#[test]
fn on_another_site_it_is_made_anew_when_the_old_one_is_gone_through_the_old_connection() {
    let mut site = planted(Some(EVIL));
    let all = writes(&mut site);
    let gone = ScheduleWrite::Delete { site: ConnectionName::parse(EVIL), task: THEIRS.into() };
    assert_eq!(all[0], gone);
    assert!(matches!(all[1], ScheduleWrite::Create { .. }) && all.len() == 2, "{all:?}");
    let entry = &site.bench.s.schedules[0];
    assert_eq!((entry.site.as_deref(), entry.left_at), (Some("cluster:acme"), None));
    assert!(!site.bench.notes.contains(&"Orphaned"));
    assert_eq!(site.bench.reason("Ready"), "True/InSync");
}

#[test]
fn while_nothing_is_written_nothing_is_left() {
    type Edit = fn(&mut Desired);
    let edits: [Edit; 2] = [|d| d.suspend = true, |d| d.schedules.management = ManagementPolicy::Observe];
    for edit in edits {
        for learnt in [Some(EVIL), None] {
            let mut site = planted(learnt);
            edit(&mut site.bench.d);
            assert_eq!(writes(&mut site), []);
            site.bench.wait(3600);
            site.read();
            let left = (writes(&mut site).len(), site.bench.s.schedules[0].task_id.as_deref());
            assert_eq!(left, (0, Some(THEIRS)), "{learnt:?}");
        }
    }
}

/// A task that is being made when the spec turns away from its site.
fn intended(learnt: Option<&str>) -> Site {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let write = site.first_write();
    assert!(matches!(write, ScheduleWrite::Create { .. }));
    site.fold(&write, &ScheduleAck::Failed(ScheduleFailure::Ambiguous));
    site.bench.s.schedule_intent.as_mut().unwrap().site = learnt.map(Into::into);
    site.edit(|d| d.site = ConnectionName::cluster("acme"));
    site
}

#[test]
fn what_was_being_made_elsewhere_is_looked_for_there_and_goes() {
    let mut site = intended(Some(EVIL));
    site.bench.o.formers.insert(ConnectionName::parse(EVIL), ready());
    // Somebody has the same on the target.
    let theirs = site.somebody_adds(&nightly());
    site.read();
    while site.pass().1 {}
    assert!(site.bench.s.schedule_intent.is_some());
    assert!(!site.bench.s.schedules.iter().any(|entry| entry.task_id.is_some()), "that one is not ours");
    // There it is.
    let mut made = site.tasks[0].clone();
    made.id = "made".into();
    let asked = site.bench.moment();
    site.bench.o.schedules.former_tasks =
        TasksView::Read { asked, tasks: vec![made], unlisted: BTreeMap::new() };
    while site.pass().1 {}
    assert_eq!(site.bench.s.schedules[0].task_id.as_deref(), Some("made"));
    // Lists lag: whether the new one has it too is known a while later.
    site.bench.wait(31);
    site.read();
    let write = site.first_write();
    assert_eq!(write, ScheduleWrite::Delete { site: ConnectionName::parse(EVIL), task: "made".into() });
    site.fold(&write, &ScheduleAck::Done(None));
    site.read();
    site.settle();
    assert_eq!(site.bench.reason("Ready"), "False/AdoptionRequired", "of {theirs} nothing is known");
}

#[test]
fn an_intent_whose_connection_is_gone_or_unknown_is_given_up() {
    for learnt in [Some(EVIL), None] {
        let mut site = intended(learnt);
        let theirs: TaskId = site.somebody_adds(&nightly());
        site.read();
        site.settle();
        assert!(site.bench.s.schedule_intent.is_none() && site.bench.notes.contains(&"Orphaned"));
        assert_eq!(site.bench.reason("Ready"), "False/AdoptionRequired", "{learnt:?} {theirs}");
        assert!(site.taken().is_empty());
        // As when it is deleted at once.
        let mut site = intended(learnt);
        site.somebody_adds(&nightly());
        site.read();
        site.bench.o.schedules.intent = IntentView::MaybeSent { since: Moment::default() };
        let bench = &site.bench;
        let parting = part(&bench.d, &bench.o, &bench.s, bench.now(), Duration::from_secs(600), bench.now());
        assert_eq!(parting, Parting::Release { orphaned: true });
    }
    // Never sent, it is dropped without a word, and not sent through another.
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    assert!(matches!(site.first_write(), ScheduleWrite::Create { .. }));
    site.edit(|d| d.site = ConnectionName::cluster("acme"));
    let before = site.bench.s.schedule_intent.clone().unwrap();
    let ScheduleWrite::Create { intent, .. } = site.first_write() else { panic!() };
    assert_ne!(intent, before.id);
    assert!(!site.bench.notes.contains(&"Orphaned"));
}

// The attempt.

/// A job that runs, when the spec turns to the connection of the cluster.
fn turned(learnt: Option<&str>) -> Bench {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    bench.s.attempt.as_mut().unwrap().site = learnt.map(Into::into);
    bench.d.site = ConnectionName::cluster("acme");
    bench.d.generation += 1;
    bench
}

#[test]
fn a_job_is_followed_and_cancelled_through_its_own_connection_alone() {
    let mut bench = turned(Some(EVIL));
    bench.o.formers.insert(ConnectionName::parse(EVIL), ready());
    bench.d.timeout = Duration::from_secs(60);
    // What the cluster's connection has of that id is somebody else's.
    let started = bench.now();
    bench.job("job-1", JobStatus::InProgress, Some(started));
    bench.wait(120);
    let step = bench.rest();
    assert!(matches!(&step, Step::Look { jobs, .. } if jobs.contains(&JobId::from("job-1"))), "{step:?}");
    assert_eq!(bench.phase(), Some(AttemptPhase::Submitted), "not cancelled by what another site says");
    bench.o.apart.jobs = std::mem::take(&mut bench.o.jobs);
    assert_eq!(bench.rest(), Step::Rest, "by no other clock than that of its own");
    bench.o.apart.clock = bench.o.tableau_clock;
    assert_eq!(bench.rest(), Step::Cancel { job: "job-1".into() });
    // Its end is credited, if it is on the target of the spec.
    let answer = bench.o.apart.jobs.details.get_mut(&JobId::from("job-1")).unwrap();
    answer.job.as_mut().unwrap().status = JobStatus::Success;
    bench.rest();
    assert_eq!((bench.s.history[0].outcome, bench.s.owed.is_none()), (Outcome::Succeeded, true));
}

#[test]
fn a_job_whose_connection_cannot_be_used_any_more_ends_as_one_that_vanished() {
    for learnt in [Some(EVIL), None] {
        let mut bench = turned(learnt);
        bench.job("job-1", JobStatus::Success, Some(bench.now()));
        bench.rest();
        assert_eq!(bench.s.history[0].outcome, Outcome::JobVanished, "{learnt:?}");
        assert!(bench.notes.contains(&"JobVanished"));
        assert_eq!((bench.s.attempt.is_none(), bench.owed().len()), (true, 1), "and is owed again");
    }
    // While that may pass, it is waited for, as long as the job may run.
    let mut bench = turned(Some(EVIL));
    bench.o.formers.insert(ConnectionName::parse(EVIL), unusable());
    assert_eq!(bench.rest(), Step::Rest);
    assert!(bench.message("Refreshing").contains("TableauSite `evil`"), "{}", bench.message("Refreshing"));
    let until = add(bench.s.attempt.as_ref().unwrap().intended_at.0, bench.d.timeout);
    assert_eq!(bench.again(), Some(until));
    bench.wait(7200);
    bench.rest();
    assert_eq!(bench.s.history[0].outcome, Outcome::JobVanished);
}

/// Whoever runs the former server may have it say what it likes, and for ever.
#[test]
fn a_job_that_never_ends_elsewhere_is_given_up_a_while_after_it_was_to_be_cancelled() {
    type Says = fn(&Bench) -> (JobStatus, Option<Timestamp>);
    let says: [(&str, Says); 3] = [
        ("it waits", |_| (JobStatus::Pending, None)),
        ("it runs", |bench| (JobStatus::InProgress, Some(bench.now()))),
        ("it starts next year", |bench| {
            (JobStatus::InProgress, Some(add(bench.now(), Duration::from_secs(365 * 86_400))))
        }),
    ];
    for (what, says) in says {
        let mut bench = turned(Some(EVIL));
        bench.o.formers.insert(ConnectionName::parse(EVIL), ready());
        bench.o.apart.clock = bench.o.tableau_clock;
        let (status, started) = says(&bench);
        bench.job("job-1", status, started);
        bench.o.apart.jobs = std::mem::take(&mut bench.o.jobs);
        for (wait, under_way) in [(1, true), (7200, true), (590, true), (20, false)] {
            bench.wait(wait);
            bench.rest();
            assert_eq!(bench.s.history.is_empty(), under_way, "{what} {wait}");
        }
        assert_eq!((bench.s.history[0].outcome, bench.owed().len()), (Outcome::JobVanished, 1), "{what}");
    }
}

/// And what the other site lists of the same is not taken for it.
#[test]
fn what_was_sent_elsewhere_is_recovered_there_and_sent_nowhere_else() {
    let sent = |learnt: &str| {
        let mut bench = Bench::any();
        bench.completes("a");
        bench.posts();
        bench.answered(Answer::Ambiguous);
        bench.s.attempt.as_mut().unwrap().site = Some(learnt.into());
        bench.d.site = ConnectionName::cluster("acme");
        bench.d.generation += 1;
        bench
    };
    let mut bench = sent(EVIL);
    bench.o.formers.insert(ConnectionName::parse(EVIL), ready());
    let row = bench.row("job-9", JobStatus::Pending, RefreshType::Full);
    bench.list(vec![row]);
    bench.job("job-9", JobStatus::Pending, None);
    bench.wait(60);
    let step = bench.pass();
    let step = if step == Step::Rest { bench.pass() } else { step };
    assert!(matches!(step, Step::Look { list: Some(_), .. }), "{step:?}");
    assert_eq!(bench.phase(), Some(AttemptPhase::Intended));
    bench.o.apart.jobs = bench.o.jobs.clone();
    bench.rest();
    let attempt = bench.s.attempt.clone().unwrap();
    assert_eq!((attempt.job_id.as_deref(), attempt.site.as_deref()), (Some("job-9"), Some(EVIL)));

    // Never sent: not through another.
    let mut bench = Bench::any();
    bench.completes("a");
    bench.rest();
    let before = bench.s.attempt.clone().unwrap();
    bench.d.site = ConnectionName::cluster("acme");
    bench.d.generation += 1;
    let after = bench.posts();
    assert_ne!(after.id, before.id);
    assert_eq!(after.site.as_deref(), Some("cluster:acme"));
}

/// Whoever goes may be of another namespace, whose connection nobody here knows.
#[test]
fn an_heir_takes_over_what_it_can_tell_itself() {
    for (namespace, learnt, listed, takes) in [
        ("finance", Some("acme"), false, true),
        ("finance", Some(EVIL), false, false),
        ("finance", None, false, false),
        // Of the same name, and another.
        ("sales", Some("acme"), false, false),
        ("sales", Some("cluster:acme"), false, false),
        // The list of our own connection has it on our target.
        ("finance", Some(EVIL), true, true),
        ("finance", None, true, true),
        ("sales", Some("acme"), true, true),
    ] {
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        site.settle();
        let mut made = site.bench.s.schedules.clone();
        made[0].site = learnt.map(Into::into);
        let from = ObjectName { namespace: namespace.into(), name: "before".into() };
        let mut later = Site::new(Edition::Cloud, vec![nightly()]);
        if listed {
            later.tasks.clone_from(&site.tasks);
        }
        later.read();
        later.bench.o.claim = Claim::Busy { by: from.clone() };
        later.bench.o.schedules.estate = Some(Estate { from, schedules: made });
        while later.pass().1 {}
        let taken: Vec<_> = later
            .bench
            .s
            .schedules
            .iter()
            .map(|entry| (entry.task_id.as_deref(), entry.site.as_deref()))
            .collect();
        let expected = if takes { vec![(Some("t1"), Some("acme"))] } else { vec![] };
        assert_eq!(taken, expected, "{namespace} {learnt:?} {listed}");
    }
}
