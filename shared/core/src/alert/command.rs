//! What people request of alerting: acknowledge, resolve, silence. Every process may leave a command in
//! the store; the evaluator carries it out and deletes it in one write.
//!
//! Invariant: a command carried out twice changes nothing the second time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::document::Alert;

/// A request, its author and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The request.
    #[serde(rename = "ask")]
    pub kind: CommandKind,
    /// The author: a name from Slack, or the user of the command line.
    pub by: String,
    /// By what means: `slack` or `cli`.
    pub via: String,
    /// Unix seconds.
    pub at_s: i64,
}

/// The requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// "I have it." A group's members are acknowledged with it.
    Acknowledge {
        /// The alert's id.
        alert_id: String,
    },
    /// Ends the alert although its rule is true. It fires again only after its rule has been false.
    Resolve {
        /// The alert's id.
        alert_id: String,
    },
    /// Suppresses notifications for a time.
    Silence(Silence),
    /// Ends a silence before its time.
    Unsilence {
        /// The silence's id.
        silence_id: String,
    },
}

/// Suppresses the notifications of the alerts that it matches until it ends. Alerts still fire, and are
/// sent if they still fire then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// `si_…`
    pub id: String,
    /// The alerts that it suppresses.
    pub matches: Matcher,
    /// Unix seconds.
    pub from_s: i64,
    /// Unix seconds; every silence has an end.
    pub until_s: i64,
    /// Its end as long as `from_s` is in the future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead_until_s: Option<i64>,
    /// Why; never empty.
    pub reason: String,
    /// The person who made it.
    pub by: String,
}

/// Each silence begins when it is made. While one begins in the future, a clock was ahead when it was made, or this one is
/// behind: which of them is not known. So it lasts as long from when that is noticed, and keeps its end in case the clock
/// is set right.
impl Silence {
    /// Whether it suppresses alerts.
    pub fn is_active(&self, now_s: i64) -> bool {
        now_s < self.end_s(now_s)
    }

    /// When it ends, as is known at `now_s`, in Unix seconds.
    pub fn end_s(&self, now_s: i64) -> i64 {
        let until_s = self.ahead_until_s.filter(|_| self.from_s > now_s);
        until_s.unwrap_or(self.until_s)
    }

    /// What has to be stored of it at `now_s`, if that has changed.
    #[must_use]
    pub fn at(&self, now_s: i64) -> Option<Self> {
        let is_ahead = self.from_s > now_s;
        let mut silence = self.clone();
        match self.ahead_until_s {
            None if is_ahead && now_s < self.until_s => {
                let seconds = self.until_s.saturating_sub(self.from_s).max(0);
                silence.ahead_until_s = Some(now_s.saturating_add(seconds));
            }
            // It has ended, also if its time comes once more.
            Some(until_s) if is_ahead && until_s <= now_s => {
                silence.until_s = now_s;
                silence.ahead_until_s = None;
            }
            Some(_) if !is_ahead => silence.ahead_until_s = None,
            _ => return None,
        }
        Some(silence)
    }
}

/// Which alerts a silence suppresses: those that match all given fields. At least one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Matcher {
    /// One alert; a group includes its members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_id: Option<String>,
    /// A rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// A connected account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Matcher {
    /// Whether all given fields match. An empty matcher matches nothing: it would silence everything by
    /// mistake.
    pub fn fits(&self, alert: &Alert) -> bool {
        let Self {
            alert_id,
            rule,
            account,
            labels,
        } = self;
        *self != Self::default()
            && alert_id
                .as_ref()
                .is_none_or(|id| alert.id == *id || alert.part_of.as_ref() == Some(id))
            && rule.as_ref().is_none_or(|rule| alert.rule == *rule)
            && account
                .as_ref()
                .is_none_or(|account| alert.account() == Some(account))
            && labels
                .iter()
                .all(|(name, value)| alert.labels.get(name) == Some(value))
    }
}
