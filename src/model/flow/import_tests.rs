use super::*;
use crate::model::deployments::Fields;
use crate::model::ids::{DeploymentId, DeploymentName, ScheduleId};

fn found(flow: &str, name: &str, fields: &Value) -> Found {
    let mut all = json!({"entrypoint": "f.py:f", "work_pool_name": "etl", "work_queue_name": "default"});
    for (key, value) in fields.as_object().unwrap() {
        all[key] = value.clone();
    }
    let deployment = Deployment {
        id: DeploymentId::new(format!("{flow}/{name}")),
        name: DeploymentName { flow: flow.into(), deployment: name.into() },
        tags: vec![],
        paused: false,
        fields: Fields::from(all.as_object().unwrap().clone()),
        schedules: vec![],
        shares_limit: false,
        touched: crate::model::deployments::Touched::default(),
    };
    Found { deployment, beyond: vec![] }
}

fn schedule(slug: Option<&str>, rule: &Value) -> Schedule {
    Schedule {
        id: ScheduleId::new(slug.unwrap_or("nameless")),
        slug: slug.map(str::to_owned),
        active: true,
        rule: rule.as_object().unwrap().clone(),
        parameters: Map::new(),
        max_scheduled_runs: None,
    }
}

fn one(found: &Found) -> Imported {
    let into = ImportInto { namespace: Some("finance".into()), workspace: "prod".into() };
    let found = std::slice::from_ref(found);
    import(found, found, &into).remove(0)
}

fn spec(found: &Found) -> Value {
    let imported = one(found);
    imported.resource.unwrap_or_else(|| panic!("{:?}", imported.notes))["spec"].clone()
}

#[test]
fn what_is_as_prefect_begins_is_not_said() {
    let bare = found(
        "orders",
        "nightly",
        &json!({"parameters": {}, "job_variables": {}, "pull_steps": [], "parameter_openapi_schema": {},
        "enforce_parameter_schema": true, "paused": false, "labels": {"prefect.flow.id": "x"}}),
    );
    let imported = one(&bare);
    assert_eq!(
        imported.resource.unwrap(),
        json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment",
               "metadata": {"name": "orders-nightly", "namespace": "finance"},
               "spec": {"workspaceRef": {"name": "prod"}, "flowName": "orders", "deploymentName": "nightly", "entrypoint": "f.py:f",
                        "workPool": {"name": "etl"}, "adoptionPolicy": "Adopt"}})
    );
    assert_eq!(imported.notes, Vec::<String>::new());
}

#[test]
fn everything_that_is_set_is_said_and_would_be_left_as_it_is() {
    let mut all = found(
        "orders",
        "nightly",
        &json!({
        "description": "d", "version": "1", "path": "/p", "pull_steps": [{"a": {"b": 1}}], "parameters": {"a": 1.0, "none": null},
        "job_variables": {"env": {"A": "1"}}, "parameter_openapi_schema": {"title": "x"}, "enforce_parameter_schema": false,
        "work_queue_name": "fast", "labels": {"team": "bi", "prefect.flow.id": "x"}, "concurrency_limit": 2,
        "concurrency_options": {"collision_strategy": "CANCEL_NEW", "grace_period_seconds": 90}}),
    );
    all.deployment.paused = true;
    all.deployment.fields.insert("paused".into(), json!(true));
    all.deployment.tags = ["b", "a", "b"].map(str::to_owned).into();
    all.deployment.schedules = vec![
        schedule(Some("rule"), &json!({"rrule": "DTSTART:20200101T000000\nFREQ=DAILY", "timezone": "UTC"})),
        schedule(
            Some("often"),
            &json!({"interval": 5400.5, "timezone": "UTC", "anchor_date": "2026-01-01T01:00:00.123456+01:00"}),
        ),
        Schedule {
            active: false,
            parameters: json!({"x": 2}).as_object().unwrap().clone(),
            max_scheduled_runs: Some(5),
            ..schedule(
                Some("cron"),
                &json!({"cron": "0 2 * * *", "timezone": "Europe/Berlin", "day_or": false}),
            )
        },
    ];
    let imported = one(&all);
    assert_eq!(imported.notes, Vec::<String>::new());
    assert_eq!(
        imported.resource.unwrap()["spec"],
        json!({"workspaceRef": {"name": "prod"}, "flowName": "orders", "deploymentName": "nightly", "entrypoint": "f.py:f",
               "workPool": {"name": "etl", "workQueue": "fast"}, "adoptionPolicy": "Adopt", "description": "d", "version": "1", "path": "/p",
               "pullSteps": [{"a": {"b": 1}}], "parameters": {"a": 1.0, "none": null}, "jobVariables": {"env": {"A": "1"}},
               "parameterOpenApiSchema": {"title": "x"}, "enforceParameterSchema": false, "paused": true, "labels": {"team": "bi"},
               "tags": ["a", "b"], "concurrencyLimit": {"limit": 2, "collisionStrategy": "CancelNew", "gracePeriod": "1m30s"},
               "schedules": [
                   {"slug": "cron", "cron": {"expression": "0 2 * * *", "dayOr": false}, "timeZone": "Europe/Berlin", "active": false,
                    "parameters": {"x": 2}, "maxScheduledRuns": 5},
                   {"slug": "often", "interval": {"every": "1h30m500ms", "anchor": "2026-01-01T00:00:00.123456Z"}},
                   {"slug": "rule", "rrule": {"rule": "FREQ=DAILY"}}]})
    );
}

