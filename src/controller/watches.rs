//! What watch events set off beside the reconcile of their own object: observers learn of new interests, and those who wait for an object
//! that came, went or moved are woken.

use super::context::Context;
use super::index::{Change, Dependent, Key, object_name};
use super::workspace::Hint as WorkspaceHint;
use super::{extracts, flows, let_in, site, sites, tenants, workspaces};
use crate::api::{
    ClusterPrefectWorkspace, ClusterTableauSite, ExtractRefresh, FlowDeployment, PrefectWorkspace,
    TableauSite,
};
use crate::model::feeds::Feed;
use crate::model::ids::{ConnectionName, ObjectName};
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use std::collections::HashSet;

/// A `FlowDeployment` came, changed or went.
pub fn on_flow(ctx: &Context, event: &Event<FlowDeployment>) {
    ctx.objects.flows.cache.on_event(event);
    for change in ctx.index.on_flow(event) {
        spread(ctx, &change);
        if let Dependent::Flow(name) = &change.who
            && ctx.index.facts(&change.who).is_none()
        {
            flows::forget(ctx, name);
        }
    }
}

/// An `ExtractRefresh` came, changed or went.
pub fn on_refresh(ctx: &Context, event: &Event<ExtractRefresh>) {
    ctx.objects.refreshes.cache.on_event(event);
    let changes = ctx.index.on_refresh(event);
    for change in &changes {
        spread(ctx, change);
    }
    if let Event::Apply(refresh) | Event::Delete(refresh) = event
        && changes.iter().any(|change| change.claims || change.needs)
    {
        wake_rivals(ctx, refresh);
    }
    if let Event::Delete(refresh) = event {
        extracts::forget(ctx, refresh);
    }
    if let Event::Delete(refresh) = event
        && let Some(attempt) = refresh.status.as_ref().and_then(|status| status.attempt.as_ref())
    {
        ctx.ledger.forget(&attempt.id);
    }
}

/// A `PrefectWorkspace` came, changed or went.
pub fn on_workspace(ctx: &Context, event: &Event<PrefectWorkspace>) {
    ctx.objects.workspaces.cache.on_event(event);
    on_a_workspace(ctx, event, |_, _| false);
}

/// A `ClusterPrefectWorkspace` came, changed or went.
pub fn on_cluster_workspace(ctx: &Context, event: &Event<ClusterPrefectWorkspace>) {
    ctx.objects.cluster_workspaces.cache.on_event(event);
    on_a_workspace(ctx, event, |object, gone| tenants::workspace_ruled(ctx, object, gone));
}

/// `ruled`: whether other things are allowed than before.
fn on_a_workspace<K: ResourceExt>(ctx: &Context, event: &Event<K>, ruled: impl Fn(&K, bool) -> bool) {
    match event {
        Event::Delete(object) => {
            ruled(object, true);
            if let Some(name) = object_name(object) {
                workspaces::forget(ctx, &name);
                wake_all(ctx, &Key::Workspace(name));
            }
        }
        Event::Apply(object) | Event::InitApply(object) => {
            let changed = ruled(object, false);
            // New: those who wait for it look again. Known: its reconcile does what is to be done.
            let new =
                |name: &ObjectName| matches!(event, Event::Apply(_)) && ctx.workspaces.get(name).is_none();
            if let Some(name) = object_name(object).filter(|name| changed || new(name)) {
                wake_all(ctx, &Key::Workspace(name));
            }
        }
        Event::InitDone => {
            // Also those that had no session.
            for key in ctx.let_in.known() {
                let Key::Workspace(name) = &key else { continue };
                if ctx.objects.workspace(name).is_none() {
                    workspaces::forget(ctx, name);
                    wake_all(ctx, &key);
                }
            }
        }
        Event::Init => {}
    }
}

/// A `TableauSite` came, changed or went.
pub fn on_site(ctx: &Context, event: &Event<TableauSite>) {
    ctx.objects.sites.cache.on_event(event);
    on_a_site(ctx, event, |_, _| false);
}

/// A `ClusterTableauSite` came, changed or went.
pub fn on_cluster_site(ctx: &Context, event: &Event<ClusterTableauSite>) {
    ctx.objects.cluster_sites.cache.on_event(event);
    on_a_site(ctx, event, |object, gone| tenants::site_ruled(ctx, object, gone));
}

fn on_a_site<K: ResourceExt>(ctx: &Context, event: &Event<K>, ruled: impl Fn(&K, bool) -> bool) {
    match event {
        Event::Delete(object) => {
            ruled(object, true);
            if let Some(name) = object_name(object) {
                sites::forget(ctx, &name);
                wake_all(ctx, &Key::Site(name));
            }
        }
        Event::Apply(object) | Event::InitApply(object) => {
            let changed = ruled(object, false);
            let new = |name: &ObjectName| matches!(event, Event::Apply(_)) && ctx.sites.get(name).is_none();
            if let Some(name) = object_name(object).filter(|name| changed || new(name)) {
                wake_all(ctx, &Key::Site(name));
            }
        }
        Event::InitDone => {
            for key in ctx.let_in.known() {
                let Key::Site(name) = &key else { continue };
                if ctx.objects.site(name).is_none() {
                    sites::forget(ctx, name);
                    wake_all(ctx, &key);
                }
            }
        }
        Event::Init => {}
    }
}

