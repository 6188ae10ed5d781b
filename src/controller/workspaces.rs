//! `PrefectWorkspace`: from spec and Secret to a session, and from the session's health to conditions.

use super::connections::SessionKey;
use super::context::{Context, Objects};
use super::index::{Key, object_name};
use super::lanes::Waker;
use super::reconcile::{Note, Plan, Planned, Subject, ready_changed};
use super::secrets::{Referrer, SecretView};
use super::services::PrefectCredential;
use super::watches;
use super::workspace::{Health, Hint, Setup, WorkspaceSession};
use crate::api::{Conditioned, PrefectWorkspace, PrefectWorkspaceStatus};
use crate::http::Unreachable;
use crate::model::conditions::{stamp, tells};
use crate::model::connection::{
    ConnectionState, DesiredWorkspace, Trouble, WorkspaceAuth, workspace_verdicts,
};
use crate::model::ids::ObjectName;
use crate::model::time::sub;
use crate::prefect::PrefectError;
use crate::runtime::metrics::Kind;
use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The subject.
pub struct Workspaces;

/// There is nothing to do outside.
pub enum Never {}

#[async_trait]
impl Subject for Workspaces {
    type Object = PrefectWorkspace;
    type Seen = ();
    type Act = Never;
    type Ack = ();
    const KIND: Kind = Kind::PrefectWorkspace;

    fn objects(ctx: &Context) -> &Objects<PrefectWorkspace> {
        &ctx.objects.workspaces
    }

    fn plan(ctx: &Context, object: &Arc<PrefectWorkspace>, now: Timestamp) -> Planned<Self> {
        let mut status = object.status.clone().unwrap_or_default();
        let mut notes = Vec::new();
        if let Some(name) = object_name(&**object) {
            let spec = DesiredWorkspace::parse(object);
            let state = match &spec {
                Ok(spec) => connect(ctx, &name, spec),
                Err(_) => {
                    // The last good session goes on.
                    ConnectionState::Connecting
                }
            };
            if let ConnectionState::Connected { version } = &state {
                if status.version.as_ref() != Some(version) || status.connected_since.is_none() {
                    status.connected_since = Some(now.into());
                }
                status.version = Some(version.clone());
            }
            let generation = object.metadata.generation.unwrap_or_default();
            if !(spec.is_ok() && stands(&state, &status, generation)) {
                let verdicts = workspace_verdicts(&spec, &state);
                notes = ready_changed(&status, &verdicts);
                stamp(&mut status, &verdicts, generation, now);
            }
        }
        Planned { status, plan: Plan::Rest, again: None, notes, seen: () }
    }

    async fn act(_: &Context, _: &Arc<PrefectWorkspace>, (): &(), act: Never) -> Option<()> {
        match act {}
    }

    fn fold(
        _: &Context,
        object: &PrefectWorkspace,
        (): &(),
        (): &(),
        _: Timestamp,
    ) -> (PrefectWorkspaceStatus, Vec<Note>) {
        (object.status.clone().unwrap_or_default(), Vec::new())
    }

    fn waker(ctx: &Context, name: &ObjectName) -> Waker {
        let (wakes, name) = (ctx.wakes.clone(), name.clone());
        Arc::new(move || wakes.workspace(&name))
    }
}

/// Whether what the status says stands until the server has answered or failed to, which takes a call's deadline at most. So neither a start of
/// the operator nor a new value in the Secret makes a connection look broken that is not.
pub(super) fn stands(state: &ConnectionState, status: &impl Conditioned, generation: i64) -> bool {
    *state == ConnectionState::Connecting && tells(status, generation)
}

/// Makes sure that the object has the session its spec and Secret ask for, and tells how that is.
fn connect(ctx: &Context, name: &ObjectName, spec: &DesiredWorkspace) -> ConnectionState {
    ctx.workspaces.leave_other(name, &spec.api_url);
    let (credential, parts) = match credential(ctx, name, &spec.auth) {
        Ok(found) => found,
        // What was connected stays so: a Secret that is gone for a moment must not stop what runs.
        Err(state) => return state,
    };
    let parts: Vec<&str> = parts.iter().map(ExposeSecret::expose_secret).collect();
    let key = SessionKey::new(spec.api_url.clone(), &parts);
    let before = ctx.workspaces.get(name).map(|link| link.session);
    let cursor_key = cursor_annotation(&spec.api_url);
    let link = ctx.workspaces.link(name, key, spec.poll_interval, |users| {
        let client = ctx.services.prefect(&spec.api_url, &credential)?;
        let (lease, key, metrics) = (ctx.lease.clone(), cursor_key.clone(), ctx.metrics.clone());
        // Read within the last day by somebody before us? If not, what completed before the day that is read anew may have been missed.
        let day_ago = sub(ctx.clock.now(), Duration::from_secs(24 * 3600));
        let cursor = ctx.lease.annotation(&cursor_key).and_then(|at| at.parse::<Timestamp>().ok());
        let gap = cursor.is_none_or(|at| at < day_ago);
        Ok::<_, PrefectError>(WorkspaceSession::start(
            client,
            Setup {
                clock: ctx.clock.clone(),
                index: ctx.index.clone(),
                wakes: ctx.wakes.clone(),
                users,
                gap,
                cursor: Arc::new(move |at| {
                    if let Err(error) = lease.set_annotation(&key, &whole_minute(at)) {
                        tracing::error!(%error, "the cursor cannot be kept on the Lease");
                    }
                }),
                connected: Arc::new(move |up| {
                    if up { metrics.websocket_connected() } else { metrics.websocket_lost() }
                }),
                metrics: ctx.metrics.clone(),
            },
        ))
    });
    if let Ok(link) = &link
        && before.is_none_or(|before| !Arc::ptr_eq(&before, &link.session))
    {
        // A session that others use already has nothing new to tell, and these dependents have not heard any of it.
        link.session.hint(Hint::Interest);
        watches::wake_all(ctx, &Key::Workspace(name.clone()));
    }
    match link {
        Ok(link) => match link.session.snapshot().health.clone() {
            Health::Connecting => ConnectionState::Connecting,
            Health::Connected(version) => ConnectionState::Connected { version },
            Health::Failed(error) => {
                if let (
                    PrefectError::Unauthorized,
                    WorkspaceAuth::Basic { secret } | WorkspaceAuth::ApiKey { secret },
                ) = (&error, &spec.auth)
                {
                    let namespace = name.namespace.clone();
                    ctx.secrets.read_again(ObjectName { namespace, name: secret.as_str().into() });
                }
                ConnectionState::Failed(trouble(error))
            }
        },
        Err(error) => ConnectionState::Failed(trouble(error)),
    }
}

