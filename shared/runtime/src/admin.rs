//! The admin listener: metrics and health, on a port of its own that is private by default.
//!
//! - `GET /metrics`: Prometheus text format.
//! - `GET /healthz`: 200 while the process can answer at all; restart it if this fails.
//! - `GET /readyz`: 200 when every named check passes, else 503; JSON either way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::TrustedProxies;
use crate::listen::{ListenError, ListenSetting, listen};
use crate::public::{Bounds, Port, Routed, serve};
use crate::telemetry::Metrics;

/// The state that `/readyz` reports: named checks, each set by the part of the process it
/// describes. Clones share the checks.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

/// One named check. It keeps its last result when dropped.
#[derive(Debug, Clone)]
pub struct Check {
    readiness: Readiness,
    name: &'static str,
}

/// The admin listener, bound but not yet serving.
pub struct Admin {
    listener: std::net::TcpListener,
    local_addr: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
}

/// For scrapers and probes; nothing else should connect here. If something does, and holds connections without a
/// complete request, those are closed that have waited longest: the next probe must not wait for them.
const BOUNDS: Bounds = Bounds {
    connections: 64,
    connections_per_peer: 64,
    unfinished_body_bytes: BODY_BYTES,
    header: Duration::from_secs(10),
    body: Duration::from_secs(10),
    // Longer than the usual scrape interval.
    idle: Duration::from_secs(90),
    drain: Duration::from_secs(2),
    refused_per_second: 100,
    refused_burst: 1000,
};
/// No request here has a body.
const BODY_BYTES: usize = 16 * 1024;

impl Readiness {
    /// Adds a check, which fails with "starting" until it first passes.
    pub fn check(&self, name: &'static str) -> Check {
        let check = Check {
            readiness: self.clone(),
            name,
        };
        check.fail("starting");
        check
    }

    /// Whether all checks pass. Without any check it is ready.
    pub fn is_ready(&self) -> bool {
        self.with(|checks| checks.values().all(Option::is_none))
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<&'static str, Option<String>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Check {
    /// Marks it as able to work.
    pub fn pass(&self) {
        self.readiness.with(|checks| checks.insert(self.name, None));
    }

    /// Marks it as unable to work. `reason` is shown in `/readyz`: no secrets, no personal data.
    pub fn fail(&self, reason: impl Into<String>) {
        self.readiness
            .with(|checks| checks.insert(self.name, Some(reason.into())));
    }
}

impl Admin {
    /// Opens the admin listener.
    pub async fn bind(
        addr: SocketAddr,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Result<Self, ListenError> {
        let setting = ListenSetting::Admin;
        let (listener, local_addr) = listen(addr, setting).await?;
        let listener = listener.into_std().map_err(|source| ListenError {
            setting,
            addr,
            source,
        })?;
        Ok(Self {
            listener,
            local_addr,
            metrics,
            readiness,
        })
    }

    /// The bound address, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`. Stop the roles first, so that their shutdown can be observed.
    ///
    /// After a panic it can be called again: the socket stays open in between.
    ///
    /// # Panics
    ///
    /// If the system has no descriptor left for a second handle on the socket.
    pub async fn serve(&self, shutdown: CancellationToken) {
        let listener = self.listener.try_clone().and_then(TcpListener::from_std);
        let listener = listener.expect("a handle on the socket");
        let router = Router::new()
            .route("/metrics", get(metrics))
            .with_state(self.metrics.clone())
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .with_state(self.readiness.clone());
        let requests = self.metrics.public_requests.clone();
        let service = Arc::new(Routed::new(router, BODY_BYTES, "admin", requests));
        let port = Arc::new(Port::new(BOUNDS, TrustedProxies::default()));
        serve(listener, port, service, shutdown).await;
    }
}

async fn metrics(State(metrics): State<Metrics>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics.render(),
    )
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    #[derive(Serialize)]
    struct Report {
        ready: bool,
        checks: BTreeMap<&'static str, String>,
    }
    let checks = readiness.with(|checks| checks.clone());
    let ready = checks.values().all(Option::is_none);
    let checks = checks
        .into_iter()
        .map(|(name, reason)| (name, reason.unwrap_or_else(|| "ok".to_owned())))
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Report { ready, checks }))
}

