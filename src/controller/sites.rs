//! `TableauSite`: from spec and Secret to a session, and from the session's health to conditions.

use super::connections::SessionKey;
use super::context::{Context, Objects};
use super::index::{Key, object_name};
use super::lanes::Waker;
use super::reconcile::{Note, Plan, Planned, Subject, ready_changed};
use super::secrets::Referrer;
use super::services::TableauCredential;
use super::site::{Health, Hint, Setup, SiteSession};
use super::watches;
use super::workspaces::{Never, key, keys, stands, unreachable_trouble};
use crate::api::{TableauSite, TableauSiteStatus};
use crate::model::conditions::{self, stamp};
use crate::model::connection::{ConnectionState, DesiredSite, Trouble, site_verdicts};
use crate::model::ids::ObjectName;
use crate::runtime::metrics::Kind;
use crate::tableau::{Site, TableauError};
use async_trait::async_trait;
use jiff::Timestamp;
use kube::ResourceExt;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;

/// The subject.
pub struct Sites;

/// What connecting came to: the state, and the credential's fingerprint when it is known.
struct Connected {
    state: ConnectionState,
    site: Option<Site>,
    fingerprint: Option<String>,
}

#[async_trait]
impl Subject for Sites {
    type Object = TableauSite;
    type Seen = ();
    type Act = Never;
    type Ack = ();
    const KIND: Kind = Kind::TableauSite;

    fn objects(ctx: &Context) -> &Objects<TableauSite> {
        &ctx.objects.sites
    }

    fn plan(ctx: &Context, object: &Arc<TableauSite>, now: Timestamp) -> Planned<Self> {
        let mut status = object.status.clone().unwrap_or_default();
        let mut notes = Vec::new();
        if let Some(name) = object_name(&**object) {
            let spec = DesiredSite::parse(object);
            let connected = match &spec {
                Ok(spec) => connect(ctx, &name, object, spec, &status),
                Err(_) => Connected { state: ConnectionState::Connecting, site: None, fingerprint: None },
            };
            if let (ConnectionState::Connected { .. }, Some(site)) = (&connected.state, &connected.site) {
                status.site_luid = Some(site.luid.to_string());
                status.rest_api_version = Some(site.rest_api_version.clone());
                status.signed_in_with = connected.fingerprint;
            }
            let generation = object.metadata.generation.unwrap_or_default();
            if !(spec.is_ok() && stands(&connected.state, &status, generation)) {
                let verdicts = site_verdicts(&spec, &connected.state);
                notes = ready_changed(&status, &verdicts);
                stamp(&mut status, &verdicts, generation, now);
            }
        }
        Planned { status, plan: Plan::Rest, again: None, notes, seen: () }
    }

    async fn act(_: &Context, _: &Arc<TableauSite>, (): &(), act: Never) -> Option<()> {
        match act {}
    }

    fn fold(
        _: &Context,
        object: &TableauSite,
        (): &(),
        (): &(),
        _: Timestamp,
    ) -> (TableauSiteStatus, Vec<Note>) {
        (object.status.clone().unwrap_or_default(), Vec::new())
    }

    fn wrote(ctx: &Context, object: &TableauSite, after: &TableauSiteStatus) {
        // Those who wait for the site tell its reason.
        let before = object.status.as_ref().and_then(|status| conditions::reason_of(status, "Ready"));
        if before != conditions::reason_of(after, "Ready")
            && let Some(name) = object_name(object)
        {
            watches::wake_all(ctx, &Key::Site(name));
        }
    }

    fn waker(ctx: &Context, name: &ObjectName) -> Waker {
        let (wakes, name) = (ctx.wakes.clone(), name.clone());
        Arc::new(move || wakes.site(&name))
    }
}

