//! The API server's clock, read from the `Date` of its answers: creation timestamps are in its time (docs/trigger.md 7).

use crate::clock::Clock;
use crate::model::time::ClockReading;
use futures::future::BoxFuture;
use http::{Request, Response};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// The last reading, shared by the client's layer and the controller.
#[derive(Clone)]
pub struct ApiClock {
    clock: Clock,
    last: Arc<Mutex<Option<ClockReading>>>,
}

impl ApiClock {
    /// Nothing read yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, last: Arc::default() }
    }

    /// The last reading.
    pub fn reading(&self) -> Option<ClockReading> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Layer<S> for ApiClock {
    type Service = Reading<S>;
    fn layer(&self, inner: S) -> Reading<S> {
        Reading { inner, clock: self.clone() }
    }
}

/// A service that reads the `Date` of every answer.
#[derive(Clone)]
pub struct Reading<S> {
    inner: S,
    clock: ApiClock,
}

impl<S, A, B> Service<Request<A>> for Reading<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let sent = self.clock.clock.moment();
        let future = self.inner.call(request);
        let clock = self.clock.clone();
        Box::pin(async move {
            let answer = future.await?;
            if let Some(date) = answer.headers().get(http::header::DATE).and_then(|d| d.to_str().ok())
                && let Ok(date) = jiff::fmt::rfc2822::parse(date)
            {
                let reading = ClockReading { date: date.timestamp(), sent, received: clock.clock.moment() };
                *clock.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
            }
            Ok(answer)
        })
    }
}
