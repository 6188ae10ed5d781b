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

#[test]
fn incremental_alone_does_not_fall_back() {
    let mut bench = Bench::any();
    bench.d.refresh_type = RefreshMode::Incremental;
    bench.completes("a");
    bench.posts();
    bench.answered(Answer::Rejected { code: "400031".into() });
    assert_eq!(bench.reason("Ready"), "False/RemoteRejected");
}

/// Two upstreams of one deployment, told apart by the names of states alone: each run is one of both.
#[test]
fn a_full_refresh_that_is_owed_is_not_given_up_for_an_incremental_one_of_the_same_runs() {
    let mut bench = mixed();
    for view in bench.o.upstreams.values_mut() {
        if let UpstreamView::Read { key, .. } = view {
            *key = "prod/orders/orders".into();
        }
    }
    bench.completes("b");
    bench.rest();
    bench.completes("a");
    bench.rest();
    assert_eq!(bench.posts().refresh_type, RefreshType::Full);
}
