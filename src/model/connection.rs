//! The two connections: what their specs say, and what their conditions are.

use super::conditions::{Truth, Verdict};
use super::time::parse_duration;
use crate::api::{PrefectWorkspace, TableauSite};
use std::time::Duration;

/// What is so with a connection, as its observer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// There is no such Secret.
    SecretNotFound {
        /// Its name.
        name: String,
    },
    /// RBAC forbids reading it.
    SecretAccessDenied {
        /// Its name.
        name: String,
        /// The namespace whose Role is missing.
        namespace: String,
    },
    /// The Secret lacks a key, or it is empty or no text.
    SecretKeyMissing {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// Not answered yet.
    Connecting,
    /// The server answered to these credentials.
    Connected {
        /// Version of the server or of its API.
        version: String,
    },
    /// The last call failed in a way that concerns the connection.
    Failed(Trouble),
}

/// Why a connection does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The credentials are refused; whether this very Secret value had signed in before (the keyed hash in status).
    CredentialsRefused {
        /// It had.
        worked_before: bool,
    },
    /// Tableau ends each session at once: somebody else signs in with the token.
    SessionContested,
    /// The credentials are good, and not enough.
    PermissionDenied,
    /// The URL's host is not allowed.
    HostNotAllowed {
        /// The host.
        host: String,
    },
    /// The name does not resolve.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// No connection, or no answer.
    Unreachable,
    /// What answers is another kind of server.
    WrongServer,
    /// The server is too old.
    UnsupportedVersion {
        /// Its version.
        version: String,
        /// The oldest that is supported.
        oldest: &'static str,
    },
    /// The server asks to slow down.
    RateLimited,
    /// Another site answers than before.
    SiteChanged,
}

/// How often a connection is read where its spec is silent.
pub const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// The spec of a `PrefectWorkspace`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredWorkspace {
    /// Base URL of the API, without a slash at its end.
    pub api_url: String,
    /// How it signs in.
    pub auth: WorkspaceAuth,
    /// How often it is read.
    pub poll_interval: Duration,
}

/// How a workspace signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkspaceAuth {
    /// Not at all.
    None,
    /// Secret keys `username`, `password`.
    Basic {
        /// Name of the Secret.
        secret: String,
    },
    /// Secret key `apiKey`.
    ApiKey {
        /// Name of the Secret.
        secret: String,
    },
}

/// The spec of a `TableauSite`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredSite {
    /// Base URL of the server, without a slash at its end.
    pub server_url: String,
    /// Content URL of the site; empty: the Default site.
    pub content_url: String,
    /// Name of the Secret with the personal access token, keys `name`, `secret`.
    pub secret: String,
    /// How often it is read.
    pub poll_interval: Duration,
}

/// The spec is none that can be acted on; the sentence says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadConnection(pub String);

impl DesiredWorkspace {
    /// Reads the spec.
    ///
    /// # Errors
    /// It declares no usable connection.
    pub fn parse(r: &PrefectWorkspace) -> Result<Self, BadConnection> {
        let auth = match &r.spec.auth {
            None => WorkspaceAuth::None,
            Some(auth) => match (&auth.basic, &auth.api_key) {
                (Some(basic), None) => WorkspaceAuth::Basic { secret: basic.secret_ref.name.clone() },
                (None, Some(key)) => WorkspaceAuth::ApiKey { secret: key.secret_ref.name.clone() },
                (None, None) | (Some(_), Some(_)) => {
                    return Err(BadConnection("spec.auth needs exactly one of basic, apiKey".into()));
                }
            },
        };
        Ok(Self {
            api_url: base_url(&r.spec.api_url, "spec.apiUrl")?,
            auth,
            poll_interval: poll_interval(r.spec.poll_interval.as_ref())?,
        })
    }
}

impl DesiredSite {
    /// Reads the spec.
    ///
    /// # Errors
    /// It declares no usable connection.
    pub fn parse(r: &TableauSite) -> Result<Self, BadConnection> {
        let token = r.spec.auth.personal_access_token.as_ref();
        let token = token.ok_or_else(|| BadConnection("spec.auth needs personalAccessToken".into()))?;
        Ok(Self {
            server_url: base_url(&r.spec.server_url, "spec.serverUrl")?,
            content_url: r.spec.site_content_url.clone().unwrap_or_default(),
            secret: token.secret_ref.name.clone(),
            poll_interval: poll_interval(r.spec.poll_interval.as_ref())?,
        })
    }
}

