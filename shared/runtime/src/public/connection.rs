//! One connection's socket, wrapped with behavior that the HTTP layer lacks.
//!
//! - A sender that does not read its answers is disconnected: a write may stall for a bounded time.
//! - An answer sent before the body was read completely still arrives. Closing a socket with unread
//!   data makes the kernel send a reset, which can destroy an answer in transit. So the writing
//!   side is closed first, and incoming data is read and discarded, within bounds (like nginx's
//!   lingering close).
//! - A sender has its time for the headers of a request, and another one between two requests: a proxy
//!   reuses a connection that was idle for a minute, and answers its client 502 if it is closed then.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::bounds::Bounds;
use super::slots::{Slot, Stage};

/// The socket.
pub(super) struct Connection {
    stream: TcpStream,
    slot: Arc<Slot>,
    bounds: Bounds,
    /// Until the next byte of a request's head; moved when it is needed.
    head: Pin<Box<Sleep>>,
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

impl Connection {
    pub(super) fn new(stream: TcpStream, slot: Arc<Slot>, bounds: Bounds) -> Self {
        Self {
            stream,
            slot,
            bounds,
            head: Box::pin(sleep(bounds.header)),
            write_stalled: None,
            linger: None,
        }
    }

    /// Nothing has arrived: an error if the sender's time for it is over.
    fn bound_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (stage, since) = self.slot.stage();
        let time = match stage {
            Stage::New | Stage::Head => self.bounds.header,
            Stage::Idle => self.bounds.idle,
            Stage::Request | Stage::AnsweredEarly => return Poll::Pending,
        };
        if self.head.deadline() != since + time {
            self.head.as_mut().reset(since + time);
        }
        ready!(self.head.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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
            .get_or_insert_with(|| Box::pin(sleep(self.bounds.body)));
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
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(read) => {
                if buf.filled().len() > before {
                    self.slot.received();
                }
                Poll::Ready(read)
            }
            Poll::Pending => self.bound_head(cx),
        }
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
            if matches!(this.slot.stage().0, Stage::New | Stage::Idle) {
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
