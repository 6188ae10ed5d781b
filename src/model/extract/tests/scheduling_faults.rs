//! Schedules where answers, processes and rights are lost, and when their resource goes.

use super::scheduling::{Site, here, nightly, schedule, weekly};
use super::*;
use crate::api::{DeletionPolicy, Edition, ManagementPolicy};
use crate::model::connection::Standing;
use serde_json::json;

#[test]
fn a_task_is_made_once_wherever_the_answer_or_the_process_is_lost() {
    // What is lost after the intent was written: nothing, the process before the call, after it, its answer.
    for lost in ["nothing", "before", "after", "answer"] {
        for edition in [Edition::Cloud, Edition::Server] {
            let named = schedule(&json!({"name": "nightly", "serverSchedule": "Nightly"}));
            let mut site =
                Site::new(edition, vec![if edition == Edition::Cloud { nightly() } else { named }]);
            site.administrator_adds("Nightly", None);
            site.read();
            let write = site.first_write();
            assert!(write.intent().is_some());
            match lost {
                "before" => site.restart(),
                "after" => {
                    site.perform(&write);
                    site.restart();
                    site.bench.o.schedules.tasks = TasksView::Dirty;
                }
                "answer" => {
                    site.perform(&write);
                    site.fold(&write, &ScheduleAck::Failed(ScheduleFailure::Ambiguous));
                }
                _ => {
                    let ack = site.perform(&write);
                    site.fold(&write, &ack);
                }
            }
            site.read();
            for _ in 0..5 {
                site.settle();
                site.bench.wait(31);
                site.read();
            }
            site.settle();
            assert_eq!(site.tasks.len(), 1, "{lost} {edition:?} {:?}", site.calls);
            assert_eq!(site.bench.reason("Ready"), "True/InSync", "{lost} {edition:?}");
            assert_eq!(site.bench.s.schedules[0].task_id.as_deref(), Some(site.tasks[0].id.as_str()));
            assert_eq!(site.bench.s.schedule_intent, None);
        }
    }
}

#[test]
fn what_did_not_arrive_is_made_again_only_after_the_settle_time() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let write = site.first_write();
    site.fold(&write, &ScheduleAck::Failed(ScheduleFailure::Ambiguous));
    site.read();
    site.settle();
    assert!(site.taken().is_empty(), "it may still arrive");
    site.bench.wait(31);
    site.read();
    site.settle();
    assert_eq!(site.taken(), ["create Daily 02:00"]);
}

#[test]
fn an_edit_before_the_call_and_one_after_it() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.first_write();
    // Not sent: the intent is dropped.
    site.edit(|d| d.schedules.all[0].start = Some("04:00".into()));
    site.settle();
    assert_eq!(site.taken(), ["create Daily 04:00"]);
    // Sent, not answered, and edited: what arrived is taken for ours, and changed.
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let write = site.first_write();
    site.perform(&write);
    site.restart();
    site.edit(|d| d.schedules.all[0].start = Some("04:00".into()));
    site.read();
    site.settle();
    assert_eq!(site.taken(), ["create Daily 02:00", "update t1 Daily 04:00"]);
    assert_eq!(site.tasks.len(), 1);
}

#[test]
fn refusals_are_told_by_cause_and_tried_again_later() {
    let table = [
        (ScheduleFailure::NoExtract, "False/NoExtract"),
        (ScheduleFailure::Forbidden, "False/PermissionDenied"),
        (ScheduleFailure::Rejected("400000".into()), "False/RemoteRejected"),
        (ScheduleFailure::NotSent, "Unknown/Progressing"),
        (ScheduleFailure::Throttled(Some(Duration::from_secs(7))), "Unknown/Progressing"),
        (ScheduleFailure::NotFound, "Unknown/Progressing"),
    ];
    for (failure, ready) in table {
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        let write = site.first_write();
        site.fold(&write, &ScheduleAck::Failed(failure.clone()));
        site.read();
        site.settle();
        assert_eq!(site.bench.reason("Ready"), ready, "{failure:?}");
        assert!(site.taken().is_empty(), "{failure:?}");
        site.bench.wait(11);
        site.settle();
        assert_eq!(site.taken(), ["create Daily 02:00"], "{failure:?}");
        assert_eq!(site.bench.reason("Ready"), "True/InSync");
    }
    let mut site = Site::new(Edition::Server, vec![nightly()]);
    let write = site.first_write();
    assert!(matches!(write, ScheduleWrite::MakeShared { .. }));
    site.fold(&write, &ScheduleAck::Failed(ScheduleFailure::Forbidden));
    site.read();
    site.settle();
    assert_eq!(site.bench.reason("Ready"), "False/ServerSchedulePermission");
    let told = site.message("Ready");
    assert!(told.contains("make schedule `feedwater Daily 02:00` (Daily 02:00) for extracts"), "{told}");
    site.bench.o.schedules.server = ServerView::Forbidden;
    site.bench.o.schedules.memory = None;
    site.settle();
    assert_eq!(site.bench.reason("Ready"), "False/ServerSchedulePermission");
}

