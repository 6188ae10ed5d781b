//! What is a difference, and what is sent about it.

use super::*;
use crate::model::flow::tests::{desired, there};

fn names(spec: &Value, had: &Value, applied: &[&str]) -> (Vec<String>, Value) {
    let applied: Vec<String> = applied.iter().map(|a| (*a).to_owned()).collect();
    let diff = Diff::between(&desired(spec), &there(had), &applied);
    (diff.names.into_iter().collect(), Value::from(diff.patch))
}

#[test]
fn what_the_server_makes_of_a_value_is_no_difference() {
    for (declared, had) in [
        (json!({"pullSteps": []}), json!({"pull_steps": null})),
        (
            json!({"parameterOpenApiSchema": {}}),
            json!({"parameter_openapi_schema": {"type": "object", "properties": {}}}),
        ),
        (json!({"parameters": {"a": 1, "b": [2.0]}}), json!({"parameters": {"b": [2], "a": 1.0}})),
        (json!({"parameters": {}}), json!({"parameters": {}})),
        (json!({"tags": ["b", "a", "b"]}), json!({"tags": ["a", "a", "b", "feedwater:abc/finance/orders"]})),
        (json!({"description": ""}), json!({"description": ""})),
        (json!({}), json!({"work_queue_name": null})),
        (json!({"jobVariables": {}}), json!({})),
        (json!({"jobVariables": {"env": {"A": "1"}}}), json!({"job_variables": {"env": {"A": "1"}}})),
        (json!({"enforceParameterSchema": true, "paused": false}), json!({})),
        (
            json!({"concurrencyLimit": {"limit": 2, "collisionStrategy": "CancelNew"}}),
            json!({"concurrency_limit": 2, "concurrency_options": {"collision_strategy": "CANCEL_NEW", "grace_period_seconds": null}}),
        ),
        (
            json!({"description": "a", "tags": ["a"], "driftDetection": {"ignore": ["description", "tags"]}}),
            json!({"description": "b"}),
        ),
    ] {
        assert_eq!(names(&declared, &had, &[]).0, Vec::<String>::new(), "{declared} against {had}");
    }
}

#[test]
fn what_differs_is_sent_and_named() {
    for (declared, had, name, sent) in [
        (json!({"description": ""}), json!({}), "description", json!({"description": ""})),
        (
            json!({"parameters": {"a": "1"}}),
            json!({"parameters": {"a": 1}}),
            "parameters",
            json!({"parameters": {"a": "1"}}),
        ),
        (
            json!({"parameters": {"a": 1}}),
            json!({"parameters": {"a": 1, "b": 2}}),
            "parameters",
            json!({"parameters": {"a": 1}}),
        ),
        (
            json!({}),
            json!({"work_queue_name": "fast"}),
            "workPool",
            json!({"work_pool_name": "etl", "work_queue_name": "default"}),
        ),
        (
            json!({"tags": ["a"]}),
            json!({"tags": ["b", "feedwater:abc/finance/orders"]}),
            "tags",
            json!({"tags": ["a", "feedwater:abc/finance/orders"]}),
        ),
        (
            json!({"jobVariables": {"env": {"A": "2"}}}),
            json!({"job_variables": {"env": {"A": "1"}}}),
            "jobVariables",
            json!({"job_variables": {"env": {"A": "2"}}}),
        ),
        (json!({"paused": true}), json!({"paused": false}), "paused", json!({"paused": true})),
        (
            json!({"enforceParameterSchema": false}),
            json!({"enforce_parameter_schema": true}),
            "enforceParameterSchema",
            json!({"enforce_parameter_schema": false}),
        ),
        (
            json!({"concurrencyLimit": {"limit": 2, "gracePeriod": "90s"}}),
            json!({"concurrency_limit": 2}),
            "concurrencyLimit.collisionStrategy",
            json!({"concurrency_options": {"collision_strategy": "ENQUEUE", "grace_period_seconds": 90}}),
        ),
        (json!({}), json!({"tags": ["b"]}), "mark", json!({"tags": ["b", "feedwater:abc/finance/orders"]})),
    ] {
        assert_eq!(names(&declared, &had, &[]), (vec![name.to_owned()], sent), "{declared} against {had}");
    }
}

