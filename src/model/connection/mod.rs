//! The two connections: what their specs say, and what their conditions are.

mod grants;
mod in_use;
mod prefect;
mod tableau;
mod verdicts;
mod weight;

pub use grants::{BadGrant, TokenGrant};
pub use in_use::{Keep, Need, Standing, User, extract_need, flow_need, holds, in_use, keep, standing};
pub use prefect::{DesiredWorkspace, OLDEST, Support, TESTED, WorkspaceAuth, hosting, may_send, support};
pub use tableau::{IdentityTrouble, SiteAuth, TrustClient};
pub use verdicts::{site_verdicts, workspace_verdicts};
pub use weight::Weight;

use super::budget::Limits;
use super::time::parse_duration;
use crate::api::{CaBundleKind, CaBundleRef, Edition, TableauSite};
use std::time::Duration;

/// Whether an API is Prefect Cloud's.
pub fn is_cloud(api_url: &str) -> bool {
    let host = api_url.strip_prefix("https://").and_then(|rest| rest.split(['/', ':']).next());
    host.is_some_and(|host| host.eq_ignore_ascii_case("api.prefect.cloud"))
}

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
        key: String,
    },
    /// There is no such `ConfigMap`.
    ConfigMapNotFound {
        /// Its name.
        name: String,
    },
    /// RBAC forbids reading it.
    ConfigMapAccessDenied {
        /// Its name.
        name: String,
        /// The namespace whose Role is missing.
        namespace: String,
    },
    /// The `ConfigMap` lacks a key, or it is empty.
    ConfigMapKeyMissing {
        /// Name of the `ConfigMap`.
        name: String,
        /// The key.
        key: String,
    },
    /// What should hold certificates holds none.
    CaBundleInvalid {
        /// Where they should be.
        kind: CaBundleKind,
        /// Its name.
        name: String,
        /// Its key.
        key: String,
    },
    /// A key of the Secret of headers is no header that may be sent, or its value none.
    HeaderInvalid {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// Nothing is called, as declared.
    Suspended,
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
    /// The scopes of the token that signed in do not cover what is called.
    MissingScope,
    /// The identity provider gives no token that is good.
    Identity(IdentityTrouble),
    /// The credentials are good, and not enough.
    PermissionDenied,
    /// The host of a URL is not allowed.
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
    /// Prefect: connected, and the connection ended before an answer was whole.
    ConnectionLost,
    /// Prefect: connected, and no answer came in time.
    TimedOut,
    /// Prefect: 503, it is busy or its database is away.
    ServiceUnavailable,
    /// Prefect: another status than any that is expected.
    UnexpectedAnswer {
        /// The status.
        status: u16,
    },
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

/// The spec of a `TableauSite`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredSite {
    /// Base URL of the server, without a slash at its end.
    pub server_url: String,
    /// Content URL of the site; empty: the Default site.
    pub content_url: String,
    /// How it signs in.
    pub auth: SiteAuth,
    /// Name of the Secret whose keys are headers.
    pub headers: Option<String>,
    /// Where the certificates of a private authority are.
    pub ca_bundle: Option<CaBundleRef>,
    /// How often it is read.
    pub poll_interval: Duration,
    /// Cloud or Server.
    pub edition: Edition,
    /// What it may be asked for.
    pub limits: Limits,
    /// Nothing is called.
    pub suspend: bool,
}

/// The spec is none that can be acted on; the sentence says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadConnection(pub String);

impl DesiredSite {
    /// What one budget and one claim are about, whichever connection object leads there: the server and the site's content URL.
    pub fn origin(&self) -> String {
        format!("{}#{}", self.server_url, self.content_url)
    }

    /// Reads the spec.
    ///
    /// # Errors
    /// It declares no usable connection.
    pub fn parse(r: &TableauSite) -> Result<Self, BadConnection> {
        let auth = SiteAuth::parse(&r.spec.auth)?;
        let server_url = base_url(&r.spec.server_url, "spec.serverUrl")?;
        if let Some(defaults) = &r.spec.refresh_defaults {
            crate::model::extract::check_defaults(defaults)
                .map_err(|why| BadConnection(format!("spec.refreshDefaults: {why}")))?;
        }
        let edition = r.spec.edition.unwrap_or_else(|| edition(&server_url));
        Ok(Self {
            limits: limits(r, edition),
            edition,
            server_url,
            content_url: r.spec.site_content_url.clone().unwrap_or_default(),
            auth,
            headers: r.spec.headers_secret_ref.as_ref().map(|secret| secret.name.clone()),
            ca_bundle: r.spec.ca_bundle_ref.clone(),
            poll_interval: poll_interval(r.spec.poll_interval.as_ref())?,
            suspend: r.spec.suspend.unwrap_or(false),
        })
    }
}

