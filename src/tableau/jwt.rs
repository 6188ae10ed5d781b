//! JSON Web Tokens as far as Tableau's sign-in needs them: made with a connected app's secret, and looked into when an identity provider made
//! them. A token of others is never verified here: Tableau does that.

use super::IdentityError;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::Timestamp;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// The scopes of every call that is made (reference 1.7). Tasks are created, read, run, updated and deleted: all there is, and the wildcard spares
/// the question what updating them is called.
pub const SCOPES: [&str; 4] =
    ["tableau:content:read", "tableau:jobs:read", "tableau:jobs:update", "tableau:tasks:*"];
/// Those without which nothing can be refreshed.
const NEEDED: [&str; 3] = ["tableau:content:read", "tableau:jobs:read", "tableau:tasks:run"];
/// How long a token of ours is good, in seconds: it is used at once. Tableau takes up to ten minutes.
const LIFE: i64 = 300;

/// A connected app with direct trust.
#[derive(Clone, Debug)]
pub struct ConnectedApp {
    /// The Tableau user it signs in as.
    pub username: String,
    /// Id of the app.
    pub client_id: SecretString,
    /// Id of one of its secrets.
    pub secret_id: SecretString,
    /// That secret.
    pub secret_value: SecretString,
}

impl ConnectedApp {
    /// A token for one sign-in (reference 1.5). `now` is the time by Tableau's clock.
    pub(super) fn token(&self, now: Timestamp, id: &str) -> SecretString {
        let issuer = self.client_id.expose_secret();
        let header =
            json!({"alg": "HS256", "typ": "JWT", "kid": self.secret_id.expose_secret(), "iss": issuer});
        let claims = json!({
            "iss": issuer,
            "sub": self.username,
            "aud": "tableau",
            "jti": id,
            "exp": now.as_second() + LIFE,
            "scp": SCOPES,
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret_value.expose_secret().as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
        format!("{signed}.{signature}").into()
    }
}

/// Whether an identity provider's token holds what Tableau asks for, so that a person learns what is missing: Tableau says only that it is
/// not good.
pub(super) fn check(token: &SecretString, username: &str) -> Result<(), IdentityError> {
    let claims = claims(token.expose_secret()).ok_or(IdentityError::NoToken)?;
    let audience = |aud: &Value| match aud {
        Value::Array(all) => all.iter().any(|one| one == "tableau"),
        one => one == "tableau",
    };
    if claims.get("sub").and_then(Value::as_str) != Some(username) {
        return Err(IdentityError::Claim("sub"));
    }
    if !claims.get("aud").is_some_and(audience) {
        return Err(IdentityError::Claim("aud"));
    }
    for claim in ["exp", "jti"] {
        if !claims.contains_key(claim) {
            return Err(IdentityError::Claim(claim));
        }
    }
    let Some(Value::Array(scopes)) = claims.get("scp") else { return Err(IdentityError::Claim("scp")) };
    if NEEDED.iter().all(|needed| covers(scopes, needed)) { Ok(()) } else { Err(IdentityError::MissingScope) }
}

fn claims(token: &str) -> Option<serde_json::Map<String, Value>> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// `tableau:tasks:*` holds all of tasks.
fn covers(scopes: &[Value], needed: &str) -> bool {
    let resource = needed.rsplit_once(':').map_or(needed, |(resource, _)| resource);
    scopes
        .iter()
        .filter_map(Value::as_str)
        .any(|scope| scope == needed || scope.strip_suffix(":*") == Some(resource))
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
