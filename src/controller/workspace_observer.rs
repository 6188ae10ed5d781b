//! The only reader of a Prefect workspace: reads in bulk on a timer and on hints, publishes a snapshot, then wakes the dependents of what
//! differs. Cost per cycle: the flows and deployments that matter (N/200 calls each) and the runs that ended since the cursor.

use super::workspace::{Health, Hint, Row, Runs, Setup, WorkspaceSnapshot, wake_what_differs};
use crate::model::extract::Seen;
use crate::model::ids::{DeploymentId, DeploymentName, RunId, StateId};
use crate::model::runs::{Run, StateType, TERMINAL};
use crate::model::time::{Moment, sub};
use crate::prefect::{Prefect, PrefectError, RunQuery};
use crate::runtime::metrics::{Cycle, Service};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How far back is read at first, after a restart, and by the sweep.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How far the cursor stays behind, for rows that were committed late.
const OVERLAP: Duration = Duration::from_secs(60);
/// Events come in bursts; one read serves a burst.
const COALESCE: Duration = Duration::from_millis(50);
/// Longest wait after failures.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// From one sweep to the next.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Between two pages of a sweep.
const SWEEP_PACE: Duration = Duration::from_secs(1);
/// Rows per page: the server's default maximum.
const PAGE: u32 = 200;
/// Ids per query: beyond, the cost on the server grows faster than the list [measured].
const CHUNK: usize = 500;
/// Flow of the runs that report refreshes: never an occasion.
pub const REPORT_FLOW: &str = "tableau-extract-refresh";

/// See the module.
pub struct Observer {
    client: Arc<dyn Prefect>,
    setup: Setup,
    out: watch::Sender<Arc<WorkspaceSnapshot>>,
    version: Option<String>,
    /// Everything ended before this has been read; `None`: nothing has.
    cursor: Option<Timestamp>,
    /// Deployments whose last day has been read.
    read: HashSet<DeploymentName>,
    rows: BTreeMap<DeploymentName, Row>,
    runs: BTreeMap<DeploymentName, Runs>,
    /// States known already, so that a row read twice is one occasion.
    known: HashMap<StateId, Timestamp>,
    sweep: Option<Sweep>,
    next_sweep: Moment,
    failures: u32,
}

/// A background read of the last day, a page at a time: it finds forced changes, which keep their old `end_time`.
struct Sweep {
    ids: Vec<DeploymentId>,
    pager: Pager,
}

/// Keyset paging by `end_time`, newest first: `before` is the last row's, inclusive, and rows known already are dropped. An offset is used
/// only inside one `end_time`, since a user's retry between two pages would hide a row behind it.
struct Pager {
    after: Timestamp,
    before: Option<Timestamp>,
    offset: u32,
    done: bool,
}

/// What woke the observer.
#[derive(Default)]
struct Todo {
    runs: BTreeSet<RunId>,
    wrote: BTreeSet<DeploymentName>,
    everything: bool,
}

impl Observer {
    /// An observer that has read nothing.
    pub fn new(client: Arc<dyn Prefect>, setup: Setup, out: watch::Sender<Arc<WorkspaceSnapshot>>) -> Self {
        let next_sweep = setup.clock.moment().plus(SWEEP_EVERY);
        Self {
            client,
            setup,
            out,
            version: None,
            cursor: None,
            read: HashSet::new(),
            rows: BTreeMap::new(),
            runs: BTreeMap::new(),
            known: HashMap::new(),
            sweep: None,
            next_sweep,
            failures: 0,
        }
    }

