//! Signing in: one session, one sign-in at a time. A second sign-in with a personal access token ends the session of the first.

use super::identity::IdentityProvider;
use super::jwt::ConnectedApp;
use super::{TableauError, wire};
use crate::http::{Answer, Call, Http, Method};
use crate::model::ids::SiteLuid;
use crate::model::time::Moment;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Carries the session's token.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-tableau-auth");

/// A session is renewed at this age: Cloud ends it at 120 minutes, Server at 240.
const RENEW_AT: Duration = Duration::from_secs(100 * 60);
/// After a refused sign-in none is tried for this long, doubling up to the next: too many lock the account.
const REFUSED_FIRST: Duration = Duration::from_secs(30);
const REFUSED_MOST: Duration = Duration::from_secs(10 * 60);
/// The newest version of the REST API whose answers are known.
const NEWEST: (u32, u32) = (3, 27);
/// The oldest with everything that is needed; with a JWT, the oldest that takes one (reference 2.2).
const OLDEST: Oldest = Oldest { version: (3, 8), text: "3.8" };
const OLDEST_WITH_JWT: Oldest = Oldest { version: (3, 17), text: "3.17" };

struct Oldest {
    version: (u32, u32),
    text: &'static str,
}

/// How to sign in.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A personal access token: one live session at a time.
    PersonalAccessToken {
        /// Its name.
        name: SecretString,
        /// Its secret.
        secret: SecretString,
    },
    /// A connected app with direct trust: we make the token.
    ConnectedApp(ConnectedApp),
    /// A connected app with OAuth 2.0 trust: an identity provider makes the token.
    OAuthTrust(Box<IdentityProvider>),
}

impl Credential {
    fn oldest(&self) -> &'static Oldest {
        match self {
            Self::PersonalAccessToken { .. } => &OLDEST,
            Self::ConnectedApp(_) | Self::OAuthTrust(_) => &OLDEST_WITH_JWT,
        }
    }

    /// What is meant by a 401 of a session that was made just now: nobody can end the session of a JWT, and its token has scopes (reference 1.7).
    fn refused_again(&self) -> TableauError {
        match self {
            Self::PersonalAccessToken { .. } => TableauError::SessionContested,
            Self::ConnectedApp(_) | Self::OAuthTrust(_) => TableauError::MissingScope,
        }
    }
}

/// Whether this process leads at this moment. Asked before each sign-in: one that stood still would end its successor's session.
pub type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// A live session.
pub(super) struct Session {
    /// `X-Tableau-Auth`, marked sensitive.
    pub(super) token: HeaderValue,
    pub(super) site: SiteLuid,
    /// Version of the REST API in use.
    pub(super) version: Arc<str>,
    born: Moment,
}

/// Keeps the one session.
pub(super) struct Sessions {
    credential: Credential,
    site_content_url: String,
    leads: Leads,
    /// Held while signing in, so that all wait for the same sign-in.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    version: Option<Arc<str>>,
    session: Option<Arc<Session>>,
    refused: Option<Refused>,
}

#[derive(Clone)]
struct Refused {
    until: Moment,
    wait: Duration,
    error: TableauError,
}

impl Sessions {
    pub(super) fn new(credential: Credential, site_content_url: String, leads: Leads) -> Self {
        Self { credential, site_content_url, leads, state: Mutex::default() }
    }

    /// The session, young enough for a call.
    pub(super) async fn get(&self, http: &Http) -> Result<Arc<Session>, TableauError> {
        let mut state = self.state.lock().await;
        match &state.session {
            Some(session) if http.clock().moment().since(session.born) < RENEW_AT => Ok(session.clone()),
            _ => self.sign_in(&mut state, http).await,
        }
    }

    /// Another session than the one that was answered with 401: somebody else's newer one, or a new sign-in.
    pub(super) async fn renew(
        &self,
        http: &Http,
        refused: &Arc<Session>,
    ) -> Result<Arc<Session>, TableauError> {
        let mut state = self.state.lock().await;
        match &state.session {
            Some(session) if !Arc::ptr_eq(session, refused) => Ok(session.clone()),
            _ => self.sign_in(&mut state, http).await,
        }
    }

    /// Takes the session away, to end it.
    pub(super) async fn take(&self) -> Option<Arc<Session>> {
        self.state.lock().await.session.take()
    }

