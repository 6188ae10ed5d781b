//! What must hold, told from the truth alone: naive on purpose, and without the machine's own functions.

use super::jobs::ASK_AGAIN_MS;
use super::operator::Trouble;
use super::world::{Clock, State, TrueJob};
use super::{Cluster, Law, Lookup, Sim, Site};
use feedwater::api::{
    Attempt, AttemptPhase, Demand, DemandKind, ExtractRefreshStatus, Position, RefreshType,
};
use feedwater::model::extract::{Claim, Decision, Desired, Require, Step};
use feedwater::model::ids::Luid;
use feedwater::model::jobs::JobStatus;
use jiff::Timestamp;
use std::collections::BTreeMap;

type Place = (Timestamp, Option<String>);

#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// R4, once per record that Tableau removed.
    pub excuses: Vec<&'static str>,
    /// R1: the list was closed at some time; then every lost answer may cost one extra.
    pub list_was_closed: bool,
    pub answers_lost: usize,
    /// Edits of the gate, or occasions taken away unread: which sets had to form cannot be told from the truth alone.
    pub inexact: bool,
    pub clock_back: bool,
    pub token_at: BTreeMap<String, u64>,
    /// The newest that was ever covered, whatever became of the target later.
    covered: BTreeMap<String, Place>,
    changes: Vec<u64>,
}

impl Oracle {
    pub fn new(_: &Clock) -> Self {
        Self::default()
    }
    pub fn target_changed(&mut self, seq: u64) {
        self.changes.push(seq);
    }
}

/// A POST of ours: what it was for, and what was written down before it.
#[derive(Clone, Debug)]
pub struct Posted {
    seq: u64,
    intent: String,
    luid: Luid,
    kind: RefreshType,
    contains: BTreeMap<String, Place>,
    owed: BTreeMap<String, Place>,
    demands: Vec<Demand>,
    owed_demands: Vec<Demand>,
}

impl Posted {
    pub fn new(sim: &Sim, sent: &Attempt) -> Self {
        let owed = sim.cluster.status.owed.as_ref();
        Self {
            seq: sim.clock.seq,
            intent: sent.id.clone(),
            luid: Luid::from(sent.luid.as_str()),
            kind: sent.refresh_type,
            contains: sent.seen.iter().map(|c| (c.key.clone(), place(&c.position))).collect(),
            owed: owed
                .into_iter()
                .flat_map(|owed| &owed.occasions)
                .map(|o| (o.key.clone(), (o.occasion.at.0, Some(o.occasion.state_id.clone()))))
                .collect(),
            demands: sent.demands.clone(),
            owed_demands: owed.map(|owed| owed.demands.clone()).unwrap_or_default(),
        }
    }
}

fn place(position: &Position) -> Place {
    (position.at.0, position.state_id.clone())
}

fn suffices(has: RefreshType, wanted: RefreshType) -> bool {
    has == wanted || has == RefreshType::Full
}

fn covered(s: &ExtractRefreshStatus, key: &str) -> Option<Place> {
    s.marks.iter().filter(|m| m.key == key).filter_map(|m| m.covered.as_ref()).map(place).max()
}

/// The fields of the machine alone.
fn machine(s: &ExtractRefreshStatus) -> ExtractRefreshStatus {
    ExtractRefreshStatus {
        conditions: Vec::new(),
        upstreams: Vec::new(),
        effective: None,
        next_eligible_time: None,
        ..s.clone()
    }
}

