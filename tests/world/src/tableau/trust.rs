//! Whom a site trusts beside its personal access tokens: connected apps with direct trust, and external authorization servers (OAuth 2.0
//! trust). Their JWTs are verified as Tableau's help has it (`tableau-rest.md` 1.5 and 1.6).

use std::collections::{BTreeSet, HashSet};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// What a site trusts.
#[derive(Default)]
pub(super) struct Trust {
    pub(super) apps: Vec<ConnectedApp>,
    pub(super) servers: Vec<AuthorizationServer>,
    /// Issuer and `jti` of every JWT that has signed in.
    used: HashSet<(String, String)>,
}

/// A connected app with direct trust.
pub(super) struct ConnectedApp {
    pub(super) client_id: String,
    /// Ids and values; at most two.
    pub(super) secrets: Vec<(String, String)>,
}

/// An identity provider whose tokens are taken.
#[derive(Clone)]
pub(super) struct AuthorizationServer {
    pub(super) issuer: String,
    pub(super) jwks_url: String,
}

/// A key of a JWKS.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Key {
    kid: Option<String>,
    kty: String,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A JWKS.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
}

/// Who signs in, and what for.
pub(super) struct Bearer {
    pub(super) user: String,
    pub(super) scopes: BTreeSet<String>,
}

/// A JWT in its parts; nothing of it is verified.
pub(super) struct Token<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(jwt: &'a str) -> Option<Self> {
        let (signed, signature) = jwt.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let part = |text: &str| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok();
        Some(Self {
            signed,
            signature: BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?,
            header: part(header)?,
            claims: part(claims)?,
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// In the header or as a claim; never two different ones.
    pub(super) fn issuer(&self) -> Option<&str> {
        let (header, claim) = (self.header("iss"), self.claim("iss"));
        if header.is_some() && claim.is_some() && header != claim { None } else { claim.or(header) }
    }

    pub(super) fn kid(&self) -> Option<&str> {
        self.header("kid")
    }

    fn audience(&self) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(one)) => one == "tableau",
            Some(Value::Array(all)) => all.iter().any(|one| one == "tableau"),
            _ => false,
        }
    }

    fn scopes(&self) -> Option<BTreeSet<String>> {
        // `scope`, a text, is what other servers read: Tableau wants a list named `scp`.
        self.claims.get("scp")?.as_array()?.iter().map(|scope| scope.as_str().map(str::to_owned)).collect()
    }
}

impl Trust {
    /// Whose keys are needed to verify a token: the server that its issuer names, if it is registered.
    pub(super) fn server_of(&self, token: &Token<'_>) -> Option<&AuthorizationServer> {
        self.servers.iter().find(|server| token.issuer() == Some(server.issuer.as_str()))
    }

    /// Verifies a token. `keys` are those of the external server that issued it; `now` in seconds.
    pub(super) fn verify(&mut self, jwt: &str, keys: &Keys, now: i64) -> Result<Bearer, Refusal> {
        let refused = Refusal::jwt;
        let token = Token::parse(jwt).ok_or_else(|| refused(10084, "JWT_PARSE_ERROR"))?;
        let issuer = token.issuer().ok_or_else(|| refused(10082, "ISSUER_NOT_SPECIFIED"))?.to_owned();
        if let Some(app) = self.apps.iter().find(|app| app.client_id == issuer) {
            app.verify(&token)?;
        } else if self.server_of(&token).is_some() {
            keys.verify(&token)?;
        } else {
            return Err(refused(126, "CONNECTED_APP_NOT_FOUND"));
        }
        let user = token.claim("sub").ok_or_else(|| refused(5, "SYSTEM_USER_NOT_FOUND"))?.to_owned();
        if !token.audience() {
            return Err(refused(16, "LOGIN_FAILED: aud"));
        }
        let expires = token.claims.get("exp").and_then(Value::as_i64);
        if !expires.is_some_and(|at| at > now && at <= now + 600) {
            return Err(refused(16, "LOGIN_FAILED: exp"));
        }
        if token.claims.get("nbf").and_then(Value::as_i64).is_some_and(|at| at > now) {
            return Err(refused(16, "LOGIN_FAILED: nbf"));
        }
        let scopes = token.scopes().ok_or_else(|| refused(16, "LOGIN_FAILED: scp"))?;
        let id = token.claim("jti").ok_or_else(|| refused(10094, "MISSING_REQUIRED_JTI"))?;
        if !self.used.insert((issuer, id.to_owned())) {
            return Err(refused(10098, "JTI_ALREADY_USED"));
        }
        Ok(Bearer { user, scopes })
    }
}

impl ConnectedApp {
    fn verify(&self, token: &Token<'_>) -> Result<(), Refusal> {
        if token.header("alg") != Some("HS256") {
            return Err(Refusal::jwt(16, "LOGIN_FAILED: alg"));
        }
        let secret = self.secrets.iter().find(|(id, _)| token.kid() == Some(id.as_str()));
        let (_, value) = secret.ok_or_else(|| Refusal::jwt(127, "CONNECTED_APP_SECRET_NOT_FOUND"))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, value.as_bytes());
        hmac::verify(&key, token.signed.as_bytes(), &token.signature)
            .map_err(|_| Refusal::jwt(16, "LOGIN_FAILED: signature"))
    }
}

impl Keys {
    pub(super) fn has(&self, kid: Option<&str>) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == kid)
    }

    fn verify(&self, token: &Token<'_>) -> Result<(), Refusal> {
        let key = self.keys.iter().find(|key| key.kid.is_some() && key.kid.as_deref() == token.kid());
        let key = key.ok_or_else(|| Refusal::jwt(10085, "COULD_NOT_FETCH_JWT_KEYS"))?;
        let good = match (token.header("alg"), key.kty.as_str()) {
            (Some("RS256"), "RSA") => key.rsa(token),
            (Some("ES256"), "EC") => key.ecdsa(token),
            _ => return Err(Refusal::jwt(10087, "BLOCKLISTED_JWS_ALGORITHM")),
        };
        good.filter(|good| *good).map(drop).ok_or_else(|| Refusal::jwt(10083, "BAD_JWT"))
    }
}

impl Key {
    fn rsa(&self, token: &Token<'_>) -> Option<bool> {
        let key = RsaPublicKeyComponents { n: number(self.n.as_ref())?, e: number(self.e.as_ref())? };
        let checks = &signature::RSA_PKCS1_2048_8192_SHA256;
        Some(key.verify(checks, token.signed.as_bytes(), &token.signature).is_ok())
    }

    fn ecdsa(&self, token: &Token<'_>) -> Option<bool> {
        let point = [vec![4], number(self.x.as_ref())?, number(self.y.as_ref())?].concat();
        let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
        Some(key.verify(token.signed.as_bytes(), &token.signature).is_ok())
    }
}

fn number(text: Option<&String>) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text?).ok()
}

/// Whether one of the scopes is the wanted one, or the wildcard of its resource.
pub(super) fn covers(scopes: &BTreeSet<String>, wanted: &str) -> bool {
    let wildcard = wanted.rsplit_once(':').map(|(resource, _)| format!("{resource}:*"));
    scopes.contains(wanted) || wildcard.is_some_and(|wildcard| scopes.contains(&wildcard))
}
