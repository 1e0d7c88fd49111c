//! What the application of the same business says, in any order that is possible and some that is not, and what
//! revwatch must count of it. The model reads the list of events, and nothing of revwatch's code.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Events in the order in which they happened.
pub(crate) struct AppHistory {
    pub(crate) events: Vec<AppFact>,
}

/// One event.
pub(crate) struct AppFact {
    kind: &'static str,
    at_ms: i64,
    id: u64,
    data: Value,
}

/// Counters by the hour in which they count (`None`: now) and their name.
pub(crate) type AppCounts = BTreeMap<(Option<u32>, String), i64>;

/// The families of counters that [`AppHistory::expected`] covers.
pub(crate) const FAMILIES: [&str; 10] = [
    "tickets",
    "tickets_opened",
    "first_response",
    "booking_fees",
    "booking_fees_minor",
    "account_creation_failures",
    "account_link_failures",
    "members",
    "providers_registered",
    "funnel|provider_registered",
];

/// All types. None is more likely than another: a ticket may be closed before it is opened.
const KINDS: [&str; 12] = [
    "provider.registered",
    "account.created_by_user",
    "account.creation_failed",
    "account_link.generated",
    "account_link.clicked",
    "account_link.failed",
    "job.paid",
    "ticket.opened",
    "ticket.responded",
    "ticket.closed",
    "usage.booking_fee",
    "member.role_changed",
];

impl AppHistory {
    /// `count` events about the accounts and customers of [`super::History`] of this `size`, that end at `end_s`.
    pub(crate) fn new(seed: u64, size: usize, count: usize, end_s: i64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut at_ms = end_s * 1000;
        let mut events: Vec<AppFact> = (0..count)
            .map(|_| {
                // Often several in one second, and of the same time none: the model would have to know which counts.
                at_ms -= rng.i64(1..60_000) >> rng.u8(0..10);
                at_ms -= 1;
                let kind = KINDS[rng.usize(..KINDS.len())];
                AppFact {
                    kind,
                    at_ms,
                    id: rng.u64(..),
                    data: data(kind, size, &mut rng),
                }
            })
            .collect();
        events.reverse();
        Self { events }
    }

    /// As the application sends them.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.events.iter().map(AppFact::body).collect()
    }

    /// What must be counted at the end. A counter that is zero is not there.
    pub(crate) fn expected(&self) -> AppCounts {
        let mut counts = AppCounts::new();
        self.tickets(&mut counts);
        self.fees(&mut counts);
        self.failures(&mut counts);
        self.members(&mut counts);
        self.providers(&mut counts);
        counts.retain(|_, count| *count != 0);
        counts
    }

    /// The events of each object, oldest first.
    fn by<'a>(
        &'a self,
        field: &str,
        begin: &'a str,
    ) -> impl Iterator<Item = Vec<&'a AppFact>> + 'a {
        let mut objects: BTreeMap<String, Vec<&AppFact>> = BTreeMap::new();
        for event in self.events.iter().filter(|it| it.kind.starts_with(begin)) {
            let id = event.data[field].to_string();
            objects.entry(id).or_default().push(event);
        }
        objects.into_values()
    }

    fn tickets(&self, counts: &mut AppCounts) {
        for events in self.by("ticket", "ticket.") {
            let of = |kind: &'static str| events.iter().filter(move |it| it.kind == kind);
            let Some(opened) = of("ticket.opened").next() else {
                continue;
            };
            let response = of("ticket.responded").next();
            let last = |kind| of(kind).next_back().map(|it| it.at_ms);
            let is_closed = last("ticket.closed") > last("ticket.opened");
            let status = match (is_closed, response) {
                (true, _) => "closed",
                (false, Some(_)) => "responded",
                (false, None) => "unanswered",
            };
            add(counts, None, &format!("tickets|{status}"), 1);
            add(counts, Some(opened), "tickets_opened", 1);
            // One that came a minute or more before has no duration; clocks differ by less.
            let timely = response.filter(|it| it.at_s() - opened.at_s() >= -60);
            if let Some(response) = timely {
                let seconds = (response.at_s() - opened.at_s()).max(0);
                add(counts, Some(response), "first_response|count", 1);
                add(counts, Some(response), "first_response|seconds", seconds);
            }
        }
    }

    fn fees(&self, counts: &mut AppCounts) {
        for events in self.by("source_id", "usage.") {
            let newest = &events[events.len() - 1].data;
            let currency = newest["currency"].as_str().expect("a text").to_lowercase();
            let minor = newest["amount_minor"].as_i64().expect("a number");
            let charged = Some(events[0]);
            add(counts, charged, &format!("booking_fees|{currency}"), 1);
            let name = format!("booking_fees_minor|{currency}");
            add(counts, charged, &name, minor);
        }
    }

    fn failures(&self, counts: &mut AppCounts) {
        for event in &self.events {
            match event.kind {
                "account.creation_failed" => {
                    add(counts, Some(event), "account_creation_failures", 1);
                }
                "account_link.failed" => add(counts, Some(event), "account_link_failures", 1),
                _ => {}
            }
        }
    }

    fn members(&self, counts: &mut AppCounts) {
        // The organisation and the user together are one member.
        let mut roles: BTreeMap<String, &Value> = BTreeMap::new();
        let changes = self
            .events
            .iter()
            .filter(|it| it.kind.starts_with("member"));
        for AppFact { data, .. } in changes {
            let member = json!([data["organization"], data["user"]]).to_string();
            roles.insert(member, &data["role"]);
        }
        for role in roles.into_values() {
            let status = if role.is_null() { "left" } else { "member" };
            add(counts, None, &format!("members|{status}"), 1);
        }
    }

    fn providers(&self, counts: &mut AppCounts) {
        let of_providers = ["provider.registered", "account.creation_failed"];
        let users: BTreeSet<&str> = { self.events.iter() }
            .filter(|it| it.kind == "provider.registered")
            .filter_map(|it| it.data["user"].as_str())
            .collect();
        for user in users {
            let mut country = "unknown".to_owned();
            let mut registered = None;
            let of_user = self
                .events
                .iter()
                .filter(|it| of_providers.contains(&it.kind) && it.data["user"] == user);
            for event in of_user {
                if let Some(said) = event.data["country"].as_str() {
                    country = said.to_uppercase();
                }
                if event.kind == "provider.registered" {
                    registered = registered.or(Some(event));
                }
            }
            let name = format!("providers_registered|{country}");
            add(counts, registered, &name, 1);
            add(counts, None, "funnel|provider_registered", 1);
        }
    }
}

