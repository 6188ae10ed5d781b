//! The part of a site's observer that reads data quality warnings: those of data sources that somebody asks about, and of no others. What goes
//! wrong with them is told to those who asked, and is no trouble of the site.

use super::extract_warnings::refusal;
use super::index::Dependent;
use super::site_observer::{ASK_AGAIN, Observer};
use crate::model::extract::{WarningRefusal, WarningsView};
use crate::model::ids::Luid;
use crate::model::time::Moment;
use crate::tableau::TableauError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Calls in a row; jobs are followed in between.
const MOST: usize = 20;
/// The shortest time until the rest is asked for.
const SOON: Duration = Duration::from_millis(500);
/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(8);
/// After an answer that did not come none is asked for.
const SILENCE: Duration = Duration::from_secs(60);
/// An answer is kept for those who are not woken at once; who decides asks for a younger one.
const KEPT: Duration = Duration::from_secs(300);

/// Somebody wants to know the warnings on a data source.
pub(super) struct WarningAsk {
    pub(super) datasource: Luid,
    pub(super) asker: Dependent,
    /// An answer since then will do.
    pub(super) at: Moment,
}

/// What is asked, and what was answered.
#[derive(Default)]
pub(super) struct WarningReads {
    asks: BTreeMap<Luid, (Moment, BTreeSet<Dependent>)>,
    pub(super) answers: Arc<BTreeMap<Luid, WarningsView>>,
    /// What everybody is told until then without a call.
    silence: Option<(Moment, Option<WarningRefusal>)>,
}

impl WarningReads {
    pub(super) fn ask(&mut self, new: Vec<WarningAsk>) {
        for WarningAsk { datasource, asker, at } in new {
            let (newest, askers) = self.asks.entry(datasource).or_default();
            *newest = at.max(*newest);
            askers.insert(asker);
        }
    }

    /// When to go on, if there is more to read.
    pub(super) fn soon(&self, wait: Duration) -> Duration {
        if self.asks.is_empty() { wait } else { wait.min(SOON) }
    }
}

impl Observer {
    /// Reads what was asked for; those who asked and have an answer now.
    pub(super) async fn read_warnings(&mut self) -> BTreeSet<Dependent> {
        let now = self.setup.clock.moment();
        let kept = |view: &WarningsView| view.asked().is_some_and(|asked| now.since(asked) < KEPT);
        if self.warnings.answers.values().any(|view| !kept(view)) {
            Arc::make_mut(&mut self.warnings.answers).retain(|_, view| kept(view));
        }
        let (mut answered, mut calls) = (BTreeSet::new(), 0);
        while calls < MOST
            && let Some((datasource, (at, askers))) = self.warnings.asks.pop_first()
        {
            let known = self.warnings.answers.get(&datasource).and_then(WarningsView::asked);
            if known.is_none_or(|asked| asked <= at) {
                let asked = self.setup.clock.moment();
                let told = self.warnings.silence.filter(|(until, _)| asked < *until);
                let view = if let Some((_, refused)) = told {
                    WarningsView::Failed { asked, refused }
                } else {
                    calls += 1;
                    self.read_warnings_on(&datasource, asked).await
                };
                Arc::make_mut(&mut self.warnings.answers).insert(datasource, view);
            }
            answered.extend(askers);
        }
        answered
    }

    async fn read_warnings_on(&mut self, datasource: &Luid, asked: Moment) -> WarningsView {
        let answer = tokio::time::timeout(PATIENCE, self.client.warnings(datasource)).await;
        let error = match answer {
            Ok(Ok(all)) => return WarningsView::Read { asked, all },
            Ok(Err(error)) => error,
            Err(_) => TableauError::Ambiguous,
        };
        tracing::debug!(%datasource, %error, "data quality warnings cannot be read");
        let refused = refusal(&error);
        let silence = match refused {
            // What is refused of one data source may be granted of the next.
            Some(WarningRefusal::Forbidden | WarningRefusal::Rejected) => None,
            // Each question would cost a sign-in, and scopes are of the whole site.
            Some(WarningRefusal::MissingScope) => Some(ASK_AGAIN),
            None => Some(SILENCE),
        };
        let now = self.setup.clock.moment();
        self.warnings.silence = silence.map(|silence| (now.plus(silence), refused));
        WarningsView::Failed { asked, refused }
    }
}
