//! A simulator of the Tableau REST API, honest about what it is.
//!
//! It speaks XML and JSON as `tableau-rest.md` tells, well enough for tableauserverclient and tabcmd, and it shares no
//! type with Feedwater's own client. How its jobs behave is scripted; what it was asked, and what really happened to
//! each refresh, is in its [`Truth`]. Everything a [`Simulator`] can do is also on its [admin API](admin).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use world::tableau::{Config, Simulator};
//!
//! let tableau = Simulator::start(Config::default()).await?;
//! let site = tableau.add_site("acme");
//! tableau.add_pat(&site, "feedwater", "secret", "robot");
//! let orders = tableau.add_datasource(&site, &["Finance", "Sales"], "Orders", true);
//! // … let a client of tableau.url() refresh it, then:
//! let refreshed = tableau.wait_for(std::time::Duration::from_secs(10), |truth| {
//!     truth.refreshes_of(&orders).iter().any(|refresh| refresh.ended.is_some())
//! });
//! refreshed.await.map_err(|truth| format!("not refreshed: {truth:?}"))?;
//! # Ok(())
//! # }
//! ```

pub mod admin;
mod api;
mod clock;
mod config;
mod element;
mod filter;
mod hold;
mod input;
mod jobs;
mod keys;
mod members;
mod people;
mod query;
mod refusal;
mod schedule;
mod serve;
mod shared;
mod site;
mod state;
mod tasks;
mod trust;
mod truth;
mod warnings;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

pub use self::config::{
    Availability, Config, Edition, Kind, Outcome, ScopeHabits, Script, SecondWarning, Step, TaskHabits,
    WarningEcho,
};
pub use self::hold::Hold;
use self::serve::Gate;
use self::shared::Shared;
use self::site::ContentKind;
pub use self::state::{Missing, Refused};
pub use self::truth::{Refresh, Request, RequestedBy, TaskTruth, Truth, WarningTruth};

/// A running simulator. Clones are handles on the same one; with the last of them it stops.
///
/// Methods that take a `site` take its LUID or its content URL. They and those that take the LUID of content panic when
/// there is none such: that is a mistake in the test that calls them.
#[derive(Clone)]
pub struct Simulator {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

/// What ends when it is dropped.
struct Running {
    url: String,
    admin_url: String,
    tasks: Vec<JoinHandle<()>>,
    /// Its drop ends the open connections.
    _stop: watch::Sender<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Simulator {
    /// Starts the REST API and the admin API, both on 127.0.0.1. There is no site yet.
    pub async fn start(config: Config) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(());
        let (port, admin_port) = (config.port, config.admin_port);
        let shared = Arc::new(Shared::new(config));
        let (gate, url) = Gate::bind(port, stopped.clone(), Some(shared.clone())).await?;
        let (admin_gate, admin_url) = Gate::bind(admin_port, stopped, None).await?;
        let tasks = vec![
            tokio::spawn(gate.serve(api::router(shared.clone()))),
            tokio::spawn(admin_gate.serve(admin::router(shared.clone()))),
            tokio::spawn({
                let shared = shared.clone();
                async move { shared.drive().await }
            }),
        ];
        Ok(Self { shared, running: Arc::new(Running { url, admin_url, tasks, _stop: stop }) })
    }

    /// Where the REST API is, for example `http://127.0.0.1:41234`.
    pub fn url(&self) -> String {
        self.running.url.clone()
    }

    /// Where the [admin API](admin) is.
    pub fn admin_url(&self) -> String {
        self.running.admin_url.clone()
    }

    /// Adds a site with a project `default`; its LUID. The content URL of Tableau Server's default site is `""`.
    /// When there is such a site, its LUID.
    pub fn add_site(&self, content_url: &str) -> String {
        self.shared.change(|state, now| state.add_site(content_url, now))
    }

    /// Adds a personal access token for a user, who is created when there is none of that name and is a site
    /// administrator. A token of that name with another secret is
    /// revoked before.
    pub fn add_pat(&self, site: &str, name: &str, secret: &str, user: &str) {
        must(self.shared.change(|state, _| state.add_pat(site, name, secret, user)));
    }

    /// Removes a token, and ends the sign-in that was made with it.
    pub fn revoke_pat(&self, site: &str, name: &str) {
        must(self.shared.change(|state, _| state.revoke_pat(site, name)));
    }

    /// Ends all sign-ins of a site: their tokens are answered 401002.
    pub fn end_sessions(&self, site: &str) {
        must(self.shared.change(|state, _| state.end_sessions(site)));
    }

    /// The LUID of the project of this path, which is created, with its parents, as far as it is not there.
    pub fn add_project(&self, site: &str, path: &[&str]) -> String {
        must(self.shared.change(|state, now| Ok(state.site(site)?.project(path, now))))
    }

