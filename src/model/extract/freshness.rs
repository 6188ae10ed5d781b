//! How old the data of the extract is (docs/trigger.md 8).

use super::{Pass, marks, warning};
use crate::api::{ExtractRefreshStatus, HistoryEntry, Mark, Occasion, Outcome, Time};
use crate::model::conditions::{self, Truth, Verdict};
use crate::model::time::add;
use jiff::Timestamp;

/// Start of the oldest run that the extract contains. Upstreams that never completed one, and those that do not count, are left out. As long as the
/// extract contains none of one that did (an edit says so of what was contained), the data is no younger than it was.
pub(super) fn data_time(p: &Pass, s: &ExtractRefreshStatus) -> Option<Time> {
    let oldest = oldest(p, s).map(|(at, _)| at);
    match s.data_time {
        Some(before) if waits(p, s) => oldest.map(|at| at.min(before)),
        Some(_) | None => oldest,
    }
}

fn waits(p: &Pass, s: &ExtractRefreshStatus) -> bool {
    waiting(p, s).is_some()
}

/// An upstream that counts and has completed, and nothing of it is contained. What it had delivered before the resource was there is not owed, and
/// nothing waits for it, unless the age was that of just this until an edit took it back.
fn waiting<'a>(p: &Pass, s: &'a ExtractRefreshStatus) -> Option<&'a str> {
    let counted = |mark: &Mark, seen: &Occasion| {
        let first = Some(mark.since) == s.baseline;
        !first || seen.at.0 > mark.since.0 || seen.started_at.is_some_and(|at| s.data_time <= Some(at))
    };
    let owes = |mark: &&Mark| mark.seen.as_ref().is_some_and(|seen| counted(mark, seen));
    uncovered(p, s).find(owes).map(|mark| mark.name.as_str())
}

/// Those that count, and of which nothing is contained.
fn uncovered<'a>(p: &Pass, s: &'a ExtractRefreshStatus) -> impl Iterator<Item = &'a Mark> {
    s.marks.iter().filter(move |mark| counts(p, mark) && mark.covered.is_none())
}

/// The same after a refresh that succeeded: it counts from its own start where no upstream that counts has ever completed. Where one has, and is
/// not contained, nothing is claimed.
pub(super) fn after(p: &Pass, s: &ExtractRefreshStatus, started: Time) -> Option<Time> {
    let waits = uncovered(p, s).any(|mark| mark.seen.is_some());
    data_time(p, s).or(if waits { s.data_time } else { Some(started) })
}

fn counts(p: &Pass, mark: &Mark) -> bool {
    mark.live() && p.d.upstreams.iter().any(|u| u.name == mark.name && u.counts_for_freshness)
}

fn oldest<'a>(p: &Pass, s: &'a ExtractRefreshStatus) -> Option<(Time, &'a str)> {
    let started = |mark: &'a Mark| Some((mark.covered.as_ref()?.started_at?, mark.name.as_str()));
    s.marks.iter().filter(|mark| counts(p, mark)).filter_map(started).min()
}

/// Whether the data is young enough, and when that ends.
pub(super) fn fresh(p: &Pass, s: &ExtractRefreshStatus) -> (Verdict, Option<Timestamp>) {
    let Some(Time(data)) = s.data_time else { return (not_yet(), None) };
    let say = |truth, reason, message: String| Verdict::new("Fresh", truth, reason, message);
    let limits = [
        ("Stale", "freshness.failAfter", p.d.freshness.fail_after),
        ("Late", "freshness.warnAfter", p.d.freshness.warn_after),
    ];
    let due = limits.map(|(reason, field, age)| age.map(|age| (reason, field, add(data, age))));
    let again = due.iter().flatten().map(|(_, _, at)| *at).filter(|at| *at > p.now).min();
    let mut verdict = match due.into_iter().flatten().find(|(_, _, at)| *at <= p.now) {
        Some(_) if by_tableau_alone(p) => say(Truth::Unknown, "NotYetRefreshed", UNFOLLOWED.to_owned()),
        Some((reason, field, _)) => {
            let of = oldest(p, s).map(|(_, name)| name);
            let named = of.map(|name| format!(" (upstream `{name}`)")).unwrap_or_default();
            let remedy = remedy(s, waiting(p, s), of);
            let message = format!("The oldest data in the extract{named} is older than {field}: {remedy}");
            say(Truth::False, reason, message)
        }
        None => say(
            Truth::True,
            "UpToDate",
            "The extract was refreshed; status.dataTime says how old its data is".into(),
        ),
    };
    if let Some(clause) = warning::clause(s, verdict.reason == "Stale") {
        verdict.message = format!("{}; {clause}", verdict.message);
    }
    (verdict, again)
}

/// What to do about data that is too old.
fn remedy(s: &ExtractRefreshStatus, waiting: Option<&str>, of: Option<&str>) -> String {
    let failed = |last: &&HistoryEntry| match last.outcome {
        Outcome::Failed | Outcome::Cancelled | Outcome::TimedOut | Outcome::JobVanished => true,
        Outcome::Succeeded | Outcome::Superseded => false,
    };
    let waits = of.and_then(|name| marks::of(s, name)).is_some_and(Mark::is_new);
    match (s.history.first().filter(failed), of) {
        (Some(last), _) => {
            let job = last.job_id.as_ref().map(|job| format!(" (job `{job}`)")).unwrap_or_default();
            format!("the last refresh{job} did not succeed, and LastRefreshSucceeded says what to do")
        }
        (None, _) if s.owed.is_some() || waits => "Refreshing says what the next refresh waits for".into(),
        (None, _) if let Some(name) = waiting => format!(
            "no refresh contains a run of `{name}` as the spec asks for it now; its next run is refreshed so"
        ),
        (None, Some(name)) => format!("look in Prefect for why no newer run of `{name}` has completed"),
        (None, None) => "request a refresh (annotation feedwater.dev/refresh-requested)".into(),
    }
}

/// What Tableau's own schedules start is not followed: where nothing else feeds the extract, its age would be that of the last refresh of ours.
fn by_tableau_alone(p: &Pass) -> bool {
    !p.d.schedules.all.is_empty() && !p.d.upstreams.iter().any(|upstream| upstream.counts_for_freshness)
}

const UNFOLLOWED: &str = "Tableau refreshes this extract by its own schedules, whose jobs Feedwater does not follow: how old its data is, is not known";

/// An Event when the data becomes too old: dashboards show it and say nothing.
pub(super) fn tell(p: &mut Pass, before: &ExtractRefreshStatus, after: &ExtractRefreshStatus) {
    let now = after.conditions.iter().find(|c| c.type_ == "Fresh");
    for reason in ["Late", "Stale"] {
        if let Some(now) = now.filter(|c| c.reason == reason)
            && conditions::reason_of(before, "Fresh") != Some(reason)
        {
            p.warn(reason, now.message.clone());
        }
    }
}

pub(super) fn not_yet() -> Verdict {
    let message = "Feedwater has not seen a refresh of this extract succeed yet";
    Verdict::new("Fresh", Truth::Unknown, "NotYetRefreshed", message)
}
