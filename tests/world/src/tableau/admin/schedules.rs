//! Tasks and schedules, as people change them.

use axum::extract::{Json, State as Extract};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::config::Kind;
use super::super::people::Definition;
use super::{Admin, Answer, Failure, done};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTask {
    luid: String,
    kind: Option<Kind>,
    schedule: Option<Value>,
    on: Option<String>,
}

pub(super) async fn add_task(Extract(admin): Extract<Admin>, Json(new): Json<NewTask>) -> Answer {
    let kind = new.kind.unwrap_or(Kind::Full);
    let task = match (&new.schedule, &new.on) {
        (Some(schedule), None) => {
            admin.shared.add_task(&new.luid, kind, Definition::cloud(schedule).map_err(bad)?)?
        }
        (None, Some(on)) => admin.shared.attach(&new.luid, on, kind)?,
        _ => return Err(bad("either schedule or on".to_owned())),
    };
    Ok(Json(json!({ "task": task })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeTask {
    task: String,
    schedule: Value,
}

pub(super) async fn change_task(Extract(admin): Extract<Admin>, Json(to): Json<ChangeTask>) -> Answer {
    admin.shared.change_task(&to.task, Definition::cloud(&to.schedule).map_err(bad)?)?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfTask {
    task: String,
    failures: Option<u32>,
}

pub(super) async fn remove_task(Extract(admin): Extract<Admin>, Json(of): Json<OfTask>) -> Answer {
    admin.shared.remove_task(&of.task)?;
    Ok(done())
}

pub(super) async fn suspend_task(Extract(admin): Extract<Admin>, Json(of): Json<OfTask>) -> Answer {
    admin.shared.suspend_task(&of.task, of.failures.unwrap_or_default())?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedSchedule {
    name: String,
    schedule: Value,
}

pub(super) async fn add_schedule(Extract(admin): Extract<Admin>, Json(new): Json<NamedSchedule>) -> Answer {
    let definition = Definition::server(&new.schedule).map_err(bad)?;
    Ok(Json(json!({ "id": admin.shared.add_schedule(&new.name, definition) })))
}

pub(super) async fn change_schedule(Extract(admin): Extract<Admin>, Json(to): Json<NamedSchedule>) -> Answer {
    let definition = Definition::server(&to.schedule).map_err(bad)?;
    admin.shared.define_schedule(&to.name, definition)?;
    Ok(done())
}

fn bad(what: String) -> Failure {
    Failure(StatusCode::BAD_REQUEST, what)
}
