//! One pass over the schedules: what is learned, and at most one write.

use super::super::Pass;
use super::super::observed::{Claim, SiteView, TargetView};
use super::fold::ACKNOWLEDGED_IN_VAIN;
use super::intent::{self, Next};
use super::told::{self, Told};
use super::want::{Want, When, wants};
use super::{Memory, TasksView, Write, concerns, definition_of};
use crate::api::{
    AdoptionPolicy, DeletionPolicy, Drift, DriftMode, ExtractRefreshStatus, ForeignSchedule,
    ForeignSchedules, ManagementPolicy, ScheduleIntent, ScheduleStatus, SuspendedSchedules, Time,
};
use crate::model::conditions::Truth;
use crate::model::ids::{Luid, TaskId};
use crate::model::tasks::{Task, TaskSchedule};
use crate::model::time::add;
use crate::model::windows;
use jiff::Timestamp;
use std::time::Duration;

/// Most that status lists.
const MOST: usize = 32;
/// Runs that fail one after another until Tableau stops a schedule (tableau-rest.md 6.10).
const FAILURES: u32 = 5;
/// A suspended schedule is made again at most so often.
const RECREATE_EVERY: Duration = Duration::from_secs(24 * 3600);

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
    let seen = readable(p);
    let Some(seen) = seen else {
        let mut told = told::kept(s, s.observed_generation == p.generation);
        told.drifted = told.drifted.or_else(|| {
            Some(told::drifted(Truth::Unknown, "NotObserved", "The schedules in Tableau are not read yet"))
        });
        let dirty = p.o.schedules.tasks == TasksView::Dirty;
        return Planned { told, act: if dirty && idle { Act::Look } else { Act::Nothing }, again: None };
    };
    let mut round = Round {
        target: seen.target,
        tasks: seen.tasks,
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
                round.told.ready = round.told.ready.take().or_else(|| Some(told::refused(refused)));
            }
            None => {}
        }
    }
    let next = intent::advance(p, s, &good, &round.target);
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
    tasks: Vec<Task>,
}

fn readable(p: &Pass) -> Option<Seen> {
    let (SiteView::Ready { .. }, Claim::Ours) = (&p.o.site, &p.o.claim) else { return None };
    let (TargetView::Found(found) | TargetView::NoExtract(found)) = &p.o.target else { return None };
    let TasksView::Read { tasks, .. } = &p.o.schedules.tasks else { return None };
    Some(Seen { target: found.luid.clone(), tasks: tasks.clone() })
}

/// One look at everything.
struct Round {
    target: Luid,
    tasks: Vec<Task>,
    /// What would be written, in order; the first is done.
    todo: Vec<(Todo, String)>,
    told: Told,
    /// Schedules that are not as declared, and are left so: name and what is so.
    drift: Vec<(String, String)>,
    again: Option<Timestamp>,
    /// Schedules that are new or changed, or all after an edit.
    new_names: Vec<String>,
}

enum Todo {
    Write(Write),
    /// By a new intent.
    Make(Want),
}

impl Round {
    fn task(&self, id: Option<&str>) -> Option<&Task> {
        id.and_then(|id| self.tasks.iter().find(|task| task.id.as_str() == id))
    }

    fn write(&mut self, write: Write, what: String) {
        self.todo.push((Todo::Write(write), what));
    }

    /// Schedules that were declared and are no more.
    fn leave(&mut self, p: &mut Pass, s: &mut ExtractRefreshStatus, declared: &[&str]) {
        let left: Vec<_> =
            s.schedules.iter().filter(|entry| !declared.contains(&entry.name.as_str())).cloned().collect();
        for entry in left {
            if let Some(task) = self.task(entry.task_id.as_deref()).map(|task| task.id.clone()) {
                self.write(Write::Delete { task }, format!("delete schedule `{}`", entry.name));
                continue;
            }
            s.schedules.retain(|known| known.name != entry.name);
            let message = format!("Tableau does not have the schedule `{}` any more", entry.name);
            p.tell("ScheduleDeleted", message);
        }
    }

    /// One declared schedule.
    fn keep(&mut self, p: &mut Pass, s: &mut ExtractRefreshStatus, want: &Want) {
        let known = s.schedules.iter().position(|entry| entry.name == want.name);
        let n = known.unwrap_or_else(|| {
            s.schedules.push(intent::empty(&want.name));
            s.schedules.len() - 1
        });
        let mut entry = s.schedules[n].clone();
        if entry.task_id.is_none() && !self.adopt(p, s, want, &mut entry) {
            // Nothing to compare with yet.
        } else if let Some(task) = self.task(entry.task_id.as_deref()).cloned() {
            self.compare(p, s, want, &mut entry, &task);
        } else {
            self.missing(p, s, want, &mut entry);
        }
        // Tableau's word on the next run alone is not worth a write.
        let before = &s.schedules[n];
        let alone = ScheduleStatus { next_run_at: before.next_run_at, ..entry.clone() };
        if alone != *before {
            s.schedules[n] = entry;
        }
    }

