//! One request and its answer, by the rules of a port.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, Response};
use tracing::warn;

use super::port::Port;
use super::received::Received;
use super::service::Service;
use super::slots::Slot;

impl Port {
    /// Lets `service` answer a request that came from `peer` over a connection of the program's own.
    pub async fn answer<S: Service, B>(
        &self,
        service: &S,
        peer: IpAddr,
        request: Request<B>,
    ) -> Response<S::Body>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        exchange(self, service, peer, None, request).await
    }
}

pub(super) async fn exchange<S: Service, B>(
    port: &Port,
    service: &S,
    peer: IpAddr,
    slot: Option<&Arc<Slot>>,
    request: Request<B>,
) -> Response<S::Body>
where
    B: Body<Data = Bytes> + Send + Unpin,
{
    let mut received = Received::new(port, peer, slot, request);
    let mut response = service.answer(&mut received).await;
    let is_complete = received.is_complete();
    if !is_complete {
        // The rest of the body would be read as the next request.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    match slot {
        Some(slot) if is_complete => slot.answered(response.status().is_success()),
        Some(slot) => slot.answered_early(),
        None => {}
    }
    response
}

/// Counts and logs a connection that ended without becoming a request. It sends no answer: the HTTP layer
/// has already sent one where that was possible.
pub(super) fn unserved(port: &Port, service: &impl Service, peer: IpAddr, outcome: &'static str) {
    if let Some(unlogged) = port.unserved(peer) {
        warn!(outcome, %peer, unlogged, "refused an incomplete HTTP request");
    }
    service.count_unserved(outcome);
}
