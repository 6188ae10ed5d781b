//! What the worlds went through: a law that never met a case proves nothing about it.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, Default)]
pub struct Reached(BTreeMap<String, u64>);

impl Reached {
    pub fn one(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub fn add(&mut self, other: Self) {
        for (what, times) in other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    /// Those of `all` (words) that never happened.
    pub fn never(&self, all: &str) -> Vec<String> {
        all.split_whitespace().filter(|what| !self.0.contains_key(*what)).map(str::to_owned).collect()
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, times)| writeln!(f, "{times:>9} {what}"))
    }
}
