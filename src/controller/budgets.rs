//! The budgets of Tableau sites: one for each origin, shared by all connections and sessions to it.

use super::context::Context;
use super::index::{Dependent, Key, object_name};
use super::tenants;
use super::wakes::Wakes;
use crate::api::{Attempt, ExtractRefresh, ExtractRefreshStatus, JobOrigin};
use crate::model::budget::{Budget, Grant, Limits};
use crate::model::connection::{ConnectionState, Weight};
use crate::model::extract::{Desired, Learnt};
use crate::model::ids::{ConnectionName, ObjectName};
use crate::model::tenancy::Access;
use crate::model::time::Moment;
use jiff::Timestamp;
use kube::ResourceExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a start counts.
const HOUR: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Default)]
pub struct Budgets {
    all: Mutex<HashMap<String, Arc<SiteBudget>>>,
}

/// The budget of one origin.
pub struct SiteBudget {
    inner: Mutex<Inner>,
    wakes: Wakes,
}

struct Inner {
    budget: Budget,
    /// By connection object; of those that count, the smallest limits hold.
    members: BTreeMap<ObjectName, Member>,
    seed: Seed,
}

/// A connection object that leads here.
struct Member {
    limits: Limits,
    weight: Weight,
    /// Starts before this process looked, as status tells of them: how long ago, and when that was. It is the word of whoever may write there, so
    /// that nobody is held up by it whose connection is not let in.
    told: Option<(Vec<Duration>, Moment)>,
}

/// What is known of starts before this process looked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seed {
    /// Nothing yet.
    Wanted,
    /// The job list told.
    Listed,
    /// The job list may not be read: what status tells.
    Told,
}

impl Budgets {
    /// The budget of an origin, which this connection object leads to with these limits.
    pub fn of(&self, ctx: &Context, origin: &str, site: &ObjectName, limits: Limits) -> Arc<SiteBudget> {
        let mut all = lock(&self.all);
        all.retain(|known, budget| known == origin || !budget.forget(ctx, site));
        let budget =
            all.entry(origin.to_owned()).or_insert_with(|| SiteBudget::new(limits, ctx.wakes.clone()));
        budget.join(ctx, (origin, site), limits);
        budget.clone()
    }

    /// The connection object is gone, or not used for now.
    pub fn forget(&self, ctx: &Context, site: &ObjectName) {
        lock(&self.all).retain(|_, budget| !budget.forget(ctx, site));
    }

    /// What is declared through this connection counts otherwise than before at this place: then so do the places of what is under way.
    pub fn turned(&self, ctx: &Context, origin: &str, site: &ObjectName) {
        let budget = lock(&self.all).get(origin).cloned();
        if let Some(budget) = budget.filter(|budget| lock(&budget.inner).members.contains_key(site)) {
            if ctx.let_in.counts(&Key::Site(site.clone()), origin) {
                lock(&budget.inner).occupy(ctx, site);
            } else {
                budget.vacate(ctx, site);
            }
        }
    }
}

impl SiteBudget {
    /// Nothing started, nobody waiting.
    pub fn new(limits: Limits, wakes: Wakes) -> Arc<Self> {
        let inner = Inner { budget: Budget::new(limits), members: BTreeMap::new(), seed: Seed::Wanted };
        Arc::new(Self { inner: Mutex::new(inner), wakes })
    }

    fn join(&self, ctx: &Context, (origin, site): (&str, &ObjectName), limits: Limits) {
        let mut inner = lock(&self.inner);
        if let Some(known) = inner.members.get_mut(site) {
            known.limits = limits;
        } else {
            // What its status says may be anybody's word, as long as it is not let in.
            if ctx.let_in.counts(&Key::Site(site.clone()), origin) {
                inner.occupy(ctx, site);
            }
            let told = Some((told(ctx, site, ctx.clock.now()), ctx.clock.moment()));
            inner.members.insert(site.clone(), Member { limits, weight: Weight::default(), told });
        }
        let woken = inner.tighten(ctx.clock.moment());
        drop(inner);
        self.wake(woken);
    }

