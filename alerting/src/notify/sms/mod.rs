//! Text messages through Twilio: one per recipient when an alert fires and for each notice.

mod config;
#[cfg(test)]
mod tests;
mod twilio;

use async_trait::async_trait;
use futures_util::future::join_all;
use revwatch_runtime::config::{Config, SmsConfig};
use tokio::time::timeout;

use self::config::Settings;
use self::twilio::Twilio;
use super::partial_deliveries::PartialDeliveries;
use super::recipients::Recipients;
use super::{
    ATTEMPT_TIMEOUT, Capabilities, Configured, EgressClient, Lookup, Notifier, Outcome, SetupError,
    boxed,
};
use crate::message::{Message, clamp};

/// Sends text messages.
pub struct Sms {
    twilio: Twilio,
    to: Recipients<String>,
    delivered: PartialDeliveries,
    per_second: f64,
}

const PROVIDER: &str = "Twilio";
/// Maximum number of characters; Twilio refuses more.
const MAX_BODY_CHARS: usize = 1600;

/// See [`Sms::configured`].
pub(super) fn configured(config: &Config, egress: &EgressClient, per_second: f64) -> Configured {
    boxed(Sms::configured(&config.sms, egress, per_second)?)
}

impl Sms {
    /// `None` if nothing of it is configured. `per_second` are messages to one list of numbers.
    pub fn configured(
        config: &SmsConfig,
        egress: &EgressClient,
        per_second: f64,
    ) -> Result<Option<Self>, SetupError> {
        let Some(settings) = Settings::new(config, egress)? else {
            return Ok(None);
        };
        let twilio = Twilio {
            client: egress.client()?,
            account_sid: settings.account_sid,
            auth_token: settings.auth_token,
            from: settings.from,
            api_base: settings.api_base,
        };
        Ok(Some(Self {
            twilio,
            to: settings.to,
            delivered: PartialDeliveries::default(),
            per_second,
        }))
    }

    fn receipt(&self, message: &Message) -> Option<String> {
        let sids: Vec<_> = self
            .delivered
            .receipts(&message.delivery_id)
            .into_values()
            .collect();
        (!sids.is_empty()).then(|| sids.join(","))
    }

    /// Sends the message to everyone who lacks it.
    async fn send_to_all(&self, message: &Message) -> Outcome {
        let (list, numbers) = self.to.for_route(&message.route);
        let body = body(message);
        let delivered = self.delivered.receipts(&message.delivery_id);
        let pending: Vec<_> = numbers
            .iter()
            .filter(|number| !delivered.contains_key(*number))
            .collect();
        // In parallel: no recipient waits for another's message.
        let sent = join_all(
            pending
                .iter()
                .map(|number| self.twilio.send(&body, number, list)),
        )
        .await;
        let mut worst: Option<Outcome> = None;
        for (number, sent) in pending.iter().zip(sent) {
            match sent {
                Ok(sid) => self.delivered.remember(&message.delivery_id, number, sid),
                Err(outcome) => worst = Some(worse(worst, outcome)),
            }
        }
        let receipt = self.receipt(message);
        match worst {
            Some(Outcome::Failed {
                permanent: true,
                reason,
            }) if receipt.is_some() => {
                tracing::warn!(
                    list,
                    reason,
                    "some recipients cannot receive text messages; the others have it"
                );
            }
            Some(outcome) => return outcome,
            None => {}
        }
        self.delivered.forget(&message.delivery_id);
        Outcome::Delivered { receipt }
    }

    async fn find_all(&self, message: &Message) -> Lookup {
        if self.delivered.is_complete(&message.delivery_id) {
            return Lookup::Absent;
        }
        let (_, numbers) = self.to.for_route(&message.route);
        let delivered = self.delivered.receipts(&message.delivery_id);
        let pending: Vec<_> = numbers
            .iter()
            .filter(|number| !delivered.contains_key(*number))
            .collect();
        let lookups = join_all(
            pending
                .iter()
                .map(|number| self.twilio.search(message, number)),
        )
        .await;
        let (mut is_absent, mut failure) = (false, None);
        for (number, lookup) in pending.iter().zip(lookups) {
            match lookup {
                Ok(Some(sid)) => self.delivered.remember(&message.delivery_id, number, sid),
                Ok(None) => is_absent = true,
                Err(later @ Lookup::Later { .. }) => failure = Some(later),
                Err(other) => failure = failure.or(Some(other)),
            }
        }
        match failure {
            Some(failure) => failure,
            None if is_absent => Lookup::Absent,
            None => {
                let receipt = self.receipt(message);
                self.delivered.forget(&message.delivery_id);
                Lookup::Found {
                    receipt,
                    revision: None,
                }
            }
        }
    }
}

#[async_trait]
impl Notifier for Sms {
    fn name(&self) -> &'static str {
        "sms"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: false,
            resolves: false,
        }
    }

    fn destination(&self, route: &str) -> String {
        format!("sms {}", self.to.for_route(route).0)
    }

    fn per_second(&self) -> f64 {
        self.per_second
    }

    fn partial_deliveries(&self) -> Option<&PartialDeliveries> {
        Some(&self.delivered)
    }

    fn is_partly_delivered(&self, message: &Message) -> bool {
        self.delivered.is_partly_delivered(&message.delivery_id)
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        self.delivered.begin(&message.delivery_id);
        let outcome = self.send_to_all(message).await;
        self.delivered.end(&message.delivery_id, &outcome);
        outcome
    }

    async fn find(&self, message: &Message) -> Lookup {
        let searching = timeout(ATTEMPT_TIMEOUT, self.find_all(message)).await;
        searching.unwrap_or_else(|_| Lookup::Later {
            reason: format!("{PROVIDER}: no answer in time"),
        })
    }
}

/// The text to send: the short text with the delivery's id, by which it is found again.
fn body(message: &Message) -> String {
    let id = &message.delivery_id;
    if names(&message.short, id) {
        return clamp(&message.short, MAX_BODY_CHARS);
    }
    let max_chars = MAX_BODY_CHARS.saturating_sub(id.chars().count() + 1);
    format!("{} {id}", clamp(&message.short, max_chars))
}

/// Whether `text` contains `id` as a word: `al_1-1` is not in `al_1-10`.
fn names(text: &str, id: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))
        .any(|word| word == id)
}

/// The more important of two outcomes for the caller: first, that delivery is unknown; then the
/// time to wait; then that a retry helps.
fn worse(before: Option<Outcome>, new: Outcome) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Unknown { .. } => 3,
        Outcome::RetryAfter { .. } => 2,
        Outcome::Failed {
            permanent: false, ..
        } => 1,
        _ => 0,
    };
    match (before, new) {
        (None, new) => new,
        (Some(Outcome::RetryAfter { wait_ms: a }), Outcome::RetryAfter { wait_ms: b }) => {
            Outcome::RetryAfter { wait_ms: a.max(b) }
        }
        (Some(before), new) => {
            if rank(&new) > rank(&before) {
                new
            } else {
                before
            }
        }
    }
}
