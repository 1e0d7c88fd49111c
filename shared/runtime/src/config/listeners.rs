//! Listeners of one process that cannot be open together.

use std::net::SocketAddr;

use super::error::{ConfigError, Fault, Faults};
use super::settings::Config;

impl Config {
    /// Fails if two listeners of a process have one address. `ingest` and `alerting`: whether it has that role.
    pub fn check_listeners(&self, ingest: bool, alerting: bool) -> Result<(), ConfigError> {
        let slack = alerting && self.slack.opens_listener();
        let listeners: Vec<_> = [
            ("listen (REVWATCH_LISTEN)", self.listen, ingest),
            (
                "admin_listen (REVWATCH_ADMIN_LISTEN)",
                self.admin_listen,
                true,
            ),
            (
                "slack.interactivity_listen (SLACK_INTERACTIVITY_LISTEN)",
                self.slack.interactivity_listen,
                slack,
            ),
        ]
        .into_iter()
        .filter(|(_, _, is_open)| *is_open)
        .collect();
        let mut faults = Faults::default();
        for (number, (setting, addr, _)) in listeners.iter().enumerate() {
            let earlier = listeners.iter().take(number);
            for (other, other_addr, _) in earlier.filter(|(_, it, _)| collide(*it, *addr)) {
                let what = format!(
                    "is {addr}, and {other} is {other_addr}: one of the two could not be opened. Give them different ports"
                );
                faults.add(Fault::of(setting, what).about([*other]));
            }
        }
        faults.none()
    }
}

/// Port 0 is any free one. `[::]` is every address of IPv4, too.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |it: std::net::IpAddr, that: std::net::IpAddr| {
        it.is_unspecified() && (it.is_ipv6() || that.is_ipv4())
    };
    one.port() != 0 && one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_which_one_could_not_be_opened() {
        let collides = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|it| it.parse().expect("an address"));
            assert_eq!(collide(one, other), collide(other, one));
            collide(one, other)
        };
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "0.0.0.0:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
        ] {
            assert!(collides(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert!(!collides(one, other), "{one} {other}");
        }
    }

    #[test]
    fn only_listeners_of_the_process_count() {
        let mut config = Config::load(None, &|_| None).expect("the defaults");
        assert_eq!(config.check_listeners(true, true), Ok(()));
        config.admin_listen = config.listen;
        assert_eq!(config.check_listeners(false, true), Ok(()));
        let text = config
            .check_listeners(true, false)
            .expect_err("one address")
            .to_string();
        for part in [
            "REVWATCH_LISTEN",
            "REVWATCH_ADMIN_LISTEN",
            "different ports",
        ] {
            assert!(text.contains(part), "{text}");
        }
        config.slack.interactivity_listen = config.admin_listen;
        assert_eq!(config.check_listeners(false, true), Ok(()), "no secret");
        config.slack.signing_secret = Some("x".to_owned().into());
        assert!(config.check_listeners(false, true).is_err());
    }
}
