//! What is on the simulated Tableau: sites with their users, tokens, projects and content.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::clock::Clock;
use super::config::{Config, Kind, Script};
use super::hold::{Hold, Ticket};
use super::jobs::{Job, Jobs, NewJob};
use super::truth::{Refresh, Request, RequestedBy, Truth};

/// Everything that changes.
#[derive(Default)]
pub(super) struct State {
    pub(super) sites: Vec<Site>,
    pub(super) sessions: HashMap<String, Session>,
    pub(super) jobs: Jobs,
    pub(super) requests: Vec<Request>,
    pub(super) holds: HashMap<String, VecDeque<Ticket>>,
    pub(super) connections_reset: u64,
    pub(super) jobs_list_forbidden: bool,
}

// "Content URL" is Tableau's word for the short name of a site.
#[allow(clippy::struct_field_names)]
pub(super) struct Site {
    pub(super) luid: String,
    pub(super) content_url: String,
    pub(super) users: Vec<User>,
    pub(super) projects: Vec<Project>,
    pub(super) contents: Vec<Content>,
    /// When refreshes were started over REST in the last hour.
    pub(super) starts: VecDeque<Instant>,
    pats: Vec<Pat>,
}

#[derive(Clone)]
pub(super) struct User {
    pub(super) luid: String,
    pub(super) name: String,
}

struct Pat {
    name: String,
    secret: String,
    user: String,
}

/// A sign-in. Its site and token name identify the personal access token it came from.
pub(super) struct Session {
    pub(super) site: String,
    pub(super) user: String,
    pub(super) began: Instant,
    pat: String,
}

pub(super) struct Project {
    pub(super) luid: String,
    pub(super) name: String,
    pub(super) parent: Option<String>,
    pub(super) created: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentKind {
    Datasource,
    Workbook,
}

pub(super) struct Content {
    pub(super) luid: String,
    pub(super) kind: ContentKind,
    pub(super) name: String,
    pub(super) content_url: String,
    pub(super) project: String,
    pub(super) has_extracts: bool,
    pub(super) created: Instant,
    pub(super) updated: Instant,
    /// The project in which lists still show it until the index has seen the last change; `None` for new content.
    indexed: Option<String>,
    script: Option<Script>,
    scripts: VecDeque<Script>,
}

/// Something that was named is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the simulator has no {what} '{name}'")]
pub struct Missing {
    what: &'static str,
    name: String,
}

/// Why a person's refresh was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One is queued or running (409093).
    #[error("a refresh of '{0}' is queued or running")]
    Duplicate(String),
    /// There is nothing to refresh (409090).
    #[error("'{0}' has no extract")]
    NoExtract(String),
    /// No such data source or workbook.
    #[error(transparent)]
    Missing(#[from] Missing),
}

impl State {
    /// A site by its LUID or content URL.
    pub(super) fn site(&mut self, site: &str) -> Result<&mut Site, Missing> {
        let found = self.sites.iter_mut().find(|known| known.luid == site || known.content_url == site);
        found.ok_or_else(|| missing("site", site))
    }

    /// A data source or workbook, with its site.
    pub(super) fn content(&mut self, luid: &str) -> Result<(&mut Site, usize), Missing> {
        let found = self.sites.iter_mut().find_map(|site| {
            let n = site.contents.iter().position(|content| content.luid == luid)?;
            Some((site, n))
        });
        found.ok_or_else(|| missing("data source or workbook", luid))
    }

    pub(super) fn add_site(&mut self, content_url: &str, now: Instant) -> String {
        if let Ok(site) = self.site(content_url) {
            return site.luid.clone();
        }
        let mut site = Site {
            luid: luid(),
            content_url: content_url.to_owned(),
            users: Vec::new(),
            projects: Vec::new(),
            contents: Vec::new(),
            starts: VecDeque::new(),
            pats: Vec::new(),
        };
        site.user("admin");
        site.project(&["default"], now);
        self.sites.push(site);
        self.sites[self.sites.len() - 1].luid.clone()
    }

