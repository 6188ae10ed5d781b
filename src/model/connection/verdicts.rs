//! What is so with a connection, in conditions (API.md 4).

use super::tableau::{self, Told};
use super::{
    BadConnection, ConnectionState, DesiredSite, DesiredWorkspace, SiteAuth, Support, TESTED, Trouble,
    WorkspaceAuth, is_cloud, support,
};
use crate::api::CaBundleKind;
use crate::model::conditions::{Truth, Verdict};

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
        Ok(spec) => verdicts(&Service::Tableau(&spec.auth), &spec.server_url, state),
        Err(bad) => unsupported(bad),
    }
}

enum Service<'a> {
    Prefect {
        /// It signs in with something.
        keyed: bool,
    },
    Tableau(&'a SiteAuth),
}

impl Service<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Prefect { .. } => "Prefect",
            Self::Tableau(_) => "Tableau",
        }
    }
}

fn verdicts(service: &Service<'_>, url: &str, state: &ConnectionState) -> Vec<Verdict> {
    let name = service.name();
    match state {
        ConnectionState::Connecting => {
            ready(Truth::Unknown, "Progressing", format!("Connects to {name} at {url}"), Some("Reconciling"))
        }
        ConnectionState::Connected { version } => {
            let advice = match (service, support(version)) {
                (Service::Prefect { .. }, Support::Old) => {
                    format!(
                        "; upgrade it to {TESTED} or later, since Feedwater is not tested with older ones"
                    )
                }
                (Service::Prefect { .. } | Service::Tableau(_), _) => String::new(),
            };
            ready(Truth::True, "Connected", format!("{name} {version} answers at {url}{advice}"), None)
        }
        ConnectionState::Suspended => ready(
            Truth::True,
            "Suspended",
            format!("spec.suspend is true: {name} is not called, and what needs it waits"),
            None,
        ),
        ConnectionState::SecretNotFound { name: secret } => wrong(
            "SecretNotFound",
            format!(
                "Secret `{secret}` does not exist in this namespace; create it or correct secretRef.name"
            ),
        ),
        ConnectionState::SecretAccessDenied { name: secret, namespace } => wrong(
            "SecretAccessDenied",
            format!(
                "The operator may not read Secret `{secret}`; apply the Role and RoleBinding of manifests/tenant in namespace \
                 `{namespace}` and name the Secret there"
            ),
        ),
        ConnectionState::SecretKeyMissing { name: secret, key } => wrong(
            "SecretKeyMissing",
            format!("Secret `{secret}` lacks the key `{key}`, or it is empty; set it"),
        ),
        ConnectionState::ConfigMapNotFound { name: map } => wrong(
            "ConfigMapNotFound",
            format!(
                "ConfigMap `{map}` does not exist in this namespace; create it or correct caBundleRef.name"
            ),
        ),
        ConnectionState::ConfigMapAccessDenied { name: map, namespace } => wrong(
            "ConfigMapAccessDenied",
            format!(
                "The operator may not read ConfigMap `{map}`; apply the Role and RoleBinding of manifests/tenant in namespace \
                 `{namespace}` and name the ConfigMap there"
            ),
        ),
        ConnectionState::ConfigMapKeyMissing { name: map, key } => wrong(
            "ConfigMapKeyMissing",
            format!(
                "ConfigMap `{map}` lacks the key `{key}`, or it is empty; set it or correct caBundleRef.key"
            ),
        ),
        ConnectionState::CaBundleInvalid { kind, name: holder, key } => {
            let kind = match kind {
                CaBundleKind::ConfigMap => "ConfigMap",
                CaBundleKind::Secret => "Secret",
            };
            wrong(
                "CaBundleInvalid",
                format!(
                    "Key `{key}` of {kind} `{holder}` holds no usable certificate; put the authority's there, in PEM"
                ),
            )
        }
        ConnectionState::HeaderInvalid { name: secret, key } => wrong(
            "HeaderInvalid",
            format!(
                "Key `{key}` of Secret `{secret}` cannot be sent as a header: it is Feedwater's own, or its name or value is none; take it \
                 out of the Secret or correct it"
            ),
        ),
        ConnectionState::Failed(trouble) => troubled(service, url, trouble),
    }
}

