use super::*;
use serde_json::{Value, json};

fn named(text: &str) -> ConnectionName {
    ConnectionName::parse(text)
}

fn flow(finalizers: &[&str], deleting: bool, spec: &Value, status: &Value) -> FlowDeployment {
    let mut object = json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment",
        "metadata": {"name": "orders", "namespace": "finance", "finalizers": finalizers},
        "spec": {"workspaceRef": {"name": "prod"}, "flowName": "orders", "entrypoint": "f.py:f", "workPool": {"name": "etl"}},
        "status": {"observedGeneration": 1, "conditions": []},
    });
    mix(&mut object, deleting, spec, status);
    serde_json::from_value(object).unwrap()
}

fn extract(finalizers: &[&str], deleting: bool, spec: &Value, status: &Value) -> ExtractRefresh {
    let mut object = json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh",
        "metadata": {"name": "orders", "namespace": "finance", "finalizers": finalizers},
        "spec": {"siteRef": {"name": "acme"}, "target": {"kind": "Datasource", "luid": "x"}},
        "status": {"observedGeneration": 1, "conditions": []},
    });
    mix(&mut object, deleting, spec, status);
    serde_json::from_value(object).unwrap()
}

fn mix(object: &mut Value, deleting: bool, spec: &Value, status: &Value) {
    if deleting {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-24T10:00:00Z");
    }
    for (part, fields) in [("spec", spec), ("status", status)] {
        for (key, value) in fields.as_object().unwrap() {
            object[part][key] = value.clone();
        }
    }
}

const OURS: &[&str] = &[FINALIZER];

#[test]
fn a_flow_needs_the_workspace_where_its_deployment_is() {
    let made = || json!({"fullName": "orders/orders", "workspace": "prod", "deploymentId": "id"});
    let (none, orphan) = (json!({}), json!({"deletionPolicy": "Orphan"}));
    let moved = json!({"workspaceRef": {"name": "next"}});
    let observe = json!({"managementPolicy": "Observe"});
    let adopted = json!({"fullName": "orders/orders", "workspace": "prod", "adopted": true});
    let table = vec![
        ("at rest", flow(OURS, false, &none, &made()), Need::Now, Need::Never),
        ("new", flow(&[], false, &none, &none), Need::Later, Need::Never),
        ("about to create", flow(OURS, false, &none, &none), Need::Later, Need::Never),
        ("going", flow(OURS, true, &none, &made()), Need::Now, Need::Never),
        ("gone in Prefect", flow(OURS, true, &none, &none), Need::Never, Need::Never),
        ("released", flow(&["other"], true, &none, &made()), Need::Never, Need::Never),
        ("moving", flow(OURS, false, &moved, &made()), Need::Now, Need::Later),
        ("going while it moves", flow(OURS, true, &moved, &made()), Need::Now, Need::Never),
        ("left behind", flow(OURS, true, &orphan, &made()), Need::Never, Need::Never),
        ("to be left behind", flow(&[], false, &orphan, &made()), Need::Never, Need::Never),
        ("observes", flow(&[], false, &observe, &none), Need::Never, Need::Never),
        ("adopted", flow(OURS, false, &none, &adopted), Need::Never, Need::Never),
    ];
    for (case, flow, prod, next) in table {
        assert_eq!(
            (flow_need(&flow, &named("prod")), flow_need(&flow, &named("next"))),
            (prod, next),
            "{case}"
        );
    }
}

#[test]
fn an_extract_needs_the_site_only_for_its_schedules() {
    let none = json!({});
    let schedules = json!({"schedules": [{"name": "nightly", "frequency": "Daily", "start": "02:00"}]});
    let with = |key: &str, value: &str| {
        let mut spec = schedules.clone();
        spec[key] = json!(value);
        spec
    };
    let made = json!({"schedules": [{"name": "nightly", "taskId": "t"}]});
    let lost = json!({"schedules": [{"name": "nightly"}]});
    let intended = json!({"scheduleIntent": {"id": "i", "name": "nightly", "luid": "x", "definition": "d", "knownTasks": []}});
    let table = vec![
        ("no schedules", extract(&[], false, &none, &none), Need::Never),
        ("new", extract(&[], false, &schedules, &none), Need::Later),
        ("made", extract(OURS, false, &schedules, &made), Need::Now),
        ("being made", extract(OURS, false, &schedules, &intended), Need::Now),
        ("taken out of the spec, still there", extract(OURS, false, &none, &made), Need::Now),
        ("taken out of the spec, and gone", extract(OURS, false, &none, &lost), Need::Never),
        ("going", extract(OURS, true, &schedules, &made), Need::Now),
        ("gone in Tableau", extract(OURS, true, &schedules, &lost), Need::Never),
        ("released", extract(&["other"], true, &schedules, &made), Need::Never),
        ("left behind", extract(OURS, true, &with("deletionPolicy", "Orphan"), &made), Need::Never),
        (
            "observes what it made",
            extract(OURS, false, &with("managementPolicy", "Observe"), &made),
            Need::Never,
        ),
        ("observes", extract(&[], false, &with("managementPolicy", "Observe"), &none), Need::Never),
    ];
    for (case, extract, need) in table {
        assert_eq!(
            (extract_need(&extract, &named("acme")), extract_need(&extract, &named("other"))),
            (need, Need::Never),
            "{case}"
        );
    }
}