fn connect(
    ctx: &Context,
    name: &ObjectName,
    object: &TableauSite,
    spec: &DesiredSite,
    status: &TableauSiteStatus,
) -> Connected {
    let origin = format!("{}#{}", spec.server_url, spec.content_url);
    ctx.sites.leave_other(name, &origin);
    let alone = |state| Connected { state, site: None, fingerprint: None };
    let referrer = Referrer::Site(name.clone());
    let credential = keys(ctx, &referrer, name, &spec.secret).and_then(|keys| {
        Ok(TableauCredential {
            name: key(&keys, &spec.secret, "name")?,
            secret: key(&keys, &spec.secret, "secret")?,
        })
    });
    let credential = match credential {
        Ok(credential) => credential,
        // What is signed in stays so: a Secret that is gone for a moment must not stop what runs.
        Err(state) => return alone(state),
    };
    let mut parts = vec![credential.name.expose_secret(), credential.secret.expose_secret()];
    // A session knows one edition. Not part of what is undeclared, so that credentials stay recognised.
    let edition = object.spec.edition.map(|edition| format!("{edition:?}"));
    parts.extend(edition.as_deref());
    let key = SessionKey::new(origin, &parts);
    let budget = ctx.budgets.of(ctx, &key.origin, name, spec.limits);
    let before = ctx.sites.get(name).map(|link| link.session);
    let fingerprint = key.fingerprint(&format!("{}/{}", ctx.instance, object.uid().unwrap_or_default()));
    let worked_before = status.signed_in_with.as_deref() == Some(&fingerprint);
    let link = ctx.sites.link(name, key, spec.poll_interval, |users| {
        let lease = ctx.lease.clone();
        let leads = Arc::new(move || lease.now().outlives(Duration::ZERO));
        let client = ctx.services.tableau(&spec.server_url, &spec.content_url, &credential, leads)?;
        Ok::<_, TableauError>(SiteSession::start(
            client,
            Setup {
                clock: ctx.clock.clone(),
                index: ctx.index.clone(),
                wakes: ctx.wakes.clone(),
                users,
                edition: spec.edition,
                budget,
                metrics: ctx.metrics.clone(),
            },
        ))
    });
    if let Ok(link) = &link
        && before.is_none_or(|before| !Arc::ptr_eq(&before, &link.session))
    {
        // A session that others use already has nothing new to tell, and these dependents have not heard any of it.
        link.session.hint(Hint::Interest);
        watches::wake_all(ctx, &Key::Site(name.clone()));
    }
    let health = match link {
        Ok(link) => link.session.snapshot().health.clone(),
        Err(error) => Health::Failed(error, None),
    };
    match health {
        Health::Connecting => alone(ConnectionState::Connecting),
        Health::Failed(error, _) => {
            if error == TableauError::SignInRefused {
                let namespace = name.namespace.clone();
                ctx.secrets.read_again(ObjectName { namespace, name: spec.secret.as_str().into() });
            }
            alone(ConnectionState::Failed(trouble(error, worked_before)))
        }
        Health::Connected(site) => {
            // Another site behind the same URL: what status says about contents there would be said about strangers.
            let state = if status.site_luid.as_deref().is_some_and(|luid| luid != site.luid.as_str()) {
                ConnectionState::Failed(Trouble::SiteChanged)
            } else {
                ConnectionState::Connected { version: site.rest_api_version.clone() }
            };
            Connected { state, site: Some(site), fingerprint: Some(fingerprint) }
        }
    }
}

fn trouble(error: TableauError, worked_before: bool) -> Trouble {
    match error {
        TableauError::SignInRefused => Trouble::CredentialsRefused { worked_before },
        TableauError::SessionContested => Trouble::SessionContested,
        TableauError::Forbidden(_) => Trouble::PermissionDenied,
        TableauError::Throttled { .. } => Trouble::RateLimited,
        TableauError::WrongServer | TableauError::NotFound(_) => Trouble::WrongServer,
        TableauError::UnsupportedVersion(version) => Trouble::UnsupportedVersion { version, oldest: "3.8" },
        TableauError::Unreachable(cause) => unreachable_trouble(cause),
        TableauError::Ambiguous | TableauError::Rejected(_) | TableauError::NotLeading => {
            Trouble::Unreachable
        }
    }
}

/// Lets go of everything a deleted object used.
pub fn forget(ctx: &Context, name: &ObjectName) {
    ctx.secrets.follow(&Referrer::Site(name.clone()), None);
    ctx.sites.unlink(name);
    ctx.budgets.forget(name);
}
