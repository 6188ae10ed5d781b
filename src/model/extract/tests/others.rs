//! Refreshes of others that ended while something was owed.

use super::acting::exhausted;
use super::*;
use crate::api::{JobOrigin, ScheduleStatus};
use crate::model::time::sub;

/// Somebody's refresh that started and ended while something was owed, as the list and as the job itself tell.
fn theirs(bench: &mut Bench, started: Timestamp) {
    let mut row = bench.row("theirs", JobStatus::Success, RefreshType::Full);
    row.started_at = Some(started);
    bench.list(vec![row]);
    let looked = bench.rest();
    let Step::Look { jobs, list: None, waited_for: _, tasks: false, warnings: None } = looked else {
        panic!("{looked:?}")
    };
    assert_eq!(jobs, ["theirs".into()].into());
    bench.job("theirs", JobStatus::Success, Some(started));
}

#[test]
fn a_persons_refresh_ends_the_matter_where_ours_are_used_up() {
    let mut bench = exhausted();
    bench.wait(60);
    let started = bench.now();
    bench.wait(5);
    theirs(&mut bench, started);
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!((bench.owed(), bench.stopped()), (Vec::new(), None));
    assert_eq!(bench.reason("LastRefreshSucceeded"), "True/Succeeded");
    assert_eq!(bench.s.history[0].origin, Some(JobOrigin::Adopted));
    let before = bench.s.clone();
    bench.wait(60);
    bench.rest();
    assert_eq!(bench.s, before, "once");
}

#[test]
fn what_waited_for_its_claim_is_not_started_when_the_one_before_has_refreshed_it() {
    let mut bench = Bench::any();
    bench.o.claim = Claim::Taken { by: ObjectName { namespace: "finance".into(), name: "older".into() } };
    bench.completes("a");
    bench.rest();
    bench.wait(60);
    let started = bench.now();
    bench.o.claim = Claim::Ours;
    theirs(&mut bench, started);
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.owed(), Vec::<String>::new());
}

#[test]
fn a_refresh_that_started_before_the_data_was_seen_is_none() {
    let mut bench = exhausted();
    bench.wait(60);
    let mut row = bench.row("theirs", JobStatus::Success, RefreshType::Full);
    row.started_at = Some(at(0));
    bench.list(vec![row]);
    assert_eq!(bench.rest(), Step::Rest, "not even asked about");
    assert_eq!(bench.stopped(), Some(Stopped::Exhausted));
}

/// A schedule of ours in Tableau.
fn scheduled(bench: &mut Bench) {
    bench.s.schedules = vec![ScheduleStatus {
        name: "nightly".into(),
        definition: Some("Daily 02:00".into()),
        task_id: Some("task-1".into()),
        site: Some("acme".into()),
        left_at: None,
        made_at: None,
        next_run_at: None,
        consecutive_failed_count: None,
        suspended: None,
        recreated_at: None,
    }];
}

/// A run of a schedule that started now and has ended.
fn native(bench: &mut Bench, kind: RefreshType, started: Timestamp) -> Step {
    let mut row = bench.row("native", JobStatus::Success, kind);
    row.started_at = Some(started);
    bench.job("native", JobStatus::InProgress, Some(started));
    bench.list(vec![row]);
    let looked = bench.rest();
    bench.job("native", JobStatus::Success, Some(started));
    bench.rest();
    looked
}

fn covered(bench: &Bench, name: &str) -> bool {
    let mark = bench.s.marks.iter().find(|mark| mark.name == name).unwrap();
    mark.covered.as_ref().and_then(|covered| covered.state_id.as_ref())
        == mark.seen.as_ref().map(|seen| &seen.state_id)
}

