//! Which runs there are.

use std::collections::BTreeMap;

use super::point::{Case, Key, POSITIONS, Point};
use super::workload::Workload;

/// The calls of a workload without kills: how many there are of each kind, and whether they change something (or are reads).
pub type Calls = BTreeMap<(Key, bool), usize>;

/// A kill at every call that changes something, and at every signing in, at each position.
pub fn every_call(workload: Workload, calls: &Calls) -> Vec<Case> {
    cases(workload, calls.iter().filter(|((_, writes), _)| *writes).map(|((key, _), count)| (key, *count)))
}

/// A kill at reads: the first three of each kind.
pub fn reads(workload: Workload, calls: &Calls) -> Vec<Case> {
    let reads = calls.iter().filter(|((_, writes), _)| !*writes);
    cases(workload, reads.map(|((key, _), count)| (key, (*count).min(3))))
}

/// The same kills, and a second one at each of the first three calls that change something after the new start, at each position.
pub fn twice(cases: &[Case]) -> Vec<Case> {
    let seconds =
        (1..=3).flat_map(|n| POSITIONS.map(|position| Point { key: Key::any_write(), n, position }));
    let both = |(case, second): (&Case, Point)| {
        let points = case.points.iter().cloned().chain([second]).collect();
        Case { workload: case.workload, points }
    };
    cases.iter().flat_map(|case| seconds.clone().map(move |second| (case, second))).map(both).collect()
}

/// So many of them, spread over everything, always the same ones.
pub fn some(mut cases: Vec<Case>, count: usize) -> Vec<Case> {
    cases.sort_by_key(hash);
    cases.truncate(count);
    cases
}

/// So many of each position, always the same ones.
pub fn some_of_each_position(cases: &[Case], count: usize) -> Vec<Case> {
    let of = |position| {
        let at = |case: &&Case| case.points.first().is_some_and(|point| point.position == position);
        some(cases.iter().filter(at).cloned().collect(), count)
    };
    POSITIONS.into_iter().flat_map(of).collect()
}

fn cases<'a>(workload: Workload, calls: impl Iterator<Item = (&'a Key, usize)>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (key, count) in calls {
        for n in 1..=count {
            for position in POSITIONS {
                cases.push(Case { workload, points: vec![Point { key: key.clone(), n, position }] });
            }
        }
    }
    cases
}

/// FNV-1a of how a case is written: an order that has nothing to do with the calls, and is the same everywhere.
fn hash(case: &Case) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    case.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, step)
}