impl Sim {
    /// Acting presupposes that everything is written, and that nothing forbids it.
    pub fn check_step(&self, d: &Desired, s: &ExtractRefreshStatus, decision: &Decision) -> Result<(), Law> {
        match &decision.step {
            Step::Rest => {}
            Step::LookAtTasks | Step::LookAtWarnings(_) | Step::Hold | Step::Schedule(_) | Step::Warn(_) => {
                self.law(false, "nothing is done about schedules where none are declared")?;
            }
            Step::Intend { id } => {
                self.law(!self.held_by_budget, "an intent has its place in the budget")?;
                let written = decision.status.attempt.as_ref().is_some_and(|a| a.id == *id);
                self.law(written, "an intent is in the status that is written")?;
            }
            Step::Look { .. } | Step::Cancel { .. } | Step::Post { .. } => {
                self.law(machine(s) == machine(&decision.status), "acts only on what is written")?;
            }
        }
        if let Step::Post { id, luid, .. } = &decision.step {
            let attempt = s.attempt.as_ref().filter(|a| a.id == *id && a.phase == AttemptPhase::Intended);
            let Some(attempt) = attempt else { return Err(Law("a POST has its intent written".into())) };
            let there = *luid == self.tableau.contents[Cluster::content(d)];
            self.law(there, "a POST is on what the spec means")?;
            self.law(!d.suspend, "a suspended resource POSTs nothing")?;
            self.law(self.cluster.claim == Claim::Ours, "only the holder of the target POSTs")?;
            self.law(self.clock.tableau() >= attempt.fence.0, "a POST waits for the fence")?;
            self.check_waited(d, s)?;
            self.law(self.windows.open(self.clock.ours()), "a POST goes out only where the windows let it")?;
            let named = |key: &str| attempt.seen.iter().find(|c| c.key == key).map(|c| place(&c.position));
            let young = attempt.intended_at.0 + jiff::SignedDuration::from_secs(10) > self.clock.ours();
            for mark in s.marks.iter().filter(|mark| mark.removed_at.is_none() && young) {
                let seen = mark.seen.as_ref().map(|o| (o.at.0, Some(o.state_id.clone())));
                self.law(named(&mark.key) >= seen, "a POST names the newest seen")?;
            }
        }
        if let Step::Cancel { job } = &decision.step {
            let ours = self.tableau.jobs.iter().find(|j| j.id == *job);
            let adopted =
                s.attempt.as_ref().is_some_and(|a| a.origin == Some(feedwater::api::JobOrigin::Adopted));
            self.law(ours.is_some() && !adopted, "only jobs of ours are cancelled")?;
        }
        Ok(())
    }

    /// What has been running since before the refresh was owed was waited for, as long as it had to be.
    fn check_waited(&self, d: &Desired, s: &ExtractRefreshStatus) -> Result<(), Law> {
        let (Some(longest), Some(owed)) = (d.running, &s.owed) else { return Ok(()) };
        let longest = jiff::SignedDuration::try_from(longest).unwrap();
        let requested = owed.demands.iter().any(|demand| demand.kind == DemandKind::Requested);
        if requested || owed.formed_at.0 + longest <= self.clock.ours() {
            return Ok(());
        }
        // In progress all the while: whenever Prefect was asked since, it said so.
        let formed_ms = i64::try_from(self.clock.ms).unwrap()
            - (self.clock.ours().as_millisecond() - owed.formed_at.0.as_millisecond());
        let watched = |upstream: usize| d.upstreams.iter().any(|u| Cluster::index(&u.name) == upstream);
        let day = jiff::SignedDuration::from_hours(24);
        let waited = self.prefect.begun.iter().all(|begun| {
            !watched(begun.upstream)
                || self.prefect.missing[begun.upstream]
                || i64::try_from(begun.true_ms).unwrap() >= formed_ms
                || begun.at + day <= self.clock.prefect()
        });
        self.law(waited, "what runs is waited for")
    }

