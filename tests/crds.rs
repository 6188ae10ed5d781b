//! The CRDs as they are checked in, held to the rules of the API.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

#[path = "crds/columns.rs"]
mod columns;
#[path = "crds/fields.rs"]
mod fields;
#[path = "crds/prefect_fields.rs"]
mod prefect_fields;
#[path = "crds/reference.rs"]
mod reference;
#[path = "crds/table.rs"]
mod table;

use feedwater::api::schema;
use feedwater::{cli, yaml};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_files_in_crds_are_what_the_code_says() {
    let directory = root().join("crds");
    let files = cli::crd_files().unwrap();
    // A chart may hold no file from outside of its folder.
    for directory in [&directory, &root().join("manifests/helm/feedwater/files/crds")] {
        for (name, text) in &files {
            let file = directory.join(name);
            if env::var_os("UPDATE").is_some() {
                fs::write(&file, text).unwrap();
            }
            let found = fs::read_to_string(&file).unwrap_or_default();
            assert!(found == *text, "{} is stale: UPDATE=1 cargo test --test crds", file.display());
        }
    }
    let listed: Value =
        yaml::from_str(&fs::read_to_string(directory.join("kustomization.yaml")).unwrap()).unwrap();
    let mut names: Vec<_> = files.into_iter().map(|(name, _)| Value::from(name)).collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(listed["resources"], Value::from(names));
}

#[test]
fn every_crd_is_small_enough_to_be_applied_by_kubectl() {
    for crd in schema::crds().unwrap() {
        let bytes = serde_json::to_vec(&crd).unwrap().len();
        assert!(bytes < 256 * 1024, "{}: {bytes} bytes", crd["metadata"]["name"]);
    }
}

#[test]
fn schemas_hold_the_rules_of_the_api() {
    let mut faults = Vec::new();
    for crd in schema::crds().unwrap() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        let properties = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        Walk { faults: &mut faults, in_spec: true }.field(&properties["spec"], &format!("{kind}.spec"), true);
        let mut status = properties["status"].clone();
        let status = status.as_object_mut().unwrap();
        assert_eq!(status.remove("default"), Some(serde_json::json!({ "observedGeneration": -1 })));
        status.remove("nullable");
        Walk { faults: &mut faults, in_spec: false }.field(
            &Value::from(status.clone()),
            &format!("{kind}.status"),
            true,
        );
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// A walk over a schema that collects what breaks a rule.
struct Walk<'a> {
    faults: &'a mut Vec<String>,
    in_spec: bool,
}

