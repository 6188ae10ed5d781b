//! What was learnt through another connection and cannot be taken away is left behind in the end.

use super::scheduling::Site;
use super::turning::{EVIL, planted, ready, unusable, writes};
use super::*;

#[test]
fn what_cannot_be_taken_away_is_left_behind_in_the_end_and_told() {
    for (former, waits) in [(Some(unusable()), true), (None, false)] {
        let mut site = planted(Some(EVIL));
        site.bench.o.formers.clear();
        site.bench.o.formers.extend(former.map(|view| (ConnectionName::parse(EVIL), view)));
        let all = writes(&mut site);
        assert_eq!(all.is_empty(), waits, "{all:?}");
        if waits {
            assert_eq!(site.bench.reason("Ready"), "Unknown/Progressing");
            assert!(site.message("Ready").contains("TableauSite `evil`"), "{}", site.message("Ready"));
            assert_eq!(site.bench.again(), Some(add(site.bench.now(), Duration::from_secs(600))));
            site.bench.wait(600);
            site.read();
            assert!(matches!(writes(&mut site)[..], [ScheduleWrite::Create { .. }]));
        }
        assert!(site.bench.notes.contains(&"Orphaned"));
        assert_eq!(site.bench.reason("Ready"), "True/InSync");
    }
    // It is not allowed there: nobody waits for that.
    let mut site = planted(Some("cluster:former"));
    site.bench.o.formers.insert(ConnectionName::cluster("former"), ready());
    let denied = site.first_write();
    site.fold(&denied, &ScheduleAck::Failed(ScheduleFailure::NotAllowed));
    site.read();
    while site.pass().1 {}
    assert!(site.bench.notes.contains(&"Orphaned"));
    assert_eq!(site.bench.s.schedules[0].task_id, None);
    // Refused there.
    let mut site = planted(Some(EVIL));
    let refused = site.first_write();
    site.fold(&refused, &ScheduleAck::Failed(ScheduleFailure::Forbidden));
    site.read();
    while site.pass().1 {}
    assert!(site.bench.s.schedules[0].task_id.is_some(), "it is tried again");
    site.bench.wait(590);
    site.read();
    let again = site.first_write();
    assert_eq!(again, refused);
    site.fold(&again, &ScheduleAck::Failed(ScheduleFailure::Forbidden));
    site.bench.wait(11);
    site.read();
    while site.pass().1 {}
    assert!(site.bench.notes.contains(&"Orphaned"));
    assert_eq!(site.bench.s.schedules[0].task_id, None);
}

/// Whoever deletes the former connection is not kept waiting for what the new one does not tell.
#[test]
fn a_former_connection_that_is_deleted_waits_no_longer_than_the_deadline_for_the_new_one() {
    for (leaves, suspended, left) in [(true, false, true), (false, false, false), (true, true, false)] {
        for view in [TasksView::Unread, TasksView::Forbidden] {
            let mut site = planted(Some(EVIL));
            site.bench.d.suspend = suspended;
            site.bench.o.schedules.tasks = view.clone();
            if leaves {
                site.bench.o.leaving.insert(ConnectionName::parse(EVIL), site.bench.now());
            }
            while site.pass().1 {}
            let has = |site: &Site| site.bench.s.schedules[0].task_id.is_some();
            let until = add(site.bench.now(), Duration::from_secs(600));
            assert_eq!((has(&site), site.bench.again() == Some(until)), (true, left), "{leaves} {view:?}");
            site.bench.wait(600);
            while site.pass().1 {}
            assert_eq!(
                (!has(&site), site.bench.notes.contains(&"Orphaned")),
                (left, left),
                "{leaves} {suspended} {view:?}"
            );
        }
    }
}

/// It may have been left long ago: it is waited for from its deletion on.
#[test]
fn a_former_connection_waits_as_long_when_it_is_deleted_late() {
    let mut site = planted(Some(EVIL));
    site.bench.o.schedules.tasks = TasksView::Unread;
    while site.pass().1 {}
    site.bench.wait(5000);
    site.bench.o.leaving.insert(ConnectionName::parse(EVIL), site.bench.now());
    let has = |site: &Site| site.bench.s.schedules[0].task_id.is_some();
    for (waits, expected) in [(0, true), (599, true), (1, false)] {
        site.bench.wait(waits);
        while site.pass().1 {}
        assert_eq!(has(&site), expected, "{waits}");
    }
}
