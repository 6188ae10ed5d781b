//! Child processes that never outlive this one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Why a child process is not running.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The `world` program, which supervises every child, is not where it should be.
    #[error("the `world` program was not found near {}: build it with `cargo build --bin world`, or set FEEDWATER_WORLD_BIN", near.display())]
    NoSupervisor {
        /// The program that is running.
        near: PathBuf,
    },
    /// The child could not be started.
    #[error("cannot start {name}: {source}")]
    Start {
        /// What was started.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The child ended before it was of use, or with a failure.
    #[error("{name} ended with {status}; the end of {}:\n{tail}", log.display())]
    Ended {
        /// What was started.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// The child runs but did not get ready in time.
    #[error("{name} was not ready after {} s; the end of {}:\n{tail}", after.as_secs(), log.display())]
    NotReady {
        /// What was started.
        name: String,
        /// How long it was waited for.
        after: Duration,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
}

/// What to start: a program, its arguments and environment, and the log that takes its output.
pub struct Spec {
    name: String,
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    directory: Option<PathBuf>,
    log: PathBuf,
    grace: Duration,
}

impl Spec {
    /// A program called `name` in messages, with its output appended to `log`.
    pub fn new(name: &str, program: impl AsRef<OsStr>, log: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            log: log.to_owned(),
            grace: Duration::from_secs(10),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), Some(value.as_ref().to_owned())));
        self
    }

    /// Hides the environment variables of this process whose names begin with `prefix`; those set with [`Self::env`] afterwards stay.
    #[must_use]
    pub fn hide_env(mut self, prefix: &str) -> Self {
        let names = std::env::vars_os().map(|(name, _)| name);
        let hidden = names.filter(|name| name.to_string_lossy().starts_with(prefix));
        self.environment.extend(hidden.map(|name| (name, None)));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// How long after SIGTERM the child is killed; 10 s when unset.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the child under a supervisor.
    pub fn start(self) -> Result<Process, ProcessError> {
        let supervisor = supervisor()?;
        let failed = |source| ProcessError::Start { name: self.name.clone(), source };
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut command = Command::new(supervisor);
        command
            .args(["supervise", "--grace-millis"])
            .arg(self.grace.as_millis().to_string())
            .arg("--")
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C on a terminal is for the world, which stops its children in order.
            .process_group(0);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut supervisor = command.spawn().map_err(failed)?;
        let hold = supervisor.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = supervisor.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let pid = line.trim().parse().ok();
        let mut process = Process { name: self.name, supervisor, hold, pid, log: self.log };
        if pid.is_none() {
            let status = process.stop();
            return Err(process.ended(status));
        }
        Ok(process)
    }
}

/// A running child. Dropping it stops the child and everything the child started, and waits for the end.
#[derive(Debug)]
pub struct Process {
    name: String,
    supervisor: Child,
    /// While this pipe is open the child lives.
    hold: Option<ChildStdin>,
    pid: Option<i32>,
    log: PathBuf,
}

impl Process {
    /// The child's own pid (not the supervisor's).
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// The file with everything the child wrote.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal to the child itself.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// How the child ended, when it has ended.
    pub fn ended_with(&mut self) -> Option<ExitStatus> {
        self.supervisor.try_wait().ok().flatten()
    }

    /// Waits for the child to end by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.ended_with() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for the child to end by itself, which must be a success.
    pub async fn succeed(mut self) -> Result<(), ProcessError> {
        let status = self.wait().await;
        if status.success() { Ok(()) } else { Err(self.ended(status)) }
    }

    /// Asks `ready` again and again until it says yes; an error when the child ends before, or after `limit`.
    pub async fn until(
        &mut self,
        limit: Duration,
        ready: impl AsyncFn() -> bool,
    ) -> Result<(), ProcessError> {
        let started = tokio::time::Instant::now();
        while !ready().await {
            if let Some(status) = self.ended_with() {
                return Err(self.ended(status));
            }
            if started.elapsed() > limit {
                let (name, log, tail) = (self.name.clone(), self.log.clone(), tail(&self.log));
                return Err(ProcessError::NotReady { name, after: limit, log, tail });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn ended(&self, status: ExitStatus) -> ProcessError {
        let (name, log) = (self.name.clone(), self.log.clone());
        ProcessError::Ended { name, status, tail: tail(&log), log }
    }

    fn stop(&mut self) -> ExitStatus {
        drop(self.hold.take());
        self.supervisor.wait().unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// The `world` program: `FEEDWATER_WORLD_BIN`, else the running program, else the one above a test's executable.
fn supervisor() -> Result<PathBuf, ProcessError> {
    if let Some(path) = std::env::var_os("FEEDWATER_WORLD_BIN") {
        return Ok(path.into());
    }
    let running = std::env::current_exe().unwrap_or_default();
    // target/debug/deps/e2e-0123 → target/debug/world
    let found =
        running.ancestors().skip(1).take(2).map(|folder| folder.join("world")).find(|path| path.is_file());
    found.ok_or(ProcessError::NoSupervisor { near: running })
}
