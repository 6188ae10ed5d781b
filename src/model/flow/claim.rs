//! Whose a deployment is: the mark in Prefect, then age, then name (API.md 3).

use super::{Desired, View};
use crate::api::{DeletionPolicy, FlowDeploymentStatus};
use crate::model::deployments::Deployment;
use crate::model::ids::{ConnectionName, ObjectName};
use crate::model::tenancy::Access;
use jiff::Timestamp;

/// Every mark begins so: `feedwater:<instance>/<namespace>/<name>`.
pub const MARK_PREFIX: &str = "feedwater:";

/// Another `FlowDeployment` that declares the deployment at the same place, or is about to leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // answers to separate questions
pub struct Claimant {
    /// The resource.
    pub name: ObjectName,
    /// Its creation timestamp.
    pub created_at: Timestamp,
    /// Whether it lets go: it is being deleted, or its spec names another place by now.
    pub leaving: bool,
    /// Whether its connection allows it what it declares; if not, that is not known yet: who is not allowed is no claimant.
    pub allowed: bool,
    /// Whether it would keep track of the deployment from the moment it is given it: its finalizer and its status are in place. Without
    /// that, a deployment handed over to a resource that changes its mind would be leaked.
    pub prepared: bool,
    /// Whether it leaves another deployment first, which may be the very one for which the holder of this one waits: names may be swapped.
    pub turning: bool,
}

impl Claimant {
    /// A resource as the others see it. `wants`: the place is its [`Desired::wanted_place`], else the one that it leaves. None: it stands in nobody's
    /// way, since its connection does not allow it what it wants, or since it stays away from what it left.
    pub fn of(d: &Desired, status: &FlowDeploymentStatus, access: &Access, wants: bool) -> Option<Self> {
        // Else it keeps what it has.
        let acts = !d.suspend && !d.observes;
        if !wants && !acts && d.deleting.is_none() {
            return None;
        }
        let here = status.full_name.as_deref() == Some(d.deployment.to_string().as_str())
            && status.workspace.as_deref() == Some(d.workspace.to_string().as_str());
        let allowed = match access {
            Access::Allowed => true,
            Access::Unknown => false,
            // It holds what it made while it was allowed, until it has gone.
            Access::Denied(_) if d.deleting.is_some() => false,
            Access::Denied(_) => return None,
        };
        Some(Self {
            name: d.name.clone(),
            created_at: d.created_at,
            leaving: d.deleting.is_some() || !wants,
            allowed,
            prepared: here && (d.has_finalizer || d.deletion_policy == DeletionPolicy::Orphan),
            turning: acts && !here && status.full_name.is_some(),
        })
    }
}

/// Who gets a deployment when its holder leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heir {
    /// Nobody else declares it.
    None,
    /// Somebody does, and is not prepared yet, or it is not known yet whether he may.
    Soon,
    /// All who do leave another deployment first.
    Turning,
    /// This resource.
    Ready(ObjectName),
}

/// Whose the place is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Not known yet: whether another resource that comes first may have it is being looked up.
    Unresolved,
    /// Ours.
    Ours,
    /// Another live resource's.
    Taken {
        /// The resource.
        by: ObjectName,
    },
    /// Of a resource that lets go of it: it will hand the deployment over or delete it.
    TakenByLeaving {
        /// The resource.
        by: ObjectName,
    },
}

/// Decides between the resources that declare the same deployment: who holds the mark, else the oldest, else the first by name.
pub fn claim(d: &Desired, deployment: &View<Deployment>, others: &[Claimant]) -> Claim {
    let tags: &[String] = match deployment {
        View::Present(there) => &there.tags,
        View::Unread | View::Dirty | View::Absent => &[],
    };
    let marked = |name: &ObjectName| tags.contains(&d.mark_of(name));
    if let Some(leaving) = others.iter().find(|o| o.leaving && marked(&o.name))
        && !marked(&d.name)
    {
        return Claim::TakenByLeaving { by: leaving.name.clone() };
    }
    let rank = |name: &ObjectName, created_at: Timestamp| (!marked(name), created_at, name.to_string());
    let ours = rank(&d.name, d.created_at);
    others
        .iter()
        .filter(|o| !o.leaving)
        .min_by_key(|o| rank(&o.name, o.created_at))
        .filter(|o| rank(&o.name, o.created_at) < ours)
        .map_or(
            Claim::Ours,
            |o| if o.allowed { Claim::Taken { by: o.name.clone() } } else { Claim::Unresolved },
        )
}

/// Who gets the deployment when its holder goes: the oldest live claimant that is prepared for it.
pub fn heir(others: &[Claimant]) -> Heir {
    let mut live: Vec<&Claimant> = others.iter().filter(|o| !o.leaving).collect();
    live.sort_by_key(|o| (o.created_at, o.name.to_string()));
    match (live.iter().find(|o| o.prepared && o.allowed), live.is_empty()) {
        (Some(heir), _) => Heir::Ready(heir.name.clone()),
        (None, true) => Heir::None,
        (None, false) if live.iter().all(|o| o.turning) => Heir::Turning,
        (None, false) => Heir::Soon,
    }
}

/// Whose mark a deployment carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Ours, or none on the very deployment that we made (somebody removed the tag), unless its connection has the rights of others.
    Us,
    /// Nobody's.
    Nobody,
    /// A resource of this installation that is no live claimant.
    Gone(String),
    /// Another installation's.
    OtherInstance(String),
}

pub(super) fn owner(d: &Desired, status: &FlowDeploymentStatus, there: &Deployment) -> Owner {
    let ours = format!("{MARK_PREFIX}{}/", d.instance);
    let marks = || there.tags.iter().filter(|t| t.starts_with(MARK_PREFIX));
    if let Some(other) = marks().find(|m| !m.starts_with(&ours)) {
        return Owner::OtherInstance(other.clone());
    }
    if there.tags.contains(&d.mark) {
        return Owner::Us;
    }
    match marks().next() {
        Some(whose) => Owner::Gone(whose.clone()),
        // Through a connection of the cluster only the mark says so, which whoever may write a status cannot set.
        None if is_made(d, status, there) && !d.place(status).workspace.is_cluster() => Owner::Us,
        None => Owner::Nobody,
    }
}

/// Whether it is the very deployment of status, whose id was learnt through the connection of the place: an id proves nothing where it was not
/// learnt, since whoever runs a server of their own can have it answer with those of others.
fn is_made(d: &Desired, status: &FlowDeploymentStatus, there: &Deployment) -> bool {
    let place = d.place(status).workspace;
    let learnt_there = match status.workspace.as_deref().map(ConnectionName::parse) {
        Some(learnt) => learnt == place,
        // An earlier build did not write it down.
        None => !place.is_cluster(),
    };
    learnt_there && status.deployment_id.as_deref() == Some(there.id.as_str())
}

/// Whether what a write of ours made Prefect drop was dropped there.
pub(super) fn is_written(d: &Desired, status: &FlowDeploymentStatus, there: &Deployment) -> bool {
    is_made(d, status, there) || (status.deployment_id.is_none() && there.tags.contains(&d.mark))
}
