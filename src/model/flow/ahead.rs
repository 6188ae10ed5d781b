//! The place that the spec names, while another one is still kept: what is at the former goes only once there can be a new one.

use super::claim::{Owner, owner};
use super::pass::{Drifted, Pass, Ready, unavailable};
use super::{Claim, Heir, View, WorkspaceView, way};
use crate::api::FlowDeploymentStatus;
use crate::model::connection::Standing;
use crate::model::deployments::Deployment;
use crate::model::ids::ObjectName;

/// What is known of the place that the spec names, where that is another than the one that status names.
#[derive(Clone, Debug, PartialEq)]
pub struct Ahead {
    /// Its connection.
    pub workspace: WorkspaceView,
    /// Whether that waits for us when it is deleted.
    pub standing: Standing,
    /// The deployment there.
    pub deployment: View<Deployment>,
    /// Whose it is.
    pub claim: Claim,
    /// Whoever has it is being deleted, and hands it over to the one who is prepared for it: he has to come for that.
    pub given: bool,
}

/// What the status says as long as there can be no new deployment; none: the former one may go.
pub(super) fn hindered(p: &Pass) -> Option<FlowDeploymentStatus> {
    let waits = || Some(still(p).unwrap_or_else(|| p.waiting(p.status.clone())));
    let Some(ahead) = &p.o.ahead else { return waits() };
    let ready = match (&ahead.workspace, &ahead.deployment, &ahead.claim) {
        // Just started: it has not been tried yet.
        (WorkspaceView::NotReady { reason }, ..) if reason == "Progressing" => return waits(),
        (WorkspaceView::Missing | WorkspaceView::NotReady { .. }, ..) => unavailable(&p.d.workspace),
        (WorkspaceView::Ready, ..) if ahead.standing == Standing::Leaving => way::closing(p),
        (WorkspaceView::Ready, View::Unread | View::Dirty, _)
        | (WorkspaceView::Ready, View::Absent | View::Present(_), Claim::Unresolved) => return waits(),
        (WorkspaceView::Ready, View::Absent | View::Present(_), Claim::Taken { by }) => taken(p, by),
        // Of those who swap names, each would wait for the other.
        (WorkspaceView::Ready, View::Absent | View::Present(_), Claim::TakenByLeaving { .. })
            if ahead.given || p.o.heir == Heir::Turning =>
        {
            return None;
        }
        (WorkspaceView::Ready, View::Absent | View::Present(_), Claim::TakenByLeaving { by }) => {
            yielding(p, by)
        }
        (WorkspaceView::Ready, View::Absent, Claim::Ours) => return None,
        // What status says of ids is about the former one.
        (WorkspaceView::Ready, View::Present(there), Claim::Ours) => {
            match owner(p.d, &FlowDeploymentStatus::default(), there) {
                Owner::Nobody | Owner::Gone(_) if p.d.adopts => return None,
                whose => not_ours(p, &whose)?,
            }
        }
    };
    let former = p.d.place(p.status);
    let until = format!(
        "; until then deployment `{}` in workspace `{}` goes on",
        former.deployment, former.workspace
    );
    Some(p.with(ready.and(&until), Drifted::NotObserved))
}

/// What was in the way is so until it is known otherwise: a start of the operator changes nothing about it.
pub(super) fn still(p: &Pass) -> Option<FlowDeploymentStatus> {
    let hindered = ["AdoptionRequired", "ConnectionUnavailable", "TargetConflict"];
    p.ready().filter(|ready| hindered.contains(&ready.reason.as_str())).map(|_| p.status.clone())
}

/// Another one keeps it.
pub(super) fn taken(p: &Pass, by: &ObjectName) -> Ready {
    Ready::stalled(
        "TargetConflict",
        format!(
            "FlowDeployment {by} already keeps deployment `{}`; delete one of the two or name another deployment",
            p.d.deployment
        ),
    )
}

/// Another one keeps it still.
pub(super) fn yielding(p: &Pass, by: &ObjectName) -> Ready {
    Ready::working(
        "Progressing",
        format!(
            "Waits for FlowDeployment {by}, which is deleted or names another one now, to let go of deployment `{}`",
            p.d.deployment
        ),
    )
}

/// It is there, and carries no mark that makes it ours; none: it does.
pub(super) fn not_ours(p: &Pass, whose: &Owner) -> Option<Ready> {
    let (name, mark) = (&p.d.deployment, &p.d.mark);
    Some(match whose {
        Owner::Us => return None,
        Owner::Nobody => Ready::stalled(
            "AdoptionRequired",
            format!(
                "Deployment `{name}` exists and was not made by Feedwater; take it over with adoptionPolicy: Adopt, or delete it in Prefect"
            ),
        ),
        Owner::Gone(whose) => Ready::stalled(
            "AdoptionRequired",
            format!(
                "Deployment `{name}` carries `{whose}`, of a resource that does not declare it; take it over with adoptionPolicy: Adopt, or \
                 replace that tag by `{mark}` in Prefect"
            ),
        ),
        Owner::OtherInstance(whose) => Ready::stalled(
            "TargetConflict",
            format!(
                "Deployment `{name}` carries `{whose}`, of another Feedwater; name another deployment, or remove that tag in Prefect if \
                 that one is gone"
            ),
        ),
    })
}
