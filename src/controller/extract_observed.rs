//! What is known about the world when an `ExtractRefresh` is decided on: memory only.

use super::context::Context;
use super::extract_claims::{claim, estate};
use super::extract_warnings;
use super::index::{Denied, Dependent, declared};
use super::ledger::Entry;
use super::site::{Health, SiteSession, SiteSnapshot};
use super::tenants;
use super::workspace::{DeploymentView, Health as PrefectHealth};
use crate::api::{AttemptPhase, ExtractRefreshStatus, FlowDeployment, ScheduleIntent, TableauSite};
use crate::guards::{Guard, holds};
use crate::http::Unreachable;
use crate::model::conditions;
use crate::model::connection::{Standing, standing};
use crate::model::extract::{
    self, Apart, Bounds, BudgetView, Claim, Desired, InProgress, IntentView, JobsView, Learnt, Observed,
    Schedules, SiteView, Source, TargetView, TasksView, Upstream, UpstreamView,
};
use crate::model::feeds::Feed;
use crate::model::ids::{ConnectionName, Luid, ObjectName};
use crate::model::tasks::Task;
use crate::model::tenancy::Access;
use crate::model::time::{ClockReading, Moment, add};
use crate::tableau::{IdentityError, TableauError};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Everything a decision looks at beside the spec and the status.
pub fn observe(
    ctx: &Context,
    desired: &Desired,
    stored: &ExtractRefreshStatus,
    at: &ObjectName,
    session: Option<&Arc<SiteSession>>,
) -> Observed {
    let moment = ctx.clock.moment();
    let standing = ctx.objects.site(at).map_or(Standing::Unheld, |object| standing(&*object));
    // A connection that is being deleted is not there for those who have not found their target through it yet.
    let shut = standing == Standing::Leaving && stored.target.is_none();
    let session = session.filter(|_| !shut);
    let snapshot = session.map(|session| session.snapshot());
    let site = snapshot.as_ref().and_then(|snapshot| snapshot.health.site());
    let target = match (&snapshot, site) {
        (Some(snapshot), Some(site)) => {
            let before = extract::found_before(&desired.target, Some(stored));
            snapshot.contents.resolve(site, &desired.target, before.as_ref())
        }
        (None, _) | (_, None) => TargetView::Unread,
    };
    let (access, target) = judged(ctx, desired, target);
    let claim = match &target {
        TargetView::Found(found) | TargetView::NoExtract(found) => claim(ctx, desired, at, found),
        TargetView::Unread
        | TargetView::NotFound
        | TargetView::Elsewhere(_)
        | TargetView::Ambiguous(_)
        | TargetView::Forbidden => Claim::Unresolved,
    };
    let inherited = match &claim {
        Claim::Busy { by } => estate(ctx, by),
        Claim::Unresolved | Claim::Ours | Claim::Taken { .. } => None,
    };
    let upstreams: BTreeMap<String, UpstreamView> = desired
        .upstreams
        .iter()
        .map(|upstream| (upstream.name.clone(), upstream_view(ctx, &desired.name, upstream, moment)))
        .collect();
    let unseen = upstreams.iter().filter(|(_, view)| matches!(view, UpstreamView::Denied { .. }));
    let denied = Denied {
        // One that is judged by where it was found is looked for all the while.
        itself: matches!(tenants::extract(ctx, desired, None), Access::Denied(_)),
        upstreams: unseen.map(|(name, _)| name.clone()).collect(),
    };
    tenants::judged(ctx, &Dependent::Refresh(desired.name.clone()), denied);
    // Those to whom jobs do not matter need not carry the list around.
    let busy = extract::reads_jobs(stored);
    let jobs = match (&snapshot, busy) {
        (Some(snapshot), true) => {
            let used_up = session.and_then(|session| session.budget.used_up(moment));
            JobsView {
                used_up: used_up.map(|until| add(ctx.clock.now(), until.since(moment))),
                ..jobs_view(snapshot)
            }
        }
        (None, _) | (_, false) => JobsView::default(),
    };
    let under_way = stored.attempt.as_ref().filter(|attempt| attempt.learnt(&desired.site) == Learnt::Here);
    Observed {
        formers: formers(ctx, desired, stored),
        leaving: leaving(ctx, desired, stored),
        site: if shut {
            SiteView::NotReady { reason: "Deleting" }
        } else if let (Access::Denied(_), None, false) = (&access, under_way, desired.deleting) {
            // It is there for what is under way alone.
            SiteView::NotReady { reason: "AccessDenied" }
        } else {
            site_view(ctx, at, snapshot.as_ref().map(|snapshot| &snapshot.health))
        },
        access,
        standing,
        credential: ctx.sites.get(at).map(|link| link.key.fingerprint(&format!("{}/{at}", ctx.instance))),
        target: target.clone(),
        claim,
        upstreams,
        baseline: baseline(ctx, desired, moment),
        tableau_clock: session.and_then(|s| s.client.clock()).map(|reading| bounds(&reading, moment)),
        jobs,
        apart: apart(ctx, desired, stored, moment),
        schedules: Schedules {
            estate: inherited,
            ..schedules(ctx, desired, stored, (session, snapshot.as_deref()), &target)
        },
        warnings: extract_warnings::view(ctx, &desired.name, stored),
        // Asked only for what is about to start: see `budgeted`.
        budget: BudgetView::Free,
        intent: intent(ctx, stored, moment),
        moment,
        settle: if holds(Guard::SettleTime) { ctx.settle } else { Duration::ZERO },
        cleanup_deadline: ctx.cleanup_deadline,
        instance: ctx.instance.clone(),
    }
}

