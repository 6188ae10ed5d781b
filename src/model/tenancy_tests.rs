use super::*;
use crate::model::feeds::Selector;
use crate::model::ids::DeploymentName;
use proptest::prelude::*;
use serde_json::{Value, json};

fn prefect(allow: &Value) -> Vec<PrefectAllow> {
    serde_json::from_value(allow.clone()).unwrap()
}

fn tableau(allow: &Value) -> Vec<TableauAllow> {
    serde_json::from_value(allow.clone()).unwrap()
}

fn labels(all: &[(&str, &str)]) -> Labels {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn prod() -> ConnectionName {
    ConnectionName::cluster("prod")
}

fn why(access: Access) -> String {
    match access {
        Access::Denied(why) => why,
        Access::Allowed => "allowed".into(),
        Access::Unknown => "unknown".into(),
    }
}

const ALL: [&str; 1] = ["*"];

#[test]
fn who_is_let_in() {
    let of_team = json!({"matchLabels": {"team": "finance"}});
    let table = [
        (json!(null), "allows nothing"),
        (json!([]), "allows nothing"),
        (json!([{"namespaces": {}}]), "allows nothing"),
        (json!([{"namespaces": {"names": ["finance"]}}]), "allowed"),
        (json!([{"namespaces": {"names": ["finance-2", "sales"]}}]), "allows nothing"),
        (json!([{"namespaces": {"selector": of_team}}]), "allowed"),
        (json!([{"namespaces": {"selector": {"matchLabels": {"team": "sales"}}}}]), "allows nothing"),
        (
            json!([{"namespaces": {"selector": {"matchLabels": {"team": "finance", "tier": "1"}}}}]),
            "allows nothing",
        ),
        (json!([{"namespaces": {"selector": {"matchLabels": {}}}}]), "allows nothing"),
        (json!([{"namespaces": {"names": ["finance"], "selector": of_team}}]), "allowed"),
        (json!([{"namespaces": {"names": ["sales"], "selector": of_team}}]), "allows nothing"),
        (
            json!([{"namespaces": {"names": ["finance"], "selector": {"matchLabels": {"team": "x"}}}}]),
            "allows nothing",
        ),
        (json!([{"namespaces": {"names": ["sales"]}}, {"namespaces": {"names": ["finance"]}}]), "allowed"),
    ];
    let known = labels(&[("team", "finance")]);
    for (mut allow, expected) in table {
        for (number, entry) in allow.as_array_mut().into_iter().flatten().enumerate() {
            (entry["name"], entry["flows"], entry["workPools"]) =
                (json!(format!("entry-{number}")), json!(ALL), json!(ALL));
        }
        let rules = (!allow.is_null()).then(|| prefect(&allow));
        let who = Tenant { namespace: "finance", labels: Some(&known) };
        let access = why(flow(Rules::of(Some(rules.as_deref())), &prod(), who, "orders", "etl"));
        assert!(access.contains(expected), "{allow}: {access}");
    }
}

#[test]
fn of_a_connection_that_is_not_there_nobody_knows_what_it_allows() {
    let known = labels(&[("team", "finance")]);
    for labels in [None, Some(&known)] {
        let who = Tenant { namespace: "finance", labels };
        assert_eq!(flow(Rules::Missing, &prod(), who, "orders", "etl"), Access::Unknown);
        let feed = Feed::Deployment(DeploymentName { flow: "crm".into(), deployment: "crm".into() });
        assert_eq!(upstream(Rules::Missing, &prod(), who, &feed), Access::Unknown);
        let request = ExtractRequest {
            kind: TargetKind::Datasource,
            target: None,
            by_luid: true,
            server_schedules: Vec::new(),
        };
        assert_eq!(extract(Rules::Missing, &prod(), who, &request), Access::Unknown);
    }
}

#[test]
fn labels_that_are_not_read_are_waited_for_only_where_they_matter() {
    let team = json!({"selector": {"matchLabels": {"team": "finance"}}});
    let entry = |namespaces: &Value, flows: &str| json!({"name": "a", "namespaces": namespaces, "flows": [flows], "workPools": ["*"]});
    for (allow, expected) in [
        (json!([entry(&team, "*")]), Access::Unknown),
        (json!([entry(&team, "*"), entry(&json!({"names": ["finance"]}), "*")]), Access::Allowed),
    ] {
        let who = Tenant { namespace: "finance", labels: None };
        assert_eq!(flow(Rules::Are(&prefect(&allow)), &prod(), who, "orders", "etl"), expected, "{allow}");
    }
    let who = Tenant { namespace: "finance", labels: None };
    let never = flow(Rules::Are(&prefect(&json!([entry(&team, "sales-*")]))), &prod(), who, "orders", "etl");
    assert!(matches!(never, Access::Denied(_)), "no label would help: {never:?}");
}

#[test]
fn one_entry_has_to_allow_all_of_it_and_a_refusal_says_what_none_does() {
    let here = json!({"names": ["finance"]});
    let allow = prefect(&json!([
        {"name": "a", "namespaces": here, "flows": ["finance-*"], "workPools": ["finance"]},
        {"name": "b", "namespaces": here, "flows": ["shared"], "workPools": ["big"]},
        {"name": "c", "namespaces": {"names": ["sales"]}, "flows": ["secret"], "workPools": ["gpu"]},
        {"name": "d", "namespaces": here},
    ]));
    for (name, pool, expected) in [
        ("finance-fx", "finance", "allowed"),
        ("shared", "big", "allowed"),
        ("shared", "finance", "flow `shared`, work pool `finance` together"),
        ("finance-fx", "gpu", "work pool `gpu`"),
        ("secret", "finance", "flow `secret`"),
        ("secret", "gpu", "flow `secret`, work pool `gpu`"),
    ] {
        let who = Tenant { namespace: "finance", labels: None };
        let access = why(flow(Rules::Are(&allow), &prod(), who, name, pool));
        assert!(access.contains(expected), "{name} {pool}: {access}");
        assert!(!access.contains("sales") && !access.contains("finance-*"), "others' rules: {access}");
        if expected != "allowed" {
            assert!(access.contains("ClusterPrefectWorkspace `prod`"), "{access}");
        }
    }
}

#[test]
fn whose_runs_may_be_seen() {
    let deployment =
        |flow: &str| Feed::Deployment(DeploymentName { flow: flow.into(), deployment: "hourly".into() });
    let runs = || Feed::Runs(Selector::new(["crm"], None).unwrap());
    for (upstreams, feed, allowed) in [
        (json!(["finance-*/*"]), deployment("finance-fx"), true),
        (json!(["finance-*/*"]), deployment("crm"), false),
        (json!(["finance-*"]), deployment("finance-fx"), false),
        (json!(["**"]), deployment("crm"), true),
        (json!(["**"]), runs(), true),
        (json!(["*/*"]), runs(), false),
        (json!(["/bad", "**"]), runs(), true),
        (json!(["/bad"]), deployment("bad"), false),
        (json!([]), deployment("crm"), false),
        (json!(null), deployment("crm"), false),
    ] {
        let allow =
            prefect(&json!([{"name": "a", "namespaces": {"names": ["finance"]}, "upstreams": upstreams}]));
        let who = Tenant { namespace: "finance", labels: None };
        let access = upstream(Rules::Are(&allow), &prod(), who, &feed);
        assert_eq!(access == Access::Allowed, allowed, "{upstreams} {feed:?} {access:?}");
    }
}

#[test]
fn which_extracts_may_be_refreshed() {
    use TargetKind::{Datasource, Workbook};
    let allow = tableau(&json!([{
        "name": "a", "namespaces": {"names": ["finance"]}, "projects": ["Finance/**", r"A\/B"], "kinds": ["Datasource"],
        "names": ["Orders*"], "serverSchedules": ["Nightly*"],
    }]));
    let path = |text: &str| ProjectPath::parse(text);
    let request = |kind, path, name, schedule: Option<&'static str>| ExtractRequest {
        kind,
        target: Some((path, name)),
        by_luid: false,
        server_schedules: schedule.into_iter().collect(),
    };
    for (asked, expected) in [
        (request(Datasource, path("Finance"), "Orders", None), "allowed"),
        (request(Datasource, path("Finance/Sales/EU"), "Orders EU", Some("Nightly 2")), "allowed"),
        (request(Datasource, path(r"A\/B"), "Orders", None), "allowed"),
        (request(Datasource, path("A/B"), "Orders", None), "project `A/B`"),
        (request(Datasource, path("HR"), "Orders", None), "project `HR`"),
        (request(Datasource, None, "Orders", None), "no project"),
        (request(Workbook, path("Finance"), "Orders", None), "kind Workbook"),
        (request(Datasource, path("Finance"), "Salaries", None), "name `Salaries`"),
        (request(Datasource, path("Finance"), "Orders", Some("Weekly")), "server schedule `Weekly`"),
        (
            ExtractRequest { kind: Datasource, target: None, by_luid: true, server_schedules: vec![] },
            "allowed",
        ),
        (
            ExtractRequest { by_luid: true, ..request(Datasource, path("HR"), "Salaries", None) },
            "not allow to namespace `finance`: the project of the content with this LUID, the name of the content with this LUID;",
        ),
    ] {
        let who = Tenant { namespace: "finance", labels: None };
        let access = why(extract(Rules::Are(&allow), &prod(), who, &asked));
        assert!(access.contains(expected), "{asked:?}: {access}");
    }
}

