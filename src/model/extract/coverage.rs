//! When a job contains what is owed (docs/trigger.md 3). One rule for every job, whoever started it.

use super::marks::{self, Place};
use super::observed::Seen;
use super::{Observed, Pass, freshness, kinds};
use crate::api::{Attempt, Contained, Demand, ExtractRefreshStatus, Mark, Occasion, RefreshType, Time};
use crate::guards::{Guard, holds};
use crate::model::jobs::{Job, JobAnswer, JobStatus};
use crate::model::time::Moment;
use jiff::Timestamp;

/// Rule (c): the job started after Tableau's clock had passed the moment the occasion was first seen. No fence: never.
pub(super) fn started_after(fence: Option<Time>, started_at: Option<Timestamp>) -> bool {
    matches!((fence, started_at), (Some(Time(fence)), Some(started)) if started >= fence)
}

/// Rules (a) and (b): what is proven to have been there before the job started.
fn proven(contained: &[Contained], key: &str, place: Place) -> bool {
    contained.iter().any(|c| c.key == key && c.position.place() >= place)
}

/// Rule (b): the newest occasions that were known before a request went out that showed the job not started.
pub(super) fn known_before(o: &Observed, s: &ExtractRefreshStatus, asked: Moment) -> Vec<Contained> {
    s.marks.iter().filter_map(|mark| newest_before(o, mark, asked)).collect()
}

fn newest_before(o: &Observed, mark: &Mark, asked: Moment) -> Option<Contained> {
    // What was not read proves nothing: `seen` may have been stored after the request went out.
    let (known, _) = marks::read(o, mark)?;
    let stored = mark.seen.as_ref()?;
    let before = |seen: &Seen| seen.published < asked;
    // Stored, and not among what this process has read: older than the process, and so than any request of it.
    let older = known.iter().find(|seen| seen.state.as_str() == stored.state_id).is_none_or(before);
    let newest: Option<Occasion> = marks::occasions(o, mark)
        .filter(|seen| before(seen) && marks::place(seen) <= stored.place())
        .map(|seen| marks::occasion(seen, None))
        .chain(Some(stored.clone()).filter(|_| older))
        .max_by(|a, b| a.place().cmp(&b.place()));
    newest.map(|occasion| Contained {
        key: mark.key.clone(),
        run_id: occasion.run_id.clone(),
        position: occasion.position(),
    })
}

/// Keeps the newer of each upstream; true if something was added.
pub(super) fn extend(contained: &mut Vec<Contained>, more: Vec<Contained>) -> bool {
    let mut grown = false;
    for new in more {
        match contained.iter_mut().find(|old| old.key == new.key) {
            Some(old) if old.position.place() >= new.position.place() => continue,
            Some(old) => *old = new,
            None => contained.push(new),
        }
        grown = true;
    }
    grown
}

/// What another job is proven to contain by (b); by (c) it is judged when it has succeeded.
pub(super) struct Proof {
    pub(super) seen: Vec<Contained>,
    pub(super) demands: Vec<Demand>,
}

/// Whether somebody's job on our target contains all that is owed, and by which proof. `sent`: the end of our refused POST; what the intent
/// named had been recorded before it.
pub(super) fn contains_all(
    p: &Pass,
    s: &ExtractRefreshStatus,
    attempt: &Attempt,
    answer: &JobAnswer,
    job: &Job,
    sent: Moment,
) -> Option<Proof> {
    let mut proof = Proof { seen: Vec::new(), demands: Vec::new() };
    if !holds(Guard::ConflictByCause) {
        extend(&mut proof.seen, marks::newest(s));
        proof.demands.clone_from(&s.owed.as_ref()?.demands);
        return Some(proof);
    }
    if job.status == JobStatus::Pending {
        extend(&mut proof.seen, known_before(p.o, s, answer.asked));
        if answer.asked >= sent {
            extend(&mut proof.seen, attempt.seen.clone());
            proof.demands.clone_from(&attempt.demands);
        }
    }
    let owed = s.owed.as_ref()?;
    let occasions = owed.occasions.iter().all(|o| {
        started_after(o.occasion.fence, job.started_at) || proven(&proof.seen, &o.key, o.occasion.place())
    });
    let demands =
        owed.demands.iter().all(|d| started_after(d.fence, job.started_at) || same(&proof.demands, d));
    (occasions && demands).then_some(proof)
}

