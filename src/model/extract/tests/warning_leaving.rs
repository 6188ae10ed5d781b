//! Tableau's own warning where it is refused, fails, moves to another data source, or leaves with its resource.

use super::warning::Shown;
use super::*;
use crate::api::{DeletionPolicy, ManagementPolicy, WarningState};

const REFUSALS: [(WarningRefusal, &str); 3] = [
    (WarningRefusal::Forbidden, "the site needs Data Management"),
    (WarningRefusal::MissingScope, "sign in with a personal access token"),
    (WarningRefusal::Rejected, "Tableau refuses the data quality warning"),
];

#[test]
fn a_refusal_is_told_and_not_asked_for_again_before_something_changes() {
    for (why, said) in REFUSALS {
        for read in [true, false] {
            let mut shown = Shown::stale();
            if read {
                shown.blind.push_back(Some(why));
            } else {
                shown.fates.push_back((WarningAck::Refused(why), false));
            }
            shown.settle();
            let calls = shown.calls.len();
            assert_eq!((shown.state(), calls), (Some(WarningState::Refused), if read { 1 } else { 2 }));
            assert!(shown.bench.message("Fresh").contains(said), "{}", shown.bench.message("Fresh"));
            assert!(shown.bench.notes.contains(&"WarningNotSet"));
            assert_eq!(shown.bench.again(), None);
            shown.pass_time(100_000);
            shown.crash();
            shown.pass_time(100_000);
            assert_eq!(shown.calls.len(), calls);
            let mut edited = shown;
            edited.bench.o.credential = Some("second".into());
            edited.settle();
            assert_eq!(edited.state(), Some(WarningState::Set), "another credential may");
        }
    }
    let mut shown = Shown::stale();
    shown.blind.push_back(Some(WarningRefusal::Forbidden));
    shown.settle();
    shown.bench.d.generation += 1;
    shown.settle();
    assert_eq!(shown.state(), Some(WarningState::Set), "an edit asks once more");

    let mut shown = Shown::stale();
    shown.blind.push_back(Some(WarningRefusal::Forbidden));
    shown.settle();
    shown.refreshed("job-2");
    shown.bench.wait(1300);
    shown.settle();
    assert_eq!(shown.state(), Some(WarningState::Set), "so does the next time");
}

#[test]
fn failures_wait_ever_longer_and_hold_up_nothing() {
    let mut shown = Shown::stale();
    for _ in 0..4 {
        shown.fates.push_back((WarningAck::NotSent, false));
        shown.blind.push_back(None);
    }
    shown.settle();
    assert_eq!(shown.calls, ["look luid-1"], "it could not be read");
    shown.pass_time(119);
    assert_eq!(shown.calls.len(), 1);
    let calls = |shown: &Shown, what: &str| shown.calls.iter().filter(|call| call.starts_with(what)).count();
    shown.pass_time(24 * 3600);
    assert_eq!((calls(&shown, "look"), calls(&shown, "set")), (9, 5));
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Set), 1));

    let mut shown = Shown::stale();
    shown.blind.push_back(None);
    shown.settle();
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!((shown.bench.reason("Fresh").as_str(), shown.state()), ("True/UpToDate", None));
    assert_eq!(shown.calls.len(), 1, "what was never sent is not looked for");
}

#[test]
fn tableau_may_ask_to_wait_and_somebody_may_be_faster() {
    let mut shown = Shown::stale();
    shown.fates.push_back((WarningAck::Throttled(Some(Duration::from_secs(500))), false));
    shown.pass_time(499);
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Waiting), 0));
    shown.pass_time(10);
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Set), 1));

    let mut shown = Shown::stale();
    shown.fates.push_back((WarningAck::Exists, false));
    while !shown.calls.iter().any(|call| call.starts_with("set")) {
        shown.pass();
    }
    shown.somebody_sets(LUID, "DEPRECATED", "Use another");
    shown.settle();
    assert_eq!(
        (shown.state(), shown.on(LUID)),
        (Some(WarningState::Foreign), vec!["Use another".to_owned()])
    );
    assert_eq!(shown.calls, ["look luid-1", "set luid-1", "look luid-1"]);
    // Where Tableau says so, and nobody is there, it is not asked in a circle.
    let mut shown = Shown::stale();
    for _ in 0..3 {
        shown.fates.push_back((WarningAck::Exists, false));
    }
    shown.settle();
    assert!(shown.calls.len() <= 4, "{:?}", shown.calls);
    shown.pass_time(3600);
    assert_eq!(shown.state(), Some(WarningState::Set));
}

