//! One pass over the schedules: what is learned, and at most one write.

use super::super::Pass;
use super::super::observed::{Claim, SiteView, TargetView};
use super::former;
use super::heir;
use super::intent::{self, Next};
use super::memory::About;
use super::told::{self, Told};
use super::want::{Want, When, wants};
use super::{TasksView, Unlisted, Write, concerns, definition_of};
use crate::api::{
    DeletionPolicy, ExtractRefreshStatus, ForeignSchedule, ForeignSchedules, ManagementPolicy,
    ScheduleIntent, Time,
};
use crate::model::conditions::Truth;
use crate::model::connection::Standing;
use crate::model::ids::{Luid, TaskId};
use crate::model::tasks::Task;
use crate::model::tenancy::Access;
use crate::model::time::Moment;
use crate::model::windows;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most that status lists.
pub(super) const MOST: usize = 32;
/// Nothing is made on a look that is older: somebody may have made the same meanwhile.
const FRESH: Duration = Duration::from_secs(60);

/// What a pass comes to.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) told: Told,
    pub(crate) act: Act,
    pub(crate) again: Option<Timestamp>,
}

/// The one thing to do.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Act {
    #[default]
    Nothing,
    /// The finalizer has to be there first.
    Hold,
    /// Status holds a new intent.
    Intend(String),
    /// Call Tableau.
    Write(Write),
    /// Read the tasks.
    Look,
}