/// Until nothing more happens, with one answer for all that this schedule is written.
fn settle_refused(site: &mut Site, refused: &str, failure: &ScheduleFailure, ready: &mut Vec<String>) {
    for _ in 0..40 {
        let (step, changed) = site.pass();
        ready.push(site.bench.reason("Ready"));
        match step {
            Step::Schedule(write) => {
                let is = matches!(&write, ScheduleWrite::Create { name, .. } if name == refused);
                let ack = if is { ScheduleAck::Failed(failure.clone()) } else { site.perform(&write) };
                site.fold(&write, &ack);
                ready.push(site.bench.reason("Ready"));
                site.read();
            }
            Step::LookAtTasks => site.read(),
            _ if changed => {}
            _ => return,
        }
    }
    panic!("no rest: {ready:?}");
}

#[test]
fn a_refusal_stays_told_until_a_success_and_holds_up_no_other_schedule() {
    for (failure, told) in [
        (ScheduleFailure::Forbidden, "False/PermissionDenied"),
        (ScheduleFailure::Rejected("400000".into()), "False/RemoteRejected"),
        (ScheduleFailure::NotExpressible, "False/ScheduleNotExpressible"),
        (ScheduleFailure::NoExtract, "False/NoExtract"),
    ] {
        let mut site = Site::new(Edition::Cloud, vec![nightly(), weekly()]);
        let mut ready = Vec::new();
        settle_refused(&mut site, "nightly", &failure, &mut ready);
        assert_eq!(site.taken(), ["create Weekly 05:00 on Sunday"], "{failure:?}");
        assert_eq!(site.bench.reason("Ready"), told);
        assert!(
            site.message("Ready").contains("schedule `nightly` (Daily 02:00)"),
            "{}",
            site.message("Ready")
        );
        ready.clear();
        for _ in 0..6 {
            site.bench.wait(400);
            site.read();
            settle_refused(&mut site, "nightly", &failure, &mut ready);
        }
        assert!(ready.iter().all(|ready| ready == told), "{failure:?}: {ready:?}");
        let events = site.bench.notes.iter().filter(|note| **note == "ScheduleRefused").count();
        assert_eq!(events, 1, "{failure:?}");
        // What Tableau cannot run it is not asked for again before an edit.
        site.bench.wait(400);
        site.read();
        site.settle();
        let again: &[&str] =
            if failure == ScheduleFailure::NotExpressible { &[] } else { &["create Daily 02:00"] };
        assert_eq!(site.taken(), again, "{failure:?}");
        site.edit(|d| d.schedules.all[0].start = Some("02:05".into()));
        site.settle();
        assert_eq!(site.bench.reason("Ready"), "True/InSync");
    }
}

#[test]
fn nothing_is_planned_on_what_is_not_known_or_not_ours() {
    type Change = Box<dyn Fn(&mut Observed, &mut Desired)>;
    let by = || ObjectName { namespace: "finance".into(), name: "older".into() };
    let table: [Change; 6] = [
        Box::new(|o, _| o.schedules.tasks = TasksView::Unread),
        Box::new(|o, _| o.site = SiteView::Missing),
        Box::new(|o, _| o.target = TargetView::NotFound),
        Box::new(move |o, _| o.claim = Claim::Taken { by: by() }),
        Box::new(|_, d| d.suspend = true),
        Box::new(|_, d| d.schedules.management = ManagementPolicy::Observe),
    ];
    for (n, change) in table.iter().enumerate() {
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        change(&mut site.bench.o, &mut site.bench.d);
        site.settle();
        assert!(site.taken().is_empty(), "{n}");
    }
    // Without our finalizer it comes first.
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.bench.d.schedules.has_finalizer = false;
    while site.pass().1 {}
    assert_eq!(site.pass().0, Step::Hold);
    site.bench.d.schedules.deletion = DeletionPolicy::Orphan;
    assert!(matches!(site.first_write(), ScheduleWrite::Create { .. }));
}