    /// Reads until the session ends.
    pub async fn run(mut self, mut hints: mpsc::UnboundedReceiver<Hint>) {
        let mut todo = Todo { everything: true, ..Todo::default() };
        let mut poll_at = self.setup.clock.moment();
        loop {
            let result = self.cycle(&todo).await;
            let touched = std::mem::take(&mut todo.wrote);
            let now = self.setup.clock.moment();
            let counted = if result.is_ok() { Cycle::Complete } else { Cycle::Failed };
            self.setup.metrics.cycled(Service::Prefect, counted);
            let health = match result {
                Ok(()) => {
                    self.failures = 0;
                    if todo.everything {
                        poll_at = now.plus(self.setup.interval);
                    }
                    todo = Todo::default();
                    Health::Connected(self.version.clone().unwrap_or_default())
                }
                Err(error) => {
                    // What was asked for stays asked for. Waiting grows, so that a dead or refusing server is not hammered.
                    self.failures = self.failures.saturating_add(1);
                    poll_at = now.plus(self.wait(&error));
                    todo.wrote.extend(touched.iter().cloned());
                    todo.everything = true;
                    Health::Failed(error)
                }
            };
            self.publish(health, &touched);
            if !self.wait_for_work(&mut hints, &mut todo, poll_at).await {
                return;
            }
        }
    }

    fn wait(&self, error: &PrefectError) -> Duration {
        if let PrefectError::Throttled { retry_after: Some(told) } = error {
            return (*told).min(LONGEST_WAIT);
        }
        let steps = self.failures.saturating_sub(1).min(8);
        self.setup.interval.saturating_mul(1 << steps).min(LONGEST_WAIT)
    }

    /// `false`: the session ended.
    async fn wait_for_work(
        &mut self,
        hints: &mut mpsc::UnboundedReceiver<Hint>,
        todo: &mut Todo,
        poll_at: Moment,
    ) -> bool {
        let failing = self.failures > 0;
        loop {
            let now = self.setup.clock.moment();
            let next = match (failing, &self.sweep) {
                // Nothing but the next poll helps, and a sweep that is due must not spin.
                (true, _) => poll_at,
                (false, Some(_)) => now.plus(SWEEP_PACE).min(poll_at),
                (false, None) => self.next_sweep.min(poll_at),
            };
            tokio::select! {
                hint = hints.recv() => {
                    let Some(hint) = hint else { return false };
                    todo.take(hint);
                    // Hints do not shorten the wait after a failure: they say "look again", not "try harder".
                    if failing {
                        continue;
                    }
                    tokio::time::sleep(COALESCE).await;
                    while let Ok(hint) = hints.try_recv() {
                        todo.take(hint);
                    }
                    return true;
                }
                () = tokio::time::sleep(next.since(now)) => {
                    let now = self.setup.clock.moment();
                    if now >= poll_at {
                        todo.everything = true;
                        return true;
                    }
                    if !failing && self.sweep_a_page(now).await {
                        self.publish_runs();
                    }
                }
            }
        }
    }

    async fn cycle(&mut self, todo: &Todo) -> Result<(), PrefectError> {
        if self.version.is_none() {
            self.version = Some(self.client.version().await?);
        }
        let interest = self.interest();
        let new_names = interest.keys().any(|name| !self.rows.contains_key(name));
        if todo.everything || new_names || !todo.wrote.is_empty() {
            self.read_deployments(&interest).await?;
        }
        // With `within` the order of completions matters, so an event only hastens the poll; the run it names is read by id besides, since a
        // forced change keeps its old `end_time` and no poll would find it.
        let mut found = self.read_ended(&interest).await?;
        if !todo.runs.is_empty() {
            found.extend(self.read_named(&todo.runs).await?);
        }
        self.take(found);
        Ok(())
    }

    fn interest(&self) -> BTreeMap<DeploymentName, Option<bool>> {
        let mut all: BTreeMap<DeploymentName, Option<bool>> = BTreeMap::new();
        for user in self.setup.users.all() {
            for (name, completions) in self.setup.index.deployments(&user) {
                let slot = all.entry(name).or_default();
                *slot = match (*slot, completions) {
                    (None, other) | (other, None) => other,
                    (Some(a), Some(b)) => Some(a || b),
                };
            }
        }
        all
    }

