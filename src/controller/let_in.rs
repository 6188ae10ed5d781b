//! Which connections are let in where they lead. What is declared through one that is not stands in nobody's way: else whoever may write a connection
//! could stop what others have there.

use super::context::Context;
use super::index::{Dependent, Key, object_name};
use super::watches;
use crate::model::connection::{ConnectionState, DesiredWorkspace, Weight};
use crate::model::feeds::Feed;
use crate::model::ids::ObjectName;
use crate::model::time::Moment;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long connections still count that this process has not seen let in, once another is let in at the same place: who comes back first after an
/// outage is not to have by that what is the others', and their Secrets may come later.
const START: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Default)]
pub struct LetIn(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    known: HashMap<Key, Known>,
    /// By where it is: whether it has begun there, for places where somebody was let in.
    places: HashMap<String, Start>,
}

/// A connection object.
struct Known {
    /// Where it leads.
    origin: String,
    /// What it is worth there.
    weight: Weight,
    /// Since when one that was let in is refused. A token that has run out is replaced, and takes nothing from its owner meanwhile.
    refused: Option<Moment>,
}

/// Where a place stands at which somebody was let in.
enum Start {
    /// The others have a while, from when the first was.
    Since(Moment),
    /// It has begun.
    Over,
}

/// What came of what was heard.
#[derive(Debug, Default, PartialEq, Eq)]
struct News {
    /// Connections that count otherwise than before, each with where.
    turned: Vec<(Key, String)>,
    /// After so long it is to be heard again.
    again: Option<Duration>,
}

impl LetIn {
    /// How a connection that leads there is now. `patience`: how long one that was let in counts when it is refused.
    fn heard(
        &self,
        connection: &Key,
        origin: &str,
        state: &ConnectionState,
        (now, patience): (Moment, Duration),
    ) -> News {
        let mut inner = self.lock();
        let mut news = News::default();
        let left = match inner.known.get(connection) {
            Some(known) if known.origin != origin => inner.forget(connection),
            Some(_) | None => None,
        };
        let before = inner.worth(connection, origin);
        // Who had nothing else for it but that it led there may have been waited for too.
        news.turned.extend(left.map(|left| (connection.clone(), left)));
        let known = inner.known.entry(connection.clone()).or_insert_with(|| Known {
            origin: origin.to_owned(),
            weight: Weight::default(),
            refused: None,
        });
        let after = known.weight.after(state);
        known.refused = match (known.weight, after) {
            _ if matches!(state, ConnectionState::Connected { .. }) => None,
            (Weight::Proven, Weight::Refused) => known.refused.or(Some(now)),
            (_, _) => known.refused,
        };
        let left = known.refused.map(|since| since.plus(patience).since(now));
        known.weight = match left {
            None => after,
            Some(Duration::ZERO) => Weight::Refused,
            Some(_) => Weight::Proven,
        };
        known.refused = known.refused.filter(|_| known.weight == Weight::Proven);
        news.again = left.filter(|left| !left.is_zero());
        if known.weight == Weight::Proven && known.refused.is_none() {
            inner.places.entry(origin.to_owned()).or_insert(Start::Since(now));
        }
        if let Some(Start::Since(first)) = inner.places.get(origin) {
            let left = first.plus(START).since(now);
            if left.is_zero() {
                let mut late: Vec<Key> = inner.at(origin).filter(|one| *one != connection).cloned().collect();
                late.retain(|one| inner.counts(one, origin));
                inner.places.insert(origin.to_owned(), Start::Over);
                late.retain(|one| !inner.counts(one, origin));
                news.turned.extend(late.into_iter().map(|one| (one, origin.to_owned())));
            } else {
                news.again = news.again.into_iter().chain([left]).min();
            }
        }
        if inner.worth(connection, origin) != before {
            news.turned.push((connection.clone(), origin.to_owned()));
        }
        news
    }

    /// Whether what is declared through a connection that leads there stands in the way of others. Those of the cluster are the platform's.
    pub fn counts(&self, connection: &Key, origin: &str) -> bool {
        self.lock().counts(connection, origin)
    }

    /// Whether this process has seen it let in there, and nothing against it since.
    fn is_proven(&self, connection: &Key, origin: &str) -> bool {
        let inner = self.lock();
        is_cluster(connection)
            || inner
                .there(connection, origin)
                .is_some_and(|known| known.weight == Weight::Proven && known.refused.is_none())
    }

    /// Whether it was tried there, and is not let in.
    fn is_refused(&self, connection: &Key, origin: &str) -> bool {
        self.lock().is_refused(connection, origin)
    }

