//! The state machine's part of a status, apart from what is told to people.

use crate::api::ExtractRefreshStatus;

/// Whether nothing but what is told to people differs.
pub(super) fn same(a: &ExtractRefreshStatus, b: &ExtractRefreshStatus) -> bool {
    let ExtractRefreshStatus {
        observed_generation: _,
        target,
        data_time,
        upstreams: _,
        effective: _,
        last_handled_refresh_token,
        next_eligible_time: _,
        baseline,
        marks,
        schedules,
        schedule_intent,
        foreign_schedules,
        applied_fields,
        plan: _,
        last_drift,
        data_quality_warning,
        owed,
        attempt,
        history,
        conditions: _,
    } = a;
    *target == b.target
        && *data_time == b.data_time
        && *last_handled_refresh_token == b.last_handled_refresh_token
        && *baseline == b.baseline
        && *marks == b.marks
        && *schedules == b.schedules
        && *schedule_intent == b.schedule_intent
        && *foreign_schedules == b.foreign_schedules
        && *applied_fields == b.applied_fields
        && *last_drift == b.last_drift
        && *data_quality_warning == b.data_quality_warning
        && *owed == b.owed
        && *attempt == b.attempt
        && *history == b.history
}
