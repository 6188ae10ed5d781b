//! How far the runs of a workspace were read, kept on the operator's Lease: so that a gap is known at the next start, or when a workspace is
//! resumed.

use super::connections::SessionKey;
use super::context::Context;
use super::workspace::Users;
use crate::clock::Clock;
use crate::model::ids::ObjectName;
use crate::model::time::sub;
use crate::runtime::lease;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// The annotations' prefix.
const PREFIX: &str = "cursor.feedwater.dev/";
/// What is read anew of every workspace: what was read within it needs no look farther back.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What was read within it has no gap: less by how far Prefect's clock may be from ours, so that the day that is read anew does not begin after it.
const NO_GAP: Duration = Duration::from_secs(24 * 3600 - 600);

/// Those of one session. Each object has its own: one may be suspended while others read the same API.
pub struct Cursors {
    lease: lease::Handle,
    clock: Clock,
    api_url: String,
    users: Arc<Users>,
}

impl Cursors {
    /// Of the objects that use a session with this API.
    pub fn new(ctx: &Context, api_url: &str, users: &Arc<Users>) -> Self {
        Self {
            lease: ctx.lease.clone(),
            clock: ctx.clock.clone(),
            api_url: api_url.to_owned(),
            users: users.clone(),
        }
    }

    /// Whether one of them was not read within the last day: what completed before may have been missed.
    pub fn gap(&self) -> bool {
        let day_ago = sub(self.clock.now(), NO_GAP);
        let read = |user: &ObjectName| self.lease.annotation(&self.key(user))?.parse::<Timestamp>().ok();
        self.users.all().iter().any(|user| read(user).is_none_or(|at| at < day_ago))
    }

    /// Read so far, for these: one that came while it was read has had nothing read for it yet.
    pub fn keep(&self, at: Timestamp, users: &[ObjectName]) {
        // The lease is written every few seconds anyway; the annotation need not change each time.
        let minute = Timestamp::from_second(at.as_second() - at.as_second().rem_euclid(60)).unwrap_or(at);
        for user in users {
            if let Err(error) = self.lease.set_annotation(&self.key(user), &minute.to_string()) {
                tracing::error!(%error, "the cursor cannot be kept on the Lease");
            }
        }
        // An older one says no more than none, and objects that are no more leave theirs behind.
        let day_ago = sub(self.clock.now(), DAY);
        self.lease.drop_annotations(PREFIX, |value| value.parse::<Timestamp>().is_ok_and(|at| at < day_ago));
    }

    fn key(&self, user: &ObjectName) -> String {
        let id = SessionKey::new(self.api_url.clone(), &[&self.api_url, &user.to_string()]);
        format!("{PREFIX}{}", id.fingerprint("cursor"))
    }
}
