//! Which completions of a feed an upstream means, and how far back they have to be known so that none that counts is lost.

use super::observed::Seen;
use crate::api::{self, BASELINE, ExtractRefresh, ExtractRefreshStatus, Mark};
use crate::model::feeds::Feed;
use crate::model::ids::ConnectionName;
use crate::model::parameters::Parameters;
use jiff::Timestamp;
use kube::ResourceExt;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The name of a state as status keeps it: people write whole sentences there.
pub(super) fn kept_name(name: &str) -> Cow<'_, str> {
    shortened(name, 64, 32, 8)
}

/// The key of an upstream as status keeps it, three times for each: flows and deployments may have long names. It begins with its connection all the same.
pub(super) fn kept_key(key: &str) -> Cow<'_, str> {
    let Some((workspace, rest)) = key.split_once('/') else { return key.into() };
    match shortened(rest, 48, 10, 16) {
        Cow::Borrowed(_) => key.into(),
        Cow::Owned(rest) => format!("{workspace}/{rest}").into(),
    }
}

/// Status has a limit. What is longer than `most` is kept by its beginning, and told from others by a fingerprint of so many bytes: never longer than
/// `most`, so that it is kept as it is from then on.
fn shortened(text: &str, most: usize, beginning: usize, bytes: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let shown: String = text.char_indices().take_while(|(at, _)| *at < beginning).map(|(_, c)| c).collect();
    let mut kept = format!("{shown}…");
    for byte in Sha256::digest(text).iter().take(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(kept, "{byte:02x}");
    }
    kept.into()
}

/// A choice among the runs of a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    parameters: Parameters,
    exclude: BTreeSet<String>,
}

impl Selection {
    /// Only runs with these parameters; completions whose state has one of these names do not count.
    pub fn new(parameters: Parameters, exclude: impl IntoIterator<Item = String>) -> Self {
        Self { parameters, exclude: exclude.into_iter().map(|name| kept_name(&name).into_owned()).collect() }
    }

    /// That of an upstream.
    pub fn of(upstream: &api::Upstream) -> Self {
        let parameters = upstream.parameters.as_ref().map(Parameters::of).unwrap_or_default();
        Self::new(parameters, upstream.exclude_state_names.iter().flatten().cloned())
    }

    /// Whether runs with these parameters are meant.
    pub fn takes(&self, parameters: &Parameters) -> bool {
        parameters.include(&self.parameters)
    }

    /// Whether a completed run is an occasion.
    pub fn counts(&self, seen: &Seen) -> bool {
        self.takes(&seen.parameters) && !self.excludes(&seen.state_name)
    }

    /// Whether completions do not count whose state has this name.
    pub fn excludes(&self, state_name: &str) -> bool {
        self.exclude.contains(&*kept_name(state_name))
    }

    /// Names an upstream by what it is, as status keeps it. Other parameters are another upstream; other names of states are not.
    pub fn key(&self, workspace: &ConnectionName, feed: &Feed) -> String {
        let mut key = feed.key(workspace);
        if !self.parameters.is_empty() {
            key = format!("{key}?{}", self.parameters.fingerprint());
        }
        kept_key(&key).into_owned()
    }
}

/// How far back the completions of a selection have to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// One that completed later may count and not be known yet.
    pub since: Timestamp,
    /// Nobody was reading it lately, as far as the status says: it was not there, or is new; or what was seen counts no more, and the status does not
    /// know the one before.
    pub interrupted: bool,
    /// No completion was ever seen, so that the newest is worth a look, even though it counts for nothing.
    pub first: bool,
}

impl Reach {
    /// Far enough for both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            since: self.since.min(other.since),
            interrupted: self.interrupted || other.interrupted,
            first: self.first || other.first,
        }
    }
}

/// What the status of a resource says about the past of its upstreams.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pasts {
    by_key: BTreeMap<String, Past>,
    /// Of upstreams whose key is not known yet, by name.
    unnamed: BTreeMap<String, Past>,
    /// Upstreams that were read when the status was written, by name.
    read: BTreeSet<String>,
    /// For one that has no past.
    otherwise: Option<Timestamp>,
}

