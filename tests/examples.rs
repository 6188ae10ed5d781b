//! The examples are in order, fit together, and run in the world; so does what the README shows.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use feedwater::cli::check::check;
use feedwater::yaml;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const NOT_APPLIED: &str = "secrets.example.yaml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that shows connections for several teams.
fn shared() -> Vec<(String, String)> {
    let folders = ["examples/platform", "examples/sales"].map(|folder| root().join(folder));
    let files =
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let named = |path: PathBuf| (path.to_string_lossy().into_owned(), fs::read_to_string(path).unwrap());
    files.filter(|path| !path.ends_with("kustomization.yaml")).map(named).collect()
}

/// What `examples/sales` asks for is what `examples/platform` allows, and every Secret of the connections may be read beside the operator.
#[test]
fn the_team_of_the_examples_is_allowed_what_it_declares() {
    use feedwater::model::extract::{self, Target};
    use feedwater::model::tenancy::{self, Access, ExtractRequest, Labels, Rules, Tenant};
    let mut objects = Vec::new();
    for (name, text) in shared() {
        let report = check(&text).unwrap();
        assert!(report.faults.is_empty(), "{name}: {:?}", report.faults);
        objects.extend(yaml::documents(&text).unwrap());
    }
    let of = |kind: &str| of_kind(&objects, kind)[0].clone();
    let workspace: feedwater::api::ClusterPrefectWorkspace =
        serde_json::from_value(of("ClusterPrefectWorkspace")).unwrap();
    let site: feedwater::api::ClusterTableauSite = serde_json::from_value(of("ClusterTableauSite")).unwrap();
    let namespace = of("Namespace");
    let labels: Labels = serde_json::from_value(namespace["metadata"]["labels"].clone()).unwrap();
    let who = Tenant { namespace: namespace["metadata"]["name"].as_str().unwrap(), labels: Some(&labels) };
    let (prefect, tableau) = (workspace.spec.allow.as_deref(), site.spec.allow.as_deref());
    let (prefect, tableau) = (Rules::of(Some(prefect)), Rules::of(Some(tableau)));

    let flow: feedwater::api::FlowDeployment = serde_json::from_value(of("FlowDeployment")).unwrap();
    let at = (&flow.spec.workspace_ref).into();
    let access = tenancy::flow(prefect, &at, who, &flow.spec.flow_name, &flow.spec.work_pool.name);
    assert_eq!(access, Access::Allowed);
    let extract: feedwater::api::ExtractRefresh = serde_json::from_value(of("ExtractRefresh")).unwrap();
    let desired = extract::Desired::parse(&extract, None).unwrap();
    let Target::Named { kind, path, name } = &desired.target else { panic!() };
    let target = Some((Some(path.clone()), name.as_str()));
    let request = ExtractRequest { kind: *kind, target, by_luid: false, server_schedules: vec![] };
    assert_eq!(tenancy::extract(tableau, &desired.site, who, &request), Access::Allowed);
    let theirs = extract.spec.upstreams.unwrap()[1].prefect_deployment.clone().unwrap();
    let feed = extract::feed_of_deployment(&theirs);
    assert_eq!(tenancy::upstream(prefect, &at, who, &feed), Access::Allowed);
    assert!(matches!(tenancy::flow(prefect, &at, who, "fx", "etl"), Access::Denied(_)), "another team's");

    let role = of("Role");
    let granted: BTreeSet<String> =
        role["rules"][0]["resourceNames"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(granted, BTreeSet::from(["prefect".to_owned(), "tableau-pat".to_owned()]));
    assert_eq!(role["metadata"]["namespace"], "feedwater-system");
    // kustomize would put a namespace on what has none.
    let folder: Value =
        yaml::from_str(&fs::read_to_string(root().join("examples/platform/kustomization.yaml")).unwrap())
            .unwrap();
    assert!(folder["namespace"].is_null());
}

fn team() -> PathBuf {
    root().join("examples/finance")
}

/// Every YAML file of the team, by name, but for the kustomization.
fn files() -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(team())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
        })
        .filter(|(name, _)| name != "kustomization.yaml")
        .collect();
    files.sort();
    files
}

