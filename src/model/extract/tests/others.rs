//! Refreshes of others that ended while something was owed.

use super::acting::exhausted;
use super::*;
use crate::api::JobOrigin;

/// Somebody's refresh that started and ended while something was owed, as the list and as the job itself tell.
fn theirs(bench: &mut Bench, started: Timestamp) {
    let mut row = bench.row("theirs", JobStatus::Success, RefreshType::Full);
    row.started_at = Some(started);
    bench.list(vec![row]);
    let looked = bench.rest();
    assert_eq!(looked, Step::Look { jobs: ["theirs".into()].into(), list: None });
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
