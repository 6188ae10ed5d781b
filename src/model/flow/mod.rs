//! `FlowDeployment`: what one pass does about a Prefect deployment. [`decide`] plans from memory, the controller acts, [`fold`] takes in
//! what was acknowledged. Both are total and touch nothing.
//!
//! The life of a write: `Hold` (finalizer) → `Intend` (status names what will be set, and from when lost runs are made good) →
//! `Do` → the observer reads the deployment again → `Rest`. A crash between any two of them leaves a status from which the next pass
//! goes on.

mod ahead;
mod claim;
mod contest;
mod desired;
mod diff;
mod import;
mod live;
mod outcome;
mod parting;
mod pass;
mod repair;
mod rule;
#[cfg(test)]
mod tests;
mod values;
mod way;

pub use ahead::Ahead;
pub use claim::{Claim, Claimant, Heir, MARK_PREFIX, claim, heir};
pub use desired::{Desired, DesiredSchedule, Place, Unsupported, deletion_policy};
pub use import::{ImportInto, Imported, import, is_marked};
pub use outcome::{fold, unsupported};
pub use values::{NoValue, ValueFrom, Values};

use super::connection::Standing;
use super::deployments::{Deployment, Fields, NewDeployment, NewSchedule};
use super::ids::{DeploymentId, ScheduleId};
use super::tenancy::Access;
use crate::api::{AppliedSecret, FlowDeploymentStatus};
use jiff::Timestamp;
use std::time::Duration;

/// What the observer and the caches know, at one moment, about the deployment at [`Desired::place`].
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The connection of the place.
    pub workspace: WorkspaceView,
    /// Whether the connection that the spec names allows what the spec asks of it.
    pub access: Access,
    /// The one that the spec names, where that is another.
    pub turn: Turn,
    /// The place that the spec names, where that is another.
    pub ahead: Option<Ahead>,
    /// Whether the connection of the place waits for us when it is deleted.
    pub standing: Standing,
    /// The connection that the spec names leads to Prefect Cloud, or nobody knows yet.
    pub cloud: bool,
    /// What became of [`Desired::values_from`].
    pub values: Values,
    /// The deployment of the place's name.
    pub deployment: View<Deployment>,
    /// Whose the place is: see [`claim()`].
    pub claim: Claim,
    /// Another live resource that declares the same deployment, see [`heir()`]: it gets the mark when we leave.
    pub heir: Heir,
    /// Prefect's clock shows at least this (lower bound); none: it has not answered yet.
    pub clock: Option<Timestamp>,
    /// How long after the deletion timestamp a deployment that cannot be deleted is left behind.
    pub cleanup_deadline: Duration,
    /// What the driver kept of the last [`Decision::memory`] of this object; none after a restart.
    pub memory: Option<Memory>,
}

/// The connection, as a dependent sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkspaceView {
    /// There is no such resource.
    Missing,
    /// It cannot be used now; the reason of its `Ready` condition.
    NotReady {
        /// CamelCase.
        reason: String,
    },
    /// Usable.
    Ready,
}

/// Where the connection leads that the spec names, beside the one that status names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// They are the same, or status names none.
    None,
    /// There is no such resource.
    Missing,
    /// Its spec is none that can be read.
    Unusable,
    /// To the same API; and how it stands to its users.
    Same(Standing),
    /// To the same API, and it does not allow this namespace the flow of the deployment.
    Refused,
    /// To another one.
    Elsewhere,
}

/// What the last read says about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View<T> {
    /// Not read yet.
    Unread,
    /// We wrote it, and no read begun since has come back.
    Dirty,
    /// Not there, by two complete reads or by a 404.
    Absent,
    /// There.
    Present(T),
}

/// What one pass comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status to publish where it differs from the stored one; with `Step::Do` the one [`fold`] publishes counts instead.
    pub status: FlowDeploymentStatus,
    /// What to do.
    pub step: Step,
    /// Look again at this time, if nothing wakes the object before.
    pub again: Option<Timestamp>,
    /// Events to emit once the status (or the finalizer) is written.
    pub notes: Vec<Note>,
    /// To be kept by the driver, in memory, and handed back in [`Observed::memory`].
    pub memory: Option<Memory>,
}

/// What a pass does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Publish the status, nothing else.
    Rest,
    /// Add the finalizer, then look again at once.
    Hold,
    /// Remove the finalizer.
    Release,
    /// Publish the status, then look again at once: only then may what it announces be written.
    Intend,
    /// Write outside, in this order, up to the first failure; then [`fold`]. Every written key is `Dirty`, also after a failure.
    Do(Vec<Write>),
}

