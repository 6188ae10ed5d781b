//! Version discovery, sign-in and sign-out, and who is calling.

use super::super::element::Element;
use super::super::input::Input;
use super::super::refusal::Refusal;
use super::super::state::State;
use super::super::trust::{AuthorizationServer, Keys, Token};
use super::{Call, Reply};

/// Who is calling, and on which site.
pub(super) struct Caller {
    /// LUID.
    pub(super) site: String,
    pub(super) user_name: String,
}

pub(super) fn server_info(call: &Call<'_>) -> Reply {
    let product = Element::text("productVersion", "2025.3.0").attribute("build", "20254.25.1215.1100");
    let version = Element::text("restApiVersion", &call.config.rest_api_version);
    Reply::ok(vec![Element::new("serverInfo").child(product).child(version)])
}

/// The oldest version that knows JWTs.
const JWT_SINCE: (u32, u32) = (3, 17);

/// The external authorization server of the JWT in a sign-in, and the id of the key it names.
pub(super) fn server_of(state: &State, call: &Call<'_>) -> Option<(AuthorizationServer, Option<String>)> {
    let request = Input::parse(call.content_type, call.body).ok()?;
    let credentials = request.child("credentials")?;
    let token = Token::parse(credentials.attribute("jwt")?)?;
    let site = credentials.child("site").and_then(|site| site.attribute("contentUrl")).unwrap_or_default();
    let site = state.sites.iter().find(|known| known.url_name == site)?;
    Some((site.trust.server_of(&token)?.clone(), token.kid().map(str::to_owned)))
}

/// Personal access tokens and JWTs are known: every other kind of credentials is refused as wrong ones are.
pub(super) fn sign_in(
    state: &mut State,
    version: (u32, u32),
    keys: &Keys,
    call: &Call<'_>,
) -> Result<Reply, Refusal> {
    let request = Input::parse(call.content_type, call.body)?;
    request.allow(&[], &["credentials"])?;
    let credentials =
        request.child("credentials").ok_or_else(|| Refusal::bad_request("There are no credentials."))?;
    let mut known = vec!["personalAccessTokenName", "personalAccessTokenSecret", "name", "password"];
    if version >= JWT_SINCE {
        known.extend(["jwt", "isUat"]);
    }
    credentials.allow(&known, &["site", "user"])?;
    let site = match credentials.child("site") {
        Some(site) => {
            site.allow(&["contentUrl"], &[])?;
            site.attribute("contentUrl").unwrap_or_default()
        }
        None => "",
    };
    let attribute = |name| credentials.attribute(name).ok_or_else(Refusal::sign_in);
    let (token, site, user) = match credentials.attribute("jwt") {
        // A unified access token is another thing, and not simulated.
        Some(_) if credentials.attribute("isUat") == Some("true") => return Err(Refusal::sign_in()),
        Some(jwt) => {
            let date = call.clock.tableau_time(call.now).as_second();
            state.sign_in_by_jwt(site, jwt, keys, (call.now, date))?
        }
        None => {
            let (name, secret) =
                (attribute("personalAccessTokenName")?, attribute("personalAccessTokenSecret")?);
            state.sign_in(site, name, secret, call.now).ok_or_else(Refusal::sign_in)?
        }
    };
    let left = call.config.token_lifetime.as_secs();
    let left = format!("{}:{:02}:{:02}", left / 3600, left / 60 % 60, left % 60);
    let answer = Element::new("credentials")
        .attribute("token", token)
        .attribute("estimatedTimeToExpiration", left)
        .child(Element::new("site").attribute("id", &site.luid).attribute("contentUrl", &site.url_name))
        .child(Element::new("user").attribute("id", &user.luid));
    Ok(Reply::ok(vec![answer]))
}

/// The caller, whose token must be a live one, one of the site that the path names, and good for what needs `scope`.
pub(super) fn caller(
    state: &mut State,
    site_in_path: Option<&str>,
    scope: Option<&str>,
    call: &Call<'_>,
) -> Result<Caller, Refusal> {
    let token = call.token.ok_or_else(Refusal::no_credentials)?;
    let lifetime = call.config.token_lifetime;
    state.sessions.retain(|_, session| call.now.saturating_duration_since(session.began) < lifetime);
    let session = state.sessions.get(token).ok_or_else(Refusal::invalid_credentials)?;
    // A missing scope looks just like a token that has ended.
    if scope.is_some_and(|scope| !session.may(scope)) {
        return Err(Refusal::invalid_credentials());
    }
    if let Some(luid) = site_in_path {
        if !state.sites.iter().any(|site| site.luid == luid) {
            return Err(Refusal::site(luid));
        }
        // A token is good for its own site only.
        if session.site != luid {
            return Err(Refusal::invalid_credentials());
        }
    }
    let user = state.sites.iter().flat_map(|site| &site.users).find(|user| user.luid == session.user);
    let user_name = user.map(|user| user.name.clone()).ok_or_else(Refusal::invalid_credentials)?;
    Ok(Caller { site: session.site.clone(), user_name })
}

pub(super) fn sign_out(state: &mut State, call: &Call<'_>) -> Reply {
    state.sessions.retain(|token, _| Some(token.as_str()) != call.token);
    Reply::empty(204)
}

pub(super) fn user(state: &State, caller: &Caller, id: &str) -> Result<Reply, Refusal> {
    let site = state.sites.iter().find(|site| site.luid == caller.site);
    let user = site.and_then(|site| site.users.iter().find(|user| user.luid == id));
    let user = user.ok_or_else(|| Refusal::user(id))?;
    let element = Element::new("user")
        .attribute("id", &user.luid)
        .attribute("name", &user.name)
        .attribute("fullName", &user.name)
        .attribute("siteRole", "SiteAdministratorCreator");
    Ok(Reply::ok(vec![element]))
}
