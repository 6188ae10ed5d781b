//! Where clients come from. A seam: tests of the whole controller put fakes here.

use crate::clock::Clock;
use crate::http::{AddressPolicy, CallRecord, Http, Outcome, Timeouts, Unreachable};
use crate::prefect::{Auth, Prefect, PrefectClient, PrefectError};
use crate::runtime::metrics::{Called, Metrics, Service};
use crate::tableau::{Credential, Leads, Tableau, TableauClient, TableauError};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use url::Url;

/// Makes clients.
pub trait Services: Send + Sync {
    /// A client of a Prefect API.
    ///
    /// # Errors
    /// The host of the URL is not allowed, or the credential holds what no header can.
    fn prefect(
        &self,
        api_url: &str,
        credential: &PrefectCredential,
    ) -> Result<Arc<dyn Prefect>, PrefectError>;
    /// A client of a Tableau site, which signs in only while this process leads.
    ///
    /// # Errors
    /// The host of the URL is not allowed.
    fn tableau(
        &self,
        server_url: &str,
        content_url: &str,
        credential: &TableauCredential,
        leads: Leads,
    ) -> Result<Arc<dyn Tableau>, TableauError>;
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

/// Who we are to Tableau: a personal access token.
#[derive(Clone, Debug)]
pub struct TableauCredential {
    /// Name of the token.
    pub name: SecretString,
    /// The token.
    pub secret: SecretString,
}

/// The real clients.
pub struct RealServices {
    /// Which hosts may be called.
    pub policy: AddressPolicy,
    /// Time.
    pub clock: Clock,
    /// Calls are counted here.
    pub metrics: Arc<Metrics>,
}

impl RealServices {
    fn http(&self, service: &'static str, base: &str) -> Result<Http, Unreachable> {
        let base = Url::parse(base).map_err(|_| Unreachable::HostNotAllowed(base.to_owned()))?;
        self.policy.check(&base)?;
        let metrics = self.metrics.clone();
        let http = Http::new(service, self.policy.clone(), self.clock.clone(), base, Timeouts::default())?;
        Ok(http.observed_by(Arc::new(move |call: &CallRecord| count(&metrics, call))))
    }
}

impl Services for RealServices {
    fn prefect(
        &self,
        api_url: &str,
        credential: &PrefectCredential,
    ) -> Result<Arc<dyn Prefect>, PrefectError> {
        let auth = match credential {
            PrefectCredential::None => Auth::None,
            PrefectCredential::Basic { username, password } => {
                Auth::Basic { username: username.expose_secret().to_owned(), password: password.clone() }
            }
            PrefectCredential::ApiKey(key) => Auth::ApiKey(key.clone()),
        };
        Ok(Arc::new(PrefectClient::new(self.http("prefect", api_url)?, auth)?))
    }

    fn tableau(
        &self,
        server_url: &str,
        content_url: &str,
        credential: &TableauCredential,
        leads: Leads,
    ) -> Result<Arc<dyn Tableau>, TableauError> {
        let credential = Credential::PersonalAccessToken {
            name: credential.name.clone(),
            secret: credential.secret.clone(),
        };
        Ok(Arc::new(TableauClient::new(self.http("tableau", server_url)?, content_url, credential, leads)))
    }
}

fn count(metrics: &Metrics, call: &CallRecord) {
    let service = if call.service == "prefect" { Service::Prefect } else { Service::Tableau };
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
