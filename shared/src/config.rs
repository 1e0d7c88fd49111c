//! Configuration: defaults, then a TOML file, then the environment; the later wins.
//!
//! The commented file `deploy/revwatch.toml` *is* the defaults: it is compiled in and read first, so
//! the two cannot drift apart. The environment is read here and nowhere else, through a lookup that
//! tests replace. Every secret can also be given as a file: `NAME_FILE` for `NAME`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// The file of defaults, comments included.
pub const DEFAULTS: &str = include_str!("../../deploy/revwatch.toml");

/// All settings. Key names are those of the TOML file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Public webhook listener.
    pub listen: SocketAddr,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub admin_listen: SocketAddr,
    /// Folder of the embedded store.
    pub data: PathBuf,
    /// RabbitMQ; goes together with `redis_url`.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub amqp_url: Option<SecretString>,
    /// Redis; goes together with `amqp_url`.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub redis_url: Option<SecretString>,
    /// Partitions of a new deployment; fixed afterwards.
    pub partitions: u32,
    /// Secrets of `/webhooks/stripe`, comma-separated.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub stripe_webhook_secret: Option<SecretString>,
    /// Secrets of `/webhooks/kernel/stripe`, comma-separated.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub stripe_kernel_webhook_secret: Option<SecretString>,
    /// More endpoints, beside the two above.
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
    /// Slack.
    pub slack: SlackConfig,
    /// Plan names by price id, product id or lookup key (R1).
    #[serde(default)]
    pub plans: BTreeMap<String, String>,
}

/// One webhook endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Shown in metrics and logs.
    pub name: String,
    /// For example `/webhooks/stripe/eu`.
    pub path: String,
    /// Signing secrets; several while one is being rotated out.
    #[serde(default)]
    pub secrets: Vec<SecretString>,
    /// A file with one secret per line, read at start.
    pub secret_file: Option<PathBuf>,
    /// Which events it takes; the others are answered 200 and ignored.
    #[serde(default)]
    pub mode: Mode,
}

/// Whether an endpoint takes live events, test events, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Both.
    #[default]
    Any,
    /// `livemode: true` only.
    Live,
    /// `livemode: false` only.
    Test,
}

impl Mode {
    /// Whether an event with this `livemode` is for the endpoint.
    pub fn takes(self, livemode: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Live => livemode,
            Self::Test => !livemode,
        }
    }
}

/// Limits of the public listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Larger bodies are answered 413.
    pub body_bytes: usize,
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// Deliveries being published at once; above it the answer is 503.
    pub in_flight: usize,
    /// A sender who has not sent its headers by then is cut off.
    pub header_seconds: f64,
    /// A sender who has not sent its body by then is answered 408.
    pub body_seconds: f64,
    /// A publish not confirmed by then is answered 503.
    pub publish_seconds: f64,
    /// On shutdown, requests under way have this long to finish.
    pub drain_seconds: f64,
    /// Oldest signature accepted, in seconds.
    pub signature_tolerance_seconds: i64,
    /// Refused requests per second and address, sustained, before the answer is 429. A correctly
    /// signed delivery is never limited.
    pub refused_per_second: u32,
    /// Refused requests of one address at once before the answer is 429.
    pub refused_burst: u32,
}

/// The worker's batches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Deliveries merged and committed together, at most.
    pub batch: usize,
    /// A worker that has not been heard of for this long loses its partitions to the others.
    pub member_seconds: f64,
}

/// Evaluation of rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertingConfig {
    /// Time between two evaluations.
    pub tick_seconds: f64,
    /// An evaluator that has not renewed its lease for this long is replaced by another.
    pub lease_seconds: f64,
    /// Messages to one notifier per second, sustained.
    pub messages_per_second: f64,
}

/// Slack.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Incoming webhook: one message when an alert fires and one when it resolves.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub webhook_url: Option<SecretString>,
    /// Bot token (`xoxb-…`): one message per alert, updated in place. Wins over `webhook_url`.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub bot_token: Option<SecretString>,
    /// Slack's Web API.
    pub api_base: String,
    /// Channel (name or id) by a rule's `route`; `default` serves the rest.
    pub channels: BTreeMap<String, String>,
}

/// What is wrong with the configuration; names the setting and the fix.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or value is wrong.
    #[error("{0}")]
    Invalid(String),
}

/// An endpoint, ready to verify.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Shown in metrics and logs.
    pub name: String,
    /// Path of the URL.
    pub path: String,
    /// At least one.
    pub keys: Vec<crate::signature::SigningKey>,
    /// Which events it takes.
    pub mode: Mode,
}

fn non_empty_secret<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<SecretString>::deserialize(d)?.filter(|s| !s.expose_secret().trim().is_empty()))
}

fn non_empty_path<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<PathBuf>::deserialize(d)?.filter(|p| p != Path::new("")))
}