fn troubled(service: &Service<'_>, url: &str, trouble: &Trouble) -> Vec<Verdict> {
    let name = service.name();
    match trouble {
        Trouble::CredentialsRefused { worked_before } => credentials_refused(service, *worked_before),
        Trouble::SessionContested => wrong(
            "SessionContested",
            "Tableau ends each session at once: somebody else signs in with the same token; give Feedwater a token of its own",
        ),
        Trouble::MissingScope | Trouble::Identity(_) => signing_in(service, trouble),
        Trouble::PermissionDenied => wrong(
            "PermissionDenied",
            match service {
                Service::Prefect { .. } => {
                    "The credentials may not read deployments and flow runs; give them that right in Prefect, or let them through in a proxy \
                     before it"
                }
                Service::Tableau(_) => {
                    "The token's user may not read the site's jobs; make it a site administrator in Tableau"
                }
            },
        ),
        Trouble::HostNotAllowed { host } => stalled(
            "HostNotAllowed",
            format!(
                "Host `{host}` may not be called; correct the URL, or start the operator with --allowed-hosts={host}, which is then the whole \
                 list: name every other host in it too"
            ),
        ),
        Trouble::Dns => {
            wrong("DnsFailed", format!("The host name of {url} does not resolve; correct the URL or the DNS"))
        }
        Trouble::Tls => wrong(
            "TlsFailed",
            format!(
                "The certificate of {url} is not trusted or not for that host; use one for its name, of a public authority or of the one that \
                 spec.caBundleRef names"
            ),
        ),
        Trouble::Unreachable => wrong(
            "Unreachable",
            format!(
                "{name} does not answer at {url}; check that it runs and that the network lets the operator reach it"
            ),
        ),
        Trouble::ConnectionLost => wrong(
            "ConnectionLost",
            format!(
                "The connection to {url} ends before {name} has answered; check that the server and the proxies before it keep running"
            ),
        ),
        Trouble::TimedOut => wrong(
            "TimedOut",
            format!(
                "{name} at {url} accepts the connection and does not answer in time; check the server's load and its log"
            ),
        ),
        Trouble::ServiceUnavailable => wrong(
            "ServiceUnavailable",
            format!(
                "{name} at {url} is too busy to answer or its database is away (status 503); if that lasts, its log says why"
            ),
        ),
        Trouble::UnexpectedAnswer { status } => wrong(
            "UnexpectedAnswer",
            format!(
                "{name} at {url} answers what Feedwater asks with status {status}; the log of the server, or of a proxy before it, says why"
            ),
        ),
        Trouble::WrongServer => stalled("WrongServer", wrong_server(service, url)),
        Trouble::UnsupportedVersion { version, oldest } => stalled(
            "UnsupportedVersion",
            match service {
                Service::Prefect { .. } => {
                    format!("{name} at {url} has version {version}; upgrade it to {oldest} or later")
                }
                Service::Tableau(auth) => tableau::too_old(auth, url, version, oldest),
            },
        ),
        Trouble::RateLimited => {
            wrong("RateLimited", format!("{name} asks to slow down; a longer spec.pollInterval asks less"))
        }
        Trouble::SiteChanged => stalled(
            "SiteChanged",
            format!(
                "Another site than before answers at {url}; correct spec.serverUrl, or make another TableauSite for it"
            ),
        ),
    }
}

fn credentials_refused(service: &Service<'_>, worked_before: bool) -> Vec<Verdict> {
    match (service, worked_before) {
        (Service::Prefect { keyed: false }, _) => {
            wrong("CredentialsInvalid", "Prefect asks for credentials; set spec.auth")
        }
        (Service::Prefect { keyed: true }, _) => {
            wrong("CredentialsInvalid", "Prefect refuses the credentials; put valid ones into the Secret")
        }
        (Service::Tableau(auth), _) => as_told(tableau::refused(auth, worked_before)),
    }
}

/// What only Tableau's ways to sign in come to.
fn signing_in(service: &Service<'_>, trouble: &Trouble) -> Vec<Verdict> {
    match (service, trouble) {
        (Service::Tableau(auth), Trouble::Identity(trouble)) => as_told(tableau::identity(auth, trouble)),
        (Service::Tableau(auth), _) => as_told(tableau::missing_scope(auth)),
        (Service::Prefect { .. }, _) => credentials_refused(service, false),
    }
}

fn as_told(told: Told) -> Vec<Verdict> {
    if told.stalled { stalled(told.reason, told.message) } else { wrong(told.reason, told.message) }
}

