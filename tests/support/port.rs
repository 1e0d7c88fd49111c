//! Ports for servers that cannot report which port they chose.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range for outgoing connections: a server takes seconds to listen, and until then the
/// system could give its port to any connection.
const FIRST: u16 = 15_000;

/// A free port that is given out at most one time in this process.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let range = first_of_connections()
        .checked_sub(FIRST)
        .filter(|range| *range > 1_000);
    let range = range
        .expect("ports between 15000 and the first of net.ipv4.ip_local_port_range, at least 1000");
    // Other test processes start at another port.
    let start = std::process::id().wrapping_mul(97);
    let mut ports = (0..range).map(|_| {
        let n = u32::from(TAKEN.fetch_add(1, Ordering::Relaxed)).wrapping_add(start);
        FIRST + u16::try_from(n % u32::from(range)).expect("less than the range")
    });
    ports
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// The first port of the range for outgoing connections.
fn first_of_connections() -> u16 {
    let range =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(32_768)
}
