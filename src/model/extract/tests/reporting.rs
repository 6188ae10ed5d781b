//! API.md 4: what a person reads.

use super::*;
use crate::model::runs::StateType;

#[test]
fn a_missing_reference_is_waited_for_five_minutes() {
    let mut bench = Bench::new();
    bench.o.upstreams.insert("b".into(), UpstreamView::Missing { message: "no b".into(), reference: true });
    bench.wait(1);
    bench.rest();
    assert_eq!(bench.reason("Ready"), "Unknown/DependencyNotFound");
    assert_eq!(bench.reason("Reconciling"), "True/DependencyNotFound");
    assert_eq!(bench.reason("UpstreamsHealthy"), "False/UpstreamNotFound");
    let decision = decide(&bench.d, &bench.o, &bench.s, bench.now(), String::new);
    assert_eq!(decision.again, Some(add(bench.now(), Duration::from_secs(300))));
    bench.wait(300);
    bench.rest();
    assert_eq!(bench.reason("Ready"), "False/DependencyNotFound");
    assert_eq!(bench.reason("Stalled"), "");
    bench.wait(300);
    bench.rest();
    assert_eq!(bench.reason("Ready"), "False/DependencyNotFound");
}

#[test]
fn an_outage_flips_only_those_with_something_due() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.refreshes("job-1");
    let before = bench.s.clone();
    bench.o.site = SiteView::NotReady { reason: "Unreachable" };
    bench.o.target = TargetView::Unread;
    bench.o.claim = Claim::Unresolved;
    bench.o.upstreams = BTreeMap::new();
    bench.rest();
    assert_eq!(bench.s, before, "at rest nothing is written");
    bench.d.refresh_token = Some("t".into());
    bench.rest();
    assert_eq!(bench.reason("Refreshing"), "False/ConnectionUnavailable");
    assert_eq!(bench.reason("Ready"), "True/InSync");
}

#[test]
fn a_new_resource_on_an_unreachable_site_says_so() {
    let mut bench = Bench::new();
    bench.s = ExtractRefreshStatus::default();
    bench.o.site = SiteView::NotReady { reason: "Unreachable" };
    bench.o.target = TargetView::Unread;
    bench.rest();
    assert_eq!(bench.reason("Ready"), "Unknown/ConnectionUnavailable");
    bench.o.site = SiteView::Ready { luid: SITE.into() };
    bench.rest();
    assert_eq!(bench.reason("Ready"), "Unknown/Progressing");
}

#[test]
fn only_a_conflict_stalls_and_it_names_the_other() {
    let mut bench = Bench::new();
    bench.o.claim = Claim::Taken { by: ObjectName { namespace: "finance".into(), name: "older".into() } };
    bench.rest();
    assert_eq!(bench.reason("Ready"), "False/TargetConflict");
    assert_eq!(bench.reason("Stalled"), "True/TargetConflict");
    assert!(bench.s.conditions.iter().any(|c| c.type_ == "Ready" && c.message.contains("finance/older")));
}

#[test]
fn upstreams_show_what_is_wrong_with_them() {
    let mut bench = Bench::new();
    assert_eq!(bench.reason("UpstreamsHealthy"), "True/AllHealthy");
    let mut set = |state: Option<StateType>, is_paused: bool| {
        if let Some(UpstreamView::Read { newest_ended, paused, .. }) = bench.o.upstreams.get_mut("a") {
            (*newest_ended, *paused) = (state.map(|state| (state, "run".into())), is_paused);
        }
        bench.rest();
        bench.reason("UpstreamsHealthy")
    };
    assert_eq!(set(Some(StateType::Crashed), false), "False/UpstreamFailing");
    assert_eq!(set(Some(StateType::Completed), true), "False/UpstreamPaused");
    assert_eq!(set(Some(StateType::Completed), false), "True/AllHealthy");
}

