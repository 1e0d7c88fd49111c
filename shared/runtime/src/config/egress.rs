//! Egress policy: one policy for every address of an API or a webhook that a setting names. The
//! collector of traces is not one of them: it usually has a private address
//! (`shared/runtime/src/config/traces.rs`).
//!
//! Allowed are `https://`, or `http://` to a literal loopback host; no user or password in the URL;
//! no private, link-local or otherwise special address. A change of a setting, or of the DNS of a
//! name in one, must not make revwatch connect to addresses that only this machine can reach. Names
//! are checked again when they are resolved. Sources:
//! <https://www.iana.org/assignments/iana-ipv4-special-registry>,
//! <https://www.iana.org/assignments/iana-ipv6-special-registry>.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use url::{Host, Url};

use super::error::{ConfigError, Fault};

/// The egress policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressConfig {
    /// Allows private (RFC 1918), shared (RFC 6598) and unique local addresses, and names that
    /// resolve to this machine. Link-local, multicast and unspecified addresses are never allowed.
    pub allow_private_addresses: bool,
}

impl EgressConfig {
    /// Parses `text` as an allowed URL. Errors name `setting`, and never quote the URL: it may be
    /// secret.
    pub fn url(self, setting: &str, text: &str) -> Result<Url, ConfigError> {
        let invalid = |what: &str| Err(ConfigError::of(Fault::of(setting, what)));
        let Ok(url) = Url::parse(text.trim()) else {
            return invalid("is not a URL: write it like https://host/path");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("must have no user and no password in its URL");
        }
        let is_loopback = names_loopback(&url);
        match url.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            "http" => {
                return invalid(
                    "must begin with https:// (http:// only for localhost or a loopback address)",
                );
            }
            _ => return invalid("must begin with https://"),
        }
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
            None => return invalid("has no host"),
        };
        if literal.is_some_and(|ip| !is_loopback && !self.allows(ip)) {
            return invalid(
                "names a private or special address: use a public one, or set allow_private_addresses in [egress]",
            );
        }
        Ok(url)
    }

    /// Parses `text` as a base URL, without a trailing slash.
    pub fn base(self, setting: &str, text: &str) -> Result<String, ConfigError> {
        let url = self.url(setting, text)?;
        if url.query().is_some() || url.fragment().is_some() {
            let what = "must be a plain base URL: no ? and no #";
            return Err(ConfigError::of(Fault::of(setting, what)));
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    /// Whether requests may go to `address`, which a name resolved to.
    pub fn allows(self, address: IpAddr) -> bool {
        match kind(address) {
            Kind::Public => true,
            Kind::Private => self.allow_private_addresses,
            Kind::Never => false,
        }
    }
}

/// Whether the host of `url` is literally this machine: `localhost`, 127.0.0.0/8 or `::1`.
pub fn names_loopback(url: &Url) -> bool {
    match url.host() {
        // Hosts of schemes that the URL standard does not know (`smtp:`) stay names, whatever they
        // look like.
        Some(Host::Domain(name)) => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The class of an address, as far as egress is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Public,
    Private,
    Never,
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(ip) => kind_v4(ip),
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

fn kind_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [10 | 127, ..] | [192, 168, ..] => Kind::Private,
        [172, second, ..] if (16..32).contains(&second) => Kind::Private,
        [100, second, ..] if (64..128).contains(&second) => Kind::Private,
        // This network; link-local; protocol assignments, tests and documentation; multicast and
        // above.
        [0, ..] | [169, 254, ..] | [192, 0, 0 | 2, _] | [198, 18 | 19, ..] => Kind::Never,
        [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => Kind::Never,
        _ => Kind::Public,
    }
}

fn kind_v6(ip: Ipv6Addr) -> Kind {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        kind_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private,
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Never,
        // Forms that hold an IPv4 address: mapped, compatible, NAT64 and 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // NAT64 with a network-specific prefix: the embedded address is unknown.
        [0x64, 0xff9b, 1, ..] => Kind::Private,
        [first, ..] if first & 0xfe00 == 0xfc00 => Kind::Private,
        // Only 2000::/3 is allocated; within it, Teredo and the like and documentation have no
        // owner.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => Kind::Never,
        [0x3fff, second, ..] if second < 0x1000 => Kind::Never,
        [first, ..] if first & 0xe000 == 0x2000 => Kind::Public,
        _ => Kind::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classified_by_their_range() {
        let table = [
            ("93.184.215.14", Kind::Public),
            ("100.63.255.255", Kind::Public),
            ("172.32.0.1", Kind::Public),
            ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", Kind::Public),
            ("::ffff:93.184.215.14", Kind::Public),
            ("64:ff9b::5db8:d70e", Kind::Public),
            ("10.1.2.3", Kind::Private),
            ("127.0.0.1", Kind::Private),
            ("172.16.0.1", Kind::Private),
            ("172.31.255.255", Kind::Private),
            ("192.168.0.1", Kind::Private),
            ("100.64.0.1", Kind::Private),
            ("100.127.255.255", Kind::Private),
            ("::1", Kind::Private),
            ("fc00::1", Kind::Private),
            ("fdff::1", Kind::Private),
            ("::ffff:10.0.0.1", Kind::Private),
            ("::ffff:127.0.0.1", Kind::Private),
            ("::10.0.0.1", Kind::Private),
            ("64:ff9b::a00:1", Kind::Private),
            ("2002:a00:1::1", Kind::Private),
            ("0.0.0.0", Kind::Never),
            ("169.254.169.254", Kind::Never),
            ("::ffff:169.254.169.254", Kind::Never),
            ("224.0.0.1", Kind::Never),
            ("255.255.255.255", Kind::Never),
            ("192.0.2.1", Kind::Never),
            ("198.18.0.1", Kind::Never),
            ("::", Kind::Never),
            ("fe80::1", Kind::Never),
            ("fec0::1", Kind::Never),
            ("ff02::1", Kind::Never),
            ("2001::1", Kind::Never),
            ("2001:db8::1", Kind::Never),
        ];
        for (text, expected) in table {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(kind(address), expected, "{text}");
            let open = EgressConfig {
                allow_private_addresses: true,
            };
            assert_eq!(
                EgressConfig::default().allows(address),
                expected == Kind::Public,
                "{text}"
            );
            assert_eq!(open.allows(address), expected != Kind::Never, "{text}");
        }
    }

    #[test]
    fn names_in_other_scripts_are_encoded_for_the_dns() {
        let table = [
            (
                "https://BÜCHER.example/ä",
                "https://xn--bcher-kva.example/%C3%A4",
            ),
            ("https://faß.example/", "https://xn--fa-hia.example/"),
            ("https://例え.example/", "https://xn--r8jz45g.example/"),
            ("https://مثال.example/", "https://xn--mgbh0fb.example/"),
        ];
        for (text, expected) in table {
            let url = EgressConfig::default().url("x", text).expect("allowed");
            assert_eq!(url.as_str(), expected);
        }
        // Letters of both directions in one label.
        assert!(
            EgressConfig::default()
                .url("x", "https://aب.example/")
                .is_err()
        );
    }

    #[test]
    fn a_refused_url_is_reported_with_setting_and_reason_but_not_quoted() {
        let table = [
            ("https://hooks.example/T0/B0/secret", None),
            ("https://127.0.0.1:8443/secret", None),
            ("http://127.0.0.1:1/secret", None),
            ("http://localhost:1/secret", None),
            ("http://[::1]:1/secret", None),
            ("http://hooks.example/secret", Some("https://")),
            ("http://localhost.example/secret", Some("https://")),
            ("http://sub.localhost/secret", Some("https://")),
            ("ftp://hooks.example/secret", Some("https://")),
            ("hooks.example/secret", Some("not a URL")),
            ("https://me:secret@hooks.example/", Some("no password")),
            ("https://secret@hooks.example/", Some("no user")),
            ("https://10.0.0.1/secret", Some("[egress]")),
            ("https://0x0a.1/secret", Some("[egress]")),
            ("https://167772161/secret", Some("[egress]")),
            ("https://[::ffff:10.0.0.1]/secret", Some("[egress]")),
            ("https://[::ffff:127.0.0.1]/secret", Some("[egress]")),
            ("https://[fe80::1]/secret", Some("[egress]")),
            ("https://169.254.169.254/secret", Some("[egress]")),
            ("https://0.0.0.0/secret", Some("[egress]")),
        ];
        for (text, expected) in table {
            match (
                EgressConfig::default().url("hook.url (HOOK_URL)", text),
                expected,
            ) {
                (Ok(url), None) => assert_eq!(url.as_str(), text),
                (Err(error), Some(expected)) => {
                    let error = error.to_string();
                    assert!(
                        error.starts_with("hook.url (HOOK_URL) ") && error.contains(expected),
                        "{text}: {error}"
                    );
                    assert!(!error.contains("secret"), "{error}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        let open = EgressConfig {
            allow_private_addresses: true,
        };
        assert!(open.url("x", "https://10.0.0.1/").is_ok());
        assert!(open.url("x", "http://10.0.0.1/").is_err());
        assert!(open.url("x", "https://169.254.169.254/").is_err());
    }
}
