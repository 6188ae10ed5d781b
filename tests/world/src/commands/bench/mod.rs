//! `cargo world bench`.

mod latency;
mod size;

use std::process::ExitCode;

use world::progress::Progress;

use super::{Failure, until_interrupted};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// From "flow completed" in Prefect to the refresh request at Tableau
    Latency {
        /// How many completions
        #[arg(long, default_value_t = 50)]
        runs: usize,
    },
    /// The memory of an operator that serves many resources
    Size {
        /// How many extracts, each with a flow of its own
        #[arg(long, default_value_t = 500)]
        extracts: usize,
    },
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let progress = Progress::stderr();
    let outcome = match arguments.what {
        What::Latency { runs } => until_interrupted(latency::latency(runs, progress)).await,
        What::Size { extracts } => until_interrupted(size::size(extracts, progress)).await,
    };
    outcome.map_or(Ok(ExitCode::FAILURE), |outcome| outcome.map(|()| ExitCode::SUCCESS))
}
