//! The subcommands.

mod bench;
mod demo;
mod down;
mod faults;
mod guards;
mod say;
mod supervise;
mod test;
mod up;
mod upgrade;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// The world Feedwater is developed against: Kubernetes, Prefect, a Tableau simulator and the operator, on this machine.
#[derive(Parser)]
#[command(name = "cargo world", bin_name = "cargo world")]
pub enum Command {
    /// Show what Feedwater does: a flow runs, an extract is refreshed, and everybody can see it
    Demo(demo::Arguments),
    /// Set everything up and run all tests; arguments go to nextest
    Test(test::Arguments),
    /// Start a world and keep it until Ctrl-C or `down`
    Up(up::Arguments),
    /// End a world that `up --detach` has left running
    Down(down::Arguments),
    /// Take each of the operator's safeties away and see its test fail
    Guards(guards::Arguments),
    /// Measure
    Bench(bench::Arguments),
    /// Kill the operator at every call it makes, and hold what comes of it against a run without
    Faults(faults::Arguments),
    /// Kill an operator of another revision in the middle of its work and go on with this one, and the other way round
    Upgrade(upgrade::Arguments),
    #[command(hide = true)]
    Supervise(supervise::Arguments),
}

/// Any failure of a subcommand; the person at the terminal reads it, nobody decides by it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs a subcommand; a failure is told on stderr.
pub async fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Demo(arguments) => Box::pin(demo::run(arguments)).await,
        Command::Test(arguments) => Box::pin(test::run(arguments)).await,
        // On the heap: these hold whole worlds.
        Command::Up(arguments) => Box::pin(up::run(arguments)).await,
        Command::Down(arguments) => down::run(&arguments).await,
        Command::Guards(arguments) => guards::run(arguments).await,
        Command::Bench(arguments) => Box::pin(bench::run(arguments)).await,
        Command::Faults(arguments) => Box::pin(faults::run(arguments)).await,
        Command::Upgrade(arguments) => Box::pin(upgrade::run(arguments)).await,
        Command::Supervise(arguments) => supervise::run(arguments).await,
    };
    outcome.unwrap_or_else(|failure| {
        say::error(&failure.to_string());
        ExitCode::FAILURE
    })
}

/// Runs `work` until it is done or the person gives up (Ctrl-C, SIGTERM, the terminal closes): then `work` is dropped, and
/// with it everything it has started. `None` when given up.
async fn until_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = interrupted() => None,
    }
}

/// Returns when the person gives up.
async fn interrupted() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut signals: Vec<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    let any = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures::future::select_all(any).await;
}
