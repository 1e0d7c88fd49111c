//! Channels by name and by id. Settings may use either; reading a channel requires its id.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The configured channels, and the known ids of their names.
pub struct Channels {
    by_route: BTreeMap<String, String>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    ids: BTreeMap<String, String>,
    /// When Slack's list was read, and how much of it.
    listed: Option<(Instant, Listed)>,
}

/// How much of Slack's list was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// All of it: a channel that is not in it is not visible.
    ToItsEnd,
    /// As many channels as are read at most.
    Partly,
}

/// The state of knowledge about a channel's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// The id is known.
    Is(String),
    /// Slack's list must be read, for the first time or again.
    NotListedYet,
    /// The part of Slack's list that was read does not contain it.
    Unknown(Listed),
}

/// A list is read again after this time: a channel may be created, or the app be invited to it.
const LISTED_FOR: Duration = Duration::from_secs(600);

impl Channels {
    /// `by_route` as in [`revwatch_runtime::config::SlackConfig::channels`].
    pub fn new(by_route: BTreeMap<String, String>) -> Self {
        Self {
            by_route,
            known: Mutex::default(),
        }
    }

    /// The channel, by name or id, for a route.
    pub fn for_route(&self, route: &str) -> &str {
        self.by_route
            .get(route)
            .map_or_else(|| self.default(), String::as_str)
    }

    /// The channel of routes that are not listed.
    pub fn default(&self) -> &str {
        let listed = self.by_route.get("default");
        listed.map_or("#alerts-critical", String::as_str)
    }

    /// Whether all routes have the same channel.
    pub fn is_one(&self) -> bool {
        let mut channels = self.by_route.values();
        let first = channels.next();
        channels.all(|channel| Some(channel) == first)
    }

    /// The id of a configured channel.
    pub fn id(&self, channel: &str) -> Id {
        self.id_at(channel, Instant::now())
    }

    fn id_at(&self, channel: &str, now: Instant) -> Id {
        if is_id(channel) {
            return Id::Is(channel.to_owned());
        }
        let known = self.known();
        match (known.ids.get(name(channel)), known.listed) {
            (Some(id), _) => Id::Is(id.clone()),
            (None, Some((at, listed))) if now < at + LISTED_FOR => Id::Unknown(listed),
            (None, _) => Id::NotListedYet,
        }
    }

    /// Records the id of `channel` from one of Slack's answers.
    pub fn learn(&self, channel: &str, id: &str) {
        if !is_id(channel) && !channel.is_empty() {
            self.known()
                .ids
                .insert(name(channel).to_owned(), id.to_owned());
        }
    }

    /// Slack's list was read.
    pub fn listed(&self, listed: Listed) {
        self.known().listed = Some((Instant::now(), listed));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is locked; if something did, the contents would still be valid.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids are a C, D or G and upper-case letters and digits; names are lower case. Source:
/// <https://docs.slack.dev/reference/objects/conversation-object>.
fn is_id(channel: &str) -> bool {
    channel.len() > 1
        && channel.starts_with(['C', 'D', 'G'])
        && channel
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn name(channel: &str) -> &str {
    channel.trim_start_matches('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinguished_from_names_and_remembered() {
        let list = [("default", "#alerts"), ("growth", "C0123456789")];
        let channels = Channels::new(list.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!(
            (channels.for_route("growth"), channels.for_route("x")),
            ("C0123456789", "#alerts")
        );
        assert!(!channels.is_one());
        assert_eq!(channels.id("C0123456789"), Id::Is("C0123456789".into()));
        assert_eq!(channels.id("#alerts"), Id::NotListedYet);
        channels.listed(Listed::ToItsEnd);
        assert_eq!(channels.id("#alerts"), Id::Unknown(Listed::ToItsEnd));
        let later = Instant::now() + LISTED_FOR;
        assert_eq!(channels.id_at("#alerts", later), Id::NotListedYet);
        channels.learn("#alerts", "C9876543210");
        assert_eq!(channels.id("alerts"), Id::Is("C9876543210".into()));
    }
}
