//! Who is not allowed what it asks of a connection: nothing is read for it, but for what is under way.

use super::{Dependent, Facts, Index, Inner};
use crate::model::ids::ObjectName;
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// What is denied to a resource, as its last pass has judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// What it declares itself, wherever that lies.
    pub itself: bool,
    /// Those of its upstreams that it may not see.
    pub upstreams: BTreeSet<String>,
}

impl Index {
    /// Notes what is denied to a resource. True: something is not denied any more, so that it is to be read (again).
    pub fn judged(&self, who: &Dependent, denied: Denied) -> bool {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if !inner.entries.contains_key(who) {
            return false;
        }
        let before = inner.denied.remove(who).unwrap_or_default();
        let admitted = (before.itself && !denied.itself) || !before.upstreams.is_subset(&denied.upstreams);
        if denied != Denied::default() {
            inner.denied.insert(who.clone(), denied);
        }
        admitted
    }

    /// Whether anything is read at a site for a resource: not for one that is not allowed what it declares and has nothing under way there.
    pub fn reads_at_site(&self, who: &Dependent, site: &ObjectName) -> bool {
        let inner = self.read();
        inner.entries.get(who).is_some_and(|(_, facts)| inner.reads(who, facts, site))
    }
}

impl Inner {
    /// Whether what a resource declares itself is read through this connection.
    pub(super) fn reads(&self, who: &Dependent, facts: &Facts, at: &ObjectName) -> bool {
        let under_way = match who {
            // What a change of ours cost is made good.
            Dependent::Flow(_) => facts.active,
            Dependent::Refresh(_) => {
                facts.attempting.as_ref().is_some_and(|under_way| under_way.at.as_ref() == Some(at))
            }
        };
        // Who goes takes away what it made while it was allowed.
        facts.deleting || under_way || !self.denied.get(who).is_some_and(|denied| denied.itself)
    }

    /// Whether a resource may see this upstream of its own.
    pub(super) fn sees(&self, who: &Dependent, upstream: &str) -> bool {
        !self.denied.get(who).is_some_and(|denied| denied.upstreams.contains(upstream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::index::{Key, Waiting};
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    fn name(name: &str) -> ObjectName {
        ObjectName { namespace: "finance".into(), name: name.into() }
    }

    /// A flow and the extract after it; `status` of each.
    fn index(flow: &Value, extract: &Value) -> Index {
        let index = Index::default();
        let object = |kind: &str, spec: &Value, status: &Value| {
            json!({
                "apiVersion": "feedwater.dev/v1alpha1", "kind": kind, "spec": spec, "status": status,
                "metadata": {"namespace": "finance", "name": "orders"},
            })
        };
        let spec = json!({
            "workspaceRef": {"name": "prod"}, "flowName": "orders", "entrypoint": "a.py:a", "workPool": {"name": "etl"},
        });
        let flow = serde_json::from_value(object("FlowDeployment", &spec, flow)).unwrap();
        index.on_flow(&Event::Apply(flow));
        let spec = json!({
            "siteRef": {"name": "acme"},
            "target": {"kind": "Datasource", "projectPath": "Finance", "name": "orders"},
            "upstreams": [{"name": "orders", "flowDeploymentRef": {"name": "orders"}}],
        });
        let extract = serde_json::from_value(object("ExtractRefresh", &spec, extract)).unwrap();
        index.on_refresh(&Event::Apply(extract));
        index
    }

    fn itself() -> Denied {
        Denied { itself: true, ..Denied::default() }
    }

    fn upstream() -> Denied {
        Denied { upstreams: ["orders".to_owned()].into(), ..Denied::default() }
    }

    #[test]
    fn what_is_denied_is_read_only_for_what_is_under_way() {
        let (flow, extract) = (Dependent::Flow(name("orders")), Dependent::Refresh(name("orders")));
        let at_rest = index(&json!({}), &json!({}));
        let read = |index: &Index| {
            let feeds = index.feeds(&name("prod"));
            (
                feeds.len(),
                feeds.values().filter(|meant| meant.is_some()).count(),
                index.reads_at_site(&extract, &name("acme")),
            )
        };
        assert_eq!(read(&at_rest), (1, 1, true));
        at_rest.judged(&flow, itself());
        assert_eq!(read(&at_rest), (1, 1, true), "its runs may be seen by the extract");
        at_rest.judged(&extract, Denied { itself: true, ..upstream() });
        assert_eq!(read(&at_rest), (0, 0, false));
        // Judged by what its passes say, not by what a watch event tells again.
        assert!(!at_rest.judged(&extract, Denied { itself: true, ..upstream() }));
        assert!(at_rest.judged(&extract, itself()), "the upstream may be seen again");
        assert_eq!(read(&at_rest), (1, 1, false));
        assert!(at_rest.judged(&extract, Denied::default()));
        assert_eq!(read(&at_rest), (1, 1, true));

        let busy = index(&json!({"pendingWrite": {"since": "2026-11-24T10:00:00Z"}}), &attempt());
        busy.judged(&flow, itself());
        busy.judged(&extract, Denied { itself: true, ..upstream() });
        assert_eq!(read(&busy), (1, 0, true), "what it costs is made good, and a refresh is followed");
        assert!(busy.dependents(&Key::Site(name("acme"))).contains(&extract), "it depends on it as before");
        // One that is under way elsewhere is read there.
        let away = index(&json!({}), &attempt_at("evil"));
        away.judged(&extract, itself());
        let at = |site: &str| away.reads_at_site(&extract, &name(site));
        assert_eq!((at("acme"), at("evil")), (false, true));
        let mut waiting = Waiting::default();
        busy.waiting(&name("prod"), jiff::Timestamp::UNIX_EPOCH, &mut waiting);
        assert_eq!(waiting, Waiting::default());
    }

    fn attempt() -> Value {
        attempt_at("acme")
    }

    fn attempt_at(site: &str) -> Value {
        json!({"attempt": {
            "site": site,
            "id": "1", "phase": "Submitted", "intendedAt": "2026-11-24T10:00:00Z", "fence": "2026-11-24T10:00:00Z",
            "siteLuid": "s", "kind": "Datasource", "luid": "l", "refreshType": "Full", "jobId": "job-1",
        }})
    }
}
