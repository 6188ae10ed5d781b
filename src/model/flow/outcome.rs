//! What the acknowledgements of a pass come to.

use super::pass::{Drifted, Pass, Ready, delay, forget, patience, set, told, warned};
use super::repair::kept;
use super::{
    Ack, Decision, Desired, Failure, Heir, Memory, Note, Observed, Paid, Step, Unsupported, WriteKind,
};
use crate::api::{FlowDeploymentStatus, Time};
use crate::model::time::add;
use jiff::Timestamp;
use std::time::Duration;

/// Folds what was acknowledged into the stored status (read again if it changed meanwhile): facts first, then the conditions.
/// The step of the result is always [`Step::Rest`]; the observer's next reading of the written key wakes the object.
pub fn fold(
    d: &Desired,
    o: &Observed,
    status: &FlowDeploymentStatus,
    acks: &[Ack],
    now: Timestamp,
) -> Decision {
    let p = Pass { d, o, status, now };
    let mut next = status.clone();
    let mut decision = p.rest(status.clone());
    // The first failure is told; others came after it only where one schedule does not keep the rest from being made.
    let mut failed_before = false;
    for ack in acks {
        match ack {
            Ack::Created(id) => {
                next.deployment_id = Some(id.to_string());
                decision.notes.push(told(
                    "Created",
                    format!("Created deployment `{}` in Prefect", d.place(status).deployment),
                ));
                decision.memory = None;
            }
            // Somebody was faster, or an answer of ours was lost: the next reading tells which.
            Ack::AlreadyThere => decision.memory = None,
            Ack::Late(due) => {
                if let Some(owed) = &mut next.pending_write {
                    owed.late = Some(kept(due.clone()));
                }
            }
            // So that it goes on from there where the next is refused: what has been made good by the rules there were is not asked for again by
            // those that come.
            Ack::Restored { from, to } => {
                if let Some(owed) = &mut next.pending_write {
                    if from == to {
                        owed.late.iter_mut().for_each(|late| late.retain(|at| at.0 != *from));
                    } else {
                        decision.notes.extend((*from > owed.since.0).then(not_made_good));
                        owed.since = Time(owed.since.0.max(*to));
                        // What that made may be late as well.
                        owed.late = owed.late.take().filter(|late| !late.is_empty());
                        let memory = p.memory().cloned().unwrap_or_else(|| Memory::of(d, o, now));
                        let passes = memory.paid.map_or(0, |paid| paid.passes).saturating_add(1);
                        decision.memory =
                            Some(Memory { paid: Some(Paid { until: owed.since.0, passes }), ..memory });
                    }
                }
            }
            Ack::Done(kind) => {
                decision.notes.extend(done(&p, *kind, &mut next));
                if failed_before {
                    // What is remembered is the refusal.
                } else if *kind == WriteKind::Delete {
                    // What was tried there says nothing about the next place.
                    decision.memory = None;
                } else if !kind.repairs() {
                    decision.memory = Some(wrote(&p));
                } else if decision
                    .memory
                    .as_ref()
                    .and_then(|m| m.failure.as_ref())
                    .is_some_and(|f| f.1.is_passing())
                {
                    // The hiccup is over; what differs from here on is somebody's doing and is to be named.
                    decision.memory = None;
                }
            }
            Ack::Failed(..) if failed_before => {}
            Ack::Failed(kind, failure) => {
                failed_before = true;
                let failed = failed(&p, *kind, failure);
                // While deleting, the cleanup deadline may come first: the next decision knows.
                decision.again = Some(if d.deleting.is_some() { now } else { failed.until });
                decision.notes.extend(refused(&p, *kind, failure));
                decision.memory = Some(failed);
            }
        }
    }
    decision.status = worded(&p, next, acks);
    decision
}

fn not_made_good() -> Note {
    warned(
        "RunsNotRestored",
        "A change in Prefect dropped runs that were to be asked for again, which was not possible for more than a day: those due before the last \
         day are not made up for",
    )
}

/// The decision about a spec that cannot be parsed: `Stalled`, and nothing is touched.
pub fn unsupported(
    status: &FlowDeploymentStatus,
    generation: i64,
    why: &Unsupported,
    now: Timestamp,
) -> Decision {
    let mut status = status.clone();
    let ready = Ready::stalled("UnsupportedSpec", why.message.clone());
    set(&mut status, generation, ready, Drifted::NotObserved, now);
    Decision { status, step: Step::Rest, again: None, notes: Vec::new(), memory: None }
}

/// The facts of an acknowledged write.
fn done(p: &Pass, kind: WriteKind, next: &mut FlowDeploymentStatus) -> Option<Note> {
    let name = p.d.place(p.status).deployment;
    match kind {
        WriteKind::ScheduleRuns => {
            next.pending_write = None;
            None
        }
        WriteKind::Delete => {
            forget(next);
            Some(told("Deleted", format!("Deleted deployment `{name}` in Prefect")))
        }
        WriteKind::Patch => {
            let leaving = p.d.deleting.is_some() || name != p.d.deployment;
            let Heir::Ready(heir) = &p.o.heir else { return None };
            leaving.then(|| {
                told("HandedOver", format!("Handed deployment `{name}` over to FlowDeployment {heir}"))
            })
        }
        WriteKind::Create
        | WriteKind::AddSchedule
        | WriteKind::PutSchedule
        | WriteKind::DeleteSchedule
        | WriteKind::SeeLate
        | WriteKind::RestoreRuns => None,
    }
}

/// Acknowledged: if the difference is still there at the next reading, the tries grow apart.
fn wrote(p: &Pass) -> Memory {
    let tries = p.memory().map_or(0, |m| m.tries).saturating_add(1);
    remembered(p, tries, patience(tries), None)
}

fn failed(p: &Pass, kind: WriteKind, failure: &Failure) -> Memory {
    let tries = p.memory().map_or(0, |m| m.tries).saturating_add(1);
    remembered(p, tries, delay(failure, tries), Some((kind, failure.clone())))
}

fn remembered(p: &Pass, tries: u32, wait: Duration, failure: Option<(WriteKind, Failure)>) -> Memory {
    Memory { tries, until: add(p.now, wait), failure, ..Memory::of(p.d, p.o, p.now) }
}

/// An Event for a refusal, not for each of its repetitions.
fn refused(p: &Pass, kind: WriteKind, failure: &Failure) -> Option<Note> {
    let failure = (kind, failure.clone());
    let known = p.memory().is_some_and(|m| m.failure.as_ref() == Some(&failure));
    let ready = p.verdict(&failure).filter(|_| !known && !failure.1.is_passing())?;
    Some(ready.note())
}

fn worded(p: &Pass, mut next: FlowDeploymentStatus, acks: &[Ack]) -> FlowDeploymentStatus {
    let failure = acks.iter().find_map(|ack| match ack {
        Ack::Failed(kind, failure) => Some((*kind, failure.clone())),
        Ack::Created(_) | Ack::AlreadyThere | Ack::Late(_) | Ack::Restored { .. } | Ack::Done(_) => None,
    });
    if p.d.deleting.is_some() || p.d.suspend {
        return next;
    }
    let Some(ready) = failure.as_ref().and_then(|f| p.verdict(f)) else {
        return p.waiting(next);
    };
    let correction = p.applied() && failure.is_some_and(|(_, f)| !f.is_passing());
    let drifted = if correction { Drifted::CorrectionFailed } else { Drifted::stored(&next) };
    set(&mut next, p.d.generation, ready, drifted, p.now);
    next
}