#[test]
fn expressions_choose_as_those_of_kubernetes_do() {
    let expression = |key: &str, operator: &str, values: &Value| {
        let mut one = json!({"key": key, "operator": operator});
        if !values.is_null() {
            one["values"] = values.clone();
        }
        one
    };
    // Labels of the Namespace, what is asked of them, and whether that holds.
    let table = [
        (&[("team", "finance")][..], expression("team", "In", &json!(["sales", "finance"])), true),
        (&[("team", "finance")], expression("team", "In", &json!(["sales"])), false),
        (&[], expression("team", "In", &json!(["finance"])), false),
        (&[("team", "finance")], expression("team", "NotIn", &json!(["sales"])), true),
        (&[("team", "finance")], expression("team", "NotIn", &json!(["sales", "finance"])), false),
        (&[], expression("team", "NotIn", &json!(["finance"])), true),
        (&[("team", "")], expression("team", "Exists", &json!(null)), true),
        (&[("tier", "1")], expression("team", "Exists", &json!(null)), false),
        (&[("tier", "1")], expression("team", "DoesNotExist", &json!(null)), true),
        (&[("team", "")], expression("team", "DoesNotExist", &json!(null)), false),
        // What is none allows nothing, and says so.
        (&[("team", "finance")], expression("team", "In", &json!(null)), false),
        (&[], expression("team", "NotIn", &json!(null)), false),
        (&[], expression("team", "NotIn", &json!([])), false),
        (&[("team", "finance")], expression("team", "Exists", &json!(["finance"])), false),
        (&[("team", "finance")], expression("team", "Gt", &json!(["1"])), false),
        (&[("team", "finance")], expression("team", "in", &json!(["finance"])), false),
    ];
    for (carried, expression, holds) in table {
        let known = labels(carried);
        let who = Tenant { namespace: "finance", labels: Some(&known) };
        let entry = |selector: Value| {
            prefect(
                &json!([{"name": "a", "namespaces": {"selector": selector}, "flows": ["*"], "workPools": ["*"]}]),
            )
        };
        let asked = |rules: &[PrefectAllow]| {
            flow(Rules::Are(rules), &prod(), who, "orders", "etl") == Access::Allowed
        };
        let alone = entry(json!({"matchExpressions": [expression]}));
        assert_eq!(asked(&alone), holds, "{carried:?} {expression}");
        let with = entry(json!({"matchLabels": {"missing": "label"}, "matchExpressions": [expression]}));
        assert!(!asked(&with), "both have to hold: {carried:?} {expression}");
        if !holds && check_prefect(Some(&alone)).is_err() {
            let why = check_prefect(Some(&alone)).unwrap_err();
            assert!(why.contains("spec.allow `a`: namespaces.selector.matchExpressions `team`"), "{why}");
        }
    }
    for (bad, why) in [
        (json!({"key": "team", "operator": "In"}), "needs values"),
        (json!({"key": "team", "operator": "Exists", "values": ["a"]}), "takes no values"),
        (
            json!({"key": "team", "operator": "Gt", "values": ["1"]}),
            "none of In, NotIn, Exists and DoesNotExist",
        ),
    ] {
        let namespaces = json!({"selector": {"matchExpressions": [bad]}});
        let prefect = check_prefect(Some(&prefect(&json!([{"name": "a", "namespaces": namespaces}]))));
        let tableau = check_tableau(Some(&tableau(&json!([{"name": "a", "namespaces": namespaces}]))));
        for found in [prefect, tableau] {
            assert!(found.as_ref().unwrap_err().contains(why), "{found:?}");
        }
    }
}

