//! An axum router as the service of a public port.

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::{Json, Router};
use bytes::Bytes;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use prometheus::IntCounterVec;
use serde_json::json;

use super::received::{BodyError, Received};
use super::service::Service;

/// An axum router as the service of a public port. Its handlers get complete bodies, and it may not be
/// found out by trying: a client with too many answers of 4xx gets 429 in their place.
pub struct Routed {
    router: TowerToHyperService<Router>,
    body_bytes: usize,
    port: &'static str,
    requests: IntCounterVec,
}

impl Routed {
    /// Bodies larger than `body_bytes` are answered 413. `requests` counts by `port` and outcome.
    pub fn new(
        router: Router,
        body_bytes: usize,
        port: &'static str,
        requests: IntCounterVec,
    ) -> Self {
        Self {
            router: TowerToHyperService::new(router),
            body_bytes,
            port,
            requests,
        }
    }

    fn count(&self, outcome: &'static str) {
        let labels = [self.port, outcome];
        self.requests.with_label_values(&labels).inc();
    }

    async fn route<B>(&self, received: &mut Received<'_, B>) -> (Response<Body>, &'static str)
    where
        B: hyper::body::Body<Data = Bytes> + Send + Unpin,
    {
        let bytes = match received.body(self.body_bytes).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let (status, outcome) = of_body(error);
                let why = json!({"error": {"reason": outcome, "message": error.to_string()}});
                return ((status, Json(why)).into_response(), outcome);
            }
        };
        let request = Request::from_parts(received.head.clone(), Body::from(bytes));
        let Ok(response) = self.router.call(request).await;
        let outcome = match response.status() {
            status if status.is_client_error() => "refused",
            status if status.is_server_error() => "failed",
            _ => "answered",
        };
        (response, outcome)
    }
}

impl Service for Routed {
    type Body = Body;

    async fn answer<B>(&self, received: &mut Received<'_, B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + Unpin,
    {
        let (response, outcome) = self.route(received).await;
        if response.status().is_client_error()
            && let Err(retry_after_seconds) = received.refused()
        {
            self.count("limited");
            let wait = [(header::RETRY_AFTER, retry_after_seconds.to_string())];
            return (StatusCode::TOO_MANY_REQUESTS, wait).into_response();
        }
        self.count(outcome);
        response
    }

    fn count_unserved(&self, outcome: &'static str) {
        self.count(outcome);
    }
}

fn of_body(error: BodyError) -> (StatusCode, &'static str) {
    match error {
        BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        BodyError::Incomplete => (StatusCode::BAD_REQUEST, "incomplete_body"),
        BodyError::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout"),
        BodyError::Budget => (StatusCode::SERVICE_UNAVAILABLE, "body_budget"),
    }
}