#[test]
fn who_does_not_ask_for_it_any_more_or_means_another_takes_it_away() {
    let mut shown = Shown::warned();
    shown.bench.d.freshness.warns = false;
    shown.bench.d.generation += 1;
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID).len()), (None, 0));
    assert_eq!(shown.bench.reason("Fresh"), "False/Stale");

    let mut shown = Shown::warned();
    shown.bench.d.target = named("Finance", "Other");
    shown.bench.d.generation += 1;
    shown.bench.o.target = TargetView::Found(Found { name: Some("Other".into()), ..found("luid-2") });
    shown.settle();
    assert_eq!(
        (shown.on(LUID).len(), shown.on("luid-2").len()),
        (0, 0),
        "how old the other is, nobody knows"
    );
    assert_eq!((shown.bench.reason("Fresh").as_str(), shown.state()), ("Unknown/NotYetRefreshed", None));
    assert_eq!(shown.calls, ["look luid-1", "clear luid-1"]);

    let mut shown = Shown::warned();
    shown.bench.o.claim = Claim::Taken { by: shown.bench.d.name.clone() };
    shown.settle();
    assert_eq!(shown.on(LUID).len(), 0, "who refreshes it says how fresh it is");

    let paused: [fn(&mut Bench); 2] =
        [|bench| bench.d.suspend = true, |bench| bench.d.schedules.management = ManagementPolicy::Observe];
    for pause in paused {
        let mut shown = Shown::warned();
        pause(&mut shown.bench);
        shown.bench.d.freshness.warns = false;
        shown.bench.d.generation += 1;
        shown.pass_time(1000);
        assert_eq!((shown.calls.len(), shown.on(LUID).len()), (0, 1), "nothing is written");
    }
}

#[test]
fn through_another_connection_the_old_one_is_taken_away_first_if_it_can_be() {
    for gone in [false, true] {
        let mut shown = Shown::warned();
        shown.bench.d.site = ConnectionName::parse("other");
        shown.bench.d.generation += 1;
        shown.bench.o.warnings.site =
            if gone { SiteView::Missing } else { SiteView::NotReady { reason: "Unreachable" } };
        // The helper takes every site but `acme` as it is.
        shown.bench.s.data_quality_warning.as_mut().unwrap().site = "old".into();
        shown.settle();
        if gone {
            assert!(shown.bench.notes.contains(&"WarningLeftBehind"));
            assert_eq!(shown.bench.s.data_quality_warning.as_ref().map(|w| w.site.as_str()), Some("other"));
        } else {
            assert!(shown.bench.again().is_some());
            shown.bench.o.warnings.site = shown.bench.o.site.clone();
            shown.pass();
            shown.pass();
            assert_eq!(shown.calls, ["look luid-1", "clear luid-1"]);
        }
    }
}

#[test]
fn one_that_may_not_be_taken_away_does_not_keep_the_next_target_from_its_own() {
    for read in [true, false] {
        let mut shown = Shown::warned();
        if read {
            shown.blind.push_back(Some(WarningRefusal::Forbidden));
        } else {
            shown.fates.push_back((WarningAck::Refused(WarningRefusal::Forbidden), false));
        }
        // The extract of that name on another site; the old one can be reached.
        shown.bench.d.site = ConnectionName::parse("other");
        shown.bench.d.generation += 1;
        shown.bench.o.warnings.site = shown.bench.o.site.clone();
        shown.bench.s.data_quality_warning.as_mut().unwrap().site = "old".into();
        while !shown.bench.notes.contains(&"WarningLeftBehind") {
            assert!(shown.pass(), "{read}: {:?}", shown.calls);
        }
        assert_eq!((shown.on(LUID).len(), shown.calls.len()), (1, if read { 1 } else { 2 }), "{read}");
        // What is there now is the other site's.
        shown.there.clear();
        shown.settle();
        let w = shown.bench.s.data_quality_warning.as_ref().unwrap();
        assert_eq!(
            (w.state, w.site.as_str(), shown.on(LUID).len()),
            (WarningState::Set, "other", 1),
            "{read}"
        );
    }
    // Where nothing is to be set instead it is tried again.
    let mut shown = Shown::warned();
    shown.fates.push_back((WarningAck::Refused(WarningRefusal::Forbidden), false));
    shown.bench.d.target = named("Finance", "Other");
    shown.bench.d.generation += 1;
    shown.bench.o.target = TargetView::Found(Found { name: Some("Other".into()), ..found("luid-2") });
    shown.settle();
    assert_eq!((shown.on(LUID).len(), shown.bench.notes.contains(&"WarningLeftBehind")), (1, false));
    shown.pass_time(300);
    assert_eq!((shown.on(LUID).len(), shown.state()), (0, None));
}

