//! A connection to the mail server that ends if the server says too much: a line of its answers may be of any length.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Of all answers of one connection, with certificates. A mail needs a few hundred bytes, and each recipient some more.
const MAX_BYTES: usize = 1024 * 1024;

/// Reads at most [`MAX_BYTES`].
#[derive(Debug)]
pub struct BoundedStream {
    stream: TcpStream,
    left_bytes: usize,
}

impl BoundedStream {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            left_bytes: MAX_BYTES,
        }
    }
}

impl AsyncTokioStream for BoundedStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len().saturating_sub(before);
        let Some(left) = self.left_bytes.checked_sub(read) else {
            let what = format!("it sent more than {MAX_BYTES} bytes");
            return Poll::Ready(Err(io::Error::other(what)));
        };
        self.left_bytes = left;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