impl Walk<'_> {
    fn field(&mut self, schema: &Value, path: &str, required: bool) {
        let text = schema["description"].as_str().unwrap_or_default();
        // What `kubectl explain` tells: a sentence, what each value means, and what the field is when it is not there.
        if text.len() < 25 || !text.ends_with('.') {
            self.fault(path, &format!("is not described by a sentence: {text:?}"));
        }
        if self.in_spec && !required && !text.contains("Unset: ") {
            self.fault(path, "does not say what it is when unset");
        }
        let members = schema["enum"].as_array().or_else(|| schema["items"]["enum"].as_array());
        for member in members.into_iter().flatten().filter_map(Value::as_str) {
            if !text.contains(member) {
                self.fault(path, &format!("does not say what {member} means"));
            }
        }
        self.schema(schema, path);
    }

    fn schema(&mut self, schema: &Value, path: &str) {
        let int_or_string = schema["x-kubernetes-int-or-string"] == true;
        for union in ["oneOf", "anyOf", "allOf", "not"] {
            if schema.get(union).is_some() && !(union == "anyOf" && int_or_string) {
                self.fault(path, &format!("has {union}"));
            }
        }
        for banned in ["default", "nullable"] {
            if schema.get(banned).is_some() {
                self.fault(path, &format!("has {banned}"));
            }
        }
        match schema["type"].as_str() {
            Some("object") => self.object(schema, path),
            Some("array") => self.list(schema, path),
            Some("string") => {
                let bounded = ["maxLength", "enum", "format"].iter().any(|bound| schema.get(bound).is_some());
                if !bounded {
                    self.fault(path, "is a string without bound");
                }
            }
            Some("integer") => {
                let format = schema["format"].as_str().unwrap_or("int64");
                if !["int32", "int64"].contains(&format) {
                    self.fault(path, "has a format the API server does not know");
                }
                if self.in_spec && (schema.get("minimum").is_none() || schema.get("maximum").is_none()) {
                    self.fault(path, "is a number without bounds");
                }
            }
            Some("boolean") => {}
            None if int_or_string => {}
            other => self.fault(path, &format!("is of type {other:?}")),
        }
    }

    fn object(&mut self, schema: &Value, path: &str) {
        let Some(properties) = schema["properties"].as_object() else {
            let named = &schema["additionalProperties"];
            if named.is_object() {
                if schema.get("maxProperties").is_none() {
                    self.fault(path, "is a map without bound");
                }
                self.schema(named, path);
            } else if schema["x-kubernetes-preserve-unknown-fields"] != true {
                self.fault(path, "has neither fields nor freedom");
            }
            return;
        };
        let required: Vec<_> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in properties {
            if ["on", "off", "yes", "no", "y", "n"].contains(&name.as_str()) {
                self.fault(path, "has a field that YAML 1.1 reads as a boolean");
            }
            self.field(field, &format!("{path}.{name}"), required.contains(&name.as_str()));
        }
    }

    fn list(&mut self, schema: &Value, path: &str) {
        if schema.get("maxItems").is_none() {
            self.fault(path, "is a list without bound");
        }
        let items = &schema["items"];
        let people_merge = path.ends_with(".conditions") || (self.in_spec && items["type"] == "object");
        let atomic = schema["x-kubernetes-list-type"] == "atomic";
        if people_merge && !atomic {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().cloned().unwrap_or_default();
            if schema["x-kubernetes-list-type"] != "map" || keys.is_empty() {
                self.fault(path, "is a list that is merged, without keys");
            }
            for key in keys {
                let required = items["required"].as_array().is_some_and(|required| required.contains(&key));
                if !required {
                    self.fault(path, &format!("has the key {key}, which its entries may lack"));
                }
            }
        }
        self.schema(items, &format!("{path}[]"));
    }

    fn fault(&mut self, path: &str, what: &str) {
        self.faults.push(format!("{path} {what}"));
    }
}

/// Whoever may write in one namespace reaches no other. Connections of the cluster name those whom they allow something, and refer to nothing in them.
#[test]
fn no_reference_leaves_its_namespace() {
    fn references(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if name.ends_with("Ref") {
                found.push(path.clone());
                assert!(field["properties"]["name"].is_object(), "{path} is a reference without a name");
            }
            let allows = path.starts_with("Cluster") && path.ends_with(".allow.namespaces");
            assert!(
                !name.starts_with("namespace") || allows,
                "{path}: a field of spec that names a namespace"
            );
            references(field, &path, found);
        }
        if schema["items"].is_object() {
            references(&schema["items"], path, found);
        }
    }
    let mut found = Vec::new();
    for crd in schema::crds().unwrap() {
        let properties = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        references(&properties["spec"], crd["spec"]["names"]["kind"].as_str().unwrap(), &mut found);
    }
    assert!(found.len() > 10, "{found:?}");
}

