//! Runs in progress (docs/trigger.md 4.1), for those resources whose refresh waits for them: asked with one query for all of them, and not at all
//! while nobody waits.

use super::feeds::Feeds;
use super::index::Waiting;
use crate::model::extract::{InProgress, Unfinished};
use crate::model::feeds::Feed;
use crate::model::ids::RunId;
use crate::model::runs::Run;
use crate::prefect::{Prefect, PrefectError, RunQuery, States};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Rows per page: the server's default maximum.
const PAGE: u32 = 200;
/// Most pages of one answer. Whoever has more runs in progress is told that not all are known.
const MOST_PAGES: u32 = 10;

/// What is known of runs in progress, by feed.
pub type Known = BTreeMap<Feed, Arc<InProgress>>;

/// The answers of the last reading, and who waits for them.
#[derive(Default)]
pub struct Running {
    /// By feed.
    pub known: Known,
    /// Who waits: to be woken by each answer, since one that came before their refresh was owed says them nothing.
    pub waiting: Waiting,
}

impl Running {
    /// Asks for those that somebody waits for. Where no answer comes the last one stays, and the workspace suffers nothing else: who waits does so
    /// at most as long as its resource says.
    pub async fn read(
        &self,
        client: &dyn Prefect,
        feeds: &mut Feeds,
        asked: Timestamp,
        waiting: Waiting,
    ) -> Self {
        let known = match all(client, feeds, &waiting).await {
            Ok((runs, complete)) => {
                let answer = |runs| Arc::new(InProgress { asked, complete, runs });
                sorted(feeds, &waiting, runs).into_iter().map(|(feed, runs)| (feed, answer(runs))).collect()
            }
            Err(error) => {
                tracing::debug!(%error, "runs in progress could not be read");
                self.known.clone()
            }
        };
        Self { known, waiting }
    }
}

/// Every run in progress, and whether these are all. A run that ends between two pages may hide another: that one is missed this once.
async fn all(
    client: &dyn Prefect,
    feeds: &mut Feeds,
    waiting: &Waiting,
) -> Result<(Vec<Run>, bool), PrefectError> {
    let (mut runs, mut complete): (HashMap<RunId, Run>, bool) = (HashMap::new(), true);
    for query in feeds.queries(waiting.feeds.iter()) {
        let mut last = false;
        for page in 0..MOST_PAGES {
            let query =
                RunQuery { states: States::InProgress, offset: page * PAGE, limit: PAGE, ..query.clone() };
            let rows = client.runs(&query).await?;
            last = rows.len() < PAGE as usize;
            runs.extend(rows.into_iter().filter(Run::in_progress).map(|run| (run.id.clone(), run)));
            if last {
                break;
            }
        }
        complete &= last;
    }
    let runs: Vec<Run> = runs.into_values().collect();
    feeds.learn_flows(client, &runs).await?;
    Ok((runs, complete))
}

/// Files runs under the feeds that are waited for, in an order of their own.
fn sorted(feeds: &Feeds, waiting: &Waiting, mut runs: Vec<Run>) -> BTreeMap<Feed, Vec<Unfinished>> {
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    // One that was not found was not asked for.
    let asked = waiting.feeds.iter().filter(|feed| feeds.found(feed));
    let mut filed: BTreeMap<Feed, Vec<Unfinished>> = asked.map(|feed| (feed.clone(), Vec::new())).collect();
    for run in &runs {
        for feed in feeds.of(run) {
            filed.entry(feed).and_modify(|unfinished| {
                unfinished.push(Unfinished {
                    run: run.id.clone(),
                    state: run.state_type,
                    since: run.state_at,
                    parameters: run.parameters.clone(),
                });
            });
        }
    }
    filed
}