/// What the connection lets be seen of the target. Who is leaving may take away what was made while it was allowed.
fn judged(ctx: &Context, desired: &Desired, target: TargetView) -> (Access, TargetView) {
    if desired.deleting {
        return (Access::Allowed, target);
    }
    let found = match &target {
        TargetView::Found(found) | TargetView::NoExtract(found) => Some(found),
        TargetView::Unread
        | TargetView::NotFound
        | TargetView::Elsewhere(_)
        | TargetView::Ambiguous(_)
        | TargetView::Forbidden => None,
    };
    let access = tenants::extract(ctx, desired, found);
    let target = match (&access, target) {
        (Access::Denied(_) | Access::Unknown, _) => TargetView::Unread,
        // Where it went is for those to know who may see it there.
        (Access::Allowed, TargetView::Elsewhere(found)) if !tenants::may_see(ctx, desired, &found) => {
            TargetView::NotFound
        }
        (Access::Allowed, target) => target,
    };
    (access, target)
}

/// How those connections stand that status names and the spec does not.
fn formers(
    ctx: &Context,
    desired: &Desired,
    stored: &ExtractRefreshStatus,
) -> BTreeMap<ConnectionName, SiteView> {
    let view = |site: &ConnectionName| {
        let at = site.seen_from(&desired.name.namespace);
        let snapshot = ctx.sites.get(&at).map(|link| link.session.snapshot());
        site_view(ctx, &at, snapshot.as_ref().map(|snapshot| &snapshot.health))
    };
    extract::formers(stored, &desired.site).into_iter().map(|site| (site.clone(), view(&site))).collect()
}

/// Which of them are being deleted, and since when.
fn leaving(
    ctx: &Context,
    desired: &Desired,
    stored: &ExtractRefreshStatus,
) -> BTreeMap<ConnectionName, Timestamp> {
    let since = |site: &ConnectionName| {
        let object = ctx.objects.site(&site.seen_from(&desired.name.namespace))?;
        object.metadata.deletion_timestamp.as_ref().map(|at| at.0)
    };
    let formers = extract::formers(stored, &desired.site).into_iter();
    formers.filter_map(|site| since(&site).map(|since| (site, since))).collect()
}

fn jobs_view(snapshot: &SiteSnapshot) -> JobsView {
    let (list, details) = (snapshot.list.clone(), snapshot.details.as_ref().clone());
    JobsView { list, details, used_up: None }
}

