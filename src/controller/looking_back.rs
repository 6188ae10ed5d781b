//! How far back completions are read, beyond the day that is read anew: after a gap until each selection that somebody means has its newest that
//! counts, or what its resources knew of is reached. Page by page, so that it can stop and go on.

use super::feeds::Feeds;
use super::index::Selections;
use super::pager::{PAGE, Pager};
use super::workspace::Runs;
use crate::model::extract::{Reach, Selection};
use crate::model::feeds::Feed;
use crate::model::runs::Run;
use crate::model::time::{Moment, sub};
use crate::prefect::{Prefect, PrefectError, RunQuery, States};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most pages of one feed: 50,000 completions, none of which counts. Who means such runs is told that older ones were not looked at.
pub const MOST_PAGES: usize = 250;
/// Most pages at first sight, where no more is to be gained than a date to show.
const CURIOUS_PAGES: usize = 10;
/// What a whole page costs, where a question for one row costs one.
const WHOLE_PAGE: usize = 20;
/// How long a feed rests when its page fails, and the longest; it doubles. The others go on.
const REST: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));
/// After so many failures in a row it is told.
const TOLD_AFTER: u32 = 4;
/// A state may be a little younger than the end of its run.
const OVERLAP: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub struct LookingBack {
    /// What is meant of each feed that is read.
    wanted: BTreeMap<Feed, Selections>,
    /// What needs no (more) reading, and since when its completions were asked for.
    settled: BTreeMap<Feed, BTreeMap<Selection, Timestamp>>,
    /// Of these older completions were not looked at.
    given_up: BTreeMap<Feed, BTreeSet<Selection>>,
    under_way: BTreeMap<Feed, Back>,
}

/// The way back in one feed.
struct Back {
    /// A deployment that was made anew has several ids.
    parts: Vec<(RunQuery, Pager)>,
    pages: usize,
    /// Pages that were asked for, those that failed among them.
    turns: usize,
    /// In a row.
    failures: u32,
    /// It rests until then.
    not_before: Moment,
}

impl Back {
    fn new(parts: Vec<(RunQuery, Pager)>) -> Self {
        Self { parts, pages: 0, turns: 0, failures: 0, not_before: Moment::default() }
    }

    /// All that completed after this has been read.
    fn reached(&self) -> Timestamp {
        self.newest().map_or(Timestamp::MIN, |(_, pager)| pager.reached())
    }

    /// The part that has come the least far.
    fn newest(&self) -> Option<&(RunQuery, Pager)> {
        self.parts.iter().max_by_key(|(_, pager)| pager.reached())
    }
}

/// What a selection needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Page,
    /// The bound is reached.
    GiveUp,
}

/// `behind`: what is read for the first time now may have been missed for longer than a day.
fn need(reach: Reach, behind: bool, reached: Timestamp, pages: usize) -> Need {
    let owed = (behind || reach.interrupted) && sub(reach.since, OVERLAP) < reached;
    let curious = reach.first && pages < CURIOUS_PAGES;
    match (owed, curious && reached > Timestamp::MIN) {
        (true, _) if pages >= MOST_PAGES => Need::GiveUp,
        (true, _) | (false, true) => Need::Page,
        (false, false) => Need::Nothing,
    }
}

