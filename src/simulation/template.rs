//! Builds events from a few fields: completes the fields of a rule test to the body that Stripe
//! would send. Pure.

use revwatch_core::app_event::{TYPES, is_known_type};
use revwatch_core::event::{is_known_kind, known_kinds};
use revwatch_core::source::Source;
use revwatch_runtime::config::closest_match;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::scenario::When;

/// The short form of an event. [`fields_of`] lists the fields of each type. Texts may hold
/// `{n}` (the number of the copy), `{seq}` (the number of the event in its test), `{at_s}`, `{at}`
/// and `{created_s}`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Stripe's type, for example `payout.failed`, or one of the application's, for example `ticket.opened`.
    pub event: String,
    event_id: Option<String>,
    account: Option<String>,
    /// Merged into the object that the other fields give. For types without a template it is the
    /// complete object.
    object: Option<Map<String, Value>>,
    previous: Option<Map<String, Value>>,
    /// Of an event of the application.
    data: Option<Map<String, Value>>,
    id: Option<String>,
    customer: Option<String>,
    subscription: Option<String>,
    currency: Option<String>,
    amount_minor: Option<i64>,
    reversed_minor: Option<i64>,
    status: Option<String>,
    reason: Option<String>,
    attempts: Option<u32>,
    next_attempt: Option<NextAttempt>,
    interval: Option<String>,
    price: Option<String>,
    trial_end: Option<When>,
    evidence_due: Option<When>,
    cancel_at_period_end: Option<bool>,
    country: Option<String>,
    account_created: Option<When>,
    charges_enabled: Option<bool>,
    payouts_enabled: Option<bool>,
    details_submitted: Option<bool>,
    external_account: Option<bool>,
    currently_due: Option<Vec<String>>,
    past_due: Option<Vec<String>>,
    disabled_reason: Option<String>,
    capability: Option<String>,
}

/// When Stripe tries to collect an invoice the next time.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
enum NextAttempt {
    Never,
    At(When),
}

/// One copy to send.
#[derive(Debug, Clone, Copy)]
pub struct Instance {
    /// The number of the copy.
    pub n: u64,
    /// The number of the event in its test, from 1.
    pub seq: u64,
    /// Unix second at which the test starts.
    pub start_s: i64,
    /// Unix second at which the copy arrives.
    pub at_s: i64,
    /// Unix second at which Stripe created the event.
    pub created_s: i64,
}

/// Stripe tries an invoice again after so many seconds, unless a test says otherwise.
const RETRY_S: i64 = 3 * 86_400;

/// What texts may hold in braces: see [`Instance::fill`].
pub const PLACEHOLDERS: [&str; 5] = ["n", "seq", "at_s", "at", "created_s"];

/// What Stripe itself replaces in texts that merchants set.
/// Source: <https://docs.stripe.com/payments/checkout/custom-success-page>.
const OF_STRIPE: &str = "CHECKOUT_SESSION_ID";

/// The families of objects with an amount.
const MONEY: &str =
    "payout payment_intent customer.subscription invoice charge.dispute refund transfer";

/// The fields of every event of Stripe's.
const FIELDS: [&str; 5] = ["event", "event_id", "account", "object", "previous"];

/// Those of every event of the application.
const APP_FIELDS: [&str; 3] = ["event", "event_id", "data"];

/// The fields that only some families have, with those families.
const FAMILY_FIELDS: [(&str, &str); 25] = [
    ("id", MONEY),
    ("currency", MONEY),
    ("amount_minor", MONEY),
    ("customer", "payment_intent customer.subscription invoice"),
    ("subscription", "invoice"),
    ("reversed_minor", "transfer"),
    (
        "status",
        "payout payment_intent customer.subscription invoice charge.dispute refund capability",
    ),
    ("reason", "payout payment_intent charge.dispute refund"),
    ("attempts", "invoice"),
    ("next_attempt", "invoice"),
    ("interval", "customer.subscription"),
    ("price", "customer.subscription"),
    ("trial_end", "customer.subscription"),
    ("evidence_due", "charge.dispute"),
    ("cancel_at_period_end", "customer.subscription"),
    ("country", "account"),
    ("account_created", "account"),
    ("charges_enabled", "account"),
    ("payouts_enabled", "account"),
    ("details_submitted", "account"),
    ("external_account", "account"),
    ("currently_due", "account"),
    ("past_due", "account"),
    ("disabled_reason", "account"),
    ("capability", "capability"),
];

