//! Rules for leaving a deployment: its resource is deleted, or its names changed.

use super::{Decision, Desired, Observed, Step};
use crate::api::FlowDeploymentStatus;
use jiff::Timestamp;

pub(super) fn delete(
    _d: &Desired,
    o: &Observed,
    status: &FlowDeploymentStatus,
    _since: Timestamp,
    _now: Timestamp,
) -> Decision {
    Decision {
        status: status.clone(),
        step: Step::Rest,
        again: None,
        notes: vec![],
        memory: o.memory.clone(),
    }
}
