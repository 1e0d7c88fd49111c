//! The listener of every port that anyone may reach. A [`Service`] answers; the limits are here.
//!
//! - Connections, in all and for each peer. When all are taken, the one that has waited longest for a
//!   complete request makes room: idle and slow senders keep no place from others.
//! - Memory for bodies that have not arrived completely.
//! - Deadlines: for headers, for a body, between two requests, for writing an answer.
//! - Refused requests of one client, and log lines about them.
//!
//! Connections that never become a request are answered by the HTTP layer, without a body, and are
//! counted and logged:
//!
//! - `malformed_http`: answered 400.
//! - `header_too_large`: answered 414 or 431.
//! - `header_timeout`: closed without an answer.
//! - `too_many_connections`: closed because all places, or all of its peer, were taken: at once if each
//!   had a request in progress, otherwise while it waited for the rest of its own headers. A service learns
//!   from [`Eviction`] that it was so while it waited for the rest of a body.
//! - `aborted`: the sender disconnected first.

mod bodies;
mod bounds;
mod client_address;
mod connection;
mod exchange;
mod limiter;
mod listener;
mod port;
mod received;
mod routed;
mod service;
mod slots;

pub use self::bounds::Bounds;
pub use self::listener::serve;
pub use self::port::Port;
pub use self::received::{BodyError, Received};
pub use self::routed::Routed;
pub use self::service::Service;
pub use self::slots::Eviction;

#[cfg(test)]
mod tests;
