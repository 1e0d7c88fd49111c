//! One request: its head, and its body once the service asks for it.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Body;
use hyper::http::request::Parts;
use tokio::time::{Instant, timeout};

use super::port::Port;
use super::slots::{Eviction, Slot};

/// One request.
pub struct Received<'a, B> {
    /// The head.
    pub head: Parts,
    port: &'a Port,
    peer: IpAddr,
    /// `None`: the request came from the program itself.
    slot: Option<&'a Arc<Slot>>,
    body: B,
    is_complete: bool,
}

/// The body cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is, or says it is, larger than the limit.
    #[error("the body is too large")]
    TooLarge,
    /// It ended before it was complete, or its chunks are malformed.
    #[error("the body ended before it was complete, or its chunks are malformed")]
    Incomplete,
    /// It did not arrive within [`Bounds::body`](super::Bounds::body).
    #[error("the body did not arrive in time")]
    Timeout,
    /// Incomplete bodies fill [`Bounds::unfinished_body_bytes`](super::Bounds::unfinished_body_bytes):
    /// this one did not fit, or was slow and was evicted. Or its connection had to make room when it became complete.
    #[error("too many large bodies are arriving at this moment: retry")]
    Budget,
}

impl<'a, B: Body<Data = Bytes> + Unpin> Received<'a, B> {
    pub(super) fn new(
        port: &'a Port,
        peer: IpAddr,
        slot: Option<&'a Arc<Slot>>,
        request: Request<B>,
    ) -> Self {
        let (head, body) = request.into_parts();
        let is_complete = body.is_end_stream();
        if let Some(slot) = slot {
            slot.requested();
            if is_complete {
                // Without a body there is nothing to accept: it may be answered or not.
                let _ = slot.completed();
            }
        }
        Self {
            head,
            port,
            peer,
            slot,
            body,
            is_complete,
        }
    }

    /// The sender: the peer, or the address that a trusted proxy reports.
    pub fn client(&self) -> IpAddr {
        self.port.client(self.peer, &self.head.headers)
    }

    /// Says of a request that ends without an answer whether its connection had to make room; `None`: it came from the
    /// program itself.
    pub fn eviction(&self) -> Option<Eviction> {
        self.slot.map(|slot| slot.eviction())
    }

    /// Counts a refusal of a sender who has not proven that it is one of ours. `Err`: this client had too
    /// many of them, and must wait for so many seconds.
    pub fn refused(&self) -> Result<(), u64> {
        self.port.refused(self.client())
    }

    /// Reads the body, but never more than `limit_bytes` of it, and nothing of one that declares a larger
    /// size.
    pub async fn body(&mut self, limit_bytes: usize) -> Result<Bytes, BodyError> {
        let deadline = self.port.bounds().body;
        let body = timeout(deadline, self.read(limit_bytes))
            .await
            .unwrap_or(Err(BodyError::Timeout))?;
        self.is_complete = true;
        match self.slot {
            Some(slot) if !slot.completed() => Err(BodyError::Budget),
            _ => Ok(body),
        }
    }

    /// Whether the body was read to its end. Until then the connection cannot serve another request.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    async fn read(&mut self, limit_bytes: usize) -> Result<Bytes, BodyError> {
        let declared = self.body.size_hint();
        if declared.lower() > limit_bytes as u64 {
            return Err(BodyError::TooLarge);
        }
        let max_bytes = declared
            .exact()
            .and_then(|exact| usize::try_from(exact).ok())
            .unwrap_or(limit_bytes);
        let mut unfinished = self.port.bodies().begin(max_bytes);
        while let Some(frame) = self.body.frame().await {
            // Frames without data are trailers.
            let Ok(data) = frame.map_err(|_| BodyError::Incomplete)?.into_data() else {
                continue;
            };
            if unfinished.len() + data.len() > limit_bytes {
                return Err(BodyError::TooLarge);
            }
            // Most bodies arrive in one piece, which is kept as it is. A piece of a larger body must be
            // copied: a few bytes of it would keep the connection's complete read buffer alive.
            if unfinished.len() == 0 && self.body.is_end_stream() {
                return Ok(data);
            }
            unfinished
                .push(&data, Instant::now())
                .map_err(|_| BodyError::Budget)?;
        }
        let body = unfinished.finish().map_err(|_| BodyError::Budget)?;
        Ok(body.into())
    }
}
