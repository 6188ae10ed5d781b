//! What an acknowledgement changes.

use super::super::{Desired, Folded, Observed, Pass, decide, report};
use super::intent::made;
use super::{Ack, Failure, Memory, Write, former, memory, told};
use crate::api::{ExtractRefreshStatus, ScheduleStatus};
use crate::model::ids::TaskId;
use jiff::Timestamp;

/// Folds what became of a write into `s`, the status it was decided on or a newer one read after a conflict; and what is to be remembered.
pub fn fold_schedule(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    sent: &Write,
    ack: &Ack,
    now: Timestamp,
) -> (Folded, Memory) {
    let mut p = Pass { generation: s.observed_generation, ..Pass::new(d, o, now) };
    let mut next = s.clone();
    let memory = remembered(&p, s, sent, ack);
    let about = sent.about(s);
    match ack {
        Ack::Done(task) => done(&mut p, &mut next, sent, task.as_ref().map(TaskId::as_str)),
        Ack::Failed(failure) => failed(&mut p, &mut next, sent, failure),
    }
    let mut told = told::kept(&next, true);
    let failure = memory.of(&about, p.d.generation).and_then(|tried| told::failed(&about, tried));
    told.ready = failure.or(told.ready);
    let activity = decide::choose(&p, &next);
    report::stamp(&p, &mut next, &activity, &told);
    (Folded { status: next, notes: p.notes }, memory)
}

fn done(p: &mut Pass, s: &mut ExtractRefreshStatus, sent: &Write, task: Option<&str>) {
    match sent {
        Write::Create { intent, .. } => {
            if let (Some(intent), Some(task)) = (s.schedule_intent.clone().filter(|i| i.id == *intent), task)
            {
                made(p, s, &intent, task);
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
        Write::Delete { site, task } => {
            let gone = |entry: &&mut ScheduleStatus| {
                entry.task_id.as_deref() == Some(task.as_str())
                    && entry.learnt(&p.d.site).connection(&p.d.site) == Some(site)
            };
            for entry in s.schedules.iter_mut().filter(gone) {
                former::forget(entry);
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
    let about = sent.about(s);
    // Not known to have failed: the intent stays, and the next reads tell.
    if *failure == Failure::Ambiguous {
        return;
    }
    if let Some(id) = sent.intent()
        && s.schedule_intent.as_ref().is_some_and(|intent| intent.id == id)
    {
        s.schedule_intent = None;
    }
    let before = p.o.schedules.memory.as_ref().and_then(|memory| memory.of(&about, p.d.generation));
    let again = before.is_some_and(|tried| tried.failure.as_ref() == Some(failure));
    if !again
        && !matches!(failure, Failure::NotSent | Failure::Throttled(_) | Failure::NotFound | Failure::Exists)
    {
        p.warn(
            "ScheduleRefused",
            "Tableau refuses to change the schedules of the extract: the condition Ready says why",
        );
    }
}

/// What to remember of a write and its answer.
pub(super) fn remembered(p: &Pass, s: &ExtractRefreshStatus, sent: &Write, ack: &Ack) -> Memory {
    match ack {
        Ack::Done(_) => memory::acknowledged(p, s, sent),
        Ack::Failed(failure) => memory::failed(p, s, sent, failure),
    }
}
