//! What people are told about schedules: `Ready` where only they can help, and `Drifted`.

use super::super::Pass;
use super::want::Refused;
use super::{Failure, Memory};
use crate::api::ExtractRefreshStatus;
use crate::model::conditions::{Truth, Verdict};

/// What the schedules say about the conditions of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// In place of a `Ready` that would be True.
    pub(crate) ready: Option<Verdict>,
    /// `Drifted`; none: there are no schedules to speak of.
    pub(crate) drifted: Option<Verdict>,
}

/// Reasons of `Ready` that come from schedules.
const READY: [&str; 7] = [
    "ScheduleNotExpressible",
    "ServerSchedulePermission",
    "AdoptionRequired",
    "PermissionDenied",
    "RemoteRejected",
    "Observing",
    "Progressing",
];
const DRIFTED: [&str; 4] = ["NoDrift", "DriftDetected", "CorrectionFailed", "NotObserved"];

/// What was told before, where a pass has nothing new to say.
pub(crate) fn kept(s: &ExtractRefreshStatus, ready: bool) -> Told {
    let of = |kind: &'static str, reasons: &[&'static str]| {
        let before = s.conditions.iter().find(|c| c.type_ == kind)?;
        let reason = reasons.iter().find(|reason| **reason == before.reason)?;
        let truth =
            [Truth::True, Truth::False, Truth::Unknown].into_iter().find(|t| t.as_str() == before.status)?;
        Some(Verdict::new(kind, truth, reason, before.message.clone()))
    };
    let ready =
        if ready { of("Ready", &READY).filter(|verdict| verdict.message.contains("chedule")) } else { None };
    Told { ready, drifted: of("Drifted", &DRIFTED) }
}

pub(super) fn progressing() -> Verdict {
    Verdict::new(
        "Ready",
        Truth::Unknown,
        "Progressing",
        "The schedules in Tableau are being made as declared",
    )
}

pub(super) fn refused(refused: &Refused) -> Verdict {
    Verdict::new("Ready", Truth::False, refused.reason, sentence(&refused.message))
}

pub(super) fn drifted(truth: Truth, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict::new("Drifted", truth, reason, message)
}

/// Why a write did not succeed; none: it is only a matter of time.
pub(super) fn failed(memory: &Memory) -> Option<Verdict> {
    let (reason, message) = match (memory.failure.as_ref()?, memory.sharing) {
        (Failure::Forbidden, true) => (
            "ServerSchedulePermission",
            "This account may not make schedules on the server: an administrator of Tableau Server has to make one with this definition, for serverSchedule to name".to_owned(),
        ),
        (Failure::Forbidden, false) => (
            "PermissionDenied",
            "Tableau forbids this account to change the schedules of the target: grant it the right; it is asked again later".to_owned(),
        ),
        (Failure::NotExpressible, _) => (
            "ScheduleNotExpressible",
            "Tableau refuses a schedule of the spec: see its rules for this edition; it is asked again later".to_owned(),
        ),
        (Failure::Rejected(code), _) => {
            ("RemoteRejected", format!("Tableau refuses a schedule of the spec (code {code}); it is asked again later"))
        }
        (Failure::NoExtract | Failure::NotFound | Failure::Exists | Failure::NotSent | Failure::Throttled(_) | Failure::Ambiguous, _) => {
            return None;
        }
    };
    Some(Verdict::new("Ready", Truth::False, reason, message))
}

pub(super) fn observing(p: &Pass, plan: &[String]) -> Option<Verdict> {
    let message = if plan.is_empty() {
        "managementPolicy is Observe; Tableau has the schedules as declared".to_owned()
    } else {
        "managementPolicy is Observe: status.plan says what would be written about schedules".to_owned()
    };
    let observes = p.d.schedules.management == crate::api::ManagementPolicy::Observe;
    observes.then(|| Verdict::new("Ready", Truth::True, "Observing", message))
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
