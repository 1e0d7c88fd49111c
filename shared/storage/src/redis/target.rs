//! Parses the address of the store. Pure: it resolves no name and opens no connection.
//!
//! Invariant: no error repeats any part of the address, which may hold a password.

use redis::sentinel::SentinelNodeConnectionInfo;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsMode};

use crate::ports::StoreError;
use crate::server_url;

/// The servers of the store.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// One server, or one name that resolves to the current primary.
    Single(ConnectionInfo),
    /// Some nodes of a Cluster; the others are discovered.
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels that know the primary.
    Sentinel {
        /// The Sentinels.
        sentinels: Vec<ConnectionInfo>,
        /// The name of the primary in Sentinel.
        master: String,
        /// The login for the primary.
        node: SentinelNodeConnectionInfo,
    },
}

impl Target {
    /// See [`super::RedisStore::connect`] for the forms.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        const SCHEMES: &str =
            "must begin with redis://, rediss://, redis-cluster:// or redis-sentinel://";
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| wrong(SCHEMES))?;
        if scheme.starts_with("redis") && server_url::is_unescaped(url) {
            return Err(wrong(&format!(
                "has characters in its user or password that end the URL: {}",
                server_url::ESCAPES
            )));
        }
        match scheme {
            "redis" | "rediss" if rest.contains('?') => Err(wrong(
                "has a parameter, which redis:// does not take: the database is the number at the end, \
                 redis://:password@host:6379/0",
            )),
            "redis" | "rediss" => Ok(Self::Single(server(&format!("{scheme}://{rest}"))?)),
            "redis-cluster" => Self::cluster(&Parts::split(rest)?),
            "redis-sentinel" => Self::sentinel(&Parts::split(rest)?),
            "amqp" | "amqps" => Err(wrong(
                "is a URL of RabbitMQ: that belongs into amqp_url (REVWATCH_AMQP_URL)",
            )),
            _ => Err(wrong(SCHEMES)),
        }
    }

    /// Whether connections begin with TLS.
    pub(super) fn has_tls(&self) -> bool {
        let servers = match self {
            Self::Single(info) => std::slice::from_ref(info),
            Self::Cluster(nodes) => nodes.as_slice(),
            Self::Sentinel { sentinels, .. } => sentinels.as_slice(),
        };
        let is_tls = |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        servers.iter().any(is_tls)
    }

    /// Hosts and ports, for errors: no user and no password.
    pub(super) fn servers(&self) -> String {
        let (kind, servers) = match self {
            Self::Single(info) => ("Redis", std::slice::from_ref(info)),
            Self::Cluster(nodes) => ("Redis Cluster", nodes.as_slice()),
            Self::Sentinel { sentinels, .. } => ("Redis Sentinel", sentinels.as_slice()),
        };
        let servers: Vec<_> = servers.iter().map(|info| info.addr().to_string()).collect();
        format!("{kind} at {}", servers.join(", "))
    }

    /// The servers, and which of their data: no user and no password.
    pub(super) fn place(&self) -> String {
        let servers = self.servers();
        match self {
            Self::Single(info) => format!("{servers}, database {}", info.redis_settings().db()),
            Self::Cluster(_) => servers,
            Self::Sentinel { master, .. } => format!("{servers}, {master}"),
        }
    }

    fn cluster(parts: &Parts<'_>) -> Result<Self, StoreError> {
        if !parts.path.is_empty() {
            return Err(wrong(
                "has a path: redis-cluster:// takes none, because a Cluster has only database 0",
            ));
        }
        if parts.sentinel_password.is_some() {
            return Err(wrong(
                "has a sentinel_password, which redis-cluster:// does not take",
            ));
        }
        let scheme = parts.scheme();
        let nodes = parts
            .hosts
            .iter()
            .map(|host| server(&format!("{scheme}://{}{host}", parts.login)));
        Ok(Self::Cluster(nodes.collect::<Result<_, _>>()?))
    }

    fn sentinel(parts: &Parts<'_>) -> Result<Self, StoreError> {
        let (master, db) = parts.path.split_once('/').unwrap_or((parts.path, ""));
        if master.is_empty() {
            return Err(wrong(
                "has no name of a master at its end: redis-sentinel://host:26379,host:26379/mymaster",
            ));
        }
        let scheme = parts.scheme();
        let mut sentinels = Vec::with_capacity(parts.hosts.len());
        for host in &parts.hosts {
            let port = if has_port(host) { "" } else { ":26379" };
            let sentinel = server(&format!("{scheme}://{host}{port}"))?;
            sentinels.push(match &parts.sentinel_password {
                Some(password) => {
                    let login = sentinel.redis_settings().clone().set_password(password);
                    sentinel.set_redis_settings(login)
                }
                None => sentinel,
            });
        }
        let login = server(&format!("redis://{}localhost/{db}", parts.login))?;
        let mut node = SentinelNodeConnectionInfo::default()
            .set_redis_connection_info(login.redis_settings().clone());
        if parts.tls {
            node = node.set_tls_mode(TlsMode::Secure);
        }
        Ok(Self::Sentinel {
            sentinels,
            master: master.to_owned(),
            node,
        })
    }
}