/// Tableau Cloud is nowhere else than under this domain.
fn edition(server_url: &str) -> Edition {
    let host = url::Url::parse(server_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let cloud = |host: &str| host == "online.tableau.com" || host.ends_with(".online.tableau.com");
    if host.as_deref().is_some_and(cloud) { Edition::Cloud } else { Edition::Server }
}

fn limits(r: &TableauSite, edition: Edition) -> Limits {
    let unset = Limits::of(edition);
    let Some(declared) = &r.spec.limits else { return unset };
    let number = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
    let size = |declared: Option<i32>| number(declared).and_then(|number| usize::try_from(number).ok());
    Limits {
        per_hour: size(declared.refreshes_per_hour).or(unset.per_hour),
        running: size(declared.max_concurrent_refreshes).unwrap_or(unset.running),
        queries_per_day: number(declared.job_queries_per_day).unwrap_or(unset.queries_per_day),
    }
}

/// A base URL without a slash at its end; `field` is what it is called by those who wrote it.
///
/// # Errors
/// It is none, or holds credentials.
pub fn base_url(text: &str, field: &str) -> Result<String, BadConnection> {
    Ok(whole_url(text, field)?.trim_end_matches('/').to_owned())
}

/// The same, of which the last slash is a part.
fn whole_url(text: &str, field: &str) -> Result<String, BadConnection> {
    url::Url::parse(text)
        .ok()
        .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
        .filter(|u| u.username().is_empty() && u.password().is_none())
        .filter(|u| u.query().is_none() && u.fragment().is_none())
        .map(|u| u.as_str().to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn workspace(spec: &Value) -> Result<DesiredWorkspace, BadConnection> {
        let object = json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "PrefectWorkspace", "metadata": {}, "spec": spec});
        DesiredWorkspace::parse(&serde_json::from_value(object).unwrap())
    }

    fn site(spec: &Value) -> Result<DesiredSite, BadConnection> {
        let object = json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "TableauSite", "metadata": {}, "spec": spec});
        DesiredSite::parse(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn what_is_unset_has_its_default() {
        let parsed = workspace(&json!({"apiUrl": "https://prefect.acme.internal/api/"})).unwrap();
        assert_eq!(parsed.api_url, "https://prefect.acme.internal/api");
        assert_eq!((parsed.auth, parsed.poll_interval), (WorkspaceAuth::None, Duration::from_secs(30)));
        let pat = json!({"personalAccessToken": {"secretRef": {"name": "pat"}}});
        let parsed = site(&json!({"serverUrl": "https://10ay.online.tableau.com", "auth": &pat})).unwrap();
        assert_eq!((parsed.content_url.as_str(), parsed.auth.secret()), ("", Some("pat")));
        assert_eq!(parsed.server_url, "https://10ay.online.tableau.com");
        assert_eq!((parsed.edition, parsed.limits), (Edition::Cloud, Limits::of(Edition::Cloud)));
        assert!(!parsed.suspend);
        let own = json!({"serverUrl": "https://online.tableau.com.example.com", "auth": pat, "limits": {"refreshesPerHour": 7}});
        let own = site(&own).unwrap();
        assert_eq!((own.edition, own.limits.per_hour, own.limits.running), (Edition::Server, Some(7), 10));
    }

    #[test]
    fn unions_and_bounds_hold_without_the_apiserver() {
        let secret = json!({"secretRef": {"name": "s"}});
        let url = "https://prefect.acme.internal/api";
        assert!(workspace(&json!({"apiUrl": url, "auth": {"basic": secret, "apiKey": secret}})).is_err());
        assert!(workspace(&json!({"apiUrl": url, "auth": {}})).is_err());
        let app = json!({"username": "svc", "secretRef": {"name": "s"}});
        let trust = |more: Value| {
            let mut trust = json!({"username": "svc", "tokenUrl": "https://idp.acme.internal/token"});
            trust.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            trust
        };
        let by_secret = trust(json!({"secretRef": {"name": "s"}}));
        for (auth, good) in [
            (json!({}), false),
            (json!({"personalAccessToken": secret}), true),
            (json!({"connectedApp": app}), true),
            (json!({"oauthTrust": by_secret}), true),
            (json!({"oauthTrust": trust(json!({"serviceAccountToken": {"audience": "a"}}))}), true),
            (json!({"oauthTrust": trust(json!({}))}), false),
            (
                json!({"oauthTrust": trust(json!({"secretRef": {"name": "s"}, "serviceAccountToken": {"audience": "a"}}))}),
                false,
            ),
            (
                json!({"oauthTrust": trust(json!({"secretRef": {"name": "s"}, "tokenUrl": "https://u:p@x"}))}),
                false,
            ),
            (json!({"personalAccessToken": secret, "connectedApp": app}), false),
            (json!({"connectedApp": app, "oauthTrust": by_secret}), false),
        ] {
            let parsed = site(&json!({"serverUrl": "https://t.acme.internal", "auth": auth}));
            assert_eq!(parsed.is_ok(), good, "{auth}");
        }
        for (every, good) in [("1s", true), ("10m", true), ("999ms", false), ("10m1s", false), ("1d", false)]
        {
            assert_eq!(workspace(&json!({"apiUrl": url, "pollInterval": every})).is_ok(), good, "{every}");
        }
        for bad in [
            "ftp://x.acme.internal",
            "https://",
            "https://u:p@x.acme.internal",
            "https://x.acme.internal/?a=b",
        ] {
            assert!(workspace(&json!({"apiUrl": bad})).is_err(), "{bad}");
        }
    }
}