fn same(demands: &[Demand], wanted: &Demand) -> bool {
    demands.iter().any(|d| d.kind == wanted.kind && d.token == wanted.token)
}

/// Credits a job that has succeeded on the recorded content: moves `covered`, takes what it contains out of `owed`. Ids of the runs that are
/// newly contained.
pub(super) fn credit(
    p: &Pass,
    s: &mut ExtractRefreshStatus,
    attempt: &Attempt,
    started_at: Option<Timestamp>,
) -> Vec<String> {
    let mut runs = Vec::new();
    let owed = s.owed.take();
    let suffices = |wanted| kinds::suffices(Some(attempt.refresh_type), wanted);
    for mark in s.marks.iter_mut().filter(|mark| suffices(kinds::of_mark(p, mark))) {
        let by_start = mark
            .seen
            .iter()
            .chain(owed.iter().flat_map(|o| &o.occasions).filter(|o| o.key == mark.key).map(|o| &o.occasion))
            .filter(|o| started_after(o.fence, started_at))
            .map(|o| (o.position(), o.run_id.clone()));
        let named =
            attempt.seen.iter().filter(|c| c.key == mark.key).map(|c| (c.position.clone(), c.run_id.clone()));
        let Some((newest, run)) = by_start.chain(named).max_by(|a, b| a.0.place().cmp(&b.0.place())) else {
            continue;
        };
        if mark.covered.as_ref().is_none_or(|covered| covered.place() < newest.place()) {
            mark.covered = Some(newest);
            runs.push(run);
        }
    }
    s.owed = owed.and_then(|mut owed| {
        owed.occasions.retain(|o| {
            let contained = started_after(o.occasion.fence, started_at)
                || proven(&attempt.seen, &o.key, o.occasion.place());
            !(contained && suffices(kinds::of_owed(p, o)))
        });
        owed.demands.retain(|d| {
            let contained = started_after(d.fence, started_at) || same(&attempt.demands, d);
            !(contained && suffices(p.d.least()))
        });
        let rest = super::gate::nothing(p);
        (!owed.occasions.is_empty() || !owed.demands.is_empty()).then_some(crate::api::Owed {
            occasions: owed.occasions,
            demands: owed.demands,
            ..rest
        })
    });
    s.data_time = freshness::after(p, s, Time(started_at.unwrap_or(p.now)));
    runs
}

/// The same of a job that nobody follows: only `covered` moves, and [`settle`] closes what that contains.
pub(super) fn observe(
    p: &Pass,
    s: &mut ExtractRefreshStatus,
    kind: Option<RefreshType>,
    started_at: Option<Timestamp>,
) {
    let mut more = false;
    for mark in s.marks.iter_mut().filter(|mark| kinds::suffices(kind, kinds::of_mark(p, mark))) {
        let seen = mark.seen.as_ref().filter(|seen| started_after(seen.fence, started_at));
        let Some(newest) = seen.map(Occasion::position) else { continue };
        if mark.covered.as_ref().is_none_or(|covered| covered.place() < newest.place()) {
            mark.covered = Some(newest);
            more = true;
        }
    }
    if more {
        s.data_time = freshness::after(p, s, Time(started_at.unwrap_or(p.now)));
    }
}

/// Closes what an earlier job contains already: nothing has to be sent for it.
pub(super) fn settle(p: &Pass, s: &mut ExtractRefreshStatus) {
    let Some(owed) = &mut s.owed else { return };
    owed.occasions.retain(|o| {
        !s.marks.iter().any(|mark| {
            mark.key == o.key
                // Another upstream of the same runs may be content with less.
                && kinds::suffices(Some(kinds::of_mark(p, mark)), kinds::of_owed(p, o))
                && mark.covered.as_ref().is_some_and(|c| c.place() >= o.occasion.place())
        })
    });
    if owed.occasions.is_empty() && owed.demands.is_empty() {
        s.owed = None;
    }
}

/// Forgets what was contained: it was another extract.
pub(super) fn forget(s: &mut ExtractRefreshStatus) {
    s.data_time = None;
    s.marks.iter_mut().for_each(|mark| mark.covered = None);
}

/// Forgets what was contained by refreshes of another type than is wanted now.
pub(super) fn forget_type(s: &mut ExtractRefreshStatus) {
    s.data_time = None;
    s.marks.iter_mut().filter(|mark| mark.refresh_type.is_none()).for_each(|mark| mark.covered = None);
}
