//! Messages about an alert: its own, further notices, and the state of each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A message about an alert in addition to its own: a warning, a breach, an escalation, or that it happened again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// From 1; 0 is the alert's own message.
    pub number: u32,
    /// What it says.
    pub kind: NoticeKind,
    /// Unix seconds.
    pub at_s: i64,
    /// Selects the channels and addresses that are notified.
    pub route: String,
    /// The notifiers that deliver it.
    pub notifiers: Vec<String>,
}

/// The notices that a clock or a further event can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The time to respond ends soon.
    RespondSoon,
    /// No person responded in time.
    RespondBreached,
    /// Step of the escalation chain, from 0.
    Escalated(u32),
    /// The time to resolve ends soon.
    ResolveSoon,
    /// It was not resolved in time.
    ResolveBreached,
    /// It happened again: so many times by now; of a group, to so many of its members.
    Again(u32),
}

impl NoticeKind {
    /// Whether it asks for a response, which an acknowledged alert has.
    pub fn asks_for_response(self) -> bool {
        matches!(
            self,
            Self::RespondSoon | Self::RespondBreached | Self::Escalated(_)
        )
    }

    /// Whether a deadline causes it.
    pub fn is_of_a_clock(self) -> bool {
        !matches!(self, Self::Again(_))
    }
}

/// Names one message of an alert: its notifier, and its notice (0: the alert itself).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey {
    /// Name of the notifier.
    pub notifier: String,
    /// See [`Notice::number`].
    pub notice: u32,
}

/// The state of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotificationState {
    /// The revision that was delivered; 0: none.
    #[serde(alias = "told")]
    pub delivered_revision: u32,
    /// The revision of an attempt, written before the attempt is made: an evaluator that finds it after a crash does
    /// not know whether the message arrived.
    #[serde(alias = "trying", skip_serializing_if = "Option::is_none")]
    pub attempting_revision: Option<u32>,
    /// Where the message is, for changing it in place and for its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Attempts since the last success.
    pub attempts: u32,
    /// Unix milliseconds before which nothing is tried.
    pub not_before_ms: i64,
    /// An attempt ended without an answer, and the service could not say whether the message arrived: readers
    /// may have it twice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub possible_duplicate: bool,
    /// Why this notifier does not deliver it: a person must repair something, or it has failed for too long. Another
    /// is used as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// Another notifier was added for it, which happens once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_replaced: bool,
    /// The failures since the last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// What went wrong, oldest first, also before the last success: equal reasons in a row are one entry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failures>,
}

/// A message that could not be delivered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Unix milliseconds of the first failure.
    pub since_ms: i64,
    /// How many failed; a service that asks to wait has not failed.
    pub failed: u32,
}

/// Attempts in a row that failed for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// Why; no secrets and no personal data.
    pub reason: String,
    /// How many.
    pub count: u32,
    /// Unix seconds of the first.
    pub first_s: i64,
    /// Unix seconds of the last.
    pub last_s: i64,
}

/// Older failures are dropped.
const MAX_FAILURES: usize = 8;

impl NotificationState {
    /// Notes why an attempt did not deliver.
    pub fn note_failure(&mut self, reason: &str, at_s: i64) {
        match self.failures.last_mut() {
            Some(last) if last.reason == reason => {
                last.count = last.count.saturating_add(1);
                last.last_s = at_s;
            }
            _ => self.failures.push(Failures {
                reason: reason.to_owned(),
                count: 1,
                first_s: at_s,
                last_s: at_s,
            }),
        }
        let too_many = self.failures.len().saturating_sub(MAX_FAILURES);
        self.failures.drain(..too_many);
    }
}

impl MessageKey {
    /// The alert's own message by this notifier.
    pub fn main(notifier: &str) -> Self {
        Self {
            notifier: notifier.to_owned(),
            notice: 0,
        }
    }
}

/// `slack`, and `slack#2` for the second notice.
impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.notice {
            0 => f.write_str(&self.notifier),
            n => write!(f, "{}#{n}", self.notifier),
        }
    }
}

impl Serialize for MessageKey {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageKey {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Ok(match text.split_once('#') {
            Some((notifier, notice)) => Self {
                notifier: notifier.to_owned(),
                notice: notice
                    .parse()
                    .map_err(|_| serde::de::Error::custom("a notice has a number"))?,
            },
            None => Self::main(&text),
        })
    }
}
