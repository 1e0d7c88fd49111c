//! A router behind the listener, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Bounds, Port, Routed, serve};
use crate::telemetry::Metrics;

/// Maximum duration of any step before a test fails.
const LONG: Duration = Duration::from_secs(30);
const BODY_BYTES: usize = 64 * 1024;

struct Served {
    addr: SocketAddr,
    metrics: Metrics,
    _shutdown: DropGuard,
}

fn bounds() -> Bounds {
    Bounds {
        connections: 16,
        connections_per_peer: 4,
        unfinished_body_bytes: 4 * BODY_BYTES,
        header: LONG,
        body: LONG,
        idle: LONG,
        drain: LONG,
        refused_per_second: 1,
        refused_burst: 1_000,
    }
}

/// `/` echoes the number of bytes; `/refused` says no.
async fn start(bounds: Bounds) -> Served {
    let (listener, addr) = revwatch_test_servers::listen().await;
    let router = Router::new()
        .route("/", post(async |body: String| body.len().to_string()))
        .route("/refused", post(async || StatusCode::UNAUTHORIZED));
    let (metrics, shutdown) = (Metrics::new(), CancellationToken::new());
    let requests = metrics.public_requests.clone();
    let service = Routed::new(router, BODY_BYTES, "test", requests);
    let port = Port::new(bounds, Default::default());
    let stop = shutdown.clone();
    tokio::spawn(serve(listener, Arc::new(port), Arc::new(service), stop));
    Served {
        addr,
        metrics,
        _shutdown: shutdown.drop_guard(),
    }
}

impl Served {
    async fn sending(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.expect("accepted");
        // It may answer and close before all is sent.
        let _ = timeout(LONG, stream.write_all(bytes)).await.expect("taken");
        stream
    }

    /// Everything that is answered to `bytes` on a new connection.
    async fn send(&self, bytes: &[u8]) -> String {
        rest(&mut self.sending(bytes).await).await
    }

    async fn post(&self, path: &str, body: &[u8]) -> String {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat()).await
    }

    /// Waits until `outcome` is counted `expected` times.
    async fn counted(&self, outcome: &str, expected: u64) {
        let count = self
            .metrics
            .public_requests
            .with_label_values(&["test", outcome]);
        let reached = async {
            while count.get() != expected {
                tokio::task::yield_now().await;
            }
        };
        let in_time = timeout(LONG, reached).await;
        assert!(in_time.is_ok(), "{outcome}: {} {expected}", count.get());
    }
}

/// What arrives until the connection is closed.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset ends it, too.
    let _ = timeout(LONG, stream.read_to_end(&mut answer))
        .await
        .expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_handler_gets_a_complete_body_within_the_limit() {
    let served = start(bounds()).await;
    let answer = served.post("/", &[b'x'; BODY_BYTES]).await;
    assert!(answer.ends_with("\r\n\r\n65536"), "{answer}");
    let answer = served.post("/", &[b'x'; BODY_BYTES + 1]).await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("too_large"),
        "{answer}"
    );
    served.counted("answered", 1).await;
    served.counted("too_large", 1).await;
}

#[tokio::test]
async fn a_client_with_too_many_refusals_is_limited_and_others_are_not() {
    let served = start(Bounds {
        refused_burst: 2,
        ..bounds()
    })
    .await;
    for status in ["401", "401", "429"] {
        let answer = served.post("/refused", b"").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert_eq!(answer.contains("retry-after: "), status == "429");
    }
    let answer = served.post("/", b"abc").await;
    assert!(answer.ends_with("\r\n\r\n3"), "never limited: {answer}");
    served.counted("refused", 2).await;
    served.counted("limited", 1).await;
}

/// One connection of HTTP/2 may have hundreds of requests, of which no limit here would know.
#[tokio::test]
async fn http_2_is_refused() {
    let served = start(bounds()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let answer = served.send(preface).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    served.counted("malformed_http", 1).await;
}

#[tokio::test]
async fn slow_senders_give_way_and_are_counted() {
    let served = start(bounds()).await;
    let mut slow = Vec::new();
    for _ in 0..10 {
        slow.push(served.sending(b"POST / HTTP/1.1\r\nx: ").await);
        let answer = served.post("/", b"abc").await;
        assert!(answer.ends_with("\r\n\r\n3"), "{answer}");
    }
    for stream in &mut slow[..6] {
        assert_eq!(rest(stream).await, "");
    }
    served.counted("answered", 10).await;
}

#[tokio::test]
async fn each_deadline_closes_its_connection() {
    let soon = Duration::from_millis(100);
    let (mut header, mut body, mut idle) = (bounds(), bounds(), bounds());
    (header.header, body.body, idle.idle) = (soon, soon, soon);
    let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab";
    for (bounds, sent, answers, outcome) in [
        (header, &request[..9], "", "header_timeout"),
        (
            body,
            &request[..request.len() - 1],
            "HTTP/1.1 408",
            "timeout",
        ),
        (idle, &request[..], "HTTP/1.1 200", "answered"),
    ] {
        let served = start(bounds).await;
        let answer = served.send(sent).await;
        assert!(answer.starts_with(answers), "{outcome}: {answer}");
        served.counted(outcome, 1).await;
    }
}