    async fn sign_in(&self, state: &mut State, http: &Http) -> Result<Arc<Session>, TableauError> {
        state.session = None;
        if let Some(refused) = state.refused.as_ref().filter(|refused| http.clock().moment() < refused.until)
        {
            return Err(refused.error.clone());
        }
        let version = match &state.version {
            Some(version) => version.clone(),
            None => state.version.insert(discover(http, self.credential.oldest()).await?).clone(),
        };
        if !(self.leads)() {
            return Err(TableauError::NotLeading);
        }
        let credentials = match self.credentials(http).await {
            Ok(credentials) => credentials,
            Err(TableauError::Identity(error)) if error.is_refusal() => {
                return Err(state.refuse(http, error.into()));
            }
            Err(error) => return Err(error),
        };
        let answer = http.send(self.request(http, &version, credentials)?).await?;
        if answer.status == 404 {
            // Perhaps another server answers there now, which does not know this version.
            state.version = None;
        }
        if answer.status == 401 {
            return Err(state.refuse(http, TableauError::SignInRefused));
        }
        let session = Arc::new(session(&answer, version, http.clock().moment())?);
        state.refused = None;
        state.session = Some(session.clone());
        Ok(session)
    }

    /// What a call came to that was answered with 401 in a session made for it.
    pub(super) fn refused_again(&self) -> TableauError {
        self.credential.refused_again()
    }

    /// `credentials` of the sign-in. Secrets are exposed only into the request.
    async fn credentials(&self, http: &Http) -> Result<Value, TableauError> {
        let jwt = match &self.credential {
            Credential::PersonalAccessToken { name, secret } => {
                return Ok(json!({
                    "personalAccessTokenName": name.expose_secret(),
                    "personalAccessTokenSecret": secret.expose_secret(),
                }));
            }
            Credential::ConnectedApp(app) => {
                // Tableau measures by its own clock.
                let moment = http.clock().moment();
                let now = http.reading().map_or_else(|| http.clock().now(), |reading| reading.lower(moment));
                app.token(now, &uuid::Uuid::new_v4().to_string())
            }
            Credential::OAuthTrust(provider) => provider.token().await?,
        };
        Ok(json!({"jwt": jwt.expose_secret()}))
    }

    fn request(&self, http: &Http, version: &str, mut credentials: Value) -> Result<Call, TableauError> {
        let url = http.url(&["api", version, "auth", "signin"]).ok_or(TableauError::WrongServer)?;
        credentials["site"] = json!({"contentUrl": self.site_content_url});
        Ok(Call::new("sign_in", Method::POST, url).json(json!({ "credentials": credentials })))
    }
}

impl State {
    /// None is tried again for a while, longer each time.
    fn refuse(&mut self, http: &Http, error: TableauError) -> TableauError {
        let wait =
            self.refused.as_ref().map_or(REFUSED_FIRST, |refused| (refused.wait * 2).min(REFUSED_MOST));
        let until = http.clock().moment().plus(wait);
        self.refused = Some(Refused { until, wait, error: error.clone() });
        error
    }
}

/// Asks which version of the REST API the server speaks; every server knows 2.4's question.
async fn discover(http: &Http, oldest: &Oldest) -> Result<Arc<str>, TableauError> {
    let url = http.url(&["api", "2.4", "serverinfo"]).ok_or(TableauError::WrongServer)?;
    let answer = http.send(Call::new("server_info", Method::GET, url)).await?;
    match super::client::success(&answer) {
        Ok(()) => {}
        Err(TableauError::NotFound(_)) => return Err(TableauError::WrongServer),
        Err(error) => return Err(error),
    }
    let told = wire::rest_api_version(&answer.body).ok_or(TableauError::WrongServer)?;
    if told < oldest.version {
        let version = format!("{}.{}", told.0, told.1);
        return Err(TableauError::UnsupportedVersion { version, oldest: oldest.text });
    }
    let (major, minor) = told.min(NEWEST);
    Ok(format!("{major}.{minor}").into())
}

fn session(answer: &Answer, version: Arc<str>, born: Moment) -> Result<Session, TableauError> {
    super::client::success(answer)?;
    let body: wire::SignedIn = serde_json::from_slice(&answer.body).map_err(|_| TableauError::WrongServer)?;
    let token = SecretString::from(body.credentials.token);
    let mut token = HeaderValue::from_str(token.expose_secret()).map_err(|_| TableauError::WrongServer)?;
    token.set_sensitive(true);
    Ok(Session { token, site: body.credentials.site.id.into(), version, born })
}
