//! What keeps a refresh that is owed from being started (docs/trigger.md 4.1). Holding never drops anything.

use super::attempt::given_up;
use super::decide::Activity;
use super::learnt::Learnt;
use super::observed::{Bounds, SiteView, Unfinished, UpstreamView};
use super::{Pass, desired, fold, marks, retry};
use crate::api::{Attempt, DemandKind, ExtractRefresh, ExtractRefreshStatus, Owed, Time};
use crate::model::runs::StateType;
use crate::model::tenancy::Access;
use crate::model::time::add;
use crate::model::windows::{self, Gate};
use jiff::Timestamp;
use std::time::Duration;

pub(super) fn backoff(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    let owed = s.owed.as_ref()?;
    let Time(until) = owed.not_before.filter(|at| !retry::due(Some(*at), p.now))?;
    let (reason, message) = match owed.refused.as_deref() {
        Some(fold::HELD_BY_BUDGET) => {
            ("HeldByBudget", "Tableau asks to slow down; the refresh is started later")
        }
        Some(fold::CONNECTION_UNAVAILABLE) => (
            "ConnectionUnavailable",
            "Tableau could not be reached with these credentials, and the TableauSite says why; the refresh is started later",
        ),
        Some(fold::REMOTE_FAILED) => (
            "Retrying",
            "Tableau fails when the refresh is started, and Ready says more; it is started again later",
        ),
        Some(_) => ("Retrying", "Tableau refuses the refresh, and Ready says why; it is asked again later"),
        None => ("Retrying", "The last refresh did not succeed; it is tried again later"),
    };
    Some(Activity::rests(reason, message).again(Some(until)))
}

/// What the connection does not allow is not begun. What was sent before is followed to its end.
pub(super) fn denied(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    if s.attempt.is_none() && (s.owed.is_none() || p.d.suspend) {
        return None; // the rules below say so
    }
    let message = match &p.o.access {
        Access::Allowed => return None,
        // What is missing is said below, and nothing is sent without it.
        Access::Unknown if s.attempt.is_none() && p.o.site == SiteView::Missing => return None,
        Access::Unknown => "A refresh is owed; whether the connection allows it is being looked up",
        Access::Denied(_) => "A refresh is owed, and the connection does not allow it: Ready says why",
    };
    Some(Activity::rests("ConnectionUnavailable", message))
}

/// A job that cannot be followed for as long as a person wants it so. (An outage passes, and its connection tells of it.)
pub(super) fn unfollowed(p: &Pass, attempt: &Attempt, mut activity: Activity) -> Activity {
    if let Learnt::At(site) = attempt.learnt(&p.d.site) {
        activity.message = format!(
            "A refresh was started through {}, which spec.siteRef named before and which cannot be used now; how it went on is looked up through it, or unknown after spec.timeout",
            site.site()
        );
        return activity.again(Some(given_up(p, attempt)));
    }
    if activity.reason != "Recovering" && matches!(p.o.site, SiteView::NotReady { reason: "Suspended" }) {
        activity.message = format!(
            "A refresh was under way when {} was suspended; how it went on is looked up when the site is resumed",
            p.d.site.site()
        );
    }
    activity
}

/// Where windows join one another for more than a week, it is looked again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

pub(super) fn window(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    s.owed.as_ref()?;
    let Gate::Held { by, until } = windows::gate(&p.d.windows, p.now) else { return None };
    let when =
        if until.is_some() { "" } else { ", and no end of that can be seen: look at spec.refreshWindows" };
    let message = match by {
        Some(name) => format!("A refresh is owed; it starts when the window `{name}` is over{when}"),
        None => {
            format!("A refresh is owed; it starts in the next of spec.refreshWindows that allows it{when}")
        }
    };
    let activity = Activity::rests("HeldByWindow", message);
    Some(if until.is_some() { activity.held(until) } else { activity.again(Some(add(p.now, LOOK_AGAIN))) })
}

/// More may complete soon: until none has for a while, but not for ever.
pub(super) fn debounce(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    let owed = s.owed.as_ref()?;
    let debounce = p.d.debounce.filter(|_| !requested(owed))?;
    let quiet = s.marks.iter().filter(|mark| mark.live()).filter_map(|mark| {
        let at = mark.seen.as_ref()?.at.0;
        // Prefect's time, on its own clock where that is known.
        let since = match p.o.upstreams.get(&mark.name) {
            Some(UpstreamView::Read { clock, .. }) => {
                p.now.checked_sub(clock.lower.duration_since(at)).ok()?
            }
            _ => at,
        };
        Some(add(since, debounce.quiet))
    });
    let until = quiet.max()?.min(add(owed.formed_at.0, debounce.longest));
    (until > p.now).then(|| {
        let message =
            "A refresh is owed; it starts when no upstream has completed for trigger.debounce.quiet";
        Activity::rests("Debouncing", message).held(Some(until))
    })
}

fn requested(owed: &Owed) -> bool {
    owed.demands.iter().any(|demand| demand.kind == DemandKind::Requested)
}

