//! Schedules that are missing, hidden, observed only, or on their way out.

use super::scheduling::{Site, here, nightly, weekly};
use super::*;
use crate::api::{AdoptionPolicy, DeletionPolicy, DriftMode, Edition, ManagementPolicy};
use crate::model::ids::TaskId;
use crate::model::tasks::TaskSchedule;
use crate::model::timing::{Interval, Timing};

const DEADLINE: Duration = Duration::from_secs(600);

fn parting(site: &Site, since: Timestamp) -> Parting {
    let bench = &site.bench;
    part(&bench.d, &bench.o, &bench.s, since, DEADLINE, bench.now())
}

#[test]
fn the_trap_of_cloud_is_seen_and_put_right_and_not_adopted() {
    let hourly = |site: &mut Site| {
        let TaskSchedule::Own(Some(timing)) = &mut site.tasks[0].schedule else { panic!() };
        timing.intervals.remove(&Interval::Hours(24));
        timing.end = None;
        site.read();
    };
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.settle();
    site.taken();
    hourly(&mut site);
    site.settle();
    assert_eq!(site.taken(), ["update t1 Daily 02:00"]);
    assert!(site.bench.notes.contains(&"DriftDetected"));

    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.bench.d.schedules.adoption = AdoptionPolicy::Adopt;
    site.somebody_adds(&nightly());
    hourly(&mut site);
    site.settle();
    assert_eq!(site.taken(), ["create Daily 02:00"]);
    let foreign = &site.bench.s.foreign_schedules;
    assert_eq!(foreign[0].definition, "Daily 02:00 every hour (no everyHours), Full");
}

#[test]
fn a_task_that_is_kept_from_the_account_stays_ours() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.settle();
    site.taken();
    let before = site.bench.s.schedules.clone();
    site.hidden = vec!["t1".into()];
    site.read();
    site.settle();
    assert!(site.taken().is_empty());
    assert_eq!(site.bench.reason("Ready"), "False/PermissionDenied");
    assert!(site.message("Ready").contains("`nightly`"), "{}", site.message("Ready"));
    assert_eq!(site.bench.s.schedules, before);
    site.hidden.clear();
    site.read();
    site.settle();
    assert_eq!((site.taken().len(), site.bench.reason("Ready")), (0, "True/InSync".into()));

    // Not asked for by its id yet, or not told: nothing is known of it.
    for said in [None, Some(Unlisted::Unclear)] {
        let TasksView::Read { tasks, unlisted, .. } = &mut site.bench.o.schedules.tasks else { panic!() };
        tasks.clear();
        *unlisted = said.map(|said| ("t1".into(), said)).into_iter().collect();
        let (step, wrote) = site.pass();
        let asks = if said.is_none() { Step::LookAtTasks } else { Step::Rest };
        assert_eq!((step, wrote), (asks, false), "{said:?}");
    }
    // Tasks that may not be listed at all.
    site.bench.o.schedules.tasks = TasksView::Forbidden;
    while site.pass().1 {}
    assert_eq!(site.bench.reason("Ready"), "False/PermissionDenied");
    assert_eq!(
        (site.bench.reason("Drifted"), site.bench.s.schedules.clone()),
        ("Unknown/NotObserved".into(), before)
    );
}

#[test]
fn a_list_from_before_the_settle_time_says_nothing_of_what_was_just_made() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let write = site.first_write();
    let ack = site.perform(&write);
    site.fold(&write, &ack);
    let made = std::mem::take(&mut site.tasks);
    site.bench.wait(1);
    site.read();
    site.settle();
    site.bench.wait(31);
    assert_eq!(site.pass().0, Step::LookAtTasks);
    site.tasks = made;
    site.read();
    site.settle();
    assert_eq!((site.taken().len(), site.bench.reason("Ready")), (1, "True/InSync".into()));
}

#[test]
fn nothing_is_made_on_an_old_look() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.bench.wait(3600);
    while site.pass().1 {}
    assert_eq!(site.pass().0, Step::LookAtTasks);
    // Meanwhile somebody has made the same.
    site.somebody_adds(&nightly());
    site.read();
    site.settle();
    assert_eq!((site.taken().len(), site.bench.reason("Ready")), (0, "False/AdoptionRequired".into()));
}

