//! What each system was asked, as its own records tell it.

use std::collections::BTreeMap;

use world::audit::Entry;
use world::tableau::Truth;

/// Kubernetes, by the audit log.
pub fn kubernetes(entries: &[Entry], user: &str) -> String {
    let own = entries.iter().filter(|entry| entry.user == user && !entry.resource.is_empty());
    table("Kubernetes (audit log)", own.map(|entry| format!("{} {}", entry.verb, entry.what())))
}

/// Prefect, by the proxy in front of it.
pub fn prefect(requests: &BTreeMap<String, usize>) -> String {
    let each = requests.iter().flat_map(|(what, count)| std::iter::repeat_n(without_ids(what), *count));
    table("Prefect (proxy)", each)
}

/// Tableau, by the simulator's truth log.
pub fn tableau(truth: &Truth) -> String {
    let asked = truth.requests.iter().map(|request| format!("{} → {}", request.operation, request.status));
    table("Tableau (simulator's truth log)", asked)
}

fn table(title: &str, requests: impl Iterator<Item = String>) -> String {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(request).or_insert(0_usize) += 1;
    }
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("  {count:5}  {what}")).collect();
    format!("{title}: {} requests\n{}\n", counts.values().sum::<usize>(), lines.join("\n"))
}

/// `/api/flow_runs/7a…` and `/api/flow_runs/8b…` are one kind of request.
fn without_ids(what: &str) -> String {
    let part =
        |part: &str| if uuid::Uuid::try_parse(part).is_ok() { "{id}".to_owned() } else { part.to_owned() };
    what.split('/').map(part).collect::<Vec<_>>().join("/")
}
