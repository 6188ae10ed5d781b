//! What an earlier build has written is read by this one, and what this one writes by the earlier: `tests/upgrade/<revision>` holds that
//! build's definitions and the statuses it wrote (how they were gathered: its README). Both run for real in `cargo world upgrade`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use feedwater::api::{ExtractRefresh, FlowDeployment, PrefectWorkspace, TableauSite};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Fields of statuses that an earlier build does not know, and why it is safe that its API server drops them.
const NEW_IN_STATUS: &[(&str, &str)] = &[
    (".status.effective", "shown to people, and told again"),
    (
        ".status.schedules",
        "what is ours is no longer known to be: AdoptionRequired, and nothing is made twice",
    ),
    (
        ".status.scheduleIntent",
        "what arrived is somebody else's: AdoptionRequired, and nothing is made twice",
    ),
    (".status.foreignSchedules", "read again"),
    (".status.appliedFields", "as status.schedules, from which it follows"),
    (".status.plan", "made again"),
    (".status.secrets", "read again: the values are compared, and a change meanwhile is no drift"),
    (
        ".status.adopted",
        "our mark stays: Delete instead of Orphan, unless deletionPolicy says; told in CHANGELOG.md",
    ),
    (".status.marks[].refreshType", "what was contained under another type is forgotten: no proof, no claim"),
    (
        ".status.marks[].seen.stateName",
        "taken for Completed: a name that is excluded later is not recognised",
    ),
    (".status.owed.occasions[].occasion.stateName", "as that of marks"),
    (".status.owed.failure", "told as retries that are used up; it stops all the same"),
    (
        ".status.history[].site",
        "of an extract at a connection of the cluster: not counted toward refreshesPerHour after a start, where jobs may not be listed",
    ),
    (".status.history[].failure", "shown to people; told as Failed"),
    (
        ".status.dataQualityWarning",
        "found again by what it says the next time the data is stale; if it never is again, the warning stays in Tableau; told in CHANGELOG.md",
    ),
    (".status.owed.occasions[].refreshType", "taken from the spec again"),
    (".status.target.fullOnly", "an incremental refresh is asked for once more"),
    (
        ".status.attempt.site",
        "taken for that of the connection that is named; a later build counts a job through one of the cluster as vanished",
    ),
    (".status.server", "found out again"),
    (
        ".status.inSyncGeneration",
        "as that build has it: only Ready=InSync tells others' changes from an edit",
    ),
    (".status.lastDrift", "shown to people; the past is lost"),
    (".status.corrections", "counted anew"),
    (".status.contested", "put right again, three times at most"),
    (
        ".status.pendingWrite.late",
        "late runs of a deployment whose schedule was just being deleted are not restored",
    ),
];

fn revisions() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    assert!(!folders.is_empty());
    folders
}

/// One object a line.
fn written(revision: &Path, plural: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(revision.join(format!("{plural}.jsonl"))).unwrap();
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!objects.is_empty(), "{plural} of {}", revision.display());
    objects
}

fn is_kept<K: DeserializeOwned + Serialize>(plural: &str) {
    for revision in revisions() {
        for object in written(&revision, plural) {
            let read: K = serde_json::from_value(object.clone()).unwrap();
            let again = serde_json::to_value(&read).unwrap();
            for part in ["spec", "status"] {
                let (again, object) = (seen(&again[part]), seen(&object[part]));
                assert_eq!(again, object, "{part} of {plural} as {} wrote it", revision.display());
            }
        }
    }
}

/// Without the default that stands for "not seen yet" and is not written.
fn seen(part: &Value) -> Value {
    let mut part = part.clone();
    if let Some(fields) = part.as_object_mut()
        && fields.get("observedGeneration") == Some(&(-1).into())
    {
        fields.remove("observedGeneration");
    }
    part
}

#[test]
fn nothing_of_what_was_written_is_lost() {
    is_kept::<ExtractRefresh>("extractrefreshes");
    is_kept::<FlowDeployment>("flowdeployments");
    is_kept::<PrefectWorkspace>("prefectworkspaces");
    is_kept::<TableauSite>("tableausites");
}

