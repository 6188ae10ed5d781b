//! Logs, on stderr. What must stay secret is a `SecretString` and has no text, so nothing of ours is filtered here.

use std::io::stderr;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Starts logging for the process.
///
/// # Errors
/// The filter cannot be read, or logging was started before.
pub fn start(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    // These log whole frames at trace, and the first frame of Prefect's event stream carries the credential.
    let quiet = format!("{filter},tungstenite=info,tokio_tungstenite=info");
    let filter = EnvFilter::try_new(quiet).map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(stderr);
    match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_span_list(false)).try_init(),
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
    }
    .map_err(|_| TelemetryError::StartedBefore)
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("the log filter cannot be read: {0}")]
    Filter(String),
    /// A process has one log.
    #[error("logging was started before")]
    StartedBefore,
}