/// One call to Prefect, in the workspace of [`Desired::place`].
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Make sure of the flow, look the deployment up by name (there: [`Ack::AlreadyThere`], nothing is written), else POST it.
    Create {
        /// Name of the flow.
        flow: String,
        /// The deployment, without schedules.
        new: NewDeployment,
    },
    /// PATCH these fields. Drops future runs.
    Patch {
        /// The deployment.
        id: DeploymentId,
        /// By the server's names.
        fields: Fields,
    },
    /// Add a schedule.
    AddSchedule {
        /// The deployment.
        id: DeploymentId,
        /// The schedule.
        new: NewSchedule,
    },
    /// Put a schedule in place of another, whole. Drops future runs.
    PutSchedule {
        /// The deployment.
        id: DeploymentId,
        /// The schedule replaced; it keeps its id.
        schedule: ScheduleId,
        /// The whole schedule.
        new: NewSchedule,
    },
    /// Delete a schedule. Drops future runs, and those that are late.
    DeleteSchedule {
        /// The deployment.
        id: DeploymentId,
        /// The schedule.
        schedule: ScheduleId,
    },
    /// Read which runs are due and not taken by a worker: [`Ack::Late`]. Changes nothing.
    SeeLate {
        /// The deployment.
        id: DeploymentId,
        /// Those due by then; later ones are asked for by `ScheduleRuns`.
        before: Timestamp,
        /// Not those of these schedules: they go with them.
        leaving: Vec<ScheduleId>,
    },
    /// Ask again for what is due in this stretch.
    RestoreRuns {
        /// The deployment.
        id: DeploymentId,
        /// Its beginning, included.
        from: Timestamp,
        /// Its end, included.
        to: Timestamp,
    },
    /// Ask for the runs from `since` on again.
    ScheduleRuns {
        /// The deployment.
        id: DeploymentId,
        /// Prefect's time before the write that dropped them.
        since: Timestamp,
    },
    /// Delete the deployment.
    Delete {
        /// The deployment.
        id: DeploymentId,
    },
}

/// The kinds of [`Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// [`Write::Create`].
    Create,
    /// [`Write::Patch`].
    Patch,
    /// [`Write::AddSchedule`].
    AddSchedule,
    /// [`Write::PutSchedule`].
    PutSchedule,
    /// [`Write::DeleteSchedule`].
    DeleteSchedule,
    /// [`Write::SeeLate`].
    SeeLate,
    /// [`Write::RestoreRuns`].
    RestoreRuns,
    /// [`Write::ScheduleRuns`].
    ScheduleRuns,
    /// [`Write::Delete`].
    Delete,
}

impl Write {
    /// Its kind.
    pub fn kind(&self) -> WriteKind {
        match self {
            Self::Create { .. } => WriteKind::Create,
            Self::Patch { .. } => WriteKind::Patch,
            Self::AddSchedule { .. } => WriteKind::AddSchedule,
            Self::PutSchedule { .. } => WriteKind::PutSchedule,
            Self::DeleteSchedule { .. } => WriteKind::DeleteSchedule,
            Self::SeeLate { .. } => WriteKind::SeeLate,
            Self::RestoreRuns { .. } => WriteKind::RestoreRuns,
            Self::ScheduleRuns { .. } => WriteKind::ScheduleRuns,
            Self::Delete { .. } => WriteKind::Delete,
        }
    }
}

