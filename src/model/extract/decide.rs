//! The policy: what is learned first, and then one step, chosen by a chain of small rules.

use super::observed::{BudgetView, Claim, IntentView, JobList, SiteView};
use super::retry::{AGAIN, lasting};
use super::schedules::{self, Act};
use super::target::{Look, Standing, named, standing};
use super::{Decision, Desired, Observed, Pass, Step};
use super::{
    attempt, coverage, fold, freshness, gate, holds, kinds, learnt, machine, marks, native, others, recover,
    report, retry, target, warning,
};
use crate::api::{Attempt, AttemptPhase, ExtractRefreshStatus, ManagementPolicy, Stopped, Time};
use crate::model::budget::Limit;
use crate::model::conditions::Truth;
use crate::model::ids::{JobId, Luid};
use crate::model::time::{add, ceil_second};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// The next status and step of a resource. `new_id` gives the identity of an intent.
pub fn decide(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    now: Timestamp,
    new_id: impl Fn() -> String,
) -> Decision {
    let mut p = Pass::new(d, o, now);
    let mut next = s.clone();
    learn(&mut p, &mut next);
    let mut activity = choose(&p, &next);
    let idle = matches!(activity.plan, Plan::Rest | Plan::Look { .. });
    let planned = schedules::plan(&mut p, &mut next, idle, &new_id);
    let idle = idle && planned.act == Act::Nothing;
    let warned = warning::plan(&mut p, &mut next, idle, &new_id);
    let changed = s.observed_generation != d.generation || !machine::same(s, &next);
    let plan = std::mem::replace(&mut activity.plan, Plan::Rest);
    let step = match (plan, changed) {
        // The one thing that may be planned on what is not written yet, because it is written with it.
        (Plan::Intend, _) => {
            holds::tell_stuck(&mut p, &next);
            intend(&p, &mut next, new_id())
        }
        (_, true) => match (planned.act, warned.act) {
            (Act::Intend(id), _) | (_, warning::Act::Intend(id)) => Step::Intend { id },
            (Act::Nothing | Act::Hold | Act::Write(_) | Act::Look, _) => Step::Rest,
        },
        (Plan::Rest, false) => match planned.act {
            Act::Nothing | Act::Intend(_) => warn(warned.act),
            Act::Hold => Step::Hold,
            Act::Write(write) => Step::Schedule(write),
            Act::Look => Step::LookAtTasks,
        },
        // What is looked for may never be answered: nothing else is to wait for it, unless a refresh does.
        (Plan::Look { jobs, list }, false) => match (planned.act, warned.act) {
            (Act::Write(write), _) if !activity.starts => Step::Schedule(write),
            (Act::Hold, _) | (_, warning::Act::Hold) if !activity.starts => Step::Hold,
            (_, warning::Act::Write(write)) if !activity.starts => Step::Warn(write),
            (schedules, warning) => Step::Look {
                jobs,
                list,
                waited_for: activity.starts || next.attempt.is_some(),
                tasks: schedules == Act::Look,
                warnings: if let warning::Act::Look(luid) = warning { Some(luid) } else { None },
            },
        },
        (Plan::Post(attempt), false) => Step::Post {
            id: attempt.id,
            kind: attempt.kind,
            luid: Luid::from(attempt.luid),
            refresh_type: attempt.refresh_type,
        },
        (Plan::Cancel(job), false) => Step::Cancel { job },
    };
    let waiting = report::stamp(&p, &mut next, &activity, &planned.told);
    freshness::tell(&mut p, s, &next);
    report::tell(&mut p, s, &next);
    // What the resource says itself comes before what Tableau is to say.
    let step = match step {
        Step::Warn(_) | Step::Hold if idle && next != *s => Step::Rest,
        step => step,
    };
    let at_once = changed || matches!(step, Step::Intend { .. });
    let again = if at_once {
        Some(now)
    } else {
        [activity.again, waiting, planned.again, warned.again].into_iter().flatten().min()
    };
    Decision { status: next, starts: activity.starts, step, again, notes: p.notes }
}

