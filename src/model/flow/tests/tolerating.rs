//! What others change under `driftDetection.mode: Warn` or `Disabled`.

use super::*;

#[test]
fn what_people_change_is_left_by_mode_until_the_spec_is_edited() {
    for (mode, drifted) in [("Warn", "DriftDetected"), ("Disabled", "NoDrift")] {
        let spec = json!({"description": "a", "driftDetection": {"mode": mode}});
        let d = desired(&spec);
        let settled =
            decide(&d, &present(&json!({"description": "a"})), &FlowDeploymentStatus::default(), now())
                .status;
        let changed = present(&json!({"description": "b"}));
        let decision = decide(&d, &changed, &settled, now());
        assert_eq!(decision.step, Step::Rest, "{mode}");
        assert_eq!(reason_of(&decision.status, "Drifted"), Some(drifted));
        assert_eq!(reason_of(&decision.status, "Ready"), Some("InSync"));
        let again = decide(&d, &changed, &decision.status, later(60));
        assert_eq!((again.step, &again.status), (Step::Rest, &decision.status), "{mode} rests");
        let edited = Desired { generation: 2, ..d };
        assert_eq!(decide(&edited, &changed, &decision.status, now()).step, Step::Intend, "{mode}");
    }
}

/// What was written once is others' to change, whatever `Ready` has said meanwhile.
#[test]
fn what_people_change_is_no_edit_of_ours_however_ready_left_in_sync_meanwhile() {
    let d = desired(&json!({"description": "a", "driftDetection": {"mode": "Warn"}}));
    let ours = || present(&json!({"description": "a"}));
    let theirs = || present(&json!({"description": "b"}));
    let applied = decide(&d, &ours(), &FlowDeploymentStatus::default(), now()).status;
    assert_eq!(applied.in_sync_generation, Some(1));
    let owed = PendingWrite { since: Time(now()), late: None };
    let owing = FlowDeploymentStatus { pending_write: Some(owed), ..applied.clone() };
    let away = WorkspaceView::NotReady { reason: "Unreachable".into() };
    let marked = json!({"description": "b", "tags": ["feedwater:xyz/finance/orders"]});
    for (reason, meanwhile, status) in [
        (
            "DependencyNotFound",
            Observed { workspace: WorkspaceView::Missing, ..seen(View::Unread) },
            &applied,
        ),
        ("ConnectionUnavailable", Observed { workspace: away, ..seen(View::Unread) }, &owing),
        (
            "SecretNotFound",
            Observed { values: Values::Missing(NoValue::NotFound("s".into())), ..theirs() },
            &applied,
        ),
        ("TargetConflict", Observed { claim: Claim::Taken { by: other() }, ..theirs() }, &applied),
        ("TargetConflict", present(&marked), &applied),
    ] {
        let left = decide(&d, &meanwhile, status, now());
        assert_eq!(ready(&left).1, reason);
        let mut back = decide(&d, &theirs(), &left.status, later(60));
        if let Step::Do(writes) = &back.step {
            let kinds: Vec<WriteKind> = writes.iter().map(Write::kind).collect();
            assert_eq!(
                kinds,
                [WriteKind::ScheduleRuns],
                "{reason}: what is owed is made good, and that is all"
            );
            let acks = [Ack::Done(WriteKind::ScheduleRuns)];
            let done = fold(&d, &theirs(), &left.status, &acks, later(60));
            back = decide(&d, &theirs(), &done.status, later(61));
        }
        assert_eq!((&back.step, ready(&back)), (&Step::Rest, ("True", "InSync")), "{reason}");
        assert_eq!(reason_of(&back.status, "Drifted"), Some("DriftDetected"), "{reason}");
        let edited = Desired { generation: 2, ..d.clone() };
        assert_eq!(decide(&edited, &theirs(), &back.status, later(62)).step, Step::Intend, "{reason}");
    }
}

