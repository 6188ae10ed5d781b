//! What is particular to Tableau: the ways to sign in, and what goes wrong with an identity provider.

use super::{BadConnection, whole_url};
use crate::api::TableauAuth;

/// How a site signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteAuth {
    /// Secret keys `name`, `secret`.
    PersonalAccessToken {
        /// Name of the Secret.
        secret: String,
    },
    /// Direct trust: Secret keys `clientId`, `secretId`, `secretValue`.
    ConnectedApp {
        /// The Tableau user.
        username: String,
        /// Name of the Secret.
        secret: String,
    },
    /// OAuth 2.0 trust.
    OAuthTrust {
        /// The Tableau user.
        username: String,
        /// The identity provider's token endpoint.
        token_url: String,
        /// What it is asked for; empty: the scopes that are used, by name.
        scopes: Vec<String>,
        /// Who we are to it.
        client: TrustClient,
    },
}

/// Who we are to an identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustClient {
    /// Secret keys `clientId`, `clientSecret`.
    Secret {
        /// Name of the Secret.
        secret: String,
    },
    /// The token of the operator's `ServiceAccount`.
    ServiceAccount {
        /// Its audience.
        audience: String,
        /// Client id, where one is sent.
        id: Option<String>,
    },
}

impl SiteAuth {
    pub(super) fn parse(auth: &TableauAuth) -> Result<Self, BadConnection> {
        match (&auth.personal_access_token, &auth.connected_app, &auth.oauth_trust) {
            (Some(token), None, None) => {
                Ok(Self::PersonalAccessToken { secret: token.secret_ref.name.clone() })
            }
            (None, Some(app), None) => {
                Ok(Self::ConnectedApp { username: app.username.clone(), secret: app.secret_ref.name.clone() })
            }
            (None, None, Some(trust)) => {
                let client = match (&trust.secret_ref, &trust.service_account_token) {
                    (Some(secret), None) => TrustClient::Secret { secret: secret.name.clone() },
                    (None, Some(token)) => TrustClient::ServiceAccount {
                        audience: token.audience.clone(),
                        id: token.client_id.clone(),
                    },
                    (None, None) | (Some(_), Some(_)) => {
                        return Err(BadConnection(
                            "spec.auth.oauthTrust needs exactly one of secretRef, serviceAccountToken".into(),
                        ));
                    }
                };
                Ok(Self::OAuthTrust {
                    username: trust.username.clone(),
                    token_url: whole_url(&trust.token_url, "spec.auth.oauthTrust.tokenUrl")?,
                    scopes: trust.scopes.clone().unwrap_or_default(),
                    client,
                })
            }
            _ => Err(BadConnection(
                "spec.auth needs exactly one of personalAccessToken, connectedApp, oauthTrust".into(),
            )),
        }
    }

    /// Name of its Secret.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::PersonalAccessToken { secret }
            | Self::ConnectedApp { secret, .. }
            | Self::OAuthTrust { client: TrustClient::Secret { secret }, .. } => Some(secret),
            Self::OAuthTrust { client: TrustClient::ServiceAccount { .. }, .. } => None,
        }
    }
}

/// Why an identity provider gives no token that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityTrouble {
    /// The operator was not started with such a token for this provider and namespace.
    NotGranted,
    /// The operator's own token cannot be read.
    NoAssertion,
    /// It refuses the client.
    Refused,
    /// Its token is no JWT.
    NoToken,
    /// This claim of its token is missing, or not as Tableau wants it.
    Claim(&'static str),
    /// It is no token endpoint.
    WrongServer,
    /// It asks to slow down.
    RateLimited,
    /// Its name does not resolve.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// No connection, or no answer.
    Unreachable,
}

/// A reason, and what is wrong and what to do.
pub(super) struct Told {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Only a person can help.
    pub(super) stalled: bool,
}

fn told(reason: &'static str, message: impl Into<String>) -> Told {
    Told { reason, message: message.into(), stalled: false }
}