impl AppFact {
    fn at_s(&self) -> i64 {
        self.at_ms.div_euclid(1000)
    }

    fn body(&self) -> String {
        let time = Timestamp::from_millisecond(self.at_ms).expect("a time");
        let event = json!({"specversion": "1.0", "id": format!("{:016x}", self.id), "source": "/history",
            "type": self.kind, "time": time.to_string(), "data": self.data});
        event.to_string()
    }
}

fn add(counts: &mut AppCounts, event: Option<&AppFact>, name: &str, by: i64) {
    let hour = event.map(|it| u32::try_from(it.at_s() / 3600).expect("after 1970"));
    *counts.entry((hour, name.to_owned())).or_default() += by;
}

/// What an event of a type says. What is optional is often null or not there.
fn data(kind: &str, size: usize, rng: &mut Rng) -> Value {
    let mut any = |prefix: &str, count: usize| format!("{prefix}{}", rng.usize(..count));
    let (user, customer) = (any("user_", 5), any("cus_", size));
    // History has an account for every fourth of its numbers.
    let account = format!("acct_{}", 4 * rng.usize(..size.div_ceil(4)));
    let optional = |value: &str, rng: &mut Rng| match rng.u8(..3) {
        0 => Value::Null,
        _ => json!(value),
    };
    let country = ["de", "DE", "BR"][rng.usize(..3)];
    let mut data = match kind {
        "provider.registered" => json!({"user": user, "source": optional("referral", rng)}),
        "account.created_by_user" => json!({"account": account, "user": user}),
        "account.creation_failed" => json!({"user": user, "error_code": "country_unsupported"}),
        "account_link.failed" => {
            json!({"account": account, "user": user, "error_code": optional("expired", rng)})
        }
        "account_link.generated" | "account_link.clicked" => {
            json!({"account": account, "user": user})
        }
        "job.paid" => {
            json!({"account": account, "amount_minor": rng.i64(0..1_000), "currency": "usd"})
        }
        "ticket.opened" => {
            json!({"ticket": format!("T-{}", rng.u8(..9)), "customer": customer, "topic": "billing"})
        }
        "usage.booking_fee" => {
            let currency = ["usd", "USD", "eur"][rng.usize(..3)];
            json!({"source_id": format!("booking_{}", rng.u8(..9)), "customer": customer,
                "amount_minor": rng.i64(0..1_000), "currency": currency})
        }
        "member.role_changed" => {
            json!({"organization": format!("org/{}", rng.u8(..3)), "user": user, "role": optional("broker", rng)})
        }
        _ => json!({"ticket": format!("T-{}", rng.u8(..9))}),
    };
    let says_country = matches!(
        kind,
        "provider.registered" | "account.created_by_user" | "account.creation_failed"
    );
    if says_country && rng.bool() {
        data["country"] = optional(country, rng);
    }
    data
}