/// What is known of the attempt, if it is made through another connection than that of the spec.
fn apart(ctx: &Context, desired: &Desired, stored: &ExtractRefreshStatus, moment: Moment) -> Apart {
    let learnt = stored.attempt.as_ref().map(|attempt| attempt.learnt(&desired.site));
    let Some(Learnt::At(site)) = learnt else { return Apart::default() };
    let Some(link) = ctx.sites.get(&site.seen_from(&desired.name.namespace)) else { return Apart::default() };
    let snapshot = link.session.snapshot();
    Apart {
        jobs: jobs_view(&snapshot),
        clock: link.session.client.clock().map(|reading| bounds(&reading, moment)),
    }
}

/// The tasks of the content of an intent that is made through another connection than that of the spec, as that one has them.
fn former_tasks(ctx: &Context, desired: &Desired, intent: Option<&ScheduleIntent>) -> TasksView {
    let Some(intent) = intent else { return TasksView::Unread };
    let Learnt::At(site) = intent.learnt(&desired.site) else { return TasksView::Unread };
    let link = ctx.sites.get(&site.seen_from(&desired.name.namespace));
    link.map_or(TasksView::Unread, |link| {
        link.session.tasks_of(&intent.luid.as_str().into(), &|_: &Task| false)
    })
}

/// What is known of schedules that Tableau runs; nothing for those who have nothing to do with them.
fn schedules(
    ctx: &Context,
    desired: &Desired,
    stored: &ExtractRefreshStatus,
    (session, snapshot): (Option<&Arc<SiteSession>>, Option<&SiteSnapshot>),
    target: &TargetView,
) -> Schedules {
    let mut all = Schedules::nothing();
    let intent = stored.schedule_intent.as_ref();
    all.former_tasks = former_tasks(ctx, desired, intent);
    all.intent =
        intent.map_or(IntentView::None, |intent| match ctx.ledger.look(&intent.id, ctx.clock.moment()) {
            Entry::Unspent => IntentView::InLedger,
            Entry::Spent { since } => IntentView::MaybeSent { since },
        });
    let memory = ctx.schedule_memory.lock().unwrap_or_else(PoisonError::into_inner);
    all.memory = memory.get(&desired.name).cloned();
    drop(memory);
    let (Some(session), Some(snapshot), true) =
        (session, snapshot, extract::concerns(&desired.schedules, stored))
    else {
        return all;
    };
    all.edition = session.edition;
    let luid = match target {
        TargetView::Found(found) | TargetView::NoExtract(found) => Some(found.luid.clone()),
        // A resource that is leaving looks for what it made, wherever its target is.
        TargetView::Unread
        | TargetView::NotFound
        | TargetView::Elsewhere(_)
        | TargetView::Ambiguous(_)
        | TargetView::Forbidden => stored.target.as_ref().map(|target| Luid::from(target.luid.as_str())),
    };
    let known = |task: &Task| {
        stored.schedules.iter().any(|entry| {
            entry.task_id.as_deref() == Some(task.id.as_str()) && entry.learnt(&desired.site) == Learnt::Here
        }) || intent.is_some_and(|i| task.content.as_ref().is_some_and(|luid| luid.as_str() == i.luid))
    };
    if let Some(luid) = luid {
        all.tasks = session.tasks_of(&luid, &known);
    }
    all.server = snapshot.schedules.clone();
    all
}

/// How the connection stands, by what it is connected to.
pub(super) fn site_view(ctx: &Context, at: &ObjectName, health: Option<&Health>) -> SiteView {
    let Some(object) = ctx.objects.site(at) else { return SiteView::Missing };
    match health {
        Some(Health::Connected(site))
            if object
                .status
                .as_ref()
                .and_then(|s| s.site_luid.as_deref())
                .is_none_or(|luid| luid == site.luid.as_str()) =>
        {
            SiteView::Ready { luid: site.luid.clone() }
        }
        Some(Health::Connected(_)) => SiteView::NotReady { reason: "SiteChanged" },
        Some(Health::Failed(error, _)) => SiteView::NotReady { reason: reason(&object, error) },
        // What it says itself, but for what an earlier process found good.
        None | Some(Health::Connecting) => SiteView::NotReady { reason: told_reason(&object) },
    }
}

