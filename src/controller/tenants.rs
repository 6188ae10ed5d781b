//! Who may use the connections of the cluster: the labels of Namespaces, the rules of the connections, and whom a change of either concerns.

use super::context::Context;
use super::extract_observed::source_of;
use super::index::{Denied, Dependent};
use super::watches;
use crate::api::{
    ClusterPrefectWorkspace, ClusterTableauSite, ExtractRefresh, FlowDeployment, PrefectAllow, TargetKind,
};
use crate::model::extract::{self, Found, ProjectPath, Target};
use crate::model::feeds::Feed;
use crate::model::ids::{ConnectionName, ObjectName};
use crate::model::tenancy::{self, Access, ExtractRequest, Labels, Rules, Tenant};
use crate::settings::Scope;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
pub struct Tenants {
    /// Whether the operator serves the whole cluster: else it watches neither Namespaces nor connections of the cluster.
    serves_cluster: bool,
    /// The operator's own namespace: where what connections of the cluster refer to is.
    home: Arc<str>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    labels: HashMap<Arc<str>, Arc<Labels>>,
    /// Namespaces that a list in progress has told.
    arriving: BTreeSet<Arc<str>>,
    /// The rules of a connection when it was seen last, in one text.
    rules: HashMap<(Kind, Arc<str>), String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Workspace,
    Site,
}

impl Tenants {
    /// Nothing known yet.
    pub fn new(scope: &Scope, home: &str) -> Self {
        Self { serves_cluster: *scope == Scope::Cluster, home: home.into(), inner: Mutex::default() }
    }

    /// Where an object finds what it refers to by name: beside it, and one of the cluster in the operator's namespace.
    pub fn home_of(&self, object: &ObjectName) -> Arc<str> {
        if object.is_cluster() { self.home.clone() } else { object.namespace.clone() }
    }

    /// The labels of a Namespace; none: not read yet.
    fn labels(&self, namespace: &str) -> Option<Arc<Labels>> {
        self.lock().labels.get(namespace).cloned()
    }

    /// Takes a watch event; returns the Namespaces whose labels are not as before.
    fn take(&self, event: &Event<PartialObjectMeta<Namespace>>) -> Vec<Arc<str>> {
        let mut inner = self.lock();
        match event {
            Event::Init => {
                inner.arriving.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                inner.arriving.insert(object.name_any().into());
                inner.put(object)
            }
            Event::InitDone => {
                let arrived = std::mem::take(&mut inner.arriving);
                let gone: Vec<Arc<str>> =
                    inner.labels.keys().filter(|name| !arrived.contains(*name)).cloned().collect();
                inner.labels.retain(|name, _| arrived.contains(name));
                gone
            }
            Event::Apply(object) => inner.put(object),
            Event::Delete(object) => {
                let name: Arc<str> = object.name_any().into();
                inner.labels.remove(&name).map(|_| name).into_iter().collect()
            }
        }
    }

    /// Whether the rules of a connection are not those that were seen last.
    fn ruled(&self, kind: Kind, name: &str, rules: Option<&str>) -> bool {
        let mut inner = self.lock();
        let before = match rules {
            Some(rules) => inner.rules.insert((kind, name.into()), rules.to_owned()),
            None => inner.rules.remove(&(kind, name.into())),
        };
        before.as_deref() != rules
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, object: &PartialObjectMeta<Namespace>) -> Vec<Arc<str>> {
        let name: Arc<str> = object.name_any().into();
        let labels = Arc::new(object.labels().clone());
        let before = self.labels.insert(name.clone(), labels.clone());
        if before.is_some_and(|before| before == labels) { Vec::new() } else { vec![name] }
    }
}

/// A Namespace came, changed or went: who is in it and uses a connection of the cluster looks again.
pub fn on_namespace(ctx: &Context, event: &Event<PartialObjectMeta<Namespace>>) {
    for namespace in ctx.tenants.take(event) {
        for who in ctx.index.cluster_users(&namespace) {
            watches::wake_judged(ctx, &who);
        }
    }
}

/// A `ClusterPrefectWorkspace` came, changed or went: true if what it allows did.
pub fn workspace_ruled(ctx: &Context, object: &ClusterPrefectWorkspace, gone: bool) -> bool {
    let rules = (!gone).then(|| format!("{:?}", object.spec.allow));
    ctx.tenants.ruled(Kind::Workspace, &object.name_any(), rules.as_deref())
}

/// A `ClusterTableauSite` came, changed or went: true if what it allows did.
pub fn site_ruled(ctx: &Context, object: &ClusterTableauSite, gone: bool) -> bool {
    let rules = (!gone).then(|| format!("{:?}", object.spec.allow));
    ctx.tenants.ruled(Kind::Site, &object.name_any(), rules.as_deref())
}

/// Whether a resource of this namespace may keep a deployment of this flow in this work pool.
pub fn flow(ctx: &Context, namespace: &Arc<str>, at: &ConnectionName, flow: &str, pool: &str) -> Access {
    workspace(ctx, namespace, at, |rules, who| tenancy::flow(rules, at, who, flow, pool))
}

/// The same, of a `FlowDeployment` as it is declared.
pub fn declared_flow(ctx: &Context, object: &FlowDeployment) -> Access {
    let (namespace, spec) = (object.namespace().unwrap_or_default().into(), &object.spec);
    flow(ctx, &namespace, &(&spec.workspace_ref).into(), &spec.flow_name, &spec.work_pool.name)
}