#[test]
fn what_is_removed_goes_by_its_id_whatever_the_list_says() {
    for listed in [true, false] {
        let mut site = Site::new(Edition::Cloud, vec![nightly(), weekly()]);
        let write = site.first_write();
        let ack = site.perform(&write);
        site.fold(&write, &ack);
        if listed {
            site.read();
        } else {
            // The list lags.
            site.bench.o.schedules.tasks = TasksView::Read {
                asked: site.bench.moment(),
                tasks: Vec::new(),
                unlisted: std::collections::BTreeMap::new(),
            };
        }
        let since = site.bench.now();
        let Parting::Write(delete) = parting(&site, since) else { panic!() };
        assert_eq!(delete, ScheduleWrite::Delete { site: here(), task: "t1".into() }, "{listed}");
        site.edit(|d| {
            d.schedules.all.remove(0);
        });
        let delete = site.first_write();
        assert_eq!(delete, ScheduleWrite::Delete { site: here(), task: "t1".into() }, "{listed}");
        assert!(
            site.bench.s.schedules.iter().any(|entry| entry.name == "nightly"),
            "until it is acknowledged"
        );
        let ack = site.perform(&delete);
        site.fold(&delete, &ack);
        site.read();
        site.settle();
        assert_eq!(site.taken(), ["create Daily 02:00", "delete t1", "create Weekly 05:00 on Sunday"]);
        assert!(site.bench.s.foreign_schedules.is_empty());
    }
}

#[test]
fn whatever_is_ours_has_our_finalizer() {
    // Adopted without a write.
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.bench.d.schedules.has_finalizer = false;
    site.bench.d.schedules.adoption = AdoptionPolicy::Adopt;
    site.somebody_adds(&nightly());
    site.read();
    while site.pass().1 {}
    assert_eq!(site.pass().0, Step::Hold);
    site.bench.d.schedules.has_finalizer = true;
    site.settle();
    assert!(site.taken().is_empty());
    // Orphan, and then Delete; also while nothing else is written.
    site.bench.d.schedules.has_finalizer = false;
    for (deletion, suspend, step) in [
        (DeletionPolicy::Orphan, false, Step::Rest),
        (DeletionPolicy::Delete, false, Step::Hold),
        (DeletionPolicy::Delete, true, Step::Hold),
    ] {
        site.edit(|d| (d.schedules.deletion, d.suspend) = (deletion, suspend));
        while site.pass().1 {}
        assert_eq!(site.pass().0, step, "{deletion:?} {suspend}");
    }
}

#[test]
fn what_is_observed_only_is_left_with_the_resource() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.settle();
    site.edit(|d| d.schedules.management = ManagementPolicy::Observe);
    site.settle();
    let since = site.bench.now();
    assert_eq!(parting(&site, since), Parting::Release { orphaned: false });
    site.bench.d.schedules.management = ManagementPolicy::Manage;
    assert!(matches!(parting(&site, since), Parting::Write(_)));
}

#[test]
fn a_refused_deletion_is_told_with_its_cause_and_tried_ever_more_seldom() {
    let mut site = Site::new(Edition::Cloud, vec![nightly(), weekly()]);
    site.settle();
    let since = site.bench.now();
    let mut tries = 0;
    let mut seconds = 0;
    let orphaned = loop {
        match parting(&site, since) {
            Parting::Write(write) => {
                tries += 1;
                let ack = match &write {
                    ScheduleWrite::Delete { task, .. } if task.as_str() == "t1" => {
                        ScheduleAck::Failed(ScheduleFailure::Forbidden)
                    }
                    _ => site.perform(&write),
                };
                site.part(&write, &ack);
            }
            Parting::Wait { status, until } => {
                let told = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
                assert_eq!(told.reason, "DeletionBlocked");
                assert!(
                    told.message.contains("forbids this account to delete schedule `nightly`"),
                    "{}",
                    told.message
                );
                let wait = u64::try_from(until.duration_since(site.bench.now()).as_secs()).unwrap();
                assert!(wait > 0 && until <= since + DEADLINE);
                site.bench.wait(wait);
                seconds += wait;
            }
            Parting::Release { orphaned } => break orphaned,
            Parting::Rest | Parting::Clear(_) | Parting::WaitForWarning { .. } => panic!(),
        }
    };
    assert_eq!((orphaned, seconds, site.tasks.len()), (true, 600, 1));
    assert!(tries < 10, "{tries}");

    // Asked to slow down: for as long as told.
    let mut site = Site::new(Edition::Cloud, vec![nightly(), weekly()]);
    site.settle();
    let since = site.bench.now();
    let Parting::Write(write) = parting(&site, since) else { panic!() };
    let throttled = ScheduleFailure::Throttled(Some(Duration::from_secs(77)));
    site.part(&write, &ScheduleAck::Failed(throttled));
    let Parting::Wait { until, .. } = parting(&site, since) else { panic!() };
    assert_eq!(until, site.bench.now() + Duration::from_secs(77));
}

