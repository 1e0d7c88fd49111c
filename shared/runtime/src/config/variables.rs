//! Environment variables: read only here, through a lookup that tests replace.

use std::path::Path;

use super::channels::CHANNELS;
use super::closest_match::closest_match;
use super::definition::{Definition, Kind};
use super::otel;
use super::reloadable::is_reloadable;
use super::traces;
use super::written::{lines, trimmed};
use crate::files::read_text;

/// How a variable is looked up: the process's environment, or a table in tests.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// All variables, in the order of the settings file.
pub(super) fn definitions() -> impl Iterator<Item = &'static Definition> {
    let channels = CHANNELS.iter().flat_map(|channel| channel.variables);
    COMMON.iter().chain(channels).chain(traces::VARIABLES)
}

const COMMON: &[Definition] = &[
    ("REVWATCH_LISTEN", &["listen"], Kind::Text),
    ("REVWATCH_ADMIN_LISTEN", &["admin_listen"], Kind::Text),
    ("REVWATCH_TRUSTED_PROXIES", &["trusted_proxies"], Kind::Text),
    ("REVWATCH_DATA", &["data"], Kind::Text),
    ("REVWATCH_AMQP_URL", &["amqp_url"], Kind::Secret),
    ("REVWATCH_REDIS_URL", &["redis_url"], Kind::Secret),
    ("REVWATCH_PARTITIONS", &["partitions"], Kind::Number),
    ("REVWATCH_MODE", &["mode"], Kind::Text),
    (
        "STRIPE_WEBHOOK_SECRET",
        &["stripe_webhook_secret"],
        Kind::Secret,
    ),
    (
        "STRIPE_KERNEL_WEBHOOK_SECRET",
        &["stripe_kernel_webhook_secret"],
        Kind::Secret,
    ),
    (
        "REVWATCH_APP_WEBHOOK_SECRET",
        &["app_webhook_secret"],
        Kind::Secret,
    ),
    ("STRIPE_SECRET_KEY", &["stripe_secret_key"], Kind::Secret),
    ("STRIPE_API_BASE", &["stripe_api_base"], Kind::Text),
    ("REVWATCH_RULES", &["rules"], Kind::Text),
    ("REVWATCH_BEGAN", &["alerting", "began"], Kind::Text),
];

/// One environment variable, for its documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// For example `SLACK_BOT_TOKEN`.
    pub name: &'static str,
    /// The key of the settings file that it sets, for example `slack.bot_token`.
    pub key: String,
    /// Whether it is a secret, which can also be given as a file named by `NAME_FILE`.
    pub secret: bool,
    /// Whether a reload applies a new value.
    pub reloadable: bool,
}

/// Every environment variable that sets a key, in the order of the settings file.
pub fn variables() -> Vec<Variable> {
    let variable = |(name, keys, kind): &Definition| {
        let path: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        Variable {
            name,
            key: path.join("."),
            secret: *kind == Kind::Secret,
            reloadable: is_reloadable(&path),
        }
    };
    definitions().map(variable).collect()
}

/// Names that revwatch reads, but that set no key.
const OTHERS: [&str; 2] = ["REVWATCH_CONFIG", "REVWATCH_LONG_TESTS"];

/// Whether the value at `path` must never be shown.
pub(super) fn is_secret(path: &[String]) -> bool {
    secret_paths().any(|keys| path == keys)
}

/// The settings whose values must not be in a fault: secrets and people's addresses.
pub(super) fn private_paths() -> impl Iterator<Item = &'static [&'static str]> {
    secret_paths().chain(ADDRESSES.iter().copied())
}

/// Whether the value at `path` must not be in a fault.
pub(super) fn is_private(path: &[String]) -> bool {
    private_paths().any(|private| path.len() >= private.len() && path[..private.len()] == *private)
}

fn secret_paths() -> impl Iterator<Item = &'static [&'static str]> {
    let variables = definitions().filter(|(_, _, kind)| *kind == Kind::Secret);
    let endpoints: &[&str] = &["endpoints", "secrets"];
    variables
        .map(|(_, keys, _)| *keys)
        .chain(std::iter::once(endpoints))
}

/// Addresses and numbers of people.
const ADDRESSES: &[&[&str]] = &[
    &["email", "from"],
    &["email", "to"],
    &["sms", "from"],
    &["sms", "to"],
];

