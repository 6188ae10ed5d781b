//! Shared schedules of a Server that administrators change, keep to themselves, or do not let us make.

use super::scheduling::{Site, nightly, schedule, weekly};
use super::*;
use crate::api::{DriftMode, Edition};
use crate::model::tasks::TaskSchedule;
use crate::model::timing::{Interval, Timing};
use serde_json::json;

fn server(declared: &crate::api::TableauSchedule) -> Timing {
    Timing::declared(declared, Edition::Server).unwrap()
}

fn settled() -> Site {
    let mut site = Site::new(Edition::Server, vec![nightly()]);
    site.settle();
    assert_eq!(site.taken(), ["make feedwater Daily 02:00", "attach s-feedwater Daily 02:00"]);
    site
}

/// Until nothing more happens, and nothing may be made on the server.
fn settle_without_right(site: &mut Site) {
    for _ in 0..40 {
        match site.pass() {
            (Step::Schedule(write @ ScheduleWrite::MakeShared { .. }), _) => {
                site.calls.push("make: 403".into());
                site.fold(&write, &ScheduleAck::Failed(ScheduleFailure::Forbidden));
                site.read();
            }
            (Step::Schedule(write), _) => {
                let ack = site.perform(&write);
                site.fold(&write, &ack);
                site.read();
            }
            (Step::LookAtTasks, _) => site.read(),
            (_, true) => {}
            (_, false) => return,
        }
    }
    panic!("no rest: {:?}", site.calls);
}

#[test]
fn what_there_is_goes_on_while_its_replacement_may_not_be_made() {
    let mut site = settled();
    site.edit(|d| d.schedules.all[0].start = Some("03:00".into()));
    settle_without_right(&mut site);
    assert_eq!((site.taken(), site.tasks.len()), (vec!["make: 403".to_owned()], 1));
    assert_eq!(site.bench.reason("Ready"), "False/ServerSchedulePermission");
    // An administrator makes it: the rest is done.
    let three = server(&site.bench.d.schedules.all[0]);
    site.administrator_adds("feedwater by hand", Some(three));
    site.read();
    site.settle();
    assert_eq!(site.taken(), ["delete t1", "attach s-feedwater by hand"]);
    assert_eq!(site.bench.reason("Ready"), "True/InSync");
}

#[test]
fn one_that_an_administrator_changes_is_left_and_told_and_replaced_by_mode() {
    let replaced: &[&str] =
        &["make feedwater Daily 02:00 (2)", "delete t1", "attach s-feedwater Daily 02:00 (2)"];
    for (mode, calls, told) in [
        (DriftMode::Enabled, replaced, "False/NoDrift"),
        (DriftMode::Warn, &[], "True/DriftDetected"),
        (DriftMode::Disabled, &[], "False/NoDrift"),
    ] {
        let mut site = settled();
        site.bench.d.schedules.drift = mode;
        site.schedules[0].timing = Some(server(&weekly()));
        site.read();
        site.settle();
        assert_eq!(
            (site.taken().as_slice(), site.bench.reason("Drifted")),
            (&calls.iter().map(ToString::to_string).collect::<Vec<_>>()[..], told.into()),
            "{mode:?}"
        );
        assert_eq!(site.bench.notes.contains(&"DriftDetected"), mode == DriftMode::Enabled);
        // Put right there: whichever of the two it is on, it is as declared.
        site.schedules[0].timing = Some(server(&nightly()));
        site.read();
        site.settle();
        assert_eq!(
            (site.taken().len(), site.bench.reason("Drifted")),
            (0, "False/NoDrift".into()),
            "{mode:?}"
        );
    }
    // Without the right to make one it is told, and what there is goes on.
    let mut site = settled();
    site.schedules[0].timing = Some(server(&weekly()));
    site.read();
    settle_without_right(&mut site);
    assert_eq!((site.taken(), site.tasks.len()), (vec!["make: 403".to_owned()], 1));
}

#[test]
fn one_that_an_administrator_suspends_is_told_and_not_got_round() {
    let mut site = settled();
    site.schedules[0].active = false;
    let TaskSchedule::Shared { active, .. } = &mut site.tasks[0].schedule else { panic!() };
    *active = false;
    site.read();
    site.settle();
    assert!(site.taken().is_empty());
    assert_eq!(site.bench.reason("Drifted"), "True/DriftDetected");
    assert!(site.message("Drifted").contains("administrator"), "{}", site.message("Drifted"));
    // A new resource of the same definition is added to it all the same.
    let mut other = Site::new(Edition::Server, vec![nightly()]);
    other.schedules.clone_from(&site.schedules);
    other.read();
    other.settle();
    assert_eq!(other.taken(), ["attach s-feedwater Daily 02:00"]);
}

#[test]
fn a_server_that_tells_a_definition_otherwise_is_not_filled_with_schedules() {
    for echo in ["otherwise", "unknown"] {
        let mut site = Site::new(Edition::Server, vec![nightly(), weekly()]);
        for round in 0..60 {
            match site.pass() {
                (Step::Schedule(write), _) => {
                    let ack = site.perform(&write);
                    if let ScheduleWrite::MakeShared { timing, .. } = &write
                        && timing.frequency == crate::api::Frequency::Daily
                    {
                        let mut told = timing.clone();
                        told.intervals.insert(Interval::Hours(24));
                        site.schedules.last_mut().unwrap().timing =
                            (echo == "otherwise").then(|| told.normal());
                    }
                    site.fold(&write, &ack);
                    site.read();
                }
                (Step::LookAtTasks, _) => site.read(),
                _ => {}
            }
            if round == 40 {
                site.restart();
            }
        }
        let made: Vec<_> =
            site.taken().into_iter().filter(|call| call.starts_with("make feedwater Daily")).collect();
        let (most, drifted) =
            if echo == "otherwise" { (3, "True/CorrectionFailed") } else { (1, "False/NoDrift") };
        assert_eq!(made.len(), most, "{echo}: {made:?}");
        assert_eq!(site.bench.reason("Ready"), "False/ServerSchedulePermission", "{echo}");
        assert!(site.message("Ready").contains("`feedwater Daily 02:00`"), "{}", site.message("Ready"));
        assert_eq!(site.bench.reason("Drifted"), drifted, "{echo}");
        assert_eq!(site.tasks.len(), 1, "the other schedule is there");
    }
}

#[test]
fn days_that_the_server_does_not_tell_are_told_by_the_name() {
    let first = schedule(
        &json!({"name": "x", "frequency": "Monthly", "start": "05:00", "monthDays": ["First"], "weekDays": ["Monday"]}),
    );
    let mut site = Site::new(Edition::Server, vec![first.clone()]);
    site.administrator_adds("feedwater other", server(&first).untold());
    site.read();
    for _ in 0..20 {
        if let (Step::Schedule(write), _) = site.pass() {
            let ack = site.perform(&write);
            if let Some(made) = site.schedules.get_mut(1) {
                made.timing = server(&first).untold();
            }
            site.fold(&write, &ack);
        }
        site.read();
    }
    let name = "feedwater Monthly 05:00 on the first Monday";
    assert_eq!(site.taken(), [format!("make {name}"), format!("attach s-{name}")]);
    assert_eq!(site.bench.reason("Ready"), "True/InSync");
}
