//! The driver, the same for every kind: newest → parse → observe (memory only) → decide (pure) → publish, or act and publish what was
//! acknowledged. A pass writes status at most once; the writing of an intent is a pass of its own.

use super::context::{Context, Objects};
use super::lanes::{IN_LINE, Lane, Priority, Waker};
use super::publish::{self, Ours, PublishError};
use crate::api::{Conditioned, HasStatus};
use crate::model::conditions::{Truth, Verdict, reason_of, replace};
use crate::model::ids::ObjectName;
use crate::runtime::metrics::{Kind, Reconciled};
use async_trait::async_trait;
use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// A kind as the driver sees it: what it decides, and how it acts.
#[async_trait]
pub trait Subject: Sized + Send + Sync + 'static {
    /// The kind.
    type Object: Ours + HasStatus;
    /// What was parsed and observed, kept for the fold.
    type Seen: Send + Sync;
    /// What a pass may do beside publishing.
    type Act: Send + Sync;
    /// What was acknowledged.
    type Ack: Send + Sync;

    /// The kind, in metrics.
    const KIND: Kind;

    /// Its objects.
    fn objects(ctx: &Context) -> &Objects<Self::Object>;
    /// Parses, observes, decides. Memory only.
    fn plan(ctx: &Context, object: &Arc<Self::Object>, now: Timestamp) -> Planned<Self>;
    /// An intent of this id is written.
    fn intended(_: &Context, _: &str) {}
    /// Acts. `None`: not now (the lease would not outlive it); nothing was done.
    async fn act(
        ctx: &Context,
        object: &Arc<Self::Object>,
        seen: &Self::Seen,
        act: Self::Act,
    ) -> Option<Self::Ack>;
    /// Folds what was acknowledged into the status of this object, which may be newer than the one that was decided on.
    fn fold(
        ctx: &Context,
        object: &Self::Object,
        seen: &Self::Seen,
        ack: &Self::Ack,
        now: Timestamp,
    ) -> (Status<Self>, Vec<Note>);
    /// This status was written in place of the object's.
    fn wrote(_: &Context, _: &Self::Object, _: &Status<Self>) {}
    /// Wakes the object, from anywhere.
    fn waker(ctx: &Context, name: &ObjectName) -> Waker;
}

/// The status type of a subject.
pub type Status<S> = <<S as Subject>::Object as HasStatus>::Status;

/// What a pass comes to.
pub struct Planned<S: Subject> {
    /// The next status; equal to the stored one: nothing is written.
    pub status: Status<S>,
    /// What to do.
    pub plan: Plan<S::Act>,
    /// Look again then.
    pub again: Option<Timestamp>,
    /// Kubernetes Events, once the status is written.
    pub notes: Vec<Note>,
    /// Kept for the fold.
    pub seen: S::Seen,
}

/// The one thing a pass does.
pub enum Plan<A> {
    /// Publish.
    Rest,
    /// Publish; then the intent of this id counts as written and not sent.
    Intend(String),
    /// Act, then publish what was acknowledged.
    Do {
        /// The act.
        act: A,
        /// The lane of the remote; `None`: Kubernetes itself.
        lane: Option<Arc<Lane>>,
        /// Place in the lane.
        priority: Priority,
    },
}

/// A Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// CamelCase.
    pub reason: Cow<'static, str>,
    /// One sentence.
    pub message: String,
}

/// A connection that works again, or no longer, is told once; one that is being tried is not.
pub fn ready_changed(before: &impl Conditioned, verdicts: &[Verdict]) -> Vec<Note> {
    let changed = |ready: &&Verdict| {
        ready.kind == "Ready"
            && ready.truth != Truth::Unknown
            && reason_of(before, "Ready") != Some(ready.reason)
    };
    let note = |ready: &Verdict| Note {
        warning: ready.truth == Truth::False,
        reason: ready.reason.into(),
        message: ready.message.clone(),
    };
    verdicts.iter().filter(changed).map(note).collect()
}

/// The Event of a resource that begins to be wrong, or is so for another reason: many look at nothing else. None where a Warning is told already, and
/// none of a deletion, which is asked for.
fn unready(before: Option<&impl Conditioned>, after: &impl Conditioned, told: &[Note]) -> Option<Note> {
    let of = |status: &[Condition]| {
        let wrong = |c: &&Condition| c.type_ == "Ready" && c.status == "False" && c.reason != "Deleting";
        status.iter().find(wrong).map(|c| (c.reason.clone(), c.message.clone()))
    };
    let (reason, message) = of(after.conditions())?;
    let known = before.and_then(|before| of(before.conditions())).is_some_and(|(was, _)| was == reason);
    let told = told.iter().any(|note| note.warning);
    (!known && !told).then(|| Note { warning: true, reason: reason.into(), message })
}

