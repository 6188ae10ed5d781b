//! What we write to one Prefect API: known to all sessions with it, whatever their credentials, so that none of them lets anything be planned on what
//! a write may be changing just now.

use crate::model::ids::DeploymentName;
use crate::model::time::Moment;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// By the URL of the API.
#[derive(Default)]
pub struct Apis(Mutex<HashMap<String, Weak<Written>>>);

impl Apis {
    /// What is written to this one. A write that is under way keeps its session, and so this.
    pub fn of(&self, url: &str) -> Arc<Written> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(written) = all.get(url).and_then(Weak::upgrade) {
            return written;
        }
        let written = Arc::new(Written::default());
        all.retain(|_, written| written.strong_count() > 0);
        all.insert(url.to_owned(), Arc::downgrade(&written));
        written
    }
}

/// See the module. One small entry for each deployment that was ever written: whether a session has read it since, only that session knows.
#[derive(Default)]
pub struct Written(Mutex<HashMap<DeploymentName, Writes>>);

#[derive(Default)]
struct Writes {
    under_way: usize,
    /// When the last answer was there, or was given up.
    ended: Option<Moment>,
}

impl Written {
    /// A write is about to go out.
    pub fn begin(&self, name: &DeploymentName) {
        self.lock().entry(name.clone()).or_default().under_way += 1;
    }

    /// Its answer is there, or is not waited for any more.
    pub fn end(&self, name: &DeploymentName, at: Moment) {
        let mut all = self.lock();
        let writes = all.entry(name.clone()).or_default();
        writes.under_way = writes.under_way.saturating_sub(1);
        writes.ended = writes.ended.max(Some(at));
    }

    /// It may have been written by then in a way that is not known here.
    pub fn by(&self, name: &DeploymentName, at: Moment) {
        let mut all = self.lock();
        let writes = all.entry(name.clone()).or_default();
        writes.ended = writes.ended.max(Some(at));
    }

    /// Whether a reading that began then may lack what was written.
    pub fn is_past(&self, name: &DeploymentName, read_from: Moment) -> bool {
        let all = self.lock();
        let writes = all.get(name);
        writes.is_some_and(|writes| writes.under_way > 0 || writes.ended.is_some_and(|at| at >= read_from))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeploymentName, Writes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
