//! Rules for a resource that stays.

use super::{Decision, Desired, Observed, Step};
use crate::api::FlowDeploymentStatus;
use jiff::Timestamp;

pub(super) fn decide(_d: &Desired, o: &Observed, status: &FlowDeploymentStatus, _now: Timestamp) -> Decision {
    Decision {
        status: status.clone(),
        step: Step::Rest,
        again: None,
        notes: vec![],
        memory: o.memory.clone(),
    }
}