/// The lease's annotation that keeps the cursor of one API, so that a gap is known at the next start.
fn cursor_annotation(api_url: &str) -> String {
    let id = SessionKey::new(api_url.to_owned(), &[api_url]).fingerprint("cursor");
    format!("cursor.feedwater.dev/{id}")
}

/// The lease is written every few seconds anyway; the annotation need not change each time.
fn whole_minute(at: Timestamp) -> String {
    let second = at.as_second() - at.as_second().rem_euclid(60);
    Timestamp::from_second(second).unwrap_or(at).to_string()
}

type Keys = Arc<BTreeMap<String, SecretString>>;

fn credential(
    ctx: &Context,
    name: &ObjectName,
    auth: &WorkspaceAuth,
) -> Result<(PrefectCredential, Vec<SecretString>), ConnectionState> {
    let referrer = Referrer::Workspace(name.clone());
    match auth {
        WorkspaceAuth::None => {
            ctx.secrets.follow(&referrer, None);
            Ok((PrefectCredential::None, Vec::new()))
        }
        WorkspaceAuth::Basic { secret } => {
            let keys = keys(ctx, &referrer, name, secret)?;
            let username = key(&keys, secret, "username")?;
            let password = key(&keys, secret, "password")?;
            let parts = vec![username.clone(), password.clone()];
            Ok((PrefectCredential::Basic { username, password }, parts))
        }
        WorkspaceAuth::ApiKey { secret } => {
            let keys = keys(ctx, &referrer, name, secret)?;
            let api_key = key(&keys, secret, "apiKey")?;
            Ok((PrefectCredential::ApiKey(api_key.clone()), vec![api_key]))
        }
    }
}

/// The keys of the Secret an object uses.
pub(super) fn keys(
    ctx: &Context,
    referrer: &Referrer,
    object: &ObjectName,
    secret: &str,
) -> Result<Keys, ConnectionState> {
    let at = ObjectName { namespace: object.namespace.clone(), name: secret.into() };
    match ctx.secrets.follow(referrer, Some(&at)) {
        None | Some(SecretView::Unread) => Err(ConnectionState::Connecting),
        Some(SecretView::NotFound) => Err(ConnectionState::SecretNotFound { name: secret.to_owned() }),
        Some(SecretView::Forbidden) => Err(ConnectionState::SecretAccessDenied {
            name: secret.to_owned(),
            namespace: object.namespace.to_string(),
        }),
        Some(SecretView::Present(keys)) => Ok(keys),
    }
}

/// One key of a Secret. Surrounding white space is not part of it: files end with a newline.
pub(super) fn key(keys: &Keys, secret: &str, key: &'static str) -> Result<SecretString, ConnectionState> {
    keys.get(key)
        .map(|value| value.expose_secret().trim())
        .filter(|value| !value.is_empty())
        .map(SecretString::from)
        .ok_or_else(|| ConnectionState::SecretKeyMissing { name: secret.to_owned(), key })
}

fn trouble(error: PrefectError) -> Trouble {
    match error {
        PrefectError::Unauthorized => Trouble::CredentialsRefused { worked_before: false },
        PrefectError::Forbidden => Trouble::PermissionDenied,
        PrefectError::Throttled { .. } => Trouble::RateLimited,
        PrefectError::WrongServer | PrefectError::NotFound => Trouble::WrongServer,
        PrefectError::Unreachable(cause) => unreachable_trouble(cause),
        PrefectError::Unavailable
        | PrefectError::Ambiguous
        | PrefectError::Conflict
        | PrefectError::Invalid { .. }
        | PrefectError::Rejected(_) => Trouble::Unreachable,
    }
}

/// Why nothing was sent.
pub(super) fn unreachable_trouble(cause: Unreachable) -> Trouble {
    match cause {
        Unreachable::HostNotAllowed(host) => Trouble::HostNotAllowed { host },
        Unreachable::Dns => Trouble::Dns,
        Unreachable::Tls => Trouble::Tls,
        Unreachable::Connect => Trouble::Unreachable,
    }
}

/// Lets go of everything a deleted object used.
pub fn forget(ctx: &Context, name: &ObjectName) {
    ctx.secrets.follow(&Referrer::Workspace(name.clone()), None);
    ctx.workspaces.unlink(name);
}
