//! A whole world, started in parallel and stopped together.

use std::path::{Path, PathBuf};

use crate::controlplane::{ControlPlane, ControlPlaneError, Settings};
use crate::info::Info;
use crate::layout;
use crate::operator::{self, Operator, OperatorError, OperatorOptions};
use crate::prefect::{self, Installation, PrefectError};
use crate::progress::Progress;
use crate::tableau::{Config, Edition, Simulator};
use crate::tools::{Tools, ToolsError};

/// Why a world could not be started. Everything that ran by then has been stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The programs of the control plane are missing.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// The control plane does not run.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// Prefect does not run.
    #[error(transparent)]
    Prefect(#[from] PrefectError),
    /// The Tableau simulator does not run.
    #[error("Tableau simulator: {0}")]
    Tableau(std::io::Error),
    /// The operator does not run.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The world's directory could not be made.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Which parts of a world are started.
#[allow(clippy::struct_excessive_bools, reason = "independent parts, each there or not")]
#[derive(Clone, Default)]
pub struct Options {
    /// A Prefect server.
    pub prefect: bool,
    /// It keeps its data in PostgreSQL, not in SQLite.
    pub postgres: bool,
    /// A worker for it.
    pub worker: bool,
    /// A Tableau simulator.
    pub tableau: bool,
    /// The operator; the shipped manifests are applied before it starts.
    pub operator: Option<OperatorOptions>,
    /// Where everything is written; a fresh directory under `.world` in the checkout when unset, removed at the end.
    pub directory: Option<PathBuf>,
    /// Whether etcd forces its writes to disk.
    pub durable: bool,
    /// Where progress is shown.
    pub progress: Progress,
}

/// A running world; dropping it stops everything.
pub struct World {
    info: Info,
    // In the order in which they stop.
    operator: Option<Operator>,
    _worker: Option<prefect::Worker>,
    _prefect: Option<prefect::Server>,
    tableau: Option<Simulator>,
    control_plane: ControlPlane,
    _directory: Directory,
}

impl World {
    /// Starts the parts that `options` name, each as early as it can be.
    pub async fn start(options: Options) -> Result<Self, WorldError> {
        crate::install_tls_provider();
        let directory = Directory::make(options.directory.clone())?;
        let here = &directory.path;
        let (control_plane, prefect, tableau) = tokio::try_join!(
            control_plane(&options, here),
            prefect_parts(&options, here),
            tableau(&options),
        )?;
        let (server, worker) = prefect.unzip();
        let kubectl = control_plane.kubectl();
        let operator = match options.operator.clone() {
            Some(settings) => Some(operator_part(&options.progress, &control_plane, here, settings).await?),
            None => None,
        };
        let info = Info {
            kubeconfig: kubectl.kubeconfig().to_owned(),
            kubectl: kubectl.program().to_owned(),
            prefect_api_url: server.as_ref().map(|server| server.api_url().to_owned()),
            work_pool: server.as_ref().map(|_| prefect::WORK_POOL.to_owned()),
            tableau_url: tableau.as_ref().map(Simulator::url),
            tableau_admin_url: tableau.as_ref().map(Simulator::admin_url),
            audit_log: control_plane.audit_log().to_owned(),
            operator_log: operator.as_ref().map(|operator| operator.log().to_owned()),
            operator_metrics_url: operator.as_ref().map(Operator::metrics_url),
            flows: layout::flows(),
            directory: here.clone(),
        };
        Ok(Self {
            info,
            operator,
            _worker: worker.flatten(),
            _prefect: server,
            tableau,
            control_plane,
            _directory: directory,
        })
    }

    /// Where everything is.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The control plane, to be broken and mended.
    pub fn control_plane_mut(&mut self) -> &mut ControlPlane {
        &mut self.control_plane
    }

    /// The operator, where there is one.
    pub fn operator(&mut self) -> Option<&mut Operator> {
        self.operator.as_mut()
    }

    /// The Tableau simulator, where there is one.
    pub fn tableau(&self) -> Option<&Simulator> {
        self.tableau.as_ref()
    }

    /// Stops everything without holding up the runtime.
    pub async fn stop(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

async fn control_plane(options: &Options, directory: &Path) -> Result<ControlPlane, WorldError> {
    let tools = Tools::get(&options.progress).await?;
    let settings = Settings { durable: options.durable, crds: Some(layout::checkout().join("crds")) };
    Ok(ControlPlane::start(&tools, directory, &settings, &options.progress).await?)
}

type PrefectParts = Option<(prefect::Server, Option<prefect::Worker>)>;

async fn prefect_parts(options: &Options, directory: &Path) -> Result<PrefectParts, WorldError> {
    if !options.prefect {
        return Ok(None);
    }
    let installation = Installation::get(&options.progress).await?;
    let server = if options.postgres {
        let postgres = Box::pin(prefect::Postgres::get(&installation, &options.progress)).await?;
        // On the heap: what waits for all of this is large enough.
        Box::pin(prefect::Server::start_on(&postgres, &installation, directory, &options.progress)).await?
    } else {
        prefect::Server::start(&installation, directory, &options.progress).await?
    };
    let worker = if options.worker { Some(server.worker("w1", &options.progress).await?) } else { None };
    Ok(Some((server, worker)))
}

async fn tableau(options: &Options) -> Result<Option<Simulator>, WorldError> {
    if !options.tableau {
        return Ok(None);
    }
    // As the examples have it.
    let config = Config { edition: Edition::Cloud, ..Config::default() };
    Simulator::start(config).await.map(Some).map_err(WorldError::Tableau)
}

async fn operator_part(
    progress: &Progress,
    control_plane: &ControlPlane,
    directory: &Path,
    settings: OperatorOptions,
) -> Result<Operator, WorldError> {
    let task = progress.task("Starting the operator");
    let kubectl = control_plane.kubectl();
    match &settings.namespace {
        None => operator::install(kubectl, &layout::manifests().join("base")).await?,
        Some(namespace) => {
            operator::install_namespaced(kubectl, &layout::manifests().join("namespaced"), namespace).await?;
        }
    }
    let operator = Operator::start(kubectl, directory, settings).await?;
    task.done();
    Ok(operator)
}

/// A world's directory. One that we named ourselves goes with the world, except after a panic: then its logs tell why.
struct Directory {
    path: PathBuf,
    ours: bool,
}

impl Directory {
    fn make(wanted: Option<PathBuf>) -> Result<Self, WorldError> {
        let ours = wanted.is_none();
        let path = wanted.unwrap_or_else(layout::fresh_world);
        std::fs::create_dir_all(&path)
            .and_then(|()| std::fs::canonicalize(&path))
            .map(|path| Self { path, ours })
            .map_err(|source| WorldError::Directory { path, source })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.ours && !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
