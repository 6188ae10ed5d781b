//! One pass: what it knows, and how it words its outcome in conditions.

use super::{Decision, Desired, Failure, Memory, Note, Observed, Step, WriteKind};
use crate::api::{Drift, FlowDeploymentStatus, Time};
use crate::model::conditions::{Truth, Verdict, reason_of, stamp};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::time::Duration;

/// The arguments of a decision.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) d: &'a Desired,
    pub(super) o: &'a Observed,
    pub(super) status: &'a FlowDeploymentStatus,
    pub(super) now: Timestamp,
}

/// `Ready`, and which of the two absent-unless-True conditions stands beside it.
pub(super) struct Ready {
    truth: Truth,
    reason: &'static str,
    message: String,
    beside: Option<&'static str>,
}

impl Ready {
    pub(super) fn good(reason: &'static str, message: impl Into<String>) -> Self {
        Self { truth: Truth::True, reason, message: message.into(), beside: None }
    }
    /// Working or waiting.
    pub(super) fn working(reason: &'static str, message: impl Into<String>) -> Self {
        Self { truth: Truth::Unknown, reason, message: message.into(), beside: Some("Reconciling") }
    }
    /// Wrong; tried again by itself.
    pub(super) fn wrong(reason: &'static str, message: impl Into<String>) -> Self {
        Self { truth: Truth::False, reason, message: message.into(), beside: None }
    }
    /// Wrong, and only a person can help.
    pub(super) fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self { truth: Truth::False, reason, message: message.into(), beside: Some("Stalled") }
    }
    /// Its Event.
    pub(super) fn note(self) -> Note {
        warned(self.reason, self.message)
    }
    /// Waited for so long that it counts as wrong.
    pub(super) fn overdue(self) -> Self {
        Self { truth: Truth::False, ..self }
    }
}

/// `Drifted`.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Drifted {
    No,
    /// Known, and left: what is so.
    Detected(String),
    CorrectionFailed,
    NotObserved,
}

impl Drifted {
    /// As a status has it.
    pub(super) fn stored(status: &FlowDeploymentStatus) -> Self {
        match reason_of(status, "Drifted") {
            Some("NoDrift") => Self::No,
            Some("CorrectionFailed") => Self::CorrectionFailed,
            Some("DriftDetected") => {
                let told = status.conditions.iter().find(|c| c.type_ == "Drifted");
                Self::Detected(told.map(|c| c.message.clone()).unwrap_or_default())
            }
            _ => Self::NotObserved,
        }
    }

    fn verdict(self) -> Verdict {
        let (truth, reason, message) = match self {
            Self::No => (Truth::False, "NoDrift", "Prefect has the deployment as declared".to_owned()),
            Self::Detected(what) => (Truth::True, "DriftDetected", what),
            Self::CorrectionFailed => (
                Truth::True,
                "CorrectionFailed",
                "Prefect differs from what is declared and refuses the correction; see Ready".to_owned(),
            ),
            Self::NotObserved => {
                (Truth::Unknown, "NotObserved", "Not compared with Prefect since the last change".to_owned())
            }
        };
        Verdict::new("Drifted", truth, reason, message)
    }
}

/// Writes the conditions of a status.
pub(super) fn set(
    status: &mut FlowDeploymentStatus,
    generation: i64,
    ready: Ready,
    drifted: Drifted,
    now: Timestamp,
) {
    let beside =
        ready.beside.map(|kind| Verdict::new(kind, Truth::True, ready.reason, ready.message.clone()));
    let verdicts: Vec<Verdict> =
        [Verdict::new("Ready", ready.truth, ready.reason, ready.message), drifted.verdict()]
            .into_iter()
            .chain(beside)
            .collect();
    stamp(status, &verdicts, generation, now);
}

