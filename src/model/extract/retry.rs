//! What happens after a refresh that did not succeed: tries, waits, ends, and what starts again after an end.

use super::Pass;
use crate::api::{Attempt, ExtractRefreshStatus, Owed, Stopped, Time};
use crate::model::failures::Lasting;
use crate::model::time::{add, ceil_second};
use jiff::Timestamp;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const LONGEST_REFUSAL: Duration = Duration::from_secs(30 * 60);

/// What starts again after an end.
pub(super) const AGAIN: &str =
    "request a refresh (annotation feedwater.dev/refresh-requested), edit the spec, or wait for new data";

/// A failed try of ours: again later, or never. `why`: it failed for a reason that a retry does not mend.
pub(super) fn failed(p: &mut Pass, s: &mut ExtractRefreshStatus, attempt: &Attempt, why: Option<Lasting>) {
    if !attempt.is_ours() {
        return not_ours(p, s, attempt);
    }
    let Some(owed) = &mut s.owed else { return };
    owed.tries = (owed.tries + 1).min(1000);
    let tries = u32::try_from(owed.tries).unwrap_or_default();
    if let Some(why) = why {
        stop(p, owed, Stopped::Exhausted);
        owed.failure = Some(why.reason().to_owned());
        p.warn("NotRetried", format!("{}; it is not tried again: then {AGAIN}", why.sentence()));
    } else if tries > p.d.retry.limit {
        stop(p, owed, Stopped::Exhausted);
        p.warn("RetriesExhausted", format!("The retries are used up: {AGAIN}"));
    } else {
        let wait =
            grown(p.d.retry.backoff.first, p.d.retry.backoff.factor, tries - 1, p.d.retry.backoff.longest);
        owed.not_before =
            Some(after(p, jittered(wait, &[&p.d.name.to_string(), &attempt.id, &tries.to_string()])));
    }
}

/// A person cancelled our job: they do not want it now.
pub(super) fn cancelled(p: &Pass, s: &mut ExtractRefreshStatus, attempt: &Attempt) {
    if !attempt.is_ours() {
        return not_ours(p, s, attempt);
    }
    if let Some(owed) = &mut s.owed {
        stop(p, owed, Stopped::Cancelled);
    }
}

/// Somebody else's job, of which we hoped it would do: no try, but not at once.
fn not_ours(p: &Pass, s: &mut ExtractRefreshStatus, attempt: &Attempt) {
    let wait = jittered(p.d.retry.backoff.first, &[&p.d.name.to_string(), &attempt.id]);
    if let Some(owed) = &mut s.owed {
        owed.not_before = Some(after(p, wait));
    }
}

/// Tableau refused: no try is counted, the next POST comes later and later.
pub(super) fn refused(p: &Pass, s: &mut ExtractRefreshStatus, reason: &str, told: Option<Duration>) {
    let Some(owed) = &mut s.owed else { return };
    let before = u32::try_from(owed.refusals).unwrap_or_default();
    owed.refusals = (owed.refusals + 1).min(1000);
    owed.refused = Some(reason.to_owned());
    // How many may be started is the site's matter, whoever asks.
    owed.refused_with = p.o.credential.clone().filter(|_| reason != super::fold::HELD_BY_BUDGET);
    owed.not_before = Some(after(p, told.unwrap_or_else(|| grown(MINUTE, 2, before, LONGEST_REFUSAL))));
}

/// A job is there: what was refused or not answered before is over.
pub(super) fn under_way(s: &mut ExtractRefreshStatus) {
    if let Some(owed) = &mut s.owed {
        (owed.refusals, owed.refused) = (0, None);
    }
}

/// A start got no answer, and no job is seen: at once the first time, since an answer may be lost on the way, then 15 s, growing to 30 min. No try is
/// counted.
pub(super) fn unanswered(p: &Pass, s: &mut ExtractRefreshStatus) {
    let Some(owed) = &mut s.owed else { return };
    if owed.refused.as_deref().is_some_and(|why| why != super::fold::REMOTE_FAILED) {
        // Those were answers.
        (owed.refusals, owed.refused) = (0, None);
    }
    let before = u32::try_from(owed.refusals).unwrap_or_default();
    owed.refusals = (owed.refusals + 1).min(1000);
    if before == 0 {
        return;
    }
    owed.refused = Some(super::fold::REMOTE_FAILED.to_owned());
    owed.refused_with = None;
    owed.not_before = Some(after(p, grown(Duration::from_secs(15), 2, before - 1, LONGEST_REFUSAL)));
}

