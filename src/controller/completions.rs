//! Seeing completions (TRIGGER.md 5): a cursor that overlaps, the last day for what is new, single runs by id, and a sweep in the background.
//! Which runs are occasions of which deployment is kept here, and only here.

use super::workspace::{Runs, Setup};
use crate::guards::{Guard, holds};
use crate::model::extract::Seen;
use crate::model::ids::{DeploymentId, DeploymentName, RunId, StateId};
use crate::model::runs::{Run, StateType, TERMINAL};
use crate::model::time::{Moment, sub};
use crate::prefect::{Prefect, PrefectError, RunQuery};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How far back is read at first, after a restart, and by the sweep.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How far the cursor stays behind, for rows that were committed late.
const OVERLAP: Duration = Duration::from_secs(60);
/// From one sweep to the next.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Between two pages of a sweep.
const SWEEP_PACE: Duration = Duration::from_secs(1);
/// Rows per page: the server's default maximum.
const PAGE: u32 = 200;
/// Ids per query: beyond, the cost on the server grows faster than the list [measured].
const CHUNK: usize = 500;
/// Flow of the runs that report refreshes: never an occasion.
const REPORT_FLOW: &str = "tableau-extract-refresh";

/// The deployments that matter; `Some`: their completions do, `true`: none was ever seen.
pub type Watched = BTreeMap<DeploymentName, Option<bool>>;

/// See the module.
pub struct Completions {
    client: Arc<dyn Prefect>,
    setup: Setup,
    /// Everything ended before this has been read; `None`: nothing has.
    cursor: Option<Timestamp>,
    /// Deployments whose last day has been read.
    read: HashSet<DeploymentName>,
    runs: BTreeMap<DeploymentName, Runs>,
    /// States known already, so that a row read twice is one occasion.
    known: HashSet<StateId>,
    sweep: Option<Sweep>,
    next_sweep: Moment,
}

/// A background read of the last day, a page at a time: it finds forced changes, which keep their old `end_time`.
struct Sweep {
    chunks: Vec<Vec<DeploymentId>>,
    after: Timestamp,
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

impl Completions {
    /// Nothing read.
    pub fn new(client: Arc<dyn Prefect>, setup: Setup) -> Self {
        let next_sweep = setup.clock.moment().plus(SWEEP_EVERY);
        Self {
            client,
            setup,
            cursor: None,
            read: HashSet::new(),
            runs: BTreeMap::new(),
            known: HashSet::new(),
            sweep: None,
            next_sweep,
        }
    }

    /// Reads what ended, and these runs whatever became of them.
    pub async fn read(&mut self, interest: &Watched, named: &BTreeSet<RunId>) -> Result<(), PrefectError> {
        // With `within` the order of completions matters, so an event only hastens the poll; the run it names is read by id besides, since a
        // forced change keeps its old `end_time` and no poll would find it.
        let found = self.read_ended(interest).await?;
        // Filed before anything else can fail: the cursor has passed them.
        self.take(found);
        if !named.is_empty() {
            let found = self.read_named(named).await?;
            self.take(found);
        }
        Ok(())
    }

    /// What is known of the runs of deployments whose last day has been read.
    pub fn known(&self) -> impl Iterator<Item = (&DeploymentName, &Runs)> {
        self.runs.iter().filter(|(name, _)| self.read.contains(*name))
    }

    /// When the sweep wants its next page.
    pub fn next_page(&self, now: Moment) -> Moment {
        if self.sweep.is_some() { now.plus(SWEEP_PACE) } else { self.next_sweep }
    }

    /// Runs of a deployment's previous id count for a day: somebody recreated it under the same names.
    pub fn remember_id(&mut self, name: &DeploymentName, id: &DeploymentId, now: Moment) {
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
    async fn read_ended(&mut self, interest: &Watched) -> Result<Vec<Run>, PrefectError> {
        // Prefect's clock before the first row was read: what ends while pages are read is beyond it.
        let clock = self.client.clock();
        if let (Some(cursor), Some(clock)) = (self.cursor, clock)
            && clock.date < cursor
        {
            tracing::warn!("Prefect's clock went back; the last day is read again");
            self.cursor = None;
            self.read.clear();
        }
        let watched: Vec<(&DeploymentName, bool)> =
            interest.iter().filter_map(|(name, unseen)| unseen.map(|unseen| (name, unseen))).collect();
        self.forget_others(interest);
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
            let overlap = if holds(Guard::CursorOverlap) { OVERLAP } else { Duration::ZERO };
            let next = sub(limit, overlap);
            // Without any row the clock alone moves it: what ends later has a later `end_time`.
            let next = if newest.is_none() { sub(clock.date, overlap) } else { next };
            if !self.read.is_empty() && self.cursor.is_none_or(|cursor| next > cursor) {
                self.cursor = Some(next);
                (self.setup.cursor)(next);
            }
        }
        Ok(found)
    }

    /// What nobody is interested in is forgotten whole: should somebody be again, it is read and told anew.
    fn forget_others(&mut self, interest: &Watched) {
        let known = &mut self.known;
        self.runs.retain(|name, runs| {
            let kept = interest.contains_key(name);
            if !kept {
                runs.occasions.iter().for_each(|seen| {
                    known.remove(&seen.state);
                });
            }
            kept
        });
        // Nobody reads its completions now: when somebody does again, its last day is read anew.
        self.read.retain(|name| interest.get(name).is_some_and(Option::is_some));
    }

    /// Whether a run of this deployment can be an occasion.
    pub fn watches(&self, id: &DeploymentId) -> bool {
        self.runs.values().any(|runs| runs.ids.iter().any(|(known, _)| known == id))
    }

    async fn read_window(&self, ids: &[DeploymentId], after: Timestamp) -> Result<Vec<Run>, PrefectError> {
        let mut pager = Pager::since(after);
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
            // Of two that ended at the same moment always the same one is the newest.
            let newest = (run.state_at, &run.id);
            if ended && runs.newest_ended.as_ref().is_none_or(|(at, _, id)| (*at, id) <= newest) {
                runs.newest_ended = Some((run.state_at, run.state_type, run.id.clone()));
            }
            if run.state_type != StateType::Completed || self.known.contains(&run.state) {
                continue;
            }
            self.known.insert(run.state.clone());
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
    pub async fn sweep_a_page(&mut self, now: Moment) -> bool {
        if self.sweep.is_none() {
            if now < self.next_sweep {
                return false;
            }
            let ids: Vec<DeploymentId> = self
                .read
                .iter()
                .filter_map(|name| self.runs.get(name))
                .flat_map(|runs| runs.ids.iter().map(|(id, _)| id.clone()))
                .collect();
            let chunks = ids.chunks(CHUNK).map(<[DeploymentId]>::to_vec).collect();
            let after = sub(self.prefect_now(), DAY);
            self.sweep = Some(Sweep { chunks, after, pager: Pager::since(after) });
        }
        let Some(mut sweep) = self.sweep.take() else { return false };
        let before = self.known.len();
        let page = match sweep.chunks.last() {
            Some(ids) => sweep.pager.next(&*self.client, ids).await,
            None => Ok(Vec::new()),
        };
        match page {
            Ok(rows) => self.take(rows),
            Err(error) => {
                tracing::debug!(%error, "the background read of the last day stopped; it begins again later");
                sweep.chunks.clear();
            }
        }
        if sweep.pager.done {
            sweep.chunks.pop();
            sweep.pager = Pager::since(sweep.after);
        }
        if sweep.chunks.is_empty() {
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
}

impl Pager {
    fn since(after: Timestamp) -> Self {
        Self { after, before: None, offset: 0, done: false }
    }

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
