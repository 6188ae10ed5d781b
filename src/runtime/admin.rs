//! The admin endpoint: `/livez`, `/readyz`, `/metrics`.

use super::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Whether all is well; if not, what is not, in a few words.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the endpoint shows.
#[derive(Clone)]
pub struct Admin {
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Restart the process when this fails.
    pub live: Check,
    /// The process can do its work: its caches are filled. A standby is ready too.
    pub ready: Check,
}

/// Serves until it is dropped.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, admin: Admin) -> io::Result<()> {
    axum::serve(listener, router(admin)).await
}

/// The routes, without a listener.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(async |State(admin): State<Admin>| verdict(&admin.live)))
        .route("/readyz", get(async |State(admin): State<Admin>| verdict(&admin.ready)))
        .route("/metrics", get(async |State(admin): State<Admin>| metrics(&admin.metrics)))
        .with_state(admin)
}

fn verdict(check: &Check) -> (StatusCode, String) {
    match check() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")),
    }
}

fn metrics(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tower::ServiceExt;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_follows_its_check_and_liveness_its_own() {
        let synced = Arc::new(AtomicBool::new(false));
        let ready = synced.clone();
        let router = router(Admin {
            metrics: Arc::default(),
            live: Arc::new(|| Ok(())),
            ready: Arc::new(move || {
                ready.load(Ordering::SeqCst).then_some(()).ok_or_else(|| "caches are being filled".to_owned())
            }),
        });
        let (status, body) = get(&router, "/readyz").await;
        assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "caches are being filled\n"));
        assert_eq!(get(&router, "/livez").await.0, StatusCode::OK);
        synced.store(true, Ordering::SeqCst);
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::OK);
        assert!(get(&router, "/metrics").await.1.contains("feedwater_leader 0"));
    }
}