/// Under `Enabled` it is put right, and told as what it is.
#[test]
fn what_people_change_while_ready_is_not_in_sync_is_told_as_drift() {
    let d = desired(&json!({"description": "a"}));
    let applied =
        decide(&d, &present(&json!({"description": "a"})), &FlowDeploymentStatus::default(), now()).status;
    let missing = Observed { workspace: WorkspaceView::Missing, ..seen(View::Unread) };
    let left = decide(&d, &missing, &applied, now()).status;
    let back = decide(&d, &present(&json!({"description": "b"})), &left, later(60));
    assert_eq!((back.step, back.notes[0].reason), (Step::Intend, "DriftDetected"));
    assert_eq!(back.status.last_drift.unwrap().fields, ["description"]);
}

/// What an earlier build has written knows no `inSyncGeneration`: `Ready` has to do.
#[test]
fn the_status_of_an_earlier_build_is_read_as_it_meant_it() {
    let d = desired(&json!({"description": "a", "driftDetection": {"mode": "Warn"}}));
    let applied =
        decide(&d, &present(&json!({"description": "a"})), &FlowDeploymentStatus::default(), now()).status;
    let earlier = FlowDeploymentStatus { in_sync_generation: None, ..applied };
    let theirs = present(&json!({"description": "b"}));
    let decision = decide(&d, &theirs, &earlier, now());
    assert_eq!((&decision.step, decision.status.in_sync_generation), (&Step::Rest, Some(1)));
    let progressing = decide(&d, &seen(View::Unread), &FlowDeploymentStatus::default(), now()).status;
    assert_eq!(decide(&d, &theirs, &progressing, now()).step, Step::Intend);
}

/// A deployment that others made anew under our name and mark, and one that we make anew, never were as declared.
#[test]
fn what_is_made_anew_is_written_whole() {
    let schedules = json!([{"slug": "a", "cron": {"expression": "0 2 * * *"}}]);
    let d = desired(&json!({"schedules": schedules, "driftDetection": {"mode": "Warn"}}));
    let status = FlowDeploymentStatus { in_sync_generation: Some(1), ..settled(&desired(&json!({}))) };
    let anew = |id: &str| seen(View::Present(Deployment { id: DeploymentId::new(id), ..there(&json!({})) }));
    assert_eq!(decide(&d, &anew("id"), &status, now()).step, Step::Rest, "others have deleted the schedule");

    let theirs = decide(&d, &anew("other"), &status, now());
    assert_eq!((theirs.step, theirs.notes[0].reason), (Step::Intend, "DriftDetected"));
    let adds = |o: &Observed, status: &FlowDeploymentStatus| {
        let Step::Do(writes) = decide(&d, o, status, now()).step else { panic!("{status:?}") };
        assert!(writes.iter().any(|write| write.kind() == WriteKind::AddSchedule), "{writes:?}");
    };
    adds(&anew("other"), &theirs.status);

    let gone = decide(&d, &seen(View::Absent), &status, now());
    assert_eq!((gone.step, gone.notes[0].reason), (Step::Intend, "DriftDetected"));
    let intent = decide(&d, &seen(View::Absent), &gone.status, now());
    let status = intent.status;
    let made = fold(&d, &seen(View::Absent), &status, &[Ack::Created(DeploymentId::new("new"))], now());
    let intent = decide(&d, &anew("new"), &made.status, now());
    adds(&anew("new"), &intent.status);
}

/// A PATCH would change that limit for all who share it, and taking it back would delete it.
#[test]
fn a_limit_that_others_may_share_is_never_written() {
    let shared = |limit| Deployment { shares_limit: true, ..there(&json!({"concurrency_limit": limit})) };
    let d = Desired { generation: 2, ..desired(&json!({"concurrencyLimit": {"limit": 2}})) };
    let o = seen(View::Present(shared(10)));
    let told = decide(&d, &o, &settled(&desired(&json!({}))), later(1));
    assert_eq!((&told.step, ready(&told)), (&Step::Rest, ("True", "InSync")));
    assert_eq!(reason_of(&told.status, "Drifted"), Some("DriftDetected"));
    assert!(told.status.applied_fields.contains(&"concurrencyLimit".to_owned()));
    let without = Desired { generation: 3, ..desired(&json!({})) };
    let forgotten = decide(&without, &o, &told.status, later(2));
    assert_eq!((&forgotten.step, reason_of(&forgotten.status, "Drifted")), (&Step::Rest, Some("NoDrift")));
    assert!(!forgotten.status.applied_fields.contains(&"concurrencyLimit".to_owned()));
}
