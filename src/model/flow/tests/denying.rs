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
fn who_is_not_allowed_stands_in_nobodys_way_and_who_goes_still_holds_what_it_made() {
    let (d, status) = (desired(&json!({})), settled(&desired(&json!({}))));
    let goes = Desired { deleting: Some(now()), ..d.clone() };
    let is =
        |d: &Desired, access| Claimant::of(d, &status, &access, true).map(|one| (one.leaving, one.allowed));
    let no = || Access::Denied("ask for it".into());
    assert_eq!(is(&d, Access::Allowed), Some((false, true)));
    assert_eq!(is(&d, Access::Unknown), Some((false, false)));
    assert_eq!(is(&d, no()), None);
    assert_eq!(is(&goes, no()), Some((true, false)));
    // While that is looked up nothing is made, and nothing is said to be wrong.
    let o = Observed { claim: Claim::Unresolved, ..seen(View::Absent) };
    let decision = decide(&d, &o, &FlowDeploymentStatus::default(), now());
    assert_eq!((&decision.step, ready(&decision)), (&Step::Rest, ("Unknown", "Progressing")));
}

#[test]
fn of_a_connection_that_is_not_there_it_is_said_and_nothing_is_done() {
    let missing = Observed {
        access: Access::Unknown,
        workspace: WorkspaceView::Missing,
        deployment: View::Unread,
        ..present(&json!({}))
    };
    let decision = decide(&desired(&json!({})), &missing, &FlowDeploymentStatus::default(), now());
    assert_eq!((&decision.step, ready(&decision)), (&Step::Rest, ("Unknown", "DependencyNotFound")));
    // Turned to one that is not there, through the former one.
    let elsewhere = desired(&json!({"workspaceRef": {"name": "staging"}}));
    let turned = Observed { access: Access::Unknown, turn: Turn::Missing, ..present(&json!({})) };
    let decision = decide(&elsewhere, &turned, &settled(&desired(&json!({}))), now());
    assert_eq!((&decision.step, ready(&decision)), (&Step::Rest, ("Unknown", "DependencyNotFound")));
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