#[test]
fn what_cannot_be_said_is_named_and_stays_in_prefect() {
    let gone = |fields: Value, path: &str, names: &str| {
        let imported = one(&found("orders", "nightly", &fields));
        let spec = &imported.resource.unwrap()["spec"];
        assert!(spec.get(path).is_none() && imported.notes[0].contains(names), "{spec} {:?}", imported.notes);
    };
    gone(json!({"parameters": {"a": {"__prefect_kind": "jinja"}}}), "parameters", "template");
    gone(json!({"job_variables": {"a": [9_007_199_254_740_993_i64]}}), "jobVariables", "2^53");
    gone(
        json!({"concurrency_options": {"collision_strategy": "ENQUEUE"}}),
        "concurrencyLimit",
        "concurrency_options",
    );
    for (field, names) in [("work_pool_name", "no work pool"), ("entrypoint", "no entrypoint")] {
        let imported = one(&found("orders", "nightly", &json!({field: null})));
        assert!(imported.resource.is_none() && imported.notes[0].contains(names), "{:?}", imported.notes);
    }
    let mut shared = found("orders", "nightly", &json!({"concurrency_limit": 2}));
    shared.beyond = vec!["global_concurrency_limit_id"];
    let imported = one(&shared);
    assert!(imported.resource.unwrap()["spec"].get("concurrencyLimit").is_none());
    assert!(imported.notes[0].contains("global_concurrency_limit_id"), "{:?}", imported.notes);

    let mut odd = found("orders", "nightly", &json!({}));
    odd.deployment.schedules = vec![
        schedule(None, &json!({"cron": "0 6 * * *", "timezone": "UTC"})),
        schedule(Some("With Blanks"), &json!({"cron": "0 7 * * *"})),
        schedule(Some("never"), &json!({"interval": 0.000_1, "timezone": "UTC"})),
        schedule(Some("kept"), &json!({"cron": "0 8 * * *"})),
    ];
    let imported = one(&odd);
    assert_eq!(imported.resource.unwrap()["spec"]["schedules"].as_array().unwrap().len(), 1);
    for (note, names) in imported.notes.iter().zip(["no slug", "With Blanks", "`never`"]) {
        assert!(note.contains(names), "{note}");
    }
    assert!(
        imported.notes[0].contains("nameless") && imported.notes[0].contains("cron 0 6 * * *"),
        "{:?}",
        imported.notes
    );
    assert_eq!(imported.notes.len(), 3);
}

