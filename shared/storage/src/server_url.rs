//! What people get wrong in the URL of a server that has a user and a password. Pure.
//!
//! Invariant: nothing here repeats any part of a URL.

/// How to write a user and a password in a URL.
pub const ESCAPES: &str =
    "write / ? # @ : and % in a user or password like %2F %3F %23 %40 %3A and %25";

/// Whether the user or password has a `/`, `?` or `#`, which end the part of the URL with the host: what is there then is
/// a user and the beginning of a password, and no host and port.
pub fn is_unescaped(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (hosts, behind) = rest.split_at(end);
    let port = hosts.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = port.bytes().all(|b| b.is_ascii_digit() || b == b']');
    let ends_in_login = !hosts.contains('@') && behind.contains('@');
    ends_in_login && (!is_port || behind.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_not_encoded_is_recognised() {
        for (url, expected) in [
            ("amqp://u:p@h/v", false),
            ("amqp://u:p@w@h/v", false),
            ("amqp://u:p%40%2F@h:5672/v", false),
            ("amqp://h/v?x=1#y", false),
            (
                "redis-sentinel://a:26379,b:26379/m?sentinel_password=p@w",
                false,
            ),
            ("redis://[::1]:6379/0?x=@", false),
            ("amqp://u:p#w@h/v", true),
            ("amqp://u:1#w@h/v", true),
            ("amqp://u:p/w@h/v", true),
            ("redis://:p/w@h/0", true),
            ("amqp://u:p?w@h/v", true),
        ] {
            assert_eq!(is_unescaped(url), expected, "{url}");
        }
    }
}
