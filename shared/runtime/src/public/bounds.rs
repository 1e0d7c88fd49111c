//! What the senders of one public port may use.

use std::time::Duration;

/// What the senders of one public port may use. All values are more than zero.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open connections. Beyond it, the one that has waited longest for a request makes room.
    pub connections: usize,
    /// The same for each peer; trusted proxies have no limit of their own.
    pub connections_per_peer: usize,
    /// Memory for all incomplete bodies, except small ones.
    pub unfinished_body_bytes: usize,
    /// From the first byte of a request to the end of its headers; for the first request of a
    /// connection, from the connection's beginning.
    pub header: Duration,
    /// From the end of the headers to the end of the body. A write may stall for as long.
    pub body: Duration,
    /// From an answer to the first byte of the next request.
    pub idle: Duration,
    /// On shutdown, requests in progress have this long to finish.
    pub drain: Duration,
    /// Refused requests per second and client, sustained.
    pub refused_per_second: u32,
    /// Refused requests of one client in a burst.
    pub refused_burst: u32,
}
