//! A user of the application who registered as a provider, and may get a connected account (C10, C11, C16).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::transitions;
use crate::class::{Class, Owner};
use crate::condition::Condition;
use crate::counters::{Bucket, Tally, UNKNOWN};
use crate::entity::events::EventRef;
use crate::entity::key::EntityKey;
use crate::entity::mention::Mention;
use crate::entity::reports::{Field, Reports, Step};
use crate::entity::signup::{Reached, Stage};
use crate::entity::state::EntityState;
use crate::entity::transition::Transition;
use crate::histogram;
use crate::realm::Realm;
use crate::view::column::{Column, Unit, column, time};
use crate::view::field::Columns;

/// A provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// The application's own id of the user.
    #[serde(skip)]
    pub id: String,
    /// The realm of the endpoint that its events came to.
    pub realm: Option<Realm>,
    /// What its events say.
    pub reports: Reports,
    /// How far each of its accounts has come, by `acct_…`, as relays say it: the newest one replaces what was known.
    #[serde(default)]
    accounts: BTreeMap<String, Reached>,
}

/// So many accounts of one provider are remembered: more is a mistake of the application.
const ACCOUNTS: usize = 100;

impl Provider {
    /// Replaces what is known of an account; `None`: it is another user's.
    pub(in crate::entity) fn set(&mut self, account: &str, reached: Option<&Reached>) {
        match reached {
            Some(reached) => drop(self.accounts.insert(account.to_owned(), reached.clone())),
            None => drop(self.accounts.remove(account)),
        }
        self.forget();
    }

    /// See [`crate::entity::Entity::union`]. Of an account that both know, what is greater.
    pub(in crate::entity) fn union(&mut self, other: &Self) {
        self.reports.union(&other.reports);
        for (account, reached) in &other.accounts {
            let kept = self.accounts.entry(account.clone()).or_default();
            if reached > kept {
                kept.clone_from(reached);
            }
        }
        self.forget();
    }

    fn forget(&mut self) {
        while self.accounts.len() > ACCOUNTS {
            self.accounts.pop_last();
        }
    }

    /// With any of its accounts.
    fn reached(&self) -> Reached {
        let mut reached = Reached::default();
        if let Some(registered_s) = self.registered_s() {
            reached.add(Stage::Registered, Some(registered_s));
        }
        for of_account in self.accounts.values() {
            reached.union(of_account);
        }
        reached
    }

    fn registered_s(&self) -> Option<i64> {
        self.reports.first_s(Step::Registered)
    }
}

impl EntityState for Provider {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        &self.id
    }

    fn account(&self) -> Option<&str> {
        None
    }

    fn unanswered(&self) -> Option<&Mention> {
        None
    }

    fn class(&self) -> Class<'_> {
        Class::of(self.realm.as_ref(), Owner::Platform)
    }

    fn contributions(&self, tally: &mut Tally) {
        for failed_s in self.reports.moments(Step::CreationFailed) {
            let minute = Bucket::minute_of(failed_s);
            tally.add(minute, &["account_creation_failures"], 1);
        }
        if let Some(registered_s) = self.registered_s() {
            tally.add(Bucket::Current, &["funnel", Stage::Registered.as_str()], 1);
            let country = self.reports.text(Field::Country).unwrap_or(UNKNOWN);
            let hour = Bucket::hour_of(registered_s);
            tally.add(hour, &["providers_registered", country], 1);
            add_signup(self, registered_s, tally);
            add_times(&self.reached(), tally);
        }
    }

    fn conditions(&self) -> Vec<Condition> {
        Vec::new()
    }

    fn transitions(&self) -> Vec<Transition> {
        transitions(&self.reports)
    }

    fn events(&self) -> Vec<EventRef> {
        EventRef::of_reports(&self.reports)
    }
}

impl Columns for Provider {
    const COLUMNS: &'static [Column<Self>] = &[
        column("id", Unit::Text, |p| json!(p.id)),
        column("country", Unit::Text, |p| {
            json!(p.reports.text(Field::Country))
        }),
        column("source", Unit::Text, |p| {
            json!(p.reports.text(Field::Source))
        }),
        column("registered_at", Unit::Time, |p| time(p.registered_s())),
        column("reached", Unit::Text, |p| {
            json!(p.reached().furthest().map(Stage::as_str))
        }),
        column("accounts", Unit::Text, |p| {
            let accounts: Vec<&str> = p.accounts.keys().map(String::as_str).collect();
            json!(Some(accounts.join(" ")).filter(|it| !it.is_empty()))
        }),
        column("account_created_at", Unit::Time, |p| {
            time(p.reached().at_s(Stage::AccountCreated))
        }),
        column("creation_failures", Unit::Count, |p| {
            json!(p.reports.moments(Step::CreationFailed).count())
        }),
        column("last_failure_at", Unit::Time, |p| {
            time(p.reports.last_s(Step::CreationFailed))
        }),
        column("error_code", Unit::Text, |p| {
            json!(p.reports.text(Field::ErrorCode))
        }),
        column("realm", Unit::Text, |p| {
            json!(p.realm.as_ref().map(Realm::as_str))
        }),
    ];

    fn details(&self) -> Value {
        json!({})
    }

    fn has_row(&self) -> bool {
        !self.reports.is_empty()
    }
}

/// It is in the cohort of the hour in which it registered, in every stage up to its furthest one.
fn add_signup(provider: &Provider, registered_s: i64, tally: &mut Tally) {
    let text = |field| provider.reports.text(field).unwrap_or(UNKNOWN);
    let (country, source) = (text(Field::Country), text(Field::Source));
    let furthest = provider.reached().furthest();
    for stage in Stage::ALL.into_iter().filter(|it| Some(*it) <= furthest) {
        let parts = ["signups", stage.as_str(), country, source];
        tally.add(Bucket::hour_of(registered_s), &parts, 1);
    }
}

/// How long each stage took from the one before it, in the hour in which it was reached. What was reached at an
/// unknown time is neither counted nor a start of the next.
fn add_times(reached: &Reached, tally: &mut Tally) {
    for pair in Stage::ALL.windows(2) {
        let [before, stage] = pair else { continue };
        let times = reached.at_s(*before).zip(reached.at_s(*stage));
        let Some((before_s, at_s)) = times else {
            continue;
        };
        let seconds = at_s.saturating_sub(before_s).max(0);
        let (hour, name) = (Bucket::hour_of(at_s), stage.as_str());
        tally.add(hour, &["signup_stage", name, "count"], 1);
        tally.add(hour, &["signup_stage", name, "seconds"], seconds);
        let bucket = histogram::bucket(seconds).to_string();
        tally.add(hour, &["signup_stage_bucket", name, &bucket], 1);
    }
}
