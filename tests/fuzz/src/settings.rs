//! Settings as people write them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek as _, Write as _};
use std::sync::OnceLock;

use revwatch_alerting::policy::{Capabilities, Policy};
use revwatch_runtime::config::{
    Config, ConfigError, DEFAULTS, Effective, Faults, NOTIFIERS, variables,
};
use tempfile::NamedTempFile;

use crate::{SEPARATOR, parts};

/// A settings file, the separator, and lines of `NAME=value`, where `\n` and `\r` in a value are such characters.
///
/// Settings are accepted or refused with reasons. Neither the reasons nor what is shown of accepted settings hold a
/// secret, and what is shown is TOML.
pub fn settings(data: &[u8]) {
    let end = format!("\n{SEPARATOR}\n").into_bytes();
    let end = data.windows(end.len()).position(|part| part == end);
    let text = String::from_utf8_lossy(data);
    let [_, environment] = parts(&text);
    let environment = variables_of(environment);
    // No file of this machine is read: neither those of secrets nor another settings file.
    let lookup = |name: &str| {
        let is_file = name.ends_with("_FILE") || name == "REVWATCH_CONFIG";
        environment.get(name).filter(|_| !is_file).cloned()
    };
    let mut file = NamedTempFile::new().expect("a file");
    let written = file.write_all(&data[..end.unwrap_or(data.len())]);
    written.and_then(|()| file.rewind()).expect("written");
    let loaded = Effective::accepted(Some(file.path()), &lookup, accept);
    let shown = match &loaded {
        Ok((effective, ())) => {
            let (toml, json) = (effective.toml(), effective.json().to_string());
            let again = toml.parse::<toml::Table>();
            assert!(again.is_ok(), "{again:?} in:\n{toml}");
            toml + &json
        }
        Err(error) => {
            assert!(!error.to_string().is_empty(), "refused without a reason");
            error.to_string()
        }
    };
    for secret in secrets(&environment, &text) {
        assert!(!shown.contains(secret), "{secret:?} is shown:\n{shown}");
    }
}

/// What the roles read of the settings; rules and certificates are files.
fn accept(config: &Config) -> Result<(), ConfigError> {
    let mut faults = Faults::default();
    drop(faults.of(config.webhook_endpoints()));
    let all = Capabilities {
        edits: true,
        resolves: true,
    };
    let notifiers = NOTIFIERS.map(|name| (name.to_owned(), all));
    drop(faults.of(Policy::new(&config.alerting, notifiers.into())));
    faults.none()
}

fn variables_of(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('\n').filter_map(|line| line.split_once('='));
    let unescaped = |text: &str| text.replace("\\n", "\n").replace("\\r", "\r");
    pairs
        .map(|(name, value)| (name.to_owned(), unescaped(value)))
        .collect()
}

/// The values of secret variables that stand nowhere else, and are too long to be a word by chance.
fn secrets<'a>(
    environment: &'a BTreeMap<String, String>,
    input: &'a str,
) -> impl Iterator<Item = &'a str> {
    static NAMES: OnceLock<BTreeSet<&str>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let variables = variables().into_iter();
        variables.filter(|it| it.secret).map(|it| it.name).collect()
    });
    const LONG: usize = 20;
    let of_secrets = environment
        .iter()
        .filter(|(name, _)| names.contains(name.as_str()));
    of_secrets
        .flat_map(|(_, value)| secret_part(value).split(|c: char| !c.is_ascii_alphanumeric()))
        .filter(|word| word.len() >= LONG && !DEFAULTS.contains(word))
        .filter(|word| input.matches(word).count() == 1)
}

/// Of a URL only the password is secret.
fn secret_part(value: &str) -> &str {
    let Some((_, rest)) = value.split_once("://") else {
        return value;
    };
    let user = rest.split_once('@').map_or("", |(user, _)| user);
    user.split_once(':').map_or("", |(_, password)| password)
}