/// The step of a pass that has nothing else to do.
fn warn(act: warning::Act) -> Step {
    match act {
        warning::Act::Nothing | warning::Act::Intend(_) => Step::Rest,
        warning::Act::Hold => Step::Hold,
        warning::Act::Look(luid) => Step::LookAtWarnings(luid),
        warning::Act::Write(write) => Step::Warn(write),
    }
}

/// Everything that follows from what was read, before anything is done about it.
fn learn(p: &mut Pass, s: &mut ExtractRefreshStatus) {
    learnt::stamp(p.d, s);
    target::learn(p, s);
    retry::learn_generation(p, s);
    retry::learn_credential(p, s);
    marks::learn(p, s);
    kinds::learn(p, s);
    gate::replay(p, s);
    coverage::settle(p, s);
    s.data_time = freshness::data_time(p, s).or(s.data_time);
    attempt::advance(p, s);
    others::learn_ends(p, s);
    native::learn(p, s);
    // From here on the connection itself says when it is usable again: no own wait on top of that.
    if !matches!(p.o.site, SiteView::Ready { .. })
        && let Some(owed) = &mut s.owed
        && owed.refused.as_deref() == Some(fold::CONNECTION_UNAVAILABLE)
    {
        (owed.refused, owed.not_before) = (None, None);
    }
}

/// What the resource is doing, for people (`Refreshing`), and what is done about it.
pub(super) struct Activity {
    pub(super) truth: Truth,
    pub(super) reason: &'static str,
    pub(super) message: String,
    plan: Plan,
    again: Option<Timestamp>,
    /// Nothing is in the way of a start but a look.
    starts: bool,
    /// When a start that is held may be tried, for people.
    pub(super) eligible: Option<Timestamp>,
}

enum Plan {
    Rest,
    Intend,
    Post(Box<Attempt>),
    Look { jobs: BTreeSet<JobId>, list: Option<Timestamp> },
    Cancel(JobId),
}

impl Activity {
    fn new(truth: Truth, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            truth,
            reason,
            message: message.into(),
            plan: Plan::Rest,
            again: None,
            starts: false,
            eligible: None,
        }
    }
    pub(super) fn rests(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Truth::False, reason, message)
    }
    fn busy(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Truth::True, reason, message)
    }
    fn plan(self, plan: Plan) -> Self {
        Self { plan, ..self }
    }
    pub(super) fn again(self, again: Option<Timestamp>) -> Self {
        Self { again, ..self }
    }
    /// Held until about this time.
    pub(super) fn held(self, until: Option<Timestamp>) -> Self {
        Self { again: until, eligible: until, ..self }
    }
}

type Rule = fn(&Pass, &ExtractRefreshStatus) -> Option<Activity>;

/// The first rule that has something to say decides.
const RULES: [Rule; 15] = [
    follow,          // a job is followed to its end
    recover,         // an intent may have been sent
    holds::denied,   // the connection does not allow it
    give_way,        // another job of the target is in the way
    send,            // an intent is written and goes out
    suspended,       // nothing is started
    rest,            // nothing is owed
    stopped,         // retries used up, or a person cancelled
    disconnected,    // no site to speak with
    untargeted,      // no target, or somebody else's
    holds::backoff,  // not so soon
    holds::debounce, // more may complete
    holds::running,  // one that runs may deliver
    holds::window,   // not at this time
    start,           // write an intent
];

pub(super) fn choose(p: &Pass, s: &ExtractRefreshStatus) -> Activity {
    let nothing = || Activity::rests("UpToDate", "Nothing is waiting to be refreshed");
    glance(p, s, RULES.iter().find_map(|rule| rule(p, s)).unwrap_or_else(nothing))
}

