//! Which resources depend on what: fed by watch events, asked by observers and by claims. Synchronous and small; a relist swaps it whole.

use super::index_facts::refresh_facts;
use crate::api::{ExtractRefresh, FlowDeployment, TargetKind};
use crate::model::connection::{Need, extract_need, flow_need};
use crate::model::extract::{self, Pasts, Selection};
use crate::model::feeds::Feed;
use crate::model::ids::{ConnectionName, DeploymentName, JobId, Luid, ObjectName, TaskId};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

mod denied;
mod feeds;

pub use denied::Denied;
pub use feeds::{Reads, Selections, Waiting, add};

/// Something that resources depend on. Connections are named by the object that declares them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A `PrefectWorkspace`.
    Workspace(ObjectName),
    /// A `TableauSite`.
    Site(ObjectName),
    /// A `FlowDeployment`.
    FlowDeployment(ObjectName),
    /// Runs in the Prefect of a workspace: those of a deployment, or those of a selector.
    Feed(ObjectName, Feed),
    /// A content of a site, by kind and name (whatever its project).
    Content(ObjectName, TargetKind, String),
    /// A content of a site, by LUID.
    ContentLuid(ObjectName, TargetKind, Luid),
}

/// A resource that depends on something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dependent {
    /// A `FlowDeployment`.
    Flow(ObjectName),
    /// An `ExtractRefresh`.
    Refresh(ObjectName),
}

impl Dependent {
    /// Its namespace.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Flow(name) | Self::Refresh(name) => &name.namespace,
        }
    }
}

/// What else is known of a dependent without asking the store.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // answers to separate questions
pub struct Facts {
    /// Its age decides claims.
    pub created_at: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// Something is owed or under way, or jobs of others may contain something.
    pub active: bool,
    /// Its status says that it has made a deployment, or is about to.
    pub made: bool,
    /// The attempt that is in flight.
    pub attempting: Option<UnderWay>,
    /// It has to do with schedules that Tableau runs.
    pub schedules: bool,
    /// Tasks in Tableau that are its own, and the connection through which each was learnt.
    pub tasks: Vec<(ObjectName, TaskId)>,
    /// It is being deleted, and takes away what it has made through these connections.
    pub parting: BTreeSet<ObjectName>,
    /// Jobs to follow, and through which connection.
    pub jobs: Vec<(ObjectName, JobId)>,
    /// Through which connection the list of jobs is needed; those created before this are of no interest.
    pub jobs_since: Option<(ObjectName, Timestamp)>,
    /// What it means by its upstreams.
    pub upstreams: Vec<Reads>,
    /// What was known of them.
    pub pasts: Pasts,
    /// Until when it has to know which runs of its upstreams are in progress.
    pub asks_until: Option<Timestamp>,
    /// The content that was found by the name in the spec, and the connection that the spec names.
    pub found: Option<(ObjectName, TargetKind, Luid)>,
    /// What it needs its connections for, those it needs.
    pub needs: Vec<(Key, Need)>,
}

/// A refresh that is being started, or runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// The connection through which it is, if that is known.
    pub at: Option<ObjectName>,
    /// Of what.
    pub content: Luid,
}

/// A change of what somebody depends on, or of its part in a claim.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // answers to separate questions
pub struct Change {
    /// Whose.
    pub who: Dependent,
    /// The keys it has now or had before.
    pub keys: Vec<Key>,
    /// The keys are not the same as before: observers have something else to read.
    pub interest: bool,
    /// What it needs its connections for may not be the same as before.
    pub needs: bool,
    /// Its part in a claim is not the same as before.
    pub claims: bool,
    /// It has to know which runs are in progress, and had not before.
    pub asks: bool,
}

/// A dependent, what it depends on, and what else is known.
type Entry = (Dependent, Vec<Key>, Facts);

#[derive(Default)]
struct Inner {
    entries: HashMap<Dependent, (Vec<Key>, Facts)>,
    by_key: HashMap<Key, BTreeSet<Dependent>>,
    arriving: HashMap<bool, HashSet<Dependent>>,
    denied: HashMap<Dependent, Denied>,
}

