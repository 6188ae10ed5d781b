//! The trigger machine of `ExtractRefresh` (docs/trigger.md): when an extract is refreshed. Pure.
//!
//! The driver calls [`decide`] with what it knows; if the step is `Post` or `Cancel` it acts and calls [`fold`] with the answer; either way
//! it writes the status that comes back, under the resource version that was decided on, when it differs from the stored one.
//! The policy is read top-down in `decide.rs`; what is learned before it in `marks.rs`, `gate.rs`, `coverage.rs` and `attempt.rs`.

mod attempt;
mod coverage;
mod decide;
mod desired;
mod fold;
mod freshness;
mod gate;
mod holds;
mod kinds;
mod learnt;
mod machine;
mod marks;
mod native;
mod observed;
mod others;
mod recover;
mod report;
mod retry;
mod schedules;
mod selection;
mod target;
mod warning;

pub use attempt::cause;
pub use decide::decide;
pub use fold::{REMOTE_FAILED, fold};
pub use holds::{asks_for_runs, waits_for_runs};
pub use learnt::{Learnt, formers};
pub use native::{EVERY as JOBS_EVERY, reads_jobs};
pub use report::unsupported;
pub use schedules::{
    Ack as ScheduleAck, Declared as DeclaredSchedules, Estate, Failure as ScheduleFailure, Heir,
    Memory as ScheduleMemory, Parting, Schedules, ServerView, Subject, TasksView, Unlisted,
    Write as ScheduleWrite, concerns, fold_schedule, is_ours, parted,
};
pub use selection::{Pasts, Reach, Selection};
pub use target::found_before;
pub use warning::{
    WarningAck, WarningRefusal, WarningWrite, Warnings, WarningsView, fold_warning, part, parted_warning,
};

pub use desired::{
    Backoff, Debounce, Desired, Freshness, ProjectPath, Require, Retry, Source, Target, Unsupported,
    Upstream, check_defaults, feed_of_deployment, feed_of_runs,
};
pub use observed::{
    Apart, Bounds, BudgetView, Claim, Found, InProgress, IntentView, JobList, JobsView, Observed, Seen,
    SiteView, TargetView, Unfinished, UpstreamView,
};

#[cfg(test)]
mod tests;

use crate::api::{Attempt, ExtractRefreshStatus, RefreshType, TargetKind, Time};
use crate::model::ids::{JobId, Luid};
use crate::model::time::ceil_second;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// What a pass comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The complete next status, conditions stamped. Equal to the stored one: nothing is written.
    pub status: ExtractRefreshStatus,
    /// A refresh is about to be started, perhaps after a look: the moment to ask for a place in the site's budget.
    pub starts: bool,
    /// What to do. `Post`, `Cancel` and `Look` come only with a status that equals the stored one in every field of the machine.
    pub step: Step,
    /// Look again at this time, if nothing wakes the resource before.
    pub again: Option<Timestamp>,
    /// What is worth a Kubernetes Event, once the status is written.
    pub notes: Vec<Note>,
}

/// What [`fold`] makes of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// The status to write. After it the driver decides again.
    pub status: ExtractRefreshStatus,
    /// What is worth a Kubernetes Event.
    pub notes: Vec<Note>,
}

/// The one thing a pass does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Publish the status if it differs; if a field of the machine differed, decide again at once.
    Rest,
    /// Publish the status, which holds the intent of this id; once written the id enters the ledger (never sent); decide again at once.
    Intend {
        /// Identity of the intent, also in `status.attempt.id`.
        id: String,
    },
    /// Take the id out of the ledger, send the POST once, note when it ended, [`fold`] the answer.
    Post {
        /// Identity of the intent.
        id: String,
        /// Kind of the content.
        kind: TargetKind,
        /// LUID of the content.
        luid: Luid,
        /// Full or Incremental.
        refresh_type: RefreshType,
    },
    /// Ask the site's observer to read these (publish the status too, if its conditions differ).
    Look {
        /// Jobs to be read by id.
        jobs: BTreeSet<JobId>,
        /// Since when the job list is needed (rows created at or after), if it is.
        list: Option<Timestamp>,
        /// Nothing goes on without these.
        waited_for: bool,
        /// The tasks of the site are to be read as well.
        tasks: bool,
        /// So are the warnings on this data source.
        warnings: Option<Luid>,
    },
    /// Read the tasks of the site (publish the status too, if its conditions differ).
    LookAtTasks,
    /// Read the data quality warnings on this data source, of the site through which the one in status is set.
    LookAtWarnings(Luid),
    /// Change the warning in Tableau; for one with an intent take its id out of the ledger first; [`fold_warning`] what came of it.
    Warn(WarningWrite),
    /// Set the finalizer: something that has to be taken away with the resource is about to be made.
    Hold,
    /// Change schedules in Tableau; for one with an intent take its id out of the ledger first; [`fold_schedule`] what came of it.
    Schedule(ScheduleWrite),
    /// Cancel our job, [`fold`] what came of it.
    Cancel {
        /// The job.
        job: JobId,
    },
}

