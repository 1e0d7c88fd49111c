//! The settings, under the names of the TOML file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use revwatch_core::mode::Mode;
use revwatch_core::observe::MetadataKeys;
use revwatch_core::realm::Realm;
use secrecy::SecretString;
use serde::Deserialize;

use super::alerting::AlertingConfig;
use super::channels::{EmailConfig, PagerDutyConfig, SlackConfig, SmsConfig, WebhookConfig};
use super::egress::EgressConfig;
use super::endpoint::{EndpointConfig, realm};
use super::error::{ConfigError, Fault};
use super::non_empty::{non_empty_path, non_empty_secret, non_empty_secrets};
use super::proxies::TrustedProxies;
use super::traces::TracesConfig;

/// The file of defaults, comments included.
pub const DEFAULTS: &str = include_str!("../../../../deploy/revwatch.toml");

/// All settings. Key names are those of the TOML file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Public webhook listener.
    pub listen: SocketAddr,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub admin_listen: SocketAddr,
    /// Reverse proxies whose `X-Forwarded-For` names the client.
    #[serde(default)]
    pub trusted_proxies: TrustedProxies,
    /// Folder of the embedded store.
    pub data: PathBuf,
    /// RabbitMQ; set together with `redis_url`, except where `ingest` is the only role.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub amqp_url: Option<SecretString>,
    /// Redis; set together with `amqp_url`.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub redis_url: Option<SecretString>,
    /// Partitions of a new deployment; fixed afterwards.
    pub partitions: u32,
    /// Live or test: events of the other mode change nothing.
    pub mode: Mode,
    /// Secrets of `/webhooks/stripe`, comma-separated.
    #[serde(default, deserialize_with = "non_empty_secrets")]
    pub stripe_webhook_secret: Option<SecretString>,
    /// Secrets of `/webhooks/kernel/stripe`, comma-separated.
    #[serde(default, deserialize_with = "non_empty_secrets")]
    pub stripe_kernel_webhook_secret: Option<SecretString>,
    /// Secrets of `/webhooks/app`, comma-separated.
    #[serde(default, deserialize_with = "non_empty_secrets")]
    pub app_webhook_secret: Option<SecretString>,
    /// API key: with it, objects named by thin events are fetched.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub stripe_secret_key: Option<SecretString>,
    /// The realm of the account that the key is of.
    #[serde(default, deserialize_with = "realm")]
    pub stripe_secret_key_realm: Realm,
    /// Stripe's API.
    pub stripe_api_base: String,
    /// More endpoints, in addition to the three above.
    #[serde(default)]
    pub endpoints: Vec<EndpointConfig>,
    /// A file or folder of rules that replaces the built-in ones; empty: built-in.
    #[serde(default, deserialize_with = "non_empty_path")]
    pub rules: Option<PathBuf>,
    /// Limits of the public listener.
    pub limits: Limits,
    /// The worker's batches.
    pub worker: WorkerConfig,
    /// Evaluation of rules.
    pub alerting: AlertingConfig,
    /// The egress policy.
    pub egress: EgressConfig,
    /// Slack.
    pub slack: SlackConfig,
    /// Email.
    pub email: EmailConfig,
    /// Text messages.
    pub sms: SmsConfig,
    /// PagerDuty.
    pub pagerduty: PagerDutyConfig,
    /// Signed webhooks.
    pub webhook: WebhookConfig,
    /// Traces.
    pub traces: TracesConfig,
    /// Plan names by price id, product id or lookup key (R1).
    #[serde(default)]
    pub plans: BTreeMap<String, String>,
    /// The same for the prices of connected accounts, which choose their own ids and keys.
    #[serde(default)]
    pub connected_plans: BTreeMap<String, String>,
    /// The keys of your application's ids in the metadata of Stripe's objects.
    pub metadata: MetadataKeys,
}

/// Limits of the public listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Larger bodies are answered 413.
    pub body_bytes: usize,
    /// Memory for all incomplete bodies, except small ones.
    pub unfinished_body_bytes: usize,
    /// Open connections. Beyond it, the one that has waited longest for a request makes room.
    pub connections: usize,
    /// Open connections of one address, in the same way.
    pub connections_per_peer: usize,
    /// Deliveries being published at once; above it the answer is 503.
    pub in_flight: usize,
    /// A sender whose headers are not complete by then is disconnected.
    pub header_seconds: f64,
    /// A connection without a request for this long after an answer is closed.
    pub idle_seconds: f64,
    /// A sender whose body is not complete by then is answered 408.
    pub body_seconds: f64,
    /// A publish not confirmed by then is answered 503.
    pub publish_seconds: f64,
    /// On shutdown, requests in progress have this long to finish.
    pub drain_seconds: f64,
    /// Oldest signature accepted, in seconds.
    pub signature_tolerance_seconds: i64,
    /// Refused requests per second and address, sustained, before the answer is 429. A correctly
    /// signed delivery is never limited.
    pub refused_per_second: u32,
    /// Refused requests of one address in a burst before the answer is 429.
    pub refused_burst: u32,
}

/// The worker's batches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Maximum deliveries merged and committed together.
    pub batch: usize,
    /// A worker without a heartbeat for this long loses its partitions to the others.
    pub member_seconds: f64,
    /// After a restart or failover of the store, the archive is replayed from this long before the
    /// store's newest delivery.
    pub recovery_margin_seconds: f64,
    /// The archive is compared with what was processed this often. What two comparisons in a row miss goes back into
    /// its queue.
    pub comparison_seconds: f64,
    /// Maximum accounts fetched from Stripe's API per second, by all workers together.
    pub refreshes_per_second: f64,
}

impl Config {
    /// The URLs of RabbitMQ and Redis, or `None` for the embedded store: what every role and
    /// command needs that uses state.
    pub fn servers(&self) -> Result<Option<(&SecretString, &SecretString)>, ConfigError> {
        match (self.queue_server()?, &self.redis_url) {
            (None, _) => Ok(None),
            (Some(amqp_url), Some(redis_url)) => Ok(Some((amqp_url, redis_url))),
            (Some(_), None) => Err(ConfigError::of(Fault::of(
                "amqp_url (REVWATCH_AMQP_URL)",
                "is set but redis_url (REVWATCH_REDIS_URL) is not: only a process whose one role is `ingest` does \
                 without Redis; set both, or neither for the embedded store",
            ).about(["redis_url"]))),
        }
    }

    /// The URL of RabbitMQ, or `None` for the embedded store: all that the `ingest` role alone
    /// needs.
    pub fn queue_server(&self) -> Result<Option<&SecretString>, ConfigError> {
        match (&self.amqp_url, &self.redis_url) {
            (None, Some(_)) => Err(ConfigError::of(Fault::of(
                "redis_url (REVWATCH_REDIS_URL)",
                "is set but amqp_url (REVWATCH_AMQP_URL) is not: set both, or neither for the embedded store",
            ).about(["amqp_url"]))),
            (amqp_url, _) => Ok(amqp_url.as_ref()),
        }
    }
}
