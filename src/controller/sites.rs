//! `TableauSite`: from spec and Secret to a session, and from the session's health to conditions.

use super::connections::SessionKey;
use super::context::{Context, Objects};
use super::in_use::{self, Act};
use super::index::{Key, object_name};
use super::lanes::Waker;
use super::let_in;
use super::reconcile::{Note, Planned, Subject, ready_changed};
use super::secrets::Referrer;
use super::site::{Health, Hint, Setup, SiteSession};
use super::site_access::{Access, access, secrets};
use super::watches;
use super::workspaces::{reason_of, stands, trouble, unreachable_trouble};
use crate::api::{HasStatus, TableauSite, TableauSiteStatus};
use crate::http::Unreachable;
use crate::model::conditions::{self, stamp};
use crate::model::connection::{
    self, BadConnection, ConnectionState, DesiredSite, IdentityTrouble, Keep, Trouble, site_verdicts,
};
use crate::model::ids::ObjectName;
use crate::model::time::add;
use crate::runtime::metrics::Kind;
use crate::tableau::{IdentityError, Site, TableauError};
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
    type Act = Act;
    type Ack = ();
    const KIND: Kind = Kind::TableauSite;

    fn objects(ctx: &Context) -> &Objects<TableauSite> {
        &ctx.objects.sites
    }

    fn plan(ctx: &Context, object: &Arc<TableauSite>, now: Timestamp) -> Planned<Self> {
        planned(ctx, object, Ok(()), now)
    }

    async fn act(ctx: &Context, object: &Arc<TableauSite>, (): &(), act: Act) -> Option<()> {
        let key = Key::Site(object_name(&**object)?);
        in_use::act(ctx, &ctx.objects.sites, &**object, &key, act).await
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
        told(ctx, object_name(object), object.status.as_ref(), after);
    }

    fn waker(ctx: &Context, name: &ObjectName) -> Waker {
        let (wakes, name) = (ctx.wakes.clone(), name.clone());
        Arc::new(move || wakes.site(&name))
    }
}

/// The pass of a connection, of a namespace or of the cluster; `rules`: whether what it allows can be read.
pub(super) fn planned<S>(
    ctx: &Context,
    object: &TableauSite,
    rules: Result<(), BadConnection>,
    now: Timestamp,
) -> Planned<S>
where
    S: Subject<Seen = (), Act = Act>,
    S::Object: HasStatus<Status = TableauSiteStatus>,
{
    let mut status = object.status.clone().unwrap_or_default();
    let (mut notes, mut keep, mut again) = (Vec::new(), Keep::Rest, None);
    if let Some(name) = object_name(object).filter(|_| !in_use::gone(object)) {
        let spec = DesiredSite::parse(object);
        let connected = match &spec {
            Ok(spec) if spec.suspend => {
                // Not one more call but the sign-out: the session ends with its last user.
                let_go(ctx, &name);
                alone(ConnectionState::Suspended)
            }
            Ok(spec) => connect(ctx, &name, object, spec, &status),
            Err(_) => Connected { state: ConnectionState::Connecting, site: None, fingerprint: None },
        };
        let told = spec
            .as_ref()
            .ok()
            .and_then(|spec| let_in::heard(ctx, &Key::Site(name.clone()), &spec.origin(), &connected.state));
        if let (ConnectionState::Connected { .. }, Some(site)) = (&connected.state, &connected.site) {
            status.site_luid = Some(site.luid.to_string());
            status.rest_api_version = Some(site.rest_api_version.clone());
            status.signed_in_with = connected.fingerprint;
        }
        let generation = object.metadata.generation.unwrap_or_default();
        let kept = in_use::look(ctx, &Key::Site(name.clone()), object);
        keep = kept.keep;
        again = kept.again.into_iter().chain(told).min().map(|wait| add(now, wait));
        // A rule that cannot be read allows nothing, and takes nothing from those whom others allow something.
        let spec = rules.and(spec);
        let mut verdicts = site_verdicts(&spec, &connected.state);
        if keep == Keep::Stay {
            verdicts = vec![connection::in_use("Tableau", &kept.users, trouble(reason_of(&verdicts)))];
        }
        if keep == Keep::Stay || !(spec.is_ok() && stands(&connected.state, &status, generation)) {
            notes = ready_changed(&status, &verdicts);
            stamp(&mut status, &verdicts, generation, now);
        }
    }
    let plan = in_use::plan(keep, object.status.as_ref() == Some(&status));
    Planned { status, plan, again, notes, seen: () }
}

/// This status was written of a connection in place of the other.
pub(super) fn told(
    ctx: &Context,
    name: Option<ObjectName>,
    before: Option<&TableauSiteStatus>,
    after: &TableauSiteStatus,
) {
    // Those who wait for the site tell its reason, and all go by its defaults.
    let edited = before.is_some_and(|status| status.observed_generation != after.observed_generation);
    let before = before.and_then(|status| conditions::reason_of(status, "Ready"));
    if (edited || before != conditions::reason_of(after, "Ready"))
        && let Some(name) = name
    {
        watches::wake_all(ctx, &Key::Site(name));
    }
}

