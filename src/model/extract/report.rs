//! What a person reads: conditions and the fields beside the machine (API.md 4).

use super::decide::Activity;
use super::desired::Unsupported;
use super::observed::{Claim, SiteView, TargetView, UpstreamView};
use super::schedules::Told;
use super::target::named;
use super::{Pass, fold, marks};
use crate::api::{
    Duration, Effective, ExtractRefreshStatus, HistoryEntry, Outcome, Stopped, Time, UpstreamStatus,
};
use crate::model::conditions::{self, Truth, Verdict};
use crate::model::runs::StateType;
use crate::model::time::{add, ceil_second};
use jiff::Timestamp;

/// How long a missing reference is only waited for: files come in any order.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// Stamps the conditions and the fields for people; when to look again because a condition changes with time alone.
pub(super) fn stamp(
    p: &Pass,
    s: &mut ExtractRefreshStatus,
    activity: &Activity,
    told: &Told,
) -> Option<Timestamp> {
    s.upstreams = upstreams(p, s);
    s.effective = Some(Effective {
        require: p.d.require.to_string(),
        refresh_type: p.d.refresh_type,
        retry_limit: i32::try_from(p.d.retry.limit).unwrap_or(i32::MAX),
        timeout: duration(p.d.timeout),
        priority: Some(i32::from(p.d.priority)),
    });
    let not_before = s.owed.as_ref().filter(|owed| owed.stopped.is_none()).and_then(|owed| owed.not_before);
    s.next_eligible_time = match activity.eligible {
        None => not_before,
        // About then is good enough: a better guess of the same wait is not worth a write.
        Some(_)
            if s.next_eligible_time.is_some_and(|Time(told)| told > p.now) && holds_still(s, activity) =>
        {
            s.next_eligible_time
        }
        Some(until) => Some(Time(ceil_second(until))),
    };

    let (mut ready, again) = ready(p, s);
    if ready.truth == Truth::True
        && ready.reason != "Suspended"
        && let Some(verdict) = &told.ready
    {
        ready = verdict.clone();
    }
    let refreshing = Verdict::new("Refreshing", activity.truth, activity.reason, activity.message.clone());
    let mut verdicts = vec![ready.clone(), fresh(s), refreshing, last_refresh(s), upstreams_healthy(p, s)];
    verdicts.extend(told.drifted.clone());
    let progressing = ["Progressing", "DependencyNotFound", "ConnectionUnavailable"].contains(&ready.reason);
    if progressing {
        verdicts.push(Verdict { kind: "Reconciling", truth: Truth::True, ..ready });
    } else if STALLED.contains(&ready.reason) {
        verdicts.push(Verdict { kind: "Stalled", truth: Truth::True, ..ready });
    }
    conditions::stamp(s, &verdicts, p.generation, p.now);
    again
}

/// Whether it is held for the same reason as before.
fn holds_still(s: &ExtractRefreshStatus, activity: &Activity) -> bool {
    conditions::reason_of(s, "Refreshing") == Some(activity.reason)
}

/// The status of a spec that this build cannot act on; the state of the machine stays.
pub fn unsupported(
    s: &ExtractRefreshStatus,
    why: &Unsupported,
    generation: i64,
    now: Timestamp,
) -> ExtractRefreshStatus {
    let mut next = s.clone();
    let verdict = |kind, truth| Verdict::new(kind, truth, "UnsupportedSpec", why.message.clone());
    let verdicts =
        [verdict("Stalled", Truth::True), verdict("Ready", Truth::False), fresh(s), last_refresh(s)];
    conditions::stamp(&mut next, &verdicts, generation, now);
    next
}

/// Only a person can help.
const STALLED: [&str; 3] = ["TargetConflict", "AdoptionRequired", "ScheduleNotExpressible"];

