//! Tableau's own warning: `Bench` with a data source that has some, and a Tableau that answers at once, or does not.

use super::*;
use crate::api::{DeletionPolicy, ManagementPolicy, WarningState};
use crate::model::connection::Standing;
use crate::model::ids::WarningId;
use crate::model::warnings::{DataQualityWarning, STALE};
use std::collections::VecDeque;

const OURS: &str = "The data is older than was promised: it has not been refreshed with newer data. (Feedwater here/finance/orders)";
/// What earlier builds said.
pub(super) const BEFORE: &str = "The data is older than was promised: it has not been refreshed with newer data. (Feedwater finance/orders)";

pub(super) struct Shown {
    pub(super) bench: Bench,
    /// The warnings on each data source.
    pub(super) there: BTreeMap<Luid, Vec<DataQualityWarning>>,
    /// Each call, in order.
    pub(super) calls: Vec<String>,
    /// What becomes of the next writes, in place of what Tableau would say; whether it is done all the same.
    pub(super) fates: VecDeque<(WarningAck, bool)>,
    /// What becomes of the next reads, in place of an answer.
    pub(super) blind: VecDeque<Option<WarningRefusal>>,
    /// The process ends with the next write, which is done or not; nothing of it is written down.
    dies: Option<bool>,
    ids: u32,
    ledger: Option<String>,
    since: Option<Moment>,
}

impl Shown {
    /// Fresh, with the wish to be warned when it is not.
    pub(super) fn fresh() -> Self {
        let mut bench = Bench::new();
        let fail_after = Some(Duration::from_secs(1200));
        bench.d.freshness = Freshness { warn_after: None, fail_after, warns: true };
        bench.completes("a");
        bench.completes("b");
        bench.refreshes("job-1");
        bench.notes.clear();
        Self {
            bench,
            there: BTreeMap::new(),
            calls: Vec::new(),
            fates: VecDeque::new(),
            blind: VecDeque::new(),
            dies: None,
            ids: 0,
            ledger: None,
            since: None,
        }
    }

    /// Stale, and nothing is decided about that yet.
    pub(super) fn stale() -> Self {
        let mut shown = Self::fresh();
        shown.bench.wait(1300);
        shown
    }

    /// Stale, and Tableau shows it.
    pub(super) fn warned() -> Self {
        let mut shown = Self::stale();
        shown.settle();
        assert_eq!((shown.state(), shown.on(LUID)), (Some(WarningState::Set), vec![OURS.to_owned()]));
        shown.bench.notes.clear();
        shown.calls.clear();
        shown
    }

    pub(super) fn state(&self) -> Option<WarningState> {
        self.bench.s.data_quality_warning.as_ref().map(|w| w.state)
    }

    /// What the warnings on a data source say.
    pub(super) fn on(&self, luid: &str) -> Vec<String> {
        let all = self.there.get(&luid.into()).into_iter().flatten();
        all.map(|warning| warning.message.clone()).collect()
    }

    pub(super) fn somebody_sets(&mut self, luid: &str, kind: &str, message: &str) -> WarningId {
        self.ids += 1;
        let id: WarningId = format!("w{}", self.ids).into();
        let warning = DataQualityWarning { id: id.clone(), kind: kind.into(), message: message.into() };
        self.there.entry(luid.into()).or_default().push(warning);
        id
    }

    /// The process ends, and another one takes over.
    pub(super) fn crash(&mut self) {
        (self.ledger, self.since) = (None, None);
        self.bench.o.warnings.view = WarningsView::Unread;
    }

    pub(super) fn refreshed(&mut self, job: &str) {
        self.bench.completes("a");
        self.bench.completes("b");
        self.bench.refreshes(job);
    }

    /// The warnings are looked at now.
    pub(super) fn look(&mut self, luid: &Luid) {
        self.calls.push(format!("look {luid}"));
        let asked = self.bench.moment();
        self.bench.o.warnings.view = match self.blind.pop_front() {
            Some(refused) => WarningsView::Failed { asked, refused },
            None => WarningsView::Read { asked, all: self.there.get(luid).cloned().unwrap_or_default() },
        };
    }

    /// What the driver knows before a pass.
    pub(super) fn observe(&mut self) {
        self.bench.o.moment = self.bench.moment();
        let moment = self.bench.o.moment;
        let w = self.bench.s.data_quality_warning.as_ref();
        let intent = w.and_then(|w| w.intent.as_ref());
        self.bench.o.warnings.intent = match intent {
            None => IntentView::None,
            Some(id) if self.ledger.as_ref() == Some(id) => IntentView::InLedger,
            Some(_) => IntentView::MaybeSent { since: *self.since.get_or_insert(moment) },
        };
        // Every connection but one that a test takes away.
        if w.is_none_or(|w| w.site == "acme") {
            self.bench.o.warnings.site = self.bench.o.site.clone();
        }
    }

