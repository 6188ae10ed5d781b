//! Schedules as both sides write them.
