//! A real Prefect: the server with SQLite or PostgreSQL and a process worker, from `PyPI`, in a private Python environment.

mod postgres;
mod rest;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use postgres::Postgres;
pub use rest::{Rest, RestError};

use crate::cache::{self, CacheError};
use crate::process::{Process, ProcessError, Spec};
use crate::progress::Progress;
use crate::python::{self, VenvError};
use crate::{layout, ports};

/// The work pool that the worker polls.
pub const WORK_POOL: &str = "etl";

/// Why there is no Prefect.
#[derive(Debug, thiserror::Error)]
pub enum PrefectError {
    /// The Python environment could not be made.
    #[error(transparent)]
    Python(#[from] VenvError),
    /// The empty database could not be kept.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The server or the worker does not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The server refuses what it must accept.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// Debian's packages hold no PostgreSQL where they should.
    #[error("no PostgreSQL found: install Debian's `postgresql`, or put `initdb` and `postgres` on the PATH")]
    NoPostgres,
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// What is needed to start Prefect: made once, then taken from the cache.
#[derive(Debug, Clone)]
pub struct Installation {
    program: PathBuf,
    /// A database with all migrations done: they take longer than everything else of a start.
    empty_database: PathBuf,
}

impl Installation {
    /// Takes it from the cache, or makes it.
    pub async fn get(progress: &Progress) -> Result<Self, PrefectError> {
        let lock = layout::package().join("python/prefect/requirements.lock");
        let task = progress.task("Prefect from PyPI");
        let venv = python::venv("prefect", &lock, |text| task.note(text)).await?;
        let program = venv.join("bin/prefect");
        let database = cache::entry("prefect-database", &[lock], async |directory: &Path| {
            task.note("migrating an empty database");
            environment(
                Spec::new("prefect server database upgrade", &program, &directory.join("log")),
                directory,
            )
            .args(["server", "database", "upgrade", "--yes"])
            .start()?
            .succeed()
            .await?;
            Ok::<_, PrefectError>(())
        })
        .await?;
        task.done();
        Ok(Self { program, empty_database: database.join(DATABASE) })
    }
}

/// A running Prefect server; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    api_url: String,
    installation: Installation,
    home: PathBuf,
    // In the order in which they stop.
    _process: Process,
    _database: Option<postgres::Running>,
}

impl Server {
    /// Starts a server on SQLite whose files all lie in `directory`, and makes the work pool.
    pub async fn start(
        installation: &Installation,
        directory: &Path,
        progress: &Progress,
    ) -> Result<Self, PrefectError> {
        Self::start_with(installation, directory, None, progress).await
    }

    /// The same server, which asks for this `user:password` and for CSRF tokens.
    pub async fn start_protected(
        installation: &Installation,
        directory: &Path,
        auth: &str,
        progress: &Progress,
    ) -> Result<Self, PrefectError> {
        Self::start_with(installation, directory, Some(auth), progress).await
    }

    async fn start_with(
        installation: &Installation,
        directory: &Path,
        auth: Option<&str>,
        progress: &Progress,
    ) -> Result<Self, PrefectError> {
        let task = progress.task("Starting the Prefect server");
        let home = directory.join("prefect");
        let database = home.join(DATABASE);
        std::fs::create_dir_all(&home)
            .and_then(|()| std::fs::copy(&installation.empty_database, &database))
            .map_err(|source| PrefectError::File { path: database, source })?;
        let server = Self::serve(installation, home, None, auth).await?;
        task.done();
        Ok(server)
    }

    /// The same on a PostgreSQL of its own.
    pub async fn start_on(
        postgres: &Postgres,
        installation: &Installation,
        directory: &Path,
        progress: &Progress,
    ) -> Result<Self, PrefectError> {
        let task = progress.task("Starting the Prefect server on PostgreSQL");
        let home = directory.join("prefect");
        std::fs::create_dir_all(&home).map_err(|source| PrefectError::File { path: home.clone(), source })?;
        let database = postgres.start(&home).await?;
        let server = Self::serve(installation, home, Some(database), None).await?;
        task.done();
        Ok(server)
    }

    async fn serve(
        installation: &Installation,
        home: PathBuf,
        database: Option<postgres::Running>,
        auth: Option<&str>,
    ) -> Result<Self, PrefectError> {
        let port = ports::free().to_string();
        let api_url = format!("http://127.0.0.1:{port}/api");
        let mut server =
            environment(Spec::new("prefect server", &installation.program, &home.join("server.log")), &home)
                .env("PREFECT_API_URL", &api_url)
                .args(["server", "start", "--host", "127.0.0.1", "--port", &port, "--no-ui"])
                .arg("--analytics-off");
        if let Some(database) = &database {
            server = server.env("PREFECT_SERVER_DATABASE_CONNECTION_URL", &database.url);
        }
        if let Some(auth) = auth {
            server = server
                .env("PREFECT_SERVER_API_AUTH_STRING", auth)
                .env("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "true");
        }
        let mut process = server.start()?;
        let rest = Rest::new(&api_url)?;
        process.until(Duration::from_secs(120), async || rest.ready().await).await?;
        let rest = match auth {
            Some(auth) => Rest::protected(&api_url, auth).await?,
            None => rest,
        };
        rest.ensure_work_pool(WORK_POOL, layout::package()).await?;
        let installation = installation.clone();
        Ok(Self { api_url, installation, home, _process: process, _database: database })
    }

    /// The base of the REST API, which ends with `/api`.
    pub fn api_url(&self) -> &str {
        &self.api_url
    }

    /// Starts a process worker for [`WORK_POOL`]; it looks for work twice a second.
    pub async fn worker(&self, name: &str, progress: &Progress) -> Result<Worker, PrefectError> {
        let task = progress.task("Starting the Prefect worker");
        let log = self.home.join(format!("worker-{name}.log"));
        let mut process =
            environment(Spec::new("prefect worker", &self.installation.program, &log), &self.home)
                .env("PREFECT_API_URL", &self.api_url)
                .env("PREFECT_WORKER_QUERY_SECONDS", "0.5")
                .args(["worker", "start", "--pool", WORK_POOL, "--type", "process", "--name", name])
                .args(["--install-policy", "never", "--prefetch-seconds", "1"])
                .start()?;
        let rest = Rest::new(&self.api_url)?;
        process.until(Duration::from_secs(120), async || rest.worker_online(WORK_POOL, name).await).await?;
        task.done();
        Ok(Worker { _process: process })
    }
}

/// A running worker; dropping it stops it and the flow runs it has started.
#[derive(Debug)]
pub struct Worker {
    _process: Process,
}

/// The name Prefect gives to its SQLite file.
const DATABASE: &str = "prefect.db";

/// Everything in `home`, nothing of the user's own Prefect, nothing sent to anybody.
fn environment(spec: Spec, home: &Path) -> Spec {
    spec.hide_env("PREFECT_")
        .env("PREFECT_HOME", home)
        .env("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        .env("PREFECT_SERVER_UI_ENABLED", "false")
        .env("DO_NOT_TRACK", "1")
        .env("NO_COLOR", "1")
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(home)
}
