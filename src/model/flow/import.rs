//! From what Prefect has to resources that take it over and change nothing: each is parsed and compared again, and what would differ is left out
//! and named.

use super::claim::MARK_PREFIX;
use super::desired::{DEFAULT_QUEUE, TEMPLATE};
use super::diff::Diff;
use super::{Desired, rule};
use crate::api::{FlowDeployment, GROUP, VERSION};
use crate::model::deployments::{Deployment, Found, Schedule};
use crate::model::ids::DeploymentId;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What the resources are to say beside what Prefect has.
#[derive(Clone, Debug)]
pub struct ImportInto {
    /// Namespace of the resources; none: they name none.
    pub namespace: Option<String>,
    /// Name of the `PrefectWorkspace`.
    pub workspace: String,
}

/// One deployment of Prefect.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Flow and deployment name.
    pub deployment: String,
    /// The resource, ready for Git; none: there can be none, and `notes` say why.
    pub resource: Option<Value>,
    /// What the resource does not say or a person has to look at, one sentence each.
    pub notes: Vec<String>,
}

/// Whether a Feedwater keeps it already.
pub fn is_marked(there: &Deployment) -> bool {
    there.tags.iter().any(|tag| tag.starts_with(MARK_PREFIX))
}

/// One entry per deployment, by flow and deployment name. `server`: all that Prefect has, whatever is imported of it; their names differ from those of
/// resources that keep something there already, and from those that another import gives.
pub fn import(found: &[Found], server: &[Found], into: &ImportInto) -> Vec<Imported> {
    let mut found: Vec<&Found> = found.iter().collect();
    found.sort_by_key(|f| (f.deployment.name.to_string(), f.deployment.id.as_str().to_owned()));
    let names = Names::of(server, into);
    found.into_iter().map(|one| imported(one, &names.give(&one.deployment), into)).collect()
}

/// Which names are had already, and how often each would be given.
struct Names<'a> {
    uses: BTreeMap<String, usize>,
    /// Of resources that keep a deployment: by name in the namespace of the import, which deployments.
    kept: BTreeMap<String, BTreeSet<&'a DeploymentId>>,
}

impl<'a> Names<'a> {
    fn of(server: &'a [Found], into: &ImportInto) -> Self {
        let mut names = Self { uses: BTreeMap::new(), kept: BTreeMap::new() };
        for Found { deployment: there, .. } in server {
            *names.uses.entry(first_choice(there)).or_default() += 1;
            for (namespace, name) in there.tags.iter().filter_map(|tag| keeper(tag)) {
                // Where they are applied to is not known: perhaps there.
                if into.namespace.as_deref().is_none_or(|into| into == namespace) {
                    names.kept.entry(name.to_owned()).or_default().insert(&there.id);
                }
            }
        }
        names
    }

    fn give(&self, there: &Deployment) -> String {
        let (first, full) = (first_choice(there), there.name.to_string());
        let keepers = |name: &str| self.kept.get(name).into_iter().flatten();
        let is_its_own = |name: &str| keepers(name).copied().eq([&there.id]);
        let unique = self.uses.get(&first) == Some(&1) && keepers(&first).next().is_none();
        if !first.is_empty() && (unique || is_its_own(&first)) {
            return first;
        }
        let apart = |n: usize| if n == 0 { full.clone() } else { format!("{full}#{n}") };
        let free = |name: &String| keepers(name).next().is_none() || is_its_own(name);
        // There are no more that keep something than there are names here.
        let mut others = (0..=self.kept.len()).map(|n| told_apart(&first, &apart(n)));
        others.find(free).unwrap_or_else(|| told_apart(&first, &full))
    }
}

/// The namespace and the name of the resource whose mark this is.
fn keeper(tag: &str) -> Option<(&str, &str)> {
    let (whose, name) = tag.strip_prefix(MARK_PREFIX)?.rsplit_once('/')?;
    Some((whose.rsplit_once('/')?.1, name))
}

/// The name of the resource that keeps it, else one made of its own.
fn first_choice(there: &Deployment) -> String {
    let kept_by = there.tags.iter().find_map(|tag| keeper(tag));
    kept_by.map_or_else(|| plain_name(there), |(_, name)| name.to_owned())
}

