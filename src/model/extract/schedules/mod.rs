//! The schedules of an extract that Tableau runs by itself: what is written so that Tableau has those that are declared, no more.
//!
//! A task in Tableau can hold no mark, and making one cannot be repeated safely. So the ids in status are the only proof of what is ours, and a
//! task is made write-ahead: the intent names the tasks that are there before; another one of its definition, later, is ours.

mod fold;
mod former;
mod heir;
mod intent;
mod keep;
mod memory;
mod parting;
mod plan;
mod told;
mod want;

pub use fold::fold_schedule;
pub use heir::{Estate, Heir};
pub use memory::Memory;
pub(super) use parting::{Leaving, leaving, part};
pub use parting::{Parting, parted};
pub(super) use plan::{Act, plan};
pub(super) use told::{Told, kept};
pub use want::is_ours;

use super::observed::IntentView;
use crate::api::{
    AdoptionPolicy, DeletionPolicy, DriftMode, Edition, ExtractRefreshStatus, ForeignSchedules,
    ManagementPolicy, RefreshType, SuspendedSchedules, TableauSchedule, TargetKind,
};
use crate::model::ids::{ConnectionName, Luid, ServerScheduleId, TaskId};
use crate::model::tasks::{ServerSchedule, Task, TaskSchedule};
use crate::model::time::Moment;
use crate::model::timing::Timing;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the spec says about schedules.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// The schedules; which of them the site can run is for its edition to say.
    pub all: Vec<TableauSchedule>,
    /// Those of others.
    pub foreign: ForeignSchedules,
    /// Those that Tableau suspends.
    pub suspended: SuspendedSchedules,
    /// Those that people change.
    pub drift: DriftMode,
    /// Whether anything is written.
    pub management: ManagementPolicy,
    /// Those that are there already.
    pub adoption: AdoptionPolicy,
    /// What becomes of them with the resource.
    pub deletion: DeletionPolicy,
    /// Our finalizer is on the resource.
    pub has_finalizer: bool,
}

impl Declared {
    /// Nothing is declared, everything unset.
    pub fn nothing() -> Self {
        Self {
            all: Vec::new(),
            foreign: ForeignSchedules::Report,
            suspended: SuspendedSchedules::Report,
            drift: DriftMode::Enabled,
            management: ManagementPolicy::Manage,
            adoption: AdoptionPolicy::Fail,
            deletion: DeletionPolicy::Delete,
            has_finalizer: false,
        }
    }
}

/// Whether a resource has anything to do with tasks, so that they are read at all.
pub fn concerns(declared: &Declared, s: &ExtractRefreshStatus) -> bool {
    !declared.all.is_empty()
        || declared.foreign == ForeignSchedules::Remove
        || !s.schedules.is_empty()
        || s.schedule_intent.is_some()
}

/// What is known of tasks and schedules.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedules {
    /// Cloud or Server.
    pub edition: Edition,
    /// The tasks.
    pub tasks: TasksView,
    /// The tasks of the intent's content as another connection than the one of the spec has them, if it is made through another.
    pub former_tasks: TasksView,
    /// The shared schedules.
    pub server: ServerView,
    /// What this process knows of the intent in status.
    pub intent: IntentView,
    /// What the driver kept of the last [`Memory`] of this object; none after a restart.
    pub memory: Option<Memory>,
    /// What the resource that goes, and whose target this one waits for, would take with it.
    pub estate: Option<Estate>,
    /// Who waits for the target of this one, which goes.
    pub heir: Option<Heir>,
}

impl Schedules {
    /// Nothing is known, as of a resource that has nothing to do with schedules.
    pub fn nothing() -> Self {
        Self {
            edition: Edition::Server,
            tasks: TasksView::Unread,
            former_tasks: TasksView::Unread,
            server: ServerView::Unread,
            intent: IntentView::None,
            memory: None,
            estate: None,
            heir: None,
        }
    }
}

/// The tasks of the site, as far as they concern one resource.
#[derive(Clone, Debug, PartialEq)]
pub enum TasksView {
    /// Not read yet.
    Unread,
    /// We wrote, and no read begun since has come back.
    Dirty,
    /// The account may not list them.
    Forbidden,
    /// Read, and what is missing was missing twice.
    Read {
        /// Just before the request went out.
        asked: Moment,
        /// Tasks of the target and tasks in status.
        tasks: Vec<Task>,
        /// Tasks in status that the list leaves out, as far as they were asked for by their ids.
        unlisted: BTreeMap<TaskId, Unlisted>,
    },
}