/// While something is owed, jobs of others that succeeded are looked at: one may contain it. What waited is not started without that.
fn glance(p: &Pass, s: &ExtractRefreshStatus, mut activity: Activity) -> Activity {
    let starts = match activity.plan {
        Plan::Intend => true,
        Plan::Rest => false,
        Plan::Post(_) | Plan::Look { .. } | Plan::Cancel(_) => return activity,
    };
    activity.starts = starts;
    if !connected(p) {
        return activity;
    }
    let mut jobs = others::unlooked_ends(p, s);
    let mut list = others::list_to_read(p, s).filter(|_| starts);
    if !starts && let Some(look) = native::look(p, s) {
        jobs.extend(look.jobs);
        list = list.or(look.list);
        activity.again = [activity.again, look.again].into_iter().flatten().min();
    }
    if jobs.is_empty() && list.is_none() {
        return activity;
    }
    if starts && let Some(until) = p.o.jobs.used_up {
        let message = "A refresh is owed; whether another has contained it meanwhile is looked up first, and as many questions about jobs as spec.limits.jobQueriesPerDay of the site allows were asked within a day";
        activity = Activity::rests(fold::HELD_BY_BUDGET, message).held(Some(until));
    }
    activity.plan(Plan::Look { jobs, list })
}

fn follow(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    let attempt = s.attempt.as_ref().filter(|a| a.phase != AttemptPhase::Intended)?;
    let job = attempt.job()?;
    let activity = if attempt.phase == AttemptPhase::Cancelling && attempt.blocked > 0 {
        Activity::busy("Running", report::UNCANCELLED)
    } else if attempt.phase == AttemptPhase::Cancelling {
        Activity::busy("Running", "The refresh runs longer than spec.timeout and is being cancelled")
    } else if attempt.started_at.is_some() {
        Activity::busy("Running", "Tableau refreshes the extract")
    } else {
        let long = attempt::queued_until(p, attempt)
            .zip(p.clock(attempt))
            .is_some_and(|(at, clock)| clock.lower >= at);
        Activity::busy(
            "Queued",
            if long { report::QUEUED_LONG } else { "The refresh waits in Tableau's queue" },
        )
    };
    if !p.reaches(attempt) {
        return Some(holds::unfollowed(p, attempt, activity));
    }
    if !p.jobs(attempt).details.contains_key(&job) {
        return Some(activity.plan(Plan::Look { jobs: BTreeSet::from([job]), list: None }));
    }
    if attempt.phase == AttemptPhase::Cancelling {
        let again = attempt.not_before.map(|Time(at)| at);
        let due = retry::due(attempt.not_before, p.now);
        return Some(if due { activity.plan(Plan::Cancel(job)) } else { activity.again(again) });
    }
    let left = |at: Timestamp, clock: Timestamp| add(p.now, at.duration_since(clock).unsigned_abs());
    let deadline = attempt::deadline(p, attempt).filter(|_| attempt.is_ours());
    let next = deadline.or(attempt::queued_until(p, attempt)).zip(p.clock(attempt));
    let next = next.filter(|(at, clock)| *at > clock.lower);
    Some(activity.again(next.map(|(at, clock)| left(at, clock.lower))))
}

fn recover(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    let attempt = s.attempt.as_ref().filter(|a| !a.is_blocked())?;
    let since = match p.o.intent {
        IntentView::InLedger => return None,
        IntentView::MaybeSent { since } => since,
        IntentView::None => p.o.moment,
    };
    if !p.reaches(attempt) {
        let message = "Whether a refresh was started is looked up when Tableau can be reached";
        return Some(holds::unfollowed(p, attempt, Activity::rests("Recovering", message)));
    }
    let settled = since.plus(p.o.settle);
    let settles = (p.o.moment < settled).then(|| add(p.now, settled.since(p.o.moment)));
    let recovering = Activity::rests("Recovering", "Whether a refresh was started is being looked up");
    let look = |jobs, list| Plan::Look { jobs, list };
    let since_fence = Some(attempt.fence.0);
    match &p.jobs(attempt).list {
        JobList::NotAllowed => Some(
            Activity::rests("JobListUnavailable", "Tableau lets only administrators of the site list its jobs: whether a refresh was started cannot be looked up, and after a while another is started")
                .again(settles),
        ),
        JobList::Unread => Some(recovering.plan(look(BTreeSet::new(), since_fence))),
        JobList::Read { asked, since: rows_since, .. } => {
            let jobs = recover::unlooked(p, s, attempt);
            // Once soon, to find the job early; once after the settle time, to know there is none.
            let stale = *asked < since || *rows_since > attempt.fence.0 || (settles.is_none() && *asked < settled);
            let nothing_to_read = jobs.is_empty() && !stale;
            Some(if nothing_to_read { recovering.again(settles) } else { recovering.plan(look(jobs, since_fence.filter(|_| stale))) })
        }
    }
}

