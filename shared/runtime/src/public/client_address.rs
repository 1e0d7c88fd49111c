//! The client of a request: the peer, or the address that a trusted proxy reports. Pure.

use std::net::{IpAddr, SocketAddr};

use crate::config::TrustedProxies;
use hyper::HeaderMap;

/// The client's address. Each proxy appends the address it sees to `X-Forwarded-For`, so the last
/// address that is not a trusted proxy was appended by a trusted one; the client may have written
/// everything before it. If that value is malformed or missing, the client is the peer.
pub(super) fn client_address(
    proxies: &TrustedProxies,
    peer: IpAddr,
    headers: &HeaderMap,
) -> IpAddr {
    if !proxies.contains(peer) {
        return peer;
    }
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        let Ok(line) = line.to_str() else { return peer };
        for element in line.rsplit(',') {
            match address(element.trim()) {
                None => return peer,
                Some(address) if proxies.contains(address) => {}
                Some(address) => return address,
            }
        }
    }
    peer
}

/// Some proxies append the port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse()
        .ok()
        .or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        let proxies = TrustedProxies::try_from("10.0.0.0/8, fd00::1".to_owned()).expect("networks");
        let check = |peer: &str, lines: &[&[u8]], expected: &str| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(
                    "x-forwarded-for",
                    HeaderValue::from_bytes(line).expect("a header value"),
                );
            }
            let found = client_address(&proxies, peer.parse().expect("an address"), &headers);
            let lines: Vec<_> = lines
                .iter()
                .map(|line| String::from_utf8_lossy(line))
                .collect();
            assert_eq!(found.to_string(), expected, "{peer} {lines:?}");
        };
        // The header of an untrusted peer is ignored.
        check("192.0.2.9", &[], "192.0.2.9");
        check("192.0.2.9", &[b"198.51.100.1"], "192.0.2.9");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &[b"198.51.100.1"], "198.51.100.1");
        check("::ffff:10.0.0.1", &[b"198.51.100.1"], "198.51.100.1");
        check("fd00::1", &[b"2001:db8::1"], "2001:db8::1");
        check("fd00::2", &[b"2001:db8::1"], "fd00::2");
        // The client's own entries precede the proxy's.
        check("10.0.0.1", &[b"192.0.2.66, 198.51.100.1"], "198.51.100.1");
        check(
            "10.0.0.1",
            &[b"junk \xff,,, 198.51.100.1".as_slice()],
            "10.0.0.1",
        );
        check("10.0.0.1", &[b"junk,,, 198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &[b"junk \xff", b"198.51.100.1"], "198.51.100.1");
        // Several proxies, on one line or on several.
        check(
            "10.0.0.1",
            &[b"192.0.2.66,198.51.100.1 ,10.0.0.3,\tfd00::1"],
            "198.51.100.1",
        );
        check(
            "10.0.0.1",
            &[b"192.0.2.66", b"198.51.100.1, 10.0.0.3", b"10.0.0.2"],
            "198.51.100.1",
        );
        check("10.0.0.1", &[b"10.0.0.3, 10.0.0.2"], "10.0.0.1");
        // Formats that other proxies write.
        check("10.0.0.1", &[b"198.51.100.1:4711"], "198.51.100.1");
        check("10.0.0.1", &[b"[2001:db8::1]:4711"], "2001:db8::1");
        check("10.0.0.1", &[b"[2001:db8::1]"], "2001:db8::1");
        check("10.0.0.1", &[b"::ffff:198.51.100.1"], "198.51.100.1");
        check(
            "10.0.0.1",
            &[b"198.51.100.1, ::ffff:10.0.0.2"],
            "198.51.100.1",
        );
        // An unreadable value hides the addresses before it.
        for unreadable in [
            "",
            ",",
            "unknown",
            "198.51.100.1,",
            "198.51.100.1, _hidden",
            "198.51.100.1, 10.0.0.256",
        ] {
            check("10.0.0.1", &[unreadable.as_bytes()], "10.0.0.1");
        }
        check("10.0.0.1", &[b"198.51.100.1", b"[::1"], "10.0.0.1");
        check("10.0.0.1", &[b"198.51.100.1 \xfe"], "10.0.0.1");
        check("10.0.0.1", &[b"198.51.100.1", &[b','; 10_000]], "10.0.0.1");
    }
}
