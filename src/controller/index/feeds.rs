//! Which runs matter to whom: asked by the observers of workspaces.

use super::{Dependent, Index, Key};
use crate::model::extract::{Reach, Selection};
use crate::model::feeds::Feed;
use crate::model::ids::{ConnectionName, ObjectName};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// One upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Reads {
    /// Its name in the spec.
    pub name: String,
    /// What it is: a `FlowDeployment` or runs.
    pub of: Key,
    /// Which of the runs there.
    pub selection: Selection,
}

/// What is meant of a feed, and how far back it has to be known.
pub type Selections = BTreeMap<Selection, Reach>;

/// Adds one; who means the same needs it as far back as any of them.
pub fn add(selections: &mut Selections, selection: Selection, reach: Reach) {
    selections.entry(selection).and_modify(|other| *other = other.and(reach)).or_insert(reach);
}

/// Who waits for runs in progress, and of which feeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waiting {
    /// The resources.
    pub who: BTreeSet<Dependent>,
    /// Their upstreams.
    pub feeds: BTreeSet<Feed>,
}

impl Index {
    /// The feeds of a workspace that matter, and where their completions do, which of them.
    pub fn feeds(&self, workspace: &ObjectName) -> BTreeMap<Feed, Option<Selections>> {
        let inner = self.read();
        let mut out: BTreeMap<Feed, Option<Selections>> = BTreeMap::new();
        let Some(dependents) = inner.by_key.get(&Key::Workspace(workspace.clone())) else { return out };
        for who in dependents {
            let Some((keys, of_it)) = inner.entries.get(who) else { continue };
            for key in keys {
                let Key::Feed(of, feed) = key else { continue };
                if of != workspace {
                    continue;
                }
                let (readers, by): (Vec<&Dependent>, Key) = match who {
                    Dependent::Flow(flow) => {
                        let by = Key::FlowDeployment(flow.clone());
                        (inner.by_key.get(&by).map(|set| set.iter().collect()).unwrap_or_default(), by)
                    }
                    Dependent::Refresh(_) => (vec![who], key.clone()),
                };
                // Its deployment is looked at, whether anybody counts its runs or not.
                if matches!(who, Dependent::Flow(_)) && inner.reads(who, of_it, workspace) {
                    out.entry(feed.clone()).or_default();
                }
                for reader in readers {
                    let Some((_, facts)) = inner.entries.get(reader) else { continue };
                    for upstream in facts.upstreams.iter().filter(|upstream| upstream.of == by) {
                        if !inner.sees(reader, &upstream.name) {
                            continue;
                        }
                        let selections = out.entry(feed.clone()).or_default().get_or_insert_default();
                        let (name, selection) = (&upstream.name, &upstream.selection);
                        let reach = facts.pasts.reach(
                            name,
                            &selection.key(&ConnectionName::of(workspace), feed),
                            selection,
                        );
                        add(selections, selection.clone(), reach);
                    }
                }
            }
        }
        out
    }

    /// Who waits now for runs in progress in a workspace, added to what is there.
    pub fn waiting(&self, workspace: &ObjectName, now: Timestamp, into: &mut Waiting) {
        let inner = self.read();
        for who in inner.by_key.get(&Key::Workspace(workspace.clone())).into_iter().flatten() {
            let direct = std::slice::from_ref(who).iter();
            let readers = match who {
                Dependent::Flow(flow) => inner.by_key.get(&Key::FlowDeployment(flow.clone())),
                Dependent::Refresh(_) => None,
            };
            let asks = |who: &&Dependent| {
                inner.entries.get(*who).is_some_and(|(_, facts)| {
                    facts.asks_until.is_some_and(|until| until > now) && inner.reads(who, facts, workspace)
                })
            };
            let asking: Vec<&Dependent> = direct.chain(readers.into_iter().flatten()).filter(asks).collect();
            if asking.is_empty() {
                continue;
            }
            into.who.extend(asking.into_iter().cloned());
            let keys = inner.entries.get(who).map(|(keys, _)| keys.as_slice()).unwrap_or_default();
            into.feeds.extend(keys.iter().filter_map(|key| match key {
                Key::Feed(of, feed) => (of == workspace).then(|| feed.clone()),
                Key::Workspace(_)
                | Key::Site(_)
                | Key::FlowDeployment(_)
                | Key::Content(..)
                | Key::ContentLuid(..) => None,
            }));
        }
    }
}
