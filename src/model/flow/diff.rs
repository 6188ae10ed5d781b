//! What differs between the spec and Prefect, after both sides are normalised (prefect-api.md 7), and the writes that end it.

use super::desired::DEFAULT_QUEUE;
use super::{Desired, MARK_PREFIX, Write, rule};
use crate::model::deployments::{Deployment, NewDeployment, NewSchedule, Schedule};
use crate::model::ids::ScheduleId;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The server's name of each field, the name users know it by (in `status.appliedFields`, `lastDrift`, messages), and the value the
/// server has where nothing was ever set.
const FIELDS: [(&str, &str, Unset); 14] = [
    ("description", "description", Unset::Null),
    ("version", "version", Unset::Null),
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
    ("concurrency_options", "concurrencyLimit", Unset::Null),
    ("paused", "paused", Unset::Is(false)),
];
const TAGS: &str = "tags";

#[derive(Clone, Copy)]
enum Unset {
    Null,
    EmptyList,
    EmptyObject,
    Is(bool),
    /// The spec always sets it.
    Required,
}

impl Unset {
    fn value(self) -> Option<Value> {
        match self {
            Self::Null => Some(Value::Null),
            Self::EmptyList => Some(json!([])),
            Self::EmptyObject => Some(json!({})),
            Self::Is(value) => Some(json!(value)),
            Self::Required => None,
        }
    }
}

/// The differences. Empty: there is nothing to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Diff {
    /// What differs, by the names users know.
    pub(super) names: BTreeSet<String>,
    patch: Map<String, Value>,
    delete: Vec<ScheduleId>,
    put: Vec<(ScheduleId, NewSchedule)>,
    add: Vec<NewSchedule>,
}

impl Diff {
    /// What the spec declares, and what it declared before (`applied`) and no longer does, against what is there. All else is not ours.
    pub(super) fn between(d: &Desired, there: &Deployment, applied: &[String]) -> Self {
        let mut diff = Self::default();
        diff.fields(d, there, applied);
        diff.tags(d, there, applied);
        diff.schedules(d, there, applied);
        diff
    }

    /// Nothing differs.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether ending it makes Prefect drop future runs.
    pub(super) fn drops_runs(&self) -> bool {
        !(self.patch.is_empty() && self.delete.is_empty() && self.put.is_empty())
    }

    /// The writes that end it. New schedules come after the repair: theirs are no lost runs, and must not be made for the past.
    pub(super) fn writes(&self, there: &Deployment, repair_since: Option<Timestamp>) -> Vec<Write> {
        let id = || there.id.clone();
        let delete = self.delete.iter().map(|s| Write::DeleteSchedule { id: id(), schedule: s.clone() });
        let put = self.put.iter().map(|(s, new)| Write::PutSchedule {
            id: id(),
            schedule: s.clone(),
            new: new.clone(),
        });
        let patch = (!self.patch.is_empty()).then(|| Write::Patch { id: id(), fields: self.patch.clone() });
        let repair = repair_since.map(|since| Write::ScheduleRuns { id: id(), since });
        let add = self.add.iter().map(|new| Write::AddSchedule { id: id(), new: new.clone() });
        delete.chain(put).chain(patch).chain(repair).chain(add).collect()
    }

