//! A task that is being made: sent, found, or given up.

use super::super::Pass;
use super::super::observed::IntentView;
use super::former::{self, Followed};
use super::want::{Want, When};
use super::{Subject, TasksView, Write, definition_of};
use crate::api::{ExtractRefreshStatus, ScheduleIntent, ScheduleStatus, Time};
use crate::model::ids::Luid;
use crate::model::time::add;
use jiff::Timestamp;

/// What becomes of the intent.
pub(super) enum Next {
    /// There is none (any more).
    Free,
    /// Send it.
    Send(Write),
    /// Wait, and then read the tasks again.
    Wait {
        /// Until when; none: for a read.
        until: Option<Timestamp>,
    },
}

/// Moves the intent on by what was read.
pub(super) fn advance(p: &mut Pass, s: &mut ExtractRefreshStatus, wants: &[Want], target: &Luid) -> Next {
    let Some(intent) = s.schedule_intent.clone() else { return Next::Free };
    let learnt = intent.learnt(&p.d.site);
    let view = match former::follow(p, &learnt) {
        Followed::Here => &p.o.schedules.tasks,
        Followed::There => &p.o.schedules.former_tasks,
        Followed::Later(until) => return Next::Wait { until: Some(until) },
        Followed::NeverSent => {
            s.schedule_intent = None;
            return Next::Free;
        }
        Followed::Lost(why) => {
            s.schedule_intent = None;
            former::orphaned(p, &intent.name, &why);
            return Next::Free;
        }
    };
    let TasksView::Read { asked, tasks, .. } = view else {
        // To ask again at once is of no use where the account may not list them.
        let until = (*view == TasksView::Forbidden).then(|| add(p.now, super::parting::LOOK));
        return Next::Wait { until };
    };
    let new = tasks.iter().find(|task| {
        task.content.as_ref().is_some_and(|luid| luid.as_str() == intent.luid)
            && !intent.known_tasks.iter().any(|known| known == task.id.as_str())
            && !s.schedules.iter().any(|known| known.task_id.as_deref() == Some(task.id.as_str()))
            && definition_of(task) == intent.definition
    });
    if let Some(task) = new {
        made(p, s, &intent, task.id.as_str());
        p.tell("ScheduleCreated", format!("Tableau has the schedule `{}`", intent.name));
        return Next::Free;
    }
    match p.o.schedules.intent {
        IntentView::InLedger => {
            let want =
                wants.iter().find(|want| want.name == intent.name && want.definition == intent.definition);
            let send =
                want.filter(|_| intent.luid == target.as_str()).and_then(|want| write(p, &intent, want));
            if let Some(write) = send {
                return Next::Send(write);
            }
            // Never sent, and not wanted any more.
            s.schedule_intent = None;
            Next::Free
        }
        IntentView::None => Next::Wait { until: None },
        IntentView::MaybeSent { since } => {
            let settled = since.plus(p.o.settle);
            if *asked >= settled {
                // It did not arrive, and will not.
                s.schedule_intent = None;
                return Next::Free;
            }
            let left = settled.since(p.o.moment);
            Next::Wait { until: (!left.is_zero()).then(|| add(p.now, left)) }
        }
    }
}

/// Notes which task an intent has become.
pub(super) fn made(p: &Pass, s: &mut ExtractRefreshStatus, intent: &ScheduleIntent, task: &str) {
    s.schedule_intent = None;
    let n = s.schedules.iter().position(|entry| entry.name == intent.name).unwrap_or_else(|| {
        s.schedules.push(empty(&intent.name));
        s.schedules.len() - 1
    });
    let entry = &mut s.schedules[n];
    // What it is, the next read tells.
    (entry.task_id, entry.definition, entry.made_at) = (Some(task.to_owned()), None, Some(Time(p.now)));
    entry.site = intent.site.clone().or_else(|| Some(p.d.site.to_string()));
}

pub(super) fn empty(name: &str) -> ScheduleStatus {
    ScheduleStatus {
        name: name.to_owned(),
        definition: None,
        task_id: None,
        site: None,
        left_at: None,
        made_at: None,
        next_run_at: None,
        consecutive_failed_count: None,
        suspended: None,
        recreated_at: None,
    }
}

fn write(p: &Pass, intent: &ScheduleIntent, want: &Want) -> Option<Write> {
    let content = Subject {
        kind: p.d.target.kind(),
        luid: Luid::from(intent.luid.as_str()),
        refresh_type: want.refresh_type,
    };
    let (name, intent) = (intent.name.clone(), intent.id.clone());
    match &want.when {
        When::Own(timing) => Some(Write::Create { intent, name, content, timing: timing.clone() }),
        When::Shared(schedule) => Some(Write::Attach { intent, name, content, schedule: schedule.clone() }),
        When::ToMake(..) => None,
    }
}
