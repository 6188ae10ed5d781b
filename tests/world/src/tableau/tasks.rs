//! Extract refresh tasks, the shared schedules of a Server, and what they start when their time has come.
//!
//! Nothing runs here: [`State::advance`] works out, in order, what has happened up to a moment, with the jobs, however late it is called. So a
//! month of schedules takes no longer than its runs.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use super::clock::Clock;
use super::config::{Config, Edition, Kind, Outcome};
use super::schedule::Timing;
use super::site::luid;
use super::state::State;
use super::truth::{RequestedBy, TaskTruth};

/// A task: content, and when it is refreshed.
pub(super) struct Task {
    pub(super) id: String,
    /// LUIDs.
    pub(super) site: String,
    pub(super) content: String,
    pub(super) kind: Kind,
    pub(super) when: When,
    /// Scheduled runs that failed since the last success.
    pub(super) failures: u32,
    /// Tableau has stopped it: too many failures, or nobody looks at the content.
    pub(super) suspended: bool,
    /// Its next run; none while it or its schedule is suspended.
    pub(super) next: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
}

/// When a task runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
    /// Cloud: it carries its schedule.
    Own(Timing),
    /// Server: the id of a shared one.
    Shared(String),
}

/// A schedule of a Server: of all its sites.
pub(super) struct Schedule {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) priority: u8,
    pub(super) timing: Timing,
    pub(super) suspended: bool,
    pub(super) created: Instant,
    pub(super) updated: Instant,
}

/// Everything of section 6 that changes.
#[derive(Default)]
pub(super) struct Tasks {
    pub(super) all: Vec<Task>,
    pub(super) schedules: Vec<Schedule>,
    /// Jobs that tasks started and that have not been looked at since they ended: job and task.
    running: Vec<(String, String)>,
    /// The jobs that were looked at when they ended, whoever started them.
    seen: usize,
}

impl Tasks {
    pub(super) fn schedule(&self, id: &str) -> Option<&Schedule> {
        self.schedules.iter().find(|schedule| schedule.id == id)
    }

    /// The definition of a task's schedule.
    pub(super) fn timing<'a>(&'a self, task: &'a Task) -> Option<&'a Timing> {
        match &task.when {
            When::Own(timing) => Some(timing),
            When::Shared(id) => self.schedule(id).map(|schedule| &schedule.timing),
        }
    }

    /// When the task runs next, after a moment by Tableau's clock.
    fn next_of(&self, task: &Task, after: Timestamp, config: &Config) -> Option<Timestamp> {
        let shared = match &task.when {
            When::Own(_) => false,
            When::Shared(id) => self.schedule(id).is_none_or(|schedule| schedule.suspended),
        };
        if task.suspended || shared {
            return None;
        }
        self.timing(task)?.next_after(after, &zone(config), config.edition)
    }
}

fn zone(config: &Config) -> TimeZone {
    TimeZone::get(&config.time_zone).unwrap_or(TimeZone::UTC)
}

impl State {
    /// A new task; its id.
    pub(super) fn add_task(
        &mut self,
        site: &str,
        content: &str,
        kind: Kind,
        when: When,
        config: &Config,
        now: Timestamp,
    ) -> String {
        let mut task = Task {
            id: luid(),
            site: site.to_owned(),
            content: content.to_owned(),
            kind,
            when,
            failures: 0,
            suspended: false,
            next: None,
            last: None,
        };
        task.next = self.tasks.next_of(&task, now, config);
        self.tasks.all.push(task);
        self.tasks.all[self.tasks.all.len() - 1].id.clone()
    }

    /// A new shared schedule; its id.
    pub(super) fn add_schedule(&mut self, name: &str, timing: Timing, priority: u8, now: Instant) -> String {
        let id = luid();
        let schedule = Schedule {
            id: id.clone(),
            name: name.to_owned(),
            priority,
            timing,
            suspended: false,
            created: now,
            updated: now,
        };
        self.tasks.schedules.push(schedule);
        id
    }

    /// Works out anew when tasks run next: all, or one.
    pub(super) fn reschedule(&mut self, task: Option<&str>, config: &Config, now: Timestamp) {
        for n in 0..self.tasks.all.len() {
            if task.is_none_or(|id| self.tasks.all[n].id == id) {
                self.tasks.all[n].next = self.tasks.next_of(&self.tasks.all[n], now, config);
            }
        }
    }

