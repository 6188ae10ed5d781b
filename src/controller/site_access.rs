//! What a `TableauSite` is reached with: credential, headers, private authority, from the Secrets and the `ConfigMap` its spec names.

use super::context::Context;
use super::secrets::{Referrer, Source};
use super::services::{TableauAccess, TableauCredential, TrustCredential};
use super::workspace_access::{authorities, beside, bundle_source, headers, key, keys};
use crate::http::HeaderMap;
use crate::model::connection::{ConnectionState, DesiredSite, SiteAuth, TrustClient};
use crate::model::ids::ObjectName;
use crate::tableau::ConnectedApp;
use secrecy::SecretString;

/// How it is reached, and all of that which is secret or may change, to tell sessions apart by.
pub(super) struct Access {
    pub(super) to: TableauAccess,
    /// Who we are, to recognise it later.
    pub(super) credential: Vec<SecretString>,
    /// The way there: headers and authority.
    pub(super) way: Vec<SecretString>,
}

/// What a site is reached with now. Its sources are watched from then on.
pub(super) fn access(
    ctx: &Context,
    name: &ObjectName,
    spec: &DesiredSite,
) -> Result<Access, ConnectionState> {
    let bundle = spec.ca_bundle.as_ref().map(|bundle| (bundle, bundle_source(ctx, name, bundle)));
    let mut sources: Vec<Source> = secrets(ctx, name, spec).into_iter().map(Source::Secret).collect();
    sources.extend(bundle.iter().map(|(_, source)| source.clone()));
    ctx.secrets.follow(&Referrer::Site(name.clone()), &sources);

    let mut way = Vec::new();
    let credential = credential(ctx, name, &spec.auth)?;
    let headers = match &spec.headers {
        // A proxy may want `Authorization`: Tableau's own header is another.
        Some(secret) => headers(ctx, name, secret, false, &mut way)?,
        None => HeaderMap::new(),
    };
    let authorities =
        bundle.map(|(bundle, source)| authorities(ctx, bundle, &source, &mut way)).transpose()?;
    let (server_url, content_url) = (spec.server_url.clone(), spec.content_url.clone());
    let parts = parts(&credential);
    let access = TableauAccess { server_url, content_url, credential, headers, authorities };
    Ok(Access { to: access, credential: parts, way })
}

/// The Secrets it uses, to be read again when it is refused.
pub(super) fn secrets(ctx: &Context, name: &ObjectName, spec: &DesiredSite) -> Vec<ObjectName> {
    let named = spec.auth.secret().into_iter().chain(spec.headers.as_deref());
    named.map(|secret| beside(ctx, name, secret)).collect()
}

fn credential(
    ctx: &Context,
    name: &ObjectName,
    auth: &SiteAuth,
) -> Result<TableauCredential, ConnectionState> {
    match auth {
        SiteAuth::PersonalAccessToken { secret } => {
            let [name, secret] = read(ctx, name, secret, ["name", "secret"])?;
            Ok(TableauCredential::PersonalAccessToken { name, secret })
        }
        SiteAuth::ConnectedApp { username, secret } => {
            let wanted = ["clientId", "secretId", "secretValue"];
            let [client_id, secret_id, secret_value] = read(ctx, name, secret, wanted)?;
            let username = username.clone();
            Ok(TableauCredential::ConnectedApp(ConnectedApp { username, client_id, secret_id, secret_value }))
        }
        SiteAuth::OAuthTrust { username, token_url, scopes, client } => {
            let client = match client {
                TrustClient::Secret { secret } => {
                    let [id, secret] = read(ctx, name, secret, ["clientId", "clientSecret"])?;
                    TrustCredential::Secret { id, secret }
                }
                TrustClient::ServiceAccount { audience, id } => TrustCredential::ServiceAccount {
                    namespace: ctx.tenants.home_of(name).to_string(),
                    audience: audience.clone(),
                    id: id.clone(),
                },
            };
            let (username, token_url) = (username.clone(), token_url.clone());
            Ok(TableauCredential::OAuthTrust { username, token_url, scopes: scopes.clone(), client })
        }
    }
}

