//! What the connections of one public port share.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::HeaderMap;
use tokio::time::Instant;

use super::bodies::Bodies;
use super::bounds::Bounds;
use super::client_address::client_address;
use super::limiter::Limiter;
use super::slots::{PeerIsFullError, Slot, Slots};
use crate::config::TrustedProxies;
use crate::telemetry::LimitedLog;

/// What the connections of one public port share.
pub struct Port {
    bounds: Bounds,
    trusted_proxies: TrustedProxies,
    slots: Arc<Slots>,
    bodies: Bodies,
    limiter: Limiter,
    unserved: LimitedLog,
}

/// An unhindered sender needs far less than a tenth of the time it has.
const MIN_TIME_DIVISOR: u32 = 10;
/// Lines about connections without a request in ten seconds.
const UNSERVED_LINES: u32 = 10;

impl Port {
    /// `trusted_proxies` name the client, and have no limit of their own.
    pub fn new(bounds: Bounds, trusted_proxies: TrustedProxies) -> Self {
        Self {
            bounds,
            trusted_proxies,
            slots: Slots::new(bounds.connections, bounds.connections_per_peer),
            bodies: Bodies::new(bounds.unfinished_body_bytes, bounds.body / MIN_TIME_DIVISOR),
            limiter: Limiter::new(bounds.refused_per_second, bounds.refused_burst),
            unserved: LimitedLog::new(UNSERVED_LINES),
        }
    }

    pub(super) async fn admit(&self, peer: IpAddr) -> Result<Slot, PeerIsFullError> {
        // Trusted proxies carry the requests of all clients.
        let limited = (!self.trusted_proxies.contains(peer)).then_some(peer);
        self.slots.admit(limited).await
    }

    /// Counts a connection that ended without becoming a request against its peer. `Some`: it has a log
    /// line, which also names this number of earlier ones without a line.
    pub(super) fn unserved(&self, peer: IpAddr) -> Option<u64> {
        // Whether the peer is over its limit matters to its next request; here is none to answer.
        let _ = self.limiter.refused(peer);
        self.unserved.one_more(Instant::now())
    }

    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(&self.trusted_proxies, peer, headers)
    }

    pub(super) fn refused(&self, client: IpAddr) -> Result<(), u64> {
        self.limiter.refused(client)
    }

    pub(super) fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }
}