#[test]
fn secrets_are_pointed_out_by_name_only() {
    let env = json!({"API_TOKEN": "hunter2", "DB_PASSWORD": "{{ prefect.blocks.secret.db }}", "EMPTY_SECRET": "", "LEVEL": "INFO"});
    let imported = one(&found("orders", "nightly", &json!({"job_variables": {"env": env}})));
    assert_eq!(imported.notes.len(), 1, "{:?}", imported.notes);
    assert!(imported.notes[0].starts_with("jobVariables.env.API_TOKEN looks like a secret"));
    assert!(!imported.notes[0].contains("hunter2"));
}

#[test]
fn names_are_valid_unique_and_do_not_depend_on_the_order() {
    let long = "x".repeat(90);
    let mut all: Vec<Found> = [
        ("Orders (EU)", "nightly"),
        ("orders-eu", "nightly"),
        ("fx", "fx"),
        ("Größe", "é"),
        ("日本", "東京"),
        (&long, "a"),
        (&long, "b"),
    ]
    .into_iter()
    .map(|(flow, name)| found(flow, name, &json!({})))
    .collect();
    let into = ImportInto { namespace: None, workspace: "prod".into() };
    let names = |all: &[Found]| -> Vec<String> {
        let text = |i: Imported| i.resource.unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
        import(all, all, &into).into_iter().map(text).collect()
    };
    let first = names(&all);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), all.len(), "{first:?}");
    assert!(first.contains(&"fx".to_owned()), "{first:?}");
    for name in &first {
        assert!(fits_slug(name) && name.len() <= 63, "{name}");
    }
    all.reverse();
    assert_eq!(names(&all), first);
    assert!(spec(&all[0]).get("deploymentName").is_some());
}

/// Applied, a resource with the name of one that is there already would name another deployment to that one.
#[test]
fn a_name_that_a_resource_has_already_is_given_to_no_other_deployment() {
    let with = |flow: &str, name: &str, mark: Option<&str>| {
        let mut one = found(flow, name, &json!({}));
        one.deployment.tags = mark.map(|mark| format!("feedwater:test/{mark}")).into_iter().collect();
        one
    };
    let names = |server: &[Found], chosen: &[usize], namespace: Option<&str>| -> Vec<String> {
        let into = ImportInto { namespace: namespace.map(str::to_owned), workspace: "prod".into() };
        let chosen: Vec<Found> = chosen.iter().map(|n| server[*n].clone()).collect();
        let text = |i: Imported| i.resource.unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
        import(&chosen, server, &into).into_iter().map(text).collect()
    };
    let apart = |name: &str| name.len() == "a-b-c-".len() + 8 && name.starts_with("a-b-c-");
    // Kept by a resource of that name: here, elsewhere, and perhaps where it is applied.
    let server = [with("a", "b-c", Some("finance/a-b-c")), with("a-b", "c", None)];
    let given = names(&server, &[1], Some("finance"));
    assert!(apart(&given[0]), "{given:?}");
    assert_eq!(names(&server, &[0], Some("finance")), ["a-b-c"], "its own");
    let given = names(&server, &[0, 1], Some("finance"));
    assert_eq!((apart(&given[0]), &*given[1]), (true, "a-b-c"), "`a-b/c` comes first: {given:?}");
    let given = names(&server, &[1], None);
    assert!(apart(&given[0]), "{given:?}");
    // One that was renamed in Git keeps the name it has there.
    let server = [with("a", "b", Some("finance/c-d")), with("c", "d", None), with("e", "f", None)];
    let given = names(&server, &[0, 1, 2], Some("finance"));
    assert_eq!((&*given[0], &*given[2]), ("c-d", "e-f"));
    assert!(given[1].starts_with("c-d-"), "{given:?}");
    // Two runs with different filters.
    let server = [with("a", "b-c", None), with("a-b", "c", None)];
    let (one, two) = (names(&server, &[0], None), names(&server, &[1], None));
    assert!(apart(&one[0]) && apart(&two[0]) && one != two, "{one:?} {two:?}");
    // Two of one name in two other namespaces.
    let server = [with("a", "b", Some("x/n")), with("c", "d", Some("y/n"))];
    let given = names(&server, &[0, 1], Some("finance"));
    assert!(given[0] != given[1] && given.iter().all(|name| name.starts_with("n-")), "{given:?}");
}