#[test]
fn a_run_of_a_schedule_contains_what_no_set_has_used_yet() {
    for (kind, contains) in [(RefreshType::Full, true), (RefreshType::Incremental, false)] {
        let mut bench = Bench::new();
        scheduled(&mut bench);
        bench.completes("a");
        bench.rest();
        assert!(bench.owed().is_empty(), "it waits for `b`");
        bench.wait(5);
        let started = bench.now();
        bench.wait(60);
        let looked = native(&mut bench, kind, started);
        let by_id = matches!(&looked, Step::Look { jobs, .. } if jobs.contains(&"native".into()));
        assert_eq!(
            by_id, contains,
            "what was said before its end says nothing of it, and another kind never: {looked:?}"
        );
        assert_eq!(covered(&bench, "a"), contains, "{kind:?}");
        let fresh = if contains { "True/UpToDate" } else { "Unknown/NotYetRefreshed" };
        assert_eq!(bench.reason("Fresh"), fresh);
        assert!(bench.s.history.is_empty(), "nothing that was owed was done by it");
        let b = bench.completes("b");
        bench.rest();
        assert_eq!(bench.owed().len(), if contains { 1 } else { 2 });
        assert!(bench.owed().contains(&b), "the set is there all the same");
    }
}

#[test]
fn a_run_of_a_schedule_that_started_before_is_none() {
    let mut bench = Bench::new();
    scheduled(&mut bench);
    let started = bench.now();
    bench.completes("a");
    bench.rest();
    bench.wait(60);
    native(&mut bench, RefreshType::Full, started);
    assert!(!covered(&bench, "a"));
}

#[test]
fn what_is_held_is_closed_by_a_run_of_a_schedule() {
    let mut bench = Bench::any();
    scheduled(&mut bench);
    bench.d.suspend = true;
    bench.completes("a");
    bench.rest();
    assert!(!bench.owed().is_empty());
    bench.wait(400);
    assert!(matches!(bench.pass(), Step::Look { list: Some(_), .. }), "the list is old by now");
    let started = bench.now();
    bench.wait(60);
    native(&mut bench, RefreshType::Full, started);
    assert_eq!(bench.owed(), Vec::<String>::new());
    assert_eq!(bench.s.history[0].origin, Some(JobOrigin::Adopted));
}

#[test]
fn jobs_are_looked_at_only_where_a_schedule_may_have_done_something() {
    let mut bench = Bench::new();
    scheduled(&mut bench);
    bench.o.jobs.list = JobList::Unread;
    assert_eq!(bench.pass(), Step::Rest, "nothing is left to contain");
    bench.completes("a");
    bench.rest();
    bench.wait(400);
    assert!(matches!(bench.pass(), Step::Look { list: Some(_), .. }));
    bench.s.schedules.clear();
    assert_eq!(bench.rest(), Step::Rest, "who has no schedules asks nothing");
}

/// It was all read once; what no list has any more is not looked for in weeks of it at every look.
#[test]
fn the_list_is_read_as_far_back_as_a_weekly_run_and_no_farther() {
    let mut bench = Bench::new();
    scheduled(&mut bench);
    bench.completes("a");
    bench.rest();
    let asked = |bench: &mut Bench| {
        bench.rest();
        bench.o.jobs.list = JobList::Unread;
        match bench.pass() {
            Step::Look { list: Some(since), .. } => (bench.now().duration_since(since).as_hours() + 12) / 24,
            step => panic!("{step:?}"),
        }
    };
    for (days, expected) in [(3, 3), (4, 7), (30, 8)] {
        bench.wait(days * 24 * 3600);
        assert_eq!(asked(&mut bench), expected);
    }
    let started = sub(bench.now(), Duration::from_secs(24 * 3600));
    native(&mut bench, RefreshType::Full, started);
    assert!(covered(&bench, "a"));
}

/// A run of a schedule may have started and ended since the list was read.
#[test]
fn what_was_held_is_not_started_on_a_list_of_half_a_minute_ago() {
    for (seconds, looks) in [(9, false), (25, true)] {
        let mut bench = Bench::any();
        scheduled(&mut bench);
        bench.d.suspend = true;
        bench.completes("a");
        bench.rest();
        bench.wait(400);
        bench.list(Vec::new());
        bench.rest();
        bench.wait(seconds);
        bench.d.suspend = false;
        bench.d.generation += 1;
        bench.pass();
        let step = bench.pass();
        assert_eq!(matches!(step, Step::Look { list: Some(_), .. }), looks, "{seconds}: {step:?}");
        bench.rest();
        assert!(bench.s.attempt.is_some());
    }
}
