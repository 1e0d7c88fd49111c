//! A subscription: status, plan, monthly recurring revenue.

use serde::{Deserialize, Serialize};

use super::timeline::{Facts, Sighting, Timeline};
use super::words::SubscriptionStatus;
use super::{EntityKey, EntityKind, Transition, keep_greater, print};
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Counters};
use crate::money::Money;

/// A subscription as far as its events told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// `sub_…`
    #[serde(skip)]
    pub id: String,
    /// What never changes.
    pub origin: SubscriptionOrigin,
    /// What does.
    pub timeline: Timeline<SubscriptionFacts>,
}

/// Facts that Stripe never changes during a subscription's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionOrigin {
    /// The connected account it belongs to.
    pub account: Option<String>,
    /// `cus_…`
    pub customer: Option<String>,
    /// Lower case.
    pub currency: Option<String>,
}

/// One view of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionFacts {
    /// Stripe's status.
    pub status: SubscriptionStatus,
    /// The plan's configured name.
    pub plan: String,
    /// What its items come to per month if the status counts, in minor units.
    pub recurring_minor: i64,
    /// `cancel_at_period_end`
    pub cancel_at_period_end: bool,
    /// `cancel_at`, Unix seconds; flexible billing sets only this one.
    pub cancel_at_s: Option<i64>,
    /// `trial_end`, Unix seconds.
    pub trial_end_s: Option<i64>,
    /// Fingerprint of `items.data`, of which plan and amount are made.
    pub items_print: u32,
}

impl Subscription {
    /// Learns from one event.
    pub fn merge(&mut self, origin: &SubscriptionOrigin, sighting: Sighting<SubscriptionFacts>) {
        keep_greater(&mut self.origin.account, &origin.account);
        keep_greater(&mut self.origin.customer, &origin.customer);
        keep_greater(&mut self.origin.currency, &origin.currency);
        self.timeline.insert(sighting);
    }

    /// How it stands.
    pub fn current(&self) -> Option<&SubscriptionFacts> {
        self.timeline.last().map(|s| &s.facts)
    }

    /// Since when it has been past due without a break, and the event that said so.
    pub fn past_due_since(&self) -> Option<(i64, &str)> {
        let ordered = self.timeline.in_order();
        let run = ordered.iter().rev().take_while(|s| s.facts.status == SubscriptionStatus::PastDue);
        run.last().map(|s| (s.created_s, s.event_id.as_str()))
    }

    /// Monthly recurring revenue as Stripe defines it: active and past-due subscriptions count, a
    /// scheduled cancellation leaves at once.
    /// Source: <https://docs.stripe.com/billing/subscriptions/analytics>.
    pub fn mrr_minor(&self) -> i64 {
        self.current().filter(|f| f.in_base() && !f.cancel_scheduled()).map_or(0, |f| f.recurring_minor)
    }

    /// See [`super::Entity::contributions`].
    pub fn contributions(&self, counters: &mut Counters) {
        let ordered = self.timeline.in_order();
        let Some(last) = ordered.last() else { return };
        counters.add(Bucket::Standing, &["subscriptions", last.facts.status.label(), &last.facts.plan], 1);
        let mrr_minor = self.mrr_minor();
        if let Some(currency) = &self.origin.currency {
            counters.add(Bucket::Standing, &["mrr", currency], mrr_minor);
            if last.facts.status == SubscriptionStatus::PastDue {
                counters.add(Bucket::Standing, &["mrr_past_due", currency], mrr_minor);
            }
        }
        // How the active base and its past-due part change hour by hour. The level at the end of any
        // hour is today's level less the changes since: closed days can be judged at any later time.
        let mut before = (0, 0);
        for seen in &ordered {
            let now = (i64::from(seen.facts.in_base()), i64::from(seen.facts.status == SubscriptionStatus::PastDue));
            let hour = Bucket::hour_of(seen.created_s);
            counters.add(hour, &["base", "all"], now.0 - before.0);
            counters.add(hour, &["base", "past_due"], now.1 - before.1);
            before = now;
        }
        counters.add(Bucket::Standing, &["base", "all"], before.0);
        counters.add(Bucket::Standing, &["base", "past_due"], before.1);
    }

    /// See [`super::Entity::conditions`].
    pub fn conditions(&self) -> Vec<Condition> {
        let Some((since_s, event_id)) = self.past_due_since() else { return Vec::new() };
        // What is owed each month, even where a scheduled cancellation has taken it out of MRR.
        let owed = self.origin.currency.as_ref().zip(self.current());
        let money = owed.map(|(currency, facts)| Money::new(facts.recurring_minor, currency));
        vec![Condition {
            key: ConditionKey { kind: ConditionKind::PastDue, subject: self.key() },
            since_s,
            due_s: since_s,
            account: self.origin.account.clone(),
            money,
            detail: self.current().map(|f| format!("plan {}", f.plan)),
            event_id: event_id.to_owned(),
        }]
    }

    /// Every change of status, oldest first.
    pub fn transitions(&self) -> Vec<Transition> {
        let mut before: Option<&SubscriptionStatus> = None;
        let mut found = Vec::new();
        for seen in self.timeline.in_order() {
            let status = &seen.facts.status;
            if before != Some(status) {
                found.push(Transition {
                    at_s: seen.created_s,
                    event_id: seen.event_id.clone(),
                    what: format!("status {} → {status}", before.map_or("(new)", SubscriptionStatus::as_str)),
                    expected: is_expected(before, status),
                });
            }
            before = Some(status);
        }
        found
    }

    fn key(&self) -> EntityKey {
        EntityKey::new(EntityKind::Subscription, &self.id)
    }
}

/// The moves that K3 expects. Any other that Stripe reports is applied as well, and flagged.
pub fn is_expected(from: Option<&SubscriptionStatus>, to: &SubscriptionStatus) -> bool {
    use SubscriptionStatus::{Active, Canceled, PastDue, Trialing};
    match (from, to) {
        (None, Trialing | Active) => true,
        (Some(from), to) => matches!(
            (from, to),
            (Trialing, Active | Canceled) | (Active, PastDue | Canceled) | (PastDue, Active | Canceled)
        ),
        (None, _) => false,
    }
}

impl SubscriptionFacts {
    /// Whether it is part of the active base: active or past due. Trials are not.
    pub fn in_base(&self) -> bool {
        matches!(self.status, SubscriptionStatus::Active | SubscriptionStatus::PastDue)
    }

    /// Whether its end is decided, in either of Stripe's two forms.
    pub fn cancel_scheduled(&self) -> bool {
        self.cancel_at_period_end || self.cancel_at_s.is_some()
    }
}

impl Facts for SubscriptionFacts {
    /// `incomplete` is only ever a beginning; what is terminal is left by nothing; the rest comes and goes.
    fn progress(&self) -> u64 {
        match self.status {
            SubscriptionStatus::Incomplete => 0,
            SubscriptionStatus::Canceled | SubscriptionStatus::IncompleteExpired => 2,
            _ => 1,
        }
    }

    fn fields(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("status", print(self.status.as_str())),
            ("cancel_at_period_end", print(self.cancel_at_period_end)),
            ("cancel_at", print(self.cancel_at_s)),
            ("trial_end", print(self.trial_end_s)),
            ("items.data", self.items_print),
        ]
    }
}
