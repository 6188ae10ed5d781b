//! Where clients come from. A seam: tests of the whole controller put fakes here.

use crate::api::PrefectHosting;
use crate::clock::Clock;
use crate::http::{AddressPolicy, Authorities, CallRecord, HeaderMap, Http, Outcome, Timeouts, Unreachable};
use crate::model::connection::TokenGrant;
use crate::prefect::{Auth, Prefect, PrefectClient, PrefectError};
use crate::runtime::metrics::{Called, Metrics, Service};
use crate::tableau::{
    ConnectedApp, Credential, IdentityClient, IdentityError, IdentityProvider, Leads, Tableau, TableauClient,
    TableauError,
};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use url::Url;

/// Makes clients.
pub trait Services: Send + Sync {
    /// A client of a Prefect API.
    ///
    /// # Errors
    /// The host of the URL is not allowed, or the credential holds what no header can.
    fn prefect(&self, access: &PrefectAccess) -> Result<Arc<dyn Prefect>, PrefectError>;
    /// A client of a Tableau site, which signs in only while this process leads.
    ///
    /// # Errors
    /// The host of a URL is not allowed, or the operator may not sign in so.
    fn tableau(&self, access: &TableauAccess, leads: Leads) -> Result<Arc<dyn Tableau>, TableauError>;
}

/// Where a Prefect API is, and how it is reached.
#[derive(Clone, Debug)]
pub struct PrefectAccess {
    /// Base URL of the API.
    pub api_url: String,
    /// Who runs it.
    pub hosting: PrefectHosting,
    /// Who we are.
    pub credential: PrefectCredential,
    /// Headers of every request; those that are secret are marked so.
    pub headers: HeaderMap,
    /// A private authority.
    pub authorities: Option<Authorities>,
}

/// Who we are to Prefect.
#[derive(Clone, Debug)]
pub enum PrefectCredential {
    /// Nobody.
    None,
    /// Basic auth.
    Basic {
        /// User name.
        username: SecretString,
        /// Password.
        password: SecretString,
    },
    /// A bearer token.
    ApiKey(SecretString),
}

/// Where a Tableau site is, and how it is reached.
#[derive(Clone, Debug)]
pub struct TableauAccess {
    /// Base URL of the server.
    pub server_url: String,
    /// Content URL of the site.
    pub content_url: String,
    /// Who we are.
    pub credential: TableauCredential,
    /// Headers of every request to Tableau; those that are secret are marked so.
    pub headers: HeaderMap,
    /// A private authority, of Tableau and of the identity provider.
    pub authorities: Option<Authorities>,
}

/// Who we are to Tableau.
#[derive(Clone, Debug)]
pub enum TableauCredential {
    /// A personal access token.
    PersonalAccessToken {
        /// Name of the token.
        name: SecretString,
        /// The token.
        secret: SecretString,
    },
    /// A connected app with direct trust.
    ConnectedApp(ConnectedApp),
    /// A connected app with OAuth 2.0 trust.
    OAuthTrust {
        /// The Tableau user.
        username: String,
        /// The identity provider's token endpoint.
        token_url: String,
        /// What it is asked for; empty: the scopes that are used.
        scopes: Vec<String>,
        /// Who we are to it.
        client: TrustCredential,
    },
}

/// Who we are to an identity provider.
#[derive(Clone, Debug)]
pub enum TrustCredential {
    /// A client with a secret.
    Secret {
        /// Client id.
        id: SecretString,
        /// Client secret.
        secret: SecretString,
    },
    /// The operator's own `ServiceAccount`.
    ServiceAccount {
        /// Namespace of the resource that asks for it.
        namespace: String,
        /// Audience of the token.
        audience: String,
        /// Client id, where one is sent.
        id: Option<String>,
    },
}

/// The real clients.
pub struct RealServices {
    /// Which hosts may be called.
    pub policy: AddressPolicy,
    /// Time.
    pub clock: Clock,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Calls are counted here.
    pub metrics: Arc<Metrics>,
    /// Which identity providers may get the operator's `ServiceAccount` token.
    pub token_grants: Vec<TokenGrant>,
}

