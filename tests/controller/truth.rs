//! What really happened, in true time, past all clocks and all answers.

use feedwater::clock::Clock;
use feedwater::model::ids::{JobId, Luid};
use feedwater::tableau::JobStatus;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use world::apiserver::ApiServer;

/// A log that everybody writes and no operator reads. Clones are the same log.
#[derive(Clone)]
pub struct Truth {
    clock: Clock,
    server: ApiServer,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
pub struct Log {
    /// Every POST of a refresh, in the order they were sent.
    pub posts: Vec<Post>,
    /// When jobs began to run.
    pub started: BTreeMap<JobId, Timestamp>,
    /// How and when jobs ended.
    pub ended: BTreeMap<JobId, (JobStatus, Timestamp)>,
    /// What jobs refresh, whoever started them.
    pub contents: BTreeMap<JobId, Luid>,
}

/// A POST of a refresh by an operator.
#[derive(Clone, Debug)]
pub struct Post {
    pub luid: Luid,
    pub sent: Timestamp,
    /// The resource it was sent for, as it was then: the last with an unsent attempt on this content.
    pub resource: Option<Value>,
    /// The job it became, and when.
    pub arrived: Option<(JobId, Timestamp)>,
}

impl Truth {
    pub fn new(clock: Clock, server: ApiServer) -> Self {
        Self { clock, server, log: Arc::default() }
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    /// A POST leaves an operator; its place in the log.
    pub fn sent(&self, luid: &Luid) -> usize {
        let intended = |exr: &Value| {
            let attempt = &exr["status"]["attempt"];
            attempt["luid"] == luid.as_str() && attempt["phase"] == "Intended"
        };
        // By now it may be gone, or its attempt.
        let resource = self.server.last("extractrefreshes", intended);
        let (luid, sent) = (luid.clone(), self.clock.now());
        let mut log = self.log();
        log.posts.push(Post { luid, sent, resource, arrived: None });
        log.posts.len() - 1
    }

    pub fn arrived(&self, post: usize, job: &JobId) {
        let now = self.clock.now();
        self.log().posts[post].arrived = Some((job.clone(), now));
    }

    /// A job moves on.
    pub fn advanced(&self, job: &JobId, content: &Luid, status: JobStatus) {
        let now = self.clock.now();
        let mut log = self.log();
        log.contents.insert(job.clone(), content.clone());
        match status {
            JobStatus::Pending => {}
            JobStatus::InProgress => drop(log.started.insert(job.clone(), now)),
            JobStatus::Success | JobStatus::Failed | JobStatus::Cancelled => {
                log.ended.insert(job.clone(), (status, now));
            }
        }
    }
}

impl Log {
    /// Jobs that refreshed this content: their beginnings and ends.
    pub fn successes(&self, luid: &str) -> impl Iterator<Item = (&JobId, Timestamp, Timestamp)> {
        self.ended.iter().filter_map(move |(job, (status, end))| {
            let of = self.contents.get(job).is_some_and(|content| content.as_str() == luid);
            let start = self.started.get(job)?;
            (of && *status == JobStatus::Success).then_some((job, *start, *end))
        })
    }
}
