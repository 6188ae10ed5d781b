//! `PrefectWorkspace`: from spec and Secret to a session, and from the session's health to conditions.

use super::connections::SessionKey;
use super::context::{Context, Objects};
use super::cursors::Cursors;
use super::in_use::{self, Act};
use super::index::{Key, object_name};
use super::lanes::Waker;
use super::let_in;
use super::reconcile::{Note, Planned, Subject, ready_changed};
use super::secrets::Referrer;
use super::watches;
use super::workspace::{Health, Hint, Setup, WorkspaceSession};
use super::workspace_access::{Access, access, secrets};
use crate::api::{
    Conditioned, HasStatus, PrefectEvents, PrefectServer, PrefectWorkspace, PrefectWorkspaceStatus,
};
use crate::http::Unreachable;
use crate::model::conditions::{Verdict, stamp, tells};
use crate::model::connection::{
    self, BadConnection, ConnectionState, DesiredWorkspace, Keep, OLDEST, Support, TESTED, Trouble, is_cloud,
    support, workspace_verdicts,
};
use crate::model::ids::ObjectName;
use crate::model::time::add;
use crate::prefect::{PrefectError, Server};
use crate::runtime::metrics::Kind;
use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use std::sync::Arc;

/// The subject.
pub struct Workspaces;

#[async_trait]
impl Subject for Workspaces {
    type Object = PrefectWorkspace;
    type Seen = ();
    type Act = Act;
    type Ack = ();
    const KIND: Kind = Kind::PrefectWorkspace;

    fn objects(ctx: &Context) -> &Objects<PrefectWorkspace> {
        &ctx.objects.workspaces
    }

    fn plan(ctx: &Context, object: &Arc<PrefectWorkspace>, now: Timestamp) -> Planned<Self> {
        planned(ctx, object, Ok(()), now)
    }

