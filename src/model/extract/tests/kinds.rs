//! Full and incremental: what is asked for, and what it covers.

use super::*;

fn own(bench: &mut Bench, name: &str, kind: RefreshType) {
    bench.d.upstreams.iter_mut().find(|u| u.name == name).unwrap().refresh_type = Some(kind);
}

fn covers(bench: &Bench, name: &str) -> bool {
    bench.s.marks.iter().find(|mark| mark.name == name).unwrap().covered.is_some()
}

/// An hourly increment and a weekly full load in one resource.
fn mixed() -> Bench {
    let mut bench = Bench::any();
    bench.d.refresh_type = RefreshMode::Full;
    own(&mut bench, "a", RefreshType::Incremental);
    bench
}

#[test]
fn an_upstream_causes_a_refresh_of_its_own_type() {
    let mut bench = mixed();
    bench.completes("a");
    assert_eq!(bench.posts().refresh_type, RefreshType::Incremental);
    bench.answered(Answer::Job("j1".into()));
    bench.succeeds("j1");
    assert!(covers(&bench, "a"));
    bench.completes("b");
    assert_eq!(bench.posts().refresh_type, RefreshType::Full);
}

#[test]
fn full_absorbs_incremental_and_not_the_reverse() {
    let mut bench = mixed();
    bench.completes("a");
    bench.completes("b");
    assert_eq!(bench.posts().refresh_type, RefreshType::Full);
    bench.answered(Answer::Job("j1".into()));
    bench.succeeds("j1");
    assert!(covers(&bench, "a") && covers(&bench, "b"));
    assert_eq!(bench.s.owed, None);

    // A full set forms while an incremental job runs: it is not contained in that.
    bench.completes("a");
    bench.submits("j2");
    let started = bench.now();
    let full = bench.completes("b");
    bench.job("j2", JobStatus::Success, Some(add(started, Duration::from_secs(60))));
    bench.rest();
    assert_eq!(bench.owed(), vec![full]);
    assert_eq!(bench.posts().refresh_type, RefreshType::Full);
}

#[test]
fn an_intent_that_is_not_sent_yet_grows_to_full() {
    let mut bench = mixed();
    bench.completes("a");
    bench.rest();
    assert_eq!(bench.s.attempt.as_ref().unwrap().refresh_type, RefreshType::Incremental);
    bench.completes("b");
    bench.rest();
    assert_eq!(bench.s.attempt.as_ref().unwrap().refresh_type, RefreshType::Full);
}

#[test]
fn another_type_of_its_own_forgets_what_was_covered() {
    let mut bench = mixed();
    bench.completes("a");
    bench.refreshes("j1");
    own(&mut bench, "a", RefreshType::Full);
    bench.d.generation += 1;
    bench.rest();
    assert!(!covers(&bench, "a"));
}

#[test]
fn a_refresh_that_covers_nothing_that_counts_claims_no_freshness() {
    let mut bench = mixed();
    bench.d.refresh_type = RefreshMode::Incremental;
    own(&mut bench, "a", RefreshType::Full);
    bench.d.upstreams.truncate(1);
    bench.d.require = Require::Count(2);
    bench.completes("a");
    bench.d.refresh_token = Some("now".into());
    assert_eq!(bench.posts().refresh_type, RefreshType::Incremental);
    bench.answered(Answer::Job("j1".into()));
    bench.succeeds("j1");
    assert_eq!(bench.reason("Fresh"), "Unknown/NotYetRefreshed");
}

#[test]
fn incremental_or_full_falls_back_once_and_says_so() {
    let mut bench = Bench::any();
    bench.d.refresh_type = RefreshMode::IncrementalOrFull;
    bench.completes("a");
    assert_eq!(bench.posts().refresh_type, RefreshType::Incremental);
    bench.answered(Answer::Rejected { code: "400031".into() });
    assert!(bench.notes.contains(&"FellBackToFull"));
    assert_eq!(bench.posts().refresh_type, RefreshType::Full, "at once, and no try is counted");
    bench.answered(Answer::Job("j1".into()));
    bench.succeeds("j1");
    assert_eq!(bench.s.owed, None);
    bench.completes("a");
    assert_eq!(bench.posts().refresh_type, RefreshType::Full, "not asked in vain each time");
    bench.answered(Answer::Job("j2".into()));
    bench.succeeds("j2");
    bench.d.generation += 1;
    bench.rest();
    bench.completes("a");
    assert_eq!(bench.posts().refresh_type, RefreshType::Incremental, "an edit asks again");
}

/// The job of this id failed and says that only a full refresh helps.
fn asks_for_full(bench: &mut Bench, job: &str) {
    bench.job(job, JobStatus::Failed, Some(bench.now()));
    let answer = bench.o.jobs.details.get_mut(&job.into()).unwrap();
    answer.job.as_mut().unwrap().wants_full = true;
    bench.rest();
}

