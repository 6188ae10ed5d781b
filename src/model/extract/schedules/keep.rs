//! One declared schedule against what Tableau has: in sync, changed, missing, suspended, or somebody else's.

use super::super::Pass;
use super::super::learnt::Learnt;
use super::intent;
use super::plan::{Round, Todo};
use super::told;
use super::want::{Refused, Want, When};
use super::{Unlisted, Write, definition_of};
use crate::api::{
    AdoptionPolicy, Drift, DriftMode, ExtractRefreshStatus, ForeignSchedules, ManagementPolicy,
    ScheduleStatus, SuspendedSchedules, Time,
};
use crate::model::ids::TaskId;
use crate::model::tasks::{Task, TaskSchedule};
use crate::model::time::{add, sub};
use jiff::Timestamp;
use std::time::Duration;

/// Runs that fail one after another until Tableau stops a schedule (tableau-rest.md 6.10).
const FAILURES: u32 = 5;
/// A suspended schedule is made again at most so often.
const RECREATE_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Round {
    /// Schedules that were declared and are no more. A deletion needs no list: the id says what goes, and what is gone already is no error.
    pub(super) fn leave(&mut self, p: &Pass, s: &ExtractRefreshStatus, declared: &[&str]) {
        let here = |entry: &&ScheduleStatus| entry.learnt(&p.d.site) == Learnt::Here;
        let left = s.schedules.iter().filter(|entry| !declared.contains(&entry.name.as_str()));
        for entry in left.filter(here) {
            if let Some(task) = entry.task_id.as_deref().map(TaskId::from) {
                let site = p.d.site.clone();
                self.write(Write::Delete { site, task }, format!("delete schedule `{}`", entry.name));
            }
        }
    }

    /// One declared schedule.
    pub(super) fn keep(&mut self, p: &mut Pass, s: &mut ExtractRefreshStatus, want: &Want) {
        let known = s.schedules.iter().position(|entry| entry.name == want.name);
        let n = known.unwrap_or_else(|| {
            s.schedules.push(intent::empty(&want.name));
            s.schedules.len() - 1
        });
        let mut entry = s.schedules[n].clone();
        if entry.task_id.is_some() && entry.learnt(&p.d.site) != Learnt::Here {
            // It is made here when what is elsewhere has gone.
            return;
        }
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
        let same = self.others(s).find(|task| want.fits(&definition_of(task))).map(|task| task.id.clone());
        match (same, p.d.schedules.adoption) {
            (Some(task), AdoptionPolicy::Adopt) if p.d.schedules.management == ManagementPolicy::Manage => {
                p.tell(
                    "ScheduleAdopted",
                    format!("The schedule `{}` that Tableau has already is taken over", want.name),
                );
                entry.task_id = Some(task.as_str().to_owned());
                entry.site = Some(p.d.site.to_string());
                true
            }
            (Some(_), AdoptionPolicy::Adopt) => {
                self.make(p, want, "adopt", "is somebody else's");
                false
            }
            (Some(_), AdoptionPolicy::Fail) if p.d.schedules.foreign == ForeignSchedules::Report => {
                let message = format!(
                    "schedule `{}`: somebody else has given the extract the same schedule: take it over with adoptionPolicy: Adopt, or delete it in Tableau",
                    want.name
                );
                let refused = Refused::new("AdoptionRequired", message);
                self.told.ready = self.told.ready.take().or_else(|| Some(told::refused(&refused)));
                false
            }
            (Some(_) | None, _) => {
                self.make(p, want, "create", "is not in Tableau");
                false
            }
        }
    }

    /// To be made. `is`: what is so until then.
    fn make(&mut self, p: &Pass, want: &Want, verb: &str, is: &str) {
        let what = format!("{verb} schedule `{}`: {}", want.name, want.definition);
        self.todo.push((Todo::Make(want.clone()), what));
        self.left(p, want, is);
    }

    /// Where nothing is written, what would be is a difference that stays.
    fn left(&mut self, p: &Pass, want: &Want, is: &str) {
        if !writes(p) && !self.drift.iter().any(|(name, _)| *name == want.name) {
            self.drift.push((want.name.clone(), is.to_owned()));
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
        let is = definition_of(task);
        if here && want.fits(&is) {
            // Written before it is deleted to be made anew.
            let announced = entry.definition.is_none() && entry.made_at.is_none() && lately(p, entry);
            if entry.definition.as_ref() != Some(&is) || s.observed_generation != p.generation {
                self.new_names.push(want.name.clone());
            }
            (entry.definition, entry.made_at) = (Some(is), None);
            self.suspended(p, want, entry, task, announced);
            return;
        }
        let drifted = here && want.was(entry.definition.as_ref());
        if drifted && !self.corrects(p, s, want, entry, "was changed in Tableau") {
            return;
        }
        let what = format!("change schedule `{}`: {}", want.name, want.definition);
        self.left(p, want, "is not as declared");
        let todo = match (&want.when, &task.schedule) {
            (When::Own(timing), TaskSchedule::Own(_)) if here && task.refresh_type == want.refresh_type => {
                let (name, task, timing) = (want.name.clone(), task.id.clone(), timing.clone());
                Todo::Write(Write::Update { name, task, timing })
            }
            // What there is goes on until there is what it is to be added to.
            (When::ToMake(..), _) => Todo::Make(want.clone()),
            // It is made anew once it is gone.
            (When::Own(_) | When::Shared(_), _) => {
                Todo::Write(Write::Delete { site: p.d.site.clone(), task: task.id.clone() })
            }
        };
        self.todo.push((todo, what));
    }

    /// The list does not have it. It is deleted only if Tableau says so of its id: lists lag, and leave out what the account may not see.
    fn missing(
        &mut self,
        p: &mut Pass,
        s: &mut ExtractRefreshStatus,
        want: &Want,
        entry: &mut ScheduleStatus,
    ) {
        // What was acknowledged may not be shown yet: an older look says nothing.
        if let Some(settled) = entry.made_at.map(|Time(made)| add(made, p.o.settle))
            && self.asked_at(p) < settled
        {
            if settled > p.now {
                self.again = [self.again, Some(settled)].into_iter().flatten().min();
            } else {
                self.look = true;
            }
            return;
        }
        let unlisted = entry.task_id.as_deref().and_then(|id| self.unlisted.get(&TaskId::from(id)));
        match unlisted {
            None => {
                self.look = true;
                return;
            }
            Some(Unlisted::Unclear) => return,
            Some(Unlisted::Hidden) => {
                self.told.ready = self.told.ready.take().or_else(|| Some(told::hidden(&want.name)));
                return;
            }
            Some(Unlisted::Gone) => {}
        }
        // Our own deletion, to make it anew, is not to be reported.
        if want.was(entry.definition.as_ref()) && !self.corrects(p, s, want, entry, "was deleted in Tableau")
        {
            return;
        }
        if writes(p) {
            (entry.task_id, entry.site, entry.made_at) = (None, None, None);
        }
        self.make(p, want, "create", "is not in Tableau");
    }

    /// When the tasks were asked for, our time.
    pub(super) fn asked_at(&self, p: &Pass) -> Timestamp {
        sub(p.now, p.o.moment.since(self.asked))
    }

    /// Whether a difference that nobody declared is put right. It is told first, and once: from then on nothing is known of the task.
    fn corrects(
        &mut self,
        p: &mut Pass,
        s: &mut ExtractRefreshStatus,
        want: &Want,
        entry: &mut ScheduleStatus,
        what: &str,
    ) -> bool {
        match p.d.schedules.drift {
            DriftMode::Disabled => false,
            DriftMode::Warn => {
                self.drift.push((want.name.clone(), what.to_owned()));
                false
            }
            DriftMode::Enabled => {
                if writes(p) {
                    p.warn("DriftDetected", format!("The schedule `{}` {what}: it is put right", want.name));
                    s.last_drift =
                        Some(Drift { at: Time(p.now), fields: vec![format!("schedules/{}", want.name)] });
                    entry.definition = None;
                } else {
                    self.left(p, want, what);
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
                Write::Delete { site: p.d.site.clone(), task: task.id.clone() },
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
    pub(super) fn others<'a>(&'a self, s: &'a ExtractRefreshStatus) -> impl Iterator<Item = &'a Task> {
        let ours =
            |task: &&Task| s.schedules.iter().any(|entry| entry.task_id.as_deref() == Some(task.id.as_str()));
        self.tasks
            .iter()
            .filter(|task| task.content.as_ref() == Some(&self.target))
            .filter(move |task| !ours(task))
    }
}

/// Whether what differs is put right.
fn writes(p: &Pass) -> bool {
    p.d.schedules.management == ManagementPolicy::Manage && !p.d.suspend
}

/// Whether it was made anew within the last day.
fn lately(p: &Pass, entry: &ScheduleStatus) -> bool {
    entry.recreated_at.is_some_and(|Time(at)| add(at, RECREATE_EVERY) > p.now)
}
