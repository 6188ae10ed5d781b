//! Nothing that the world starts outlives it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// A child that ignores SIGTERM, with one child in its own group and another one in a session of its own.
const STUBBORN: &str = "trap '' TERM; sleep 600 & echo $! >> pids; setsid sleep 600 & echo $! >> pids; \
                        echo $$ >> pids; while :; do sleep 0.1; done";

#[test]
fn all_descendants_die_with_the_pipe_that_the_world_holds() {
    let directory = tempfile::tempdir().unwrap();
    let mut supervisor = Command::new(env!("CARGO_BIN_EXE_world"))
        .args(["supervise", "--grace-millis", "100", "--", "sh", "-c", STUBBORN])
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    BufReader::new(supervisor.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let pids = until_three(&directory.path().join("pids"));
    assert!(pids.contains(&Pid::from_raw(pid.trim().parse().unwrap())), "stdout names the child itself");
    assert!(pids.iter().all(|pid| is_alive(*pid)));

    // What the kernel does when the world ends, also by SIGKILL.
    drop(supervisor.stdin.take());

    let status = supervisor.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 9), "ended by SIGKILL after the grace");
    assert_eq!(pids.iter().filter(|pid| is_alive(**pid)).count(), 0);
}

fn until_three(file: &Path) -> Vec<Pid> {
    let started = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let pids: Vec<Pid> = text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect();
        if pids.len() == 3 {
            return pids;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "the child has not started: {text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_alive(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
}
