//! The oracle bites: each thing that must not be is found, and only then.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;

fn end() -> Observation {
    let tick = |second: i64| jiff::Timestamp::from_second(second).unwrap();
    let key = |system, call: &str| Key { system, call: call.to_owned() };
    let calls = BTreeMap::from([
        (key(System::Prefect, "PATCH:deployments/*"), 1),
        (key(System::Prefect, "POST:deployments"), 1),
        (key(System::Prefect, "POST:logs"), 5),
        (key(System::Kubernetes, "PATCH:extractrefreshes/orders/status"), 4),
        (key(System::Kubernetes, "PATCH:flowdeployments/orders"), 1),
        (key(System::Tableau, "POST:auth/signin"), 1),
    ]);
    Observation {
        state: json!({"deployments": [{"description": "a"}], "extractrefreshes": [{"status": {"owed": 1}}]}),
        calls,
        refreshes: 1,
        untold: 0,
        said_twice: 0,
        next_run: Some(tick(6)),
        ticks: vec![tick(2), tick(4), tick(6)],
        leaks: Vec::new(),
        panics: Vec::new(),
    }
}

/// What is found when one thing is changed.
fn found(workload: Workload, change: impl FnOnce(&mut Observation)) -> Vec<String> {
    let mut seen = end();
    change(&mut seen);
    compare(workload, &end(), &seen).iter().map(Finding::to_string).collect()
}

#[test]
fn the_same_end_is_no_finding_and_neither_are_reports_signing_in_and_what_may_repeat() {
    assert_eq!(found(Workload::Schedule, |_| {}), [""; 0]);
    let more = |seen: &mut Observation| {
        for (key, count) in &mut seen.calls {
            *count += usize::from(is_report(key) || is_sign_in(key) || key.call == "PATCH:deployments/*");
        }
    };
    assert_eq!(found(Workload::Schedule, more), [""; 0]);
    assert_eq!(
        found(Workload::Trigger, more),
        ["differs: prefect:PATCH:deployments/* was applied 2 times, not 1"]
    );
}

#[test]
fn refreshes_ticks_and_deployments_are_counted() {
    let of = |change: fn(&mut Observation)| found(Workload::Schedule, change).join("; ");
    assert_eq!(of(|seen| seen.refreshes = 2), "DOUBLED: 2 refreshes instead of 1");
    assert_eq!(of(|seen| seen.refreshes = 0), "LOST: 1 of 1 refreshes");
    assert_eq!(of(|seen| seen.untold = 1), "LOST: what Prefect shows of 1 refreshes");
    assert!(
        of(|seen| seen.ticks.retain(|tick| tick.as_second() != 4))
            .starts_with("LOST: the scheduled runs between")
    );
    assert!(of(|seen| seen.ticks.insert(1, seen.ticks[1])).starts_with("DOUBLED: the scheduled run of"));
    assert_eq!(of(|seen| seen.next_run = None), "LOST: all scheduled runs to come");
    assert!(of(|seen| seen.state["deployments"] = json!([])).starts_with("LOST: 1 of 1 deployments"));
    let twice = |seen: &mut Observation| seen.state["deployments"] = json!([{"description": "a"}, {}]);
    assert!(of(twice).starts_with("DOUBLED: 2 deployments"));
}

/// Log lines have no key: they are told as often as without kills, and none is there twice.
#[test]
fn log_lines_are_neither_fewer_nor_more() {
    let of = |count: usize, twice: usize| {
        let logs = Key { system: System::Prefect, call: "POST:logs".to_owned() };
        found(Workload::Trigger, |seen| {
            seen.calls.insert(logs, count);
            seen.said_twice = twice;
        })
        .join("; ")
    };
    assert_eq!(of(5, 0), "");
    assert_eq!(of(4, 0), "differs: prefect:POST:logs was applied 4 times, not 5");
    assert_eq!(of(6, 0), "differs: prefect:POST:logs was applied 6 times, not 5");
    assert_eq!(of(5, 2), "DOUBLED: 2 log lines in Prefect");
}

#[test]
fn another_state_other_calls_secrets_and_panics_are_found() {
    let of = |change: fn(&mut Observation)| found(Workload::Schedule, change).join("; ");
    let state = |seen: &mut Observation| seen.state["extractrefreshes"][0]["status"] = json!({});
    assert_eq!(of(state), "differs: /extractrefreshes/0/status/owed is null, not 1");
    let created_twice = |seen: &mut Observation| {
        let key = Key { system: System::Prefect, call: "POST:deployments".to_owned() };
        seen.calls.insert(key, 2);
    };
    assert_eq!(of(created_twice), "differs: prefect:POST:deployments was applied 2 times, not 1");
    let unasked = |seen: &mut Observation| {
        let key = Key { system: System::Prefect, call: "DELETE:deployments/*".to_owned() };
        seen.calls.insert(key, 1);
    };
    assert_eq!(of(unasked), "differs: prefect:DELETE:deployments/* was applied 1 times, not 0");
    assert_eq!(of(|seen| seen.leaks.push("log".to_owned())), "differs: a secret is in the log");
    assert_eq!(of(|seen| seen.panics.push("at x".to_owned())), "differs: panic: at x");
}