/// Reasons of a site that has no session yet.
const WITHOUT_SESSION: [&str; 12] = [
    "Suspended",
    "SecretNotFound",
    "SecretAccessDenied",
    "SecretKeyMissing",
    "ConfigMapNotFound",
    "ConfigMapAccessDenied",
    "ConfigMapKeyMissing",
    "CaBundleInvalid",
    "HeaderInvalid",
    "HostNotAllowed",
    "AccessDenied",
    "UnsupportedSpec",
];

fn told_reason(site: &TableauSite) -> &'static str {
    let told = site.status.as_ref().and_then(|status| conditions::reason_of(status, "Ready"));
    WITHOUT_SESSION.into_iter().find(|reason| told == Some(reason)).unwrap_or("Progressing")
}

/// Why the site fails: what its own condition says, or will say.
fn reason(site: &TableauSite, error: &TableauError) -> &'static str {
    match error {
        TableauError::SignInRefused => {
            // Which of the two is for the site to tell: it knows whether this credential ever worked.
            let told = site.status.as_ref().and_then(|status| conditions::reason_of(status, "Ready"));
            if told == Some("PatRevoked") { "PatRevoked" } else { "CredentialsInvalid" }
        }
        TableauError::SessionContested => "SessionContested",
        TableauError::MissingScope | TableauError::Identity(IdentityError::MissingScope) => "MissingScope",
        TableauError::Identity(
            IdentityError::NoAssertion
            | IdentityError::Refused
            | IdentityError::NoToken
            | IdentityError::Claim(_),
        ) => "CredentialsInvalid",
        TableauError::Identity(IdentityError::NotGranted) => "AccessDenied",
        TableauError::Forbidden(_) => "PermissionDenied",
        TableauError::Throttled { .. } | TableauError::Identity(IdentityError::Throttled { .. }) => {
            "RateLimited"
        }
        TableauError::WrongServer
        | TableauError::NotFound(_)
        | TableauError::Identity(IdentityError::WrongServer) => "WrongServer",
        TableauError::UnsupportedVersion { .. } => "UnsupportedVersion",
        TableauError::Unreachable(why) | TableauError::Identity(IdentityError::Unreachable(why)) => match why
        {
            Unreachable::Dns => "DnsFailed",
            Unreachable::Tls => "TlsFailed",
            Unreachable::HostNotAllowed(_) => "HostNotAllowed",
            Unreachable::Connect => "Unreachable",
        },
        TableauError::Ambiguous
        | TableauError::NotLeading
        | TableauError::Rejected(_)
        | TableauError::Identity(IdentityError::Unanswered) => "Unreachable",
    }
}

/// Through which connection an upstream is seen, which runs it means, and the `FlowDeployment` that declares them.
pub type Means = (ConnectionName, Feed, Option<Arc<FlowDeployment>>);

/// What an upstream means; the name of a `FlowDeployment` that is missing.
pub fn source_of(ctx: &Context, me: &ObjectName, upstream: &Upstream) -> Result<Means, Arc<str>> {
    match &upstream.source {
        Source::Prefect { workspace, feed } => Ok((workspace.clone(), feed.clone(), None)),
        Source::FlowDeployment(flow) => {
            let name = ObjectName { namespace: me.namespace.clone(), name: flow.as_str().into() };
            let object = ctx.objects.flows.get(&name).ok_or_else(|| name.name.clone())?;
            let feed = Feed::Deployment(declared(&object));
            Ok(((&object.spec.workspace_ref).into(), feed, Some(object)))
        }
    }
}

