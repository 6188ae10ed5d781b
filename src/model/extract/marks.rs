//! What is known of each upstream: which are in the spec, what was seen of them, and from where on completions count.

use super::desired::{Source, Upstream};
use super::observed::{Bounds, Seen, UpstreamView};
use super::selection::{kept_key, kept_name};
use super::{Observed, Pass, target};
use crate::api::{Contained, ExtractRefreshStatus, Mark, Occasion, Position, Time};
use crate::model::time::{add, sub};
use jiff::Timestamp;
use std::borrow::Cow;
use std::time::Duration;

/// How long an upstream that left the spec keeps its mark (a Git revert).
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Two reads of Prefect overlap by this: its clock may go back so far unnoticed.
const OVERLAP: Duration = Duration::from_secs(60);
/// Most marks in status.
const MOST: usize = 64;
/// The name of nearly every state of its type.
const USUAL: &str = "Completed";

/// A place in the order of occasions; a baseline (no state) stands before every occasion of its moment.
pub(in crate::model) type Place<'a> = (Timestamp, Option<&'a str>);

impl Position {
    pub(in crate::model) fn place(&self) -> Place<'_> {
        (self.at.0, self.state_id.as_deref())
    }
    fn start(at: Timestamp) -> Self {
        Self { at: Time(at), state_id: None, started_at: None }
    }
}

impl Occasion {
    pub(super) fn place(&self) -> Place<'_> {
        (self.at.0, Some(&self.state_id))
    }
    pub(super) fn position(&self) -> Position {
        Position { at: self.at, state_id: Some(self.state_id.clone()), started_at: self.started_at }
    }
}

impl Mark {
    /// Whether its upstream is in the spec.
    pub(super) fn live(&self) -> bool {
        self.removed_at.is_none()
    }
    /// Whether it completed anew since it was last part of a set.
    pub(super) fn is_new(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.place() > self.mark.place())
    }
    pub(super) fn contained(&self) -> Option<Contained> {
        let seen = self.seen.as_ref()?;
        Some(Contained { key: self.key.clone(), run_id: seen.run_id.clone(), position: seen.position() })
    }
}

/// The mark of an upstream in the spec.
pub(super) fn of<'a>(s: &'a ExtractRefreshStatus, name: &str) -> Option<&'a Mark> {
    s.marks.iter().find(|mark| mark.live() && mark.name == name)
}

/// What this process has read of a mark's upstream: its occasions, and Prefect's clock.
pub(super) fn read<'a>(o: &'a Observed, mark: &Mark) -> Option<(&'a [Seen], Bounds)> {
    match o.upstreams.get(&mark.name) {
        Some(UpstreamView::Read { key, occasions, clock, .. }) if mark.live() && *key == mark.key => {
            Some((occasions, *clock))
        }
        _ => None,
    }
}

/// The occasions that this process knows of; those Prefect's clock has not reached (again) yet are left for later.
pub(super) fn occasions<'a>(o: &'a Observed, mark: &Mark) -> impl Iterator<Item = &'a Seen> + use<'a> {
    let (list, latest) =
        read(o, mark).map_or((&[][..], Timestamp::MIN), |(list, clock)| (list, add(clock.upper, OVERLAP)));
    list.iter().filter(move |seen| seen.at <= latest)
}

/// Brings the marks up to date with the spec and with what was read. Nothing is known before the baseline is.
pub(super) fn learn(p: &mut Pass, s: &mut ExtractRefreshStatus) {
    shorten_keys(s);
    learn_upstreams(p, s);
    fill_fences(p, s);
}

/// An earlier build kept keys whole, however long.
fn shorten_keys(s: &mut ExtractRefreshStatus) {
    let marks = s.marks.iter_mut().map(|mark| &mut mark.key);
    let owed = s.owed.iter_mut().flat_map(|owed| &mut owed.occasions).map(|owed| &mut owed.key);
    let contained = s.attempt.iter_mut().flat_map(|attempt| &mut attempt.seen).map(|seen| &mut seen.key);
    for key in marks.chain(owed).chain(contained) {
        if let Cow::Owned(kept) = kept_key(key) {
            *key = kept;
        }
    }
}

