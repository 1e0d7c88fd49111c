//! The address of RabbitMQ: one server, or the nodes of a cluster.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};

use super::archiving::Archiving;
use super::error::AmqpError;
use crate::server_url;
use crate::system::random_share;

/// The addresses of RabbitMQ and the expected deployment. Not `Debug`: it holds passwords.
pub(super) struct Broker {
    /// At least one.
    pub(super) nodes: Vec<Node>,
    /// The node to connect to next: that of the last connection, while it works. The first one is chosen at random, so
    /// that processes spread over the nodes.
    preferred: AtomicUsize,
    /// Of all nodes, for messages.
    pub(super) address: String,
    /// Shown in RabbitMQ's list of connections.
    pub(super) name: String,
    pub(super) partitions: u32,
    pub(super) archiving: Archiving,
    /// See [`Declaring`](super::topology::Declaring).
    pub(super) unplaced: AtomicBool,
}

/// One node.
pub(super) struct Node {
    pub(super) uri: AMQPUri,
    /// `host:port`, for messages.
    pub(super) address: String,
}

const TCP_CONNECT_MS: u64 = 5_000;
/// A silent peer is detected after about twice this time.
const HEARTBEAT_SECONDS: u16 = 10;
/// lapin has 32 frames of memory in each direction: with RabbitMQ's own 128 KiB, 8 MiB for each connection. A webhook
/// fits as a rule; what does not is sent in several frames.
const FRAME_BYTES: u32 = 32 * 1024;

impl Broker {
    /// Parses the URL, which may name several nodes. Errors do not repeat it.
    pub(super) fn new(
        url: &SecretString,
        name: String,
        partitions: u32,
    ) -> Result<Self, AmqpError> {
        let urls = urls(url.expose_secret());
        let is_alone = urls.len() == 1;
        let nodes = urls.iter().map(|url| Node::new(url, is_alone));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let vhost = |node: &Node| node.uri.vhost.clone();
        if nodes.iter().any(|node| vhost(node) != vhost(&nodes[0])) {
            return Err(bad("must name the same virtual host in all its URLs"));
        }
        let addresses: Vec<_> = nodes.iter().map(|node| node.address.as_str()).collect();
        Ok(Self {
            address: addresses.join(", "),
            preferred: AtomicUsize::new(first(nodes.len(), random_share())),
            nodes,
            name,
            partitions,
            archiving: Archiving::default(),
            unplaced: AtomicBool::new(false),
        })
    }

    /// The nodes in the order in which they are tried, with their positions.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, &Node)> {
        let first = self.preferred.load(Ordering::Relaxed);
        let count = self.nodes.len();
        (0..count).map(move |n| {
            let at = (first + n) % count;
            (at, &self.nodes[at])
        })
    }

    /// A connection to this node was opened.
    pub(super) fn prefer(&self, at: usize) {
        self.preferred.store(at, Ordering::Relaxed);
    }
}

impl Node {
    fn new(url: &str, is_alone: bool) -> Result<Self, AmqpError> {
        let parsed = url::Url::parse(url).ok();
        if let Some(why) = wrong(url, parsed.as_ref()) {
            return Err(bad(why));
        }
        // The parser's own message can repeat the URL, password included.
        let not_a_url = || bad("is not a URL of RabbitMQ");
        let parsed = parsed.ok_or_else(not_a_url)?;
        let mut uri: AMQPUri = url.parse().map_err(|_| not_a_url())?;
        // A URL without a host means this machine.
        if parsed.host().is_none() && !is_alone {
            return Err(bad("has a comma without a host"));
        }
        // It also takes an IPv6 address for "localhost" …
        if let Some(url::Host::Ipv6(address)) = parsed.host() {
            uri.authority.host = address.to_string();
        }
        // … and a closing slash for a virtual host without a name.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_BYTES);
        uri.query.connection_timeout.get_or_insert(TCP_CONNECT_MS);
        let address = match parsed.host() {
            Some(url::Host::Ipv6(address)) => format!("[{address}]:{}", uri.authority.port),
            _ => format!("{}:{}", uri.authority.host, uri.authority.port),
        };
        Ok(Self { uri, address })
    }
}

fn bad(why: &str) -> AmqpError {
    AmqpError::Misconfigured(format!(
        "amqp_url (REVWATCH_AMQP_URL) {why}; write it like amqp://user:password@host:5672/virtual-host, or for a cluster \
         like amqp://user:password@host1:5672,host2:5672/virtual-host"
    ))
}

/// What people write instead of a URL of RabbitMQ; `parsed` is the URL, if it is one.
fn wrong(text: &str, parsed: Option<&url::Url>) -> Option<&'static str> {
    let (scheme, _) = text.split_once("://").unwrap_or_default();
    match scheme {
        "amqp" | "amqps" if server_url::is_unescaped(text) => Some(
            "has characters in its user or password that end the URL: write / ? # @ : and % there like %2F %3F %23 %40 \
             %3A and %25",
        ),
        "amqp" | "amqps" => match parsed?.port() {
            Some(15_672 | 15_671) => {
                Some("has the port of RabbitMQ's web pages: AMQP has 5672, with TLS 5671")
            }
            Some(6379 | 6380 | 26_379) => Some(
                "has a port of Redis: the URL of Redis belongs into redis_url (REVWATCH_REDIS_URL)",
            ),
            _ => None,
        },
        scheme if scheme.starts_with("redis") => {
            Some("is a URL of Redis: that belongs into redis_url (REVWATCH_REDIS_URL)")
        }
        _ => Some("must begin with amqp:// or amqps://"),
    }
}