/// Whether a resource of this namespace may see these runs; `declared`: by this `FlowDeployment` of its own, which then is enough.
pub fn upstream(
    ctx: &Context,
    namespace: &Arc<str>,
    at: &ConnectionName,
    feed: &Feed,
    declared: Option<&FlowDeployment>,
) -> Access {
    if declared.is_some_and(|object| declared_flow(ctx, object) == Access::Allowed) {
        return Access::Allowed;
    }
    workspace(ctx, namespace, at, |rules, who| tenancy::upstream(rules, at, who, feed))
}

/// Notes what is denied to a resource, for which nothing is read then. What it was denied before and is not now is read at once.
pub fn judged(ctx: &Context, who: &Dependent, denied: Denied) {
    if ctx.index.judged(who, denied) {
        watches::admitted(ctx, who);
    }
}

/// Whether a resource may see runs of one of its upstreams through this connection: then what it refreshes for them may be told there.
pub fn sees_through(ctx: &Context, refresh: &ObjectName, at: &ConnectionName) -> bool {
    if !at.is_cluster() {
        return true;
    }
    let object = ctx.objects.refreshes.get(refresh);
    let desired = object.and_then(|object| extract::Desired::parse(&object, None).ok());
    desired.iter().flat_map(|desired| &desired.upstreams).any(|one| {
        let means = source_of(ctx, refresh, one);
        means.is_ok_and(|(named, feed, declared)| {
            named == *at
                && upstream(ctx, &refresh.namespace, at, &feed, declared.as_deref()) == Access::Allowed
        })
    })
}

fn workspace(
    ctx: &Context,
    namespace: &Arc<str>,
    at: &ConnectionName,
    judge: impl FnOnce(Rules<PrefectAllow>, Tenant) -> Access,
) -> Access {
    if !at.is_cluster() {
        return Access::Allowed;
    }
    if !ctx.tenants.serves_cluster {
        return tenancy::not_served(&at.workspace());
    }
    let object = ctx.objects.cluster_workspaces.get(&at.seen_from(namespace));
    let rules = Rules::of(object.as_ref().map(|object| object.spec.allow.as_deref()));
    let labels = ctx.tenants.labels(namespace);
    judge(rules, Tenant { namespace, labels: labels.as_deref() })
}

/// Whether a resource may refresh its target, which was found there if it was found.
pub fn extract(ctx: &Context, desired: &extract::Desired, found: Option<&Found>) -> Access {
    let (namespace, at) = (&desired.name.namespace, &desired.site);
    if !at.is_cluster() {
        return Access::Allowed;
    }
    if !ctx.tenants.serves_cluster {
        return tenancy::not_served(&at.site());
    }
    let target = match (&desired.target, found) {
        (Target::Named { path, name, .. }, _) => Some((Some(path.clone()), name.as_str())),
        (Target::Luid { .. }, Some(found)) => {
            let path = found.path.as_deref().and_then(ProjectPath::parse);
            Some((path, found.name.as_deref().unwrap_or_default()))
        }
        (Target::Luid { .. }, None) => None,
    };
    let named = desired.schedules.all.iter().filter_map(|schedule| schedule.server_schedule.as_deref());
    let request = ExtractRequest {
        kind: desired.target.kind(),
        target,
        by_luid: matches!(desired.target, Target::Luid { .. }),
        server_schedules: named.collect(),
    };
    site(ctx, namespace, at, &request)
}

/// Whether a resource of this namespace may refresh a content that lies there.
pub fn content(
    ctx: &Context,
    namespace: &Arc<str>,
    at: &ConnectionName,
    kind: TargetKind,
    (path, name): (Option<&ProjectPath>, &str),
) -> Access {
    if !at.is_cluster() {
        return Access::Allowed;
    }
    if !ctx.tenants.serves_cluster {
        return tenancy::not_served(&at.site());
    }
    let target = Some((path.cloned(), name));
    site(ctx, namespace, at, &ExtractRequest { kind, target, by_luid: true, server_schedules: Vec::new() })
}

fn site(ctx: &Context, namespace: &Arc<str>, at: &ConnectionName, request: &ExtractRequest) -> Access {
    let object = ctx.objects.cluster_sites.get(&at.seen_from(namespace));
    let rules = Rules::of(object.as_ref().map(|object| object.spec.allow.as_deref()));
    let labels = ctx.tenants.labels(namespace);
    tenancy::extract(rules, at, Tenant { namespace, labels: labels.as_deref() }, request)
}

/// Whether a content may be seen that is not where the spec says.
pub fn may_see(ctx: &Context, desired: &extract::Desired, found: &Found) -> bool {
    let kind = desired.target.kind();
    let there =
        extract::Desired { target: Target::Luid { kind, luid: found.luid.clone() }, ..desired.clone() };
    extract(ctx, &there, Some(found)) == Access::Allowed
}

/// Whether this resource, which means this content, is allowed to; none: what it says cannot be understood.
pub fn claims(ctx: &Context, object: &ExtractRefresh, found: &Found) -> Option<Access> {
    let desired = extract::Desired::parse(object, None).ok()?;
    Some(extract(ctx, &desired, Some(found)))
}