/// Why a reconcile ends early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else wrote: decide again.
    #[error("the object changed meanwhile")]
    Conflict,
    /// It is the next leader's turn.
    #[error("this process does not lead any more")]
    NotLeading,
    /// The API server.
    #[error("Kubernetes: {0}")]
    Kube(#[source] Box<kube::Error>),
    /// A fault in Feedwater.
    #[error("a fault in Feedwater: the reconcile panicked")]
    Panic,
}

/// Passes in one go; an object that needs more has its turn again later, so that it cannot keep a worker for itself.
const MOST_PASSES: usize = 12;
const SOON: Duration = Duration::from_secs(1);
/// The shortest wait: whatever the model says, no object spins.
const SHORTEST: Duration = Duration::from_millis(100);
/// After a conflict the watch brings the newer object, which wakes it at once. Trying again before that could only conflict again; a watch
/// that hangs must not make every object ask five times a second.
const CONFLICT: Duration = Duration::from_secs(5);

/// Reconciles one object; a panic stays with it.
///
/// # Errors
/// See [`Error`]; the object is looked at again by [`error_policy`].
pub async fn reconcile<S: Subject>(seen: Arc<S::Object>, ctx: Arc<Context>) -> Result<Action, Error> {
    // A standby keeps its caches warm and does nothing else.
    if !ctx.acts() {
        return Ok(Action::await_change());
    }
    let result = AssertUnwindSafe(passes::<S>(seen.clone(), &ctx)).catch_unwind().await;
    match result {
        Ok(Ok((action, outcome))) => {
            ctx.metrics.reconciled(S::KIND, outcome);
            Ok(action)
        }
        Ok(Err(error)) => {
            let outcome =
                if matches!(error, Error::Conflict) { Reconciled::Conflict } else { Reconciled::Failed };
            ctx.metrics.reconciled(S::KIND, outcome);
            Err(error)
        }
        Err(_) => {
            ctx.metrics.panicked(S::KIND);
            ctx.metrics.reconciled(S::KIND, Reconciled::Failed);
            confess::<S>(&seen, &ctx).await;
            Err(Error::Panic)
        }
    }
}

async fn passes<S: Subject>(
    first: Arc<S::Object>,
    ctx: &Arc<Context>,
) -> Result<(Action, Reconciled), Error> {
    let Some(name) = super::index::object_name(&*first) else {
        return Ok((Action::await_change(), Reconciled::Rest));
    };
    let mut outcome = Reconciled::Rest;
    for _ in 0..MOST_PASSES {
        let Some(object) = S::objects(ctx).get(&name) else { return Ok((Action::await_change(), outcome)) };
        let now = ctx.clock.now();
        let planned = S::plan(ctx, &object, now);
        match planned.plan {
            Plan::Rest => {
                if !publish::<S>(ctx, &object, planned.status, &planned.notes).await? {
                    return Ok((until(planned.again, now), outcome));
                }
                outcome = Reconciled::Acted;
            }
            Plan::Intend(id) => {
                publish::<S>(ctx, &object, planned.status, &planned.notes).await?;
                S::intended(ctx, &id);
                outcome = Reconciled::Acted;
            }
            Plan::Do { act, lane, priority } => {
                let pass = match lane {
                    None => None,
                    Some(lane) => {
                        let waker = S::waker(ctx, &name);
                        match lane.enter(&name.namespace, &name.name, priority, waker) {
                            Some(pass) => Some(pass),
                            // Woken when a slot is free; and should whoever is woken not want it any more, then by the clock.
                            None => return Ok((Action::requeue(IN_LINE), Reconciled::Waiting)),
                        }
                    }
                };
                let Some(ack) = S::act(ctx, &object, &planned.seen, act).await else {
                    return Ok((Action::requeue(SOON), Reconciled::Waiting));
                };
                drop(pass);
                acknowledge::<S>(ctx, &object, &planned.seen, &ack, &planned.notes).await?;
                outcome = Reconciled::Acted;
            }
        }
    }
    Ok((Action::requeue(SOON), outcome))
}

async fn publish<S: Subject>(
    ctx: &Context,
    object: &Arc<S::Object>,
    status: Status<S>,
    notes: &[Note],
) -> Result<bool, Error> {
    if object.status() == Some(&status) {
        return Ok(false);
    }
    publish::status(ctx, S::objects(ctx), &**object, &status).await?;
    ctx.metrics.wrote_status(S::KIND);
    let unready = unready(object.status(), &status, notes);
    S::wrote(ctx, object, &status);
    tell(ctx, &**object, notes.iter().chain(&unready));
    Ok(true)
}