/// An intent in a status is worth no more than an id there.
#[test]
fn a_task_that_was_being_made_and_may_not_be_touched_is_left_at_once() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let create = site.first_write();
    let _ = site.perform(&create);
    site.bench.wait(60);
    site.bench.o.schedules.intent = IntentView::MaybeSent { since: Moment::default() };
    site.read();
    assert!(site.bench.s.schedule_intent.is_some());
    let since = site.bench.now();
    let Parting::Write(delete) = parting(&site, since) else { panic!("{:?}", parting(&site, since)) };
    site.part(&delete, &ScheduleAck::Failed(ScheduleFailure::NotAllowed));
    assert_eq!(parting(&site, since), Parting::Release { orphaned: true });
}

#[test]
fn where_nothing_is_written_a_difference_is_told() {
    let by_hand = Timing::declared(&weekly(), Edition::Cloud).unwrap();
    for suspend in [false, true] {
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        site.settle();
        site.taken();
        site.edit(|d| {
            d.suspend = suspend;
            d.schedules.management =
                if suspend { ManagementPolicy::Manage } else { ManagementPolicy::Observe };
        });
        site.settle();
        assert_eq!(site.bench.reason("Drifted"), "False/NoDrift");
        site.tasks[0].schedule = TaskSchedule::Own(Some(by_hand.clone()));
        site.read();
        site.settle();
        let told = |site: &Site| (site.bench.reason("Drifted"), site.message("Drifted"));
        let (reason, message) = told(&site);
        assert_eq!(reason, "True/DriftDetected");
        assert!(message.contains("`nightly` was changed in Tableau"), "{message}");
        // An edit that is not carried out.
        site.edit(|d| d.schedules.all[0].start = Some("04:00".into()));
        site.settle();
        assert!(told(&site).1.contains("`nightly` is not as declared"), "{}", told(&site).1);
        site.edit(|d| d.schedules.all[0].start = Some("02:00".into()));
        site.tasks.clear();
        site.read();
        site.settle();
        assert!(told(&site).1.contains("`nightly` was deleted in Tableau"), "{}", told(&site).1);
        assert!(site.taken().is_empty() && site.bench.s.last_drift.is_none());
        // Disabled stays silent.
        site.edit(|d| d.schedules.drift = DriftMode::Disabled);
        site.settle();
        assert_eq!(site.bench.reason("Drifted"), "False/NoDrift");
    }
}

#[test]
fn what_the_one_before_has_made_is_taken_over_under_a_finalizer() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.settle();
    let made = site.bench.s.schedules.clone();
    let before: ObjectName = ObjectName { namespace: "finance".into(), name: "before".into() };

    let mut later = Site::new(Edition::Cloud, vec![nightly()]);
    later.bench.o.claim = Claim::Busy { by: before.clone() };
    later.bench.o.schedules.estate = Some(Estate { from: before, schedules: made.clone() });
    later.bench.d.schedules.has_finalizer = false;
    while later.pass().1 {}
    assert_eq!(later.pass().0, Step::Hold);
    assert!(later.bench.s.schedules.iter().all(|entry| entry.task_id.is_none()), "not before");
    later.bench.d.schedules.has_finalizer = true;
    while later.pass().1 {}
    assert_eq!(later.bench.s.schedules, made);
    assert!(later.bench.notes.contains(&"SchedulesHandedOver"));
    assert_eq!(later.pass(), (Step::Rest, false), "once");
}

/// A connection of the cluster has the rights of others, and what is taken over is deleted in the end.
#[test]
fn through_a_connection_of_the_cluster_only_what_is_on_the_target_is_taken_over() {
    for shared in [false, true] {
        let mut made = Site::new(Edition::Cloud, vec![nightly()]);
        made.settle();
        let mut schedules = made.bench.s.schedules.clone();
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        if shared {
            site.bench.d.site = ConnectionName::cluster("acme");
        }
        schedules[0].task_id = Some("of-others".into());
        schedules[0].site = Some(site.bench.d.site.to_string());
        let before: ObjectName = ObjectName { namespace: "finance".into(), name: "before".into() };
        site.bench.o.claim = Claim::Busy { by: before.clone() };
        site.bench.o.schedules.estate = Some(Estate { from: before, schedules });
        while site.pass().1 {}
        let took = site.bench.s.schedules.iter().any(|entry| entry.task_id.as_deref() == Some("of-others"));
        assert_eq!(took, !shared);
    }
}

