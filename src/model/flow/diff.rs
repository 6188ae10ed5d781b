//! What differs between the spec and Prefect, after both sides are normalised (prefect-api.md 7), and the writes that end it.

use super::desired::DEFAULT_QUEUE;
use super::pass::{MOST_NAME, cut};
use super::{Desired, DesiredSchedule, MARK_PREFIX, Write, repair, rule};
use crate::api::{PendingWrite, Time};
use crate::model::deployments::{Deployment, Fields, NewDeployment, NewSchedule, Schedule};
use crate::model::ids::ScheduleId;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The server's name of each field, the name users know it by (in `status.appliedFields`, `lastDrift`, messages), and the value the
/// server has where nothing was ever set.
const FIELDS: [(&str, &str, Unset); 15] = [
    ("description", "description", Unset::Null),
    ("version", "version", Unset::Null),
    ("version_info", "versionInfo", Unset::Kept),
    ("entrypoint", "entrypoint", Unset::Required),
    ("path", "path", Unset::Null),
    ("pull_steps", "pullSteps", Unset::EmptyList),
    ("parameters", "parameters", Unset::EmptyObject),
    ("parameter_openapi_schema", "parameterOpenApiSchema", Unset::EmptyObject),
    ("work_pool_name", "workPool", Unset::Required),
    ("work_queue_name", "workPool", Unset::Required),
    ("job_variables", "jobVariables", Unset::EmptyObject),
    ("enforce_parameter_schema", "enforceParameterSchema", Unset::Is(true)),
    ("concurrency_limit", "concurrencyLimit", Unset::Null),
    ("concurrency_options", "concurrencyLimit.collisionStrategy", Unset::Null),
    ("paused", "paused", Unset::Is(false)),
];
/// It may be shared, and then is not the deployment's to change.
const LIMIT: &str = "concurrency_limit";
const TAGS: &str = "tags";
/// All of them; one is `schedules/<slug>`.
pub(super) const SCHEDULES: &str = "schedules";
/// Schedules without a slug that are not declared.
const FOREIGN: &str = "foreignSchedules";
/// Labels remembered in `status.appliedFields`: declared ones, and as many that no longer are.
const MOST_LABELS: usize = 24;

#[derive(Clone, Copy)]
enum Unset {
    Null,
    EmptyList,
    EmptyObject,
    Is(bool),
    /// The spec always sets it.
    Required,
    /// It is a history: what was said stays said.
    Kept,
}

impl Unset {
    fn value(self) -> Option<Value> {
        match self {
            Self::Null => Some(Value::Null),
            Self::EmptyList => Some(json!([])),
            Self::EmptyObject => Some(json!({})),
            Self::Is(value) => Some(json!(value)),
            Self::Required | Self::Kept => None,
        }
    }
}

/// The differences. Empty: there is nothing to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Diff {
    /// What differs, by the names users know.
    pub(super) names: BTreeSet<String>,
    /// What is not looked at.
    left: BTreeSet<String>,
    patch: Fields,
    delete: Vec<ScheduleId>,
    put: Vec<(ScheduleId, NewSchedule)>,
    add: Vec<NewSchedule>,
}

impl Diff {
    /// What the spec declares, and what it declared before (`applied`) and no longer does, against what is there. All else is not ours.
    pub(super) fn between(d: &Desired, there: &Deployment, applied: &[String]) -> Self {
        Self::but_for(&BTreeSet::new(), d, there, applied)
    }

    /// The same without these, by their names.
    pub(super) fn but_for(
        left: &BTreeSet<String>,
        d: &Desired,
        there: &Deployment,
        applied: &[String],
    ) -> Self {
        let mut diff = Self { left: left.union(&d.ignored).cloned().collect(), ..Self::default() };
        diff.fields(d, there, applied);
        diff.tags(d, there, applied);
        diff.schedules(d, there, applied);
        diff
    }

    /// Nothing differs.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// When the server last changed something that differs.
    pub(super) fn touched(&self, there: &Deployment) -> Option<Timestamp> {
        let fields = there.touched.fields.filter(|_| !self.patch.is_empty() || !self.add.is_empty());
        let schedules = self.put.iter().filter_map(|(id, _)| there.touched.schedules.get(id).copied());
        schedules.chain(fields).min()
    }

