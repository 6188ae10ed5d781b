//! A PostgreSQL of Debian's under a Prefect server: the machine's own where it has one, else Debian's packages, unpacked into the cache. Nothing
//! is installed, and nothing needs root.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use tokio::net::TcpStream;

use super::{Installation, PrefectError, environment};
use crate::cache;
use crate::layout;
use crate::ports;
use crate::process::{Process, Spec};
use crate::progress::{Progress, Task};

/// What apt must not touch of the machine's own: where its lists and packages go is given with each call.
const APT: [&str; 4] = ["-q", "-y", "-o", "Debug::NoLocking=1"];
const OS: &str = "/etc/os-release";
/// Debian's `nobody`, as whom a root runs PostgreSQL, which refuses to run as root.
const NOBODY: &str = "65534";

/// The programs, and a database cluster in which Prefect's migrations are done: they take longer than everything else.
#[derive(Debug, Clone)]
pub struct Postgres {
    programs: Programs,
    migrated: PathBuf,
}

#[derive(Debug, Clone)]
struct Programs {
    /// Where `initdb` and `postgres` lie.
    bin: PathBuf,
    /// Where the libraries lie that came with them.
    libraries: Option<OsString>,
}

impl Postgres {
    /// Takes it from the machine and from the cache, or makes it.
    pub async fn get(prefect: &Installation, progress: &Progress) -> Result<Self, PrefectError> {
        let task = progress.task("PostgreSQL of Debian");
        let programs = match on_the_machine() {
            Some(bin) => Programs { bin, libraries: None },
            None => unpacked(&task).await?,
        };
        let lock = layout::package().join("python/prefect/requirements.lock");
        // A cluster of one major version is none for another.
        let major = programs
            .bin
            .components()
            .rev()
            .nth(1)
            .map(|name| name.as_os_str().to_string_lossy().into_owned());
        let name = format!("prefect-postgres-{}", major.unwrap_or_default());
        let migrated = cache::entry(&name, &[lock], async |directory: &Path| {
            task.note("migrating an empty database");
            let data = directory.join(DATA);
            programs.initialise(&data, directory).await?;
            let mut running = programs.start(&data, directory).await?;
            let migrate =
                Spec::new("prefect server database upgrade", &prefect.program, &directory.join("log"));
            environment(migrate, directory)
                .env("PREFECT_SERVER_DATABASE_CONNECTION_URL", &running.url)
                .args(["server", "database", "upgrade", "--yes"])
                .start()?
                .succeed()
                .await?;
            running.end().await;
            Ok::<_, PrefectError>(())
        })
        .await?;
        task.done();
        Ok(Self { programs, migrated: migrated.join(DATA) })
    }

    /// Starts a server of its own on a copy of the migrated cluster, below `directory`.
    pub(super) async fn start(&self, directory: &Path) -> Result<Running, PrefectError> {
        let data = directory.join(DATA);
        // With its owner, which PostgreSQL insists on.
        let copy = Spec::new("cp", "cp", &directory.join("postgres.log"));
        copy.args(["-a".as_ref(), self.migrated.as_os_str(), data.as_os_str()]).start()?.succeed().await?;
        self.programs.start(&data, directory).await
    }
}

const DATA: &str = "postgres";

impl Programs {
    /// A program of PostgreSQL's, as somebody who is not root.
    fn spec(&self, program: &str, log: &Path) -> Spec {
        let path = self.bin.join(program);
        let spec = if geteuid().is_root() {
            // The checkout and the cache may lie in root's home, which `nobody` may not enter.
            Spec::new(program, "setpriv", log)
                .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
                .args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"])
                .arg(path)
        } else {
            Spec::new(program, path, log)
        };
        let spec = spec.hide_env("PG").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        match &self.libraries {
            Some(libraries) => spec.env("LD_LIBRARY_PATH", libraries),
            None => spec,
        }
    }