impl LookingBack {
    /// From now on these are meant, and no others.
    pub fn watch<'a>(&mut self, feeds: impl Iterator<Item = (&'a Feed, &'a Selections)>) {
        self.wanted = feeds.map(|(feed, selections)| (feed.clone(), selections.clone())).collect();
        let wanted = &self.wanted;
        let means = |feed: &Feed, selection: &Selection| {
            wanted.get(feed).is_some_and(|all| all.contains_key(selection))
        };
        self.settled.retain(|feed, all| {
            all.retain(|selection, _| means(feed, selection));
            !all.is_empty()
        });
        self.given_up.retain(|feed, all| {
            all.retain(|selection| means(feed, selection));
            !all.is_empty()
        });
        self.under_way.retain(|feed, _| wanted.contains_key(feed));
    }

    /// Whether it is known what of this feed has to be looked for.
    pub fn has_settled(&self, feed: &Feed) -> bool {
        self.settled.contains_key(feed) || self.under_way.contains_key(feed)
    }

    /// It has another past from now on.
    pub fn forget(&mut self, feed: &Feed) {
        self.settled.remove(feed);
        self.under_way.remove(feed);
    }

    /// What is meant of a feed.
    pub fn meant(&self, feed: &Feed) -> impl Iterator<Item = &Selection> {
        self.wanted.get(feed).into_iter().flat_map(|all| all.keys())
    }

    /// Whether any feed is being read further back.
    pub fn goes_on(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// When the first of the feeds that are being read further back may be asked for its next page.
    pub fn due(&self) -> Option<Moment> {
        self.under_way.values().map(|back| back.not_before).min()
    }

    /// Of the feeds that are being read further back and do not rest the one that had the fewest turns, so that none waits for the whole past of
    /// another, nor for one that cannot be read; and what its next page costs.
    pub fn next(&self, now: Moment) -> Option<(Feed, usize)> {
        let awake = self.under_way.iter().filter(|(_, back)| now >= back.not_before);
        let (feed, back) = awake.min_by_key(|(_, back)| back.turns)?;
        let whole = back.newest().is_some_and(|(_, pager)| pager.most == PAGE);
        Some((feed.clone(), if whole { WHOLE_PAGE } else { 1 }))
    }

    /// Takes in what is known, the last day among it, and tells in `runs` of which selections nothing is looked for (any more) and which were given
    /// up. `true`: another page has to be read.
    pub fn settle(
        &mut self,
        feeds: &Feeds,
        feed: &Feed,
        runs: &mut Runs,
        behind: bool,
        day_ago: Timestamp,
    ) -> bool {
        let under_way = self.under_way.get(feed);
        let (reached, pages) = under_way.map_or((day_ago, 0), |back| (back.reached(), back.pages));
        let settled = self.settled.entry(feed.clone()).or_default();
        let given_up = self.given_up.entry(feed.clone()).or_default();
        let mut more = false;
        for (selection, reach) in self.wanted.get(feed).into_iter().flatten() {
            let known = runs.occasions.iter().any(|seen| selection.counts(seen));
            if known {
                given_up.remove(selection);
            }
            let before = settled.get(selection).copied();
            if before.is_some_and(|since| since <= reach.since) {
                continue;
            }
            let need = if known { Need::Nothing } else { need(*reach, behind, reached, pages) };
            if need == Need::GiveUp {
                given_up.insert(selection.clone());
            }
            if need == Need::Page {
                settled.remove(selection);
                more = true;
                continue;
            }
            let since = match (known, behind || reach.interrupted) {
                // Nobody asks for an older one.
                (true, _) => Timestamp::MIN,
                (false, true) => reach.since.min(reached),
                (false, false) => reach.since,
            };
            settled.insert(selection.clone(), since);
        }
        runs.given_up.clone_from(given_up);
        runs.stuck = more && under_way.is_some_and(|back| back.failures >= TOLD_AFTER);
        if given_up.is_empty() {
            self.given_up.remove(feed);
        }
        runs.settled = settled.keys().cloned().collect();
        if !more {
            self.under_way.remove(feed);
        } else if !self.under_way.contains_key(feed) {
            // Most of the time one row is all that is needed.
            let part = |query| (query, Pager::until(day_ago, 1));
            let parts = feeds.exactly(feed).into_iter().map(part).collect();
            self.under_way.insert(feed.clone(), Back::new(parts));
        }
        more
    }

    /// The next page of what completed.
    pub async fn page(
        &mut self,
        client: &dyn Prefect,
        feeds: &mut Feeds,
        feed: &Feed,
    ) -> Result<Vec<Run>, PrefectError> {
        let Some(back) = self.under_way.get_mut(feed) else { return Ok(Vec::new()) };
        let newest = back.parts.iter_mut().max_by_key(|(_, pager)| pager.reached());
        let Some((query, pager)) = newest else { return Ok(Vec::new()) };
        let mut after = pager.clone();
        let rows = after.next(client, query, States::Completed).await?;
        // Of a page that cannot be filed it does not go on: it is read again.
        feeds.learn_flows(client, &rows).await?;
        after.most = PAGE;
        *pager = after;
        back.pages += 1;
        back.turns += 1;
        (back.failures, back.not_before) = (0, Moment::default());
        Ok(rows)
    }

    /// Its page could not be read: it rests for a while.
    pub fn failed(&mut self, feed: &Feed, now: Moment) {
        let Some(back) = self.under_way.get_mut(feed) else { return };
        let rest = REST.0.saturating_mul(2_u32.saturating_pow(back.failures)).min(REST.1);
        back.failures = back.failures.saturating_add(1);
        back.turns += 1;
        back.not_before = now.plus(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::extract::Seen;
    use crate::model::ids::DeploymentName;
    use crate::model::parameters::Parameters;
    use crate::model::time::Moment;

    fn hour(n: i32) -> Timestamp {
        Timestamp::from_second(i64::from(n) * 3600).unwrap()
    }

    fn seen(hours: i32, region: &str) -> Seen {
        Seen {
            run: format!("run-{hours}").into(),
            state: format!("state-{hours}").into(),
            state_name: "Completed".into(),
            at: hour(hours),
            parameters: with(region),
            started_at: None,
            published: Moment::default(),
        }
    }

    fn with(region: &str) -> Parameters {
        Parameters::of(&serde_json::Map::from_iter([("region".to_owned(), region.into())]))
    }

    /// Two selections of one feed that were missed since the hour 10: `us` was read lately, `eu` was not.
    fn missed() -> (LookingBack, Feed, Runs, [Selection; 2]) {
        let name = DeploymentName { flow: "orders".into(), deployment: "nightly".into() };
        let feed = Feed::Deployment(name);
        let [eu, us] = ["eu", "us"].map(|region| Selection::new(with(region), []));
        let reach = Reach { since: hour(10), interrupted: false, first: false };
        let selections: Selections = [(eu.clone(), reach), (us.clone(), reach)].into();
        let mut back = LookingBack::default();
        back.watch([(&feed, &selections)].into_iter());
        let mut runs = Runs::default();
        runs.occasions.push(seen(99, "us"));
        (back, feed, runs, [eu, us])
    }

    #[test]
    fn what_is_not_found_within_the_bound_is_given_up_until_one_completes() {
        let (mut back, feed, mut runs, [eu, us]) = missed();
        let feeds = Feeds::default();
        assert!(back.settle(&feeds, &feed, &mut runs, true, hour(80)));
        assert_eq!((runs.settled.contains(&eu), runs.settled.contains(&us)), (false, true));
        let part = (RunQuery::default(), Pager::until(hour(70), PAGE));
        back.under_way.insert(feed.clone(), Back { pages: MOST_PAGES, ..Back::new(vec![part]) });
        assert!(!back.settle(&feeds, &feed, &mut runs, true, hour(80)));
        assert_eq!((runs.settled.len(), &runs.given_up), (2, &BTreeSet::from([eu.clone()])));
        assert!(!back.goes_on());
        assert!(!back.settle(&feeds, &feed, &mut runs, true, hour(80)), "not begun again");
        assert!(runs.given_up.contains(&eu));
        runs.occasions.push(seen(100, "eu"));
        back.settle(&feeds, &feed, &mut runs, true, hour(80));
        assert!(runs.given_up.is_empty());
    }

    /// As a resource that is restored from a backup has it.
    #[test]
    fn who_needs_more_than_was_settled_has_it_looked_for() {
        let (mut back, feed, mut runs, [eu, _]) = missed();
        let feeds = Feeds::default();
        assert!(!back.settle(&feeds, &feed, &mut runs, false, hour(80)), "the one before has read it");
        let wants = |since| {
            Selections::from([(eu.clone(), Reach { since: hour(since), interrupted: false, first: false })])
        };
        for (since, expected) in [(11, false), (10, false), (5, true)] {
            back.watch([(&feed, &wants(since))].into_iter());
            assert_eq!(back.settle(&feeds, &feed, &mut runs, true, hour(80)), expected, "{since}");
        }
    }

    #[test]
    fn it_is_read_as_far_back_as_something_may_have_been_missed_and_no_farther() {
        let reach = |since, interrupted, first| Reach { since: hour(since), interrupted, first };
        let (gap, no_gap) = (true, false);
        for (what, reach, behind, reached, pages, expected) in [
            (
                "no gap: all was read by the one before",
                reach(0, false, false),
                no_gap,
                hour(100),
                0,
                Need::Nothing,
            ),
            ("a gap", reach(0, false, false), gap, hour(100), 0, Need::Page),
            (
                "a gap, and what was seen is within the day",
                reach(101, false, false),
                gap,
                hour(100),
                0,
                Need::Nothing,
            ),
            ("what was seen is reached", reach(50, false, false), gap, hour(49), 3, Need::Nothing),
            ("it is not, by less than the overlap", reach(50, false, false), gap, hour(50), 3, Need::Page),
            ("it was not there", reach(0, true, false), no_gap, hour(100), 0, Need::Page),
            ("there is no more", reach(0, true, true), gap, Timestamp::MIN, 1, Need::Nothing),
            ("new: the newest is shown", reach(100, true, true), no_gap, hour(90), 9, Need::Page),
            ("but not at any price", reach(100, true, true), no_gap, hour(90), 10, Need::Nothing),
            ("what counts is worth it", reach(0, true, true), no_gap, hour(90), 10, Need::Page),
            ("up to the bound", reach(0, false, false), gap, hour(90), MOST_PAGES, Need::GiveUp),
        ] {
            assert_eq!(need(reach, behind, reached, pages), expected, "{what}");
        }
    }
}
