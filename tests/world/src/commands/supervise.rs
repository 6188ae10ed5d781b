//! `world supervise`: hidden, see [`world::supervise`].

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use super::Failure;

#[derive(clap::Args)]
pub struct Arguments {
    /// How long after SIGTERM the child is killed
    #[arg(long, default_value_t = 10_000)]
    grace_millis: u64,
    /// What to run
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let grace = Duration::from_millis(arguments.grace_millis);
    let code = world::supervise::supervise(arguments.command, grace).await?;
    // At once: the thread that reads stdin may still wait for its end.
    std::process::exit(code)
}