#[test]
fn runs_that_were_left_unread_are_told_of_once_and_until_one_counts() {
    let mut bench = Bench::new();
    let set = |bench: &mut Bench, is: bool| {
        if let Some(UpstreamView::Read { given_up, .. }) = bench.o.upstreams.get_mut("a") {
            *given_up = is;
        }
        bench.rest();
    };
    set(&mut bench, true);
    assert_eq!(bench.reason("UpstreamsHealthy"), "Unknown/UpstreamRunsUnread");
    assert!(bench.message("UpstreamsHealthy").contains("`a`"));
    bench.wait(60);
    bench.rest();
    assert_eq!(bench.notes.iter().filter(|note| **note == "UpstreamRunsUnread").count(), 1);
    set(&mut bench, false);
    assert_eq!(bench.reason("UpstreamsHealthy"), "True/AllHealthy");
}

#[test]
fn an_upstream_whose_past_cannot_be_read_says_so_until_it_is() {
    let mut bench = Bench::new();
    let read = bench.o.upstreams["a"].clone();
    let unread = |stuck| UpstreamView::Unread { key: Some(key_of("a")), clock: None, stuck };
    for (view, expected) in [
        (unread(false), "True/AllHealthy"),
        (unread(true), "Unknown/UpstreamRunsUnread"),
        (unread(false), "Unknown/UpstreamRunsUnread"),
        (read, "True/AllHealthy"),
    ] {
        bench.o.upstreams.insert("a".into(), view);
        bench.rest();
        assert_eq!(bench.reason("UpstreamsHealthy"), expected);
    }
    assert_eq!(bench.notes.iter().filter(|note| **note == "UpstreamRunsUnread").count(), 1);
}

/// What reads it next has to look farther back than a day.
#[test]
fn an_upstream_that_was_not_there_is_unread_until_it_is_read() {
    let mut bench = Bench::new();
    bench.completes("a");
    bench.rest();
    let state = |bench: &Bench| bench.s.upstreams[0].state.clone();
    let view = bench.o.upstreams["a"].clone();
    for (other, expected) in [
        (UpstreamView::Unread { key: Some(key_of("a")), clock: None, stuck: false }, "Completed"),
        (UpstreamView::Missing { message: "no a".into(), reference: true }, "NotFound"),
        (UpstreamView::Unread { key: Some(key_of("a")), clock: None, stuck: false }, "Unread"),
        (UpstreamView::Unread { key: None, clock: None, stuck: false }, "Unread"),
        (view, "Completed"),
    ] {
        bench.o.upstreams.insert("a".into(), other);
        bench.rest();
        assert_eq!(state(&bench), expected);
    }
}

/// Whoever reads it next, a process after this one among them, has to look as far back as it may count.
#[test]
fn an_upstream_of_which_what_was_seen_counts_no_more_is_unread_until_it_is_read() {
    let mut bench = Bench::new();
    bench.completes("a");
    bench.rest();
    let unread = UpstreamView::Unread { key: Some(key_of("a")), clock: None, stuck: false };
    bench.o.upstreams.insert("a".into(), unread);
    bench.d.upstreams[0].selection = Selection::new(Parameters::default(), ["Completed".to_owned()]);
    bench.d.generation += 1;
    bench.rest();
    let shown = |bench: &Bench| (bench.s.upstreams[0].state.clone(), bench.s.upstreams[0].run_id.clone());
    assert_eq!(shown(&bench), ("Unread".into(), None));
    bench.o.upstreams.remove("a");
    bench.read("a");
    bench.rest();
    assert_eq!(shown(&bench), ("None".into(), None));
}

#[test]
fn waiting_names_who_is_missing_and_who_is_too_old() {
    let mut bench = Bench::new();
    bench.d.upstreams.push(upstream("c"));
    bench.read("c");
    bench.d.within = Some(Duration::from_secs(60));
    bench.completes("a");
    bench.wait(100);
    bench.completes("b");
    bench.rest();
    assert_eq!(bench.reason("Refreshing"), "False/WaitingForUpstreams");
    let refreshing = bench.s.conditions.iter().find(|c| c.type_ == "Refreshing").unwrap();
    assert_eq!(
        refreshing.message,
        "trigger.require is All; not completed anew: `c`; completed too long ago for trigger.within: `a`"
    );
}