#[test]
fn no_schedule_is_made_through_a_site_before_it_is_held_nor_while_it_is_being_deleted() {
    for deletion in [DeletionPolicy::Delete, DeletionPolicy::Orphan] {
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        site.bench.d.schedules.deletion = deletion;
        site.bench.o.standing = Standing::Leaving;
        site.settle();
        assert!(site.taken().is_empty(), "{deletion:?}");
        let ready = site.bench.s.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("Unknown", "ConnectionUnavailable"));
        assert!(ready.message.contains("is being deleted"), "{}", ready.message);
        site.bench.o.standing = Standing::Unheld;
        site.settle();
        let none: &[&str] = &[];
        let made: &[&str] = &["create Daily 02:00"];
        let expected = if deletion == DeletionPolicy::Delete { none } else { made };
        assert_eq!(site.taken(), expected, "what is left behind needs nobody to wait for it");
    }
    // What is there is changed and deleted through a site that goes.
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.settle();
    site.taken();
    site.bench.o.standing = Standing::Leaving;
    site.bench.d.schedules.all.clear();
    site.settle();
    assert_eq!(site.taken(), ["delete t1"]);
}

#[test]
fn what_is_deleted_takes_its_schedules_along_by_policy() {
    let deadline = Duration::from_secs(600);
    let mut site = Site::new(Edition::Cloud, vec![nightly(), weekly()]);
    site.settle();
    site.taken();
    site.somebody_adds(&schedule(&json!({"name": "x", "frequency": "Daily", "start": "07:00"})));
    site.read();
    let since = site.bench.now();
    for expected in ["delete t1", "delete t2"] {
        let next = part(&site.bench.d, &site.bench.o, &site.bench.s, since, deadline, site.bench.now());
        let Parting::Write(write) = next else { panic!("{next:?}") };
        let ack = site.perform(&write);
        site.part(&write, &ack);
        site.read();
        assert_eq!(site.taken(), [expected]);
    }
    let next = part(&site.bench.d, &site.bench.o, &site.bench.s, since, deadline, site.bench.now());
    assert_eq!(next, Parting::Release { orphaned: false });
    assert_eq!(site.tasks.len(), 1, "those of others stay");

    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.settle();
    let since = site.bench.now();
    let of =
        |site: &Site| part(&site.bench.d, &site.bench.o, &site.bench.s, since, deadline, site.bench.now());
    site.bench.o.site = SiteView::NotReady { reason: "Unreachable" };
    let Parting::Wait { status, .. } = of(&site) else { panic!() };
    assert!(status.conditions.iter().any(|c| c.reason == "DeletionBlocked"));
    site.bench.wait(600);
    assert_eq!(of(&site), Parting::Release { orphaned: true });
    site.bench.d.schedules.deletion = DeletionPolicy::Orphan;
    assert_eq!(of(&site), Parting::Release { orphaned: false });
    site.bench.d.schedules.has_finalizer = false;
    assert_eq!(of(&site), Parting::Rest);

    // A task whose making was not answered goes too.
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let write = site.first_write();
    site.perform(&write);
    site.read();
    let since = site.bench.now();
    site.bench.o.schedules.intent = IntentView::MaybeSent { since: site.bench.moment() };
    let next = part(&site.bench.d, &site.bench.o, &site.bench.s, since, deadline, site.bench.now());
    assert_eq!(next, Parting::Write(ScheduleWrite::Delete { site: here(), task: "t1".into() }));
}

#[test]
fn a_list_that_lags_makes_no_second_task_and_one_that_lies_is_not_asked_for_ever() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let write = site.first_write();
    let ack = site.perform(&write);
    site.fold(&write, &ack);
    let made = std::mem::take(&mut site.tasks);
    site.read();
    site.settle();
    assert_eq!(site.taken(), ["create Daily 02:00"], "it may be there all the same");
    site.tasks = made;
    site.read();
    site.settle();
    assert_eq!((site.taken().len(), site.bench.reason("Ready")), (0, "True/InSync".into()));

    // Tableau acknowledges a change, and shows it otherwise.
    let stubborn = site.tasks[0].schedule.clone();
    site.edit(|d| d.schedules.all[0].start = Some("04:00".into()));
    for _ in 0..50 {
        if let (Step::Schedule(write), _) = site.pass() {
            let ack = site.perform(&write);
            site.tasks[0].schedule = stubborn.clone();
            site.fold(&write, &ack);
        }
        site.read();
    }
    assert_eq!(site.taken().len(), 3);
    assert_eq!(site.bench.reason("Drifted"), "True/CorrectionFailed");
}

#[test]
fn a_schedule_inside_a_deny_window_is_warned_of_once() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let declared = json!({"name": "quiet", "policy": "Deny", "schedule": "0 0 * * *", "duration": "20h"});
    let window = crate::model::windows::Window::parse(&serde_json::from_value(declared).unwrap()).unwrap();
    site.bench.d.windows.push(window);
    site.settle();
    let warned =
        |site: &Site| site.bench.notes.iter().filter(|note| **note == "ScheduleInsideWindow").count();
    assert_eq!(warned(&site), 1);
    site.read();
    site.settle();
    assert_eq!(warned(&site), 1);
}