#[test]
fn what_was_never_set_is_left_and_what_was_set_is_reverted() {
    let had = json!({"job_variables": {"a": 1}, "enforce_parameter_schema": false, "paused": true, "concurrency_limit": 3,
                     "concurrency_options": {"collision_strategy": "ENQUEUE"},
                     "description": "d", "version": "1", "path": "/p", "pull_steps": [{}], "parameters": {"a": 1},
                     "parameter_openapi_schema": {"title": "x"}, "tags": ["t", "feedwater:abc/finance/orders"]});
    assert_eq!(names(&json!({}), &had, &[]).0, Vec::<String>::new());
    let all = [
        "description",
        "version",
        "path",
        "pullSteps",
        "parameters",
        "parameterOpenApiSchema",
        "tags",
        "jobVariables",
        "enforceParameterSchema",
        "paused",
        "concurrencyLimit",
        "concurrencyLimit.collisionStrategy",
    ];
    let reverted = json!({"description": null, "version": null, "path": null, "pull_steps": [], "parameters": {},
                          "parameter_openapi_schema": {}, "tags": ["feedwater:abc/finance/orders"],
                          "job_variables": {}, "enforce_parameter_schema": true, "paused": false,
                          "concurrency_limit": null, "concurrency_options": null});
    assert_eq!(names(&json!({}), &had, &all).1, reverted);
    // Reverted already: nothing is sent again.
    let bare = json!({"parameter_openapi_schema": {"type": "object", "properties": {}}});
    assert_eq!(names(&json!({}), &bare, &all).0, Vec::<String>::new());
}

#[test]
fn parameters_and_bounds_of_a_schedule_are_ours_once_declared() {
    let had = |parameters: Value, most: Option<i64>| {
        let mut there = there(&json!({}));
        there.schedules = vec![Schedule {
            id: ScheduleId::new("1"),
            slug: Some("a".into()),
            active: true,
            rule: Map::from_iter([("cron".into(), json!("1 1 * * *")), ("timezone".into(), Value::Null)]),
            parameters: parameters.as_object().unwrap().clone(),
            max_scheduled_runs: most,
        }];
        there
    };
    let puts = |more: Value, there: &Deployment| {
        let mut schedule = json!({"slug": "a", "cron": {"expression": "1 1 * * *"}});
        schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let put = Diff::between(&desired(&json!({"schedules": [schedule]})), there, &[]).put;
        put.into_iter()
            .map(|(_, new)| (Value::Object(new.parameters), new.max_scheduled_runs))
            .collect::<Vec<_>>()
    };
    let x = || json!({"x": 2});
    assert_eq!(puts(json!({}), &had(x(), Some(5))), [], "what is not declared is left");
    assert_eq!(puts(json!({"parameters": {"x": 2.0}, "maxScheduledRuns": 5}), &had(x(), Some(5))), []);
    assert_eq!(puts(json!({"parameters": {}}), &had(x(), Some(5))), [(json!({}), None)]);
    assert_eq!(puts(json!({"maxScheduledRuns": 3}), &had(x(), Some(5))), [(x(), Some(3))], "sent whole");
}

#[test]
fn foreign_schedules_go_only_when_that_is_declared() {
    let foreign = |slug: Option<&str>| Schedule {
        id: ScheduleId::new(slug.unwrap_or("none")),
        slug: slug.map(str::to_owned),
        active: true,
        rule: Map::new(),
        parameters: Map::new(),
        max_scheduled_runs: None,
    };
    let mut had = there(&json!({}));
    had.schedules = vec![foreign(None), foreign(Some("hand"))];
    let deleted = |spec: &Value| Diff::between(&desired(spec), &had, &[]).delete.len();
    assert_eq!((deleted(&json!({})), deleted(&json!({"foreignSchedules": "Remove"}))), (0, 2));
}