fn objects() -> Vec<Value> {
    files().iter().flat_map(|(_, text)| yaml::documents(text).unwrap()).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn names(objects: &[Value], kind: &str) -> BTreeSet<String> {
    of_kind(objects, kind).iter().map(|object| text(&object["metadata"]["name"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn every_example_is_in_order() {
    let mut kinds = BTreeSet::new();
    for (name, text) in files() {
        let report = check(&text).unwrap();
        assert!(report.faults.is_empty(), "{name}: {:?}", report.faults);
        kinds.extend(report.checked.iter().map(|checked| checked.split(' ').next().unwrap().to_owned()));
    }
    let all = ["ExtractRefresh", "FlowDeployment", "PrefectWorkspace", "TableauSite"];
    assert!(all.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
}

#[test]
fn everything_is_applied_but_the_secrets() {
    let kustomization: Value =
        yaml::from_str(&fs::read_to_string(team().join("kustomization.yaml")).unwrap()).unwrap();
    let applied: BTreeSet<_> = kustomization["resources"].as_array().unwrap().iter().map(text).collect();
    let there: BTreeSet<_> =
        files().into_iter().map(|(name, _)| name).filter(|name| name != NOT_APPLIED).collect();
    assert_eq!(applied, there);
    for (name, text) in files() {
        let has_secret = !of_kind(&yaml::documents(&text).unwrap(), "Secret").is_empty();
        assert_eq!(has_secret, name == NOT_APPLIED, "{name}");
    }
}

#[test]
fn references_lead_to_something() {
    let objects = objects();
    let (workspaces, sites) = (names(&objects, "PrefectWorkspace"), names(&objects, "TableauSite"));
    let flow_deployments = names(&objects, "FlowDeployment");
    for flow in of_kind(&objects, "FlowDeployment") {
        assert!(workspaces.contains(&text(&flow["spec"]["workspaceRef"]["name"])));
    }
    for extract in of_kind(&objects, "ExtractRefresh") {
        assert!(sites.contains(&text(&extract["spec"]["siteRef"]["name"])));
        for upstream in extract["spec"]["upstreams"].as_array().unwrap() {
            match (upstream.get("flowDeploymentRef"), upstream.get("prefectDeployment")) {
                (Some(reference), None) => assert!(flow_deployments.contains(&text(&reference["name"]))),
                (None, Some(other)) => assert!(workspaces.contains(&text(&other["workspaceRef"]["name"]))),
                _ => panic!("{upstream}"),
            }
        }
    }
}

/// The Secrets a connection names are shown with the keys it reads, and may be read.
#[test]
fn secrets_are_shown_and_granted() {
    let objects = objects();
    let shown = names(&objects, "Secret");
    let mut named = BTreeSet::new();
    for kind in ["PrefectWorkspace", "TableauSite"] {
        for connection in of_kind(&objects, kind) {
            for (way, reference) in connection["spec"]["auth"].as_object().into_iter().flatten() {
                let name = text(&reference["secretRef"]["name"]);
                let secret = of_kind(&objects, "Secret").into_iter().find(|s| s["metadata"]["name"] == *name);
                let secret = secret.unwrap_or_else(|| panic!("{name} is not shown"));
                let keys: Vec<_> = secret["stringData"].as_object().unwrap().keys().cloned().collect();
                match way.as_str() {
                    "personalAccessToken" => assert_eq!(keys, ["name", "secret"]),
                    "basic" => assert_eq!(keys, ["password", "username"]),
                    "apiKey" => assert_eq!(keys, ["apiKey"]),
                    other => panic!("say here which keys {other} reads"),
                }
                named.insert(name);
            }
        }
    }
    assert_eq!(shown, named);
    let role = of_kind(&objects, "Role")[0];
    let granted: BTreeSet<_> =
        role["rules"][0]["resourceNames"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(granted, named);
}

/// The world's worker starts its runs in `tests/world`, so each entrypoint must be there, and its flow have the declared name.
#[test]
fn every_entrypoint_is_a_flow_of_the_world() {
    let objects = objects();
    for flow in of_kind(&objects, "FlowDeployment") {
        let entrypoint = text(&flow["spec"]["entrypoint"]);
        let (file, function) = entrypoint.split_once(':').unwrap();
        let code = fs::read_to_string(root().join("tests/world").join(file)).unwrap_or_default();
        let name = text(&flow["spec"]["flowName"]);
        assert!(code.contains(&format!("def {function}(")), "tests/world/{file} has no {function}");
        assert!(code.contains(&format!("@flow(name=\"{name}\")")), "tests/world/{file} has no flow {name}");
        for parameter in flow["spec"]["parameters"].as_object().into_iter().flatten() {
            assert!(
                code.contains(&format!("{}: ", parameter.0)),
                "tests/world/{file} takes no {}",
                parameter.0
            );
        }
    }
}

/// What stands in a page between a line that begins so and the next one that is `end`.
fn blocks<'a>(page: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
    let rest = page.split(begin).skip(1);
    rest.map(|rest| rest.split(end).next().unwrap()).collect()
}

/// The resources of ours in a block, which are in order. What is a part of one (`spec:` and less) is YAML at least.
fn in_order(page: &str, block: &str) -> usize {
    let report = check(block).unwrap_or_else(|error| panic!("{page}: {error}\n{block}"));
    assert!(report.faults.is_empty(), "{page}: {:?}\n{block}", report.faults);
    for document in yaml::documents(block).unwrap() {
        assert!(document.is_object() || document.is_array(), "{page}: {document}\n{block}");
        let named = document.get("kind").is_some();
        assert!(!named || document.get("apiVersion").is_some(), "{page}: a kind without apiVersion\n{block}");
    }
    report.checked.len()
}

#[test]
fn what_the_pages_show_is_in_order() {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let readme = read(&root().join("README.md"));
    let shown: usize =
        blocks(&readme, "```yaml\n", "```").iter().map(|block| in_order("README.md", block)).sum();
    assert!(shown >= 4, "the two-minute example has four resources");
    let mut pages = 0;
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let page = read(&path);
            let blocks = blocks(&page, "```yaml\n", "```");
            for block in &blocks {
                in_order(&path.to_string_lossy(), block);
            }
            pages += usize::from(!blocks.is_empty());
        }
    }
    assert!(pages >= 10, "{pages} pages with YAML");
    // What a shell is told to write, with the world's addresses put in.
    let first = read(&root().join("docs/first-resource.md"));
    let written: usize = blocks(&first, "<<EOF\n", "\nEOF\n")
        .into_iter()
        .map(|block| {
            let url = |name: &str| (format!("$(at {name})"), "http://127.0.0.1:4200/api");
            let names = ["prefectApiUrl", "tableauUrl"].map(url);
            let block = names.iter().fold(block.to_owned(), |text, (from, to)| text.replace(from, to));
            assert!(!block.contains("$("), "{block}");
            in_order("docs/first-resource.md", &block)
        })
        .sum();
    assert_eq!(written, 4, "both connections, the flow and the extract");
}