#[test]
fn a_pattern_that_is_none_is_named() {
    let good = json!([{"name": "a", "namespaces": {"names": ["x"]}, "upstreams": ["a/*", "**"]}]);
    assert_eq!(check_prefect(Some(&prefect(&good))), Ok(()));
    let bad = json!([{"name": "a", "namespaces": {"names": ["x"]}, "upstreams": ["a/**b"]}]);
    assert!(check_prefect(Some(&prefect(&bad))).unwrap_err().contains("spec.allow `a`: upstreams `a/**b`"));
    let bad = json!([{"name": "a", "namespaces": {"names": ["x"]}, "projects": ["Finance/"]}]);
    assert!(check_tableau(Some(&tableau(&bad))).unwrap_err().contains("projects `Finance/`"));
}

fn some_namespaces() -> impl Strategy<Value = AllowedNamespaces> {
    let names = prop::option::of(prop::collection::vec("(finance|sales)", 0..2));
    let chosen = prop::option::of(prop::collection::btree_map("[ab]", "[01]", 0..2));
    (names, chosen).prop_map(|(names, chosen)| AllowedNamespaces {
        names,
        selector: chosen.map(|labels| crate::api::NamespaceSelector {
            match_labels: Some(labels),
            match_expressions: None,
        }),
    })
}