    /// Tableau does it, and does or does not answer.
    pub(super) fn perform(&mut self, write: &WarningWrite) -> WarningAck {
        let (fate, done) = self.fates.pop_front().map_or((None, true), |(ack, done)| (Some(ack), done));
        let answer = match write {
            WarningWrite::Set { intent, luid, message, .. } => {
                assert_eq!(self.ledger.take().as_ref(), Some(intent), "an intent is spent once");
                self.since = Some(self.bench.moment());
                self.calls.push(format!("set {luid}"));
                let id = done.then(|| self.somebody_sets(luid.as_str(), STALE, message));
                WarningAck::Done(id)
            }
            WarningWrite::Clear { luid, id, .. } => {
                self.calls.push(format!("clear {luid}"));
                if done {
                    self.there.entry(luid.clone()).or_default().retain(|warning| warning.id != *id);
                }
                WarningAck::Done(None)
            }
        };
        fate.unwrap_or(answer)
    }

    /// One pass of the driver; `false`: there is nothing to do.
    pub(super) fn pass(&mut self) -> bool {
        self.observe();
        let before = self.bench.s.clone();
        match self.bench.pass() {
            Step::Intend { id } => {
                // The look of another intent tells nothing of this one.
                (self.ledger, self.since) = (Some(id), None);
            }
            Step::Hold => self.bench.d.schedules.has_finalizer = true,
            Step::LookAtWarnings(luid) | Step::Look { warnings: Some(luid), .. } => self.look(&luid),
            Step::Warn(write) => {
                assert!(self.bench.d.schedules.has_finalizer, "the finalizer precedes the first write");
                let w = before.data_quality_warning.as_ref().expect("status precedes the write");
                assert!(w.may_be_there(), "{w:?}");
                if let Some(done) = self.dies.take() {
                    self.fates.push_back((WarningAck::Ambiguous, done));
                    self.perform(&write);
                    self.crash();
                    return true;
                }
                let ack = self.perform(&write);
                let (d, o, s) = (&self.bench.d, &self.bench.o, &self.bench.s);
                let folded = fold_warning(d, o, s, &write, &ack, self.bench.now());
                self.bench.notes.extend(folded.notes.iter().map(|note| note.reason));
                self.bench.s = folded.status;
                self.bench.o.warnings.view = WarningsView::Unread;
            }
            _ if self.bench.s == before => return false,
            _ => {}
        }
        if self.bench.s.data_quality_warning != before.data_quality_warning {
            self.bench.o.warnings.view = WarningsView::Unread;
        }
        true
    }

    fn passes(&mut self, count: usize) {
        for _ in 0..count {
            self.pass();
        }
    }

    /// Until there is nothing to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            if !self.pass() {
                return;
            }
        }
        panic!("no rest: {:?} {:?}", self.calls, self.bench.s.data_quality_warning);
    }

    /// Time passes until it wants to be looked at again, for at most so long.
    pub(super) fn pass_time(&mut self, seconds: u64) {
        let end = self.bench.now + seconds;
        self.settle();
        while let Some(at) = self.bench.again()
            && let left = at.duration_since(self.bench.now()).as_secs().unsigned_abs().max(1)
            && self.bench.now + left <= end
        {
            self.bench.wait(left);
            self.settle();
        }
        self.bench.wait(end.saturating_sub(self.bench.now));
        self.settle();
    }
}

#[test]
fn stale_data_is_shown_in_tableau_until_it_is_fresh_again() {
    let mut shown = Shown::fresh();
    shown.settle();
    assert_eq!((shown.calls.len(), shown.state()), (0, None), "who is fresh costs nothing");
    assert!(!shown.bench.d.schedules.has_finalizer);
    shown.bench.wait(1300);
    // The resource says it first, then the intent is written, and only then Tableau is asked.
    assert!(shown.pass());
    assert_eq!((shown.bench.reason("Fresh").as_str(), shown.state()), ("False/Stale", None));
    shown.pass();
    assert!(shown.bench.d.schedules.has_finalizer);
    shown.pass();
    assert_eq!((shown.state(), shown.calls.len()), (Some(WarningState::Setting), 0));
    shown.settle();
    assert_eq!(shown.calls, ["look luid-1", "set luid-1"]);
    assert_eq!((shown.state(), shown.on(LUID)), (Some(WarningState::Set), vec![OURS.to_owned()]));
    assert_eq!(shown.bench.again(), None, "who stays stale costs nothing");
    shown.pass_time(100_000);
    assert_eq!(shown.calls.len(), 2);

    shown.refreshed("job-2");
    shown.settle();
    assert_eq!(shown.calls[2..], ["look luid-1", "clear luid-1"]);
    assert_eq!((shown.state(), shown.on(LUID)), (None, Vec::new()));
    assert_eq!(
        shown.bench.notes.iter().filter(|note| note.starts_with("Warning")).collect::<Vec<_>>(),
        [&"WarningSet", &"WarningCleared"]
    );
    shown.pass_time(1000);
    assert_eq!(shown.calls.len(), 4);
}