/// A URL for each node: several URLs, or one with several hosts, separated by commas.
fn urls(text: &str) -> Vec<String> {
    let mut urls: Vec<String> = Vec::new();
    for part in text.trim().split(',') {
        let part = part.trim();
        // With any scheme: the rest of a URL of another service must not be taken for a virtual host.
        let begins = part.split_once("://").is_some_and(|(scheme, _)| {
            !scheme.is_empty()
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        match urls.last_mut() {
            Some(last) if !begins => {
                last.push(',');
                last.push_str(part);
            }
            _ => urls.push(part.to_owned()),
        }
    }
    urls.iter().flat_map(|url| one_for_each_host(url)).collect()
}

fn one_for_each_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let hosts = hosts.split(',');
    hosts
        .map(|host| format!("{scheme}://{user}{}{tail}", host.trim()))
        .collect()
}

/// The first of `count` nodes that is tried; `share` is at least 0 and below 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a small number of nodes, times less than one"
)]
fn first(count: usize, share: f64) -> usize {
    (count as f64 * share) as usize % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(url: &str) -> Result<Broker, AmqpError> {
        Broker::new(&SecretString::from(url), "test".into(), 8)
    }

    #[test]
    fn reads_urls_as_people_write_them() {
        let table = [
            ("amqp://rabbit.internal", "rabbit.internal:5672", "/"),
            ("amqp://rabbit.internal/", "rabbit.internal:5672", "/"),
            (
                "amqp://u:p@10.0.0.1:5673/revenue",
                "10.0.0.1:5673",
                "revenue",
            ),
            (
                "amqps://u:p@rabbit.internal/%2f",
                "rabbit.internal:5671",
                "/",
            ),
            ("amqp://u:p@[::1]:5673/x", "[::1]:5673", "x"),
            (
                "amqp://u:p@a:5673,b,[::1]:5674/x?heartbeat=60",
                "a:5673, b:5672, [::1]:5674",
                "x",
            ),
            ("amqp://a,b", "a:5672, b:5672", "/"),
            // A comma in the password, and spaces after those between URLs.
            (
                "amqps://u:p,q@a/x, amqp://v:r@b:5673/x",
                "a:5671, b:5673",
                "x",
            ),
        ];
        for (url, address, vhost) in table {
            let broker = broker(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let vhosts = broker.nodes.iter().map(|node| node.uri.vhost.as_str());
            assert_eq!(broker.address, address, "{url}");
            assert!(vhosts.into_iter().all(|found| found == vhost), "{url}");
        }
        let nodes = broker("amqp://u:p,q@a,b?heartbeat=60")
            .expect("a URL")
            .nodes;
        for node in nodes {
            assert_eq!(node.uri.query.heartbeat, Some(60));
            assert_eq!(node.uri.authority.userinfo.password, "p,q");
        }
        let loopback = broker("amqp://u:p@[::1]/").expect("a URL");
        assert_eq!(loopback.nodes[0].uri.authority.host, "::1");
    }

    #[test]
    fn the_nodes_are_tried_in_turn_from_the_one_that_worked_last() {
        let broker = broker("amqp://a,b,c").expect("a URL");
        broker.prefer(1);
        let turn: Vec<_> = broker
            .in_turn()
            .map(|(at, node)| (at, &*node.address))
            .collect();
        assert_eq!(turn, [(1, "b:5672"), (2, "c:5672"), (0, "a:5672")]);
        assert_eq!([0.0, 0.4, 0.99].map(|share| first(3, share)), [0, 1, 2]);
    }

    #[test]
    fn a_wrong_url_is_refused_without_naming_the_password() {
        let not_a_url = "is not a URL of RabbitMQ";
        for (url, expected) in [
            ("s3cret", "must begin with amqp://"),
            ("http://u:s3cret@host", "must begin with amqp://"),
            ("amqp:s3cret", "must begin with amqp://"),
            ("amqp://u:s3cret@host:99999", not_a_url),
            ("amqp://u:s3cret@host:56x72/v", not_a_url),
            ("amqp://u:s3cret@host:amqp", not_a_url),
            ("amqp://u:s3cret@h?heartbeat=x", not_a_url),
            ("amqp://u:s3cret#w@h/v", "like %2F %3F %23"),
            ("amqp://u:s3cret/w@h/v", "like %2F %3F %23"),
            ("redis://:s3cret@h/0", "is a URL of Redis"),
            ("amqp://u:s3cret@h:6379/v", "has a port of Redis"),
            (
                "amqp://u:s3cret@h:15672/v",
                "has the port of RabbitMQ's web pages",
            ),
            // Of several hosts or URLs, each.
            ("amqp://u:s3cret@a,b:99999", not_a_url),
            ("amqp://u:s3cret@a:x,b/v", not_a_url),
            ("amqp://u:s3cret@a,,", not_a_url),
            ("amqp://a,,", "has a comma without a host"),
            (
                "amqp://u:s3cret@a,b:15672/v",
                "has the port of RabbitMQ's web pages",
            ),
            ("amqp://u:s3cret,x/w@a,b/v", "like %2F %3F %23"),
            ("amqp://u:p@a/v, amqp://u:s3cret/w@b/v", "like %2F %3F %23"),
            ("amqp://u:p@a/v,redis://:s3cret@b/0", "is a URL of Redis"),
            (
                "amqp://u:s3cret@a/x,amqp://u:s3cret@b/y",
                "must name the same virtual host",
            ),
        ] {
            let Err(AmqpError::Misconfigured(text)) = broker(url) else {
                panic!("{url} was accepted")
            };
            assert!(
                text.starts_with("amqp_url (REVWATCH_AMQP_URL) ")
                    && text.contains(expected)
                    && text.contains("write it like amqp://user:password@host:5672/virtual-host")
                    && !text.contains("s3cret"),
                "{text} should contain {expected}"
            );
        }
    }
}
