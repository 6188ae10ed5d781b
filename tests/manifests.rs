//! What is shipped to be applied: parses, asks for no right too many, and starts the operator with flags it has.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

#[path = "manifests/values.rs"]
mod values;

use clap::Parser;
use feedwater::api::schema;
use feedwater::settings::{RunArgs, Scope};
use feedwater::yaml;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn documents(path: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(path);
    yaml::documents(&fs::read_to_string(&file).unwrap()).unwrap()
}

fn of_kind(path: &str, kind: &str) -> Value {
    documents(path).into_iter().find(|document| document["kind"] == kind).unwrap()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn the_cluster_role_reads_no_secret_and_writes_nothing_but_ours() {
    let role = of_kind("base/cluster-role.yaml", "ClusterRole");
    for rule in role["rules"].as_array().unwrap() {
        let (groups, resources, verbs) =
            (words(&rule["apiGroups"]), words(&rule["resources"]), words(&rule["verbs"]));
        for wide in ["*", "secrets"] {
            assert!(
                !groups.contains(&wide) && !resources.contains(&wide) && !verbs.contains(&wide),
                "{rule}"
            );
        }
        let writes = verbs.iter().any(|verb| !["get", "list", "watch"].contains(verb));
        assert!(!writes || groups == ["feedwater.dev"] || groups == ["events.k8s.io"], "{rule}");
        assert!(!verbs.contains(&"delete"), "{rule}");
    }
}

#[test]
fn every_kind_can_be_followed_and_its_status_written() {
    let role = of_kind("base/cluster-role.yaml", "ClusterRole");
    let allowed = |resource: &str, verb: &str| {
        role["rules"].as_array().unwrap().iter().any(|rule| {
            words(&rule["resources"]).contains(&resource) && words(&rule["verbs"]).contains(&verb)
        })
    };
    for crd in schema::crds().unwrap() {
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        for verb in ["get", "list", "watch", "patch"] {
            assert!(allowed(plural, verb), "{verb} {plural}");
        }
        assert!(allowed(&format!("{plural}/status"), "patch"), "{plural}/status");
    }
}

#[test]
fn people_get_every_kind_by_the_roles_they_have_and_its_status_never() {
    let roles = documents("base/people.yaml");
    let named = |name: &str| roles.iter().find(|role| role["metadata"]["name"] == name).unwrap();
    for crd in schema::crds().unwrap() {
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        let of_cluster = crd["spec"]["scope"] == "Cluster";
        for (role, has) in
            [("feedwater-view", true), ("feedwater-edit", !of_cluster), ("feedwater-platform", of_cluster)]
        {
            let resources = words(&named(role)["rules"][0]["resources"]);
            assert_eq!(resources.contains(&plural), has, "{role}: {plural}");
        }
    }
    // Who may write connections of the cluster is said by a binding alone; so is who may write flows and refreshes, and no connection.
    for role in ["feedwater-platform", "feedwater-team"] {
        let labels = named(role)["metadata"]["labels"].to_string();
        assert!(!labels.contains("aggregate"), "{labels}");
    }
    let team = named("feedwater-team")["rules"].clone();
    let written = team.as_array().unwrap().iter().filter(|rule| words(&rule["verbs"]).contains(&"create"));
    let written: Vec<&str> = written.flat_map(|rule| words(&rule["resources"])).collect();
    assert_eq!(written, ["flowdeployments", "extractrefreshes"]);
    // In a single namespace they are Roles there, and say what is not added to Kubernetes' own.
    let local = documents("namespaced/people.yaml");
    let theirs: Vec<&str> = local.iter().map(|role| role["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(theirs, ["feedwater-view", "feedwater-edit", "feedwater-team"]);
    assert_eq!(local[2]["rules"], team);
    for crd in schema::crds().unwrap().iter().filter(|crd| crd["spec"]["scope"] == "Namespaced") {
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        assert!(local[..2].iter().all(|role| words(&role["rules"][0]["resources"]).contains(&plural)));
    }
    for role in roles.iter().chain(&local) {
        assert!(role["rules"].as_array().unwrap().iter().all(|rule| {
            words(&rule["apiGroups"]) == ["feedwater.dev"]
                && words(&rule["resources"]).iter().all(|resource| !resource.contains(['/', '*']))
        }));
    }
    let applied = documents("base/kustomization.yaml")[0]["resources"].clone();
    assert!(words(&applied).contains(&"people.yaml"));
}

#[test]
fn one_namespace_needs_the_same_rights_but_for_the_cluster_itself() {
    let cluster = of_kind("base/cluster-role.yaml", "ClusterRole");
    let mut rules = cluster["rules"].as_array().unwrap().clone();
    rules.retain(|rule| {
        let resources = words(&rule["resources"]);
        resources != ["namespaces"] && !resources.iter().all(|resource| resource.starts_with("cluster"))
    });
    assert_eq!(of_kind("namespaced/role.yaml", "Role")["rules"], Value::from(rules));
}

#[test]
fn the_lease_that_may_be_written_is_the_one_that_is_used() {
    let role = of_kind("operator/lease.yaml", "Role");
    let settings = settings(&["run", "--lease-namespace=a"]);
    assert_eq!(words(&role["rules"][1]["resourceNames"]), [settings.lease.name]);
    let mut verbs: Vec<&str> =
        role["rules"].as_array().unwrap().iter().flat_map(|r| words(&r["verbs"])).collect();
    verbs.sort_unstable();
    assert_eq!(verbs, ["create", "get", "update"], "what an election does, and no more");
}

#[test]
fn two_replicas_are_kept_apart_and_never_both_taken_away() {
    let deployment = of_kind("operator/deployment.yaml", "Deployment");
    let (spec, pod) = (&deployment["spec"], &deployment["spec"]["template"]);
    assert_eq!(spec["replicas"], 2);
    // A standby has to be there, and Ready, before the leader of the old version is asked to end.
    let update = &spec["strategy"]["rollingUpdate"];
    assert!(update["maxUnavailable"] == 0 && update["maxSurge"].as_u64() > Some(0), "{update}");
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    let selects = |selector: &Value| {
        let wanted = selector["matchLabels"].as_object().unwrap();
        !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let budget = of_kind("operator/disruption-budget.yaml", "PodDisruptionBudget");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    assert!(selects(&budget["spec"]["selector"]), "the budget is about other Pods");
    let apart = pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        .as_array()
        .unwrap();
    let by = |key: &str| {
        apart.iter().any(|term| {
            let term = &term["podAffinityTerm"];
            term["topologyKey"] == key && selects(&term["labelSelector"])
        })
    };
    assert!(by("kubernetes.io/hostname") && by("topology.kubernetes.io/zone"), "{apart:?}");
    let applied = documents("operator/kustomization.yaml")[0]["resources"].clone();
    assert!(words(&applied).contains(&"disruption-budget.yaml"));
}

#[test]
fn the_network_lets_through_what_the_operator_needs() {
    let policy = of_kind("network-policy/network-policy.yaml", "NetworkPolicy")["spec"].clone();
    let deployment = of_kind("operator/deployment.yaml", "Deployment");
    let pod = &deployment["spec"]["template"];
    assert_eq!(policy["podSelector"]["matchLabels"], pod["metadata"]["labels"]);
    let port = &pod["spec"]["containers"][0]["ports"][0]["name"];
    assert_eq!(&policy["ingress"][0]["ports"][0]["port"], port, "probes and metrics");
    assert_eq!(words(&policy["policyTypes"]), ["Ingress", "Egress"]);
    let out = policy["egress"].as_array().unwrap().iter().flat_map(|rule| rule["ports"].as_array().unwrap());
    let out: Vec<u64> = out.map(|port| port["port"].as_u64().unwrap()).collect();
    assert_eq!(
        out,
        [53, 53, 5353, 5353, 443, 6443],
        "DNS, the API server and what speaks https, and no more"
    );
    let patch = documents("high-availability/kustomization.yaml")[0]["patches"][0]["patch"].clone();
    let patch: Value = yaml::from_str(patch.as_str().unwrap()).unwrap();
    let spread = &patch.as_array().unwrap()[1]["value"][0];
    assert_eq!(
        spread["labelSelector"]["matchLabels"], pod["metadata"]["labels"],
        "the spread is about other Pods"
    );
}

#[test]
fn the_chart_has_the_programs_version() {
    let chart = documents("helm/feedwater/Chart.yaml").remove(0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&Value::from(version), &Value::from(version)));
}

#[test]
fn the_operator_starts_with_flags_it_has_and_with_time_to_end() {
    let deployment = of_kind("operator/deployment.yaml", "Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let args = words(&pod["containers"][0]["args"]);
    let settings = settings(&[&args[..], &["--lease-namespace=a"]].concat());
    assert_eq!(settings.scope, Scope::Cluster);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > settings.shutdown_grace.as_secs() + 5, "the Lease must be given back after the grace");
    let port = pod["containers"][0]["ports"][0]["containerPort"].as_u64().unwrap();
    assert_eq!(port, u64::from(settings.admin_address.port()));
    assert!(pod["containers"][0]["image"].as_str().unwrap().ends_with(env!("CARGO_PKG_VERSION")));
}

/// What the page on signing in has put into the Deployment starts it, with all that was there.
#[test]
fn the_deployment_takes_the_token_that_the_page_shows() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tableau-sign-in.md");
    let page = fs::read_to_string(page).unwrap();
    let shown = page.split("```yaml\n").map(|block| block.split("```").next().unwrap());
    let shown = yaml::documents(shown.clone().find(|block| block.contains("/args/-")).unwrap()).unwrap();
    let patch: Value = yaml::from_str(shown[0]["patches"][0]["patch"].as_str().unwrap()).unwrap();
    let mut deployment = of_kind("operator/deployment.yaml", "Deployment");
    for operation in patch.as_array().unwrap() {
        assert_eq!(operation["op"], "add");
        let (to, value) = (operation["path"].as_str().unwrap(), operation["value"].clone());
        if let Some(list) = to.strip_suffix("/-") {
            deployment.pointer_mut(list).unwrap().as_array_mut().unwrap().push(value);
        } else {
            // Adding would replace what is there.
            assert!(deployment.pointer(to).is_none(), "{to}");
            let (parent, key) = to.rsplit_once('/').unwrap();
            deployment.pointer_mut(parent).unwrap()[key] = value;
        }
    }
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let args = words(&container["args"]);
    assert_eq!(args[0], "run");
    let _ = settings(&[&args[..], &["--lease-namespace=a"]].concat());
    let mounted = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    assert!(args.iter().any(|arg| arg.contains(&format!("file={mounted}/"))), "{args:?}");
    assert_eq!(container["volumeMounts"][0]["name"], pod["volumes"][0]["name"]);
}

#[test]
fn a_tenant_grants_secrets_by_name_to_the_operator_of_the_base() {
    let role = of_kind("tenant/secret-reader.yaml", "Role");
    for rule in role["rules"].as_array().unwrap() {
        assert!(!words(&rule["resourceNames"]).is_empty(), "{rule}");
        assert_eq!(words(&rule["verbs"]), ["get", "list", "watch"]);
    }
    let subject = of_kind("tenant/secret-reader.yaml", "RoleBinding")["subjects"][0].clone();
    assert_eq!(
        subject["name"],
        of_kind("operator/service-account.yaml", "ServiceAccount")["metadata"]["name"]
    );
    assert_eq!(subject["namespace"], documents("base/kustomization.yaml")[0]["namespace"]);
}

/// What is requested holds what was measured, and the limit the largest growth that it was measured by, several times.
#[test]
fn the_memory_that_is_asked_for_is_what_was_measured() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = |name: &str| fs::read_to_string(root.join("docs").join(name)).unwrap();
    let (limits, install) = (page("limits.md"), page("install.md"));
    let before = |text: &str, what: &str| -> u64 {
        let at = text.find(what).unwrap_or_else(|| panic!("{what} is not said"));
        text[..at].rsplit(char::is_whitespace).next().unwrap().parse().unwrap()
    };
    let idle = before(&limits, " MiB without resources");
    let full = before(&limits, " MiB with 300 `FlowDeployment`s and 300 `ExtractRefresh`es");
    let container =
        &of_kind("operator/deployment.yaml", "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let asked = |which: &str| -> u64 {
        let memory = container["resources"][which]["memory"].as_str().unwrap();
        memory.strip_suffix("Mi").unwrap().parse().unwrap()
    };
    let (request, limit) = (asked("requests"), asked("limits"));
    assert!(idle < full && full <= request, "{full} MiB were measured, {request} are requested");
    // A thousand of each kind, as the page says, and half of it for what comes and goes.
    let thousand = idle + (full - idle) * 2000 / 600;
    assert!(thousand * 2 <= limit, "{thousand} MiB for some thousand resources, of {limit}");
    assert_eq!(before(&limits, " MiB and allow"), request);
    assert_eq!(before(&limits, " MiB (`tests/manifests.rs`"), limit);
    assert_eq!(before(&install, " MiB are requested"), request);
    assert_eq!(before(&install, " MiB are the limit"), limit);
    assert!(
        install.contains(&format!("{} CPU", container["resources"]["requests"]["cpu"].as_str().unwrap()))
    );
}

/// There may be no container engine where this runs: what the image will be is read from the file that makes it.
#[test]
fn the_image_holds_one_program_and_runs_as_the_deployment_wants() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("Containerfile")).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let last = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    let image: Vec<&str> = lines[last..].iter().copied().filter(|line| !line.is_empty()).collect();
    assert_eq!(image[0], "FROM scratch", "no shell, no package manager");
    let of = |word: &str| -> Vec<&str> { image.iter().filter_map(|line| line.strip_prefix(word)).collect() };
    // The program, the authorities it trusts, and the licences. That the program is static is seen where it is built, or there is no image.
    assert_eq!(of("COPY ").len(), 3, "{image:?}");
    let checked = "RUN readelf --program-headers --dynamic target/release/feedwater > /elf && ! grep -E 'INTERP|NEEDED' /elf";
    assert!(lines[..last].contains(&checked), "{lines:?}");
    assert!(of("COPY ").iter().all(|copy| copy.starts_with("--from=build ")), "{image:?}");
    assert!(of("RUN ").is_empty() && of("ENV ").is_empty(), "{image:?}");
    let pod = &of_kind("operator/deployment.yaml", "Deployment")["spec"]["template"]["spec"];
    let (user, group) = (&pod["securityContext"]["runAsUser"], &pod["securityContext"]["runAsGroup"]);
    assert_eq!(of("USER "), [format!("{user}:{group}")]);
    assert_eq!(of("ENTRYPOINT "), [r#"["/feedwater"]"#]);
    let container = &pod["containers"][0];
    assert!(
        container["command"].is_null() && container["args"][0] == "run",
        "the entry point is the image's"
    );
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    // What the build needs is sent to it, and is there.
    let sent = fs::read_to_string(root.join(".dockerignore")).unwrap();
    for path in sent.lines().filter_map(|line| line.strip_prefix('!')) {
        assert!(root.join(path).exists(), "{path}");
    }
    let cargo = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let oldest =
        cargo.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(
        text.contains(&format!("FROM rust:{oldest}-alpine AS build")),
        "built by the oldest Rust we promise"
    );
}

fn settings(args: &[&str]) -> feedwater::settings::Settings {
    #[derive(Parser)]
    struct Run {
        #[command(flatten)]
        args: RunArgs,
    }
    Run::try_parse_from(args).unwrap().args.settle(|_| None).unwrap()
}
