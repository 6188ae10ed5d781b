//! One run: prepare, act, be killed, start again, settle, look.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::FaultsError;
use super::observe::{Mark, Observation, calls, mark, observe};
use super::oracle::{Finding, compare, judge};
use super::point::{Case, Key, Point, System};
use super::stage::{LIMIT, QUIET, Shared, Stage};
use crate::operator::Operator;
use crate::proxy::{Action, Entry, Handle, Position, Rule, Verdict};

/// What came of a run.
pub struct Run {
    /// What was done.
    pub case: Case,
    /// How it ended.
    pub seen: Observation,
    /// Every request since the act began, by kind: those that change something, and the reads.
    pub requests: std::collections::BTreeMap<(Key, bool), usize>,
    /// How many of the case's points were met.
    pub kills: usize,
    /// What must not be.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub time: Duration,
}

/// Runs a case and holds it against the reference; without one only what must hold of any run is judged.
pub async fn run(
    shared: &Shared,
    prefect_url: &str,
    case: &Case,
    reference: Option<&Observation>,
    namespace: &str,
    directory: &Path,
) -> Result<Run, FaultsError> {
    let started = Instant::now();
    let (stage, mut operator) =
        Stage::set(shared, prefect_url, namespace, directory, case.workload.tableau()).await?;
    case.workload.prepare(&stage).await?;
    // What comes after the preparation must not be taken for the beginning of the act.
    quiet(&stage, Duration::from_millis(1100)).await;

    let since = mark(&stage);
    let victim = Victim(operator.pid());
    let mut points = case.points.iter();
    let mut armed = points.next().map(|point| arm(&stage, point, &victim));
    case.workload.act(&stage).await?;
    let mut kills = 0;
    let (seen, findings) = loop {
        tokio::select! {
            () = fired(armed.as_ref()) => {}
            settled = settle(&stage, case, reference, since, &operator) => break settled?,
        }
        kills += 1;
        operator.kill().await;
        stage.expire_lease().await?;
        armed = points.next().map(|point| arm(&stage, point, &victim));
        if let Some(successor) = &shared.successor {
            operator.upgrade(successor);
        }
        start_again(&mut operator, armed.as_ref()).await?;
    };
    let requests = calls_and_reads(&stage, since);
    write_down(&stage, &seen, &findings);
    operator.kill().await;
    stage.clear().await?;
    Ok(Run { case: case.clone(), seen, requests, kills, findings, time: started.elapsed() })
}

/// The process that is killed; another one after each start.
#[derive(Clone)]
struct Victim(Arc<AtomicI32>);

impl Victim {
    fn pid(&self) -> Option<Pid> {
        Some(self.0.load(Ordering::SeqCst)).filter(|pid| *pid > 0).map(Pid::from_raw)
    }

