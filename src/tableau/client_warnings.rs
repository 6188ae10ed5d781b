//! Data quality warnings over REST (reference 9.4), those of published data sources. They need Data Management on the site, and the right to set
//! them; no scope for them is known, so that who signs in with a JWT may find them refused (reference 1.7).

use super::client::{TableauClient, extend, is_gone, success};
use super::wire::rows_of;
use super::{DataQualityWarning, STALE, TableauError};
use crate::http::{Call, Method};
use crate::model::ids::{Luid, WarningId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "dataQualityWarnings";

#[derive(Deserialize)]
struct Row {
    id: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: Option<String>,
}

impl TableauClient {
    pub(super) async fn list_warnings(&self, of: &Luid) -> Result<Vec<DataQualityWarning>, TableauError> {
        let make = |site| {
            Some(Call::new("list_warnings", Method::GET, extend(site, &[PATH, "datasource", of.as_str()])?))
        };
        let answer = self.call(make).await?;
        // What is gone has none; and perhaps that is what is said of one without.
        if is_gone(&answer) {
            return Ok(Vec::new());
        }
        success(&answer)?;
        rows(&answer.body).ok_or(TableauError::WrongServer)
    }

    pub(super) async fn new_warning(
        &self,
        of: &Luid,
        message: &str,
        deadline: Duration,
    ) -> Result<Option<WarningId>, TableauError> {
        let warning = json!({"type": STALE, "isActive": "true", "isSevere": "false", "message": message});
        let body = json!({"dataQualityWarning": warning});
        let make = |site, left| {
            let url = extend(site, &[PATH, "datasource", of.as_str()])?;
            let mut call = Call::new("set_warning", Method::POST, url).json(body.clone());
            call.deadline = Some(left);
            Some(call)
        };
        let answer = self.call_within(deadline, make).await?;
        success(&answer)?;
        let told = rows(&answer.body).unwrap_or_default().into_iter();
        let ours = told.filter(|warning| warning.says(message));
        Ok(ours.map(|warning| warning.id).next())
    }

    pub(super) async fn remove_warning(&self, id: &WarningId) -> Result<(), TableauError> {
        let make =
            |site| Some(Call::new("delete_warning", Method::DELETE, extend(site, &[PATH, id.as_str()])?));
        let answer = self.call(make).await?;
        if is_gone(&answer) { Ok(()) } else { success(&answer) }
    }
}

/// The warnings of an answer: a list, or one alone. `None`: it is neither, or a row is not understood.
fn rows(body: &[u8]) -> Option<Vec<DataQualityWarning>> {
    const ONE: &str = "dataQualityWarning";
    let Value::Object(mut body) = serde_json::from_slice(body).ok()? else { return None };
    let list = match body.remove("dataQualityWarningList") {
        Some(list) => list,
        None if body.is_empty() || body.contains_key(ONE) => Value::Object(body),
        None => return None,
    };
    let of = |row: Row| DataQualityWarning {
        id: row.id.into(),
        kind: row.kind,
        message: row.message.unwrap_or_default(),
    };
    let rows = rows_of(list, ONE)?.into_iter();
    rows.map(|row| serde_json::from_value(row).ok().map(of)).collect()
}
