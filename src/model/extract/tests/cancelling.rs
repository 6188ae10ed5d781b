//! A job of ours that runs longer than it may.

use super::*;
use crate::api::Outcome;

/// It runs since then.
fn running() -> (Bench, Timestamp) {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.posts();
    bench.answered(Answer::Job("job-1".into()));
    let started = bench.now();
    bench.job("job-1", JobStatus::InProgress, Some(started));
    (bench, started)
}

#[test]
fn a_job_that_runs_too_long_is_cancelled_and_that_is_a_failed_try() {
    let (mut bench, started) = running();
    bench.wait(7199);
    assert_eq!(bench.rest(), Step::Rest);
    bench.wait(1);
    assert_eq!(bench.pass(), Step::Rest, "cancelling is written first");
    assert_eq!(bench.phase(), Some(AttemptPhase::Cancelling));
    assert_eq!(bench.pass(), Step::Cancel { job: "job-1".into() });
    bench.answered(Answer::CancelSent(Err(CancelFailure::Unknown)));
    assert_eq!(bench.rest(), Step::Rest);
    for wait in [60, 60, 120] {
        bench.wait(wait);
        assert_eq!(bench.rest(), Step::Cancel { job: "job-1".into() }, "it is still running");
        bench.answered(Answer::CancelSent(Err(CancelFailure::Refused)));
        assert_eq!(bench.rest(), Step::Rest);
        assert!(bench.message("Refreshing").contains("tableau:jobs:update"));
    }
    assert_eq!(bench.notes.iter().filter(|note| **note == "CancelRefused").count(), 1);
    bench.wait(240);
    assert_eq!(bench.rest(), Step::Cancel { job: "job-1".into() });
    bench.answered(Answer::CancelSent(Ok(())));
    bench.rest();
    assert!(!bench.message("Refreshing").contains("may not be cancelled"));
    bench.job("job-1", JobStatus::Cancelled, Some(started));
    bench.rest();
    assert_eq!(bench.s.history[0].outcome, Outcome::TimedOut);
    assert_eq!((bench.s.owed.as_ref().unwrap().tries, bench.stopped()), (1, None));
}

#[test]
fn a_job_that_succeeded_before_its_cancel_arrived_counts() {
    let (mut bench, started) = running();
    bench.wait(7200);
    bench.pass();
    bench.answered(Answer::CancelSent(Ok(())));
    bench.job("job-1", JobStatus::Success, Some(started));
    bench.rest();
    assert_eq!((bench.s.owed.as_ref(), bench.s.history[0].outcome), (None, Outcome::Succeeded));
}
