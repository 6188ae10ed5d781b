//! How many refreshes may be started on one site, and whose turn it is: the limits of Tableau Cloud (tableau-rest.md 7.5) and of whoever set
//! tighter ones. Namespaces take turns; within one the higher priority goes first, then whoever waits longer.

use crate::api::Edition;
use crate::model::ids::ObjectName;
use crate::model::time::Moment;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What a site may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Refreshes started in any sixty minutes; none: as many as come.
    pub per_hour: Option<usize>,
    /// Refreshes of ours queued or running at once.
    pub running: usize,
    /// Questions about jobs in any twenty-four hours.
    pub queries_per_day: u32,
}

impl Limits {
    /// What holds where nothing is declared.
    pub fn of(edition: Edition) -> Self {
        let per_hour = match edition {
            Edition::Cloud => Some(60),
            Edition::Server => None,
        };
        Self { per_hour, running: 10, queries_per_day: 20_000 }
    }

    /// Both: the smaller of each.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let per_hour = match (self.per_hour, other.per_hour) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            per_hour,
            running: self.running.min(other.running),
            queries_per_day: self.queries_per_day.min(other.queries_per_day),
        }
    }
}

/// Whether a refresh may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It may; the place is kept for it.
    Granted,
    /// It may not yet.
    Held {
        /// Which limit is reached.
        by: Limit,
        /// About how long; none: until a refresh of ours ends.
        wait: Option<Duration>,
    },
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Starts per hour.
    PerHour,
    /// Running at once.
    Running,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A place that was given and is not used goes to the next after this.
const UNUSED: Duration = Duration::from_secs(60);

/// The budget of one site, in this process's time.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    /// When each start of the last hour leaves it, the first first.
    starts: VecDeque<Moment>,
    /// Who holds a place: since when it was given, or none once it is used.
    places: BTreeMap<ObjectName, Option<Moment>>,
    queue: Queue,
    /// Questions about jobs by hour, the newest last.
    queries: VecDeque<(Moment, u32)>,
}