    /// Nothing owed goes away, and nothing is believed, without a job that proves it.
    pub fn check_write(&mut self, before: &ExtractRefreshStatus) -> Result<(), Law> {
        let after = &self.cluster.status;
        for mark in &after.marks {
            let Some(now) = mark.covered.as_ref() else { continue };
            if covered(before, &mark.key) < Some(place(now)) {
                let wanted = mark.refresh_type.or(after.target.as_ref().map(|target| target.refresh_type));
                self.law(
                    self.is_contained(after, now, wanted),
                    "coverage has a job that started after the completion",
                )?;
            }
        }
        let nobodys = |s: &ExtractRefreshStatus| s.attempt.is_none() && s.owed.is_none();
        let moved =
            |mark: &feedwater::api::Mark| covered(before, &mark.key) < mark.covered.as_ref().map(place);
        if nobodys(before) && after.attempt.is_none() && after.marks.iter().any(moved) {
            self.reached.one("Credit/Native");
        }
        let after = &self.cluster.status;
        if !self.oracle.clock_back {
            self.check_order(before, after)?;
        }
        let now = after.marks.iter().filter_map(|m| Some((m.key.clone(), place(m.covered.as_ref()?))));
        for (key, at) in now.collect::<Vec<_>>() {
            let newest = self.oracle.covered.entry(key).or_insert_with(|| at.clone());
            *newest = at.max(newest.clone());
        }
        let after = &self.cluster.status;
        let demands =
            |s: &ExtractRefreshStatus| s.owed.as_ref().map(|o| o.demands.clone()).unwrap_or_default();
        for gone in demands(before) {
            let kept = demands(after).iter().any(|d| d.kind == gone.kind);
            let since = gone.token.as_ref().and_then(|token| self.oracle.token_at.get(token)).copied();
            let wanted = after.target.as_ref().map(|target| target.refresh_type);
            let met = self.successes(after, wanted).any(|(_, started)| started >= since.unwrap_or_default());
            self.law(kept || met, "a demand ends with a refresh that started after it")?;
        }
        if after.last_handled_refresh_token != before.last_handled_refresh_token {
            let taken = demands(after)
                .iter()
                .any(|d| d.kind == DemandKind::Requested && d.token == after.last_handled_refresh_token);
            self.law(taken, "a token is handled by the write that owes its refresh")?;
        }
        let fresh = after.conditions.iter().any(|c| c.type_ == "Fresh" && c.status == "True");
        let any = Some(RefreshType::Incremental);
        self.law(!fresh || self.successes(after, any).next().is_some(), "Fresh has a successful refresh")?;
        self.law(after.history.len() <= 10 && after.marks.len() <= 64, "status is bounded")
    }

    fn check_order(&self, before: &ExtractRefreshStatus, after: &ExtractRefreshStatus) -> Result<(), Law> {
        for old in before.owed.iter().flat_map(|owed| &owed.occasions) {
            let was: Place = (old.occasion.at.0, Some(old.occasion.state_id.clone()));
            let owed = after.owed.iter().flat_map(|owed| &owed.occasions);
            let kept = owed
                .filter(|o| o.key == old.key)
                .any(|o| (o.occasion.at.0, Some(o.occasion.state_id.clone())) >= was);
            let forgotten = after.marks.iter().all(|mark| mark.key != old.key);
            let met = covered(after, &old.key) >= Some(was);
            self.law(kept || met || forgotten, "what is owed stays owed until it is covered")?;
        }
        for old in &before.marks {
            let Some(new) = after.marks.iter().find(|m| m.key == old.key && m.name == old.name) else {
                continue;
            };
            self.law(place(&new.mark) >= place(&old.mark), "a mark never goes back")?;
            let at = |m: &feedwater::api::Mark| m.seen.as_ref().map(|o| (o.at, o.state_id.clone()));
            self.law(at(new) >= at(old), "seen never goes back")?;
        }
        Ok(())
    }

    /// Jobs that succeeded on the recorded target with a kind that suffices, and when they really started.
    fn successes(
        &self,
        s: &ExtractRefreshStatus,
        wanted: Option<RefreshType>,
    ) -> impl Iterator<Item = (&TrueJob, u64)> {
        let target = s.target.clone();
        let fits = move |job: &&TrueJob| {
            job.status == JobStatus::Success
                && target.as_ref().is_some_and(|t| t.luid == job.luid.as_str())
                && wanted.is_some_and(|wanted| suffices(job.kind, wanted))
        };
        self.tableau.jobs.iter().filter(fits).filter_map(|job| Some((job, job.started?.1)))
    }

