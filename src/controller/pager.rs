//! Runs page by page.

use crate::model::runs::Run;
use crate::prefect::{Prefect, PrefectError, RunQuery, States};
use jiff::Timestamp;

/// Rows per page: the server's default maximum.
pub const PAGE: u32 = 200;

/// Keyset paging by `end_time`, newest first: `before` is the last row's, inclusive, and rows known already are dropped. An offset is used
/// only inside one `end_time`, since a user's retry between two pages would hide a row behind it.
#[derive(Clone)]
pub struct Pager {
    /// `None`: from the beginning of time.
    after: Option<Timestamp>,
    before: Option<Timestamp>,
    offset: u32,
    /// Rows per page.
    pub most: u32,
    /// There are no more.
    pub done: bool,
}

impl Pager {
    /// What ended since then.
    pub fn since(after: Timestamp) -> Self {
        Self { after: Some(after), before: None, offset: 0, most: PAGE, done: false }
    }

    /// What ended until then; so many at first.
    pub fn until(before: Timestamp, most: u32) -> Self {
        Self { after: None, before: Some(before), offset: 0, most, done: false }
    }

    /// What ended after this has been read.
    pub fn reached(&self) -> Timestamp {
        if self.done { Timestamp::MIN } else { self.before.unwrap_or(Timestamp::MAX) }
    }

    /// The next page of runs in these states.
    pub async fn next(
        &mut self,
        client: &dyn Prefect,
        query: &RunQuery,
        states: States,
    ) -> Result<Vec<Run>, PrefectError> {
        let query = RunQuery {
            states,
            ended_after: self.after,
            ended_before: self.before,
            offset: self.offset,
            limit: self.most,
            ..query.clone()
        };
        let rows = client.runs(&query).await?;
        let last = rows.last().and_then(|run| run.ended_at);
        match last {
            _ if rows.len() < self.most as usize => self.done = true,
            Some(last) if self.before == Some(last) => self.offset += self.most,
            Some(last) => {
                self.before = Some(last);
                self.offset = 0;
            }
            None => self.done = true,
        }
        Ok(rows)
    }
}