impl Budget {
    /// Nothing started yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            starts: VecDeque::new(),
            places: BTreeMap::new(),
            queue: Queue::default(),
            queries: VecDeque::new(),
        }
    }

    /// Sets what may be asked for from now on. Who has his turn now, and is to be woken.
    pub fn limit(&mut self, limits: Limits, now: Moment) -> Vec<ObjectName> {
        if std::mem::replace(&mut self.limits, limits) == limits { Vec::new() } else { self.turn(now) }
    }

    /// Takes in what was started before this process looked: how long ago.
    pub fn seed(&mut self, ages: impl IntoIterator<Item = Duration>, now: Moment) {
        self.starts.extend(ages.into_iter().map(|age| now.plus(HOUR.saturating_sub(age))));
        self.starts.make_contiguous().sort_unstable();
    }

    /// Asks for a start; asking again keeps the turn. Second: who else has his turn now, and is to be woken.
    pub fn ask(&mut self, who: &ObjectName, priority: u8, now: Moment) -> (Grant, Vec<ObjectName>) {
        if let Some(since) = self.places.get_mut(who) {
            if since.is_some() {
                *since = Some(now);
            }
            return (Grant::Granted, Vec::new());
        }
        self.queue.put(who, priority);
        let mut turn = self.turn(now);
        if let Some(found) = turn.iter().position(|next| next == who) {
            turn.remove(found);
            return (Grant::Granted, turn);
        }
        (self.held(who, now), turn)
    }

    /// The place given is used now.
    pub fn started(&mut self, who: &ObjectName, now: Moment) {
        self.starts.push_back(now.plus(HOUR));
        self.occupy(who);
    }

    /// What was started then was refused: Tableau did nothing for it. It keeps its place until it leaves.
    pub fn refused(&mut self, started: Moment) {
        let leaves = started.plus(HOUR);
        if let Some(found) = self.starts.iter().rposition(|start| *start == leaves) {
            self.starts.remove(found);
        }
    }

    /// A refresh of this resource is under way, whoever started it.
    pub fn occupy(&mut self, who: &ObjectName) {
        self.queue.remove(who);
        self.places.insert(who.clone(), None);
    }

    /// Wants nothing, and runs nothing. Who has his turn now, and is to be woken.
    pub fn leave(&mut self, who: &ObjectName, now: Moment) -> Vec<ObjectName> {
        self.queue.remove(who);
        if self.places.remove(who).is_some() { self.turn(now) } else { Vec::new() }
    }

    /// Notes questions about jobs.
    pub fn queried(&mut self, questions: u32, now: Moment) {
        match self.queries.back_mut() {
            Some((since, count)) if now.since(*since) < HOUR => *count += questions,
            _ => self.queries.push_back((now, questions)),
        }
    }

    /// How long a look at this many jobs has to be from the one before: nothing while less than half of a day's questions are used, else so
    /// that they last. `None`: they are used up.
    pub fn pace(&mut self, questions: u32, now: Moment) -> Option<Duration> {
        while self.queries.front().is_some_and(|(since, _)| now.since(*since) >= DAY) {
            self.queries.pop_front();
        }
        let used: u32 = self.queries.iter().map(|(_, count)| count).sum();
        let most = self.limits.queries_per_day;
        if used >= most {
            return None;
        }
        Some(if used < most / 2 { Duration::ZERO } else { DAY / most * questions })
    }

    /// When there are questions again, if they are used up.
    pub fn used_up(&mut self, now: Moment) -> Option<Moment> {
        if self.pace(1, now).is_some() {
            return None;
        }
        let mut left: u32 = self.queries.iter().map(|(_, count)| count).sum();
        let enough = |&(since, count): &(Moment, u32)| {
            left -= count;
            (left < self.limits.queries_per_day).then(|| since.plus(DAY))
        };
        Some(self.queries.iter().find_map(enough).unwrap_or_else(|| now.plus(DAY)))
    }

    /// Gives out the places that are free.
    fn turn(&mut self, now: Moment) -> Vec<ObjectName> {
        while self.starts.front().is_some_and(|leaves| *leaves <= now) {
            self.starts.pop_front();
        }
        self.places.retain(|_, given| given.is_none_or(|since| now.since(since) < UNUSED));
        let mut next = Vec::new();
        while self.free() > 0
            && let Some(who) = self.queue.pop()
        {
            self.places.insert(who.clone(), Some(now));
            next.push(who);
        }
        next
    }

    fn free(&self) -> usize {
        let given = self.places.values().filter(|given| given.is_some()).count();
        let started = self.starts.len() + given;
        let by_hour = self.limits.per_hour.map_or(usize::MAX, |most| most.saturating_sub(started));
        by_hour.min(self.limits.running.saturating_sub(self.places.len()))
    }

    fn held(&self, who: &ObjectName, now: Moment) -> Grant {
        if self.places.len() >= self.limits.running {
            return Grant::Held { by: Limit::Running, wait: None };
        }
        let before = self.queue.before(who);
        let most = self.limits.per_hour.unwrap_or(usize::MAX).max(1);
        // The place of the start that leaves the hour when all before have had theirs; more may have been started than are allowed.
        let over = self.starts.len().saturating_sub(most);
        let free = self.starts.get(over + before % most).copied().unwrap_or(now);
        let rounds = u32::try_from(before / most).unwrap_or(u32::MAX);
        Grant::Held { by: Limit::PerHour, wait: Some(free.plus(HOUR.saturating_mul(rounds)).since(now)) }
    }
}

/// Who waits.
#[derive(Debug, Default)]
struct Queue {
    /// Namespaces with somebody waiting, whose turn is next first.
    turns: VecDeque<String>,
    /// Within a namespace: the higher priority first, then the earlier.
    waiting: BTreeMap<String, BTreeMap<(Reverse<u8>, u64), ObjectName>>,
    known: BTreeMap<ObjectName, (Reverse<u8>, u64)>,
    serial: u64,
}

