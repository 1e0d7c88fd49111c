//! Trusted reverse proxies, whose `X-Forwarded-For` is believed. Pure.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

/// The addresses and networks of trusted proxies, from comma-separated text. Empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TrustedProxies(Vec<Network>);

/// All addresses with the same prefix; IPv4-mapped IPv6 counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    prefix: u32,
}

impl TrustedProxies {
    /// Whether `address` belongs to a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl TryFrom<String> for TrustedProxies {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items
            .map(Network::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!(
                "{text:?} must be an address or a network, such as 10.0.0.7, 10.0.0.0/8 or fd00::/8"
            )
        };
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let bits = width(address);
        let prefix = match prefix {
            None => bits,
            // Digits only: the number's own parser also accepts a sign.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| invalid())?
            }
            Some(_) => return Err(invalid()),
        };
        if prefix > bits {
            return Err(format!(
                "{text:?} must have at most {bits} bits after the slash"
            ));
        }
        if prefix == 0 {
            return Err(format!(
                "{text:?} matches every address, so any sender could choose its own: name the proxies"
            ));
        }
        let written = Self {
            first: network_address(address, prefix),
            prefix,
        };
        if written.first != address {
            return Err(format!(
                "{text:?} has bits after its prefix: write {written}, or {address} for one address"
            ));
        }
        Ok(written.canonical())
    }

    /// Converts an IPv6 network within the IPv4-mapped addresses to the IPv4 network that it
    /// denotes.
    fn canonical(self) -> Self {
        match (self.first.to_canonical(), self.prefix.checked_sub(96)) {
            (first @ IpAddr::V4(_), Some(prefix)) if self.first.is_ipv6() => Self { first, prefix },
            _ => self,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        // False for the other address family and for other leading bits.
        address.is_ipv4() == self.first.is_ipv4()
            && network_address(address, self.prefix) == self.first
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `address` with zeros after its first `prefix` bits.
fn network_address(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            IpAddr::V4((v4.to_bits() & !u32::MAX.checked_shr(prefix).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & !u128::MAX.checked_shr(prefix).unwrap_or(0)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TrustedProxies, String> {
        TrustedProxies::try_from(text.to_owned())
    }

    #[test]
    fn an_address_is_in_the_networks_whose_prefix_it_has() {
        let table = [
            ("", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            (" 10.0.0.0/8 , ::1,", "10.255.0.1", true),
            (" 10.0.0.0/8 , ::1,", "11.0.0.0", false),
            (" 10.0.0.0/8 , ::1,", "::1", true),
            ("10.1.2.128/25", "10.1.2.129", true),
            ("10.1.2.128/25", "10.1.2.127", false),
            ("128.0.0.0/1", "255.0.0.1", true),
            ("fd00:1::/32", "fd00:1:ffff::1", true),
            ("fd00:1::/32", "fd00:2::1", false),
            ("2001:db8::1/128", "2001:db8::1", true),
            // IPv4-mapped IPv6 is IPv4, in the setting and on the socket of a dual-stack listener.
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            // A wide IPv6 network contains no IPv4 address.
            ("::/64", "10.1.2.3", false),
            ("::/64", "::ffff:10.1.2.3", false),
            ("0.0.0.0/1", "::1", false),
        ];
        for (proxies, address, expected) in table {
            let address = address.parse().expect("an address");
            assert_eq!(
                parse(proxies).expect(proxies).contains(address),
                expected,
                "{proxies:?} {address}"
            );
        }
    }

    #[test]
    fn an_invalid_network_is_reported_with_the_fix() {
        let table = [
            ("proxy.example", "must be an address or a network"),
            ("10.0.0.0/", "must be an address or a network"),
            ("10.0.0.0/+8", "must be an address or a network"),
            ("10.0.0.0/99999999999", "must be an address or a network"),
            ("10.0.0.0/8/8", "must be an address or a network"),
            ("10.0.0.0/33", "at most 32 bits"),
            ("fd00::/129", "at most 128 bits"),
            ("0.0.0.0/0", "every address"),
            ("10.0.0.1, ::/0", "every address"),
            (
                "10.0.0.1/8",
                "write 10.0.0.0/8, or 10.0.0.1 for one address",
            ),
            ("::ffff:10.0.0.0/95", "bits after its prefix"),
        ];
        for (text, expected) in table {
            let fault = parse(text).expect_err(text);
            assert!(fault.contains(expected), "{text:?}: {fault}");
        }
    }
}
