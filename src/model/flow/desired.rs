//! The spec, parsed: what the deployment shall be, by the server's names.

use super::claim::MARK_PREFIX;
use super::values::{self, ValueFrom};
use crate::api::{
    AdoptionPolicy, CollisionStrategy, ConcurrencyLimit, DeletionPolicy, DriftMode, FINALIZER,
    FlowDeployment, FlowDeploymentSpec, FlowDeploymentStatus, FlowSchedule, ForeignSchedules,
    ManagementPolicy, VersionInfo,
};
use crate::model::deployments::Fields;
use crate::model::ids::{ConnectionName, DeploymentName, ObjectName};
use crate::model::time::parse_duration;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A `FlowDeployment` as far as it declares something. Of a resource that is being deleted `fields`, `tags` and `schedules` stay empty: a
/// spec that cannot be used must not block its deletion.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // answers to separate questions
pub struct Desired {
    /// The resource.
    pub name: ObjectName,
    /// Its generation.
    pub generation: i64,
    /// Its creation timestamp.
    pub created_at: Timestamp,
    /// The connection in the spec.
    pub workspace: ConnectionName,
    /// Flow and deployment name in the spec.
    pub deployment: DeploymentName,
    /// Where it runs.
    pub work_pool: String,
    /// Declared fields by the server's names, only what is set. `work_pool_name` and `work_queue_name` always come together. Values from Secrets
    /// are not in it before [`Self::put`].
    pub fields: Fields,
    /// What is to be taken from Secrets.
    pub values_from: Vec<ValueFrom>,
    /// Declared tags, without the mark.
    pub tags: Option<BTreeSet<String>>,
    /// Declared schedules by slug.
    pub schedules: BTreeMap<String, DesiredSchedule>,
    /// Declared labels: set at creation only.
    pub labels: Option<Map<String, Value>>,
    /// Schedules that are not declared are deleted.
    pub remove_foreign: bool,
    /// What is done about changes in Prefect.
    pub drift: DriftMode,
    /// Fields, by the names users know, that are others' after creation.
    pub ignored: BTreeSet<String>,
    /// Nothing is written.
    pub observes: bool,
    /// What is there and nobody's is taken over.
    pub adopts: bool,
    /// Unset: Delete; Orphan for what was taken over.
    pub deletion_policy: DeletionPolicy,
    /// Unset: false.
    pub suspend: bool,
    /// This installation's name in marks.
    pub instance: String,
    /// The tag that says the deployment is this resource's.
    pub mark: String,
    /// Since when it is being deleted.
    pub deleting: Option<Timestamp>,
    /// Whether it carries our finalizer.
    pub has_finalizer: bool,
}

/// A declared schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredSchedule {
    /// `schedule` as it is sent: `cron` and `day_or`, or `interval` in seconds and `anchor_date` if declared, or `rrule`; always `timezone`.
    pub rule: Map<String, Value>,
    /// `active`.
    pub active: bool,
    /// `parameters`, if declared.
    pub parameters: Option<Map<String, Value>>,
    /// `max_scheduled_runs`, if declared.
    pub max_scheduled_runs: Option<i64>,
}

/// A workspace and the deployment's name in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The connection.
    pub workspace: ConnectionName,
    /// The deployment.
    pub deployment: DeploymentName,
}

/// The spec declares something this build cannot do, or that is no declaration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unsupported {
    /// What is wrong and what to do, in one sentence.
    pub message: String,
}