impl Queue {
    fn put(&mut self, who: &ObjectName, priority: u8) {
        let serial = match self.known.get(who) {
            Some((Reverse(before), _)) if *before == priority => return,
            Some((_, serial)) => *serial,
            None => {
                self.serial += 1;
                self.serial
            }
        };
        self.take(who);
        let place = (Reverse(priority), serial);
        let namespace = who.namespace.to_string();
        if !self.turns.contains(&namespace) {
            self.turns.push_back(namespace.clone());
        }
        self.waiting.entry(namespace).or_default().insert(place, who.clone());
        self.known.insert(who.clone(), place);
    }

    fn remove(&mut self, who: &ObjectName) {
        self.take(who);
        let namespace = who.namespace.to_string();
        if self.waiting.get(&namespace).is_some_and(BTreeMap::is_empty) {
            self.waiting.remove(&namespace);
            self.turns.retain(|turn| *turn != namespace);
        }
    }

    /// Without giving up the turn of its namespace.
    fn take(&mut self, who: &ObjectName) {
        if let Some(place) = self.known.remove(who)
            && let Some(waiting) = self.waiting.get_mut(&*who.namespace)
        {
            waiting.remove(&place);
        }
    }

    fn pop(&mut self) -> Option<ObjectName> {
        let namespace = self.turns.front()?.clone();
        let who = self.waiting.get(&namespace)?.values().next()?.clone();
        self.turns.rotate_left(1);
        self.remove(&who);
        Some(who)
    }

