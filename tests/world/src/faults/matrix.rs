//! All runs, several at once, in one world.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::admin::Admin;
use super::oracle::{Finding, compare};
use super::plan::{self, Calls};
use super::point::Case;
use super::run::{Run, run};
use super::stage::Shared;
use super::{FaultsError, Report, Workload};
use crate::prefect::{Installation, Server};
use crate::progress::Progress;
use crate::{World, layout};

/// Which runs, and how.
pub struct Options {
    /// The workloads; all when empty.
    pub workloads: Vec<Workload>,
    /// Exactly these runs.
    pub only: Vec<Case>,
    /// A part of the matrix.
    pub subset: Option<Subset>,
    /// How many runs there are at least: beyond those of the calls that change something, kills at reads and second kills.
    pub runs: usize,
    /// How many runs are under way at once.
    pub jobs: usize,
    /// The `feedwater` program.
    pub binary: PathBuf,
    /// The program that is started after a kill, where it is another: each kill is an upgrade then.
    pub successor: Option<PathBuf>,
    /// More arguments of `feedwater run`.
    pub arguments: Vec<String>,
    /// Where progress is shown.
    pub progress: Progress,
}

/// A fixed part of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subset {
    /// What a change must pass: a few kills of each workload.
    Ci,
}

/// Runs of each workload and position in [`Subset::Ci`].
const CI_RUNS: usize = 5;
/// The same of workloads that are like others.
const CI_FEW: usize = 2;
/// Runs without kills, which tell the calls, and whether the end is always the same.
const REFERENCES: usize = 3;

/// A world in which runs are done.
pub struct Matrix {
    shared: Shared,
    /// A Prefect for each run under way: on one SQLite they answer each other 503, and the operator waits ten seconds then.
    idle: Mutex<Vec<Server>>,
    options: Options,
    directory: PathBuf,
}

struct Reference {
    workload: Workload,
    seen: super::observe::Observation,
    calls: Calls,
}

impl Matrix {
    /// The runs of a world with a control plane and Prefect.
    pub async fn of(world: &World, options: Options) -> Result<Self, FaultsError> {
        let info = world.info();
        let installation = Installation::get(&Progress::silent()).await?;
        let task = options.progress.task(&format!("Starting {} Prefect servers", options.jobs));
        let starts = (0..options.jobs).map(|n| {
            let folder = info.directory.join(format!("lane-{n}"));
            let installation = &installation;
            async move { Server::start(installation, &folder, &Progress::silent()).await }
        });
        // Four at a time: each keeps a processor busy for some seconds.
        let servers: Vec<Server> = futures::stream::iter(starts).buffer_unordered(4).try_collect().await?;
        task.done();
        let shared = Shared {
            admin: Arc::new(Admin::of(world.control_plane().kubectl()).await?),
            kubeconfig: info.kubeconfig.clone(),
            binary: options.binary.clone(),
            successor: options.successor.clone(),
            arguments: options.arguments.clone(),
        };
        let name = info.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let directory = layout::worlds().join(format!("faults-{name}"));
        Ok(Self { shared, idle: Mutex::new(servers), options, directory })
    }

    /// Does all of them.
    pub async fn run(&self) -> Result<Report, FaultsError> {
        let started = Instant::now();
        let task = self.options.progress.task("Runs without kills");
        let references = self.references().await?;
        task.done();
        let cases = self.cases(&references);
        let mut report = Report::default();
        for reference in &references {
            let writes = reference.calls.iter().filter(|((_, writes), _)| *writes);
            report.begin(reference.workload, writes.map(|(_, count)| count).sum());
        }
        let total = cases.len();
        let task = self.options.progress.task(&format!("{total} runs"));
        let references = &references;
        let mut runs = futures::stream::iter(cases.into_iter().enumerate())
            .map(|(n, case)| async move {
                let reference = references.iter().find(|r| r.workload == case.workload);
                let outcome = self.met(n, &case, reference).await;
                (case, outcome)
            })
            .buffer_unordered(self.options.jobs);
        let mut done = 0;
        while let Some((case, outcome)) = runs.next().await {
            done += 1;
            match outcome {
                Ok(run) => {
                    if !run.findings.is_empty() {
                        self.options.progress.say(&format!("{case}: {}", run.findings[0]));
                    }
                    report.add(&run);
                }
                Err(error) => report.broken(&case, &error),
            }
            task.note(&format!("{done} done"));
            report.time = started.elapsed();
            // For whoever cannot wait for the end.
            let _ = std::fs::write(self.directory.join("table.txt"), report.text());
        }
        task.done();
        report.directory.clone_from(&self.directory);
        report.time = started.elapsed();
        Ok(report)
    }

