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

fn into_the_cluster(more: &Value) -> Desired {
    let mut spec = more.clone();
    spec["workspaceRef"] = json!({"kind": "ClusterPrefectWorkspace", "name": "prod"});
    Desired { generation: 2, ..desired(&spec) }
}

/// What somebody's own server has said is of no account: not even the id, if they could have read it there.
#[test]
fn into_a_connection_of_the_cluster_only_our_mark_goes_along() {
    let before = settled(&desired(&json!({})));
    let d = into_the_cluster(&json!({}));
    let turned = decide(&d, &at(Turn::Same(Standing::Held)), &before, now());
    assert_eq!(turned.step, Step::Intend);
    assert_eq!(
        (turned.status.workspace.as_deref(), turned.status.deployment_id.as_deref()),
        (Some("cluster:prod"), None)
    );
    // Marked, it is the same as ever.
    let rest = decide(&d, &present(&json!({})), &turned.status, now());
    assert_eq!((&rest.step, ready(&rest)), (&Step::Rest, ("True", "InSync")));
    assert_eq!(rest.status.deployment_id.as_deref(), Some("id"));
    // What others change there is not taken for something new.
    let lenient = into_the_cluster(&json!({"driftDetection": {"mode": "Warn"}}));
    let drifted = decide(
        &lenient,
        &present(&json!({"description": "x", "entrypoint": "other.py:f"})),
        &turned.status,
        now(),
    );
    let decided = decide(
        &Desired { generation: 1, ..lenient },
        &present(&json!({"entrypoint": "other.py:f"})),
        &turned.status,
        now(),
    );
    assert!(matches!(drifted.step, Step::Intend | Step::Rest));
    assert_eq!(decided.step, Step::Rest, "{:?}", decided.status);

    // Without the mark it is somebody's, whatever we are to do about it.
    let planted = || present(&json!({"tags": ["theirs"]}));
    let owed = Some(PendingWrite { since: Time(now()), late: None });
    let owing = FlowDeploymentStatus { pending_write: owed, ..turned.status.clone() };
    let refused = decide(&d, &planted(), &turned.status, now());
    assert_eq!((&refused.step, ready(&refused)), (&Step::Rest, ("False", "AdoptionRequired")));
    for spec in [json!({}), json!({"suspend": true}), json!({"managementPolicy": "Observe"})] {
        let d = Desired { has_finalizer: spec["managementPolicy"].is_null(), ..into_the_cluster(&spec) };
        assert_eq!(decide(&d, &planted(), &owing, now()).step, Step::Rest, "{spec}");
        let gone = Desired { deleting: Some(now()), has_finalizer: true, ..d };
        assert_eq!(decide(&gone, &planted(), &owing, now()).step, Step::Release, "{spec}");
    }
    let renamed = into_the_cluster(&json!({"deploymentName": "other"}));
    let left = decide(&renamed, &planted(), &owing, now());
    assert_eq!((&left.step, left.status.full_name.as_deref()), (&Step::Intend, None));
    // And with it, what is left is what it was.
    let Step::Do(writes) = decide(&renamed, &present(&json!({})), &turned.status, now()).step else {
        panic!()
    };
    assert_eq!(writes[0].kind(), WriteKind::Delete);
}

#[test]
fn an_id_without_a_connection_is_none_for_one_of_the_cluster() {
    let status = FlowDeploymentStatus { workspace: None, ..settled(&desired(&json!({}))) };
    let unmarked = present(&json!({"tags": ["theirs"]}));
    let own = decide(&desired(&json!({})), &unmarked, &status, now());
    assert_ne!(ready(&own).1, "AdoptionRequired", "an earlier build wrote it, and the tag was taken off");
    let cluster = decide(&into_the_cluster(&json!({})), &unmarked, &status, now());
    assert_eq!((&cluster.step, ready(&cluster)), (&Step::Rest, ("False", "AdoptionRequired")));
}

#[test]
fn what_the_new_connection_does_not_allow_is_left_as_it_is() {
    let before = settled(&desired(&json!({})));
    let d = into_the_cluster(&json!({"deploymentName": "allowed"}));
    let left = decide(&d, &at(Turn::Refused), &before, now());
    assert_eq!((&left.step, left.notes[0].reason), (&Step::Intend, "Orphaned"));
    assert_eq!((left.status.deployment_id, left.status.full_name), (None, None));
}

#[test]
fn what_a_change_of_ours_cost_is_made_good_before_it_is_left() {
    let owed = PendingWrite { since: Time(now()), late: None };
    let owing = FlowDeploymentStatus { pending_write: Some(owed), ..settled(&desired(&json!({}))) };
    let d = into_the_cluster(&json!({"deploymentName": "allowed"}));
    let Step::Do(writes) = decide(&d, &at(Turn::Refused), &owing, now()).step else { panic!() };
    assert_eq!(writes[0].kind(), WriteKind::ScheduleRuns);
    let dirty = Observed { deployment: View::Dirty, ..at(Turn::Refused) };
    assert_eq!(decide(&d, &dirty, &owing, now()).step, Step::Rest, "what is there is read first");
    let unusable = WorkspaceView::NotReady { reason: "Unreachable".into() };
    let away = Observed { workspace: unusable, ..at(Turn::Refused) };
    let gone = Observed { deployment: View::Absent, ..at(Turn::Refused) };
    for o in [away, gone] {
        let left = decide(&d, &o, &owing, now());
        assert_eq!((&left.step, left.notes[0].reason), (&Step::Intend, "Orphaned"));
    }
}
