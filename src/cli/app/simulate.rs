//! `revwatch app simulate`: an invented application, to see what revwatch makes of its events.

use std::io::Write as _;

use clap::Args;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::global_options::GlobalOptions;
use super::super::output;
use super::Destination;

/// Options of `app simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// How many providers register.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    providers: u32,
    /// Hours before now in which all happens.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=720))]
    hours: u32,
    /// Which application; default: another one each time. It is part of its ids.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the events, one per line, and post nothing.
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    to: Destination,
}

pub(super) async fn run(options: &GlobalOptions, args: &SimulateArgs) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut application = Application::new(seed, Timestamp::now(), args.hours);
    let events = application.events(args.providers);
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    if args.print {
        let mut out = output::stdout();
        for line in lines {
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    if !options.json {
        writeln!(output::stdout(), "seed {seed}: {} events", lines.len())?;
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    args.to.post(options, &lines).await
}

/// Makes events. What happens depends on the seed alone.
struct Application {
    rng: Rng,
    seed: u64,
    now: Timestamp,
    minutes: i64,
    events: Vec<(i64, Value)>,
}

const COUNTRIES: [&str; 4] = ["BR", "DE", "PT", "US"];
const SOURCES: [&str; 3] = ["google_ads", "referral", "partner"];
const ERRORS: [&str; 3] = [
    "country_unsupported",
    "account_invalid",
    "api_connection_error",
];
const TOPICS: [&str; 2] = ["billing", "blocked_access"];

impl Application {
    fn new(seed: u64, now: Timestamp, hours: u32) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            seed,
            now,
            minutes: i64::from(hours) * 60,
            events: Vec::new(),
        }
    }

    /// In the order in which they happen.
    fn events(&mut self, providers: u32) -> Vec<Value> {
        for number in 1..=providers {
            self.provider(number);
            if self.chance(25) {
                self.ticket(number);
            }
            if self.chance(50) {
                self.booking(number);
            }
        }
        self.events.sort_by_key(|(at, _)| *at);
        let events = self.events.drain(..);
        events.map(|(_, event)| event).collect()
    }

    fn provider(&mut self, number: u32) {
        let user = format!("user_{}_{number}", self.seed);
        let account = format!("acct_sim{}_{number}", self.seed);
        let country = *self.rng.choice(&COUNTRIES).unwrap_or(&"US");
        let source = *self.rng.choice(&SOURCES).unwrap_or(&"referral");
        let mut at = self.rng.i64(0..self.minutes);
        self.say(
            "provider.registered",
            at,
            &json!({"user": user, "country": country, "source": source}),
        );
        at += self.rng.i64(1..30);
        if self.chance(5) {
            let error = *self.rng.choice(&ERRORS).unwrap_or(&"unknown");
            self.say(
                "account.creation_failed",
                at,
                &json!({"user": user, "country": country, "error_code": error}),
            );
            return;
        }
        self.say(
            "account.created_by_user",
            at,
            &json!({"account": account, "user": user, "country": country, "source": source}),
        );
        let of = json!({"account": account, "user": user});
        if self.chance(4) {
            self.say("account_link.failed", at + 1, &of);
        }
        self.say("account_link.generated", at + 1, &of);
        at += self.rng.i64(2..180);
        if !self.chance(90) {
            return;
        }
        self.say("account_link.clicked", at, &of);
        if self.chance(60) {
            at += self.rng.i64(30..600);
            let minor = self.rng.i64(10..500) * 100;
            self.say(
                "job.paid",
                at,
                &json!({"account": account, "amount_minor": minor, "currency": "usd"}),
            );
        }
    }

    fn ticket(&mut self, number: u32) {
        let ticket = format!("T-{}-{number}", self.seed);
        let topic = *self.rng.choice(&TOPICS).unwrap_or(&"billing");
        let mut at = self.rng.i64(0..self.minutes);
        let customer = self.customer(number);
        self.say(
            "ticket.opened",
            at,
            &json!({"ticket": ticket, "customer": customer, "topic": topic}),
        );
        at += self.rng.i64(5..300);
        if self.chance(80) {
            self.say("ticket.responded", at, &json!({"ticket": ticket}));
            at += self.rng.i64(5..300);
            if self.chance(60) {
                self.say("ticket.closed", at, &json!({"ticket": ticket}));
            }
        }
    }

    fn booking(&mut self, number: u32) {
        let at = self.rng.i64(0..self.minutes);
        let minor = self.rng.i64(50..500);
        let (customer, id) = (
            self.customer(number),
            format!("booking_{}_{number}", self.seed),
        );
        self.say("usage.booking_fee", at, &json!({"customer": customer, "amount_minor": minor, "currency": "usd", "source_id": id}));
    }

    fn customer(&self, number: u32) -> String {
        format!("cus_sim{}_{}", self.seed, number % 7)
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(0..100) < percent
    }

    /// `at` counts minutes from the beginning. What has not happened yet is not said.
    fn say(&mut self, kind: &str, at: i64, data: &Value) {
        let ago = self.minutes - at;
        let id = Uuid::from_u128(self.rng.u128(..));
        let Ok(time) = self.now.checked_sub(SignedDuration::from_mins(ago)) else {
            return;
        };
        if ago < 0 {
            return;
        }
        let event = json!({
            "specversion": "1.0", "id": id.to_string(), "source": "/revwatch-simulation", "type": kind,
            "time": time.to_string(), "datacontenttype": "application/json", "data": data,
        });
        self.events.push((at, event));
    }
}

#[cfg(test)]
mod tests {
    use revwatch_core::app_event::AppEvent;

    use super::*;

    fn made(seed: u64) -> Vec<Value> {
        let now = "2026-01-31T12:00:00Z".parse().expect("a time");
        Application::new(seed, now, 48).events(200)
    }

    #[test]
    fn every_event_is_after_its_schema_and_a_seed_repeats_them() {
        let seed = fastrand::u64(..);
        let events = made(seed);
        assert_eq!(events, made(seed), "seed {seed}");
        assert_ne!(events, made(seed ^ 1), "seed {seed}");
        for event in &events {
            let body = event.to_string();
            let event =
                AppEvent::parse(body.as_bytes()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert!(event.subject.is_some(), "seed {seed}: {}", event.kind);
        }
        for kind in [
            "provider.registered",
            "account_link.clicked",
            "ticket.responded",
            "usage.booking_fee",
            "job.paid",
        ] {
            assert!(
                events.iter().any(|event| event["type"] == kind),
                "seed {seed}: {kind}"
            );
        }
    }
}
