//! One pass: what it knows, and how it words its outcome in conditions.

use super::{Decision, Desired, Failure, Memory, Note, Observed, Part, Step, Values, WriteKind};
use crate::api::{Drift, FlowDeploymentStatus, Time};
use crate::model::conditions::{Truth, Verdict, reason_of, stamp};
use crate::model::ids::ConnectionName;
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
    /// With more to be said.
    pub(super) fn and(self, more: &str) -> Self {
        Self { message: self.message + more, ..self }
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
    /// Others have the last word for now: what is so.
    Contested(String),
    CorrectionFailed,
    NotObserved,
}

impl Drifted {
    /// As a status has it.
    pub(super) fn stored(status: &FlowDeploymentStatus) -> Self {
        match reason_of(status, "Drifted") {
            Some("NoDrift") => Self::No,
            Some("CorrectionFailed") => Self::CorrectionFailed,
            Some("DriftDetected") => Self::Detected(Self::message(status)),
            Some("DriftContested") => Self::Contested(Self::message(status)),
            _ => Self::NotObserved,
        }
    }

    fn message(status: &FlowDeploymentStatus) -> String {
        let told = status.conditions.iter().find(|c| c.type_ == "Drifted");
        told.map(|c| c.message.clone()).unwrap_or_default()
    }

    fn verdict(self) -> Verdict {
        let (truth, reason, message) = match self {
            Self::No => (Truth::False, "NoDrift", "Prefect has the deployment as declared".to_owned()),
            Self::Detected(what) => (Truth::True, "DriftDetected", what),
            Self::Contested(what) => (Truth::True, "DriftContested", what),
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
    if status.observed_generation != generation {
        // A new word of ours: who has the last one is found out anew.
        (status.corrections, status.contested) = (Vec::new(), Vec::new());
    }
    // "No drift" is said only where the comparison with what is declared now was made.
    let drifted =
        if drifted == Drifted::No && ready.truth != Truth::True { Drifted::NotObserved } else { drifted };
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

    /// The deployment had all of this generation once, whatever has become of the connection, of claims or of this process since: what differs
    /// now was changed by others. (An earlier build did not write that down.)
    pub(super) fn applied(&self) -> bool {
        match self.status.in_sync_generation {
            Some(generation) => generation == self.d.generation,
            None => self.steady(),
        }
    }

    /// The driver's memory, if it speaks about this generation and these Secrets.
    pub(super) fn memory(&self) -> Option<&'a Memory> {
        let same = |m: &&Memory| m.generation == self.d.generation && !self.rotated_since(m);
        self.o.memory.as_ref().filter(same)
    }

    /// Other values are to be written than when this was remembered.
    fn rotated_since(&self, memory: &Memory) -> bool {
        matches!(self.o.values, Values::Put(_)) && self.o.values.applied() != memory.secrets
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
                "InSync"
                    | "ParametersRejected"
                    | "PermissionDenied"
                    | "RemoteConflict"
                    | "RemoteFailed"
                    | "RemoteRejected"
                    | "WorkPoolNotFound"
                    | "SecretNotFound"
                    | "SecretKeyMissing"
                    | "SecretAccessDenied"
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
                format!(
                    "Prefect does not accept the declared values{}; correct the spec{}{}",
                    named(fields),
                    hint(fields),
                    without(failure.0)
                ),
            )),
            Failure::Forbidden(part) => Some(Ready::wrong(
                "PermissionDenied",
                format!(
                    "The credentials of workspace `{workspace}` may not {}; give them that right in Prefect, or let them through in a proxy \
                     before it",
                    part_of(failure.0, *part)
                ),
            )),
            Failure::Conflict => Some(Ready::wrong(
                "RemoteConflict",
                format!(
                    "Prefect cannot {} because of something else that it has; look there for what has that name already, and rename one of \
                     the two",
                    doing(failure.0)
                ),
            )),
            Failure::Rejected(status) => Some(Ready::wrong(
                "RemoteFailed",
                format!("Prefect answers with status {status} when it is to {}; its log says why", doing(failure.0)),
            )),
            Failure::Unauthorized | Failure::Unreachable => Some(unavailable(workspace)),
            Failure::NotFound => self.passing(
                "RemoteNotFound",
                "What was to be changed is gone from Prefect; it is read again and made anew where it is declared".to_owned(),
            ),
            Failure::Throttled(_) => self.passing(
                "RateLimited",
                format!(
                    "Prefect asks to slow down (status 429); the change is sent later, and a lower limits.maxConcurrentWrites or a longer \
                     pollInterval of workspace `{workspace}` asks less"
                ),
            ),
            Failure::Unavailable => self.passing(
                "ServiceUnavailable",
                "Prefect is too busy to write or its database is away (status 503); the change is sent again soon".to_owned(),
            ),
            Failure::Ambiguous => self.passing(
                "ConnectionLost",
                format!(
                    "The connection ended before Prefect said whether it could {}; it is read again before anything is sent",
                    doing(failure.0)
                ),
            ),
            Failure::TimedOut => self.passing(
                "TimedOut",
                format!(
                    "Prefect did not say in time whether it could {}; it is read again before anything is sent",
                    doing(failure.0)
                ),
            ),
        }
    }

    /// What passes by itself is told of a resource that was not in sync yet; of one that was, when it has lasted for a few tries.
    fn passing(&self, reason: &'static str, message: String) -> Option<Ready> {
        let lasts = self.memory().is_some_and(|memory| memory.tries >= LASTING);
        (!self.steady() || lasts).then(|| Ready::working(reason, message))
    }
}

