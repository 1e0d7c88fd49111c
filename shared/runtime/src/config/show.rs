//! Settings in a form that is safe to show: secrets masked, each value with its origin.
//!
//! Invariant: no part of a secret is shown, neither its length nor its beginning. Of URLs with a
//! password the rest is shown if its parts are unambiguous.

use std::fmt::Write as _;

use serde_json::json;

use super::channels::CHANNELS;
use super::effective::{Effective, MASK, visit};
use super::file::KeyPath;
use super::variables::is_secret;

/// The URLs of servers, with those of [`CHANNELS`]: their hosts help in diagnosing errors.
const SERVERS: [&[&str]; 2] = [&["amqp_url"], &["redis_url"]];

impl Effective {
    /// TOML that can be loaded again once its secrets are filled in.
    pub fn toml(&self) -> String {
        let mut out = String::new();
        self.write(
            &mut out,
            &masked(&self.table, &mut Vec::new()),
            &mut Vec::new(),
        );
        out
    }

    /// `settings`, as in the file, and `from`: the origin of each value, by its key.
    pub fn json(&self) -> serde_json::Value {
        let mut from = serde_json::Map::new();
        visit(&self.table, &mut Vec::new(), &mut |path, _| {
            from.insert(path.join("."), json!(self.origin(path).to_string()));
        });
        json!({"settings": masked(&self.table, &mut Vec::new()), "from": from})
    }

    fn write(&self, out: &mut String, table: &toml::Table, path: &mut KeyPath) {
        for (name, value) in table.iter().filter(|(_, value)| !value.is_table()) {
            path.push(name.clone());
            let _ = writeln!(out, "{} = {value}  # {}", key(name), self.origin(path));
            path.pop();
        }
        for (name, inner) in table
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_table()?)))
        {
            path.push(name.clone());
            // A table that only holds others needs no header of its own.
            if inner.is_empty() || inner.values().any(|value| !value.is_table()) {
                let names: Vec<_> = path.iter().map(|name| key(name)).collect();
                let _ = writeln!(out, "\n[{}]", names.join("."));
            }
            self.write(out, inner, path);
            path.pop();
        }
    }
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_bare {
        name.to_owned()
    } else {
        json!(name).to_string()
    }
}

fn masked(table: &toml::Table, path: &mut KeyPath) -> toml::Table {
    let mut shown = toml::Table::new();
    for (name, value) in table {
        path.push(name.clone());
        shown.insert(name.clone(), masked_value(value, path));
        path.pop();
    }
    shown
}

fn masked_value(value: &toml::Value, path: &mut KeyPath) -> toml::Value {
    match value {
        toml::Value::Table(inner) => toml::Value::Table(masked(inner, path)),
        toml::Value::String(text) if is_secret(path) => toml::Value::String(mask(text, path)),
        toml::Value::Array(list) => {
            toml::Value::Array(list.iter().map(|item| masked_value(item, path)).collect())
        }
        other => other.clone(),
    }
}

fn mask(text: &str, path: &[String]) -> String {
    let of_channels = CHANNELS.iter().flat_map(|channel| channel.server_urls);
    let is_server = SERVERS.iter().chain(of_channels).any(|keys| path == *keys);
    match text.trim() {
        "" => String::new(),
        url if is_server => without_password(url).unwrap_or_else(|| MASK.to_owned()),
        _ => MASK.to_owned(),
    }
}