    /// A task as declared that nobody of ours has: true if it is ours from now on.
    fn adopt(
        &mut self,
        p: &mut Pass,
        s: &ExtractRefreshStatus,
        want: &Want,
        entry: &mut ScheduleStatus,
    ) -> bool {
        let pending = s.schedule_intent.as_ref().is_some_and(|intent| intent.name == want.name);
        if pending {
            return false;
        }
        let same =
            self.others(s).find(|task| definition_of(task) == want.definition).map(|task| task.id.clone());
        match (same, p.d.schedules.adoption) {
            (Some(task), AdoptionPolicy::Adopt) if p.d.schedules.management == ManagementPolicy::Manage => {
                p.tell(
                    "ScheduleAdopted",
                    format!("The schedule `{}` that Tableau has already is taken over", want.name),
                );
                entry.task_id = Some(task.as_str().to_owned());
                true
            }
            (Some(_), AdoptionPolicy::Adopt) => {
                self.todo.push((
                    Todo::Make(want.clone()),
                    format!("adopt schedule `{}`: {}", want.name, want.definition),
                ));
                false
            }
            (Some(_), AdoptionPolicy::Fail) if p.d.schedules.foreign == ForeignSchedules::Report => {
                let message = format!(
                    "schedule `{}`: somebody else has given the extract the same schedule: take it over with adoptionPolicy: Adopt, or delete it in Tableau",
                    want.name
                );
                let refused = super::want::Refused { reason: "AdoptionRequired", message };
                self.told.ready = self.told.ready.take().or_else(|| Some(told::refused(&refused)));
                false
            }
            (Some(_) | None, _) => {
                self.todo.push((
                    Todo::Make(want.clone()),
                    format!("create schedule `{}`: {}", want.name, want.definition),
                ));
                false
            }
        }
    }

    fn compare(
        &mut self,
        p: &mut Pass,
        s: &mut ExtractRefreshStatus,
        want: &Want,
        entry: &mut ScheduleStatus,
        task: &Task,
    ) {
        let here = task.content.as_ref() == Some(&self.target);
        entry.next_run_at = task.next_run_at.map(Time);
        entry.consecutive_failed_count = Some(i32::try_from(task.failures.min(100_000)).unwrap_or(0));
        if here && definition_of(task) == want.definition {
            // Written before it is deleted to be made anew.
            let announced = entry.definition.is_none() && entry.made_at.is_none() && lately(p, entry);
            if entry.definition.as_ref() != Some(&want.definition) || s.observed_generation != p.generation {
                self.new_names.push(want.name.clone());
            }
            (entry.definition, entry.made_at) = (Some(want.definition.clone()), None);
            self.suspended(p, want, entry, task, announced);
            return;
        }
        let drifted = here && entry.definition.as_ref() == Some(&want.definition);
        if drifted && !self.corrects(p, s, want, "was changed in Tableau") {
            return;
        }
        let write = match (&want.when, &task.schedule) {
            (When::Own(timing), TaskSchedule::Own(_)) if here && task.refresh_type == want.refresh_type => {
                Write::Update { name: want.name.clone(), task: task.id.clone(), timing: timing.clone() }
            }
            // It is made anew once it is gone.
            _ => Write::Delete { task: task.id.clone() },
        };
        self.write(write, format!("change schedule `{}`: {}", want.name, want.definition));
    }

    /// Somebody has deleted it.
    fn missing(
        &mut self,
        p: &mut Pass,
        s: &mut ExtractRefreshStatus,
        want: &Want,
        entry: &mut ScheduleStatus,
    ) {
        // Tableau's list may lag behind what it has acknowledged.
        if let Some(Time(made)) = entry.made_at
            && add(made, p.o.settle) > p.now
        {
            self.again = [self.again, Some(add(made, p.o.settle))].into_iter().flatten().min();
            return;
        }
        // Our own deletion, to make it anew, is not to be reported.
        if entry.definition.as_ref() == Some(&want.definition)
            && !self.corrects(p, s, want, "was deleted in Tableau")
        {
            return;
        }
        if p.d.schedules.management == ManagementPolicy::Manage {
            (entry.task_id, entry.made_at) = (None, None);
        }
        self.todo.push((
            Todo::Make(want.clone()),
            format!("create schedule `{}`: {}", want.name, want.definition),
        ));
    }