#[test]
fn a_task_that_was_being_made_is_settled_and_handed_over_as_the_others_are() {
    let name = ObjectName { namespace: "finance".into(), name: "later".into() };
    let told = |status: &ExtractRefreshStatus| {
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(ready.reason, "Deleting");
        assert!(ready.message.contains("handed over to ExtractRefresh `later`"), "{}", ready.message);
    };
    for arrives in [true, false] {
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        let write = site.first_write();
        if arrives {
            // Its answer is lost with the process.
            site.perform(&write);
        }
        let since = site.bench.now();
        let sent = site.bench.moment();
        site.bench.o.schedules.intent = IntentView::MaybeSent { since: sent };
        site.bench.o.schedules.heir = Some(Heir { name: name.clone(), holds: [].into() });
        site.bench.o.schedules.tasks = TasksView::Unread;
        let Parting::Wait { status, .. } = parting(&site, since) else { panic!("{arrives}") };
        assert!(status.schedule_intent.is_some(), "not known yet");
        told(&status);
        site.bench.wait(5);
        site.read();
        let Parting::Wait { status, .. } = parting(&site, since) else { panic!("{arrives}") };
        told(&status);
        site.bench.s = *status;
        if arrives {
            let ids: Vec<_> = site.bench.s.schedules.iter().map(|entry| entry.task_id.clone()).collect();
            assert_eq!((ids, site.bench.s.schedule_intent.is_some()), (vec![Some("t1".into())], false));
            assert!(matches!(parting(&site, since), Parting::Wait { .. }), "until it is taken over");
            site.bench.o.schedules.heir = Some(Heir { name: name.clone(), holds: ["t1".into()].into() });
        } else {
            assert!(site.bench.s.schedule_intent.is_some(), "it may still be on its way");
            site.bench.wait(60);
            site.read();
            let Parting::Wait { status, .. } = parting(&site, since) else { panic!() };
            site.bench.s = *status;
            assert!(site.bench.s.schedule_intent.is_none(), "it did not arrive");
        }
        assert_eq!(parting(&site, since), Parting::Release { orphaned: false }, "{arrives}");
    }
    // Nobody takes it: it goes.
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let write = site.first_write();
    site.perform(&write);
    let since = site.bench.now();
    site.bench.o.schedules.heir = Some(Heir { name, holds: [].into() });
    site.bench.o.schedules.intent = IntentView::MaybeSent { since: site.bench.moment() };
    site.bench.wait(301);
    site.read();
    assert_eq!(
        parting(&site, since),
        Parting::Write(ScheduleWrite::Delete { site: here(), task: "t1".into() })
    );
}

#[test]
fn what_an_heir_has_is_not_deleted_and_what_it_does_not_take_is() {
    let mut site = Site::new(Edition::Cloud, vec![nightly(), weekly()]);
    site.settle();
    let mut ids =
        site.bench.s.schedules.iter().map(|entry| TaskId::from(entry.task_id.clone().unwrap().as_str()));
    let (first, second) = (ids.next().unwrap(), ids.next().unwrap());
    let since = site.bench.now();
    let name = ObjectName { namespace: "finance".into(), name: "later".into() };
    let heir = |holds: &[&TaskId]| {
        Some(Heir { name: name.clone(), holds: holds.iter().map(|id| (*id).clone()).collect() })
    };
    site.bench.o.schedules.heir = heir(&[]);
    assert!(matches!(parting(&site, since), Parting::Wait { .. }));
    site.bench.o.schedules.heir = heir(&[&first, &second]);
    assert_eq!(parting(&site, since), Parting::Release { orphaned: false });
    // It takes one, and that is all: after a while the other goes.
    site.bench.o.schedules.heir = heir(&[&first]);
    assert!(matches!(parting(&site, since), Parting::Wait { .. }));
    site.bench.wait(301);
    assert_eq!(parting(&site, since), Parting::Write(ScheduleWrite::Delete { site: here(), task: second }));
}