/// Learns what Tableau has, and plans. `idle`: nothing else is written by this pass.
pub(crate) fn plan(
    p: &mut Pass,
    s: &mut ExtractRefreshStatus,
    idle: bool,
    new_id: impl Fn() -> String,
) -> Planned {
    if !concerns(&p.d.schedules, s) {
        (s.foreign_schedules, s.applied_fields, s.plan) = (Vec::new(), Vec::new(), Vec::new());
        return Planned::default();
    }
    if p.d.schedules.management == ManagementPolicy::Manage {
        s.plan.clear();
    }
    if target(p).is_some() && p.o.schedules.tasks == TasksView::Forbidden {
        let drifted =
            told::drifted(Truth::Unknown, "NotObserved", "The schedules in Tableau may not be read");
        let told = Told { ready: Some(told::unlistable()), drifted: Some(drifted) };
        return Planned { told, again: former::unheard(p, s), ..Planned::default() };
    }
    let seen = readable(p);
    let Some(seen) = seen else {
        let mut told = told::kept(s, s.observed_generation == p.generation);
        told.drifted = told.drifted.or_else(|| {
            Some(told::drifted(Truth::Unknown, "NotObserved", "The schedules in Tableau are not read yet"))
        });
        let dirty = p.o.schedules.tasks == TasksView::Dirty && p.o.access == Access::Allowed;
        let act = match heir::inherit(p, s, idle) {
            Act::Nothing if dirty && idle => Act::Look,
            act => act,
        };
        return Planned { told, act, again: former::unheard(p, s) };
    };
    let mut round = Round {
        target: seen.target,
        asked: seen.asked,
        tasks: seen.tasks,
        unlisted: seen.unlisted,
        look: false,
        vain: false,
        todo: Vec::new(),
        told: Told::default(),
        drift: Vec::new(),
        again: None,
        new_names: Vec::new(),
    };
    let all = wants(p.d, &p.o.schedules);
    if all.iter().any(|(_, want)| want.is_none()) {
        return Planned {
            told: told::kept(s, true),
            act: if idle { Act::Look } else { Act::Nothing },
            again: None,
        };
    }
    let mut good = Vec::new();
    for (_, want) in &all {
        match want {
            Some(Ok(want)) => good.push(want.clone()),
            Some(Err(refused)) => {
                round.vain |= refused.vain;
                round.told.ready = round.told.ready.take().or_else(|| Some(told::refused(refused)));
            }
            None => {}
        }
    }
    let next = intent::advance(p, s, &good, &round.target);
    round.turn(p, s);
    s.schedules.retain(|entry| entry.task_id.is_some() || all.iter().any(|(name, _)| *name == entry.name));
    round.leave(p, s, &all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    for want in &good {
        round.keep(p, s, want);
    }
    round.foreign(p, s);
    round.finish(p, s, next, idle, new_id)
}

/// What can be planned on.
struct Seen {
    target: Luid,
    asked: Moment,
    tasks: Vec<Task>,
    unlisted: BTreeMap<TaskId, Unlisted>,
}

fn target(p: &Pass) -> Option<Luid> {
    let (SiteView::Ready { .. }, Claim::Ours, Access::Allowed) = (&p.o.site, &p.o.claim, &p.o.access) else {
        return None;
    };
    let (TargetView::Found(found) | TargetView::NoExtract(found)) = &p.o.target else { return None };
    Some(found.luid.clone())
}

fn readable(p: &Pass) -> Option<Seen> {
    let TasksView::Read { asked, tasks, unlisted } = &p.o.schedules.tasks else { return None };
    Some(Seen { target: target(p)?, asked: *asked, tasks: tasks.clone(), unlisted: unlisted.clone() })
}

/// One look at everything.
pub(super) struct Round {
    pub(super) target: Luid,
    /// When the tasks were asked for.
    pub(super) asked: Moment,
    pub(super) tasks: Vec<Task>,
    pub(super) unlisted: BTreeMap<TaskId, Unlisted>,
    /// Something can be said only after another look.
    pub(super) look: bool,
    /// What was made is not as it was made.
    vain: bool,
    /// What would be written, in order; the first is done.
    pub(super) todo: Vec<(Todo, String)>,
    pub(super) told: Told,
    /// Schedules that are not as declared, and are left so: name and what is so.
    pub(super) drift: Vec<(String, String)>,
    pub(super) again: Option<Timestamp>,
    /// Schedules that are new or changed, or all after an edit.
    pub(super) new_names: Vec<String>,
}

pub(super) enum Todo {
    Write(Write),
    /// By a new intent.
    Make(Want),
}

impl Todo {
    fn about(&self, s: &ExtractRefreshStatus) -> About {
        match self {
            Self::Write(write) => write.about(s),
            Self::Make(Want { when: When::ToMake(name, _), .. }) => About::Shared(name.clone()),
            Self::Make(want) => About::Schedule(want.name.clone()),
        }
    }
}

impl Round {
    pub(super) fn task(&self, id: Option<&str>) -> Option<&Task> {
        id.and_then(|id| self.tasks.iter().find(|task| task.id.as_str() == id))
    }

    pub(super) fn write(&mut self, write: Write, what: String) {
        self.todo.push((Todo::Write(write), what));
    }

    fn foreign(&mut self, p: &Pass, s: &mut ExtractRefreshStatus) {
        let mut all: Vec<ForeignSchedule> = self
            .others(s)
            .map(|task| ForeignSchedule { task_id: task.id.to_string(), definition: definition_of(task) })
            .collect();
        all.sort_by(|a, b| a.task_id.cmp(&b.task_id));
        if p.d.schedules.foreign == ForeignSchedules::Remove && s.schedule_intent.is_none() {
            // Before anything is made: the same definition may be among them.
            let removed = all.iter().map(|one| {
                let (site, task) = (p.d.site.clone(), TaskId::from(one.task_id.as_str()));
                (
                    Todo::Write(Write::Delete { site, task }),
                    format!("delete foreign schedule: {}", one.definition),
                )
            });
            let rest = std::mem::take(&mut self.todo);
            self.todo = removed.chain(rest).collect();
        }
        all.truncate(MOST);
        s.foreign_schedules = all;
    }

    fn finish(
        mut self,
        p: &mut Pass,
        s: &mut ExtractRefreshStatus,
        next: Next,
        idle: bool,
        new_id: impl Fn() -> String,
    ) -> Planned {
        warn_of_windows(p, s, &self.new_names);
        let managed = s.schedules.iter().any(|entry| entry.task_id.is_some());
        s.applied_fields = if managed { vec!["schedules".to_owned()] } else { Vec::new() };
        let observes = p.d.schedules.management == ManagementPolicy::Observe;
        s.plan = if observes {
            self.todo.iter().map(|(_, what)| what.clone()).take(MOST).collect()
        } else {
            Vec::new()
        };
        if let Some(verdict) = told::observing(p, &s.plan) {
            self.told.ready = self.told.ready.take().or(Some(verdict));
        }
        self.tell_of(p, s);
        let busy = !self.todo.is_empty() || s.schedule_intent.is_some();
        if busy && !observes && !was_in_sync(p, s) {
            self.told.ready = self.told.ready.take().or_else(|| Some(told::progressing()));
        }
        let act = if observes || !idle {
            Act::Nothing
        } else if unheld(p) && (managed || s.schedule_intent.is_some()) {
            Act::Hold
        } else if p.d.suspend {
            Act::Nothing
        } else {
            self.act(p, s, next, new_id)
        };
        Planned { told: self.told, act, again: self.again }
    }

    fn act(
        &mut self,
        p: &Pass,
        s: &mut ExtractRefreshStatus,
        next: Next,
        new_id: impl Fn() -> String,
    ) -> Act {
        match next {
            Next::Send(write) => return Act::Write(write),
            Next::Wait { until: Some(until) } => {
                self.again = [self.again, Some(until)].into_iter().flatten().min();
                return Act::Nothing;
            }
            Next::Wait { until: None } => return Act::Look,
            Next::Free => {}
        }
        let Some(due) = self.due(p, s) else {
            return if self.look { Act::Look } else { Act::Nothing };
        };
        match (&self.todo[due].0, p.o.standing) {
            (Todo::Make(_), Standing::Leaving) => {
                self.told.ready = Some(told::shut(&p.d.site));
                return Act::Nothing;
            }
            // Told of when the site waits for us.
            (Todo::Make(_), Standing::Unheld) if p.d.schedules.deletion == DeletionPolicy::Delete => {
                return Act::Nothing;
            }
            (Todo::Make(_) | Todo::Write(_), _) => {}
        }
        match &self.todo[due].0 {
            Todo::Write(write) => Act::Write(write.clone()),
            Todo::Make(_) if unheld(p) => Act::Hold,
            Todo::Make(_) if p.o.moment.since(self.asked) > FRESH => Act::Look,
            Todo::Make(Want { when: When::ToMake(name, timing), .. }) => {
                let content = self.target.clone();
                Act::Write(Write::MakeShared { content, name: name.clone(), timing: timing.clone() })
            }
            Todo::Make(want) => {
                let id = new_id();
                let mut known: Vec<String> = self
                    .tasks
                    .iter()
                    .filter(|task| task.content.as_ref() == Some(&self.target))
                    .map(|task| task.id.to_string())
                    .collect();
                known.sort();
                s.schedule_intent = Some(ScheduleIntent {
                    id: id.clone(),
                    name: want.name.clone(),
                    site: Some(p.d.site.to_string()),
                    luid: self.target.to_string(),
                    definition: want.definition.clone(),
                    known_tasks: known,
                });
                Act::Intend(id)
            }
        }
    }

    /// The first thing to do that need not wait. Nothing is made before what others made, and is to go, has gone: it may be the same.
    fn due(&mut self, p: &Pass, s: &ExtractRefreshStatus) -> Option<usize> {
        let (mut first, mut removing) = (None, false);
        for (n, (todo, _)) in self.todo.iter().enumerate() {
            let about = todo.about(s);
            let memory = p.o.schedules.memory.as_ref();
            match memory.and_then(|memory| memory.waits(&about, p.generation, p.now)) {
                Some(wait) => {
                    self.again = [self.again, wait.until()].into_iter().flatten().min();
                    removing |= matches!(about, About::Foreign(_));
                }
                None if removing && matches!(todo, Todo::Make(_)) => {}
                None => {
                    first = first.or(Some(n));
                }
            }
        }
        first
    }

    /// The conditions, once everything is known.
    fn tell_of(&mut self, p: &Pass, s: &ExtractRefreshStatus) {
        let pending = s.schedule_intent.iter().map(|intent| About::Schedule(intent.name.clone()));
        for about in self.todo.iter().map(|(todo, _)| todo.about(s)).chain(pending) {
            let memory = p.o.schedules.memory.as_ref();
            let Some(tried) = memory.and_then(|memory| memory.of(&about, p.generation)) else { continue };
            self.vain |= tried.is_vain();
            self.told.ready = self.told.ready.take().or_else(|| told::failed(&about, tried));
        }
        let list = |drift: &[(String, String)]| {
            drift
                .iter()
                .map(|(name, what)| format!("schedule `{name}` {what}"))
                .collect::<Vec<_>>()
                .join("; ")
        };
        self.told.drifted = Some(if self.vain {
            told::drifted(
                Truth::True,
                "CorrectionFailed",
                "Tableau acknowledges a change of the schedules, and still shows them otherwise; it is tried more seldom",
            )
        } else if self.drift.is_empty() {
            told::drifted(
                Truth::False,
                "NoDrift",
                "Tableau has the schedules as declared, or they are being made so",
            )
        } else {
            told::drifted(
                Truth::True,
                "DriftDetected",
                format!("Tableau differs from the spec: {}", list(&self.drift)),
            )
        });
    }
}

/// Our finalizer has to be there while there is something to take away.
pub(super) fn unheld(p: &Pass) -> bool {
    !p.d.schedules.has_finalizer && p.d.schedules.deletion == DeletionPolicy::Delete
}

/// A correction at once is an Event and no condition that flaps.
fn was_in_sync(p: &Pass, s: &ExtractRefreshStatus) -> bool {
    let ready = s.conditions.iter().find(|condition| condition.type_ == "Ready");
    s.observed_generation == p.generation && ready.is_some_and(|condition| condition.status == "True")
}

/// Schedules that Tableau runs are not held by windows: one that falls into a Deny window is told of when it or the windows are new.
fn warn_of_windows(p: &mut Pass, s: &ExtractRefreshStatus, new_names: &[String]) {
    for name in new_names {
        let next = s.schedules.iter().find(|entry| entry.name == *name).and_then(|entry| entry.next_run_at);
        let Some(Time(next)) = next else { continue };
        if let Some(window) = windows::denied(&p.d.windows, next) {
            let message = format!(
                "The schedule `{name}` runs inside the Deny window `{window}`: windows hold only what Feedwater starts"
            );
            p.warn("ScheduleInsideWindow", message);
        }
    }
}