#[test]
fn an_extract_needs_the_site_where_its_warning_is_also_when_it_names_another() {
    let none = json!({});
    let warned = |state: &str, site: &str| json!({"dataQualityWarning": {"state": state, "site": site, "luid": "x", "tries": 0}});
    for (case, extract, acme, old) in [
        ("shown here", extract(OURS, false, &none, &warned("Set", "acme")), Need::Now, Need::Never),
        ("moved", extract(OURS, false, &none, &warned("Set", "old")), Need::Never, Need::Now),
        ("on its way", extract(OURS, false, &none, &warned("Setting", "old")), Need::Never, Need::Now),
        ("never set", extract(OURS, false, &none, &warned("Refused", "old")), Need::Never, Need::Never),
        ("moved and going", extract(OURS, true, &none, &warned("Set", "old")), Need::Never, Need::Now),
        ("released", extract(&[], true, &none, &warned("Set", "old")), Need::Never, Need::Never),
        (
            "left behind",
            extract(OURS, false, &json!({"deletionPolicy": "Orphan"}), &warned("Set", "old")),
            Need::Never,
            Need::Never,
        ),
    ] {
        assert_eq!(
            (extract_need(&extract, &named("acme")), extract_need(&extract, &named("old"))),
            (acme, old),
            "{case}"
        );
    }
}

#[test]
fn a_connection_is_held_before_it_is_needed_and_let_go_with_the_last_who_needs_it() {
    let (live, leaving) = (false, true);
    let table = [
        (live, false, Need::Never, Keep::Rest),
        (live, false, Need::Later, Keep::Hold),
        (live, false, Need::Now, Keep::Hold),
        (live, true, Need::Never, Keep::Release),
        (live, true, Need::Later, Keep::Rest),
        (live, true, Need::Now, Keep::Rest),
        (leaving, true, Need::Never, Keep::Release),
        (leaving, true, Need::Later, Keep::Release),
        (leaving, true, Need::Now, Keep::Stay),
        (leaving, false, Need::Never, Keep::Rest),
        (leaving, false, Need::Later, Keep::Rest),
        (leaving, false, Need::Now, Keep::Rest),
    ];
    for (leaving, holds, need, then) in table {
        assert_eq!(keep(holds, leaving, need), then, "leaving {leaving}, held {holds}, {need:?}");
    }
}

#[test]
fn a_held_connection_says_who_needs_it_and_what_to_do() {
    let user = |name: &str, leaving| User { leaving, kind: "FlowDeployment", name: name.into() };
    let say = |users: &[User], trouble| in_use("Prefect", users, trouble).message;
    assert_eq!(
        say(&[user("b", true), user("a", false)], None),
        "Deleted, and kept until these have cleaned up in Prefect: FlowDeployment `a` and FlowDeployment `b`; delete them, have them name \
         another connection, or set their deletionPolicy to Orphan"
    );
    let many: Vec<User> = (0..250).map(|n| user(&format!("f{n:03}"), true)).collect();
    let rest = "they are being deleted, and it goes with the last of them";
    for (count, others) in
        [(4, "1 other"), (12, "9 others"), (13, "10 or more others"), (250, "100 or more others")]
    {
        assert_eq!(
            say(&many[..count], None),
            format!(
                "Deleted, and kept until these have cleaned up in Prefect: FlowDeployment `f000`, FlowDeployment `f001`, FlowDeployment \
                 `f002` and {others}; {rest}"
            )
        );
    }
    assert!(
        say(&many[..1], Some("Unreachable")).contains("(Unreachable) they wait for the cleanup deadline")
    );
    assert!(
        say(&[user("a", false)], Some("Unreachable"))
            .ends_with("Orphan; it cannot be used now (Unreachable)")
    );
    // Who is not being deleted is named first, however many are.
    let mut mixed = many;
    mixed.push(user("zebra", false));
    assert!(say(&mixed, None).contains(": FlowDeployment `zebra`, FlowDeployment `f000`"));
}
