//! The gate (docs/trigger.md 2): when completions make a set that has to be refreshed.

use super::desired::Require;
use super::kinds;
use super::marks::{self, Place};
use super::observed::UpstreamView;
use super::{Desired, Pass};
use crate::api::{ExtractRefreshStatus, Mark, Occasion, Owed, OwedOccasion, Position, RefreshType, Time};
use crate::model::time::sub;
use std::collections::BTreeSet;

/// Replays, in order, every occasion that no set has used yet. Starting from the marks each time makes it a function of what is known: an
/// occasion that shows up late takes its place in the order, and a lower `require` or a removed upstream is judged at once.
pub(super) fn replay(p: &Pass, s: &mut ExtractRefreshStatus) {
    let mut occasions: Vec<(usize, Occasion)> = Vec::new();
    for (index, mark) in s.marks.iter().enumerate().filter(|(_, mark)| mark.live()) {
        occasions.extend(unused(p, mark).into_iter().map(|occasion| (index, occasion)));
    }
    occasions.sort_by(|(_, a), (_, b)| a.place().cmp(&b.place()));

    let readable =
        p.d.upstreams.iter().all(|u| matches!(p.o.upstreams.get(&u.name), Some(UpstreamView::Read { .. })));
    let mut newest: Vec<Option<Occasion>> = vec![None; s.marks.len()];
    for (index, occasion) in occasions {
        let at = occasion.at.0;
        newest[index] = Some(occasion);
        let set: Vec<usize> =
            (0..newest.len()).filter(|i| newest[*i].as_ref().is_some_and(|o| inside(p.d, o, at))).collect();
        let names: Vec<&Mark> = set.iter().map(|i| &s.marks[*i]).collect();
        if !enough(p.d, &names, readable) {
            continue;
        }
        for member in set {
            if let Some(occasion) = newest[member].take() {
                // Nobody asks how old the data there was, and status has a limit.
                s.marks[member].mark = Position { started_at: None, ..occasion.position() };
                let (key, refresh_type) = (s.marks[member].key.clone(), s.marks[member].refresh_type);
                // What is owed stays owed, whatever is excluded later: its name would only take room.
                let occasion = Occasion { state_name: None, ..occasion };
                owe(p, s, OwedOccasion { key, occasion, refresh_type });
            }
        }
    }
}

/// The occasions of an upstream after its mark, the stored newest among them (after a restart this process may not know it).
fn unused(p: &Pass, mark: &Mark) -> Vec<Occasion> {
    let after = |place: Place| place > mark.mark.place() && place.1 != mark.mark.state_id.as_deref();
    let seen = mark.seen.as_ref();
    let mut found: Vec<Occasion> = marks::occasions(p.o, mark)
        .filter(|o| after(marks::place(o)) && seen.is_none_or(|s| s.state_id != o.state.as_str()))
        .map(|o| marks::occasion(o, p.fence()))
        .collect();
    found.extend(seen.filter(|s| after(s.place())).cloned());
    found
}

fn inside(d: &Desired, occasion: &Occasion, newest: jiff::Timestamp) -> bool {
    d.within.is_none_or(|within| occasion.at.0 >= sub(newest, within))
}

/// Whether these upstreams satisfy `require`. What cannot be read blocks `All`, not `Any` and not a count.
pub(super) fn enough(d: &Desired, set: &[&Mark], readable: bool) -> bool {
    let distinct: BTreeSet<&str> = set.iter().map(|mark| mark.key.as_str()).collect();
    match d.require {
        Require::All => readable && !set.is_empty() && set.len() == d.upstreams.len(),
        Require::Any => !set.is_empty(),
        Require::Count(n) => distinct.len() >= usize::try_from(n).unwrap_or(usize::MAX),
    }
}

/// Adds an occasion to what is owed; the newest per upstream is kept, and what was owed before keeps its age and its tries.
fn owe(p: &Pass, s: &mut ExtractRefreshStatus, new: OwedOccasion) {
    let owed = s.owed.get_or_insert_with(|| nothing(p));
    match owed.occasions.iter_mut().find(|owed| owed.key == new.key) {
        Some(old) if old.occasion.place() < new.occasion.place() => {
            // A full refresh that is owed of the same runs is not given up for a later incremental one.
            let refresh_type =
                if kinds::of_owed(p, old) == RefreshType::Full { old.refresh_type } else { new.refresh_type };
            *old = OwedOccasion { refresh_type, ..new };
        }
        // Two upstreams may mean the same runs.
        Some(old) => {
            if kinds::of_owed(p, &new) == RefreshType::Full {
                old.refresh_type = new.refresh_type;
            }
        }
        None => owed.occasions.push(new),
    }
}

/// Owed, and nothing in it yet.
pub(super) fn nothing(p: &Pass) -> Owed {
    Owed {
        formed_at: Time(p.now),
        occasions: Vec::new(),
        demands: Vec::new(),
        tries: 0,
        refusals: 0,
        not_before: None,
        stopped: None,
        failure: None,
        refused: None,
        refused_with: None,
    }
}

/// Who is missing for a set to form, while somebody waits for it: names that have not completed anew, and names that have, too long ago.
pub(super) fn missing<'a>(d: &'a Desired, s: &ExtractRefreshStatus) -> Option<(Vec<&'a str>, Vec<&'a str>)> {
    let newest = s
        .marks
        .iter()
        .filter(|m| m.live() && m.is_new())
        .filter_map(|m| m.seen.as_ref())
        .map(|o| o.at.0)
        .max()?;
    let (mut absent, mut outside) = (Vec::new(), Vec::new());
    for upstream in &d.upstreams {
        match marks::of(s, &upstream.name).filter(|mark| mark.is_new()).and_then(|mark| mark.seen.as_ref()) {
            None => absent.push(upstream.name.as_str()),
            Some(seen) if !inside(d, seen, newest) => outside.push(upstream.name.as_str()),
            Some(_) => {}
        }
    }
    Some((absent, outside))
}
