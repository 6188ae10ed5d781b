//! `cargo world faults`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use world::faults::{Case, Matrix, Options, Subset, Workload, usual_jobs};
use world::progress::Progress;
use world::tools::Tools;
use world::{World, operator};

use super::{Failure, say, until_interrupted};

#[derive(clap::Args)]
pub struct Arguments {
    // Its help names all there are.
    #[arg(long, value_parser = workload, help = format!("Only this workload: {}", workloads()))]
    workload: Vec<Workload>,
    /// A fixed part of the runs
    #[arg(long, value_enum)]
    subset: Option<Part>,
    /// Exactly this run, as the table shows it
    #[arg(long)]
    only: Vec<Case>,
    /// Do each run of --only so many times
    #[arg(long, default_value_t = 1)]
    times: usize,
    /// How many runs at least; beyond one for each call and moment, kills at reads and second kills
    #[arg(long, default_value_t = 1100)]
    runs: usize,
    /// How many runs at once
    #[arg(long, default_value_t = usual_jobs())]
    jobs: usize,
    /// Kill this `feedwater` instead of the one of this checkout
    #[arg(long)]
    binary: Option<PathBuf>,
    /// One more argument of `feedwater run`, such as --without-guard=pending-write of a build with the feature `guards`
    #[arg(long, allow_hyphen_values = true)]
    argument: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// What a change must pass
    Ci,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let progress = Progress::stderr();
    let Some(report) = until_interrupted(runs(arguments, &progress)).await else {
        return Ok(ExitCode::FAILURE);
    };
    let report = report?;
    say::line(&report.text());
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn runs(arguments: Arguments, progress: &Progress) -> Result<world::faults::Report, Failure> {
    Tools::check()?;
    let binary = if let Some(binary) = arguments.binary {
        std::fs::canonicalize(binary)?
    } else {
        let task = progress.task("Building the operator");
        let binary = operator::build().await?;
        task.done();
        binary
    };
    let parts = world::Options { progress: progress.clone(), ..world::Options::default() };
    let world = World::start(parts).await?;
    let only = arguments.only.iter().flat_map(|case| std::iter::repeat_n(case.clone(), arguments.times));
    let options = Options {
        workloads: arguments.workload,
        only: only.collect(),
        subset: arguments.subset.map(|Part::Ci| Subset::Ci),
        runs: arguments.runs,
        jobs: arguments.jobs.max(1),
        binary,
        successor: None,
        arguments: arguments.argument,
        progress: progress.clone(),
    };
    let report = Matrix::of(&world, options).await?.run().await;
    world.stop().await;
    Ok(report?)
}

fn workload(text: &str) -> Result<Workload, String> {
    let found = Workload::ALL.into_iter().find(|workload| workload.to_string() == text);
    found.ok_or_else(|| format!("there is no such workload, only {}", workloads()))
}

fn workloads() -> String {
    let names: Vec<String> = Workload::ALL.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    #[test]
    fn the_help_names_every_workload() {
        let help = Arguments::augment_args(clap::Command::new("faults")).render_long_help().to_string();
        let named = help.split("Only this workload: ").nth(1).and_then(|text| text.split("\n\n").next());
        let named = named.unwrap();
        for workload in Workload::ALL {
            assert!(named.contains(&workload.to_string()), "{workload}: {named}");
        }
        assert!(workload("occupied").is_ok() && workload("nothing").is_err());
    }
}
