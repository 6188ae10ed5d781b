//! Seeing completions (docs/trigger.md 5): a cursor that overlaps, the last day for what is new, single runs by id, and a sweep in the background.
//! Which runs are occasions of which feed is kept here, and only here.

use super::feeds::Feeds;
use super::workspace::{Ended, Runs, Setup};
use crate::guards::{Guard, holds};
use crate::model::extract::Seen;
use crate::model::feeds::Feed;
use crate::model::ids::{RunId, StateId};
use crate::model::runs::{Run, StateType};
use crate::model::time::{Moment, sub};
use crate::prefect::{Prefect, PrefectError, RunQuery, States};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How far back is read at first, after a restart, and by the sweep.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How far the cursor stays behind, for rows that were committed late.
const OVERLAP: Duration = Duration::from_secs(60);
/// From one sweep to the next.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Between two pages of a sweep.
const SWEEP_PACE: Duration = Duration::from_secs(1);
/// Rows per page: the server's default maximum.
const PAGE: u32 = 200;
/// Most pages in which the newest completion is looked for: it may stand behind runs that do not count.
const MOST_PAGES: usize = 10;

/// The feeds that matter; `Some`: their completions do, `true`: none was ever seen.
pub type Watched = BTreeMap<Feed, Option<bool>>;

/// See the module.
pub struct Completions {
    client: Arc<dyn Prefect>,
    setup: Setup,
    /// Everything ended before this has been read; `None`: nothing has.
    cursor: Option<Timestamp>,
    /// Feeds whose last day has been read.
    read: BTreeSet<Feed>,
    runs: BTreeMap<Feed, Runs>,
    sweep: Option<Sweep>,
    next_sweep: Moment,
}

/// A background read of the last day, a page at a time: it finds forced changes, which keep their old `end_time`.
struct Sweep {
    queries: Vec<RunQuery>,
    after: Timestamp,
    pager: Pager,
}

/// Keyset paging by `end_time`, newest first: `before` is the last row's, inclusive, and rows known already are dropped. An offset is used
/// only inside one `end_time`, since a user's retry between two pages would hide a row behind it.
struct Pager {
    /// `None`: from the beginning of time.
    after: Option<Timestamp>,
    before: Option<Timestamp>,
    offset: u32,
    /// Rows per page.
    most: u32,
    done: bool,
}

impl Completions {
    /// Nothing read.
    pub fn new(client: Arc<dyn Prefect>, setup: Setup) -> Self {
        let next_sweep = setup.clock.moment().plus(SWEEP_EVERY);
        Self {
            client,
            setup,
            cursor: None,
            read: BTreeSet::new(),
            runs: BTreeMap::new(),
            sweep: None,
            next_sweep,
        }
    }

    /// Reads what ended, and these runs whatever became of them.
    pub async fn read(
        &mut self,
        feeds: &mut Feeds,
        interest: &Watched,
        named: &BTreeSet<RunId>,
    ) -> Result<(), PrefectError> {
        // With `within` the order of completions matters, so an event only hastens the poll; the run it names is read by id besides, since a
        // forced change keeps its old `end_time` and no poll would find it.
        let found = self.read_ended(feeds, interest).await?;
        // Filed before anything else can fail: the cursor has passed them.
        self.take(feeds, found);
        if !named.is_empty() {
            let found = self.read_named(named).await?;
            feeds.learn_flows(&*self.client, &found).await?;
            self.take(feeds, found);
        }
        Ok(())
    }

    /// What is known of the runs of feeds whose last day has been read.
    pub fn known(&self) -> impl Iterator<Item = (&Feed, &Runs)> {
        self.runs.iter().filter(|(feed, _)| self.read.contains(*feed))
    }

    /// Its last day is read (again): a deployment has a new id, which has a past of its own.
    pub fn read_anew(&mut self, feed: &Feed) {
        self.read.remove(feed);
    }

    /// When the sweep wants its next page.
    pub fn next_page(&self, now: Moment) -> Moment {
        if self.sweep.is_some() { now.plus(SWEEP_PACE) } else { self.next_sweep }
    }

