//! One Tableau site under one credential: who reads it (only the observer) and what the last reads said.

use super::budgets::SiteBudget;
use super::index::{Index, Key};
use super::lanes::Lane;
use super::wakes::Wakes;
use super::workspace::Users;
use crate::api::TargetKind;
use crate::clock::Clock;
use crate::model::contents::Content;
use crate::model::extract::{Found, JobList, ProjectPath, Target, TargetView};
use crate::model::ids::{JobId, Luid};
use crate::model::jobs::JobAnswer;
use crate::model::time::Moment;
use crate::runtime::metrics::Metrics;
use crate::tableau::{Site, Tableau, TableauError};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
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
        }));
        let budget = setup.budget.clone();
        let observer = super::site_observer::Observer::new(client.clone(), setup, out);
        let task = tokio::spawn(observer.run(hints_rx));
        Arc::new(Self { client, lane: Lane::new(4), budget, snapshot, hints, task })
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<SiteSnapshot> {
        self.snapshot.borrow().clone()
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
    /// Questions about jobs are counted here.
    pub budget: Arc<SiteBudget>,
    /// Cycles are counted here.
    pub metrics: Arc<Metrics>,
}

/// Wakes those whose view differs between two snapshots, and the connections when the health differs. Resources with something under way are
/// woken by every answer about jobs; those at rest by none.
pub fn wake_what_differs(old: &SiteSnapshot, new: &SiteSnapshot, jobs_read: bool, setup: &Setup) {
    for user in setup.users.all() {
        if old.health != new.health {
            setup.wakes.site(&user);
        }
        let all_anew = std::mem::discriminant(&old.health) != std::mem::discriminant(&new.health);
        for who in setup.index.dependents(&Key::Site(user.clone())) {
            let active = setup.index.facts(&who).is_some_and(|facts| facts.active);
            if all_anew || (active && jobs_read) {
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

/// What the observer remembers of a refused read: asked again after a while, since rights are given and taken.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Not before this.
    pub until: Moment,
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