#[test]
fn an_edit_stamps_every_condition_even_if_nothing_else_changes() {
    let mut bench = Bench::new();
    bench.d.generation = 7;
    bench.rest();
    assert_eq!(bench.s.observed_generation, 7);
    assert!(bench.s.conditions.iter().all(|c| c.observed_generation == Some(7)));
}

#[test]
fn an_unsupported_spec_keeps_the_machine() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.rest();
    let why = Unsupported { message: "another version wrote this".into() };
    let status = unsupported(&bench.s, &why, 9, bench.now());
    assert_eq!(status.observed_generation, 9);
    let fresh = status.conditions.iter().find(|c| c.type_ == "Fresh").unwrap();
    assert_eq!(fresh.observed_generation, Some(1), "nobody is told that the data of this spec is fresh");
    assert_eq!((&status.owed, &status.marks), (&bench.s.owed, &bench.s.marks));
    assert!(status.conditions.iter().any(|c| c.type_ == "Stalled" && c.reason == "UnsupportedSpec"));
    assert_eq!(unsupported(&status, &why, 9, add(bench.now(), Duration::from_secs(60))), status);
}

#[test]
fn messages_hold_no_clock_times_and_no_counters() {
    let mut bench = Bench::any();
    bench.completes("a");
    for job in ["job-1", "job-2", "job-3"] {
        bench.submits(job);
        bench.job(job, JobStatus::Failed, None);
        bench.rest();
        for condition in &bench.s.conditions {
            // A job is named as long as it is the last one.
            let message = condition.message.replace(&format!("`{job}`"), "");
            assert!(!message.contains(|c: char| c.is_ascii_digit()), "{message}");
        }
        bench.wait(1000);
    }
}

#[test]
fn status_stays_under_48_kib_with_32_upstreams_whose_flows_and_deployments_have_the_longest_names() {
    let mut bench = Bench::new();
    let name = |n: usize| format!("warehouse-orders-{n:02}");
    bench.d.upstreams = (0..32).map(|n| upstream(&name(n))).collect();
    let key_of = |n: usize| {
        let long = |text: &str| format!("{text}{}", "/".repeat(255 - text.len()));
        let (flow, deployment) = (long("load").into(), long(&name(n)).as_str().into());
        let feed = Feed::Deployment(DeploymentName { flow, deployment });
        Selection::default().key(&ConnectionName::parse("prod"), &feed)
    };
    for n in 0..32 {
        bench.read(&name(n));
        let UpstreamView::Read { key, .. } = bench.o.upstreams.get_mut(&name(n)).unwrap() else { panic!() };
        *key = key_of(n);
    }
    bench.wait(0);
    bench.rest();
    for job in 0..12 {
        for n in 0..32 {
            bench.completes(&name(n));
            bench.read(&name(n)).last_mut().unwrap().state_name = "é".repeat(255).into();
        }
        bench.submits(&format!("job-{job}"));
        if job < 11 {
            bench.succeeds(&format!("job-{job}"));
        }
        bench.rest();
    }
    assert!(bench.s.attempt.is_some() && bench.s.owed.is_some() && bench.s.history.len() == 10);
    let known = |n: usize| bench.s.marks.iter().any(|mark| mark.key == key_of(n));
    assert!((0..32).all(known), "each by its own");
    let named =
        |seen: Option<&crate::api::Occasion>| seen.and_then(|seen| seen.state_name.as_ref()).map(String::len);
    let longest = bench.s.marks.iter().filter(|mark| named(mark.seen.as_ref()) > Some(50));
    assert_eq!(longest.count(), 32);
    // Ids and times as long as the real ones.
    let uuid = "0e31bd11-9c3e-4dd2-a52f-d4ac2a2a6f8c";
    let mut text = serde_json::to_string(&bench.s).unwrap();
    for field in ["runId", "stateId"] {
        let mut parts = text.split(&format!("\"{field}\":\"")).map(str::to_owned).collect::<Vec<_>>();
        for part in &mut parts[1..] {
            *part = format!("{uuid}{}", &part[part.find('"').unwrap()..]);
        }
        text = parts.join(&format!("\"{field}\":\""));
    }
    let fractions = text.matches("Z\"").count() * 7;
    let size = text.len() + fractions;
    assert!((30_000..48 * 1024).contains(&size), "{size}");
}
