//! Which connections are let in where they lead. What is declared through one that is not stands in nobody's way: else whoever may write a connection
//! could stop what others have there.

use super::context::Context;
use super::index::{Dependent, Key};
use super::watches;
use crate::model::connection::{ConnectionState, Weight};
use crate::model::feeds::Feed;
use crate::model::ids::ObjectName;
use crate::model::time::Moment;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long after a start connections count that this process has not seen let in: their Secrets may come later, and an outage may end.
const START: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Default)]
pub struct LetIn(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Since when this process acts.
    since: Option<Moment>,
    /// That has been told of: moments of one instant differ, and whoever is woken for the end is to find it.
    started: bool,
    /// By connection object: where it leads, and what it is worth there.
    known: HashMap<Key, (String, Weight)>,
}

impl LetIn {
    /// This process begins to act. Returns when it is no start any more.
    pub fn begin(&self, now: Moment) -> Moment {
        self.lock().since.get_or_insert(now).plus(START)
    }

    /// How a connection that leads there is now. True: from now on it counts, or does not any more.
    fn heard(&self, connection: &Key, origin: &str, state: &ConnectionState, now: Moment) -> bool {
        let mut inner = self.lock();
        let (starts, before) = (inner.starts(now), inner.weight(connection, origin));
        let after = before.after(state);
        inner.known.insert(connection.clone(), (origin.to_owned(), after));
        before.claims(starts) != after.claims(starts)
    }

    /// Whether what is declared through a connection that leads there stands in the way of others.
    pub fn counts(&self, connection: &Key, origin: &str, now: Moment) -> bool {
        let inner = self.lock();
        inner.weight(connection, origin).claims(inner.starts(now))
    }

    /// Whether this process has seen it let in there.
    fn is_proven(&self, connection: &Key, origin: &str) -> bool {
        self.lock().weight(connection, origin) == Weight::Proven
    }

    fn forget(&self, connection: &Key) {
        self.lock().known.remove(connection);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn starts(&self, now: Moment) -> bool {
        !self.started && self.since.is_none_or(|since| now.since(since) < START)
    }

    fn weight(&self, connection: &Key, origin: &str) -> Weight {
        let known = self.known.get(connection).filter(|(led, _)| led == origin);
        known.map(|(_, weight)| *weight).unwrap_or_default()
    }
}

/// How a connection is now, which leads there: whoever declares the same as its users looks again where that matters.
pub fn heard(ctx: &Context, connection: &Key, origin: &str, state: &ConnectionState) {
    if ctx.let_in.heard(connection, origin, state, ctx.clock.moment()) {
        wake_rivals(ctx, connection);
    }
}

/// A connection object is gone.
pub fn forget(ctx: &Context, connection: &Key) {
    ctx.let_in.forget(connection);
    wake_rivals(ctx, connection);
}

/// The start is over: who was waited for that was not let in is waited for no more.
pub fn started(ctx: &Context) {
    ctx.let_in.lock().started = true;
    let sites = ctx.objects.all_sites().into_iter().filter_map(|site| super::index::object_name(&*site));
    let workspaces = ctx.workspaces.all().into_iter().map(|(name, _)| Key::Workspace(name));
    for connection in sites.map(Key::Site).chain(workspaces) {
        let known = ctx.let_in.lock().known.get(&connection).map(|(_, weight)| *weight);
        if !known.unwrap_or_default().claims(false) {
            wake_rivals(ctx, &connection);
        }
    }
}

/// Wakes those who declare what is declared through this connection too.
fn wake_rivals(ctx: &Context, connection: &Key) {
    let users = ctx.index.dependents(connection);
    match connection {
        Key::Site(_) => {
            let names = users.iter().filter_map(|who| match who {
                Dependent::Refresh(name) => Some(name),
                Dependent::Flow(_) => None,
            });
            watches::wake_same(ctx, names);
        }
        Key::Workspace(workspace) => {
            let keys: BTreeSet<Key> = users.iter().flat_map(|who| ctx.index.keys(who)).collect();
            for key in keys {
                let Key::Feed(of, Feed::Deployment(deployment)) = key else { continue };
                if of != *workspace {
                    continue;
                }
                for other in same_api(ctx, workspace) {
                    for who in ctx.index.dependents(&Key::Feed(other, Feed::Deployment(deployment.clone()))) {
                        ctx.wakes.dependent(&who);
                    }
                }
            }
        }
        Key::FlowDeployment(_) | Key::Feed(..) | Key::Content(..) | Key::ContentLuid(..) => {}
    }
}

/// Whether what is declared through this workspace stands in the way of others.
pub fn counts(ctx: &Context, workspace: &ObjectName) -> bool {
    let now = ctx.clock.moment();
    asked(ctx, workspace, |key, origin| ctx.let_in.counts(key, origin, now))
}

/// Whether somebody who declares something through this workspace may be given it. Those of the cluster are the platform's.
pub fn is_proven(ctx: &Context, workspace: &ObjectName) -> bool {
    asked(ctx, workspace, |key, origin| ctx.let_in.is_proven(key, origin))
}

fn asked(ctx: &Context, workspace: &ObjectName, ask: impl Fn(&Key, &str) -> bool) -> bool {
    let ask = |origin: &str| ask(&Key::Workspace(workspace.clone()), origin);
    workspace.is_cluster() || ctx.workspaces.get(workspace).is_some_and(|link| ask(&link.key.origin))
}

/// The connection objects that lead to the same API as this one, it among them.
pub fn same_api(ctx: &Context, workspace: &ObjectName) -> Vec<ObjectName> {
    let Some(link) = ctx.workspaces.get(workspace) else { return vec![workspace.clone()] };
    let all = ctx.workspaces.all().into_iter();
    all.filter(|(_, other)| other.key.origin == link.key.origin).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::connection::Trouble;

    /// Another place, or another object, is to be let in anew: what counts is the word of those who are in.
    #[test]
    fn who_is_let_in_counts_where_that_was_and_who_never_was_only_while_everything_starts() {
        let site = |name: &str| Key::Site(ObjectName { namespace: "a".into(), name: name.into() });
        let at = |seconds: u64| Moment(Duration::from_secs(seconds));
        let (connected, away) = (
            ConnectionState::Connected { version: "3.24".into() },
            ConnectionState::Failed(Trouble::Unreachable),
        );
        let refused = ConnectionState::Failed(Trouble::CredentialsRefused { worked_before: false });
        let (here, there) = ("https://t#", "https://u#");
        let known = LetIn::default();
        let over = known.begin(at(100));
        assert_eq!((over, known.begin(at(200))), (at(400), at(400)), "it starts once");
        assert!(!known.heard(&site("good"), here, &connected, at(101)), "it has counted all the while");
        assert!(!known.heard(&site("away"), here, &away, at(101)), "it may be back at once");
        assert!(known.heard(&site("bad"), here, &refused, at(101)));
        let counts = |name: &str, origin: &str, now| known.counts(&site(name), origin, now);
        for (name, starting, later) in
            [("good", true, true), ("away", true, false), ("bad", false, false), ("unknown", true, false)]
        {
            assert_eq!((counts(name, here, at(399)), counts(name, here, over)), (starting, later), "{name}");
        }
        assert!(!counts("good", there, over));
        assert!(known.heard(&site("away"), here, &connected, over), "it is back");
        assert!(!known.heard(&site("good"), there, &ConnectionState::Connecting, over));
        assert!(!counts("good", here, over) && !counts("good", there, over), "it has left");
        known.forget(&site("away"));
        assert!(!counts("away", here, over));
    }
}