/// Keys of a Secret.
fn read<const N: usize>(
    ctx: &Context,
    name: &ObjectName,
    secret: &str,
    wanted: [&str; N],
) -> Result<[SecretString; N], ConnectionState> {
    let keys = keys(ctx, &Source::Secret(beside(ctx, name, secret)))?;
    let mut values = wanted.map(|_| SecretString::default());
    for (value, wanted) in values.iter_mut().zip(wanted) {
        *value = key(&keys, secret, wanted)?;
    }
    Ok(values)
}

/// All of a credential. Each way begins with its own name, so that none passes for another; only personal access tokens do not, which are
/// recognised by what earlier builds wrote.
fn parts(credential: &TableauCredential) -> Vec<SecretString> {
    match credential {
        TableauCredential::PersonalAccessToken { name, secret } => vec![name.clone(), secret.clone()],
        TableauCredential::ConnectedApp(app) => vec![
            "connectedApp".into(),
            app.client_id.clone(),
            app.secret_id.clone(),
            app.secret_value.clone(),
            app.username.as_str().into(),
        ],
        TableauCredential::OAuthTrust { username, token_url, scopes, client } => {
            let mut parts = match client {
                TrustCredential::Secret { id, secret } => {
                    vec!["oauthTrust.secret".into(), id.clone(), secret.clone()]
                }
                // Who may have this token is decided by namespace: so a session is not shared with another one.
                TrustCredential::ServiceAccount { namespace, audience, id } => vec![
                    "oauthTrust.serviceAccount".into(),
                    namespace.as_str().into(),
                    audience.as_str().into(),
                    id.as_deref().unwrap_or_default().into(),
                ],
            };
            parts.extend([username.as_str(), token_url, &scopes.join(" ")].map(SecretString::from));
            parts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::connections::SessionKey;
    use secrecy::ExposeSecret;

    #[test]
    fn no_credential_passes_for_another() {
        let app = |username: &str, value: &str| {
            TableauCredential::ConnectedApp(ConnectedApp {
                username: username.into(),
                client_id: "finance".into(),
                secret_id: "idp".into(),
                secret_value: value.into(),
            })
        };
        let trust = |client, scopes: &[&str]| TableauCredential::OAuthTrust {
            username: "svc".into(),
            token_url: "https://idp.acme.com/token".into(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            client,
        };
        let secret =
            |id: &str, secret: &str| TrustCredential::Secret { id: id.into(), secret: secret.into() };
        let account = |namespace: &str, id: Option<&str>| TrustCredential::ServiceAccount {
            namespace: namespace.into(),
            audience: "idp".into(),
            id: id.map(str::to_owned),
        };
        let pat = |name: &str, secret: &str| TableauCredential::PersonalAccessToken {
            name: name.into(),
            secret: secret.into(),
        };
        let all = [
            pat("finance", "idp"),
            pat("connectedApp", "finance"),
            app("svc", "v"),
            app("svc", "w"),
            app("other", "v"),
            trust(secret("finance", "idp"), &[]),
            trust(secret("finance", "rotated"), &[]),
            trust(secret("finance", "idp"), &["a"]),
            // Who may have the operator's token is said by namespace.
            trust(account("finance", None), &[]),
            trust(account("sales", None), &[]),
            trust(account("finance", Some("id")), &[]),
        ];
        let keys: std::collections::HashSet<SessionKey> = all
            .iter()
            .map(|credential| {
                let parts = parts(credential);
                let parts: Vec<&str> = parts.iter().map(ExposeSecret::expose_secret).collect();
                SessionKey::new("https://t#".into(), &parts)
            })
            .collect();
        assert_eq!(keys.len(), all.len());
    }
}
