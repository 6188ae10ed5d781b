//! What is told, and only told.

use super::*;
use crate::model::deployments::Schedule;
use serde_json::Map;

#[test]
fn observe_says_what_would_be_written_and_writes_nothing() {
    let mut d = desired(&json!({"managementPolicy": "Observe", "description": "a"}));
    assert_eq!(decide(&d, &present(&json!({})), &FlowDeploymentStatus::default(), now()).step, Step::Release);
    d.has_finalizer = false;
    let of = |o: &Observed| {
        let decision = decide(&d, o, &FlowDeploymentStatus::default(), now());
        assert_eq!(decision.step, Step::Rest);
        let reason = reason_of(&decision.status, "Ready").map(str::to_owned);
        (decision.status.plan, reason)
    };
    let observing = Some("Observing".to_owned());
    assert_eq!(
        of(&seen(View::Absent)),
        (vec!["create deployment `orders/nightly`".to_owned()], observing.clone())
    );
    assert_eq!(of(&present(&json!({}))), (vec!["change description".to_owned()], observing.clone()));
    assert_eq!(of(&present(&json!({"description": "a"}))), (vec![], observing.clone()));
    let (plan, ready) = of(&present(&json!({"tags": ["x"], "description": "b"})));
    assert!(plan.len() == 1 && plan[0].starts_with("nothing: "), "{plan:?}");
    assert_eq!(ready, observing);
    // Nothing is written: its deletion neither.
    assert_eq!(d.deletion_policy, DeletionPolicy::Orphan);
}

#[test]
fn a_plan_says_who_keeps_the_deployment_and_goes_with_the_policy() {
    let observing = json!({"managementPolicy": "Observe", "adoptionPolicy": "Adopt"});
    let d = Desired { has_finalizer: false, ..desired(&observing) };
    for claim in [Claim::Taken { by: other() }, Claim::TakenByLeaving { by: other() }] {
        let o = Observed { claim, ..present(&json!({"tags": ["feedwater:abc/finance/other"]})) };
        let plan = decide(&d, &o, &FlowDeploymentStatus::default(), now()).status.plan;
        assert_eq!(plan, ["nothing: FlowDeployment finance/other keeps deployment `orders/nightly`"]);
    }
    let planned = FlowDeploymentStatus { plan: vec!["old".into()], ..FlowDeploymentStatus::default() };
    let theirs = present(&json!({"tags": ["mine"]}));
    let refused = decide(&desired(&json!({})), &theirs, &planned, now());
    assert_eq!((ready(&refused).1, refused.status.plan.len()), ("AdoptionRequired", 0));
}

#[test]
fn a_plan_says_that_another_place_is_left() {
    let status = settled(&desired(&json!({})));
    let observing = |mut spec: Value| {
        spec["managementPolicy"] = "Observe".into();
        Desired { generation: 2, has_finalizer: false, ..desired(&spec) }
    };
    for (spec, new) in [
        (json!({"deploymentName": "hourly"}), "orders/hourly"),
        (json!({"workspaceRef": {"name": "staging"}}), "orders/nightly"),
    ] {
        let decision = decide(&observing(spec), &present(&json!({})), &status, now());
        assert_eq!(decision.step, Step::Rest);
        assert_eq!(
            decision.status.plan,
            [
                "leave deployment `orders/nightly` in workspace `prod`".to_owned(),
                format!("create deployment `{new}`, or adopt what is there")
            ]
        );
    }
}