fn some_globs() -> impl Strategy<Value = Option<Vec<String>>> {
    prop::option::of(prop::collection::vec("(a|b|\\*|a\\*)", 0..2))
}

fn some_entries() -> impl Strategy<Value = Vec<PrefectAllow>> {
    let entry =
        (some_namespaces(), some_globs(), some_globs()).prop_map(|(namespaces, flows, work_pools)| {
            PrefectAllow { name: "e".into(), namespaces, flows, work_pools, upstreams: None }
        });
    prop::collection::vec(entry, 0..4)
}

proptest! {
    /// To take something away never gives anything: no entry, and no label, forbids.
    #[test]
    fn with_less_never_more_is_allowed(
        entries in some_entries(),
        known in prop::collection::btree_map("[ab]", "[01]", 0..3),
        (flow_name, pool) in ("[abc]", "[abc]"),
        taken in 0..4_usize,
    ) {
        let ask = |entries: &[PrefectAllow], labels: Option<&Labels>| {
            let who = Tenant { namespace: "finance", labels };
            flow(Rules::Are(entries), &prod(), who, &flow_name, &pool)
        };
        let whole = ask(&entries, Some(&known));
        let mut fewer = entries.clone();
        if taken < fewer.len() {
            fewer.remove(taken);
        }
        let mut unlabelled = known.clone();
        let first = unlabelled.keys().next().cloned();
        first.map(|key| unlabelled.remove(&key));
        if whole != Access::Allowed {
            prop_assert_ne!(ask(&fewer, Some(&known)), Access::Allowed);
            prop_assert_ne!(ask(&entries, Some(&unlabelled)), Access::Allowed);
            prop_assert_ne!(ask(&entries, None), Access::Allowed);
        }
        // Once read, "unknown" is one of the two.
        prop_assert_ne!(whole.clone(), Access::Unknown);
        if ask(&entries, None) == Access::Allowed {
            prop_assert_eq!(whole, Access::Allowed);
        }
    }
}
