//! Where the operator is killed: the how manieth of which call, and when during it.

use std::fmt;
use std::str::FromStr;

use super::workload::Workload;
use crate::proxy::{Class, Entry, Position};

/// Which of the three systems a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    /// The kube-apiserver.
    Kubernetes,
    /// Prefect.
    Prefect,
    /// Tableau.
    Tableau,
}

impl System {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Kubernetes, Self::Prefect, Self::Tableau];

    fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Prefect => "prefect",
            Self::Tableau => "tableau",
        }
    }
}

/// A kind of call, the same in every run: `prefect:PATCH:deployments/*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// To whom.
    pub system: System,
    /// Verb and path without what differs from run to run, joined by a colon; `*` means any write.
    pub call: String,
}

impl Key {
    /// Any call to any system that changes something.
    pub fn any_write() -> Self {
        Self { system: System::Kubernetes, call: ANY_WRITE.to_owned() }
    }

    /// Whether this is [`Self::any_write`].
    pub fn is_any(&self) -> bool {
        self.call == ANY_WRITE
    }

    /// The key of a call in a run whose namespace this is.
    pub fn of(system: System, entry: &Entry, namespace: &str) -> Self {
        let segments = entry.path.trim_matches('/').split('/');
        // api/v1 or apis/group/version; api; api/3.27
        let skip = match system {
            System::Kubernetes if entry.path.starts_with("/apis/") => 3,
            System::Kubernetes | System::Tableau => 2,
            System::Prefect => 1,
        };
        let mut short: Vec<String> = segments.skip(skip).map(|part| plain(part, namespace)).collect();
        if short.first().is_some_and(|first| first == "namespaces" || first == "sites") && short.len() > 2 {
            short.drain(..2);
        }
        if short.first().is_some_and(|first| first == "events") && short.len() > 1 {
            "*".clone_into(&mut short[1]);
        }
        Self { system, call: format!("{}:{}", entry.verb, short.join("/")) }
    }
}

const ANY_WRITE: &str = "*";

fn plain(segment: &str, namespace: &str) -> String {
    if uuid::Uuid::parse_str(segment).is_ok() { "*".to_owned() } else { segment.replace(namespace, "NS") }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() { f.write_str("any") } else { write!(f, "{}:{}", self.system.name(), self.call) }
    }
}

/// One kill: at the `n`th call (from 1) of a kind since the workload's act began, or since the operator was started again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// The kind of call.
    pub key: Key,
    /// Which of them.
    pub n: usize,
    /// When during the call.
    pub position: Position,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}@{}", self.key, self.n, name(self.position))
    }
}

/// The three positions.
pub const POSITIONS: [Position; 3] = [Position::Before, Position::AfterApplied, Position::AfterAnswer];

fn name(position: Position) -> &'static str {
    match position {
        Position::Before => "before",
        Position::AfterApplied => "applied",
        Position::AfterAnswer => "answered",
    }
}

/// One run of the matrix: a workload, and where the operator is killed in it, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Case {
    /// What is done.
    pub workload: Workload,
    /// Where the operator is killed. Empty: nowhere, a reference run.
    pub points: Vec<Point>,
}

/// `trigger/tableau:POST:datasources/*/refresh#1@applied+any#2@before`
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points: Vec<String> = self.points.iter().map(Point::to_string).collect();
        write!(f, "{}/{}", self.workload, points.join("+"))
    }
}

/// A case is not written as `Case` shows it.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no case: write it as the table shows it, such as `trigger/tableau:POST:datasources/*/refresh#1@applied`"
)]
pub struct NoCase(String);

impl FromStr for Case {
    type Err = NoCase;

    fn from_str(text: &str) -> Result<Self, NoCase> {
        let bad = || NoCase(text.to_owned());
        let (workload, points) = text.split_once('/').ok_or_else(bad)?;
        let workload = Workload::ALL.into_iter().find(|w| w.to_string() == workload).ok_or_else(bad)?;
        let point = |text: &str| -> Option<Point> {
            let (rest, position) = text.rsplit_once('@')?;
            let (key, n) = rest.rsplit_once('#')?;
            let position = POSITIONS.into_iter().find(|p| name(*p) == position)?;
            let key = if key == "any" {
                Key::any_write()
            } else {
                let (system, call) = key.split_once(':')?;
                let system = System::ALL.into_iter().find(|s| s.name() == system)?;
                Key { system, call: call.to_owned() }
            };
            Some(Point { key, n: n.parse().ok()?, position })
        };
        let points = points.split('+').map(point).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
        Ok(Self { workload, points })
    }
}

/// Whether the matrix kills at calls of this kind by itself: what changes something, and signing in.
pub fn is_position(entry: &Entry) -> bool {
    matches!(entry.class, Class::Write | Class::SignIn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_as_it_is_written() {
        for text in [
            "trigger/tableau:POST:datasources/*/refresh#1@applied",
            "edit/prefect:PATCH:deployments/*/schedules/*#2@before+any#3@answered",
            "delete/kubernetes:PATCH:flowdeployments/orders/status#4@answered",
        ] {
            assert_eq!(text.parse::<Case>().unwrap().to_string(), text);
        }
        for text in ["", "trigger", "nothing/any#1@before", "trigger/any@before", "trigger/any#1@later"] {
            assert!(text.parse::<Case>().is_err(), "{text}");
        }
    }
}
