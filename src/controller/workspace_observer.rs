//! The only reader of a Prefect workspace: reads in bulk on a timer and on hints, publishes a snapshot, then wakes the dependents of what
//! differs. Cost per cycle: the flows and deployments that matter (N/200 calls each), the runs that ended since the cursor, and those in progress
//! while somebody waits for them.

use super::completions::{Completions, Watched};
use super::feeds::Feeds;
use super::flows::load;
use super::index::{Waiting, add};
use super::running::Running;
use super::workspace::{Health, Hint, Row, Setup, WorkspaceSnapshot, wake_what_differs};
use crate::guards::{Guard, holds};
use crate::model::connection::{Support, support};
use crate::model::feeds::Feed;
use crate::model::ids::{DeploymentName, ObjectName, RunId};
use crate::model::time::Moment;
use crate::prefect::{Prefect, PrefectError, Server};
use crate::runtime::metrics::{Cycle, Service};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Events come in bursts; one read serves a burst.
const COALESCE: Duration = Duration::from_millis(50);
/// The shortest time from one read to the next that events ask for.
const SPACING: Duration = Duration::from_millis(500);
/// Most runs to be read by their ids.
const MOST_NAMED: usize = 1000;
/// Longest wait after failures.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// See the module.
pub struct Observer {
    client: Arc<dyn Prefect>,
    setup: Setup,
    out: watch::Sender<Arc<WorkspaceSnapshot>>,
    server: Option<Server>,
    rows: BTreeMap<DeploymentName, Row>,
    feeds: Feeds,
    completions: Completions,
    running: Running,
    failures: u32,
    /// When the last cycle ended.
    last: Moment,
}

/// What woke the observer.
#[derive(Default)]
struct Todo {
    runs: BTreeSet<RunId>,
    wrote: BTreeSet<DeploymentName>,
    everything: bool,
    /// Perhaps to another server than before.
    reconnected: bool,
}

impl Observer {
    /// An observer that has read nothing.
    pub fn new(client: Arc<dyn Prefect>, setup: Setup, out: watch::Sender<Arc<WorkspaceSnapshot>>) -> Self {
        let completions = Completions::new(client.clone(), setup.clone());
        Self {
            client,
            setup,
            out,
            server: None,
            rows: BTreeMap::new(),
            feeds: Feeds::default(),
            completions,
            running: Running::default(),
            failures: 0,
            last: Moment::default(),
        }
    }

