//! What a look at the job list asks for, and what is known after it.

use super::*;
use crate::api::RefreshType;
use JobStatus::{InProgress, Pending, Success};

const DAY: i64 = 24 * 3600;

/// Seconds after some noon, by Tableau's clock.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// The same, by this process's clock.
fn moment(second: i64) -> Moment {
    Moment(Duration::from_secs(second.try_into().unwrap()))
}

fn clock(second: i64) -> ClockReading {
    ClockReading { date: at(second), sent: moment(second), received: moment(second) }
}

fn row(id: &str, created: i64, status: JobStatus) -> JobRow {
    JobRow {
        id: id.into(),
        status,
        refresh_type: Some(RefreshType::Full),
        title: Some("Orders".into()),
        created_at: Some(at(created)),
        started_at: None,
        ended_at: None,
    }
}

fn told(id: &str, status: JobStatus) -> Job {
    Job {
        id: id.into(),
        status,
        content: None,
        created_at: None,
        started_at: Some(at(5)),
        completed_at: (status == JobStatus::Success).then(|| at(9)),
        failure: None,
        wants_full: false,
    }
}

/// The list, and when it was read.
type Known = (JobList, Option<LastLook>);

fn look(known: &Known, wanted: i64, now: i64) -> Look {
    Look::new(&known.0, known.1.as_ref(), at(wanted), Some(at(wanted)), Some(clock(now)), moment(now))
}

fn joined(look: Look, rows: &[JobRow]) -> Known {
    let now = moment(look.looked.as_ref().unwrap().at.as_second() - at(0).as_second());
    look.joined(rows.to_vec(), now, now)
}

/// Read whole for the first time.
fn first(wanted: i64, now: i64, rows: &[JobRow]) -> Known {
    let look = look(&(JobList::Unread, None), wanted, now);
    assert_eq!((look.from(), look.by_id()), (at(wanted), vec![]));
    joined(look, rows)
}

fn ids(known: &Known) -> Vec<(&str, JobStatus)> {
    let JobList::Read { rows, .. } = &known.0 else { panic!("{known:?}") };
    rows.iter().map(|row| (row.id.as_str(), row.status)).collect()
}

#[test]
fn a_later_look_goes_back_to_the_first_that_had_not_ended_and_an_hour_at_least() {
    let known = first(0, 3 * DAY, &[row("a", 0, Success), row("b", 3 * DAY - 600, Success)]);
    let later = look(&known, 0, 3 * DAY + 60);
    assert_eq!((later.from(), later.by_id()), (at(3 * DAY - 3600), vec![]));
    // What should be listed and is not, is gone; what is older and has ended stays.
    assert_eq!(ids(&joined(later, &[])), [("a", Success)]);

    let known =
        first(0, 3 * DAY, &[row("a", 0, Success), row("b", 2 * DAY + 60, InProgress), row("c", 9, Success)]);
    let later = look(&known, 0, 3 * DAY + 60);
    assert_eq!((later.from(), later.by_id()), (at(2 * DAY + 60), vec![]));
    let known = joined(later, &[row("b", 2 * DAY + 60, Success)]);
    assert_eq!(ids(&known), [("a", Success), ("c", Success), ("b", Success)]);
    assert_eq!(look(&known, 0, 3 * DAY + 120).from(), at(3 * DAY + 60 - 3600));
}

#[test]
fn one_that_has_not_ended_for_a_day_is_looked_at_by_its_id_as_long_as_it_has_not() {
    let both = [row("queued", 30, Pending), row("old", 60, InProgress)];
    let mut known = first(0, 3 * DAY, &both);
    // Also when the list is read whole, and not so far back any more.
    for (wanted, now, asked) in [
        (0, 3 * DAY + 300, true),
        (0, 3 * DAY + 599, false),
        (0, 3 * DAY + 600, true),
        (2 * DAY, 4 * DAY, true),
        (2 * DAY, 4 * DAY + 60, false),
        (2 * DAY, 5 * DAY, true),
        (9 * DAY, 10 * DAY, true),
    ] {
        let mut again = look(&known, wanted, now);
        assert_eq!(again.by_id().len(), if asked { 2 } else { 0 }, "{now}: each every five minutes");
        for row in both.iter().filter(|_| asked) {
            again.answered(&row.id, Some(&told(row.id.as_str(), row.status)));
        }
        let listed = again.from() <= at(30);
        known = joined(again, if listed { &both } else { &[] });
        assert_eq!(ids(&known), [("queued", Pending), ("old", InProgress)]);
    }
    let mut again = look(&known, 9 * DAY, 10 * DAY + 300);
    again.answered(&"queued".into(), None);
    again.answered(&"old".into(), Some(&told("old", Success)));
    let known = joined(again, &[]);
    let JobList::Read { rows, .. } = &known.0 else { panic!("{known:?}") };
    let ended = JobRow { started_at: Some(at(5)), ended_at: Some(at(9)), ..row("old", 60, Success) };
    assert_eq!(rows.to_vec(), [ended], "one ended, and Tableau does not know the other any more");
    assert!(look(&known, 9 * DAY, 10 * DAY + 900).by_id().is_empty());
}

