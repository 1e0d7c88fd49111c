//! Generated histories with ids, fields and changes of realistic size and number.

use bytes::Bytes;
use fastrand::Rng;
use revwatch_core::event::Event;
use revwatch_core::event_settings::EventSettings;
use revwatch_core::observe::Plans;
use revwatch_storage::ports::Delivery;
use serde_json::{Value, json};
use uuid::Uuid;

/// The histories of many entities of one kind.
pub(crate) struct Histories {
    /// A description.
    pub(crate) about: &'static str,
    /// `subscription` or `account`.
    pub(crate) kind: &'static str,
    /// How many entities.
    pub(crate) count: usize,
    /// The total number of events.
    pub(crate) events: usize,
    monthly_events: &'static [MonthlyEvent],
}

/// The event of the `n`th entity in one month; some entities have none.
type MonthlyEvent = fn(&mut EventBuilder) -> Option<Value>;

const MONTH_S: i64 = 30 * 86_400;
const START_S: i64 = 1_760_000_000;

/// Two of three subscriptions have a name for their plan.
pub(crate) fn settings() -> EventSettings {
    let names = [("price_basic", "BASIC"), ("price_pro", "PRO")];
    let names = names.map(|(price, plan)| (price.to_owned(), plan.to_owned()));
    EventSettings {
        observe: Plans::new(names.into()).into(),
        ..EventSettings::default()
    }
}

impl Histories {
    /// In the end one in twenty is past due and the others are active; created, then two or three
    /// updates, a month apart. Half of them use one shape of Stripe's objects, half the other.
    pub(crate) fn subscriptions(count: usize) -> Self {
        let monthly_events: &[MonthlyEvent] =
            &[created, renewed, renewed_or_grown, renewed_or_past_due];
        Self::new(
            "active subscriptions",
            "subscription",
            count,
            monthly_events,
        )
    }

    /// Created and then renewed twelve times.
    pub(crate) fn subscriptions_of_a_year(count: usize) -> Self {
        let monthly_events: &[MonthlyEvent] = &[
            created, renewed, renewed, renewed, renewed, renewed, renewed, renewed, renewed,
            renewed, renewed, renewed, renewed,
        ];
        Self::new(
            "active subscriptions after a year",
            "subscription",
            count,
            monthly_events,
        )
    }

    /// Created and then renewed thirty times: almost as many events as an entity retains.
    pub(crate) fn subscriptions_of_years(count: usize) -> Self {
        const CHAPTERS: [MonthlyEvent; 31] = {
            let mut monthly_events = [renewed as MonthlyEvent; 31];
            monthly_events[0] = created;
            monthly_events
        };
        Self::new(
            "active subscriptions after years",
            "subscription",
            count,
            &CHAPTERS,
        )
    }

    /// Connected, onboarded step by step, with two capabilities; finally one in twenty is
    /// restricted.
    pub(crate) fn accounts(count: usize) -> Self {
        Self::new(
            "connected accounts",
            "account",
            count,
            &[
                |t| Some(t.connected()),
                |t| Some(t.account("begun")),
                |t| Some(t.capability("card_payments", "pending")),
                |t| Some(t.capability("transfers", "pending")),
                |t| Some(t.account("submitted")),
                |t| Some(t.capability("card_payments", "active")),
                |t| Some(t.capability("transfers", "active")),
                |t| Some(t.account("enabled")),
                |t| t.n.is_multiple_of(20).then(|| t.account("restricted")),
            ],
        )
    }

    /// Connected, without any restriction.
    pub(crate) fn enabled(count: usize) -> Self {
        Self::new(
            "accounts that are well",
            "account",
            count,
            &[|t| Some(t.account("enabled"))],
        )
    }

    /// The first of those: they can no longer take charges.
    pub(crate) fn lost(count: usize) -> Self {
        Self::new(
            "accounts that lost charges",
            "account",
            count,
            &[|_| None, |t| Some(t.account("lost"))],
        )
    }

