//! What people are told about schedules: `Ready` where only they can help, and `Drifted`.

use super::super::Pass;
use super::Failure;
use super::memory::{About, Tried};
use super::want::Refused;
use crate::api::ExtractRefreshStatus;
use crate::model::conditions::{Truth, Verdict};
use crate::model::ids::ConnectionName;

/// What the schedules say about the conditions of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// In place of a `Ready` that would be True.
    pub(crate) ready: Option<Verdict>,
    /// `Drifted`; none: there are no schedules to speak of.
    pub(crate) drifted: Option<Verdict>,
}

/// Reasons of `Ready` that come from schedules.
const READY: [&str; 8] = [
    "ScheduleNotExpressible",
    "ServerSchedulePermission",
    "AdoptionRequired",
    "PermissionDenied",
    "RemoteRejected",
    "NoExtract",
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

/// What was made through another connection than the one of the spec is taken away first.
pub(super) fn departing(site: &ConnectionName) -> Verdict {
    let message = format!(
        "The schedules that were made through {} are being taken away there, before they are made through the connection that the spec names now",
        site.site()
    );
    Verdict::new("Ready", Truth::Unknown, "Progressing", message)
}

/// Nothing new is made through a connection that is being deleted.
pub(super) fn shut(site: &ConnectionName) -> Verdict {
    Verdict::new(
        "Ready",
        Truth::Unknown,
        "ConnectionUnavailable",
        format!(
            "{} is being deleted, so no schedule is made through it; create it anew once it is gone, or correct spec.siteRef",
            site.site()
        ),
    )
}

pub(super) fn refused(refused: &Refused) -> Verdict {
    Verdict::new("Ready", Truth::False, refused.reason, sentence(&refused.message))
}

pub(super) fn drifted(truth: Truth, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict::new("Drifted", truth, reason, message)
}

/// Why a write did not succeed, and what to do; none: it is only a matter of time.
pub(super) fn failed(about: &About, tried: &Tried) -> Option<Verdict> {
    let what = &tried.what;
    let (reason, message) = match tried.failure.as_ref()? {
        Failure::Forbidden if matches!(about, About::Shared(_)) => (
            "ServerSchedulePermission",
            format!(
                "This account may not make schedules on the server: an administrator of Tableau Server has to make {what} for extracts, or another one for serverSchedule to name"
            ),
        ),
        Failure::Forbidden => (
            "PermissionDenied",
            format!(
                "Tableau forbids this account to change {what}: make it the owner of the target or a leader of its project; it is asked again later"
            ),
        ),
        Failure::NotAllowed => (
            "AccessDenied",
            format!(
                "The task of {what} refreshes something that the connection does not allow to this namespace: ask whoever keeps it for an entry in its spec.allow"
            ),
        ),
        Failure::NotExpressible => (
            "ScheduleNotExpressible",
            format!("Tableau cannot run {what} of the spec: change it by its rules for this edition"),
        ),
        Failure::NoExtract => (
            "NoExtract",
            format!(
                "Tableau says that the target holds no extract, which {what} needs: publish it with one; it is asked again later"
            ),
        ),
        Failure::Rejected(code) => (
            "RemoteRejected",
            format!(
                "Tableau refuses {what} (code {code}): see what the code means at Tableau; it is asked again later"
            ),
        ),
        Failure::NotFound
        | Failure::Exists
        | Failure::NotSent
        | Failure::Throttled(_)
        | Failure::Ambiguous => {
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

/// Why a deletion does not succeed, as a clause; none: it is only a matter of time.
pub(super) fn undeletable(tried: &Tried) -> Option<String> {
    match tried.failure.as_ref()? {
        Failure::Forbidden => Some(format!(
            "while Tableau forbids this account to delete {}: make it the owner of the target or a leader of its project",
            tried.what
        )),
        Failure::Rejected(code) => {
            Some(format!("while Tableau refuses to delete {} (code {code})", tried.what))
        }
        // What is not allowed is not waited for.
        Failure::NotAllowed
        | Failure::NotExpressible
        | Failure::NoExtract
        | Failure::NotFound
        | Failure::Exists
        | Failure::NotSent
        | Failure::Throttled(_)
        | Failure::Ambiguous => None,
    }
}

/// A task that was ours, and is kept from this account.
pub(super) fn hidden(name: &str) -> Verdict {
    let message = format!(
        "Tableau keeps schedule `{name}` from this account, which made it: make the account the owner of the target or a leader of its project again"
    );
    Verdict::new("Ready", Truth::False, "PermissionDenied", message)
}

pub(super) fn unlistable() -> Verdict {
    Verdict::new(
        "Ready",
        Truth::False,
        "PermissionDenied",
        "Tableau forbids this account to list the schedules of the site: grant it a role that may; it is asked again later",
    )
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
