//! `cargo world down`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::layout;

use super::{Failure, say, up};

#[derive(clap::Args)]
pub struct Arguments {
    /// The world's directory; not needed when only one world runs
    directory: Option<PathBuf>,
    /// End all worlds of this checkout
    #[arg(long, conflicts_with = "directory")]
    all: bool,
}

pub async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let chosen = match &arguments.directory {
        Some(directory) => vec![std::fs::canonicalize(directory)?],
        None => running()?,
    };
    match chosen.as_slice() {
        [] => say::line("No world runs."),
        [_, _, ..] if !arguments.all => {
            let list: Vec<_> = chosen.iter().map(|path| format!("  {}", path.display())).collect();
            return Err(format!("several worlds run; name one, or --all:\n{}", list.join("\n")).into());
        }
        all => {
            for directory in all {
                end(directory).await?;
                say::line(&format!("Ended {}", directory.display()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn running() -> Result<Vec<PathBuf>, Failure> {
    let Ok(entries) = std::fs::read_dir(layout::worlds()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if is_held(&path) {
            found.push(path);
        } else if path.join(up::PID).is_file() {
            // Its process was killed. Its children went with it, its files did not.
            remove(&path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a process owns the world in this directory. A lock dies with its process; a pid may be somebody else's by now.
fn is_held(directory: &Path) -> bool {
    std::fs::File::open(directory.join(up::LOCK)).is_ok_and(|lock| lock.try_lock().is_err())
}

async fn end(directory: &Path) -> Result<(), Failure> {
    if !is_held(directory) {
        return Err(format!("no world runs in {}", directory.display()).into());
    }
    let pid: i32 = std::fs::read_to_string(directory.join(up::PID))?.trim().parse()?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    let started = tokio::time::Instant::now();
    while is_held(directory) {
        if started.elapsed() > Duration::from_secs(90) {
            return Err(format!("the world in {} (process {pid}) does not end", directory.display()).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    remove(directory);
    Ok(())
}

/// Removes what the process itself may have left, such as the log beside its directory.
fn remove(directory: &Path) {
    let _ = std::fs::remove_dir_all(directory);
    let _ = std::fs::remove_file(directory.with_extension("log"));
}
