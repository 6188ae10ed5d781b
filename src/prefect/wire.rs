//! Prefect's JSON (reference 4.1, 5.1, 6). Unknown keys are ignored: they differ per version.

use super::{
    AWAITING_RETRY, Deployment, IN_PROGRESS, NewSchedule, PrefectError, Run, RunEvent, RunQuery, Schedule,
    StateType, States, TERMINAL,
};
use crate::model::deployments::Touched;
use crate::model::ids::{DeploymentId, DeploymentName, RunId, ScheduleId};
use crate::model::parameters::Parameters;
use crate::model::reports;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The fields Feedwater compares besides `tags` and `paused`.
const COMPARED: [&str; 14] = [
    "description",
    "version",
    "version_info",
    "entrypoint",
    "path",
    "pull_steps",
    "parameters",
    "parameter_openapi_schema",
    "work_pool_name",
    "work_queue_name",
    "job_variables",
    "enforce_parameter_schema",
    "concurrency_options",
    "labels",
];

#[derive(Deserialize)]
pub(super) struct FlowRow {
    pub(super) id: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct IdRow {
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct DeploymentRow {
    pub(super) id: String,
    name: String,
    pub(super) flow_id: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    schedules: Vec<ScheduleRow>,
    updated: Option<Timestamp>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct ScheduleRow {
    id: String,
    slug: Option<String>,
    active: bool,
    schedule: Map<String, Value>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    max_scheduled_runs: Option<i64>,
    updated: Option<Timestamp>,
}

impl DeploymentRow {
    /// What is set and no `FlowDeployment` has a field for.
    pub(super) fn beyond(&self) -> Vec<&'static str> {
        let shared = self.shares_limit();
        let set = |field: &&&str| self.rest.get(**field).is_some_and(|value| !value.is_null());
        let blocks = ["storage_document_id", "infrastructure_document_id"];
        blocks.iter().filter(set).copied().chain(shared.then_some("global_concurrency_limit_id")).collect()
    }

    /// A limit of the deployment's own is named after it [measured: reference 4.2].
    fn shares_limit(&self) -> bool {
        let own = format!("deployment:{}", self.id);
        let limit = self.rest.get("global_concurrency_limit").and_then(|limit| limit.get("name"));
        limit.is_some_and(|name| *name != own.as_str())
    }

    pub(super) fn into_model(self, flow: &str) -> Deployment {
        let shares_limit = self.shares_limit();
        let mut rest = self.rest;
        // Its own `concurrency_limit` is always null in answers (reference 4.4).
        let limit = rest.get("global_concurrency_limit").and_then(|limit| limit.get("limit")).cloned();
        rest.retain(|key, value| COMPARED.contains(&key.as_str()) && !value.is_null());
        rest.extend(
            limit.filter(|limit| !limit.is_null()).map(|limit| ("concurrency_limit".to_owned(), limit)),
        );
        rest.insert("paused".into(), self.paused.into());
        let schedules = self.schedules.iter().filter_map(|row| Some((row.id.as_str().into(), row.updated?)));
        let touched = Touched { fields: self.updated, schedules: schedules.collect() };
        Deployment {
            name: DeploymentName { flow: flow.into(), deployment: self.name.into() },
            id: self.id.into(),
            tags: self.tags,
            paused: self.paused,
            fields: rest.into(),
            shares_limit,
            schedules: self.schedules.into_iter().map(ScheduleRow::into_model).collect(),
            touched,
        }
    }
}

impl ScheduleRow {
    fn into_model(self) -> Schedule {
        Schedule {
            id: self.id.into(),
            slug: self.slug,
            active: self.active,
            rule: self.schedule,
            parameters: self.parameters.unwrap_or_default(),
            max_scheduled_runs: self.max_scheduled_runs,
        }
    }
}

/// A schedule whole: what a PATCH leaves out of `parameters` would be cleared.
pub(super) fn schedule(new: &NewSchedule) -> Value {
    let mut whole =
        json!({"slug": new.slug, "active": new.active, "schedule": new.rule, "parameters": new.parameters});
    if let Some(most) = new.max_scheduled_runs {
        whole["max_scheduled_runs"] = most.into();
    }
    whole
}

#[derive(Deserialize)]
pub(super) struct RunRow {
    id: String,
    name: String,
    flow_id: String,
    deployment_id: Option<String>,
    state: Option<StateRow>,
    start_time: Option<Timestamp>,
    expected_start_time: Option<Timestamp>,
    pub(super) end_time: Option<Timestamp>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    labels: Option<Map<String, Value>>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    work_pool_name: Option<String>,
}

#[derive(Deserialize)]
struct StateRow {
    id: String,
    r#type: String,
    name: String,
    timestamp: Timestamp,
}

impl RunRow {
    /// `None` for a run that has no state yet: nothing can have come of it.
    pub(super) fn into_model(self) -> Option<Run> {
        let state = self.state?;
        Some(Run {
            id: self.id.into(),
            name: self.name,
            flow: self.flow_id.into(),
            deployment: self.deployment_id.map(Into::into),
            state: state.id.into(),
            state_type: state_type(&state.r#type),
            state_name: state.name,
            state_at: state.timestamp,
            started_at: self.start_time.or(self.expected_start_time),
            ended_at: self.end_time,
            tags: self.tags.unwrap_or_default(),
            work_pool: self.work_pool_name,
            reports_refresh: self.labels.is_some_and(|labels| labels.contains_key(reports::LABEL)),
            parameters: self.parameters.as_ref().map(Parameters::of).unwrap_or_default(),
        })
    }
}

pub(super) fn state_type(text: &str) -> StateType {
    match text {
        "SCHEDULED" => StateType::Scheduled,
        "PENDING" => StateType::Pending,
        "RUNNING" => StateType::Running,
        "COMPLETED" => StateType::Completed,
        "FAILED" => StateType::Failed,
        "CANCELLED" => StateType::Cancelled,
        "CRASHED" => StateType::Crashed,
        "PAUSED" => StateType::Paused,
        "CANCELLING" => StateType::Cancelling,
        _ => StateType::Other,
    }
}

/// Body of `flow_runs/filter` for one page.
pub(super) fn run_filter(query: &RunQuery, limit: u32) -> Value {
    let mut runs = Map::new();
    let any = |ids: Vec<&str>| json!({"any_": ids});
    if !query.deployments.is_empty() {
        runs.insert(
            "deployment_id".into(),
            any(query.deployments.iter().map(DeploymentId::as_str).collect()),
        );
    }
    if !query.runs.is_empty() {
        runs.insert("id".into(), any(query.runs.iter().map(RunId::as_str).collect()));
    }
    let tags: Map<_, _> = [("all_", &query.all_tags), ("any_", &query.any_tags)]
        .into_iter()
        .filter(|(_, tags)| !tags.is_empty())
        .map(|(key, tags)| (key.to_owned(), json!(tags)))
        .collect();
    if !tags.is_empty() {
        runs.insert("tags".into(), tags.into());
    }
    let (state, sort) = match query.states {
        States::Any => (None, "END_TIME_DESC"),
        States::Ended => (Some(json!({"type": any(TERMINAL.to_vec())})), "END_TIME_DESC"),
        States::Completed => (Some(json!({"type": any(vec!["COMPLETED"])})), "END_TIME_DESC"),
        // They have no `end_time`, so that the order of pages would be any.
        States::InProgress => (
            Some(
                json!({"operator": "or_", "type": any(IN_PROGRESS.to_vec()), "name": any(vec![AWAITING_RETRY])}),
            ),
            "ID_DESC",
        ),
    };
    runs.extend(state.map(|state| ("state".to_owned(), state)));
    let ended: Map<_, _> = [("after_", query.ended_after), ("before_", query.ended_before)]
        .into_iter()
        .filter_map(|(key, at)| Some((key.to_owned(), json!(at?))))
        .collect();
    if !ended.is_empty() {
        runs.insert("end_time".into(), ended.into());
    }
    let mut body = json!({"flow_runs": runs, "sort": sort, "limit": limit, "offset": query.offset});
    if !query.work_pools.is_empty() {
        body["work_pools"] = json!({"name": {"any_": query.work_pools}});
    }
    body
}

/// A run that Prefect has scheduled.
#[derive(Deserialize)]
pub(super) struct ScheduledRow {
    pub(super) expected_start_time: Timestamp,
    #[serde(default)]
    pub(super) auto_scheduled: bool,
    #[serde(default)]
    created_by: Option<CreatedByRow>,
}

/// Of a scheduled run: its schedule [Prefect 3.9.1, `_generate_scheduled_flow_runs`].
#[derive(Deserialize)]
struct CreatedByRow {
    id: Option<String>,
}

impl ScheduledRow {
    /// Whether one of these schedules made it. What does not say so may be any other's.
    pub(super) fn is_of(&self, schedules: &[ScheduleId]) -> bool {
        let maker = self.created_by.as_ref().and_then(|by| by.id.as_deref());
        schedules.iter().any(|schedule| maker == Some(schedule.as_str()))
    }
}

/// Body of `flow_runs/filter` for the runs of a deployment that fell due by `before` and that nobody has taken; the last first.
pub(super) fn late_filter(id: &DeploymentId, before: Timestamp, limit: u32) -> Value {
    let runs = json!({
        "deployment_id": {"any_": [id.as_str()]}, "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"before_": before},
    });
    json!({"flow_runs": runs, "sort": "EXPECTED_START_TIME_DESC", "limit": limit})
}

/// The page limit a 422 names: `Invalid limit: must be less than or equal to 200.`
pub(super) fn page_limit(body: &[u8]) -> Option<u32> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let told = body.get("detail")?.as_str()?.split_once("Invalid limit")?.1;
    told.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse().ok())
}

/// Whether a 403 is about a CSRF token: `Missing CSRF token.`, `Invalid CSRF token or client identifier.` and the like.
pub(super) fn wants_csrf_token(body: &[u8]) -> bool {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let told = body.as_ref().and_then(|body| body.get("detail")?.as_str()).unwrap_or_default();
    told.contains("CSRF") || told.contains("client identifier")
}

/// The CSRF token of an answer.
pub(super) fn csrf_token(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        token: String,
    }
    serde_json::from_slice::<Body>(body).ok().map(|body| body.token)
}