    /// Runs that ended since the cursor; the last day for feeds not read before; the newest completion where none was ever seen.
    async fn read_ended(&mut self, feeds: &mut Feeds, interest: &Watched) -> Result<Vec<Run>, PrefectError> {
        // Prefect's clock before the first row was read: what ends while pages are read is beyond it.
        let clock = self.client.clock();
        if let (Some(cursor), Some(clock)) = (self.cursor, clock)
            && clock.date < cursor
        {
            tracing::warn!("Prefect's clock went back; the last day is read again");
            self.cursor = None;
            self.read.clear();
        }
        self.forget_others(interest);
        let watched = interest.iter().filter_map(|(feed, unseen)| unseen.map(|unseen| (feed, unseen)));
        let (old, new): (Vec<_>, Vec<_>) = watched.partition(|(feed, _)| self.read.contains(*feed));
        let mut found = Vec::new();
        let mut newest: Option<Timestamp> = None;
        for (group, whole_day) in [(old, false), (new, true)] {
            let day_ago = sub(self.prefect_now(), DAY);
            let after = if whole_day { day_ago } else { self.cursor.unwrap_or(day_ago) };
            for query in feeds.queries(group.iter().map(|(feed, _)| *feed)) {
                let rows = self.read_window(&query, after).await?;
                newest = newest.max(rows.iter().filter_map(|run| run.ended_at).max());
                found.extend(rows);
            }
            if whole_day {
                for (feed, _) in group.iter().filter(|(_, unseen)| *unseen || self.setup.gap) {
                    found.extend(self.newest_completed(feeds, feed).await?);
                }
            }
            // Before they count as read: what fails here has all of it read again.
            feeds.learn_flows(&*self.client, &found).await?;
            for (feed, _) in group.into_iter().filter(|(feed, _)| feeds.found(feed)) {
                self.runs.entry(feed.clone()).or_default();
                self.read.insert(feed.clone());
            }
        }
        // Advances only after a complete pass, and never past Prefect's own clock.
        if let Some(clock) = clock {
            let limit = newest.map_or(clock.date, |newest| newest.min(clock.date));
            let overlap = if holds(Guard::CursorOverlap) { OVERLAP } else { Duration::ZERO };
            let next = sub(limit, overlap);
            // Without any row the clock alone moves it: what ends later has a later `end_time`.
            let next = if newest.is_none() { sub(clock.date, overlap) } else { next };
            if !self.read.is_empty() && self.cursor.is_none_or(|cursor| next > cursor) {
                self.cursor = Some(next);
                (self.setup.cursor)(next);
            }
        }
        Ok(found)
    }

    /// What nobody is interested in is forgotten whole: should somebody be again, it is read and told anew.
    fn forget_others(&mut self, interest: &Watched) {
        self.runs.retain(|feed, _| interest.contains_key(feed));
        // Nobody reads its completions now: when somebody does again, its last day is read anew.
        self.read.retain(|feed| interest.get(feed).is_some_and(Option::is_some));
    }

    async fn read_window(&self, query: &RunQuery, after: Timestamp) -> Result<Vec<Run>, PrefectError> {
        let mut pager = Pager::since(Some(after));
        let mut rows: HashMap<(RunId, StateId), Run> = HashMap::new();
        while !pager.done {
            for run in pager.next(&*self.client, query).await? {
                rows.insert((run.id.clone(), run.state.clone()), run);
            }
        }
        Ok(rows.into_values().collect())
    }

    /// The newest completion that counts, and those after it that do not.
    async fn newest_completed(&self, feeds: &mut Feeds, feed: &Feed) -> Result<Vec<Run>, PrefectError> {
        let mut found = Vec::new();
        for query in feeds.exactly(feed) {
            let mut pager = Pager { most: 1, ..Pager::since(None) };
            for _ in 0..MOST_PAGES {
                let page = pager.next_in(&*self.client, &query, States::Completed).await?;
                feeds.learn_flows(&*self.client, &page).await?;
                let counts = page.iter().any(|run| feeds.of(run).any(|of| of == *feed));
                found.extend(page);
                if counts || pager.done {
                    break;
                }
                pager.most = PAGE;
            }
        }
        Ok(found)
    }

    async fn read_named(&self, runs: &BTreeSet<RunId>) -> Result<Vec<Run>, PrefectError> {
        let mut found = Vec::new();
        let all: Vec<RunId> = runs.iter().cloned().collect();
        for chunk in all.chunks(PAGE as usize) {
            let query = RunQuery { runs: chunk.to_vec(), limit: PAGE, ..RunQuery::default() };
            found.extend(self.client.runs(&query).await?);
        }
        Ok(found)
    }

    /// Files runs under the feeds they belong to. `true`: there is a completion that was not known.
    fn take(&mut self, feeds: &Feeds, found: Vec<Run>) -> bool {
        let published = self.setup.clock.moment();
        let mut new = false;
        for run in found {
            for feed in feeds.of(&run) {
                new |= file(self.runs.entry(feed).or_default(), &run, published);
            }
        }
        self.prune();
        new
    }