/// Tableau refuses the sign-in; whether this very credential had signed in before.
pub(super) fn refused(auth: &SiteAuth, worked_before: bool) -> Told {
    match (auth, worked_before) {
        (SiteAuth::PersonalAccessToken { .. }, true) => told(
            "PatRevoked",
            "Tableau no longer accepts the personal access token, which worked before: it was revoked or has expired; put a new one into \
             the Secret",
        ),
        (SiteAuth::PersonalAccessToken { .. }, false) => told(
            "CredentialsInvalid",
            "Tableau refuses the personal access token; check its name and secret in the Secret, and spec.siteContentUrl",
        ),
        (SiteAuth::ConnectedApp { username, .. }, _) => told(
            "CredentialsInvalid",
            format!(
                "Tableau refuses the connected app; check clientId, secretId and secretValue in the Secret, that the app is enabled, that \
                 `{username}` is the name of a user of the site, and spec.siteContentUrl"
            ),
        ),
        (SiteAuth::OAuthTrust { username, .. }, _) => told(
            "CredentialsInvalid",
            format!(
                "Tableau refuses the identity provider's token; check that its issuer is registered with the site, that its tokens end within \
                 ten minutes, that `{username}` is the name of a user of the site, and spec.siteContentUrl"
            ),
        ),
    }
}

/// Tableau refuses a call because of its scope.
pub(super) fn missing_scope(auth: &SiteAuth) -> Told {
    let message = match auth {
        SiteAuth::OAuthTrust { .. } => {
            "The identity provider's token lacks scopes; have it put tableau:content:read, tableau:jobs:read, tableau:jobs:update and \
             tableau:tasks:* into claim scp, a list"
        }
        SiteAuth::ConnectedApp { .. } | SiteAuth::PersonalAccessToken { .. } => {
            "Tableau refuses a call that Feedwater's token has the scope for: this Tableau does not let connected apps make it; upgrade \
             Tableau or sign in with a personal access token"
        }
    };
    told("MissingScope", message)
}

/// A server that is too old to take tokens of connected apps.
pub(super) fn too_old(auth: &SiteAuth, url: &str, version: &str, oldest: &str) -> String {
    let what = format!("Tableau at {url} has REST API {version}; upgrade it to {oldest} or later");
    match auth {
        SiteAuth::PersonalAccessToken { .. } => what,
        SiteAuth::ConnectedApp { .. } | SiteAuth::OAuthTrust { .. } => {
            format!("{what}, or sign in with a personal access token")
        }
    }
}