    fn workloads(&self) -> Vec<Workload> {
        let wanted = |workload: &Workload| {
            let named = self.options.workloads.is_empty() || self.options.workloads.contains(workload);
            let only = &self.options.only;
            let soon = self.options.subset != Some(Subset::Ci) || !workload.takes_a_minute();
            named && soon && (only.is_empty() || only.iter().any(|case| case.workload == *workload))
        };
        Workload::ALL.into_iter().filter(wanted).collect()
    }

    /// Each workload without kills, some times over.
    async fn references(&self) -> Result<Vec<Reference>, FaultsError> {
        let wanted = self.workloads().into_iter().flat_map(|w| (0..REFERENCES).map(move |n| (w, n)));
        let runs: Vec<Run> = futures::stream::iter(wanted)
            .map(|(workload, n)| async move {
                self.one(&format!("{workload}-ref{n}"), &Case { workload, points: Vec::new() }, None).await
            })
            .buffered(self.options.jobs)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        runs.chunks(REFERENCES).map(reference).collect()
    }

    fn cases(&self, references: &[Reference]) -> Vec<Case> {
        if !self.options.only.is_empty() {
            return self.options.only.clone();
        }
        let every: Vec<Vec<Case>> =
            references.iter().map(|r| plan::every_call(r.workload, &r.calls)).collect();
        if self.options.subset == Some(Subset::Ci) {
            let some = |cases: &Vec<Case>| {
                let few = cases.first().is_some_and(|case| case.workload.is_one_of_many());
                plan::some_of_each_position(cases, if few { CI_FEW } else { CI_RUNS })
            };
            return every.iter().flat_map(some).collect();
        }
        let mut cases = plan::some(every.concat(), usize::MAX);
        let missing = self.options.runs.saturating_sub(cases.len());
        let reads = references.iter().flat_map(|r| plan::reads(r.workload, &r.calls)).collect();
        let reads = plan::some(reads, missing / 3);
        let twice = plan::some(plan::twice(&cases), missing - reads.len());
        cases.extend(reads);
        cases.extend(twice);
        cases
    }

    /// A run, and once more where its points were not met: the number of status writes is nobody's promise.
    async fn met(&self, n: usize, case: &Case, reference: Option<&Reference>) -> Result<Run, FaultsError> {
        let name = format!("{}-{n}", case.workload);
        let reference = reference.map(|reference| &reference.seen);
        match self.one(&name, case, reference).await {
            Ok(run) if run.kills > 0 || !run.findings.is_empty() => Ok(run),
            _ => self.one(&format!("{name}-again"), case, reference).await,
        }
    }

    async fn one(
        &self,
        name: &str,
        case: &Case,
        reference: Option<&super::observe::Observation>,
    ) -> Result<Run, FaultsError> {
        let namespace = format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
        let directory = self.directory.join(&namespace);
        let server = lock(&self.idle).pop().ok_or(FaultsError::NoPrefect)?;
        let outcome = run(&self.shared, server.api_url(), case, reference, &namespace, &directory).await;
        lock(&self.idle).push(server);
        let run = outcome?;
        if std::env::var_os("FEEDWATER_KEEP").is_some() {
            let findings: Vec<String> = run.findings.iter().map(Finding::to_string).collect();
            self.options.progress.say(&format!("{name} {case} {:.1} s {findings:?}", run.time.as_secs_f64()));
        }
        if run.findings.is_empty() && std::env::var_os("FEEDWATER_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(directory);
        }
        Ok(run)
    }
}

/// What runs without kills have in common; they must end the same.
fn reference(runs: &[Run]) -> Result<Reference, FaultsError> {
    let (workload, first) = (runs[0].case.workload, &runs[0]);
    let mut calls = first.requests.clone();
    for other in runs {
        let mut findings = compare(workload, &first.seen, &other.seen);
        findings.extend(other.findings.clone());
        if !findings.is_empty() {
            let differences = findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("; ");
            return Err(FaultsError::NotRepeatable { workload, differences });
        }
        calls.retain(|key, count| {
            *count = (*count).min(other.requests.get(key).copied().unwrap_or(0));
            *count > 0
        });
    }
    Ok(Reference { workload, seen: first.seen.clone(), calls })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many lanes as the processors bear: runs mostly wait.
pub fn usual_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get) * 4
}
