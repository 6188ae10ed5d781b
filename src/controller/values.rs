//! Values of a `FlowDeployment` that come from Secrets of its namespace: read here, handed to the model in their places, shown nowhere.

use super::context::Context;
use super::index::object_name;
use super::secrets::{Referrer, SecretView, Source};
use crate::api::{
    CaBundleKind, CaBundleRef, ConnectedAppAuth, OAuthTrust, PrefectAuth, PrefectWorkspaceSpec, SecretAuth,
    SecretRef, TableauAuth, TableauSiteSpec,
};
use crate::model::flow::{Desired, NoValue, Values};
use crate::model::ids::ObjectName;
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, BTreeSet};

/// Puts what `spec.valuesFrom` asks for into `desired`. Its Secrets are followed from now on, and those it no longer names are let go.
pub fn put(ctx: &Context, desired: &mut Desired) -> Values {
    let namespace = desired.name.namespace.clone();
    let at = |secret: &str| ObjectName { namespace: namespace.clone(), name: secret.into() };
    let secrets: BTreeSet<ObjectName> = desired.values_from.iter().map(|value| at(&value.secret)).collect();
    // What is refused is not even read for it.
    if let Some(credential) = secrets.iter().find(|secret| is_credential(ctx, secret)) {
        follow(ctx, &desired.name, &BTreeSet::new());
        return Values::Missing(NoValue::Credential(credential.name.to_string()));
    }
    let views = follow(ctx, &desired.name, &secrets);
    let mut versions = BTreeMap::new();
    for value in desired.values_from.clone() {
        let secret = value.secret.clone();
        let Some((view, version)) = views.get(&at(&secret)) else { return Values::Unread };
        let keys = match view {
            SecretView::Unread => return Values::Unread,
            SecretView::NotFound => return Values::Missing(NoValue::NotFound(secret)),
            SecretView::Forbidden => return Values::Missing(NoValue::Denied(secret)),
            SecretView::Present(keys) => keys,
        };
        let Some(text) = keys.get(&value.key) else {
            return Values::Missing(NoValue::KeyMissing { secret, key: value.key });
        };
        desired.put(&value, text.expose_secret());
        versions.insert(secret, version.clone());
    }
    Values::Put(versions)
}

/// Lets go of the Secrets of a resource that is gone.
pub fn forget(ctx: &Context, flow: &ObjectName) {
    follow(ctx, flow, &BTreeSet::new());
}

fn follow(
    ctx: &Context,
    flow: &ObjectName,
    secrets: &BTreeSet<ObjectName>,
) -> BTreeMap<ObjectName, (SecretView, String)> {
    let sources: Vec<Source> = secrets.iter().cloned().map(Source::Secret).collect();
    ctx.secrets.follow(&Referrer::Flow(flow.clone()), &sources);
    let view = |secret: &ObjectName| ctx.secrets.versioned(&Source::Secret(secret.clone()));
    secrets.iter().map(|secret| (secret.clone(), view(secret))).collect()
}

/// Whether a connection signs in with this Secret. Whoever may write a `FlowDeployment` would read it in Prefect.
fn is_credential(ctx: &Context, secret: &ObjectName) -> bool {
    // What one of the cluster names is in the operator's namespace.
    let here = |object: ObjectName| ctx.tenants.home_of(&object) == secret.namespace;
    let names = |found: Vec<&str>| found.contains(&&*secret.name);
    let workspaces = ctx.objects.all_workspaces();
    let sites = ctx.objects.all_sites();
    workspaces.iter().any(|w| object_name(&**w).is_some_and(here) && names(of_workspace(&w.spec)))
        || sites.iter().any(|s| object_name(&**s).is_some_and(here) && names(of_site(&s.spec)))
}

// Destructured, so that a new way to sign in is not forgotten here.

fn of_workspace(spec: &PrefectWorkspaceSpec) -> Vec<&str> {
    let PrefectWorkspaceSpec {
        api_url: _,
        cloud: _,
        auth,
        headers_secret_ref,
        ca_bundle_ref,
        poll_interval: _,
        limits: _,
        suspend: _,
        refresh_reports: _,
    } = spec;
    let ways = auth.iter().flat_map(|PrefectAuth { basic, api_key }| [basic.as_ref(), api_key.as_ref()]);
    let auth = ways.flatten().map(|SecretAuth { secret_ref }| &secret_ref.name);
    auth.chain(of_the_way(headers_secret_ref.as_ref(), ca_bundle_ref.as_ref())).map(String::as_str).collect()
}

fn of_site(spec: &TableauSiteSpec) -> Vec<&str> {
    let TableauSiteSpec {
        server_url: _,
        site_content_url: _,
        auth: TableauAuth { personal_access_token, connected_app, oauth_trust },
        headers_secret_ref,
        ca_bundle_ref,
        edition: _,
        limits: _,
        poll_interval: _,
        refresh_defaults: _,
        suspend: _,
    } = spec;
    let token = personal_access_token.iter().map(|SecretAuth { secret_ref }| &secret_ref.name);
    let app = connected_app.iter().map(|ConnectedAppAuth { secret_ref, username: _ }| &secret_ref.name);
    let trust = oauth_trust.iter().filter_map(|trust| {
        let OAuthTrust { secret_ref, service_account_token: _, username: _, token_url: _, scopes: _ } = trust;
        Some(&secret_ref.as_ref()?.name)
    });
    let way = of_the_way(headers_secret_ref.as_ref(), ca_bundle_ref.as_ref());
    token.chain(app).chain(trust).chain(way).map(String::as_str).collect()
}

fn of_the_way<'a>(
    headers: Option<&'a SecretRef>,
    bundle: Option<&'a CaBundleRef>,
) -> impl Iterator<Item = &'a String> {
    // The Secret of a certificate holds its key beside, more often than not.
    let bundle = bundle.filter(|bundle| bundle.kind == CaBundleKind::Secret);
    headers.map(|secret| &secret.name).into_iter().chain(bundle.map(|bundle| &bundle.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_secret_of_a_site_is_a_credential() {
        let named =
            |name: &str| json!({"secretRef": {"name": name}, "username": "svc", "tokenUrl": "https://idp/t"});
        for (auth, name) in [("personalAccessToken", "pat"), ("connectedApp", "app"), ("oauthTrust", "idp")] {
            let spec = json!({
                "serverUrl": "https://t", "auth": {auth: named(name)}, "headersSecretRef": {"name": "proxy"},
                "caBundleRef": {"kind": "Secret", "name": "ca", "key": "ca.crt"},
            });
            assert_eq!(of_site(&serde_json::from_value(spec).unwrap()), [name, "proxy", "ca"]);
        }
    }
}