fn base_url(text: &str, field: &str) -> Result<String, BadConnection> {
    url::Url::parse(text)
        .ok()
        .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
        .filter(|u| u.username().is_empty() && u.password().is_none())
        .filter(|u| u.query().is_none() && u.fragment().is_none())
        .map(|u| u.as_str().trim_end_matches('/').to_owned())
        .ok_or_else(|| {
            BadConnection(format!(
                "{field} must be an http or https URL with a host and without user, password, query or fragment"
            ))
        })
}

fn poll_interval(text: Option<&crate::api::Duration>) -> Result<Duration, BadConnection> {
    let Some(text) = text else { return Ok(POLL_INTERVAL) };
    parse_duration(&text.0)
        .ok()
        .filter(|every| (Duration::from_secs(1)..=Duration::from_secs(600)).contains(every))
        .ok_or_else(|| BadConnection("spec.pollInterval must be a duration between 1s and 10m".into()))
}

/// `Ready`, with `Reconciling` or `Stalled` beside it, of a `PrefectWorkspace`.
pub fn workspace_verdicts(
    spec: &Result<DesiredWorkspace, BadConnection>,
    state: &ConnectionState,
) -> Vec<Verdict> {
    match spec {
        Ok(spec) => {
            verdicts(&Service::Prefect { keyed: spec.auth != WorkspaceAuth::None }, &spec.api_url, state)
        }
        Err(bad) => unsupported(bad),
    }
}

/// `Ready`, with `Reconciling` or `Stalled` beside it, of a `TableauSite`.
pub fn site_verdicts(spec: &Result<DesiredSite, BadConnection>, state: &ConnectionState) -> Vec<Verdict> {
    match spec {
        Ok(spec) => verdicts(&Service::Tableau, &spec.server_url, state),
        Err(bad) => unsupported(bad),
    }
}

/// Whether a dependent may use the connection, by the verdicts above; else the reason it is told.
pub fn usable(verdicts: &[Verdict]) -> Result<(), &'static str> {
    match verdicts.iter().find(|v| v.kind == "Ready") {
        Some(ready) if ready.truth == Truth::True => Ok(()),
        Some(ready) => Err(ready.reason),
        None => Err("Progressing"),
    }
}

enum Service {
    Prefect {
        /// It signs in with something.
        keyed: bool,
    },
    Tableau,
}

impl Service {
    fn name(&self) -> &'static str {
        match self {
            Self::Prefect { .. } => "Prefect",
            Self::Tableau => "Tableau",
        }
    }
}

fn verdicts(service: &Service, url: &str, state: &ConnectionState) -> Vec<Verdict> {
    let name = service.name();
    match state {
        ConnectionState::Connecting => {
            ready(Truth::Unknown, "Progressing", format!("Connects to {name} at {url}."), Some("Reconciling"))
        }
        ConnectionState::Connected { version } => {
            ready(Truth::True, "Connected", format!("{name} {version} answers at {url}."), None)
        }
        ConnectionState::SecretNotFound { name: secret } => wrong(
            "SecretNotFound",
            format!(
                "Secret `{secret}` does not exist in this namespace; create it or correct secretRef.name."
            ),
        ),
        ConnectionState::SecretAccessDenied { name: secret, namespace } => wrong(
            "SecretAccessDenied",
            format!(
                "The operator may not read Secret `{secret}`; apply the Role and RoleBinding of manifests/tenant in namespace \
                 `{namespace}` and name the Secret there."
            ),
        ),
        ConnectionState::SecretKeyMissing { name: secret, key } => wrong(
            "SecretKeyMissing",
            format!("Secret `{secret}` lacks the key `{key}`, or it is empty; set it."),
        ),
        ConnectionState::Failed(trouble) => troubled(service, url, trouble),
    }
}

