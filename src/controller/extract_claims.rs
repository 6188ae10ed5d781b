//! Who may act on a target (TRIGGER.md 6): the key is what is really there, (site LUID, content LUID), so two `TableauSite` objects for one
//! site are one. The oldest wins; one with an attempt in flight ends it before the winner starts.

use super::context::Context;
use super::index::{Dependent, Key};
use crate::model::extract::{Claim, Desired, Found, TargetView};
use crate::model::ids::ObjectName;

/// Whether this resource may act on what was found.
pub fn claim(ctx: &Context, desired: &Desired, at: &ObjectName, found: &Found) -> Claim {
    let kind = desired.target.kind();
    let me = (desired.created_at, desired.name.clone());
    let mut first = me.clone();
    let mut attempting = None;
    for (site, link) in ctx.sites.all() {
        let snapshot = link.session.snapshot();
        let Some(there) = snapshot.health.site().filter(|there| there.luid == found.site_luid) else {
            continue;
        };
        // One LUID could in theory stand on two servers.
        if !same_server(ctx, at, &link.key.origin) {
            continue;
        }
        let mut keys = vec![Key::ContentLuid(site.clone(), kind, found.luid.clone())];
        keys.extend(found.name.clone().map(|name| Key::Content(site.clone(), kind, name)));
        for who in keys.iter().flat_map(|key| ctx.index.dependents(key)) {
            let Dependent::Refresh(name) = &who else { continue };
            if *name == desired.name {
                continue;
            }
            let Some(facts) = ctx.index.facts(&who).filter(|facts| !facts.deleting || facts.attempting)
            else {
                continue;
            };
            let Some(other) = ctx.objects.refreshes.get(name).and_then(|object| Desired::parse(&object).ok())
            else {
                continue;
            };
            match snapshot.contents.resolve(there, &other.target) {
                TargetView::Found(same) | TargetView::NoExtract(same) if same.luid == found.luid => {}
                TargetView::Unread
                | TargetView::NotFound
                | TargetView::Ambiguous
                | TargetView::NoExtract(_)
                | TargetView::Found(_) => continue,
            }
            if facts.attempting && !facts.deleting {
                attempting = Some(name.clone());
            }
            if !facts.deleting {
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

fn same_server(ctx: &Context, at: &ObjectName, origin: &str) -> bool {
    ctx.sites.get(at).is_some_and(|link| link.key.origin == origin)
}