/// Tries in a row after which a hiccup is told.
const LASTING: u32 = 3;

/// The connection cannot be used while something is due.
pub(super) fn unavailable(workspace: &ConnectionName) -> Ready {
    Ready::working(
        "ConnectionUnavailable",
        format!("{} cannot be used now; its conditions say why", workspace.workspace()),
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
/// missing pool is often made right after what needs it, which no event tells (10 s, doubling to 5 min). A 503 says nothing of this resource
/// but that the server is busy, for which `Pace` holds back all writes to it: who met it several times in a row waits no longer than its
/// neighbours.
pub(super) fn delay(failure: &Failure, tries: u32) -> Duration {
    match failure {
        Failure::Throttled(Some(asked)) => (*asked).clamp(HICCUP.0, MOST_ASKED),
        Failure::Throttled(None) => doubled(REFUSAL, 1),
        Failure::Unavailable => HICCUP.0,
        Failure::Unreachable | Failure::Ambiguous | Failure::TimedOut | Failure::NotFound => {
            doubled(HICCUP, tries)
        }
        Failure::WorkPoolNotFound => doubled(ABSENCE, tries),
        Failure::ParametersRejected { .. }
        | Failure::Invalid { .. }
        | Failure::Forbidden(_)
        | Failure::Unauthorized
        | Failure::Conflict
        | Failure::Rejected(_) => doubled(REFUSAL, tries),
    }
}

/// How long to wait when Prefect acknowledged and the difference stayed: not at first, then as after a refusal.
pub(super) fn patience(tries: u32) -> Duration {
    if tries < 2 { Duration::ZERO } else { doubled(REFUSAL, tries - 1) }
}

/// However long a server or a proxy asks us to stay away.
const MOST_ASKED: Duration = Duration::from_secs(300);
const REFUSAL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1800));
const ABSENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
const HICCUP: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

fn doubled((first, most): (Duration, Duration), tries: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(most)
}

fn named(fields: &[String]) -> String {
    if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) }
}

/// Of a schedule Prefect says only which it is.
fn hint(fields: &[String]) -> &'static str {
    if fields.iter().any(|field| field.starts_with("schedule")) {
        ": a cron expression has five fields in their ranges, an rrule a FREQ, and timeZone is an IANA name such as `Europe/Berlin`"
    } else {
        ""
    }
}

/// A schedule is added to a deployment that is there by then.
fn without(kind: WriteKind) -> &'static str {
    if kind == WriteKind::AddSchedule { ". The deployment is there without it until then" } else { "" }
}

/// What was refused of a write.
pub(super) fn part_of(kind: WriteKind, part: Part) -> &'static str {
    match part {
        Part::Look => "read the deployment",
        Part::Flow => "create its flow",
        Part::Pool => "read its work pool",
        Part::Write => doing(kind),
    }
}

fn doing(kind: WriteKind) -> &'static str {
    match kind {
        WriteKind::Create => "create the deployment",
        WriteKind::Patch => "change the deployment",
        WriteKind::AddSchedule => "add a schedule",
        WriteKind::PutSchedule => "change a schedule",
        WriteKind::DeleteSchedule => "delete a schedule",
        WriteKind::SeeLate => "list the deployment's runs",
        WriteKind::RestoreRuns | WriteKind::ScheduleRuns => "schedule the deployment's runs again",
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

/// The status no longer speaks of a deployment.
pub(super) fn forget(status: &mut FlowDeploymentStatus) {
    let FlowDeploymentStatus {
        observed_generation: _,
        deployment_id,
        full_name,
        workspace,
        applied_fields,
        secrets,
        pending_write,
        in_sync_generation,
        adopted,
        corrections,
        contested,
        plan: _,
        last_drift: _,
        conditions: _,
    } = status;
    (*deployment_id, *full_name, *workspace, *pending_write) = (None, None, None, None);
    (*in_sync_generation, *adopted) = (None, None);
    applied_fields.clear();
    secrets.clear();
    corrections.clear();
    contested.clear();
}

/// Most characters of a field's name in status.
pub(super) const MOST_NAME: usize = 128;
/// Most names in a list in status.
const MOST_NAMES: usize = 64;

/// At most so many characters, with a sign where something is left out: a status that the CRD refuses would stop the resource.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Names in a message.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<String> = names.by_ref().take(MOST_NAMES).map(|name| cut(name, MOST_NAME)).collect();
    shown.extend(names.next().map(|_| "…".to_owned()));
    shown.join(", ")
}

/// A drift, as status keeps it.
pub(super) fn drift(now: Timestamp, fields: impl IntoIterator<Item = String>) -> Drift {
    Drift { at: Time(now), fields: fields.into_iter().take(MOST_NAMES).collect() }
}
