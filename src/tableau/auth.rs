//! Signing in: one session, one sign-in at a time. A second sign-in with a personal access token ends the session of the first.

use super::{TableauError, wire};
use crate::http::{Answer, Call, Http, Method};
use crate::model::ids::SiteLuid;
use crate::model::time::Moment;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
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
/// The oldest with everything that is needed.
const OLDEST: (u32, u32) = (3, 8);

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

#[derive(Clone, Copy)]
struct Refused {
    until: Moment,
    wait: Duration,
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
        if state.refused.is_some_and(|refused| http.clock().moment() < refused.until) {
            return Err(TableauError::SignInRefused);
        }
        let version = match &state.version {
            Some(version) => version.clone(),
            None => state.version.insert(discover(http).await?).clone(),
        };
        if !(self.leads)() {
            return Err(TableauError::NotLeading);
        }
        let answer = http.send(self.request(http, &version)?).await?;
        if answer.status == 404 {
            // Perhaps another server answers there now, which does not know this version.
            state.version = None;
        }
        if answer.status == 401 {
            let wait = state.refused.map_or(REFUSED_FIRST, |refused| (refused.wait * 2).min(REFUSED_MOST));
            state.refused = Some(Refused { until: http.clock().moment().plus(wait), wait });
            return Err(TableauError::SignInRefused);
        }
        let session = Arc::new(session(&answer, version, http.clock().moment())?);
        state.refused = None;
        state.session = Some(session.clone());
        Ok(session)
    }

    fn request(&self, http: &Http, version: &str) -> Result<Call, TableauError> {
        let url = http.url(&["api", version, "auth", "signin"]).ok_or(TableauError::WrongServer)?;
        let Credential::PersonalAccessToken { name, secret } = &self.credential;
        // The secret is exposed only into the request.
        let body = json!({"credentials": {
            "personalAccessTokenName": name.expose_secret(),
            "personalAccessTokenSecret": secret.expose_secret(),
            "site": {"contentUrl": self.site_content_url},
        }});
        Ok(Call::new("sign_in", Method::POST, url).json(body))
    }
}

/// Asks which version of the REST API the server speaks; every server knows 2.4's question.
async fn discover(http: &Http) -> Result<Arc<str>, TableauError> {
    let url = http.url(&["api", "2.4", "serverinfo"]).ok_or(TableauError::WrongServer)?;
    let answer = http.send(Call::new("server_info", Method::GET, url)).await?;
    match super::client::success(&answer) {
        Ok(()) => {}
        Err(TableauError::NotFound(_)) => return Err(TableauError::WrongServer),
        Err(error) => return Err(error),
    }
    let told = wire::rest_api_version(&answer.body).ok_or(TableauError::WrongServer)?;
    if told < OLDEST {
        return Err(TableauError::UnsupportedVersion(format!("{}.{}", told.0, told.1)));
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