    /// How a connection object that leads here is now: its limits count for the others as long as it is let in.
    pub fn heard(&self, site: &ObjectName, state: &ConnectionState, now: Moment) {
        let mut inner = lock(&self.inner);
        let Some(member) = inner.members.get_mut(site) else { return };
        let after = member.weight.after(state);
        if std::mem::replace(&mut member.weight, after) == after {
            return;
        }
        if after == Weight::Proven && inner.seed == Seed::Told {
            inner.count(site, now);
        }
        let woken = inner.tighten(now);
        drop(inner);
        self.wake(woken);
    }

    /// True: no connection object leads here any more.
    fn forget(&self, ctx: &Context, site: &ObjectName) -> bool {
        let mut inner = lock(&self.inner);
        let known = inner.members.remove(site).is_some();
        let woken = if known { inner.tighten(ctx.clock.moment()) } else { Vec::new() };
        let empty = inner.members.is_empty();
        drop(inner);
        self.wake(woken);
        if known {
            self.vacate(ctx, site);
        }
        empty
    }

    /// Nobody is asked any more about what is under way through this connection, so that nobody would tell when it has ended.
    fn vacate(&self, ctx: &Context, site: &ObjectName) {
        for who in refreshes(ctx, site).filter_map(|refresh| object_name(&*refresh)) {
            self.leave(&who, ctx.clock.moment());
        }
    }

    /// Whether starts are limited, and those before this process looked are still to be counted.
    pub fn wants_seed(&self) -> bool {
        let inner = lock(&self.inner);
        inner.seed == Seed::Wanted && inner.members.values().any(|member| member.limits.per_hour.is_some())
    }

    /// Counts what was started within the last hour: how long ago each, by the job list; none: it may not be read. `asked`: the connection objects
    /// whose session has asked for it, and so is let in.
    pub fn seed(&self, listed: Option<Vec<Duration>>, asked: &[ObjectName], now: Moment) {
        let mut inner = lock(&self.inner);
        let next = if listed.is_some() { Seed::Listed } else { Seed::Told };
        if std::mem::replace(&mut inner.seed, next) != Seed::Wanted {
            return;
        }
        if let Some(listed) = listed {
            return inner.budget.seed(listed, now);
        }
        let proven =
            |site: &ObjectName, member: &Member| member.weight == Weight::Proven || asked.contains(site);
        let proven: Vec<ObjectName> = inner
            .members
            .iter()
            .filter(|(site, member)| proven(site, member))
            .map(|(site, _)| site.clone())
            .collect();
        for site in proven {
            inner.count(&site, now);
        }
    }

    /// Asks for a start.
    pub fn ask(&self, who: &ObjectName, priority: u8, now: Moment) -> Grant {
        let (grant, woken) = lock(&self.inner).budget.ask(who, priority, now);
        self.wake(woken);
        grant
    }

    /// A refresh of this resource is under way.
    pub fn occupy(&self, who: &ObjectName) {
        lock(&self.inner).budget.occupy(who);
    }

    /// The place given is used now.
    pub fn started(&self, who: &ObjectName, now: Moment) {
        lock(&self.inner).budget.started(who, now);
    }

    /// What was started then was refused.
    pub fn refused(&self, started: Moment) {
        lock(&self.inner).budget.refused(started);
    }

    /// Wants nothing and runs nothing.
    pub fn leave(&self, who: &ObjectName, now: Moment) {
        let woken = lock(&self.inner).budget.leave(who, now);
        self.wake(woken);
    }

    /// Notes questions about jobs.
    pub fn queried(&self, questions: u32, now: Moment) {
        lock(&self.inner).budget.queried(questions, now);
    }

    /// See [`Budget::used_up`].
    pub fn used_up(&self, now: Moment) -> Option<Moment> {
        lock(&self.inner).budget.used_up(now)
    }

    /// See [`Budget::pace`].
    pub fn pace(&self, questions: u32, now: Moment) -> Option<Duration> {
        lock(&self.inner).budget.pace(questions, now)
    }