/// What a 409 or a 422 to the making or changing of a deployment complains of, by the beginning of its text [read in 3.9.1]: job variables that the
/// pool does not take (422 at creation; 409 to a PATCH that names the pool, of a deployment that is "created" all the same), or parameters that
/// are not as their schema wants. None: something else.
pub(super) fn complaint(status: u16, body: &[u8]) -> Option<PrefectError> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let told = body.get("detail")?.as_str()?;
    match status {
        409 if told.starts_with("Error updating deployment") => {
            Some(PrefectError::Parameters { fields: parameter(told).into_iter().collect() })
        }
        409 | 422 if told.starts_with("Error creating deployment:") => {
            Some(PrefectError::Invalid { fields: vec!["jobVariables".to_owned()] })
        }
        _ => None,
    }
}

/// `Validation failed for field 'region'. Failure reason: …` → `region`; nothing that does not look like a name.
fn parameter(told: &str) -> Option<String> {
    let (name, _) = told.split_once("Validation failed for field '")?.1.split_once('\'')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (name.len() <= 64 && name.chars().all(is_name)).then(|| name.to_owned())
}

/// Names of the fields a 422 complains of; never its text, which echoes the request.
pub(super) fn invalid_fields(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Body {
        exception_detail: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        loc: Vec<Value>,
    }
    let mut fields: Vec<String> = serde_json::from_slice::<Body>(body)
        .map(|body| body.exception_detail.iter().filter_map(|entry| field_name(&entry.loc)).collect())
        .unwrap_or_default();
    fields.sort();
    fields.dedup();
    fields.truncate(8);
    if fields.is_empty() {
        fields.push("the request".to_owned());
    }
    fields
}

