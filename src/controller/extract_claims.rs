//! Who may act on a target (docs/trigger.md 6): the key is what is really there, (site LUID, content LUID), so two `TableauSite` objects for one
//! site are one. The oldest wins; one with an attempt in flight ends it before the winner starts, and one that goes hands its schedules over.

use super::context::Context;
use super::index::{Dependent, Facts, Key, object_name};
use super::tenants;
use crate::api::{DeletionPolicy, ExtractRefreshStatus, ManagementPolicy, ScheduleStatus, TableauSite};
use crate::model::connection::DesiredSite;
use crate::model::extract::{self, Claim, Desired, Estate, Found, Heir, TargetView};
use crate::model::ids::{ObjectName, TaskId};
use crate::model::tenancy::Access;

/// Whether this resource may act on what was found.
pub fn claim(ctx: &Context, desired: &Desired, at: &ObjectName, found: &Found) -> Claim {
    let me = (desired.created_at, desired.name.clone());
    let mut first = me.clone();
    let (mut attempting, mut undecided) = (None, None);
    let sites = same_site(ctx, at, found);
    for rival in rivals(ctx, desired, &sites, found) {
        let Rival { name, facts } = &rival;
        // What it takes with it is not to be taken over meanwhile. Neither is waited for that is elsewhere, or said to be.
        let attempts = facts.attempting.as_ref().is_some_and(|under_way| {
            under_way.content == found.luid && under_way.at.as_ref().is_some_and(|at| sites.contains(at))
        });
        if (attempts && !facts.deleting) || facts.parting.iter().any(|at| sites.contains(at)) {
            attempting = Some(name.clone());
        }
        let rank = (facts.created_at, name.clone());
        match rival.comes(ctx, found) {
            Some(Access::Allowed) => first = first.min(rank),
            Some(Access::Unknown) => undecided = undecided.into_iter().chain([rank]).min(),
            Some(Access::Denied(_)) | None => {}
        }
    }
    match (first == me, attempting) {
        // Nothing is begun meanwhile, and nobody is told that it is somebody else's.
        _ if undecided.is_some_and(|rank| rank < first) => Claim::Unresolved,
        (false, _) => Claim::Taken { by: first.1 },
        (true, Some(by)) => Claim::Busy { by },
        (true, None) => Claim::Ours,
    }
}

/// Who comes after this resource, which is being deleted, if that one keeps schedules.
pub fn heir(ctx: &Context, desired: &Desired, at: &ObjectName, found: &Found) -> Option<Heir> {
    let ours = ctx.index.facts(&Dependent::Refresh(desired.name.clone()))?.tasks;
    let takes = |rival: &Rival| rival.facts.tasks.iter().any(|task| ours.contains(task));
    let mut rivals = rivals(ctx, desired, &same_site(ctx, at, found), found);
    // Whether it may is perhaps known a moment later. What it has taken over already is its own, whether it may or not.
    rivals.retain(|rival| {
        takes(rival) || matches!(rival.comes(ctx, found), Some(Access::Allowed | Access::Unknown))
    });
    let rank = |rival: &Rival| (!takes(rival), rival.facts.created_at, rival.name.clone());
    let Rival { name, .. } = rivals.into_iter().min_by_key(rank)?;
    let object = ctx.objects.refreshes.get(&name)?;
    let declared = Desired::parse(&object, None).ok()?.schedules;
    let keeps = declared.management == ManagementPolicy::Manage && !declared.all.is_empty();
    let holds = object.status.iter().flat_map(|status| tasks(status).collect::<Vec<_>>());
    let holds = holds.filter_map(|entry| entry.task_id.as_deref().map(TaskId::from)).collect();
    keeps.then_some(Heir { name, holds })
}

/// What this resource would take with it, if it is being deleted and does.
pub fn estate(ctx: &Context, from: &ObjectName) -> Option<Estate> {
    let object = ctx.objects.refreshes.get(from)?;
    object.metadata.deletion_timestamp.as_ref()?;
    let declared = Desired::parse(&object, None).ok()?.schedules;
    let takes =
        declared.management == ManagementPolicy::Manage && declared.deletion == DeletionPolicy::Delete;
    let schedules = tasks(object.status.as_ref()?).cloned().collect();
    takes.then(|| Estate { from: from.clone(), schedules })
}

/// The entries that have a task in Tableau.
fn tasks(status: &ExtractRefreshStatus) -> impl Iterator<Item = &ScheduleStatus> {
    status.schedules.iter().filter(|entry| entry.task_id.is_some())
}

/// Another resource that means the same content.
struct Rival {
    name: ObjectName,
    facts: Facts,
}

impl Rival {
    /// Whether it may act on the content. Who goes, or is not allowed to, stands in nobody's way, but for what is under way.
    fn comes(&self, ctx: &Context, found: &Found) -> Option<Access> {
        let object = ctx.objects.refreshes.get(&self.name).filter(|_| !self.facts.deleting)?;
        tenants::claims(ctx, &object, found)
    }
}

/// The other resources that mean this content, but for those of which only a finalizer is left.
fn rivals(ctx: &Context, desired: &Desired, sites: &[ObjectName], found: &Found) -> Vec<Rival> {
    let kind = desired.target.kind();
    let mut rivals = Vec::new();
    for site in sites {
        let mut keys = vec![Key::ContentLuid(site.clone(), kind, found.luid.clone())];
        keys.extend(found.name.clone().map(|name| Key::Content(site.clone(), kind, name)));
        for who in keys.iter().flat_map(|key| ctx.index.dependents(key)) {
            let Dependent::Refresh(name) = &who else { continue };
            if *name == desired.name {
                continue;
            }
            let stays = |facts: &Facts| !facts.deleting || !facts.parting.is_empty();
            let Some(facts) = ctx.index.facts(&who).filter(stays) else { continue };
            if means(ctx, site, name, found) {
                rivals.push(Rival { name: name.clone(), facts });
            }
        }
    }
    rivals
}

/// Every connection object that leads to this site and is let in there: by what it is connected to, else by what it was connected to before. What
/// stands in the status of one that is not may be anybody's word, unless the platform keeps it.
fn same_site(ctx: &Context, at: &ObjectName, found: &Found) -> Vec<ObjectName> {
    let Some(origin) = ctx.sites.get(at).map(|link| link.key.origin) else { return Vec::new() };
    let counts = |name: &ObjectName| name == at || ctx.let_in.counts(&Key::Site(name.clone()), &origin);
    let leads = |object: &TableauSite| {
        let name = object_name(object).filter(counts)?;
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
