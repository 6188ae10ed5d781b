//! The budgets of Tableau sites: one for each origin, shared by all connections and sessions to it.

use super::context::Context;
use super::index::{Dependent, object_name};
use super::wakes::Wakes;
use crate::api::{Attempt, ExtractRefresh, ExtractRefreshStatus, JobOrigin};
use crate::model::budget::{Budget, Grant, Limits};
use crate::model::connection::{ConnectionState, Weight};
use crate::model::extract::Learnt;
use crate::model::ids::{ConnectionName, ObjectName};
use crate::model::time::Moment;
use jiff::Timestamp;
use kube::ResourceExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// By connection object; of those that count, the smallest hold.
    limits: BTreeMap<ObjectName, (Limits, Weight)>,
    seed: Seed,
}

/// What is known of starts before this process looked.
enum Seed {
    /// So far what status tells, as how long ago.
    Wanted(Vec<Duration>),
    /// The job list told.
    Listed,
    /// The job list may not be read: what status tells.
    Told,
}

impl Budgets {
    /// The budget of an origin, which this connection object leads to with these limits.
    pub fn of(&self, ctx: &Context, origin: &str, site: &ObjectName, limits: Limits) -> Arc<SiteBudget> {
        let mut all = lock(&self.all);
        all.retain(|known, budget| known == origin || !budget.forget(site, ctx.clock.moment()));
        let budget =
            all.entry(origin.to_owned()).or_insert_with(|| SiteBudget::new(limits, ctx.wakes.clone()));
        budget.join(ctx, site, limits);
        budget.clone()
    }

    /// The connection object is gone.
    pub fn forget(&self, site: &ObjectName, now: Moment) {
        lock(&self.all).retain(|_, budget| !budget.forget(site, now));
    }
}

impl SiteBudget {
    /// Nothing started, nobody waiting.
    pub fn new(limits: Limits, wakes: Wakes) -> Arc<Self> {
        let seed = Seed::Wanted(Vec::new());
        let inner = Inner { budget: Budget::new(limits), limits: BTreeMap::new(), seed };
        Arc::new(Self { inner: Mutex::new(inner), wakes })
    }

    fn join(&self, ctx: &Context, site: &ObjectName, limits: Limits) {
        let mut inner = lock(&self.inner);
        let known = inner.limits.get(site).map(|(_, weight)| *weight);
        inner.limits.insert(site.clone(), (limits, known.unwrap_or_default()));
        if known.is_none() {
            refreshes(ctx, site)
                .filter(|refresh| {
                    refresh.status.as_ref().is_some_and(|status| under_way(refresh, status).is_some())
                })
                .filter_map(|refresh| object_name(&*refresh))
                .for_each(|under_way| inner.budget.occupy(&under_way));
            let told = told(ctx, site, ctx.clock.now());
            match &mut inner.seed {
                Seed::Wanted(ages) => ages.extend(told),
                Seed::Told => inner.budget.seed(told, ctx.clock.moment()),
                Seed::Listed => {}
            }
        }
        let woken = inner.tighten(ctx.clock.moment());
        drop(inner);
        self.wake(woken);
    }

    /// How a connection object that leads here is now: its limits count for the others as long as it is let in.
    pub fn heard(&self, site: &ObjectName, state: &ConnectionState, now: Moment) {
        let mut inner = lock(&self.inner);
        let Some((_, weight)) = inner.limits.get_mut(site) else { return };
        let after = weight.after(state);
        if std::mem::replace(weight, after) == after {
            return;
        }
        let woken = inner.tighten(now);
        drop(inner);
        self.wake(woken);
    }

    /// True: no connection object leads here any more.
    fn forget(&self, site: &ObjectName, now: Moment) -> bool {
        let mut inner = lock(&self.inner);
        let known = inner.limits.remove(site).is_some();
        let woken = if known { inner.tighten(now) } else { Vec::new() };
        let empty = inner.limits.is_empty();
        drop(inner);
        self.wake(woken);
        empty
    }

    /// Whether starts are limited, and those before this process looked are still to be counted.
    pub fn wants_seed(&self) -> bool {
        let inner = lock(&self.inner);
        matches!(inner.seed, Seed::Wanted(_))
            && inner.limits.values().any(|(limits, _)| limits.per_hour.is_some())
    }

    /// Counts what was started within the last hour: how long ago each, by the job list; none: it may not be read.
    pub fn seed(&self, listed: Option<Vec<Duration>>, now: Moment) {
        let mut inner = lock(&self.inner);
        let next = if listed.is_some() { Seed::Listed } else { Seed::Told };
        if let Seed::Wanted(told) = std::mem::replace(&mut inner.seed, next) {
            inner.budget.seed(listed.unwrap_or(told), now);
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
    /// Who has his turn now.
    fn tighten(&mut self, now: Moment) -> Vec<ObjectName> {
        let limits = Weight::least(self.limits.values().copied(), Limits::and);
        limits.map(|limits| self.budget.limit(limits, now)).unwrap_or_default()
    }
}

/// How long ago refreshes of these resources were started within the last hour, as far as status tells: for an account that may not list jobs.
fn told(ctx: &Context, site: &ObjectName, now: Timestamp) -> Vec<Duration> {
    let ours = |origin: Option<JobOrigin>| origin != Some(JobOrigin::Adopted);
    let starts = refreshes(ctx, site).flat_map(|refresh| {
        let status = refresh.status.clone().unwrap_or_default();
        let under_way = under_way(&refresh, &status).cloned();
        let ended =
            status.history.into_iter().filter(|h| ours(h.origin)).filter_map(|h| h.started_at.or(h.ended_at));
        let under_way = under_way.filter(|a| ours(a.origin)).map(|a| a.intended_at);
        ended.chain(under_way).map(|at| at.0).collect::<Vec<_>>()
    });
    let lately = starts.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    lately.filter(|age| *age < Duration::from_secs(3600)).collect()
}

/// The refresh that is under way through the connection that the resource names; one through another takes no place here.
fn under_way<'a>(refresh: &ExtractRefresh, status: &'a ExtractRefreshStatus) -> Option<&'a Attempt> {
    let named = ConnectionName::from(&refresh.spec.site_ref);
    status.attempt.as_ref().filter(|attempt| attempt.learnt(&named) == Learnt::Here)
}

/// The resources that name this connection.
fn refreshes(ctx: &Context, site: &ObjectName) -> impl Iterator<Item = Arc<ExtractRefresh>> {
    let site = site.clone();
    let names = move |refresh: &Arc<ExtractRefresh>| {
        let named = ConnectionName::from(&refresh.spec.site_ref);
        named.seen_from(&refresh.namespace().unwrap_or_default().into()) == site
    };
    ctx.objects.refreshes.store.state().into_iter().filter(names)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