fn upstream_view(ctx: &Context, me: &ObjectName, upstream: &Upstream, moment: Moment) -> UpstreamView {
    let missing = |message: String, reference| UpstreamView::Missing { message, reference };
    let (named, feed, declares) = match source_of(ctx, me, upstream) {
        Ok(source) => source,
        Err(flow) => {
            let message = format!(
                "FlowDeployment `{flow}` does not exist in this namespace; create it or correct spec.upstreams"
            );
            return missing(message, true);
        }
    };
    let workspace = named.seen_from(&me.namespace);
    let access = tenants::upstream(ctx, &me.namespace, &named, &feed, declares.as_deref());
    if let Access::Denied(message) = access {
        return UpstreamView::Denied { message };
    }
    if ctx.objects.workspace(&workspace).is_none() {
        return missing(
            format!(
                "{} does not exist{}; create it or correct spec.upstreams",
                named.workspace(),
                named.place()
            ),
            true,
        );
    }
    if access == Access::Unknown {
        return UpstreamView::Unread { key: None, clock: None, stuck: false };
    }
    let key = upstream.key(&named, &feed);
    let Some(link) = ctx.workspaces.get(&workspace) else {
        return UpstreamView::Unread { key: Some(key), clock: None, stuck: false };
    };
    let snapshot = link.session.snapshot();
    let clock = link.session.client.clock();
    let paused = match &feed {
        Feed::Deployment(name) => match link.session.deployment(name) {
            DeploymentView::Absent => {
                return missing(
                    format!(
                        "deployment `{name}` does not exist in Prefect; deploy it there or correct spec.upstreams"
                    ),
                    false,
                );
            }
            DeploymentView::Present(deployment) => deployment.paused,
            DeploymentView::Unread | DeploymentView::Dirty => false,
        },
        // There is nothing of that kind that could be missing or paused.
        Feed::Runs(_) => false,
    };
    let selection = &upstream.selection;
    match (snapshot.runs.get(&feed), clock) {
        (Some(runs), Some(clock)) if runs.settled.contains(selection) => UpstreamView::Read {
            key,
            occasions: runs.occasions.iter().filter(|seen| selection.counts(seen)).cloned().collect(),
            given_up: runs.given_up.contains(selection),
            newest_ended: runs.newest_end(selection),
            paused,
            running: snapshot.running.get(&feed).map(|running| InProgress {
                runs: running.runs.iter().filter(|run| selection.takes(&run.parameters)).cloned().collect(),
                ..**running
            }),
            clock: bounds(&clock, moment),
        },
        (runs, clock) => UpstreamView::Unread {
            key: Some(key),
            clock: clock.map(|clock| bounds(&clock, moment)),
            stuck: runs.is_some_and(|runs| runs.stuck && !runs.settled.contains(selection)),
        },
    }
}

/// `creationTimestamp` on Prefect's clock, erring early: one refresh too many rather than one too few (docs/trigger.md 7).
fn baseline(ctx: &Context, desired: &Desired, moment: Moment) -> Option<Timestamp> {
    let api = ctx.api_clock.reading()?.upper(moment);
    let workspaces = desired.upstreams.iter().filter_map(|upstream| {
        let here = |name: &str| ObjectName { namespace: desired.name.namespace.clone(), name: name.into() };
        match &upstream.source {
            Source::Prefect { workspace, .. } => Some(workspace.seen_from(&desired.name.namespace)),
            Source::FlowDeployment(flow) => ctx.objects.flows.get(&here(flow)).map(|flow| {
                ConnectionName::from(&flow.spec.workspace_ref).seen_from(&desired.name.namespace)
            }),
        }
    });
    let prefect = workspaces
        .filter_map(|workspace| {
            let link = ctx.workspaces.get(&workspace)?;
            matches!(link.session.snapshot().health, PrefectHealth::Connected(_)).then_some(())?;
            Some(link.session.client.clock()?.lower(moment))
        })
        .min()?;
    // How far Prefect's clock is behind the API server's, at most; negative: ahead.
    let behind = api.duration_since(prefect);
    let at = desired.created_at.checked_sub(behind).ok()?;
    Timestamp::from_second(at.as_second()).ok()
}

fn intent(ctx: &Context, stored: &ExtractRefreshStatus, moment: Moment) -> IntentView {
    match &stored.attempt {
        Some(attempt) if attempt.phase == AttemptPhase::Intended && attempt.job_id.is_none() => {
            match ctx.ledger.look(&attempt.id, moment) {
                Entry::Unspent => IntentView::InLedger,
                Entry::Spent { since } => IntentView::MaybeSent { since },
            }
        }
        Some(_) | None => IntentView::None,
    }
}

fn bounds(reading: &ClockReading, now: Moment) -> Bounds {
    Bounds { lower: reading.lower(now), upper: reading.upper(now) }
}