    /// The writes that end it; at first only what is owed from long ago, or a look at what deleting a schedule would drop. What that dropped of the
    /// other schedules is asked for before any rule changes, and new schedules come before the runs to come: what they have due since the change was
    /// announced is among them.
    pub(super) fn writes(
        &self,
        there: &Deployment,
        owed: Option<&PendingWrite>,
        clock: Option<Timestamp>,
    ) -> Vec<Write> {
        let id = || there.id.clone();
        if let Some(old) = owed.filter(|_| !there.paused).and_then(|owed| repair::old(owed, &there.id, clock))
        {
            return old;
        }
        if let Some(PendingWrite { since, late: None }) = owed
            && !self.delete.is_empty()
        {
            return vec![Write::SeeLate { id: id(), before: since.0, leaving: self.delete.clone() }];
        }
        // A paused deployment has no runs, and asking for them would make some; what it would have had while it was paused is not asked for.
        let paused = self.patch.get("paused").and_then(Value::as_bool).unwrap_or(there.paused);
        let since = |owed: &PendingWrite| clock.filter(|_| there.paused).map_or(owed.since, Time);
        let owed =
            owed.filter(|_| !paused).map(|owed| PendingWrite { since: since(owed), late: owed.late.clone() });
        let delete = self.delete.iter().map(|s| Write::DeleteSchedule { id: id(), schedule: s.clone() });
        let patch = (!self.patch.is_empty()).then(|| Write::Patch { id: id(), fields: self.patch.clone() });
        let since = owed.as_ref().map(|owed| owed.since.0);
        let put = self.put.iter().map(|(s, new)| Write::PutSchedule {
            id: id(),
            schedule: s.clone(),
            new: rule::anchored(new, since),
        });
        let add = self.add.iter().map(|new| Write::AddSchedule { id: id(), new: rule::anchored(new, since) });
        let late = owed.iter().flat_map(|owed| repair::late(&there.id, owed));
        let come = owed.iter().map(|owed| repair::to_come(&there.id, owed.since.0));
        delete.chain(late).chain(put).chain(patch).chain(add).chain(come).collect()
    }

    fn fields(&mut self, d: &Desired, there: &Deployment, applied: &[String]) {
        for (server, name, unset) in FIELDS {
            let was_ours = applied.iter().any(|a| a == name);
            let wanted = d.fields.get(server).cloned().or_else(|| unset.value().filter(|_| was_ours));
            let Some(wanted) = wanted else { continue };
            if self.left.contains(name) || self.left.contains(whole_field(name)) {
                continue;
            }
            if server == LIMIT && there.shares_limit {
                continue;
            }
            let had = there.fields.get(server).unwrap_or(&Value::Null);
            if !same_field(server, &wanted, had) {
                self.patch.insert(server.into(), wanted);
                self.names.insert(name.into());
            }
        }
        // A queue without its pool would move the deployment to another pool [measured: prefect-api.md 4.4].
        if self.names.contains("workPool") {
            for server in ["work_pool_name", "work_queue_name"] {
                self.patch.extend(d.fields.get(server).map(|v| (server.to_owned(), v.clone())));
            }
        }
    }

    fn tags(&mut self, d: &Desired, there: &Deployment, applied: &[String]) {
        let (marks, had): (BTreeSet<&str>, BTreeSet<&str>) =
            there.tags.iter().map(String::as_str).partition(|t| t.starts_with(MARK_PREFIX));
        let wanted: BTreeSet<&str> = match &d.tags {
            _ if self.left.contains(TAGS) => had.clone(),
            Some(tags) => tags.iter().map(String::as_str).collect(),
            None if applied.iter().any(|a| a == TAGS) => BTreeSet::new(),
            None => had.clone(),
        };
        if wanted != had {
            self.names.insert(TAGS.into());
        }
        if marks != BTreeSet::from([d.mark.as_str()]) && !self.left.contains("mark") {
            self.names.insert("mark".into());
        }
        if self.names.contains(TAGS) || self.names.contains("mark") {
            self.patch.insert(TAGS.into(), marked(wanted, &d.mark));
        }
    }