    /// Everything that has happened up to `now`. Whether there was anything.
    pub(super) fn advance(&mut self, now: Instant, config: &Config, clock: &Clock) -> bool {
        let mut moved = false;
        while let Some((at, n)) = self.next_task(clock).filter(|(at, _)| *at <= now) {
            self.jobs.advance(at, config.concurrent_jobs);
            self.account(config);
            self.run_task(n, at, config);
            moved = true;
        }
        moved |= self.jobs.advance(now, config.concurrent_jobs);
        self.account(config);
        moved
    }

    /// When something will happen next by itself.
    pub(super) fn next_change(&self, config: &Config, clock: &Clock) -> Option<Instant> {
        let task = self.next_task(clock).map(|(at, _)| at);
        [task, self.jobs.next_change(config.concurrent_jobs)].into_iter().flatten().min()
    }

    fn next_task(&self, clock: &Clock) -> Option<(Instant, usize)> {
        let due = self.tasks.all.iter().enumerate().filter_map(|(n, task)| Some((task.next?, n))).min()?;
        Some((clock.instant(due.0), due.1))
    }

    /// A task's time has come. With a job of the content queued or running its run is left out.
    fn run_task(&mut self, n: usize, at: Instant, config: &Config) {
        let task = &self.tasks.all[n];
        let Some(due) = task.next else { return };
        let (id, content, kind) = (task.id.clone(), task.content.clone(), task.kind);
        let by = RequestedBy::Task { task: id.clone() };
        if let Ok(job) = self.start_refresh(&content, kind, by, "schedule", config, at) {
            let job = job.id.clone();
            self.tasks.running.push((job, id));
        }
        let next = self.tasks.next_of(&self.tasks.all[n], due, config);
        let task = &mut self.tasks.all[n];
        (task.next, task.last) = (next, Some(due));
    }

    /// Counts failures: a task is suspended at the threshold, a success of the content, whoever asked for it, begins anew.
    fn account(&mut self, config: &Config) {
        let Tasks { all, running, seen, .. } = &mut self.tasks;
        running.retain(|(job, task)| {
            let ended = self.jobs.all().iter().find(|known| known.id == *job).and_then(|job| job.end());
            let Some((_, outcome)) = ended else { return true };
            if let Some(task) = all.iter_mut().find(|known| known.id == *task)
                && matches!(outcome, Outcome::Failed { .. })
            {
                task.failures += 1;
                if task.failures >= config.failure_threshold {
                    (task.suspended, task.next) = (true, None);
                }
            }
            false
        });
        let jobs = self.jobs.all();
        while let Some(job) = jobs.get(*seen).filter(|job| job.has_ended()) {
            *seen += 1;
            if job.end().is_some_and(|(_, outcome)| *outcome == Outcome::Success) {
                all.iter_mut().filter(|task| task.content == job.content).for_each(|task| task.failures = 0);
            }
        }
    }

    /// The tasks, for the truth.
    pub(super) fn task_truths(&self) -> Vec<TaskTruth> {
        let contents = || self.sites.iter().flat_map(|site| &site.contents);
        let name = |luid: &str| {
            contents().find(|content| content.luid == luid).map_or_else(String::new, |c| c.name.clone())
        };
        let truth = |task: &Task| TaskTruth {
            id: task.id.clone(),
            content: task.content.clone(),
            name: name(&task.content),
            kind: task.kind,
            timing: self.tasks.timing(task).map(ToString::to_string).unwrap_or_default(),
            schedule: match &task.when {
                When::Own(_) => None,
                When::Shared(id) => self.tasks.schedule(id).map(|schedule| schedule.name.clone()),
            },
            next_run_at: task.next,
            failures: task.failures,
            suspended: task.suspended,
        };
        self.tasks.all.iter().map(truth).collect()
    }

    /// Tasks of content that is gone go with it.
    pub(super) fn drop_tasks_of(&mut self, content: &str) {
        self.tasks.all.retain(|task| task.content != content);
    }
}

/// Whether the account may see and make the schedules of a Server.
pub(super) fn may_administer(config: &Config, state: &State) -> bool {
    config.edition == Edition::Server && !state.no_server_admin
}

#[cfg(test)]
#[path = "tasks_tests.rs"]
mod tests;
