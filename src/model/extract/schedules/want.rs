//! What each declared schedule comes to on this site.

use super::{Schedules, ServerView, shared, told_definition};
use crate::api::{Edition, RefreshType, TableauSchedule};
use crate::model::extract::Desired;
use crate::model::ids::ServerScheduleId;
use crate::model::tasks::ServerSchedule;
use crate::model::timing::Timing;

/// Schedules that Feedwater makes on a Server are named so, with their definition.
const PREFIX: &str = "feedwater ";
/// So many of one definition are made on a server: where Tableau tells it otherwise each time, or somebody changes each, no more help.
const MOST_OF_ONE: usize = 3;

/// A declared schedule on this site.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Want {
    pub(super) name: String,
    pub(super) refresh_type: RefreshType,
    /// As status tells it; a task of it is as wanted.
    pub(super) definition: String,
    /// Server: so are tasks on these, whose definition is the same.
    also: Vec<String>,
    /// Server: what else it may have been called; with the same name and another definition it was changed there.
    once: Vec<String>,
    pub(super) when: When,
}

impl Want {
    /// Whether a task of this definition is as wanted.
    pub(super) fn fits(&self, definition: &str) -> bool {
        self.definition == definition || self.also.iter().any(|also| also == definition)
    }

    /// Whether a task of this definition was as wanted when status was written: if it is not any more, nobody declared that.
    pub(super) fn was(&self, definition: Option<&String>) -> bool {
        definition.is_some_and(|told| self.fits(told) || self.once.contains(told))
    }
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
    /// It was made, and Tableau has it otherwise.
    pub(super) vain: bool,
}

impl Refused {
    pub(super) fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message, vain: false }
    }
}

/// Each declared schedule; `None`: the schedules of the server are not read yet.
pub(super) fn wants(d: &Desired, o: &Schedules) -> Vec<(String, Option<Result<Want, Refused>>)> {
    let mut all: Vec<(String, Option<Result<Want, Refused>>)> = Vec::new();
    for declared in &d.schedules.all {
        let mut result = want(declared, d.scheduled(), o);
        if let Some(Ok(new)) = &result {
            let same = |(_, known): &&(String, Option<Result<Want, Refused>>)| matches!(known, Some(Ok(known)) if known.fits(&new.definition));
            if let Some((other, _)) = all.iter().find(same) {
                let message = format!("schedules `{other}` and `{}` are the same: remove one", declared.name);
                result = Some(Err(Refused::new(NOT_EXPRESSIBLE, message)));
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
    let refused =
        |reason, why: String| Some(Err(Refused::new(reason, format!("schedule `{}`: {why}", declared.name))));
    let wanted = |when: When, text: &str| {
        let (also, once) = (Vec::new(), Vec::new());
        let definition = told_definition(text, refresh_type);
        Want { name: declared.name.clone(), refresh_type, definition, also, once, when }
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
                let text = timing.told(Edition::Cloud);
                Some(Ok(wanted(When::Own(timing), &text)))
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
                "this account may not list the schedules of the server: an administrator has to allow it, or, if this is Tableau Cloud, spec.edition of the TableauSite has to say so"
                    .into(),
            );
        }
        ServerView::Read(schedules) => schedules,
    };
    match (&declared.server_schedule, timing) {
        (Some(name), _) => match schedules.iter().find(|schedule| schedule.name == *name) {
            Some(found) => Some(Ok(wanted(When::Shared(found.id.clone()), &shared(name)))),
            None => refused(
                NOT_EXPRESSIBLE,
                format!(
                    "the server has no schedule `{name}` for extracts: an administrator of Tableau Server has to make it"
                ),
            ),
        },
        (None, Some(timing)) => {
            let told = |name: &String| told_definition(&shared(name), refresh_type);
            let once = names(&timing).iter().map(told).collect();
            match of_definition(schedules, &timing) {
                Ok(Made { best, others }) => {
                    let want = wanted(When::Shared(best.id.clone()), &shared(&best.name));
                    let also = others.iter().map(|other| told(&other.name)).collect();
                    Some(Ok(Want { also, once, ..want }))
                }
                Err(Missing::Free(name)) => {
                    let text = shared(&name);
                    Some(Ok(Want { once, ..wanted(When::ToMake(name, timing), &text) }))
                }
                Err(Missing::Unknown(name)) => refused(
                    SERVER_PERMISSION,
                    format!(
                        "the server has `{name}`, whose definition this account may not read or this version does not understand: an administrator has to allow it, or declare it as serverSchedule"
                    ),
                ),
                Err(Missing::Changed(name)) => {
                    let message = format!(
                        "schedule `{}`: the server has `{name}` and others of its name, none of that definition: an administrator has to put it right, or declare another one as serverSchedule",
                        declared.name
                    );
                    Some(Err(Refused { reason: SERVER_PERMISSION, message, vain: true }))
                }
            }
        }
        (None, None) => refused(NOT_EXPRESSIBLE, "set frequency or serverSchedule".into()),
    }
}

/// Schedules of ours of a definition: one that runs, and the first by name, so that every look finds the same; and the others.
struct Made<'a> {
    best: &'a ServerSchedule,
    others: Vec<&'a ServerSchedule>,
}

/// There is none.
enum Missing {
    /// It may be made under this name.
    Free(String),
    /// There is one of its name whose definition is not known: another one might be the same.
    Unknown(String),
    /// All names are taken by others.
    Changed(String),
}

fn of_definition<'a>(schedules: &'a [ServerSchedule], timing: &Timing) -> Result<Made<'a>, Missing> {
    let names = names(timing);
    let untold = timing.untold();
    let fits = |schedule: &&ServerSchedule| {
        // What the server does not tell of a schedule that we made, its name does.
        let by_name = untold.is_some() && schedule.timing == untold && names.contains(&schedule.name);
        is_ours(&schedule.name) && (schedule.timing.as_ref() == Some(timing) || by_name)
    };
    let mut all: Vec<_> = schedules.iter().filter(fits).collect();
    all.sort_by_key(|schedule| (!schedule.active, schedule.name.clone()));
    if let Some((best, others)) = all.split_first() {
        return Ok(Made { best, others: others.to_vec() });
    }
    let there = |name: &String| schedules.iter().find(|schedule| schedule.name == *name);
    if let Some(unknown) = names.iter().filter_map(there).find(|schedule| schedule.timing.is_none()) {
        return Err(Missing::Unknown(unknown.name.clone()));
    }
    let free = names.iter().find(|name| there(name).is_none());
    // One of that name, whose definition somebody has changed, is left to those who are on it.
    Err(free.map_or_else(|| Missing::Changed(names[0].clone()), |name| Missing::Free(name.clone())))
}

/// Whose definition has to be known: Tableau's list leaves definitions out.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The names that a schedule of ours of this definition may have, in the order they are taken.
fn names(timing: &Timing) -> [String; MOST_OF_ONE] {
    std::array::from_fn(|n| match n {
        0 => format!("{PREFIX}{timing}"),
        n => format!("{PREFIX}{timing} ({})", n + 1),
    })
}
