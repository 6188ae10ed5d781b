//! Whose a run is: which of the feeds that matter it belongs to, and how they are asked for with few queries.

use crate::model::feeds::{Feed, Selector};
use crate::model::ids::{DeploymentId, DeploymentName, FlowId};
use crate::model::reports;
use crate::model::runs::Run;
use crate::model::time::Moment;
use crate::prefect::{Prefect, PrefectError, RunEvent, RunQuery};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// How long runs of a deployment's previous id count: somebody recreated it under the same names.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Values per query: beyond, the cost on the server grows faster than the list [measured].
const CHUNK: usize = 500;

/// See the module.
#[derive(Default)]
pub struct Feeds {
    /// Ids that runs of a deployment may carry: the present one, and earlier ones for a day.
    ids: BTreeMap<DeploymentName, Vec<(DeploymentId, Moment)>>,
    /// The same, the other way round.
    names: HashMap<DeploymentId, DeploymentName>,
    selectors: BTreeSet<Selector>,
    /// Flows of runs that selectors took, and whether their runs report refreshes. A flow keeps its name, so this never changes.
    flows: HashMap<FlowId, bool>,
}

impl Feeds {
    /// From now on these matter, and no others.
    pub fn watch<'a>(&mut self, feeds: impl Iterator<Item = &'a Feed>) {
        let (mut names, mut selectors) = (BTreeSet::new(), BTreeSet::new());
        for feed in feeds {
            match feed {
                Feed::Deployment(name) => names.extend([name]),
                Feed::Runs(selector) => selectors.extend([selector.clone()]),
            }
        }
        self.ids.retain(|name, _| names.contains(name));
        self.names.retain(|_, name| names.contains(name));
        self.selectors = selectors;
    }

    /// `true`: a deployment has an id that was not known.
    pub fn remember_id(&mut self, name: &DeploymentName, id: &DeploymentId, now: Moment) -> bool {
        let ids = self.ids.entry(name.clone()).or_default();
        let known = ids.iter_mut().find(|(known, _)| known == id);
        let new = known.is_none();
        match known {
            Some((_, seen)) => *seen = now,
            None => ids.push((id.clone(), now)),
        }
        for (old, _) in ids.extract_if(.., |(_, seen)| now.since(*seen) >= REMEMBERED) {
            self.names.remove(&old);
        }
        self.names.insert(id.clone(), name.clone());
        new
    }

    fn ids(&self, name: &DeploymentName) -> impl Iterator<Item = &DeploymentId> {
        self.ids.get(name).into_iter().flatten().map(|(id, _)| id)
    }

    /// Whether it can be asked for: a deployment only once it was found.
    pub fn found(&self, feed: &Feed) -> bool {
        match feed {
            Feed::Deployment(name) => self.ids(name).next().is_some(),
            Feed::Runs(_) => true,
        }
    }

    /// Queries that together find every run of these feeds: one for deployments, one for selectors by tags and one for those by work pool alone, as
    /// long as their lists stay short. They may find others' runs, too.
    pub fn queries<'a>(&self, feeds: impl Iterator<Item = &'a Feed>) -> Vec<RunQuery> {
        let (mut ids, mut by_tags, mut pools): (Vec<DeploymentId>, Vec<&Selector>, Vec<String>) =
            Default::default();
        for feed in feeds {
            match feed {
                Feed::Deployment(name) => ids.extend(self.ids(name).cloned()),
                Feed::Runs(selector) if selector.tags().next().is_some() => by_tags.push(selector),
                Feed::Runs(selector) => pools.extend(selector.work_pool().map(str::to_owned)),
            }
        }
        let any = RunQuery::default;
        let mut all: Vec<RunQuery> =
            ids.chunks(CHUNK).map(|ids| RunQuery { deployments: ids.to_vec(), ..any() }).collect();
        if let [one] = by_tags[..] {
            all.push(exactly(one));
        } else {
            let tags = rarest(&by_tags);
            all.extend(tags.chunks(CHUNK).map(|tags| RunQuery { any_tags: tags.to_vec(), ..any() }));
        }
        all.extend(pools.chunks(CHUNK).map(|pools| RunQuery { work_pools: pools.to_vec(), ..any() }));
        all
    }

    /// Queries that each find the runs of this feed and no others.
    pub fn exactly(&self, feed: &Feed) -> Vec<RunQuery> {
        match feed {
            Feed::Deployment(name) => self
                .ids(name)
                .map(|id| RunQuery { deployments: vec![id.clone()], ..RunQuery::default() })
                .collect(),
            Feed::Runs(selector) => vec![exactly(selector)],
        }
    }

    /// Whether the run of an event may be one of theirs. The tags of its flow stand there among its own.
    pub fn watches(&self, event: &RunEvent) -> bool {
        event.deployment.as_ref().is_some_and(|id| self.names.contains_key(id))
            || self.selectors.iter().any(|selector| {
                selector.matches(|tag| event.tags.iter().any(|has| has == tag), event.work_pool.as_deref())
            })
    }

    /// Finds out which of the runs that selectors take are of the flow that reports refreshes: a run knows its flow by id alone. To be called before
    /// [`Self::of`]; costs one call where flows were not met before.
    pub async fn learn_flows(&mut self, client: &dyn Prefect, runs: &[Run]) -> Result<(), PrefectError> {
        let unknown = |run: &&Run| !self.flows.contains_key(&run.flow) && !run.reports_refresh;
        let taken = |run: &&Run| self.selectors.iter().any(|selector| selector.takes(run));
        let new: BTreeSet<FlowId> =
            runs.iter().filter(unknown).filter(taken).map(|run| run.flow.clone()).collect();
        if !new.is_empty() {
            let reporting = client.flow(reports::FLOW).await?;
            self.flows.extend(new.into_iter().map(|flow| (flow.clone(), reporting.as_ref() == Some(&flow))));
        }
        Ok(())
    }

    /// The feeds that a run belongs to. One that reports a refresh belongs to none: it carries the label or is of that flow, or else each refresh would
    /// cause the next. (The mark of a deployment is a tag, which runs inherit, and says nothing of that kind.)
    pub fn of<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = Feed> + 'a {
        let reports = run.reports_refresh || self.flows.get(&run.flow).is_some_and(|reports| *reports);
        let own = run.deployment.as_ref().and_then(|id| self.names.get(id));
        let own = own.filter(|name| &*name.flow != reports::FLOW).cloned().map(Feed::Deployment);
        let selected = self.selectors.iter().filter(|selector| selector.takes(run)).cloned().map(Feed::Runs);
        own.into_iter().chain(selected).filter(move |_| !reports)
    }
}

/// The runs of one selector.
fn exactly(selector: &Selector) -> RunQuery {
    RunQuery {
        all_tags: selector.tags().map(str::to_owned).collect(),
        work_pools: selector.work_pool().into_iter().map(str::to_owned).collect(),
        ..RunQuery::default()
    }
}

/// One tag of each, that which the fewest of them name: what they have in common says little about each.
fn rarest(selectors: &[&Selector]) -> Vec<String> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    selectors.iter().flat_map(|selector| selector.tags()).for_each(|tag| *times.entry(tag).or_default() += 1);
    let tag = |selector: &&Selector| selector.tags().min_by_key(|tag| (times[tag], *tag)).map(str::to_owned);
    let tags: BTreeSet<String> = selectors.iter().filter_map(tag).collect();
    tags.into_iter().collect()
}

#[cfg(test)]
#[path = "feeds_tests.rs"]
mod tests;
