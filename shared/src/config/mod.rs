//! Configuration: defaults, then a TOML file, then the environment; the later wins.
//!
//! The commented file `deploy/revwatch.toml` *is* the defaults: it is compiled in and read first, so
//! the two cannot drift apart. The environment is read here and nowhere else, through a lookup that
//! tests replace. Every secret can also be given as a file: `NAME_FILE` for `NAME`.

mod alerting;
mod channels;
mod outgoing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

pub use self::alerting::{AlertingConfig, BusinessHours, Clock, EscalationStep, Route, Severities, Treatment};
pub use self::channels::{EmailConfig, PagerDutyConfig, SlackConfig, SmsConfig, WebhookConfig};
pub use self::outgoing::{OutgoingConfig, names_loopback};
use crate::signature::SigningKey;

/// The file of defaults, comments included.
pub const DEFAULTS: &str = include_str!("../../../deploy/revwatch.toml");

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
    /// API key: with it, accounts that thin events name are fetched.
    #[serde(default, deserialize_with = "non_empty_secret")]
    pub stripe_secret_key: Option<SecretString>,
    /// Stripe's API.
    pub stripe_api_base: String,
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
    /// Where requests may go.
    pub outgoing: OutgoingConfig,
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
    /// After a restart or failover of the store, the archive is replayed from this long before what the store has.
    pub heal_margin_seconds: f64,
    /// Accounts fetched from Stripe's API per second, at most, by all workers together.
    pub refreshes_per_second: f64,
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
    pub keys: Vec<SigningKey>,
    /// Which events it takes.
    pub mode: Mode,
}

/// How a variable is looked up: the process's environment, or a table in tests.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Environment variables and the keys they set. Those marked secret can be given as `NAME_FILE`.
const VARIABLES: &[(&str, &[&str], Kind)] = &[
    ("REVWATCH_LISTEN", &["listen"], Kind::Text),
    ("REVWATCH_ADMIN_LISTEN", &["admin_listen"], Kind::Text),
    ("REVWATCH_DATA", &["data"], Kind::Text),
    ("REVWATCH_AMQP_URL", &["amqp_url"], Kind::Secret),
    ("REVWATCH_REDIS_URL", &["redis_url"], Kind::Secret),
    ("REVWATCH_PARTITIONS", &["partitions"], Kind::Number),
    ("STRIPE_WEBHOOK_SECRET", &["stripe_webhook_secret"], Kind::Secret),
    ("STRIPE_KERNEL_WEBHOOK_SECRET", &["stripe_kernel_webhook_secret"], Kind::Secret),
    ("STRIPE_SECRET_KEY", &["stripe_secret_key"], Kind::Secret),
    ("STRIPE_API_BASE", &["stripe_api_base"], Kind::Text),
    ("REVWATCH_RULES", &["rules"], Kind::Text),
    ("SLACK_WEBHOOK_URL", &["slack", "webhook_url"], Kind::Secret),
    ("SLACK_BOT_TOKEN", &["slack", "bot_token"], Kind::Secret),
    ("SLACK_API_BASE", &["slack", "api_base"], Kind::Text),
    ("SLACK_SIGNING_SECRET", &["slack", "signing_secret"], Kind::Secret),
    ("SLACK_INTERACTIVITY_LISTEN", &["slack", "interactivity_listen"], Kind::Text),
    ("SLACK_APP_TOKEN", &["slack", "app_token"], Kind::Secret),
    ("SMTP_URL", &["email", "smtp_url"], Kind::Secret),
    ("TWILIO_ACCOUNT_SID", &["sms", "account_sid"], Kind::Text),
    ("TWILIO_AUTH_TOKEN", &["sms", "auth_token"], Kind::Secret),
    ("PAGERDUTY_ROUTING_KEY", &["pagerduty", "routing_key"], Kind::Secret),
    ("REVWATCH_WEBHOOK_URL", &["webhook", "url"], Kind::Secret),
    ("REVWATCH_WEBHOOK_SECRET", &["webhook", "secret"], Kind::Secret),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Secret,
}