#[test]
fn schedules_go_by_slug_and_those_of_others_stay() {
    let cron = |slug: Option<&str>, id: &str, at: &str| Schedule {
        id: ScheduleId::new(id),
        slug: slug.map(str::to_owned),
        active: true,
        rule: Map::from_iter([("cron".into(), json!(at)), ("timezone".into(), Value::Null)]),
        parameters: Map::from_iter([("x".into(), json!(2))]),
        max_scheduled_runs: None,
    };
    let mut had = there(&json!({}));
    had.schedules = vec![
        cron(None, "1", "1 1 * * *"),
        cron(Some("hand"), "2", "2 2 * * *"),
        cron(Some("gone"), "3", "3 3 * * *"),
        cron(Some("kept"), "4", "4 4 * * *"),
        cron(Some("changed"), "5", "5 5 * * *"),
    ];
    let d = desired(&json!({"schedules": [
        {"slug": "kept", "cron": {"expression": "4 4 * * *"}},
        {"slug": "changed", "cron": {"expression": "6 6 * * *"}},
        {"slug": "new", "cron": {"expression": "7 7 * * *"}}]}));
    let applied = ["schedules/gone".to_owned(), "schedules/changed".to_owned()];
    let diff = Diff::between(&d, &had, &applied);
    let since: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
    let owed = |late: Option<Vec<Time>>| PendingWrite { since: Time(since), late };
    let look = diff.writes(&had, Some(&owed(None)), Some(since));
    assert!(
        matches!(look.as_slice(), [Write::SeeLate { before, .. }] if *before == since),
        "what a deletion would drop is looked at first: {look:?}"
    );
    let due: Timestamp = "2026-11-24T09:00:00Z".parse().unwrap();
    let writes = diff.writes(&had, Some(&owed(Some(vec![Time(due)]))), Some(since));
    let [
        Write::DeleteSchedule { schedule: gone, .. },
        restore,
        Write::PutSchedule { schedule, new: put, .. },
        Write::AddSchedule { new, .. },
        repair,
    ] = writes.as_slice()
    else {
        panic!("{writes:?}");
    };
    assert_eq!((gone.as_str(), schedule.as_str()), ("3", "5"));
    assert_eq!((put.rule["cron"].as_str(), &put.parameters["x"]), (Some("6 6 * * *"), &json!(2)));
    assert!(matches!(restore, Write::RestoreRuns { from, to, .. } if (*from, *to) == (due, due)));
    assert!(matches!(repair, Write::ScheduleRuns { since: from, .. } if *from == since));
    let paused = diff.writes(
        &Deployment { paused: true, ..had.clone() },
        Some(&owed(Some(vec![Time(due)]))),
        Some(since),
    );
    assert!(
        matches!(paused.as_slice(), [.., Write::AddSchedule { .. }]),
        "a paused deployment gets no runs: {paused:?}"
    );
    assert_eq!(new.slug, "new");
}

/// By its id Prefect knows the runs of a schedule: a new one would make the run again that a worker has taken already.
#[test]
fn a_schedule_that_gets_another_slug_keeps_its_id() {
    let mut had = there(&json!({}));
    let schedule = |id: &str, at: &str, most: Option<i64>| Schedule {
        id: ScheduleId::new(id),
        slug: Some(id.into()),
        active: true,
        rule: Map::from_iter([("cron".into(), json!(at)), ("timezone".into(), Value::Null)]),
        parameters: Map::from_iter([("x".into(), json!(2))]),
        max_scheduled_runs: most,
    };
    let of = |slugs: &[&str]| {
        let cron = |slug: &&str| json!({"slug": slug, "cron": {"expression": "3 3 * * *"}});
        desired(&json!({"schedules": slugs.iter().map(cron).collect::<Vec<_>>()}))
    };
    let parts = |d: &Desired, had: &Deployment, applied: &[&str]| {
        let applied: Vec<String> = applied.iter().map(|a| (*a).to_owned()).collect();
        let diff = Diff::between(d, had, &applied);
        (diff.put, diff.add.len(), diff.delete.len())
    };
    had.schedules = vec![schedule("a", "3 3 * * *", None)];
    let (put, added, deleted) = parts(&of(&["b"]), &had, &["schedules/a"]);
    let [(id, new)] = put.as_slice() else { panic!("{put:?}") };
    assert_eq!((id.as_str(), &*new.slug, added, deleted), ("a", "b", 0, 0));
    assert_eq!(new.parameters["x"], json!(2), "those of others stay");
    let names = Diff::between(&of(&["b"]), &had, &["schedules/a".to_owned()]).names;
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["schedules/a", "schedules/b"]);
    let (put, ..) = parts(&of(&["b"]), &had, &["schedules/a", "scheduleParameters/a"]);
    assert!(put[0].1.parameters.is_empty(), "ours are declared no longer");
    // Somebody else's, of another rule, with a bound that cannot be taken off, or one of two: no renaming.
    let counts = |d: &Desired, had: &Deployment, applied: &[&str]| {
        let (put, added, deleted) = parts(d, had, applied);
        (put.len(), added, deleted)
    };
    assert_eq!(counts(&of(&["b"]), &had, &[]), (0, 1, 0));
    assert_eq!(counts(&of(&["b", "c"]), &had, &["schedules/a"]), (0, 2, 1));
    had.schedules = vec![schedule("a", "4 4 * * *", None)];
    assert_eq!(counts(&of(&["b"]), &had, &["schedules/a"]), (0, 1, 1));
    had.schedules = vec![schedule("a", "3 3 * * *", Some(5))];
    assert_eq!(counts(&of(&["b"]), &had, &["schedules/a"]), (0, 1, 1));
    had.schedules = vec![schedule("a", "3 3 * * *", None), schedule("c", "3 3 * * *", None)];
    assert_eq!(counts(&of(&["b"]), &had, &["schedules/a", "schedules/c"]), (0, 1, 2));
    assert_eq!(counts(&of(&["b", "c"]), &had, &["schedules/a", "schedules/c"]), (1, 0, 0));
}