    /// A sign-in with a personal access token: it ends the earlier one. `None` when the token is not good. The token
    /// for the header, the site and the user.
    pub(super) fn sign_in(
        &mut self,
        site: &str,
        name: &str,
        secret: &str,
        now: Instant,
    ) -> Option<(String, &Site, User)> {
        let site = self.sites.iter().find(|known| known.content_url == site)?;
        let pat = site.pats.iter().find(|pat| pat.name == name && pat.secret == secret)?;
        let user = site.users.iter().find(|user| user.luid == pat.user)?.clone();
        self.sessions.retain(|_, session| session.site != site.luid || session.pat != name);
        let random = Uuid::new_v4().simple();
        let token = format!("{random}|{}|{}", Uuid::new_v4().simple(), site.luid);
        let session =
            Session { site: site.luid.clone(), user: user.luid.clone(), began: now, pat: name.to_owned() };
        self.sessions.insert(token.clone(), session);
        Some((token, site, user))
    }

    pub(super) fn revoke_pat(&mut self, site: &str, name: &str) -> Result<(), Missing> {
        let site = self.site(site)?;
        let luid = site.luid.clone();
        site.pats.retain(|pat| pat.name != name);
        self.sessions.retain(|_, session| session.site != luid || session.pat != name);
        Ok(())
    }

    pub(super) fn end_sessions(&mut self, site: &str) -> Result<(), Missing> {
        let luid = self.site(site)?.luid.clone();
        self.sessions.retain(|_, session| session.site != luid);
        Ok(())
    }

    /// Starts a refresh, unless one of the content is queued or running.
    pub(super) fn start_refresh(
        &mut self,
        content: &str,
        kind: Kind,
        requested_by: RequestedBy,
        by: &str,
        config: &Config,
        now: Instant,
    ) -> Result<&Job, Refused> {
        let duplicate = self.jobs.active(content).is_some();
        let (site, n) = self.content(content)?;
        let site_luid = site.luid.clone();
        let found = &mut site.contents[n];
        if !found.has_extracts {
            return Err(Refused::NoExtract(found.name.clone()));
        }
        if duplicate {
            return Err(Refused::Duplicate(found.name.clone()));
        }
        let new = NewJob {
            site: site_luid,
            content: content.to_owned(),
            content_kind: found.kind,
            title: found.name.clone(),
            kind,
            requested_by,
            by: by.to_owned(),
            script: found.next_script().unwrap_or_else(|| config.default_script.clone()),
        };
        Ok(self.jobs.create(new, now))
    }

    pub(super) fn remove_content(&mut self, luid: &str) -> Result<(), Missing> {
        let (site, n) = self.content(luid)?;
        site.contents.remove(n);
        Ok(())
    }

    pub(super) fn move_content(
        &mut self,
        luid: &str,
        project: &[impl AsRef<str>],
        lag: Duration,
        now: Instant,
    ) -> Result<(), Missing> {
        let (site, n) = self.content(luid)?;
        let project = site.project(project, now);
        site.contents[n].move_to(project, lag, now);
        Ok(())
    }

    pub(super) fn add_script(&mut self, luid: &str, script: Script) -> Result<(), Missing> {
        let (site, n) = self.content(luid)?;
        site.contents[n].scripts.push_back(script);
        Ok(())
    }

    pub(super) fn hold_answer(&mut self, luid: &str) -> Result<Hold, Missing> {
        self.content(luid)?;
        let (hold, ticket) = Hold::arm();
        self.holds.entry(luid.to_owned()).or_default().push_back(ticket);
        Ok(hold)
    }

    /// The next hold on the content's refreshes that was not given up; it is taken.
    pub(super) fn take_hold(&mut self, content: &str) -> Option<Ticket> {
        let waiting = self.holds.get_mut(content)?;
        std::iter::from_fn(|| waiting.pop_front()).find(Ticket::take)
    }