/// The fields of an event of this type; of an unknown type, those of any.
pub fn fields_of(event: Option<&str>) -> Vec<&'static str> {
    if event.is_some_and(is_known_type) {
        return APP_FIELDS.to_vec();
    }
    let of_app = APP_FIELDS
        .into_iter()
        .filter(|field| event.is_none() && !FIELDS.contains(field));
    let has = |families: &str| {
        event.is_none_or(|event| families.split(' ').any(|family| family == family_of(event)))
    };
    let of_family = FAMILY_FIELDS.iter().filter(|(_, families)| has(families));
    FIELDS
        .into_iter()
        .chain(of_family.map(|(field, _)| *field))
        .chain(of_app)
        .collect()
}

/// What looks like a placeholder in a text, and is none: a word in braces. Braces of JSON hold quotes.
pub fn unknown_placeholders(text: &str) -> impl Iterator<Item = &str> {
    let of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let after_braces = text.split('{').skip(1);
    let words = after_braces.filter_map(|after| after.split_once('}').map(|(word, _)| word));
    words.filter(move |word| {
        let is_word = !word.is_empty() && word.chars().all(of_word);
        is_word && !PLACEHOLDERS.contains(word) && *word != OF_STRIPE
    })
}

/// The field that sets this one of Stripe's object.
pub fn field_setting(of_object: &str) -> &str {
    match of_object {
        "amount" | "amount_due" | "amount_paid" | "items" => "amount_minor",
        "amount_reversed" => "reversed_minor",
        "due_by" | "evidence_details" => "evidence_due",
        same => same,
    }
}

/// `payout` of `payout.failed`.
pub fn family_of(event: &str) -> &str {
    event.rsplit_once('.').map_or(event, |(family, _)| family)
}

impl Instance {
    /// Replaces the placeholders of a text.
    pub fn fill(&self, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        let at = jiff::Timestamp::from_second(self.at_s).unwrap_or_default();
        text.replace("{n}", &self.n.to_string())
            .replace("{seq}", &self.seq.to_string())
            .replace("{at_s}", &self.at_s.to_string())
            .replace("{created_s}", &self.created_s.to_string())
            .replace("{at}", &at.to_string())
    }

    /// The Unix second of a time that a test names.
    fn second(&self, when: Option<When>) -> Option<i64> {
        when.map(|when| when.second(self.start_s, self.at_s))
    }
}

impl Template {
    /// An event of this type with all defaults.
    #[cfg(test)]
    pub fn of(event: &str) -> Self {
        Self {
            event: event.to_owned(),
            ..Self::default()
        }
    }

    /// Checks the type. Its fields are those of [`fields_of`].
    pub fn check(&self) -> Result<(), String> {
        if ["v1.", "v2."]
            .iter()
            .any(|begin| self.event.starts_with(begin))
        {
            return Err(format!(
                "`event` {:?} is a thin event, which only names its object: send it with `json`, as in docs/rules.md",
                self.event
            ));
        }
        if is_known_type(&self.event) {
            return Ok(());
        }
        if !is_known_kind(&self.event) {
            let what = format!(
                "`event` {:?} is neither a Stripe event type nor one of the application",
                self.event
            );
            let of_family = known_kinds().filter(|kind| family_of(kind) == self.family());
            let of_family: Vec<&str> = of_family.collect();
            let of_app = TYPES.iter().map(|row| row.name);
            let near = closest_match(&self.event, known_kinds().chain(of_app));
            return Err(match near {
                Some(near) => format!("{what}; did you mean {near:?}?"),
                None if of_family.is_empty() => what,
                None => format!("{what}; there are {}", of_family.join(", ")),
            });
        }
        let known = format!("{MONEY} account account.application capability");
        if !known.split(' ').any(|k| k == self.family()) && self.object.is_none() {
            return Err(format!(
                "`event` {:?} has no template: give its `object`",
                self.event
            ));
        }
        Ok(())
    }

