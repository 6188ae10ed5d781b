//! The part of a site's observer that reads tasks and schedules, and what the budget has to know at first.

use super::site::Tasks;
use super::site_observer::{Interest, Observer, is_refresh};
use crate::api::Edition;
use crate::model::extract::{ServerView, is_ours};
use crate::model::ids::TaskId;
use crate::model::jobs::JobRow;
use crate::model::time::sub;
use crate::tableau::TableauError;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

impl Observer {
    /// Before anything is started: what was started within the last hour on the contents that are read here, by whomever.
    pub(super) async fn seed_budget(&self, interest: &Interest) -> Result<(), TableauError> {
        const HOUR: Duration = Duration::from_secs(3600);
        let asked = self.setup.clock.moment();
        let Some(clock) = self.client.clock() else { return Ok(()) };
        let now = clock.lower(asked);
        self.setup.budget.queried(1, asked);
        let listed = match self.client.jobs(sub(now, HOUR)).await {
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
        self.setup.budget.seed(listed.map(ages), asked);
        Ok(())
    }

    /// All tasks in one answer. What is missing is missed only when a second answer does not have it either.
    pub(super) async fn read_tasks(&mut self) -> Result<(), TableauError> {
        let mut asked = self.setup.clock.moment();
        let mut all = self.client.tasks().await?;
        let known: BTreeSet<&TaskId> = match &self.tasks {
            Tasks::Read { all, .. } => all.iter().map(|task| &task.id).collect(),
            Tasks::Unread => BTreeSet::new(),
        };
        let there: BTreeSet<&TaskId> = all.iter().map(|task| &task.id).collect();
        if known.difference(&there).next().is_some() {
            asked = self.setup.clock.moment();
            all = self.client.tasks().await?;
        }
        if self.setup.edition == Edition::Server {
            self.read_schedules().await?;
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        self.tasks = Tasks::Read { asked, all: Arc::new(all) };
        Ok(())
    }

    /// The shared schedules; the definitions of those that Feedwater has made, which the list leaves out, when they were changed.
    async fn read_schedules(&mut self) -> Result<(), TableauError> {
        let mut all = match self.client.server_schedules().await {
            Ok(all) => all,
            Err(TableauError::Forbidden(_)) => {
                self.schedules = ServerView::Forbidden;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for schedule in all.iter_mut().filter(|schedule| is_ours(&schedule.name)) {
            let known = self.definitions.get(&schedule.id).filter(|(at, _)| *at == schedule.updated_at);
            schedule.timing = match known {
                Some((_, timing)) => timing.clone(),
                None => match self.client.server_schedule(&schedule.id).await {
                    Ok(timing) => timing,
                    // Gone since the list was made, or not to be seen: like none that is declared.
                    Err(TableauError::NotFound(_) | TableauError::Forbidden(_)) => None,
                    Err(error) => return Err(error),
                },
            };
            let known = (schedule.updated_at.clone(), schedule.timing.clone());
            self.definitions.insert(schedule.id.clone(), known);
        }
        self.definitions.retain(|id, _| all.iter().any(|schedule| schedule.id == *id));
        all.sort_by(|a, b| a.id.cmp(&b.id));
        self.schedules = ServerView::Read(all);
        Ok(())
    }
}