    /// Keeps two days and the newest of each: a day is read again after a restart, and the sweep must not bring back what was dropped.
    fn prune(&mut self) {
        let limit = sub(self.prefect_now(), DAY * 2);
        for runs in self.runs.values_mut() {
            let keep = runs.occasions.len().saturating_sub(1);
            let old = runs.occasions.iter().take(keep).take_while(|o| o.at < limit).count();
            runs.occasions.drain(..old);
        }
    }

    /// Reads a page of the sweep, begins or ends one. `true`: something new was filed.
    pub async fn sweep_a_page(&mut self, feeds: &mut Feeds, now: Moment) -> bool {
        if self.sweep.is_none() {
            if now < self.next_sweep {
                return false;
            }
            let after = sub(self.prefect_now(), DAY);
            let queries = feeds.queries(self.read.iter());
            self.sweep = Some(Sweep { queries, after, pager: Pager::since(Some(after)) });
        }
        let Some(mut sweep) = self.sweep.take() else { return false };
        let page = match sweep.queries.last() {
            Some(query) => sweep.pager.next(&*self.client, query).await,
            None => Ok(Vec::new()),
        };
        let learnt = match page {
            Ok(rows) => feeds.learn_flows(&*self.client, &rows).await.map(|()| rows),
            Err(error) => Err(error),
        };
        let new = match learnt {
            Ok(rows) => self.take(feeds, rows),
            Err(error) => {
                tracing::debug!(%error, "the background read of the last day stopped; it begins again later");
                sweep.queries.clear();
                false
            }
        };
        if sweep.pager.done {
            sweep.queries.pop();
            sweep.pager = Pager::since(Some(sweep.after));
        }
        if sweep.queries.is_empty() {
            self.next_sweep = self.setup.clock.moment().plus(SWEEP_EVERY);
        } else {
            self.sweep = Some(sweep);
        }
        new
    }

    fn prefect_now(&self) -> Timestamp {
        match self.client.clock() {
            Some(reading) => reading.lower(self.setup.clock.moment()),
            None => self.setup.clock.now(),
        }
    }
}

/// Takes a run into what is known of a feed. `true`: it is a completion that was not known.
fn file(runs: &mut Runs, run: &Run, published: Moment) -> bool {
    let ended = match run.state_type {
        StateType::Completed | StateType::Failed | StateType::Crashed | StateType::Cancelled => true,
        StateType::Scheduled
        | StateType::Pending
        | StateType::Running
        | StateType::Paused
        | StateType::Cancelling
        | StateType::Other => false,
    };
    // Of two that ended at the same moment always the same one is the newest.
    let newest = (run.state_at, &run.id);
    if ended && runs.newest_ended.as_ref().is_none_or(|before| (before.at, &before.run) <= newest) {
        runs.newest_ended = Some(Ended {
            at: run.state_at,
            state: run.state_type,
            run: run.id.clone(),
            parameters: run.parameters.clone(),
        });
    }
    if run.state_type != StateType::Completed {
        return false;
    }
    // A state has one timestamp for ever, so a row that is read twice finds its place taken.
    let place = runs.occasions.partition_point(|o| (o.at, &o.state) < (run.state_at, &run.state));
    if runs.occasions.get(place).is_some_and(|o| o.state == run.state) {
        return false;
    }
    let seen = Seen {
        run: run.id.clone(),
        state: run.state.clone(),
        state_name: run.state_name.as_str().into(),
        at: run.state_at,
        parameters: run.parameters.clone(),
        started_at: run.started_at,
        published,
    };
    runs.occasions.insert(place, seen);
    true
}

impl Pager {
    fn since(after: Option<Timestamp>) -> Self {
        Self { after, before: None, offset: 0, most: PAGE, done: false }
    }

    async fn next(&mut self, client: &dyn Prefect, query: &RunQuery) -> Result<Vec<Run>, PrefectError> {
        self.next_in(client, query, States::Ended).await
    }

    async fn next_in(
        &mut self,
        client: &dyn Prefect,
        query: &RunQuery,
        states: States,
    ) -> Result<Vec<Run>, PrefectError> {
        let query = RunQuery {
            states,
            ended_after: self.after,
            ended_before: self.before,
            offset: self.offset,
            limit: self.most,
            ..query.clone()
        };
        let rows = client.runs(&query).await?;
        let last = rows.last().and_then(|run| run.ended_at);
        match last {
            _ if rows.len() < self.most as usize => self.done = true,
            Some(last) if self.before == Some(last) => self.offset += self.most,
            Some(last) => {
                self.before = Some(last);
                self.offset = 0;
            }
            None => self.done = true,
        }
        Ok(rows)
    }
}