    /// Who sends it.
    pub fn source(&self) -> Source {
        match is_known_type(&self.event) {
            true => Source::App,
            false => Source::Stripe,
        }
    }

    /// The body that Stripe, or the application, would post.
    pub fn body(&self, of: &Instance) -> String {
        if self.source() == Source::App {
            return self.app_body(of);
        }
        let mut object = self.template(of);
        merge(&mut object, self.object.as_ref());
        let mut event = json!({
            "id": self.event_id.as_deref().unwrap_or("evt_{seq}"), "object": "event", "type": self.event,
            "created": of.created_s, "livemode": true, "data": {"object": object},
        });
        if let Some(account) = self.event_account() {
            event["account"] = account.into();
        }
        if let Some(previous) = &self.previous {
            event["data"]["previous_attributes"] = Value::Object(previous.clone());
        }
        of.fill(&event.to_string())
    }

    fn app_body(&self, of: &Instance) -> String {
        let time = jiff::Timestamp::from_second(of.created_s).unwrap_or_default();
        let event = json!({
            "specversion": "1.0", "id": self.event_id.as_deref().unwrap_or("{seq}"), "source": "/test",
            "type": self.event, "time": time.to_string(), "data": self.data.clone().unwrap_or_default(),
        });
        of.fill(&event.to_string())
    }

    fn family(&self) -> &str {
        family_of(&self.event)
    }

    fn verb(&self) -> &str {
        self.event.rsplit('.').next().unwrap_or_default()
    }

    /// The account in the envelope. Payouts and events about accounts have one; a transfer belongs
    /// to the platform.
    fn event_account(&self) -> Option<&str> {
        match self.family() {
            "payout" | "account" | "account.application" | "capability" => {
                Some(self.account_or_default())
            }
            "transfer" => None,
            _ => self.account.as_deref(),
        }
    }

    fn account_or_default(&self) -> &str {
        self.account.as_deref().unwrap_or("acct_{n}")
    }

    fn template(&self, of: &Instance) -> Value {
        match self.family() {
            "payout" => self.payout(),
            "payment_intent" => self.payment_intent(),
            "account" => self.account_object(of),
            "account.application" => json!({"id": "ca_test", "object": "application"}),
            "capability" => {
                json!({"id": self.capability.as_deref().unwrap_or("card_payments"), "object": "capability",
                    "account": self.account_or_default(), "status": self.status_or("active")})
            }
            "customer.subscription" => self.subscription_object(of),
            "invoice" => self.invoice(of),
            "charge.dispute" => self.dispute(of),
            "refund" => self.refund(),
            "transfer" => self.transfer(),
            _ => json!({}),
        }
    }

    fn payout(&self) -> Value {
        let status = self.status_or(match self.verb() {
            verb @ ("failed" | "paid" | "canceled") => verb,
            "created" => "pending",
            _ => "in_transit",
        });
        let failure = (status == "failed").then(|| self.reason_or("account_closed"));
        json!({"id": self.id_or("po_{seq}"), "object": "payout", "status": status, "amount": self.amount(),
            "currency": self.currency_or_default(), "failure_code": failure})
    }

    fn payment_intent(&self) -> Value {
        let status = self.status_or(match self.verb() {
            "payment_failed" | "created" => "requires_payment_method",
            verb @ ("succeeded" | "canceled" | "processing" | "requires_action") => verb,
            _ => "requires_capture",
        });
        let error = (self.verb() == "payment_failed").then(|| {
            let reason = self.reason_or("generic_decline");
            json!({"type": "card_error", "code": "card_declined", "decline_code": reason})
        });
        let charge = (self.verb() != "created").then_some("ch_{seq}");
        json!({"id": self.id_or("pi_{seq}"), "object": "payment_intent", "status": status, "amount": self.amount(),
            "currency": self.currency_or_default(), "customer": self.customer, "last_payment_error": error,
            "latest_charge": charge})
    }

