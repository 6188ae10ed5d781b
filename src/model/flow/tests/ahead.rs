//! The spec names another place: what is at the former goes only once there can be a new one.

use super::*;

fn moved(spec: &Value) -> Desired {
    let mut spec = spec.clone();
    spec["deploymentName"] = json!("hourly");
    Desired { generation: 2, ..desired(&spec) }
}

fn found(tags: &Value) -> Ahead {
    Ahead { deployment: View::Present(there(&json!({"tags": tags}))), ..free() }
}

fn yielding() -> Ahead {
    Ahead { claim: Claim::TakenByLeaving { by: other() }, ..found(&json!(["feedwater:abc/finance/other"])) }
}

fn before(ahead: Ahead) -> Observed {
    Observed { ahead: Some(ahead), ..present(&json!({})) }
}

#[test]
fn nothing_is_deleted_for_a_place_that_cannot_be_had() {
    let status = settled(&desired(&json!({})));
    let away = |reason: &str| WorkspaceView::NotReady { reason: reason.into() };
    let table = [
        (Ahead { workspace: away("SecretNotFound"), ..free() }, "ConnectionUnavailable"),
        (Ahead { workspace: away("Suspended"), deployment: View::Unread, ..free() }, "ConnectionUnavailable"),
        (Ahead { standing: Standing::Leaving, ..free() }, "ConnectionUnavailable"),
        (Ahead { deployment: View::Unread, ..free() }, "Progressing"),
        (Ahead { deployment: View::Dirty, ..free() }, "Progressing"),
        (Ahead { claim: Claim::Unresolved, ..free() }, "Progressing"),
        (Ahead { claim: Claim::Taken { by: other() }, ..free() }, "TargetConflict"),
        (yielding(), "Progressing"),
        (found(&json!([])), "AdoptionRequired"),
        (found(&json!(["feedwater:abc/finance/gone"])), "AdoptionRequired"),
        (found(&json!(["feedwater:other/finance/orders"])), "TargetConflict"),
    ];
    for spec in [json!({"deploymentName": "hourly"}), json!({"workspaceRef": {"name": "staging"}})] {
        let d = Desired { generation: 2, ..desired(&spec) };
        for (ahead, reason) in &table {
            let kept = decide(&d, &before(ahead.clone()), &status, now());
            assert_eq!((&kept.step, ready(&kept).1), (&Step::Rest, *reason), "{ahead:?}");
            assert_eq!(d.place(&kept.status), d.place(&status), "{ahead:?}");
            let again = decide(&d, &before(ahead.clone()), &kept.status, later(9000));
            assert_eq!((again.step, &again.status), (Step::Rest, &kept.status), "{ahead:?}");
            // A start of the operator, which has read nothing yet, changes nothing about it.
            let started = WorkspaceView::NotReady { reason: "Progressing".into() };
            let unread = Observed { deployment: View::Unread, ..before(ahead.clone()) };
            for o in [unread, before(Ahead { workspace: started, ..ahead.clone() })] {
                assert_eq!(ready(&decide(&d, &o, &kept.status, later(9000))).1, *reason, "{ahead:?}");
            }
            // What a write of ours made Prefect drop there is made good all the same.
            let owed = Some(PendingWrite { since: Time(now()), late: None });
            let owing = FlowDeploymentStatus { pending_write: owed, ..kept.status };
            let Step::Do(writes) = decide(&d, &before(ahead.clone()), &owing, now()).step else {
                panic!("{ahead:?}")
            };
            assert_eq!(writes[0].kind(), WriteKind::ScheduleRuns, "{ahead:?}");
        }
    }
    let kept = decide(&moved(&json!({})), &before(found(&json!([]))), &status, now());
    let told = &kept.status.conditions.iter().find(|c| c.type_ == "Ready").unwrap().message;
    assert!(told.contains("`orders/hourly` exists"), "{told}");
    let kept = "; until then deployment `orders/nightly` in workspace `prod` goes on";
    assert!(told.ends_with(kept), "{told}");
}

#[test]
fn it_goes_for_a_place_that_can_be_had() {
    let status = settled(&desired(&json!({})));
    let adopts = json!({"adoptionPolicy": "Adopt", "deletionPolicy": "Delete"});
    for (spec, ahead) in [
        (json!({}), free()),
        (json!({}), found(&json!(["feedwater:abc/finance/orders"]))),
        (adopts.clone(), found(&json!([]))),
        (adopts, found(&json!(["feedwater:abc/finance/gone"]))),
        (json!({}), Ahead { given: true, ..yielding() }),
    ] {
        let Step::Do(writes) = decide(&moved(&spec), &before(ahead.clone()), &status, now()).step else {
            panic!("{ahead:?}")
        };
        assert_eq!(writes[0].kind(), WriteKind::Delete, "{ahead:?}");
    }
    // Names are swapped: each would wait for the other.
    let swapping = Observed { heir: Heir::Turning, ..before(yielding()) };
    let Step::Do(writes) = decide(&moved(&json!({})), &swapping, &status, now()).step else { panic!() };
    assert_eq!(writes[0].kind(), WriteKind::Delete);
}

/// Whoever may have it at once is given it, and what is deleted goes, whatever is ahead.
#[test]
fn an_heir_and_a_deletion_wait_for_nothing_ahead() {
    let status = settled(&desired(&json!({})));
    let taken = || Ahead { claim: Claim::Taken { by: other() }, ..free() };
    let heir = Observed { heir: Heir::Ready(other()), ..before(taken()) };
    let intent = decide(&moved(&json!({})), &heir, &status, now());
    assert_eq!(intent.step, Step::Intend);
    let Step::Do(writes) = decide(&moved(&json!({})), &heir, &intent.status, now()).step else { panic!() };
    assert_eq!(writes[0].kind(), WriteKind::Patch);
    let deleted = Desired { deleting: Some(now()), ..moved(&json!({})) };
    let Step::Do(writes) = decide(&deleted, &before(taken()), &status, now()).step else { panic!() };
    assert_eq!(writes[0].kind(), WriteKind::Delete);
    let orphan = Desired { has_finalizer: false, ..moved(&json!({"deletionPolicy": "Orphan"})) };
    let left = decide(&orphan, &before(taken()), &status, now());
    assert_eq!((left.step, left.notes[0].reason), (Step::Intend, "Orphaned"));
}
