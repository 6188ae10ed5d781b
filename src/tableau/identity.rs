//! OAuth 2.0 trust: the company's identity provider makes the token that Tableau takes (client credentials, RFC 6749 4.4; a `ServiceAccount`'s
//! token as assertion, RFC 7523 2.2).

use super::jwt::{SCOPES, check};
use super::{IdentityError, TableauError};
use crate::http::{Call, Failure, Http, Method};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

/// An identity provider and who we are to it.
#[derive(Clone)]
pub struct IdentityProvider {
    /// HTTP to it, under the same rules as to Tableau.
    pub http: Http,
    /// Where tokens are asked for.
    pub token_url: Url,
    /// The Tableau user whose tokens it makes: claim `sub`.
    pub username: String,
    /// What is asked for; empty: the scopes that are used, by name.
    pub scopes: Vec<String>,
    /// Who we are to it.
    pub client: IdentityClient,
}

/// Who we are to an identity provider.
#[derive(Clone, Debug)]
pub enum IdentityClient {
    /// `client_secret_basic`.
    Secret {
        /// Client id.
        id: SecretString,
        /// Client secret.
        secret: SecretString,
    },
    /// The token of a Kubernetes `ServiceAccount` as `client_assertion`.
    ServiceAccount {
        /// Where the kubelet keeps it fresh.
        file: PathBuf,
        /// Client id, where the provider does not know it by the token alone.
        id: Option<String>,
    },
}

/// No secret and no URL is shown.
impl fmt::Debug for IdentityProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityProvider").field("http", &self.http).finish_non_exhaustive()
    }
}

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Deserialize)]
struct Granted {
    access_token: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl IdentityProvider {
    /// A fresh token, good for one sign-in.
    pub(super) async fn token(&self) -> Result<SecretString, TableauError> {
        let call = self.request().await?;
        let answer = self.http.send(call).await.map_err(|failure| match failure {
            Failure::NotSent(why) => IdentityError::Unreachable(why),
            Failure::Unanswered | Failure::TimedOut => IdentityError::Unanswered,
        })?;
        if !answer.status.is_success() {
            return Err(refusal(answer.status.as_u16(), &answer.body, answer.retry_after).into());
        }
        let granted: Granted =
            serde_json::from_slice(&answer.body).map_err(|_| IdentityError::WrongServer)?;
        let token = SecretString::from(granted.access_token);
        check(&token, &self.username)?;
        Ok(token)
    }

    async fn request(&self) -> Result<Call, IdentityError> {
        let scope = if self.scopes.is_empty() { SCOPES.join(" ") } else { self.scopes.join(" ") };
        let mut pairs = vec![("grant_type", "client_credentials"), ("scope", &scope)];
        let call = Call::new("token", Method::POST, self.token_url.clone());
        match &self.client {
            IdentityClient::Secret { id, secret } => {
                Ok(call.form(form(&pairs)).header(AUTHORIZATION, basic(id, secret)?))
            }
            IdentityClient::ServiceAccount { file, id } => {
                let read = tokio::fs::read_to_string(file).await.map_err(|_| IdentityError::NoAssertion)?;
                let assertion = SecretString::from(read);
                pairs.extend([
                    ("client_assertion_type", ASSERTION),
                    ("client_assertion", assertion.expose_secret().trim()),
                ]);
                pairs.extend(id.as_deref().map(|id| ("client_id", id)));
                Ok(call.form(form(&pairs)))
            }
        }
    }
}

fn form(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// RFC 6749 2.3.1: both parts are form-encoded first.
fn basic(id: &SecretString, secret: &SecretString) -> Result<HeaderValue, IdentityError> {
    let encode = |text: &SecretString| byte_serialize(text.expose_secret().as_bytes()).collect::<String>();
    let pair = SecretString::from(format!("{}:{}", encode(id), encode(secret)));
    let value = format!("Basic {}", BASE64_STANDARD.encode(pair.expose_secret()));
    let mut value = HeaderValue::from_str(&value).map_err(|_| IdentityError::Refused)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What an error means (RFC 6749 5.2). Only the standard's own words are looked at.
fn refusal(status: u16, body: &[u8], retry_after: Option<std::time::Duration>) -> IdentityError {
    let word = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error);
    match (status, word.as_deref()) {
        (429, _) => IdentityError::Throttled { retry_after },
        (500.., _) => IdentityError::Unanswered,
        (_, Ok("invalid_scope")) => IdentityError::MissingScope,
        (400 | 401 | 403, Ok(_)) | (401, Err(_)) => IdentityError::Refused,
        _ => IdentityError::WrongServer,
    }
}
