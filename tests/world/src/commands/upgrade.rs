//! `cargo world upgrade`: what one build has written down is read by another, at every point of the work.

use std::path::Path;
use std::process::ExitCode;

use world::faults::{Matrix, Options, Report, Subset, usual_jobs};
use world::progress::Progress;
use world::tools::Tools;
use world::{World, cargo, operator};

use super::{Failure, say, until_interrupted};

#[derive(clap::Args)]
pub struct Arguments {
    /// The other revision: the last release, or any commit
    #[arg(long)]
    from: String,
    /// All runs of the matrix instead of the part that a change must pass
    #[arg(long)]
    all: bool,
    /// How many runs at once
    #[arg(long, default_value_t = usual_jobs())]
    jobs: usize,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let progress = Progress::stderr();
    let Some(reports) = until_interrupted(both_ways(&arguments, &progress)).await else {
        return Ok(ExitCode::FAILURE);
    };
    let reports = reports?;
    for (title, report) in &reports {
        say::line(&format!("{title}\n{}", report.text()));
    }
    let good = reports.iter().all(|(_, report)| report.is_good());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn both_ways(arguments: &Arguments, progress: &Progress) -> Result<Vec<(String, Report)>, Failure> {
    Tools::check()?;
    let task = progress.task(&format!("Building the operator, and that of {}", arguments.from));
    let this = operator::build().await?;
    let other = cargo::build_revision(&arguments.from).await?;
    task.done();
    let from = &arguments.from;
    let up = kills(arguments, progress, &other, &this).await?;
    let down = kills(arguments, progress, &this, &other).await?;
    Ok(vec![
        (format!("From {from} to this checkout"), up),
        (format!("From this checkout back to {from}"), down),
    ])
}

/// Each kill is followed by a start of the successor.
async fn kills(
    arguments: &Arguments,
    progress: &Progress,
    binary: &Path,
    successor: &Path,
) -> Result<Report, Failure> {
    let parts = world::Options { progress: progress.clone(), ..world::Options::default() };
    let world = World::start(parts).await?;
    let options = Options {
        workloads: Vec::new(),
        only: Vec::new(),
        subset: (!arguments.all).then_some(Subset::Ci),
        runs: 0,
        jobs: arguments.jobs.max(1),
        binary: binary.to_owned(),
        successor: Some(successor.to_owned()),
        arguments: Vec::new(),
        progress: progress.clone(),
    };
    let report = Matrix::of(&world, options).await?.run().await;
    world.stop().await;
    Ok(report?)
}