    async fn initialise(&self, data: &Path, directory: &Path) -> Result<(), PrefectError> {
        let failed = |source| PrefectError::File { path: data.to_owned(), source };
        std::fs::create_dir_all(data).map_err(failed)?;
        if geteuid().is_root() {
            let nobody = NOBODY.parse().ok();
            std::os::unix::fs::chown(data, nobody, nobody).map_err(failed)?;
        }
        self.spec("initdb", &directory.join("postgres.log"))
            .args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "--username=prefect", "-D"])
            .arg(data)
            .start()?
            .succeed()
            .await?;
        Ok(())
    }

    async fn start(&self, data: &Path, directory: &Path) -> Result<Running, PrefectError> {
        let port = ports::free();
        let mut process = self
            .spec("postgres", &directory.join("postgres.log"))
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", "unix_socket_directories="])
            .args(["-c", "fsync=off", "-c", "shared_buffers=64MB", "-D"])
            .arg(data)
            .start()?;
        let answers = async || TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        process.until(Duration::from_secs(60), answers).await?;
        Ok(Running { url: format!("postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"), process })
    }
}

/// A running PostgreSQL; dropping it stops it.
#[derive(Debug)]
pub(super) struct Running {
    /// For Prefect.
    pub(super) url: String,
    process: Process,
}

impl Running {
    /// Stops it in order, without waiting for its clients.
    async fn end(&mut self) {
        self.process.signal(Signal::SIGINT);
        self.process.wait().await;
    }
}

/// Debian's place, the newest first; else the one on the `PATH`.
fn on_the_machine() -> Option<PathBuf> {
    let complete = |bin: &PathBuf| bin.join("postgres").is_file() && bin.join("initdb").is_file();
    newest(Path::new("/")).filter(complete).or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(complete).and_then(|bin| bin.canonicalize().ok())
    })
}

/// `usr/lib/postgresql/<the greatest number>/bin`.
fn newest(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root.join("usr/lib/postgresql")).ok()?;
    let major = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(major).map(|path| path.join("bin"))
}

/// Debian's packages, with the lists and the cache of apt in a place of our own.
async fn unpacked(task: &Task) -> Result<Programs, PrefectError> {
    let place = cache::entry("postgres-debian", &[OS.into()], async |directory: &Path| {
        task.note("fetching Debian's packages");
        let at = |name: &str| directory.join(name);
        let failed = |source| PrefectError::File { path: directory.to_owned(), source };
        for folder in ["lists/partial", "cache/archives/partial", "root"] {
            std::fs::create_dir_all(at(folder)).map_err(failed)?;
        }
        let places = [
            format!("-oDir::State::Lists={}", at("lists").display()),
            format!("-oDir::Cache={}", at("cache").display()),
        ];
        let apt = |command: &[&str]| {
            let spec = Spec::new("apt-get", "apt-get", &at("log")).args(APT).args(&places);
            spec.args(command).start()
        };
        // What a hook of the machine cannot clean up fails it; whether the lists are of use shows at once.
        apt(&["update"])?.wait().await;
        apt(&["--no-install-recommends", "--download-only", "install", "postgresql"])?.succeed().await?;
        for entry in std::fs::read_dir(at("cache/archives")).map_err(failed)? {
            let package = entry.map_err(failed)?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                let unpack = Spec::new("dpkg -x", "dpkg", &at("log")).arg("-x").arg(&package);
                unpack.arg(at("root")).start()?.succeed().await?;
            }
        }
        for folder in ["lists", "cache"] {
            std::fs::remove_dir_all(at(folder)).map_err(failed)?;
        }
        Ok::<_, PrefectError>(())
    })
    .await?;
    let root = place.join("root");
    let bin = newest(&root).ok_or(PrefectError::NoPostgres)?;
    let libraries = std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().filter_map(Result::ok);
    // `usr/lib/x86_64-linux-gnu`, by the machine's architecture.
    let libraries =
        libraries.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    Ok(Programs { bin, libraries: libraries.map(PathBuf::into_os_string) })
}
