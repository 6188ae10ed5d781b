//! Everything on the simulated Tableau that changes, and what can be done to it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::clock::Clock;
use super::config::{Config, Kind, Script};
use super::hold::{Hold, Ticket};
use super::jobs::{Job, Jobs, NewJob};
use super::refusal::Refusal;
use super::site::{Site, User};
use super::tasks::Tasks;
use super::trust::{self, Keys};
use super::truth::{Refresh, Request, RequestedBy, Truth};
use super::warnings::Warning;

/// Everything that changes.
#[derive(Default)]
pub(super) struct State {
    pub(super) sites: Vec<Site>,
    pub(super) sessions: HashMap<String, Session>,
    pub(super) jobs: Jobs,
    pub(super) tasks: Tasks,
    pub(super) warnings: Vec<Warning>,
    pub(super) requests: Vec<Request>,
    pub(super) holds: HashMap<String, VecDeque<Ticket>>,
    pub(super) connections_reset: u64,
    pub(super) jobs_list_forbidden: bool,
    /// The signed-in users are no administrators of the server.
    pub(super) no_server_admin: bool,
    /// The site has no Data Management.
    pub(super) no_data_management: bool,
    /// Contents that the signed-in users see, and whose tasks they may neither see nor change, nor warn of: they neither own them nor lead their project.
    pub(super) not_led: HashSet<String>,
}

/// A sign-in.
pub(super) struct Session {
    pub(super) site: String,
    pub(super) user: String,
    pub(super) began: Instant,
    origin: Origin,
}

/// What a sign-in came from.
enum Origin {
    /// The personal access token of this name.
    Pat(String),
    /// A JWT with these scopes.
    Jwt(BTreeSet<String>),
}

impl Session {
    /// Whether calls that need this scope may be made; a personal access token has no scopes and may all.
    pub(super) fn may(&self, scope: &str) -> bool {
        match &self.origin {
            Origin::Pat(_) => true,
            Origin::Jwt(scopes) => trust::covers(scopes, scope),
        }
    }

    fn is_of(&self, site: &str, name: &str) -> bool {
        self.site == site && matches!(&self.origin, Origin::Pat(pat) if pat == name)
    }
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
        let found = self.sites.iter_mut().find(|known| known.luid == site || known.url_name == site);
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

    pub(super) fn add_site(&mut self, url_name: &str, now: Instant) -> String {
        if let Ok(site) = self.site(url_name) {
            return site.luid.clone();
        }
        let site = Site::new(url_name, now);
        let luid = site.luid.clone();
        self.sites.push(site);
        luid
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
        let site = self.sites.iter().find(|known| known.url_name == site)?;
        let pat = site.pats.iter().find(|pat| pat.name == name && pat.secret == secret)?;
        let user = site.users.iter().find(|user| user.luid == pat.user)?.clone();
        self.sessions.retain(|_, session| !session.is_of(&site.luid, name));
        let origin = Origin::Pat(name.to_owned());
        let session = Session { site: site.luid.clone(), user: user.luid.clone(), began: now, origin };
        let token = token(site);
        self.sessions.insert(token.clone(), session);
        Some((token, site, user))
    }

    /// A sign-in with a JWT; others stay as they are. `keys` are those of the external server that issued it.
    pub(super) fn sign_in_by_jwt(
        &mut self,
        site: &str,
        jwt: &str,
        keys: &Keys,
        (now, date): (Instant, i64),
    ) -> Result<(String, &Site, User), Refusal> {
        let site = self.sites.iter_mut().find(|known| known.url_name == site).ok_or_else(Refusal::sign_in)?;
        let bearer = site.trust.verify(jwt, keys, date)?;
        let user = site.users.iter().find(|user| user.name == bearer.user).cloned();
        let user = user.ok_or_else(|| Refusal::jwt(5, "SYSTEM_USER_NOT_FOUND"))?;
        let origin = Origin::Jwt(bearer.scopes);
        let session = Session { site: site.luid.clone(), user: user.luid.clone(), began: now, origin };
        let token = token(site);
        self.sessions.insert(token.clone(), session);
        Ok((token, site, user))
    }

    /// Adds a token. One of that name with another secret is revoked before.
    pub(super) fn add_pat(
        &mut self,
        site: &str,
        name: &str,
        secret: &str,
        user: &str,
    ) -> Result<(), Missing> {
        let known = &mut self.site(site)?.pats;
        if known.iter().any(|pat| pat.name == name && pat.secret != secret) {
            self.revoke_pat(site, name)?;
        }
        self.site(site)?.add_pat(name, secret, user);
        Ok(())
    }

    pub(super) fn revoke_pat(&mut self, site: &str, name: &str) -> Result<(), Missing> {
        let site = self.site(site)?;
        let luid = site.luid.clone();
        site.pats.retain(|pat| pat.name != name);
        self.sessions.retain(|_, session| !session.is_of(&luid, name));
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
        self.drop_tasks_of(luid);
        self.warnings.retain(|warning| warning.content != luid);
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
        Ok(self.hold(luid))
    }

    /// A hold on whatever is known by this key.
    pub(super) fn hold(&mut self, key: &str) -> Hold {
        let (hold, ticket) = Hold::arm();
        self.holds.entry(key.to_owned()).or_default().push_back(ticket);
        hold
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
            tasks: self.task_truths(),
            schedules: self.tasks.schedules.iter().map(|s| (s.name.clone(), s.timing.to_string())).collect(),
            warnings: self.warnings.iter().map(Warning::truth).collect(),
            connections_reset: self.connections_reset,
        }
    }
}

pub(super) fn missing(what: &'static str, name: &str) -> Missing {
    Missing { what, name: name.to_owned() }
}

/// As Tableau makes them: three parts, the last one names the site.
fn token(site: &Site) -> String {
    format!("{}|{}|{}", Uuid::new_v4().simple(), Uuid::new_v4().simple(), site.luid)
}