/// `<flow>-<deployment>` in what Kubernetes takes for names.
fn plain_name(there: &Deployment) -> String {
    let words = |text: &str| {
        let lower = text.to_lowercase();
        let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-")
    };
    let (flow, deployment) = (words(&there.name.flow), words(&there.name.deployment));
    let name = if flow == deployment { flow } else { format!("{flow}-{deployment}") };
    if name.len() > LONGEST_NAME {
        told_apart(&name, &there.name.to_string())
    } else {
        name.trim_matches('-').to_owned()
    }
}

/// As long as a label's value may be, so that names can be used as such.
const LONGEST_NAME: usize = 63;

fn told_apart(name: &str, full: &str) -> String {
    let hash = Sha256::digest(full.as_bytes());
    let short: String = name.chars().take(LONGEST_NAME - 9).collect();
    let tail = format!("{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]);
    format!("{}-{tail}", short.trim_matches('-')).trim_start_matches('-').to_owned()
}

fn imported(found: &Found, name: &str, into: &ImportInto) -> Imported {
    let there = &found.deployment;
    let deployment = there.name.to_string();
    let none =
        |why: &str| Imported { deployment: deployment.clone(), resource: None, notes: vec![why.to_owned()] };
    let text = |field: &str| there.fields.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(pool) = text("work_pool_name") else {
        return none(
            "it has no work pool: a process that `serve()`d it runs it; deploy it to a work pool first",
        );
    };
    let Some(entrypoint) = text("entrypoint") else {
        return none("it has no entrypoint, which a FlowDeployment must name");
    };
    let mut notes = Vec::new();
    let mut spec = Map::from_iter([
        ("workspaceRef".to_owned(), json!({"name": into.workspace})),
        ("flowName".to_owned(), json!(&*there.name.flow)),
        ("entrypoint".to_owned(), json!(entrypoint)),
        ("workPool".to_owned(), json!({"name": pool})),
        ("adoptionPolicy".to_owned(), json!("Adopt")),
    ]);
    if *there.name.deployment != *name {
        spec.insert("deploymentName".into(), json!(&*there.name.deployment));
    }
    if let Some(queue) = text("work_queue_name").filter(|queue| *queue != DEFAULT_QUEUE) {
        spec["workPool"]["workQueue"] = json!(queue);
    }
    fields(there, &mut spec, &mut notes);
    let tags: BTreeSet<&String> = there.tags.iter().filter(|tag| !tag.starts_with(MARK_PREFIX)).collect();
    if !tags.is_empty() {
        spec.insert("tags".into(), json!(tags));
    }
    concurrency(found, &mut spec, &mut notes);
    let schedules: Vec<Value> = schedules(there, &mut notes);
    if !schedules.is_empty() {
        spec.insert("schedules".into(), Value::Array(schedules));
    }
    for field in &found.beyond {
        notes.push(format!("Prefect's {field} is left as it is: a FlowDeployment has no such field"));
    }
    for tag in there.tags.iter().filter(|tag| tag.starts_with(MARK_PREFIX)) {
        notes.push(format!("it carries `{tag}`: the FlowDeployment of that name keeps it already"));
    }
    let mut metadata = json!({"name": name});
    if let Some(namespace) = &into.namespace {
        metadata["namespace"] = json!(namespace);
    }
    let object = |spec: &Map<String, Value>| json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "FlowDeployment", "metadata": metadata, "spec": spec});
    match settle(there, &mut spec, &object, &mut notes) {
        Ok(()) => Imported { deployment, resource: Some(object(&spec)), notes },
        Err(why) => none(&why),
    }
}

/// Takes out what would not stay as it is.
fn settle(
    there: &Deployment,
    spec: &mut Map<String, Value>,
    object: &impl Fn(&Map<String, Value>) -> Value,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let parse = |spec: &Map<String, Value>| {
        let resource: FlowDeployment =
            serde_json::from_value(object(spec)).map_err(|error| error.to_string())?;
        Desired::parse(&resource, "import").map_err(|error| error.message)
    };
    let differs = |spec: &Map<String, Value>| {
        let names = Diff::between(&parse(spec)?, there, &[]).names;
        Ok::<_, String>(names.into_iter().filter(|name| name != "mark").collect::<Vec<_>>())
    };
    for name in differs(spec)? {
        if let Some(slug) = name.strip_prefix("schedules/") {
            if let Some(Value::Array(schedules)) = spec.get_mut("schedules") {
                schedules.retain(|schedule| schedule["slug"] != slug);
            }
            notes.push(format!("schedule `{slug}` is left out: declared, it would be changed"));
        } else {
            spec.remove(&name);
            notes.push(format!("{name} is left out: declared, it would be changed"));
        }
    }
    match differs(spec)?.as_slice() {
        [] => Ok(()),
        names => Err(format!("taking it over would change {}", names.join(", "))),
    }
}

