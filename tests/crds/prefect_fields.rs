//! What Prefect takes for a deployment and what we make of it, field by field: held to the real server's `OpenAPI` by `tests/e2e`, to the CRD and to
//! what is sent by `tests/crds`, and shown in `docs/prefect-fields.md`.

/// One field of Prefect that a `FlowDeployment` manages.
pub struct Managed {
    /// The schemas of Prefect's `OpenAPI` that have it.
    pub schemas: &'static [&'static str],
    /// Its name there.
    pub field: &'static str,
    /// Where it is under `spec`, with `[]` for the entries of a list.
    #[allow(dead_code)] // not in tests/e2e, which knows the server only
    pub ours: &'static str,
}

const CREATE: &[&str] = &["DeploymentCreate"];
const BOTH: &[&str] = &["DeploymentCreate", "DeploymentUpdate"];
const SCHEDULE: &[&str] = &["DeploymentScheduleCreate", "DeploymentScheduleUpdate"];
const CRON: &[&str] = &["CronSchedule"];
const INTERVAL: &[&str] = &["IntervalSchedule-Input"];
const RRULE: &[&str] = &["RRuleSchedule"];
const CONCURRENCY: &[&str] = &["ConcurrencyOptions"];
const VERSION: &[&str] = &["VersionInfo"];

/// The schemas that are looked at, with a title for people.
pub const SCHEMAS: [(&[&str], &str); 8] = [
    (BOTH, "A deployment"),
    (CREATE, "A deployment, when it is created"),
    (VERSION, "`version_info`"),
    (CONCURRENCY, "`concurrency_options`"),
    (SCHEDULE, "A schedule"),
    (CRON, "`schedule`, by cron"),
    (INTERVAL, "`schedule`, by interval"),
    (RRULE, "`schedule`, by recurrence rule"),
];

const fn m(schemas: &'static [&'static str], field: &'static str, ours: &'static str) -> Managed {
    Managed { schemas, field, ours }
}

/// What is managed.
pub const MANAGED: &[Managed] = &[
    m(BOTH, "description", "description"),
    m(BOTH, "version", "version"),
    m(BOTH, "version_info", "versionInfo"),
    m(BOTH, "tags", "tags"),
    m(BOTH, "entrypoint", "entrypoint"),
    m(BOTH, "path", "path"),
    m(BOTH, "pull_steps", "pullSteps"),
    m(BOTH, "work_pool_name", "workPool.name"),
    m(BOTH, "work_queue_name", "workPool.workQueue"),
    m(BOTH, "job_variables", "jobVariables"),
    m(BOTH, "parameters", "parameters"),
    m(BOTH, "parameter_openapi_schema", "parameterOpenApiSchema"),
    m(BOTH, "enforce_parameter_schema", "enforceParameterSchema"),
    m(BOTH, "concurrency_limit", "concurrencyLimit.limit"),
    m(BOTH, "concurrency_options", "concurrencyLimit"),
    m(BOTH, "paused", "paused"),
    m(BOTH, "schedules", "schedules"),
    m(CREATE, "name", "deploymentName"),
    m(CREATE, "flow_id", "flowName"),
    m(CREATE, "labels", "labels"),
    m(VERSION, "type", "versionInfo.type"),
    m(VERSION, "version", "versionInfo.version"),
    m(CONCURRENCY, "collision_strategy", "concurrencyLimit.collisionStrategy"),
    m(CONCURRENCY, "grace_period_seconds", "concurrencyLimit.gracePeriod"),
    m(SCHEDULE, "slug", "schedules[].slug"),
    m(SCHEDULE, "schedule", "schedules[]"),
    m(SCHEDULE, "active", "schedules[].active"),
    m(SCHEDULE, "parameters", "schedules[].parameters"),
    m(SCHEDULE, "max_scheduled_runs", "schedules[].maxScheduledRuns"),
    m(CRON, "cron", "schedules[].cron.expression"),
    m(CRON, "day_or", "schedules[].cron.dayOr"),
    m(CRON, "timezone", "schedules[].timeZone"),
    m(INTERVAL, "interval", "schedules[].interval.every"),
    m(INTERVAL, "anchor_date", "schedules[].interval.anchor"),
    m(INTERVAL, "timezone", "schedules[].timeZone"),
    m(RRULE, "rrule", "schedules[].rrule.rule"),
    m(RRULE, "timezone", "schedules[].timeZone"),
];

/// What is left out, and why. Each was looked at; a new one needs a reason as good.
pub const LEFT_OUT: &[(&[&str], &str, &str)] = &[
    (
        BOTH,
        "global_concurrency_limit_id",
        "The id of a limit that somebody makes elsewhere: it means nothing in another workspace, and Prefect refuses it beside `concurrency_limit`. A \
         deployment that has one keeps it: Prefect would change the limit of all who share it, so `concurrencyLimit.limit` is not applied there, which \
         `Drifted` says.",
    ),
    (
        BOTH,
        "storage_document_id",
        "A block of Prefect 2's agents, by id. Work pools take `pullSteps` instead. Left as it is.",
    ),
    (
        BOTH,
        "infrastructure_document_id",
        "A block of Prefect 2's agents, by id. Work pools take `jobVariables` instead. Left as it is.",
    ),
    (
        SCHEDULE,
        "replaces",
        "Not a property but a verb: it renames a slug. Here a schedule that only gets another slug in the spec keeps its id, and any other one that left it is deleted.",
    ),
];

/// The fields of one schema: managed, and left out.
pub fn of_schema(schema: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    let managed = MANAGED.iter().filter(|m| m.schemas.contains(&schema)).map(|m| m.field);
    let left_out =
        LEFT_OUT.iter().filter(|(schemas, ..)| schemas.contains(&schema)).map(|(_, field, _)| *field);
    (managed.collect(), left_out.collect())
}
