//! Lists, page by page.

use super::PrefectError;
use super::client::{PAGE, PrefectClient, decode};
use super::wire::{self, DeploymentRow, FlowRow};
use crate::http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

impl PrefectClient {
    /// One page; `body` is made for a number of rows, which shrinks when the server says that it allows fewer.
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &[&str],
        most: u32,
        body: impl Fn(u32) -> Value,
    ) -> Result<Page<T>, PrefectError> {
        let mut limit = self.page.load(Ordering::Relaxed).min(most);
        let mut answer = self.call(operation, Method::POST, path, Some(body(limit))).await?;
        if answer.status == 422
            && let Some(told) = wire::page_limit(&answer.body).filter(|told| (1..limit).contains(told))
        {
            self.page.store(told, Ordering::Relaxed);
            limit = told;
            answer = self.call(operation, Method::POST, path, Some(body(limit))).await?;
        }
        let rows: Vec<T> = decode(&answer)?;
        let last = rows.len() < limit as usize;
        Ok(Page { rows, last })
    }

    /// All pages by offset. Rows that are made or deleted while it is read move others from page to page: each page begins with the last row of
    /// the one before, and where it does not, everything is read once more. What any of the readings had is in the result, once.
    pub(super) async fn all<T: DeserializeOwned + Row>(
        &self,
        operation: &'static str,
        path: &[&str],
        filter: &Value,
    ) -> Result<Vec<T>, PrefectError> {
        let mut found = BTreeMap::new();
        for _ in 0..READINGS {
            if self.all_pages(operation, path, filter, &mut found).await? {
                break;
            }
        }
        // A table that never holds still: who acts on the absence of a row asks for it by name first.
        Ok(found.into_values().collect())
    }

    /// `false`: rows moved meanwhile.
    async fn all_pages<T: DeserializeOwned + Row>(
        &self,
        operation: &'static str,
        path: &[&str],
        filter: &Value,
        found: &mut BTreeMap<String, T>,
    ) -> Result<bool, PrefectError> {
        let (mut offset, mut last_seen) = (0_usize, None::<String>);
        loop {
            let page = self
                .page::<T>(operation, path, PAGE, |limit| {
                    let mut body = filter.clone();
                    body["limit"] = limit.into();
                    body["offset"] = offset.into();
                    // Names repeat across flows, and how a database orders equal ones may change from page to page.
                    body["sort"] = "CREATED_DESC".into();
                    body
                })
                .await?;
            if last_seen.is_some() && page.rows.first().map(Row::id) != last_seen.as_deref() {
                found.extend(page.rows.into_iter().map(|row| (row.id().to_owned(), row)));
                return Ok(false);
            }
            // A page of one row cannot overlap the next.
            offset += page.rows.len().saturating_sub(usize::from(page.rows.len() > 1));
            last_seen = page.rows.last().filter(|_| page.rows.len() > 1).map(|row| row.id().to_owned());
            found.extend(page.rows.into_iter().map(|row| (row.id().to_owned(), row)));
            if page.last {
                return Ok(true);
            }
        }
    }
}

/// How often a list is read that changes meanwhile.
const READINGS: usize = 3;

/// A row of a list.
pub(super) trait Row {
    /// What it is known by.
    fn id(&self) -> &str;
}

impl Row for FlowRow {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Row for DeploymentRow {
    fn id(&self) -> &str {
        &self.id
    }
}

/// A page.
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    /// There is none after it.
    pub(super) last: bool,
}
