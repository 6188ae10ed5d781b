//! A resource that is renamed in Git is one that goes and one that comes: what the first keeps outside waits for the second.

use super::time::add;
use jiff::Timestamp;
use std::time::Duration;

/// Which part of the time that a deletion may take the one that comes has for taking over: an outage, a restart or a rule that is not read yet may
/// fall into it. If it does nothing, the rest is enough for taking everything away.
const PART: u32 = 2;
/// However long the deletion may take: one that is suspended does not take over, and is not waited for all the while.
const LONGEST: Duration = Duration::from_secs(600);

/// Until when what a resource keeps outside waits for the one that comes. `since`: the deletion timestamp; `deadline`: how long the deletion may take.
pub fn waits_until(since: Timestamp, deadline: Duration) -> Timestamp {
    add(since, (deadline / PART).min(LONGEST))
}