fn wrong_server(service: &Service<'_>, url: &str) -> String {
    match service {
        Service::Prefect { .. } if is_cloud(url) => {
            format!(
                "Prefect Cloud has no account or workspace with the ids in {url}, or what answers is a proxy before it; correct spec.apiUrl, \
                 or make another PrefectWorkspace with the right ids, since spec.cloud cannot be changed"
            )
        }
        Service::Prefect { .. } => {
            format!(
                "What answers at {url} is not the API of Prefect; correct spec.apiUrl, host and path: it ends with /api on most servers"
            )
        }
        Service::Tableau(_) => {
            format!(
                "What answers at {url} is not Tableau; spec.serverUrl is the address of the server without any path"
            )
        }
    }
}

fn unsupported(bad: &BadConnection) -> Vec<Verdict> {
    stalled("UnsupportedSpec", format!("{bad}"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn workspace(state: &ConnectionState, auth: WorkspaceAuth) -> Vec<Verdict> {
        workspace_at("https://prefect.acme.internal/api", state, auth)
    }

    fn workspace_at(url: &str, state: &ConnectionState, auth: WorkspaceAuth) -> Vec<Verdict> {
        let api_url = url.to_owned();
        workspace_verdicts(
            &Ok(DesiredWorkspace {
                api_url,
                hosting: crate::api::PrefectHosting::SelfHosted,
                auth,
                headers: None,
                ca_bundle: None,
                poll_interval: Duration::from_secs(30),
                writes: 1,
                suspend: false,
                reports: true,
            }),
            state,
        )
    }

    fn site(state: &ConnectionState) -> Vec<Verdict> {
        site_verdicts(
            &Ok(DesiredSite {
                server_url: "https://tableau.acme.internal".into(),
                content_url: String::new(),
                auth: SiteAuth::PersonalAccessToken { secret: "pat".into() },
                headers: None,
                ca_bundle: None,
                poll_interval: Duration::from_secs(30),
                edition: crate::api::Edition::Server,
                limits: crate::model::budget::Limits::of(crate::api::Edition::Server),
                suspend: false,
            }),
            state,
        )
    }

    /// Reason, truth of Ready, what stands beside it, and what the message must name.
    #[test]
    fn each_state_has_its_reason_and_says_what_to_do() {
        use ConnectionState::{
            Connected, Connecting, Failed, SecretAccessDenied, SecretKeyMissing, SecretNotFound, Suspended,
        };
        use Truth::{False, True, Unknown};
        let host = || "prefect.acme.internal".to_owned();
        let table = [
            (Connecting, "Progressing", Unknown, Some("Reconciling"), "Connects"),
            (Connected { version: "3.9.1".into() }, "Connected", True, None, "3.9.1"),
            (SecretNotFound { name: "pat".into() }, "SecretNotFound", False, None, "`pat`"),
            (
                SecretAccessDenied { name: "pat".into(), namespace: "finance".into() },
                "SecretAccessDenied",
                False,
                None,
                "manifests/tenant in namespace `finance`",
            ),
            (
                SecretKeyMissing { name: "pat".into(), key: "secret".into() },
                "SecretKeyMissing",
                False,
                None,
                "`secret`",
            ),
            (
                Failed(Trouble::HostNotAllowed { host: host() }),
                "HostNotAllowed",
                False,
                Some("Stalled"),
                "--allowed-hosts=prefect.acme.internal",
            ),
            (Suspended, "Suspended", True, None, "Tableau is not called"),
            (Failed(Trouble::Dns), "DnsFailed", False, None, "resolve"),
            (Failed(Trouble::Tls), "TlsFailed", False, None, "certificate"),
            (Failed(Trouble::Unreachable), "Unreachable", False, None, "network"),
            (Failed(Trouble::WrongServer), "WrongServer", False, Some("Stalled"), "spec.serverUrl"),
            (
                Failed(Trouble::UnsupportedVersion { version: "3.4".into(), oldest: "3.8" }),
                "UnsupportedVersion",
                False,
                Some("Stalled"),
                "3.8 or later",
            ),
            (Failed(Trouble::RateLimited), "RateLimited", False, None, "pollInterval"),
            (Failed(Trouble::SiteChanged), "SiteChanged", False, Some("Stalled"), "another TableauSite"),
            (Failed(Trouble::SessionContested), "SessionContested", False, None, "token of its own"),
            (Failed(Trouble::PermissionDenied), "PermissionDenied", False, None, "site administrator"),
            (
                Failed(Trouble::CredentialsRefused { worked_before: true }),
                "PatRevoked",
                False,
                None,
                "revoked",
            ),
            (
                Failed(Trouble::CredentialsRefused { worked_before: false }),
                "CredentialsInvalid",
                False,
                None,
                "siteContentUrl",
            ),
        ];
        for (state, reason, truth, beside, names) in table {
            let verdicts = site(&state);
            let ready = &verdicts[0];
            assert_eq!((ready.kind, ready.reason, ready.truth), ("Ready", reason, truth), "{state:?}");
            assert!(ready.message.contains(names), "{}", ready.message);
            assert_eq!(
                verdicts.get(1).map(|v| (v.kind, v.reason)),
                beside.map(|kind| (kind, reason)),
                "{state:?}"
            );
        }
    }

    /// Reason, and what the message must name.
    #[test]
    fn what_only_prefects_connection_says() {
        use ConnectionState::{
            CaBundleInvalid, ConfigMapAccessDenied, ConfigMapKeyMissing, ConfigMapNotFound, Connected,
            Failed, HeaderInvalid, Suspended,
        };
        let (name, key) = (|| "corp".to_owned(), || "ca.crt".to_owned());
        for (state, reason, truth, names) in [
            (Connected { version: "3.3.1".into() }, "Connected", Truth::True, "upgrade it to 3.4.8"),
            (Suspended, "Suspended", Truth::True, "not called"),
            (ConfigMapNotFound { name: name() }, "ConfigMapNotFound", Truth::False, "`corp`"),
            (
                ConfigMapAccessDenied { name: name(), namespace: "finance".into() },
                "ConfigMapAccessDenied",
                Truth::False,
                "manifests/tenant in namespace `finance`",
            ),
            (
                ConfigMapKeyMissing { name: name(), key: key() },
                "ConfigMapKeyMissing",
                Truth::False,
                "`ca.crt`",
            ),
            (
                CaBundleInvalid { kind: CaBundleKind::ConfigMap, name: name(), key: key() },
                "CaBundleInvalid",
                Truth::False,
                "`ca.crt` of ConfigMap `corp`",
            ),
            (HeaderInvalid { name: name(), key: "Host".into() }, "HeaderInvalid", Truth::False, "`Host`"),
            (Failed(Trouble::ConnectionLost), "ConnectionLost", Truth::False, "proxies"),
            (Failed(Trouble::TimedOut), "TimedOut", Truth::False, "in time"),
            (Failed(Trouble::ServiceUnavailable), "ServiceUnavailable", Truth::False, "503"),
            (Failed(Trouble::UnexpectedAnswer { status: 418 }), "UnexpectedAnswer", Truth::False, "418"),
            (Failed(Trouble::Tls), "TlsFailed", Truth::False, "spec.caBundleRef"),
        ] {
            let ready = &workspace(&state, WorkspaceAuth::None)[0];
            assert_eq!((ready.reason, ready.truth), (reason, truth), "{state:?}");
            assert!(ready.message.contains(names), "{}", ready.message);
        }
    }

    /// Where the address is right by construction, other words are of use.
    #[test]
    fn the_wrong_server_is_mended_by_the_address_or_by_the_ids_of_the_cloud() {
        let cloud = "https://api.prefect.cloud/api/accounts/a/workspaces/w";
        for (url, names) in
            [("https://prefect.acme.internal", "it ends with /api"), (cloud, "with the right ids")]
        {
            let ready =
                &workspace_at(url, &ConnectionState::Failed(Trouble::WrongServer), WorkspaceAuth::None)[0];
            assert_eq!(ready.reason, "WrongServer");
            assert!(ready.message.contains(url) && ready.message.contains(names), "{}", ready.message);
        }
    }

    #[test]
    fn prefect_keys_are_never_revoked_tokens() {
        let refused = ConnectionState::Failed(Trouble::CredentialsRefused { worked_before: true });
        for (auth, names) in [
            (WorkspaceAuth::None, "set spec.auth"),
            (WorkspaceAuth::ApiKey { secret: "s".into() }, "the Secret"),
        ] {
            let verdicts = workspace(&refused, auth);
            assert_eq!(verdicts[0].reason, "CredentialsInvalid");
            assert!(verdicts[0].message.contains(names));
        }
    }

    #[test]
    fn a_spec_that_cannot_be_used_stalls() {
        let verdicts = workspace_verdicts(
            &Err(BadConnection("spec.auth needs one".into())),
            &ConnectionState::Connecting,
        );
        assert_eq!((verdicts[0].reason, verdicts[1].kind), ("UnsupportedSpec", "Stalled"));
    }
}