    /// SIGKILL; returns when the process is gone.
    async fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, Signal::SIGKILL);
            self.gone().await;
        }
    }

    async fn gone(&self) {
        while self.pid().is_some_and(|pid| kill(pid, None) != Err(Errno::ESRCH)) {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// How long after an answer was written the operator is killed: it has read it by then, and done something with it.
const READ: Duration = Duration::from_millis(5);

/// Rules of which exactly one fires, once, and kills.
fn arm(stage: &Stage, point: &Point, victim: &Victim) -> Armed {
    let meant = Arc::new(AtomicUsize::new(0));
    let systems = if point.key.is_any() { System::ALL.to_vec() } else { vec![point.key.system] };
    let handles = systems.into_iter().map(|system| {
        let (key, namespace, count, n) =
            (point.key.clone(), stage.namespace.clone(), Arc::clone(&meant), point.n);
        let is_meant = move |entry: &Entry| {
            let fits =
                if key.is_any() { entry.is_mutating() } else { Key::of(system, entry, &namespace) == key };
            // Counted over all three proxies.
            fits && count.fetch_add(1, Ordering::SeqCst) + 1 == n
        };
        let (victim, position) = (victim.clone(), point.position);
        let hook = Action::hook(move |_| {
            let victim = victim.clone();
            async move {
                if position == Position::AfterAnswer {
                    sleep(READ).await;
                }
                victim.kill().await;
                Verdict::Drop
            }
        });
        stage.proxy(system).add(Rule::on("*", "/**", hook).when(is_meant).at(point.position))
    });
    Armed { handles: handles.collect(), victim: victim.clone() }
}

struct Armed {
    handles: Vec<Handle>,
    victim: Victim,
}

/// Returns when the rule has fired and the operator is dead.
async fn fired(armed: Option<&Armed>) {
    let Some(armed) = armed else { return std::future::pending().await };
    let any = armed.handles.iter().map(|handle| Box::pin(handle.until_fired(1)));
    futures::future::select_all(any).await;
    // The rule fires when the call comes; the position may be later.
    armed.victim.gone().await;
}

/// Starts the operator; that it is killed again while it starts is no failure.
async fn start_again(operator: &mut Operator, armed: Option<&Armed>) -> Result<(), FaultsError> {
    match operator.restart().await {
        Err(error) if armed.is_none_or(|armed| armed.handles.iter().all(|h| h.fired() == 0)) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

async fn quiet(stage: &Stage, time: Duration) {
    loop {
        let left = stage.until_quiet(time);
        if left.is_zero() {
            return;
        }
        sleep(left).await;
    }
}

/// Waits until nothing happens any more and the end is the one that is wanted, or until that takes too long.
async fn settle(
    stage: &Stage,
    case: &Case,
    reference: Option<&Observation>,
    since: Mark,
    operator: &Operator,
) -> Result<(Observation, Vec<Finding>), FaultsError> {
    let started = Instant::now();
    loop {
        let calm = async {
            quiet(stage, QUIET).await;
        };
        let calm = tokio::time::timeout(LIMIT, calm).await.is_ok();
        let metrics = operator.metrics().await.unwrap_or_default();
        let seen = observe(stage, since, &metrics).await?;
        let mut findings = match reference {
            Some(reference) => compare(case.workload, reference, &seen),
            None => judge(case.workload, &seen),
        };
        if !calm {
            findings.push(Finding::Difference("it does not come to rest".to_owned()));
        }
        let done = case.workload.is_done(stage).await?;
        if !done {
            findings.push(Finding::Lost("what was asked for is not done".to_owned()));
        }
        // What was read while something happened is of two times: it would be no reference, and no end.
        let still = stage.until_quiet(QUIET).is_zero();
        if (findings.is_empty() && still) || started.elapsed() > LIMIT || !may_heal(&findings) {
            return Ok((seen, findings));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Whether waiting can make any of it good.
fn may_heal(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| !matches!(finding, Finding::Doubled(_)))
}

fn calls_and_reads(stage: &Stage, since: Mark) -> std::collections::BTreeMap<(Key, bool), usize> {
    let writes = calls(stage, since, super::point::is_position);
    let reads = calls(stage, since, |entry| entry.class == crate::proxy::Class::Read && !entry.is_watch());
    let mark = |writes: bool| move |(key, count)| ((key, writes), count);
    writes.into_iter().map(mark(true)).chain(reads.into_iter().map(mark(false))).collect()
}

/// Leaves what was seen beside the operator's log.
fn write_down(stage: &Stage, seen: &Observation, findings: &[Finding]) {
    let file = |name: &str, text: String| {
        let _ = std::fs::write(stage.directory.join(name), text);
    };
    file("state.json", format!("{:#}", seen.state));
    file("findings.txt", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    for system in System::ALL {
        let lines = stage.proxy(system).read(|journal| {
            let line = |e: &Entry| {
                let status = e.status.map_or("-".to_owned(), |status| status.to_string());
                let ended = e.ended.map_or("-".to_owned(), |ended| ended.to_string());
                format!("{} {ended} {status} {:?} {} {}\n", e.came, e.class, e.what(), e.query)
            };
            journal.iter().map(line).collect::<String>()
        });
        file(&format!("{system:?}.requests").to_lowercase(), lines);
    }
}
