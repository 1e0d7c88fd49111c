//! Events as Stripe writes them: ids, envelope, body.

use serde_json::{Value, json};

/// One event, ready to be signed and posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimEvent {
    pub sender: Sender,
    /// For example `payout.paid`.
    pub kind: &'static str,
    /// Unix seconds.
    pub created_s: i64,
    /// The complete webhook body.
    pub body: String,
}

/// Who sends an event: each has an endpoint and signs in a way of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Stripe,
    Application,
}

/// The form of the objects. An endpoint sees both while a platform changes its API version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Up to acacia: `invoice.subscription`, `current_period_*` on the subscription.
    Acacia,
    /// From basil on: `parent.subscription_details`, `current_period_*` on the items.
    Clover,
}

/// An event before it gets its id.
pub struct Draft<'a> {
    pub kind: &'static str,
    pub created_s: i64,
    /// The connected account of the event.
    pub account: Option<&'a str>,
    pub shape: Shape,
    pub object: Value,
    /// Previous values; only `*.updated` events have them.
    pub previous: Option<Value>,
}

/// Creates ids and envelopes; the only source of randomness of the simulator.
pub struct Mint {
    pub rng: fastrand::Rng,
    /// The part that all ids of one Stripe account share.
    owner: String,
}

impl Shape {
    fn api_version(self) -> &'static str {
        match self {
            Self::Acacia => "2024-12-18.acacia",
            Self::Clover => "2025-09-30.clover",
        }
    }
}

impl Mint {
    pub fn new(seed: u64) -> Self {
        let mut mint = Self {
            rng: fastrand::Rng::with_seed(seed),
            owner: String::new(),
        };
        mint.owner = mint.letters(10);
        mint
    }

    /// For example `sub_1MowQVLkdIwHu7ixeRlqHVzs`, which was created at 1679609767.
    pub fn id(&mut self, prefix: &str, created_s: i64) -> String {
        let tail = self.letters(8);
        format!("{prefix}_{}{}{tail}", second(created_s), self.owner)
    }

    /// For example `cus_QXg1o8vcGmoR32`.
    pub fn short_id(&mut self, prefix: &str) -> String {
        format!("{prefix}_{}", self.letters(14))
    }

    /// For example `acct_1032D82eZvKYlo2C`.
    pub fn account_id(&mut self, created_s: i64) -> String {
        format!("acct_{}{}", second(created_s), self.letters(10))
    }

    /// A Unix second of `from_s..to_s`.
    pub fn within(&mut self, from_s: i64, to_s: i64) -> i64 {
        self.rng.i64(from_s..to_s.max(from_s + 1))
    }

    pub fn event(&mut self, draft: Draft<'_>) -> SimEvent {
        let Draft {
            kind,
            created_s,
            account,
            shape,
            object,
            previous,
        } = draft;
        // Events that Stripe causes have no request; events caused by an API call name it.
        let request = match self.rng.u8(0..3) {
            0 => json!({"id": null, "idempotency_key": null}),
            1 => json!({"id": self.short_id("req"), "idempotency_key": null}),
            _ => {
                json!({"id": self.short_id("req"), "idempotency_key": self.letters(32).to_lowercase()})
            }
        };
        let mut data = json!({"object": object});
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let mut body = json!({
            "id": self.id("evt", created_s),
            "object": "event",
            "api_version": shape.api_version(),
            "created": created_s,
            "data": data,
            "livemode": true,
            "pending_webhooks": self.rng.u8(1..3),
            "request": request,
            "type": kind,
        });
        if let Some(account) = account {
            body["account"] = json!(account);
        }
        SimEvent {
            sender: Sender::Stripe,
            kind,
            created_s,
            body: format!("{body:#}"),
        }
    }

    fn letters(&mut self, count: usize) -> String {
        (0..count).map(|_| self.rng.alphanumeric()).collect()
    }
}

/// The Unix second as Stripe writes it in ids, so that later ids sort later: in base 62, six digits
/// long. Stripe does not document this, but for `evt_1NG8Du2eZvKYlo2CUI79vXWy` and
/// `sub_1MowQVLkdIwHu7ixeRlqHVzs` of its documentation this gives `created`. Source:
/// <https://docs.stripe.com/api/events/object>, <https://docs.stripe.com/api/subscriptions/object>.
fn second(unix_s: i64) -> String {
    const BEGAN_S: i64 = 426_256_548;
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut remaining = usize::try_from(unix_s - BEGAN_S).unwrap_or(0);
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[remaining % 62];
        remaining /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// `previous_attributes`: the old values of changed fields. Nested objects hold changed fields
/// only; a changed array is complete.
pub fn changed(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return before.clone();
    };
    let differing = before
        .iter()
        .filter(|(name, value)| after.get(*name) != Some(value));
    differing
        .map(|(name, value)| {
            (
                name.clone(),
                changed(value, after.get(name).unwrap_or(&Value::Null)),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_encode_their_creation_time_like_those_in_stripes_documentation() {
        for (id, created_s) in [
            ("evt_1NG8Du2eZvKYlo2CUI79vXWy", 1_686_089_970),
            ("sub_1MowQVLkdIwHu7ixeRlqHVzs", 1_679_609_767),
        ] {
            let (prefix, remaining) = id.split_once('_').expect("a prefix");
            assert_eq!(&remaining[..6], second(created_s));
            let ours = Mint::new(1).id(prefix, created_s);
            assert_eq!((ours.len(), &ours[..10]), (id.len(), &id[..10]));
        }
    }
}