#[test]
fn where_it_may_not_be_taken_away_that_is_told_and_tried_seldom() {
    let mut shown = Shown::warned();
    for _ in 0..8 {
        shown.fates.push_back((WarningAck::Refused(WarningRefusal::Forbidden), false));
    }
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!(shown.bench.reason("Fresh"), "True/UpToDate");
    assert!(shown.bench.message("Fresh").contains("remove it there"), "{}", shown.bench.message("Fresh"));
    shown.pass_time(1000);
    assert!(shown.calls.len() <= 8, "{:?}", shown.calls);
    assert_eq!(shown.bench.notes.iter().filter(|note| **note == "WarningNotCleared").count(), 1);
    // Stale again: it is as it should be.
    shown.bench.wait(300);
    shown.settle();
    assert_eq!(
        (shown.state(), shown.bench.s.data_quality_warning.as_ref().unwrap().tries),
        (Some(WarningState::Set), 0)
    );
    shown.fates.clear();
    shown.refreshed("job-3");
    shown.settle();
    assert_eq!(shown.state(), None);
}

#[test]
fn two_of_ours_go_together() {
    let mut shown = Shown::warned();
    let ours = shown.on(LUID).remove(0);
    shown.somebody_sets(LUID, crate::model::warnings::STALE, &ours);
    shown.somebody_sets(LUID, crate::model::warnings::STALE, "mine");
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID)), (None, vec!["mine".to_owned()]));
}

const DEADLINE: Duration = Duration::from_secs(600);

impl Shown {
    /// Passes over a resource that is being deleted, until it lets go; whether anything is left behind.
    fn leaves(&mut self) -> bool {
        let since = self.bench.now();
        for _ in 0..100 {
            self.observe();
            let (d, o, s) = (&self.bench.d, &self.bench.o, &self.bench.s);
            match part(d, o, s, since, DEADLINE, self.bench.now()) {
                Parting::Release { orphaned } => return orphaned,
                Parting::Clear(write) => {
                    let ack = self.perform(&write);
                    let (d, o, s) = (&self.bench.d, &self.bench.o, &self.bench.s);
                    self.bench.s = parted_warning(d, o, s, &write, &ack, self.bench.now());
                    self.bench.o.warnings.view = WarningsView::Unread;
                }
                Parting::WaitForWarning { status, until, look } => {
                    self.bench.s = *status;
                    if let Some(luid) = look {
                        self.look(&luid);
                    } else {
                        let left = until.duration_since(self.bench.now()).as_secs().unsigned_abs();
                        self.bench.wait(left.max(1));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("it does not let go: {:?}", self.calls);
    }
}

#[test]
fn it_leaves_with_its_resource_unless_that_says_otherwise() {
    let mut shown = Shown::warned();
    assert!(!shown.leaves());
    assert_eq!(
        (shown.on(LUID).len(), &shown.calls[..]),
        (0, &["look luid-1".to_owned(), "clear luid-1".into()][..])
    );

    let mut shown = Shown::warned();
    shown.bench.d.schedules.deletion = DeletionPolicy::Orphan;
    assert!(!shown.leaves());
    assert_eq!((shown.on(LUID).len(), shown.calls.len()), (1, 0));

    let mut shown = Shown::warned();
    shown.there.get_mut(&LUID.into()).unwrap()[0].message = "mine now".into();
    assert!(!shown.leaves());
    assert_eq!(shown.on(LUID), ["mine now"]);

    let mut shown = Shown::stale();
    shown.bench.d.schedules.has_finalizer = true;
    shown.somebody_sets(LUID, "WARNING", "mine");
    shown.settle();
    assert!(!shown.leaves());
    assert_eq!((shown.on(LUID).len(), shown.calls.len()), (1, 1), "none of ours was there");
}

#[test]
fn one_on_its_way_is_waited_for_and_what_cannot_be_had_is_left_at_the_deadline() {
    let mut shown = Shown::stale();
    while shown.state() != Some(WarningState::Setting) {
        shown.pass();
    }
    shown.crash();
    let began = shown.bench.now();
    assert!(!shown.leaves());
    assert!(shown.bench.now().duration_since(began).as_secs() >= 30, "it may be on its way");

    let mut shown = Shown::warned();
    shown.bench.o.site = SiteView::NotReady { reason: "Unreachable" };
    assert!(shown.leaves(), "left behind");
    assert_eq!(shown.bench.reason("Ready"), "False/DeletionBlocked");

    let mut shown = Shown::warned();
    for _ in 0..20 {
        shown.fates.push_back((WarningAck::Refused(WarningRefusal::Forbidden), false));
    }
    assert!(shown.leaves());
    assert!(
        shown.bench.message("Ready").contains("give the account the right"),
        "{}",
        shown.bench.message("Ready")
    );
    assert!(shown.calls.len() < 12, "{:?}", shown.calls);
}