    fn new(
        about: &'static str,
        kind: &'static str,
        count: usize,
        monthly_events: &'static [MonthlyEvent],
    ) -> Self {
        let mut histories = Self {
            about,
            kind,
            count,
            events: 0,
            monthly_events,
        };
        histories.events = histories.bodies().count();
        histories
    }

    /// Month by month, in the order of a queue.
    pub(crate) fn deliveries(&self, partitions: u32) -> impl Iterator<Item = Delivery> + use<> {
        self.bodies().enumerate().map(move |(i, body)| {
            let body = body.to_string();
            let event = Event::parse(body.as_bytes()).expect("an event");
            Delivery {
                id: Uuid::from_u128(i as u128 + 1),
                event_id: event.id.clone().into_owned(),
                event_type: event.kind.clone().into_owned(),
                partition: event.partition(partitions),
                endpoint: "stripe".into(),
                received_ms: event.created_s * 1000,
                traceparent: None,
                body: Bytes::from(body),
            }
        })
    }

    fn bodies(&self) -> impl Iterator<Item = Value> + use<> {
        let (monthly_events, count) = (self.monthly_events, self.count);
        (0..monthly_events.len()).flat_map(move |month| {
            (0..count).filter_map(move |n| {
                monthly_events[month](&mut EventBuilder {
                    n,
                    month,
                    rng: Rng::with_seed(n as u64),
                })
            })
        })
    }
}

struct EventBuilder {
    n: usize,
    month: usize,
    /// Gives an entity the same ids in all of its events.
    rng: Rng,
}

fn created(t: &mut EventBuilder) -> Option<Value> {
    Some(t.subscription("customer.subscription.created", "active", 1, None))
}

fn renewed(t: &mut EventBuilder) -> Option<Value> {
    let previous = t.period_before();
    Some(t.subscription("customer.subscription.updated", "active", 1, Some(previous)))
}

fn renewed_or_grown(t: &mut EventBuilder) -> Option<Value> {
    if t.n % 10 != 3 {
        return renewed(t);
    }
    let previous = json!({"items": {"data": [t.item(1)]}, "quantity": 1});
    Some(t.subscription("customer.subscription.updated", "active", 2, Some(previous)))
}

fn renewed_or_past_due(t: &mut EventBuilder) -> Option<Value> {
    match t.n % 20 {
        0 => {
            let mut previous = t.period_before();
            previous["status"] = "active".into();
            Some(t.subscription(
                "customer.subscription.updated",
                "past_due",
                1,
                Some(previous),
            ))
        }
        n if n % 2 == 0 => renewed(t),
        _ => None,
    }
}

impl EventBuilder {
    /// An id as long as Stripe's: the same for an entity and `what`, and different for each month
    /// if `monthly`.
    fn id(&self, prefix: &str, length: usize, monthly: bool) -> String {
        let salt = prefix.bytes().fold(self.n as u64, |salt, byte| {
            salt.wrapping_mul(31).wrapping_add(byte.into())
        });
        let mut rng =
            Rng::with_seed(salt.wrapping_mul(64) + if monthly { self.month as u64 + 1 } else { 0 });
        let letters: String = (0..length).map(|_| rng.alphanumeric()).collect();
        format!("{prefix}_{letters}")
    }

    fn event(
        &mut self,
        kind: &str,
        account: &str,
        object: &Value,
        previous: Option<Value>,
    ) -> Value {
        let mut event = json!({
            "id": self.id("evt", 24, true), "object": "event", "account": account, "type": kind,
            "created": START_S + self.month as i64 * MONTH_S + self.rng.i64(0..MONTH_S / 2), "data": {"object": object},
        });
        if let Some(previous) = previous {
            event["data"]["previous_attributes"] = previous;
        }
        event
    }

    fn basil(&self) -> bool {
        self.n.is_multiple_of(2)
    }

