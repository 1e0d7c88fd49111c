//! The loop that accepts connections. It is hyper's, because `axum::serve` limits neither the time a
//! sender may take for its headers nor the number of connections.
//!
//! Invariant: no error of one connection, and no error of `accept`, ends the loop.
//!
//! HTTP/1 only: each stream of HTTP/2 would be a request of which no limit here knows.

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connection::Connection;
use super::exchange::{exchange, unserved};
use super::port::Port;
use super::service::Service;
use super::slots::Stage;

/// Stripe's headers are about one kilobyte.
const HEADER_BYTES: usize = 16 * 1024;
/// Maximum size of one read. Every connection may hold this much in addition to its headers and a
/// small body, so it is no larger than headers may be; a typical event still arrives in one piece. With
/// headers at their maximum size and number, a connection was measured to hold 72 KiB, and an idle
/// one 13 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
/// Pause after an error such as running out of file descriptors: others must finish first.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);
const TOO_MANY: &str = "too_many_connections";

/// Serves until `shutdown`, and then for at most [`Bounds::drain`](super::Bounds::drain), so that
/// requests in progress finish.
pub async fn serve<S: Service>(
    listener: TcpListener,
    port: Arc<Port>,
    service: Arc<S>,
    shutdown: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let cut = CancellationToken::new();
    let http = http();
    loop {
        let next = async {
            let (stream, peer) = accept(&listener).await;
            let peer = peer.ip().to_canonical();
            (stream, peer, port.admit(peer).await)
        };
        let (stream, peer, admitted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        let Ok(slot) = admitted else {
            // Dropping the stream closes it: without a request there is nothing to answer.
            unserved(&port, &*service, peer, TOO_MANY);
            continue;
        };
        let slot = Arc::new(slot);
        let io = TokioIo::new(Connection::new(stream, slot.clone(), port.bounds()));
        let answers = {
            let (port, service, slot) = (port.clone(), service.clone(), slot.clone());
            service_fn(move |request| {
                let (port, service, slot) = (port.clone(), service.clone(), slot.clone());
                async move {
                    let answer = exchange(&port, &*service, peer, Some(&slot), request).await;
                    Ok::<_, Infallible>(answer)
                }
            })
        };
        let connection = graceful.watch(http.serve_connection(io, answers));
        let (port, service, cut) = (port.clone(), service.clone(), cut.clone());
        tokio::spawn(async move {
            let outcome = tokio::select! {
                ended = connection => ended.err().map(|error| outcome(&error)),
                () = slot.evicted() => Some(TOO_MANY),
                () = cut.cancelled() => None,
            };
            // A request that reached the service is counted there; an idle connection is not a request, but
            // one that was never more is counted if it had to make room.
            let is_counted = match slot.stage().0 {
                Stage::Head => true,
                Stage::New => outcome == Some(TOO_MANY),
                Stage::Idle | Stage::Request | Stage::AnsweredEarly => false,
            };
            if let Some(outcome) = outcome.filter(|_| is_counted) {
                unserved(&port, &*service, peer, outcome);
            }
        });
    }
    drop(listener);
    info!(
        connections = graceful.count(),
        "no longer accepting connections; draining"
    );
    if timeout(port.bounds().drain, graceful.shutdown())
        .await
        .is_err()
    {
        warn!("requests still in progress after the time to drain are cut off");
        cut.cancel();
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    // The connection has deadlines of its own, which tell an idle sender from a slow one.
    http.header_read_timeout(None)
        .max_header_size(HEADER_BYTES)
        .max_buf_size(BUFFER_BYTES)
        // A sender may close its writing side and wait for the answer.
        .half_close(true);
    http
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "could not set TCP_NODELAY");
                }
                return (stream, peer);
            }
            Err(error) if is_senders_fault(&error) => {
                debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                warn!(%error, "cannot accept connections; retrying (is the limit of open files too low?)");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn outcome(error: &hyper::Error) -> &'static str {
    let is_timeout = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut);
    if error.is_parse_too_large() {
        "header_too_large"
    } else if error.is_parse() {
        "malformed_http"
    } else if is_timeout {
        "header_timeout"
    } else {
        "aborted"
    }
}

fn is_senders_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