impl Desired {
    /// Reads the resource.
    ///
    /// # Errors
    /// The spec is none that can be acted on. Never for a resource that is being deleted.
    pub fn parse(r: &FlowDeployment, instance: &str) -> Result<Self, Unsupported> {
        let name = ObjectName {
            namespace: r.metadata.namespace.clone().unwrap_or_default().into(),
            name: r.metadata.name.clone().unwrap_or_default().into(),
        };
        let spec = &r.spec;
        let deployment = DeploymentName {
            flow: spec.flow_name.as_str().into(),
            deployment: spec.deployment_name.as_deref().map_or_else(|| name.name.clone(), Into::into),
        };
        let deleting = r.metadata.deletion_timestamp.as_ref().map(|t| t.0);
        let drift = spec.drift_detection.as_ref();
        let observes = spec.management_policy == Some(ManagementPolicy::Observe);
        let (fields, values_from, tags, schedules) = if deleting.is_some() {
            (Fields::default(), Vec::new(), None, BTreeMap::new())
        } else {
            let mut fields = fields(spec)?;
            let values_from = values::parse(spec, &mut fields)?;
            (fields, values_from, tags(spec)?, schedules(spec)?)
        };
        Ok(Self {
            generation: r.metadata.generation.unwrap_or_default(),
            created_at: r.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            workspace: (&spec.workspace_ref).into(),
            work_pool: spec.work_pool.name.clone(),
            deployment,
            fields,
            values_from,
            tags,
            schedules,
            labels: spec.labels.clone(),
            remove_foreign: spec.foreign_schedules == Some(ForeignSchedules::Remove),
            drift: drift.and_then(|drift| drift.mode).unwrap_or(DriftMode::Enabled),
            // The mark says whose it is, and is nobody else's affair.
            ignored: drift
                .and_then(|drift| drift.ignore.clone())
                .into_iter()
                .flatten()
                .filter(|name| name != "mark")
                .collect(),
            observes,
            adopts: spec.adoption_policy == Some(AdoptionPolicy::Adopt),
            deletion_policy: deletion_policy(r),
            suspend: spec.suspend.unwrap_or(false),
            mark: mark(instance, &name),
            instance: instance.to_owned(),
            deleting,
            has_finalizer: r.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER),
            name,
        })
    }

    /// Where to look and to write now: where our deployment is as long as status names one, else where the spec wants it. After a change
    /// of workspace, flow or deployment name this is the old place until it is left.
    pub fn place(&self, status: &FlowDeploymentStatus) -> Place {
        let was = status.full_name.as_deref().and_then(|full| full.split_once('/'));
        match was {
            Some((flow, deployment)) => Place {
                workspace: status
                    .workspace
                    .as_deref()
                    .map_or_else(|| self.workspace.clone(), ConnectionName::parse),
                deployment: DeploymentName { flow: flow.into(), deployment: deployment.into() },
            },
            None => self.wanted_place(),
        }
    }

    /// Where the spec wants it.
    pub fn wanted_place(&self) -> Place {
        Place { workspace: self.workspace.clone(), deployment: self.deployment.clone() }
    }

    /// The mark another resource of this installation would set.
    pub fn mark_of(&self, name: &ObjectName) -> String {
        mark(&self.instance, name)
    }
}

/// What becomes of the deployment when the resource is deleted.
pub fn deletion_policy(r: &FlowDeployment) -> DeletionPolicy {
    let adopted = r.status.as_ref().and_then(|status| status.adopted).unwrap_or(false);
    match r.spec.deletion_policy {
        // Nothing is written, a deletion neither.
        _ if r.spec.management_policy == Some(ManagementPolicy::Observe) => DeletionPolicy::Orphan,
        Some(policy) => policy,
        None if adopted => DeletionPolicy::Orphan,
        None => DeletionPolicy::Delete,
    }
}

fn mark(instance: &str, name: &ObjectName) -> String {
    format!("{MARK_PREFIX}{instance}/{name}")
}