impl Config {
    /// Defaults, then `file` (or the one `REVWATCH_CONFIG` names), then the environment.
    pub fn load(file: Option<&Path>, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let named = lookup("REVWATCH_CONFIG").filter(|p| !p.is_empty()).map(PathBuf::from);
        let mut merged: toml::Table = DEFAULTS.parse().expect("the defaults are tested");
        if let Some(path) = file.map(Path::to_path_buf).or(named) {
            let text = read_file(&path)?;
            let table: toml::Table =
                text.parse().map_err(|e| ConfigError::Invalid(format!("{}: {e}", path.display())))?;
            // Checked alone, so that an error speaks of the user's own lines.
            let mut alone: toml::Table = DEFAULTS.parse().expect("the defaults are tested");
            overlay(&mut alone, table.clone());
            toml::Value::Table(alone)
                .try_into::<Self>()
                .map_err(|e| ConfigError::Invalid(format!("{}: {}", path.display(), e.message())))?;
            overlay(&mut merged, table);
        }
        for (name, keys, kind) in VARIABLES {
            if let Some(text) = variable(name, *kind, lookup)? {
                let value = match kind {
                    Kind::Number => toml::Value::Integer(text.trim().parse().map_err(|_| {
                        ConfigError::Invalid(format!("{name} must be a whole number, but is {text:?}"))
                    })?),
                    Kind::Text | Kind::Secret => toml::Value::String(text),
                };
                set(&mut merged, keys, value);
                let so_far: Result<Self, _> = toml::Value::Table(merged.clone()).try_into();
                so_far.map_err(|e| ConfigError::Invalid(format!("{name}: {}", e.message())))?;
            }
        }
        let config: Self =
            toml::Value::Table(merged).try_into().map_err(|e| ConfigError::Invalid(e.message().to_owned()))?;
        config.check()?;
        Ok(config)
    }

