//! One Tableau site under one credential: who reads it (only the observer) and what the last reads said.

use super::budgets::SiteBudget;
use super::index::{Index, Key};
use super::lanes::Lane;
use super::wakes::Wakes;
use super::workspace::Users;
use crate::api::{Edition, TargetKind};
use crate::clock::Clock;
use crate::model::contents::Content;
use crate::model::extract::{Found, JobList, ProjectPath, ServerView, Target, TargetView, TasksView};
use crate::model::ids::{JobId, Luid, TaskId};
use crate::model::jobs::JobAnswer;
use crate::model::tasks::Task;
use crate::model::time::Moment;
use crate::runtime::metrics::Metrics;
use crate::tableau::{Site, Tableau, TableauError};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A site in use. Ends its observer when the last user lets go.
pub struct SiteSession {
    /// The service.
    pub client: Arc<dyn Tableau>,
    /// Write slots.
    pub lane: Arc<Lane>,
    /// Places for refreshes.
    pub budget: Arc<SiteBudget>,
    /// Cloud or Server.
    pub edition: Edition,
    /// When we last wrote to tasks of a content.
    touched: Mutex<HashMap<Luid, Moment>>,
    snapshot: watch::Receiver<Arc<SiteSnapshot>>,
    hints: mpsc::UnboundedSender<Hint>,
    task: JoinHandle<()>,
}

/// "Look again", for the observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Read these jobs by id.
    Jobs(BTreeSet<JobId>),
    /// Read the job list, from this time on.
    JobList(Timestamp),
    /// Resolve the contents anew: one was not where it was.
    Contents,
    /// Read the tasks, and on a Server its schedules.
    Tasks,
    /// A resource that reads this site is new or was changed.
    Interest,
}

/// How the site answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Not asked yet.
    Connecting,
    /// Signed in.
    Connected(Site),
    /// The last read failed; what was known of the site before.
    Failed(TableauError, Option<Site>),
}

impl Health {
    /// The site, if it ever answered.
    pub fn site(&self) -> Option<&Site> {
        match self {
            Self::Connecting => None,
            Self::Connected(site) => Some(site),
            Self::Failed(_, site) => site.as_ref(),
        }
    }
}

/// What the last reads said. Replaced as a whole, never changed.
#[derive(Clone, Debug)]
pub struct SiteSnapshot {
    /// How the site answers.
    pub health: Health,
    /// Contents that were looked for.
    pub contents: Arc<Contents>,
    /// The job list.
    pub list: JobList,
    /// Jobs read by id.
    pub details: Arc<BTreeMap<JobId, JobAnswer>>,
    /// The extract refresh tasks.
    pub tasks: Tasks,
    /// The shared schedules of a Server.
    pub schedules: ServerView,
}

/// The extract refresh tasks of the site.
#[derive(Clone, Debug, PartialEq)]
pub enum Tasks {
    /// Not read: nobody declares schedules, or not yet.
    Unread,
    /// Read; what is missing was missing twice.
    Read {
        /// Just before the request went out.
        asked: Moment,
        /// All.
        all: Arc<Vec<Task>>,
    },
}

/// Contents by what was looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Every content of that kind and name.
    pub by_name: HashMap<(TargetKind, String), Vec<Placed>>,
    /// The content of that LUID, if there is one.
    pub by_luid: HashMap<(TargetKind, Luid), Option<Placed>>,
}

/// A content and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The content.
    pub content: Content,
    /// Path of its project; none in a personal space.
    pub path: Option<ProjectPath>,
}

impl Contents {
    /// What a target is on this site.
    pub fn resolve(&self, site: &Site, target: &Target) -> TargetView {
        let found = |placed: &Placed| Found {
            site_luid: site.luid.clone(),
            luid: placed.content.luid.clone(),
            path: placed.path.as_ref().map(ToString::to_string),
            name: Some(placed.content.name.clone()),
        };
        let judge = |placed: &Placed| {
            // Lists may leave the flag out; then the refresh itself tells (409090).
            if placed.content.has_extracts == Some(false) {
                TargetView::NoExtract(found(placed))
            } else {
                TargetView::Found(found(placed))
            }
        };
        match target {
            Target::Luid { kind, luid } => match self.by_luid.get(&(*kind, luid.clone())) {
                None => TargetView::Unread,
                Some(None) => TargetView::NotFound,
                Some(Some(placed)) => judge(placed),
            },
            Target::Named { kind, path, name } => {
                let Some(all) = self.by_name.get(&(*kind, name.clone())) else { return TargetView::Unread };
                let mut here = all.iter().filter(|placed| placed.path.as_ref() == Some(path));
                match (here.next(), here.next()) {
                    (None, _) => TargetView::NotFound,
                    (Some(_), Some(_)) => TargetView::Ambiguous,
                    (Some(placed), None) => judge(placed),
                }
            }
        }
    }
}