    /// Whether a difference that nobody declared is put right.
    fn corrects(&mut self, p: &mut Pass, s: &mut ExtractRefreshStatus, want: &Want, what: &str) -> bool {
        match p.d.schedules.drift {
            DriftMode::Disabled => false,
            DriftMode::Warn => {
                self.drift.push((want.name.clone(), what.to_owned()));
                false
            }
            DriftMode::Enabled => {
                let field = format!("schedules/{}", want.name);
                let told = s.last_drift.as_ref().is_some_and(|drift| drift.fields.contains(&field))
                    && p.o.schedules.memory.as_ref().is_some_and(|memory| memory.until > p.now);
                if p.d.schedules.management == ManagementPolicy::Manage && !told {
                    p.warn("DriftDetected", format!("The schedule `{}` {what}: it is put right", want.name));
                    s.last_drift = Some(Drift { at: Time(p.now), fields: vec![field] });
                }
                true
            }
        }
    }

    fn suspended(
        &mut self,
        p: &mut Pass,
        want: &Want,
        entry: &mut ScheduleStatus,
        task: &Task,
        announced: bool,
    ) {
        let by_administrator = matches!(&task.schedule, TaskSchedule::Shared { active: false, .. });
        let is = by_administrator || task.failures >= FAILURES || task.next_run_at.is_none();
        if is && entry.suspended != Some(true) {
            p.warn(
                "ScheduleSuspended",
                format!("Tableau does not run the schedule `{}` any more", want.name),
            );
        }
        entry.suspended = is.then_some(true);
        if !is {
            return;
        }
        let again = p.d.schedules.suspended == SuspendedSchedules::Recreate && !by_administrator;
        if again && (announced || !lately(p, entry)) {
            if !announced {
                entry.recreated_at = Some(Time(p.now));
            }
            // So that its absence is no drift.
            entry.definition = None;
            self.write(
                Write::Delete { task: task.id.clone() },
                format!("make schedule `{}` again", want.name),
            );
            return;
        }
        if let (true, Some(Time(at))) = (again, entry.recreated_at) {
            self.again = [self.again, Some(add(at, RECREATE_EVERY))].into_iter().flatten().min();
        }
        let why = if by_administrator {
            "is suspended on the server: an administrator of Tableau Server has to resume it"
        } else {
            "is suspended by Tableau, after failures or because nobody uses the content: resume it there, or set suspendedSchedules: Recreate"
        };
        self.drift.push((want.name.clone(), why.to_owned()));
    }

    /// Tasks of the target that are not in status.
    fn others<'a>(&'a self, s: &'a ExtractRefreshStatus) -> impl Iterator<Item = &'a Task> {
        let ours =
            |task: &&Task| s.schedules.iter().any(|entry| entry.task_id.as_deref() == Some(task.id.as_str()));
        self.tasks
            .iter()
            .filter(|task| task.content.as_ref() == Some(&self.target))
            .filter(move |task| !ours(task))
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
                let task = TaskId::from(one.task_id.as_str());
                (Todo::Write(Write::Delete { task }), format!("delete foreign schedule: {}", one.definition))
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
        let waits = p.o.schedules.memory.clone().filter(|m| m.generation == p.generation && m.until > p.now);
        let stays = |m: &Memory| m.failure.is_none() && m.tries >= ACKNOWLEDGED_IN_VAIN;
        let vain = waits.as_ref().is_some_and(stays) && !self.todo.is_empty();
        self.tell_of(waits.as_ref(), vain);
        let act = if observes || p.d.suspend || !idle {
            Act::Nothing
        } else if let Some(memory) = &waits {
            self.again = [self.again, Some(memory.until)].into_iter().flatten().min();
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
        let Some((todo, _)) = self.todo.first() else { return Act::Nothing };
        match todo {
            Todo::Write(write) => Act::Write(write.clone()),
            Todo::Make(Want { when: When::ToMake(name, timing), .. }) => {
                Act::Write(Write::MakeShared { name: name.clone(), timing: timing.clone() })
            }
            Todo::Make(_)
                if !p.d.schedules.has_finalizer && p.d.schedules.deletion == DeletionPolicy::Delete =>
            {
                Act::Hold
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
                    luid: self.target.to_string(),
                    definition: want.definition.clone(),
                    known_tasks: known,
                });
                Act::Intend(id)
            }
        }
    }

    /// The conditions, once everything is known.
    fn tell_of(&mut self, waits: Option<&Memory>, vain: bool) {
        if let Some(verdict) = waits.and_then(told::failed) {
            self.told.ready = self.told.ready.take().or(Some(verdict));
        }
        let list = |drift: &[(String, String)]| {
            drift
                .iter()
                .map(|(name, what)| format!("schedule `{name}` {what}"))
                .collect::<Vec<_>>()
                .join("; ")
        };
        self.told.drifted = Some(if vain {
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

/// Whether it was made anew within the last day.
fn lately(p: &Pass, entry: &ScheduleStatus) -> bool {
    entry.recreated_at.is_some_and(|Time(at)| add(at, RECREATE_EVERY) > p.now)
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