/// The fields that are copied as they are, where they say something.
fn fields(there: &Deployment, spec: &mut Map<String, Value>, notes: &mut Vec<String>) {
    const COPIED: [(&str, &str); 6] = [
        ("description", "description"),
        ("version", "version"),
        ("path", "path"),
        ("pull_steps", "pullSteps"),
        ("parameters", "parameters"),
        ("job_variables", "jobVariables"),
    ];
    let schema = ("parameter_openapi_schema", "parameterOpenApiSchema");
    for (server, ours) in COPIED.into_iter().chain([schema]) {
        let Some(value) = there.fields.get(server).filter(|value| !is_empty(value)) else { continue };
        if server == schema.0 && *value == json!({"type": "object", "properties": {}}) {
            continue;
        }
        if let Some(why) = not_kept(value) {
            notes.push(format!("{ours} is left out, and Prefect keeps what it has: it holds {why}"));
            continue;
        }
        if server != schema.0 {
            let mut secret = Vec::new();
            looks_secret(value, ours, &mut secret);
            for path in secret {
                notes.push(format!(
                    "{path} looks like a secret: before this goes to Git, put the value into a Secret and name it in valuesFrom, or into a block"
                ));
            }
        }
        spec.insert(ours.to_owned(), value.clone());
    }
    if there.fields.get("enforce_parameter_schema") == Some(&json!(false)) {
        spec.insert("enforceParameterSchema".into(), json!(false));
    }
    if there.paused {
        spec.insert("paused".into(), json!(true));
    }
    let labels: Map<String, Value> = there
        .fields
        .get("labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(name, _)| !name.starts_with("prefect."))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !labels.is_empty() {
        spec.insert("labels".into(), Value::Object(labels));
    }
    if let Some(info) = there.fields.get("version_info").filter(|info| !is_empty(info)) {
        let info: Map<String, Value> = ["type", "version"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), info.get(key)?.clone())))
            .collect();
        spec.insert("versionInfo".into(), Value::Object(info));
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What does not come back from Kubernetes or from Prefect as it was.
fn not_kept(value: &Value) -> Option<&'static str> {
    /// Integers up to this are the same as a 64-bit float.
    const WHOLE: u64 = 1 << 53;
    match value {
        Value::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            size.is_some_and(|size| size > WHOLE).then_some("an integer beyond 2^53, which Kubernetes rounds")
        }
        Value::Array(list) => list.iter().find_map(not_kept),
        Value::Object(map) if map.contains_key(TEMPLATE) => {
            Some("a template (`__prefect_kind`), which Prefect replaces by its present value at every change")
        }
        Value::Object(map) => map.values().find_map(not_kept),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

