//! What a spec means, with what its site says where it is silent.

use super::*;
use crate::api::{ExtractRefresh, RefreshDefaults};
use crate::model::feeds::Selector;
use serde_json::{Value, json};

fn parse(fields: &Value, defaults: &Value) -> Result<Desired, Unsupported> {
    let mut spec = json!({
        "siteRef": {"name": "acme"},
        "target": {"kind": "Datasource", "projectPath": "Finance", "name": "Orders"},
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let object: ExtractRefresh = serde_json::from_value(json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh",
        "metadata": {"name": "orders", "namespace": "finance"}, "spec": spec,
    }))
    .unwrap();
    let defaults: RefreshDefaults = serde_json::from_value(defaults.clone()).unwrap();
    Desired::parse(&object, Some(&defaults))
}

#[test]
fn where_it_is_silent_its_site_speaks() {
    let window =
        |name: &str| json!({"name": name, "policy": "Deny", "schedule": "0 6 * * *", "duration": "1h"});
    let defaults = json!({
        "freshness": {"warnAfter": "12h", "failAfter": "26h"},
        "retry": {"limit": 7, "backoff": {"duration": "5m"}},
        "timeout": "3h",
        "priority": 80,
        "refreshWindows": [window("site")],
    });
    let seconds = Duration::from_secs;
    let silent = parse(&json!({}), &defaults).unwrap();
    assert_eq!(silent.freshness.fail_after, Some(seconds(26 * 3600)));
    assert_eq!((silent.retry.limit, silent.retry.backoff.first), (7, seconds(300)));
    assert_eq!((silent.timeout, silent.priority, silent.windows.len()), (seconds(3 * 3600), 80, 1));

    let own = json!({
        "freshness": {"warnAfter": "1h"},
        "retry": {"limit": 1},
        "timeout": "1h",
        "priority": 0,
        "refreshWindows": [window("own")],
    });
    let own = parse(&own, &defaults).unwrap();
    assert_eq!(
        (own.freshness.warn_after, own.freshness.fail_after),
        (Some(seconds(3600)), None),
        "whole fields"
    );
    assert_eq!((own.retry.limit, own.retry.backoff.first), (1, seconds(60)), "whole fields");
    assert_eq!((own.timeout, own.priority, own.windows.len()), (seconds(3600), 0, 2), "windows are added");

    let unset = parse(&json!({}), &json!({})).unwrap();
    assert_eq!((unset.freshness, unset.retry.limit, unset.priority), (Freshness::default(), 3, 50));
}

#[test]
fn names_of_states_that_do_not_count() {
    let upstream =
        json!([{"name": "a", "flowDeploymentRef": {"name": "a"}, "excludeStateNames": ["Skipped"]}]);
    let desired = parse(&json!({"upstreams": upstream}), &json!({})).unwrap();
    let seen = |name: &str| Seen {
        run: "r".into(),
        state: "s".into(),
        state_name: name.into(),
        parameters: Parameters::default(),
        at: at(0),
        started_at: None,
        published: Moment::default(),
    };
    for (name, counts) in [("Skipped", false), ("skipped", true), ("Completed", true), ("Cached", true)] {
        assert_eq!(desired.upstreams[0].selection.counts(&seen(name)), counts, "{name}");
    }
}

#[test]
fn quiet_may_be_longer_than_the_usual_most() {
    let debounce =
        |d: Value| parse(&json!({"trigger": {"debounce": d}}), &json!({})).map(|d| d.debounce.unwrap());
    let minutes = |n: u64| Duration::from_secs(60 * n);
    assert_eq!(debounce(json!({"quiet": "2m"})).unwrap().longest, minutes(15));
    assert_eq!(debounce(json!({"quiet": "20m"})).unwrap().longest, minutes(20));
    assert_eq!(debounce(json!({"quiet": "2m", "max": "3m"})).unwrap().longest, minutes(3));
    let refused = debounce(json!({"quiet": "2d"})).unwrap_err();
    assert!(refused.message.starts_with("trigger.debounce.quiet: "), "{refused}");
}