impl<'a> Pass<'a> {
    /// The stored `Ready`, if it speaks about this generation.
    pub(super) fn ready(&self) -> Option<&'a Condition> {
        let ready = self.status.conditions.iter().find(|c| c.type_ == "Ready")?;
        (self.status.observed_generation == self.d.generation).then_some(ready)
    }

    /// This generation was seen in sync and nothing is known to be wrong since.
    pub(super) fn steady(&self) -> bool {
        self.ready().is_some_and(|r| r.reason == "InSync")
    }

    /// The driver's memory, if it speaks about this generation.
    pub(super) fn memory(&self) -> Option<&'a Memory> {
        self.o.memory.as_ref().filter(|m| m.generation == self.d.generation)
    }

    /// The memory that still holds writes back.
    pub(super) fn waits(&self) -> Option<&'a Memory> {
        self.memory().filter(|m| self.now < m.until)
    }

    /// The stored conditions stay while we work: in sync so far (a correction is no flapping condition), or known to be wrong until the
    /// next try has shown otherwise.
    fn keeps(&self) -> bool {
        let wrong = matches!(
            self.ready().map(|r| r.reason.as_str()),
            Some(
                "InSync" | "RemoteRejected" | "ParametersRejected" | "PermissionDenied" | "WorkPoolNotFound"
            )
        );
        wrong || (self.ready().is_some() && self.memory().is_some_and(|m| m.failure.is_some()))
    }

    /// This status, working on it: `Ready=Unknown/Progressing`, unless the stored conditions stay.
    pub(super) fn working(&self, mut status: FlowDeploymentStatus, message: &str) -> FlowDeploymentStatus {
        if !self.keeps() {
            let drifted = Drifted::stored(&status);
            set(&mut status, self.d.generation, Ready::working("Progressing", message), drifted, self.now);
        }
        status
    }

    /// This status until Prefect has been read (again): what is known stays.
    pub(super) fn waiting(&self, status: FlowDeploymentStatus) -> FlowDeploymentStatus {
        const KEPT: [&str; 3] = ["Progressing", "TargetConflict", "AdoptionRequired"];
        if self.ready().is_some_and(|r| KEPT.contains(&r.reason.as_str())) {
            return status;
        }
        self.working(status, "Waits for the next reading of Prefect")
    }

    /// The stored status with these conditions.
    pub(super) fn with(&self, ready: Ready, drifted: Drifted) -> FlowDeploymentStatus {
        let mut status = self.status.clone();
        set(&mut status, self.d.generation, ready, drifted, self.now);
        status
    }

    /// A decision that keeps the memory and has no notes.
    pub(super) fn decision(&self, status: FlowDeploymentStatus, step: Step) -> Decision {
        Decision { status, step, again: None, notes: Vec::new(), memory: self.memory().cloned() }
    }

    /// Nothing to do now.
    pub(super) fn rest(&self, status: FlowDeploymentStatus) -> Decision {
        self.decision(status, Step::Rest)
    }

    /// Nothing to do before this time.
    pub(super) fn rest_until(&self, status: FlowDeploymentStatus, again: Timestamp) -> Decision {
        Decision { again: Some(again), ..self.rest(status) }
    }

    /// What a remembered failure looks like on the resource; none: it is passing, and the conditions stay.
    pub(super) fn verdict(&self, failure: &(WriteKind, Failure)) -> Option<Ready> {
        let workspace = &self.d.workspace;
        match &failure.1 {
            Failure::WorkPoolNotFound => Some(no_pool(self.d)),
            Failure::ParametersRejected { fields } => Some(Ready::wrong(
                "ParametersRejected",
                format!(
                    "Prefect finds that spec.parameters{} violate the deployment's parameter schema; correct them or \
                     spec.parameterOpenApiSchema",
                    named(fields)
                ),
            )),
            Failure::Invalid { fields } => Some(Ready::wrong(
                "RemoteRejected",
                format!("Prefect does not accept the declared values{}; correct the spec", named(fields)),
            )),
            Failure::Forbidden => Some(Ready::wrong(
                "PermissionDenied",
                format!(
                    "The credentials of workspace `{workspace}` may not do this; give them the right to change deployments"
                ),
            )),
            Failure::Rejected => Some(Ready::wrong(
                "RemoteRejected",
                format!("Prefect refuses to {}; its log says why", doing(failure.0)),
            )),
            Failure::Unauthorized | Failure::Unreachable => Some(unavailable(workspace)),
            Failure::Throttled(_) | Failure::Unavailable | Failure::Ambiguous => None,
        }
    }
}