/// The identity provider gives no token that is good.
pub(super) fn identity(auth: &SiteAuth, trouble: &IdentityTrouble) -> Told {
    let SiteAuth::OAuthTrust { username, token_url, client, .. } = auth else {
        // Of a spec that was changed since.
        return told(
            "CredentialsInvalid",
            "The identity provider gives no token that is good; check spec.auth",
        );
    };
    match trouble {
        IdentityTrouble::NotGranted => Told {
            reason: "AccessDenied",
            message: "The operator has no ServiceAccount token of this audience for this tokenUrl and namespace; start it with one \
                      (--service-account-token) or correct spec.auth.oauthTrust"
                .into(),
            stalled: true,
        },
        IdentityTrouble::NoAssertion => told(
            "CredentialsInvalid",
            "The file that --service-account-token names cannot be read; mount a projected ServiceAccount token there in the operator's pod",
        ),
        IdentityTrouble::Refused => told(
            "CredentialsInvalid",
            match client {
                TrustClient::Secret { .. } => {
                    "The identity provider refuses the client; check clientId and clientSecret in the Secret, and that the client may use \
                     client_secret_basic and client_credentials"
                }
                TrustClient::ServiceAccount { .. } => {
                    "The identity provider refuses the operator's ServiceAccount token; let it trust the cluster's issuer, that ServiceAccount \
                     and this audience"
                }
            },
        ),
        IdentityTrouble::NoToken => told(
            "CredentialsInvalid",
            "The identity provider's access token is no JWT; have it issue JWT access tokens for the audience tableau",
        ),
        IdentityTrouble::Claim("sub") => told(
            "CredentialsInvalid",
            format!("Claim sub of the identity provider's token is not `{username}`; have it put that name there"),
        ),
        IdentityTrouble::Claim("aud") => told(
            "CredentialsInvalid",
            "Claim aud of the identity provider's token is not `tableau`; have it issue tokens for that audience",
        ),
        IdentityTrouble::Claim(claim) => told(
            "CredentialsInvalid",
            format!("The identity provider's token lacks claim {claim} in the form that Tableau wants; have it put it there"),
        ),
        IdentityTrouble::WrongServer => Told {
            reason: "WrongServer",
            message: format!("What answers at {token_url} is no OAuth token endpoint; correct spec.auth.oauthTrust.tokenUrl"),
            stalled: true,
        },
        IdentityTrouble::RateLimited => {
            told("RateLimited", format!("The identity provider at {token_url} asks to slow down; ask it for a higher limit"))
        }
        IdentityTrouble::Dns => {
            told("DnsFailed", format!("The host name of {token_url} does not resolve; correct the URL or the DNS"))
        }
        IdentityTrouble::Tls => told(
            "TlsFailed",
            format!(
                "The certificate of {token_url} is not trusted or not for that host; use one for its name, of a public authority or of the one \
                 that spec.caBundleRef names"
            ),
        ),
        IdentityTrouble::Unreachable => told(
            "Unreachable",
            format!(
                "The identity provider does not answer at {token_url}; check that it runs and that the network lets the operator reach it"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_of_each_way_says_what_to_do() {
        let app = SiteAuth::ConnectedApp { username: "svc".into(), secret: "app".into() };
        let trust = |client| SiteAuth::OAuthTrust {
            username: "svc".into(),
            token_url: "https://idp.acme.com/token".into(),
            scopes: Vec::new(),
            client,
        };
        let by_secret = trust(TrustClient::Secret { secret: "idp".into() });
        let by_account = trust(TrustClient::ServiceAccount { audience: "a".into(), id: None });
        let url = "https://idp.acme.com/token";
        for (told, reason, stalled, names) in [
            (refused(&app, true), "CredentialsInvalid", false, "secretId"),
            (refused(&by_secret, true), "CredentialsInvalid", false, "registered"),
            (missing_scope(&app), "MissingScope", false, "upgrade"),
            (missing_scope(&by_secret), "MissingScope", false, "tableau:tasks:*"),
            (
                identity(&by_account, &IdentityTrouble::NotGranted),
                "AccessDenied",
                true,
                "--service-account-token",
            ),
            (identity(&by_account, &IdentityTrouble::NoAssertion), "CredentialsInvalid", false, "mount"),
            (identity(&by_account, &IdentityTrouble::Refused), "CredentialsInvalid", false, "issuer"),
            (identity(&by_secret, &IdentityTrouble::Refused), "CredentialsInvalid", false, "clientSecret"),
            (identity(&by_secret, &IdentityTrouble::NoToken), "CredentialsInvalid", false, "JWT"),
            (identity(&by_secret, &IdentityTrouble::Claim("sub")), "CredentialsInvalid", false, "`svc`"),
            (identity(&by_secret, &IdentityTrouble::Claim("aud")), "CredentialsInvalid", false, "`tableau`"),
            (identity(&by_secret, &IdentityTrouble::Claim("scp")), "CredentialsInvalid", false, "claim scp"),
            (identity(&by_secret, &IdentityTrouble::WrongServer), "WrongServer", true, url),
            (identity(&by_secret, &IdentityTrouble::RateLimited), "RateLimited", false, url),
            (identity(&by_secret, &IdentityTrouble::Dns), "DnsFailed", false, url),
            (identity(&by_secret, &IdentityTrouble::Tls), "TlsFailed", false, "caBundleRef"),
            (identity(&by_secret, &IdentityTrouble::Unreachable), "Unreachable", false, url),
        ] {
            assert_eq!((told.reason, told.stalled), (reason, stalled), "{}", told.message);
            assert!(told.message.contains(names), "{}", told.message);
        }
        assert!(too_old(&app, "https://t", "3.14", "3.17").contains("personal access token"));
    }
}
