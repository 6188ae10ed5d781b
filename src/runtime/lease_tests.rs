use super::*;
use crate::runtime::lease_store::StoreError;
use async_trait::async_trait;
use std::future::pending;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// One lease, kept as the API server keeps it.
#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub(super) lease: Option<Lease>,
    version: u64,
    /// Requests hang.
    cut: bool,
    /// The next write is done, and its answer lost.
    lose_answer: bool,
}

impl Fake {
    pub(super) fn store(&self, lease: &Lease) -> Result<Lease, StoreError> {
        let mut state = lock(&self.0);
        let current = state.lease.as_ref().and_then(|l| l.metadata.resource_version.clone());
        if lease.metadata.resource_version != current {
            return Err(StoreError::Conflict);
        }
        state.version += 1;
        let mut lease = lease.clone();
        lease.metadata.resource_version = Some(state.version.to_string());
        state.lease = Some(lease.clone());
        if std::mem::take(&mut state.lose_answer) { Err(StoreError::NoAnswer) } else { Ok(lease) }
    }
    async fn reached(&self) {
        if lock(&self.0).cut {
            pending::<()>().await;
        }
    }
    fn holder(&self) -> Option<String> {
        lock(&self.0).lease.as_ref().and_then(holder).cloned()
    }
    fn edit(&self, change: impl FnOnce(&mut Lease)) {
        let mut lease = lock(&self.0).lease.clone().unwrap();
        change(&mut lease);
        self.store(&lease).unwrap();
    }
}

#[async_trait]
impl LeaseStore for Fake {
    async fn get(&self) -> Result<Option<Lease>, StoreError> {
        self.reached().await;
        Ok(lock(&self.0).lease.clone())
    }
    async fn create(&self, lease: &Lease) -> Result<Lease, StoreError> {
        self.reached().await;
        self.store(lease)
    }
    async fn replace(&self, lease: &Lease) -> Result<Lease, StoreError> {
        self.reached().await;
        self.store(lease)
    }
}

struct Candidate {
    handle: Handle,
    release: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Ended>,
}

fn candidate(store: &Fake, name: &str) -> Candidate {
    let (release, asked) = oneshot::channel::<()>();
    let clock = Clock::virtual_from("2026-11-25T00:00:00Z".parse().unwrap());
    let (handle, election) = elect(store.clone(), Terms::new(name), clock, async {
        let _ = asked.await;
    });
    Candidate { handle, release: Some(release), ended: tokio::spawn(election) }
}