/// Something was done outside, and that is a fact: it is written whatever else happened to the object meanwhile, for as long as we lead.
async fn acknowledge<S: Subject>(
    ctx: &Context,
    acted: &S::Object,
    seen: &S::Seen,
    ack: &S::Ack,
    planned: &[Note],
) -> Result<(), Error> {
    let Some(name) = &super::index::object_name(acted) else { return Ok(()) };
    let mut wait = Duration::from_millis(100);
    let mut object = S::objects(ctx).get(name);
    loop {
        // A namesake made meanwhile has nothing to do with it.
        let Some(current) = object.clone().filter(|now| now.uid() == acted.uid()) else { return Ok(()) };
        let (status, mut notes) = S::fold(ctx, &current, seen, ack, ctx.clock.now());
        notes.extend(planned.iter().cloned());
        let error = match publish::<S>(ctx, &current, status, &notes).await {
            Ok(wrote) => {
                if !wrote {
                    tell(ctx, &*current, &notes);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if !ctx.acts() {
            return Err(error);
        }
        if is_refused(&error) {
            // It would be refused for ever, and hold one of the workers so long. As after a crash the next pass finds out what was done.
            tracing::error!(object = %name, %error, "what was acknowledged cannot be written: the API server refuses this status");
            return Err(error);
        }
        tracing::warn!(object = %name, %error, "what was acknowledged is not written yet");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
        match publish::read::<S::Object>(ctx, name).await {
            Ok(found) => object = found.map(Arc::new),
            Err(error) => tracing::warn!(object = %name, %error, "the object cannot be read"),
        }
    }
}

/// Whether the API server can never take what was sent: it is no valid object.
fn is_refused(error: &Error) -> bool {
    match error {
        Error::Kube(error) => {
            matches!(&**error, kube::Error::Api(status) if matches!(status.code, 400 | 422))
        }
        Error::Conflict | Error::NotLeading | Error::Panic => false,
    }
}

/// Says on the object that Feedwater failed on it.
async fn confess<S: Subject>(object: &Arc<S::Object>, ctx: &Context) {
    let Some(name) = super::index::object_name(&**object) else { return };
    let Some(object) = S::objects(ctx).get(&name) else { return };
    let mut status = object.status().cloned().unwrap_or_default();
    let verdict = Verdict::new(
        "Ready",
        Truth::False,
        "InternalError",
        "Feedwater failed on this resource and will try again; please report it with the operator's log",
    );
    // What was not decided stays as it was, the generation among it: the edit is still to be taken.
    replace(&mut status, &verdict, ctx.clock.now());
    if let Err(error) = publish::<S>(ctx, &object, status, &[]).await {
        tracing::warn!(object = %name, %error, "the fault cannot be written");
    }
}

/// What the API server takes as an Event's action.
const MOST_ACTION: usize = 128;

/// Best effort: an Event that cannot be written is no reason to do anything else.
fn tell<'a, K>(ctx: &Context, object: &K, notes: impl IntoIterator<Item = &'a Note>)
where
    K: kube::Resource<DynamicType = ()>,
{
    for note in notes {
        let event = kube::runtime::events::Event {
            type_: if note.warning {
                kube::runtime::events::EventType::Warning
            } else {
                kube::runtime::events::EventType::Normal
            },
            reason: note.reason.clone().into_owned(),
            note: Some(note.message.clone()),
            // Repeats are told apart by this too: what names one of several things is an Event of its own.
            action: note.message.chars().take(MOST_ACTION).collect(),
            secondary: None,
        };
        log(&object.object_ref(&()), note);
        let (recorder, reference) = (ctx.recorder.clone(), object.object_ref(&()));
        tokio::spawn(async move {
            if let Err(error) = recorder.publish(&event, &reference).await {
                tracing::debug!(%error, "an Event could not be written");
            }
        });
    }
}

fn log(object: &ObjectReference, note: &Note) {
    let (name, namespace, kind) = (&object.name, &object.namespace, &object.kind);
    if note.warning {
        tracing::warn!(object = name, namespace, kind, reason = &*note.reason, "{}", note.message);
    } else {
        tracing::info!(object = name, namespace, kind, reason = &*note.reason, "{}", note.message);
    }
}

fn until(again: Option<Timestamp>, now: Timestamp) -> Action {
    match again {
        None => Action::await_change(),
        Some(at) => {
            let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            // Rounded up a little: waking just before the moment would decide the same again.
            Action::requeue((wait + Duration::from_millis(20)).max(SHORTEST))
        }
    }
}

/// What follows a failed reconcile.
#[allow(clippy::needless_pass_by_value)] // the signature is kube's
pub fn error_policy<S: Subject>(object: Arc<S::Object>, error: &Error, _: Arc<Context>) -> Action {
    match error {
        Error::Conflict => Action::requeue(CONFLICT),
        Error::NotLeading => Action::await_change(),
        Error::Kube(_) => {
            tracing::warn!(object = %object.name_any(), namespace = object.namespace(), %error, "reconcile failed");
            Action::requeue(Duration::from_secs(5))
        }
        Error::Panic => {
            tracing::error!(object = %object.name_any(), namespace = object.namespace(), %error, "reconcile panicked");
            Action::requeue(Duration::from_secs(60))
        }
    }
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Conflict => Self::Conflict,
            PublishError::NotLeading => Self::NotLeading,
            PublishError::Kube(error) => Self::Kube(error),
        }
    }
}
