//! Serves a small router to few peers of one's own network: a port that anyone may reach needs
//! [`public`](crate::public). `axum::serve` limits neither connections nor the time a sender takes; this
//! does both.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// Limits on what peers may use.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// A connection without incoming data for this long fails.
    pub idle: Duration,
    /// On shutdown, requests in progress have this long to finish.
    pub drain: Duration,
}

/// Serves `router` until `shutdown`, and for at most [`Bounds::drain`] after it.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(
        bounds.connections.min(Semaphore::MAX_PERMITS),
    ));
    let listener = Bounded {
        listener,
        slots,
        bounds,
    };
    let stopped = shutdown.clone();
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .into_future();
    let overdue = async {
        stopped.cancelled().await;
        sleep(bounds.drain).await;
    };
    tokio::select! {
        // Accept errors are retried inside axum; this ends by shutdown only.
        _ = serving => {}
        () = overdue => {}
    }
}

struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    bounds: Bounds,
}

/// A connection that fails if nothing was read from it for too long.
struct Watched {
    stream: TcpStream,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

impl axum::serve::Listener for Bounded {
    type Io = Watched;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Watched, SocketAddr) {
        let slot = self
            .slots
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        // axum's own implementation retries after errors.
        let (stream, peer) = axum::serve::Listener::accept(&mut self.listener).await;
        let idle = self.bounds.idle;
        let deadline = Box::pin(sleep(idle));
        (
            Watched {
                stream,
                idle,
                deadline,
                _slot: slot,
            },
            peer,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Watched {
    fn bound<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_pending() {
            ready!(self.deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        done
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        if done.is_ready() {
            let next = Instant::now() + self.idle;
            self.deadline.as_mut().reset(next);
        }
        self.bound(cx, done)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bound(cx, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);
    const LATE: Duration = Duration::from_secs(60);

    async fn start() -> (SocketAddr, CancellationToken) {
        let (listener, addr) = revwatch_test_servers::listen().await;
        let shutdown = CancellationToken::new();
        let bounds = Bounds {
            connections: 1,
            idle: SOON,
            drain: SOON,
        };
        tokio::spawn(serve(listener, Router::new(), bounds, shutdown.clone()));
        (addr, shutdown)
    }

    #[tokio::test]
    async fn an_idle_connection_releases_its_slot() {
        let (addr, shutdown) = start().await;
        let mut slow = TcpStream::connect(addr).await.expect("accepted");
        slow.write_all(b"GET / HTTP/1.1\r\nx: ")
            .await
            .expect("sent");
        let answer = revwatch_test_servers::get(addr, "/").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        let rest = timeout(LATE, slow.read_to_end(&mut Vec::new()))
            .await
            .expect("the slow one is disconnected");
        drop(rest);
        shutdown.cancel();
    }
}
