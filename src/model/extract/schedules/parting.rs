//! The resource is being deleted: its schedules go with it, by `deletionPolicy`; then the warning does (`warning/parting.rs`).

use super::super::learnt::{self, Learnt};
use super::super::observed::{IntentView, SiteView, TargetView};
use super::super::{Desired, Observed, Pass, WarningWrite};
use super::{Ack, Failure, Memory, TasksView, Write, definition_of, fold, intent, told};
use crate::api::{DeletionPolicy, ExtractRefreshStatus, ManagementPolicy};
use crate::model::conditions::{self, Truth, Verdict};
use crate::model::heirs;
use crate::model::ids::{ConnectionName, Luid, TaskId};
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
    /// Take this warning away.
    Clear(WarningWrite),
    /// Read the warnings on this data source, if it is one, publish this status, look again then.
    WaitForWarning {
        /// What is told meanwhile.
        status: Box<ExtractRefreshStatus>,
        /// When.
        until: Timestamp,
        /// See above.
        look: Option<Luid>,
    },
    /// Read the tasks, publish this status, look again then.
    Wait {
        /// What is told meanwhile.
        status: Box<ExtractRefreshStatus>,
        /// When.
        until: Timestamp,
    },
}

/// How soon to look again where nothing wakes us.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// Plans one pass. `since`: the deletion timestamp; `deadline`: how long after it the schedules are left behind.
pub(crate) fn part(
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
    let leaves =
        d.schedules.deletion == DeletionPolicy::Orphan || d.schedules.management == ManagementPolicy::Observe;
    if nothing || leaves {
        return Parting::Release { orphaned: false };
    }
    let heirs =
        |id: &str| o.schedules.heir.as_ref().is_some_and(|heir| heir.holds.contains(&TaskId::from(id)));
    let ours =
        s.schedules.iter().filter_map(|entry| Some((entry.task_id.as_deref()?, entry.learnt(&d.site))));
    // What the other has taken over is its own now, whether this one is done with the rest or not.
    let ours: Vec<(&str, Learnt)> = ours.filter(|(id, _)| !heirs(id)).collect();
    if ours.is_empty() && s.schedule_intent.is_none() {
        return Parting::Release { orphaned: false };
    }
    let handing_over = heirs::waits_until(since, deadline);
    let deadline = add(since, deadline);
    let look = add(now, LOOK);
    let arriving = arriving(d, o, s, &heirs);
    if let Some(heir) = o.schedules.heir.as_ref().filter(|_| now < handing_over) {
        let goes = format!(
            "The schedules of this resource are being handed over to ExtractRefresh `{}`",
            heir.name.name
        );
        // A task that may have been made is handed over as the others are, or the other would make it once more.
        let settled = settled(d, o, s, &arriving, now);
        if !ours.is_empty() || settled.is_some() {
            let s = settled.as_ref().unwrap_or(s);
            let status = Box::new(leaving(s, &Leaving { goes: &goes, ..SCHEDULES }, None, now));
            return Parting::Wait { status, until: look.min(handing_over) };
        }
    }
    let (mut waits, mut lost) = (None, false);
    // By their ids, each through the connection through which it was learnt: whether a list has them makes no difference.
    for (id, learnt) in ours {
        let site = match reach(d, o, &learnt) {
            Reach::Through(site) => site,
            Reach::Waits => {
                waits.get_or_insert((Some(UNUSABLE.to_owned()), look));
                continue;
            }
            Reach::Never => {
                lost = true;
                continue;
            }
        };
        let write = Write::Delete { site, task: TaskId::from(id) };
        match tried(d, o, s, &write, now) {
            Tried::Due => return Parting::Write(write),
            Tried::NotAllowed => lost = true,
            Tried::Waits(why, until) => {
                waits.get_or_insert((why, until.unwrap_or(deadline)));
            }
        }
    }
    if let Some((why, until)) = waits {
        return wait(s, why.as_deref(), until, deadline, now);
    }
    match arriving {
        Arriving::Nothing => Parting::Release { orphaned: lost },
        Arriving::Lost => Parting::Release { orphaned: true },
        Arriving::Here { site, task } => {
            let write = Write::Delete { site, task };
            match tried(d, o, s, &write, now) {
                Tried::Due => Parting::Write(write),
                Tried::NotAllowed => Parting::Release { orphaned: true },
                Tried::Waits(why, until) => wait(s, why.as_deref(), until.unwrap_or(deadline), deadline, now),
            }
        }
        Arriving::Waits(why) => wait(s, why, look, deadline, now),
    }
}

/// What came of the deletion of a task so far.
enum Tried {
    /// It is to be tried now.
    Due,
    /// It is somebody else's, or is so by now: nothing but its id says that it was ours.
    NotAllowed,
    /// Why, and until when, if that is known.
    Waits(Option<String>, Option<Timestamp>),
}

fn tried(d: &Desired, o: &Observed, s: &ExtractRefreshStatus, write: &Write, now: Timestamp) -> Tried {
    let about = write.about(s);
    let Some(memory) = &o.schedules.memory else { return Tried::Due };
    let Some(wait) = memory.waits(&about, d.generation, now) else { return Tried::Due };
    let tried = memory.of(&about, d.generation);
    if tried.is_some_and(|tried| tried.failure == Some(Failure::NotAllowed)) {
        return Tried::NotAllowed;
    }
    Tried::Waits(tried.and_then(told::undeletable), wait.until())
}

