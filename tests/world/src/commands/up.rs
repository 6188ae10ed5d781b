//! `cargo world up`.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use world::progress::Progress;
use world::tools::Tools;
use world::{Info, Options, World, layout, operator};

use super::{Failure, interrupted, say, until_interrupted};

#[derive(clap::Args)]
pub struct Arguments {
    /// Leave it running in the background; `cargo world down` ends it
    #[arg(long)]
    detach: bool,
    /// How stdout tells where everything is
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Leave this part out
    #[arg(long, value_enum)]
    without: Vec<Part>,
    /// Prefect keeps its data in PostgreSQL, not in SQLite
    #[arg(long)]
    postgres: bool,
    /// Where everything is written; a fresh directory when unset
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Be the background process of `--detach`
    #[arg(long, hide = true)]
    daemon: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Operator,
    Prefect,
    Worker,
    Tableau,
}

/// The lock that a running world holds in its directory.
pub const LOCK: &str = "lock";
/// The file in a world's directory that holds its [`Info`].
pub const INFO: &str = "world.json";
/// The file in a world's directory that holds the pid of the process that owns it.
pub const PID: &str = "pid";

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    if arguments.detach && !arguments.daemon { detach(&arguments).await } else { attached(&arguments).await }
}

/// Starts a world and keeps it until it is told to end.
async fn attached(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if arguments.daemon {
        nix::unistd::setsid()?;
    }
    let directory = arguments.directory.clone().unwrap_or_else(layout::fresh_world);
    let ours = arguments.directory.is_none() || arguments.daemon;
    std::fs::create_dir_all(&directory)?;
    let lock = std::fs::File::create(directory.join(LOCK))?;
    lock.try_lock().map_err(|_| format!("{} belongs to a running world", directory.display()))?;
    std::fs::write(directory.join(PID), std::process::id().to_string())?;

    let outcome = keep(arguments, &directory).await;
    if ours {
        std::fs::remove_dir_all(&directory)?;
    }
    outcome
}

async fn keep(arguments: &Arguments, directory: &Path) -> Result<ExitCode, Failure> {
    let Some(world) = until_interrupted(start(arguments, directory)).await else {
        return Ok(ExitCode::FAILURE);
    };
    let world = world?;
    world.info().write(&directory.join(INFO))?;
    if !arguments.daemon {
        show(world.info(), arguments.output)?;
        say_hint(arguments.output);
    }
    interrupted().await;
    world.stop().await;
    Ok(ExitCode::SUCCESS)
}

async fn start(arguments: &Arguments, directory: &Path) -> Result<World, Failure> {
    let with = |part| !arguments.without.contains(&part);
    let progress = Progress::stderr();
    Tools::check()?;
    let operator = if with(Part::Operator) {
        let task = progress.task("Building the operator");
        let binary = operator::build().await?;
        task.done();
        Some(operator::OperatorOptions::cluster_wide(&binary))
    } else {
        None
    };
    let options = Options {
        prefect: with(Part::Prefect),
        postgres: arguments.postgres,
        worker: with(Part::Prefect) && with(Part::Worker),
        tableau: with(Part::Tableau),
        operator,
        directory: Some(directory.to_owned()),
        durable: false,
        progress,
    };
    Ok(World::start(options).await?)
}

/// Starts this program again as the background process, and waits until its world runs.
async fn detach(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let directory = arguments.directory.clone().unwrap_or_else(layout::fresh_world);
    std::fs::create_dir_all(&directory)?;
    let directory = std::fs::canonicalize(directory)?;
    let log = directory.with_extension("log");
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.args(["up", "--daemon", "--directory"]).arg(&directory).stdin(Stdio::null());
    if arguments.postgres {
        command.arg("--postgres");
    }
    for part in &arguments.without {
        if let Some(value) = part.to_possible_value() {
            command.args(["--without", value.get_name()]);
        }
    }
    let output = std::fs::File::create(&log)?;
    let mut daemon = command.stdout(output.try_clone()?).stderr(output).spawn()?;
    let told = until_interrupted(follow(&mut daemon, &directory, &log)).await;
    match told {
        Some(info) => show(&info?, arguments.output)?,
        None => end(&mut daemon).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Repeats the background process's progress until its world runs.
async fn follow(daemon: &mut tokio::process::Child, directory: &Path, log: &Path) -> Result<Info, Failure> {
    let progress = Progress::stderr();
    let mut shown = 0;
    loop {
        let ended = daemon.try_wait()?;
        let text = std::fs::read_to_string(log)?;
        // Whole lines only; the rest is shown when it is complete.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        text[shown.min(whole)..whole].lines().for_each(|line| progress.say(line));
        shown = whole;
        if let Some(status) = ended {
            let _ = std::fs::remove_file(log);
            let _ = std::fs::remove_dir_all(directory);
            return Err(format!("the world did not start ({status}); see above").into());
        }
        if directory.join(INFO).is_file() {
            return Ok(Info::read(&directory.join(INFO))?);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn end(daemon: &mut tokio::process::Child) -> Result<(), Failure> {
    if let Some(pid) = daemon.id().and_then(|id| i32::try_from(id).ok()) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
    }
    daemon.wait().await?;
    Ok(())
}

fn show(info: &Info, output: Output) -> Result<(), Failure> {
    let value = serde_json::to_value(info)?;
    match output {
        Output::Json => say::line(&value.to_string()),
        Output::Text => {
            for (name, value) in value.as_object().into_iter().flatten() {
                say::line(&format!("{name:20} {}", value.as_str().unwrap_or_default()));
            }
        }
    }
    Ok(())
}

fn say_hint(output: Output) {
    if output == Output::Text {
        say::line("Ctrl-C ends it.");
    }
}