/// What was written there covers what matters, or the test above says little.
#[test]
fn every_stage_of_a_refresh_and_of_a_write_is_among_them() {
    for revision in revisions() {
        let statuses: Vec<Value> = ["extractrefreshes", "flowdeployments"]
            .iter()
            .flat_map(|plural| written(&revision, plural))
            .map(|object| object["status"].clone())
            .collect();
        let there = |holds: &dyn Fn(&Value) -> bool| statuses.iter().any(holds);
        for phase in ["Intended", "Submitted"] {
            assert!(there(&|s| s["attempt"]["phase"] == phase), "{phase}");
        }
        for origin in ["Ours", "Recovered", "Adopted"] {
            assert!(there(&|s| s["attempt"]["origin"] == origin), "{origin}");
        }
        for stopped in ["Exhausted", "Cancelled"] {
            assert!(there(&|s| s["owed"]["stopped"] == stopped), "{stopped}");
        }
        for field in
            ["owed", "pendingWrite", "lastDrift", "lastHandledRefreshToken", "baseline", "appliedFields"]
        {
            assert!(there(&|s| !s[field].is_null()), "{field}");
        }
    }
}

type Fields = BTreeMap<String, Value>;

/// Every field of a schema by its path, with what it says of itself but its words.
fn fields(schema: &Value, path: &str, into: &mut Fields) {
    let mut own = schema.clone();
    if let Some(own) = own.as_object_mut() {
        for word in ["description", "properties", "items", "additionalProperties", "x-kubernetes-validations"]
        {
            own.remove(word);
        }
    }
    into.insert(path.to_owned(), own);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        fields(property, &format!("{path}.{name}"), into);
    }
    for (word, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[word].is_object() {
            fields(&schema[word], &format!("{path}{mark}"), into);
        }
    }
}

fn schema(crd: &Value) -> (String, Fields) {
    let version = &crd["spec"]["versions"][0];
    let mut all = Fields::new();
    fields(&version["schema"]["openAPIV3Schema"], "", &mut all);
    (crd["spec"]["names"]["plural"].as_str().unwrap().to_owned(), all)
}

/// v1alpha1 never renames or removes a field, takes back a value, or tightens a bound.
#[test]
fn definitions_only_grow() {
    let now: BTreeMap<String, Fields> = feedwater::api::schema::crds().unwrap().iter().map(schema).collect();
    for revision in revisions() {
        let mut known = 0;
        for entry in std::fs::read_dir(revision.join("crds")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for crd in feedwater::yaml::documents(&text).unwrap() {
                let (plural, then) = schema(&crd);
                known += 1;
                let now = &now[&plural];
                for (path, field) in &then {
                    let kept = now.get(path).unwrap_or_else(|| panic!("{plural}{path} is gone"));
                    assert!(admits(field, kept), "{plural}{path} was {field} and is {kept}");
                }
                for path in now.keys().filter(|path| path.starts_with(".status") && !then.contains_key(*path))
                {
                    let said = NEW_IN_STATUS.iter().any(|(new, _)| path.starts_with(new));
                    assert!(said, "{plural}{path} is new: say in NEW_IN_STATUS what its loss means");
                }
            }
        }
        assert_eq!(known, 4);
    }
}

/// Whether everything that the earlier schema of a field admits is admitted now.
fn admits(then: &Value, now: &Value) -> bool {
    let words = then.as_object().into_iter().chain(now.as_object()).flatten().map(|(word, _)| word);
    words.into_iter().all(|word| {
        let (then, now) = (&then[word], &now[word]);
        match word.as_str() {
            "maxLength" | "maxItems" | "maximum" | "maxProperties" => {
                now.is_null() || then.as_f64().is_some_and(|then| now.as_f64() >= Some(then))
            }
            "minLength" | "minItems" | "minimum" => {
                now.is_null() || then.as_f64().is_some_and(|then| now.as_f64() <= Some(then))
            }
            "enum" => {
                let now = now.as_array();
                now.is_none()
                    || then
                        .as_array()
                        .is_some_and(|then| then.iter().all(|v| now.is_some_and(|n| n.contains(v))))
            }
            "required" => now
                .as_array()
                .into_iter()
                .flatten()
                .all(|name| then.as_array().is_some_and(|t| t.contains(name))),
            // How appliers share it, not what it admits.
            "x-kubernetes-map-type" => now.as_str() == Some("atomic"),
            _ => then == now,
        }
    })
}
