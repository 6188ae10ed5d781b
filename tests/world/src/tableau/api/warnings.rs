//! Data quality warnings of data sources, the classic ones (`tableau-rest.md` 9.4).

use super::super::config::{SecondWarning, WarningEcho};
use super::super::element::Element;
use super::super::input::Input;
use super::super::refusal::Refusal;
use super::super::site::{ContentKind, luid};
use super::super::state::State;
use super::super::warnings::{TYPES, Warning};
use super::auth::Caller;
use super::{Call, Reply, content, tasks};

pub(super) fn list(state: &State, caller: &Caller, on: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    licensed(state)?;
    content::find(content::site(state, caller)?, ContentKind::Datasource, on)?;
    Ok(Reply::ok(vec![listed(state, on, call)]))
}

pub(super) fn add(state: &mut State, caller: &Caller, on: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request = Input::parse(call.content_type, call.body)?;
    request.allow(&[], &["dataQualityWarning"])?;
    let wanted = request.child("dataQualityWarning");
    let wanted = wanted.ok_or_else(|| Refusal::bad_request("dataQualityWarning is required."))?;
    wanted.allow(&["type", "isActive", "isSevere", "message"], &[])?;
    let kind = wanted.attribute("type").filter(|kind| TYPES.contains(kind));
    let kind = kind.ok_or_else(|| Refusal::bad_request("The type is none of a data quality warning."))?;
    let (active, severe) = (flag(wanted, "isActive", true)?, flag(wanted, "isSevere", false)?);
    licensed(state)?;
    content::find(content::site(state, caller)?, ContentKind::Datasource, on)?;
    tasks::leads(state, on)?;
    if state.warnings.iter().any(|warning| warning.content == on) {
        match call.config.second_warning {
            SecondWarning::Rejected => return Err(Refusal::warning_exists()),
            SecondWarning::Replaces => state.warnings.retain(|warning| warning.content != on),
        }
    }
    state.warnings.push(Warning {
        id: luid(),
        site: caller.site.clone(),
        content: on.to_owned(),
        kind: kind.to_owned(),
        message: wanted.attribute("message").unwrap_or_default().to_owned(),
        active,
        severe,
        by: caller.user_name.clone(),
        created: call.now,
        updated: call.now,
    });
    Ok(Reply::ok(vec![listed(state, on, call)]))
}

pub(super) fn delete(state: &mut State, caller: &Caller, id: &str) -> Result<Reply, Refusal> {
    licensed(state)?;
    let found = state.warnings.iter().position(|warning| warning.site == caller.site && warning.id == id);
    let found = found.ok_or_else(|| Refusal::warning(id))?;
    tasks::leads(state, &state.warnings[found].content)?;
    state.warnings.remove(found);
    Ok(Reply::empty(204))
}

/// All of a data source.
pub(super) fn delete_all(state: &mut State, caller: &Caller, on: &str) -> Result<Reply, Refusal> {
    licensed(state)?;
    content::find(content::site(state, caller)?, ContentKind::Datasource, on)?;
    tasks::leads(state, on)?;
    state.warnings.retain(|warning| warning.content != on);
    Ok(Reply::empty(204))
}

fn licensed(state: &State) -> Result<(), Refusal> {
    if state.no_data_management { Err(Refusal::no_data_management()) } else { Ok(()) }
}

fn flag(input: &Input, name: &str, unset: bool) -> Result<bool, Refusal> {
    match input.attribute(name) {
        None => Ok(unset),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(Refusal::bad_request(format!("'{other}' is no value of '{name}'."))),
    }
}

fn echoed(echo: WarningEcho, message: &str) -> String {
    match echo {
        WarningEcho::AsSent => message.to_owned(),
        WarningEcho::Escaped => {
            let sign = |c: char| match c {
                '&' | '<' | '>' | '"' | '\'' | '/' | '(' | ')' => format!("&#{};", u32::from(c)),
                other => other.to_string(),
            };
            let escaped: String = message.trim().chars().map(sign).collect();
            escaped.replace('\n', "\r\n") + "\r\n"
        }
    }
}

fn listed(state: &State, on: &str, call: &Call<'_>) -> Element {
    let of = state.warnings.iter().filter(|warning| warning.content == on);
    let row = |warning: &Warning| {
        let users = state.sites.iter().flat_map(|site| &site.users);
        let owner = users.into_iter().find(|user| user.name == warning.by).map(|user| user.luid.clone());
        Element::new("dataQualityWarning")
            .attribute("id", &warning.id)
            .attribute("userDisplayName", &warning.by)
            .attribute("contentId", &warning.content)
            .attribute("contentType", "DATASOURCE")
            .attribute("message", echoed(call.config.warning_echo, &warning.message))
            .attribute("type", &warning.kind)
            .flag("isActive", warning.active)
            .attribute("createdAt", call.clock.body_date(warning.created))
            .attribute("updatedAt", call.clock.body_date(warning.updated))
            .flag("isSevere", warning.severe)
            .child(Element::new("site").attribute("id", &warning.site))
            .child(Element::new("owner").maybe("id", owner))
    };
    Element::list("dataQualityWarningList", of.map(row).collect())
}