    async fn act(ctx: &Context, object: &Arc<PrefectWorkspace>, (): &(), act: Act) -> Option<()> {
        let key = Key::Workspace(object_name(&**object)?);
        in_use::act(ctx, &ctx.objects.workspaces, &**object, &key, act).await
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

/// The pass of a connection, of a namespace or of the cluster; `rules`: whether what it allows can be read.
pub(super) fn planned<S>(
    ctx: &Context,
    object: &PrefectWorkspace,
    rules: Result<(), BadConnection>,
    now: Timestamp,
) -> Planned<S>
where
    S: Subject<Seen = (), Act = Act>,
    S::Object: HasStatus<Status = PrefectWorkspaceStatus>,
{
    let mut status = object.status.clone().unwrap_or_default();
    let (mut notes, mut keep, mut again) = (Vec::new(), Keep::Rest, None);
    if let Some(name) = object_name(object).filter(|_| !in_use::gone(object)) {
        let spec = DesiredWorkspace::parse(object);
        let state = match &spec {
            Ok(spec) if spec.suspend => {
                // Not one more call: the session ends with its last user.
                let_go(ctx, &name);
                ConnectionState::Suspended
            }
            Ok(spec) => connect(ctx, &name, spec, object.metadata.deletion_timestamp.is_some()),
            Err(_) => {
                // The last good session goes on.
                ConnectionState::Connecting
            }
        };
        if let Ok(spec) = &spec {
            again = let_in::heard(ctx, &Key::Workspace(name.clone()), &spec.api_url, &state);
        }
        if let ConnectionState::Connected { .. } = &state
            && let Some(session) = ctx.workspaces.get(&name).map(|link| link.session)
            && let Health::Connected(server) = &session.snapshot().health
        {
            notes.extend(take(&mut status, server, session.live(), now));
        }
        let generation = object.metadata.generation.unwrap_or_default();
        let kept = in_use::look(ctx, &Key::Workspace(name.clone()), object);
        keep = kept.keep;
        // A rule that cannot be read allows nothing, and takes nothing from those whom others allow something.
        let spec = rules.and(spec);
        let mut verdicts = workspace_verdicts(&spec, &state);
        let reason = reason_of(&verdicts);
        ctx.workspaces.say(&name, reason);
        if keep == Keep::Stay {
            verdicts = vec![connection::in_use("Prefect", &kept.users, trouble(reason))];
        }
        if keep == Keep::Stay || !(spec.is_ok() && stands(&state, &status, generation)) {
            notes.extend(ready_changed(&status, &verdicts));
            stamp(&mut status, &verdicts, generation, now);
        }
    }
    let plan = in_use::plan(keep, object.status.as_ref() == Some(&status));
    Planned { status, plan, again: again.map(|wait| add(now, wait)), notes, seen: () }
}

/// Whether what the status says stands until the server has answered or failed to, which takes a call's deadline at most. So neither a start of
/// the operator nor a new value in the Secret makes a connection look broken that is not.
pub(super) fn stands(state: &ConnectionState, status: &impl Conditioned, generation: i64) -> bool {
    *state == ConnectionState::Connecting && tells(status, generation)
}

/// The reason of `Ready` among the verdicts.
pub(super) fn reason_of(verdicts: &[Verdict]) -> &'static str {
    verdicts.iter().find(|verdict| verdict.kind == "Ready").map_or("Progressing", |verdict| verdict.reason)
}

/// The reasons of `Ready` that keep those who need the connection from cleaning up.
pub(super) fn trouble(reason: &'static str) -> Option<&'static str> {
    Some(reason).filter(|reason| !matches!(*reason, "Connected" | "Progressing"))
}

/// Takes in what is known of a server; a version that is too old to be tested is told once.
fn take(
    status: &mut PrefectWorkspaceStatus,
    server: &Server,
    live: Option<bool>,
    now: Timestamp,
) -> Option<Note> {
    let fresh = status.version != server.version;
    if fresh || status.connected_since.is_none() {
        status.connected_since = Some(now.into());
    }
    status.version.clone_from(&server.version);
    // Until the websocket has been tried, what was known of it stands.
    let known = status.server.as_ref().and_then(|server| server.events);
    let events = live.map(|live| if live { PrefectEvents::Live } else { PrefectEvents::Polling }).or(known);
    status.server = Some(PrefectServer { hosting: server.hosting, csrf: server.csrf, events });
    let version = server.version.as_deref().filter(|version| fresh && support(version) == Support::Old)?;
    Some(Note {
        warning: true,
        reason: "OldVersion".into(),
        message: format!("Feedwater is not tested with Prefect {version}; upgrade it to {TESTED} or later"),
    })
}

/// Makes sure that the object has the session its spec and Secret ask for, and tells how that is.
fn connect(ctx: &Context, name: &ObjectName, spec: &DesiredWorkspace, leaving: bool) -> ConnectionState {
    if ctx.workspaces.get(name).is_some_and(|link| link.key.origin != spec.api_url) {
        // Nothing may go on at a place the user has left.
        leave(ctx, name);
    }
    let Access { access, parts } = match (access(ctx, name, spec), ctx.workspaces.get(name)) {
        (Ok(found), _) => found,
        // What was connected stays so: a Secret that is gone for a moment must not stop what runs. Where the connection goes too, it is the
        // session that counts.
        (Err(_), Some(link)) if leaving => return health(ctx, name, spec, &link.session),
        (Err(state), _) => return state,
    };
    let parts: Vec<&str> = parts.iter().map(ExposeSecret::expose_secret).collect();
    let key = SessionKey::new(spec.api_url.clone(), &parts);
    let before = ctx.workspaces.get(name).map(|link| link.session);
    let link = ctx.workspaces.link(name, key, spec.poll_interval, |users| {
        let client = ctx.services.prefect(&access)?;
        let (cursors, metrics) = (Cursors::new(ctx, &spec.api_url, &users), ctx.metrics.clone());
        let cursors = Arc::new(cursors);
        let before = cursors.clone();
        Ok::<_, PrefectError>(WorkspaceSession::start(
            client,
            Setup {
                clock: ctx.clock.clone(),
                index: ctx.index.clone(),
                wakes: ctx.wakes.clone(),
                users,
                lane: ctx.lanes.of(&payer(&spec.api_url), &ctx.clock),
                written: ctx.written.of(&spec.api_url),
                gap: Arc::new(move || before.gap()),
                cursor: Arc::new(move |at, users| cursors.keep(at, users)),
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
        Ok(link) => {
            let state = health(ctx, name, spec, &link.session);
            link.session.lane.allow(name, spec.writes, &state);
            state
        }
        Err(error) => ConnectionState::Failed(failed(error)),
    }
}

fn health(
    ctx: &Context,
    name: &ObjectName,
    spec: &DesiredWorkspace,
    session: &WorkspaceSession,
) -> ConnectionState {
    match session.snapshot().health.clone() {
        Health::Connecting => ConnectionState::Connecting,
        Health::Connected(server) => {
            ConnectionState::Connected { version: server.version.unwrap_or_else(|| "Cloud".into()) }
        }
        Health::Failed(error) => {
            if matches!(error, PrefectError::Unauthorized | PrefectError::Forbidden) {
                for secret in secrets(ctx, name, spec) {
                    ctx.secrets.read_again(secret);
                }
            }
            ConnectionState::Failed(failed(error))
        }
    }
}

/// What bears the load of all workspaces there, and is silent to all: a server, by scheme, host and port, or an account of Prefect Cloud,
/// whose limits are its own.
fn payer(api_url: &str) -> String {
    if is_cloud(api_url) {
        return api_url.split("/workspaces/").next().unwrap_or(api_url).to_owned();
    }
    url::Url::parse(api_url).map_or_else(|_| api_url.to_owned(), |url| url.origin().ascii_serialization())
}

/// What a failed read says about the connection.
fn failed(error: PrefectError) -> Trouble {
    match error {
        PrefectError::Unauthorized => Trouble::CredentialsRefused { worked_before: false },
        PrefectError::Forbidden => Trouble::PermissionDenied,
        PrefectError::Throttled { .. } => Trouble::RateLimited,
        PrefectError::WrongServer | PrefectError::NotFound => Trouble::WrongServer,
        PrefectError::UnsupportedVersion(version) => Trouble::UnsupportedVersion { version, oldest: OLDEST },
        PrefectError::Unreachable(cause) => unreachable_trouble(cause),
        PrefectError::Unavailable => Trouble::ServiceUnavailable,
        PrefectError::Ambiguous => Trouble::ConnectionLost,
        PrefectError::TimedOut => Trouble::TimedOut,
        PrefectError::Conflict | PrefectError::Parameters { .. } => Trouble::UnexpectedAnswer { status: 409 },
        PrefectError::Invalid { .. } => Trouble::UnexpectedAnswer { status: 422 },
        PrefectError::Rejected(status) => Trouble::UnexpectedAnswer { status },
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
    let_go(ctx, name);
    ctx.workspaces.forget(name);
    let_in::forget(ctx, &Key::Workspace(name.clone()));
}

/// Lets go of everything the object used.
fn let_go(ctx: &Context, name: &ObjectName) {
    ctx.secrets.follow(&Referrer::Workspace(name.clone()), &[]);
    leave(ctx, name);
}

fn leave(ctx: &Context, name: &ObjectName) {
    if let Some(link) = ctx.workspaces.get(name) {
        link.session.lane.leave_out(name);
    }
    ctx.workspaces.unlink(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_one_payer_and_in_the_cloud_one_account_is() {
        for (one, other, same) in [
            ("https://prefect.example/api", "https://prefect.example:443/other/api", true),
            ("https://prefect.example/api", "https://prefect.example:4200/api", false),
            (
                "https://api.prefect.cloud/api/accounts/a/workspaces/1",
                "https://api.prefect.cloud/api/accounts/a/workspaces/2",
                true,
            ),
            (
                "https://api.prefect.cloud/api/accounts/a/workspaces/1",
                "https://api.prefect.cloud/api/accounts/b/workspaces/1",
                false,
            ),
        ] {
            assert_eq!(payer(one) == payer(other), same, "{one} {other}");
        }
    }
}
