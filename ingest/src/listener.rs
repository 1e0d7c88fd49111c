//! The public listener: a hyper-util loop, because `axum::serve` limits neither the time a sender
//! may take for its headers nor the number of connections.
//!
//! Invariant: no error of one connection, and no error of `accept`, ends the loop.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::connection::{Connection, Progress};
use crate::service::Edge;

/// Stripe's headers are about one kilobyte.
const HEADER_BYTES: usize = 16 * 1024;
/// Maximum size of one read. Every connection may hold this much in addition to its headers and a
/// small body, so it is no larger than headers may be; a typical event still arrives in one piece. With
/// headers at their maximum size and number, a connection was measured to hold 72 KiB, and an idle
/// one 13 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
/// Pause after an error such as running out of file descriptors: others must finish first.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// Serves until `shutdown`, then drains.
pub(crate) async fn serve(listener: TcpListener, edge: Arc<Edge>, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(
        edge.limits().connections.min(Semaphore::MAX_PERMITS),
    ));
    let graceful = GracefulShutdown::new();
    let cut = CancellationToken::new();
    let http = http(&edge);
    while let Some((slot, stream, peer)) = next(&listener, &slots, &shutdown).await {
        let peer = peer.ip().to_canonical();
        let Ok(peer_slot) = edge.admit(peer) else {
            // Dropping closes it: without a request there is nothing to answer.
            edge.connection_refused(peer);
            continue;
        };
        let progress = Progress::new();
        let io = TokioIo::new(Connection::new(
            stream,
            progress.clone(),
            edge.deadlines().body,
        ));
        let service = {
            let (edge, progress) = (edge.clone(), progress.clone());
            // A plain function, not a router: every path is one comparison and every answer one
            // enum.
            service_fn(move |request| {
                let (edge, progress) = (edge.clone(), progress.clone());
                async move { Ok::<_, Infallible>(edge.handle(peer, &progress, request).await) }
            })
        };
        let connection = graceful.watch(http.serve_connection(io, service));
        let (edge, cut) = (edge.clone(), cut.clone());
        tokio::spawn(async move {
            let _held = (slot, peer_slot);
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    edge.connection_failed(peer, &error, progress.get());
                },
                () = cut.cancelled() => {}
            }
        });
    }
    drop(listener);
    info!(
        connections = graceful.count(),
        publishes = edge.publisher().in_progress(),
        "no longer accepting webhooks; draining"
    );
    if timeout(edge.deadlines().drain, graceful.shutdown())
        .await
        .is_err()
    {
        warn!(
            "requests still in progress after limits.drain_seconds are cut off; Stripe will retry them"
        );
        cut.cancel();
    }
    edge.publisher().finish().await;
}

fn http(edge: &Edge) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(edge.deadlines().header)
        .max_header_size(HEADER_BYTES)
        .max_buf_size(BUFFER_BYTES)
        // A sender may close its writing side and wait for the answer.
        .half_close(true);
    http
}

/// The next connection, with the slot it occupies; `None` once `shutdown` is cancelled. While all
/// slots are taken no connection is accepted: further senders wait in the kernel's queue.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let accepted = async {
        let slot = slots.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        debug!(%error, "could not set TCP_NODELAY");
                    }
                    return Some((slot, stream, peer));
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
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        accepted = accepted => accepted,
    }
}

fn is_senders_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
