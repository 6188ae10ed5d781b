//! Which connection object leads to which session. Sessions hang on what is really behind it, (URL, site, credential), so that two objects
//! for one place under one credential share one.

use super::workspace::Users;
use crate::model::ids::ObjectName;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

/// What is really behind a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// URL, and the site's content URL where there is one.
    pub origin: String,
    /// SHA-256 of the credential; never shown.
    credential: [u8; 32],
    /// The same of the way there: headers, authorities.
    way: [u8; 32],
}

impl SessionKey {
    /// A key. The parts of the credential are hashed at once.
    pub fn new(origin: String, credential: &[&str]) -> Self {
        Self { origin, credential: digest(credential), way: digest(&[]) }
    }

    /// The same, going another way: that is another session under the same credential.
    #[must_use]
    pub fn by(mut self, way: &[&str]) -> Self {
        self.way = digest(way);
        self
    }

    /// Recognises a credential later, without being it: salted with the identity of the resource.
    pub fn fingerprint(&self, salt: &str) -> String {
        use std::fmt::Write;
        let mut hash = Sha256::new();
        hash.update(salt.as_bytes());
        hash.update(self.credential);
        let mut text = String::with_capacity(32);
        for byte in &hash.finalize()[..16] {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// What reads a connection.
pub trait Reads {
    /// Stops reading at once. Whoever still holds it keeps nothing going by that.
    fn stop(&self);
}

/// A connection object's session.
pub struct Link<S> {
    /// What it hangs on.
    pub key: SessionKey,
    /// The session.
    pub session: Arc<S>,
    users: Arc<Users>,
}

impl<S> Clone for Link<S> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), session: self.session.clone(), users: self.users.clone() }
    }
}

/// The connection objects of one kind.
pub struct Connections<S> {
    links: RwLock<HashMap<ObjectName, Link<S>>>,
    shared: RwLock<HashMap<SessionKey, Shared<S>>>,
    said: RwLock<HashMap<ObjectName, &'static str>>,
}

/// A session that may be gone, and who uses it.
type Shared<S> = (Weak<S>, Arc<Users>);

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Self { links: RwLock::default(), shared: RwLock::default(), said: RwLock::default() }
    }
}

impl<S: Reads> Connections<S> {
    /// The session of a connection object, if it has one.
    pub fn get(&self, name: &ObjectName) -> Option<Link<S>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether the object has this session still: what is under way for it ends where it has not.
    pub fn uses(&self, name: &ObjectName, session: &Arc<S>) -> bool {
        self.get(name).is_some_and(|link| Arc::ptr_eq(&link.session, session))
    }

    /// Every connection object that has a session.
    pub fn all(&self) -> Vec<(ObjectName, Link<S>)> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.iter().map(|(name, link)| (name.clone(), link.clone())).collect()
    }

    /// Gives the object the session of this key, started if nobody has it yet. The session it had before ends with its last user.
    ///
    /// # Errors
    /// The session cannot be started; the object keeps what it had.
    pub fn link<E>(
        &self,
        name: &ObjectName,
        key: SessionKey,
        interval: Duration,
        start: impl FnOnce(Arc<Users>) -> Result<Arc<S>, E>,
    ) -> Result<Link<S>, E> {
        if let Some(link) = self.get(name).filter(|link| link.key == key) {
            link.users.add(name.clone(), interval);
            return Ok(link);
        }
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let existing =
            shared.get(&key).and_then(|(session, users)| Some((session.upgrade()?, users.clone())));
        let (session, users) = if let Some((session, users)) = existing {
            users.add(name.clone(), interval);
            (session, users)
        } else {
            let users = Arc::new(Users::default());
            users.add(name.clone(), interval);
            (start(users.clone())?, users)
        };
        shared.retain(|_, (session, _)| session.strong_count() > 0);
        shared.insert(key.clone(), (Arc::downgrade(&session), users.clone()));
        drop(shared);
        let link = Link { key, session, users };
        let before =
            self.links.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), link.clone());
        if let Some(before) = before {
            self.let_go(name, &before);
        }
        Ok(link)
    }

    /// Takes the session from the object if it leads elsewhere than the spec now says: nothing may go on at a place the user has left. True: it did.
    pub fn leave_other(&self, name: &ObjectName, origin: &str) -> bool {
        self.get(name).is_some_and(|link| link.key.origin != origin) && self.unlink(name)
    }

    /// Remembers how the connection is, by a reason of `Ready`.
    pub fn say(&self, name: &ObjectName, reason: &'static str) {
        self.said.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), reason);
    }

    /// How the connection was when it was looked at last, also where its condition tells something else.
    pub fn said(&self, name: &ObjectName) -> Option<&'static str> {
        self.said.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// The object is gone: takes the session from it and forgets how it was.
    pub fn forget(&self, name: &ObjectName) {
        self.said.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.unlink(name);
    }

    /// Takes the session from the object.
    pub fn unlink(&self, name: &ObjectName) -> bool {
        let before = self.links.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(link) = &before {
            self.let_go(name, link);
        }
        before.is_some()
    }

    /// The last user ends a session, and not whoever still has something under way in it. Nobody else is given it from then on.
    fn let_go(&self, name: &ObjectName, link: &Link<S>) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        link.users.remove(name);
        if link.users.all().is_empty() {
            shared.retain(|_, (session, _)| !std::ptr::eq(session.as_ptr(), Arc::as_ptr(&link.session)));
            link.session.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Default)]
    struct Stopped(AtomicBool);

    impl Reads for Stopped {
        fn stop(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn two_objects_share_one_session_and_the_last_one_ends_it() {
        let connections = Connections::<Stopped>::default();
        let name = |n: &str| ObjectName { namespace: "a".into(), name: n.into() };
        let key = || SessionKey::new("https://x".into(), &["user", "pass"]);
        let mut started = 0;
        let mut link = |who: &str, key: SessionKey| {
            connections
                .link(&name(who), key, Duration::from_secs(1), |_| {
                    started += 1;
                    Ok::<_, Infallible>(Arc::default())
                })
                .unwrap()
        };
        let one = link("one", key());
        let two = link("two", key());
        assert!(Arc::ptr_eq(&one.session, &two.session));
        let other = link("two", SessionKey::new("https://x".into(), &["userp", "ass"]));
        assert!(!Arc::ptr_eq(&one.session, &other.session));
        let way = link("two", key().by(&["x-proxy", "1"]));
        assert!(!Arc::ptr_eq(&one.session, &way.session));
        assert_eq!(way.key.fingerprint("salt"), key().fingerprint("salt"));
        assert_eq!(one.users.all(), [name("one")]);
        let held = one.session.clone();
        let stopped = |session: &Stopped| session.0.load(Ordering::SeqCst);
        assert!(
            stopped(&other.session) && !stopped(&way.session) && !stopped(&held),
            "its last user went on"
        );
        connections.unlink(&name("one"));
        assert!(stopped(&held), "whoever still holds it");
        let anew = link("one", key());
        assert!(
            !Arc::ptr_eq(&anew.session, &held) && !stopped(&anew.session),
            "nobody is given what has ended"
        );
        assert_eq!(started, 4);
    }
}
