//! Taking over what is there.

use super::*;
use crate::api::Correction;

/// The resource as the next pass reads it: with this status, and no finalizer.
fn with(spec: &Value, status: &FlowDeploymentStatus) -> Desired {
    let mut object = object(spec);
    object.metadata.finalizers = None;
    object.status = Some(status.clone());
    Desired::parse(&object, "abc").unwrap()
}

#[test]
fn what_is_nobodys_is_taken_over_when_that_is_declared_and_left_in_the_end() {
    let spec = json!({"adoptionPolicy": "Adopt", "description": "a"});
    let theirs = present(&json!({"tags": ["x"], "description": "b"}));
    let first = decide(&desired(&spec), &theirs, &FlowDeploymentStatus::default(), now());
    assert_eq!((first.step, first.status.adopted), (Step::Intend, Some(true)));
    assert_eq!(first.notes[0].reason, "Adopted");
    let d = with(&spec, &first.status);
    assert_eq!(d.deletion_policy, DeletionPolicy::Orphan, "unset: what was there before stays");
    let second = decide(&d, &theirs, &first.status, now());
    assert_eq!(second.step, Step::Intend);
    let third = decide(&d, &theirs, &second.status, now());
    let Step::Do(writes) = third.step else { panic!("{:?}", third.step) };
    let Write::Patch { fields, .. } = &writes[0] else { panic!("{writes:?}") };
    assert_eq!(fields["description"], "a");
    assert_eq!(fields["tags"], json!(["x", "feedwater:abc/finance/orders"]));
    // Somebody else's mark is never taken.
    let marked = present(&json!({"tags": ["feedwater:other/finance/orders"]}));
    let refused = decide(&desired(&spec), &marked, &FlowDeploymentStatus::default(), now());
    assert_eq!(reason_of(&refused.status, "Ready"), Some("TargetConflict"));
}

/// What a status says is the word of whoever may write one: where the connection has the rights of others, only the mark counts.
#[test]
fn without_its_mark_a_deployment_is_nobodys_to_a_connection_of_the_cluster() {
    for (shared, reason) in [(false, "InSync"), (true, "AdoptionRequired")] {
        let spec = if shared {
            json!({"workspaceRef": {"kind": "ClusterPrefectWorkspace", "name": "prod"}})
        } else {
            json!({})
        };
        let d = desired(&spec);
        let before = settled(&d);
        assert_eq!(before.deployment_id.as_deref(), Some("id"));
        let unmarked = present(&json!({"tags": ["theirs"]}));
        let decision = decide(&d, &unmarked, &before, now());
        assert_eq!(reason_of(&decision.status, "Ready"), Some(reason));
        // Taken over again, it stays what it was: ours from the beginning.
        let adopting = Desired { adopts: true, ..d.clone() };
        let again = decide(&adopting, &unmarked, &before, now());
        assert_eq!((again.step, again.status.adopted), (Step::Intend, None));
        assert_eq!(again.status.applied_fields, before.applied_fields);
        assert!(again.status.pending_write.is_some());
        let gone = Desired { deleting: Some(now()), ..d };
        let expected = if shared { Step::Release } else { Step::Do(vec![Write::Delete { id: "id".into() }]) };
        assert_eq!(decide(&gone, &unmarked, &before, now()).step, expected);
    }
}

#[test]
fn what_was_taken_over_once_is_still_others_when_the_resource_comes_again() {
    let spec = json!({"adoptionPolicy": "Adopt"});
    let again = decide(&desired(&spec), &present(&json!({})), &FlowDeploymentStatus::default(), now());
    assert_eq!((again.step, again.status.adopted), (Step::Intend, Some(true)));
    assert_eq!(with(&spec, &again.status).deletion_policy, DeletionPolicy::Orphan);
    // What status says we made is ours: `fullName` precedes every creation.
    let made =
        FlowDeploymentStatus { full_name: Some("orders/nightly".into()), ..FlowDeploymentStatus::default() };
    assert_eq!(decide(&desired(&spec), &present(&json!({})), &made, now()).status.adopted, None);
}

#[test]
fn what_a_resource_that_is_gone_has_left_is_taken_over_when_that_is_declared() {
    let spec = json!({"adoptionPolicy": "Adopt"});
    let left = present(&json!({"tags": ["t", "feedwater:abc/finance/former"]}));
    let first = decide(&desired(&spec), &left, &FlowDeploymentStatus::default(), now());
    assert_eq!((first.step, first.status.adopted), (Step::Intend, Some(true)));
    let d = with(&spec, &first.status);
    let second = decide(&d, &left, &first.status, now());
    let Step::Do(writes) = decide(&d, &left, &second.status, now()).step else { panic!() };
    let Write::Patch { fields, .. } = &writes[0] else { panic!("{writes:?}") };
    assert_eq!(fields["tags"], json!(["t", "feedwater:abc/finance/orders"]));
}

#[test]
fn what_is_made_in_the_place_of_what_was_taken_over_goes_with_the_resource() {
    let spec = json!({"adoptionPolicy": "Adopt"});
    for deployment_id in [None, Some("id".to_owned())] {
        let taken =
            FlowDeploymentStatus { adopted: Some(true), deployment_id, ..FlowDeploymentStatus::default() };
        let gone = decide(&with(&spec, &taken), &seen(View::Absent), &taken, now());
        assert_eq!((gone.step, gone.status.adopted), (Step::Intend, None));
        let d = with(&spec, &gone.status);
        assert_eq!(d.deletion_policy, DeletionPolicy::Delete);
        assert_eq!(decide(&d, &seen(View::Absent), &gone.status, now()).step, Step::Hold);
    }
}

/// Deleted by others and made again under its name before it was missed: what was set, changed and owed in the former one is not taken from this one.
#[test]
fn what_was_in_the_former_deployment_of_that_name_says_nothing_of_the_one_that_is_taken_over() {
    let spec = json!({"adoptionPolicy": "Adopt"});
    let theirs = present(&json!({"tags": ["x"], "description": "theirs"}));
    for adopted in [None, Some(true)] {
        let former = FlowDeploymentStatus {
            adopted,
            deployment_id: Some("former".into()),
            full_name: Some("orders/nightly".into()),
            workspace: Some("prod".into()),
            applied_fields: vec!["description".into(), "entrypoint".into(), "schedules/nightly".into()],
            pending_write: Some(PendingWrite { since: Time(at("2026-11-24T01:00:00Z")), late: None }),
            corrections: vec![Correction { field: "entrypoint".into(), at: vec![Time(now())] }],
            ..FlowDeploymentStatus::default()
        };
        let held = Desired { has_finalizer: adopted.is_none(), ..with(&spec, &former) };
        let first = decide(&held, &theirs, &former, now());
        assert_eq!((first.step, first.status.adopted), (Step::Intend, Some(true)));
        let mut status = first.status;
        let writes = loop {
            let decision = decide(&with(&spec, &status), &theirs, &status, now());
            match decision.step {
                Step::Intend => status = decision.status,
                Step::Do(writes) => break writes,
                step => panic!("{step:?}"),
            }
        };
        let Write::Patch { fields, .. } = &writes[0] else { panic!("{writes:?}") };
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["tags"], "{adopted:?}");
        let owed = status.pending_write.unwrap();
        assert!(owed.since.0 > at("2026-11-24T09:00:00Z"), "{adopted:?}: {owed:?}");
    }
}