fn ready(p: &Pass, s: &ExtractRefreshStatus) -> (Verdict, Option<Timestamp>) {
    let say = |truth, reason, message: String| (Verdict::new("Ready", truth, reason, message), None);
    let target = named(&p.d.target);
    if p.d.suspend {
        return say(Truth::True, "Suspended", "spec.suspend is true".into());
    }
    if let Some(missing) = missing_reference(p) {
        return dependency_not_found(p, s, missing);
    }
    if let Claim::Taken { by } = &p.o.claim {
        return say(
            Truth::False,
            "TargetConflict",
            format!("{target} is refreshed by {by}, which is older: delete one of the two"),
        );
    }
    if let Some(reason) = s.owed.as_ref().and_then(|owed| owed.refused.as_deref())
        && let Some(message) = refusal(reason)
        && let Some(reason) = known(reason)
    {
        return say(Truth::False, reason, message.into());
    }
    match (&p.o.target, &p.o.claim) {
        (TargetView::NotFound, _) => say(
            Truth::False,
            "TargetNotFound",
            format!("{target} is not on the site, or hidden from this account"),
        ),
        (TargetView::Ambiguous, _) => say(
            Truth::False,
            "TargetAmbiguous",
            format!("Several contents are {target}: name one by its luid"),
        ),
        (TargetView::NoExtract(_), _) => {
            say(Truth::False, "NoExtract", format!("{target} holds no extract to refresh"))
        }
        (TargetView::Found(_), Claim::Busy { by }) => {
            say(Truth::Unknown, "Progressing", format!("{by} ends its refresh of {target} first"))
        }
        (TargetView::Found(_), _) => say(Truth::True, "InSync", format!("{target} is found")),
        // A restart or an outage flips nothing that was known of this spec.
        (TargetView::Unread, _) => match kept(p, s, "Ready") {
            Some(kept) => (kept, None),
            None => match p.o.site {
                SiteView::NotReady { reason } => say(
                    Truth::Unknown,
                    "ConnectionUnavailable",
                    format!("TableauSite `{}` is not ready ({reason})", p.d.site),
                ),
                SiteView::Ready { .. } | SiteView::Missing => {
                    say(Truth::Unknown, "Progressing", format!("{target} is being looked up"))
                }
            },
        },
    }
}

fn missing_reference(p: &Pass) -> Option<String> {
    if p.o.site == SiteView::Missing {
        return Some(format!("TableauSite `{}` does not exist", p.d.site));
    }
    p.d.upstreams.iter().find_map(|u| match p.o.upstreams.get(&u.name) {
        Some(UpstreamView::Missing { message, reference: true }) => Some(message.clone()),
        _ => None,
    })
}

fn dependency_not_found(p: &Pass, s: &ExtractRefreshStatus, message: String) -> (Verdict, Option<Timestamp>) {
    const REASON: &str = "DependencyNotFound";
    let before = s.conditions.iter().find(|c| c.type_ == "Ready" && c.reason == REASON);
    let until = before.map_or_else(|| add(p.now, PATIENCE), |c| add(c.last_transition_time.0, PATIENCE));
    let given_up = before.is_some_and(|c| c.status == "False" || until <= p.now);
    let truth = if given_up { Truth::False } else { Truth::Unknown };
    (Verdict::new("Ready", truth, REASON, message), (!given_up).then_some(until))
}

/// The sentence to a refusal that is a matter of the target; none for those that are a matter of time.
pub(super) fn refusal(reason: &str) -> Option<&'static str> {
    Some(match reason {
        fold::PERMISSION_DENIED => {
            "Tableau forbids this account to refresh the target: grant it the right; it is asked again later"
        }
        "NoExtract" => {
            "Tableau says that the target holds no extract: publish it with one; it is asked again later"
        }
        "TargetNotFound" => "Tableau does not have the target any more; it is asked again later",
        "RemoteRejected" => "Tableau refuses the refresh; it is asked again later",
        _ => return None,
    })
}

/// A verdict as it stands, if it is about this generation.
fn kept(p: &Pass, s: &ExtractRefreshStatus, kind: &'static str) -> Option<Verdict> {
    let before =
        s.conditions.iter().find(|c| c.type_ == kind).filter(|_| s.observed_generation == p.generation)?;
    let truth =
        [Truth::True, Truth::False, Truth::Unknown].into_iter().find(|t| t.as_str() == before.status)?;
    Some(Verdict::new(kind, truth, known(&before.reason)?, before.message.clone()))
}

/// Reasons that may be kept or that a refusal names.
fn known(reason: &str) -> Option<&'static str> {
    const KNOWN: [&str; 13] = [
        "InSync",
        "TargetNotFound",
        "TargetAmbiguous",
        "NoExtract",
        "PermissionDenied",
        "RemoteRejected",
        "AllHealthy",
        "UpstreamNotFound",
        "UpstreamFailing",
        "UpstreamPaused",
        "NotObserved",
        "TargetConflict",
        "NoUpstreams",
    ];
    KNOWN.into_iter().find(|k| *k == reason)
}

fn fresh(s: &ExtractRefreshStatus) -> Verdict {
    if s.data_time.is_some() || s.marks.iter().any(|mark| mark.covered.is_some()) {
        return Verdict::new(
            "Fresh",
            Truth::True,
            "UpToDate",
            "The extract was refreshed; status.dataTime says how old its data is",
        );
    }
    Verdict::new(
        "Fresh",
        Truth::Unknown,
        "NotYetRefreshed",
        "Feedwater has not seen a refresh of this extract succeed yet",
    )
}