    pub(super) fn truth(&self, clock: &Clock) -> Truth {
        let refresh = |job: &Job| Refresh {
            job: job.id.clone(),
            site: job.site.clone(),
            content: job.content.clone(),
            name: job.title.clone(),
            kind: job.kind,
            requested_by: job.requested_by.clone(),
            by: job.by.clone(),
            created: clock.true_time(job.created),
            started: job.started().map(|at| clock.true_time(at)),
            ended: job.end().map(|(at, _)| clock.true_time(at)),
            outcome: job.end().map(|(_, outcome)| outcome.clone()),
        };
        Truth {
            requests: self.requests.clone(),
            refreshes: self.jobs.all().iter().map(refresh).collect(),
            connections_reset: self.connections_reset,
        }
    }
}

impl Site {
    /// The LUID of a user, who is created when there is none of that name.
    pub(super) fn user(&mut self, name: &str) -> String {
        if let Some(user) = self.users.iter().find(|user| user.name == name) {
            return user.luid.clone();
        }
        let user = User { luid: luid(), name: name.to_owned() };
        self.users.push(user.clone());
        user.luid
    }

    /// Adds a token; one of that name is replaced (its secret is another then).
    pub(super) fn add_pat(&mut self, name: &str, secret: &str, user: &str) {
        let user = self.user(user);
        self.pats.retain(|pat| pat.name != name);
        self.pats.push(Pat { name: name.to_owned(), secret: secret.to_owned(), user });
    }

    /// The LUID of a project by its path; what is missing of the path is created. The default project's for an
    /// empty path.
    pub(super) fn project(&mut self, path: &[impl AsRef<str>], now: Instant) -> String {
        let mut parent = None;
        for name in path {
            let name = name.as_ref();
            let known = self.projects.iter().find(|project| project.parent == parent && project.name == name);
            let luid = if let Some(known) = known {
                known.luid.clone()
            } else {
                let luid = luid();
                self.projects.push(Project {
                    luid: luid.clone(),
                    name: name.to_owned(),
                    parent,
                    created: now,
                });
                luid
            };
            parent = Some(luid);
        }
        parent.unwrap_or_else(|| self.projects[0].luid.clone())
    }

    /// Adds a data source or workbook; the LUID of the one that is there when the project has one of that name.
    pub(super) fn add_content(
        &mut self,
        kind: ContentKind,
        project: &[impl AsRef<str>],
        name: &str,
        has_extracts: bool,
        now: Instant,
    ) -> String {
        let project = self.project(project, now);
        let same =
            |content: &&Content| content.kind == kind && content.project == project && content.name == name;
        if let Some(content) = self.contents.iter().find(same) {
            return content.luid.clone();
        }
        let plain: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
        let clashes = self.contents.iter().filter(|content| content.content_url.starts_with(&plain)).count();
        let content_url = if clashes == 0 { plain } else { format!("{plain}_{clashes}") };
        let content = Content {
            luid: luid(),
            kind,
            name: name.to_owned(),
            content_url,
            project,
            has_extracts,
            created: now,
            updated: now,
            indexed: None,
            script: None,
            scripts: VecDeque::new(),
        };
        self.contents.push(content);
        self.contents[self.contents.len() - 1].luid.clone()
    }
}

impl Content {
    fn move_to(&mut self, project: String, lag: Duration, now: Instant) {
        self.indexed = self.listed_in(lag, now).map(str::to_owned);
        self.project = project;
        self.updated = now;
    }

    /// The project under which lists show it now.
    pub(super) fn listed_in(&self, lag: Duration, now: Instant) -> Option<&str> {
        if now.saturating_duration_since(self.updated) >= lag {
            Some(&self.project)
        } else {
            self.indexed.as_deref()
        }
    }

    /// The script of the next job: the last one of the queue stays.
    fn next_script(&mut self) -> Option<Script> {
        if let Some(next) = self.scripts.pop_front() {
            self.script = Some(next);
        }
        self.script.clone()
    }
}

fn missing(what: &'static str, name: &str) -> Missing {
    Missing { what, name: name.to_owned() }
}

fn luid() -> String {
    Uuid::new_v4().to_string()
}