fn learn_upstreams(p: &mut Pass, s: &mut ExtractRefreshStatus) {
    let first_sight = s.baseline.is_none();
    if first_sight {
        let unmapped = p.d.upstreams.is_empty().then_some(p.d.created_at);
        let Some(baseline) = p.d.baseline_annotation.or(p.o.baseline).or(unmapped) else { return };
        s.baseline = Some(Time(baseline));
        // One that was restored from a backup is not new.
        if p.d.baseline_annotation.is_none() {
            target::created(p, s);
        }
    }
    follow_spec(p, s, first_sight.then_some(s.baseline).flatten());
    for index in 0..s.marks.len() {
        let clock = read(p.o, &s.marks[index]).map(|(_, clock)| clock);
        if let Some(clock) = clock
            && lower(&mut s.marks[index], clock)
        {
            lower_others(s, index, clock);
            p.warn(
                "ClockWentBack",
                format!(
                    "Prefect's clock went back; upstream `{}` is counted from there on",
                    s.marks[index].name
                ),
            );
        }
        if see(p, &mut s.marks[index]) {
            super::retry::rearm_once(p, s);
        }
    }
}

/// One live mark per upstream of the spec. A mark belongs to what the upstream *is* (its key), so another name keeps it and another
/// deployment under the same name does not.
fn follow_spec(p: &Pass, s: &mut ExtractRefreshStatus, baseline: Option<Time>) {
    for mark in &mut s.marks {
        let gone = p.d.upstreams.iter().all(|u| {
            u.name != mark.name || known_key(p, u).is_some_and(|k| k != mark.key && !mark.key.is_empty())
        });
        if gone && mark.live() {
            mark.removed_at = Some(Time(p.now));
        }
    }
    s.marks.retain(|mark| mark.removed_at.is_none_or(|Time(at)| add(at, KEPT) > p.now));
    for upstream in &p.d.upstreams {
        if of(s, &upstream.name).is_some_and(|mark| !mark.key.is_empty()) {
            continue;
        }
        let key = known_key(p, upstream);
        let named = |mark: &Mark| mark.name == upstream.name && mark.key.is_empty();
        let find = |is: &dyn Fn(&Mark) -> bool| s.marks.iter().position(is);
        // Kept since it left the spec; else waiting for its key; else both.
        let known = find(&|mark| !mark.live() && key.as_ref() == Some(&mark.key))
            .or_else(|| find(&|mark| mark.live() && named(mark)))
            .or_else(|| find(&|mark| !mark.live() && named(mark)));
        if let Some(index) = known {
            let mark = &mut s.marks[index];
            mark.removed_at = None;
            mark.name.clone_from(&upstream.name);
            mark.key = key.unwrap_or_default();
            if !mark.key.is_empty() {
                s.marks.retain(|mark| !(mark.live() && named(mark)));
            }
        } else {
            let since = baseline.map_or_else(|| first_seen(p, upstream), |Time(at)| at);
            s.marks.push(Mark {
                name: upstream.name.clone(),
                key: key.unwrap_or_default(),
                since: Time(since),
                removed_at: None,
                seen: None,
                mark: Position::start(since),
                covered: None,
                refresh_type: None,
            });
        }
    }
    while s.marks.len() > MOST {
        let oldest =
            (0..s.marks.len()).filter(|i| !s.marks[*i].live()).min_by_key(|i| s.marks[*i].removed_at);
        s.marks.remove(oldest.unwrap_or_default());
    }
}

fn known_key(p: &Pass, upstream: &Upstream) -> Option<String> {
    match (p.o.upstreams.get(&upstream.name), &upstream.source) {
        (Some(UpstreamView::Read { key, .. } | UpstreamView::Unread { key: Some(key), .. }), _) => {
            Some(key.clone())
        }
        (_, Source::Prefect { workspace, feed }) => Some(upstream.key(workspace, feed)),
        (_, Source::FlowDeployment(_)) => None,
    }
}

/// How far our clock may be ahead of Prefect's while the latter is not known.
const AHEAD: Duration = Duration::from_secs(600);

/// Now, in Prefect's time; where its clock is not known, early enough: one refresh too many rather than one too few.
fn first_seen(p: &Pass, upstream: &Upstream) -> Timestamp {
    match p.o.upstreams.get(&upstream.name) {
        Some(UpstreamView::Read { clock, .. } | UpstreamView::Unread { clock: Some(clock), .. }) => {
            clock.lower
        }
        _ => sub(p.now, AHEAD),
    }
}

/// Prefect's clock went back beyond the overlap: what stands later than its clock is lowered to it, or nothing would count for hours.
fn lower(mark: &mut Mark, clock: Bounds) -> bool {
    let late = add(clock.upper, OVERLAP);
    let mut lowered = false;
    let (new, uncovered) =
        (mark.is_new(), mark.covered.as_ref().map(Position::place) < mark.seen.as_ref().map(Occasion::place));
    let seen = mark.seen.as_mut().map(|seen| &mut seen.at);
    let covered = mark.covered.as_mut().map(|covered| &mut covered.at);
    for at in seen.into_iter().chain([&mut mark.mark.at]).chain(covered) {
        if at.0 > late {
            *at = Time(clock.lower);
            lowered = true;
        }
    }
    // What was not used up, or not contained, stays so though both now stand at the same moment.
    let before = Time(sub(clock.lower, Duration::from_millis(1)));
    if lowered && new && mark.mark.at.0 == clock.lower {
        mark.mark.at = before;
    }
    if let Some(covered) =
        mark.covered.as_mut().filter(|covered| lowered && uncovered && covered.at.0 == clock.lower)
    {
        covered.at = before;
    }
    lowered
}