#[test]
fn what_is_owed_from_long_ago_is_made_good_by_the_old_rules_and_by_itself() {
    let d = desired(&json!({"schedules": [{"slug": "nightly", "cron": {"expression": "0 3 * * *"}}]}));
    let diff = Diff::between(&d, &there(&json!({})), &[]);
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let owed = PendingWrite { since: Time(at("2026-11-24T09:10:00Z")), late: None };
    let clock = at("2026-11-24T10:00:00Z");
    let first = diff.writes(&there(&json!({})), Some(&owed), Some(clock));
    assert!(
        matches!(first.as_slice(), [Write::RestoreRuns { from, to, .. }] if (*from, *to) == (owed.since.0, clock)),
        "{first:?}"
    );
    // Nothing differs any more: the rules are those in force, and the last runs are asked for as well as the first.
    let rest = repair::writes(&there(&json!({})).id, &owed, Some(clock));
    let [Write::RestoreRuns { to, .. }, Write::ScheduleRuns { since, .. }] = rest.as_slice() else {
        panic!("{rest:?}")
    };
    assert_eq!((*to, *since), (clock, clock));
}

#[test]
fn parameters_of_a_schedule_that_leave_the_spec_are_taken_back() {
    let mut had = there(&json!({}));
    let parameters = Map::from_iter([("region".into(), json!("us"))]);
    had.schedules = vec![Schedule {
        id: ScheduleId::new("1"),
        slug: Some("nightly".into()),
        active: true,
        rule: Map::from_iter([("cron".into(), json!("0 3 * * *")), ("timezone".into(), json!("UTC"))]),
        parameters: parameters.clone(),
        max_scheduled_runs: None,
    }];
    let with = |parameters: Value| {
        let mut schedule = json!({"slug": "nightly", "cron": {"expression": "0 3 * * *"}});
        if !parameters.is_null() {
            schedule["parameters"] = parameters;
        }
        desired(&json!({"schedules": [schedule]}))
    };
    let name = "scheduleParameters/nightly";
    assert!(declared(&with(json!({"region": "us"}))).contains(name));
    let before = ["schedules/nightly".to_owned(), name.to_owned()];
    let gone = Diff::between(&with(Value::Null), &had, &before);
    assert!(gone.names.contains(name) && gone.put[0].1.parameters.is_empty(), "{gone:?}");
    // Never declared: others'.
    assert!(Diff::between(&with(Value::Null), &had, &before[..1]).is_empty());
}

#[test]
fn schedules_can_be_left_to_others_all_or_one() {
    let schedules = json!([{"slug": "nightly", "cron": {"expression": "0 3 * * *"}}]);
    for (ignore, left) in [("schedules", true), ("schedules/nightly", true), ("schedules/other", false)] {
        let d = desired(&json!({"schedules": schedules, "driftDetection": {"ignore": [ignore]}}));
        assert_eq!(Diff::between(&d, &there(&json!({})), &[]).is_empty(), left, "{ignore}");
    }
}

#[test]
fn what_becomes_of_one_run_more_is_others_until_it_is_declared() {
    let limit = json!({"concurrencyLimit": {"limit": 2}});
    let had = json!({"concurrency_limit": 2, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}});
    assert_eq!(names(&limit, &had, &["concurrencyLimit"]).0, Vec::<String>::new());
    // Declared once and no longer: as where it was never set.
    let strategy = "concurrencyLimit.collisionStrategy";
    let (differing, sent) = names(&limit, &had, &["concurrencyLimit", strategy]);
    assert_eq!((differing, sent), (vec![strategy.to_owned()], json!({"concurrency_options": null})));
    let both = json!({"concurrencyLimit": {"limit": 3, "collisionStrategy": "Enqueue"},
                      "driftDetection": {"ignore": ["concurrencyLimit"]}});
    assert_eq!(names(&both, &had, &[]).0, Vec::<String>::new(), "to ignore the field is to ignore all of it");
}