#[test]
fn names_that_others_gave_fit_into_the_status() {
    let schedule = |n: usize| Schedule {
        id: ScheduleId::new("s"),
        slug: Some(format!("{n}-{}", "ü".repeat(300))),
        active: true,
        rule: Map::new(),
        parameters: Map::new(),
        max_scheduled_runs: None,
    };
    let theirs =
        seen(View::Present(Deployment { schedules: (0..200).map(schedule).collect(), ..there(&json!({})) }));
    let spec = json!({"foreignSchedules": "Remove"});
    let fits = |names: &[String], most: usize| {
        assert!(names.len() == 64 && names.iter().all(|name| name.chars().count() <= most), "{names:?}");
    };
    let status = settled(&desired(&spec));
    let drift = decide(&desired(&spec), &theirs, &status, now()).status;
    fits(&drift.last_drift.unwrap().fields, 128);
    fits(&drift.corrections.iter().map(|c| c.field.clone()).collect::<Vec<_>>(), 128);
    let warn = json!({"foreignSchedules": "Remove", "driftDetection": {"mode": "Warn"}});
    let told = decide(&desired(&warn), &theirs, &status, now()).status;
    let message = &told.conditions.iter().find(|c| c.type_ == "Drifted").unwrap().message;
    assert!(message.chars().count() < 32_768 && message.contains('…'), "{message}");
    let name = "ü".repeat(255);
    let long = json!({"managementPolicy": "Observe", "foreignSchedules": "Remove", "flowName": name, "deploymentName": name});
    let d = Desired { has_finalizer: false, ..desired(&long) };
    fits(&decide(&d, &theirs, &FlowDeploymentStatus::default(), now()).status.plan, 256);
    let create = decide(&d, &seen(View::Absent), &FlowDeploymentStatus::default(), now()).status.plan;
    assert!(create[0].chars().count() == 256 && create[0].ends_with('…'), "{create:?}");
}

#[test]
fn labels_are_set_at_creation_and_a_difference_is_told() {
    let d = desired(&json!({"labels": {"team": "bi", "n": 1}}));
    let first = decide(&d, &seen(View::Absent), &FlowDeploymentStatus::default(), now());
    let second = decide(&d, &seen(View::Absent), &first.status, now());
    let Step::Do(writes) = second.step else { panic!("{:?}", second.step) };
    let Write::Create { new, .. } = &writes[0] else { panic!("{writes:?}") };
    assert_eq!(new.fields["labels"], json!({"team": "bi", "n": 1}));
    let labelled = json!({"labels": {"team": "bi", "n": 1.0, "prefect.flow.id": "x"}});
    let of = |labels: &Value| decide(&d, &present(labels), &FlowDeploymentStatus::default(), now()).status;
    assert_eq!(reason_of(&of(&labelled), "Drifted"), Some("NoDrift"));
    let told = of(&json!({"labels": {"team": "old"}}));
    assert_eq!(
        (reason_of(&told, "Drifted"), reason_of(&told, "Ready")),
        (Some("DriftDetected"), Some("InSync"))
    );
}

#[test]
fn labels_that_left_the_spec_are_told_as_long_as_they_are_there() {
    let d = desired(&json!({"labels": {"team": "bi"}}));
    let had = present(&json!({"labels": {"team": "bi", "prefect.flow.id": "x"}}));
    let applied = decide(&d, &had, &FlowDeploymentStatus::default(), now()).status;
    let without = |spec: Value| Desired { generation: 2, ..desired(&spec) };
    let told = decide(&without(json!({})), &had, &applied, now()).status;
    let drifted = told.conditions.iter().find(|c| c.type_ == "Drifted").unwrap();
    assert_eq!(drifted.reason, "DriftDetected");
    assert!(drifted.message.contains("(team)"), "{}", drifted.message);
    assert_eq!(decide(&without(json!({})), &had, &told, now()).status, told, "at rest");
    let anew = decide(&without(json!({})), &present(&json!({})), &told, now()).status;
    assert!(
        reason_of(&anew, "Drifted") == Some("NoDrift")
            && !anew.applied_fields.contains(&"labels/team".into())
    );
    // Another change does not make it forget them.
    let also = decide(&without(json!({"description": "new"})), &had, &applied, now()).status;
    assert!(also.applied_fields.contains(&"labels/team".to_owned()));
    for silent in [json!({"mode": "Disabled"}), json!({"ignore": ["labels"]})] {
        let d = without(json!({"driftDetection": silent, "labels": {"other": 1}}));
        assert_eq!(reason_of(&decide(&d, &had, &applied, now()).status, "Drifted"), Some("NoDrift"));
    }
}