/// The same for what an attempt contains and for what is owed of this upstream: a later place there would take what completes now for contained.
fn lower_others(s: &mut ExtractRefreshStatus, index: usize, clock: Bounds) {
    let late = add(clock.upper, OVERLAP);
    let key = &s.marks[index].key;
    let contained = s.attempt.iter_mut().flat_map(|a| &mut a.seen).filter(|c| c.key == *key);
    let owed = s.owed.iter_mut().flat_map(|o| &mut o.occasions).filter(|o| o.key == *key);
    let places = contained.map(|c| &mut c.position.at).chain(owed.map(|o| &mut o.occasion.at));
    for at in places.filter(|at| at.0 > late) {
        *at = Time(clock.lower);
    }
}

/// Moves `seen` to the newest occasion; true if it is a newer one. What stands in `seen` is known by its state: its place may have been lowered.
fn see(p: &Pass, mark: &mut Mark) -> bool {
    let before = mark.seen.clone();
    if before.as_ref().is_some_and(|seen| excluded(p, mark, seen)) {
        mark.seen = None;
    }
    let known = mark.seen.as_ref();
    let newest = occasions(p.o, mark)
        .filter(|seen| {
            known.is_none_or(|known| known.state_id != seen.state.as_str() && known.place() < place(seen))
        })
        .max_by_key(|seen| (seen.at, seen.state.as_str()));
    let newest = newest.map(|newest| occasion(newest, p.fence()));
    let moved = newest.as_ref().map(Occasion::place) > before.as_ref().map(Occasion::place);
    mark.seen = newest.or(mark.seen.take());
    moved
}

/// Whether it was seen before completions of that name were excluded: it does not count any more, and those before it may.
fn excluded(p: &Pass, mark: &Mark, seen: &Occasion) -> bool {
    let upstream = p.d.upstreams.iter().find(|upstream| mark.live() && upstream.name == mark.name);
    let name = seen.state_name.as_deref().unwrap_or(USUAL);
    upstream.is_some_and(|upstream| upstream.selection.excludes(name))
}

pub(super) fn place(seen: &Seen) -> Place<'_> {
    (seen.at, Some(seen.state.as_str()))
}

pub(super) fn occasion(seen: &Seen, fence: Option<Time>) -> Occasion {
    Occasion {
        run_id: seen.run.as_str().to_owned(),
        state_id: seen.state.as_str().to_owned(),
        state_name: Some(&*seen.state_name)
            .filter(|name| *name != USUAL)
            .map(|name| kept_name(name).into_owned()),
        at: Time(seen.at),
        started_at: seen.started_at.map(Time),
        fence,
    }
}

/// What was seen before Tableau had answered gets its fence as soon as it has.
fn fill_fences(p: &Pass, s: &mut ExtractRefreshStatus) {
    let Some(now) = p.fence() else { return };
    let seen = s.marks.iter_mut().filter_map(|mark| mark.seen.as_mut()).map(|seen| &mut seen.fence);
    let (occasions, demands) = match &mut s.owed {
        Some(owed) => (owed.occasions.as_mut_slice(), owed.demands.as_mut_slice()),
        None => (&mut [][..], &mut [][..]),
    };
    let owed = occasions.iter_mut().map(|owed| &mut owed.occasion.fence);
    for fence in seen.chain(owed).chain(demands.iter_mut().map(|demand| &mut demand.fence)) {
        fence.get_or_insert(now);
    }
}

/// The newest occasion of each upstream: what a job contains that is started after this status was written.
pub(super) fn newest(s: &ExtractRefreshStatus) -> Vec<Contained> {
    let mut newest: Vec<Contained> = s.marks.iter().filter_map(Mark::contained).collect();
    for owed in s.owed.iter().flat_map(|owed| &owed.occasions) {
        if newest.iter().all(|contained| contained.key != owed.key) {
            newest.push(Contained {
                key: owed.key.clone(),
                run_id: owed.occasion.run_id.clone(),
                position: owed.occasion.position(),
            });
        }
    }
    newest
}

/// Names of upstreams, for a message.
pub(super) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
