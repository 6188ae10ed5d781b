//! A connection of the cluster that does not allow what is asked of it.

use super::*;
use crate::api::Outcome;

/// As the driver observes it: nothing is seen of the target.
fn deny(bench: &mut Bench) {
    bench.o.access = Access::Denied("ask for it".into());
    (bench.o.target, bench.o.claim) = (TargetView::Unread, Claim::Unresolved);
    if bench.s.attempt.is_none() {
        bench.o.site = SiteView::NotReady { reason: "AccessDenied" };
    }
}

fn allow(bench: &mut Bench) {
    bench.o.access = Access::Allowed;
    (bench.o.target, bench.o.claim) = (TargetView::Found(found(LUID)), Claim::Ours);
    bench.o.site = SiteView::Ready { luid: SITE.into() };
}

#[test]
fn nothing_is_begun_and_what_is_owed_is_kept() {
    let mut bench = Bench::any();
    deny(&mut bench);
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.reason("Ready"), "False/AccessDenied");
    assert_eq!(bench.reason("Stalled"), "True/AccessDenied");
    bench.completes("a");
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.reason("Refreshing"), "False/ConnectionUnavailable");
    assert!(bench.s.owed.is_some() && bench.s.attempt.is_none());
    allow(&mut bench);
    assert_eq!(bench.posts().seen.len(), 1, "given back, it is made good");
}

#[test]
fn of_a_connection_that_is_not_there_it_is_said_and_nothing_is_sent() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.rest();
    assert!(bench.s.attempt.is_some());
    let gone = |bench: &mut Bench| {
        (bench.o.access, bench.o.site) = (Access::Unknown, SiteView::Missing);
        (bench.o.target, bench.o.claim) = (TargetView::Unread, Claim::Unresolved);
    };
    gone(&mut bench);
    bench.wait(5);
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.reason("Ready"), "Unknown/DependencyNotFound");
    assert_eq!(bench.reason("Refreshing"), "False/ConnectionUnavailable");
    bench.s.attempt = None;
    assert_eq!(bench.rest(), Step::Rest);
    let told = bench.s.conditions.iter().find(|c| c.type_ == "Refreshing").unwrap();
    assert!(told.message.contains("does not exist"), "{}", told.message);
}

#[test]
fn an_intent_that_is_not_sent_is_dropped_and_what_is_owed_stays() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.rest();
    assert!(bench.s.attempt.is_some());
    deny(&mut bench);
    bench.wait(5);
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.reason("Ready"), "False/AccessDenied");
    assert!(bench.s.attempt.is_none() && bench.s.owed.is_some(), "it would stand in the way of others");
    allow(&mut bench);
    bench.wait(5);
    assert_eq!(bench.posts().seen.len(), 1);
}

#[test]
fn a_job_of_another_content_is_neither_followed_nor_cancelled() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    bench.d.timeout = Duration::from_secs(60);
    let started = bench.now();
    bench.job("job-1", JobStatus::InProgress, Some(started));
    let answer = bench.o.jobs.details.values_mut().next().unwrap();
    answer.job.as_mut().unwrap().content = Some("somebody-elses".into());
    bench.wait(600);
    let step = bench.rest();
    assert!(!matches!(step, Step::Cancel { .. }), "{step:?}");
    assert!(bench.s.attempt.as_ref().is_none_or(|attempt| attempt.job_id.is_none()), "{:?}", bench.s.attempt);
    assert_eq!(bench.s.history[0].outcome, Outcome::Superseded);
}

#[test]
fn a_refresh_that_runs_is_followed_to_its_end() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    deny(&mut bench);
    assert!(matches!(bench.rest(), Step::Look { .. } | Step::Rest));
    assert_eq!(bench.reason("Ready"), "False/AccessDenied");
    bench.succeeds("job-1");
    bench.rest();
    assert_eq!(bench.reason("LastRefreshSucceeded"), "True/Succeeded");
    assert!(bench.s.attempt.is_none() && bench.s.owed.is_none());
}

/// What it means now is never looked up, so that what it has begun is not held until then: others would wait for it.
#[test]
fn a_refresh_that_runs_on_what_was_named_before_ends_all_the_same() {
    for known in [true, false] {
        let mut bench = Bench::any();
        bench.completes("a");
        bench.submits("job-1");
        deny(&mut bench);
        bench.d.target = named("HR", "Salaries");
        bench.d.generation += 1;
        let ended = bench.now();
        bench.job("job-1", JobStatus::Success, Some(ended));
        if !known {
            bench.o.jobs.details.get_mut(&JobId::from("job-1")).unwrap().job = None;
        }
        bench.rest();
        assert!(bench.s.attempt.is_none(), "{:?}", bench.s.attempt);
        assert_eq!(bench.s.history[0].outcome, Outcome::Superseded);
    }
}

#[test]
fn an_upstream_that_may_not_be_seen_is_told_apart() {
    let mut bench = Bench::new();
    let message = "it is another team's".to_owned();
    bench.o.upstreams.insert("b".into(), UpstreamView::Denied { message });
    bench.completes("a");
    assert_eq!(bench.rest(), Step::Rest, "the other one does not make the set");
    assert_eq!(bench.reason("UpstreamsHealthy"), "False/AccessDenied");
    assert_eq!(bench.reason("Ready"), "True/InSync");
    let told = bench.s.conditions.iter().find(|c| c.type_ == "UpstreamsHealthy").unwrap();
    assert!(told.message.contains("b may not be seen: it is another team's"), "{}", told.message);
    let states: Vec<&str> = bench.s.upstreams.iter().map(|u| u.state.as_str()).collect();
    assert_eq!(states, ["Completed", "AccessDenied"]);
}
