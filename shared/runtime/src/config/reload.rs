//! Compares reloaded settings with those of the running process. Pure.

use std::collections::BTreeSet;

use super::effective::{Effective, visit};
use super::file::KeyPath;
use super::reloadable::is_reloadable;

impl Effective {
    /// The keys that differ from those of `last` and take effect now, in a process that was started with
    /// `started`.
    pub fn take_effect(&self, last: &Self, started: &Self) -> Vec<String> {
        let waiting = self.need_restart(started);
        self.differences(last)
            .iter()
            .filter(|path| is_reloadable(path))
            .map(|path| path.join("."))
            .filter(|key| !waiting.contains(key))
            .collect()
    }

    /// The keys that differ from `started` and need a restart.
    pub fn need_restart(&self, started: &Self) -> Vec<String> {
        let waiting = self
            .differences(started)
            .into_iter()
            .filter(|path| !is_reloadable(path));
        let mut keys: Vec<String> = waiting.map(|path| path.join(".")).collect();
        // The listener for interactions is opened at startup, or not at all.
        let opens = |effective: &Self| effective.config.slack.opens_listener();
        if opens(self) && !opens(started) {
            keys.push("slack.signing_secret".to_owned());
        }
        keys
    }

    fn differences(&self, other: &Self) -> BTreeSet<KeyPath> {
        let mut differ = BTreeSet::new();
        for (one, other) in [(self, other), (other, self)] {
            visit(&one.table, &mut Vec::new(), &mut |path, value| {
                if at(&other.table, path) != Some(value) {
                    differ.insert(path.to_vec());
                }
            });
        }
        differ
    }
}

fn at<'a>(table: &'a toml::Table, path: &[String]) -> Option<&'a toml::Value> {
    let (last, before) = path.split_last()?;
    let inner = before
        .iter()
        .try_fold(table, |table, key| table.get(key)?.as_table())?;
    inner.get(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Effective {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Effective::load(None, &find).expect("valid")
    }

    #[test]
    fn settings_that_need_a_restart_are_named_without_their_values() {
        let started = load(&[("STRIPE_WEBHOOK_SECRET", "whsec_old")]);
        let now = load(&[
            ("STRIPE_WEBHOOK_SECRET", "whsec_new"),
            ("SLACK_BOT_TOKEN", "xoxb-1"),
            ("SLACK_SIGNING_SECRET", "s"),
            ("SLACK_INTERACTIVITY_LISTEN", "127.0.0.1:9"),
            ("REVWATCH_PARTITIONS", "16"),
            ("REVWATCH_AMQP_URL", "amqp://secret"),
            ("REVWATCH_REDIS_URL", "redis://secret"),
        ]);
        let expected = [
            "amqp_url",
            "partitions",
            "redis_url",
            "slack.interactivity_listen",
            "slack.signing_secret",
        ];
        assert_eq!(now.need_restart(&started), expected);
        assert_eq!(started.need_restart(&started), [""; 0]);
        let taken_over = ["slack.bot_token", "stripe_webhook_secret"];
        assert_eq!(now.take_effect(&started, &started), taken_over);
        assert_eq!(now.take_effect(&now, &started), [""; 0]);
        // Without a secret every request is refused, so the listener need not close.
        assert!(
            !started
                .need_restart(&now)
                .contains(&"slack.signing_secret".to_owned())
        );
    }
}
