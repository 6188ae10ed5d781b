//! What each rule comes to: one table a concern.

mod adopting;
mod ahead;
mod contesting;
mod denying;
mod observing;
mod parting;
mod repairing;
mod standing;
mod tolerating;
mod turning;

use super::*;
use crate::api::{DeletionPolicy, FlowDeployment, PendingWrite, Time};
use crate::model::conditions::reason_of;
use crate::model::ids::{DeploymentName, ObjectName};
use crate::model::tenancy::Access;
use crate::model::time::add;
use serde_json::{Value, json};

fn object(spec: &Value) -> FlowDeployment {
    let mut object = json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment",
        "metadata": {"name": "orders", "namespace": "finance", "generation": 1, "finalizers": ["feedwater.dev/cleanup"]},
        "spec": {"workspaceRef": {"name": "prod"}, "flowName": "orders", "deploymentName": "nightly", "entrypoint": "f.py:f",
                 "workPool": {"name": "etl"}},
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

pub(super) fn desired(spec: &Value) -> Desired {
    Desired::parse(&object(spec), "abc").unwrap()
}

/// The deployment of [`desired`] as the server has it, but for these fields.
pub(super) fn there(fields: &Value) -> Deployment {
    let mut all = json!({"entrypoint": "f.py:f", "work_pool_name": "etl", "work_queue_name": "default",
                         "tags": ["feedwater:abc/finance/orders"]});
    for (key, value) in fields.as_object().unwrap() {
        all[key] = value.clone();
    }
    let mut fields = all.as_object().unwrap().clone();
    let tags = fields.remove("tags").unwrap();
    Deployment {
        id: DeploymentId::new("id"),
        name: DeploymentName { flow: "orders".into(), deployment: "nightly".into() },
        tags: serde_json::from_value(tags).unwrap(),
        paused: false,
        fields: fields.into(),
        schedules: vec![],
        shares_limit: false,
        touched: crate::model::deployments::Touched::default(),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn now() -> Timestamp {
    at("2026-11-24T10:00:00Z")
}

pub(super) fn later(seconds: u64) -> Timestamp {
    add(now(), Duration::from_secs(seconds))
}

fn seen(deployment: View<Deployment>) -> Observed {
    Observed {
        workspace: WorkspaceView::Ready,
        access: Access::Allowed,
        turn: Turn::None,
        ahead: Some(free()),
        standing: Standing::Held,
        cloud: false,
        values: Values::Put(std::collections::BTreeMap::new()),
        deployment,
        claim: Claim::Ours,
        heir: Heir::None,
        clock: Some(at("2026-11-24T09:59:58Z")),
        cleanup_deadline: Duration::from_secs(600),
        memory: None,
    }
}

/// A place where nothing is.
fn free() -> Ahead {
    Ahead {
        workspace: WorkspaceView::Ready,
        standing: Standing::Held,
        deployment: View::Absent,
        claim: Claim::Ours,
        given: false,
    }
}

pub(super) fn present(fields: &Value) -> Observed {
    seen(View::Present(there(fields)))
}

/// The status once all is as declared.
pub(super) fn settled(d: &Desired) -> FlowDeploymentStatus {
    let decision = decide(d, &present(&json!({})), &FlowDeploymentStatus::default(), now());
    assert_eq!(reason_of(&decision.status, "Ready"), Some("InSync"));
    decision.status
}

fn other() -> ObjectName {
    ObjectName { namespace: "finance".into(), name: "other".into() }
}

fn ready(decision: &Decision) -> (&str, &str) {
    let ready = decision.status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    (&ready.status, &ready.reason)
}

fn has(decision: &Decision, kind: &str) -> bool {
    decision.status.conditions.iter().any(|c| c.type_ == kind)
}

#[test]
fn each_way_to_be_blocked_has_its_reason_and_writes_nothing() {
    let absent = || seen(View::Absent);
    let unmarked = json!({"tags": ["mine"]});
    let table = [
        (
            Observed { workspace: WorkspaceView::Missing, ..absent() },
            "Unknown",
            "DependencyNotFound",
            "Reconciling",
        ),
        (
            Observed { workspace: WorkspaceView::NotReady { reason: "Unreachable".into() }, ..absent() },
            "Unknown",
            "ConnectionUnavailable",
            "Reconciling",
        ),
        (seen(View::Unread), "Unknown", "Progressing", "Reconciling"),
        (seen(View::Dirty), "Unknown", "Progressing", "Reconciling"),
        (Observed { claim: Claim::Taken { by: other() }, ..absent() }, "False", "TargetConflict", "Stalled"),
        (
            Observed { claim: Claim::TakenByLeaving { by: other() }, ..absent() },
            "Unknown",
            "Progressing",
            "Reconciling",
        ),
        (present(&unmarked), "False", "AdoptionRequired", "Stalled"),
        (present(&json!({"tags": ["feedwater:abc/finance/gone"]})), "False", "AdoptionRequired", "Stalled"),
        (
            present(&json!({"tags": ["feedwater:xyz/finance/orders", "feedwater:abc/finance/orders"]})),
            "False",
            "TargetConflict",
            "Stalled",
        ),
    ];
    for (o, truth, reason, beside) in table {
        let d = desired(&json!({"description": "x"}));
        let decision = decide(&d, &o, &FlowDeploymentStatus::default(), now());
        assert_eq!(ready(&decision), (truth, reason), "{o:?}");
        assert_eq!(decision.step, Step::Rest, "{o:?}");
        for kind in ["Reconciling", "Stalled"] {
            assert_eq!(has(&decision, kind), kind == beside, "{kind} {o:?}");
        }
        // The same view again changes nothing.
        assert_eq!(decide(&d, &o, &decision.status, later(60)).status, decision.status);
    }
}

#[test]
fn a_missing_workspace_is_wrong_after_five_minutes_and_never_stalled() {
    let o = Observed { workspace: WorkspaceView::Missing, ..seen(View::Unread) };
    let first = decide(&desired(&json!({})), &o, &FlowDeploymentStatus::default(), now());
    assert_eq!(first.again, Some(later(300)));
    let before = decide(&desired(&json!({})), &o, &first.status, later(299));
    assert_eq!(before.status, first.status);
    let after = decide(&desired(&json!({})), &o, &first.status, later(300));
    assert_eq!(ready(&after), ("False", "DependencyNotFound"));
    assert!(!has(&after, "Stalled"));
    assert_eq!(decide(&desired(&json!({})), &o, &after.status, later(9000)).status, after.status);
}

#[test]
fn the_finalizer_then_the_intent_precede_the_creation() {
    let mut d =
        desired(&json!({"tags": ["t"], "schedules": [{"slug": "a", "cron": {"expression": "0 2 * * *"}}]}));
    d.has_finalizer = false;
    let o = seen(View::Absent);
    assert_eq!(decide(&d, &o, &FlowDeploymentStatus::default(), now()).step, Step::Hold);
    d.has_finalizer = true;
    let intent = decide(&d, &o, &FlowDeploymentStatus::default(), now());
    assert_eq!(intent.step, Step::Intend);
    assert_eq!(intent.status.full_name.as_deref(), Some("orders/nightly"));
    assert_eq!(intent.status.applied_fields, ["entrypoint", "schedules/a", "tags", "workPool"]);
    let Step::Do(writes) = decide(&d, &o, &intent.status, now()).step else { panic!() };
    let [Write::Create { flow, new }] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!((flow.as_str(), new.name.as_str()), ("orders", "nightly"));
    assert_eq!(new.fields["tags"], json!(["t", "feedwater:abc/finance/orders"]));
    assert!(!new.fields.contains_key("schedules"));
    let created = fold(&d, &o, &intent.status, &[Ack::Created(DeploymentId::new("id"))], now());
    assert_eq!(created.status.deployment_id.as_deref(), Some("id"));
    assert_eq!(created.notes[0].reason, "Created");
}

#[test]
fn orphan_carries_no_finalizer() {
    let mut d = desired(&json!({"deletionPolicy": "Orphan"}));
    assert_eq!(decide(&d, &seen(View::Absent), &FlowDeploymentStatus::default(), now()).step, Step::Release);
    d.has_finalizer = false;
    assert_eq!(decide(&d, &seen(View::Absent), &FlowDeploymentStatus::default(), now()).step, Step::Intend);
}

#[test]
fn drift_is_told_once_and_put_right_without_a_flapping_condition() {
    let d = desired(&json!({}));
    let status = settled(&d);
    let o = present(&json!({"entrypoint": "hand.py:f"}));
    let intent = decide(&d, &o, &status, later(60));
    assert_eq!(intent.step, Step::Intend);
    assert_eq!(intent.status.conditions, status.conditions);
    assert_eq!(intent.status.last_drift.as_ref().unwrap().fields, ["entrypoint"]);
    assert_eq!(intent.status.pending_write, Some(PendingWrite { since: Time(o.clock.unwrap()), late: None }));
    assert_eq!(intent.notes[0].reason, "DriftDetected");
    let act = decide(&d, &o, &intent.status, later(61));
    let Step::Do(writes) = &act.step else { panic!("{:?}", act.step) };
    let kinds: Vec<WriteKind> = writes.iter().map(Write::kind).collect();
    assert_eq!(kinds, [WriteKind::Patch, WriteKind::ScheduleRuns]);
    assert!(act.notes.is_empty());
    let acks: Vec<Ack> = kinds.into_iter().map(Ack::Done).collect();
    let done = fold(&d, &o, &intent.status, &acks, later(61));
    assert_eq!((done.status.pending_write.as_ref(), &done.status.conditions), (None, &status.conditions));
    let rest = decide(&d, &present(&json!({})), &done.status, later(62));
    assert_eq!((rest.step, rest.status.conditions, rest.memory), (Step::Rest, status.conditions, None));
}

#[test]
fn a_deployment_deleted_by_hand_is_drift_and_created_again() {
    let d = desired(&json!({}));
    let gone = decide(&d, &seen(View::Absent), &settled(&d), later(60));
    assert_eq!(gone.status.last_drift.as_ref().unwrap().fields, ["deployment"]);
    let Step::Do(writes) = decide(&d, &seen(View::Absent), &gone.status, later(61)).step else { panic!() };
    assert_eq!(writes[0].kind(), WriteKind::Create);
}

#[test]
fn the_mark_taken_away_by_hand_is_put_back_by_the_id() {
    let d = desired(&json!({}));
    let decision = decide(&d, &present(&json!({"tags": []})), &settled(&d), later(60));
    assert_eq!(decision.status.last_drift.unwrap().fields, ["mark"]);
}

#[test]
fn a_crash_after_the_write_leaves_the_repair() {
    let d = desired(&json!({}));
    let since = Time(later(1));
    let status =
        FlowDeploymentStatus { pending_write: Some(PendingWrite { since, late: None }), ..settled(&d) };
    for spec in [json!({}), json!({"suspend": true})] {
        let d = desired(&spec);
        let decision = decide(&d, &present(&json!({})), &status, later(60));
        let Step::Do(writes) = decision.step else { panic!("{spec}") };
        assert_eq!(writes, [Write::ScheduleRuns { id: DeploymentId::new("id"), since: since.0 }]);
        let done = fold(&d, &present(&json!({})), &status, &[Ack::Done(WriteKind::ScheduleRuns)], later(60));
        assert_eq!(done.status.pending_write, None);
    }
}

#[test]
fn a_refusal_is_worded_waits_longer_each_time_and_ends_with_a_new_generation() {
    let d = desired(&json!({"parameters": {"a": 1}}));
    let o = present(&json!({}));
    let intent = decide(&d, &o, &FlowDeploymentStatus::default(), now());
    let refused = Failure::ParametersRejected { fields: vec![] };
    let first = fold(&d, &o, &intent.status, &[Ack::Failed(WriteKind::Patch, refused.clone())], now());
    assert_eq!(ready(&first), ("False", "ParametersRejected"));
    assert_eq!((first.again, first.notes[0].warning), (Some(later(60)), true));
    // Nothing is lost: the repair does not wait for the next try.
    let o = Observed { memory: first.memory.clone(), ..o };
    let Step::Do(repair) = decide(&d, &o, &first.status, later(1)).step else { panic!() };
    assert_eq!(repair[0].kind(), WriteKind::ScheduleRuns);
    let repaired = fold(&d, &o, &first.status, &[Ack::Done(WriteKind::ScheduleRuns)], later(1));
    assert_eq!(repaired.memory, first.memory);
    let waits = decide(&d, &o, &repaired.status, later(59));
    assert_eq!((&waits.step, waits.again, &waits.status), (&Step::Rest, Some(later(60)), &repaired.status));
    let again = decide(&d, &o, &repaired.status, later(60));
    assert_eq!(again.step, Step::Intend);
    assert_eq!(ready(&again), ("False", "ParametersRejected"), "known to be wrong until shown otherwise");
    let second = fold(&d, &o, &again.status, &[Ack::Failed(WriteKind::Patch, refused)], later(61));
    assert_eq!((second.again, second.notes.len()), (Some(later(181)), 0));
    let mut edited = d.clone();
    edited.generation = 2;
    let o = Observed { memory: second.memory, ..o };
    assert!(matches!(decide(&edited, &o, &second.status, later(62)).step, Step::Do(_)));
}

#[test]
fn a_refused_correction_is_told_in_drifted() {
    let d = desired(&json!({}));
    let o = present(&json!({"entrypoint": "hand.py:f"}));
    let intent = decide(&d, &o, &settled(&d), later(60));
    let refused =
        fold(&d, &o, &intent.status, &[Ack::Failed(WriteKind::Patch, Failure::Rejected(500))], later(61));
    assert_eq!(ready(&refused), ("False", "RemoteFailed"));
    assert_eq!(reason_of(&refused.status, "Drifted"), Some("CorrectionFailed"));
}

#[test]
fn what_prefect_never_keeps_is_not_written_in_a_hot_loop() {
    let d = desired(&json!({}));
    let mut o = present(&json!({"entrypoint": "other.py:f"}));
    let (mut status, mut time, mut writes) = (FlowDeploymentStatus::default(), now(), 0);
    while time < later(3600) {
        let decision = decide(&d, &o, &status, time);
        let decision = match &decision.step {
            Step::Do(sent) => {
                writes += 1;
                let acks: Vec<Ack> = sent.iter().map(|w| Ack::Done(w.kind())).collect();
                fold(&d, &o, &status, &acks, time)
            }
            Step::Rest | Step::Intend | Step::Hold | Step::Release => decision,
        };
        (status, o.memory) = (decision.status, decision.memory);
        time = add(time, Duration::from_secs(5));
    }
    assert!((3..10).contains(&writes), "{writes} writes in an hour");
    assert_eq!(reason_of(&status, "Ready"), Some("RemoteRejected"));
}

#[test]
fn an_outage_shows_only_where_something_is_due() {
    let d = desired(&json!({}));
    let o = Observed {
        workspace: WorkspaceView::NotReady { reason: "Unreachable".into() },
        ..seen(View::Unread)
    };
    let status = settled(&d);
    assert_eq!(decide(&d, &o, &status, later(60)).status, status);
    let mut edited = d;
    edited.generation = 2;
    assert_eq!(ready(&decide(&edited, &o, &status, later(60))), ("Unknown", "ConnectionUnavailable"));
}

#[test]
fn the_mark_then_age_then_name_decide_between_claimants() {
    let mut d = desired(&json!({}));
    d.created_at = now();
    let claimant = |name: &str, created_at, leaving| Claimant {
        name: ObjectName { namespace: "finance".into(), name: name.into() },
        created_at,
        leaving,
        allowed: true,
        prepared: true,
        turning: false,
    };
    let unknown = |name: &str, created_at| Claimant { allowed: false, ..claimant(name, created_at, false) };
    let marked = |by: &str| View::Present(there(&json!({"tags": [format!("feedwater:abc/finance/{by}")]})));
    let taken = |by: &str| Claim::Taken { by: claimant(by, now(), false).name };
    let (older, younger) = (at("2026-11-24T09:00:00Z"), later(60));
    for (view, others, expected) in [
        (View::Absent, vec![claimant("z", older, false)], taken("z")),
        (View::Absent, vec![claimant("a", younger, false)], Claim::Ours),
        (View::Absent, vec![claimant("a", now(), false)], taken("a")),
        (View::Absent, vec![claimant("z", now(), false)], Claim::Ours),
        (View::Absent, vec![claimant("z", older, true)], Claim::Ours),
        (marked("orders"), vec![claimant("z", older, false)], Claim::Ours),
        (marked("z"), vec![claimant("z", younger, false)], taken("z")),
        (View::Absent, vec![unknown("z", older)], Claim::Unresolved),
        (View::Absent, vec![unknown("z", older), claimant("z", now(), false)], Claim::Unresolved),
        (View::Absent, vec![unknown("a", younger)], Claim::Ours),
        (marked("orders"), vec![unknown("z", older)], Claim::Ours),
        (
            marked("z"),
            vec![claimant("z", younger, true)],
            Claim::TakenByLeaving { by: claimant("z", now(), true).name },
        ),
    ] {
        assert_eq!(claim(&d, &view, &others), expected, "{view:?} {others:?}");
    }
    let unprepared = Claimant { prepared: false, ..claimant("a", older, false) };
    assert_eq!(
        heir(&[unprepared.clone(), claimant("z", younger, false)]),
        Heir::Ready(claimant("z", now(), false).name)
    );
    let turning = Claimant { turning: true, ..unprepared.clone() };
    assert_eq!(heir(std::slice::from_ref(&turning)), Heir::Turning);
    assert_eq!(heir(&[turning, unprepared.clone()]), Heir::Soon);
    assert_eq!(heir(&[unprepared]), Heir::Soon);
    assert_eq!(heir(&[unknown("z", younger)]), Heir::Soon, "it may be allowed a moment later");
    assert_eq!(heir(&[claimant("a", older, true)]), Heir::None);
}

/// To list runs, to make a flow and to change a deployment take different rights.
#[test]
fn a_refusal_names_the_right_that_is_missing() {
    let d = desired(&json!({}));
    let (o, status) = (present(&json!({})), FlowDeploymentStatus::default());
    for (kind, part, names) in [
        (WriteKind::Create, Part::Look, "may not read the deployment;"),
        (WriteKind::Create, Part::Flow, "may not create its flow;"),
        (WriteKind::Create, Part::Write, "may not create the deployment;"),
        (WriteKind::Patch, Part::Pool, "may not read its work pool;"),
        (WriteKind::Patch, Part::Write, "may not change the deployment;"),
        (WriteKind::SeeLate, Part::Write, "may not list the deployment's runs;"),
        (WriteKind::ScheduleRuns, Part::Write, "may not schedule the deployment's runs again;"),
    ] {
        let refused = [Ack::Failed(kind, Failure::Forbidden(part))];
        let folded = fold(&d, &o, &status, &refused, now());
        assert_eq!(ready(&folded), ("False", "PermissionDenied"));
        assert!(folded.notes[0].message.contains(names), "{}", folded.notes[0].message);
    }
}

#[test]
fn an_unusable_spec_stalls() {
    let why = Unsupported { message: "no".into() };
    let decision = unsupported(&FlowDeploymentStatus::default(), 4, &why, now());
    assert_eq!((ready(&decision), has(&decision, "Stalled")), (("False", "UnsupportedSpec"), true));
    assert_eq!(decision.status.observed_generation, 4);
}