    fn schedules(&mut self, d: &Desired, there: &Deployment, applied: &[String]) {
        let had: BTreeMap<&str, &Schedule> =
            there.schedules.iter().filter_map(|s| Some((s.slug.as_deref()?, s))).collect();
        let mut coming: Vec<(&str, &DesiredSchedule)> = Vec::new();
        for (slug, declared) in &d.schedules {
            if self.left.contains(SCHEDULES) || self.left.contains(&schedule_name(slug)) {
                continue;
            }
            let no_longer = declared.parameters.is_none() && applied.contains(&parameters_name(slug));
            let cleared = no_longer.then(|| bare(declared));
            let want = cleared.as_ref().unwrap_or(declared);
            match had.get(slug.as_str()) {
                Some(have) if rule::same(want, have) => continue,
                Some(have) => self.put.push((have.id.clone(), rule::whole(slug, want, Some(have)))),
                None => coming.push((slug, declared)),
            }
            self.names.extend(no_longer.then(|| parameters_name(slug)));
            self.names.insert(schedule_name(slug));
        }
        let mut leaving: Vec<(&str, &Schedule)> = Vec::new();
        for (slug, have) in had {
            let name = schedule_name(slug);
            let kept =
                d.schedules.contains_key(slug) || self.left.contains(SCHEDULES) || self.left.contains(&name);
            if !kept && applied.contains(&name) {
                leaving.push((slug, have));
                self.names.insert(name);
            } else if !kept && d.remove_foreign {
                self.delete.push(have.id.clone());
                self.names.insert(name);
            }
        }
        self.renamed(&coming, &leaving, applied);
        if d.remove_foreign && !self.left.contains(FOREIGN) && !self.left.contains(SCHEDULES) {
            let nameless: Vec<_> =
                there.schedules.iter().filter(|s| s.slug.is_none()).map(|s| s.id.clone()).collect();
            if !nameless.is_empty() {
                self.names.insert(FOREIGN.into());
                self.delete.extend(nameless);
            }
        }
    }

    /// A schedule that only gets another slug keeps its id: by that Prefect knows its runs, and a worker may have taken the next one already, which a
    /// schedule of another id would make once more.
    fn renamed(
        &mut self,
        coming: &[(&str, &DesiredSchedule)],
        leaving: &[(&str, &Schedule)],
        applied: &[String],
    ) {
        let mut stay = BTreeSet::new();
        for (slug, want) in coming {
            let mut formers = leaving.iter().filter(|(_, have)| rule::goes_on(want, have));
            let former = match (formers.next(), formers.next()) {
                (Some(one), None) => Some(one),
                (None | Some(_), _) => None,
            };
            // Of two that may be it, nobody knows which one is.
            let is_only =
                |have: &Schedule| coming.iter().filter(|(_, other)| rule::goes_on(other, have)).count() == 1;
            let Some((was, have)) = former.filter(|(_, have)| is_only(have)) else {
                self.add.push(rule::whole(slug, want, None));
                continue;
            };
            stay.insert(*was);
            let no_longer = want.parameters.is_none() && applied.contains(&parameters_name(was));
            let want = if no_longer { &bare(want) } else { *want };
            self.put.push((have.id.clone(), rule::whole(slug, want, Some(have))));
        }
        let gone = leaving.iter().filter(|(was, _)| !stay.contains(was));
        self.delete.extend(gone.map(|(_, have)| have.id.clone()));
    }
}

/// With the parameters that it had taken off.
fn bare(schedule: &DesiredSchedule) -> DesiredSchedule {
    DesiredSchedule { parameters: Some(Map::new()), ..schedule.clone() }
}

/// What the spec declares, by the names of `status.appliedFields`.
pub(super) fn declared(d: &Desired) -> BTreeSet<String> {
    let fields = FIELDS
        .iter()
        .filter(|(server, ..)| d.fields.contains_key(*server))
        .map(|(_, name, _)| (*name).to_owned());
    let tags = d.tags.iter().map(|_| TAGS.to_owned());
    let labels = d.labels.iter().flatten().take(MOST_LABELS).map(|(key, _)| label_name(key));
    let schedules = d.schedules.iter().flat_map(|(slug, schedule)| {
        [Some(schedule_name(slug)), schedule.parameters.as_ref().map(|_| parameters_name(slug))]
    });
    fields.chain(tags).chain(labels).chain(schedules.flatten()).collect()
}

/// Whether the limit that is declared is not applied, since the deployment has one that it shares.
pub(super) fn limit_is_shared(d: &Desired, there: &Deployment) -> bool {
    let limit = d.fields.get(LIMIT).filter(|limit| !limit.is_null());
    there.shares_limit && limit.is_some() && !d.ignored.contains("concurrencyLimit")
}

