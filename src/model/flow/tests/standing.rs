//! What a connection that is not held yet, or is being deleted, lets a resource do.

use super::*;

#[test]
fn nothing_is_made_through_a_connection_before_it_is_held_nor_while_it_is_being_deleted() {
    let taken = |adopted| FlowDeploymentStatus { adopted, ..FlowDeploymentStatus::default() };
    let step = |d: &Desired, o: Observed, standing| {
        let decision = decide(d, &Observed { standing, ..o }, &taken(d.adopts.then_some(true)), now());
        (decision.step.clone(), ready(&decision).1.to_owned())
    };
    let bare = |spec: Value| Desired { has_finalizer: false, ..desired(&spec) };
    let (waits, shut) =
        ((Step::Rest, "Progressing".to_owned()), (Step::Rest, "ConnectionUnavailable".to_owned()));
    for d in [bare(json!({})), desired(&json!({}))] {
        assert_eq!(step(&d, seen(View::Absent), Standing::Unheld), waits);
        assert_eq!(step(&d, seen(View::Absent), Standing::Leaving), shut);
    }
    // Taking over is a first write too.
    let adopts =
        desired(&json!({"adoptionPolicy": "Adopt", "deletionPolicy": "Delete", "description": "new"}));
    let mine = || present(&json!({"tags": ["mine"]}));
    assert_eq!(step(&adopts, mine(), Standing::Unheld), waits);
    assert_eq!(step(&adopts, mine(), Standing::Leaving), shut);
    // What is left behind in the end needs nobody to wait for it; but through what goes, it does not begin.
    let orphan = bare(json!({"deletionPolicy": "Orphan"}));
    assert_eq!(step(&orphan, seen(View::Absent), Standing::Unheld).0, Step::Intend);
    assert_eq!(step(&orphan, seen(View::Absent), Standing::Leaving), shut);
    assert_eq!(
        decide(&bare(json!({})), &seen(View::Absent), &FlowDeploymentStatus::default(), now()).step,
        Step::Hold
    );
}

#[test]
fn what_is_there_goes_on_while_its_connection_is_being_deleted_and_is_deleted_through_it() {
    let d = desired(&json!({"description": "new"}));
    let status = settled(&desired(&json!({})));
    let leaving = |o| Observed { standing: Standing::Leaving, ..o };
    assert_eq!(decide(&d, &leaving(present(&json!({}))), &status, now()).step, Step::Intend, "it is changed");
    let unheld = Observed { standing: Standing::Unheld, ..present(&json!({})) };
    assert_eq!(decide(&d, &unheld, &status, now()).step, Step::Intend, "made by a build that held nothing");
    // Deleted in Prefect: not made again.
    let gone = decide(&d, &leaving(seen(View::Absent)), &status, now());
    assert_eq!((gone.step.clone(), ready(&gone).1), (Step::Rest, "ConnectionUnavailable"));
    let deleting = Desired { deleting: Some(now()), ..d };
    let Step::Do(writes) = decide(&deleting, &leaving(present(&json!({}))), &status, now()).step else {
        panic!()
    };
    assert_eq!(writes[0].kind(), WriteKind::Delete);
}