    fn fields(&mut self, d: &Desired, there: &Deployment, applied: &[String]) {
        for (server, name, unset) in FIELDS {
            let was_ours = applied.iter().any(|a| a == name);
            let wanted = d.fields.get(server).cloned().or_else(|| unset.value().filter(|_| was_ours));
            let Some(wanted) = wanted else { continue };
            if d.ignored.contains(name) {
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
            Some(tags) => tags.iter().map(String::as_str).collect(),
            None if applied.iter().any(|a| a == TAGS) => BTreeSet::new(),
            None => had.clone(),
        };
        if wanted != had && !d.ignored.contains(TAGS) {
            self.names.insert(TAGS.into());
        }
        if marks != BTreeSet::from([d.mark.as_str()]) {
            self.names.insert("mark".into());
        }
        if self.names.contains(TAGS) || self.names.contains("mark") {
            self.patch.insert(TAGS.into(), marked(wanted, &d.mark));
        }
    }

    fn schedules(&mut self, d: &Desired, there: &Deployment, applied: &[String]) {
        let had: BTreeMap<&str, &Schedule> =
            there.schedules.iter().filter_map(|s| Some((s.slug.as_deref()?, s))).collect();
        for (slug, want) in &d.schedules {
            match had.get(slug.as_str()) {
                Some(have) if rule::same(want, have) => continue,
                Some(have) => self.put.push((have.id.clone(), rule::whole(slug, want, Some(have)))),
                None => self.add.push(rule::whole(slug, want, None)),
            }
            self.names.insert(schedule_name(slug));
        }
        for (slug, have) in had {
            let name = schedule_name(slug);
            if !d.schedules.contains_key(slug) && (d.remove_foreign || applied.contains(&name)) {
                self.delete.push(have.id.clone());
                self.names.insert(name);
            }
        }
        if d.remove_foreign {
            let nameless: Vec<_> =
                there.schedules.iter().filter(|s| s.slug.is_none()).map(|s| s.id.clone()).collect();
            if !nameless.is_empty() {
                self.names.insert("foreignSchedules".into());
                self.delete.extend(nameless);
            }
        }
    }
}

/// What the spec declares, by the names of `status.appliedFields`.
pub(super) fn declared(d: &Desired) -> BTreeSet<String> {
    let fields = FIELDS
        .iter()
        .filter(|(server, ..)| d.fields.contains_key(*server))
        .map(|(_, name, _)| (*name).to_owned());
    let tags = d.tags.iter().map(|_| TAGS.to_owned());
    fields.chain(tags).chain(d.schedules.keys().map(|slug| schedule_name(slug))).collect()
}

/// The deployment to be created: what the spec declares, and the mark.
pub(super) fn new_deployment(d: &Desired) -> NewDeployment {
    let mut fields = d.fields.clone();
    fields.extend(d.labels.clone().map(|labels| ("labels".to_owned(), Value::Object(labels))));
    fields.insert(TAGS.into(), marked(d.tags.iter().flatten().map(String::as_str), &d.mark));
    NewDeployment { name: d.deployment.deployment.to_string(), fields }
}

/// The fields of a PATCH that hands a deployment over: its tags, with another mark.
pub(super) fn remarked(there: &Deployment, mark: &str) -> Map<String, Value> {
    let kept = there.tags.iter().map(String::as_str).filter(|t| !t.starts_with(MARK_PREFIX));
    Map::from_iter([(TAGS.to_owned(), marked(kept, mark))])
}

fn marked<'a>(tags: impl IntoIterator<Item = &'a str>, mark: &'a str) -> Value {
    tags.into_iter().chain([mark]).map(|t| Value::String(t.to_owned())).collect()
}

fn schedule_name(slug: &str) -> String {
    format!("schedules/{slug}")
}

