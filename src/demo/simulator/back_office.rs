//! What the application of the simulated business has to say of the accounts and customers that Stripe's events show.
//!
//! Who does what follows from their numbers, so that every type occurs whatever the seed.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use serde_json::Value;

use super::account::Account;
use super::application::{Application, ERRORS, Provider, SOURCES, TOPICS, Ticket};
use super::event::SimEvent;
use super::market::Market;
use super::saas::{Customer, Saas};
use super::subscription::Status;

/// Follows the business.
pub struct BackOffice {
    application: Application,
    /// Apart from the one of Stripe's events, which are the same with and without an application.
    rng: Rng,
    /// How many accounts and customers it has seen.
    accounts: usize,
    customers: usize,
    /// Accounts that had a first job.
    paid: BTreeSet<usize>,
    /// Subscriptions whose declined card it has seen.
    declined: BTreeSet<String>,
    users: usize,
    tickets: usize,
    /// The status of each ticket, by what was said so far.
    statuses: BTreeMap<String, &'static str>,
}

const HOUR_S: i64 = 3600;

/// An account has one more job in one of this many steps.
const ONE_OF_JOBS: usize = 200;

impl BackOffice {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(!seed);
        Self {
            application: Application::new(rng.u64(..), "/demo"),
            rng,
            accounts: 0,
            customers: 0,
            paid: BTreeSet::new(),
            declined: BTreeSet::new(),
            users: 0,
            tickets: 0,
            statuses: BTreeMap::new(),
        }
    }

    /// What has happened until `now_s` and was not said before, oldest first.
    pub fn catch_up(&mut self, saas: &Saas, market: &Market, now_s: i64) -> Vec<SimEvent> {
        for (number, account) in market.accounts.iter().enumerate().skip(self.accounts) {
            self.joined(number, account, pace(account.created_s, now_s));
        }
        self.accounts = market.accounts.len();
        for (number, customer) in saas.customers.iter().enumerate().skip(self.customers) {
            self.subscribed(number, customer, pace(customer.since_s, now_s));
        }
        self.customers = saas.customers.len();
        for subscription in &saas.subscriptions {
            let is_declined = subscription.status == Status::PastDue;
            if is_declined && self.declined.insert(subscription.id.clone()) {
                let minute_s = pace(subscription.changed_s, now_s);
                let asked_s = subscription.changed_s + self.rng.i64(1..60) * minute_s;
                self.asked(&subscription.customer, asked_s, minute_s);
            }
        }
        for (index, account) in market.accounts.iter().enumerate() {
            if account.charges_enabled() && self.paid.insert(index) {
                self.first_job(account, now_s);
            }
        }
        self.another_job(market, now_s);
        let events = self.application.take(now_s);
        self.count_tickets(&events);
        events
    }

    /// The number of tickets by status.
    pub fn tickets(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for status in self.statuses.values() {
            *counts.entry(*status).or_default() += 1;
        }
        counts
    }

    /// A provider has a new account. Some had an error before, or with the link.
    fn joined(&mut self, number: usize, account: &Account, minute_s: i64) {
        let (id, created_s) = (account.id.as_str(), account.created_s);
        let user = self.user(account.country);
        let registered_s = created_s - self.rng.i64(10..30) * minute_s;
        self.application.registered(registered_s, &user);
        if number % 3 == 1 {
            let failed_s = created_s - self.rng.i64(1..9) * minute_s;
            let error = ERRORS[number % ERRORS.len()];
            self.application.creation_failed(failed_s, &user, error);
        }
        self.application.account_created(created_s, &user, id);
        if number % 5 == 2 {
            let error = ERRORS[number % ERRORS.len()];
            self.application.link_failed(created_s, &user, id, error);
        }
        let made_s = created_s + minute_s;
        self.application.link_generated(made_s, &user, id);
        // The form is submitted a quarter of an hour after the account was made.
        let clicked_s = created_s + self.rng.i64(2..14) * minute_s;
        self.application.link_clicked(clicked_s, &user, id);
        if number % 4 == 3 {
            let country = account.country;
            self.gave_up(created_s, country, (number % 8 == 7).then_some(minute_s));
        }
    }

    /// Another user registers and never has an account; some were refused one, so many seconds later.
    fn gave_up(&mut self, at_s: i64, country: &'static str, refused_after_s: Option<i64>) {
        let user = self.user(country);
        self.application.registered(at_s, &user);
        if let Some(after_s) = refused_after_s {
            let failed_s = at_s + after_s;
            self.application.creation_failed(failed_s, &user, ERRORS[0]);
        }
    }

    /// A customer pays fees for bookings, has members, or asks something.
    fn subscribed(&mut self, number: usize, customer: &Customer, minute_s: i64) {
        let Customer {
            id,
            currency,
            since_s,
        } = customer;
        let soon_s = since_s + self.rng.i64(5..600) * minute_s;
        if number.is_multiple_of(3) {
            let booking = format!("booking_{number}");
            let minor = self.rng.i64(50..500);
            let fee = (minor, *currency);
            self.application.booking_fee(soon_s, &booking, id, fee);
            if number.is_multiple_of(12) {
                let (later_s, fee) = (soon_s + 60 * minute_s, (minor + 20, *currency));
                self.application.booking_fee(later_s, &booking, id, fee);
            }
        }
        if number % 10 == 4 {
            let organization = format!("org_{number}");
            let user = format!("member_{number}");
            let roles = [Some("owner"), Some("broker"), None];
            // Some keep their first role, some get another one, some leave.
            for (role, step) in roles.into_iter().zip(0..=(number / 10 % 3)) {
                let at_s = since_s + i64::try_from(step).unwrap_or(0) * 60 * minute_s;
                self.application
                    .role_changed(at_s, &organization, &user, role);
            }
        }
        if number % 8 == 5 {
            self.asked(id, soon_s, minute_s);
        }
    }

    /// A customer opens a ticket. One in five waits for an answer.
    fn asked(&mut self, customer: &str, at_s: i64, minute_s: i64) {
        let number = self.tickets;
        self.tickets += 1;
        let ticket = Ticket {
            id: &format!("T-{}", 1001 + number),
            customer,
            topic: TOPICS[number % TOPICS.len()],
            steps: [2, 1, 2, 0, 1][number % 5],
        };
        self.application.ticket(at_s, minute_s, &ticket);
    }

    /// A while after it can take charges.
    fn first_job(&mut self, account: &Account, now_s: i64) {
        let at_s = account.created_s + self.rng.i64(60..600) * 60;
        self.job(account, at_s.min(now_s));
    }

    /// Now and then a provider is paid for another one.
    fn another_job(&mut self, market: &Market, now_s: i64) {
        let chosen = market.accounts.get(self.rng.usize(0..ONE_OF_JOBS));
        if let Some(account) = chosen.filter(|it| it.connected && it.charges_enabled()) {
            self.job(account, now_s);
        }
    }

    fn job(&mut self, account: &Account, at_s: i64) {
        let minor = self.rng.i64(10..500) * 100;
        self.application
            .job_paid(at_s, &account.id, minor, account.currency);
    }

    fn user(&mut self, country: &'static str) -> Provider {
        self.users += 1;
        Provider {
            user: format!("user_{}", self.users),
            country,
            source: SOURCES[self.users % SOURCES.len()],
        }
    }

    fn count_tickets(&mut self, events: &[SimEvent]) {
        for event in events {
            let status = match event.kind {
                "ticket.opened" => "unanswered",
                "ticket.responded" => "responded",
                "ticket.closed" => "closed",
                _ => continue,
            };
            let body: Value = serde_json::from_str(&event.body).unwrap_or_default();
            let ticket = body["data"]["ticket"].as_str().unwrap_or_default();
            self.statuses.insert(ticket.to_owned(), status);
        }
    }
}

/// How long a minute of a story is: of the past as long as one is, and now a second, because the demo is short.
fn pace(began_s: i64, now_s: i64) -> i64 {
    if began_s < now_s - HOUR_S { 60 } else { 1 }
}