    /// Adds a data source in a project, which is created when it is not there; its LUID. `has_extracts` false makes
    /// refreshes of it be refused with 409090. When there is one of that name, its LUID.
    pub fn add_datasource(&self, site: &str, project: &[&str], name: &str, has_extracts: bool) -> String {
        self.add_content(ContentKind::Datasource, site, project, name, has_extracts)
    }

    /// As [`add_datasource`](Self::add_datasource), a workbook.
    pub fn add_workbook(&self, site: &str, project: &[&str], name: &str, has_extracts: bool) -> String {
        self.add_content(ContentKind::Workbook, site, project, name, has_extracts)
    }

    fn add_content(
        &self,
        kind: ContentKind,
        site: &str,
        project: &[&str],
        name: &str,
        has_extracts: bool,
    ) -> String {
        must(
            self.shared.change(|state, now| {
                Ok(state.site(site)?.add_content(kind, project, name, has_extracts, now))
            }),
        )
    }

    /// Removes a data source or workbook. A job of it goes on.
    pub fn remove_content(&self, luid: &str) {
        must(self.shared.change(|state, _| state.remove_content(luid)));
    }

    /// Moves a data source or workbook to another project, which is created when it is not there.
    pub fn move_content(&self, luid: &str, project: &[&str]) {
        let lag = self.shared.config.index_lag;
        must(self.shared.change(|state, now| state.move_content(luid, project, lag, now)));
    }

    /// How the next job of this content behaves. Scripts queue up, one for each job; the last one stays.
    pub fn script(&self, luid: &str, script: Script) {
        must(self.shared.change(|state, _| state.add_script(luid, script)));
    }

    /// The next refresh that a client starts on this content is started, and its answer is held until the hold is
    /// released or dropped. Refused refreshes are answered at once.
    pub fn hold_answer(&self, luid: &str) -> Hold {
        must(self.shared.change(|state, _| state.hold_answer(luid)))
    }

    /// Lets the content's job pass the [`Step::UntilReleased`] it is in.
    pub fn release_jobs(&self, luid: &str) {
        self.shared.change(|state, now| state.jobs.release(luid, now));
    }

    /// The content's job in the queue runs, and has for that long: Tableau only shows it now.
    pub fn start_late(&self, luid: &str, ago: Duration) {
        self.shared.change(|state, now| state.jobs.start_late(luid, ago, now));
    }

    /// A refresh that a person starts in the browser; the id of the job.
    pub fn start_refresh(&self, luid: &str, kind: Kind, by: &str) -> Result<String, Refused> {
        self.shared.start_refresh(luid, kind, by)
    }

    /// A person cancels a job in the browser. No effect on one that has ended, or that is not there.
    pub fn cancel_job(&self, job: &str) {
        self.shared.change(|state, now| state.jobs.cancel(job, now));
    }

    /// Makes the REST API answer, or not.
    pub fn set_availability(&self, availability: Availability) {
        self.shared.availability.send_replace(availability);
    }

    /// Allows or forbids the listing of jobs from now on; see [`Config::jobs_list_allowed`].
    pub fn set_jobs_list_allowed(&self, allowed: bool) {
        self.shared.change(|state, _| state.jobs_list_forbidden = !allowed);
    }

    /// What really happened until now.
    pub fn truth(&self) -> Truth {
        self.shared.truth()
    }

    /// Waits until `f` holds for the truth; the truth as it was at the end when it does not within `deadline`.
    pub async fn wait_for(&self, deadline: Duration, f: impl Fn(&Truth) -> bool) -> Result<(), Truth> {
        self.shared.wait_for(deadline, f).await
    }
}

impl Shared {
    fn start_refresh(&self, luid: &str, kind: Kind, by: &str) -> Result<String, Refused> {
        self.change(|state, now| {
            let job = state.start_refresh(luid, kind, RequestedBy::Person, by, &self.config, now);
            job.map(|job| job.id.clone())
        })
    }

    async fn wait_for(&self, deadline: Duration, f: impl Fn(&Truth) -> bool) -> Result<(), Truth> {
        let end = Instant::now() + deadline;
        let mut changes = self.changes();
        loop {
            let truth = self.truth();
            if f(&truth) {
                return Ok(());
            }
            if timeout_at(end, changes.changed()).await.is_err() {
                let truth = self.truth();
                return if f(&truth) { Ok(()) } else { Err(truth) };
            }
        }
    }
}

/// The result, or the end of the test that named what is not there.
fn must<T>(result: Result<T, Missing>) -> T {
    result.unwrap_or_else(|missing| panic!("{missing}"))
}
