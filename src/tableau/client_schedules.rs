//! Tasks and schedules over REST (reference 6).

use super::client::{TableauClient, extend, is_gone, success};
use super::wire_schedules::{ScheduleRow, TaskRow, schedule, subject, task, timing};
use super::{NewTask, ServerSchedule, TableauError, Task, wire};
use crate::api::RefreshType;
use crate::http::{Answer, Call, Method};
use crate::model::ids::{ServerScheduleId, TaskId, is_id};
use crate::model::timing::Timing;
use serde_json::{Map, Value, json};
use std::time::Duration;
use url::Url;

impl TableauClient {
    pub(super) async fn list_tasks(&self) -> Result<Vec<Task>, TableauError> {
        let answer = self
            .call(|site| {
                Some(Call::new("list_tasks", Method::GET, extend(site, &["tasks", "extractRefreshes"])?))
            })
            .await?;
        success(&answer)?;
        let page = wire::page::<TaskRow>(&answer.body, "tasks", "task").ok_or(TableauError::WrongServer)?;
        Ok(page.rows.into_iter().filter_map(TaskRow::into_model).collect())
    }

    pub(super) async fn task_by_id(&self, id: &TaskId) -> Result<Option<Task>, TableauError> {
        let make = |site| {
            let url = extend(site, &["tasks", "extractRefreshes", id.as_str()])?;
            Some(Call::new("get_task", Method::GET, url))
        };
        let answer = self.call(make).await?;
        if is_gone(&answer) {
            return Ok(None);
        }
        success(&answer)?;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| TableauError::WrongServer)?;
        task(&body).map(Some).ok_or(TableauError::WrongServer)
    }

    pub(super) async fn new_task(
        &self,
        new: &NewTask,
        when: &Timing,
        deadline: Duration,
    ) -> Result<TaskId, TableauError> {
        // Which of the two names an incremental task has is not settled (reference 6.3); the wrong one makes nothing.
        let names: &[&str] = match new.refresh_type {
            RefreshType::Full => &["FullRefresh"],
            RefreshType::Incremental => &["IncrementalRefresh", "IncrementalExtract"],
        };
        let mut result = Err(TableauError::Ambiguous);
        // Both names have one deadline.
        let left = self.left_of(deadline);
        for name in names {
            if left().is_zero() {
                return result;
            }
            result = self.try_new_task(new, name, when, left()).await;
            if result != Err(TableauError::Rejected("400000".into())) {
                break;
            }
        }
        result
    }

    async fn try_new_task(
        &self,
        new: &NewTask,
        name: &str,
        when: &Timing,
        deadline: Duration,
    ) -> Result<TaskId, TableauError> {
        let mut refresh = subject(new);
        refresh.insert("type".into(), json!(name));
        let body = json!({"extractRefresh": refresh, "schedule": schedule(when)});
        let answer = self
            .call_within(deadline, |site, left| {
                let url = extend(site, &["tasks", "extractRefreshes"])?;
                let mut call = Call::new("create_task", Method::POST, url).json(body.clone());
                call.deadline = Some(left);
                Some(call)
            })
            .await?;
        success(&answer)?;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| TableauError::Ambiguous)?;
        let id = body.get("extractRefresh").and_then(|refresh| refresh.get("id")).and_then(Value::as_str);
        id.filter(|id| is_id(id)).map(TaskId::from).ok_or(TableauError::Ambiguous)
    }

    pub(super) async fn change_task(&self, id: &TaskId, when: &Timing) -> Result<(), TableauError> {
        let body = json!({"schedule": schedule(when)});
        let make = |site| {
            let url = extend(site, &["tasks", "extractRefreshes", id.as_str()])?;
            Some(Call::new("update_task", Method::POST, url).json(body.clone()))
        };
        success(&self.call(make).await?)
    }

    pub(super) async fn remove_task(&self, id: &TaskId) -> Result<(), TableauError> {
        let make = |site| {
            let url = extend(site, &["tasks", "extractRefreshes", id.as_str()])?;
            Some(Call::new("delete_task", Method::DELETE, url))
        };
        let answer = self.call(make).await?;
        if is_gone(&answer) { Ok(()) } else { success(&answer) }
    }

    pub(super) async fn list_schedules(&self) -> Result<Vec<ServerSchedule>, TableauError> {
        let rows: Vec<ScheduleRow> =
            self.list_at("list_schedules", &["schedules"], ("schedules", "schedule"), "", server).await?;
        Ok(rows.into_iter().filter_map(ScheduleRow::into_model).collect())
    }

    pub(super) async fn schedule_by_id(&self, id: &ServerScheduleId) -> Result<Option<Timing>, TableauError> {
        let make = |site| {
            Some(Call::new("get_schedule", Method::GET, extend(server(site)?, &["schedules", id.as_str()])?))
        };
        let body = whole(&self.call(make).await?)?;
        Ok(timing(&body))
    }

    pub(super) async fn new_schedule(
        &self,
        name: &str,
        when: &Timing,
    ) -> Result<ServerScheduleId, TableauError> {
        let mut new: Map<String, Value> = schedule(when);
        new.extend([
            ("name".to_owned(), json!(name)),
            ("type".to_owned(), json!("Extract")),
            ("priority".to_owned(), json!("50")),
            ("executionOrder".to_owned(), json!("Parallel")),
        ]);
        let body = json!({ "schedule": new });
        let make = |site| {
            let url = extend(server(site)?, &["schedules"])?;
            Some(Call::new("create_schedule", Method::POST, url).json(body.clone()))
        };
        let new = whole(&self.call(make).await?)?;
        new.get("id").and_then(Value::as_str).map(Into::into).ok_or(TableauError::Ambiguous)
    }

    pub(super) async fn add_to_schedule(
        &self,
        new: &NewTask,
        id: &ServerScheduleId,
        deadline: Duration,
    ) -> Result<(), TableauError> {
        let mut refresh = subject(new);
        if new.refresh_type == RefreshType::Incremental {
            refresh.insert("incremental".into(), json!("true"));
        }
        let body = json!({"task": {"extractRefresh": refresh}});
        let plural = super::client::words(new.kind).0;
        let make = |site, left| {
            let url = extend(site, &["schedules", id.as_str(), plural])?;
            let mut call = Call::new("attach", Method::PUT, url).json(body.clone());
            call.deadline = Some(left);
            Some(call)
        };
        success(&self.call_within(deadline, make).await?)
    }
}

/// `/api/{version}` of `/api/{version}/sites/{site}`: schedules are of the whole server.
fn server(mut site: Url) -> Option<Url> {
    site.path_segments_mut().ok()?.pop().pop();
    Some(site)
}

/// The `schedule` of an answer.
fn whole(answer: &Answer) -> Result<Value, TableauError> {
    success(answer)?;
    let mut body: Value = serde_json::from_slice(&answer.body).map_err(|_| TableauError::WrongServer)?;
    body.get_mut("schedule").map(Value::take).ok_or(TableauError::WrongServer)
}