    fn wake(&self, who: Vec<ObjectName>) {
        for name in who {
            self.wakes.dependent(&Dependent::Refresh(name));
        }
    }
}

impl Inner {
    /// What is under way through this connection takes its places.
    fn occupy(&mut self, ctx: &Context, site: &ObjectName) {
        for refresh in refreshes(ctx, site).filter(|refresh| is_followed(refresh)) {
            if let Some(who) = object_name(&*refresh) {
                self.budget.occupy(&who);
            }
        }
    }

    /// Counts what status tells of this connection, once.
    fn count(&mut self, site: &ObjectName, now: Moment) {
        let told = self.members.get_mut(site).and_then(|member| member.told.take());
        let Some((ages, at)) = told else { return };
        let passed = now.since(at);
        let lately = ages.into_iter().map(|age| age + passed).filter(|age| *age < HOUR);
        self.budget.seed(lately, now);
    }

    /// Who has his turn now.
    fn tighten(&mut self, now: Moment) -> Vec<ObjectName> {
        let limits = self.members.values().map(|member| (member.limits, member.weight));
        let limits = Weight::least(limits, Limits::and);
        limits.map(|limits| self.budget.limit(limits, now)).unwrap_or_default()
    }
}

/// How long ago refreshes of these resources were started within the last hour, as far as status tells: for an account that may not list jobs.
fn told(ctx: &Context, site: &ObjectName, now: Timestamp) -> Vec<Duration> {
    let ours = |origin: Option<JobOrigin>| origin != Some(JobOrigin::Adopted);
    let named = ConnectionName::of(site);
    let starts = refreshes(ctx, site).filter(|refresh| may(ctx, refresh)).flat_map(|refresh| {
        let status = refresh.status.clone().unwrap_or_default();
        let under_way = under_way(&refresh, &status).cloned();
        let ended = status.history.into_iter().filter(|h| ours(h.origin) && h.learnt(&named) == Learnt::Here);
        let ended = ended.filter_map(|h| h.started_at.or(h.ended_at));
        let under_way = under_way.filter(|a| ours(a.origin)).map(|a| a.intended_at);
        ended.chain(under_way).map(|at| at.0).collect::<Vec<_>>()
    });
    let lately = starts.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    lately.filter(|age| *age < HOUR).collect()
}

/// Whether its connection may allow what a resource declares.
fn may(ctx: &Context, refresh: &ExtractRefresh) -> bool {
    let desired = Desired::parse(refresh, None);
    desired.is_ok_and(|desired| !matches!(tenants::extract(ctx, &desired, None), Access::Denied(_)))
}

/// The refresh that is under way through the connection that the resource names; one through another takes no place here.
fn under_way<'a>(refresh: &ExtractRefresh, status: &'a ExtractRefreshStatus) -> Option<&'a Attempt> {
    let named = ConnectionName::from(&refresh.spec.site_ref);
    status.attempt.as_ref().filter(|attempt| attempt.learnt(&named) == Learnt::Here)
}

/// Whether something is under way that is followed to its end there. Of what is being deleted, or cannot be understood, nothing is.
fn is_followed(refresh: &ExtractRefresh) -> bool {
    let attempt = refresh.status.as_ref().and_then(|status| under_way(refresh, status));
    attempt.is_some_and(|attempt| !attempt.is_blocked())
        && refresh.metadata.deletion_timestamp.is_none()
        && Desired::parse(refresh, None).is_ok()
}

/// The resources that name this connection, our own newest writes included.
fn refreshes(ctx: &Context, site: &ObjectName) -> impl Iterator<Item = Arc<ExtractRefresh>> {
    let site = site.clone();
    let names = move |refresh: &Arc<ExtractRefresh>| {
        let named = ConnectionName::from(&refresh.spec.site_ref);
        named.seen_from(&refresh.namespace().unwrap_or_default().into()) == site
    };
    let all = ctx.objects.refreshes.store.state().into_iter();
    all.map(|refresh| ctx.objects.refreshes.cache.newest(refresh)).filter(names)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
