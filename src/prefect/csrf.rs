//! CSRF tokens, where the server asks for them (reference 15.2): on every call but GET, also on reads by POST.

use reqwest::header::{HeaderName, HeaderValue};
use std::sync::{Mutex as SyncMutex, PoisonError};
use tokio::sync::{Mutex, MutexGuard};

const TOKEN: HeaderName = HeaderName::from_static("prefect-csrf-token");
const CLIENT: HeaderName = HeaderName::from_static("prefect-csrf-client");

/// The token in use, if one is needed. It lives for an hour and belongs to one client id; a new one ends the old.
#[derive(Debug)]
pub(super) struct Csrf {
    client: String,
    token: SyncMutex<Option<HeaderValue>>,
    /// One call fetches; the others that were refused with it use what it brought.
    fetching: Mutex<()>,
}

impl Csrf {
    pub(super) fn new() -> Self {
        Self {
            client: uuid::Uuid::new_v4().to_string(),
            token: SyncMutex::default(),
            fetching: Mutex::default(),
        }
    }

    /// Our id, which a token is asked for with.
    pub(super) fn client(&self) -> &str {
        &self.client
    }

    /// The token in use.
    pub(super) fn token(&self) -> Option<HeaderValue> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A token as the server gave it; none: it asks for none.
    pub(super) fn put(&self, token: Option<String>) {
        let token = token.and_then(|token| HeaderValue::from_str(&token).ok()).map(|mut token| {
            token.set_sensitive(true);
            token
        });
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// To be held while a token is fetched.
    pub(super) async fn alone(&self) -> MutexGuard<'_, ()> {
        self.fetching.lock().await
    }

    /// What a call with this token carries.
    pub(super) fn headers(&self, token: HeaderValue) -> Option<[(HeaderName, HeaderValue); 2]> {
        let client = HeaderValue::from_str(&self.client).ok()?;
        Some([(TOKEN, token), (CLIENT, client)])
    }
}
