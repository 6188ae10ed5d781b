//! What an answer changes (docs/trigger.md 4.4).

use super::observed::IntentView;
use super::{Answer, CancelFailure, Folded, Pass, decide, kinds, report, retry, schedules};
use super::{Desired, Observed};
use crate::api::{Attempt, AttemptPhase, ExtractRefreshStatus, JobOrigin, Time};
use crate::model::time::add;
use jiff::Timestamp;
use std::time::Duration;

/// `owed.refused`: what Tableau said no to. A reason of `Ready`, where the target is wrong, else of `Refreshing`.
pub(super) const PERMISSION_DENIED: &str = "PermissionDenied";
pub(super) const CONNECTION_UNAVAILABLE: &str = "ConnectionUnavailable";
pub(super) const HELD_BY_BUDGET: &str = "HeldByBudget";
const NO_EXTRACT: &str = "NoExtract";
const TARGET_NOT_FOUND: &str = "TargetNotFound";
const REMOTE_REJECTED: &str = "RemoteRejected";
/// A start was not answered, more than once.
pub const REMOTE_FAILED: &str = "RemoteFailed";

/// How long a cancel may take before it is sent again, and how long a 429 without a time is taken to mean.
const CANCEL_AGAIN: Duration = Duration::from_secs(60);
const THROTTLED: Duration = Duration::from_secs(60);

/// Folds what was answered into `s`: the status the act was decided on, or a newer one read after a conflict. `sent` is the attempt that was
/// acted for. Facts are acknowledged, never what was planned.
pub fn fold(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    sent: &Attempt,
    answer: Answer,
    now: Timestamp,
) -> Folded {
    // It is no longer in the ledger, whatever was known when the act was decided.
    let o = Observed { intent: IntentView::MaybeSent { since: o.moment }, ..o.clone() };
    // An edit that came meanwhile is for `decide` to notice.
    let mut p = Pass { generation: s.observed_generation, ..Pass::new(d, &o, now) };
    let mut next = s.clone();
    match next.attempt.as_ref() {
        Some(attempt) if attempt.id == sent.id => apply(&mut p, &mut next, answer),
        // Somebody else wrote meanwhile; that a job runs is a fact all the same.
        Some(_) | None => revive(&mut p, &mut next, sent, answer),
    }
    let activity = decide::choose(&p, &next);
    let told = schedules::kept(&next, true);
    report::stamp(&p, &mut next, &activity, &told);
    Folded { status: next, notes: p.notes }
}

fn revive(p: &mut Pass, s: &mut ExtractRefreshStatus, sent: &Attempt, answer: Answer) {
    let Answer::Job(job) = &answer else { return };
    let id = Some(job.as_str().to_owned());
    let known =
        s.history.iter().any(|h| h.job_id == id) || s.attempt.as_ref().is_some_and(|a| a.job_id == id);
    if known {
        return;
    }
    if s.attempt.is_none() {
        s.attempt = Some(sent.clone());
        apply(p, s, answer);
    } else {
        p.warn(
            "RefreshUnfollowed",
            "Another attempt was written while a refresh was started; it is not followed",
        );
    }
}

/// Which answers are never tried again at once: all that refuse. None of them counts as a try.
fn apply(p: &mut Pass, s: &mut ExtractRefreshStatus, answer: Answer) {
    let Some(attempt) = &mut s.attempt else { return };
    let incremental = kinds::may_fall_back(p, attempt);
    let (reason, told) = match answer {
        Answer::Job(job) => {
            attempt.phase = AttemptPhase::Submitted;
            attempt.job_id = Some(job.as_str().to_owned());
            attempt.origin = Some(JobOrigin::Ours);
            (attempt.blocked, attempt.not_before, attempt.waits_for_job) = (0, None, None);
            retry::under_way(s);
            return p.tell("RefreshStarted", "A refresh is queued in Tableau");
        }
        Answer::AlreadyQueued | Answer::Forbidden => {
            attempt.blocked = (attempt.blocked + 1).min(1000);
            attempt.not_before = Some(retry::blocked_until(p, attempt.blocked));
            let forbidden = answer == Answer::Forbidden;
            if let Some(owed) = &mut s.owed {
                owed.refused = forbidden.then(|| PERMISSION_DENIED.to_owned());
            }
            return;
        }
        // Recovery finds out.
        Answer::Ambiguous => return,
        // The final state of the job decides; whether Tableau took the cancel does not.
        Answer::CancelSent(Ok(()) | Err(CancelFailure::Unknown)) => {
            attempt.blocked = 0;
            attempt.not_before = Some(Time(add(p.now, CANCEL_AGAIN)));
            return;
        }
        Answer::CancelSent(Err(CancelFailure::Refused)) => {
            attempt.blocked = (attempt.blocked + 1).min(1000);
            attempt.not_before = Some(retry::uncancelled_until(p, attempt.blocked));
            if attempt.blocked == 1 {
                p.warn("CancelRefused", report::UNCANCELLED);
            }
            return;
        }
        Answer::NoExtract => (NO_EXTRACT, None),
        Answer::NotFound => (TARGET_NOT_FOUND, None),
        Answer::SignInRefused | Answer::NotSent => (CONNECTION_UNAVAILABLE, None),
        Answer::Throttled(told) => (HELD_BY_BUDGET, Some(told.unwrap_or(THROTTLED))),
        // A bad request, where nothing but the type can be bad; Tableau's own codes have six digits, and what stands before it says 400 alone.
        Answer::Rejected { code } if incremental && code.starts_with("400") && code != "400" => {
            s.attempt = None;
            kinds::fall_back(s);
            return p.warn(
                "FellBackToFull",
                "Tableau refuses an incremental refresh; a full one is started instead",
            );
        }
        Answer::Rejected { code } => {
            s.attempt = None;
            retry::refused(p, s, REMOTE_REJECTED, None);
            return p.warn("RefreshRefused", format!("Tableau refuses the refresh with code {code}"));
        }
    };
    s.attempt = None;
    retry::refused(p, s, reason, told);
    if reason != CONNECTION_UNAVAILABLE && reason != HELD_BY_BUDGET {
        p.warn("RefreshRefused", report::refusal(reason).unwrap_or("Tableau refuses the refresh"));
    }
}
