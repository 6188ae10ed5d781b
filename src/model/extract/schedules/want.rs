//! What each declared schedule comes to on this site.

use super::{Schedules, ServerView, shared, told_definition};
use crate::api::{Edition, RefreshType, TableauSchedule};
use crate::model::extract::Desired;
use crate::model::ids::ServerScheduleId;
use crate::model::tasks::ServerSchedule;
use crate::model::timing::Timing;

/// Schedules that Feedwater makes on a Server are named so, with their definition.
const PREFIX: &str = "feedwater ";

/// A declared schedule on this site.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Want {
    pub(super) name: String,
    pub(super) refresh_type: RefreshType,
    /// As status tells it; equal to that of a task exactly if the task is as wanted.
    pub(super) definition: String,
    pub(super) when: When,
}

/// How the site gets it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum When {
    /// Cloud: the task carries it.
    Own(Timing),
    /// Server: it is there.
    Shared(ServerScheduleId),
    /// Server: it has to be made first, under this name.
    ToMake(String, Timing),
}

/// A declared schedule that this site does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Each declared schedule; `None`: the schedules of the server are not read yet.
pub(super) fn wants(d: &Desired, o: &Schedules) -> Vec<(String, Option<Result<Want, Refused>>)> {
    let mut all: Vec<(String, Option<Result<Want, Refused>>)> = Vec::new();
    for declared in &d.schedules.all {
        let mut result = want(declared, d.refresh_type, o);
        if let Some(Ok(new)) = &result {
            let same = |(_, known): &&(String, Option<Result<Want, Refused>>)| matches!(known, Some(Ok(known)) if known.definition == new.definition);
            if let Some((other, _)) = all.iter().find(same) {
                let message = format!("schedules `{other}` and `{}` are the same: remove one", declared.name);
                result = Some(Err(Refused { reason: NOT_EXPRESSIBLE, message }));
            }
        }
        all.push((declared.name.clone(), result));
    }
    all
}

pub(super) const NOT_EXPRESSIBLE: &str = "ScheduleNotExpressible";
pub(super) const SERVER_PERMISSION: &str = "ServerSchedulePermission";

fn want(declared: &TableauSchedule, unset: RefreshType, o: &Schedules) -> Option<Result<Want, Refused>> {
    let refresh_type = declared.refresh_type.unwrap_or(unset);
    let refused = |reason, why: String| {
        Some(Err(Refused { reason, message: format!("schedule `{}`: {why}", declared.name) }))
    };
    let wanted = |when: When, text: &str| {
        let definition = told_definition(text, refresh_type);
        Some(Ok(Want { name: declared.name.clone(), refresh_type, definition, when }))
    };
    if let (Some(_), Edition::Cloud) = (&declared.server_schedule, o.edition) {
        return refused(
            NOT_EXPRESSIBLE,
            "Tableau Cloud has no server schedules: declare frequency and start".into(),
        );
    }
    if o.edition == Edition::Cloud {
        return match Timing::declared(declared, o.edition) {
            Ok(timing) => {
                let text = timing.to_string();
                wanted(When::Own(timing), &text)
            }
            Err(why) => refused(NOT_EXPRESSIBLE, why.0),
        };
    }
    let timing = match &declared.server_schedule {
        Some(_) => None,
        None => match Timing::declared(declared, o.edition) {
            Ok(timing) => Some(timing),
            Err(why) => return refused(NOT_EXPRESSIBLE, why.0),
        },
    };
    let schedules = match &o.server {
        ServerView::Unread => return None,
        ServerView::Forbidden => {
            return refused(
                SERVER_PERMISSION,
                "this account may not list the schedules of the server: an administrator has to allow it"
                    .into(),
            );
        }
        ServerView::Read(schedules) => schedules,
    };
    match (&declared.server_schedule, timing) {
        (Some(name), _) => match schedules.iter().find(|schedule| schedule.name == *name) {
            Some(found) => wanted(When::Shared(found.id.clone()), &shared(name)),
            None => refused(
                NOT_EXPRESSIBLE,
                format!(
                    "the server has no schedule `{name}` for extracts: an administrator of Tableau Server has to make it"
                ),
            ),
        },
        (None, Some(timing)) => {
            if let Some(found) = of_definition(schedules, &timing) {
                return wanted(When::Shared(found.id.clone()), &shared(&found.name));
            }
            let name = free_name(schedules, &timing);
            let text = shared(&name);
            wanted(When::ToMake(name, timing), &text)
        }
        (None, None) => refused(NOT_EXPRESSIBLE, "set frequency or serverSchedule".into()),
    }
}

/// A schedule of ours of this definition that runs. Of several the first by name, so that every look finds the same.
fn of_definition<'a>(schedules: &'a [ServerSchedule], timing: &Timing) -> Option<&'a ServerSchedule> {
    let fits = |schedule: &&ServerSchedule| {
        schedule.name.starts_with(PREFIX) && schedule.active && schedule.timing.as_ref() == Some(timing)
    };
    schedules.iter().filter(fits).min_by(|a, b| a.name.cmp(&b.name))
}

/// Whose definition has to be known: Tableau's list leaves definitions out.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// One of that name, whose definition somebody has changed, is left to those who are on it.
fn free_name(schedules: &[ServerSchedule], timing: &Timing) -> String {
    let taken = |name: &str| schedules.iter().any(|schedule| schedule.name == name);
    let mut name = format!("{PREFIX}{timing}");
    for n in 2..=schedules.len() + 2 {
        if !taken(&name) {
            break;
        }
        name = format!("{PREFIX}{timing} ({n})");
    }
    name
}