/// See the module.
#[derive(Default)]
pub struct Index {
    inner: RwLock<Inner>,
}

impl Index {
    /// Takes a watch event of a `FlowDeployment`; returns what changed in the meaning of the index.
    pub fn on_flow(&self, event: &Event<FlowDeployment>) -> Vec<Change> {
        self.on_event(event, true, flow_entry)
    }

    /// Takes a watch event of an `ExtractRefresh`; returns what changed in the meaning of the index.
    pub fn on_refresh(&self, event: &Event<ExtractRefresh>) -> Vec<Change> {
        self.on_event(event, false, refresh_entry)
    }

    /// Everything that depends on the key.
    pub fn dependents(&self, key: &Key) -> Vec<Dependent> {
        self.read().by_key.get(key).map(|set| set.iter().cloned().collect()).unwrap_or_default()
    }

    /// What a dependent depends on.
    pub fn keys(&self, who: &Dependent) -> Vec<Key> {
        self.read().entries.get(who).map(|(keys, _)| keys.clone()).unwrap_or_default()
    }

    /// What is known of a dependent.
    pub fn facts(&self, who: &Dependent) -> Option<Facts> {
        self.read().entries.get(who).map(|(_, facts)| facts.clone())
    }

    /// Everything in a namespace that uses a connection of the cluster.
    pub fn cluster_users(&self, namespace: &str) -> Vec<Dependent> {
        let of_cluster = |key: &Key| match key {
            Key::Workspace(name) | Key::Site(name) => name.is_cluster(),
            Key::FlowDeployment(_) | Key::Feed(..) | Key::Content(..) | Key::ContentLuid(..) => false,
        };
        let inner = self.read();
        let here = inner.entries.iter().filter(|(who, _)| who.namespace() == namespace);
        here.filter(|(_, (keys, _))| keys.iter().any(of_cluster)).map(|(who, _)| who.clone()).collect()
    }

    /// The most that anybody needs a connection for.
    pub fn need(&self, connection: &Key) -> Need {
        let inner = self.read();
        let mut most = Need::Never;
        for who in inner.by_key.get(connection).into_iter().flatten() {
            let needs = inner.entries.get(who).map(|(_, facts)| facts.needs.as_slice()).unwrap_or_default();
            for (key, need) in needs {
                if key == connection {
                    most = most.max(*need);
                }
            }
            if most == Need::Now {
                break;
            }
        }
        most
    }

    /// Everything that depends on a feed: the `FlowDeployment`s that declare the deployment, the `ExtractRefresh`es that name it, and those that
    /// name one of these `FlowDeployment`s.
    pub fn behind(&self, workspace: &ObjectName, feed: &Feed) -> BTreeSet<Dependent> {
        let inner = self.read();
        let key = Key::Feed(workspace.clone(), feed.clone());
        let mut all: BTreeSet<Dependent> = inner.by_key.get(&key).cloned().unwrap_or_default();
        for who in all.clone() {
            if let Dependent::Flow(flow) = who
                && let Some(refreshes) = inner.by_key.get(&Key::FlowDeployment(flow))
            {
                all.extend(refreshes.iter().cloned());
            }
        }
        all
    }

    /// Whether a status says that this deployment, or the one it is left for, was made.
    pub fn made(&self, workspace: &ObjectName, name: &DeploymentName) -> bool {
        let inner = self.read();
        let key = Key::Feed(workspace.clone(), Feed::Deployment(name.clone()));
        let mut dependents = inner.by_key.get(&key).into_iter().flatten();
        dependents.any(|who| inner.entries.get(who).is_some_and(|(_, facts)| facts.made))
    }