/// Of one upstream.
#[derive(Clone, Debug, PartialEq)]
struct Past {
    /// What has been used up ends here.
    mark: Timestamp,
    /// The newest that was seen, and the name of its state.
    seen: Option<(Timestamp, Option<String>)>,
}

impl Pasts {
    /// Those of a resource as it is stored.
    pub fn of(refresh: &ExtractRefresh) -> Self {
        let unknown = ExtractRefreshStatus::default();
        let status = refresh.status.as_ref().unwrap_or(&unknown);
        let past = |mark: &Mark| Past {
            mark: mark.mark.at.0,
            seen: mark.seen.as_ref().map(|seen| (seen.at.0, seen.state_name.clone())),
        };
        let (named, unnamed): (Vec<&Mark>, Vec<&Mark>) =
            status.marks.iter().partition(|mark| !mark.key.is_empty());
        let read = status.upstreams.iter().filter(|u| ["Completed", "None"].contains(&u.state.as_str()));
        let begins = || {
            let restored = refresh.annotations().get(BASELINE).and_then(|at| at.parse().ok());
            restored.or(refresh.metadata.creation_timestamp.as_ref().map(|at| at.0))
        };
        Self {
            // An earlier build kept them whole.
            by_key: named.into_iter().map(|mark| (kept_key(&mark.key).into_owned(), past(mark))).collect(),
            unnamed: unnamed.into_iter().map(|mark| (mark.name.clone(), past(mark))).collect(),
            read: read.map(|upstream| upstream.name.clone()).collect(),
            // One that is added to a resource counts from then on, and has a mark as soon as that was written.
            otherwise: status.baseline.is_none().then(begins).flatten(),
        }
    }

