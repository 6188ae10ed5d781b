//! Which resource a path names.

use std::collections::BTreeMap;

use super::kinds::Kind;

/// What a path and its query ask about.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) subresource: String,
    pub(super) query: BTreeMap<String, String>,
}

impl Route {
    /// `None`: the server does not have it.
    pub(super) fn of(kinds: &[Kind], path: &str, query: &str) -> Option<Self> {
        let mut words = path.trim_matches('/').split('/');
        let group = match words.next()? {
            "api" => "",
            "apis" => words.next()?,
            _ => return None,
        };
        let version = words.next()?;
        let rest: Vec<&str> = words.collect();
        let (namespace, rest) = match rest.as_slice() {
            // A namespace's own subresources are not another resource.
            ["namespaces", namespace, resource, rest @ ..] if !["status", "finalize"].contains(resource) => {
                (*namespace, [&[*resource], rest].concat())
            }
            rest => ("", rest.to_vec()),
        };
        let mut rest = rest.into_iter();
        let plural = rest.next()?;
        let kind = kinds.iter().find(|k| k.group == group && k.version == version && k.plural == plural)?;
        let name = rest.next().unwrap_or_default();
        let subresource = rest.next().unwrap_or_default();
        if rest.next().is_some() || !(subresource.is_empty() || subresource == "status" && kind.has_status) {
            return None;
        }
        Some(Self {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        })
    }

    pub(super) fn asks(&self, flag: &str) -> bool {
        self.query.get(flag).is_some_and(|value| value == "true" || value == "1")
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.query.get(name)?.parse().ok()
    }

    /// The name that a field selector asks for; `Err`: it asks for something else.
    pub(super) fn selected(&self) -> Result<Option<&str>, ()> {
        if self.query.get("labelSelector").is_some_and(|labels| !labels.is_empty()) {
            return Err(());
        }
        match self.query.get("fieldSelector").map(String::as_str) {
            None | Some("") => Ok(None),
            Some(fields) => fields.strip_prefix("metadata.name=").map(Some).ok_or(()),
        }
    }
}