    fn is_contained(
        &self,
        s: &ExtractRefreshStatus,
        position: &Position,
        wanted: Option<RefreshType>,
    ) -> bool {
        let occasion =
            self.prefect.ever.iter().find(|o| Some(o.state.as_str()) == position.state_id.as_deref());
        occasion.is_some_and(|o| self.successes(s, wanted).any(|(_, started)| started >= o.true_ms))
    }

    /// Everything becomes usable and nothing more happens: then all that is owed is refreshed, and silence follows.
    pub fn come_to_rest(&mut self) -> Result<(), Law> {
        self.tableau.down = false;
        self.tableau.list_allowed = true;
        self.tableau.list_fails = false;
        for job in &mut self.tableau.jobs {
            (job.refused, job.left_out) = (false, false);
        }
        self.held_by_budget = false;
        self.other_reads = None;
        // What was refused is asked for again by then.
        self.advance(ASK_AGAIN_MS);
        self.prefect.down = false;
        self.prefect.missing = Default::default();
        self.cluster.claim = Claim::Ours;
        self.cluster.site = Site::There;
        self.cluster.target = Lookup::Found;
        self.cluster.edit(|d| d.suspend = false);
        let mut quiet = 0;
        for round in 0..120 {
            let before = (self.writes, self.posted.len());
            for _ in 0..4 {
                self.tableau.start(&self.clock, 0);
                self.advance(10);
                self.tableau.end(&self.clock, 0, JobStatus::Success, false);
                self.work()?;
            }
            // A person has what stopped started again; from then on nothing stops.
            if round == 60 {
                self.apply(&super::ops::Op::Token)?;
            }
            quiet = if before == (self.writes, self.posted.len()) { quiet + 1 } else { 0 };
            if quiet >= 3
                && self.cluster.status.owed.is_none()
                && self.again.is_none_or(|at| at > self.clock.ours())
            {
                break;
            }
            self.advance(self.until_again().clamp(5_000, 700_000));
        }
        self.check_rest(quiet)
    }

    fn until_again(&self) -> u64 {
        let until = self.again.map_or(0, |at| at.as_millisecond() - self.clock.ours().as_millisecond());
        u64::try_from(until).unwrap_or(0)
    }

    fn check_rest(&mut self, quiet: u32) -> Result<(), Law> {
        self.law(quiet >= 3, "the machine comes to rest")?;
        let s = self.cluster.status.clone();
        if s.owed.is_some() || s.attempt.is_some() {
            return Err(Law(format!(
                "at rest nothing is owed: {:?} {:?} {:?}",
                s.owed, s.attempt, s.conditions
            )));
        }
        self.check_doubles()?;
        self.check_sets(&s)?;
        self.check_silence(&s)
    }

    /// A restart, with nothing read yet and then with everything read, changes nothing.
    fn check_silence(&mut self, s: &ExtractRefreshStatus) -> Result<(), Law> {
        self.crash();
        let before = self.writes;
        self.pass(Trouble::NONE)?;
        self.law(self.writes == before, "a restart writes nothing before it has read")?;
        self.work()?;
        let now = &self.cluster.status;
        let wrote = format!("a restart writes nothing after it has read: {s:#?} became {now:#?}");
        self.law(self.writes == before, &wrote)?;
        self.law(self.cluster.status == *s, "nothing changed")
    }