#[cfg(test)]
mod tests {
    use revwatch_test_servers::get as fetch;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::supervise::Supervisor;

    #[tokio::test]
    async fn serves_metrics_health_and_readiness_until_shutdown() {
        let (metrics, readiness) = (Metrics::new(), Readiness::default());
        let admin = Admin::bind(
            ([127, 0, 0, 1], 0).into(),
            metrics.clone(),
            readiness.clone(),
        )
        .await
        .expect("a port");
        let addr = admin.local_addr();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let serving = tokio::spawn(async move { admin.serve(stop).await });

        metrics.dead_letters.set(7);
        let answer = fetch(addr, "/metrics").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("revwatch_dead_letters 7"),
            "{answer}"
        );
        assert!(
            answer.contains("content-type: text/plain; version=0.0.4"),
            "{answer}"
        );
        assert!(fetch(addr, "/healthz").await.starts_with("HTTP/1.1 200"));

        assert!(
            fetch(addr, "/readyz")
                .await
                .ends_with(r#"{"ready":true,"checks":{}}"#)
        );
        let (queue, store) = (readiness.check("queue"), readiness.check("store"));
        queue.pass();
        let answer = fetch(addr, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with(r#"{"ready":false,"checks":{"queue":"ok","store":"starting"}}"#),
            "{answer}"
        );
        store.pass();
        assert!(readiness.is_ready() && fetch(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
        queue.fail("disconnected");
        assert!(!readiness.is_ready() && fetch(addr, "/readyz").await.contains("disconnected"));

        // An idle connection does not delay shutdown.
        let _idle = TcpStream::connect(addr).await.expect("the admin listener");
        shutdown.cancel();
        timeout(Duration::from_secs(10), serving)
            .await
            .expect("in time")
            .expect("no panic");
    }

    /// A scraper that leaks connections must not have a healthy process restarted.
    #[tokio::test]
    async fn a_probe_is_answered_while_others_hold_half_requests() {
        let admin = Admin::bind(
            ([127, 0, 0, 1], 0).into(),
            Metrics::new(),
            Readiness::default(),
        )
        .await
        .expect("a port");
        let (addr, shutdown) = (admin.local_addr(), CancellationToken::new());
        let stop = shutdown.clone();
        let serving = tokio::spawn(async move { admin.serve(stop).await });
        let mut held = Vec::new();
        for _ in 0..2 * BOUNDS.connections {
            let mut half = TcpStream::connect(addr).await.expect("a connection");
            half.write_all(b"GET /readyz HTTP/1.1\r\nx: ")
                .await
                .expect("sent");
            held.push(half);
        }
        let answer = timeout(BOUNDS.header / 2, fetch(addr, "/readyz")).await;
        let answer = answer.expect("before any deadline of the others");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        shutdown.cancel();
        serving.await.expect("no panic");
    }

    #[tokio::test]
    async fn it_serves_again_after_a_panic_and_says_so() {
        let readiness = Readiness::default();
        let admin = Admin::bind(
            ([127, 0, 0, 1], 0).into(),
            Metrics::new(),
            readiness.clone(),
        )
        .await
        .expect("a port");
        let (addr, shutdown) = (admin.local_addr(), CancellationToken::new());
        let (cause, mut panics) = (CancellationToken::new(), true);
        let (panic_now, admin) = (cause.clone(), Arc::new(admin));
        let begin = move |stop: CancellationToken| {
            let (admin, panics) = (admin.clone(), std::mem::take(&mut panics));
            let panic_now = panic_now.clone();
            async move {
                tokio::select! {
                    () = admin.serve(stop) => {}
                    () = panic_now.cancelled(), if panics => panic!("the intended panic"),
                }
            }
        };
        let supervisor = Supervisor::new(&readiness);
        let serving = tokio::spawn(supervisor.keep("admin".into(), shutdown.clone(), begin));
        assert!(fetch(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
        cause.cancel();
        // A request in between waits for the next start.
        let failing = "restarting after a panic: admin";
        let shown = async { while !fetch(addr, "/readyz").await.contains(failing) {} };
        timeout(Duration::from_secs(30), shown)
            .await
            .expect("it is served again");
        shutdown.cancel();
        timeout(Duration::from_secs(10), serving)
            .await
            .expect("in time")
            .expect("no panic");
    }
}
