//! What a `PrefectWorkspace` is reached with: credential, headers, private authority, from the Secrets and the `ConfigMap` its spec names.

use super::context::Context;
use super::secrets::{Referrer, SecretView, Source};
use super::services::{PrefectAccess, PrefectCredential};
use crate::api::{CaBundleKind, CaBundleRef};
use crate::http::{Authorities, HeaderMap, secret_header};
use crate::model::connection::{ConnectionState, DesiredWorkspace, WorkspaceAuth, may_send};
use crate::model::ids::ObjectName;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How it is reached, and all of that which is secret or may change, to tell sessions apart by.
pub(super) struct Access {
    pub(super) access: PrefectAccess,
    pub(super) parts: Vec<SecretString>,
}

/// What a workspace is reached with now. Its sources are watched from then on.
pub(super) fn access(
    ctx: &Context,
    name: &ObjectName,
    spec: &DesiredWorkspace,
) -> Result<Access, ConnectionState> {
    let bundle = spec.ca_bundle.as_ref().map(|bundle| (bundle, bundle_source(ctx, name, bundle)));
    let mut sources: Vec<Source> = secrets(ctx, name, spec).into_iter().map(Source::Secret).collect();
    sources.extend(bundle.iter().map(|(_, source)| source.clone()));
    ctx.secrets.follow(&Referrer::Workspace(name.clone()), &sources);

    let mut parts = Vec::new();
    let credential = credential(ctx, name, &spec.auth, &mut parts)?;
    let headers = match &spec.headers {
        Some(secret) => headers(ctx, name, secret, spec.auth != WorkspaceAuth::None, &mut parts)?,
        None => HeaderMap::new(),
    };
    let authorities =
        bundle.map(|(bundle, source)| authorities(ctx, bundle, &source, &mut parts)).transpose()?;
    let (api_url, hosting) = (spec.api_url.clone(), spec.hosting);
    Ok(Access { access: PrefectAccess { api_url, hosting, credential, headers, authorities }, parts })
}

/// The Secrets it uses, to be read again when it is refused.
pub(super) fn secrets(ctx: &Context, name: &ObjectName, spec: &DesiredWorkspace) -> Vec<ObjectName> {
    let named = spec.auth.secret().into_iter().chain(spec.headers.as_deref());
    named.map(|secret| beside(ctx, name, secret)).collect()
}

/// What a connection refers to by name: in its namespace, or in the operator's if it is one of the cluster.
pub(super) fn beside(ctx: &Context, object: &ObjectName, name: &str) -> ObjectName {
    ObjectName { namespace: ctx.tenants.home_of(object), name: name.into() }
}

pub(super) fn bundle_source(ctx: &Context, object: &ObjectName, bundle: &CaBundleRef) -> Source {
    let name = beside(ctx, object, &bundle.name);
    match bundle.kind {
        CaBundleKind::ConfigMap => Source::ConfigMap(name),
        CaBundleKind::Secret => Source::Secret(name),
    }
}

fn credential(
    ctx: &Context,
    name: &ObjectName,
    auth: &WorkspaceAuth,
    parts: &mut Vec<SecretString>,
) -> Result<PrefectCredential, ConnectionState> {
    match auth {
        WorkspaceAuth::None => Ok(PrefectCredential::None),
        WorkspaceAuth::Basic { secret } => {
            let keys = keys(ctx, &Source::Secret(beside(ctx, name, secret)))?;
            let username = key(&keys, secret, "username")?;
            let password = key(&keys, secret, "password")?;
            parts.extend([username.clone(), password.clone()]);
            Ok(PrefectCredential::Basic { username, password })
        }
        WorkspaceAuth::ApiKey { secret } => {
            let keys = keys(ctx, &Source::Secret(beside(ctx, name, secret)))?;
            let api_key = key(&keys, secret, "apiKey")?;
            parts.push(api_key.clone());
            Ok(PrefectCredential::ApiKey(api_key))
        }
    }
}

pub(super) fn headers(
    ctx: &Context,
    name: &ObjectName,
    secret: &str,
    signs_in: bool,
    parts: &mut Vec<SecretString>,
) -> Result<HeaderMap, ConnectionState> {
    let keys = keys(ctx, &Source::Secret(beside(ctx, name, secret)))?;
    let mut headers = HeaderMap::new();
    for (key, value) in keys.iter() {
        let (header, content) = secret_header(key, value.expose_secret())
            .filter(|(header, _)| may_send(header.as_str(), signs_in))
            .ok_or_else(|| ConnectionState::HeaderInvalid { name: secret.to_owned(), key: key.clone() })?;
        headers.insert(header, content);
        parts.extend([SecretString::from(key.as_str()), value.clone()]);
    }
    Ok(headers)
}

pub(super) fn authorities(
    ctx: &Context,
    bundle: &CaBundleRef,
    source: &Source,
    parts: &mut Vec<SecretString>,
) -> Result<Authorities, ConnectionState> {
    let keys = keys(ctx, source)?;
    let (kind, name, key) = (bundle.kind, bundle.name.clone(), bundle.key.clone());
    let Some(text) = keys.get(&bundle.key).filter(|text| !text.expose_secret().trim().is_empty()) else {
        return Err(match kind {
            CaBundleKind::ConfigMap => ConnectionState::ConfigMapKeyMissing { name, key },
            CaBundleKind::Secret => ConnectionState::SecretKeyMissing { name, key },
        });
    };
    parts.push(text.clone());
    Authorities::from_pem(text.expose_secret().as_bytes()).map_err(|_| ConnectionState::CaBundleInvalid {
        kind,
        name,
        key,
    })
}

pub(super) type Keys = Arc<BTreeMap<String, SecretString>>;

/// The keys of a source that is followed.
pub(super) fn keys(ctx: &Context, source: &Source) -> Result<Keys, ConnectionState> {
    let (name, map) = match source {
        Source::Secret(name) => (name, false),
        Source::ConfigMap(name) => (name, true),
    };
    let (namespace, name) = (name.namespace.to_string(), name.name.to_string());
    match (ctx.secrets.view(source), map) {
        (SecretView::Unread, _) => Err(ConnectionState::Connecting),
        (SecretView::Present(keys), _) => Ok(keys),
        (SecretView::NotFound, false) => Err(ConnectionState::SecretNotFound { name }),
        (SecretView::NotFound, true) => Err(ConnectionState::ConfigMapNotFound { name }),
        (SecretView::Forbidden, false) => Err(ConnectionState::SecretAccessDenied { name, namespace }),
        (SecretView::Forbidden, true) => Err(ConnectionState::ConfigMapAccessDenied { name, namespace }),
    }
}

/// One key of a Secret. Surrounding white space is not part of it: files end with a newline.
pub(super) fn key(keys: &Keys, secret: &str, key: &str) -> Result<SecretString, ConnectionState> {
    keys.get(key)
        .map(|value| value.expose_secret().trim())
        .filter(|value| !value.is_empty())
        .map(SecretString::from)
        .ok_or_else(|| ConnectionState::SecretKeyMissing { name: secret.to_owned(), key: key.to_owned() })
}
