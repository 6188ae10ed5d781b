//! Tasks and schedules in Tableau's JSON (reference 6).

use super::wire::{number, rows_of};
use super::{NewTask, ServerSchedule, Task, TaskSchedule};
use crate::api::{Frequency, RefreshType, TargetKind, WeekDay};
use crate::model::timing::{Clock, Interval, NTH, Timing, WEEK};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const FREQUENCIES: [(&str, Frequency); 4] = [
    ("Hourly", Frequency::Hourly),
    ("Daily", Frequency::Daily),
    ("Weekly", Frequency::Weekly),
    ("Monthly", Frequency::Monthly),
];

/// In place of days that a Server does not tell (reference 6.7).
const UNTOLD: &str = "Customized Monthly";

/// A row of the task list; other kinds of tasks have no `extractRefresh`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskRow {
    #[serde(default)]
    extract_refresh: Option<ExtractRefresh>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExtractRefresh {
    id: String,
    #[serde(default)]
    consecutive_failed_count: Value,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    incremental: Value,
    #[serde(default)]
    schedule: Value,
    #[serde(default)]
    datasource: Value,
    #[serde(default)]
    workbook: Value,
}

impl TaskRow {
    pub(super) fn into_model(self) -> Option<Task> {
        let row = self.extract_refresh?;
        // `RefreshExtractTask`, `IncrementExtractTask`, `FullRefresh`, `IncrementalRefresh`, `IncrementalExtract`; or the attribute.
        let flag = row.incremental.as_bool().or_else(|| row.incremental.as_str()?.parse().ok());
        let incremental = flag.unwrap_or_else(|| row.kind.to_ascii_lowercase().starts_with("increment"));
        let content = id(&row.datasource).or_else(|| id(&row.workbook));
        let schedule = match (id(&row.schedule), row.schedule.get("name").and_then(Value::as_str)) {
            (Some(id), Some(name)) => {
                let active = row.schedule.get("state").and_then(Value::as_str) != Some("Suspended");
                TaskSchedule::Shared { id: id.into(), name: name.to_owned(), active }
            }
            _ => TaskSchedule::Own(timing(&row.schedule)),
        };
        Some(Task {
            id: row.id.into(),
            content: content.map(Into::into),
            refresh_type: if incremental { RefreshType::Incremental } else { RefreshType::Full },
            schedule,
            next_run_at: row.schedule.get("nextRunAt").and_then(Value::as_str).and_then(at),
            failures: number(&row.consecutive_failed_count).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        })
    }
}

/// One task by its id: as in the list, or without the `task` around it and then maybe with its schedule beside it (reference 6.2).
pub(super) fn task(body: &Value) -> Option<Task> {
    let mut row = body.get("task").unwrap_or(body).clone();
    let beside = row.get("schedule").or_else(|| body.get("schedule")).cloned();
    let refresh = row.get_mut("extractRefresh")?.as_object_mut()?;
    if let Some(schedule) = beside {
        refresh.entry("schedule").or_insert(schedule);
    }
    serde_json::from_value::<TaskRow>(row).ok()?.into_model()
}

/// A row of the schedule list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScheduleRow {
    id: String,
    name: String,
    #[serde(default)]
    state: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    updated_at: String,
}

impl ScheduleRow {
    /// None: not for extracts.
    pub(super) fn into_model(self) -> Option<ServerSchedule> {
        (self.kind == "Extract").then(|| ServerSchedule {
            id: self.id.into(),
            name: self.name,
            active: self.state != "Suspended",
            updated_at: self.updated_at,
            timing: None,
        })
    }
}

/// The definition in `{frequency, frequencyDetails}`, normalised; none: not understood.
pub(super) fn timing(schedule: &Value) -> Option<Timing> {
    let name = schedule.get("frequency")?.as_str()?;
    let frequency = FREQUENCIES.iter().find(|(known, _)| *known == name)?.1;
    let details = schedule.get("frequencyDetails")?;
    let clock = |key| details.get(key).and_then(Value::as_str).map(Clock::read);
    let intervals = match details.get("intervals") {
        None => BTreeSet::new(),
        Some(list) => {
            let rows = rows_of(list.clone(), "interval")?;
            let mut all: BTreeSet<Interval> = rows.iter().map(interval).collect::<Option<_>>()?;
            // Server may tell so beside the days themselves.
            if all.len() > 1 {
                all.remove(&Interval::Untold);
            }
            all
        }
    };
    Some(Timing { frequency, start: clock("start")??, end: clock("end").flatten(), intervals }.normal())
}