fn give_way(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    let attempt = s.attempt.as_ref().filter(|a| a.is_blocked())?;
    if !connected(p) {
        return None; // `disconnected` says so
    }
    let since = Some(attempt::list_since(attempt));
    let waiting = Activity::rests("WaitingForOtherJob", "Another refresh of the extract has to end first");
    if let Some(job) = attempt.waits_for_job.as_deref().map(JobId::from) {
        let known = p.o.jobs.details.contains_key(&job);
        let look = Plan::Look { jobs: BTreeSet::from([job]), list: None };
        return Some(if known { waiting } else { waiting.plan(look) });
    }
    let jobs = others::unlooked(p, s, attempt);
    let read = others::read_since(p, others::refused_at(p), attempt);
    if !read || !jobs.is_empty() {
        return Some(waiting.plan(Plan::Look { jobs, list: since.filter(|_| !read) }));
    }
    let again = attempt.not_before.filter(|at| !retry::due(Some(*at), p.now)).map(|Time(at)| at)?;
    if p.o.jobs.list == JobList::NotAllowed {
        let message = "Another refresh of the extract is queued or running; Tableau lets only administrators of the site list its jobs, so a start is tried again";
        return Some(Activity::rests("JobListUnavailable", message).again(Some(again)));
    }
    Some(waiting.again(Some(again)))
}

fn send(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    let attempt = s.attempt.as_ref().filter(|a| !a.is_blocked())?;
    if let Some(held) = disconnected(p, s).or_else(|| untargeted(p, s)) {
        return Some(held);
    }
    let sending = Activity::busy("Queued", "The refresh is handed to Tableau");
    let clock = p.o.tableau_clock.filter(|_| standing(p, s, attempt) == Standing::Same);
    let Some(clock) = clock else { return Some(sending) };
    let left = attempt.fence.0.duration_since(clock.lower);
    if left.is_positive() {
        // Our job starts after the fence, so that it can be told from older ones if the answer is lost.
        return Some(sending.again(Some(add(p.now, left.unsigned_abs()))));
    }
    Some(sending.plan(Plan::Post(Box::new(attempt.clone()))))
}

fn suspended(p: &Pass, _: &ExtractRefreshStatus) -> Option<Activity> {
    if p.d.schedules.management == ManagementPolicy::Observe {
        let message = "managementPolicy is Observe: no refresh is started; completions are counted";
        return Some(Activity::rests("Suspended", message));
    }
    p.d.suspend.then(|| {
        Activity::rests("Suspended", "spec.suspend is true: no refresh is started; completions are counted")
    })
}

fn rest(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    if s.owed.is_some() {
        return None;
    }
    let never = s.data_time.is_none() && s.history.is_empty() && !p.d.upstreams.is_empty();
    let all = || (p.d.upstreams.iter().map(|u| u.name.as_str()).collect(), Vec::new());
    let Some((absent, outside)) = gate::missing(p.d, s).or_else(|| never.then(all)) else {
        return Some(Activity::rests("UpToDate", "Nothing is waiting to be refreshed"));
    };
    let mut message = format!("trigger.require is {}", p.d.require);
    for (names, what) in
        [(absent, "not completed anew"), (outside, "completed too long ago for trigger.within")]
    {
        if !names.is_empty() {
            message = format!("{message}; {what}: {}", marks::list(&names));
        }
    }
    let gone = report::missing_upstreams(p);
    if !gone.is_empty() {
        message = format!("{message}; not found: {}", marks::list(&gone));
    }
    Some(Activity::rests("WaitingForUpstreams", message))
}

