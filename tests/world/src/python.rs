//! Private Python environments, made once from a hashed lock file and kept outside the checkout.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::cache;

/// The interpreters looked for, in this order; any of them must be Python 3.11 or newer.
const INTERPRETERS: [&str; 3] = ["python3.11", "python3.12", "python3"];

/// Why there is no Python environment.
#[derive(Debug, thiserror::Error)]
pub enum VenvError {
    /// The machine has no suitable interpreter.
    #[error(
        "no Python 3.11 or newer found (looked for {INTERPRETERS:?}): install one, for example with `apt-get install python3 python3-venv`"
    )]
    NoPython,
    /// There is an interpreter, but it cannot make environments.
    #[error(
        "`{python} -m venv` failed (on Debian and Ubuntu it needs `apt-get install python3-venv`): {said}"
    )]
    Create {
        /// The interpreter that was used.
        python: PathBuf,
        /// The end of what it wrote to stderr.
        said: String,
    },
    /// pip could not install what the lock file names.
    #[error("pip could not install {}: {said}", lock.display())]
    Install {
        /// The lock file.
        lock: PathBuf,
        /// The end of what pip wrote to stderr.
        said: String,
    },
    /// A file or a process could not be handled.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// The directory of the Python environment that holds exactly what `lock` names; `bin/python` lies in it.
///
/// It is `<cache>/<name>-<first 12 hex digits of the lock file's SHA-256>`, where `<cache>` is [`cache::directory`]. When it is
/// not there yet, it is built beside its place and renamed, so a half-made one is never seen; of two processes that
/// build at the same time, the later one takes what the earlier one made. `progress` is called with one line of
/// text for each step of the building, and not at all when nothing is built.
pub async fn venv(name: &str, lock: &Path, progress: impl Fn(&str)) -> Result<PathBuf, VenvError> {
    venv_in(&cache::directory(), name, lock, progress).await
}

async fn venv_in(
    cache: &Path,
    name: &str,
    lock: &Path,
    progress: impl Fn(&str),
) -> Result<PathBuf, VenvError> {
    let place = cache.join(format!("{name}-{}", digest(lock)?));
    if usable(&place) {
        return Ok(place);
    }
    let python = interpreter().await.ok_or(VenvError::NoPython)?;
    std::fs::create_dir_all(cache).map_err(io(cache))?;
    let scratch =
        tempfile::Builder::new().prefix(&format!(".{name}-")).tempdir_in(cache).map_err(io(cache))?;
    let fresh = scratch.path().join("venv");
    progress(&format!("{name}: making a Python environment with {}", python.display()));
    create(&python, &fresh).await?;
    install(name, &fresh, lock, &progress).await?;
    settle(&fresh, &place)?;
    if place.exists() && !usable(&place) {
        // Its interpreter was uninstalled since. The old one goes with the scratch directory.
        std::fs::rename(&place, scratch.path().join("broken")).map_err(io(&place))?;
    }
    match std::fs::rename(&fresh, &place) {
        Err(_) if usable(&place) => progress(&format!("{name}: another process was faster")),
        other => other.map_err(io(&place))?,
    }
    Ok(place)
}

fn digest(lock: &Path) -> Result<String, VenvError> {
    let content = std::fs::read(lock).map_err(io(lock))?;
    Ok(format!("{:x}", Sha256::digest(content))[..12].to_owned())
}

/// `bin/python` is a symlink to the interpreter the environment was made with: false when that is gone.
fn usable(venv: &Path) -> bool {
    venv.join("bin/python").exists()
}

async fn interpreter() -> Option<PathBuf> {
    const PRINT_IF_NEW: &str = "import sys; sys.version_info >= (3, 11) and print(sys.executable)";
    for name in INTERPRETERS {
        let Ok(out) = quiet(name).args(["-c", PRINT_IF_NEW]).output().await else { continue };
        let path = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        if out.status.success() && !path.is_empty() {
            return Some(path.into());
        }
    }
    None
}

async fn create(python: &Path, venv: &Path) -> Result<(), VenvError> {
    let out = quiet(python).args(["-m", "venv"]).arg(venv).output().await.map_err(io(python))?;
    if out.status.success() {
        return Ok(());
    }
    // The hint about python3-venv is written to stdout.
    let said = tail(&[out.stdout, out.stderr].concat());
    Err(VenvError::Create { python: python.to_owned(), said })
}

