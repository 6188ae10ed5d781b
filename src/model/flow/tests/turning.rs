//! Another connection in the spec: to the same API, elsewhere, or to nobody knows where.

use super::*;

fn named(workspace: &str) -> Desired {
    Desired { generation: 2, ..desired(&json!({"workspaceRef": {"name": workspace}})) }
}

fn at(turn: Turn) -> Observed {
    Observed { turn, ..present(&json!({})) }
}

#[test]
fn a_deployment_goes_on_through_another_connection_to_the_same_api() {
    let before = settled(&desired(&json!({})));
    let d = named("production");
    let turned = decide(&d, &at(Turn::Same(Standing::Held)), &before, now());
    assert_eq!((&turned.step, &turned.notes), (&Step::Intend, &vec![]));
    let of = |status: &FlowDeploymentStatus| (status.deployment_id.clone(), status.applied_fields.clone());
    assert_eq!((turned.status.workspace.as_deref(), of(&turned.status)), (Some("production"), of(&before)));
    assert_eq!(d.place(&turned.status), d.wanted_place());
    let rest = decide(&d, &present(&json!({})), &turned.status, now());
    assert_eq!(
        (rest.step, ready(&decide(&d, &present(&json!({})), &turned.status, now()))),
        (Step::Rest, ("True", "InSync"))
    );

    // Whatever the former one is by now, and whatever else the spec says.
    for workspace in [WorkspaceView::Missing, WorkspaceView::NotReady { reason: "CredentialsInvalid".into() }]
    {
        let gone = Observed { workspace, ..at(Turn::Same(Standing::Held)) };
        assert_eq!(decide(&d, &gone, &before, now()).status.workspace, turned.status.workspace);
    }
    for spec in
        [json!({"suspend": true}), json!({"managementPolicy": "Observe"}), json!({"deploymentName": "x"})]
    {
        let mut more = spec;
        more["workspaceRef"] = json!({"name": "production"});
        let d =
            Desired { generation: 2, has_finalizer: more["managementPolicy"].is_null(), ..desired(&more) };
        let turned = decide(&d, &at(Turn::Same(Standing::Held)), &before, now());
        assert_eq!(
            (turned.step, turned.status.workspace.as_deref()),
            (Step::Intend, Some("production")),
            "{more}"
        );
    }
}

/// What has to be deleted in the end needs a connection that waits for it.
#[test]
fn it_goes_on_through_the_former_one_until_the_new_one_waits_for_it() {
    let before = settled(&desired(&json!({})));
    let d = named("production");
    let unheld = decide(&d, &at(Turn::Same(Standing::Unheld)), &before, now());
    assert_eq!((&unheld.step, unheld.status.workspace.as_deref()), (&Step::Rest, Some("prod")));
    let leaving = decide(&d, &at(Turn::Same(Standing::Leaving)), &before, now());
    assert_eq!((&leaving.step, ready(&leaving)), (&Step::Rest, ("Unknown", "ConnectionUnavailable")));
    assert_eq!(leaving.status.workspace.as_deref(), Some("prod"));
    let orphan =
        Desired { deletion_policy: DeletionPolicy::Orphan, has_finalizer: false, ..named("production") };
    let turned = decide(&orphan, &at(Turn::Same(Standing::Unheld)), &before, now());
    assert_eq!(turned.status.workspace.as_deref(), Some("production"), "nobody has to wait for what stays");
}

#[test]
fn nothing_is_left_for_a_connection_that_is_not_there() {
    let before = settled(&desired(&json!({})));
    let d = named("production");
    for workspace in [WorkspaceView::Ready, WorkspaceView::Missing] {
        let o = Observed { workspace: workspace.clone(), ..at(Turn::Missing) };
        let first = decide(&d, &o, &before, now());
        assert_eq!((&first.step, ready(&first)), (&Step::Rest, ("Unknown", "DependencyNotFound")));
        let told = first.status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert!(told.message.contains("`production`"), "{}", told.message);
        let later = decide(&d, &o, &first.status, later(90_000));
        assert_eq!(
            (&later.step, ready(&later)),
            (&Step::Rest, ("False", "DependencyNotFound")),
            "{workspace:?}"
        );
        assert_eq!(later.status.deployment_id, before.deployment_id);
    }
    let unusable = decide(&d, &at(Turn::Unusable), &before, now());
    assert_eq!((&unusable.step, ready(&unusable)), (&Step::Rest, ("Unknown", "ConnectionUnavailable")));

    // What a change of ours made Prefect drop does not wait for it.
    let owed = PendingWrite { since: Time(now()), late: None };
    let owing = FlowDeploymentStatus { pending_write: Some(owed), ..before };
    let Step::Do(writes) = decide(&d, &at(Turn::Missing), &owing, now()).step else { panic!() };
    assert_eq!(writes[0].kind(), WriteKind::ScheduleRuns);
}

#[test]
fn elsewhere_it_is_made_anew_and_the_old_one_goes() {
    let before = settled(&desired(&json!({})));
    let Step::Do(writes) = decide(&named("staging"), &at(Turn::Elsewhere), &before, now()).step else {
        panic!()
    };
    assert_eq!(writes[0].kind(), WriteKind::Delete);
}