    fn on_event<K: ResourceExt>(
        &self,
        event: &Event<K>,
        flow: bool,
        entry: fn(&K) -> Option<Entry>,
    ) -> Vec<Change> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => {
                inner.arriving.insert(flow, HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let Some((who, keys, facts)) = entry(object) else { return Vec::new() };
                inner.arriving.entry(flow).or_default().insert(who.clone());
                inner.put(who, keys, facts).into_iter().collect()
            }
            Event::InitDone => {
                let arrived = inner.arriving.remove(&flow).unwrap_or_default();
                let gone: Vec<Dependent> = inner
                    .entries
                    .keys()
                    .filter(|who| matches!(who, Dependent::Flow(_)) == flow && !arrived.contains(*who))
                    .cloned()
                    .collect();
                gone.into_iter().filter_map(|who| inner.forget(&who)).collect()
            }
            Event::Apply(object) => {
                let Some((who, keys, facts)) = entry(object) else { return Vec::new() };
                inner.put(who, keys, facts).into_iter().collect()
            }
            Event::Delete(object) => {
                let Some((who, _, _)) = entry(object) else { return Vec::new() };
                inner.forget(&who).into_iter().collect()
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, who: Dependent, keys: Vec<Key>, facts: Facts) -> Option<Change> {
        if let Some((old_keys, old_facts)) = self.entries.get_mut(&who)
            && *old_keys == keys
        {
            // Whoever comes after it takes over what it has.
            let estate = |facts: &Facts| (!facts.parting.is_empty()).then(|| facts.tasks.clone());
            let part = |facts: &Facts| {
                (facts.attempting.clone(), facts.deleting, facts.parting.clone(), estate(facts))
            };
            let moved = part(old_facts) != part(&facts);
            let interest = old_facts.schedules != facts.schedules || old_facts.upstreams != facts.upstreams;
            let needs = old_facts.needs != facts.needs;
            let claims = moved || interest;
            let asks = facts.asks_until.is_some() && old_facts.asks_until != facts.asks_until;
            *old_facts = facts;
            return (claims || needs || asks).then_some(Change { who, keys, interest, needs, claims, asks });
        }
        let mut touched = self.remove(&who).map(|change| change.keys).unwrap_or_default();
        for key in &keys {
            self.by_key.entry(key.clone()).or_default().insert(who.clone());
        }
        touched.extend(keys.iter().cloned());
        self.entries.insert(who.clone(), (keys, facts));
        Some(Change { who, keys: touched, interest: true, needs: true, claims: true, asks: false })
    }

    /// It is gone.
    fn forget(&mut self, who: &Dependent) -> Option<Change> {
        self.denied.remove(who);
        self.remove(who)
    }

    fn remove(&mut self, who: &Dependent) -> Option<Change> {
        let (keys, _) = self.entries.remove(who)?;
        for key in &keys {
            if let Some(set) = self.by_key.get_mut(key) {
                set.remove(who);
                if set.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        Some(Change { who: who.clone(), keys, interest: true, needs: true, claims: true, asks: false })
    }
}

/// Namespace and name of an object; `None` for one without a name, which nothing that is stored is.
pub fn object_name<K: ResourceExt>(object: &K) -> Option<ObjectName> {
    let name = object.meta().name.as_deref()?.into();
    Some(ObjectName { namespace: object.namespace().unwrap_or_default().into(), name })
}

/// The deployment a `FlowDeployment` declares.
pub fn declared(flow: &FlowDeployment) -> DeploymentName {
    DeploymentName {
        flow: flow.spec.flow_name.as_str().into(),
        deployment: flow.spec.deployment_name.clone().unwrap_or_else(|| flow.name_any()).into(),
    }
}

pub(super) fn created_at<K: ResourceExt>(object: &K) -> Timestamp {
    object.creation_timestamp().map_or(Timestamp::MAX, |t| t.0)
}

fn flow_entry(flow: &FlowDeployment) -> Option<Entry> {
    let me = object_name(flow)?;
    let workspace = ConnectionName::from(&flow.spec.workspace_ref).seen_from(&me.namespace);
    let mut keys = vec![
        Key::Workspace(workspace.clone()),
        Key::Feed(workspace.clone(), Feed::Deployment(declared(flow))),
    ];
    // The place it is leaving is looked at until it has left it.
    if let Some(status) = &flow.status
        && let Some((old_flow, old_name)) = status.full_name.as_deref().and_then(|full| full.split_once('/'))
    {
        let old = status
            .workspace
            .as_deref()
            .map_or(workspace, |name| ConnectionName::parse(name).seen_from(&me.namespace));
        keys.push(Key::Workspace(old.clone()));
        let name = DeploymentName { flow: old_flow.into(), deployment: old_name.into() };
        keys.push(Key::Feed(old, Feed::Deployment(name)));
    }
    keys.sort();
    keys.dedup();
    let facts = Facts {
        created_at: created_at(flow),
        deleting: flow.metadata.deletion_timestamp.is_some(),
        active: flow.status.as_ref().is_some_and(|s| s.pending_write.is_some()),
        made: flow.status.as_ref().is_some_and(|s| s.full_name.is_some()),
        attempting: None,
        schedules: false,
        tasks: Vec::new(),
        parting: BTreeSet::new(),
        jobs: Vec::new(),
        jobs_since: None,
        upstreams: Vec::new(),
        pasts: Pasts::default(),
        asks_until: None,
        found: None,
        needs: needs(&keys, |key| match key {
            Key::Workspace(workspace) => flow_need(flow, &ConnectionName::of(workspace)),
            _ => Need::Never,
        }),
    };
    Some((Dependent::Flow(me), keys, facts))
}

fn refresh_entry(refresh: &ExtractRefresh) -> Option<Entry> {
    let me = object_name(refresh)?;
    let here = |name: &str| ObjectName { namespace: me.namespace.clone(), name: name.into() };
    let site = ConnectionName::from(&refresh.spec.site_ref).seen_from(&me.namespace);
    let mut keys = vec![Key::Site(site.clone())];
    let target = &refresh.spec.target;
    match (&target.name, &target.luid) {
        (Some(name), None) => keys.push(Key::Content(site, target.kind, name.clone())),
        (None, Some(luid)) => {
            keys.push(Key::ContentLuid(site, target.kind, Luid::new(luid.to_lowercase())));
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
    let mut upstreams = Vec::new();
    for upstream in refresh.spec.upstreams.iter().flatten() {
        let reads = |of: &Key| Reads {
            name: upstream.name.clone(),
            of: of.clone(),
            selection: Selection::of(upstream),
        };
        if let Some(flow) = &upstream.flow_deployment_ref {
            let key = Key::FlowDeployment(here(&flow.name));
            upstreams.push(reads(&key));
            keys.push(key);
        }
        let deployment = upstream.prefect_deployment.as_ref();
        let deployment = deployment.map(|there| (&there.workspace_ref, extract::feed_of_deployment(there)));
        let runs = upstream.prefect_runs.as_ref();
        let runs = runs.and_then(|runs| Some((&runs.workspace_ref, extract::feed_of_runs(runs)?)));
        for (workspace, feed) in deployment.into_iter().chain(runs) {
            let workspace = ConnectionName::from(workspace).seen_from(&me.namespace);
            keys.push(Key::Workspace(workspace.clone()));
            let key = Key::Feed(workspace, feed);
            upstreams.push(reads(&key));
            keys.push(key);
        }
    }
    // What was learnt through another connection is looked after through that one until it is settled.
    let named = ConnectionName::from(&refresh.spec.site_ref);
    let formers = refresh.status.iter().flat_map(|status| extract::formers(status, &named));
    keys.extend(formers.map(|site| Key::Site(site.seen_from(&me.namespace))));
    keys.sort();
    keys.dedup();
    let needs = needs(&keys, |key| match key {
        Key::Site(site) => extract_need(refresh, &ConnectionName::of(site)),
        _ => Need::Never,
    });
    Some((Dependent::Refresh(me), keys, refresh_facts(refresh, needs, upstreams)))
}

fn needs(keys: &[Key], need: impl Fn(&Key) -> Need) -> Vec<(Key, Need)> {
    let of = |key: &Key| (key.clone(), need(key));
    keys.iter().map(of).filter(|(_, need)| *need != Need::Never).collect()
}
