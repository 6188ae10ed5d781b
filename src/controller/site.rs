//! One Tableau site under one credential: who reads it (only the observer) and what the last reads said.

use super::budgets::SiteBudget;
use super::connections::Reads;
use super::index::{Index, Key};
use super::lanes::Lane;
use super::wakes::Wakes;
use super::workspace::Users;
use crate::api::{Edition, TargetKind};
use crate::clock::Clock;
use crate::model::contents::Content;
use crate::model::extract::{
    Found, JobList, ProjectPath, ServerView, Target, TargetView, TasksView, Unlisted, WarningsView,
};
use crate::model::ids::{JobId, Luid, ObjectName, TaskId};
use crate::model::jobs::JobAnswer;
use crate::model::tasks::Task;
use crate::model::time::Moment;
use crate::runtime::metrics::Metrics;
use crate::tableau::{Site, Tableau, TableauError};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A site in use. Ends its observer when the last user lets go, and signs out when nothing is under way in it any more.
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
    /// When we last wrote to the warnings on a data source.
    warned: Mutex<HashMap<Luid, Moment>>,
    snapshot: watch::Receiver<Arc<SiteSnapshot>>,
    hints: mpsc::UnboundedSender<Hint>,
    task: JoinHandle<()>,
    /// Its last user let go of it.
    left: AtomicBool,
}

/// "Look again", for the observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Read these jobs by id.
    Jobs(BTreeSet<JobId>),
    /// Read the job list, from this time on.
    JobList(Timestamp),
    /// The same, for who goes on without it: what others have done is told when it can be read.
    Ends(Looks),
    /// Resolve the contents anew: one was not where it was.
    Contents,
    /// Read the tasks, and on a Server its schedules.
    Tasks,
    /// Read the data quality warnings on a data source, unless they were read since, and wake who asks.
    Warnings {
        /// The data source.
        datasource: Luid,
        /// Who asks.
        asker: ObjectName,
        /// Since when.
        at: Moment,
    },
    /// A resource that reads this site is new or was changed.
    Interest,
}

/// What is asked about jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// These by id.
    pub jobs: BTreeSet<JobId>,
    /// The list, from this time on.
    pub list: Option<Timestamp>,
}

impl Looks {
    /// Both.
    pub fn add(&mut self, other: Self) {
        self.jobs.extend(other.jobs);
        self.list = [self.list, other.list].into_iter().flatten().min();
    }
}

/// Most contents that are told apart for a person.
const NAMED: usize = 3;

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
    /// The data quality warnings on data sources that somebody asked about lately.
    pub warnings: Arc<BTreeMap<Luid, WarningsView>>,
}

/// The extract refresh tasks of the site.
#[derive(Clone, Debug, PartialEq)]
pub enum Tasks {
    /// Not read: nobody declares schedules, or not yet.
    Unread,
    /// The account may not list them.
    Forbidden,
    /// Read; what is missing was missing twice.
    Read {
        /// Just before the request went out.
        asked: Moment,
        /// All.
        all: Arc<Vec<Task>>,
        /// Those of our resources that the list leaves out, asked for by their ids.
        unlisted: Arc<BTreeMap<TaskId, Unlisted>>,
    },
}

/// Contents by what was looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Every content of that kind and name.
    pub by_name: HashMap<(TargetKind, String), Vec<Placed>>,
    /// What asking for a LUID gave.
    pub by_luid: HashMap<(TargetKind, Luid), Lookup<Placed>>,
}

/// What asking for one content gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// Here it is.
    There(T),
    /// There is none, or none that the account may know of.
    Gone,
    /// The account may not see it.
    Forbidden,
}

impl<T> Lookup<T> {
    /// What was found.
    pub fn there(&self) -> Option<&T> {
        match self {
            Self::There(found) => Some(found),
            Self::Gone | Self::Forbidden => None,
        }
    }

    /// The same of what is made of it.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Self::There(found) => Lookup::There(make(found)),
            Self::Gone => Lookup::Gone,
            Self::Forbidden => Lookup::Forbidden,
        }
    }
}