#[test]
fn nothing_is_set_where_nobody_asks_for_it_or_nothing_may_be_written() {
    let changes: [fn(&mut Bench); 7] = [
        |bench| bench.d.freshness.warns = false,
        |bench| bench.d.suspend = true,
        |bench| bench.d.schedules.management = ManagementPolicy::Observe,
        |bench| bench.o.claim = Claim::Taken { by: bench.d.name.clone() },
        |bench| bench.o.claim = Claim::Unresolved,
        |bench| bench.o.site = SiteView::NotReady { reason: "Unreachable" },
        |bench| bench.o.standing = Standing::Leaving,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut shown = Shown::stale();
        change(&mut shown.bench);
        shown.pass_time(5000);
        assert_eq!((shown.calls.len(), shown.state()), (0, None), "{n}");
    }
    // Until the connection waits for us when it is deleted.
    let mut shown = Shown::stale();
    shown.bench.o.standing = Standing::Unheld;
    shown.settle();
    assert_eq!(shown.state(), None);
    shown.bench.d.schedules.deletion = DeletionPolicy::Orphan;
    shown.bench.d.schedules.has_finalizer = true;
    shown.settle();
    assert_eq!(shown.state(), Some(WarningState::Set), "what is left behind holds nothing");
}

#[test]
fn a_persons_warning_is_left_alone_and_told_of() {
    let mut shown = Shown::stale();
    shown.somebody_sets(LUID, "MAINTENANCE", "We are moving");
    shown.settle();
    assert_eq!(
        (shown.state(), &shown.calls[..]),
        (Some(WarningState::Foreign), &["look luid-1".to_owned()][..])
    );
    assert!(shown.bench.message("Fresh").contains("somebody else's data quality warning"));
    shown.pass_time(3000);
    assert_eq!(shown.calls.len(), 1, "somebody who looks each minute is told nothing new");
    shown.pass_time(700);
    assert_eq!(
        (shown.calls.len(), shown.state()),
        (2, Some(WarningState::Foreign)),
        "nothing tells when it goes"
    );
    shown.bench.d.generation += 1;
    shown.settle();
    assert_eq!(shown.calls.len(), 3, "an edit asks once more");
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!((shown.calls.len(), shown.state()), (3, None));
    assert!(!shown.bench.message("Fresh").contains("warning"));
    // The next time it is gone.
    shown.there.clear();
    shown.bench.wait(1300);
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Set), 1));
}

#[test]
fn one_of_ours_that_a_person_has_edited_is_that_persons() {
    for kind in [STALE, "WARNING"] {
        let mut shown = Shown::warned();
        let warning = &mut shown.there.get_mut(&LUID.into()).unwrap()[0];
        warning.kind = kind.into();
        if kind == STALE {
            warning.message = format!("Known, we are on it. {OURS}");
        }
        shown.refreshed("job-2");
        shown.settle();
        assert_eq!((shown.state(), shown.on(LUID).len()), (None, 1), "{kind}");
        assert!(shown.bench.notes.contains(&"WarningTakenOver"));
        assert_eq!(shown.calls, ["look luid-1"]);
    }
}

#[test]
fn what_a_person_has_removed_is_not_set_again_and_no_error() {
    let mut shown = Shown::warned();
    shown.there.clear();
    shown.pass_time(10_000);
    assert_eq!(shown.calls.len(), 0);
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!((shown.state(), &shown.calls[..]), (None, &["look luid-1".to_owned()][..]));
}

#[test]
fn a_lost_answer_is_found_by_what_the_warning_says() {
    let mut shown = Shown::stale();
    shown.fates.push_back((WarningAck::Ambiguous, true));
    shown.settle();
    assert_eq!(shown.calls, ["look luid-1", "set luid-1", "look luid-1"]);
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Set), 1));
    // Nor does an answer that does not name it.
    let mut shown = Shown::stale();
    shown.fates.push_back((WarningAck::Done(None), true));
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Set), 1));
}