/// An address with several hosts, without its scheme.
struct Parts<'a> {
    /// `user:password@`, still percent-encoded, or empty.
    login: &'a str,
    hosts: Vec<&'a str>,
    /// Without the leading slash.
    path: &'a str,
    tls: bool,
    sentinel_password: Option<String>,
}

impl<'a> Parts<'a> {
    fn split(rest: &'a str) -> Result<Self, StoreError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
        if hosts.iter().any(|host| host.is_empty()) {
            return Err(wrong("lacks a host: list them as host:port,host:port"));
        }
        let mut parts = Self {
            login,
            hosts,
            path: path.trim_end_matches('/'),
            tls: false,
            sentinel_password: None,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match (name.as_ref(), value.as_ref()) {
                ("tls", "true") => parts.tls = true,
                ("tls", "false") => parts.tls = false,
                ("tls", _) => return Err(wrong("has a tls that is neither true nor false")),
                ("sentinel_password", password) => {
                    parts.sentinel_password = Some(password.to_owned());
                }
                _ => {
                    return Err(wrong(
                        "has a parameter that is neither tls nor sentinel_password",
                    ));
                }
            }
        }
        Ok(parts)
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "rediss" } else { "redis" }
    }
}

/// An IPv6 address has colons of its own, in brackets.
fn has_port(host: &str) -> bool {
    host.rsplit(']').next().is_some_and(|end| end.contains(':'))
}

fn server(url: &str) -> Result<ConnectionInfo, StoreError> {
    // The client's own error could quote the address.
    url.into_connection_info().map_err(|_| {
        wrong("has a host, port, user or database that cannot be read: write it like redis://:password@host:6379/0")
    })
}

fn wrong(why: &str) -> StoreError {
    StoreError::Misconfigured(format!("redis_url (REVWATCH_REDIS_URL) {why}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn login(info: &ConnectionInfo) -> (Option<&str>, Option<&str>) {
        (
            info.redis_settings().username(),
            info.redis_settings().password(),
        )
    }

    #[test]
    fn one_server() {
        let Ok(Target::Single(info)) = Target::parse("rediss://me:p%40ss@redis.example:6390/3")
        else {
            panic!("not a single server")
        };
        assert_eq!(info.addr().to_string(), "redis.example:6390");
        let target = Target::Single(info.clone());
        assert_eq!(target.servers(), "Redis at redis.example:6390");
        assert_eq!(login(&info), (Some("me"), Some("p@ss")));
        assert_eq!(info.redis_settings().db(), 3);
        assert!(matches!(
            info.addr(),
            redis::ConnectionAddr::TcpTls {
                insecure: false,
                ..
            }
        ));
    }

    #[test]
    fn a_cluster_shares_its_login() {
        let Ok(Target::Cluster(nodes)) =
            Target::parse("redis-cluster://:pw@a:7000,b:7001,[::1]:7002?tls=true")
        else {
            panic!("not a cluster")
        };
        let addresses: Vec<String> = nodes.iter().map(|n| n.addr().to_string()).collect();
        assert_eq!(addresses, ["a:7000", "b:7001", "::1:7002"]);
        let target = Target::Cluster(nodes.clone());
        assert_eq!(target.place(), "Redis Cluster at a:7000, b:7001, ::1:7002");
        assert!(nodes.iter().all(|n| login(n) == (None, Some("pw"))));
        assert!(
            nodes
                .iter()
                .all(|n| matches!(n.addr(), redis::ConnectionAddr::TcpTls { .. }))
        );
    }

    #[test]
    fn sentinels_have_a_login_of_their_own() {
        let url = "redis-sentinel://me:pw@a,b:26380/mymaster/2?sentinel_password=s%26p";
        let Ok(Target::Sentinel {
            sentinels,
            master,
            node,
        }) = Target::parse(url)
        else {
            panic!("not sentinels")
        };
        let addresses: Vec<String> = sentinels.iter().map(|n| n.addr().to_string()).collect();
        assert_eq!(addresses, ["a:26379", "b:26380"]);
        assert!(sentinels.iter().all(|n| login(n) == (None, Some("s&p"))));
        assert_eq!(master, "mymaster");
        // The client has no other way to read it.
        let shown = format!("{node:?}");
        assert!(
            shown.contains("\"me\"") && shown.contains("db: 2"),
            "{shown}"
        );
        assert!(!shown.contains("pw"), "{shown}");
    }

    #[rstest]
    #[case("hunter2")]
    #[case("http://:hunter2@a")]
    #[case("redis://:hunter2@a:notaport")]
    #[case("redis://:hunter2@a/notadb")]
    #[case("redis://:hunter2@a?db=3")]
    #[case("rediss://:hunter2@a/0?db=3")]
    #[case("redis-cluster://:hunter2@a,,b")]
    #[case("redis-cluster://:hunter2@a/1")]
    #[case("redis-cluster://:hun/ter2@a")]
    #[case("redis-sentinel://:hunter2@a")]
    #[case("redis-sentinel://a/m?password=hunter2")]
    #[case("redis-sentinel://a/m?tls=hunter2")]
    fn errors_do_not_show_the_password(#[case] url: &str) {
        let Err(StoreError::Misconfigured(text)) = Target::parse(url) else {
            panic!("{url} was accepted")
        };
        assert!(
            text.contains("REVWATCH_REDIS_URL") && !text.contains("ter2"),
            "{text}"
        );
    }
}
