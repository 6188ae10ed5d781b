//! The supervisor: a small process between the world and each of its children.
//!
//! The world holds the other end of the supervisor's stdin. When the world ends, however it ends, the kernel closes
//! that pipe and the supervisor ends its child and everything the child has started. This is the one way that also
//! holds for a SIGKILL of the world.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

/// Runs `command` until it ends, until stdin ends, or until SIGTERM; returns the exit code to end with.
///
/// The child's pid is written to stdout as one line. The child's stdout and stderr are this process's stderr. On the
/// end of stdin or SIGTERM the child's process group gets SIGTERM, and SIGKILL after `grace`; then whatever the child left
/// behind is killed. The exit code is the child's, or 128 plus the signal that ended it.
pub async fn supervise(command: Vec<OsString>, grace: Duration) -> std::io::Result<i32> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(std::io::Error::other("nothing to supervise"));
    };
    adopt_orphans();
    let output = || std::io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
    let mut child = std::process::Command::new(program);
    child.args(arguments).stdin(Stdio::null()).stdout(output()?).stderr(output()?).process_group(0);
    let mut child = tokio::process::Command::from(child).spawn()?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
    writeln!(std::io::stdout(), "{pid}")?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let status = tokio::select! {
        status = child.wait() => status?,
        () = end_of_stdin() => stop(&mut child, pid, grace).await?,
        _ = terminate.recv() => stop(&mut child, pid, grace).await?,
        _ = interrupt.recv() => stop(&mut child, pid, grace).await?,
    };
    clear(pid);
    Ok(code(status))
}

async fn end_of_stdin() {
    let read = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    // Whatever ends the reading, the world is gone.
    let _ = tokio::task::spawn_blocking(read).await;
}

async fn stop(child: &mut tokio::process::Child, pid: i32, grace: Duration) -> std::io::Result<ExitStatus> {
    let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
    if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
        return status;
    }
    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    child.wait().await
}

/// Kills what is left: the rest of the child's group, and (on Linux) descendants that made a group of their own, such
/// as the flow runs of a worker.
fn clear(group: i32) {
    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    loop {
        for orphan in children() {
            let _ = kill(orphan, Signal::SIGKILL);
        }
        // Each reaped orphan may have handed us its own children: look again until there are none.
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(_) => return,
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(2)),
            Ok(_) => {}
        }
    }
}

fn children() -> Vec<Pid> {
    let id = std::process::id();
    let mut found = Vec::new();
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return found };
    for thread in threads.flatten() {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
    }
    found
}

#[cfg(target_os = "linux")]
fn adopt_orphans() {
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

#[cfg(not(target_os = "linux"))]
fn adopt_orphans() {}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}
