//! What was tried and did not succeed, each schedule for itself: one that is refused holds up no other.

use super::super::Pass;
use super::{Failure, Write};
use crate::api::{Edition, ExtractRefreshStatus};
use crate::model::ids::TaskId;
use crate::model::time::add;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// What was tried longer ago has nothing to do with what is tried now.
const LATELY: Duration = Duration::from_secs(3600);
/// So often a change may be acknowledged and not be seen before it is asked for more seldom.
pub(super) const ACKNOWLEDGED_IN_VAIN: u32 = 3;

/// What is remembered between two passes, in memory: it may be lost at any time and then costs one more try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The generation it speaks about; another one tries at once.
    generation: i64,
    tried: BTreeMap<About, Tried>,
}

/// What was written to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// The site answers nobody just now.
    Site,
    /// A schedule, by its name in the spec.
    Schedule(String),
    /// A schedule of somebody else, by its task.
    Foreign(TaskId),
    /// A shared schedule, by its name on the server.
    Shared(String),
}

/// How long it is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until this time.
    Until(Timestamp),
    /// Until the next edit.
    Edit,
}

impl Wait {
    /// When to look again, if time alone makes a difference.
    pub(super) fn until(self) -> Option<Timestamp> {
        match self {
            Self::Until(at) => Some(at),
            Self::Edit => None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    /// Tries in a row.
    tries: u32,
    wait: Wait,
    /// What failed; none: Tableau acknowledged, yet the difference may have stayed.
    pub(super) failure: Option<Failure>,
    /// What was to be, for people: schedule `nightly` (Daily 02:00).
    pub(super) what: String,
}

impl Tried {
    /// It has been acknowledged, more than once, and the difference stayed.
    pub(super) fn is_vain(&self) -> bool {
        self.failure.is_none() && self.tries >= ACKNOWLEDGED_IN_VAIN
    }
}

impl Memory {
    /// What came of the last try, if it was one of this generation.
    pub(super) fn of(&self, about: &About, generation: i64) -> Option<&Tried> {
        self.tried.get(about).filter(|_| self.generation == generation)
    }

    /// Whether it has to wait.
    pub(super) fn waits(&self, about: &About, generation: i64, now: Timestamp) -> Option<Wait> {
        let of = |about| {
            self.of(about, generation).filter(|tried| tried.wait.until().is_none_or(|until| until > now))
        };
        of(&About::Site).or_else(|| of(about)).map(|tried| tried.wait)
    }
}

impl Write {
    /// What it writes to.
    pub(super) fn about(&self, s: &ExtractRefreshStatus) -> About {
        match self {
            Self::Create { name, .. } | Self::Attach { name, .. } | Self::Update { name, .. } => {
                About::Schedule(name.clone())
            }
            Self::Delete { task, .. } => {
                let ours = s.schedules.iter().find(|entry| entry.task_id.as_deref() == Some(task.as_str()));
                ours.map_or_else(|| About::Foreign(task.clone()), |entry| About::Schedule(entry.name.clone()))
            }
            Self::MakeShared { name, .. } => About::Shared(name.clone()),
        }
    }

    fn what(&self, about: &About, edition: Edition) -> String {
        let when = match self {
            Self::Create { timing, .. } | Self::Update { timing, .. } | Self::MakeShared { timing, .. } => {
                format!(" ({})", timing.told(edition))
            }
            Self::Attach { .. } | Self::Delete { .. } => String::new(),
        };
        match about {
            About::Schedule(name) | About::Shared(name) => format!("schedule `{name}`{when}"),
            About::Foreign(task) => format!("the schedule of others with task {task}"),
            About::Site => "the schedules".to_owned(),
        }
    }
}

/// A failed write is tried again later; what the site cannot run at all, and Tableau said so, not before an edit.
pub(super) fn failed(p: &Pass, s: &ExtractRefreshStatus, sent: &Write, failure: &Failure) -> Memory {
    let about = match failure {
        Failure::Throttled(_) | Failure::NotSent => About::Site,
        _ => sent.about(s),
    };
    let mut memory = newest(p);
    let tries = memory.tried.get(&about).map_or(0, |tried| tried.tries) + 1;
    let wait = match failure {
        Failure::NotExpressible => None,
        Failure::Throttled(Some(told)) => Some(*told),
        // Read again at once, and tried again by what that says.
        Failure::Ambiguous | Failure::Exists if tries == 1 => Some(Duration::ZERO),
        _ => Some(grown(tries)),
    };
    let what = sent.what(&about, p.o.schedules.edition);
    let wait = wait.map_or(Wait::Edit, |wait| Wait::Until(add(p.now, wait)));
    memory.tried.insert(about, Tried { tries, wait, failure: Some(failure.clone()), what });
    memory
}

/// What Tableau acknowledges and does not do is not asked for again and again.
pub(super) fn acknowledged(p: &Pass, s: &ExtractRefreshStatus, sent: &Write) -> Memory {
    let about = sent.about(s);
    let mut memory = newest(p);
    memory.tried.remove(&About::Site);
    let before = memory.tried.remove(&about).filter(|tried| tried.failure.is_none());
    if let Write::Update { .. } | Write::Delete { .. } = sent {
        let tries = before.map_or(0, |tried| tried.tries) + 1;
        let wait = if tries < ACKNOWLEDGED_IN_VAIN { Duration::ZERO } else { grown(tries) };
        let what = sent.what(&about, p.o.schedules.edition);
        let wait = Wait::Until(add(p.now, wait));
        memory.tried.insert(about, Tried { tries, wait, failure: None, what });
    }
    memory
}

fn newest(p: &Pass) -> Memory {
    let mut memory = p.o.schedules.memory.clone().filter(|memory| memory.generation == p.d.generation);
    if let Some(memory) = &mut memory {
        memory.tried.retain(|_, tried| tried.wait.until().is_none_or(|until| add(until, LATELY) > p.now));
    }
    memory.unwrap_or(Memory { generation: p.d.generation, tried: BTreeMap::new() })
}

fn grown(tries: u32) -> Duration {
    FIRST.saturating_mul(1 << (tries - 1).min(8)).min(LONGEST)
}