    async fn read_deployments(
        &mut self,
        interest: &BTreeMap<DeploymentName, Option<bool>>,
    ) -> Result<(), PrefectError> {
        let read_from = self.setup.clock.moment();
        let flows: BTreeSet<String> = interest.keys().map(|name| name.flow.to_string()).collect();
        let flows: Vec<String> = flows.into_iter().collect();
        let mut found = HashMap::new();
        if !flows.is_empty() {
            for deployment in self.client.deployments(&flows).await? {
                found.insert(deployment.name.clone(), Arc::new(deployment));
            }
        }
        self.rows.retain(|name, _| interest.contains_key(name));
        for name in interest.keys() {
            let found = match (found.remove(name), self.rows.get(name).map(|row| &row.found)) {
                (Some(deployment), _) => Ok(deployment),
                (None, Some(Err(times))) => Err(times + 1),
                (None, None | Some(Ok(_))) => Err(1),
            };
            if let Ok(deployment) = &found {
                self.remember_id(name, &deployment.id, read_from);
            }
            self.rows.insert(name.clone(), Row { read_from, found });
        }
        // One missing row is asked for again at once: absence counts after two complete reads, and a new resource should not wait for a poll.
        if self.rows.values().any(|row| row.found.as_ref().is_err_and(|times| *times == 1)) {
            return Box::pin(self.read_deployments(interest)).await;
        }
        Ok(())
    }

    /// Runs of a deployment's previous id count for a day: somebody recreated it under the same names.
    fn remember_id(&mut self, name: &DeploymentName, id: &DeploymentId, now: Moment) {
        let runs = self.runs.entry(name.clone()).or_default();
        if let Some((_, seen)) = runs.ids.iter_mut().find(|(known, _)| known == id) {
            *seen = now;
        } else {
            runs.ids.push((id.clone(), now));
            // A new id has a past of its own.
            self.read.remove(name);
        }
        runs.ids.retain(|(_, seen)| now.since(*seen) < DAY);
    }

    /// Runs that ended since the cursor; the last day for deployments not read before; the newest completion where none was ever seen.
    async fn read_ended(
        &mut self,
        interest: &BTreeMap<DeploymentName, Option<bool>>,
    ) -> Result<Vec<Run>, PrefectError> {
        let watched: Vec<(&DeploymentName, bool)> =
            interest.iter().filter_map(|(name, unseen)| unseen.map(|unseen| (name, unseen))).collect();
        self.runs.retain(|name, _| interest.contains_key(name));
        self.read.retain(|name| interest.contains_key(name));
        let ids = |names: &[&DeploymentName], runs: &BTreeMap<DeploymentName, Runs>| -> Vec<DeploymentId> {
            names
                .iter()
                .filter_map(|name| runs.get(*name))
                .flat_map(|runs| runs.ids.iter().map(|(id, _)| id.clone()))
                .collect()
        };
        let (old, new): (Vec<_>, Vec<_>) =
            watched.iter().copied().partition(|(name, _)| self.read.contains(*name));
        let mut found = Vec::new();
        let mut newest: Option<Timestamp> = None;
        let mut clock = None;
        for (group, whole_day) in [(old, false), (new, true)] {
            let names: Vec<&DeploymentName> = group.iter().map(|(name, _)| *name).collect();
            let group_ids = ids(&names, &self.runs);
            if group_ids.is_empty() {
                continue;
            }
            let day_ago = sub(self.prefect_now(), DAY);
            let after = if whole_day { day_ago } else { self.cursor.unwrap_or(day_ago) };
            for chunk in group_ids.chunks(CHUNK) {
                let rows = self.read_window(chunk, after).await?;
                newest = newest.max(rows.iter().filter_map(|run| run.ended_at).max());
                found.extend(rows);
            }
            clock = self.client.clock();
            if whole_day {
                for (name, unseen) in &group {
                    if *unseen || self.setup.gap {
                        for id in ids(&[*name], &self.runs) {
                            found.extend(self.newest_completed(id).await?);
                        }
                    }
                }
            }
            let has_id: Vec<DeploymentName> = names
                .into_iter()
                .filter(|name| self.runs.get(*name).is_some_and(|runs| !runs.ids.is_empty()))
                .cloned()
                .collect();
            self.read.extend(has_id);
        }
        // Advances only after a complete pass, and never past Prefect's own clock.
        if let Some(clock) = clock {
            let limit = newest.map_or(clock.date, |newest| newest.min(clock.date));
            let next = sub(limit, OVERLAP);
            // Without any row the clock alone moves it: what ends later has a later `end_time`.
            let next = if newest.is_none() { sub(clock.date, OVERLAP) } else { next };
            if self.cursor.is_none_or(|cursor| next > cursor) {
                self.cursor = Some(next);
                (self.setup.cursor)(next);
            }
        }
        Ok(found)
    }