    fn account_object(&self, of: &Instance) -> Value {
        let payouts = self.payouts_enabled.unwrap_or(true);
        let external = u32::from(self.external_account.unwrap_or(payouts));
        // The earliest counts, so an account was created with the first event about it.
        let created_s = of.second(self.account_created).unwrap_or(of.created_s);
        json!({"id": self.account_or_default(), "object": "account",
            "country": self.country.as_deref().unwrap_or("US"), "created": created_s,
            "charges_enabled": self.charges_enabled.unwrap_or(true), "payouts_enabled": payouts,
            "details_submitted": self.details_submitted.unwrap_or(true),
            "requirements": {"currently_due": self.currently_due.clone().unwrap_or_default(),
                "past_due": self.past_due.clone().unwrap_or_default(), "disabled_reason": self.disabled_reason},
            "external_accounts": {"object": "list", "data": [], "total_count": external}})
    }

    fn subscription_object(&self, of: &Instance) -> Value {
        let status = self.status_or(match self.verb() {
            "deleted" => "canceled",
            _ => "active",
        });
        json!({"id": self.id_or("sub_{n}"), "object": "subscription", "status": status,
            "customer": self.customer_or_default(), "currency": self.currency_or_default(),
            "trial_end": of.second(self.trial_end), "cancel_at_period_end": self.cancel_at_period_end.unwrap_or(false),
            "items": {"object": "list", "data": [{"id": "si_{n}", "quantity": 1, "price": {
                "id": self.price.as_deref().unwrap_or("price_test"), "unit_amount": self.amount(),
                "recurring": {"interval": self.interval.as_deref().unwrap_or("month"), "interval_count": 1}}}]}})
    }

    fn invoice(&self, of: &Instance) -> Value {
        let status = self.status_or(match self.verb() {
            "paid" | "payment_succeeded" => "paid",
            "created" => "draft",
            "voided" => "void",
            "marked_uncollectible" => "uncollectible",
            _ => "open",
        });
        let attempts = match self.verb() {
            "payment_failed" | "payment_action_required" => 1,
            _ => 0,
        };
        let attempts = self.attempts.unwrap_or(attempts);
        let paid = if status == "paid" { self.amount() } else { 0 };
        let next_attempt = match self.next_attempt {
            Some(NextAttempt::Never) => None,
            Some(NextAttempt::At(when)) => of.second(Some(when)),
            None => (status == "open" && attempts > 0).then_some(of.created_s + RETRY_S),
        };
        json!({"id": self.id_or("in_{n}"), "object": "invoice", "customer": self.customer_or_default(),
            "currency": self.currency_or_default(), "parent": {"subscription_details": {"subscription": self.subscription}},
            "amount_due": self.amount(), "amount_paid": paid, "amount_remaining": self.amount() - paid,
            "attempt_count": attempts, "attempted": attempts > 0, "collection_method": "charge_automatically",
            "next_payment_attempt": next_attempt, "status": status})
    }

    fn dispute(&self, of: &Instance) -> Value {
        let status = self.status_or(match self.verb() {
            "closed" => "lost",
            _ => "needs_response",
        });
        json!({"id": self.id_or("dp_{seq}"), "object": "dispute", "status": status, "amount": self.amount(),
            "currency": self.currency_or_default(), "reason": self.reason_or("fraudulent"), "charge": "ch_{seq}",
            "evidence_details": {"due_by": of.second(self.evidence_due)}})
    }

    fn refund(&self) -> Value {
        let status = self.status_or(match self.verb() {
            "failed" => "failed",
            _ => "succeeded",
        });
        let failure = (status == "failed").then(|| self.reason_or("declined"));
        json!({"id": self.id_or("re_{seq}"), "object": "refund", "status": status, "amount": self.amount(),
            "currency": self.currency_or_default(), "failure_reason": failure, "charge": "ch_{seq}"})
    }

    fn transfer(&self) -> Value {
        let amount = self.amount();
        let default = if self.verb() == "reversed" { amount } else { 0 };
        let reversed = self.reversed_minor.unwrap_or(default);
        json!({"id": self.id_or("tr_{seq}"), "object": "transfer", "amount": amount, "amount_reversed": reversed,
            "reversed": reversed >= amount, "currency": self.currency_or_default(),
            "destination": self.account_or_default()})
    }

    fn amount(&self) -> i64 {
        self.amount_minor.unwrap_or(1000)
    }

    fn currency_or_default(&self) -> &str {
        self.currency.as_deref().unwrap_or("usd")
    }