fn last_refresh(s: &ExtractRefreshStatus) -> Verdict {
    let say = |truth, reason, message: &str| Verdict::new("LastRefreshSucceeded", truth, reason, message);
    if s.owed.as_ref().is_some_and(|owed| owed.stopped == Some(Stopped::Exhausted)) {
        return say(
            Truth::False,
            "RetriesExhausted",
            "The last refresh did not succeed and the retries are used up",
        );
    }
    match s.history.first() {
        None => say(Truth::Unknown, "NotYetRefreshed", "No refresh has ended yet"),
        Some(HistoryEntry { outcome, .. }) => match outcome {
            Outcome::Succeeded => say(Truth::True, "Succeeded", "The last refresh succeeded"),
            Outcome::Failed => say(
                Truth::False,
                "Failed",
                "Tableau reports that the last refresh failed: see its job in Tableau",
            ),
            Outcome::Cancelled => say(Truth::False, "Cancelled", "The last refresh was cancelled in Tableau"),
            Outcome::TimedOut => say(
                Truth::False,
                "TimedOut",
                "The last refresh ran longer than spec.timeout and was cancelled",
            ),
            Outcome::JobVanished => say(
                Truth::False,
                "JobVanished",
                "Tableau no longer knows the last refresh job: whether it succeeded is unknown",
            ),
            Outcome::Superseded => say(
                Truth::False,
                "Superseded",
                "The target or the refresh type was changed while the last refresh ran",
            ),
        },
    }
}

/// Upstreams that do not exist, by name.
pub(super) fn missing_upstreams<'a>(p: &Pass<'a>) -> Vec<&'a str> {
    which(p, |view| matches!(view, Some(UpstreamView::Missing { .. })))
}

fn which<'a>(p: &Pass<'a>, is: impl Fn(Option<&UpstreamView>) -> bool) -> Vec<&'a str> {
    let (d, o) = (p.d, p.o);
    d.upstreams.iter().filter(|u| is(o.upstreams.get(&u.name))).map(|u| u.name.as_str()).collect()
}

fn upstreams_healthy(p: &Pass, s: &ExtractRefreshStatus) -> Verdict {
    let say = |truth, reason, message: String| Verdict::new("UpstreamsHealthy", truth, reason, message);
    if p.d.upstreams.is_empty() {
        return say(
            Truth::True,
            "NoUpstreams",
            "The spec names no upstreams: it is refreshed only on request".into(),
        );
    }
    let missing = missing_upstreams(p);
    let failing = which(p, |view| {
        matches!(
            view,
            Some(UpstreamView::Read { newest_ended: Some((StateType::Failed | StateType::Crashed, _)), .. })
        )
    });
    let paused = which(p, |view| matches!(view, Some(UpstreamView::Read { paused: true, .. })));
    let unread = which(p, |view| matches!(view, None | Some(UpstreamView::Unread { .. })));
    if !missing.is_empty() {
        say(Truth::False, "UpstreamNotFound", format!("Not found: {}", marks::list(&missing)))
    } else if !failing.is_empty() {
        say(Truth::False, "UpstreamFailing", format!("The newest run failed: {}", marks::list(&failing)))
    } else if !unread.is_empty() {
        let not_read =
            || say(Truth::Unknown, "NotObserved", format!("Not read yet: {}", marks::list(&unread)));
        kept(p, s, "UpstreamsHealthy").unwrap_or_else(not_read)
    } else if !paused.is_empty() {
        say(Truth::False, "UpstreamPaused", format!("Paused in Prefect: {}", marks::list(&paused)))
    } else {
        say(Truth::True, "AllHealthy", "No upstream is failing, paused or missing".into())
    }
}

fn upstreams(p: &Pass, s: &ExtractRefreshStatus) -> Vec<UpstreamStatus> {
    let one = |name: &String| {
        let mark = marks::of(s, name);
        let seen = mark.and_then(|mark| mark.seen.as_ref());
        let before = s.upstreams.iter().find(|u| u.name == *name);
        let state = match (p.o.upstreams.get(name), seen) {
            (Some(UpstreamView::Missing { .. }), _) => "NotFound",
            (_, Some(_)) => "Completed",
            (Some(UpstreamView::Read { .. }), None) => "None",
            (Some(UpstreamView::Unread { .. }) | None, None) => before.map_or("Unread", |u| &u.state),
        };
        UpstreamStatus {
            name: name.clone(),
            run_id: seen.map(|seen| seen.run_id.clone()),
            state: state.to_owned(),
            new: mark.is_some_and(crate::api::Mark::is_new),
        }
    };
    p.d.upstreams.iter().map(|u| one(&u.name)).collect()
}

/// Writes a length of time as the spec would.
fn duration(length: std::time::Duration) -> Duration {
    let (seconds, millis) = (length.as_secs(), length.subsec_millis());
    let mut text = String::new();
    for (amount, unit) in [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")] {
        if amount > 0 {
            text = format!("{text}{amount}{unit}");
        }
    }
    if millis > 0 {
        text = format!("{text}{millis}ms");
    }
    Duration(if text.is_empty() { "0s".into() } else { text })
}
