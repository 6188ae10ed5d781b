//! Words that the trigger tests share.

use crate::stage::{Stage, is};
use feedwater::api::{ExtractRefresh, ExtractRefreshStatus, HistoryEntry, JobOrigin, Outcome};
use serde_json::{Value, json};
use std::time::Duration;
use world::tableau::{Outcome as Ends, Script, Step};

/// Jobs that fail.
pub fn failing() -> Script {
    let outcome = Ends::Failed { notes: "the database is closed".into() };
    Script { running: Step::For(Duration::from_millis(50)), outcome, ..Script::default() }
}

/// The status, which is there once anything was waited for.
pub fn status(extract: &ExtractRefresh) -> &ExtractRefreshStatus {
    extract.status.as_ref().expect("a status")
}

impl Stage {
    /// Puts fields into the spec of an [`ExtractRefresh`] before it is applied.
    pub fn extract_with(&self, name: &str, datasource: &str, flows: &[&str], fields: &Value) -> Value {
        let mut object = self.extract_object(name, datasource, flows);
        for (key, value) in fields.as_object().expect("fields") {
            object["spec"][key] = value.clone();
        }
        object
    }

    /// Applies an object of [`Self::extract_with`] and waits until its completions count.
    pub async fn declare_with(&self, name: &str, datasource: &str, flows: &[&str], fields: Value) {
        self.apply(&[self.extract_with(name, datasource, flows, &fields)]).await;
        self.ready(name).await;
    }

    /// Waits until the extract has seen this run as the newest of that upstream.
    pub async fn sees(&self, name: &str, upstream: &str, run: &str) -> ExtractRefresh {
        self.extract(name, &format!("sees run {run} of {upstream}"), |e| {
            let upstreams = e.status.iter().flat_map(|s| &s.upstreams);
            upstreams.filter(|u| u.name == upstream).any(|u| u.run_id.as_deref() == Some(run))
        })
        .await
    }

    /// Waits until so many refreshes have ended and nothing is owed or under way.
    pub async fn settled(&self, name: &str, ended: usize) -> ExtractRefresh {
        self.extract(name, &format!("at rest after {ended} refreshes"), |e| {
            e.status
                .as_ref()
                .is_some_and(|s| s.history.len() == ended && s.owed.is_none() && s.attempt.is_none())
                && is(e, "Refreshing", "False", "UpToDate")
        })
        .await
    }

    /// Waits for `Refreshing` with this status and reason.
    pub async fn activity(&self, name: &str, truth: &str, reason: &str) -> ExtractRefresh {
        self.extract(name, &format!("Refreshing={truth}/{reason}"), |e| is(e, "Refreshing", truth, reason))
            .await
    }

    /// One more completion makes one more refresh: what was not refreshed until then never will be.
    pub async fn one_more(&self, name: &str, deployment: &str, luid: &str, before: usize) {
        let ended = status(&self.api::<ExtractRefresh>().get(name).await.unwrap()).history.len();
        let run = self.prefect.complete(deployment).await.unwrap();
        self.refreshes(luid, before + 1).await;
        let extract = self.settled(name, ended + 1).await;
        let newest = &status(&extract).history[0];
        assert_eq!(newest.runs, [run]);
        assert_ended(newest, Outcome::Succeeded, JobOrigin::Ours);
        assert_eq!(self.refreshed(luid), before + 1, "exactly one more");
    }

    /// Changes the spec of an extract.
    pub async fn edit(&self, name: &str, spec: Value) {
        self.change::<ExtractRefresh>(name, json!({ "spec": spec })).await;
    }
}

/// How a refresh ended, and whose it was.
#[track_caller]
pub fn assert_ended(entry: &HistoryEntry, outcome: Outcome, origin: JobOrigin) {
    assert_eq!((entry.outcome, entry.origin), (outcome, Some(origin)), "{entry:?}");
}