fn same_field(server: &str, want: &Value, have: &Value) -> bool {
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

/// Declared labels that the deployment does not have: they can be set only when it is created.
pub(super) fn missing_labels(d: &Desired, there: &Deployment) -> BTreeSet<String> {
    let none = Map::new();
    let had = there.fields.get("labels").and_then(Value::as_object).unwrap_or(&none);
    let differs = |(key, value): &(&String, &Value)| !had.get(*key).is_some_and(|had| same_json(value, had));
    d.labels.iter().flatten().filter(differs).map(|(key, _)| key.clone()).collect()
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
mod tests {
    use super::*;
    use crate::model::flow::tests::{desired, there};

    fn names(spec: &Value, had: &Value, applied: &[&str]) -> (Vec<String>, Value) {
        let applied: Vec<String> = applied.iter().map(|a| (*a).to_owned()).collect();
        let diff = Diff::between(&desired(spec), &there(had), &applied);
        (diff.names.into_iter().collect(), Value::Object(diff.patch))
    }

    #[test]
    fn what_the_server_makes_of_a_value_is_no_difference() {
        for (declared, had) in [
            (json!({"pullSteps": []}), json!({"pull_steps": null})),
            (
                json!({"parameterOpenApiSchema": {}}),
                json!({"parameter_openapi_schema": {"type": "object", "properties": {}}}),
            ),
            (json!({"parameters": {"a": 1, "b": [2.0]}}), json!({"parameters": {"b": [2], "a": 1.0}})),
            (json!({"parameters": {}}), json!({"parameters": {}})),
            (
                json!({"tags": ["b", "a", "b"]}),
                json!({"tags": ["a", "a", "b", "feedwater:abc/finance/orders"]}),
            ),
            (json!({"description": ""}), json!({"description": ""})),
            (json!({}), json!({"work_queue_name": null})),
            (json!({"jobVariables": {}}), json!({})),
            (json!({"jobVariables": {"env": {"A": "1"}}}), json!({"job_variables": {"env": {"A": "1"}}})),
            (json!({"enforceParameterSchema": true, "paused": false}), json!({})),
            (
                json!({"concurrencyLimit": {"limit": 2, "collisionStrategy": "CancelNew"}}),
                json!({"concurrency_limit": 2, "concurrency_options": {"collision_strategy": "CANCEL_NEW", "grace_period_seconds": null}}),
            ),
            (
                json!({"description": "a", "tags": ["a"], "driftDetection": {"ignore": ["description", "tags"]}}),
                json!({"description": "b"}),
            ),
        ] {
            assert_eq!(names(&declared, &had, &[]).0, Vec::<String>::new(), "{declared} against {had}");
        }
    }

    #[test]
    fn what_differs_is_sent_and_named() {
        for (declared, had, name, sent) in [
            (json!({"description": ""}), json!({}), "description", json!({"description": ""})),
            (
                json!({"parameters": {"a": "1"}}),
                json!({"parameters": {"a": 1}}),
                "parameters",
                json!({"parameters": {"a": "1"}}),
            ),
            (
                json!({"parameters": {"a": 1}}),
                json!({"parameters": {"a": 1, "b": 2}}),
                "parameters",
                json!({"parameters": {"a": 1}}),
            ),
            (
                json!({}),
                json!({"work_queue_name": "fast"}),
                "workPool",
                json!({"work_pool_name": "etl", "work_queue_name": "default"}),
            ),
            (
                json!({"tags": ["a"]}),
                json!({"tags": ["b", "feedwater:abc/finance/orders"]}),
                "tags",
                json!({"tags": ["a", "feedwater:abc/finance/orders"]}),
            ),
            (
                json!({"jobVariables": {"env": {"A": "2"}}}),
                json!({"job_variables": {"env": {"A": "1"}}}),
                "jobVariables",
                json!({"job_variables": {"env": {"A": "2"}}}),
            ),
            (json!({"paused": true}), json!({"paused": false}), "paused", json!({"paused": true})),
            (
                json!({"enforceParameterSchema": false}),
                json!({"enforce_parameter_schema": true}),
                "enforceParameterSchema",
                json!({"enforce_parameter_schema": false}),
            ),
            (
                json!({"concurrencyLimit": {"limit": 2, "gracePeriod": "90s"}}),
                json!({"concurrency_limit": 2}),
                "concurrencyLimit",
                json!({"concurrency_options": {"collision_strategy": "ENQUEUE", "grace_period_seconds": 90}}),
            ),
            (
                json!({}),
                json!({"tags": ["b"]}),
                "mark",
                json!({"tags": ["b", "feedwater:abc/finance/orders"]}),
            ),
        ] {
            assert_eq!(
                names(&declared, &had, &[]),
                (vec![name.to_owned()], sent),
                "{declared} against {had}"
            );
        }
    }

    #[test]
    fn what_was_never_set_is_left_and_what_was_set_is_reverted() {
        let had = json!({"job_variables": {"a": 1}, "enforce_parameter_schema": false, "paused": true, "concurrency_limit": 3,
                         "concurrency_options": {"collision_strategy": "ENQUEUE"},
                         "description": "d", "version": "1", "path": "/p", "pull_steps": [{}], "parameters": {"a": 1},
                         "parameter_openapi_schema": {"title": "x"}, "tags": ["t", "feedwater:abc/finance/orders"]});
        assert_eq!(names(&json!({}), &had, &[]).0, Vec::<String>::new());
        let all = [
            "description",
            "version",
            "path",
            "pullSteps",
            "parameters",
            "parameterOpenApiSchema",
            "tags",
            "jobVariables",
            "enforceParameterSchema",
            "paused",
            "concurrencyLimit",
        ];
        let reverted = json!({"description": null, "version": null, "path": null, "pull_steps": [], "parameters": {},
                              "parameter_openapi_schema": {}, "tags": ["feedwater:abc/finance/orders"],
                              "job_variables": {}, "enforce_parameter_schema": true, "paused": false,
                              "concurrency_limit": null, "concurrency_options": null});
        assert_eq!(names(&json!({}), &had, &all).1, reverted);
        // Reverted already: nothing is sent again.
        let bare = json!({"parameter_openapi_schema": {"type": "object", "properties": {}}});
        assert_eq!(names(&json!({}), &bare, &all).0, Vec::<String>::new());
    }

    #[test]
    fn parameters_and_bounds_of_a_schedule_are_ours_once_declared() {
        let had = |parameters: Value, most: Option<i64>| {
            let mut there = there(&json!({}));
            there.schedules = vec![Schedule {
                id: ScheduleId::new("1"),
                slug: Some("a".into()),
                active: true,
                rule: Map::from_iter([("cron".into(), json!("1 1 * * *")), ("timezone".into(), Value::Null)]),
                parameters: parameters.as_object().unwrap().clone(),
                max_scheduled_runs: most,
            }];
            there
        };
        let puts = |more: Value, there: &Deployment| {
            let mut schedule = json!({"slug": "a", "cron": {"expression": "1 1 * * *"}});
            schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let put = Diff::between(&desired(&json!({"schedules": [schedule]})), there, &[]).put;
            put.into_iter()
                .map(|(_, new)| (Value::Object(new.parameters), new.max_scheduled_runs))
                .collect::<Vec<_>>()
        };
        let x = || json!({"x": 2});
        assert_eq!(puts(json!({}), &had(x(), Some(5))), [], "what is not declared is left");
        assert_eq!(puts(json!({"parameters": {"x": 2.0}, "maxScheduledRuns": 5}), &had(x(), Some(5))), []);
        assert_eq!(puts(json!({"parameters": {}}), &had(x(), Some(5))), [(json!({}), None)]);
        assert_eq!(puts(json!({"maxScheduledRuns": 3}), &had(x(), Some(5))), [(x(), Some(3))], "sent whole");
    }

    #[test]
    fn foreign_schedules_go_only_when_that_is_declared() {
        let foreign = |slug: Option<&str>| Schedule {
            id: ScheduleId::new(slug.unwrap_or("none")),
            slug: slug.map(str::to_owned),
            active: true,
            rule: Map::new(),
            parameters: Map::new(),
            max_scheduled_runs: None,
        };
        let mut had = there(&json!({}));
        had.schedules = vec![foreign(None), foreign(Some("hand"))];
        let deleted = |spec: &Value| Diff::between(&desired(spec), &had, &[]).delete.len();
        assert_eq!((deleted(&json!({})), deleted(&json!({"foreignSchedules": "Remove"}))), (0, 2));
    }

    #[test]
    fn schedules_go_by_slug_and_those_of_others_stay() {
        let cron = |slug: Option<&str>, id: &str, at: &str| Schedule {
            id: ScheduleId::new(id),
            slug: slug.map(str::to_owned),
            active: true,
            rule: Map::from_iter([("cron".into(), json!(at)), ("timezone".into(), Value::Null)]),
            parameters: Map::from_iter([("x".into(), json!(2))]),
            max_scheduled_runs: None,
        };
        let mut had = there(&json!({}));
        had.schedules = vec![
            cron(None, "1", "1 1 * * *"),
            cron(Some("hand"), "2", "2 2 * * *"),
            cron(Some("gone"), "3", "3 3 * * *"),
            cron(Some("kept"), "4", "4 4 * * *"),
            cron(Some("changed"), "5", "5 5 * * *"),
        ];
        let d = desired(&json!({"schedules": [
            {"slug": "kept", "cron": {"expression": "4 4 * * *"}},
            {"slug": "changed", "cron": {"expression": "6 6 * * *"}},
            {"slug": "new", "cron": {"expression": "7 7 * * *"}}]}));
        let applied = ["schedules/gone".to_owned(), "schedules/changed".to_owned()];
        let diff = Diff::between(&d, &had, &applied);
        let since: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let writes = diff.writes(&had, Some(since));
        let [
            Write::DeleteSchedule { schedule: gone, .. },
            Write::PutSchedule { schedule, new: put, .. },
            repair,
            Write::AddSchedule { new, .. },
        ] = writes.as_slice()
        else {
            panic!("{writes:?}");
        };
        assert_eq!((gone.as_str(), schedule.as_str()), ("3", "5"));
        assert_eq!((put.rule["cron"].as_str(), &put.parameters["x"]), (Some("6 6 * * *"), &json!(2)));
        assert!(matches!(repair, Write::ScheduleRuns { since: from, .. } if *from == since));
        assert_eq!(new.slug, "new");
        assert!(diff.drops_runs());
        let only_new = Diff::between(
            &d,
            &Deployment {
                schedules: vec![
                    cron(Some("kept"), "4", "4 4 * * *"),
                    cron(Some("changed"), "5", "6 6 * * *"),
                ],
                ..had
            },
            &[],
        );
        assert!(!only_new.drops_runs(), "adding a schedule costs no runs");
    }
}
