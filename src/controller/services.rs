//! Where clients come from. A seam: tests of the whole controller put fakes here.

use crate::http::Unreachable;
use crate::prefect::Prefect;
use crate::tableau::Tableau;
use secrecy::SecretString;
use std::sync::Arc;

/// Makes clients.
pub trait Services: Send + Sync {
    /// A client of a Prefect API.
    ///
    /// # Errors
    /// The host of the URL is not allowed.
    fn prefect(&self, api_url: &str, credential: &PrefectCredential) -> Result<Arc<dyn Prefect>, Unreachable>;
    /// A client of a Tableau site.
    ///
    /// # Errors
    /// The host of the URL is not allowed.
    fn tableau(
        &self,
        server_url: &str,
        content_url: &str,
        credential: &TableauCredential,
    ) -> Result<Arc<dyn Tableau>, Unreachable>;
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
