//! Leaving a deployment.

use super::*;

#[test]
fn deletion_deletes_hands_over_or_lets_go() {
    let live = desired(&json!({}));
    let status = settled(&live);
    let deleting =
        |policy| Desired { deleting: Some(now()), generation: 2, deletion_policy: policy, ..live.clone() };
    let d = deleting(DeletionPolicy::Delete);
    let Step::Do(writes) = decide(&d, &present(&json!({})), &status, later(1)).step else { panic!() };
    assert_eq!(writes, [Write::Delete { id: DeploymentId::new("id") }]);
    assert_eq!(decide(&d, &seen(View::Absent), &status, later(2)).step, Step::Release);
    assert_eq!(
        decide(&d, &present(&json!({"tags": ["feedwater:abc/finance/other"]})), &status, later(2)).step,
        Step::Release
    );
    // Another resource declares it: it is handed over, and the runs that cost are asked for again.
    let heir = Observed {
        heir: Heir::Ready(other()),
        ..present(&json!({"tags": ["t", "feedwater:abc/finance/orders"]}))
    };
    let intent = decide(&d, &heir, &status, later(1));
    assert_eq!(intent.step, Step::Intend);
    let Step::Do(writes) = decide(&d, &heir, &intent.status, later(1)).step else { panic!() };
    let [Write::Patch { fields, .. }, Write::ScheduleRuns { .. }] = writes.as_slice() else {
        panic!("{writes:?}")
    };
    assert_eq!(fields["tags"], json!(["t", "feedwater:abc/finance/other"]));
    // An heir that is not ready is waited for, half of the time that the deletion may take.
    let soon = Observed { heir: Heir::Soon, ..present(&json!({})) };
    assert_eq!(decide(&d, &soon, &status, later(299)).step, Step::Rest);
    // Then it is left for that one, which may be suspended: no reason to delete what it declares. It has half a minute at least, as of this
    // process: an outage may have taken all the time there was.
    let met = decide(&d, &soon, &status, later(900));
    assert_eq!(met.step, Step::Rest);
    let soon = Observed { memory: met.memory, ..soon };
    assert_eq!(decide(&d, &soon, &status, later(929)).step, Step::Rest);
    let left = decide(&d, &soon, &status, later(930));
    assert_eq!((left.step, left.notes[0].reason), (Step::Release, "Orphaned"));
    // Meanwhile what a write of ours cost is made good.
    let pending_write = Some(PendingWrite { since: Time(at("2026-11-24T09:59:58Z")), late: None });
    let owing = FlowDeploymentStatus { pending_write, ..status.clone() };
    assert!(matches!(decide(&d, &soon, &owing, later(1)).step, Step::Do(_)));
    // The escape.
    let unreachable = Observed { workspace: WorkspaceView::Missing, ..seen(View::Unread) };
    assert_eq!(
        decide(&deleting(DeletionPolicy::Orphan), &unreachable, &status, later(1)).step,
        Step::Release
    );
}

#[test]
fn what_is_deleted_already_does_not_wait_for_a_connection_that_went_too() {
    let live = desired(&json!({}));
    let status = settled(&live);
    let d = Desired { deleting: Some(now()), generation: 2, ..live };
    let gone = Observed { workspace: WorkspaceView::Missing, ..seen(View::Unread) };
    assert_eq!(decide(&d, &gone, &status, later(1)).step, Step::Rest, "it may still be there");
    let deleted = fold(&d, &present(&json!({})), &status, &[Ack::Done(WriteKind::Delete)], later(2)).status;
    let released = decide(&d, &gone, &deleted, later(3));
    assert_eq!(
        (released.step, released.notes),
        (Step::Release, Vec::new()),
        "and nothing is said to be left behind"
    );
}

#[test]
fn a_blocked_deletion_ends_at_the_deadline() {
    let live = desired(&json!({}));
    let status = settled(&live);
    let d = Desired { deleting: Some(now()), generation: 2, ..live };
    let refused = Memory {
        paid: None,
        waited: None,
        generation: 2,
        secrets: Vec::new(),
        tries: 5,
        until: later(100_000),
        failure: Some((WriteKind::Delete, Failure::Forbidden(Part::Write))),
    };
    for o in [
        Observed { workspace: WorkspaceView::Missing, ..seen(View::Unread) },
        Observed {
            workspace: WorkspaceView::NotReady { reason: "SecretNotFound".into() },
            ..seen(View::Unread)
        },
        Observed { memory: Some(refused), ..present(&json!({})) },
    ] {
        let blocked = decide(&d, &o, &status, later(599));
        assert_eq!((ready(&blocked), blocked.again), (("False", "DeletionBlocked"), Some(later(600))));
        let end = decide(&d, &o, &status, later(600));
        assert_eq!((end.step, end.notes[0].reason), (Step::Release, "Orphaned"));
    }
    // What never made anything has nothing to wait for.
    let away = Observed {
        workspace: WorkspaceView::NotReady { reason: "Unreachable".into() },
        ..seen(View::Unread)
    };
    assert_eq!(decide(&d, &away, &FlowDeploymentStatus::default(), now()).step, Step::Release);
    // A process that has just started has not tried yet.
    let starting = Observed {
        workspace: WorkspaceView::NotReady { reason: "Progressing".into() },
        ..seen(View::Unread)
    };
    assert_eq!(decide(&d, &starting, &status, later(9000)).step, Step::Rest);
}

