//! One connection's socket, wrapped with behavior that the HTTP layer lacks.
//!
//! - A sender that does not read its answers is disconnected: a write may stall for a bounded time.
//! - An answer sent before the body was read completely still arrives. Closing a socket with unread
//!   data makes the kernel send a reset, which can destroy an answer in transit. So the writing
//!   side is closed first, and incoming data is read and discarded, within bounds (like nginx's
//!   lingering close).
//! - It tracks how far the request has come, to distinguish an idle connection that is closed from
//!   a sender that never finishes its headers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// How far a connection's current request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No byte of a next request has arrived.
    Idle,
    /// Bytes have arrived that do not form a request yet.
    Head,
    /// A request is being handled.
    Request,
    /// A request was answered before its body was read completely.
    AnsweredEarly,
}

/// A connection's [`Stage`], shared between its socket and its service.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Stage>>);

/// The socket.
pub(crate) struct Connection {
    stream: TcpStream,
    progress: Progress,
    stall: Duration,
    write_stalled: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
}

/// Reading and discarding data that arrives after the last answer.
struct Linger {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Stage::Idle)))
    }

    pub(crate) fn get(&self) -> Stage {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, stage: Stage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

impl Connection {
    /// `stall`: how long one write may make no progress.
    pub(crate) fn new(stream: TcpStream, progress: Progress, stall: Duration) -> Self {
        Self {
            stream,
            progress,
            stall,
            write_stalled: None,
            linger: None,
        }
    }

    /// Passes a write's result on, unless the socket has accepted nothing for too long.
    fn bound_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write_stalled = None;
            return written;
        }
        let stalled = self
            .write_stalled
            .get_or_insert_with(|| Box::pin(sleep(self.stall)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before && self.progress.get() == Stage::Idle {
            self.progress.set(Stage::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bound_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bound_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if this.progress.get() == Stage::Idle {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.linger.get_or_insert_with(|| Linger {
            until: Box::pin(sleep(LINGER)),
            bytes_left: LINGER_BYTES,
        });
        let mut scrap = [0; 16 * 1024];
        while linger.bytes_left > 0 && Instant::now() < linger.until.deadline() {
            let mut buf = ReadBuf::new(&mut scrap);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    linger.bytes_left = linger.bytes_left.saturating_sub(buf.filled().len());
                }
                // The sender has closed or reset the connection: there is nothing left to wait for.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(linger.until.as_mut().poll(cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