#[test]
fn references_and_names_can_be_selected_by() {
    for (kind, fields) in [
        ("FlowDeployment", &[".spec.flowName", ".spec.workspaceRef.name"][..]),
        ("ExtractRefresh", &[".spec.siteRef.name", ".spec.target.name"][..]),
    ] {
        let crds = schema::crds().unwrap();
        let crd = crds.iter().find(|crd| crd["spec"]["names"]["kind"] == kind).unwrap();
        let mut paths: Vec<_> = crd["spec"]["versions"][0]["selectableFields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| field["jsonPath"].as_str().unwrap())
            .collect();
        paths.sort_unstable();
        assert_eq!(paths, fields, "{kind}");
    }
}

/// What docs/gitops.md says of two owners names each list that merges, with its key.
#[test]
fn the_page_on_gitops_names_every_list_that_merges() {
    fn lists(schema: &Value, found: &mut BTreeSet<(String, String)>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if field["x-kubernetes-list-type"] == "map" {
                let key = field["x-kubernetes-list-map-keys"][0].as_str().unwrap();
                found.insert((name.clone(), key.to_owned()));
            }
            lists(field, found);
            lists(&field["items"], found);
        }
    }
    let mut found = BTreeSet::new();
    for crd in schema::crds().unwrap() {
        lists(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], &mut found);
    }
    assert!(found.len() >= 6, "{found:?}");
    let page = fs::read_to_string(root().join("docs/gitops.md")).unwrap().replace('\n', " ");
    let merge = page.split("lists merge by their keys (").nth(1).unwrap().split(')').next().unwrap();
    for (list, key) in found {
        let named = merge.split(&format!("by `{key}`")).next().unwrap();
        assert!(named.contains(&format!("`{list}`")), "{list} by {key}: {merge}");
    }
}

#[test]
fn columns_fit_into_a_hundred_characters() {
    let samples = fs::read_to_string(root().join("tests/crds/samples.yaml")).unwrap();
    let samples = yaml::documents(&samples).unwrap();
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    for crd in schema::crds().unwrap() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        let mut rows: Vec<_> = samples.iter().filter(|s| s["kind"] == kind).cloned().collect();
        assert!(!rows.is_empty(), "no sample of {kind}");
        for row in &mut rows {
            for condition in row["status"]["conditions"].as_array_mut().unwrap() {
                condition["reason"] = longest(&page, condition["type"].as_str().unwrap(), kind).into();
            }
        }
        let table = columns::table(&crd, &rows.iter().collect::<Vec<_>>());
        let width = table.lines().map(str::len).max().unwrap_or_default();
        assert!(width <= 100, "{width} wide:\n{table}");
        assert!(!table.contains("<none>"), "a column finds nothing in the samples:\n{table}");
    }
}

/// The longest reason that a condition may have, by the page that explains each of them (`tests/reasons.rs`).
fn longest<'a>(page: &'a str, condition: &str, kind: &str) -> &'a str {
    let whose = if kind.ends_with("Workspace") || kind.ends_with("Site") { "connections" } else { kind };
    let sections = page.split("\n## ").filter(|section| {
        let title = section.lines().next().unwrap_or_default();
        let (of, rest) = title.split_once(", of ").unwrap_or((title, "every kind"));
        of.contains(&format!("`{condition}`")) && (rest == "every kind" || rest.contains(whose))
    });
    let cells = sections.flat_map(str::lines).filter_map(|row| row.strip_prefix("| `")?.split(" | ").next());
    let reasons = cells.flat_map(|cell| cell.split(['`', ',', ' '])).filter(|word| !word.is_empty());
    reasons.max_by_key(|reason| reason.len()).unwrap_or_else(|| panic!("no reason of {condition}"))
}

#[test]
fn check_finds_no_fault_in_what_the_api_server_accepts() {
    for case in table::cases() {
        let accepted = case.before.into_iter().chain(case.refused.is_none().then_some(case.object));
        for object in accepted {
            let report = cli::check::check(&yaml::to_string(&object).unwrap()).unwrap();
            assert!(report.faults.is_empty(), "{}: {:?}", case.title, report.faults);
        }
    }
}

/// The table itself is held against a real API server by `tests/e2e/cel.rs`.
#[test]
fn every_rule_has_a_case_that_it_refuses() {
    let refusals: Vec<_> = table::cases().into_iter().filter_map(|case| case.refused).collect();
    let mut rules = Vec::new();
    for crd in schema::crds().unwrap() {
        collect_rules(&crd, &mut rules);
    }
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        assert!(refusals.iter().any(|refused| refused.contains(&rule)), "no case is refused with: {rule}");
    }
}

fn collect_rules(value: &Value, rules: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                rules.push(rule["message"].as_str().expect("a rule without a message of ours").to_owned());
            }
            map.values().for_each(|value| collect_rules(value, rules));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_rules(value, rules)),
        _ => {}
    }
}
