//! docs/trigger.md 3: when a job contains an occasion.

use super::*;
use crate::api::JobOrigin;
use crate::model::extract::coverage::started_after;
use crate::model::extract::kinds::suffices;

#[test]
fn full_covers_incremental_and_what_is_unknown_counts_as_incremental() {
    use RefreshType::{Full, Incremental};
    for (kind, wanted, covers) in [
        (Some(Full), Full, true),
        (Some(Full), Incremental, true),
        (Some(Incremental), Full, false),
        (Some(Incremental), Incremental, true),
        (None, Full, false),
        (None, Incremental, true),
    ] {
        assert_eq!(suffices(kind, wanted), covers, "{kind:?} for {wanted:?}");
    }
}

#[test]
fn a_start_proves_from_the_fence_on_and_nothing_without_one() {
    for (fence, started, proven) in [
        (Some(10), Some(10), true),
        (Some(10), Some(9), false),
        (None, Some(10), false),
        (Some(10), None, false),
    ] {
        assert_eq!(
            started_after(fence.map(|s| Time(at(s))), started.map(at)),
            proven,
            "{fence:?} {started:?}"
        );
    }
}

#[test]
fn the_fence_is_tableaus_latest_possible_second_and_waits_for_its_first_answer() {
    let mut bench = Bench::any();
    bench.completes("a");
    let now = bench.now();
    bench.o.tableau_clock = None;
    bench.rest();
    let fence = |bench: &Bench| bench.s.marks[0].seen.as_ref().unwrap().fence;
    assert_eq!(fence(&bench), None);
    let upper = add(now, Duration::from_millis(1300));
    bench.o.tableau_clock = Some(Bounds { lower: now, upper });
    bench.rest();
    assert_eq!(fence(&bench), Some(Time(add(now, Duration::from_secs(2)))));
}

#[test]
fn our_post_contains_what_was_seen_before_it() {
    let mut bench = Bench::any();
    let a = bench.completes("a");
    bench.submits("job-1");
    let later = bench.completes("a");
    // It started long before the fence of the later one.
    let started = at(1);
    bench.job("job-1", JobStatus::Success, Some(started));
    bench.rest();
    assert_eq!(bench.owed(), vec![later], "{a} is contained, the later one is not");
    assert_eq!(bench.s.marks[0].covered.as_ref().unwrap().state_id, Some(format!("s-{a}")));
}

#[test]
fn ten_completions_during_a_running_refresh_make_exactly_one_more() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    let started = bench.now();
    bench.job("job-1", JobStatus::InProgress, Some(started));
    bench.rest();
    for _ in 0..10 {
        bench.completes("a");
        bench.rest();
    }
    bench.job("job-1", JobStatus::Success, Some(started));
    bench.refreshes("job-2");
    assert_eq!((bench.rest(), &bench.s.owed, bench.s.history.len()), (Step::Rest, &None, 2));
}

#[test]
fn a_job_seen_queued_after_an_occasion_contains_it() {
    for (asked_after, contained) in [(true, true), (false, false)] {
        let mut bench = Bench::any();
        bench.completes("a");
        bench.submits("job-1");
        if asked_after {
            bench.completes("a");
            bench.job("job-1", JobStatus::Pending, None);
        } else {
            bench.job("job-1", JobStatus::Pending, None);
            bench.completes("a");
        }
        bench.rest();
        bench.job("job-1", JobStatus::Success, Some(at(1)));
        bench.rest();
        assert_eq!(bench.s.owed.is_none(), contained, "asked after: {asked_after}");
    }
}

#[test]
fn a_queued_job_is_written_once_per_occasion_not_once_per_poll() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    bench.job("job-1", JobStatus::Pending, None);
    bench.rest();
    let written = bench.s.clone();
    for _ in 0..3 {
        bench.wait(30);
        bench.job("job-1", JobStatus::Pending, None);
        bench.rest();
    }
    assert_eq!(bench.s, written);
    assert_eq!(bench.reason("Refreshing"), "True/Queued");
}

#[test]
fn after_a_restart_a_queued_job_contains_what_was_stored_before() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    bench.completes("a");
    bench.rest();
    // This process has read Prefect, and what is stored is older than all it knows.
    bench.read("a").clear();
    bench.job("job-1", JobStatus::Pending, None);
    bench.rest();
    bench.job("job-1", JobStatus::Success, Some(at(1)));
    bench.rest();
    assert_eq!(bench.s.owed, None);

    // What was not read proves nothing: the stored occasion may have been seen after the job was asked for.
    let mut unread = Bench::any();
    unread.completes("a");
    unread.submits("job-1");
    unread.job("job-1", JobStatus::Pending, None);
    unread.completes("a");
    unread.rest();
    unread
        .o
        .upstreams
        .insert("a".into(), UpstreamView::Unread { key: Some(key_of("a")), clock: None, stuck: false });
    unread.rest();
    unread.job("job-1", JobStatus::Success, Some(at(1)));
    unread.rest();
    assert_eq!(unread.owed().len(), 1);
}

#[test]
fn a_later_completion_rides_along_and_needs_no_refresh_of_its_own() {
    let mut bench = Bench::new();
    bench.completes("a");
    bench.completes("b");
    bench.rest();
    let rider = bench.completes("a");
    bench.refreshes("job-1");
    assert_eq!(bench.s.owed, None);
    let covered = bench.s.marks[0].covered.clone().unwrap();
    assert_eq!(covered.state_id, Some(format!("s-{rider}")));
    assert!(bench.s.marks[0].is_new(), "it does not move the mark");
}

#[test]
fn a_job_of_another_content_proves_nothing() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    let now = bench.now();
    bench.job("job-1", JobStatus::Success, Some(now));
    let answer = bench.o.jobs.details.get_mut(&JobId::from("job-1")).unwrap();
    answer.job.as_mut().unwrap().content = Some("luid-2".into());
    bench.rest();
    assert_eq!(bench.owed().len(), 1);
    assert_eq!(bench.reason("Fresh"), "Unknown/NotYetRefreshed");
}

#[test]
fn data_is_as_old_as_the_oldest_run_contained() {
    let mut bench = Bench::new();
    bench.completes("a");
    let oldest = at(bench.now - 1);
    bench.wait(500);
    bench.completes("b");
    bench.refreshes("job-1");
    assert_eq!(bench.s.data_time, Some(Time(oldest)));
    assert_eq!(bench.reason("Fresh"), "True/UpToDate");

    let mut without = Bench::new();
    without.d.upstreams.clear();
    without.d.refresh_token = Some("now".into());
    without.refreshes("job-1");
    assert_eq!(without.s.data_time, Some(Time(without.now())));
}

#[test]
fn a_demand_is_covered_by_a_job_that_names_it_or_starts_after_it() {
    let mut bench = Bench::new();
    bench.d.refresh_token = Some("one".into());
    bench.submits("job-1");
    assert_eq!(bench.s.last_handled_refresh_token.as_deref(), Some("one"));
    bench.d.refresh_token = Some("two".into());
    bench.rest();
    bench.job("job-1", JobStatus::Success, Some(at(1)));
    bench.rest();
    let owed = bench.s.owed.clone().unwrap();
    assert_eq!(owed.demands[0].token.as_deref(), Some("two"), "asked for while the first ran");
    bench.wait(5);
    bench.refreshes("job-2");
    assert_eq!(bench.s.owed, None);
    assert_eq!(bench.s.history[0].cause, "Requested");
    assert_eq!(bench.s.history[0].origin, Some(JobOrigin::Ours));
}
