//! From when on lost runs are asked for again, and in what order.

use super::*;
use crate::model::deployments::{Schedule, Touched};
use serde_json::Map;

fn touched(seconds_ago: u64) -> Touched {
    let clock = at("2026-11-24T09:59:58Z");
    Touched {
        fields: Some(crate::model::time::sub(clock, Duration::from_secs(seconds_ago))),
        ..Touched::default()
    }
}

fn since(decision: &Decision) -> &str {
    let since = decision.status.pending_write.as_ref().expect("announced").since.0.to_string();
    since.leak()
}

#[test]
fn what_others_changes_cost_is_made_good_as_well_for_two_minutes() {
    let d = desired(&json!({}));
    for (ago, expected) in [(3, "2026-11-24T09:59:55Z"), (600, "2026-11-24T09:57:58Z")] {
        let theirs = Deployment { touched: touched(ago), ..there(&json!({"entrypoint": "hand.py:f"})) };
        let drift = decide(&d, &seen(View::Present(theirs.clone())), &settled(&d), later(60));
        assert_eq!(since(&drift), expected);
        // Our own edit drops runs when it is made, and its new rules are not for the past.
        let edited = Desired { generation: 2, ..d.clone() };
        let edit = decide(&edited, &seen(View::Present(theirs)), &settled(&d), later(60));
        assert_eq!(since(&edit), "2026-11-24T09:59:58Z");
    }
    let adopting = desired(&json!({"adoptionPolicy": "Adopt"}));
    let theirs = Deployment { touched: touched(3), ..there(&json!({"tags": []})) };
    let status = FlowDeploymentStatus { adopted: Some(true), ..FlowDeploymentStatus::default() };
    let adopt = decide(&adopting, &seen(View::Present(theirs)), &status, later(60));
    assert_eq!(since(&adopt), "2026-11-24T09:59:55Z");
}