/// The deployment to be created: what the spec declares, and the mark.
pub(super) fn new_deployment(d: &Desired) -> NewDeployment {
    let mut fields = d.fields.clone();
    fields.extend(d.labels.clone().map(|labels| ("labels".to_owned(), Value::Object(labels))));
    fields.insert(TAGS.into(), marked(d.tags.iter().flatten().map(String::as_str), &d.mark));
    NewDeployment { name: d.deployment.deployment.to_string(), fields }
}

/// The fields of a PATCH that hands a deployment over: its tags, with another mark.
pub(super) fn remarked(there: &Deployment, mark: &str) -> Fields {
    let kept = there.tags.iter().map(String::as_str).filter(|t| !t.starts_with(MARK_PREFIX));
    Fields::from_iter([(TAGS.to_owned(), marked(kept, mark))])
}

fn marked<'a>(tags: impl IntoIterator<Item = &'a str>, mark: &'a str) -> Value {
    tags.into_iter().chain([mark]).map(|t| Value::String(t.to_owned())).collect()
}

/// The field of the spec that a name lies in.
fn whole_field(name: &str) -> &str {
    name.split_once('.').map_or(name, |(field, _)| field)
}

/// By the name users know.
pub(super) fn known_as(server: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(field, ..)| *field == server).map(|(_, name, _)| *name)
}

/// What others call theirs may be long; a declared slug is not, and is never taken for a name that was cut.
fn schedule_name(slug: &str) -> String {
    cut(&format!("schedules/{slug}"), MOST_NAME)
}

/// The parameters that a schedule's runs get, which it may have without being told to.
fn parameters_name(slug: &str) -> String {
    cut(&format!("scheduleParameters/{slug}"), MOST_NAME)
}

fn label_name(key: &str) -> String {
    cut(&format!("labels/{key}"), MOST_NAME)
}

fn same_field(server: &str, want: &Value, have: &Value) -> bool {
    // Prefect Cloud fills in more than was sent.
    if server == "version_info" {
        let said = want.as_object().into_iter().flatten();
        return said.into_iter().all(|(key, value)| have.get(key).is_some_and(|had| same_json(value, had)));
    }
    let empty_schema = json!({"type": "object", "properties": {}});
    let default = match server {
        "pull_steps" => json!([]),
        "parameters" | "job_variables" => json!({}),
        "enforce_parameter_schema" => json!(true),
        "paused" => json!(false),
        "work_queue_name" => json!(DEFAULT_QUEUE),
        _ => Value::Null,
    };
    let normal = |v: &Value| match v {
        Value::Null => default.clone(),
        Value::Object(map) if server == "parameter_openapi_schema" && map.is_empty() => empty_schema.clone(),
        // What was not sent comes back as null.
        Value::Object(map) if server == "concurrency_options" => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        other => other.clone(),
    };
    same_json(&normal(want), &normal(have))
}

/// The same of two objects.
pub(super) fn same_object(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len() && a.iter().all(|(key, x)| b.get(key).is_some_and(|y| same_json(x, y)))
}

/// Labels that are not as declared, which can be set only when a deployment is created: those that differ, and the names in `applied` of those
/// that are no longer declared and still there.
pub(super) fn labels(
    d: &Desired,
    there: &Deployment,
    applied: &[String],
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (none, nothing) = (Map::new(), Map::new());
    let had = there.fields.get("labels").and_then(Value::as_object).unwrap_or(&none);
    let declared = d.labels.as_ref().unwrap_or(&nothing);
    let differs = |(key, value): &(&String, &Value)| !had.get(*key).is_some_and(|had| same_json(value, had));
    let was_ours = |key: &&String| !declared.contains_key(*key) && applied.contains(&label_name(key));
    let removed = || had.keys().filter(was_ours).take(MOST_LABELS);
    let differing = declared.iter().filter(differs).map(|(key, _)| key).chain(removed());
    (differing.cloned().collect(), removed().map(|key| label_name(key)).collect())
}

/// Equality of free-form JSON, numbers by value: Kubernetes does not keep `1.0` apart from `1`.
fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (whole(x), whole(y)) {
            (Some(x), Some(y)) => x == y,
            _ => x.as_f64() == y.as_f64(),
        },
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same_json(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same_json(x, y)))
        }
        _ => a == b,
    }
}

fn whole(number: &serde_json::Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