impl SiteSession {
    /// Starts reading.
    pub fn start(client: Arc<dyn Tableau>, setup: Setup) -> Arc<Self> {
        let (hints, hints_rx) = mpsc::unbounded_channel();
        let (out, snapshot) = watch::channel(Arc::new(SiteSnapshot {
            health: Health::Connecting,
            contents: Arc::default(),
            list: JobList::Unread,
            details: Arc::default(),
            tasks: Tasks::Unread,
            schedules: ServerView::Unread,
        }));
        let (budget, edition) = (setup.budget.clone(), setup.edition);
        let observer = super::site_observer::Observer::new(client.clone(), setup, out);
        let task = tokio::spawn(observer.run(hints_rx));
        Arc::new(Self {
            client,
            lane: Lane::new(4),
            budget,
            edition,
            touched: Mutex::default(),
            snapshot,
            hints,
            task,
        })
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<SiteSnapshot> {
        self.snapshot.borrow().clone()
    }

    /// Tasks of this content were written to now: what was read before is not to be planned on.
    pub fn touch(&self, content: &Luid, now: Moment) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(content.clone(), now);
        self.hint(Hint::Tasks);
    }

    /// The content of a task, as last read.
    pub fn content_of(&self, task: &TaskId) -> Option<Luid> {
        let Tasks::Read { all, .. } = &self.snapshot().tasks else { return None };
        all.iter().find(|known| known.id == *task).and_then(|known| known.content.clone())
    }

    /// The tasks of a content, and those of these ids.
    pub fn tasks_of(&self, content: &Luid, and: &dyn Fn(&Task) -> bool) -> TasksView {
        let Tasks::Read { asked, all } = &self.snapshot().tasks else { return TasksView::Unread };
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner).get(content).copied();
        if touched.is_some_and(|touched| touched >= *asked) {
            return TasksView::Dirty;
        }
        let wanted = |task: &&Task| task.content.as_ref() == Some(content) || and(task);
        TasksView::Read { asked: *asked, tasks: all.iter().filter(wanted).cloned().collect() }
    }

    /// Stops reading at once; what is returned signs out.
    pub fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        self.task.abort();
        let client = self.client.clone();
        async move { client.sign_out().await }
    }

    /// Leaves a hint for the observer.
    pub fn hint(&self, hint: Hint) {
        // A closed channel: the observer has ended with the session.
        let _ = self.hints.send(hint);
    }
}

impl Drop for SiteSession {
    fn drop(&mut self) {
        self.task.abort();
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
    /// Cloud or Server.
    pub edition: Edition,
    /// Questions about jobs are counted here.
    pub budget: Arc<SiteBudget>,
    /// Cycles are counted here.
    pub metrics: Arc<Metrics>,
}

/// Wakes those whose view differs between two snapshots, and the connections when the health differs. Resources with something under way are
/// woken by every answer about jobs; those at rest by none.
pub fn wake_what_differs(old: &SiteSnapshot, new: &SiteSnapshot, read: News, setup: &Setup) {
    let tasks_moved = read.tasks || tasks_differ(old, new);
    for user in setup.users.all() {
        if old.health != new.health {
            setup.wakes.site(&user);
        }
        let all_anew = std::mem::discriminant(&old.health) != std::mem::discriminant(&new.health);
        for who in setup.index.dependents(&Key::Site(user.clone())) {
            let facts = setup.index.facts(&who);
            let active = read.jobs && facts.as_ref().is_some_and(|facts| facts.active);
            let scheduled = tasks_moved && facts.as_ref().is_some_and(|facts| facts.schedules);
            if all_anew || active || scheduled {
                setup.wakes.dependent(&who);
            }
        }
        let names =
            new.contents.by_name.iter().filter(|(key, value)| old.contents.by_name.get(*key) != Some(*value));
        for ((kind, name), _) in names {
            for who in setup.index.dependents(&Key::Content(user.clone(), *kind, name.clone())) {
                setup.wakes.dependent(&who);
            }
        }
        let luids =
            new.contents.by_luid.iter().filter(|(key, value)| old.contents.by_luid.get(*key) != Some(*value));
        for ((kind, luid), _) in luids {
            for who in setup.index.dependents(&Key::ContentLuid(user.clone(), *kind, luid.clone())) {
                setup.wakes.dependent(&who);
            }
        }
    }
}

/// What a cycle has read beside what differs.
#[derive(Clone, Copy, Debug, Default)]
pub struct News {
    /// About jobs.
    pub jobs: bool,
    /// The tasks, because somebody asked: he waits for the answer whatever it says.
    pub tasks: bool,
}

/// A run of a schedule alone is no difference.
fn tasks_differ(old: &SiteSnapshot, new: &SiteSnapshot) -> bool {
    let same = match (&old.tasks, &new.tasks) {
        (Tasks::Unread, Tasks::Unread) => true,
        (Tasks::Read { all: a, .. }, Tasks::Read { all: b, .. }) => {
            let still = |a: &Task, b: &Task| {
                let suspended = a.next_run_at.is_none() == b.next_run_at.is_none();
                suspended && Task { next_run_at: b.next_run_at, ..a.clone() } == *b
            };
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| still(a, b))
        }
        (Tasks::Unread, Tasks::Read { .. }) | (Tasks::Read { .. }, Tasks::Unread) => false,
    };
    !same || old.schedules != new.schedules
}

/// What the observer remembers of a refused read: asked again after a while, since rights are given and taken.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Not before this.
    pub until: Moment,
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