    fn customer_or_default(&self) -> &str {
        self.customer.as_deref().unwrap_or("cus_{n}")
    }

    fn id_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.id.as_deref().unwrap_or(default)
    }

    fn status_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.status.as_deref().unwrap_or(default)
    }

    fn reason_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.reason.as_deref().unwrap_or(default)
    }
}

impl TryFrom<String> for NextAttempt {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "never" => Ok(Self::Never),
            _ => When::try_from(text)
                .map(Self::At)
                .map_err(|error| format!("{error}, or \"never\"")),
        }
    }
}

/// Merges tables; other given values replace existing ones.
fn merge(into: &mut Value, given: Option<&Map<String, Value>>) {
    for (key, value) in given.into_iter().flatten() {
        match (&mut into[key.as_str()], value) {
            (slot @ Value::Object(_), Value::Object(inner)) => merge(slot, Some(inner)),
            (slot, value) => *slot = value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use revwatch_core::event::Event;
    use revwatch_core::observe::{ObserveSettings, observe};

    use super::*;

    #[test]
    fn the_worker_reads_the_event_of_every_template() {
        let of = Instance {
            n: 3,
            seq: 7,
            start_s: 0,
            at_s: 100,
            created_s: 90,
        };
        for (kind, about) in [
            ("payout.paid", "payout po_7"),
            ("payout.failed", "payout po_7"),
            ("payment_intent.succeeded", "payment_intent pi_7"),
            ("payment_intent.payment_failed", "payment_intent pi_7"),
            ("account.updated", "account acct_3"),
            ("account.application.deauthorized", "account acct_3"),
            ("capability.updated", "account acct_3"),
            ("customer.subscription.created", "subscription sub_3"),
            ("customer.subscription.updated", "subscription sub_3"),
            ("customer.subscription.deleted", "subscription sub_3"),
            ("invoice.payment_failed", "invoice in_3"),
            ("invoice.paid", "invoice in_3"),
            ("invoice.payment_action_required", "invoice in_3"),
            ("charge.dispute.created", "dispute dp_7"),
            ("refund.failed", "refund re_7"),
            ("transfer.reversed", "transfer tr_7"),
        ] {
            let template = Template::of(kind);
            assert_eq!(template.check(), Ok(()), "{kind}");
            let body = template.body(&of);
            let event = Event::parse(body.as_bytes()).expect("an event");
            assert_eq!((event.id.as_ref(), event.created_s), ("evt_7", 90));
            let seen = observe(&event, &ObserveSettings::default()).expect(kind);
            assert!(
                seen.iter().any(|o| o.key.to_string() == about),
                "{kind}: {body}"
            );
        }
    }

    #[test]
    fn given_objects_are_merged_and_unsuitable_fields_are_refused() {
        let given =
            json!({"requirements": {"disabled_reason": "rejected.fraud"}, "country": "{at}"});
        let object = given.as_object().cloned();
        let template = Template {
            event: "account.updated".into(),
            object,
            ..Template::default()
        };
        let body = template.body(&Instance {
            n: 1,
            seq: 1,
            start_s: 0,
            at_s: 0,
            created_s: 0,
        });
        assert!(
            body.contains("rejected.fraud") && body.contains("currently_due"),
            "{body}"
        );
        assert!(
            body.contains(r#""country":"1970-01-01T00:00:00Z""#),
            "{body}"
        );
        for (event, expected) in [
            ("made.up", "neither a Stripe event type"),
            ("ticket.openned", "did you mean \"ticket.opened\""),
            ("product.created", "give its `object`"),
            ("v2.core.account.closed", "is a thin event"),
            ("v1.payout.failed", "is a thin event"),
        ] {
            let error = Template {
                event: event.into(),
                ..Template::default()
            }
            .check()
            .expect_err("wrong");
            assert!(error.contains(expected), "{error}");
        }
        let fields = fields_of(Some("payout.paid"));
        assert!(fields.contains(&"reason") && !fields.contains(&"attempts"));
        assert!(fields_of(None).contains(&"attempts"));
        assert_eq!(fields_of(Some("ticket.opened")), APP_FIELDS);
    }
}