impl Candidate {
    async fn leads(&self) -> Instant {
        let mut leading = self.handle.leading();
        let now = *leading.wait_for(|leading| *leading != Leading::No).await.unwrap();
        match now {
            Leading::Until(end) => end,
            Leading::No => unreachable!(),
        }
    }
    async fn end(mut self) -> Ended {
        drop(self.release.take());
        self.ended.await.unwrap()
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn one_leads_and_gives_the_lease_back_with_its_annotations() {
    let store = Fake::default();
    let first = candidate(&store, "first");
    first.leads().await;
    let second = candidate(&store, "second");
    sleep(60 * SECOND).await;
    assert!(first.handle.now().outlives(9 * SECOND), "renewed every 5 of 15 seconds");
    assert_eq!(second.handle.now(), Leading::No);

    first.handle.set_annotation("feedwater.dev/cursor", "a").unwrap();
    assert_eq!(first.end().await, Ended::Released);
    let released = Instant::now();
    second.leads().await;
    assert!(released.elapsed() < SECOND, "a lease that was given back is free at once");
    assert_eq!(second.handle.inherited().get("feedwater.dev/cursor").map(String::as_str), Some("a"));
    assert_eq!(lock(&store.0).lease.as_ref().unwrap().spec.as_ref().unwrap().lease_transitions, Some(1));
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_is_over_before_the_next_begins() {
    let store = Fake::default();
    let first = candidate(&store, "first");
    first.leads().await;
    let other = Fake(store.0.clone());
    sleep(7 * SECOND).await;
    let end = first.leads().await;
    // Only the first is cut off: the second looks at the same lease by a store of its own.
    let lease = lock(&store.0).lease.clone();
    let seen = Fake::default();
    *lock(&seen.0) = State { lease, version: 100, ..State::default() };
    lock(&other.0).cut = true;
    let second = candidate(&seen, "second");
    assert_eq!(first.ended.await.unwrap(), Ended::Lost);
    assert!(Instant::now() >= end && Instant::now() < end + SECOND, "lost when the fence ended, not later");
    assert_eq!(second.handle.now(), Leading::No);
    second.leads().await;
    assert!(Instant::now() > end);
}

#[tokio::test(start_paused = true)]
async fn an_old_renew_time_of_a_living_leader_takes_nothing_from_it() {
    // The leader's clock is a year behind; it renews, so its lease stands.
    let store = Fake::default();
    let first = candidate(&store, "first");
    first.leads().await;
    let second = candidate(&store, "second");
    for round in 0..20 {
        sleep(5 * SECOND).await;
        let at: jiff::Timestamp = "2025-11-25T00:00:00Z".parse().unwrap();
        store.edit(|lease| {
            let spec = lease.spec.as_mut().unwrap();
            spec.renew_time = Some(MicroTime(at + SECOND * round));
        });
    }
    assert_eq!(second.handle.now(), Leading::No);
    assert_eq!(store.holder().as_deref(), Some("first"));
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_person_who_edits_the_lease_or_a_lost_answer_costs_no_leadership() {
    let store = Fake::default();
    let first = candidate(&store, "first");
    first.leads().await;
    store.edit(|lease| {
        lease.metadata.labels.get_or_insert_default().insert("a".into(), "b".into());
    });
    sleep(30 * SECOND).await;
    assert!(first.handle.now().outlives(5 * SECOND));
    lock(&store.0).lose_answer = true;
    sleep(30 * SECOND).await;
    assert!(first.handle.now().outlives(5 * SECOND));
    assert_eq!(first.end().await, Ended::Released);
    assert_eq!(store.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_by_another_is_lost_at_the_next_renewal() {
    let store = Fake::default();
    let first = candidate(&store, "first");
    first.leads().await;
    store.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some("thief".into()));
    let handle = first.handle.clone();
    assert_eq!(first.ended.await.unwrap(), Ended::Lost);
    assert_eq!(handle.now(), Leading::No);
    assert_eq!(store.holder().as_deref(), Some("thief"));
}

#[tokio::test(start_paused = true)]
async fn the_fence_ends_by_itself_and_admits_only_what_ends_before() {
    let end = Instant::now() + 10 * SECOND;
    let leading = Leading::Until(end);
    assert!(leading.outlives(9 * SECOND));
    assert!(!leading.outlives(10 * SECOND));
    sleep(11 * SECOND).await;
    assert!(!leading.outlives(Duration::ZERO));
    assert!(!Leading::No.outlives(Duration::ZERO));
}

/// One that the API server refuses would make it refuse every renewal [measured on 1.36.3: 422].
#[test]
fn an_annotation_that_would_cost_the_lease_is_refused() {
    for good in ["feedwater.dev/cursor", "cursor.feedwater.dev/finance.prod", "a/B_1"] {
        assert_eq!(check_annotation(good, ""), Ok(()), "{good}");
    }
    let long = format!("feedwater.dev/{}", "a".repeat(64));
    for bad in
        ["feedwater.dev/cursor/prod", "cursor", "feedwater.dev/", "/a", "feedwater.dev/a-", "A.dev/a", &long]
    {
        assert!(check_annotation(bad, "").is_err(), "{bad}");
    }
    assert!(check_annotation("feedwater.dev/cursor", &"a".repeat(1025)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_made_good_at_once() {
    let store = Fake::default();
    lock(&store.0).lose_answer = true;
    let begun = Instant::now();
    let first = candidate(&store, "first");
    first.leads().await;
    assert!(begun.elapsed() < 3 * SECOND, "it waits for its own lease to run out");
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_while_its_claim_is_answered_leaves_no_lease_behind() {
    let store = Fake::default();
    lock(&store.0).lose_answer = true;
    let first = candidate(&store, "first");
    // On paused time, which goes on only while everybody sleeps.
    while store.holder().is_none() {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(first.end().await, Ended::Released);
    assert_eq!(store.holder(), None);
}