/// A variable's value and the name it was found under: its own, or `NAME_FILE`, whose file was
/// read. An empty value counts as unset, and what surrounds a value is not part of it.
pub(super) fn variable(
    name: &str,
    kind: Kind,
    lookup: Lookup<'_>,
) -> Result<Option<(String, String)>, String> {
    let set = |name: &str| set(name, lookup);
    let file_name = format!("{name}_FILE");
    let file = if kind == Kind::Secret {
        set(&file_name)
    } else {
        None
    };
    match (set(name), file) {
        (Some(_), Some(_)) => Err(format!("{name} and {file_name} are both set: keep one")),
        (None, Some(path)) => {
            let text =
                read_text(Path::new(&path)).map_err(|fault| format!("{file_name}: {fault}"))?;
            if lines(&text).next().is_none() {
                return Err(format!(
                    "{file_name}: {path} is empty: put the secret into it, or unset {file_name}"
                ));
            }
            Ok(Some((trimmed(&text).to_owned(), file_name)))
        }
        (value, None) => Ok(value.map(|value| (value, name.to_owned()))),
    }
}

/// The value of a variable, as it is meant; `None` if it is empty.
pub(super) fn set(name: &str, lookup: Lookup<'_>) -> Option<String> {
    let text = lookup(name)?;
    let text = trimmed(&text);
    (!text.is_empty()).then(|| text.to_owned())
}

/// The process's environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read only here"
)]
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The levels to log that `RUST_LOG` names.
pub(crate) fn log_filter() -> Option<String> {
    set("RUST_LOG", &environment)
}

/// A warning for every variable of the process's environment that resembles one of revwatch's but
/// is unknown, and for those of OpenTelemetry that revwatch does not follow.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read only here"
)]
pub fn unknown_in_environment() -> Vec<String> {
    let names =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    // For a service of this name, Kubernetes sets variables such as `REVWATCH_PORT=tcp://…` in
    // containers.
    let own = names.filter(|(name, value)| !is_set_by_kubernetes(name, &value.to_string_lossy()));
    let mut warnings = unknown(own.map(|(name, _)| name));
    warnings.extend(otel::warnings(&environment));
    warnings
}

fn is_set_by_kubernetes(name: &str, value: &str) -> bool {
    name.contains("_SERVICE_")
        || value.starts_with("tcp://")
        || value.starts_with("udp://")
        || name.contains("_PORT_")
}

fn unknown(names: impl Iterator<Item = String>) -> Vec<String> {
    let known: Vec<String> = definitions()
        .flat_map(|(name, _, kind)| {
            let file = (*kind == Kind::Secret).then(|| format!("{name}_FILE"));
            [Some((*name).to_owned()), file].into_iter().flatten()
        })
        .chain(OTHERS.map(str::to_owned))
        .collect();
    let closest = |name: &str| closest_match(name, known.iter().map(String::as_str));
    // Of `STRIPE_`, `SMTP_` and the like, other programs have variables, too.
    let is_misspelled = |name: &str| {
        closest(name).is_some_and(|known| strsim::damerau_levenshtein(name, known) <= 2)
    };
    let mut unknown: Vec<String> = names
        .filter(|n| !known.contains(n) && (n.starts_with("REVWATCH_") || is_misspelled(n)))
        .collect();
    unknown.sort();
    let hint = |name: &str| {
        closest(name).map_or_else(String::new, |closest| format!("; did you mean {closest}?"))
    };
    unknown
        .iter()
        .map(|name| {
            format!(
                "{name} is set, but revwatch has no such variable{}",
                hint(name)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_variables_are_reported_with_a_suggestion() {
        let names = [
            "REVWATCH_LISTN",
            "REVWATCH_LISTEN",
            "REVWATCH_AMQP_URL_FILE",
            "REVWATCH_SO_WHAT",
            "LISTN",
            "PATH",
            "STRIPE_WEBHOOK_SECERT",
            "STRIPE_PUBLISHABLE_KEY",
        ];
        assert_eq!(
            unknown(names.iter().map(|name| (*name).to_owned())),
            [
                "REVWATCH_LISTN is set, but revwatch has no such variable; did you mean REVWATCH_LISTEN?",
                "REVWATCH_SO_WHAT is set, but revwatch has no such variable",
                "STRIPE_WEBHOOK_SECERT is set, but revwatch has no such variable; did you mean STRIPE_WEBHOOK_SECRET?",
            ]
        );
        assert!(is_set_by_kubernetes("REVWATCH_PORT", "tcp://10.0.0.1:8080"));
        assert!(is_set_by_kubernetes("REVWATCH_SERVICE_HOST", "10.0.0.1"));
        assert!(!is_set_by_kubernetes("REVWATCH_LISTN", "127.0.0.1:8080"));
    }
}