/// Paths of texts whose names say that they are secret; a reference to a block is none.
fn looks_secret(value: &Value, path: &str, found: &mut Vec<String>) {
    const NAMES: [&str; 8] =
        ["token", "secret", "password", "passwd", "credential", "apikey", "api_key", "private_key"];
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| looks_secret(value, &format!("{path}.{key}"), found));
        }
        Value::Array(list) => list.iter().for_each(|value| looks_secret(value, path, found)),
        Value::String(text) => {
            let name = path.rsplit('.').next().unwrap_or_default().to_lowercase();
            if NAMES.iter().any(|secret| name.contains(secret)) && !text.is_empty() && !text.contains("{{") {
                found.push(path.to_owned());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn concurrency(found: &Found, spec: &mut Map<String, Value>, notes: &mut Vec<String>) {
    let fields = &found.deployment.fields;
    let options = fields.get("concurrency_options").and_then(Value::as_object);
    let shared = found.beyond.contains(&"global_concurrency_limit_id");
    let Some(limit) = fields.get("concurrency_limit").filter(|_| !shared) else {
        if options.is_some() {
            notes.push("concurrency_options are left as they are: they belong to a limit that is not the deployment's own".into());
        }
        return;
    };
    let mut ours = Map::from_iter([("limit".to_owned(), limit.clone())]);
    let strategy = options.and_then(|o| o.get("collision_strategy")).and_then(Value::as_str);
    let strategy = strategy.map(|strategy| if strategy == "CANCEL_NEW" { "CancelNew" } else { "Enqueue" });
    ours.extend(strategy.map(|strategy| ("collisionStrategy".to_owned(), json!(strategy))));
    let grace =
        options.and_then(|o| o.get("grace_period_seconds")).and_then(Value::as_f64).and_then(duration);
    ours.extend(grace.map(|grace| ("gracePeriod".to_owned(), json!(grace))));
    spec.insert("concurrencyLimit".into(), Value::Object(ours));
}

fn schedules(there: &Deployment, notes: &mut Vec<String>) -> Vec<Value> {
    let mut all: Vec<&Schedule> = there.schedules.iter().collect();
    all.sort_by_key(|schedule| (schedule.slug.clone(), schedule.id.as_str().to_owned()));
    let mut declared = Vec::new();
    for schedule in all {
        let rule = rule::told(&schedule.rule);
        let Some(slug) = schedule.slug.as_deref() else {
            notes.push(format!(
                "schedule {} ({rule}) has no slug, by which alone Feedwater knows a schedule: it stays in Prefect, is not kept, and goes only by \
                 foreignSchedules: Remove; give it a slug in Prefect and import again to keep it",
                schedule.id
            ));
            continue;
        };
        if !fits_slug(slug) {
            notes.push(format!(
                "schedule `{slug}` ({rule}) is left out: its slug must consist of a-z, 0-9 and -"
            ));
            continue;
        }
        match declare(slug, schedule) {
            Some(schedule) => declared.push(schedule),
            None => notes.push(format!("schedule `{slug}` ({rule}) is left out: it cannot be said exactly")),
        }
    }
    declared
}

fn fits_slug(slug: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !slug.is_empty()
        && slug.len() <= 100
        && slug.chars().all(fits)
        && !slug.starts_with('-')
        && !slug.ends_with('-')
}

fn declare(slug: &str, schedule: &Schedule) -> Option<Value> {
    let rule = &schedule.rule;
    let text = |key: &str| rule.get(key).and_then(Value::as_str);
    let mut ours = Map::from_iter([("slug".to_owned(), json!(slug))]);
    if let Some(cron) = text("cron") {
        let mut cron = json!({"expression": cron});
        if rule.get("day_or") == Some(&json!(false)) {
            cron["dayOr"] = json!(false);
        }
        ours.insert("cron".into(), cron);
    } else if let Some(recurrence) = text("rrule") {
        ours.insert(
            "rrule".into(),
            json!({"rule": recurrence.strip_prefix(rule::INJECTED_START).unwrap_or(recurrence)}),
        );
    } else {
        let every = duration(rule::seconds(rule.get("interval"))?)?;
        let mut interval = json!({"every": every});
        if let Some(anchor) = text("anchor_date").and_then(rule::moment) {
            interval["anchor"] = json!(jiff::Timestamp::from_microsecond(anchor).ok()?.to_string());
        }
        ours.insert("interval".into(), interval);
    }
    if let Some(zone) = text("timezone").filter(|zone| *zone != "UTC") {
        ours.insert("timeZone".into(), json!(zone));
    }
    if !schedule.active {
        ours.insert("active".into(), json!(false));
    }
    if !schedule.parameters.is_empty() {
        let parameters = Value::Object(schedule.parameters.clone());
        if not_kept(&parameters).is_some() {
            return None;
        }
        ours.insert("parameters".into(), parameters);
    }
    if let Some(most) = schedule.max_scheduled_runs {
        ours.insert("maxScheduledRuns".into(), json!(most));
    }
    Some(Value::Object(ours))
}

/// `26h`, `1h30m`, `500ms`: exactly these seconds, or none.
fn duration(seconds: f64) -> Option<String> {
    const MOST_HOURS: f64 = 99_999.0;
    let millis = (seconds * 1000.0).round();
    if !(1.0..=MOST_HOURS * 3_600_000.0).contains(&millis) || (seconds * 1000.0 - millis).abs() > 1e-6 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole, positive and bounded
    let mut left = millis as u64;
    let mut text = String::new();
    for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= length {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{unit}", left / length);
            left %= length;
        }
    }
    Some(text)
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
