//! What a person reads: conditions and the fields beside the machine (API.md 4).

use super::decide::Activity;
use super::desired::{Target, Unsupported};
use super::observed::{Claim, SiteView, TargetView, UpstreamView};
use super::schedules::Told;
use super::target::{self, Look, named};
use super::{Pass, fold, freshness, marks};
use crate::api::{
    DataQualityWarning, Duration, Effective, ExtractRefreshStatus, HistoryEntry, ManagementPolicy, Outcome,
    Owed, Stopped, Time, UpstreamStatus,
};
use crate::model::conditions::{self, Truth, Verdict};
use crate::model::failures::Lasting;
use crate::model::runs::StateType;
use crate::model::tenancy::Access;
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
        target: Some(shown(p, s)),
        require: p.d.require.to_string(),
        refresh_type: p.d.refresh_type,
        retry_limit: i32::try_from(p.d.retry.limit).unwrap_or(i32::MAX),
        timeout: duration(p.d.timeout),
        priority: Some(i32::from(p.d.priority)),
        warn_after: p.d.freshness.warn_after.map(duration),
        fail_after: p.d.freshness.fail_after.map(duration),
        data_quality_warning: p.d.freshness.warns.then_some(DataQualityWarning::WhenStale),
    });
    let not_before = s.owed.as_ref().filter(|owed| owed.stopped.is_none()).and_then(|owed| owed.not_before);
    s.next_eligible_time = match activity.eligible {
        None => not_before,
        // About then is good enough: a better guess of the same wait is not worth a write.
        Some(_) if s.next_eligible_time.is_some_and(|Time(told)| told > p.now) && guessed(p, s, activity) => {
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
    let (fresh, ages) = freshness::fresh(p, s);
    let mut verdicts = vec![ready.clone(), fresh, refreshing, last_refresh(s), upstreams_healthy(p, s)];
    verdicts.extend(told.drifted.clone());
    let progressing = ["Progressing", "DependencyNotFound", "ConnectionUnavailable"].contains(&ready.reason);
    if progressing {
        verdicts.push(Verdict { kind: "Reconciling", truth: Truth::True, ..ready });
    } else if STALLED.contains(&ready.reason) {
        verdicts.push(Verdict { kind: "Stalled", truth: Truth::True, ..ready });
    }
    conditions::stamp(s, &verdicts, p.generation, p.now);
    again.into_iter().chain(ages).min()
}

/// What the target is called, for `kubectl get`: by its LUID until its name is known.
fn shown(p: &Pass, s: &ExtractRefreshStatus) -> String {
    match &p.d.target {
        Target::Named { name, .. } => name.clone(),
        Target::Luid { luid, .. } => {
            let found = s.target.as_ref().filter(|found| target::designates(&p.d.target, found));
            found.and_then(|found| found.name.clone()).unwrap_or_else(|| luid.as_str().to_owned())
        }
    }
}

/// Events of what conditions say that they did not say before.
pub(super) fn tell(p: &mut Pass, before: &ExtractRefreshStatus, after: &ExtractRefreshStatus) {
    tell_ready(p, before, after);
    tell_queued(p, before, after);
    tell_unread(p, before, after);
}

/// An Event when the resource is no longer ready, or for another reason than before, or is again: many look at nothing else.
fn tell_ready(p: &mut Pass, before: &ExtractRefreshStatus, after: &ExtractRefreshStatus) {
    let of = |s: &ExtractRefreshStatus| {
        let ready = s.conditions.iter().find(|c| c.type_ == "Ready")?;
        Some((ready.status.clone(), ready.reason.clone(), ready.message.clone()))
    };
    let (was, Some((status, reason, message))) = (of(before), of(after)) else { return };
    let was = was.map(|(status, reason, _)| (status, reason));
    match status.as_str() {
        "False" if was != Some((status.clone(), reason.clone())) => {
            let moved = reason == "TargetNotFound" && matches!(p.o.target, TargetView::Elsewhere(_));
            if let Some(reason) =
                moved
                    .then_some("TargetMoved")
                    .or(known(&reason))
                    .or(["AccessDenied", "DependencyNotFound"].into_iter().find(|known| *known == reason))
            {
                p.warn(reason, message);
            }
        }
        "True" if was.is_some_and(|(status, _)| status == "False") => p.tell("Ready", message),
        _ => {}
    }
}

/// Of a refresh that has waited in the queue for as long as it may run.
pub(super) const QUEUED_LONG: &str = "The refresh has waited in Tableau's queue for longer than spec.timeout: it starts when Tableau has a free backgrounder; cancel its job in Tableau to give it up";

/// An Event when that is so: it may last for days.
fn tell_queued(p: &mut Pass, before: &ExtractRefreshStatus, after: &ExtractRefreshStatus) {
    let long = |s: &ExtractRefreshStatus| {
        s.conditions.iter().any(|c| c.type_ == "Refreshing" && c.message == QUEUED_LONG)
    };
    if long(after) && !long(before) {
        p.warn("RefreshQueuedLong", QUEUED_LONG);
    }
}

/// Whether the time is a guess that was told before, of the same spec: only the budget guesses.
fn guessed(p: &Pass, s: &ExtractRefreshStatus, activity: &Activity) -> bool {
    activity.reason == "HeldByBudget"
        && conditions::reason_of(s, "Refreshing") == Some(activity.reason)
        && s.observed_generation == p.generation
}

/// The status of a spec that this build cannot act on; the state of the machine stays.
pub fn unsupported(
    s: &ExtractRefreshStatus,
    why: &Unsupported,
    generation: i64,
    now: Timestamp,
) -> ExtractRefreshStatus {
    let mut next = ExtractRefreshStatus { next_eligible_time: None, ..s.clone() };
    let verdict = |kind, truth| Verdict::new(kind, truth, "UnsupportedSpec", why.message.clone());
    let verdicts =
        [verdict("Stalled", Truth::True), verdict("Ready", Truth::False), fresh_before(s), last_refresh(s)];
    conditions::stamp(&mut next, &verdicts, generation, now);
    // What is known of the data was said of the spec before: nobody who waits for this one to be fresh is told that it is.
    let spoke = s.conditions.iter().find(|c| c.type_ == "Fresh").and_then(|c| c.observed_generation);
    if let Some(fresh) = next.conditions.iter_mut().find(|c| c.type_ == "Fresh")
        && spoke.is_some()
    {
        fresh.observed_generation = spoke;
    }
    next
}

/// Only a person can help.
const STALLED: [&str; 4] = ["AccessDenied", "TargetConflict", "AdoptionRequired", "ScheduleNotExpressible"];

fn ready(p: &Pass, s: &ExtractRefreshStatus) -> (Verdict, Option<Timestamp>) {
    let say = |truth, reason, message: String| (Verdict::new("Ready", truth, reason, message), None);
    let target = named(&p.d.target);
    if p.d.suspend {
        return say(Truth::True, "Suspended", "spec.suspend is true".into());
    }
    if let Access::Denied(why) = &p.o.access {
        return say(Truth::False, "AccessDenied", why.clone());
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
    let look = target::look(p, s);
    let refused = s.owed.as_ref().and_then(|owed| owed.refused.as_deref());
    let refused = refused.and_then(|reason| Some((known(reason)?, refusal(reason)?)));
    match (look, refused, &p.o.claim) {
        // What is seen of the target is newer than what its refresh was refused for.
        (Look::Wrong(reason, message), _, _) => say(Truth::False, reason, message),
        (Look::Here | Look::Unread, Some((reason, message)), _) => say(Truth::False, reason, message.into()),
        (Look::Here, None, Claim::Busy { by }) => {
            say(Truth::Unknown, "Progressing", format!("{by} ends its refresh of {target} first"))
        }
        (Look::Here, None, _) if p.d.schedules.management == ManagementPolicy::Observe => {
            let message =
                format!("managementPolicy is Observe: {target} is found, and nothing is written in Tableau");
            say(Truth::True, "Observing", message)
        }
        (Look::Here, None, _) => say(Truth::True, "InSync", format!("{target} is found")),
        // A restart or an outage flips nothing that was known of this spec.
        (Look::Unread, None, _) => match kept(p, s, "Ready") {
            Some(kept) => (kept, None),
            None => match p.o.site {
                SiteView::NotReady { reason } => say(
                    Truth::Unknown,
                    "ConnectionUnavailable",
                    format!("{} is not ready ({reason})", p.d.site.site()),
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
        return Some(format!(
            "{} does not exist{}; create it or correct spec.siteRef",
            p.d.site.site(),
            p.d.site.place()
        ));
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
            "Tableau forbids this account to refresh the target: make it the owner, a project leader or an administrator, or grant it the capability ExtractRefresh, and let the site allow Run Now; it is asked again later"
        }
        "NoExtract" => {
            "Tableau finds nothing to refresh in the target: no extract, or one that was published as a file; publish it with an extract of a connection; it is asked again later"
        }
        "TargetNotFound" => {
            "Tableau does not have the target any more: publish it again, or correct spec.target; it is asked again later"
        }
        "RemoteRejected" => {
            "Tableau refuses the refresh, with the code that the Event RefreshRefused tells; it is asked again later"
        }
        fold::REMOTE_FAILED => {
            "Tableau fails when the refresh is started, or its answer is lost, and no job is seen: its log or that of a proxy says why; it is tried again later"
        }
        _ => return None,
    })
}

/// A job that runs too long, and stays.
pub(super) const UNCANCELLED: &str = "The refresh runs longer than spec.timeout and may not be cancelled: let the account cancel jobs (of a connected app: the scope tableau:jobs:update), and the connection allow the content, or cancel it in Tableau; it is tried again";

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
    const KNOWN: [&str; 20] = [
        "AdoptionRequired",
        "ScheduleNotExpressible",
        "ServerSchedulePermission",
        "DeletionBlocked",
        "InSync",
        "Observing",
        "TargetNotFound",
        "TargetAmbiguous",
        "NoExtract",
        "PermissionDenied",
        "RemoteRejected",
        fold::REMOTE_FAILED,
        "AllHealthy",
        "UpstreamNotFound",
        "UpstreamFailing",
        "UpstreamPaused",
        UPSTREAM_RUNS_UNREAD,
        "NotObserved",
        "TargetConflict",
        "NoUpstreams",
    ];
    KNOWN.into_iter().find(|k| *k == reason)
}

/// What `Fresh` says, about a spec that cannot be read.
fn fresh_before(s: &ExtractRefreshStatus) -> Verdict {
    const REASONS: [&str; 3] = ["UpToDate", "Late", "Stale"];
    let before = s.conditions.iter().find(|c| c.type_ == "Fresh");
    let reason = REASONS.into_iter().find(|reason| before.is_some_and(|c| c.reason == *reason));
    match (before, reason) {
        (Some(before), Some(reason)) => {
            let truth = if reason == "UpToDate" { Truth::True } else { Truth::False };
            Verdict::new("Fresh", truth, reason, before.message.clone())
        }
        _ => freshness::not_yet(),
    }
}

fn last_refresh(s: &ExtractRefreshStatus) -> Verdict {
    let say = |truth, reason, message: String| Verdict::new("LastRefreshSucceeded", truth, reason, message);
    let Some(last) = s.history.first() else {
        return say(Truth::Unknown, "NotYetRefreshed", "No refresh has ended yet".into());
    };
    let (reason, message) = ended(last);
    let message = match (&last.job_id, message) {
        (Some(job), TOLD_BY_JOB) => {
            format!(
                "The last refresh failed: look up job `{job}` on Tableau's page of jobs, and mend what it says"
            )
        }
        (_, message) => message.to_owned(),
    };
    if last.outcome == Outcome::Succeeded {
        return say(Truth::True, reason, message);
    }
    let used_up = |owed: &Owed| owed.stopped == Some(Stopped::Exhausted) && owed.failure.is_none();
    if s.owed.as_ref().is_some_and(used_up) {
        return say(Truth::False, "RetriesExhausted", format!("{message}; the retries are used up"));
    }
    say(Truth::False, reason, message)
}

/// Where only the job in Tableau says why.
const TOLD_BY_JOB: &str =
    "The last refresh failed: look it up on Tableau's page of jobs, and mend what it says";

/// How a refresh ended, and what is to be looked at.
fn ended(last: &HistoryEntry) -> (&'static str, &'static str) {
    match (last.outcome, last.failure.as_deref().and_then(Lasting::named)) {
        (Outcome::Succeeded, _) => ("Succeeded", "The last refresh succeeded"),
        (Outcome::Failed, Some(why)) => (why.reason(), why.sentence()),
        (Outcome::Failed, None) => ("Failed", TOLD_BY_JOB),
        (Outcome::Cancelled, _) => ("Cancelled", "The last refresh was cancelled in Tableau"),
        (Outcome::TimedOut, _) => (
            "TimedOut",
            "The last refresh ran longer than spec.timeout and was cancelled: find out what slows it down, or raise the timeout",
        ),
        (Outcome::JobVanished, _) => {
            ("JobVanished", "Tableau no longer knows the last refresh job: whether it succeeded is unknown")
        }
        (Outcome::Superseded, _) => (
            "Superseded",
            "The target or the refresh type was changed while the last refresh ran: it does not count",
        ),
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

const UPSTREAM_RUNS_UNREAD: &str = "UpstreamRunsUnread";

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
    let denied = p.d.upstreams.iter().find_map(|u| match p.o.upstreams.get(&u.name) {
        Some(UpstreamView::Denied { message }) => {
            Some(format!("Upstream {} may not be seen: {message}", u.name))
        }
        _ => None,
    });
    let failing = which(p, |view| {
        matches!(
            view,
            Some(UpstreamView::Read { newest_ended: Some((StateType::Failed | StateType::Crashed, _)), .. })
        )
    });
    let given_up = which(p, |view| matches!(view, Some(UpstreamView::Read { given_up: true, .. })));
    let paused = which(p, |view| matches!(view, Some(UpstreamView::Read { paused: true, .. })));
    let unread = which(p, |view| matches!(view, None | Some(UpstreamView::Unread { .. })));
    let stuck = which(p, |view| matches!(view, Some(UpstreamView::Unread { stuck: true, .. })));
    if !missing.is_empty() {
        say(Truth::False, "UpstreamNotFound", format!("Not found: {}", marks::list(&missing)))
    } else if let Some(message) = denied {
        say(Truth::False, "AccessDenied", message)
    } else if !failing.is_empty() {
        say(Truth::False, "UpstreamFailing", format!("The newest run failed: {}", marks::list(&failing)))
    } else if !given_up.is_empty() {
        let names = marks::list(&given_up);
        say(
            Truth::Unknown,
            UPSTREAM_RUNS_UNREAD,
            format!(
                "Since it is certain that all runs were read, more completed than are looked at, and none of these is one of {names}: if an earlier one was, request a refresh (annotation feedwater.dev/refresh-requested)"
            ),
        )
    } else if !stuck.is_empty() {
        let names = marks::list(&stuck);
        say(
            Truth::Unknown,
            UPSTREAM_RUNS_UNREAD,
            format!(
                "Prefect does not answer when it is asked for completions of {names} before the last day: find out what slows it down or fails there; until it answers these are not counted"
            ),
        )
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

/// An Event when runs of an upstream were left unread: the condition may be gone with the next restart.
fn tell_unread(p: &mut Pass, before: &ExtractRefreshStatus, after: &ExtractRefreshStatus) {
    let unread = |s: &ExtractRefreshStatus| {
        let healthy = s.conditions.iter().find(|c| c.type_ == "UpstreamsHealthy");
        healthy.filter(|c| c.reason == UPSTREAM_RUNS_UNREAD).map(|c| c.message.clone())
    };
    if let (None, Some(message)) = (unread(before), unread(after)) {
        p.warn(UPSTREAM_RUNS_UNREAD, message);
    }
}

fn upstreams(p: &Pass, s: &ExtractRefreshStatus) -> Vec<UpstreamStatus> {
    let edited = |name: &String| {
        let now = Some(Time(p.now));
        s.marks.iter().any(|mark| mark.name == *name && mark.removed_at == now)
    };
    let one = |name: &String| {
        let mark = marks::of(s, name);
        let seen = mark.and_then(|mark| mark.seen.as_ref());
        let before = s.upstreams.iter().find(|u| u.name == *name);
        let unread =
            before.is_some_and(|u| ["NotFound", "AccessDenied", "Unread"].contains(&u.state.as_str()));
        let state = match (p.o.upstreams.get(name), seen) {
            (Some(UpstreamView::Missing { .. }), _) => "NotFound",
            (Some(UpstreamView::Denied { .. }), _) => "AccessDenied",
            // What was said under this name was of something else.
            (Some(UpstreamView::Unread { .. }) | None, None) if edited(name) => "Unread",
            // It was not there and has not been read since: whoever reads it next has to know, or runs of that time would be lost.
            (Some(UpstreamView::Unread { .. }) | None, Some(_)) if unread => "Unread",
            (_, Some(_)) => "Completed",
            (Some(UpstreamView::Read { .. }), None) => "None",
            // What was seen counts no more, and whether one before it does is not known yet: the same.
            (Some(UpstreamView::Unread { .. }) | None, None) => {
                before.map(|u| u.state.as_str()).filter(|state| *state != "Completed").unwrap_or("Unread")
            }
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
