//! How lists are asked for: pages, and filters by name.

use std::sync::atomic::{AtomicU32, Ordering};
use url::Url;

/// Rows a page: the most there may be.
pub(super) const PAGE: u64 = 1000;

/// How many pages it takes to list so many rows.
pub(super) fn pages(rows: usize) -> u32 {
    let pages = u64::try_from(rows).unwrap_or(u64::MAX).div_ceil(PAGE).max(1);
    u32::try_from(pages).unwrap_or(u32::MAX)
}

/// How many requests went out for one answer.
#[derive(Debug, Default)]
pub struct Questions(AtomicU32);

impl Questions {
    /// One more is about to.
    pub(super) fn ask(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So many did.
    pub fn asked(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Longest URL of a list filtered by names.
const MOST_URL: usize = 1800;

pub(super) fn list_url(mut url: Url, filter: &str, page: u64) -> Url {
    let mut query = url.query_pairs_mut();
    if !filter.is_empty() {
        query.append_pair("filter", filter);
    }
    query.append_pair("pageSize", &PAGE.to_string()).append_pair("pageNumber", &page.to_string());
    drop(query);
    url
}

/// Filters that together find these names; one empty filter where a name cannot be written in one (reference 3).
pub(super) fn name_filters(names: &[String]) -> Vec<String> {
    if names.iter().any(|name| name.contains([',', '[', ']', '&', ':']) || name.trim() != name) {
        return vec![String::new()];
    }
    let length =
        |name: &str| url::form_urlencoded::byte_serialize(name.as_bytes()).map(str::len).sum::<usize>();
    let mut chunks: Vec<(usize, Vec<&str>)> = Vec::new();
    for name in names {
        let more = length(name) + "%2C".len();
        match chunks.last_mut() {
            Some((sum, chunk)) if *sum + more <= MOST_URL => {
                *sum += more;
                chunk.push(name);
            }
            // The rest of the URL has about 200 bytes.
            _ => chunks.push((200 + more, vec![name])),
        }
    }
    chunks.into_iter().map(|(_, chunk)| format!("name:in:[{}]", chunk.join(","))).collect()
}

/// Rows that came on two pages, because the list grew in between, count once.
pub(super) fn unique<T, K: std::hash::Hash + Eq>(
    rows: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut known = std::collections::HashSet::new();
    rows.filter(|row| known.insert(key(row))).collect()
}