/// A run that has not changed its state for this long is not waited for: whoever ran it may be gone.
const STUCK: Duration = Duration::from_secs(24 * 3600);

/// Until when a resource that waits `longest` for runs in progress has to know of them; none: it does not wait for any.
pub fn waits_for_runs(longest: Option<Duration>, s: &ExtractRefreshStatus) -> Option<Timestamp> {
    let owed = s.owed.as_ref().filter(|owed| owed.stopped.is_none())?;
    let sent = s.attempt.as_ref().is_some_and(|attempt| attempt.job_id.is_some());
    longest.filter(|_| !sent).map(|longest| add(owed.formed_at.0, longest))
}

/// The same, of a resource as it is stored.
pub fn asks_for_runs(r: &ExtractRefresh) -> Option<Timestamp> {
    waits_for_runs(desired::running(r.spec.trigger.as_ref()).ok()?, r.status.as_ref()?)
}

/// An upstream that runs may deliver soon, and a person who asks for the data wants it too: until it has ended, but not for ever. What Prefect answered before the refresh was owed does not count.
pub(super) fn running(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    let deadline = waits_for_runs(p.d.running, s).filter(|deadline| *deadline > p.now)?;
    let formed = s.owed.as_ref()?.formed_at.0;
    let (mut busy, mut unknown, mut stuck) = (Vec::new(), Vec::new(), Vec::new());
    let mut until = p.now;
    for upstream in &p.d.upstreams {
        let name = upstream.name.as_str();
        let (running, clock) = match p.o.upstreams.get(name) {
            // Nothing runs of what is not there, and what may not be seen is not waited for.
            Some(UpstreamView::Missing { .. } | UpstreamView::Denied { .. }) => continue,
            Some(UpstreamView::Read { running: Some(running), clock, .. }) if running.asked >= formed => {
                (running, clock)
            }
            None | Some(UpstreamView::Unread { .. } | UpstreamView::Read { .. }) => {
                unknown.push(name);
                continue;
            }
        };
        let (fresh, old): (Vec<_>, Vec<_>) = running.runs.iter().partition(|run| left(run, *clock).is_some());
        until = fresh
            .iter()
            .filter_map(|run| left(run, *clock))
            .map(|left| add(p.now, left))
            .fold(until, Timestamp::max);
        match STATES.iter().find(|(state, _)| fresh.iter().any(|run| run.state == *state)) {
            Some((_, doing)) => busy.push(format!("`{name}` ({doing})")),
            None if !running.complete => unknown.push(name),
            None if !old.is_empty() => stuck.push(name),
            None => {}
        }
    }
    if busy.is_empty() && unknown.is_empty() {
        return None;
    }
    let mut message = if busy.is_empty() {
        let unknown = marks::list(&unknown);
        format!("A refresh is owed; it starts when Prefect has said what runs of {unknown} are in progress")
    } else {
        format!(
            "A refresh is owed; it starts when these have no run in progress any more: {}",
            busy.join(", ")
        )
    };
    message = format!("{message}; after trigger.runningUpstreams.max at the latest");
    if !busy.is_empty() && !unknown.is_empty() {
        message = format!("{message}; not known yet: {}", marks::list(&unknown));
    }
    if !stuck.is_empty() {
        message = format!("{message}; not waited for, since nothing moves there: {}", marks::list(&stuck));
    }
    let again = if unknown.is_empty() { until.min(deadline) } else { deadline };
    Some(Activity::rests("UpstreamRunning", message).held(Some(deadline)).again(Some(again)))
}

/// What a run in progress does, for people; what says most about when it ends comes first.
const STATES: [(StateType, &str); 5] = [
    (StateType::Running, "running"),
    (StateType::Pending, "about to run"),
    (StateType::Scheduled, "waiting for its retry"),
    (StateType::Cancelling, "being cancelled"),
    (StateType::Paused, "paused"),
];

/// How long a run may still go on without a change; none: it did not change for too long.
fn left(run: &Unfinished, clock: Bounds) -> Option<Duration> {
    let left = add(run.since, STUCK).duration_since(clock.lower);
    left.is_positive().then(|| left.unsigned_abs())
}

/// Names the runs that were not waited for because nothing moves there, when a refresh starts all the same.
pub(super) fn tell_stuck(p: &mut Pass, s: &ExtractRefreshStatus) {
    if waits_for_runs(p.d.running, s).is_none_or(|deadline| deadline <= p.now) {
        return;
    }
    let (d, o) = (p.d, p.o);
    for upstream in &d.upstreams {
        let name = &upstream.name;
        let Some(UpstreamView::Read { running: Some(running), clock, .. }) = o.upstreams.get(name) else {
            continue;
        };
        let stuck = running.runs.iter().filter(|run| left(run, *clock).is_none());
        if let Some(Unfinished { run, .. }) = stuck.min_by_key(|run| (run.since, &run.run)) {
            p.warn("UpstreamStuck", format!("Run {run} of upstream `{name}` has not changed its state for a day and is not waited for: cancel it in Prefect if it is dead"));
        }
    }
}
