//! What is known about the world when a resource is decided on.

use super::{Schedules, Warnings};
use crate::model::budget::Limit;
use crate::model::connection::Standing;
use crate::model::ids::{ConnectionName, JobId, Luid, ObjectName, RunId, SiteLuid, StateId};
use crate::model::jobs::{JobAnswer, JobRow};
use crate::model::parameters::Parameters;
use crate::model::runs::StateType;
use crate::model::tenancy::Access;
use crate::model::time::Moment;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything a decision looks at beside the spec and the status. Built from memory only.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The `TableauSite`.
    pub site: SiteView,
    /// Others, through which something in status was learnt ([`super::formers`]).
    pub formers: BTreeMap<ConnectionName, SiteView>,
    /// Those of them that are being deleted, and wait for what is to be taken away through them; and since when.
    pub leaving: BTreeMap<ConnectionName, Timestamp>,
    /// Whether it allows what the spec asks of it; if not, the target is `Unread`.
    pub access: Access,
    /// Whether that connection waits for us when it is deleted.
    pub standing: Standing,
    /// Recognises the credential of the connection, if it has one in use.
    pub credential: Option<String>,
    /// What the target was found to be.
    pub target: TargetView,
    /// Whether this resource may act on it.
    pub claim: Claim,
    /// By the name of the upstream in the spec. A missing entry counts as `Unread`.
    pub upstreams: BTreeMap<String, UpstreamView>,
    /// `creationTimestamp` on Prefect's clock, erring early; `None` until both clocks are known. (Not needed without upstreams.)
    pub baseline: Option<Timestamp>,
    /// What Tableau's clock shows now.
    pub tableau_clock: Option<Bounds>,
    /// What is known about jobs.
    pub jobs: JobsView,
    /// The same, and Tableau's clock, as the connection of the attempt has them, if that is not the one of the spec.
    pub apart: Apart,
    /// What is known of schedules that Tableau runs.
    pub schedules: Schedules,
    /// What is known of our data quality warning in Tableau.
    pub warnings: Warnings,
    /// Whether the site's budget has a place for it.
    pub budget: BudgetView,
    /// What this process knows about the intent of `status.attempt`.
    pub intent: IntentView,
    /// Now, in this process's monotonic time.
    pub moment: Moment,
    /// How long a POST may be on its way and a job list may lag (`--settle`).
    pub settle: Duration,
    /// How long what cannot be taken away is waited for, before it is left behind (`--cleanup-deadline`).
    pub cleanup_deadline: Duration,
    /// Name of this installation, in what it leaves in Tableau.
    pub instance: String,
}

/// What another system's clock shows: at least `lower`, at most `upper`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// At least.
    pub lower: Timestamp,
    /// At most.
    pub upper: Timestamp,
}

/// The connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteView {
    /// No `TableauSite` of that name.
    Missing,
    /// It exists and cannot be used now.
    NotReady {
        /// Why, a reason of the connection's `Ready`.
        reason: &'static str,
    },
    /// Signed in.
    Ready {
        /// The site that is there.
        luid: SiteLuid,
    },
}

/// What the target was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetView {
    /// Not looked up yet.
    Unread,
    /// No such project or content.
    NotFound,
    /// The content that was found by that path and name before lies or is called otherwise now, and none took its place.
    Elsewhere(Found),
    /// Several contents have that path and name: some of them.
    Ambiguous(Vec<Luid>),
    /// The account may not see it.
    Forbidden,
    /// It holds no extract.
    NoExtract(Found),
    /// Here it is.
    Found(Found),
}

/// A content that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The site.
    pub site_luid: SiteLuid,
    /// The content.
    pub luid: Luid,
    /// Path of its project; none in a personal space.
    pub path: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

/// Who may act on the target (docs/trigger.md 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Not known yet.
    Unresolved,
    /// We may.
    Ours,
    /// Ours, once the one that held it before has ended its attempt.
    Busy {
        /// The one that is finishing.
        by: ObjectName,
    },
    /// An older resource has it.
    Taken {
        /// That one.
        by: ObjectName,
    },
}

