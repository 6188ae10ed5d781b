//! How old the data is, and what a new resource does.

use super::*;
use crate::api::{DemandKind, Time};

/// Both upstreams delivered, the extract is refreshed.
fn refreshed() -> Bench {
    let mut bench = Bench::new();
    let (warn_after, fail_after) = (Some(Duration::from_secs(600)), Some(Duration::from_secs(1200)));
    bench.d.freshness = Freshness { warn_after, fail_after, warns: false };
    bench.completes("a");
    bench.wait(100);
    bench.completes("b");
    bench.refreshes("job-1");
    bench
}

#[test]
fn data_grows_late_and_then_stale_and_says_which_is_the_oldest() {
    let mut bench = refreshed();
    let data = bench.s.data_time.unwrap();
    assert_eq!(data, Time(at(10)), "the start of the older run");
    assert_eq!(bench.reason("Fresh"), "True/UpToDate");
    assert_eq!(bench.again(), Some(at(610)), "looked at again when it grows late, and not before");
    bench.wait(609 - bench.now);
    bench.rest();
    assert_eq!(bench.reason("Fresh"), "True/UpToDate");
    bench.wait(1);
    bench.rest();
    assert_eq!(bench.reason("Fresh"), "False/Late");
    assert!(bench.message("Fresh").contains("upstream `a`"), "{}", bench.message("Fresh"));
    assert_eq!(bench.again(), Some(at(1210)));
    bench.wait(600);
    bench.rest();
    assert_eq!(bench.reason("Fresh"), "False/Stale");
    assert_eq!(bench.again(), None, "nothing changes with time any more");
    assert_eq!(
        bench.notes.iter().filter(|note| ["Late", "Stale"].contains(note)).count(),
        2,
        "each told once"
    );
    bench.completes("a");
    bench.completes("b");
    bench.refreshes("job-2");
    assert_eq!(bench.reason("Fresh"), "True/UpToDate");
}

#[test]
fn an_upstream_may_be_as_old_as_it_wants() {
    let mut bench = refreshed();
    bench.d.upstreams[0].counts_for_freshness = false;
    bench.rest();
    assert_eq!(bench.s.data_time, Some(Time(at(111))), "the start of the run of `b`");
    bench.d.upstreams[1].counts_for_freshness = false;
    bench.rest();
    assert_eq!(bench.s.data_time, Some(Time(at(111))), "what was known stays until the next refresh");
    bench.completes("a");
    bench.completes("b");
    bench.refreshes("job-3");
    let started = bench.now();
    assert_eq!(bench.s.data_time, Some(Time(started)), "no upstream counts: the start of the refresh");
}

/// What was contained of the older upstream counts no more by its new type, nor does the data grow younger by that.
#[test]
fn an_edit_makes_no_data_younger() {
    let mut bench = Bench::new();
    bench.d.upstreams[0].refresh_type = Some(RefreshType::Incremental);
    bench.completes("a");
    bench.wait(100);
    bench.completes("b");
    bench.refreshes("job-1");
    let before = bench.s.data_time;
    assert_eq!(before, Some(Time(at(10))));
    bench.d.upstreams[0].refresh_type = None;
    bench.rest();
    assert!(bench.s.marks[0].covered.is_none());
    assert_eq!(bench.s.data_time, before);
    bench.completes("a");
    bench.completes("b");
    bench.refreshes("job-2");
    assert!(bench.s.data_time > before);
    // The other way round nothing is lost: a full refresh contains an increment.
    bench.d.upstreams[0].refresh_type = Some(RefreshType::Incremental);
    bench.rest();
    assert!(bench.s.marks[0].covered.is_some());
}

/// Upstream `b` has completed before the resource was there.
fn delivered_before() -> Bench {
    let mut bench = Bench::any();
    bench.s = ExtractRefreshStatus::default();
    bench.completes("b");
    bench.wait(100);
    bench.o.baseline = Some(bench.now());
    bench.d.refresh_type = RefreshMode::Incremental;
    bench
}

/// What was delivered before the resource was there, and is contained, is the age of the data: an edit that takes it back makes it no younger.
#[test]
fn an_edit_of_what_was_delivered_before_makes_no_data_younger() {
    let mut bench = delivered_before();
    bench.rest();
    bench.completes("a");
    bench.refreshes("job-1");
    let before = bench.s.data_time;
    assert_eq!(before, bench.s.marks[1].seen.as_ref().unwrap().started_at);
    bench.d.upstreams[1].refresh_type = Some(RefreshType::Full);
    bench.rest();
    assert!(bench.s.marks[1].covered.is_none());
    assert_eq!(bench.s.data_time, before);
}

/// Nothing of what was delivered before the resource was there is owed: the age does not wait for it.
#[test]
fn what_was_delivered_before_holds_no_age_back() {
    let mut bench = delivered_before();
    bench.d.upstreams[1].refresh_type = Some(RefreshType::Full);
    bench.rest();
    bench.completes("a");
    bench.refreshes("job-1");
    let before = bench.s.data_time;
    bench.wait(100);
    bench.completes("a");
    bench.refreshes("job-2");
    assert!(bench.s.marks[1].seen.is_some() && bench.s.marks[1].covered.is_none());
    assert!(bench.s.data_time > before, "{before:?}");
}

#[test]
fn without_upstreams_age_counts_from_the_start_of_the_refresh() {
    let mut bench = refreshed();
    bench.d.upstreams.clear();
    bench.d.refresh_token = Some("now".into());
    bench.refreshes("job-4");
    let started = bench.now();
    assert_eq!(bench.s.data_time, Some(Time(started)));
}

#[test]
fn a_new_resource_is_refreshed_once_if_it_says_so() {
    let mut bench = Bench::new();
    let fresh = |bench: &mut Bench| {
        bench.s = ExtractRefreshStatus::default();
        bench.d.on_create = OnCreate::Refresh;
    };
    fresh(&mut bench);
    assert_eq!(bench.posts().demands[0].kind, DemandKind::Created);

    let mut restored = Bench::new();
    fresh(&mut restored);
    restored.d.baseline_annotation = Some(at(0));
    assert_eq!(restored.rest(), Step::Rest);
    assert_eq!(restored.s.owed, None, "restored from a backup: not new");
}

#[test]
fn another_target_is_refreshed_once_if_nothing_is_owed() {
    let mut bench = refreshed();
    bench.d.on_create = OnCreate::Refresh;
    bench.d.target = named("Finance", "Other");
    bench.d.generation += 1;
    bench.o.target = TargetView::Found(Found { name: Some("Other".into()), ..found("luid-2") });
    assert_eq!(bench.posts().demands[0].kind, DemandKind::Created);

    let mut ignored = refreshed();
    ignored.d.target = named("Finance", "Other");
    ignored.o.target = TargetView::Found(Found { name: Some("Other".into()), ..found("luid-2") });
    assert_eq!(ignored.rest(), Step::Rest);
    assert_eq!(ignored.s.owed, None);
}

#[test]
fn what_tableau_refreshes_by_itself_is_not_called_stale() {
    let mut bench = refreshed();
    bench.d.schedules.all = vec![
        serde_json::from_value(
            serde_json::json!({"name": "nightly", "frequency": "Daily", "start": "02:00"}),
        )
        .unwrap(),
    ];
    bench.wait(3000);
    bench.rest();
    assert_eq!(bench.reason("Fresh"), "False/Stale", "what feeds it is followed");
    for upstream in &mut bench.d.upstreams {
        upstream.counts_for_freshness = false;
    }
    bench.rest();
    assert_eq!(bench.reason("Fresh"), "Unknown/NotYetRefreshed");
}
