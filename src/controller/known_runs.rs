//! What is known of the runs of one feed.

use crate::model::extract::{Seen, Selection};
use crate::model::ids::RunId;
use crate::model::parameters::Parameters;
use crate::model::runs::{Run, StateType};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs {
    /// COMPLETED states of the last two days, and before these the newest of each selection that somebody means; oldest first.
    pub occasions: Vec<Seen>,
    /// The newest ends without success, one for each set of parameters.
    failures: Vec<Failure>,
    /// Selections that need no older completions than these. Of any other, one that somebody has only just named among them, nothing is known yet.
    pub settled: BTreeSet<Selection>,
    /// Selections of which older completions may count, and were not looked at: there are too many others.
    pub given_up: BTreeSet<Selection>,
    /// Of those that are not settled older completions may count, and they could not be read several times: it is tried again.
    pub stuck: bool,
}

/// A run that ended without success.
#[derive(Clone, Debug, PartialEq)]
struct Failure {
    at: Timestamp,
    state: StateType,
    run: RunId,
    parameters: Parameters,
}

impl Runs {
    /// Takes in a run that ended without success.
    pub fn failed(&mut self, run: &Run) {
        let new = Failure {
            at: run.state_at,
            state: run.state_type,
            run: run.id.clone(),
            parameters: run.parameters.clone(),
        };
        match self.failures.iter_mut().find(|old| old.parameters == new.parameters) {
            // Of two that ended at the same moment always the same one is the newest.
            Some(old) if (old.at, &old.run) <= (new.at, &new.run) => *old = new,
            Some(_) => {}
            None => self.failures.push(new),
        }
    }

    /// How the newest run of a selection ended, whatever way.
    pub fn newest_end(&self, selection: &Selection) -> Option<(StateType, RunId)> {
        let completed = self.occasions.iter().rev().find(|seen| selection.takes(&seen.parameters));
        let completed = completed.map(|seen| (seen.at, &seen.run, StateType::Completed));
        let failed = self.failures.iter().filter(|failure| selection.takes(&failure.parameters));
        let ends = failed.map(|failure| (failure.at, &failure.run, failure.state)).chain(completed);
        ends.max_by_key(|(at, run, _)| (*at, *run)).map(|(_, run, state)| (state, run.clone()))
    }

    /// Drops what is older than this, but for the newest of each selection.
    pub fn prune<'a>(&mut self, limit: Timestamp, selections: impl Iterator<Item = &'a Selection>) {
        let old = self.occasions.partition_point(|seen| seen.at < limit);
        let failed_long_ago = self.failures.iter().any(|failure| failure.at < limit);
        if old == 0 && !failed_long_ago {
            return;
        }
        let (mut kept, mut failures) = (BTreeSet::new(), BTreeSet::new());
        for selection in selections {
            kept.extend(self.occasions.iter().rposition(|seen| selection.counts(seen)));
            // Excluded or not: it tells how the newest run ended.
            kept.extend(self.occasions.iter().rposition(|seen| selection.takes(&seen.parameters)));
            let failed = self.failures.iter().filter(|failure| selection.takes(&failure.parameters));
            failures.extend(failed.max_by_key(|failure| (failure.at, &failure.run)).map(|f| f.run.clone()));
        }
        let mut index = 0..;
        self.occasions.retain(|_| index.next().is_some_and(|index| index >= old || kept.contains(&index)));
        self.failures.retain(|failure| failure.at >= limit || failures.contains(&failure.run));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Moment;
    use serde_json::{Map, json};

    fn with(region: &str) -> Parameters {
        Parameters::of(&Map::from_iter([("region".to_owned(), json!(region))]))
    }

    fn of(region: &str) -> Selection {
        Selection::new(with(region), ["Skipped".to_owned()])
    }

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).unwrap()
    }

    fn completed(hour: i64, region: &str, name: &str) -> Seen {
        Seen {
            run: format!("run-{hour}").into(),
            state: format!("state-{hour}").into(),
            state_name: name.into(),
            at: at(hour),
            parameters: with(region),
            started_at: None,
            published: Moment::default(),
        }
    }

    fn failed(hour: i64, region: &str) -> Run {
        Run {
            id: format!("run-{hour}").into(),
            name: "run".into(),
            flow: "flow".into(),
            deployment: None,
            state: format!("state-{hour}").into(),
            state_type: StateType::Failed,
            state_name: "Failed".into(),
            state_at: at(hour),
            started_at: None,
            ended_at: Some(at(hour)),
            parameters: with(region),
            tags: Vec::new(),
            work_pool: None,
            reports_refresh: false,
        }
    }

    #[test]
    fn each_selection_has_a_newest_end_of_its_own() {
        let mut runs = Runs::default();
        runs.failed(&failed(1, "us"));
        runs.occasions = vec![completed(2, "eu", "Completed")];
        let end =
            |runs: &Runs, region| runs.newest_end(&of(region)).map(|(state, run)| (state, run.to_string()));
        let (bad, good) = (StateType::Failed, StateType::Completed);
        assert_eq!(end(&runs, "us"), Some((bad, "run-1".into())), "a later run of `eu` says nothing of it");
        assert_eq!(end(&runs, "eu"), Some((good, "run-2".into())));
        assert_eq!(end(&runs, "asia"), None);
        runs.failed(&failed(3, "eu"));
        runs.occasions.push(completed(4, "us", "Skipped"));
        assert_eq!(end(&runs, "us"), Some((good, "run-4".into())), "it does not count, and is no failure");
        assert_eq!(end(&runs, "eu"), Some((bad, "run-3".into())));
    }

    #[test]
    fn of_what_is_old_each_selection_keeps_its_newest() {
        let mut runs = Runs::default();
        runs.failed(&failed(1, "eu"));
        runs.failed(&failed(2, "asia"));
        runs.occasions = vec![
            completed(3, "eu", "Completed"),
            completed(4, "eu", "Skipped"),
            completed(5, "us", "Completed"),
            completed(6, "us", "Completed"),
            completed(20, "asia", "Completed"),
        ];
        runs.prune(at(10), [of("eu"), of("us")].iter());
        let left: Vec<&str> = runs.occasions.iter().map(|seen| seen.run.as_str()).collect();
        assert_eq!(left, ["run-3", "run-4", "run-6", "run-20"]);
        let left: Vec<&str> = runs.failures.iter().map(|failure| failure.run.as_str()).collect();
        assert_eq!(left, ["run-1"]);
    }
}
