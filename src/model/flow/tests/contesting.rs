//! Who has the last word where others keep changing what is declared.

use super::*;

/// Somebody's description, seen at this second; the passes until all rests, and how many corrections were sent.
fn round(d: &Desired, status: FlowDeploymentStatus, theirs: &Value, at: u64) -> (Decision, usize) {
    let (mut status, mut sent, mut there) = (status, 0, present(theirs));
    for step in 0..8 {
        let time = later(at + step);
        let decision = decide(d, &there, &status, time);
        match &decision.step {
            Step::Do(writes) => {
                let acks: Vec<Ack> = writes.iter().map(|w| Ack::Done(w.kind())).collect();
                sent += usize::from(writes.iter().any(|w| w.kind() == WriteKind::Patch));
                let left = decision.status.contested.contains(&"description".to_owned());
                status = fold(d, &there, &status, &acks, time).status;
                let mut now = json!({"description": "ours", "version": "ours"});
                if left {
                    now["description"] = theirs["description"].clone();
                }
                there = present(&now);
            }
            Step::Intend => status = decision.status,
            Step::Rest => return (decision, sent),
            Step::Hold | Step::Release => panic!("{:?}", decision.step),
        }
    }
    panic!("does not rest")
}

fn ours() -> Desired {
    desired(&json!({"description": "ours", "version": "ours"}))
}

fn agreed() -> Value {
    json!({"description": "ours", "version": "ours"})
}

fn theirs() -> Value {
    json!({"description": "theirs", "version": "ours"})
}

/// Three corrections, a minute apart, and the decision at the fourth change.
fn contested() -> Decision {
    let d = ours();
    let mut status = decide(&d, &present(&agreed()), &FlowDeploymentStatus::default(), now()).status;
    for minute in 1..=3 {
        let (decision, sent) = round(&d, status, &theirs(), minute * 60);
        assert_eq!((sent, reason_of(&decision.status, "Drifted")), (1, Some("NoDrift")), "{minute}");
        status = decision.status;
    }
    let (fourth, sent) = round(&d, status, &theirs(), 240);
    assert_eq!(sent, 0);
    fourth
}

#[test]
fn the_fourth_change_within_an_hour_is_left_and_named_once() {
    let d = ours();
    let fourth = contested();
    assert_eq!(ready(&fourth), ("True", "InSync"));
    let drifted = fourth.status.conditions.iter().find(|c| c.type_ == "Drifted").unwrap();
    assert_eq!((drifted.status.as_str(), drifted.reason.as_str()), ("True", "DriftContested"));
    assert!(drifted.message.contains("description"), "{}", drifted.message);
    assert_eq!(fourth.status.contested, ["description"]);
    assert_eq!((fourth.notes.len(), fourth.notes[0].reason), (1, "DriftContested"));
    // At rest nothing is written, whatever time it is within the hour.
    for at in [241, 600, 3000] {
        let again = decide(&d, &present(&theirs()), &fourth.status, later(at));
        assert_eq!((&again.step, again.status == fourth.status), (&Step::Rest, true), "{at}");
        assert!(again.notes.is_empty() && again.again == fourth.again);
    }
}

#[test]
fn what_is_not_contested_is_still_put_right() {
    let both = json!({"description": "theirs", "version": "theirs"});
    let (decision, sent) = round(&ours(), contested().status, &both, 300);
    assert_eq!((sent, decision.status.contested.as_slice()), (1, &["description".to_owned()][..]));
    assert_eq!(decision.status.last_drift.unwrap().fields, ["version"]);
}

#[test]
fn it_is_put_right_again_after_an_hour_or_by_a_new_generation_or_once_both_agreed() {
    let contested = contested();
    let until = contested.again.unwrap();
    assert!(
        until >= later(3600 + 180) && until < later(3600 + 200),
        "an hour after the last correction: {until}"
    );
    let hour = decide(&ours(), &present(&theirs()), &contested.status, until);
    assert_eq!((&hour.step, hour.status.corrections[0].at.len()), (&Step::Intend, 1));

    let edited = Desired { generation: 2, ..ours() };
    let (edit, sent) = round(&edited, contested.status.clone(), &theirs(), 300);
    assert_eq!((sent, edit.status.corrections.len(), edit.status.contested.len()), (1, 0, 0));

    let agree = decide(&ours(), &present(&agreed()), &contested.status, later(300));
    assert_eq!(reason_of(&agree.status, "Drifted"), Some("NoDrift"));
    assert!(agree.status.contested.is_empty() && agree.status.corrections.is_empty());
    assert_eq!(round(&ours(), agree.status, &theirs(), 400).1, 1);
}

#[test]
fn three_corrections_over_more_than_an_hour_are_no_contest() {
    let d = ours();
    let mut status = decide(&d, &present(&agreed()), &FlowDeploymentStatus::default(), now()).status;
    for n in 1..=8 {
        let (decision, sent) = round(&d, status, &theirs(), n * 1900);
        assert_eq!((sent, decision.status.contested.len()), (1, 0), "{n}");
        assert!(decision.status.corrections[0].at.len() <= 3);
        status = decision.status;
    }
}

#[test]
fn a_schedule_may_be_contested_and_goes_by_its_slug() {
    let d = desired(&json!({"schedules": [{"slug": "a", "cron": {"expression": "0 2 * * *"}}]}));
    let at = |n: u64| Time(later(n));
    let mut status = settled(&desired(&json!({})));
    status.corrections =
        vec![crate::api::Correction { field: "schedules/a".into(), at: vec![at(1), at(2), at(3)] }];
    let decision = decide(&d, &present(&json!({})), &status, later(10));
    assert_eq!(decision.status.contested, ["schedules/a"]);
    assert_eq!(decision.step, Step::Rest);
}
