//! Seeing completions (docs/trigger.md 5): a cursor that overlaps, the last day for what is new, single runs by id, and a sweep in the background.
//! Which runs are occasions of which feed is kept here, and only here.

use super::feeds::Feeds;
use super::index::Selections;
use super::looking_back::LookingBack;
use super::pager::{PAGE, Pager};
use super::workspace::{Runs, Setup};
use crate::guards::{Guard, holds};
use crate::model::extract::Seen;
use crate::model::feeds::Feed;
use crate::model::ids::{ObjectName, RunId, StateId};
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
/// What a reading waits for when it looks farther back, over all feeds together: so many questions for one row, or fewer pages. The others follow
/// as those of the sweep do, and with the readings after it.
const AT_ONCE: usize = 200;
/// How long looking farther back rests when Prefect asks to slow down and does not say for how long.
const SLOWER: Duration = Duration::from_secs(30);

/// The feeds that matter; `Some`: their completions do, and what is meant of them.
pub type Watched = BTreeMap<Feed, Option<Selections>>;

/// See the module.
pub struct Completions {
    client: Arc<dyn Prefect>,
    setup: Setup,
    /// Everything ended before this has been read; `None`: nothing has.
    cursor: Option<Timestamp>,
    /// Feeds whose last day has been read.
    read: BTreeSet<Feed>,
    runs: BTreeMap<Feed, Runs>,
    /// Whether there was a complete reading: what is read for the first time after it was not read before.
    passed: bool,
    back: LookingBack,
    /// All of it rests until then: Prefect asked to slow down, or a page failed that took long.
    back_at: Moment,
    /// The next page in the background is the sweep's: neither is to wait for the end of the other.
    sweeps: bool,
    /// Until when all has been read, by Prefect's clock. The cursor itself stays at the newest run, however long ago that ended.
    until: Option<Timestamp>,
    sweep: Option<Sweep>,
    next_sweep: Moment,
}