    /// How far back this upstream has to be known, which is so called and has this key.
    pub fn reach(&self, name: &str, key: &str, selection: &Selection) -> Reach {
        let past = self.by_key.get(key).or_else(|| self.unnamed.get(name));
        let seen = past.and_then(|past| past.seen.as_ref());
        // What does not count any more hides those before it.
        let counts = |state: &Option<String>| !selection.excludes(state.as_deref().unwrap_or("Completed"));
        let since = match (past, seen) {
            (Some(past), Some((at, state))) if counts(state) => past.mark.max(*at),
            (Some(past), _) => past.mark,
            (None, _) => self.otherwise.unwrap_or(Timestamp::MAX),
        };
        // What was read under this name may have been something else.
        let unread = past.is_none() || !self.read.contains(name);
        let hidden = seen.is_some_and(|(_, state)| !counts(state));
        Reach { since, interrupted: unread || hidden, first: unread && seen.is_none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn pasts(status: &serde_json::Value, annotations: &serde_json::Value) -> Pasts {
        let refresh = json!({
            "apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh",
            "metadata": {"name": "e", "namespace": "a", "creationTimestamp": "2026-11-20T00:00:00Z",
                         "annotations": annotations},
            "spec": {"siteRef": {"name": "acme"}, "target": {"kind": "Datasource", "luid": "x"}},
            "status": status,
        });
        Pasts::of(&serde_json::from_value(refresh).unwrap())
    }

    fn skipping() -> Selection {
        Selection::new(Parameters::default(), ["Skipped".to_owned()])
    }

    #[test]
    fn a_new_resource_counts_from_its_beginning_and_a_restored_one_from_its_baseline() {
        let any = Selection::default();
        let new = pasts(&json!({}), &json!({})).reach("u", "k", &any);
        let since = at("2026-11-20T00:00:00Z");
        assert_eq!(new, Reach { since, interrupted: true, first: true });
        let restored = pasts(&json!({}), &json!({"feedwater.dev/baseline": "2026-06-01T00:00:00Z"}));
        assert_eq!(restored.reach("u", "k", &any).since, at("2026-06-01T00:00:00Z"));
        // Added to a resource that has a baseline: from now on.
        let added = pasts(&json!({"baseline": "2026-06-01T00:00:00Z"}), &json!({}));
        assert_eq!(added.reach("u", "k", &any).since, Timestamp::MAX);
    }

    #[test]
    fn what_was_seen_is_the_end_of_it_unless_it_counts_no_more() {
        let mark = |state: Option<&str>| {
            let mut seen = json!({"runId": "r", "stateId": "s", "at": "2026-11-22T00:00:00Z"});
            if let Some(state) = state {
                seen["stateName"] = state.into();
            }
            json!({"name": "u", "key": "k", "since": "2026-11-20T00:00:00Z",
                   "mark": {"at": "2026-11-21T00:00:00Z"}, "seen": seen})
        };
        let told = json!([{"name": "u", "state": "Completed", "new": true}]);
        let of = |state| {
            let marks = [mark(state)];
            pasts(&json!({"baseline": "2026-11-20T00:00:00Z", "marks": marks, "upstreams": told}), &json!({}))
        };
        let (seen, used) = (at("2026-11-22T00:00:00Z"), at("2026-11-21T00:00:00Z"));
        assert_eq!(
            of(None).reach("u", "k", &skipping()),
            Reach { since: seen, interrupted: false, first: false }
        );
        assert_eq!(
            of(Some("Skipped")).reach("u", "k", &skipping()),
            Reach { since: used, interrupted: true, first: false }
        );
        assert_eq!(of(Some("Skipped")).reach("u", "k", &Selection::default()).since, seen);
        assert_eq!(
            of(None).reach("u", "other", &skipping()),
            Reach { since: Timestamp::MAX, interrupted: true, first: true },
            "another upstream by then"
        );
        assert!(of(None).reach("other", "k", &skipping()).interrupted, "not read under that name");
    }

    #[test]
    fn a_long_name_is_excluded_by_what_status_keeps_of_it() {
        let long = |end: &str| format!("{}{end}", "ü".repeat(200));
        let skips = Selection::new(Parameters::default(), [long("a")]);
        for (name, excluded) in [(long("a"), true), (long("b"), false), ("ü".repeat(32), false)] {
            let kept = kept_name(&name).into_owned();
            assert!(kept.len() <= 64, "{kept}");
            assert_eq!((skips.excludes(&name), skips.excludes(&kept)), (excluded, excluded), "{kept}");
        }
    }

    #[test]
    fn a_long_key_is_kept_short_begins_with_its_connection_and_is_no_others() {
        let key = |flow: &str, parameters: &serde_json::Value| {
            let feed = Feed::Deployment(crate::model::ids::DeploymentName {
                flow: flow.into(),
                deployment: "ü".repeat(127).as_str().into(),
            });
            let parameters = Parameters::of(parameters.as_object().unwrap());
            Selection::new(parameters, []).key(&ConnectionName::parse("prod"), &feed)
        };
        let long = "a/".repeat(127);
        let keys = [
            key(&long, &json!({})),
            key(&format!("{long}b"), &json!({})),
            key(&long, &json!({"region": "eu"})),
            key(&long, &json!({"region": "us"})),
        ];
        for key in &keys {
            assert!(key.starts_with(r"prod/a\/a") && key.len() <= "prod/".len() + 48, "{key}");
            assert_eq!(kept_key(key), *key, "it stays as it is");
        }
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{keys:?}");
        assert_eq!(kept_key("prod/orders/nightly"), "prod/orders/nightly");
    }

    #[test]
    fn an_upstream_that_was_not_there_was_not_read() {
        for (state, interrupted) in
            [("Completed", false), ("None", false), ("NotFound", true), ("Unread", true)]
        {
            let told = json!([{"name": "u", "state": state, "new": false}]);
            let mark = json!({"name": "u", "key": "", "since": "2026-11-20T00:00:00Z",
                              "mark": {"at": "2026-11-21T00:00:00Z"}});
            let status = json!({"baseline": "2026-11-20T00:00:00Z", "marks": [mark], "upstreams": told});
            let reach = pasts(&status, &json!({})).reach("u", "k", &skipping());
            let since = at("2026-11-21T00:00:00Z");
            assert_eq!(reach, Reach { since, interrupted, first: interrupted }, "{state}");
        }
    }
}
