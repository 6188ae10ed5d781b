//! One Prefect workspace under one credential: who reads it (only the observer), what the last reads said, and what we wrote since.

use super::connections::Reads;
use super::index::{Dependent, Index, Key};
pub use super::known_runs::Runs;
use super::lanes::Lane;
use super::running::Known;
use super::wakes::Wakes;
use super::written::Written;
use crate::clock::Clock;
use crate::guards::{Guard, holds};
use crate::model::connection::POLL_INTERVAL;
use crate::model::feeds::Feed;
use crate::model::ids::{DeploymentName, ObjectName};
use crate::model::time::Moment;
use crate::prefect::{Deployment, Prefect, PrefectError, RunEvent, Server};
use crate::runtime::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A workspace in use. Ends its observer when the last user lets go.
pub struct WorkspaceSession {
    /// The service.
    pub client: Arc<dyn Prefect>,
    /// Write slots, shared by all sessions with the server.
    pub lane: Arc<Lane>,
    snapshot: watch::Receiver<Arc<WorkspaceSnapshot>>,
    hints: mpsc::UnboundedSender<Hint>,
    written: Arc<Written>,
    clock: Clock,
    live: Arc<Mutex<Option<bool>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// "Look again", for the observer. Never wakes a reconcile by itself: it would find the old snapshot and act twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A run changed its state.
    Run(RunEvent),
    /// We wrote this deployment.
    Wrote(DeploymentName),
    /// The event stream is connected (again): what it missed must be read.
    Reconnected,
    /// A resource that reads this workspace is new or was changed.
    Interest,
    /// A resource has begun to wait for runs in progress.
    Waiting,
}

/// How the workspace answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Not asked yet.
    Connecting,
    /// Answers; what it is.
    Connected(Server),
    /// The last read failed.
    Failed(PrefectError),
}

/// What the last reads said. Replaced as a whole, never changed.
#[derive(Clone, Debug)]
pub struct WorkspaceSnapshot {
    /// How the workspace answers.
    pub health: Health,
    /// Deployments by name, with the stamp of the read that said so.
    pub deployments: BTreeMap<DeploymentName, Row>,
    /// Completions by feed.
    pub runs: BTreeMap<Feed, Arc<Runs>>,
    /// Runs in progress by feed, where somebody waits for them.
    pub running: Known,
}

/// One deployment, as last read.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Stamped before the read.
    pub read_from: Moment,
    /// The deployment, or how many complete reads in a row did not have it.
    pub found: Result<Arc<Deployment>, u32>,
    /// It was there once, as far back as it is read.
    pub known: bool,
}

/// Complete reads in a row that have to lack a deployment before it counts as absent.
const ABSENT: u32 = 2;

/// What reconciles see of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum DeploymentView {
    /// Not read yet.
    Unread,
    /// Being written by us, or written; no read begun since has come back.
    Dirty,
    /// Absent from two complete reads in a row.
    Absent,
    /// As last read.
    Present(Arc<Deployment>),
}