    /// A second job of ours for what a successful job of ours already contained: only where docs/trigger.md 9 allows one.
    fn check_doubles(&self) -> Result<(), Law> {
        let made = |p: &Posted| self.tableau.jobs.iter().find(|job| job.intent.as_ref() == Some(&p.intent));
        let mut doubles = Vec::new();
        for (index, second) in self.posted.iter().enumerate() {
            let Some(job) = made(second) else { continue };
            let repeated = self.posted[..index].iter().find(|first| {
                let succeeded = made(first).is_some_and(|job| job.status == JobStatus::Success);
                let same = first.luid == second.luid && suffices(first.kind, second.kind);
                let unchanged = !self.oracle.changes.iter().any(|at| (first.seq..=second.seq).contains(at));
                let occasions = second.owed.iter().all(|(key, at)| first.contains.get(key) >= Some(at));
                let demands = second
                    .owed_demands
                    .iter()
                    .all(|d| first.demands.iter().any(|had| (had.kind, &had.token) == (d.kind, &d.token)));
                succeeded && same && unchanged && occasions && demands
            });
            if let Some(first) = repeated {
                doubles.push(format!("{} repeats {} ({})", second.intent, first.intent, job.id));
            }
        }
        let closed = if self.oracle.list_was_closed { self.oracle.answers_lost } else { 0 };
        let allowed = self.oracle.excuses.len() + closed;
        // Prefect's clock going back makes a stretch of time happen twice, and its completions with it.
        self.law(
            doubles.len() <= allowed || self.oracle.clock_back,
            &format!("no refresh is doubled: {doubles:?}"),
        )
    }

    /// The sets that the truth makes are used and covered; where the truth alone cannot tell, at least none is left lying.
    fn check_sets(&self, s: &ExtractRefreshStatus) -> Result<(), Law> {
        if self.oracle.clock_back {
            return Ok(());
        }
        let mark = |upstream: usize| {
            let name = format!("u{upstream}");
            s.marks.iter().find(|m| m.removed_at.is_none() && m.name == name)
        };
        if !self.oracle.inexact {
            let marks = self.sets(&self.prefect.ever, &BTreeMap::new());
            for (upstream, used) in marks {
                let Some(mark) = mark(upstream) else {
                    return Err(Law("a set's upstream has a mark".into()));
                };
                let is = (mark.mark.at.0, mark.mark.state_id.as_deref());
                self.law(
                    is == (used.at, Some(used.state.as_str())),
                    "every set that formed was used, and no other",
                )?;
                let covered = self.oracle.covered.get(&Cluster::key(upstream));
                let at = (used.at, Some(used.state.as_str().to_owned()));
                self.law(covered >= Some(&at), "every set that formed is covered")?;
            }
            return Ok(());
        }
        let from = (0..super::world::UPSTREAMS).filter_map(|u| Some((u, place(&mark(u)?.mark)))).collect();
        let left = self.sets(&self.prefect.runs, &from);
        self.law(left.is_empty(), "no set is left lying")
    }

    /// Naive: every completion in order, who is new, is that enough. The last used of each upstream.
    fn sets(&self, states: &[State], from: &BTreeMap<usize, Place>) -> BTreeMap<usize, State> {
        let d = &self.cluster.desired;
        let wanted: Vec<usize> = d.upstreams.iter().map(|u| Cluster::index(&u.name)).collect();
        let mut ordered: Vec<&State> =
            states.iter().filter(|s| s.counts() && wanted.contains(&s.upstream)).collect();
        ordered.sort_by_key(|s| (s.at, s.state.clone()));
        let (mut new, mut used): (BTreeMap<usize, State>, BTreeMap<usize, State>) = Default::default();
        for state in ordered {
            let at: Place = (state.at, Some(state.state.as_str().to_owned()));
            if from.get(&state.upstream).is_some_and(|mark| at <= *mark) {
                continue;
            }
            new.insert(state.upstream, state.clone());
            let recent = |s: &State| {
                d.within.is_none_or(|w| s.at + jiff::SignedDuration::try_from(w).unwrap() >= state.at)
            };
            let set: Vec<usize> = new.iter().filter(|(_, s)| recent(s)).map(|(u, _)| *u).collect();
            let enough = match d.require {
                Require::All => set.len() == wanted.len(),
                Require::Any => true,
                Require::Count(n) => set.len() >= n as usize,
            };
            if enough {
                for upstream in set {
                    used.extend(new.remove_entry(&upstream));
                }
            }
        }
        used
    }
}