#[test]
fn a_renamed_deployment_is_left_before_the_new_one_is_made() {
    let status = settled(&desired(&json!({})));
    let renamed = |spec: Value| Desired { generation: 2, ..desired(&spec) };
    for spec in [json!({"deploymentName": "hourly"}), json!({"workspaceRef": {"name": "staging"}})] {
        let d = renamed(spec);
        let Step::Do(writes) = decide(&d, &present(&json!({})), &status, now()).step else { panic!() };
        assert_eq!(writes[0].kind(), WriteKind::Delete);
        let left = fold(&d, &present(&json!({})), &status, &[Ack::Done(WriteKind::Delete)], now());
        assert_eq!(d.place(&left.status), d.wanted_place());
        // That Prefect was busy at first does not hold up the new one.
        let busy = [Ack::Failed(WriteKind::Delete, Failure::Unavailable)];
        let memory = fold(&d, &present(&json!({})), &status, &busy, now()).memory;
        let there = Observed { memory, ..present(&json!({})) };
        let left = fold(&d, &there, &status, &[Ack::Done(WriteKind::Delete)], later(10));
        let absent = Observed { memory: left.memory, ..seen(View::Absent) };
        assert_eq!(decide(&d, &absent, &left.status, later(11)).step, Step::Intend);
    }
    let d = Desired {
        has_finalizer: false,
        ..renamed(json!({"deploymentName": "hourly", "deletionPolicy": "Orphan"}))
    };
    let left = decide(&d, &present(&json!({})), &status, now());
    assert_eq!((left.step, left.notes[0].reason), (Step::Intend, "Orphaned"));
    assert_eq!(d.place(&left.status), d.wanted_place());
}

#[test]
fn who_moves_leaves_what_another_declares_to_that_one() {
    let status = settled(&desired(&json!({})));
    let d = Desired { generation: 2, ..desired(&json!({"deploymentName": "hourly"})) };
    // One that is not ready has half a minute; then what it declares stays, and the new one is made.
    let soon = Observed { heir: Heir::Soon, ..present(&json!({})) };
    let met = decide(&d, &soon, &status, now());
    assert_eq!((&met.step, met.again.is_some()), (&Step::Rest, true));
    let soon = Observed { memory: met.memory, ..soon };
    assert_eq!(decide(&d, &soon, &status, later(29)).step, Step::Rest);
    let left = decide(&d, &soon, &status, later(30));
    assert_eq!((left.step, left.notes[0].reason), (Step::Intend, "Orphaned"));
    assert_eq!(d.place(&left.status), d.wanted_place());
    // What a write of ours cost is made good before.
    let pending_write = Some(PendingWrite { since: Time(at("2026-11-24T09:59:58Z")), late: None });
    let owing = FlowDeploymentStatus { pending_write, ..status.clone() };
    assert!(matches!(decide(&d, &soon, &owing, later(30)).step, Step::Do(_)));
    // Of two that swap names, each would wait for the other.
    let turning = Observed { heir: Heir::Turning, ..present(&json!({})) };
    let Step::Do(writes) = decide(&d, &turning, &status, now()).step else { panic!() };
    assert_eq!(writes[0].kind(), WriteKind::Delete);
    // Who is deleted waits for one who leaves another first.
    let deleted = Desired { deleting: Some(now()), generation: 2, ..desired(&json!({})) };
    assert_eq!(decide(&deleted, &turning, &status, now()).step, Step::Rest);
}

#[test]
fn who_leaves_a_deployment_is_waited_for_unless_it_does_nothing() {
    let status = settled(&desired(&json!({})));
    let is = |spec: Value| {
        let d = Desired { generation: 2, ..desired(&spec) };
        Claimant::of(&d, &status, &Access::Allowed, false).map(|one| (one.leaving, one.prepared))
    };
    assert_eq!(is(json!({"deploymentName": "hourly"})), Some((true, false)));
    assert_eq!(is(json!({"deploymentName": "hourly", "suspend": true})), None);
    assert_eq!(is(json!({"deploymentName": "hourly", "managementPolicy": "Observe"})), None);
}