impl WorkspaceSession {
    /// Starts reading.
    pub fn start(client: Arc<dyn Prefect>, setup: Setup) -> Arc<Self> {
        let (hints, hints_rx) = mpsc::unbounded_channel();
        let first = WorkspaceSnapshot {
            health: Health::Connecting,
            deployments: BTreeMap::new(),
            runs: BTreeMap::new(),
            running: Known::new(),
        };
        let (out, snapshot) = watch::channel(Arc::new(first));
        let (lane, written, clock) = (setup.lane.clone(), setup.written.clone(), setup.clock.clone());
        let live = Arc::default();
        let events =
            super::workspace_events::Events::new(client.clone(), hints.clone(), setup.clone(), &live);
        let events = tokio::spawn(events.run());
        let observer = super::workspace_observer::Observer::new(client.clone(), setup, out);
        let observer = tokio::spawn(observer.run(hints_rx));
        Arc::new(Self { client, lane, snapshot, hints, written, clock, live, tasks: vec![events, observer] })
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<WorkspaceSnapshot> {
        self.snapshot.borrow().clone()
    }

    /// Whether events come live, or cannot be had and the poll has to do; none: not tried yet.
    pub fn live(&self) -> Option<bool> {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a hint for the observer.
    pub fn hint(&self, hint: Hint) {
        // A closed channel: the observer has ended with the session.
        let _ = self.hints.send(hint);
    }

    /// A write of ours is about to go out. It lasts until what is returned is dropped: when its answer is there, or is not waited for any more.
    pub fn writes<'a>(&'a self, name: &'a DeploymentName) -> UnderWrite<'a> {
        self.written.begin(name);
        UnderWrite { session: self, name }
    }

    /// What was read of it so far may lack what was written.
    pub fn wrote(&self, name: &DeploymentName) {
        self.written.by(name, self.clock.moment());
        self.hint(Hint::Wrote(name.clone()));
    }

    /// Somebody else has written it, perhaps by another credential.
    pub fn was_written(&self, name: &DeploymentName, by: &Self) {
        let same = !std::ptr::eq(self, by) && Arc::ptr_eq(&self.written, &by.written);
        if same && self.snapshot().deployments.contains_key(name) {
            self.hint(Hint::Wrote(name.clone()));
        }
    }

    /// What is known of a deployment.
    pub fn deployment(&self, name: &DeploymentName) -> DeploymentView {
        let snapshot = self.snapshot();
        match snapshot.deployments.get(name) {
            Some(row) if self.written.is_past(name, row.read_from) && holds(Guard::DirtyKeys) => {
                DeploymentView::Dirty
            }
            Some(Row { found: Ok(deployment), .. }) => DeploymentView::Present(deployment.clone()),
            Some(Row { found: Err(times), .. }) if *times >= ABSENT || !holds(Guard::TwoCompleteReads) => {
                DeploymentView::Absent
            }
            None | Some(Row { found: Err(_), .. }) => DeploymentView::Unread,
        }
    }

    /// Stops reading at once.
    pub fn end(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A write that is under way.
pub struct UnderWrite<'a> {
    session: &'a WorkspaceSession,
    name: &'a DeploymentName,
}

impl Drop for UnderWrite<'_> {
    fn drop(&mut self) {
        // Known to have changed, or not known: either way the snapshot is no longer to be trusted.
        self.session.written.end(self.name, self.session.clock.moment());
        self.session.hint(Hint::Wrote(self.name.clone()));
    }
}

impl Reads for WorkspaceSession {
    fn stop(&self) {
        self.end();
    }
}

impl Drop for WorkspaceSession {
    fn drop(&mut self) {
        self.end();
    }
}

/// What an observer needs beside its client.
#[derive(Clone)]
pub struct Setup {
    /// Time.
    pub clock: Clock,
    /// Who depends on what.
    pub index: Arc<Index>,
    /// Whom to wake.
    pub wakes: Wakes,
    /// The connection objects that use this session.
    pub users: Arc<Users>,
    /// Write slots of the server.
    pub lane: Arc<Lane>,
    /// What is written to the API, also through other sessions.
    pub written: Arc<Written>,
    /// Cycles are counted here.
    pub metrics: Arc<Metrics>,
    /// Whether completions may have been missed before the oldest that will be read.
    pub gap: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Called after each complete pass with the time until which all has been read, and for whom.
    pub cursor: Arc<KeepCursor>,
    /// Told whether the event stream is connected.
    pub connected: Arc<dyn Fn(bool) + Send + Sync>,
}

/// Keeps until when all has been read, and for whom.
pub type KeepCursor = dyn Fn(jiff::Timestamp, &[ObjectName]) + Send + Sync;

/// The connection objects that use a session, and how often each wants it read.
#[derive(Default)]
pub struct Users(Mutex<BTreeMap<ObjectName, Duration>>);

impl Users {
    /// Adds one, or changes its interval.
    pub fn add(&self, name: ObjectName, interval: Duration) {
        self.lock().insert(name, interval);
    }
    /// Takes one away.
    pub fn remove(&self, name: &ObjectName) {
        self.lock().remove(name);
    }
    /// All of them.
    pub fn all(&self) -> Vec<ObjectName> {
        self.lock().keys().cloned().collect()
    }
    /// How often to read: as often as the most eager of them wants.
    pub fn interval(&self) -> Duration {
        self.lock().values().min().copied().unwrap_or(POLL_INTERVAL)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectName, Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes those whose view differs between two snapshots, and the connections when the health differs.
pub fn wake_what_differs(
    old: &WorkspaceSnapshot,
    new: &WorkspaceSnapshot,
    touched: &BTreeSet<DeploymentName>,
    setup: &Setup,
) {
    let mut names: BTreeSet<&DeploymentName> = touched.iter().collect();
    names.extend(
        new.deployments.iter().filter(|(name, row)| !same(old.deployments.get(*name), row)).map(|(n, _)| n),
    );
    let mut feeds: BTreeSet<Feed> = names.into_iter().cloned().map(Feed::Deployment).collect();
    let news = new.runs.iter().filter(|(feed, runs)| old.runs.get(*feed) != Some(*runs));
    feeds.extend(news.map(|(feed, _)| feed.clone()));
    let users = setup.users.all();
    let mut woken: BTreeSet<Dependent> = BTreeSet::new();
    for user in &users {
        for feed in &feeds {
            woken.extend(setup.index.behind(user, feed));
        }
        if old.health != new.health {
            setup.wakes.workspace(user);
            // Ready shows an outage only where something is due; those at rest decide "no change" without a write.
            for who in setup.index.dependents(&Key::Workspace(user.clone())) {
                if let Dependent::Flow(flow) = &who {
                    woken.extend(setup.index.dependents(&Key::FlowDeployment(flow.clone())));
                }
                woken.insert(who);
            }
        }
    }
    for who in &woken {
        setup.wakes.dependent(who);
    }
}

/// Same meaning: the stamp of the read is none of it, nor how often something was missed beyond twice.
fn same(old: Option<&Row>, new: &Row) -> bool {
    match (old.map(|row| &row.found), &new.found) {
        (Some(Ok(old)), Ok(new)) => old == new,
        (Some(Err(old)), Err(new)) => (*old).min(2) == (*new).min(2),
        (None | Some(Ok(_)), Err(_)) | (None | Some(Err(_)), Ok(_)) => false,
    }
}

#[cfg(test)]
#[path = "workspace_tests.rs"]
mod tests;
