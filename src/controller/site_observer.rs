//! The only reader of a Tableau site. Contents are looked up when somebody new asks and every few minutes; jobs are read only while something
//! is owed or under way. At rest a cycle makes no call.

use super::index::{Dependent, Key};
use super::site::{
    Contents, Health, Hint, Looks, News, Refused, Setup, SiteSnapshot, Tasks, wake_what_differs,
};
use super::site_warnings::{WarningAsk, WarningReads};
use crate::api::TargetKind;
use crate::model::extract::{JobList, ServerView, Unlisted};
use crate::model::ids::{JobId, Luid, ServerScheduleId, TaskId};
use crate::model::job_looks::LastLook;
use crate::model::jobs::JobAnswer;
use crate::model::time::Moment;
use crate::model::timing::Timing;
use crate::runtime::metrics::{Cycle, Service};
use crate::tableau::{Site, Tableau, TableauError};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const COALESCE: Duration = Duration::from_millis(50);
/// The shortest time from one read to the next that hints ask for.
const SPACING: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Contents are looked up again at least this often, and every ten intervals where that is sooner.
const CONTENTS_EVERY: Duration = Duration::from_secs(300);
/// A job that was just started is asked for after this, then ever more seldom up to the poll interval: short refreshes are told of soon, and
/// long ones cost no more calls than a poll.
pub(super) const FOLLOW_FIRST: Duration = Duration::from_secs(1);
/// A refused job list, or job, is asked for again after this.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(600);

/// See the module.
pub struct Observer {
    pub(super) client: Arc<dyn Tableau>,
    pub(super) setup: Setup,
    out: watch::Sender<Arc<SiteSnapshot>>,
    site: Option<Site>,
    pub(super) contents: Arc<Contents>,
    contents_due: Moment,
    pub(super) list: JobList,
    pub(super) last_look: Option<LastLook>,
    pub(super) list_refused: Option<Refused>,
    /// Jobs that may not be read, each for a while.
    pub(super) denied: HashMap<JobId, Refused>,
    pub(super) details: BTreeMap<JobId, JobAnswer>,
    pub(super) tasks: Tasks,
    /// Tasks of our resources that the list leaves out: what Tableau said, and since when.
    pub(super) unlisted: BTreeMap<TaskId, (Unlisted, Moment)>,
    pub(super) schedules: ServerView,
    /// Definitions of shared schedules, as of when they were last changed.
    pub(super) definitions: HashMap<ServerScheduleId, (String, Option<Timing>)>,
    tasks_due: Moment,
    pub(super) warnings: WarningReads,
    pub(super) follow: Duration,
    /// What the last look at jobs has cost.
    pub(super) questions: u32,
    /// What others have done could not be read: it is not asked for before this.
    pub(super) ends_at: Moment,
    failures: u32,
    /// When the last cycle ended.
    last: Moment,
}

/// What woke the observer.
#[derive(Default)]
pub(super) struct Todo {
    pub(super) looks: Looks,
    /// Nobody waits for these.
    pub(super) ends: Looks,
    contents: bool,
    tasks: bool,
    warnings: Vec<WarningAsk>,
}

/// What the resources of this site want to know.
#[derive(Default)]
pub(super) struct Interest {
    pub(super) names: BTreeMap<TargetKind, BTreeSet<String>>,
    pub(super) luids: BTreeMap<TargetKind, BTreeSet<Luid>>,
    /// Contents that were found by their names.
    pub(super) found: BTreeSet<(TargetKind, Luid)>,
    pub(super) jobs: BTreeSet<JobId>,
    pub(super) list: Option<Timestamp>,
    /// Somebody may look at jobs.
    pub(super) active: bool,
    /// Somebody has to do with tasks.
    tasks: bool,
    /// Tasks that resources have in status.
    pub(super) known_tasks: BTreeSet<TaskId>,
}

impl Observer {
    /// An observer that has read nothing.
    pub fn new(client: Arc<dyn Tableau>, setup: Setup, out: watch::Sender<Arc<SiteSnapshot>>) -> Self {
        let contents_due = setup.clock.moment();
        Self {
            client,
            setup,
            out,
            site: None,
            contents: Arc::default(),
            contents_due,
            list: JobList::Unread,
            last_look: None,
            list_refused: None,
            denied: HashMap::new(),
            details: BTreeMap::new(),
            tasks: Tasks::Unread,
            unlisted: BTreeMap::new(),
            schedules: ServerView::Unread,
            definitions: HashMap::new(),
            tasks_due: contents_due,
            warnings: WarningReads::default(),
            follow: FOLLOW_FIRST,
            questions: 0,
            ends_at: Moment::default(),
            failures: 0,
            last: Moment::default(),
        }
    }

