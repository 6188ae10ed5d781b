//! Who may sign in.

use axum::extract::{Json, State as Extract};
use serde::Deserialize;

use super::{Admin, Answer, done};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    site: String,
    name: String,
}

pub(super) async fn add_user(Extract(admin): Extract<Admin>, Json(new): Json<NewUser>) -> Answer {
    admin.shared.change(|state, _| state.add_user(&new.site, &new.name))?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewSecret {
    site: String,
    client_id: String,
    secret_id: String,
    secret_value: String,
}

pub(super) async fn add_secret(Extract(admin): Extract<Admin>, Json(new): Json<NewSecret>) -> Answer {
    admin.shared.change(|state, _| {
        state.add_app_secret(&new.site, &new.client_id, &new.secret_id, &new.secret_value)
    })?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OldSecret {
    site: String,
    client_id: String,
    secret_id: String,
}

pub(super) async fn remove_secret(Extract(admin): Extract<Admin>, Json(old): Json<OldSecret>) -> Answer {
    admin.shared.change(|state, _| state.remove_app_secret(&old.site, &old.client_id, &old.secret_id))?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewServer {
    site: String,
    issuer: String,
    jwks_url: String,
}

pub(super) async fn register(Extract(admin): Extract<Admin>, Json(new): Json<NewServer>) -> Answer {
    admin.shared.change(|state, _| state.register_server(&new.site, &new.issuer, &new.jwks_url))?;
    Ok(done())
}
