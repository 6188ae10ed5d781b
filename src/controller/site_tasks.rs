//! The part of a site's observer that reads tasks and schedules, and what the budget has to know at first.

use super::site::Tasks;
use super::site_jobs::is_refresh;
use super::site_observer::{ASK_AGAIN, Interest, Observer};
use crate::api::Edition;
use crate::model::extract::{ServerView, Unlisted, is_ours};
use crate::model::ids::TaskId;
use crate::model::jobs::JobRow;
use crate::model::tasks::Task;
use crate::model::time::sub;
use crate::tableau::{TableauError, pages};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

impl Observer {
    /// Before anything is started: what was started within the last hour on the contents that are read here, by whomever.
    pub(super) async fn seed_budget(&self, interest: &Interest) -> Result<(), TableauError> {
        const HOUR: Duration = Duration::from_secs(3600);
        let asked = self.setup.clock.moment();
        let Some(clock) = self.client.clock() else { return Ok(()) };
        let now = clock.lower(asked);
        let listed = self.client.jobs(sub(now, HOUR)).await;
        self.setup.budget.queried(listed.as_ref().map_or(1, |rows| pages(rows.len())), asked);
        let listed = match listed {
            Ok(rows) => Some(rows),
            Err(TableauError::Forbidden(_)) => None,
            Err(error) => return Err(error),
        };
        // A row has no LUID. By name is near enough, and rather too many.
        let here = |row: &JobRow| {
            let named = |title: &String| interest.names.values().any(|names| names.contains(title));
            is_refresh(row) && (row.title.as_ref().is_some_and(named) || !interest.luids.is_empty())
        };
        let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let ages = |rows: Vec<JobRow>| {
            rows.into_iter().filter(here).filter_map(|row| row.created_at.map(age)).collect()
        };
        self.setup.budget.seed(listed.map(ages), &self.setup.users.all(), asked);
        Ok(())
    }

    /// All tasks in one answer; what was there before and is missing is missed only when a second answer does not have it either. Tasks of our
    /// resources that neither has are asked for one by one: a list says nothing of what the account may not see.
    pub(super) async fn read_tasks(&mut self, ours: &BTreeSet<TaskId>) -> Result<(), TableauError> {
        let asked = self.setup.clock.moment();
        let known: BTreeSet<TaskId> = match &self.tasks {
            Tasks::Read { all, .. } => all.iter().map(|task| task.id.clone()).collect(),
            Tasks::Unread | Tasks::Forbidden => BTreeSet::new(),
        };
        let mut all: BTreeMap<TaskId, Task> = BTreeMap::new();
        for _ in 0..2 {
            match self.client.tasks().await {
                Ok(tasks) => all.extend(tasks.into_iter().map(|task| (task.id.clone(), task))),
                // The rest of the site is none the worse.
                Err(TableauError::Forbidden(code) | TableauError::Rejected(code)) => {
                    tracing::debug!(code, "the tasks may not be listed");
                    self.tasks = Tasks::Forbidden;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if known.iter().all(|id| all.contains_key(id)) {
                break;
            }
        }
        self.ask_for_unlisted(ours, &mut all).await?;
        if self.setup.edition == Edition::Server {
            self.read_schedules().await?;
        }
        let unlisted = self.unlisted.iter().map(|(id, (said, _))| (id.clone(), *said)).collect();
        let all = all.into_values().collect();
        self.tasks = Tasks::Read { asked, all: Arc::new(all), unlisted: Arc::new(unlisted) };
        Ok(())
    }

    async fn ask_for_unlisted(
        &mut self,
        ours: &BTreeSet<TaskId>,
        all: &mut BTreeMap<TaskId, Task>,
    ) -> Result<(), TableauError> {
        let missing: BTreeSet<&TaskId> = ours.iter().filter(|id| !all.contains_key(*id)).collect();
        self.unlisted.retain(|id, _| missing.contains(id));
        for id in missing.into_iter().cloned().collect::<Vec<_>>() {
            let now = self.setup.clock.moment();
            let before = self.unlisted.get(&id).copied();
            let rests = match before {
                // Said for so long, it is not the lag after its making.
                Some((Unlisted::Gone, since)) => now >= since.plus(ASK_AGAIN),
                Some((Unlisted::Hidden, since)) => now < since.plus(ASK_AGAIN),
                Some((Unlisted::Unclear, _)) | None => false,
            };
            if rests {
                continue;
            }
            let said = match self.client.task(&id).await {
                Ok(Some(task)) => {
                    self.unlisted.remove(&id);
                    all.insert(id, task);
                    continue;
                }
                Ok(None) => Unlisted::Gone,
                Err(TableauError::Forbidden(_)) => Unlisted::Hidden,
                Err(error) if is_of_one(&error) => Unlisted::Unclear,
                Err(error) => return Err(error),
            };
            let since = before.filter(|(told, _)| *told == Unlisted::Gone && said == Unlisted::Gone);
            self.unlisted.insert(id, (said, since.map_or(now, |(_, since)| since)));
        }
        Ok(())
    }

    /// The shared schedules; the definitions of those that Feedwater has made, which the list leaves out, when they were changed.
    async fn read_schedules(&mut self) -> Result<(), TableauError> {
        let mut all = match self.client.server_schedules().await {
            Ok(all) => all,
            // That a JWT may call this is not known (reference 1.7); everything else still works.
            Err(TableauError::Forbidden(_) | TableauError::Rejected(_) | TableauError::MissingScope) => {
                self.schedules = ServerView::Forbidden;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut gone = BTreeSet::new();
        for schedule in all.iter_mut().filter(|schedule| is_ours(&schedule.name)) {
            let known = self.definitions.get(&schedule.id).filter(|(at, _)| *at == schedule.updated_at);
            if let Some((_, timing)) = known {
                schedule.timing.clone_from(timing);
                continue;
            }
            match self.client.server_schedule(&schedule.id).await {
                Ok(timing) => {
                    schedule.timing.clone_from(&timing);
                    let known = (schedule.updated_at.clone(), timing);
                    self.definitions.insert(schedule.id.clone(), known);
                }
                // Deleted since the list was made, or not to be had yet: its name is found taken.
                Err(TableauError::NotFound(_)) => {
                    gone.insert(schedule.id.clone());
                }
                // Rights are given and taken: it is asked for again with the next look.
                Err(error) if is_of_one(&error) => {
                    tracing::debug!(schedule = %schedule.id, %error, "a definition may not be read");
                }
                Err(error) => return Err(error),
            }
        }
        all.retain(|schedule| !gone.contains(&schedule.id));
        self.definitions.retain(|id, _| all.iter().any(|schedule| schedule.id == *id));
        all.sort_by(|a, b| a.id.cmp(&b.id));
        self.schedules = ServerView::Read(all);
        Ok(())
    }
}

/// Whether an error says something of the one thing that was asked for, and nothing of the site.
pub(super) fn is_of_one(error: &TableauError) -> bool {
    match error {
        TableauError::Forbidden(_)
        | TableauError::NotFound(_)
        | TableauError::Rejected(_)
        | TableauError::Ambiguous
        | TableauError::WrongServer => true,
        TableauError::SignInRefused
        | TableauError::NotLeading
        | TableauError::SessionContested
        | TableauError::MissingScope
        | TableauError::Identity(_)
        | TableauError::Throttled { .. }
        | TableauError::UnsupportedVersion { .. }
        | TableauError::Unreachable(_) => false,
    }
}
