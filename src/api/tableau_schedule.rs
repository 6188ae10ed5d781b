//! Refresh schedules that Tableau runs, as declared and as found.

use super::common::Time;
use super::extract_refresh::RefreshType;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A schedule that Tableau runs, in the site's time zone. On Tableau Cloud it belongs to the extract. On Tableau Server the extract is added to
/// the schedule `serverSchedule` names, or to one of this definition whose name begins with `feedwater`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.frequency) != has(self.serverSchedule)").message("set exactly one of frequency, serverSchedule"))]
#[x_kube(validation = Rule::new("!has(self.serverSchedule) || [has(self.start), has(self.end), has(self.everyHours), has(self.everyMinutes), has(self.weekDays), has(self.monthDays)].filter(x, x).size() == 0").message("a serverSchedule has its own times: leave start, end, everyHours, everyMinutes, weekDays and monthDays out"))]
#[x_kube(validation = Rule::new("!has(self.frequency) || has(self.start)").message("start is needed with a frequency"))]
#[x_kube(validation = Rule::new("!(has(self.everyHours) && has(self.everyMinutes))").message("set at most one of everyHours, everyMinutes"))]
#[x_kube(validation = Rule::new("!has(self.frequency) || self.frequency != 'Hourly' || (has(self.end) && (has(self.everyHours) || has(self.everyMinutes)))").message("Hourly needs end, and everyHours or everyMinutes"))]
#[x_kube(validation = Rule::new("!has(self.frequency) || self.frequency != 'Daily' || (!has(self.everyMinutes) && (has(self.everyHours) ? (has(self.end) || self.everyHours == 24) : !has(self.end)))").message("Daily runs once, or with everyHours until end"))]
#[x_kube(validation = Rule::new("!has(self.frequency) || self.frequency != 'Weekly' || (has(self.weekDays) && self.weekDays.size() > 0 && !has(self.end) && !has(self.everyHours) && !has(self.everyMinutes))").message("Weekly needs weekDays, and has no end, everyHours or everyMinutes"))]
#[x_kube(validation = Rule::new("has(self.frequency) && self.frequency == 'Monthly' ? (has(self.monthDays) && self.monthDays.size() > 0 && !has(self.end) && !has(self.everyHours) && !has(self.everyMinutes)) : !has(self.monthDays)").message("Monthly needs monthDays, and has no end, everyHours or everyMinutes; nothing else has monthDays"))]
#[x_kube(validation = Rule::new("!has(self.monthDays) || (has(self.weekDays) ? (self.weekDays.size() == 1 && self.monthDays.size() == 1 && type(self.monthDays[0]) != int) : self.monthDays.all(d, type(d) == int || d == 'LastDay'))").message("First to Fifth need one of weekDays beside, and one of weekDays needs one of First to Fifth or LastDay"))]
pub struct TableauSchedule {
    /// Name of this schedule, used in status and messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Hourly, Daily, Weekly or Monthly. Unset: `serverSchedule` says when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Frequency")]
    pub frequency: Option<Frequency>,
    /// Time of the first run of a day, for example `10:30`. On Tableau Cloud a multiple of five minutes. Unset: `serverSchedule` says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub start: Option<String>,
    /// Time until which it runs again on a day. On Tableau Cloud a whole number of hours after `start`. Unset: it runs once a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub end: Option<String>,
    /// Hours from one run of a day to the next: 1 (Hourly), 2, 4, 6, 8, 12 or 24. Unset: `everyMinutes`, else it runs once a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self in [1, 2, 4, 6, 8, 12, 24]").message("everyHours must be 1, 2, 4, 6, 8, 12 or 24"))]
    #[schemars(range(min = 1, max = 24))]
    pub every_hours: Option<i32>,
    /// Minutes from one run to the next: 60 on Tableau Cloud, 15 or 30 on Tableau Server. Unset: `everyHours`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self in [15, 30, 60]").message("everyMinutes must be 15, 30 or 60"))]
    #[schemars(range(min = 15, max = 60))]
    pub every_minutes: Option<i32>,
    /// Days of the week it runs on: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday. Unset: every day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub week_days: Option<Vec<WeekDay>>,
    /// Days of the month it runs on: numbers from 1 to 31 (months without such a day are left out) and `LastDay`; or one of First, Second, Third,
    /// Fourth, Fifth, `LastDay` with one of `weekDays`, as in the first Monday. Unset: not Monthly.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.all(d, type(d) == int ? (d >= 1 && d <= 31) : d in ['First', 'Second', 'Third', 'Fourth', 'Fifth', 'LastDay'])").message("monthDays are numbers from 1 to 31, First, Second, Third, Fourth, Fifth and LastDay"))]
    pub month_days: Option<Vec<IntOrString>>,
    /// Name of a schedule that an administrator of Tableau Server has made. Unset: `frequency` says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub server_schedule: Option<String>,
    /// Full or Incremental. Unset: as `spec.refreshType`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefreshType")]
    pub refresh_type: Option<RefreshType>,
}