    /// Every connection that was heard of and is not gone.
    pub fn known(&self) -> Vec<Key> {
        self.lock().known.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn there(&self, connection: &Key, origin: &str) -> Option<&Known> {
        self.known.get(connection).filter(|known| known.origin == origin)
    }

    /// All that lead there.
    fn at(&self, origin: &str) -> impl Iterator<Item = &Key> {
        self.known.iter().filter(move |(_, known)| known.origin == origin).map(|(one, _)| one)
    }

    fn counts(&self, connection: &Key, origin: &str) -> bool {
        let starts = !matches!(self.places.get(origin), Some(Start::Over));
        let weight = self.there(connection, origin).map(|known| known.weight).unwrap_or_default();
        is_cluster(connection) || weight.claims(starts)
    }

    fn is_refused(&self, connection: &Key, origin: &str) -> bool {
        let known = self.there(connection, origin);
        !is_cluster(connection) && known.is_some_and(|known| known.weight == Weight::Refused)
    }

    /// What others go by.
    fn worth(&self, connection: &Key, origin: &str) -> (bool, bool) {
        (self.counts(connection, origin), self.is_refused(connection, origin))
    }

    /// Returns where it led.
    fn forget(&mut self, connection: &Key) -> Option<String> {
        let origin = self.known.remove(connection)?.origin;
        if self.at(&origin).next().is_none() {
            self.places.remove(&origin);
        }
        Some(origin)
    }
}

fn is_cluster(connection: &Key) -> bool {
    match connection {
        Key::Workspace(name) | Key::Site(name) => name.is_cluster(),
        Key::FlowDeployment(_) | Key::Feed(..) | Key::Content(..) | Key::ContentLuid(..) => false,
    }
}

/// How a connection is now, which leads there: whoever declares the same as its users looks again where that matters. Returns after how long this
/// is to be told again.
pub fn heard(ctx: &Context, connection: &Key, origin: &str, state: &ConnectionState) -> Option<Duration> {
    let times = (ctx.clock.moment(), ctx.cleanup_deadline);
    let News { turned, again } = ctx.let_in.heard(connection, origin, state, times);
    for (connection, origin) in turned {
        turn(ctx, &connection, &origin);
    }
    again
}

/// A connection object is gone.
pub fn forget(ctx: &Context, connection: &Key) {
    let left = ctx.let_in.lock().forget(connection);
    if let Some(origin) = left {
        turn(ctx, connection, &origin);
    }
}

/// It counts otherwise than before at the place where it leads, or has led.
fn turn(ctx: &Context, connection: &Key, origin: &str) {
    if let Key::Site(site) = connection {
        ctx.budgets.turned(ctx, origin, site);
    }
    wake_rivals(ctx, connection, origin);
}

/// Wakes those who declare what is declared through this connection too.
fn wake_rivals(ctx: &Context, connection: &Key, origin: &str) {
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
            let others = leading_to(ctx, origin);
            let keys: BTreeSet<Key> = users.iter().flat_map(|who| ctx.index.keys(who)).collect();
            for key in keys {
                let Key::Feed(of, Feed::Deployment(deployment)) = key else { continue };
                if of != *workspace {
                    continue;
                }
                for other in &others {
                    let theirs = Key::Feed(other.clone(), Feed::Deployment(deployment.clone()));
                    for who in ctx.index.dependents(&theirs) {
                        ctx.wakes.dependent(&who);
                    }
                }
            }
        }
        Key::FlowDeployment(_) | Key::Feed(..) | Key::Content(..) | Key::ContentLuid(..) => {}
    }
}

/// The API to which a connection to Prefect leads: where its session is, else where it says itself.
pub fn api_of(ctx: &Context, workspace: &ObjectName) -> Option<String> {
    let linked = ctx.workspaces.get(workspace).map(|link| link.key.origin);
    linked.or_else(|| Some(DesiredWorkspace::parse(&*ctx.objects.workspace(workspace)?).ok()?.api_url))
}

/// The connection objects that lead to an API: also those that are suspended or lack their Secret, and have no session.
pub fn leading_to(ctx: &Context, api: &str) -> Vec<ObjectName> {
    let leads = |name: &ObjectName, said: Option<DesiredWorkspace>| {
        said.is_some_and(|said| said.api_url == api)
            || ctx.workspaces.get(name).is_some_and(|link| link.key.origin == api)
    };
    let all = ctx.objects.all_workspaces().into_iter();
    all.filter_map(|object| {
        object_name(&*object).filter(|name| leads(name, DesiredWorkspace::parse(&object).ok()))
    })
    .collect()
}

/// Whether what is declared through this workspace, which leads to that API, stands in the way of others.
pub fn counts(ctx: &Context, workspace: &ObjectName, api: &str) -> bool {
    ctx.let_in.counts(&Key::Workspace(workspace.clone()), api)
}

/// Whether it was tried there, and is not let in.
pub fn is_refused(ctx: &Context, workspace: &ObjectName, api: &str) -> bool {
    ctx.let_in.is_refused(&Key::Workspace(workspace.clone()), api)
}

/// Whether somebody who declares something through this workspace may be given it there.
pub fn is_proven(ctx: &Context, workspace: &ObjectName, api: &str) -> bool {
    ctx.let_in.is_proven(&Key::Workspace(workspace.clone()), api)
}

#[cfg(test)]
#[path = "let_in_tests.rs"]
mod tests;