    fn item(&self, quantity: i64) -> Value {
        let price = ["price_basic", "price_pro", "price_else"][self.n % 3];
        let mut item = json!({"id": self.id("si", 14, false), "quantity": quantity, "price": {
            "id": price, "unit_amount": 4900, "currency": "usd",
            "recurring": {"interval": "month", "interval_count": 1}}});
        if self.basil() {
            item["current_period_start"] = self.month.into();
        }
        item
    }

    /// The changes of a renewal: the period, of the subscription or of its items, and the latest
    /// invoice.
    fn period_before(&self) -> Value {
        let invoice = self.id("in", 24, true);
        if self.basil() {
            let mut item = self.item(1);
            item["current_period_start"] = (self.month - 1).into();
            return json!({"items": {"data": [item]}, "latest_invoice": invoice});
        }
        json!({"current_period_start": 1, "current_period_end": 2, "latest_invoice": invoice})
    }

    fn subscription(
        &mut self,
        kind: &str,
        status: &str,
        quantity: i64,
        previous: Option<Value>,
    ) -> Value {
        let object = json!({
            "id": self.id("sub", 24, false), "object": "subscription", "customer": self.id("cus", 14, false),
            "currency": "usd", "status": status, "cancel_at_period_end": false, "cancel_at": null, "trial_end": null,
            "latest_invoice": self.id("latest", 24, true), "items": {"object": "list", "data": [self.item(quantity)]},
        });
        // On one of a few hundred connected accounts.
        let account = Self {
            n: self.n % 300,
            month: 0,
            rng: Rng::new(),
        }
        .id("acct", 16, false);
        self.event(kind, &account, &object, previous)
    }

    fn connected(&mut self) -> Value {
        let account = self.id("acct", 16, false);
        self.event(
            "account.application.authorized",
            &account,
            &json!({"id": "ca_1", "object": "application"}),
            None,
        )
    }

    fn capability(&mut self, name: &str, status: &str) -> Value {
        let account = self.id("acct", 16, false);
        let previous = (status == "active").then(|| json!({"status": "pending"}));
        let object =
            json!({"id": name, "object": "capability", "account": account, "status": status});
        self.event("capability.updated", &account, &object, previous)
    }

    fn account(&mut self, state: &str) -> Value {
        let id = self.id("acct", 16, false);
        let (enabled, restricted) = (
            matches!(state, "enabled" | "restricted"),
            state == "restricted",
        );
        let nothing = json!([]);
        let due = match state {
            "begun" => json!([
                "business_type",
                "external_account",
                "representative.dob.day",
                "tos_acceptance.date"
            ]),
            "restricted" => json!(["company.verification.document"]),
            _ => json!([]),
        };
        let object = json!({
            "id": id, "object": "account", "country": "DE", "created": START_S, "charges_enabled": enabled,
            "payouts_enabled": enabled && !restricted, "details_submitted": state != "begun",
            "external_accounts": {"total_count": i32::from(state != "begun")},
            "requirements": {"currently_due": due, "past_due": if restricted { &due } else { &nothing },
                "disabled_reason": restricted.then_some("requirements.past_due")},
        });
        let previous = match state {
            "begun" => None,
            "submitted" => Some(
                json!({"details_submitted": false, "external_accounts": {"total_count": 0},
                "requirements": {"currently_due": ["business_type"], "eventually_due": ["business_type"]}}),
            ),
            "enabled" => Some(json!({"charges_enabled": false, "payouts_enabled": false,
                "requirements": {"pending_verification": ["representative.dob.day"]}})),
            "lost" => Some(json!({"charges_enabled": true, "payouts_enabled": true})),
            _ => Some(
                json!({"payouts_enabled": true, "requirements": {"currently_due": [], "past_due": [],
                "eventually_due": [], "disabled_reason": null}}),
            ),
        };
        self.event("account.updated", &id, &object, previous)
    }
}