    async fn read_window(&self, ids: &[DeploymentId], after: Timestamp) -> Result<Vec<Run>, PrefectError> {
        let mut pager = Pager { after, before: None, offset: 0, done: false };
        let mut rows: HashMap<(RunId, StateId), Run> = HashMap::new();
        while !pager.done {
            for run in pager.next(&*self.client, ids).await? {
                rows.insert((run.id.clone(), run.state.clone()), run);
            }
        }
        Ok(rows.into_values().collect())
    }

    async fn newest_completed(&self, id: DeploymentId) -> Result<Vec<Run>, PrefectError> {
        let query = RunQuery {
            deployments: vec![id],
            state_types: vec!["COMPLETED"],
            limit: 1,
            ..RunQuery::default()
        };
        self.client.runs(&query).await
    }

    async fn read_named(&self, runs: &BTreeSet<RunId>) -> Result<Vec<Run>, PrefectError> {
        let mut found = Vec::new();
        let all: Vec<RunId> = runs.iter().cloned().collect();
        for chunk in all.chunks(PAGE as usize) {
            let query = RunQuery { runs: chunk.to_vec(), limit: PAGE, ..RunQuery::default() };
            found.extend(self.client.runs(&query).await?);
        }
        Ok(found)
    }

    /// Files runs under the deployments they came from.
    fn take(&mut self, found: Vec<Run>) {
        let published = self.setup.clock.moment();
        let names: HashMap<DeploymentId, DeploymentName> = self
            .runs
            .iter()
            .flat_map(|(name, runs)| runs.ids.iter().map(|(id, _)| (id.clone(), name.clone())))
            .collect();
        for run in found {
            let Some(name) = run.deployment.as_ref().and_then(|id| names.get(id)) else { continue };
            if run.reports_refresh || &*name.flow == REPORT_FLOW {
                continue;
            }
            let Some(runs) = self.runs.get_mut(name) else { continue };
            let ended = match run.state_type {
                StateType::Completed | StateType::Failed | StateType::Crashed | StateType::Cancelled => true,
                StateType::Scheduled
                | StateType::Pending
                | StateType::Running
                | StateType::Paused
                | StateType::Cancelling
                | StateType::Other => false,
            };
            if ended && runs.newest_ended.as_ref().is_none_or(|(at, _, _)| *at <= run.state_at) {
                runs.newest_ended = Some((run.state_at, run.state_type, run.id.clone()));
            }
            if run.state_type != StateType::Completed || self.known.contains_key(&run.state) {
                continue;
            }
            self.known.insert(run.state.clone(), run.state_at);
            let seen = Seen {
                run: run.id,
                state: run.state,
                at: run.state_at,
                started_at: run.started_at,
                published,
            };
            let place = runs.occasions.partition_point(|o| (o.at, &o.state) < (seen.at, &seen.state));
            runs.occasions.insert(place, seen);
        }
        self.prune();
    }

    /// Keeps two days and the newest of each: a day is read again after a restart, and the sweep must not bring back what was dropped.
    fn prune(&mut self) {
        let limit = sub(self.prefect_now(), DAY * 2);
        for runs in self.runs.values_mut() {
            let keep = runs.occasions.len().saturating_sub(1);
            let old = runs.occasions.iter().take(keep).take_while(|o| o.at < limit).count();
            for seen in runs.occasions.drain(..old) {
                self.known.remove(&seen.state);
            }
        }
    }