fn stopped(_: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    let owed = s.owed.as_ref()?;
    Some(match (owed.stopped?, lasting(owed)) {
        (Stopped::Exhausted, Some(_)) => Activity::rests(
            "NotRetried",
            format!(
                "A retry does not mend this (LastRefreshSucceeded says what): when it is mended, {AGAIN}"
            ),
        ),
        (Stopped::Exhausted, None) => {
            Activity::rests("RetriesExhausted", format!("The retries are used up: {AGAIN}"))
        }
        (Stopped::Cancelled, _) => {
            Activity::rests("Cancelled", format!("The refresh was cancelled in Tableau: {AGAIN}"))
        }
    })
}

fn disconnected(p: &Pass, _: &ExtractRefreshStatus) -> Option<Activity> {
    let why = match p.o.site {
        SiteView::Ready { .. } => return None,
        SiteView::Missing => "does not exist".to_owned(),
        SiteView::NotReady { reason } => format!("is not ready ({reason})"),
    };
    Some(Activity::rests("ConnectionUnavailable", format!("A refresh is owed; {} {why}", p.d.site.site())))
}

fn untargeted(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    let target = named(&p.d.target);
    let wait = |why: String| Some(Activity::rests("Retrying", why));
    match (target::look(p, s), &p.o.claim) {
        (Look::Here, Claim::Ours) => None,
        (Look::Unread, _) => wait(format!("A refresh is owed; {target} is being looked up")),
        (Look::Wrong(..), _) => {
            wait("A refresh is owed; it starts when the target is in order: Ready says what is wrong".into())
        }
        (Look::Here, Claim::Unresolved) => {
            wait(format!("A refresh is owed; who refreshes {target} is being settled"))
        }
        (Look::Here, Claim::Taken { by }) => {
            wait(format!("A refresh is owed; {target} is refreshed by {by}"))
        }
        (Look::Here, Claim::Busy { by }) => {
            Some(Activity::rests("WaitingForOtherJob", format!("{by} ends its refresh of {target} first")))
        }
    }
}

/// Without a time, the budget is asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(60);

fn start(p: &Pass, s: &ExtractRefreshStatus) -> Option<Activity> {
    s.owed.as_ref()?;
    if let BudgetView::Held { by, until } = p.o.budget {
        let message = match by {
            Limit::PerHour => {
                "A refresh is owed; as many as the site's limit were started within the last hour, and others have their turn first"
            }
            Limit::Running => {
                "A refresh is owed; as many as the site's limit are running, and others have their turn first"
            }
        };
        let held = Activity::rests(fold::HELD_BY_BUDGET, message);
        // Nobody says when one that runs ends, and whoever has the place may be gone.
        return Some(if until.is_some() {
            held.held(until)
        } else {
            held.again(Some(add(p.now, ASK_AGAIN)))
        });
    }
    let starting = Activity::busy("Queued", "The refresh is handed to Tableau");
    let known = s.target.is_some() && p.o.tableau_clock.is_some();
    Some(if known { starting.plan(Plan::Intend) } else { starting })
}

fn connected(p: &Pass) -> bool {
    matches!(p.o.site, SiteView::Ready { .. })
}

/// Writes down what is about to be sent, naming the newest of every upstream.
fn intend(p: &Pass, s: &mut ExtractRefreshStatus, id: String) -> Step {
    let (Some(target), Some(clock)) = (&s.target, p.o.tableau_clock) else { return Step::Rest };
    let blocked = s.attempt.as_ref().map_or(0, |before| before.blocked);
    s.attempt = Some(Attempt {
        id: id.clone(),
        phase: AttemptPhase::Intended,
        intended_at: Time(p.now),
        fence: Time(ceil_second(clock.upper)),
        site: Some(p.d.site.to_string()),
        site_luid: target.site_luid.clone(),
        kind: target.kind,
        luid: target.luid.clone(),
        refresh_type: kinds::asked(p, s),
        seen: marks::newest(s),
        demands: s.owed.as_ref().map(|owed| owed.demands.clone()).unwrap_or_default(),
        job_id: None,
        origin: None,
        started_at: None,
        blocked,
        not_before: None,
        waits_for_job: None,
    });
    if let Some(owed) = &mut s.owed {
        owed.not_before = None;
    }
    Step::Intend { id }
}
