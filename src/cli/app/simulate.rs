//! `revwatch app simulate`: an invented application, to see what revwatch makes of its events.

use std::io::Write as _;

use clap::Args;
use fastrand::Rng;
use jiff::Timestamp;

use super::super::global_options::GlobalOptions;
use super::super::output;
use super::Destination;
use crate::demo::simulator::{Application, ERRORS, Provider, SOURCES, TOPICS, Ticket};

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
    let lines = Business::new(seed, Timestamp::now(), args.hours).events(args.providers);
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

/// Invents a business. What happens depends on the seed alone.
struct Business {
    rng: Rng,
    seed: u64,
    began_s: i64,
    minutes: i64,
    application: Application,
}

const COUNTRIES: [&str; 4] = ["BR", "DE", "PT", "US"];
const MINUTE_S: i64 = 60;

impl Business {
    fn new(seed: u64, now: Timestamp, hours: u32) -> Self {
        let minutes = i64::from(hours) * 60;
        Self {
            rng: Rng::with_seed(seed),
            seed,
            began_s: now.as_second() - minutes * MINUTE_S,
            minutes,
            application: Application::new(seed, "/revwatch-simulation"),
        }
    }

    /// In the order in which they happen. What has not happened yet is not said.
    fn events(&mut self, providers: u32) -> Vec<String> {
        for number in 1..=providers {
            self.provider(number);
            if self.chance(25) {
                self.ticket(number);
            }
            if self.chance(50) {
                self.booking(number);
            }
            if self.chance(10) {
                self.member(number);
            }
        }
        let events = self
            .application
            .take(self.began_s + self.minutes * MINUTE_S);
        events.into_iter().map(|event| event.body).collect()
    }

    fn provider(&mut self, number: u32) {
        let account = format!("acct_sim{}_{number}", self.seed);
        let who = Provider {
            user: format!("user_{}_{number}", self.seed),
            country: self.any(&COUNTRIES),
            source: self.any(&SOURCES),
        };
        let mut at_s = self.moment();
        self.application.registered(at_s, &who);
        at_s += self.rng.i64(1..30) * MINUTE_S;
        if self.chance(5) {
            let error = self.any(&ERRORS);
            self.application.creation_failed(at_s, &who, error);
            return;
        }
        self.application.account_created(at_s, &who, &account);
        let made_s = at_s + MINUTE_S;
        if self.chance(4) {
            let error = self.any(&ERRORS);
            self.application.link_failed(made_s, &who, &account, error);
        }
        self.application.link_generated(made_s, &who, &account);
        at_s += self.rng.i64(2..180) * MINUTE_S;
        if !self.chance(90) {
            return;
        }
        self.application.link_clicked(at_s, &who, &account);
        if self.chance(60) {
            at_s += self.rng.i64(30..600) * MINUTE_S;
            let minor = self.rng.i64(10..500) * 100;
            self.application.job_paid(at_s, &account, minor, "usd");
        }
    }

    fn ticket(&mut self, number: u32) {
        let is_answered = self.chance(80);
        let ticket = Ticket {
            id: &format!("T-{}-{number}", self.seed),
            customer: &self.customer(number),
            topic: self.any(&TOPICS),
            steps: usize::from(is_answered) + usize::from(is_answered && self.chance(60)),
        };
        let opened_s = self.moment();
        self.application.ticket(opened_s, MINUTE_S, &ticket);
    }

    fn booking(&mut self, number: u32) {
        let (at_s, minor) = (self.moment(), self.rng.i64(50..500));
        let booking = format!("booking_{}_{number}", self.seed);
        let customer = self.customer(number);
        self.application
            .booking_fee(at_s, &booking, &customer, (minor, "usd"));
    }

    fn member(&mut self, number: u32) {
        let organization = format!("org_{}_{}", self.seed, number % 7);
        let user = format!("user_{}_{number}", self.seed);
        let at_s = self.moment();
        self.application
            .role_changed(at_s, &organization, &user, Some("broker"));
        if self.chance(30) {
            let left_s = at_s + self.rng.i64(60..600) * MINUTE_S;
            self.application
                .role_changed(left_s, &organization, &user, None);
        }
    }

    fn customer(&self, number: u32) -> String {
        format!("cus_sim{}_{}", self.seed, number % 7)
    }

    /// Any minute of the time.
    fn moment(&mut self) -> i64 {
        self.began_s + self.rng.i64(0..self.minutes) * MINUTE_S
    }

    fn any(&mut self, of: &[&'static str]) -> &'static str {
        of[self.rng.usize(0..of.len())]
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(0..100) < percent
    }
}

#[cfg(test)]
mod tests {
    use revwatch_core::app_event::{AppEvent, TYPES};

    use super::*;

    fn made(seed: u64) -> Vec<String> {
        let now = "2026-01-31T12:00:00Z".parse().expect("a time");
        Business::new(seed, now, 48).events(400)
    }

    #[test]
    fn every_event_is_after_its_schema_and_a_seed_repeats_them() {
        let seed = fastrand::u64(..);
        let events = made(seed);
        assert_eq!(events, made(seed), "seed {seed}");
        assert_ne!(events, made(seed ^ 1), "seed {seed}");
        let read = |body: &String| {
            let event = AppEvent::parse(body.as_bytes());
            let event = event.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert!(event.subject.is_some(), "seed {seed}: {}", event.kind);
            (event.kind.into_owned(), event.time_ms)
        };
        let read: Vec<(String, i64)> = events.iter().map(read).collect();
        assert!(
            read.is_sorted_by_key(|(_, time_ms)| *time_ms),
            "seed {seed}"
        );
        for row in TYPES {
            let is_there = read.iter().any(|(kind, _)| kind == row.name);
            assert!(is_there, "seed {seed}: {}", row.name);
        }
    }
}