/// A job of somebody else is in the way and cannot be seen: 15 s, growing to 5 min.
pub(super) fn blocked_until(p: &Pass, blocked: i32) -> Time {
    let times = u32::try_from(blocked).unwrap_or_default().saturating_sub(1);
    after(p, grown(Duration::from_secs(15), 2, times, 5 * MINUTE))
}

/// A job that may not be cancelled: 1 min, growing to 30 min.
pub(super) fn uncancelled_until(p: &Pass, refused: i32) -> Time {
    let times = u32::try_from(refused).unwrap_or_default().saturating_sub(1);
    after(p, grown(MINUTE, 2, times, LONGEST_REFUSAL))
}

/// Why the last try failed, where a retry does not mend it.
pub(super) fn lasting(owed: &Owed) -> Option<Lasting> {
    Lasting::named(owed.failure.as_deref()?)
}

fn stop(p: &Pass, owed: &mut Owed, why: Stopped) {
    owed.stopped = Some(why);
    // Counts only once a new occasion has re-armed it.
    owed.not_before = Some(after(p, p.d.retry.backoff.longest));
}

/// Somebody asked, or changed something: a fresh count, at once.
pub(super) fn rearm(s: &mut ExtractRefreshStatus) {
    if let Some(owed) = &mut s.owed {
        (owed.tries, owed.refusals) = (0, 0);
        (owed.not_before, owed.stopped, owed.failure) = (None, None, None);
        (owed.refused, owed.refused_with) = (None, None);
    }
}

/// Another credential than the one that was refused is tried at once.
pub(super) fn learn_credential(p: &Pass, s: &mut ExtractRefreshStatus) {
    let another = |owed: &Owed| {
        owed.refused.is_some()
            && owed.refused_with.is_some()
            && p.o.credential.is_some()
            && owed.refused_with != p.o.credential
    };
    if s.owed.as_ref().is_some_and(another) {
        rearm(s);
    }
}

/// A new generation (a resumed one too): what had ended begins anew, a refusal is asked again; a retry under way keeps its pace.
pub(super) fn learn_generation(p: &Pass, s: &mut ExtractRefreshStatus) {
    let ended = s.owed.as_ref().is_some_and(|owed| owed.stopped.is_some() || owed.refused.is_some());
    if s.observed_generation != p.d.generation && ended {
        rearm(s);
    }
}

/// New data after an end is worth one try, not sooner than the longest wait after that end.
pub(super) fn rearm_once(p: &Pass, s: &mut ExtractRefreshStatus) {
    if let Some(owed) = s.owed.as_mut().filter(|owed| owed.stopped.is_some()) {
        (owed.stopped, owed.failure) = (None, None);
        owed.tries = i32::try_from(p.d.retry.limit).unwrap_or(1000);
    }
}

pub(super) fn after(p: &Pass, wait: Duration) -> Time {
    Time(ceil_second(add(p.now, wait)))
}

pub(super) fn grown(first: Duration, factor: u32, times: u32, longest: Duration) -> Duration {
    let mut wait = first.min(longest);
    for _ in 0..times.min(64) {
        wait = wait.saturating_mul(factor.max(1)).min(longest);
    }
    wait
}

/// ±10 %, the same for the same try, so that deciding twice gives one answer.
fn jittered(wait: Duration, of: &[&str]) -> Duration {
    let hash =
        of.iter().flat_map(|part| part.bytes().chain([0])).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let per_mille = 900 + u32::try_from((hash >> 32) % 201).unwrap_or(100);
    wait.saturating_mul(per_mille) / 1000
}

/// Whether the time has come.
pub(super) fn due(not_before: Option<Time>, now: Timestamp) -> bool {
    not_before.is_none_or(|Time(at)| at <= now)
}
