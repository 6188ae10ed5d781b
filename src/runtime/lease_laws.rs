//! The law of an election, whatever becomes of its requests.

use super::tests::{Fake, SECOND};
use super::*;
use async_trait::async_trait;
use proptest::prelude::*;
use tokio::sync::oneshot;

/// What becomes of a request of a candidate.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Pass,
    /// It does not arrive.
    Lose,
    /// It is carried out, and the answer does not arrive.
    LoseAnswer,
    /// It is carried out at once, and answered this many seconds later.
    DelayAnswer(u32),
    /// It is carried out this many seconds later, whether or not anybody still waits for the answer.
    Late(u32),
    /// A read is answered from this many states before, as by a replica that is behind.
    Stale(usize),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Pass),
        1 => Just(Fate::Lose),
        1 => Just(Fate::LoseAnswer),
        1 => (1..20_u32).prop_map(Fate::DelayAnswer),
        1 => (1..20_u32).prop_map(Fate::Late),
        1 => (1..4_usize).prop_map(Fate::Stale),
    ]
}

/// Troubles last: each is met by several requests in a row.
fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let spell = (fate(), 1..12_usize).prop_map(|(fate, times)| vec![fate; times]);
    prop::collection::vec(spell, 0..8).prop_map(|spells| spells.concat())
}

/// The way of one candidate to the lease.
#[derive(Clone)]
struct Line {
    store: Fake,
    past: Arc<Mutex<Vec<Option<Lease>>>>,
    fates: Arc<Mutex<std::vec::IntoIter<Fate>>>,
}

impl Line {
    async fn carry<T: Send + 'static>(
        &self,
        work: impl FnOnce(Fake) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (store, past) = (self.store.clone(), self.past.clone());
        let work = move || {
            let result = work(store.clone());
            lock(&past).push(lock(&store.0).lease.clone());
            result
        };
        let fate = lock(&self.fates).next().unwrap_or(Fate::Pass);
        match fate {
            Fate::Pass | Fate::Stale(_) => work(),
            Fate::Lose => Err(StoreError::NoAnswer),
            Fate::LoseAnswer => work().and(Err(StoreError::NoAnswer)),
            Fate::DelayAnswer(seconds) => {
                let answer = work();
                sleep(seconds * SECOND).await;
                answer
            }
            Fate::Late(seconds) => {
                let late = tokio::spawn(async move {
                    sleep(seconds * SECOND).await;
                    work()
                });
                late.await.unwrap()
            }
        }
    }
}

#[async_trait]
impl LeaseStore for Line {
    async fn get(&self) -> Result<Option<Lease>, StoreError> {
        let next = lock(&self.fates).as_slice().first().copied();
        if let Some(Fate::Stale(behind)) = next {
            lock(&self.fates).next();
            let past = lock(&self.past);
            return Ok(past.iter().rev().nth(behind).cloned().flatten());
        }
        self.carry(|store| Ok(lock(&store.0).lease.clone())).await
    }
    async fn create(&self, lease: &Lease) -> Result<Lease, StoreError> {
        let lease = lease.clone();
        self.carry(move |store| store.store(&lease)).await
    }
    async fn replace(&self, lease: &Lease) -> Result<Lease, StoreError> {
        let lease = lease.clone();
        self.carry(move |store| store.store(&lease)).await
    }
}

/// How a candidate's process ends, if it does.
#[derive(Clone, Copy, Debug)]
enum End {
    Asked,
    Killed,
}

/// A process after the other on one machine, each with an identity of its own; `leads` is told of every change.
async fn machine(name: usize, line: Line, ends: Vec<(u32, End)>, leads: impl Fn(usize, Leading) + Send) {
    let mut ends = ends.into_iter();
    for process in 0.. {
        let (release, asked) = oneshot::channel::<()>();
        let clock = Clock::virtual_from("2026-11-25T00:00:00Z".parse().unwrap());
        let terms = Terms::new(format!("{name}-{process}"));
        let (handle, election) = elect(line.clone(), terms, clock, async {
            let _ = asked.await;
        });
        let mut leading = handle.leading();
        let mut election = Box::pin(election);
        let (after, end) = ends.next().map_or((u32::MAX, End::Asked), |(after, end)| (after, end));
        let mut release = Some(release);
        let deadline = Instant::now() + after * SECOND;
        loop {
            tokio::select! {
                biased;
                _ = &mut election => break,
                Ok(()) = leading.changed() => leads(name, *leading.borrow_and_update()),
                () = sleep_until(deadline), if release.is_some() => match end {
                    End::Asked => drop(release.take()),
                    End::Killed => break,
                },
            }
        }
        leads(name, Leading::No);
    }
}

proptest! {
    /// Whatever becomes of requests, and whoever ends or dies: never do two count on the lease at a time, and when requests arrive again,
    /// one leads.
    #[test]
    fn at_most_one_counts_on_the_lease_at_any_time(
        fates in prop::collection::vec(fates(), 3),
        ends in prop::collection::vec(
            prop::collection::vec((0..60_u32, prop_oneof![Just(End::Asked), Just(End::Killed)]), 0..4),
            3,
        ),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (store, past) = (Fake::default(), Arc::default());
            let leads = Arc::new(Mutex::new([Leading::No; 3]));
            let mut machines = tokio::task::JoinSet::new();
            for (name, (fates, ends)) in fates.into_iter().zip(ends).enumerate() {
                let fates = Arc::new(Mutex::new(fates.into_iter()));
                let line = Line { store: store.clone(), past: Arc::clone(&past), fates: fates.clone() };
                let leads = leads.clone();
                machines.spawn(machine(name, line, ends, move |name, now| {
                    let mut leads = lock(&leads);
                    leads[name] = now;
                    let counting = leads.iter().filter(|leading| leading.outlives(Duration::ZERO)).count();
                    assert!(counting <= 1, "two count on the lease: {leads:?}");
                }));
            }
            // Longer than everything that is in store for them takes.
            let quiet = sleep(900 * SECOND);
            tokio::select! {
                () = quiet => {}
                Some(ended) = machines.join_next() => ended.unwrap(),
            }
            let counting = lock(&leads).iter().filter(|leading| leading.outlives(Duration::ZERO)).count();
            assert_eq!(counting, 1, "nobody leads");
        });
    }
}