    /// Reads the process's environment: the only place that does.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn from_environment(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load(file, &|name| std::env::var(name).ok())
    }

    /// The endpoints to serve, in the order of their paths.
    pub fn webhook_endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let mut endpoints = Vec::new();
        let built_in = [
            ("stripe", "/webhooks/stripe", "STRIPE_WEBHOOK_SECRET", &self.stripe_webhook_secret),
            ("kernel", "/webhooks/kernel/stripe", "STRIPE_KERNEL_WEBHOOK_SECRET", &self.stripe_kernel_webhook_secret),
        ];
        for (name, path, variable, secrets) in built_in {
            if let Some(secrets) = secrets {
                let keys = keys(secrets.expose_secret().split(','))
                    .ok_or_else(|| ConfigError::Invalid(format!("{variable} holds an empty secret")))?;
                endpoints.push(Endpoint { name: name.into(), path: path.into(), keys, mode: Mode::Any });
            }
        }
        for endpoint in &self.endpoints {
            let EndpointConfig { name, path, secrets, secret_file, mode } = endpoint;
            let mut texts: Vec<String> = secrets.iter().map(|s| s.expose_secret().to_owned()).collect();
            if let Some(file) = secret_file {
                texts.extend(read_file(file)?.lines().map(str::to_owned).filter(|l| !l.trim().is_empty()));
            }
            let keys = keys(texts.iter().map(String::as_str)).ok_or_else(|| {
                ConfigError::Invalid(format!(
                    "endpoint {name:?} needs at least one secret, and none may be empty: set `secrets` or `secret_file`"
                ))
            })?;
            if !path.starts_with('/') {
                return Err(ConfigError::Invalid(format!("endpoint {name:?}: path {path:?} must begin with /")));
            }
            if endpoints.iter().any(|e| e.path == *path || e.name == *name) {
                return Err(ConfigError::Invalid(format!("endpoint {name:?}: its name or path {path:?} is taken")));
            }
            endpoints.push(Endpoint { name: name.clone(), path: path.clone(), keys, mode: *mode });
        }
        if endpoints.is_empty() {
            return Err(ConfigError::Invalid(
                "no webhook endpoint has a signing secret: set STRIPE_WEBHOOK_SECRET to the `whsec_…` that Stripe's \
                 dashboard (Developers → Webhooks) or `stripe listen --print-secret` shows"
                    .into(),
            ));
        }
        Ok(endpoints)
    }

    /// The URLs of RabbitMQ and Redis, or `None` for the embedded store.
    pub fn servers(&self) -> Option<(&SecretString, &SecretString)> {
        self.amqp_url.as_ref().zip(self.redis_url.as_ref())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |text: String| Err(ConfigError::Invalid(text));
        match (&self.amqp_url, &self.redis_url) {
            (Some(_), None) => return wrong(
                "REVWATCH_AMQP_URL is set but REVWATCH_REDIS_URL is not: set both, or neither for the embedded store"
                    .into(),
            ),
            (None, Some(_)) => return wrong(
                "REVWATCH_REDIS_URL is set but REVWATCH_AMQP_URL is not: set both, or neither for the embedded store"
                    .into(),
            ),
            _ => {}
        }
        if !(1..=1024).contains(&self.partitions) {
            return wrong(format!("partitions (REVWATCH_PARTITIONS) must be 1 to 1024, but is {}", self.partitions));
        }
        if !(1..=86_400).contains(&self.limits.signature_tolerance_seconds) {
            return wrong("limits.signature_tolerance_seconds must be 1 to 86400; Stripe's own default is 300".into());
        }
        check_api_base(&self.stripe_api_base)?;
        self.check_channels()?;
        let key = self.stripe_secret_key.as_ref().map(ExposeSecret::expose_secret);
        if key.is_some_and(|key| !key.bytes().all(|b| b.is_ascii_graphic()) || key.starts_with("pk_")) {
            return wrong(
                "STRIPE_SECRET_KEY is not a secret key: give the `sk_…` or `rk_…` that Stripe's dashboard \
                 (Developers → API keys) shows, without spaces"
                    .into(),
            );
        }
        check_slack_actions(&self.slack)?;
        let seconds = [
            ("limits.header_seconds", self.limits.header_seconds),
            ("limits.body_seconds", self.limits.body_seconds),
            ("limits.publish_seconds", self.limits.publish_seconds),
            ("limits.drain_seconds", self.limits.drain_seconds),
            ("worker.member_seconds", self.worker.member_seconds),
            ("worker.heal_margin_seconds", self.worker.heal_margin_seconds),
            ("worker.refreshes_per_second", self.worker.refreshes_per_second),
            ("alerting.tick_seconds", self.alerting.tick_seconds),
            ("alerting.lease_seconds", self.alerting.lease_seconds),
            ("alerting.messages_per_second", self.alerting.messages_per_second),
        ];
        for (key, value) in seconds {
            if !(0.001..=86_400.0).contains(&value) {
                return wrong(format!("{key} must be between 0.001 and 86400, but is {value}"));
            }
        }
        if self.alerting.lease_seconds < 2.0 * self.alerting.tick_seconds {
            return wrong(
                "alerting.lease_seconds must be at least twice alerting.tick_seconds: it is renewed by ticks".into(),
            );
        }
        let counts = [
            ("limits.body_bytes", self.limits.body_bytes),
            ("limits.connections", self.limits.connections),
            ("limits.in_flight", self.limits.in_flight),
            ("worker.batch", self.worker.batch),
            ("limits.refused_per_second", self.limits.refused_per_second as usize),
            ("limits.refused_burst", self.limits.refused_burst as usize),
        ];
        match counts.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => wrong(format!("{key} must be at least 1")),
            None => Ok(()),
        }
    }
}

