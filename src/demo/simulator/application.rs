//! The business's own application: what it says of providers, tickets and fees, as CloudEvents. `app simulate` invents a
//! business for it, [`super::back_office`] follows the one that Stripe's events show.

use fastrand::Rng;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::event::{Sender, SimEvent};

/// Makes events. What happens is decided by those who call it.
pub struct Application {
    rng: Rng,
    source: &'static str,
    /// In no order; some may not have happened yet.
    said: Vec<SimEvent>,
}

/// Someone who registers as a provider.
pub struct Provider {
    pub user: String,
    pub country: &'static str,
    pub source: &'static str,
}

/// A question to the support.
pub struct Ticket<'a> {
    pub id: &'a str,
    pub customer: &'a str,
    pub topic: &'a str,
    /// 0: no answer yet, 1: answered, 2: and closed.
    pub steps: usize,
}

/// Where users come from.
pub const SOURCES: [&str; 3] = ["google_ads", "referral", "partner"];

/// Why there is no account, or no link.
pub const ERRORS: [&str; 3] = [
    "country_unsupported",
    "account_invalid",
    "api_connection_error",
];

/// What tickets are about.
pub const TOPICS: [&str; 2] = ["billing", "blocked_access"];

impl Application {
    /// `source` names the program that says it.
    pub fn new(seed: u64, source: &'static str) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            source,
            said: Vec::new(),
        }
    }

    /// What has happened until `now_s` and was not taken before, oldest first.
    pub fn take(&mut self, now_s: i64) -> Vec<SimEvent> {
        let all = std::mem::take(&mut self.said);
        let (mut happened, later): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|event| event.created_s <= now_s);
        self.said = later;
        happened.sort_by_key(|event| event.created_s);
        happened
    }

    pub fn registered(&mut self, at_s: i64, who: &Provider) {
        let data = json!({"user": who.user, "country": who.country, "source": who.source});
        self.say("provider.registered", at_s, &data);
    }

    pub fn creation_failed(&mut self, at_s: i64, who: &Provider, error: &str) {
        let data = json!({"user": who.user, "country": who.country, "source": who.source, "error_code": error});
        self.say("account.creation_failed", at_s, &data);
    }

    pub fn account_created(&mut self, at_s: i64, who: &Provider, account: &str) {
        let data = json!({"account": account, "user": who.user, "country": who.country, "source": who.source});
        self.say("account.created_by_user", at_s, &data);
    }

    pub fn link_generated(&mut self, at_s: i64, who: &Provider, account: &str) {
        let data = json!({"account": account, "user": who.user});
        self.say("account_link.generated", at_s, &data);
    }

    pub fn link_clicked(&mut self, at_s: i64, who: &Provider, account: &str) {
        let data = json!({"account": account, "user": who.user});
        self.say("account_link.clicked", at_s, &data);
    }

    pub fn link_failed(&mut self, at_s: i64, who: &Provider, account: &str, error: &str) {
        let data = json!({"account": account, "user": who.user, "error_code": error});
        self.say("account_link.failed", at_s, &data);
    }

    pub fn job_paid(&mut self, at_s: i64, account: &str, minor: i64, currency: &str) {
        let data = json!({"account": account, "amount_minor": minor, "currency": currency});
        self.say("job.paid", at_s, &data);
    }

    /// A ticket, which a person may answer some minutes later, and may then close.
    pub fn ticket(&mut self, opened_s: i64, minute_s: i64, ticket: &Ticket<'_>) {
        let Ticket {
            id,
            customer,
            topic,
            ..
        } = ticket;
        let data = json!({"ticket": id, "customer": customer, "topic": topic});
        self.say("ticket.opened", opened_s, &data);
        let data = json!({"ticket": id});
        let (mut at_s, steps) = (opened_s, ["ticket.responded", "ticket.closed"]);
        for step in steps.into_iter().take(ticket.steps) {
            at_s += self.rng.i64(5..300) * minute_s;
            self.say(step, at_s, &data);
        }
    }

    /// Again with the same booking, it corrects the fee.
    pub fn booking_fee(
        &mut self,
        at_s: i64,
        booking: &str,
        customer: &str,
        (minor, currency): (i64, &str),
    ) {
        let data = json!({"customer": customer, "amount_minor": minor, "currency": currency, "source_id": booking});
        self.say("usage.booking_fee", at_s, &data);
    }

    /// Without a role, the user has left.
    pub fn role_changed(&mut self, at_s: i64, organization: &str, user: &str, role: Option<&str>) {
        let data = json!({"organization": organization, "user": user, "role": role});
        self.say("member.role_changed", at_s, &data);
    }

    fn say(&mut self, kind: &'static str, at_s: i64, data: &Value) {
        let id = Uuid::from_u128(self.rng.u128(..));
        let time = Timestamp::from_second(at_s).unwrap_or_default();
        let body = json!({
            "specversion": "1.0", "id": id.to_string(), "source": self.source, "type": kind,
            "time": time.to_string(), "datacontenttype": "application/json", "data": data,
        });
        self.said.push(SimEvent {
            sender: Sender::Application,
            kind,
            created_s: at_s,
            body: body.to_string(),
        });
    }
}