/// `["body", "schedules", 0, "slug"]` → `schedules.slug`. Cut off is what lies in a field of free form, which is a user's, and what follows the
/// name of a type, `["body", "schedule", "RRuleSchedule", "cron"]`: every type that might have been meant is complained of [measured].
fn field_name(loc: &[Value]) -> Option<String> {
    const FREE_FORM: [&str; 5] =
        ["parameters", "job_variables", "pull_steps", "parameter_openapi_schema", "labels"];
    let mut names = Vec::new();
    for name in loc.iter().skip(1).filter_map(Value::as_str).take(4) {
        let is_type = name.starts_with(|c: char| c.is_ascii_uppercase());
        if is_type || name.len() > 64 || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            break;
        }
        names.push(name);
        if FREE_FORM.contains(&name) {
            break;
        }
    }
    (!names.is_empty()).then(|| names.join("."))
}

/// The version in the answer of `admin/version`: a JSON string such as `"3.9.1"`.
pub(super) fn version(body: &[u8]) -> Option<String> {
    let text: String = serde_json::from_slice(body).ok()?;
    let shaped = text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.');
    (shaped && text.chars().all(|c| c.is_ascii_graphic())).then_some(text)
}

/// A websocket message that tells of a flow run; other messages are `None`.
pub(super) fn event(text: &str) -> Option<RunEvent> {
    #[derive(Deserialize)]
    struct Message {
        event: Event,
    }
    #[derive(Deserialize)]
    struct Event {
        resource: Resource,
        #[serde(default)]
        related: Vec<Resource>,
    }
    #[derive(Deserialize)]
    struct Resource {
        #[serde(rename = "prefect.resource.id")]
        id: String,
        #[serde(rename = "prefect.resource.role")]
        role: Option<String>,
        #[serde(rename = "prefect.resource.name")]
        name: Option<String>,
    }
    let event = serde_json::from_str::<Message>(text).ok()?.event;
    let run = RunId::from(event.resource.id.strip_prefix("prefect.flow-run.")?);
    let deployment = event.related.iter().find_map(|r| r.id.strip_prefix("prefect.deployment."));
    let tags = event.related.iter().filter_map(|r| r.id.strip_prefix("prefect.tag.").map(str::to_owned));
    let pool = event.related.iter().find(|r| r.role.as_deref() == Some("work-pool"));
    let work_pool = pool.and_then(|pool| pool.name.clone());
    Some(RunEvent { run, deployment: deployment.map(Into::into), tags: tags.collect(), work_pool })
}
