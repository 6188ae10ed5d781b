//! docs/trigger.md 4.6 to 4.8: what lasts: a job in the queue, and failures that a retry does not mend, with what starts again after them.

use super::*;
use crate::api::{JobOrigin, Outcome};
use crate::model::failures::Lasting;

/// Our job fails for good, though retries are left.
fn failed_for_good(job: &str) -> Bench {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits(job);
    bench.fails_for_good(job);
    bench
}

impl Bench {
    fn fails_for_good(&mut self, job: &str) {
        self.job(job, JobStatus::Failed, None);
        let told = self.o.jobs.details.get_mut(&JobId::from(job)).unwrap().job.as_mut().unwrap();
        told.failure = Some(Lasting::SourceCredentials);
        self.rest();
    }
}

#[test]
fn it_is_not_tried_again_and_says_why_and_what_starts_it_again() {
    let mut bench = failed_for_good("job-1");
    assert_eq!(bench.s.history[0].outcome, Outcome::Failed);
    assert_eq!(bench.s.history[0].failure.as_deref(), Some("SourceCredentialsInvalid"));
    assert_eq!(bench.reason("Refreshing"), "False/NotRetried");
    assert_eq!(bench.reason("LastRefreshSucceeded"), "False/SourceCredentialsInvalid");
    assert_eq!(bench.reason("Ready"), "True/InSync", "nothing is wrong with what is declared");
    for (kind, words) in [
        ("LastRefreshSucceeded", "credentials"),
        ("LastRefreshSucceeded", "correct them in Tableau"),
        ("Refreshing", "LastRefreshSucceeded says what"),
        ("Refreshing", "feedwater.dev/refresh-requested"),
    ] {
        assert!(bench.message(kind).contains(words), "{}", bench.message(kind));
    }
    assert_eq!(bench.notes.iter().filter(|note| **note == "NotRetried").count(), 1);
    assert_eq!((bench.owed().len(), bench.s.next_eligible_time), (1, None), "owed, and nothing is planned");
    bench.wait(100 * 86_400);
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.again(), None);
}

#[test]
fn a_person_starts_it_again_with_a_fresh_count() {
    type Ask = fn(&mut Bench);
    let asks: [Ask; 2] = [|b| b.d.refresh_token = Some("t".into()), |b| b.d.generation += 1];
    for ask in asks {
        let mut bench = failed_for_good("job-1");
        ask(&mut bench);
        bench.posts();
        let owed = bench.s.owed.as_ref().unwrap();
        assert_eq!((owed.tries, owed.stopped, owed.failure.as_deref()), (0, None, None));
        // What fails then as other failures do is tried again.
        bench.answered(Answer::Job("job-2".into()));
        bench.job("job-2", JobStatus::Failed, None);
        bench.rest();
        assert_eq!(bench.reason("Refreshing"), "False/Retrying");
        assert_eq!(bench.reason("LastRefreshSucceeded"), "False/Failed");
    }
}

#[test]
fn new_data_is_worth_one_try_after_the_longest_wait() {
    let mut bench = failed_for_good("job-1");
    bench.completes("a");
    bench.rest();
    assert_eq!(bench.reason("Refreshing"), "False/Retrying");
    bench.wait(590);
    assert_eq!(bench.rest(), Step::Rest);
    bench.wait(11);
    bench.submits("job-2");
    bench.fails_for_good("job-2");
    assert_eq!(bench.reason("Refreshing"), "False/NotRetried");
    // The credentials were corrected in Tableau: the next data is refreshed by itself.
    bench.completes("a");
    bench.rest();
    bench.wait(601);
    bench.refreshes("job-3");
    assert_eq!((bench.s.owed.as_ref(), bench.reason("Fresh")), (None, "True/UpToDate".into()));
    assert_eq!(bench.reason("LastRefreshSucceeded"), "True/Succeeded");
}

#[test]
fn somebody_elses_job_that_fails_so_is_no_try_of_ours() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    bench.s.attempt.as_mut().unwrap().origin = Some(JobOrigin::Adopted);
    bench.fails_for_good("job-1");
    assert_eq!((bench.s.owed.as_ref().unwrap().tries, bench.stopped()), (0, None));
    bench.wait(67);
    bench.submits("job-2");
    bench.fails_for_good("job-2");
    assert_eq!(bench.stopped(), Some(Stopped::Exhausted));
}

#[test]
fn a_cause_that_a_later_build_wrote_is_told_as_retries_that_are_used_up() {
    let mut bench = failed_for_good("job-1");
    bench.s.owed.as_mut().unwrap().failure = Some("SomethingNew".into());
    bench.s.history[0].failure = Some("SomethingNew".into());
    bench.rest();
    assert_eq!(bench.reason("Refreshing"), "False/RetriesExhausted");
    assert_eq!(bench.reason("LastRefreshSucceeded"), "False/Failed");
}

#[test]
fn a_job_that_is_stuck_in_the_queue_is_told_of_once_and_left_there() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    bench.job("job-1", JobStatus::Pending, None);
    bench.rest();
    let (told, fence) = (bench.message("Refreshing").to_owned(), bench.s.attempt.as_ref().unwrap().fence.0);
    assert_eq!(bench.again(), Some(add(fence, bench.d.timeout)));
    bench.wait(7198);
    assert_eq!((bench.rest(), bench.message("Refreshing")), (Step::Rest, told.as_str()));
    for _ in 0..3 {
        bench.wait(60);
        bench.job("job-1", JobStatus::Pending, None);
        assert_eq!(bench.rest(), Step::Rest, "it is not cancelled: the timeout is for its run");
        assert_eq!(bench.reason("Refreshing"), "True/Queued");
        assert!(bench.message("Refreshing").contains("longer than spec.timeout"));
        assert_eq!(bench.again(), None);
    }
    assert_eq!(bench.notes.iter().filter(|note| **note == "RefreshQueuedLong").count(), 1);
    let started = bench.now();
    bench.job("job-1", JobStatus::InProgress, Some(started));
    bench.rest();
    assert_eq!(bench.reason("Refreshing"), "True/Running");
    bench.succeeds("job-1");
    assert_eq!(bench.s.owed, None);
}
