//! A connection of the cluster that does not allow what is asked of it.

use super::*;

fn denied(o: Observed) -> Observed {
    Observed { access: Access::Denied("ask for it".into()), ..o }
}

#[test]
fn what_is_not_allowed_is_not_done_and_what_is_there_stays() {
    let changed = desired(&json!({"description": "new"}));
    let status = settled(&desired(&json!({})));
    for (case, o, before) in [
        ("new", seen(View::Absent), FlowDeploymentStatus::default()),
        ("unread", seen(View::Unread), FlowDeploymentStatus::default()),
        ("it would be changed", present(&json!({})), status.clone()),
        ("deleted in Prefect", seen(View::Absent), status.clone()),
        (
            "turned to it",
            Observed { turn: Turn::Same(Standing::Held), ..present(&json!({})) },
            status.clone(),
        ),
        ("moved to it", Observed { turn: Turn::Elsewhere, ..present(&json!({})) }, status.clone()),
    ] {
        let decision = decide(&changed, &denied(o), &before, now());
        assert_eq!(decision.step, Step::Rest, "{case}");
        assert_eq!(ready(&decision), ("False", "AccessDenied"), "{case}");
        assert!(has(&decision, "Stalled"), "{case}");
        assert_eq!(decision.status.workspace, before.workspace, "{case}");
        assert_eq!(decision.status.deployment_id, before.deployment_id, "{case}");
    }
    let again = decide(&changed, &present(&json!({})), &status, now());
    assert_eq!(again.step, Step::Intend, "allowed again, it goes on");
}

#[test]
fn what_a_change_of_ours_cost_is_still_made_good() {
    let d = desired(&json!({}));
    let mut status = settled(&d);
    status.pending_write = Some(PendingWrite { since: Time(now()), late: None });
    let scheduled = Observed {
        deployment: View::Present(Deployment { paused: false, ..there(&json!({})) }),
        ..present(&json!({}))
    };
    let decision = decide(&d, &denied(scheduled), &status, now());
    let Step::Do(writes) = &decision.step else { panic!("{:?}", decision.step) };
    assert!(writes.iter().all(|write| write.kind().repairs()), "{writes:?}");
    assert_eq!(ready(&decision), ("False", "AccessDenied"));
}

#[test]
fn until_the_labels_are_read_nothing_is_done_and_nothing_is_said_to_be_wrong() {
    let o = Observed { access: Access::Unknown, ..seen(View::Absent) };
    let decision = decide(&desired(&json!({})), &o, &FlowDeploymentStatus::default(), now());
    assert_eq!((&decision.step, ready(&decision)), (&Step::Rest, ("Unknown", "Progressing")));
    let status = settled(&desired(&json!({})));
    let o = Observed { access: Access::Unknown, ..present(&json!({})) };
    assert_eq!(decide(&desired(&json!({})), &o, &status, now()).status, status, "what was in sync stays so");
}

#[test]
fn what_was_made_while_it_was_allowed_is_deleted_with_its_resource() {
    let status = settled(&desired(&json!({})));
    let deleting = Desired { deleting: Some(now()), ..desired(&json!({})) };
    let Step::Do(writes) = decide(&deleting, &denied(present(&json!({}))), &status, now()).step else {
        panic!()
    };
    assert_eq!(writes[0].kind(), WriteKind::Delete);
    // Suspended, nobody asks.
    let suspended = desired(&json!({"suspend": true}));
    assert_eq!(
        ready(&decide(&suspended, &denied(present(&json!({}))), &status, now())),
        ("True", "Suspended")
    );
}