async fn install(name: &str, venv: &Path, lock: &Path, progress: &impl Fn(&str)) -> Result<(), VenvError> {
    let python = venv.join("bin/python");
    let mut pip = quiet(&python)
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"])
        .args(["--require-hashes", "--requirement"])
        .arg(lock)
        .spawn()
        .map_err(io(&python))?;
    let (stdout, stderr) = (pip.stdout.take(), pip.stderr.take());
    let (said, ()) = tokio::join!(read(stderr), tell(name, stdout, progress));
    if pip.wait().await.map_err(io(&python))?.success() {
        Ok(())
    } else {
        Err(VenvError::Install { lock: lock.to_owned(), said: tail(&said) })
    }
}

/// Console scripts name the interpreter by its absolute path: make that the final one before the rename.
fn settle(fresh: &Path, place: &Path) -> Result<(), VenvError> {
    let (from, to) = (fresh.to_string_lossy(), place.to_string_lossy());
    let bin = fresh.join("bin");
    for entry in std::fs::read_dir(&bin).map_err(io(&bin))? {
        let path = entry.map_err(io(&bin))?.path();
        if path.is_symlink() {
            continue;
        }
        // What is no text holds no path to correct.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if text.contains(&*from) {
            // Written in place: the file keeps its mode.
            std::fs::write(&path, text.replace(&*from, &to)).map_err(io(&path))?;
        }
    }
    Ok(())
}

fn quiet(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // A broken pipe means that pip has ended, and its exit status says how.
        let _ = from.read_to_end(&mut bytes).await;
    }
    bytes
}

async fn tell(name: &str, from: Option<impl AsyncRead + Unpin>, progress: &impl Fn(&str)) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let line = line.trim();
        if ["Collecting", "Installing", "Building"].iter().any(|word| line.starts_with(word)) {
            let short = line.split(" (from").next().unwrap_or(line);
            let short: String = short.chars().take(100).collect();
            progress(&format!("{name}: {short}"));
        }
    }
}

/// The end of a program's output, enough to see what went wrong.
fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> VenvError {
    let path = path.to_owned();
    |source| VenvError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Nothing is installed, so no network is needed.
    #[tokio::test]
    async fn of_two_that_build_at_once_both_get_the_same_and_a_third_builds_nothing() {
        let here = tempfile::tempdir().unwrap();
        let lock = here.path().join("empty.lock");
        std::fs::write(&lock, "# nothing\n").unwrap();
        let cache = here.path().join("cache");
        let said = RefCell::new(Vec::new());
        let make = || venv_in(&cache, "empty", &lock, |line| said.borrow_mut().push(line.to_owned()));
        let (one, other) = tokio::join!(make(), make());
        let place = one.unwrap();
        assert_eq!(place, other.unwrap());
        assert!(said.borrow().iter().any(|line| line.contains("another process was faster")), "{said:?}");
        let lines = said.borrow().len();
        assert_eq!(make().await.unwrap(), place);
        assert_eq!(said.borrow().len(), lines);
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1, "nothing is left over");

        // Scripts name the interpreter by its final place.
        let pip = quiet(place.join("bin/pip")).arg("--version").output().await.unwrap();
        assert!(pip.status.success(), "{}", tail(&pip.stderr));

        // An interpreter that is gone makes the environment be built anew.
        std::fs::remove_file(place.join("bin/python")).unwrap();
        assert_eq!(make().await.unwrap(), place);
        assert!(usable(&place) && said.borrow().len() > lines);
    }

    #[tokio::test]
    async fn what_the_lock_file_does_not_hash_is_not_installed() {
        let here = tempfile::tempdir().unwrap();
        let lock = here.path().join("unhashed.lock");
        std::fs::write(&lock, "idna==3.20\n").unwrap();
        let error = venv_in(here.path(), "unhashed", &lock, |_| {}).await.unwrap_err();
        assert!(matches!(&error, VenvError::Install { said, .. } if said.contains("hash")), "{error}");
    }
}