#[test]
fn a_job_that_asks_for_a_full_refresh_gets_it_at_once_where_that_is_allowed() {
    for (mode, next, tries) in
        [(RefreshMode::IncrementalOrFull, Some(RefreshType::Full), 0), (RefreshMode::Incremental, None, 1)]
    {
        let mut bench = Bench::any();
        bench.d.refresh_type = mode;
        bench.completes("a");
        bench.submits("j1");
        bench.notes.clear();
        asks_for_full(&mut bench, "j1");
        assert_eq!(bench.s.owed.as_ref().unwrap().tries, tries, "{mode:?}");
        assert_eq!(bench.s.attempt.as_ref().map(|attempt| attempt.refresh_type), next, "{mode:?}");
        assert_eq!(bench.notes.contains(&"FellBackToFull"), next.is_some(), "{mode:?}");
        assert_eq!(bench.reason("LastRefreshSucceeded"), "False/Failed");
        assert!(bench.message("LastRefreshSucceeded").contains("`j1`"));
    }
}

#[test]
fn a_full_refresh_that_asks_for_a_full_one_is_a_failed_try() {
    let mut bench = Bench::any();
    bench.d.refresh_type = RefreshMode::IncrementalOrFull;
    bench.completes("a");
    bench.submits("j1");
    asks_for_full(&mut bench, "j1");
    bench.wait(2);
    bench.rest();
    bench.answered(Answer::Job("j2".into()));
    asks_for_full(&mut bench, "j2");
    assert_eq!(bench.s.owed.as_ref().unwrap().tries, 1);
    assert_eq!(bench.phase(), None, "it waits, as after any failure");
}

/// A server below 3.25 makes a full refresh of it, and lists it so.
#[test]
fn a_lost_answer_to_an_incremental_start_is_found_among_full_jobs_and_not_the_other_way_round() {
    for (asked, listed, found) in [
        (RefreshMode::Incremental, RefreshType::Full, true),
        (RefreshMode::Incremental, RefreshType::Incremental, true),
        (RefreshMode::Full, RefreshType::Full, true),
        (RefreshMode::Full, RefreshType::Incremental, false),
    ] {
        let mut bench = Bench::any();
        bench.d.refresh_type = asked;
        bench.completes("a");
        bench.posts();
        bench.answered(Answer::Ambiguous);
        let row = bench.row("j1", JobStatus::Pending, listed);
        bench.list(vec![row]);
        bench.job("j1", JobStatus::Pending, None);
        bench.rest();
        assert_eq!(bench.phase() == Some(AttemptPhase::Submitted), found, "{asked:?} {listed:?}");
    }
}

#[test]
fn incremental_alone_does_not_fall_back() {
    let mut bench = Bench::any();
    bench.d.refresh_type = RefreshMode::Incremental;
    bench.completes("a");
    bench.posts();
    bench.answered(Answer::Rejected { code: "400031".into() });
    assert_eq!(bench.reason("Ready"), "False/RemoteRejected");
}

/// Two upstreams of one deployment, told apart by the names of states alone: `a` wants an increment of each run, `b` all of it.
fn same_runs() -> Bench {
    let mut bench = mixed();
    for view in bench.o.upstreams.values_mut() {
        if let UpstreamView::Read { key, .. } = view {
            *key = "prod/orders/orders".into();
        }
    }
    bench
}

/// A run that counts for both.
fn completes_for_both(bench: &mut Bench) {
    bench.completes("a");
    let seen = bench.read("a").last().unwrap().clone();
    bench.read("b").push(seen);
}

#[test]
fn of_two_that_mean_the_same_run_the_stronger_type_is_owed_and_an_increment_does_not_close_it() {
    let mut bench = same_runs();
    completes_for_both(&mut bench);
    assert_eq!(bench.posts().refresh_type, RefreshType::Full);

    let mut bench = same_runs();
    bench.completes("a");
    bench.submits("j1");
    completes_for_both(&mut bench);
    bench.job("j1", JobStatus::Pending, None);
    bench.rest();
    bench.succeeds("j1");
    assert_eq!(bench.owed().len(), 1, "the increment contains the run, and not all of it");
    assert_eq!(bench.posts().refresh_type, RefreshType::Full);
}

#[test]
fn a_job_of_others_that_is_followed_contains_later_runs_as_what_it_is() {
    let mut bench = Bench::any();
    bench.d.refresh_type = RefreshMode::IncrementalOrFull;
    own(&mut bench, "b", RefreshType::Full);
    bench.s.target.as_mut().unwrap().full_only = true;
    bench.completes("a");
    assert_eq!(bench.posts().refresh_type, RefreshType::Full);
    bench.answered(Answer::AlreadyQueued);
    bench.rest();
    let row = bench.row("other", JobStatus::Pending, RefreshType::Incremental);
    bench.list(vec![row]);
    bench.rest();
    bench.job("other", JobStatus::Pending, None);
    bench.rest();
    assert_eq!(bench.s.attempt.as_ref().unwrap().origin, Some(crate::api::JobOrigin::Adopted));
    let full = bench.completes("b");
    bench.job("other", JobStatus::Pending, None);
    bench.rest();
    bench.succeeds("other");
    assert!(covers(&bench, "a") && !covers(&bench, "b"));
    assert_eq!(bench.owed(), vec![full]);
}

#[test]
fn a_full_refresh_that_is_owed_is_not_given_up_for_an_incremental_one_of_the_same_runs() {
    let mut bench = same_runs();
    bench.completes("b");
    bench.rest();
    bench.completes("a");
    bench.rest();
    assert_eq!(bench.posts().refresh_type, RefreshType::Full);
}
