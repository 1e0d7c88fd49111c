//! Configuration: defaults, then a TOML file, then the environment; later sources win.
//!
//! The commented file `deploy/revwatch.toml` *is* the defaults: it is compiled in and read first,
//! so the two cannot diverge. `settings.rs` has the types. [`effective`] merges the three sources and
//! records the origin of each value, `file.rs` and `variables.rs` read what people wrote, `check.rs`
//! validates values against each other, `suspect.rs` finds those that cannot be meant as they stand, `show.rs` prints them without secrets, and [`reload`]
//! compares them with those of the running process.
//!
//! Every secret can also be given as a file: `NAME_FILE` for `NAME`.

mod alerting;
mod channels;
mod check;
mod closest_match;
mod definition;
pub mod effective;
mod egress;
mod endpoint;
mod error;
mod file;
mod listeners;
mod modes;
mod non_empty;
mod otel;
mod proxies;
mod realms;
pub mod reload;
mod reloadable;
mod right_values;
mod settings;
mod show;
mod signing_secret;
mod suspect;
mod traces;
mod variables;
mod webhook_endpoints;
mod written;

pub use secrecy::{ExposeSecret, SecretString};

pub use self::alerting::{
    AlertingConfig, BusinessHours, Clock, EscalationStep, Route, Severities, Treatment,
};
pub use self::channels::{
    EmailConfig, NOTIFIERS, PagerDutyConfig, SlackConfig, SmsConfig, WebhookConfig,
};
pub use self::closest_match::closest_match;
pub use self::effective::Effective;
pub use self::egress::{EgressConfig, names_loopback};
pub use self::endpoint::{Endpoint, EndpointConfig, EndpointMode, EndpointSource, Keys};
pub use self::error::{ConfigError, Fault, Faults, both, in_order};
pub use self::proxies::TrustedProxies;
pub use self::settings::{Config, DEFAULTS, Limits, WorkerConfig};
pub use self::traces::TracesConfig;
pub(crate) use self::variables::log_filter;
pub use self::variables::{Lookup, Variable, unknown_in_environment, variables};

#[cfg(test)]
mod tests;