fn troubled(service: &Service, url: &str, trouble: &Trouble) -> Vec<Verdict> {
    let name = service.name();
    match trouble {
        Trouble::CredentialsRefused { worked_before } => credentials_refused(service, *worked_before),
        Trouble::SessionContested => wrong(
            "SessionContested",
            "Tableau ends each session at once: somebody else signs in with the same token; give Feedwater a token of its own.",
        ),
        Trouble::PermissionDenied => wrong(
            "PermissionDenied",
            match service {
                Service::Prefect { .. } => {
                    "The credentials may not read deployments and flow runs; give them that right in Prefect."
                }
                Service::Tableau => {
                    "The token's user may not read the site's jobs; make it a site administrator in Tableau."
                }
            },
        ),
        Trouble::HostNotAllowed { host } => stalled(
            "HostNotAllowed",
            format!(
                "Host `{host}` may not be called: only https to public addresses is allowed by default; start the operator with \
                 --allowed-hosts={host} or correct the URL."
            ),
        ),
        Trouble::Dns => wrong(
            "DnsFailed",
            format!("The host name of {url} does not resolve; correct the URL or the DNS."),
        ),
        Trouble::Tls => wrong(
            "TlsFailed",
            format!(
                "The certificate of {url} is not trusted or not for that host; use one of a public authority for its name."
            ),
        ),
        Trouble::Unreachable => wrong(
            "Unreachable",
            format!(
                "{name} does not answer at {url}; check that it runs and that the network lets the operator reach it."
            ),
        ),
        Trouble::WrongServer => stalled("WrongServer", wrong_server(service, url)),
        Trouble::UnsupportedVersion { version, oldest } => stalled(
            "UnsupportedVersion",
            format!("{name} at {url} has version {version}; upgrade it to {oldest} or later."),
        ),
        Trouble::RateLimited => {
            wrong("RateLimited", format!("{name} asks to slow down; a longer spec.pollInterval asks less."))
        }
        Trouble::SiteChanged => stalled(
            "SiteChanged",
            format!(
                "Another site than before answers at {url}; correct spec.serverUrl, or make another TableauSite for it."
            ),
        ),
    }
}

fn credentials_refused(service: &Service, worked_before: bool) -> Vec<Verdict> {
    match (service, worked_before) {
        (Service::Prefect { keyed: false }, _) => {
            wrong("CredentialsInvalid", "Prefect asks for credentials; set spec.auth.")
        }
        (Service::Prefect { keyed: true }, _) => {
            wrong("CredentialsInvalid", "Prefect refuses the credentials; put valid ones into the Secret.")
        }
        (Service::Tableau, true) => wrong(
            "PatRevoked",
            "Tableau no longer accepts the personal access token, which worked before: it was revoked or has expired; put a new one into \
             the Secret.",
        ),
        (Service::Tableau, false) => wrong(
            "CredentialsInvalid",
            "Tableau refuses the personal access token; check its name and secret in the Secret, and spec.siteContentUrl.",
        ),
    }
}

fn wrong_server(service: &Service, url: &str) -> String {
    match service {
        Service::Prefect { .. } => {
            format!(
                "What answers at {url} is not the API of Prefect; spec.apiUrl ends with /api on most servers."
            )
        }
        Service::Tableau => {
            format!(
                "What answers at {url} is not Tableau; spec.serverUrl is the address of the server without any path."
            )
        }
    }
}

fn unsupported(bad: &BadConnection) -> Vec<Verdict> {
    stalled("UnsupportedSpec", format!("{bad}."))
}

/// Wrong; tried again by itself, and at once when the Secret changes.
fn wrong(reason: &'static str, message: impl Into<String>) -> Vec<Verdict> {
    ready(Truth::False, reason, message, None)
}

/// Wrong, and only a person can help.
fn stalled(reason: &'static str, message: impl Into<String>) -> Vec<Verdict> {
    ready(Truth::False, reason, message, Some("Stalled"))
}

fn ready(
    truth: Truth,
    reason: &'static str,
    message: impl Into<String>,
    beside: Option<&'static str>,
) -> Vec<Verdict> {
    let ready = Verdict::new("Ready", truth, reason, message);
    let beside = beside.map(|kind| Verdict::new(kind, Truth::True, reason, ready.message.clone()));
    [ready].into_iter().chain(beside).collect()
}
