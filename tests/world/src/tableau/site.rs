//! A site: its users, tokens, projects and content.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::config::Script;
use super::trust::Trust;

pub(super) struct Site {
    pub(super) luid: String,
    /// The content URL.
    pub(super) url_name: String,
    pub(super) users: Vec<User>,
    pub(super) projects: Vec<Project>,
    pub(super) contents: Vec<Content>,
    /// When refreshes were started over REST in the last hour.
    pub(super) starts: VecDeque<Instant>,
    pub(super) pats: Vec<Pat>,
    pub(super) trust: Trust,
}

#[derive(Clone)]
pub(super) struct User {
    pub(super) luid: String,
    pub(super) name: String,
}

/// A personal access token.
pub(super) struct Pat {
    pub(super) name: String,
    pub(super) secret: String,
    /// LUID.
    pub(super) user: String,
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
    /// The content URL.
    pub(super) url_name: String,
    pub(super) project: String,
    pub(super) has_extracts: bool,
    pub(super) created: Instant,
    pub(super) updated: Instant,
    /// The project in which lists still show it until the index has seen the last change; `None` for new content.
    indexed: Option<String>,
    /// The script of the last job.
    script: Option<Script>,
    /// The scripts of the jobs to come.
    pub(super) scripts: VecDeque<Script>,
}

impl Site {
    /// A site with its administrator and the project `default`.
    pub(super) fn new(url_name: &str, now: Instant) -> Self {
        let mut site = Self {
            luid: luid(),
            url_name: url_name.to_owned(),
            users: Vec::new(),
            projects: Vec::new(),
            contents: Vec::new(),
            starts: VecDeque::new(),
            pats: Vec::new(),
            trust: Trust::default(),
        };
        site.user("admin");
        site.project(&["default"], now);
        site
    }

    /// The LUID of a user, who is created when there is none of that name.
    pub(super) fn user(&mut self, name: &str) -> String {
        if let Some(user) = self.users.iter().find(|user| user.name == name) {
            return user.luid.clone();
        }
        let user = User { luid: luid(), name: name.to_owned() };
        self.users.push(user.clone());
        user.luid
    }

    /// Adds a token; one of that name is replaced.
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
        let clashes = self.contents.iter().filter(|content| content.url_name.starts_with(&plain)).count();
        let url_name = if clashes == 0 { plain } else { format!("{plain}_{clashes}") };
        let content = Content {
            luid: luid(),
            kind,
            name: name.to_owned(),
            url_name,
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
    pub(super) fn move_to(&mut self, project: String, lag: Duration, now: Instant) {
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
    pub(super) fn next_script(&mut self) -> Option<Script> {
        if let Some(next) = self.scripts.pop_front() {
            self.script = Some(next);
        }
        self.script.clone()
    }
}

pub(super) fn luid() -> String {
    Uuid::new_v4().to_string()
}
