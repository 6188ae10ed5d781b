//! What may go wrong with a request, and what was asked.

use std::sync::Arc;
use std::time::Duration;

/// What a request asks for, in the words of RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// Many.
    List,
    /// What happens to them.
    Watch,
    /// A new object.
    Create,
    /// An object replaced.
    Update,
    /// An object changed, or applied.
    Patch,
    /// An object removed.
    Delete,
}

impl Verb {
    /// Whether it changes anything.
    pub fn writes(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Watch => false,
            Self::Create | Self::Update | Self::Patch | Self::Delete => true,
        }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Counts from 1 over all requests.
    pub sequence: usize,
    /// Who asks: the name of its door.
    pub client: Arc<str>,
    /// What for.
    pub verb: Verb,
    /// Of which kind.
    pub plural: String,
    /// `status`, or empty.
    pub subresource: String,
    /// Where; empty: everywhere.
    pub namespace: String,
    /// Which; empty: all.
    pub name: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is carried out and answered.
    Pass,
    /// It is answered with this status and not carried out.
    Refuse(u16),
    /// It is not carried out, and the connection breaks.
    Lose,
    /// It is carried out, and the connection breaks.
    LoseAnswer,
    /// It is carried out this much later.
    Delay(Duration),
    /// It is carried out at once, and answered this much later.
    DelayAnswer(Duration),
    /// A read is answered from the state at this resource version, as by a replica that is behind.
    Stale(u64),
}

pub(super) struct Faults {
    pub(super) decide: Box<dyn FnMut(&Call) -> Action + Send>,
    pub(super) log: Vec<(Call, Option<u16>)>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { decide: Box::new(|_| Action::Pass), log: Vec::new() }
    }
}