/// Something that happened: a Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// CamelCase.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// What Tableau answered to a `Post` or a `Cancel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 202: the job is ours.
    Job(JobId),
    /// 409093: a job of this content is queued or running.
    AlreadyQueued,
    /// 403: may hide a queued job.
    Forbidden,
    /// 409090: nothing to refresh.
    NoExtract,
    /// 404.
    NotFound,
    /// 401 after one new sign-in.
    SignInRefused,
    /// 429, and how long to wait if it said so.
    Throttled(Option<Duration>),
    /// Any other 4xx.
    Rejected {
        /// Tableau's code.
        code: String,
    },
    /// The request did not leave this process.
    NotSent,
    /// A job may or may not exist.
    Ambiguous,
    /// What came of a `Cancel`: accepted or not. The job's final state decides.
    CancelSent(Result<(), CancelFailure>),
}

/// Why a job was not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelFailure {
    /// It may not be, or Tableau refuses it: the same again later, unless somebody changes something.
    Refused,
    /// It was not answered, or there was nothing to cancel any more.
    Unknown,
}

/// What the index and the site's observer follow for a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Jobs to be read by id until they ended.
    pub jobs: BTreeSet<JobId>,
    /// Whether the job list is needed, and since when.
    pub list: Option<Timestamp>,
}

/// What to keep reading for a resource with this status.
pub fn interest(s: &ExtractRefreshStatus) -> Interest {
    let Some(attempt) = &s.attempt else { return Interest::default() };
    let followed = attempt.job_id.iter().chain(&attempt.waits_for_job);
    Interest {
        jobs: followed.map(|id| JobId::from(id.as_str())).collect(),
        list: attempt.job_id.is_none().then(|| attempt::list_since(attempt)),
    }
}

/// A pass: what it was given, and what it has to tell.
struct Pass<'a> {
    d: &'a Desired,
    o: &'a Observed,
    now: Timestamp,
    /// The generation that the status will speak about.
    generation: i64,
    notes: Vec<Note>,
}

impl<'a> Pass<'a> {
    fn new(d: &'a Desired, o: &'a Observed, now: Timestamp) -> Self {
        Self { d, o, now, generation: d.generation, notes: Vec::new() }
    }
    /// Tableau's time now, at most, rounded up: what starts from here on contains what is known now. None: Tableau has not answered.
    fn fence(&self) -> Option<Time> {
        self.o.tableau_clock.map(|clock| Time(ceil_second(clock.upper)))
    }
    /// What is known about jobs through the connection of this attempt.
    fn jobs(&self, attempt: &Attempt) -> &'a JobsView {
        match attempt.learnt(&self.d.site) {
            Learnt::Here => &self.o.jobs,
            Learnt::At(_) | Learnt::Unknown => &self.o.apart.jobs,
        }
    }
    /// Tableau's clock where the job of this attempt is.
    fn clock(&self, attempt: &Attempt) -> Option<Bounds> {
        match attempt.learnt(&self.d.site) {
            Learnt::Here => self.o.tableau_clock,
            Learnt::At(_) | Learnt::Unknown => self.o.apart.clock,
        }
    }
    /// Whether the connection of this attempt can be used.
    fn reaches(&self, attempt: &Attempt) -> bool {
        let learnt = attempt.learnt(&self.d.site);
        matches!(learnt::view(self.d, self.o, &learnt), SiteView::Ready { .. })
    }
    fn tell(&mut self, reason: &'static str, message: impl Into<String>) {
        self.notes.push(Note { warning: false, reason, message: message.into() });
    }
    fn warn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.notes.push(Note { warning: true, reason, message: message.into() });
    }
}