/// What Tableau says of a task that its list leaves out, asked for it by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// 404: it is deleted.
    Gone,
    /// 403: it may be there.
    Hidden,
    /// Neither: it is asked for again.
    Unclear,
}

/// The shared schedules of a Server.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerView {
    /// Not read, or there are none by nature (Cloud).
    Unread,
    /// The account may not list them.
    Forbidden,
    /// Read.
    Read(Vec<ServerSchedule>),
}

/// One call to Tableau about schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Cloud: make a task. By intent.
    Create {
        /// The intent, also in status.
        intent: String,
        /// Name in the spec.
        name: String,
        /// What it refreshes.
        content: Subject,
        /// When.
        timing: Timing,
    },
    /// Server: add the content to a shared schedule. By intent.
    Attach {
        /// The intent, also in status.
        intent: String,
        /// Name in the spec.
        name: String,
        /// What it refreshes.
        content: Subject,
        /// When.
        schedule: ServerScheduleId,
    },
    /// Cloud: change when a task runs.
    Update {
        /// Name in the spec.
        name: String,
        /// The task.
        task: TaskId,
        /// When.
        timing: Timing,
    },
    /// Delete a task.
    Delete {
        /// Through this connection, through which its id was learnt.
        site: ConnectionName,
        /// The task.
        task: TaskId,
    },
    /// Server: make a shared schedule. Its name is unique, so that repeating it makes no second.
    MakeShared {
        /// For which content: its tasks are not planned on until the schedules are read again.
        content: Luid,
        /// Its name.
        name: String,
        /// When.
        timing: Timing,
    },
}

impl Write {
    /// The connection that it goes through, if that need not be the one of the spec.
    pub fn site(&self) -> Option<&ConnectionName> {
        match self {
            Self::Delete { site, .. } => Some(site),
            Self::Create { .. } | Self::Attach { .. } | Self::Update { .. } | Self::MakeShared { .. } => None,
        }
    }

    /// The intent it spends.
    pub fn intent(&self) -> Option<&str> {
        match self {
            Self::Create { intent, .. } | Self::Attach { intent, .. } => Some(intent),
            Self::Update { .. } | Self::Delete { .. } | Self::MakeShared { .. } => None,
        }
    }
}

/// What a task refreshes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Data source or workbook.
    pub kind: TargetKind,
    /// Its LUID.
    pub luid: Luid,
    /// Full or Incremental.
    pub refresh_type: RefreshType,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Acknowledged; the new task, where the answer names it.
    Done(Option<TaskId>),
    /// Not acknowledged.
    Failed(Failure),
}

/// Why a write was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 409004: the site cannot run this schedule.
    NotExpressible,
    /// 403.
    Forbidden,
    /// Not sent: the connection of the cluster does not allow the namespace what the task refreshes.
    NotAllowed,
    /// 409090: nothing to refresh.
    NoExtract,
    /// 404: the content, the task or the schedule is not there any more.
    NotFound,
    /// 401, or it did not leave this process.
    NotSent,
    /// 429, and how long to wait if it said so.
    Throttled(Option<Duration>),
    /// 409 to a shared schedule: somebody has just made one of that name.
    Exists,
    /// Any other 4xx, by Tableau's code.
    Rejected(String),
    /// It may or may not have been done.
    Ambiguous,
}

/// A definition with what it refreshes by: what status and intents say, and equal exactly if the tasks do the same.
pub(super) fn told_definition(when: &str, refresh_type: RefreshType) -> String {
    format!("{when}, {refresh_type:?}")
}

/// The same of a task; one that this build does not understand is like nothing that is declared.
pub(super) fn definition_of(task: &Task) -> String {
    let when = match &task.schedule {
        // Only on Cloud does a task carry its own.
        TaskSchedule::Own(Some(timing)) => timing.told(Edition::Cloud),
        TaskSchedule::Own(None) => "a schedule that this version does not understand".to_owned(),
        TaskSchedule::Shared { name, .. } => shared(name),
    };
    told_definition(&when, task.refresh_type)
}

fn shared(name: &str) -> String {
    format!("server schedule `{name}`")
}
