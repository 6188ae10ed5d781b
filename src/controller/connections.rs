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
}

impl SessionKey {
    /// A key. The parts of the credential are hashed at once.
    pub fn new(origin: String, credential: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in credential {
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self { origin, credential: hash.finalize().into() }
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
}

/// A session that may be gone, and who uses it.
type Shared<S> = (Weak<S>, Arc<Users>);

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Self { links: RwLock::default(), shared: RwLock::default() }
    }
}

impl<S> Connections<S> {
    /// The session of a connection object, if it has one.
    pub fn get(&self, name: &ObjectName) -> Option<Link<S>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
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
            before.users.remove(name);
        }
        Ok(link)
    }

    /// Takes the session from the object if it leads elsewhere than the spec now says: nothing may go on at a place the user has left.
    pub fn leave_other(&self, name: &ObjectName, origin: &str) {
        if self.get(name).is_some_and(|link| link.key.origin != origin) {
            self.unlink(name);
        }
    }

    /// Takes the session from the object.
    pub fn unlink(&self, name: &ObjectName) -> bool {
        let before = self.links.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(link) = &before {
            link.users.remove(name);
        }
        before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn two_objects_share_one_session_and_the_last_one_ends_it() {
        let connections = Connections::<()>::default();
        let name = |n: &str| ObjectName { namespace: "a".into(), name: n.into() };
        let key = || SessionKey::new("https://x".into(), &["user", "pass"]);
        let mut started = 0;
        let mut link = |who: &str, key: SessionKey| {
            connections
                .link(&name(who), key, Duration::from_secs(1), |_| {
                    started += 1;
                    Ok::<_, Infallible>(Arc::new(()))
                })
                .unwrap()
        };
        let one = link("one", key());
        let two = link("two", key());
        assert!(Arc::ptr_eq(&one.session, &two.session));
        let other = link("two", SessionKey::new("https://x".into(), &["userp", "ass"]));
        assert!(!Arc::ptr_eq(&one.session, &other.session));
        assert_eq!(started, 2);
        assert_eq!(one.users.all(), [name("one")]);
        let gone = Arc::downgrade(&one.session);
        drop((one, two));
        connections.unlink(&name("one"));
        assert!(gone.upgrade().is_none());
    }
}
