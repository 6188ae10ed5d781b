//! The keys of external authorization servers, fetched as Tableau does: kept, and fetched again for a key id that is not among them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::trust::Keys;

/// The keys fetched so far, by URL.
#[derive(Default)]
pub(super) struct KeyStore(Mutex<HashMap<String, Keys>>);

impl KeyStore {
    /// The keys at `url`, with that of `kid` among them if it is there at all. None where the server does not answer.
    pub(super) async fn of(&self, url: &str, kid: Option<&str>) -> Keys {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned();
        if let Some(known) = known.filter(|known| known.has(kid)) {
            return known;
        }
        let keys = fetch(url).await.unwrap_or_default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned(), keys.clone());
        keys
    }
}

async fn fetch(url: &str) -> reqwest::Result<Keys> {
    crate::install_tls_provider();
    reqwest::get(url).await?.error_for_status()?.json().await
}