#[test]
fn what_did_not_arrive_is_sent_again_only_when_it_cannot_arrive_any_more() {
    let mut shown = Shown::stale();
    shown.fates.push_back((WarningAck::Ambiguous, false));
    shown.settle();
    let sets = |shown: &Shown| shown.calls.iter().filter(|call| call.starts_with("set")).count();
    shown.pass_time(29);
    assert_eq!((sets(&shown), shown.state()), (1, Some(WarningState::Setting)));
    shown.pass_time(60);
    assert_eq!((sets(&shown), shown.state()), (1, Some(WarningState::Waiting)), "not at once");
    shown.pass_time(200);
    assert_eq!((sets(&shown), shown.state(), shown.on(LUID).len()), (2, Some(WarningState::Set), 1));
}

#[test]
fn a_crash_at_any_point_leaves_one_and_in_the_end_none() {
    let there = |shown: &Shown| (shown.state(), shown.on(LUID).len());
    for passes in 0..10 {
        let mut shown = Shown::stale();
        shown.passes(passes);
        shown.crash();
        shown.pass_time(600);
        assert_eq!(there(&shown), (Some(WarningState::Set), 1), "{passes}");
        shown.refreshed("job-2");
        shown.passes(passes);
        shown.crash();
        shown.pass_time(600);
        assert_eq!(there(&shown), (None, 0), "{passes}");
    }
    // Between a write and the status that tells of it.
    for set in [true, false] {
        for cleared in [true, false] {
            let mut shown = Shown::stale();
            shown.dies = Some(set);
            shown.settle();
            shown.pass_time(600);
            assert_eq!((there(&shown), shown.dies), ((Some(WarningState::Set), 1), None));
            shown.refreshed("job-2");
            shown.dies = Some(cleared);
            shown.pass_time(600);
            assert_eq!((there(&shown), shown.dies), ((None, 0), None));
        }
    }
}

/// It was sent by a process that is no more, and arrives while the next one looks.
#[test]
fn what_arrives_late_is_found() {
    let mut shown = Shown::stale();
    shown.dies = Some(false);
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Setting), 0));
    shown.somebody_sets(LUID, STALE, OURS);
    shown.pass_time(600);
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Set), 1));
    assert_eq!(shown.calls.iter().filter(|call| call.starts_with("set")).count(), 1);
}

#[test]
fn what_is_fresh_before_the_warning_arrives_waits_for_it() {
    let mut shown = Shown::stale();
    while shown.state() != Some(WarningState::Setting) {
        shown.pass();
    }
    shown.crash();
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!(shown.state(), Some(WarningState::Setting), "it may be on its way");
    shown.somebody_sets(LUID, STALE, OURS);
    shown.pass_time(120);
    assert_eq!((shown.state(), shown.on(LUID).len()), (None, 0));
    // What was never sent is not waited for.
    let mut shown = Shown::stale();
    while shown.state() != Some(WarningState::Setting) {
        shown.pass();
    }
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!((shown.state(), shown.calls.len()), (None, 0));
}

/// A process that is killed between the intent and the call costs the time in which it might arrive, and no more.
#[test]
fn what_a_process_that_is_no_more_did_not_send_is_sent_once_it_cannot_arrive() {
    for kills in 1..4 {
        let mut shown = Shown::stale();
        for _ in 0..kills {
            while shown.state() != Some(WarningState::Setting) {
                shown.pass();
            }
            shown.crash();
            shown.pass_time(29);
            assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Setting), 0));
            shown.bench.wait(2);
            while shown.state() == Some(WarningState::Setting) {
                shown.pass();
            }
            assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Waiting), 0), "{kills}");
        }
        shown.settle();
        assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Set), 1), "{kills}");
    }
}

#[test]
fn that_of_another_cluster_with_a_resource_of_this_name_is_somebody_elses() {
    let mut shown = Shown::stale();
    let theirs = OURS.replace("here", "there");
    shown.somebody_sets(LUID, STALE, &theirs);
    shown.settle();
    assert_eq!(shown.state(), Some(WarningState::Foreign));
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID)), (None, vec![theirs]));
    // Nor one of before cluster's names were told, of which our status knows nothing.
    let mut shown = Shown::stale();
    shown.somebody_sets(LUID, STALE, BEFORE);
    shown.settle();
    assert_eq!(shown.state(), Some(WarningState::Foreign));
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!(shown.on(LUID).len(), 1);
}

#[test]
fn what_an_earlier_build_set_is_taken_away() {
    // It is known by its id.
    let mut shown = Shown::warned();
    shown.there.get_mut(&LUID.into()).unwrap()[0].message = BEFORE.into();
    shown.crash();
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID).len()), (None, 0));
    // Or it was sent when that build ended.
    let mut shown = Shown::stale();
    while shown.state() != Some(WarningState::Setting) {
        shown.pass();
    }
    shown.crash();
    shown.somebody_sets(LUID, STALE, BEFORE);
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(WarningState::Set), 1));
    shown.refreshed("job-2");
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID).len()), (None, 0));
}