/// `None` if the parts are ambiguous: then nothing is shown.
fn without_password(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(ends);
    // A password that contains / or #; or options, which may hold another password.
    if tail.contains(['@', '?', '#'])
        || !scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return None;
    }
    let Some((user, hosts)) = authority.rsplit_once('@') else {
        return Some(url.to_owned());
    };
    let (user, _) = user.split_once(':')?;
    (!user.contains('@')).then(|| format!("{scheme}://{user}:{MASK}@{hosts}{tail}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::definition::Kind;
    use crate::config::settings::DEFAULTS;
    use crate::config::variables::definitions;

    const FILE: &str = "listen = \"0.0.0.0:80\"\nstripe_webhook_secret = \"whsec_hidden1\"\n\
        [slack.channels]\n\"odd name\" = \"#x\"\n[plans]\n\"price_1.x\" = \"PRO\"\n\
        [[endpoints]]\nname = \"a\"\npath = \"/a\"\nsecrets = [\"whsec_hidden2\", \"whsec_hidden3\"]\n\
        [[alerting.routes]]\nrules = [\"r\"]\nnotify = [\"slack\"]\n";

    fn load(file: &str, variables: &[(&str, &str)]) -> Result<Effective, String> {
        let variables: HashMap<_, _> = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("my.toml");
        std::fs::write(&path, file).expect("written");
        Effective::load(Some(&path), &|name| variables.get(name).cloned())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn printed_settings_name_their_origin_and_hide_secrets() {
        let variables = [
            ("SLACK_BOT_TOKEN", "xoxb-hidden4"),
            ("REVWATCH_PARTITIONS", "16"),
            (
                "REVWATCH_AMQP_URL",
                "amqp://me:hidden5@rabbit.example:5672/revwatch",
            ),
            ("REVWATCH_REDIS_URL", "redis://redis.example/0"),
            ("SMTP_URL", "smtps://me:hidden/6@mail.example"),
        ];
        let effective = load(FILE, &variables).expect("valid");
        let text = effective.toml();
        let line = |key: &str| {
            text.lines()
                .find(|line| line.starts_with(&format!("{key} = ")))
                .unwrap_or_default()
        };
        assert!(
            !text.contains("hidden") && !effective.json().to_string().contains("hidden"),
            "{text}"
        );
        assert!(
            line("listen").starts_with("listen = \"0.0.0.0:80\"  # ")
                && line("listen").ends_with("my.toml:1")
        );
        assert_eq!(line("partitions"), "partitions = 16  # REVWATCH_PARTITIONS");
        assert_eq!(line("batch"), "batch = 512  # default");
        assert_eq!(line("bot_token"), "bot_token = \"***\"  # SLACK_BOT_TOKEN");
        assert_eq!(line("app_token"), "app_token = \"\"  # default");
        assert_eq!(
            line("amqp_url"),
            "amqp_url = \"amqp://me:***@rabbit.example:5672/revwatch\"  # REVWATCH_AMQP_URL"
        );
        assert_eq!(
            line("redis_url"),
            "redis_url = \"redis://redis.example/0\"  # REVWATCH_REDIS_URL"
        );
        assert_eq!(
            line("smtp_url"),
            "smtp_url = \"***\"  # SMTP_URL",
            "the position of the password is ambiguous"
        );
        assert!(
            line("endpoints").contains("secrets = [\"***\", \"***\"]"),
            "{text}"
        );
        assert_eq!(
            effective.json()["from"]["slack.bot_token"],
            "SLACK_BOT_TOKEN"
        );
        assert_eq!(effective.json()["settings"]["slack"]["bot_token"], "***");
    }

    #[test]
    fn printed_settings_can_be_loaded_once_their_secrets_are_filled_in() {
        let first = load(
            FILE,
            &[
                ("SLACK_BOT_TOKEN", "xoxb-hidden4"),
                ("REVWATCH_DATA", "x \"y\" \\"),
            ],
        )
        .expect("valid");
        let printed = first.toml();
        let error = load(&printed, &[]).err().expect("masks are not secrets");
        for key in [
            "stripe_webhook_secret",
            "slack.bot_token",
            "endpoints.secrets",
        ] {
            assert!(error.contains(&format!("`{key}` holds ***")), "{error}");
        }
        let filled = printed
            .replace(
                "stripe_webhook_secret = \"***\"",
                "stripe_webhook_secret = \"whsec_hidden1\"",
            )
            .replace("bot_token = \"***\"", "bot_token = \"xoxb-hidden4\"")
            .replace(
                "[\"***\", \"***\"]",
                "[\"whsec_hidden2\", \"whsec_hidden3\"]",
            );
        let second = load(&filled, &[]).expect("valid");
        assert_eq!(first.table, second.table);
        // The same for the defaults.
        let defaults = load("", &[]).expect("valid");
        assert_eq!(
            load(&defaults.toml(), &[]).expect("valid").table,
            defaults.table
        );
    }

    #[test]
    fn passwords_in_urls_are_masked_and_ambiguous_urls_completely() {
        let table = [
            ("amqp://h/v", Some("amqp://h/v")),
            ("amqp://u:p@h:1/v", Some("amqp://u:***@h:1/v")),
            ("redis://:p@h", Some("redis://:***@h")),
            (
                "redis-cluster://u:p@a:1,b:2",
                Some("redis-cluster://u:***@a:1,b:2"),
            ),
            ("amqp://u:p@p@h", Some("amqp://u:***@h")),
            ("amqp://u:p/p@h/v", None),
            ("amqp://u:p#p@h/v", None),
            ("redis://token@h", None),
            ("redis://h/0?password=p", None),
            ("u:p@h", None),
        ];
        for (url, expected) in table {
            assert_eq!(without_password(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn every_key_that_sounds_like_a_secret_is_one() {
        let defaults: toml::Table = DEFAULTS.parse().expect("valid");
        visit(&defaults, &mut Vec::new(), &mut |path, _| {
            let name = path.last().map(String::as_str).unwrap_or_default();
            let sounds = ["secret", "token", "password", "_key"]
                .iter()
                .any(|end| name.ends_with(end));
            assert!(!sounds || is_secret(path), "{path:?} would be shown");
        });
        assert!(
            definitions()
                .filter(|(_, _, kind)| *kind == Kind::Secret)
                .count()
                > 10
        );
    }
}