impl<T> From<Option<T>> for Lookup<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Gone, Self::There)
    }
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
    /// Where Tableau shows a content, as it says.
    pub fn web_url(&self, luid: &str) -> Option<&str> {
        let named = self.by_name.values().flatten();
        let mut all = named.chain(self.by_luid.values().filter_map(Lookup::there));
        all.find(|placed| placed.content.luid.as_str() == luid)?.content.web_url.as_deref()
    }

    /// What a target is on this site. `before`: the content that was found by the same path and name before.
    pub fn resolve(&self, site: &Site, target: &Target, before: Option<&Luid>) -> TargetView {
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
                Some(Lookup::Gone) => TargetView::NotFound,
                Some(Lookup::Forbidden) => TargetView::Forbidden,
                Some(Lookup::There(placed)) => judge(placed),
            },
            Target::Named { kind, path, name } => {
                let Some(all) = self.by_name.get(&(*kind, name.clone())) else { return TargetView::Unread };
                let at_path = |placed: &Placed| placed.path.as_ref() == Some(path);
                let here: Vec<&Placed> = all.iter().filter(|placed| at_path(placed)).collect();
                match here.as_slice() {
                    [placed] => judge(placed),
                    [] => match before.and_then(|luid| self.wherever(*kind, luid, all)) {
                        None => TargetView::NotFound,
                        // Lists lag behind; what is read by its LUID does not.
                        Some(placed) if at_path(placed) && placed.content.name == *name => judge(placed),
                        Some(placed) => TargetView::Elsewhere(found(placed)),
                    },
                    several => {
                        let luids = several.iter().take(NAMED).map(|placed| placed.content.luid.clone());
                        TargetView::Ambiguous(luids.collect())
                    }
                }
            }
        }
    }

    /// A content by its LUID, among namesakes or as it was asked for.
    fn wherever<'a>(&'a self, kind: TargetKind, luid: &Luid, namesakes: &'a [Placed]) -> Option<&'a Placed> {
        let namesake = namesakes.iter().find(|placed| placed.content.luid == *luid);
        namesake.or_else(|| self.by_luid.get(&(kind, luid.clone()))?.there())
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
            warnings: Arc::default(),
        }));
        let (budget, edition, lane) =
            (setup.budget.clone(), setup.edition, Lane::new(4, setup.clock.clone()));
        let observer = super::site_observer::Observer::new(client.clone(), setup, out);
        let task = tokio::spawn(observer.run(hints_rx));
        Arc::new(Self {
            client,
            lane,
            budget,
            edition,
            touched: Mutex::default(),
            warned: Mutex::default(),
            snapshot,
            hints,
            task,
            left: AtomicBool::new(false),
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
        let snapshot = self.snapshot();
        let (asked, all, unlisted) = match &snapshot.tasks {
            Tasks::Unread => return TasksView::Unread,
            Tasks::Forbidden => return TasksView::Forbidden,
            Tasks::Read { asked, all, unlisted } => (asked, all, unlisted),
        };
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner).get(content).copied();
        if touched.is_some_and(|touched| touched >= *asked) {
            return TasksView::Dirty;
        }
        let wanted = |task: &&Task| task.content.as_ref() == Some(content) || and(task);
        TasksView::Read {
            asked: *asked,
            tasks: all.iter().filter(wanted).cloned().collect(),
            unlisted: unlisted.as_ref().clone(),
        }
    }

    /// The warnings on this data source were written to now, or decided on: what was read before is not to be planned on.
    pub fn touch_warnings(&self, datasource: &Luid, now: Moment) {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(datasource.clone(), now);
    }

    /// The warnings on a data source.
    pub fn warnings_on(&self, datasource: &Luid) -> WarningsView {
        let snapshot = self.snapshot();
        let Some(view) = snapshot.warnings.get(datasource) else { return WarningsView::Unread };
        let written = self.warned.lock().unwrap_or_else(PoisonError::into_inner).get(datasource).copied();
        if written.is_some_and(|written| view.asked().is_none_or(|asked| asked <= written)) {
            return WarningsView::Unread;
        }
        view.clone()
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

impl Reads for SiteSession {
    fn stop(&self) {
        self.task.abort();
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Drop for SiteSession {
    fn drop(&mut self) {
        self.task.abort();
        // Not before what was under way in it has ended. A process that is killed says no goodbye, and neither does one that is dropped.
        if *self.left.get_mut()
            && let Ok(runtime) = Handle::try_current()
        {
            let client = self.client.clone();
            runtime.spawn(async move { client.sign_out().await });
        }
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
            // What was found by name is not among what is asked for by LUID, unless it is lost.
            let found = facts.and_then(|facts| facts.found).is_some_and(|(_, kind, luid)| {
                let key = (kind, luid);
                old.contents.by_luid.get(&key) != new.contents.by_luid.get(&key)
            });
            if all_anew || active || scheduled || found {
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
        (Tasks::Unread, Tasks::Unread) | (Tasks::Forbidden, Tasks::Forbidden) => true,
        (Tasks::Read { unlisted: a, .. }, Tasks::Read { unlisted: b, .. }) if a != b => false,
        (Tasks::Read { all: a, .. }, Tasks::Read { all: b, .. }) => {
            let still = |a: &Task, b: &Task| {
                let suspended = a.next_run_at.is_none() == b.next_run_at.is_none();
                suspended && Task { next_run_at: b.next_run_at, ..a.clone() } == *b
            };
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| still(a, b))
        }
        (Tasks::Unread | Tasks::Forbidden | Tasks::Read { .. }, _) => false,
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