/// What has become of the task that was being made.
enum Arriving {
    Nothing,
    /// Nobody knows any more.
    Lost,
    /// It is there.
    Here {
        site: ConnectionName,
        task: TaskId,
    },
    /// Until this has changed, or is known.
    Waits(Option<&'static str>),
}

fn arriving(d: &Desired, o: &Observed, s: &ExtractRefreshStatus, heirs: &dyn Fn(&str) -> bool) -> Arriving {
    let Some(intent) = &s.schedule_intent else { return Arriving::Nothing };
    let learnt = intent.learnt(&d.site);
    let site = match reach(d, o, &learnt) {
        Reach::Through(site) => site,
        Reach::Waits => return Arriving::Waits(Some(UNUSABLE)),
        Reach::Never if o.schedules.intent == IntentView::InLedger => return Arriving::Nothing,
        Reach::Never => return Arriving::Lost,
    };
    let view = if learnt == Learnt::Here { &o.schedules.tasks } else { &o.schedules.former_tasks };
    let (asked, tasks) = match view {
        TasksView::Read { asked, tasks, .. } => (asked, tasks),
        TasksView::Forbidden => {
            return Arriving::Waits(Some("while this account may not list the schedules of the site"));
        }
        TasksView::Unread | TasksView::Dirty => return Arriving::Waits(None),
    };
    let new = tasks.iter().find(|task| {
        task.content.as_ref().is_some_and(|luid| luid.as_str() == intent.luid)
            && !intent.known_tasks.iter().any(|known| known == task.id.as_str())
            && !heirs(task.id.as_str())
            && definition_of(task) == intent.definition
    });
    let arrived = match o.schedules.intent {
        IntentView::MaybeSent { since } => *asked >= since.plus(o.settle),
        IntentView::InLedger | IntentView::None => true,
    };
    match new {
        Some(task) => Arriving::Here { site, task: task.id.clone() },
        None if !arrived => Arriving::Waits(None),
        None => Arriving::Nothing,
    }
}

/// The status once that is written down, as far as it is known; none: nothing was being made that could be handed over.
fn settled(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    arriving: &Arriving,
    now: Timestamp,
) -> Option<ExtractRefreshStatus> {
    let intent = s.schedule_intent.as_ref()?;
    // One on a content that was the target before is nothing for whoever comes.
    let of_target = matches!(&o.target, TargetView::Found(found) | TargetView::NoExtract(found)
        if found.luid.as_str() == intent.luid);
    if !of_target || intent.learnt(&d.site) != Learnt::Here {
        return None;
    }
    let mut next = s.clone();
    match arriving {
        Arriving::Here { task, .. } => intent::made(&Pass::new(d, o, now), &mut next, intent, task.as_str()),
        Arriving::Nothing => next.schedule_intent = None,
        Arriving::Waits(_) => {}
        Arriving::Lost => return None,
    }
    Some(next)
}

const UNUSABLE: &str = "while the site cannot be used";

/// Whether what was learnt so can be taken away.
enum Reach {
    Through(ConnectionName),
    /// Not now.
    Waits,
    /// The connection is another than the one of the spec, and gone; or it is not known.
    Never,
}

fn reach(d: &Desired, o: &Observed, learnt: &Learnt) -> Reach {
    match (learnt, learnt::view(d, o, learnt)) {
        (Learnt::Here, SiteView::Ready { .. }) => Reach::Through(d.site.clone()),
        (Learnt::At(site), SiteView::Ready { .. }) => Reach::Through(site.clone()),
        (Learnt::Here, _) | (Learnt::At(_), SiteView::NotReady { .. }) => Reach::Waits,
        (Learnt::At(_), SiteView::Missing) | (Learnt::Unknown, _) => Reach::Never,
    }
}

/// What an answer changes in the status of a resource that is leaving, whose conditions stay; and what is to be remembered.
pub fn parted(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    sent: &Write,
    ack: &Ack,
    now: Timestamp,
) -> (ExtractRefreshStatus, Memory) {
    let memory = fold::remembered(&Pass::new(d, o, now), s, sent, ack);
    let mut next = s.clone();
    if let (Write::Delete { site, task }, Ack::Done(_)) = (sent, ack) {
        next.schedules.retain(|entry| {
            entry.task_id.as_deref() != Some(task.as_str())
                || entry.learnt(&d.site).connection(&d.site) != Some(site)
        });
    }
    (next, memory)
}

/// Until then, or the deadline. `blocked`: what has to change for the schedules to be deleted.
fn wait(
    s: &ExtractRefreshStatus,
    blocked: Option<&str>,
    until: Timestamp,
    deadline: Timestamp,
    now: Timestamp,
) -> Parting {
    if now >= deadline {
        return Parting::Release { orphaned: true };
    }
    let status = Box::new(leaving(s, &SCHEDULES, blocked, now));
    Parting::Wait { status, until: until.min(deadline) }
}

/// How people are told of what leaves with a resource.
pub(crate) struct Leaving<'a> {
    /// It goes.
    pub(crate) goes: &'a str,
    /// It cannot: what has to change follows.
    pub(crate) stays: &'a str,
    /// What becomes of it then.
    pub(crate) left: &'a str,
}

const SCHEDULES: Leaving<'static> = Leaving {
    goes: "The schedules of this resource are being deleted in Tableau",
    stays: "The schedules in Tableau cannot be deleted",
    left: "They are left behind",
};

/// What is told meanwhile. `blocked`: what has to change.
pub(crate) fn leaving(
    s: &ExtractRefreshStatus,
    what: &Leaving<'_>,
    blocked: Option<&str>,
    now: Timestamp,
) -> ExtractRefreshStatus {
    let (reason, message) = match blocked {
        None => ("Deleting", what.goes.to_owned()),
        Some(why) => (
            "DeletionBlocked",
            format!(
                "{} {why}. {} at the cleanup deadline; deletionPolicy: Orphan lets go at once",
                what.stays, what.left
            ),
        ),
    };
    let mut status = s.clone();
    conditions::replace(&mut status, &Verdict::new("Ready", Truth::False, reason, message), now);
    status
}