fn connect(
    ctx: &Context,
    name: &ObjectName,
    object: &TableauSite,
    spec: &DesiredSite,
    status: &TableauSiteStatus,
) -> Connected {
    let origin = spec.origin();
    if ctx.sites.leave_other(name, &origin) {
        ctx.budgets.forget(ctx, name);
    }
    let Access { to, credential, way } = match (access(ctx, name, spec), ctx.sites.get(name)) {
        (Ok(found), _) => found,
        // What is signed in stays so: a Secret that is gone for a moment must not stop what runs. Where the connection goes too, it is the
        // session that counts.
        (Err(_), Some(link)) if object.metadata.deletion_timestamp.is_some() => {
            let health = link.session.snapshot().health.clone();
            return healthy(ctx, name, object, spec, status, (&link.key, health));
        }
        (Err(state), _) => return alone(state),
    };
    let mut parts: Vec<&str> = credential.iter().map(ExposeSecret::expose_secret).collect();
    // A session knows one edition. Not part of what is undeclared, so that credentials stay recognised.
    let edition = object.spec.edition.map(|edition| format!("{edition:?}"));
    parts.extend(edition.as_deref());
    let way: Vec<&str> = way.iter().map(ExposeSecret::expose_secret).collect();
    let key = SessionKey::new(origin, &parts).by(&way);
    let budget = ctx.budgets.of(ctx, &key.origin, name, spec.limits);
    let shared = budget.clone();
    let before = ctx.sites.get(name).map(|link| link.session);
    let link = ctx.sites.link(name, key.clone(), spec.poll_interval, |users| {
        let lease = ctx.lease.clone();
        let leads = Arc::new(move || lease.now().outlives(Duration::ZERO));
        let client = ctx.services.tableau(&to, leads)?;
        Ok::<_, TableauError>(SiteSession::start(
            client,
            Setup {
                clock: ctx.clock.clone(),
                index: ctx.index.clone(),
                wakes: ctx.wakes.clone(),
                users,
                edition: spec.edition,
                budget: shared,
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
    let connected = healthy(ctx, name, object, spec, status, (&key, health));
    budget.heard(name, &connected.state, ctx.clock.moment());
    connected
}

fn alone(state: ConnectionState) -> Connected {
    Connected { state, site: None, fingerprint: None }
}

/// What the session of this key, of which this is known, means for the object.
fn healthy(
    ctx: &Context,
    name: &ObjectName,
    object: &TableauSite,
    spec: &DesiredSite,
    status: &TableauSiteStatus,
    (key, health): (&SessionKey, Health),
) -> Connected {
    let fingerprint = key.fingerprint(&format!("{}/{}", ctx.instance, object.uid().unwrap_or_default()));
    let worked_before = status.signed_in_with.as_deref() == Some(&fingerprint);
    match health {
        Health::Connecting => alone(ConnectionState::Connecting),
        Health::Failed(error, _) => {
            if matches!(error, TableauError::SignInRefused | TableauError::Identity(IdentityError::Refused)) {
                for secret in secrets(ctx, name, spec) {
                    ctx.secrets.read_again(secret);
                }
            }
            alone(ConnectionState::Failed(failed(error, worked_before)))
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

fn failed(error: TableauError, worked_before: bool) -> Trouble {
    match error {
        TableauError::SignInRefused => Trouble::CredentialsRefused { worked_before },
        TableauError::SessionContested => Trouble::SessionContested,
        TableauError::Forbidden(_) => Trouble::PermissionDenied,
        TableauError::Throttled { .. } => Trouble::RateLimited,
        TableauError::WrongServer | TableauError::NotFound(_) => Trouble::WrongServer,
        TableauError::UnsupportedVersion { version, oldest } => {
            Trouble::UnsupportedVersion { version, oldest }
        }
        TableauError::MissingScope => Trouble::MissingScope,
        TableauError::Identity(error) => identity_trouble(error),
        TableauError::Unreachable(cause) => unreachable_trouble(cause),
        TableauError::Ambiguous | TableauError::Rejected(_) | TableauError::NotLeading => {
            Trouble::Unreachable
        }
    }
}

fn identity_trouble(error: IdentityError) -> Trouble {
    Trouble::Identity(match error {
        IdentityError::NotGranted => IdentityTrouble::NotGranted,
        IdentityError::NoAssertion => IdentityTrouble::NoAssertion,
        IdentityError::Refused => IdentityTrouble::Refused,
        IdentityError::MissingScope => return Trouble::MissingScope,
        IdentityError::NoToken => IdentityTrouble::NoToken,
        IdentityError::Claim(claim) => IdentityTrouble::Claim(claim),
        IdentityError::WrongServer => IdentityTrouble::WrongServer,
        IdentityError::Throttled { .. } => IdentityTrouble::RateLimited,
        IdentityError::Unanswered | IdentityError::Unreachable(Unreachable::Connect) => {
            IdentityTrouble::Unreachable
        }
        IdentityError::Unreachable(Unreachable::Dns) => IdentityTrouble::Dns,
        IdentityError::Unreachable(Unreachable::Tls) => IdentityTrouble::Tls,
        IdentityError::Unreachable(Unreachable::HostNotAllowed(host)) => {
            return Trouble::HostNotAllowed { host };
        }
    })
}

/// Lets go of everything that a deleted object used.
pub fn forget(ctx: &Context, name: &ObjectName) {
    let_go(ctx, name);
    let_in::forget(ctx, &Key::Site(name.clone()));
}

/// Lets go of everything the object used.
fn let_go(ctx: &Context, name: &ObjectName) {
    ctx.secrets.follow(&Referrer::Site(name.clone()), &[]);
    ctx.sites.forget(name);
    ctx.budgets.forget(ctx, name);
}