/// An upstream.
#[derive(Clone, Debug, PartialEq)]
pub enum UpstreamView {
    /// The `FlowDeployment`, the workspace or the deployment in Prefect does not exist.
    Missing {
        /// What is missing, one clause: "`FlowDeployment` orders-nightly does not exist".
        message: String,
        /// An object of the cluster is missing (files come in any order), rather than something in Prefect.
        reference: bool,
    },
    /// The connection does not let its runs be seen.
    Denied {
        /// What is wrong and what to do, in one sentence.
        message: String,
    },
    /// Not read yet.
    Unread {
        /// Its key ([`super::key`]), if known already.
        key: Option<String>,
        /// Prefect's clock, if it is known already.
        clock: Option<Bounds>,
        /// Completions before the last day may count, and could not be read several times: it is tried again.
        stuck: bool,
    },
    /// Read.
    Read {
        /// Its key ([`super::key`]).
        key: String,
        /// Terminal states that count (COMPLETED, no reports of our own, none that `excludeStateNames` names), in any order, all that this process
        /// knows of.
        occasions: Vec<Seen>,
        /// Older completions may count, and were not looked at: there are too many others.
        given_up: bool,
        /// The newest run with the parameters that are meant that ended, however it ended.
        newest_ended: Option<(StateType, RunId)>,
        /// The deployment is paused.
        paused: bool,
        /// Runs of it that are in progress; none: not asked, which is done only for those who wait for them.
        running: Option<InProgress>,
        /// What Prefect's clock shows now.
        clock: Bounds,
    },
}

/// What Prefect answered to the question for runs in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InProgress {
    /// Just before it was asked, this process's wall time: what was owed before is what the answer is about.
    pub asked: Timestamp,
    /// No other run is in progress; false: there were too many to read.
    pub complete: bool,
    /// The runs, in any order.
    pub runs: Vec<Unfinished>,
}

/// A run in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The run.
    pub run: RunId,
    /// Type of its state; SCHEDULED: it waits for a retry.
    pub state: StateType,
    /// Timestamp of its state, Prefect's time.
    pub since: Timestamp,
    /// Parameters of the run.
    pub parameters: Parameters,
}

/// An occasion as read from Prefect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The run.
    pub run: RunId,
    /// Its state: the identity of the occasion.
    pub state: StateId,
    /// The state's name: `Completed`, `Cached`, or any a user chose.
    pub state_name: Arc<str>,
    /// Timestamp of the state, Prefect's time.
    pub at: Timestamp,
    /// Parameters of the run.
    pub parameters: Parameters,
    /// When the run started, else when it was expected to.
    pub started_at: Option<Timestamp>,
    /// When this process first published a snapshot that holds it.
    pub published: Moment,
}

/// What is known through the connection of the attempt, where the spec names another.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// About jobs.
    pub jobs: JobsView,
    /// What Tableau's clock shows now.
    pub clock: Option<Bounds>,
}

/// What is known about jobs of the site.
#[derive(Clone, Debug, Default)]
pub struct JobsView {
    /// The job list.
    pub list: JobList,
    /// Jobs read by id: the last answer each.
    pub details: BTreeMap<JobId, JobAnswer>,
    /// No more may be asked about jobs until about then.
    pub used_up: Option<Timestamp>,
}

/// The job list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JobList {
    /// Not read yet.
    #[default]
    Unread,
    /// The credential may not read it.
    NotAllowed,
    /// A complete read.
    Read {
        /// Just before its first request went out.
        asked: Moment,
        /// Just after its last answer was in.
        answered: Moment,
        /// It holds every row created at or after this, Tableau's time.
        since: Timestamp,
        /// Its rows.
        rows: Arc<[JobRow]>,
    },
}

/// What the budget of the site says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetView {
    /// Not asked, or there is a place: it is asked only for what is about to start.
    Free,
    /// Others have their turn first.
    Held {
        /// Which limit is reached.
        by: Limit,
        /// About when its turn comes; none: when a refresh of ours ends.
        until: Option<Timestamp>,
    },
}

/// What this process knows about the stored intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentView {
    /// No attempt is stored, or it has a job.
    None,
    /// Written by this process and never sent.
    InLedger,
    /// It may have been sent.
    MaybeSent {
        /// The settle time counts from here: the end of this process's own last POST of it, else its first sight of the intent.
        since: Moment,
    },
}