/// The key travels with every request: only over TLS, unless it stays on this machine.
fn check_api_base(text: &str) -> Result<(), ConfigError> {
    let wrong = |what: &str| Err(ConfigError::Invalid(format!("stripe_api_base (STRIPE_API_BASE) {what}")));
    let Ok(url) = url::Url::parse(text) else { return wrong("is not a URL; Stripe's own is https://api.stripe.com") };
    let is_local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return wrong("must be a plain base URL: no user, no password, no ? and no #");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_local => Ok(()),
        "http" => wrong("must begin with https:// (http:// only for a loopback address): the API key travels with it"),
        _ => wrong("must begin with https://"),
    }
}

/// What people press in Slack arrives by a secret, a token, both or neither.
fn check_slack_actions(slack: &SlackConfig) -> Result<(), ConfigError> {
    if let Some(secrets) = &slack.signing_secret
        && keys(secrets.expose_secret().split(',')).is_none()
    {
        return Err(ConfigError::Invalid(
            "slack.signing_secret (SLACK_SIGNING_SECRET) holds an empty secret: separate several by single commas"
                .into(),
        ));
    }
    let token = slack.app_token.as_ref().map(ExposeSecret::expose_secret);
    if token.is_some_and(|token| !token.starts_with("xapp-") || !token.bytes().all(|b| b.is_ascii_graphic())) {
        return Err(ConfigError::Invalid(
            "slack.app_token (SLACK_APP_TOKEN) is not an app-level token: give the `xapp-…` with the scope \
             connections:write that the app's settings (Basic Information → App-Level Tokens) show, without spaces"
                .into(),
        ));
    }
    Ok(())
}

fn non_empty_secret<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<SecretString>::deserialize(d)?.filter(|s| !s.expose_secret().trim().is_empty()))
}

fn non_empty_path<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<PathBuf>::deserialize(d)?.filter(|p| p != Path::new("")))
}

/// A variable's value, or the contents of the file that `NAME_FILE` names. Empty is unset.
fn variable(name: &str, kind: Kind, lookup: Lookup<'_>) -> Result<Option<String>, ConfigError> {
    let set = |name: &str| lookup(name).filter(|text| !text.trim().is_empty());
    let file = if kind == Kind::Secret { set(&format!("{name}_FILE")) } else { None };
    match (set(name), file) {
        (Some(_), Some(_)) => Err(ConfigError::Invalid(format!("{name} and {name}_FILE are both set: keep one"))),
        (None, Some(path)) => Ok(Some(read_file(Path::new(&path))?.trim().to_owned())),
        (value, None) => Ok(value),
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

/// `None` when there is no secret, or an empty one among them.
fn keys<'a>(secrets: impl Iterator<Item = &'a str>) -> Option<Vec<SigningKey>> {
    secrets.map(SigningKey::new).collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())
}

