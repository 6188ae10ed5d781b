//! What a Prefect workspace feeds an extract with: the runs of a deployment, or the runs that a selector takes.

use super::ids::{ConnectionName, DeploymentName};
use super::runs::Run;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

/// Runs that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feed {
    /// Those of a deployment.
    Deployment(DeploymentName),
    /// Those that carry these tags, or were run there, whatever their flow.
    Runs(Selector),
}

impl Feed {
    /// What names it, in a workspace: the same for the same, whoever means it, and never the same for others. A `FlowDeployment` and a direct
    /// reference to the same deployment share it.
    pub fn key(&self, workspace: &ConnectionName) -> String {
        match self {
            Self::Deployment(name) => {
                format!("{workspace}/{}/{}", name.flow.replace('/', r"\/"), name.deployment)
            }
            // No flow has a `%` in its name (reference 3).
            Self::Runs(selector) => format!("{workspace}/%runs/{}", selector.fingerprint()),
        }
    }
}

/// Chooses runs of any flow. A run must match all parts; there is at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    tags: Arc<BTreeSet<Box<str>>>,
    work_pool: Option<Arc<str>>,
}

impl Selector {
    /// Of the runs that carry all these tags, and were run in this work pool if one is named; `None` for a selector that would take every run.
    pub fn new(tags: impl IntoIterator<Item = impl Into<Box<str>>>, work_pool: Option<&str>) -> Option<Self> {
        let tags: BTreeSet<Box<str>> = tags.into_iter().map(Into::into).collect();
        let some = !tags.is_empty() || work_pool.is_some();
        some.then(|| Self { tags: Arc::new(tags), work_pool: work_pool.map(Into::into) })
    }

    /// The tags that a run has to carry.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(AsRef::as_ref)
    }

    /// The work pool that it has to have been run in.
    pub fn work_pool(&self) -> Option<&str> {
        self.work_pool.as_deref()
    }

    /// Whether it takes this run.
    pub fn takes(&self, run: &Run) -> bool {
        self.matches(|tag| run.tags.iter().any(|has| **has == *tag), run.work_pool.as_deref())
    }

    /// Whether something with these tags in this work pool is taken.
    pub fn matches(&self, has_tag: impl Fn(&str) -> bool, work_pool: Option<&str>) -> bool {
        self.tags().all(has_tag) && (self.work_pool.is_none() || self.work_pool() == work_pool)
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |kind: u8, text: &str| {
            hash.update([kind]);
            hash.update(text.len().to_be_bytes());
            hash.update(text.as_bytes());
        };
        self.tags().for_each(|tag| part(b't', tag));
        if let Some(pool) = self.work_pool() {
            part(b'w', pool);
        }
        hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tags: &[&str], pool: Option<&str>) -> Selector {
        Selector::new(tags.iter().copied(), pool).unwrap()
    }

    #[test]
    fn all_tags_and_the_pool_have_to_match() {
        let crm = of(&["crm", "nightly"], Some("etl"));
        for (has, pool, taken) in [
            (&["nightly", "x", "crm"][..], Some("etl"), true),
            (&["nightly", "x"], Some("etl"), false),
            (&["nightly", "crm"], Some("other"), false),
            (&["nightly", "crm"], None, false),
        ] {
            assert_eq!(crm.matches(|tag| has.contains(&tag), pool), taken, "{has:?} {pool:?}");
        }
        assert!(of(&[], Some("etl")).matches(|_| false, Some("etl")));
        assert!(of(&["crm"], None).matches(|tag| tag == "crm", None));
        assert_eq!(Selector::new(Vec::<String>::new(), None), None, "it would take every run");
    }

    #[test]
    fn a_key_goes_by_what_is_meant_and_is_no_other_feeds() {
        let runs = |tags: &[&str], pool| Feed::Runs(of(tags, pool)).key(&ConnectionName::parse("prod"));
        assert_eq!(runs(&["a", "b"], None), runs(&["b", "a", "b"], None));
        let keys = [
            runs(&["a", "b"], None),
            runs(&["ab"], None),
            runs(&["a"], Some("b")),
            runs(&["a", "b"], Some("b")),
            runs(&[], Some("a")),
            runs(&["a"], None),
        ];
        assert_eq!(BTreeSet::from(keys.clone()).len(), keys.len(), "{keys:?}");
        assert!(keys.iter().all(|key| key.len() == "prod/%runs/".len() + 32));
    }
}