    /// Reads until the session ends.
    pub async fn run(mut self, mut hints: mpsc::UnboundedReceiver<Hint>) {
        let mut todo = Todo::default();
        loop {
            let (result, news) = self.cycle(&mut todo).await;
            self.last = self.setup.clock.moment();
            let counted = if result.is_ok() { Cycle::Complete } else { Cycle::Failed };
            self.setup.metrics.cycled(Service::Tableau, counted);
            let (health, wait) = match result {
                Ok(site) => {
                    self.failures = 0;
                    // What was not asked about jobs is still to be.
                    let Todo { looks, ends, warnings, .. } = std::mem::take(&mut todo);
                    (todo.looks, todo.ends) = (looks, ends);
                    self.warnings.ask(warnings);
                    (Health::Connected(site), self.next_look(news.jobs))
                }
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    // A list that fails has cost its pages, and those who are followed are to have their questions as well.
                    let pace = match self.questions {
                        0 => Duration::ZERO,
                        asked => self.setup.budget.pace(asked, self.last).unwrap_or(LONGEST_WAIT),
                    };
                    let wait = self.wait(&error).max(pace);
                    (Health::Failed(error, self.site.clone()), wait)
                }
            };
            self.publish(health.clone(), news);
            let wait = if self.failures == 0 { self.look_at_warnings(health, wait).await } else { wait };
            let deadline = self.setup.clock.moment().plus(wait);
            if !self.wait_for_work(&mut hints, &mut todo, deadline).await {
                return;
            }
        }
    }

    /// Last, and told of by itself: nothing else is to wait for what is only shown. When to look again.
    async fn look_at_warnings(&mut self, health: Health, wait: Duration) -> Duration {
        let askers = self.read_warnings().await;
        if !askers.is_empty() {
            self.publish(health, News::default());
            for asker in &askers {
                self.setup.wakes.dependent(asker);
            }
        }
        self.warnings.soon(wait)
    }

    /// When to look again while all is well.
    fn next_look(&mut self, jobs_read: bool) -> Duration {
        let pace = self.setup.budget.pace(self.questions.max(1), self.last).unwrap_or(LONGEST_WAIT);
        let next = if jobs_read {
            self.follow.min(self.setup.users.interval()).max(pace)
        } else {
            self.setup.users.interval()
        };
        self.follow =
            if jobs_read { self.follow.mul_f64(1.5).min(self.setup.users.interval()) } else { FOLLOW_FIRST };
        next
    }

    /// Refused credentials are asked about ever more seldom: only a new Secret heals them, and that makes a new session.
    fn wait(&self, error: &TableauError) -> Duration {
        if let TableauError::Throttled { retry_after: Some(told) } = error {
            return (*told).min(LONGEST_WAIT);
        }
        let steps = self.failures.saturating_sub(1).min(8);
        let longest = match error {
            TableauError::SignInRefused
            | TableauError::SessionContested
            | TableauError::UnsupportedVersion { .. } => LONGEST_WAIT,
            // Who grants more at the identity provider changes nothing here that would wake us.
            TableauError::MissingScope
            | TableauError::Identity(_)
            | TableauError::Forbidden(_)
            | TableauError::NotFound(_)
            | TableauError::Throttled { .. }
            | TableauError::Ambiguous
            | TableauError::NotLeading
            | TableauError::Rejected(_)
            | TableauError::WrongServer
            | TableauError::Unreachable(_) => LONGEST_WAIT / 10,
        };
        self.setup.users.interval().saturating_mul(1 << steps).min(longest.max(self.setup.users.interval()))
    }

    /// `false`: the session ended.
    async fn wait_for_work(
        &mut self,
        hints: &mut mpsc::UnboundedReceiver<Hint>,
        todo: &mut Todo,
        deadline: Moment,
    ) -> bool {
        loop {
            let now = self.setup.clock.moment();
            tokio::select! {
                hint = hints.recv() => {
                    let Some(hint) = hint else { return false };
                    if let Hint::Jobs(jobs) | Hint::Ends(Looks { jobs, list: None }) = &hint
                        && jobs.iter().all(|job| self.is_denied(job, now))
                    {
                        // It was refused a moment ago: asking again at once would only turn in a circle.
                        continue;
                    }
                    todo.take(hint);
                    if self.failures > 0 {
                        continue;
                    }
                    let rested = self.setup.clock.moment().since(self.last);
                    tokio::time::sleep(COALESCE.max(SPACING.saturating_sub(rested))).await;
                    while let Ok(hint) = hints.try_recv() {
                        todo.take(hint);
                    }
                    return true;
                }
                () = tokio::time::sleep(deadline.since(now)) => return true,
            }
        }
    }

    async fn cycle(&mut self, todo: &mut Todo) -> (Result<Site, TableauError>, News) {
        let mut news = News::default();
        let result = self.read(todo, &mut news).await;
        (result, news)
    }

    async fn read(&mut self, todo: &mut Todo, news: &mut News) -> Result<Site, TableauError> {
        let interest = self.interest();
        let known = self.site.clone().filter(|_| self.failures == 0);
        let site = match known {
            Some(site) => site,
            None => self.client.site().await?,
        };
        if self.site.as_ref().is_some_and(|before| before.luid != site.luid) {
            self.forget_jobs();
        }
        self.site = Some(site.clone());
        if self.setup.budget.wants_seed() {
            self.seed_budget(&interest).await?;
        }
        let now = self.setup.clock.moment();
        if todo.contents || now >= self.contents_due || self.is_new(&interest) {
            self.read_contents(&interest).await?;
            self.contents_due = now.plus(CONTENTS_EVERY.min(self.setup.users.interval() * 10));
        }
        if !interest.tasks {
            // Whoever asks next is not to plan on what was read long ago.
            (self.tasks, self.schedules) = (Tasks::Unread, ServerView::Unread);
        } else if todo.tasks || now >= self.tasks_due || self.tasks == Tasks::Unread {
            self.read_tasks(&interest.known_tasks).await?;
            news.tasks = todo.tasks;
            self.tasks_due = now.plus(CONTENTS_EVERY.min(self.setup.users.interval() * 10));
        }
        self.read_jobs(&interest, todo, news).await?;
        Ok(site)
    }

    fn interest(&self) -> Interest {
        let mut all = Interest::default();
        for user in self.setup.users.all() {
            for who in self.setup.index.dependents(&Key::Site(user.clone())) {
                if !matches!(who, Dependent::Refresh(_)) || !self.setup.index.reads_at_site(&who, &user) {
                    continue;
                }
                for key in self.setup.index.keys(&who) {
                    match key {
                        Key::Content(site, kind, name) if site == user => {
                            all.names.entry(kind).or_default().insert(name);
                        }
                        Key::ContentLuid(site, kind, luid) if site == user => {
                            all.luids.entry(kind).or_default().insert(luid);
                        }
                        Key::Content(..)
                        | Key::ContentLuid(..)
                        | Key::Workspace(_)
                        | Key::Site(_)
                        | Key::FlowDeployment(_)
                        | Key::Feed(..) => {}
                    }
                }
                if let Some(facts) = self.setup.index.facts(&who) {
                    let found = facts.found.filter(|(site, ..)| *site == user);
                    all.found.extend(found.map(|(_, kind, luid)| (kind, luid)));
                    let jobs = facts.jobs.into_iter().filter(|(site, _)| *site == user);
                    all.jobs.extend(jobs.map(|(_, job)| job));
                    let since = facts.jobs_since.filter(|(site, _)| *site == user).map(|(_, since)| since);
                    all.list = [all.list, since].into_iter().flatten().min();
                    all.active |= facts.active;
                    all.tasks |= facts.schedules;
                    let tasks = facts.tasks.into_iter().filter(|(site, _)| *site == user);
                    all.known_tasks.extend(tasks.map(|(_, task)| task));
                }
            }
        }
        all
    }

    /// Publishes first, then wakes: whoever is woken finds at least this.
    fn publish(&mut self, health: Health, news: News) {
        let old = self.out.borrow().clone();
        let new = Arc::new(SiteSnapshot {
            health,
            contents: self.contents.clone(),
            list: self.list.clone(),
            details: Arc::new(self.details.clone()),
            tasks: self.tasks.clone(),
            schedules: self.schedules.clone(),
            warnings: self.warnings.answers.clone(),
        });
        self.out.send_replace(new.clone());
        wake_what_differs(&old, &new, news, &self.setup);
    }
}

impl Todo {
    fn take(&mut self, hint: Hint) {
        match hint {
            Hint::Jobs(jobs) => self.looks.add(Looks { jobs, list: None }),
            Hint::JobList(since) => self.looks.add(Looks { list: Some(since), ..Looks::default() }),
            Hint::Ends(looks) => self.ends.add(looks),
            Hint::Contents => self.contents = true,
            Hint::Tasks => self.tasks = true,
            Hint::Warnings { datasource, asker, at } => {
                self.warnings.push(WarningAsk { datasource, asker: Dependent::Refresh(asker), at });
            }
            Hint::Interest => {}
        }
    }
}
