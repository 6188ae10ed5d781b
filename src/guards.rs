//! The safeties of which it is shown that they are needed: a build with the feature `guards` can go without one, and a test then fails.
//! In every other build all of them hold, and nothing can take one away.

/// A safety.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// A refresh is written down before it is sent.
    IntentBeforePost,
    /// A status write carries the resource version it was decided on.
    ResourceVersion,
    /// After a lost answer, a job missing from the list is not believed missing before `--settle` has passed.
    SettleTime,
    /// Nothing is sent outside that the lease does not outlive.
    LeaseFence,
    /// What stands behind a 409093 is looked at: only a job that is proven to contain what is owed does instead of ours.
    ConflictByCause,
    /// Nothing is planned on a key that was written and not read since.
    DirtyKeys,
    /// A pass sees our own last write, also where the watch is behind.
    NewestOfCache,
    /// The cursor of completions stays behind the newest row, for rows that were committed late.
    CursorOverlap,
    /// From when Prefect's scheduled runs have to be made good is written down before the write that drops them.
    PendingWrite,
    /// A deployment counts as absent after two complete reads.
    TwoCompleteReads,
}

impl Guard {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::IntentBeforePost,
        Self::ResourceVersion,
        Self::SettleTime,
        Self::LeaseFence,
        Self::ConflictByCause,
        Self::DirtyKeys,
        Self::NewestOfCache,
        Self::CursorOverlap,
        Self::PendingWrite,
        Self::TwoCompleteReads,
    ];

    /// Its name on the command line and in `tests/guards.txt`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IntentBeforePost => "intent-before-post",
            Self::ResourceVersion => "resource-version",
            Self::SettleTime => "settle-time",
            Self::LeaseFence => "lease-fence",
            Self::ConflictByCause => "conflict-by-cause",
            Self::DirtyKeys => "dirty-keys",
            Self::NewestOfCache => "newest-of-cache",
            Self::CursorOverlap => "cursor-overlap",
            Self::PendingWrite => "pending-write",
            Self::TwoCompleteReads => "two-complete-reads",
        }
    }
}

/// Whether the guard is in force: always.
#[cfg(not(feature = "guards"))]
pub const fn holds(_: Guard) -> bool {
    true
}

#[cfg(feature = "guards")]
pub use removable::{holds, remove};

#[cfg(feature = "guards")]
mod removable {
    use super::Guard;
    use std::sync::OnceLock;

    /// Of this process, for its whole life.
    static REMOVED: OnceLock<Option<Guard>> = OnceLock::new();

    /// Whether the guard is in force. Which one is not was said by [`remove`], else by `FEEDWATER_WITHOUT_GUARD` (for tests within one process).
    pub fn holds(guard: Guard) -> bool {
        let removed = REMOVED.get_or_init(|| {
            let name = std::env::var("FEEDWATER_WITHOUT_GUARD").ok()?;
            let guard = name.parse();
            assert!(guard.is_ok(), "FEEDWATER_WITHOUT_GUARD: there is no guard `{name}`");
            guard.ok()
        });
        *removed != Some(guard)
    }

    /// Goes without this guard. Has to be said before the first [`holds`]; `false`: it was too late.
    pub fn remove(guard: Guard) -> bool {
        REMOVED.set(Some(guard)).is_ok()
    }
}

impl std::str::FromStr for Guard {
    type Err = UnknownGuard;

    fn from_str(name: &str) -> Result<Self, UnknownGuard> {
        Self::ALL.into_iter().find(|guard| guard.name() == name).ok_or_else(|| UnknownGuard(name.to_owned()))
    }
}

/// No guard has this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no guard `{0}`")]
pub struct UnknownGuard(String);
