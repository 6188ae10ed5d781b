//! The table of a matrix.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::oracle::Finding;
use super::run::Run;
use super::workload::Workload;

/// What came of all runs.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    failures: Vec<String>,
    /// How long all of it took.
    pub time: Duration,
    /// Where the logs of the runs that failed are.
    pub directory: PathBuf,
}

#[derive(Debug)]
struct Row {
    workload: Workload,
    calls: usize,
    runs: usize,
    kills: usize,
    missed: usize,
    lost: usize,
    doubled: usize,
    differences: usize,
    time: Duration,
}

impl Report {
    /// A workload that makes so many calls.
    pub(super) fn begin(&mut self, workload: Workload, calls: usize) {
        self.rows.push(Row {
            workload,
            calls,
            runs: 0,
            kills: 0,
            missed: 0,
            lost: 0,
            doubled: 0,
            differences: 0,
            time: Duration::ZERO,
        });
    }

    /// A run that was done.
    pub(super) fn add(&mut self, run: &Run) {
        let Some(row) = self.rows.iter_mut().find(|row| row.workload == run.case.workload) else { return };
        row.time += run.time;
        row.kills += run.kills;
        if run.kills == 0 {
            row.missed += 1;
        } else {
            row.runs += 1;
        }
        let any = |which: fn(&Finding) -> bool| usize::from(run.findings.iter().any(which));
        row.lost += any(|finding| matches!(finding, Finding::Lost(_)));
        row.doubled += any(|finding| matches!(finding, Finding::Doubled(_)));
        row.differences += any(|finding| matches!(finding, Finding::Difference(_)));
        if !run.findings.is_empty() {
            self.failures.push(failure(&run.case.to_string(), &run.findings));
        }
    }

    /// A run that could not be done.
    pub(super) fn broken(&mut self, case: &super::Case, error: &super::FaultsError) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.workload == case.workload) {
            row.differences += 1;
        }
        self.failures.push(format!("cargo world faults --only '{case}'\n    not done: {error}"));
    }

    /// Whether every run ended as it must.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty()
    }

    /// The table, and each run that failed with the command that repeats it.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:10} {:>6} {:>6} {:>6} {:>8} {:>6} {:>8} {:>12} {:>8}\n",
            "workload", "calls", "runs", "kills", "not met", "lost", "doubled", "differences", "s a run"
        );
        let sum = |of: fn(&Row) -> usize| self.rows.iter().map(of).sum::<usize>();
        let line = |name: &str, counts: [usize; 7], seconds: f64| {
            let [calls, runs, kills, missed, lost, doubled, differences] = counts;
            format!(
                "{name:10} {calls:>6} {runs:>6} {kills:>6} {missed:>8} {lost:>6} {doubled:>8} {differences:>12} {seconds:>8.1}\n"
            )
        };
        let each = |time: Duration, runs: usize| {
            time.as_secs_f64() / f64::from(u32::try_from(runs.max(1)).unwrap_or(1))
        };
        for row in &self.rows {
            let counts = [row.calls, row.runs, row.kills, row.missed, row.lost, row.doubled, row.differences];
            text += &line(&row.workload.to_string(), counts, each(row.time, row.runs + row.missed));
        }
        let all = [
            sum(|r| r.calls),
            sum(|r| r.runs),
            sum(|r| r.kills),
            sum(|r| r.missed),
            sum(|r| r.lost),
            sum(|r| r.doubled),
            sum(|r| r.differences),
        ];
        let time = self.rows.iter().map(|row| row.time).sum();
        text += &line("all", all, each(time, all[1] + all[3]));
        let _ = writeln!(text, "{} s in all", self.time.as_secs());
        if !self.failures.is_empty() {
            let _ = write!(text, "\nlogs: {}\n\n{}\n", self.directory.display(), self.failures.join("\n"));
        }
        text
    }
}

fn failure(case: &str, findings: &[Finding]) -> String {
    let findings: Vec<String> = findings.iter().map(|finding| format!("    {finding}")).collect();
    format!("cargo world faults --only '{case}'\n{}", findings.join("\n"))
}