/// A background read of the last day, a page at a time: it finds forced changes, which keep their old `end_time`.
struct Sweep {
    queries: Vec<RunQuery>,
    after: Timestamp,
    pager: Pager,
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
            passed: false,
            back: LookingBack::default(),
            back_at: Moment::default(),
            sweeps: false,
            until: None,
            sweep: None,
            next_sweep,
        }
    }

    /// Reads what ended, and these runs whatever became of them. `users`: whose interest it is, so that it is known for them until when all was read.
    pub async fn read(
        &mut self,
        feeds: &mut Feeds,
        interest: &Watched,
        named: &BTreeSet<RunId>,
        users: &[ObjectName],
    ) -> Result<(), PrefectError> {
        // With `within` the order of completions matters, so an event only hastens the poll; the run it names is read by id besides, since a
        // forced change keeps its old `end_time` and no poll would find it.
        let meant = interest.iter().filter_map(|(feed, selections)| Some((feed, selections.as_ref()?)));
        self.back.watch(meant);
        let found = self.read_ended(feeds, interest).await?;
        // Filed before anything else can fail: the cursor has passed them.
        self.take(feeds, found);
        self.look_back(feeds).await?;
        self.passed = true;
        // Kept for the next process; not while anything before may be missing, which that process would not look for.
        if let Some(until) = self.until.take().filter(|_| !self.back.goes_on()) {
            (self.setup.cursor)(until, users);
        }
        if !named.is_empty() {
            let found = self.read_named(named).await?;
            feeds.learn_flows(&*self.client, &found).await?;
            self.take(feeds, found);
        }
        Ok(())
    }

    /// What is known of the runs of feeds whose last day has been read, and of which it is known what else has to be.
    pub fn known(&self) -> impl Iterator<Item = (&Feed, &Runs)> {
        self.runs.iter().filter(|(feed, _)| self.read.contains(*feed) && self.back.has_settled(feed))
    }

    /// Its last day is read (again): a deployment has a new id, which has a past of its own.
    pub fn read_anew(&mut self, feed: &Feed) {
        self.read.remove(feed);
        self.back.forget(feed);
    }

    /// When the sweep wants its next page.
    pub fn next_page(&self, now: Moment) -> Moment {
        if self.sweep.is_some() {
            return now.plus(SWEEP_PACE);
        }
        let back = self.back.due().map(|due| due.max(self.back_at).max(now.plus(SWEEP_PACE)));
        back.map_or(self.next_sweep, |back| back.min(self.next_sweep.max(now.plus(SWEEP_PACE))))
    }

    /// Reads farther back where something may have been missed before the last day: as much as a reading may wait for. What is known is told, then,
    /// and the rest follows.
    async fn look_back(&mut self, feeds: &mut Feeds) -> Result<(), PrefectError> {
        // All of them before the first page: what is not read to its end is not to look read.
        for feed in self.read.clone() {
            self.settle(feeds, &feed);
        }
        let mut left = AT_ONCE;
        while let Some((feed, costs)) = self.back.next(self.setup.clock.moment())
            && costs <= left
            && self.setup.clock.moment() >= self.back_at
        {
            left -= costs;
            // Of other failures: the last day was read, and the workspace is none the worse for a question that goes far back.
            if let Err(error @ PrefectError::Throttled { .. }) = self.look_back_a_page(feeds, &feed).await {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn look_back_a_page(&mut self, feeds: &mut Feeds, feed: &Feed) -> Result<(), PrefectError> {
        let asked = self.setup.clock.moment();
        let result = self.back.page(&*self.client, feeds, feed).await;
        let now = self.setup.clock.moment();
        let result = match result {
            Ok(rows) => {
                self.take(feeds, rows);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, ?feed, "completions before the last day could not be read; it goes on from there");
                self.back_at = if let PrefectError::Throttled { retry_after } = &error {
                    now.plus(retry_after.unwrap_or(SLOWER))
                } else {
                    self.back.failed(feed, now);
                    // For as long as that took everything else has its turn: many feeds that hang are not to take all the time there is.
                    now.plus(now.since(asked))
                };
                Err(error)
            }
        };
        self.settle(feeds, feed);
        result
    }

    /// `true`: something has to be looked for farther back.
    fn settle(&mut self, feeds: &Feeds, feed: &Feed) -> bool {
        let (behind, day_ago) = (self.passed || (self.setup.gap)(), sub(self.prefect_now(), DAY));
        let runs = self.runs.entry(feed.clone()).or_default();
        self.back.settle(feeds, feed, runs, behind, day_ago)
    }

    /// Runs that ended since the cursor; the last day for feeds not read before.
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
        let watched = interest.iter().filter(|(_, selections)| selections.is_some()).map(|(feed, _)| feed);
        let (old, new): (Vec<_>, Vec<_>) = watched.partition(|feed| self.read.contains(*feed));
        let mut found = Vec::new();
        let mut newest: Option<Timestamp> = None;
        for (group, whole_day) in [(old, false), (new, true)] {
            let day_ago = sub(self.prefect_now(), DAY);
            let after = if whole_day { day_ago } else { self.cursor.unwrap_or(day_ago) };
            for query in feeds.queries(group.iter().copied()) {
                let rows = self.read_window(&query, after).await?;
                newest = newest.max(rows.iter().filter_map(|run| run.ended_at).max());
                found.extend(rows);
            }
            // Before they count as read: what fails here has all of it read again.
            feeds.learn_flows(&*self.client, &found).await?;
            for feed in group.into_iter().filter(|feed| feeds.found(feed)) {
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
            if !self.read.is_empty() {
                self.cursor = self.cursor.max(Some(next));
                self.until = Some(sub(clock.date, overlap));
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
        let mut pager = Pager::since(after);
        let mut rows: HashMap<(RunId, StateId), Run> = HashMap::new();
        while !pager.done {
            for run in pager.next(&*self.client, query, States::Ended).await? {
                rows.insert((run.id.clone(), run.state.clone()), run);
            }
        }
        Ok(rows.into_values().collect())
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
        for (feed, runs) in &mut self.runs {
            runs.prune(limit, self.back.meant(feed));
        }
    }

    /// Reads a page of what is looked for farther back, else of the sweep. `true`: there is something to publish.
    pub async fn read_a_page(&mut self, feeds: &mut Feeds, now: Moment) -> bool {
        let sweeps = self.sweeps && self.sweep_is_due(now);
        self.sweeps = !self.sweeps;
        let next = self.back.next(now).filter(|_| !sweeps && now >= self.back_at);
        let Some((feed, _)) = next else { return self.sweep_a_page(feeds, now).await };
        let told = |all: &Self| all.runs.get(&feed).map(|runs| (runs.settled.clone(), runs.stuck));
        let before = told(self);
        // What fails is tried again after a rest.
        let _ = self.look_back_a_page(feeds, &feed).await;
        told(self) != before
    }

    fn sweep_is_due(&self, now: Moment) -> bool {
        self.sweep.is_some() || now >= self.next_sweep
    }

    /// Reads a page of the sweep, begins or ends one. `true`: something new was filed.
    async fn sweep_a_page(&mut self, feeds: &mut Feeds, now: Moment) -> bool {
        if !self.sweep_is_due(now) {
            return false;
        }
        if self.sweep.is_none() {
            let after = sub(self.prefect_now(), DAY);
            let queries = feeds.queries(self.read.iter());
            self.sweep = Some(Sweep { queries, after, pager: Pager::since(after) });
        }
        let Some(mut sweep) = self.sweep.take() else { return false };
        let page = match sweep.queries.last() {
            Some(query) => sweep.pager.next(&*self.client, query, States::Ended).await,
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
            sweep.pager = Pager::since(sweep.after);
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
    match run.state_type {
        StateType::Completed => {}
        StateType::Failed | StateType::Crashed | StateType::Cancelled => {
            runs.failed(run);
            return false;
        }
        StateType::Scheduled
        | StateType::Pending
        | StateType::Running
        | StateType::Paused
        | StateType::Cancelling
        | StateType::Other => return false,
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