/// The declared fields. Absent stays absent: what was never set is not ours.
fn fields(spec: &FlowDeploymentSpec) -> Result<Fields, Unsupported> {
    if let Some(parameters) = &spec.parameters
        && parameters.values().any(holds_template)
    {
        return Err(Unsupported {
            message: "spec.parameters holds `__prefect_kind`: Prefect would put the template's present value in its place on every \
                      change; give the value itself"
                .into(),
        });
    }
    let text = |t: &Option<String>| t.clone().map(Value::String);
    let queue = spec.work_pool.work_queue.clone().unwrap_or_else(|| DEFAULT_QUEUE.into());
    let steps = spec.pull_steps.as_ref().map(|s| s.iter().cloned().map(Value::Object).collect());
    let concurrency = spec.concurrency_limit.as_ref().map(concurrency).transpose()?;
    let (limit, options) = concurrency.unzip();
    let declared = [
        ("description", text(&spec.description)),
        ("version", text(&spec.version)),
        ("version_info", spec.version_info.as_ref().map(version_info)),
        ("entrypoint", Some(Value::String(spec.entrypoint.clone()))),
        ("path", text(&spec.path)),
        ("pull_steps", steps.map(Value::Array)),
        ("parameters", spec.parameters.clone().map(Value::Object)),
        ("parameter_openapi_schema", spec.parameter_open_api_schema.clone().map(Value::Object)),
        ("work_pool_name", Some(Value::String(spec.work_pool.name.clone()))),
        ("work_queue_name", Some(Value::String(queue))),
        ("job_variables", spec.job_variables.clone().map(Value::Object)),
        ("enforce_parameter_schema", spec.enforce_parameter_schema.map(Value::Bool)),
        ("concurrency_limit", limit),
        ("concurrency_options", options.flatten()),
        ("paused", spec.paused.map(Value::Bool)),
    ];
    Ok(declared.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

fn version_info(info: &VersionInfo) -> Value {
    let VersionInfo { r#type, version } = info;
    serde_json::json!({"type": r#type, "version": version})
}

/// `concurrency_limit` and, where one of them is declared, `concurrency_options`.
fn concurrency(limit: &ConcurrencyLimit) -> Result<(Value, Option<Value>), Unsupported> {
    let mut options = Map::new();
    if let Some(strategy) = limit.collision_strategy {
        let name = match strategy {
            CollisionStrategy::Enqueue => "ENQUEUE",
            CollisionStrategy::CancelNew => "CANCEL_NEW",
        };
        options.insert("collision_strategy".into(), name.into());
    }
    if let Some(grace) = &limit.grace_period {
        let grace = parse_duration(&grace.0)
            .map_err(|error| Unsupported { message: format!("concurrencyLimit.gracePeriod: {error}") })?;
        // The strategy is required beside it; Prefect's own is ENQUEUE.
        options.entry("collision_strategy").or_insert_with(|| "ENQUEUE".into());
        options.insert("grace_period_seconds".into(), grace.as_secs().into());
    }
    Ok((limit.limit.into(), (!options.is_empty()).then_some(Value::Object(options))))
}

fn tags(spec: &FlowDeploymentSpec) -> Result<Option<BTreeSet<String>>, Unsupported> {
    if let Some(mark) = spec.tags.iter().flatten().find(|t| t.starts_with(MARK_PREFIX)) {
        return Err(Unsupported {
            message: format!(
                "spec.tags holds `{mark}`: tags that begin with `{MARK_PREFIX}` are Feedwater's own; take it out"
            ),
        });
    }
    Ok(spec.tags.as_ref().map(|t| t.iter().cloned().collect()))
}

/// The queue Prefect takes where none is named.
pub(super) const DEFAULT_QUEUE: &str = "default";

/// Marks a template within a parameter.
pub(super) const TEMPLATE: &str = "__prefect_kind";

/// Whether a value holds a template that PATCH would replace by its value [measured: prefect-api.md 4.4].
fn holds_template(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.contains_key(TEMPLATE) || map.values().any(holds_template),
        Value::Array(list) => list.iter().any(holds_template),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn schedules(spec: &FlowDeploymentSpec) -> Result<BTreeMap<String, DesiredSchedule>, Unsupported> {
    spec.schedules.iter().flatten().map(|s| Ok((s.slug.clone(), schedule(s)?))).collect()
}

fn schedule(s: &FlowSchedule) -> Result<DesiredSchedule, Unsupported> {
    let mut rule = Map::new();
    match (&s.cron, &s.interval, &s.rrule) {
        (Some(cron), None, None) => {
            rule.insert("cron".into(), cron.expression.clone().into());
            rule.insert("day_or".into(), cron.day_or.unwrap_or(true).into());
        }
        (None, Some(interval), None) => {
            rule.insert("interval".into(), seconds(&interval.every.0, &s.slug)?.into());
            if let Some(anchor) = interval.anchor {
                rule.insert("anchor_date".into(), anchor.0.to_string().into());
            }
        }
        (None, None, Some(recurrence)) => {
            rule.insert("rrule".into(), recurrence.rule.clone().into());
        }
        _ => {
            return Err(Unsupported {
                message: format!("schedule `{}` needs exactly one of cron, interval, rrule", s.slug),
            });
        }
    }
    rule.insert("timezone".into(), s.time_zone.clone().unwrap_or_else(|| "UTC".into()).into());
    Ok(DesiredSchedule {
        rule,
        active: s.active.unwrap_or(true),
        parameters: s.parameters.clone(),
        max_scheduled_runs: s.max_scheduled_runs.map(i64::from),
    })
}

fn seconds(every: &str, slug: &str) -> Result<Number, Unsupported> {
    parse_duration(every)
        .ok()
        .filter(|length| !length.is_zero())
        .and_then(|length| Number::from_f64(length.as_secs_f64()))
        .ok_or_else(|| Unsupported {
            message: format!(
                "schedule `{slug}`: interval.every must be a duration above zero such as `26h` or `90m`"
            ),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(more: &Value) -> Result<Desired, Unsupported> {
        let mut object = json!({
            "apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment",
            "metadata": {"name": "orders-nightly", "namespace": "finance", "generation": 3},
            "spec": {"workspaceRef": {"name": "prod"}, "flowName": "orders", "entrypoint": "f.py:f", "workPool": {"name": "etl"}},
        });
        for (key, value) in more.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        Desired::parse(&serde_json::from_value(object).unwrap(), "abc")
    }

    #[test]
    fn only_what_is_set_is_declared() {
        let d = parse(&json!({})).unwrap();
        assert_eq!(d.deployment.to_string(), "orders/orders-nightly");
        assert_eq!(d.mark, "feedwater:abc/finance/orders-nightly");
        assert_eq!(
            Value::from(d.fields),
            json!({"entrypoint": "f.py:f", "work_pool_name": "etl", "work_queue_name": "default"})
        );
        assert_eq!((d.tags, d.schedules.len(), d.deletion_policy), (None, 0, DeletionPolicy::Delete));
    }

    #[test]
    fn schedules_are_what_the_server_takes() {
        let d = parse(&json!({"schedules": [
            {"slug": "a", "cron": {"expression": "0 2 * * *"}, "timeZone": "Europe/Berlin"},
            {"slug": "b", "interval": {"every": "1h30m", "anchor": "2026-01-01T00:00:00Z"}, "active": false},
            {"slug": "c", "rrule": {"rule": "FREQ=DAILY"}}]}))
        .unwrap();
        let rule = |slug: &str| Value::Object(d.schedules[slug].rule.clone());
        assert_eq!(rule("a"), json!({"cron": "0 2 * * *", "day_or": true, "timezone": "Europe/Berlin"}));
        assert_eq!(
            rule("b"),
            json!({"interval": 5400.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"})
        );
        assert_eq!(rule("c"), json!({"rrule": "FREQ=DAILY", "timezone": "UTC"}));
        assert!(d.schedules["a"].active && !d.schedules["b"].active);
    }

    #[test]
    fn what_cannot_be_acted_on_says_why() {
        for (spec, names) in [
            (json!({"parameters": {"a": [{"__prefect_kind": "jinja", "template": "x"}]}}), "__prefect_kind"),
            (json!({"tags": ["feedwater:abc/finance/other"]}), "Feedwater's own"),
            (json!({"schedules": [{"slug": "a"}]}), "exactly one"),
            (json!({"schedules": [{"slug": "a", "interval": {"every": "0s"}}]}), "above zero"),
        ] {
            let message = parse(&spec).unwrap_err().message;
            assert!(message.contains(names), "{message}");
        }
    }

    #[test]
    fn a_bad_spec_does_not_block_its_deletion() {
        let mut object: FlowDeployment = serde_json::from_value(json!({
            "apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment", "metadata": {"name": "a", "namespace": "b"},
            "spec": {"workspaceRef": {"name": "prod"}, "flowName": "orders", "entrypoint": "f.py:f", "workPool": {"name": "etl"},
                     "schedules": [{"slug": "a"}]},
        }))
        .unwrap();
        assert!(Desired::parse(&object, "abc").is_err());
        object.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        assert_eq!(Desired::parse(&object, "abc").unwrap().deleting, Some(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn the_old_place_comes_first() {
        let d = parse(&json!({})).unwrap();
        assert_eq!(d.place(&FlowDeploymentStatus::default()), d.wanted_place());
        let status = FlowDeploymentStatus {
            full_name: Some("old/name".into()),
            workspace: Some("staging".into()),
            ..FlowDeploymentStatus::default()
        };
        assert_eq!(
            d.place(&status),
            Place {
                workspace: ConnectionName::parse("staging"),
                deployment: DeploymentName { flow: "old".into(), deployment: "name".into() }
            }
        );
    }
}