impl WriteKind {
    /// Whether it makes good what other writes cost.
    pub(super) fn repairs(self) -> bool {
        matches!(self, Self::RestoreRuns | Self::ScheduleRuns)
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The deployment was created.
    Created(DeploymentId),
    /// `Create` found a deployment of that name and wrote nothing.
    AlreadyThere,
    /// `SeeLate` has read when the late runs were due.
    Late(Vec<Timestamp>),
    /// `RestoreRuns` of this stretch is acknowledged.
    Restored {
        /// Its beginning.
        from: Timestamp,
        /// Its end.
        to: Timestamp,
    },
    /// Acknowledged.
    Done(WriteKind),
    /// Not acknowledged; the writes after it were not sent, but for those of [`Self::ends`].
    Failed(WriteKind, Failure),
}

impl Ack {
    /// Whether the writes after it are not sent. A schedule that Prefect refuses for itself keeps no other one from being made.
    pub fn ends(&self) -> bool {
        match self {
            Self::Failed(WriteKind::AddSchedule | WriteKind::PutSchedule, failure) => !failure.is_of_one(),
            Self::Failed(..) | Self::AlreadyThere => true,
            Self::Created(_) | Self::Late(_) | Self::Restored { .. } | Self::Done(_) => false,
        }
    }
}

/// Why a write was not acknowledged. No values, no response bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The work pool does not exist (POST: 404).
    WorkPoolNotFound,
    /// The parameters violate their schema (409 to a PATCH; a POST does not look).
    ParametersRejected {
        /// Names of the parameters, where they are known.
        fields: Vec<String>,
    },
    /// 422.
    Invalid {
        /// Names of fields.
        fields: Vec<String>,
    },
    /// 403, to this part of it.
    Forbidden(Part),
    /// 401.
    Unauthorized,
    /// 429, and how long to wait if it said so.
    Throttled(Option<Duration>),
    /// 503: nothing was done.
    Unavailable,
    /// Not sent.
    Unreachable,
    /// It may or may not have been done: the connection ended.
    Ambiguous,
    /// It may or may not have been done: no answer came in time.
    TimedOut,
    /// 404: what was to be changed is gone.
    NotFound,
    /// 409, not about parameters.
    Conflict,
    /// Another status.
    Rejected(u16),
}

/// A part of a write: each takes a right of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Before a deployment is created: whether there is one.
    Look,
    /// Before a deployment is created: making sure of its flow.
    Flow,
    /// Before a deployment is changed: whether its work pool is there.
    Pool,
    /// The write itself.
    Write,
}

impl Failure {
    /// Prefect refuses what was written, and may well take something else.
    fn is_of_one(&self) -> bool {
        match self {
            Self::ParametersRejected { .. } | Self::Invalid { .. } | Self::Rejected(400..500) => true,
            Self::WorkPoolNotFound
            | Self::Forbidden(_)
            | Self::Unauthorized
            | Self::Throttled(_)
            | Self::Unavailable
            | Self::Unreachable
            | Self::Ambiguous
            | Self::TimedOut
            | Self::NotFound
            | Self::Conflict
            | Self::Rejected(_) => false,
        }
    }

    /// Prefect could not be asked properly; the same write may well succeed a little later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unauthorized
            | Self::Throttled(_)
            | Self::Unavailable
            | Self::Unreachable
            | Self::Ambiguous
            | Self::TimedOut
            | Self::NotFound => true,
            Self::WorkPoolNotFound
            | Self::ParametersRejected { .. }
            | Self::Invalid { .. }
            | Self::Forbidden(_)
            | Self::Conflict
            | Self::Rejected(_) => false,
        }
    }
}

/// What is remembered between two passes, by the driver and not in status: it may be lost at any time and then costs one more try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The generation it speaks about; another generation tries at once.
    pub generation: i64,
    /// The Secrets it speaks about; other values are tried at once.
    pub secrets: Vec<AppliedSecret>,
    /// Tries in a row that did not end in sync.
    pub tries: u32,
    /// Not before this time.
    pub until: Timestamp,
    /// What failed last; none: Prefect acknowledged, yet the difference may have stayed.
    pub failure: Option<(WriteKind, Failure)>,
    /// What was owed from long ago is made good up to this moment, by the rules before a change: the change is next, however late.
    pub paid: Option<Paid>,
    /// Since when a deletion waits for an heir.
    pub waited: Option<Timestamp>,
}

/// What was owed from long ago, and has been made good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// Up to this moment of Prefect's clock.
    pub until: Timestamp,
    /// In how many passes in a row.
    pub passes: u32,
}

impl Memory {
    /// Nothing tried yet, as of now.
    fn of(d: &Desired, o: &Observed, now: Timestamp) -> Self {
        let secrets = o.values.applied();
        Self {
            generation: d.generation,
            secrets,
            tries: 0,
            until: now,
            failure: None,
            paid: None,
            waited: None,
        }
    }
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a `Warning`.
    pub warning: bool,
    /// CamelCase.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// Plans one pass.
pub fn decide(d: &Desired, o: &Observed, status: &FlowDeploymentStatus, now: Timestamp) -> Decision {
    match d.deleting {
        Some(since) => parting::delete(d, o, status, since, now),
        None => live::decide(d, o, status, now),
    }
}