#[test]
fn one_that_may_not_be_read_by_its_id_and_more_than_a_few_are_found_by_a_longer_list() {
    let known = first(0, 3 * DAY, &[row("old", 60, InProgress)]);
    let mut again = look(&known, 0, 3 * DAY + 300);
    again.unanswered(&"old".into());
    assert_eq!(again.from(), at(60));
    let open = joined(again.clone(), &[row("old", 60, InProgress)]);
    let later = look(&open, 0, 3 * DAY + 360);
    assert_eq!(
        (later.from(), later.by_id()),
        (at(3 * DAY + 300 - 3600), vec![]),
        "nor is the list read so far for it"
    );
    assert_eq!(ids(&joined(again.clone(), &[])), [], "found in neither way");
    assert_eq!(ids(&joined(again, &[row("old", 60, Success)])), [("old", Success)]);

    let many: Vec<JobRow> = (0..25).map(|n| row(&format!("{n}"), n, InProgress)).collect();
    let again = look(&first(0, 3 * DAY, &many), 0, 3 * DAY + 300);
    assert_eq!((again.from(), again.by_id().len()), (at(20), 20));
    let known = joined(again, &many[20..]);
    assert_eq!(ids(&known).len(), 25);
    let later = look(&known, 0, 3 * DAY + 360);
    assert_eq!((later.from(), later.by_id()), (at(3 * DAY + 300 - 3600), vec![]));
}

#[test]
fn one_that_a_list_leaves_out_before_it_has_ended_is_asked_for_by_its_id() {
    let now = 3 * DAY;
    let open = [row("new", now - 60, Pending), row("older", now - 7200, InProgress)];
    let known = first(0, now, &open);
    let missed = look(&known, 0, now + 15);
    assert_eq!((missed.from(), missed.by_id()), (at(now - 7200), vec![]));
    let known = joined(missed, &open[..1]);
    assert_eq!(ids(&known), [("older", InProgress), ("new", Pending)], "kept");

    // At the next look; as long as it is not listed only now and then.
    let mut again = look(&known, 0, now + 30);
    assert_eq!(again.by_id(), ["older".into()]);
    let mut gone = again.clone();
    gone.answered(&"older".into(), None);
    assert_eq!(ids(&joined(gone, &open[..1])), [("new", Pending)]);
    let mut unclear = again.clone();
    unclear.unanswered(&"older".into());
    assert_eq!(ids(&joined(unclear, &open[..1])), [("new", Pending)], "two lists, and no answer");
    again.answered(&"older".into(), Some(&told("older", InProgress)));
    let mut known = joined(again, &open[..1]);
    for second in [45, 329] {
        let again = look(&known, 0, now + second);
        assert_eq!(again.by_id(), []);
        known = joined(again, &open[..1]);
        assert_eq!(ids(&known), [("older", InProgress), ("new", Pending)]);
    }
    let mut again = look(&known, 0, now + 330);
    assert_eq!(again.by_id(), ["older".into()]);

    // It is listed again: the list tells of it.
    let known = joined(again.clone(), &open);
    let by_list = look(&known, 0, now + 900);
    assert_eq!((by_list.from(), by_list.by_id()), (at(now - 7200), vec![]));
    // It has ended, and no list has it: that is known until the list is read whole.
    again.answered(&"older".into(), Some(&told("older", Success)));
    let known = joined(again, &open[..1]);
    let known = joined(look(&known, 0, now + 345), &open[..1]);
    assert_eq!(ids(&known), [("older", Success), ("new", Pending)]);
    assert_eq!(ids(&joined(look(&known, 0, now + 7 * 3600), &open[..1])), [("new", Pending)]);
}

#[test]
fn it_is_read_whole_now_and_then_and_as_far_back_as_anybody_has_asked_meanwhile() {
    const HOUR: i64 = 3600;
    let now = 10 * DAY;
    let mut known = first(9 * DAY, now, &[]);
    // Farther than it was read.
    let wide = look(&known, DAY, now + 60);
    assert_eq!(wide.from(), at(DAY));
    known = joined(wide, &[row("a", DAY, Success)]);
    // One that needs less reads no less.
    for minute in 2..300 {
        let narrow = look(&known, 9 * DAY, now + 60 * minute);
        assert!(narrow.from() > at(9 * DAY + HOUR));
        known = joined(narrow, &[]);
    }
    let whole = look(&known, 9 * DAY, now + 7 * HOUR);
    assert_eq!(whole.from(), at(DAY), "who has asked for more asks again");
    // Where the longer list cannot be read, whoever waits reads his own.
    let own = Look::new(
        &known.0,
        known.1.as_ref(),
        at(9 * DAY),
        None,
        Some(clock(now + 7 * HOUR)),
        moment(now + 7 * HOUR),
    );
    assert_eq!(own.from(), at(9 * DAY));
    known = joined(whole, &[row("a", DAY, Success)]);
    // Nobody did.
    let whole = look(&known, 9 * DAY, now + 14 * HOUR);
    assert_eq!(whole.from(), at(9 * DAY));
    known = joined(whole, &[]);
    assert_eq!(ids(&known), []);
    // Those who ask for it at the same time.
    let whole = Look::new(
        &known.0,
        known.1.as_ref(),
        at(9 * DAY),
        Some(at(DAY)),
        Some(clock(now + 21 * HOUR)),
        moment(now + 21 * HOUR),
    );
    assert_eq!(whole.from(), at(DAY));
    // A clock that went back.
    assert_eq!(look(&known, 9 * DAY, now).from(), at(9 * DAY));
}