    /// How many have their turn before: with everybody taking turns, as many of each other namespace as of its own.
    fn before(&self, who: &ObjectName) -> usize {
        let Some(place) = self.known.get(who) else { return 0 };
        let own = self.waiting.get(&*who.namespace).map_or(0, |all| all.range(..place).count());
        let turn = |namespace: &str| self.turns.iter().position(|turn| turn == namespace);
        let others = self.waiting.iter().filter(|(namespace, _)| **namespace != *who.namespace);
        own + others
            .map(|(namespace, all)| all.len().min(own + usize::from(turn(namespace) < turn(&who.namespace))))
            .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn name(namespace: &str, number: usize) -> ObjectName {
        ObjectName { namespace: namespace.into(), name: format!("r{number}").into() }
    }
    fn minutes(minutes: u64) -> Moment {
        Moment(Duration::from_secs(minutes * 60))
    }
    fn budget(per_hour: usize, running: usize) -> Budget {
        Budget::new(Limits { per_hour: Some(per_hour), running, queries_per_day: 1000 })
    }
    fn held(by: Limit, minutes: Option<u64>) -> Grant {
        Grant::Held { by, wait: minutes.map(|minutes| Duration::from_secs(minutes * 60)) }
    }
    /// Asks, and starts at once when it may.
    fn start(budget: &mut Budget, who: &ObjectName, now: Moment) -> Grant {
        let (grant, woken) = budget.ask(who, 50, now);
        assert_eq!(woken, []);
        if grant == Grant::Granted {
            budget.started(who, now);
        }
        grant
    }

    #[test]
    fn starts_leave_the_hour_one_by_one() {
        let mut b = budget(2, 10);
        assert_eq!(start(&mut b, &name("a", 1), minutes(0)), Grant::Granted);
        assert_eq!(start(&mut b, &name("a", 2), minutes(20)), Grant::Granted);
        assert_eq!(b.ask(&name("a", 3), 50, minutes(20)).0, held(Limit::PerHour, Some(40)));
        assert_eq!(b.ask(&name("a", 4), 50, minutes(20)).0, held(Limit::PerHour, Some(60)));
        assert_eq!(b.ask(&name("a", 5), 50, minutes(20)).0, held(Limit::PerHour, Some(100)));
        assert_eq!(b.ask(&name("a", 4), 50, minutes(61)).1, [name("a", 3)], "the one before has its turn");
        assert_eq!(start(&mut b, &name("a", 3), minutes(61)), Grant::Granted);
        assert_eq!(start(&mut b, &name("a", 4), minutes(80)), Grant::Granted);
    }

    #[test]
    fn a_raised_limit_gives_the_turn_to_who_waits() {
        let mut b = budget(1, 10);
        assert_eq!(start(&mut b, &name("a", 1), minutes(0)), Grant::Granted);
        assert_eq!(b.ask(&name("a", 2), 50, minutes(0)).0, held(Limit::PerHour, Some(60)));
        let more = Limits { per_hour: Some(2), running: 10, queries_per_day: 1000 };
        assert_eq!(b.limit(more, minutes(1)), [name("a", 2)]);
        assert_eq!(b.limit(more, minutes(1)), []);
    }

    #[test]
    fn more_than_allowed_leave_first() {
        let mut b = budget(2, 10);
        b.seed((0..5).map(|n| Duration::from_secs(60 * n * 10)), minutes(0));
        assert_eq!(
            b.ask(&name("a", 1), 50, minutes(0)).0,
            held(Limit::PerHour, Some(50)),
            "the fourth of five"
        );
        assert_eq!(b.ask(&name("a", 2), 50, minutes(0)).0, held(Limit::PerHour, Some(60)));
        assert_eq!(b.ask(&name("a", 1), 50, minutes(49)).0, held(Limit::PerHour, Some(1)));
        assert_eq!(b.ask(&name("a", 1), 50, minutes(50)).0, Grant::Granted);
    }

    #[test]
    fn what_is_refused_was_not_started() {
        let mut b = budget(1, 10);
        assert_eq!(start(&mut b, &name("a", 1), minutes(0)), Grant::Granted);
        assert_eq!(b.ask(&name("a", 2), 50, minutes(1)).0, held(Limit::PerHour, Some(59)));
        b.refused(minutes(7));
        assert_eq!(b.leave(&name("a", 1), minutes(1)), [], "another moment is another start");
        b.refused(minutes(0));
        assert_eq!(b.ask(&name("a", 2), 50, minutes(1)).0, Grant::Granted);
    }

    #[test]
    fn an_end_gives_the_place_to_the_next() {
        let mut b = budget(100, 1);
        assert_eq!(start(&mut b, &name("a", 1), minutes(0)), Grant::Granted);
        assert_eq!(b.ask(&name("a", 2), 50, minutes(0)).0, held(Limit::Running, None));
        assert_eq!(b.leave(&name("b", 9), minutes(1)), []);
        assert_eq!(b.leave(&name("a", 1), minutes(1)), [name("a", 2)]);
        assert_eq!(b.ask(&name("a", 2), 50, minutes(1)).0, Grant::Granted);
        // What it was given and does not use goes on.
        assert_eq!(b.ask(&name("a", 3), 50, minutes(1)).0, held(Limit::Running, None));
        assert_eq!(b.ask(&name("a", 3), 50, minutes(2)).0, Grant::Granted);
    }

    #[test]
    fn two_hundred_beside_two() {
        let mut b = budget(1000, 1);
        assert_eq!(start(&mut b, &name("x", 0), minutes(0)), Grant::Granted);
        (0..200).for_each(|n| assert_ne!(b.ask(&name("many", n), 100, minutes(0)).0, Grant::Granted));
        (0..2).for_each(|n| assert_ne!(b.ask(&name("few", n), 0, minutes(0)).0, Grant::Granted));
        let mut last = name("x", 0);
        let mut granted = Vec::new();
        for _ in 0..4 {
            let next = b.leave(&last, minutes(1));
            assert_eq!(next.len(), 1);
            last = next[0].clone();
            b.started(&last, minutes(1));
            granted.push(last.clone());
        }
        assert_eq!(granted.iter().filter(|who| &*who.namespace == "few").count(), 2, "{granted:?}");
    }

    #[test]
    fn within_a_namespace_priority_goes_first_and_may_change() {
        let mut b = budget(1000, 1);
        assert_eq!(start(&mut b, &name("a", 0), minutes(0)), Grant::Granted);
        for (n, priority) in [(1, 50), (2, 50), (3, 90), (2, 95)] {
            assert_ne!(b.ask(&name("a", n), priority, minutes(0)).0, Grant::Granted);
        }
        let mut order = Vec::new();
        let mut last = name("a", 0);
        while let Some(next) = b.leave(&last, minutes(1)).pop() {
            b.started(&next, minutes(1));
            order.push(next.name.to_string());
            last = next;
        }
        assert_eq!(order, ["r2", "r3", "r1"]);
    }

    #[test]
    fn seeds_count_and_limits_change() {
        let mut b = budget(3, 10);
        b.seed([10, 30].map(|age| Duration::from_secs(age * 60)), minutes(40));
        assert_eq!(start(&mut b, &name("a", 1), minutes(40)), Grant::Granted);
        assert_eq!(b.ask(&name("a", 2), 50, minutes(40)).0, held(Limit::PerHour, Some(30)));
        let limits =
            Limits::of(Edition::Cloud).and(Limits { per_hour: Some(4), running: 20, queries_per_day: 9 });
        b.limit(limits, minutes(0));
        assert_eq!(b.ask(&name("a", 2), 50, minutes(40)).0, Grant::Granted);
    }

    #[test]
    fn nobody_is_lost_and_no_limit_is_passed() {
        // By a fixed walk over everything that can happen, long enough to reach every branch.
        let mut b = budget(7, 3);
        let (mut random, mut now) = (1_u64, 0);
        let (mut wants, mut runs) = (BTreeSet::new(), BTreeSet::new());
        let mut starts: Vec<Moment> = Vec::new();
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += (random >> 60) / 8;
            let who = name(["a", "b", "c"][(random >> 40) as usize % 3], (random >> 50) as usize % 5);
            if runs.contains(&who) {
                runs.remove(&who);
                b.leave(&who, minutes(now));
                continue;
            }
            wants.insert(who.clone());
            if b.ask(&who, (random >> 20 & 63) as u8, minutes(now)).0 == Grant::Granted {
                b.started(&who, minutes(now));
                wants.remove(&who);
                runs.insert(who);
                starts.push(minutes(now));
            }
            let lately = starts.iter().filter(|start| minutes(now).since(**start) < HOUR).count();
            assert!(runs.len() <= 3 && lately <= 7, "{runs:?} {lately}");
        }
        assert!(starts.len() > 1000, "{}", starts.len());
        // With nothing running and an hour gone, whoever wants gets his turn.
        for who in &runs {
            b.leave(who, minutes(now));
        }
        for _ in 0..20 {
            now += 61;
            for who in wants.clone() {
                if b.ask(&who, 50, minutes(now)).0 == Grant::Granted {
                    b.started(&who, minutes(now));
                    b.leave(&who, minutes(now));
                    wants.remove(&who);
                }
            }
        }
        assert_eq!(wants, BTreeSet::new());
    }

    #[test]
    fn questions_about_jobs_last_for_the_day() {
        let mut b = budget(1, 1);
        assert_eq!(b.pace(3, minutes(0)), Some(Duration::ZERO));
        b.queried(499, minutes(0));
        assert_eq!(b.pace(3, minutes(1)), Some(Duration::ZERO));
        b.queried(1, minutes(1));
        assert_eq!(b.pace(3, minutes(1)), Some(DAY / 1000 * 3));
        b.queried(500, minutes(90));
        assert_eq!((b.pace(1, minutes(91)), b.used_up(minutes(90))), (None, Some(minutes(24 * 60))));
        assert_eq!(b.pace(1, minutes(24 * 60)), Some(DAY / 1000), "the first hour's are forgotten");
        assert_eq!((b.pace(1, minutes(26 * 60)), b.used_up(minutes(26 * 60))), (Some(Duration::ZERO), None));
    }
}