    /// Reads until the session ends.
    pub async fn run(mut self, mut hints: mpsc::UnboundedReceiver<Hint>) {
        let mut todo = Todo { everything: true, ..Todo::default() };
        let mut poll_at = self.setup.clock.moment();
        loop {
            let result = self.cycle(&todo).await;
            self.last = self.setup.clock.moment();
            let touched = std::mem::take(&mut todo.wrote);
            let now = self.setup.clock.moment();
            let counted = if result.is_ok() { Cycle::Complete } else { Cycle::Failed };
            self.setup.metrics.cycled(Service::Prefect, counted);
            let health = match result {
                Ok(server) => {
                    self.failures = 0;
                    if todo.everything {
                        poll_at = now.plus(self.setup.users.interval());
                    }
                    todo = Todo::default();
                    Health::Connected(server)
                }
                Err(error) => {
                    // What answers afterwards may be another server: restarted, upgraded, wiped.
                    self.server = None;
                    if let PrefectError::Throttled { .. } = &error
                        && let Some(load) = load(Some(&error))
                    {
                        self.setup.lane.told(load, self.last);
                    }
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
        self.setup.users.interval().saturating_mul(1 << steps).min(LONGEST_WAIT)
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
            // While failing nothing but the next poll helps, and a sweep that is due must not spin.
            let next = if failing { poll_at } else { self.completions.next_page(now).min(poll_at) };
            tokio::select! {
                hint = hints.recv() => {
                    let Some(hint) = hint else { return false };
                    if let Hint::Run(event) = &hint
                        && !self.feeds.watches(event)
                    {
                        // Somebody else's run: a busy server must not cost us a read each.
                        continue;
                    }
                    todo.take(hint);
                    // Hints do not shorten the wait after a failure: they say "look again", not "try harder".
                    if failing {
                        continue;
                    }
                    let rested = self.setup.clock.moment().since(self.last);
                    tokio::time::sleep(COALESCE.max(SPACING.saturating_sub(rested))).await;
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
                    if !failing && self.completions.read_a_page(&mut self.feeds, now).await {
                        self.publish_runs();
                    }
                }
            }
        }
    }

    async fn cycle(&mut self, todo: &Todo) -> Result<Server, PrefectError> {
        let server = match self.server.clone().filter(|_| !todo.reconnected) {
            Some(server) => server,
            None => self.probe().await?,
        };
        let users = self.setup.users.all();
        let interest = self.interest(&users);
        self.feeds.watch(interest.keys());
        let new_names = names(&interest).any(|name| !self.rows.contains_key(name));
        if todo.everything || new_names || !todo.wrote.is_empty() {
            self.read_deployments(&interest).await?;
        }
        // Asked before completions are read, and told only with them: what has ended when nothing runs any more is among them, so that the refresh
        // that waited for it contains it.
        let running = self.read_running().await;
        self.completions.read(&mut self.feeds, &interest, &todo.runs, &users).await?;
        self.running = running;
        Ok(server)
    }

    async fn read_running(&mut self) -> Running {
        let (now, mut waiting) = (self.setup.clock.now(), Waiting::default());
        for user in self.setup.users.all() {
            self.setup.index.waiting(&user, now, &mut waiting);
        }
        self.running.read(&*self.client, &mut self.feeds, now, waiting).await
    }

    async fn probe(&mut self) -> Result<Server, PrefectError> {
        let server = self.client.probe().await?;
        match server.version.as_deref().map(|version| (version, support(version))) {
            Some((version, Support::Refused)) => Err(PrefectError::UnsupportedVersion(version.to_owned())),
            Some((_, Support::Old | Support::Good)) | None => {
                self.server = Some(server.clone());
                Ok(server)
            }
        }
    }

    fn interest(&self, users: &[ObjectName]) -> Watched {
        let mut all: Watched = BTreeMap::new();
        for user in users {
            for (feed, completions) in self.setup.index.feeds(user) {
                let slot = all.entry(feed).or_default();
                for (selection, reach) in completions.into_iter().flatten() {
                    add(slot.get_or_insert_default(), selection, reach);
                }
            }
        }
        all
    }

    async fn read_deployments(&mut self, interest: &Watched) -> Result<(), PrefectError> {
        let read_from = self.setup.clock.moment();
        let flows: BTreeSet<String> = names(interest).map(|name| name.flow.to_string()).collect();
        let flows: Vec<String> = flows.into_iter().collect();
        let mut found = HashMap::new();
        if !flows.is_empty() {
            for deployment in self.client.deployments(&flows).await? {
                found.insert(deployment.name.clone(), Arc::new(deployment));
            }
        }
        let wanted: BTreeSet<&DeploymentName> = names(interest).collect();
        self.rows.retain(|name, _| wanted.contains(name));
        for name in wanted {
            let found = match (found.remove(name), self.rows.get(name)) {
                (Some(deployment), _) => Ok(deployment),
                // It was there, or a status says so, and two lists lack it: pages change while they are read, so it is asked for by its name once.
                (None, Some(Row { found: Err(1), known, .. }))
                    if (*known || self.made(name)) && holds(Guard::TwoCompleteReads) =>
                {
                    self.client.deployment(name).await?.map(Arc::new).ok_or(2)
                }
                (None, Some(Row { found: Err(times), .. })) => Err(times + 1),
                (None, None | Some(Row { found: Ok(_), .. })) => Err(1),
            };
            let known = found.is_ok() || self.rows.get(name).is_some_and(|row| row.known);
            if let Ok(deployment) = &found
                && self.feeds.remember_id(name, &deployment.id, read_from)
            {
                self.completions.read_anew(&Feed::Deployment(name.clone()));
            }
            self.rows.insert(name.clone(), Row { read_from, found, known });
        }
        // One missing row is asked for again at once: absence counts after two complete reads, and a new resource should not wait for a poll.
        let missed_once = |row: &Row| row.found.as_ref().is_err_and(|times| *times == 1);
        if self.rows.values().any(missed_once) && holds(Guard::TwoCompleteReads) {
            return Box::pin(self.read_deployments(interest)).await;
        }
        Ok(())
    }

    fn made(&self, name: &DeploymentName) -> bool {
        self.setup.users.all().iter().any(|user| self.setup.index.made(user, name))
    }

    fn publish_runs(&mut self) {
        let health = self.out.borrow().health.clone();
        self.publish(health, &BTreeSet::new());
    }

    /// Publishes first, then wakes: whoever is woken finds at least this.
    fn publish(&mut self, health: Health, touched: &BTreeSet<DeploymentName>) {
        let old = self.out.borrow().clone();
        let runs = self
            .completions
            .known()
            .map(|(feed, runs)| {
                let same = old.runs.get(feed).filter(|before| before.as_ref() == runs);
                (feed.clone(), same.cloned().unwrap_or_else(|| Arc::new(runs.clone())))
            })
            .collect();
        let (deployments, running) = (self.rows.clone(), self.running.known.clone());
        let new = Arc::new(WorkspaceSnapshot { health, deployments, runs, running });
        self.out.send_replace(new.clone());
        wake_what_differs(&old, &new, touched, &self.setup);
        for who in std::mem::take(&mut self.running.waiting.who) {
            self.setup.wakes.dependent(&who);
        }
    }
}

/// The deployments among them.
fn names(interest: &Watched) -> impl Iterator<Item = &DeploymentName> {
    interest.keys().filter_map(|feed| match feed {
        Feed::Deployment(name) => Some(name),
        Feed::Runs(_) => None,
    })
}

impl Todo {
    fn take(&mut self, hint: Hint) {
        match hint {
            Hint::Run(event) => {
                self.runs.insert(event.run);
                if self.runs.len() > MOST_NAMED {
                    // A flood while nothing can be read: the poll and the sweep find them.
                    self.runs.pop_first();
                }
            }
            Hint::Wrote(name) => {
                self.wrote.insert(name);
            }
            Hint::Reconnected => (self.everything, self.reconnected) = (true, true),
            Hint::Interest => self.everything = true,
            // Whoever waits is looked for in each cycle.
            Hint::Waiting => {}
        }
    }
}
