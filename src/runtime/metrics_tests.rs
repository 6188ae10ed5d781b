//! What is told, and that docs/metrics.md says it.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// The rows of a table of docs/metrics.md that begins with this header: what stands in each cell.
fn rows(header: &str) -> Vec<Vec<String>> {
    let page = include_str!("../../docs/metrics.md");
    let table = page.split_once(header).unwrap_or_else(|| panic!("no table {header}")).1;
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The words between backquotes.
fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Everything that can be told, told once.
fn everything() -> String {
    let metrics = Metrics::default();
    for kind in Kind::ALL {
        metrics.wrote_status(kind);
        for outcome in Reconciled::ALL {
            metrics.reconciled(kind, outcome);
        }
    }
    for service in Service::ALL {
        for outcome in Called::ALL {
            metrics.called(service, "version", outcome, Duration::ZERO);
        }
        for outcome in Cycle::ALL {
            metrics.cycled(service, outcome);
        }
    }
    metrics.leads(true);
    metrics.extracts(Arc::new(|| vec![extract(Some(true), Some(7))]));
    metrics.encode().unwrap()
}

#[test]
fn the_page_names_every_metric_with_its_type_and_its_labels_and_no_other() {
    let text = everything();
    let mut told = BTreeSet::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let shown = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let series = text
            .lines()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ', '_'])));
        let series = series.unwrap_or_else(|| panic!("nothing is told of {name}"));
        let labels: BTreeSet<String> = series.split_once('{').map_or_else(BTreeSet::new, |(_, labels)| {
            labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned())).collect()
        });
        let own: Vec<String> = labels.into_iter().filter(|label| label != "le").collect();
        told.insert((shown, kind.to_owned(), own));
    }
    let page: BTreeSet<(String, String, Vec<String>)> = rows("| metric |")
        .iter()
        .map(|row| {
            let name = words(&row[0]).pop_first().unwrap();
            (name, row[1].clone(), words(&row[2]).into_iter().collect())
        })
        .collect();
    assert_eq!(page, told);
}

#[test]
fn the_page_names_every_value_of_a_label() {
    let text = everything();
    let mut told: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for labels in text.lines().filter_map(|line| Some(line.split_once('{')?.1.split_once('}')?.0)) {
        for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
            told.entry(label).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    // What has no fixed set of values.
    for label in ["le", "namespace", "name", "operation"] {
        told.remove(label);
    }
    let mut page: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows("| label |") {
        let label = words(&row[0]).pop_first().unwrap();
        page.entry(label).or_default().extend(words(&row[2]));
    }
    let told: BTreeMap<String, BTreeSet<String>> =
        told.into_iter().map(|(label, values)| (label.to_owned(), values)).collect();
    assert_eq!(page, told);
}

/// A counter that is first seen at 1 has no increase: what alerts look at is there from the start.
#[test]
fn what_alerts_look_at_is_zero_from_the_start() {
    let text = Metrics::default().encode().unwrap();
    for line in [
        r#"feedwater_possible_doubles_total{case="R1"} 0"#,
        r#"feedwater_refreshes_total{outcome="Failed",origin="Ours"} 0"#,
        r#"feedwater_reconcile_panics_total{kind="ExtractRefresh"} 0"#,
        r#"feedwater_orphans_total{kind="FlowDeployment"} 0"#,
        r#"feedwater_reports_total{outcome="Forbidden"} 0"#,
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
}

fn extract(fresh: Option<bool>, data_time: Option<i64>) -> Extract {
    Extract { namespace: "finance".into(), name: "orders".into(), fresh, data_time }
}

#[test]
fn the_leader_tells_how_fresh_each_extract_is_and_claims_nothing_else() {
    let metrics = Metrics::default();
    metrics.extracts(Arc::new(|| vec![extract(Some(false), Some(1_700_000_000))]));
    assert!(!metrics.encode().unwrap().contains("finance"), "a standby");
    metrics.leads(true);
    let text = metrics.encode().unwrap();
    for line in [
        r#"feedwater_extract_fresh{namespace="finance",name="orders"} 0"#,
        r#"feedwater_extract_data_timestamp_seconds{namespace="finance",name="orders"} 1700000000"#,
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);

    let unknown = Metrics::default();
    unknown.leads(true);
    unknown.extracts(Arc::new(|| vec![extract(None, None)]));
    assert!(!unknown.encode().unwrap().contains("finance"));
}

#[test]
fn what_is_counted_is_told() {
    let metrics = Metrics::default();
    metrics.called(Service::Tableau, "refresh", Called::Ambiguous, Duration::from_secs(3));
    metrics.refreshed(Refreshed::Succeeded, Origin::Recovered);
    metrics.may_be_double(Residue::R1);
    let text = metrics.encode().unwrap();
    for line in [
        r#"feedwater_calls_total{service="Tableau",operation="refresh",outcome="Ambiguous"} 1"#,
        r#"feedwater_call_seconds_bucket{le="5.0",service="Tableau",operation="refresh"} 1"#,
        r#"feedwater_refreshes_total{outcome="Succeeded",origin="Recovered"} 1"#,
        r#"feedwater_possible_doubles_total{case="R1"} 1"#,
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
}