#[test]
fn defaults_that_cannot_be_acted_on_are_refused() {
    let check = |defaults: Value| check_defaults(&serde_json::from_value(defaults).unwrap());
    assert_eq!(check(json!({"timeout": "1h", "retry": {"limit": 2}})), Ok(()));
    for bad in [
        json!({"timeout": "1d"}),
        json!({"freshness": {"failAfter": "x"}}),
        json!({"retry": {"backoff": {"duration": "x"}}}),
        json!({"refreshWindows": [{"name": "w", "policy": "Deny", "schedule": "0 25 * * *", "duration": "1h"}]}),
    ] {
        assert!(check(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn parameters_choose_runs_and_are_part_of_what_an_upstream_is() {
    let upstream = |parameters: Value| {
        let upstream = json!([{"name": "a", "flowDeploymentRef": {"name": "a"}, "parameters": parameters}]);
        parse(&json!({"upstreams": upstream}), &json!({})).unwrap().upstreams.remove(0)
    };
    let seen = |parameters: Value| Seen {
        run: "r".into(),
        state: "s".into(),
        state_name: "Completed".into(),
        parameters: Parameters::of(&serde_json::from_value(parameters).unwrap()),
        at: at(0),
        started_at: None,
        published: Moment::default(),
    };
    let eu = upstream(json!({"region": "eu"}));
    assert!(eu.selection.counts(&seen(json!({"region": "eu", "full": true}))));
    assert!(!eu.selection.counts(&seen(json!({"region": "us"}))));
    assert!(!eu.selection.counts(&seen(json!({}))));
    let feed = Feed::Deployment(DeploymentName { flow: "a".into(), deployment: "nightly".into() });
    assert_ne!(
        eu.key(&ConnectionName::parse("prod"), &feed),
        upstream(json!({"region": "us"})).key(&ConnectionName::parse("prod"), &feed)
    );
    assert_eq!(upstream(json!({})).key(&ConnectionName::parse("prod"), &feed), "prod/a/nightly");
}

#[test]
fn runs_by_tags_and_work_pool_are_an_upstream_and_all_runs_are_none() {
    let upstream = |runs: Value| {
        let mut runs = runs;
        runs["workspaceRef"] = json!({"name": "prod"});
        let upstreams = json!([{"name": "crm", "prefectRuns": runs}]);
        parse(&json!({"upstreams": upstreams}), &json!({})).map(|mut d| d.upstreams.remove(0).source)
    };
    let selector = |tags: &[&str], pool| Selector::new(tags.iter().copied(), pool).map(Feed::Runs).unwrap();
    for (declared, feed) in [
        (json!({"tags": ["b", "a"], "workPool": "etl"}), selector(&["a", "b"], Some("etl"))),
        (json!({"tags": ["a"]}), selector(&["a"], None)),
        (json!({"workPool": "etl", "tags": []}), selector(&[], Some("etl"))),
    ] {
        assert_eq!(
            upstream(declared),
            Ok(Source::Prefect { workspace: ConnectionName::parse("prod"), feed })
        );
    }
    let refused = upstream(json!({"tags": []})).unwrap_err();
    assert!(refused.message.contains("`crm` takes every run"), "{refused}");
}

#[test]
fn a_wait_for_what_runs_is_half_an_hour_unless_it_says_so() {
    let running =
        |r: Value| parse(&json!({"trigger": {"runningUpstreams": r}}), &json!({})).map(|d| d.running);
    let minutes = |n: u64| Some(Duration::from_secs(60 * n));
    assert_eq!(running(json!({"policy": "Wait"})).unwrap(), minutes(30));
    assert_eq!(running(json!({"policy": "Wait", "max": "2h"})).unwrap(), minutes(120));
    assert_eq!(running(json!({"policy": "Ignore", "max": "2h"})).unwrap(), None);
    assert_eq!(parse(&json!({}), &json!({})).unwrap().running, None);
    assert!(running(json!({"policy": "Wait", "max": "2d"})).is_err());
}