fn spread(ctx: &Context, change: &Change) {
    if change.needs {
        for key in &change.keys {
            match key {
                // Whether it is kept for its users may be decided otherwise now.
                Key::Workspace(workspace) => ctx.wakes.workspace(workspace),
                Key::Site(site) => ctx.wakes.site(site),
                Key::FlowDeployment(_) | Key::Feed(..) | Key::Content(..) | Key::ContentLuid(..) => {}
            }
        }
    }
    if change.asks {
        for key in &change.keys {
            if let Some(workspace) = workspace_of(ctx, key) {
                hint_workspace(ctx, &workspace, WorkspaceHint::Waiting);
            }
        }
    }
    if !change.claims {
        return;
    }
    if let Dependent::Flow(flow) = &change.who {
        wake_all(ctx, &Key::FlowDeployment(flow.clone()));
    }
    for key in &change.keys {
        match key {
            Key::Workspace(workspace) | Key::Feed(workspace, _) => {
                if change.interest {
                    hint_workspace(ctx, workspace, WorkspaceHint::Interest);
                }
                // Others that claim the same deployment.
                if let Key::Feed(_, Feed::Deployment(deployment)) = key {
                    wake_others(ctx, key, &change.who);
                    // Also through another connection to the same API.
                    let flow = matches!(change.who, Dependent::Flow(_));
                    let api = let_in::api_of(ctx, workspace).filter(|_| flow);
                    for other in api.into_iter().flat_map(|api| let_in::leading_to(ctx, &api)) {
                        let theirs = Key::Feed(other, Feed::Deployment(deployment.clone()));
                        wake_others(ctx, &theirs, &change.who);
                    }
                }
            }
            Key::FlowDeployment(_) => {
                if change.interest
                    && let Some(workspace) = workspace_of(ctx, key)
                {
                    hint_workspace(ctx, &workspace, WorkspaceHint::Interest);
                }
            }
            Key::Site(site) => {
                if change.interest
                    && let Some(link) = ctx.sites.get(site)
                {
                    link.session.hint(site::Hint::Interest);
                }
            }
            // Others that claim the same content.
            Key::Content(..) | Key::ContentLuid(..) => wake_others(ctx, key, &change.who),
        }
    }
}

/// It is allowed what it was denied: observers have something else to read, and others to reckon with it.
pub fn admitted(ctx: &Context, who: &Dependent) {
    let (who, keys) = (who.clone(), ctx.index.keys(who));
    spread(ctx, &Change { who, keys, interest: true, needs: false, claims: true, asks: false });
}

/// The workspace in which an upstream is read.
fn workspace_of(ctx: &Context, key: &Key) -> Option<ObjectName> {
    match key {
        Key::Workspace(workspace) => Some(workspace.clone()),
        Key::FlowDeployment(flow) => {
            let object = ctx.objects.flows.get(flow)?;
            Some(ConnectionName::from(&object.spec.workspace_ref).seen_from(&flow.namespace))
        }
        Key::Site(_) | Key::Feed(..) | Key::Content(..) | Key::ContentLuid(..) => None,
    }
}

fn hint_workspace(ctx: &Context, workspace: &ObjectName, hint: WorkspaceHint) {
    if let Some(link) = ctx.workspaces.get(workspace) {
        link.session.hint(hint);
    }
}

/// Wakes everybody who depends on it, and those who depend on these.
pub fn wake_all(ctx: &Context, key: &Key) {
    for who in ctx.index.dependents(key) {
        wake_with_readers(ctx, &who);
    }
}

/// Wakes it, and those who depend on it.
pub fn wake_with_readers(ctx: &Context, who: &Dependent) {
    ctx.wakes.dependent(who);
    if let Dependent::Flow(flow) = who {
        for reader in ctx.index.dependents(&Key::FlowDeployment(flow.clone())) {
            ctx.wakes.dependent(&reader);
        }
    }
}

/// Whether it may do what it declares was judged anew: it looks again, and so do those who wait for it and those who claim the same.
pub fn wake_judged(ctx: &Context, who: &Dependent) {
    wake_with_readers(ctx, who);
    for key in ctx.index.keys(who) {
        match &key {
            Key::Feed(_, Feed::Deployment(_)) | Key::Content(..) | Key::ContentLuid(..) => {
                wake_others(ctx, &key, who);
            }
            Key::Feed(_, Feed::Runs(_)) | Key::Workspace(_) | Key::Site(_) | Key::FlowDeployment(_) => {}
        }
    }
    if let Dependent::Refresh(name) = who
        && let Some(refresh) = ctx.objects.refreshes.get(name)
    {
        wake_rivals(ctx, &refresh);
    }
}

fn wake_others(ctx: &Context, key: &Key, me: &Dependent) {
    for who in ctx.index.dependents(key) {
        if who != *me {
            ctx.wakes.dependent(&who);
        }
    }
}

/// Wakes the others on the content it had, by whatever name and through whatever `TableauSite` they mean it: one of them may act now.
fn wake_rivals(ctx: &Context, refresh: &ExtractRefresh) {
    wake_on(ctx, &had(refresh).into_iter().collect());
}

/// The same, of what all of these had.
pub fn wake_same<'a>(ctx: &Context, refreshes: impl Iterator<Item = &'a ObjectName>) {
    let all = refreshes.filter_map(|name| had(&*ctx.objects.refreshes.get(name)?));
    wake_on(ctx, &all.collect());
}

/// Site and content that a resource had.
fn had(refresh: &ExtractRefresh) -> Option<(String, String)> {
    let target = refresh.status.as_ref()?.target.as_ref()?;
    Some((target.site_luid.clone(), target.luid.clone()))
}

fn wake_on(ctx: &Context, contents: &HashSet<(String, String)>) {
    if contents.is_empty() {
        return;
    }
    for other in ctx.objects.refreshes.store.state() {
        if had(&other).is_some_and(|content| contents.contains(&content))
            && let Some(name) = object_name(&*other)
        {
            ctx.wakes.dependent(&Dependent::Refresh(name));
        }
    }
}