/// How often a schedule runs.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frequency {
    /// Several times on each of its days.
    Hourly,
    /// On each of its days, once or several times.
    Daily,
    /// Once on each of its days.
    Weekly,
    /// Once on each of its days of the month.
    Monthly,
}

/// A day of the week.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum WeekDay {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// What happens to schedules of the extract that somebody else made.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignSchedules {
    /// They are listed in status.
    Report,
    /// They are deleted.
    Remove,
}

/// What happens when Tableau has suspended a schedule.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuspendedSchedules {
    /// It is told.
    Report,
    /// It is deleted and made again, at most once a day.
    Recreate,
}

/// Whether differences from the spec are corrected.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DriftDetection {
    /// Enabled: corrected. Warn: told, and left. Disabled: neither. Unset: Enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DriftMode")]
    pub mode: Option<DriftMode>,
}

/// See [`DriftDetection`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftMode {
    /// Corrected.
    Enabled,
    /// Told, and left.
    Warn,
    /// Neither.
    Disabled,
}

/// Whether Feedwater writes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagementPolicy {
    /// It does.
    Manage,
    /// It only says what it would do.
    Observe,
}

/// Whether what is there already may become ours.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdoptionPolicy {
    /// It may not: a person decides.
    Fail,
    /// What is as declared is taken over.
    Adopt,
}

/// A schedule of ours as Tableau has it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// Name of the schedule in the spec.
    #[schemars(length(max = 63))]
    pub name: String,
    /// What Tableau was last seen to have, as declared; absent: a change of it was not read back yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub definition: Option<String>,
    /// Id of its task in Tableau; absent: it is still to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub task_id: Option<String>,
    /// The connection through which the id was learnt, as `prod`, or `cluster:prod`: nothing is done with it through another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 261))]
    pub site: Option<String>,
    /// When it was first seen that the spec names another connection: its task is being taken away through the former one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<Time>,
    /// When it was made, until it is seen in Tableau's list, which may lag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<Time>,
    /// When Tableau said it runs next, as of the last change of this status: not written again for each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<Time>,
    /// Scheduled runs that failed one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub consecutive_failed_count: Option<i32>,
    /// true: Tableau does not run it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
    /// When it was last made again because Tableau had suspended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recreated_at: Option<Time>,
}

/// A schedule that is about to be made: creating one cannot be repeated safely, so it is written down before.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleIntent {
    /// Identity of the intent, made up when it is written down.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Name of the schedule in the spec.
    #[schemars(length(max = 63))]
    pub name: String,
    /// The connection through which it is made, as `prod`, or `cluster:prod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 261))]
    pub site: Option<String>,
    /// LUID of the content it is made for.
    #[schemars(length(max = 64))]
    pub luid: String,
    /// What is to be set, in the words of the spec.
    #[schemars(length(max = 512))]
    pub definition: String,
    /// Tasks of the content that were there before: another one of this definition is ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub known_tasks: Vec<String>,
}

/// A schedule of the extract that somebody else made.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ForeignSchedule {
    /// Id of its task in Tableau.
    #[schemars(length(max = 64))]
    pub task_id: String,
    /// When it runs, in the words of the spec.
    #[schemars(length(max = 512))]
    pub definition: String,
}
