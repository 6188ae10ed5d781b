//! What an acknowledgement changes.

use super::super::{Desired, Folded, Observed, Pass, decide, report};
use super::intent::made;
use super::{Ack, Failure, Memory, Write, told};
use crate::api::ExtractRefreshStatus;
use crate::model::ids::TaskId;
use crate::model::time::add;
use jiff::Timestamp;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// Folds what became of a write into `s`, the status it was decided on or a newer one read after a conflict; and what is to be remembered.
pub fn fold_schedule(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    sent: &Write,
    ack: &Ack,
    now: Timestamp,
) -> (Folded, Option<Memory>) {
    let mut p = Pass { generation: s.observed_generation, ..Pass::new(d, o, now) };
    let mut next = s.clone();
    let memory = match ack {
        Ack::Done(task) => {
            done(&mut p, &mut next, sent, task.as_ref().map(TaskId::as_str));
            repeated(&p, sent)
        }
        Ack::Failed(failure) => {
            failed(&mut p, &mut next, sent, failure);
            Some(remember(&p, sent, failure))
        }
    };
    let mut told = told::kept(&next, true);
    if let Some(verdict) = memory.as_ref().and_then(told::failed) {
        told.ready = Some(verdict);
    }
    let activity = decide::choose(&p, &next);
    report::stamp(&p, &mut next, &activity, &told);
    (Folded { status: next, notes: p.notes }, memory)
}

fn done(p: &mut Pass, s: &mut ExtractRefreshStatus, sent: &Write, task: Option<&str>) {
    match sent {
        Write::Create { intent, .. } => {
            if let (Some(intent), Some(task)) = (s.schedule_intent.clone().filter(|i| i.id == *intent), task)
            {
                made(s, &intent, task, p.now);
                p.tell("ScheduleCreated", format!("Tableau has the schedule `{}`", intent.name));
            }
        }
        // The answer does not name the task: the next read finds it.
        Write::Attach { .. } => {}
        Write::Update { name, .. } => {
            if let Some(entry) = s.schedules.iter_mut().find(|entry| entry.name == *name) {
                entry.definition = None;
            }
            p.tell("ScheduleChanged", format!("Tableau has the schedule `{name}` as declared"));
        }
        Write::Delete { task } => {
            for entry in
                s.schedules.iter_mut().filter(|entry| entry.task_id.as_deref() == Some(task.as_str()))
            {
                (entry.task_id, entry.definition, entry.next_run_at, entry.suspended) =
                    (None, None, None, None);
            }
            let left = s.schedules.iter().find(|entry| {
                entry.task_id.is_none()
                    && !p.d.schedules.all.iter().any(|declared| declared.name == entry.name)
            });
            if let Some(name) = left.map(|entry| entry.name.clone()) {
                s.schedules.retain(|entry| entry.name != name);
                p.tell("ScheduleDeleted", format!("Tableau does not have the schedule `{name}` any more"));
            } else if s.foreign_schedules.iter().any(|foreign| foreign.task_id == task.as_str()) {
                p.tell(
                    "ForeignScheduleDeleted",
                    "A schedule that somebody else gave the extract is deleted: foreignSchedules is Remove",
                );
            }
        }
        Write::MakeShared { name, .. } => {
            p.tell("ServerScheduleCreated", format!("Tableau Server has the schedule `{name}`"));
        }
    }
}

fn failed(p: &mut Pass, s: &mut ExtractRefreshStatus, sent: &Write, failure: &Failure) {
    // Not known to have failed: the intent stays, and the next reads tell.
    if *failure == Failure::Ambiguous {
        return;
    }
    if let Some(id) = sent.intent()
        && s.schedule_intent.as_ref().is_some_and(|intent| intent.id == id)
    {
        s.schedule_intent = None;
    }
    if !matches!(failure, Failure::NotSent | Failure::Throttled(_) | Failure::NotFound | Failure::Exists) {
        p.warn(
            "ScheduleRefused",
            "Tableau refuses to change the schedules of the extract: the condition Ready says why",
        );
    }
}

fn remember(p: &Pass, sent: &Write, failure: &Failure) -> Memory {
    let before = p.o.schedules.memory.as_ref().filter(|memory| memory.generation == p.d.generation);
    let tries = before.map_or(0, |memory| memory.tries) + 1;
    let wait = match failure {
        Failure::Throttled(Some(told)) => *told,
        // Read again at once, and tried again by what that says.
        Failure::Ambiguous | Failure::Exists if tries == 1 => Duration::ZERO,
        _ => grown(tries),
    };
    let sharing = matches!(sent, Write::MakeShared { .. });
    let failure = Some(failure.clone());
    Memory { generation: p.d.generation, tries, until: add(p.now, wait), failure, sharing, task: None }
}

/// What Tableau acknowledges and does not do is not asked for again and again.
fn repeated(p: &Pass, sent: &Write) -> Option<Memory> {
    let (Write::Update { task, .. } | Write::Delete { task }) = sent else { return None };
    let before = p.o.schedules.memory.as_ref().filter(|memory| memory.task.as_ref() == Some(task));
    let tries = before.map_or(0, |memory| memory.tries) + 1;
    let wait = if tries < ACKNOWLEDGED_IN_VAIN { Duration::ZERO } else { grown(tries) };
    let until = add(p.now, wait);
    Some(Memory {
        generation: p.d.generation,
        tries,
        until,
        failure: None,
        sharing: false,
        task: Some(task.clone()),
    })
}

/// So often a change may be acknowledged and not be seen before it is asked for more seldom.
pub(super) const ACKNOWLEDGED_IN_VAIN: u32 = 3;

fn grown(tries: u32) -> Duration {
    FIRST.saturating_mul(1 << (tries - 1).min(8)).min(LONGEST)
}