fn interval(row: &Value) -> Option<Interval> {
    let small = |key: &str| row.get(key).and_then(number).and_then(|n| u8::try_from(n).ok());
    let week_day = row.get("weekDay").and_then(Value::as_str);
    let week_day = match week_day {
        None => None,
        Some(name) => Some(*WEEK.iter().find(|day| format!("{day:?}") == name)?),
    };
    let month_day = row.get("monthDay");
    match (small("hours"), small("minutes"), week_day, month_day) {
        (None, None, _, Some(day)) if day.as_str() == Some(UNTOLD) => Some(Interval::Untold),
        (Some(hours), None, None, None) => Some(Interval::Hours(hours)),
        (None, Some(minutes), None, None) => Some(Interval::Minutes(minutes)),
        (None, None, Some(day), None) => Some(Interval::WeekDay(day)),
        (None, None, Some(day), Some(nth)) => {
            NTH.iter().find(|(name, _)| Some(*name) == nth.as_str()).map(|(_, nth)| Interval::Nth(*nth, day))
        }
        (None, None, None, Some(day)) if day.as_str() == Some("LastDay") => Some(Interval::LastDay),
        (None, None, None, Some(day)) => Some(Interval::Day(u8::try_from(number(day)?).ok()?)),
        _ => None,
    }
}

/// `{frequency, frequencyDetails}`: numbers as strings, as Tableau writes them itself.
pub(super) fn schedule(timing: &Timing) -> Map<String, Value> {
    let name = FREQUENCIES.iter().find(|(_, known)| *known == timing.frequency).map_or("", |(name, _)| *name);
    let intervals: Vec<Value> = timing.intervals.iter().copied().map(told).collect();
    let mut details = Map::new();
    details.insert("start".into(), json!(format!("{}:00", timing.start)));
    if let Some(end) = timing.end {
        details.insert("end".into(), json!(format!("{end}:00")));
    }
    details.insert("intervals".into(), json!({ "interval": intervals }));
    Map::from_iter([("frequency".into(), json!(name)), ("frequencyDetails".into(), Value::Object(details))])
}

fn told(interval: Interval) -> Value {
    let week = |day: WeekDay| format!("{day:?}");
    match interval {
        Interval::Hours(hours) => json!({"hours": hours.to_string()}),
        Interval::Minutes(minutes) => json!({"minutes": minutes.to_string()}),
        Interval::WeekDay(day) => json!({"weekDay": week(day)}),
        Interval::Day(day) => json!({"monthDay": day.to_string()}),
        Interval::LastDay => json!({"monthDay": "LastDay"}),
        Interval::Untold => json!({"monthDay": UNTOLD}),
        Interval::Nth(nth, day) => {
            let name = NTH.iter().find(|(_, known)| *known == nth).map_or("", |(name, _)| *name);
            json!({"monthDay": name, "weekDay": week(day)})
        }
    }
}

/// `{datasource: {id}}` or `{workbook: {id}}`.
pub(super) fn subject(new: &NewTask) -> Map<String, Value> {
    let name = match new.kind {
        TargetKind::Datasource => "datasource",
        TargetKind::Workbook => "workbook",
    };
    Map::from_iter([(name.to_owned(), json!({"id": new.luid.as_str()}))])
}

fn id(value: &Value) -> Option<String> {
    value.get("id")?.as_str().map(str::to_owned)
}

fn at(text: &str) -> Option<Timestamp> {
    text.parse().or_else(|_| Timestamp::strptime("%Y-%m-%dT%H:%M:%S%z", text)).ok()
}

#[cfg(test)]
#[path = "wire_schedules_tests.rs"]
mod tests;
