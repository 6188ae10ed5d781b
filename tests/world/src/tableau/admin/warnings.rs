//! Data quality warnings, as people set them, and the licence they need.

use axum::extract::{Json, State as Extract};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::super::warnings::TYPES;
use super::{Admin, Answer, Failure, done};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWarning {
    luid: String,
    r#type: String,
    message: String,
    by: Option<String>,
}

pub(super) async fn add(Extract(admin): Extract<Admin>, Json(new): Json<NewWarning>) -> Answer {
    let by = new.by.as_deref().unwrap_or("somebody");
    let id = admin.shared.add_warning(&new.luid, known(&new.r#type)?, &new.message, by)?;
    Ok(Json(json!({ "warning": id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeWarning {
    warning: String,
    r#type: String,
    message: String,
}

pub(super) async fn change(Extract(admin): Extract<Admin>, Json(to): Json<ChangeWarning>) -> Answer {
    admin.shared.change_warning(&to.warning, known(&to.r#type)?, &to.message)?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfWarning {
    warning: String,
}

pub(super) async fn remove(Extract(admin): Extract<Admin>, Json(of): Json<OfWarning>) -> Answer {
    admin.shared.remove_warning(&of.warning)?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Licence {
    licensed: bool,
}

pub(super) async fn data_management(Extract(admin): Extract<Admin>, Json(new): Json<Licence>) -> Answer {
    admin.shared.change(|state, _| state.no_data_management = !new.licensed);
    Ok(done())
}

fn known(kind: &str) -> Result<&str, Failure> {
    let bad = || Failure(StatusCode::BAD_REQUEST, format!("'{kind}' is no type of a warning"));
    TYPES.contains(&kind).then_some(kind).ok_or_else(bad)
}