/// The connection cannot be used while something is due.
pub(super) fn unavailable(workspace: &str) -> Ready {
    Ready::working(
        "ConnectionUnavailable",
        format!("PrefectWorkspace `{workspace}` cannot be used now; its conditions say why"),
    )
}

/// The declared pool is not there.
fn no_pool(d: &Desired) -> Ready {
    let pool = d.fields.get("work_pool_name").and_then(|p| p.as_str()).unwrap_or_default();
    Ready::wrong(
        "WorkPoolNotFound",
        format!("Prefect has no work pool `{pool}`; create it there or correct spec.workPool.name"),
    )
}

/// How long to wait after a failure: a refusal repeats itself (1 min, doubling to 30), a hiccup passes (5 s, doubling to 1 min), and a
/// missing pool is often made right after what needs it, which no event tells (10 s, doubling to 5 min).
pub(super) fn delay(failure: &Failure, tries: u32) -> Duration {
    match failure {
        Failure::Throttled(Some(asked)) => (*asked).max(HICCUP.0),
        Failure::Throttled(None) => doubled(REFUSAL, 1),
        Failure::Unavailable | Failure::Unreachable | Failure::Ambiguous => doubled(HICCUP, tries),
        Failure::WorkPoolNotFound => doubled(ABSENCE, tries),
        Failure::ParametersRejected { .. }
        | Failure::Invalid { .. }
        | Failure::Forbidden
        | Failure::Unauthorized
        | Failure::Rejected => doubled(REFUSAL, tries),
    }
}

/// How long to wait when Prefect acknowledged and the difference stayed: not at first, then as after a refusal.
pub(super) fn patience(tries: u32) -> Duration {
    if tries < 2 { Duration::ZERO } else { doubled(REFUSAL, tries - 1) }
}

const REFUSAL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1800));
const ABSENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
const HICCUP: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

fn doubled((first, most): (Duration, Duration), tries: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(most)
}

fn named(fields: &[String]) -> String {
    if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) }
}

fn doing(kind: WriteKind) -> &'static str {
    match kind {
        WriteKind::Create => "create the deployment",
        WriteKind::Patch => "change the deployment",
        WriteKind::AddSchedule => "add a schedule",
        WriteKind::PutSchedule => "change a schedule",
        WriteKind::DeleteSchedule => "delete a schedule",
        WriteKind::ScheduleRuns => "schedule the deployment's runs again",
        WriteKind::Delete => "delete the deployment",
    }
}

/// A `Normal` Event.
pub(super) fn told(reason: &'static str, message: impl Into<String>) -> Note {
    Note { warning: false, reason, message: message.into() }
}

/// A `Warning` Event.
pub(super) fn warned(reason: &'static str, message: impl Into<String>) -> Note {
    Note { warning: true, reason, message: message.into() }
}

/// Since when lost runs are to be made good.
pub(super) fn repair_since(status: &FlowDeploymentStatus) -> Option<Timestamp> {
    status.pending_write.as_ref().map(|p| p.since.0)
}

/// The status no longer speaks of a deployment.
pub(super) fn forget(status: &mut FlowDeploymentStatus) {
    let FlowDeploymentStatus {
        observed_generation: _,
        deployment_id,
        full_name,
        workspace,
        applied_fields,
        pending_write,
        adopted,
        plan: _,
        last_drift: _,
        conditions: _,
    } = status;
    (*deployment_id, *full_name, *workspace, *pending_write) = (None, None, None, None);
    *adopted = None;
    applied_fields.clear();
}

/// A drift, as status keeps it.
pub(super) fn drift(now: Timestamp, fields: impl IntoIterator<Item = String>) -> Drift {
    Drift { at: Time(now), fields: fields.into_iter().take(64).collect() }
}