#[test]
fn an_old_debt_is_paid_before_anything_is_changed() {
    let d = Desired { generation: 2, ..desired(&json!({"description": "new"})) };
    let owing = |since: &str| FlowDeploymentStatus {
        pending_write: Some(PendingWrite { since: Time(at(since)), late: None }),
        ..settled(&desired(&json!({})))
    };
    let kinds = |status: FlowDeploymentStatus| {
        let o = present(&json!({}));
        let announced = decide(&d, &o, &status, later(1));
        let status = if announced.step == Step::Intend { announced.status } else { status };
        match decide(&d, &o, &status, later(1)).step {
            Step::Do(writes) => writes.iter().map(Write::kind).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(kinds(owing("2026-11-24T09:59:00Z")), [WriteKind::Patch, WriteKind::ScheduleRuns]);
    // By the rules there are; that is written down, and only then the change comes, and runs by the new rules from then on.
    let old = owing("2026-11-24T09:00:00Z");
    assert_eq!(kinds(old.clone()), [WriteKind::RestoreRuns]);
    let restored = Ack::Restored { from: at("2026-11-24T09:00:00Z"), to: at("2026-11-24T09:59:58Z") };
    let paid = fold(&d, &present(&json!({})), &old, &[restored], later(1));
    assert_eq!(paid.status.pending_write.as_ref().unwrap().since.0, at("2026-11-24T09:59:58Z"));
    assert_eq!(kinds(paid.status.clone()), [WriteKind::Patch, WriteKind::ScheduleRuns]);
    // The next reading of Prefect may be a while after: what is paid is paid. Long after, the new rules would speak about a past again.
    for (clock, expected) in
        [("2026-11-24T10:07:00Z", WriteKind::Patch), ("2026-11-24T11:00:00Z", WriteKind::RestoreRuns)]
    {
        let o = Observed { memory: paid.memory.clone(), clock: Some(at(clock)), ..present(&json!({})) };
        let announced = decide(&d, &o, &paid.status, later(3600)).status;
        let Step::Do(writes) = decide(&d, &o, &announced, later(3600)).step else { panic!() };
        assert_eq!(writes[0].kind(), expected, "{clock}");
    }
}

fn restored(writes: &[Write]) -> Vec<(String, String)> {
    let stretch = |write: &Write| match write {
        Write::RestoreRuns { from, to, .. } => Some((from.to_string(), to.to_string())),
        _ => None,
    };
    writes.iter().map_while(stretch).collect()
}

fn acks(writes: &[Write]) -> Vec<Ack> {
    let ack = |write: &Write| match write {
        Write::RestoreRuns { from, to, .. } => Ack::Restored { from: *from, to: *to },
        other => Ack::Done(other.kind()),
    };
    writes.iter().map(ack).collect()
}

/// What is there has a schedule of ours that the spec no longer declares.
fn with_one_that_goes() -> (Desired, Observed, FlowDeploymentStatus) {
    let gone = Schedule {
        id: ScheduleId::new("s"),
        slug: Some("gone".into()),
        active: true,
        rule: Map::new(),
        parameters: Map::new(),
        max_scheduled_runs: None,
    };
    let before = FlowDeploymentStatus {
        applied_fields: vec!["schedules/gone".into()],
        ..settled(&desired(&json!({})))
    };
    let o = seen(View::Present(Deployment { schedules: vec![gone], ..there(&json!({})) }));
    (Desired { generation: 2, ..desired(&json!({})) }, o, before)
}

/// Prefect makes no more than about an hour of them at once, and a deletion drops what has become late since it was looked at.
#[test]
fn a_debt_of_hours_is_paid_by_the_hour_and_what_is_late_is_looked_at_anew() {
    let (d, o, before) = with_one_that_goes();
    let owing = |since: &str| FlowDeploymentStatus {
        pending_write: Some(PendingWrite {
            since: Time(at(since)),
            late: Some(vec![Time(at("2026-11-24T06:00:00Z"))]),
        }),
        ..before.clone()
    };
    let announced = |status: FlowDeploymentStatus| match decide(&d, &o, &status, later(1)) {
        Decision { step: Step::Intend, status, .. } => status,
        Decision { .. } => status,
    };
    let status = announced(owing("2026-11-24T07:30:00Z"));
    let Step::Do(writes) = decide(&d, &o, &status, later(1)).step else { panic!() };
    let of = |from: &str, to: &str| (format!("2026-11-24T{from}Z"), format!("2026-11-24T{to}Z"));
    let expected = [
        of("06:00:00", "06:00:00"),
        of("07:30:00", "08:30:00"),
        of("08:30:00", "09:30:00"),
        of("09:30:00", "09:59:58"),
    ];
    assert_eq!((restored(&writes).as_slice(), writes.len()), (expected.as_slice(), 4));
    let paid = fold(&d, &o, &status, &acks(&writes), later(2));
    assert_eq!(
        paid.status.pending_write,
        Some(PendingWrite { since: Time(at("2026-11-24T09:59:58Z")), late: None })
    );
    assert!(paid.notes.is_empty());
    let next = Observed { memory: paid.memory, ..o.clone() };
    let Step::Do(look) = decide(&d, &next, &paid.status, later(3)).step else { panic!() };
    assert!(
        matches!(look.as_slice(), [Write::SeeLate { leaving, .. }] if leaving == &[ScheduleId::new("s")])
    );
    // Of days, the last one, and that is said.
    let old = announced(owing("2026-11-20T07:30:00Z"));
    let Step::Do(writes) = decide(&d, &o, &old, later(1)).step else { panic!() };
    assert_eq!((writes.len(), restored(&writes)[1].0.as_str()), (25, "2026-11-23T09:59:58Z"));
    let paid = fold(&d, &o, &old, &acks(&writes), later(2));
    assert_eq!(paid.notes.iter().map(|note| note.reason).collect::<Vec<_>>(), ["RunsNotRestored"]);
}

#[test]
fn late_runs_are_asked_for_before_any_rule_changes() {
    let (_, o, before) = with_one_that_goes();
    let spec = json!({"schedules": [{"slug": "new", "interval": {"every": "1h"}}], "description": "new"});
    let d = Desired { generation: 2, ..desired(&spec) };
    let announced = decide(&d, &o, &before, later(1)).status;
    let noted = fold(&d, &o, &announced, &[Ack::Late(vec![at("2026-11-24T09:00:00Z")])], later(2)).status;
    let Step::Do(writes) = decide(&d, &o, &noted, later(3)).step else { panic!() };
    assert_eq!(
        writes.iter().map(Write::kind).collect::<Vec<_>>(),
        [
            WriteKind::DeleteSchedule,
            WriteKind::RestoreRuns,
            WriteKind::Patch,
            WriteKind::AddSchedule,
            WriteKind::ScheduleRuns
        ]
    );
}

#[test]
fn a_schedule_that_becomes_an_interval_is_not_due_at_once() {
    let rule = Map::from_iter([("cron".to_owned(), json!("0 3 * * *"))]);
    let had = Schedule {
        id: ScheduleId::new("s"),
        slug: Some("nightly".into()),
        active: true,
        rule,
        parameters: Map::new(),
        max_scheduled_runs: None,
    };
    let d = Desired {
        generation: 2,
        ..desired(&json!({"schedules": [{"slug": "nightly", "interval": {"every": "1h"}}]}))
    };
    let o = seen(View::Present(Deployment { schedules: vec![had], ..there(&json!({})) }));
    let announced = decide(&d, &o, &settled(&desired(&json!({}))), later(1)).status;
    let Step::Do(writes) = decide(&d, &o, &announced, later(1)).step else { panic!() };
    let Write::PutSchedule { new, .. } = &writes[0] else { panic!("{writes:?}") };
    assert_eq!(new.rule["anchor_date"], json!("2026-11-24T09:59:57Z"));
}

#[test]
fn a_schedule_that_is_refused_keeps_no_other_from_being_made() {
    let refused = |failure| Ack::Failed(WriteKind::AddSchedule, failure).ends();
    assert!(!refused(Failure::Invalid { fields: vec![] }) && !refused(Failure::Rejected(400)));
    assert!(
        refused(Failure::Unavailable)
            && refused(Failure::Forbidden(Part::Write))
            && refused(Failure::Rejected(500))
    );
    let d = Desired { generation: 2, ..desired(&json!({})) };
    let owing = FlowDeploymentStatus {
        pending_write: Some(PendingWrite { since: Time(at("2026-11-24T09:59:00Z")), late: None }),
        ..settled(&desired(&json!({})))
    };
    let first = Failure::Invalid { fields: vec!["schedule `a`".into()] };
    let second = Failure::Invalid { fields: vec!["schedule `c`".into()] };
    let acks = [
        Ack::Failed(WriteKind::AddSchedule, first.clone()),
        Ack::Done(WriteKind::AddSchedule),
        Ack::Failed(WriteKind::AddSchedule, second),
        Ack::Done(WriteKind::ScheduleRuns),
    ];
    let after = fold(&d, &present(&json!({})), &owing, &acks, later(1));
    assert_eq!(after.status.pending_write, None);
    assert_eq!(after.memory.and_then(|m| m.failure), Some((WriteKind::AddSchedule, first)));
    assert!(after.again.is_some(), "it is tried again");
}

#[test]
fn an_added_schedule_gets_its_first_runs_from_the_moment_that_was_written_down() {
    let nightly = json!({"schedules": [{"slug": "nightly", "cron": {"expression": "0 3 * * *"}}]});
    let d = Desired { generation: 2, ..desired(&nightly) };
    let announced = decide(&d, &present(&json!({})), &settled(&desired(&json!({}))), later(1));
    assert_eq!((&announced.step, since(&announced)), (&Step::Intend, "2026-11-24T09:59:58Z"));
    let Step::Do(writes) = decide(&d, &present(&json!({})), &announced.status, later(1)).step else {
        panic!()
    };
    assert_eq!(
        writes.iter().map(Write::kind).collect::<Vec<_>>(),
        [WriteKind::AddSchedule, WriteKind::ScheduleRuns]
    );
}

#[test]
fn what_is_left_to_others_is_set_once_also_where_it_takes_writes_of_its_own() {
    let spec = json!({"schedules": [{"slug": "nightly", "cron": {"expression": "0 3 * * *"}}],
        "driftDetection": {"ignore": ["schedules"]}});
    let d = desired(&spec);
    let created = FlowDeploymentStatus {
        deployment_id: Some("id".into()),
        ..decide(&d, &seen(View::Absent), &FlowDeploymentStatus::default(), now()).status
    };
    let made = decide(&d, &present(&json!({})), &created, later(1));
    assert!(made.status.pending_write.is_some(), "its schedule is still to be added: {made:?}");
    // Once it was as declared, or where it was there before, they are others'.
    let complete = FlowDeploymentStatus { in_sync_generation: Some(1), ..created.clone() };
    assert_eq!(decide(&d, &present(&json!({})), &complete, later(1)).step, Step::Rest);
    let adopted = FlowDeploymentStatus { adopted: Some(true), in_sync_generation: Some(0), ..created };
    assert_eq!(decide(&d, &present(&json!({})), &adopted, later(1)).step, Step::Rest);
}

#[test]
fn nobody_sends_us_away_for_a_day() {
    for (asked, waits) in [(1, 5), (60, 60), (86_400, 300)] {
        let failure = Failure::Throttled(Some(Duration::from_secs(asked)));
        assert_eq!(super::super::pass::delay(&failure, 1), Duration::from_secs(waits));
    }
}

#[test]
fn what_a_deleted_schedule_drops_of_the_others_is_written_down_first() {
    let (d, o, before) = with_one_that_goes();
    let announced = decide(&d, &o, &before, later(1));
    let Step::Do(look) = decide(&d, &o, &announced.status, later(1)).step else { panic!() };
    assert_eq!(look.iter().map(Write::kind).collect::<Vec<_>>(), [WriteKind::SeeLate]);
    let late: Vec<Timestamp> = (0..150).map(later).collect();
    let seen = fold(&d, &o, &announced.status, &[Ack::Late(late.clone())], later(2));
    let kept = seen.status.pending_write.as_ref().and_then(|owed| owed.late.clone()).unwrap();
    assert_eq!((kept.len(), kept[99].0), (100, late[149]), "bounded: the last ones");
    let Step::Do(writes) = decide(&d, &o, &seen.status, later(3)).step else { panic!() };
    assert_eq!(writes[0].kind(), WriteKind::DeleteSchedule);
    assert_eq!(writes.iter().filter(|w| w.kind() == WriteKind::RestoreRuns).count(), 100);
    assert_eq!(writes.last().map(Write::kind), Some(WriteKind::ScheduleRuns));
    // Refused in the middle: it goes on from there.
    let restored = |at: Timestamp| Ack::Restored { from: at, to: at };
    let some = [Ack::Done(WriteKind::DeleteSchedule), restored(late[50]), restored(late[51])];
    let rest = fold(&d, &o, &seen.status, &some, later(4)).status.pending_write.unwrap().late.unwrap();
    assert_eq!((rest.len(), rest[0].0), (98, late[52]));
    // Killed after the deletion: the same runs are asked for again.
    let Step::Do(again) = decide(&d, &present(&json!({})), &seen.status, later(4)).step else { panic!() };
    assert_eq!(again, writes[1..]);
}

#[test]
fn a_paused_deployment_is_asked_for_no_runs() {
    let d = Desired { generation: 2, ..desired(&json!({"paused": true})) };
    let o = present(&json!({}));
    let announced = decide(&d, &o, &settled(&desired(&json!({}))), later(1));
    let Step::Do(writes) = decide(&d, &o, &announced.status, later(1)).step else { panic!() };
    assert_eq!(writes.iter().map(Write::kind).collect::<Vec<_>>(), [WriteKind::Patch]);
    let done = fold(&d, &o, &announced.status, &[Ack::Done(WriteKind::Patch)], later(1));
    let paused = Deployment { paused: true, ..there(&json!({"paused": true})) };
    let rest = decide(&d, &seen(View::Present(paused)), &done.status, later(2));
    assert_eq!((rest.step, rest.status.pending_write), (Step::Rest, None));
}