/// Tables merge key by key; everything else is replaced.
fn overlay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => overlay(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn set(table: &mut toml::Table, keys: &[&str], value: toml::Value) {
    let over = keys
        .iter()
        .rev()
        .fold(value, |inner, key| toml::Value::Table(toml::Table::from_iter([((*key).to_owned(), inner)])));
    if let toml::Value::Table(over) = over {
        overlay(table, over);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn load(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables: HashMap<_, _> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("my.toml");
        if let Some(text) = file {
            std::fs::write(&path, text).expect("written");
        }
        Config::load(file.map(|_| path.as_path()), &|name| variables.get(name).cloned()).map_err(|e| e.to_string())
    }

    /// File, variables, and what the error must name.
    type Case<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], &'a str);

    #[test]
    fn the_commented_file_is_the_defaults() {
        let config = load(None, &[]).expect("valid");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9464");
        assert_eq!(config.partitions, 8);
        assert!(config.amqp_url.is_none() && config.slack.bot_token.is_none() && config.rules.is_none());
        for (name, _, _) in VARIABLES {
            assert!(DEFAULTS.contains(name), "{name} is not explained in the file of defaults");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let file = "partitions = 16\nlisten = \"0.0.0.0:80\"\n[limits]\nbody_bytes = 9\n";
        let config = load(Some(file), &[("REVWATCH_LISTEN", "127.0.0.1:0"), ("SLACK_API_BASE", "http://127.0.0.1:1")]);
        let config = config.expect("valid");
        assert_eq!((config.partitions, config.limits.body_bytes, config.limits.in_flight), (16, 9, 2048));
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.slack.api_base, "http://127.0.0.1:1");
    }

    #[test]
    fn secrets_come_from_files_too_and_several_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, "whsec_a,whsec_b\n").expect("written");
        let path = path.display().to_string();
        let config = load(None, &[("STRIPE_WEBHOOK_SECRET_FILE", &path)]).expect("valid");
        let endpoints = config.webhook_endpoints().expect("endpoints");
        assert_eq!((endpoints.len(), endpoints[0].keys.len(), endpoints[0].path.as_str()), (1, 2, "/webhooks/stripe"));
        assert!(!format!("{config:?}").contains("whsec_a"), "secrets are not shown");
    }

    #[test]
    fn slacks_secrets_are_read_and_not_shown() {
        let config = load(None, &[]).expect("valid").slack;
        assert!(config.signing_secret.is_none() && config.app_token.is_none());
        assert_eq!(config.interactivity_listen.to_string(), "127.0.0.1:8081");
        let variables = [("SLACK_SIGNING_SECRET", "8f74,2b10"), ("SLACK_APP_TOKEN", "xapp-1-A1-2-3")];
        let config = load(Some("[slack]\ninteractivity_listen = \"0.0.0.0:9\""), &variables).expect("valid").slack;
        assert!(config.signing_secret.is_some() && config.app_token.is_some());
        assert_eq!(config.interactivity_listen.to_string(), "0.0.0.0:9");
        assert!(!format!("{config:?}").contains("8f74") && !format!("{config:?}").contains("A1-2"), "{config:?}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_fix() {
        let table: &[Case<'_>] = &[
            (Some("lissten = 1"), &[], "lissten"),
            (Some("[limits]\nbody_bites = 1"), &[], "body_bites"),
            (Some("partitions = \"x\""), &[], "my.toml"),
            (Some("listen = "), &[], "line 1"),
            (None, &[("REVWATCH_LISTEN", "here")], "REVWATCH_LISTEN"),
            (None, &[("REVWATCH_PARTITIONS", "many")], "REVWATCH_PARTITIONS"),
            (None, &[("REVWATCH_PARTITIONS", "0")], "1 to 1024"),
            (None, &[("REVWATCH_AMQP_URL", "amqp://h")], "REVWATCH_REDIS_URL"),
            (None, &[("REVWATCH_REDIS_URL", "redis://h")], "REVWATCH_AMQP_URL"),
            (None, &[("SLACK_BOT_TOKEN", "a"), ("SLACK_BOT_TOKEN_FILE", "b")], "keep one"),
            (None, &[("STRIPE_WEBHOOK_SECRET_FILE", "/nowhere/at/all")], "/nowhere/at/all"),
            (None, &[("REVWATCH_CONFIG", "/nowhere.toml")], "/nowhere.toml"),
            (None, &[("STRIPE_API_BASE", "http://api.stripe.com")], "https://"),
            (None, &[("STRIPE_API_BASE", "http://127.0.0.1.example.com")], "https://"),
            (None, &[("STRIPE_API_BASE", "ftp://127.0.0.1")], "https://"),
            (None, &[("STRIPE_API_BASE", "api.stripe.com")], "not a URL"),
            (None, &[("STRIPE_API_BASE", "https://me:secret@api.stripe.com")], "no password"),
            (None, &[("STRIPE_SECRET_KEY", "pk_test_1")], "STRIPE_SECRET_KEY"),
            (None, &[("STRIPE_SECRET_KEY", "sk_test_1\nX: y")], "without spaces"),
            (None, &[("SLACK_APP_TOKEN", "xoxb-1")], "connections:write"),
            (None, &[("SLACK_APP_TOKEN", "xapp-1\nX: y")], "without spaces"),
            (None, &[("SLACK_SIGNING_SECRET", "a,,b")], "empty secret"),
            (None, &[("SLACK_INTERACTIVITY_LISTEN", "here")], "SLACK_INTERACTIVITY_LISTEN"),
            (
                None,
                &[("SLACK_API_BASE", "http://slack.example/api")],
                "slack.api_base (SLACK_API_BASE) must begin with",
            ),
            (None, &[("SLACK_WEBHOOK_URL", "https://192.168.0.1/x")], "(SLACK_WEBHOOK_URL) names a private"),
            (None, &[("REVWATCH_WEBHOOK_URL", "https://me:pw@h.example/")], "(REVWATCH_WEBHOOK_URL) must have no user"),
            (Some("[sms]\napi_base = \"http://h.example\""), &[], "sms.api_base must begin with"),
            (Some("[pagerduty]\napi_base = \"https://[::ffff:10.0.0.1]\""), &[], "pagerduty.api_base names a private"),
            (Some("[worker]\nrefreshes_per_second = 0.0"), &[], "worker.refreshes_per_second"),
            (Some("[limits]\nin_flight = 0"), &[], "limits.in_flight"),
            (Some("[alerting]\ntick_seconds = 6.0"), &[], "alerting.lease_seconds must be at least twice"),
            (Some("[limits]\nsignature_tolerance_seconds = -1"), &[], "signature_tolerance_seconds"),
        ];
        for (file, variables, expected) in table {
            let error = load(*file, variables).expect_err("wrong");
            assert!(error.contains(expected), "{error:?} should name {expected:?}");
        }
    }

    #[test]
    fn stripes_api_is_asked_over_tls_or_on_this_machine() {
        assert_eq!(load(None, &[]).expect("valid").stripe_api_base, "https://api.stripe.com");
        for base in ["http://127.0.0.1:9", "http://[::1]:9", "http://localhost:9/", "https://proxy.example/stripe"] {
            let variables = [("STRIPE_API_BASE", base), ("STRIPE_SECRET_KEY", "sk_test_1")];
            let config = load(None, &variables).expect("valid");
            assert_eq!(config.stripe_api_base, base);
            assert!(!format!("{config:?}").contains("sk_test_1"), "secrets are not shown");
        }
    }

    #[test]
    fn ways_to_reach_people_hide_their_secrets() {
        let secrets = ["SLACK_BOT_TOKEN", "TWILIO_AUTH_TOKEN", "PAGERDUTY_ROUTING_KEY", "REVWATCH_WEBHOOK_SECRET"];
        let mut variables: Vec<_> = secrets.iter().map(|name| (*name, "hidden")).collect();
        variables.push(("SMTP_URL", "smtps://me:hidden@mail.example"));
        variables.push(("REVWATCH_WEBHOOK_URL", "https://10.0.0.9/hidden"));
        let config = load(Some("[outgoing]\nallow_private_addresses = true"), &variables).expect("valid");
        assert!(config.outgoing.allow_private_addresses && config.email.smtp_url.is_some());
        assert!(!format!("{config:?}").contains("hidden"), "secrets are not shown");
    }

    #[test]
    fn no_endpoint_is_served_without_a_secret() {
        let table: &[Case<'_>] = &[
            (None, &[], "STRIPE_WEBHOOK_SECRET"),
            (None, &[("STRIPE_WEBHOOK_SECRET", "whsec_a,,whsec_b")], "empty secret"),
            (Some("[[endpoints]]\nname = \"x\"\npath = \"/x\""), &[], "at least one secret"),
            (Some("[[endpoints]]\nname = \"x\"\npath = \"x\"\nsecrets = [\"a\"]"), &[], "begin with /"),
            (
                Some("[[endpoints]]\nname = \"x\"\npath = \"/webhooks/stripe\"\nsecrets = [\"a\"]"),
                &[("STRIPE_WEBHOOK_SECRET", "a")],
                "is taken",
            ),
        ];
        for (file, variables, expected) in table {
            let config = load(*file, variables).expect("valid so far");
            let error = config.webhook_endpoints().expect_err("no endpoint").to_string();
            assert!(error.contains(expected), "{error:?} should name {expected:?}");
        }
    }
}