    /// Reads a page of the sweep, begins or ends one. `true`: something new was filed.
    async fn sweep_a_page(&mut self, now: Moment) -> bool {
        if self.sweep.is_none() {
            if now < self.next_sweep {
                return false;
            }
            let ids: Vec<DeploymentId> = self
                .read
                .iter()
                .filter_map(|name| self.runs.get(name))
                .flat_map(|runs| runs.ids.iter().map(|(id, _)| id.clone()))
                .take(CHUNK)
                .collect();
            let after = sub(self.prefect_now(), DAY);
            self.sweep = Some(Sweep { ids, pager: Pager { after, before: None, offset: 0, done: false } });
        }
        let Some(mut sweep) = self.sweep.take() else { return false };
        let before = self.known.len();
        let page = if sweep.ids.is_empty() {
            sweep.pager.done = true;
            Ok(Vec::new())
        } else {
            sweep.pager.next(&*self.client, &sweep.ids).await
        };
        match page {
            Ok(rows) => self.take(rows),
            Err(error) => {
                tracing::debug!(%error, "the background read of the last day stopped; it begins again later");
                sweep.pager.done = true;
            }
        }
        if sweep.pager.done {
            self.next_sweep = self.setup.clock.moment().plus(SWEEP_EVERY);
        } else {
            self.sweep = Some(sweep);
        }
        self.known.len() != before
    }

    fn prefect_now(&self) -> Timestamp {
        match self.client.clock() {
            Some(reading) => reading.lower(self.setup.clock.moment()),
            None => self.setup.clock.now(),
        }
    }

    fn publish_runs(&mut self) {
        let health = self.out.borrow().health.clone();
        self.publish(health, &BTreeSet::new());
    }

    /// Publishes first, then wakes: whoever is woken finds at least this.
    fn publish(&mut self, health: Health, touched: &BTreeSet<DeploymentName>) {
        let old = self.out.borrow().clone();
        let runs = self
            .runs
            .iter()
            .filter(|(name, _)| self.read.contains(*name))
            .map(|(name, runs)| {
                let same = old.runs.get(name).filter(|before| same_runs(before, runs));
                (name.clone(), same.cloned().unwrap_or_else(|| Arc::new(runs.clone())))
            })
            .collect();
        let new = Arc::new(WorkspaceSnapshot { health, deployments: self.rows.clone(), runs });
        self.out.send_replace(new.clone());
        wake_what_differs(&old, &new, touched, &self.setup);
    }
}

/// Same but for when the ids were seen last.
fn same_runs(a: &Runs, b: &Runs) -> bool {
    a.occasions == b.occasions && a.newest_ended == b.newest_ended
}

impl Todo {
    fn take(&mut self, hint: Hint) {
        match hint {
            Hint::Run(run) => {
                self.runs.insert(run);
            }
            Hint::Wrote(name) => {
                self.wrote.insert(name);
            }
            Hint::Reconnected | Hint::Interest => self.everything = true,
        }
    }
}

impl Pager {
    async fn next(&mut self, client: &dyn Prefect, ids: &[DeploymentId]) -> Result<Vec<Run>, PrefectError> {
        let query = RunQuery {
            deployments: ids.to_vec(),
            runs: Vec::new(),
            state_types: TERMINAL.to_vec(),
            ended_after: Some(self.after),
            ended_before: self.before,
            offset: self.offset,
            limit: PAGE,
        };
        let rows = client.runs(&query).await?;
        let last = rows.last().and_then(|run| run.ended_at);
        match last {
            _ if rows.len() < PAGE as usize => self.done = true,
            Some(last) if self.before == Some(last) => self.offset += PAGE,
            Some(last) => {
                self.before = Some(last);
                self.offset = 0;
            }
            None => self.done = true,
        }
        Ok(rows)
    }
}