impl RealServices {
    fn http(&self, service: &'static str, base: &str) -> Result<Http, Unreachable> {
        let base = Url::parse(base).map_err(|_| Unreachable::HostNotAllowed(base.to_owned()))?;
        self.policy.check(&base)?;
        let metrics = self.metrics.clone();
        let http = Http::new(service, self.policy.clone(), self.clock.clone(), base, self.timeouts)?;
        Ok(http.observed_by(Arc::new(move |call: &CallRecord| count(&metrics, call))))
    }

    fn reached(
        &self,
        service: &'static str,
        base: &str,
        authorities: Option<&Authorities>,
    ) -> Result<Http, Unreachable> {
        let http = self.http(service, base)?;
        match authorities {
            Some(authorities) => http.trusting(authorities.clone()),
            None => Ok(http),
        }
    }

    /// The client of a Prefect API, also for those who ask more of it than the operator does.
    ///
    /// # Errors
    /// The host of the URL is not allowed, or the credential holds what no header can.
    pub fn prefect_client(&self, access: &PrefectAccess) -> Result<PrefectClient, PrefectError> {
        let auth = match &access.credential {
            PrefectCredential::None => Auth::None,
            PrefectCredential::Basic { username, password } => {
                Auth::Basic { username: username.expose_secret().to_owned(), password: password.clone() }
            }
            PrefectCredential::ApiKey(key) => Auth::ApiKey(key.clone()),
        };
        let http = self.reached("prefect", &access.api_url, access.authorities.as_ref())?;
        let http = http.with_headers(access.headers.clone());
        Ok(PrefectClient::new(http, auth)?.hosted(access.hosting))
    }

    fn credential(&self, access: &TableauAccess) -> Result<Credential, TableauError> {
        Ok(match &access.credential {
            TableauCredential::PersonalAccessToken { name, secret } => {
                Credential::PersonalAccessToken { name: name.clone(), secret: secret.clone() }
            }
            TableauCredential::ConnectedApp(app) => Credential::ConnectedApp(app.clone()),
            TableauCredential::OAuthTrust { username, token_url, scopes, client } => {
                Credential::OAuthTrust(Box::new(IdentityProvider {
                    client: self.identity_client(client, token_url)?,
                    http: self
                        .reached("idp", token_url, access.authorities.as_ref())
                        .map_err(IdentityError::Unreachable)?,
                    token_url: Url::parse(token_url).map_err(|_| IdentityError::WrongServer)?,
                    username: username.clone(),
                    scopes: scopes.clone(),
                }))
            }
        })
    }

    fn identity_client(
        &self,
        client: &TrustCredential,
        token_url: &str,
    ) -> Result<IdentityClient, IdentityError> {
        match client {
            TrustCredential::Secret { id, secret } => {
                Ok(IdentityClient::Secret { id: id.clone(), secret: secret.clone() })
            }
            TrustCredential::ServiceAccount { namespace, audience, id } => {
                let grant =
                    self.token_grants.iter().find(|grant| grant.covers(namespace, audience, token_url));
                let file = grant.ok_or(IdentityError::NotGranted)?.file.clone();
                Ok(IdentityClient::ServiceAccount { file, id: id.clone() })
            }
        }
    }
}

impl Services for RealServices {
    fn prefect(&self, access: &PrefectAccess) -> Result<Arc<dyn Prefect>, PrefectError> {
        Ok(Arc::new(self.prefect_client(access)?))
    }

    fn tableau(&self, access: &TableauAccess, leads: Leads) -> Result<Arc<dyn Tableau>, TableauError> {
        let http = self.reached("tableau", &access.server_url, access.authorities.as_ref())?;
        let http = http.with_headers(access.headers.clone());
        let credential = self.credential(access)?;
        Ok(Arc::new(TableauClient::new(http, &*access.content_url, credential, leads)))
    }
}

fn count(metrics: &Metrics, call: &CallRecord) {
    let service = match call.service {
        "prefect" => Service::Prefect,
        "idp" => Service::IdentityProvider,
        _ => Service::Tableau,
    };
    let outcome = match call.outcome {
        Outcome::Success => Called::Ok,
        Outcome::Redirect | Outcome::Refused => Called::Rejected,
        Outcome::Throttled => Called::Throttled,
        Outcome::ServerError => Called::ServerError,
        Outcome::Unanswered => Called::Ambiguous,
        Outcome::Unreachable => Called::Unreachable,
    };
    metrics.called(service, call.operation, outcome, call.duration);
}
