//! Outgoing requests: the HTTP client for every request that carries a secret to a configured
//! destination. Three protocols do not pass here, because their libraries open the connection: SMTP,
//! the WebSocket of Slack's Socket Mode, and the export of traces
//! (`shared/runtime/src/telemetry/export.rs`), whose collector usually has a private address.
//!
//! [`EgressConfig`] decides which destinations are allowed: for URLs when they are configured, and
//! for names whenever they are resolved. Redirects are not followed and the environment's proxies
//! are not used: a request goes to the configured destination or fails.

mod http;
mod http_date;
mod retry_after;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::{Client, Url, redirect};
use revwatch_core::clock::Clock;
use revwatch_storage::system::SystemClock;

pub use self::http::{HttpClient, HttpError, HttpErrorKind, HttpRequest, Transport};
pub use self::http_date::http_date;
pub use self::retry_after::retry_after;
use crate::config::{ConfigError, EgressConfig};

/// Maximum duration of a request, unless specified otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates clients that connect only to allowed addresses.
#[derive(Clone)]
pub struct EgressClient {
    config: EgressConfig,
    lookup: Resolver,
    clock: Arc<dyn Clock>,
    /// Instead of reqwest.
    transport: Option<Arc<dyn Transport>>,
}

/// Resolves a name to addresses; a parameter, so that tests need no DNS.
pub type Resolver = Arc<dyn Fn(String) -> Resolution + Send + Sync>;

/// The future result of a [`Resolver`].
pub type Resolution = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Why a connection was not made: the policy forbids every address of the name.
#[derive(Debug, thiserror::Error)]
#[error(
    "its name resolves to private or special addresses only: correct the URL or the DNS, or set \
     allow_private_addresses in [egress]"
)]
pub struct BlockedAddressError;

impl EgressClient {
    /// With the system's DNS and clock.
    pub fn new(config: EgressConfig) -> Self {
        let lookup = |name: String| -> Resolution {
            Box::pin(
                async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) },
            )
        };
        Self::with_lookup(config, Arc::new(lookup))
    }

    /// With another resolver.
    pub fn with_lookup(config: EgressConfig, lookup: Resolver) -> Self {
        Self {
            config,
            lookup,
            clock: Arc::new(SystemClock),
            transport: None,
        }
    }

    /// The same with another clock.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The same with another transport: its clients build requests and connect to nothing.
    pub fn with_transport(self, transport: Arc<dyn Transport>) -> Self {
        let transport = Some(transport);
        Self { transport, ..self }
    }

    /// The policy.
    pub fn policy(&self) -> EgressConfig {
        self.config
    }

    /// Parses `text` as an allowed URL; an error names `setting`.
    pub fn url(&self, setting: &str, text: &str) -> Result<Url, ConfigError> {
        self.config.url(setting, text)
    }

    /// Parses `text` as a base URL, without a trailing slash.
    pub fn base(&self, setting: &str, text: &str) -> Result<String, ConfigError> {
        self.config.base(setting, text)
    }

    /// A client that connects only to allowed addresses. Fails if no TLS roots are found.
    pub fn client(&self) -> Result<HttpClient, reqwest::Error> {
        self.client_with(HeaderMap::new())
    }

    /// The same with headers that are sent with every request.
    pub fn client_with(&self, headers: HeaderMap) -> Result<HttpClient, reqwest::Error> {
        let builder = Client::builder()
            .default_headers(headers)
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(self.clone()))
            .user_agent(concat!("revwatch/", env!("CARGO_PKG_VERSION")));
        let (client, transport) = match &self.transport {
            None => {
                let client = builder.build()?;
                (client.clone(), Arc::new(client) as Arc<dyn Transport>)
            }
            // It does not connect, so it reads no certificates.
            Some(transport) => (builder.tls_certs_only([]).build()?, transport.clone()),
        };
        Ok(HttpClient::new(client, transport, self.clock.clone()))
    }
}

impl Resolve for EgressClient {
    fn resolve(&self, name: Name) -> Resolving {
        let (config, is_loopback) = (self.config, name.as_str() == "localhost");
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let mut addresses = found.await?;
            let any = !addresses.is_empty();
            // A name that is allowed without TLS must stay on this machine, whatever its DNS says.
            addresses.retain(|a| {
                if is_loopback {
                    a.ip().is_loopback()
                } else {
                    config.allows(a.ip())
                }
            });
            if any && addresses.is_empty() {
                return Err(BlockedAddressError.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use revwatch_test_servers::names;

    use super::*;

    const NAMES: &[(&str, &[&str])] = &[
        ("private.example", &["10.0.0.1", "192.168.1.1"]),
        ("rebound.example", &["127.0.0.1"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
        ("metadata.example", &["169.254.169.254"]),
        ("localhost", &["1.1.1.1", "127.0.0.1"]),
        ("mixed.example", &["10.0.0.1", "2606:4700::1", "1.1.1.1"]),
    ];

    async fn resolved(egress: &EgressClient, name: &str) -> Result<Vec<String>, String> {
        let name = name.parse().expect("a name");
        let found = egress.resolve(name).await.map_err(|e| e.to_string())?;
        Ok(found.map(|a| a.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn the_addresses_of_a_name_are_checked_too() {
        let (closed, open) = (
            EgressConfig::default(),
            EgressConfig {
                allow_private_addresses: true,
            },
        );
        let closed = EgressClient::with_lookup(closed, names(NAMES));
        for name in [
            "private.example",
            "rebound.example",
            "mapped.example",
            "metadata.example",
        ] {
            let refused = resolved(&closed, name).await.expect_err("refused");
            assert!(refused.contains("[egress]"), "{refused}");
        }
        assert_eq!(
            resolved(&closed, "localhost").await,
            Ok(vec!["127.0.0.1".into()])
        );
        assert_eq!(
            resolved(&closed, "mixed.example").await,
            Ok(vec!["2606:4700::1".into(), "1.1.1.1".into()])
        );
        let open = EgressClient::with_lookup(open, names(NAMES));
        assert_eq!(
            resolved(&open, "private.example").await,
            Ok(vec!["10.0.0.1".into(), "192.168.1.1".into()])
        );
        assert!(resolved(&open, "metadata.example").await.is_err());
    }
}
