//! Who may act on a target (docs/trigger.md 6): the key is what is really there, (site LUID, content LUID), so two `TableauSite` objects for one
//! site are one. The oldest wins; one with an attempt in flight ends it before the winner starts.

use super::context::Context;
use super::index::{Dependent, Key, object_name};
use super::tenants;
use crate::api::TableauSite;
use crate::model::connection::DesiredSite;
use crate::model::extract::{self, Claim, Desired, Found, TargetView};
use crate::model::ids::ObjectName;

/// Whether this resource may act on what was found.
pub fn claim(ctx: &Context, desired: &Desired, at: &ObjectName, found: &Found) -> Claim {
    let kind = desired.target.kind();
    let me = (desired.created_at, desired.name.clone());
    let mut first = me.clone();
    let mut attempting = None;
    for site in same_site(ctx, at, found) {
        let mut keys = vec![Key::ContentLuid(site.clone(), kind, found.luid.clone())];
        keys.extend(found.name.clone().map(|name| Key::Content(site.clone(), kind, name)));
        for who in keys.iter().flat_map(|key| ctx.index.dependents(key)) {
            let Dependent::Refresh(name) = &who else { continue };
            if *name == desired.name {
                continue;
            }
            let Some(facts) =
                ctx.index.facts(&who).filter(|facts| !facts.deleting || facts.attempting || facts.parting)
            else {
                continue;
            };
            if !means(ctx, &site, name, found) {
                continue;
            }
            // Who is not allowed to stands in nobody's way, but for what is under way.
            let allowed = ctx.objects.refreshes.get(name).is_some_and(|o| tenants::may_claim(ctx, &o, found));
            // What it takes with it is not to be taken over meanwhile.
            if (facts.attempting && !facts.deleting) || facts.parting {
                attempting = Some(name.clone());
            }
            if !facts.deleting && allowed {
                first = first.min((facts.created_at, name.clone()));
            }
        }
    }
    match (first == me, attempting) {
        (false, _) => Claim::Taken { by: first.1 },
        (true, Some(by)) => Claim::Busy { by },
        (true, None) => Claim::Ours,
    }
}

/// Every connection object that leads to this site: by what it is connected to, else by what it was connected to before.
fn same_site(ctx: &Context, at: &ObjectName, found: &Found) -> Vec<ObjectName> {
    let Some(origin) = ctx.sites.get(at).map(|link| link.key.origin) else { return Vec::new() };
    let leads = |object: &TableauSite| {
        let name = object_name(object)?;
        // One LUID could in theory stand on two servers.
        let same_server = DesiredSite::parse(object).is_ok_and(|spec| spec.origin() == origin);
        let connected =
            ctx.sites.get(&name).and_then(|link| Some(link.session.snapshot().health.site()?.luid.clone()));
        let luid = connected.or_else(|| Some(object.status.as_ref()?.site_luid.as_deref()?.into()));
        (same_server && luid.as_ref() == Some(&found.site_luid)).then_some(name)
    };
    ctx.objects.all_sites().iter().filter_map(|object| leads(object)).collect()
}

/// Whether this resource, of this connection object, means the content that was found: as it resolves now, else as it was found before.
fn means(ctx: &Context, site: &ObjectName, name: &ObjectName, found: &Found) -> bool {
    let Some(object) = ctx.objects.refreshes.get(name) else { return false };
    let Ok(other) = Desired::parse(&object, None) else { return false };
    let snapshot = ctx.sites.get(site).map(|link| link.session.snapshot());
    let resolved = snapshot.as_ref().and_then(|snapshot| {
        let there = snapshot.health.site()?;
        let before = extract::found_before(&other.target, object.status.as_ref());
        Some(snapshot.contents.resolve(there, &other.target, before.as_ref()))
    });
    match resolved {
        Some(TargetView::Found(same) | TargetView::NoExtract(same)) => same.luid == found.luid,
        Some(
            TargetView::NotFound
            | TargetView::Elsewhere(_)
            | TargetView::Ambiguous(_)
            | TargetView::Forbidden,
        ) => false,
        // Its site cannot be asked now; that takes nothing from whoever was there first.
        None | Some(TargetView::Unread) => {
            let before = object.status.as_ref().and_then(|status| status.target.as_ref());
            before.is_some_and(|t| t.luid == found.luid.as_str() && t.site_luid == found.site_luid.as_str())
        }
    }
}
