//! The resource is being deleted: its schedules go with it, by `deletionPolicy`.

use super::super::observed::{IntentView, SiteView};
use super::super::{Desired, Observed};
use super::{Ack, TasksView, Write, definition_of};
use crate::api::{DeletionPolicy, ExtractRefreshStatus};
use crate::model::conditions::{self, Truth, Verdict};
use crate::model::time::add;
use jiff::Timestamp;
use std::time::Duration;

/// What a pass over a resource that is being deleted comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Parting {
    /// Nothing of ours is on it.
    Rest,
    /// Take the finalizer away; whether schedules are left behind against the deletion policy.
    Release {
        /// See above.
        orphaned: bool,
    },
    /// Delete this task.
    Write(Write),
    /// Read the tasks, publish this status, look again then.
    Wait {
        /// What is told meanwhile.
        status: Box<ExtractRefreshStatus>,
        /// When.
        until: Timestamp,
    },
}

const LOOK: Duration = Duration::from_secs(5);

/// Plans one pass. `since`: the deletion timestamp; `deadline`: how long after it the schedules are left behind.
pub fn part(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    since: Timestamp,
    deadline: Duration,
    now: Timestamp,
) -> Parting {
    if !d.schedules.has_finalizer {
        return Parting::Rest;
    }
    let nothing = s.schedules.iter().all(|entry| entry.task_id.is_none()) && s.schedule_intent.is_none();
    if nothing || d.schedules.deletion == DeletionPolicy::Orphan {
        return Parting::Release { orphaned: false };
    }
    let deadline = add(since, deadline);
    let ready = matches!(o.site, SiteView::Ready { .. });
    let TasksView::Read { asked, tasks } = &o.schedules.tasks else {
        return wait(s, ready, deadline, now);
    };
    if !ready {
        return wait(s, ready, deadline, now);
    }
    let mine = |id: &str| s.schedules.iter().any(|entry| entry.task_id.as_deref() == Some(id));
    if let Some(task) = tasks.iter().find(|task| mine(task.id.as_str())) {
        if o.schedules.memory.as_ref().is_some_and(|memory| memory.until > now) {
            return wait(s, ready, deadline, now);
        }
        return Parting::Write(Write::Delete { task: task.id.clone() });
    }
    if let Some(intent) = &s.schedule_intent {
        let new = tasks.iter().find(|task| {
            task.content.as_ref().is_some_and(|luid| luid.as_str() == intent.luid)
                && !intent.known_tasks.iter().any(|known| known == task.id.as_str())
                && definition_of(task) == intent.definition
        });
        let arrived = match o.schedules.intent {
            IntentView::MaybeSent { since } => *asked >= since.plus(o.settle),
            IntentView::InLedger | IntentView::None => true,
        };
        match new {
            Some(task) => return Parting::Write(Write::Delete { task: task.id.clone() }),
            None if !arrived => return wait(s, ready, deadline, now),
            None => {}
        }
    }
    Parting::Release { orphaned: false }
}

/// What an acknowledged deletion changes in the status of a resource that is leaving; its conditions stay.
pub fn parted(s: &ExtractRefreshStatus, sent: &Write, ack: &Ack) -> ExtractRefreshStatus {
    let mut next = s.clone();
    if let (Write::Delete { task }, Ack::Done(_)) = (sent, ack) {
        next.schedules.retain(|entry| entry.task_id.as_deref() != Some(task.as_str()));
    }
    next
}

fn wait(s: &ExtractRefreshStatus, ready: bool, deadline: Timestamp, now: Timestamp) -> Parting {
    if now >= deadline {
        return Parting::Release { orphaned: true };
    }
    let (truth, reason, message) = if ready {
        (Truth::False, "Deleting", "The schedules of this resource are being deleted in Tableau")
    } else {
        (
            Truth::False,
            "DeletionBlocked",
            "The schedules in Tableau cannot be deleted while the site cannot be used. They are left behind at the cleanup deadline; deletionPolicy: Orphan lets go at once",
        )
    };
    let mut status = s.clone();
    conditions::replace(&mut status, &Verdict::new("Ready", truth, reason, message), now);
    Parting::Wait { status: Box::new(status), until: add(now, LOOK).min(deadline) }
}
