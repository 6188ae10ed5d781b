//! The kube-apiserver's audit log: the independent counter of what was asked of the cluster.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

/// One request, once it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The resource, such as `extractrefreshes`; empty for paths such as `/readyz`.
    pub resource: String,
    /// The subresource, such as `status`; empty where there is none.
    pub subresource: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The namespace; empty for cluster-wide requests.
    pub namespace: String,
    /// The object's name; empty for lists and creates.
    pub name: String,
    /// Who asked, such as `system:serviceaccount:feedwater-system:feedwater`.
    pub user: String,
    /// The client's User-Agent.
    pub user_agent: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// When the request came.
    pub time: Timestamp,
}

impl Entry {
    /// Whether the request asked for a change.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// `resource` or `resource/subresource`.
    pub fn what(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// A place in a log: what was written before it is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker(u64);

impl Marker {
    /// The beginning of every log.
    pub const BEGINNING: Self = Self(0);

    /// The present end of the log.
    pub fn now(log: &Path) -> Self {
        Self(std::fs::metadata(log).map_or(0, |file| file.len()))
    }
}

/// All requests in the log. A line that is being written at this moment is left out.
pub fn read(log: &Path) -> std::io::Result<Vec<Entry>> {
    since(log, Marker::BEGINNING)
}

/// The requests that were logged after `marker`.
pub fn since(log: &Path, marker: Marker) -> std::io::Result<Vec<Entry>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(log)?;
    file.seek(SeekFrom::Start(marker.0))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .filter_map(Line::answered)
        .collect())
}

/// The writes of `user` after `marker`.
pub fn writes(log: &Path, marker: Marker, user: &str) -> std::io::Result<Vec<Entry>> {
    Ok(since(log, marker)?.into_iter().filter(|entry| entry.is_write() && entry.user == user).collect())
}

/// How many requests of each (user, verb, resource with subresource) there are.
pub fn count(entries: &[Entry]) -> BTreeMap<(String, String, String), usize> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        *counts.entry((entry.user.clone(), entry.verb.clone(), entry.what())).or_insert(0) += 1;
    }
    counts
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
    request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    resource: String,
    subresource: String,
    api_group: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
}

impl Line {
    /// A watch that was granted is logged when it begins (`ResponseStarted`) and when it ends: it counts once, at its beginning.
    fn answered(self) -> Option<Entry> {
        let granted_watch = self.verb == "watch" && self.response_status.code < 400;
        let counted = if granted_watch { "ResponseStarted" } else { "ResponseComplete" };
        (self.stage == counted).then_some(Entry {
            verb: self.verb,
            resource: self.object_ref.resource,
            subresource: self.object_ref.subresource,
            group: self.object_ref.api_group,
            namespace: self.object_ref.namespace,
            name: self.object_ref.name,
            user: self.user.username,
            user_agent: self.user_agent,
            code: self.response_status.code,
            time: self.request_received_timestamp,
        })
    }
}
