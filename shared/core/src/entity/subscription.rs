//! A subscription: status, plan, monthly recurring revenue.

use serde::{Deserialize, Serialize};

use super::stripe_enums::SubscriptionStatus;
use super::timeline::{Facts, RecordedState, Timeline};
use super::{EntityKey, EntityKind, Transition, keep_greater, value_fingerprint};
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Tally};
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
    /// Fingerprints of `discount` and `discounts`, which take from the amount.
    #[serde(default)]
    pub discount_prints: (u32, u32),
}

impl Subscription {
    /// Learns from one event.
    pub fn merge(
        &mut self,
        origin: &SubscriptionOrigin,
        sighting: RecordedState<SubscriptionFacts>,
    ) {
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
        let first = self
            .timeline
            .since(|f| f.status == SubscriptionStatus::PastDue)?;
        Some((first.created_s, first.event_id.as_str()))
    }

    /// Monthly recurring revenue now.
    pub fn mrr_minor(&self) -> i64 {
        self.current().map_or(0, SubscriptionFacts::mrr_minor)
    }

    /// See [`super::Entity::contributions`].
    ///
    /// What happened counts in the hour in which it did; what is asked of a beginning (did the past-due
    /// one recover, did the trial convert, was the downgraded one lost) counts in the hour of that
    /// beginning, so that a cohort's answer stands beside the cohort.
    pub fn contributions(&self, tally: &mut Tally) {
        let ordered = self.timeline.in_order();
        let Some(last) = ordered.last() else { return };
        tally.add(
            Bucket::Current,
            &["subscriptions", last.facts.status.label(), &last.facts.plan],
            1,
        );
        if let Some(currency) = &self.origin.currency {
            let mrr_minor = last.facts.mrr_minor();
            tally.add(Bucket::Current, &["mrr", currency], mrr_minor);
            if last.facts.status == SubscriptionStatus::PastDue {
                tally.add(Bucket::Current, &["mrr_past_due", currency], mrr_minor);
            }
        }
        self.levels(&ordered, tally);
        self.cohorts(&ordered, tally);
    }

    /// How the active base, its past-due part and the paying ones change hour by hour. The level at the
    /// end of any hour is today's level less the changes since: closed days can be judged at any later
    /// time.
    fn levels(&self, ordered: &[&RecordedState<SubscriptionFacts>], tally: &mut Tally) {
        let mut before = [0_i64; 3];
        let names = ["all", "past_due", "paying"];
        let mut mrr_before_minor = 0;
        let level = |facts: &SubscriptionFacts| {
            let past_due = facts.status == SubscriptionStatus::PastDue;
            [facts.in_base(), past_due, facts.mrr_minor() > 0].map(i64::from)
        };
        if let Some(first) = ordered.first().filter(|_| self.timeline.is_cut()) {
            // It has been there before: its oldest view that is remembered gains nothing.
            (before, mrr_before_minor) = (level(&first.facts), first.facts.mrr_minor());
        }
        for seen in ordered {
            let facts = &seen.facts;
            let now = level(facts);
            let hour = Bucket::hour_of(seen.created_s);
            for i in 0..names.len() {
                tally.add(hour, &["base", names[i]], now[i] - before[i]);
            }
            if now[2] > before[2] {
                tally.add(hour, &["churn", "gained"], 1);
            } else if now[2] < before[2] {
                tally.add(hour, &["churn", "lost"], 1);
            }
            if let Some(currency) = &self.origin.currency {
                tally.add(
                    hour,
                    &["mrr_change", currency],
                    facts.mrr_minor() - mrr_before_minor,
                );
            }
            (before, mrr_before_minor) = (now, facts.mrr_minor());
        }
        for i in 0..names.len() {
            tally.add(Bucket::Current, &["base", names[i]], before[i]);
        }
    }

    fn cohorts(&self, ordered: &[&RecordedState<SubscriptionFacts>], tally: &mut Tally) {
        use SubscriptionStatus::{Active, PastDue, Trialing};
        let is_cut = self.timeline.is_cut();
        for (i, seen) in ordered.iter().enumerate() {
            let hour = Bucket::hour_of(seen.created_s);
            let before = i.checked_sub(1).map(|i| &ordered[i].facts);
            let after = &ordered[i + 1..];
            let entered = |status| {
                seen.facts.status == status && before.map_or(!is_cut, |b| b.status != status)
            };
            if entered(PastDue) {
                tally.add(hour, &["dunning", "entered"], 1);
                let left = after.iter().find(|s| s.facts.status != PastDue);
                if left.is_some_and(|s| {
                    s.facts.status == Active && s.created_s - seen.created_s <= 7 * DAY_S
                }) {
                    tally.add(hour, &["dunning", "recovered_7d"], 1);
                }
            }
            if entered(Trialing) {
                tally.add(hour, &["trial", "started"], 1);
                if after.iter().any(|s| s.facts.status == Active) {
                    tally.add(hour, &["trial", "converted"], 1);
                }
            }
            let Some(before) = before.filter(|b| b.in_base() && seen.facts.in_base()) else {
                continue;
            };
            if seen.facts.recurring_minor > before.recurring_minor {
                tally.add(hour, &["plan", "upgraded"], 1);
            } else if seen.facts.recurring_minor < before.recurring_minor {
                tally.add(hour, &["plan", "downgraded"], 1);
                let horizon_s = seen.created_s + 30 * DAY_S;
                if after
                    .iter()
                    .any(|s| s.created_s <= horizon_s && !s.facts.in_base())
                {
                    tally.add(hour, &["plan", "downgraded_lost_30d"], 1);
                }
            }
        }
    }

    /// See [`super::Entity::conditions`].
    pub fn conditions(&self) -> Vec<Condition> {
        let Some(facts) = self.current() else {
            return Vec::new();
        };
        // What is owed each month, even where a scheduled cancellation has taken it out of MRR.
        let currency = self.origin.currency.as_ref();
        let money = currency.map(|currency| Money::new(facts.recurring_minor, currency));
        let condition = |kind, (since_s, event_id): (i64, &str), due_s| Condition {
            key: ConditionKey {
                kind,
                subject: EntityKey::new(EntityKind::Subscription, &self.id),
            },
            since_s,
            due_s,
            account: self.origin.account.clone(),
            customer: self.origin.customer.clone(),
            money: money.clone(),
            detail: Some(format!("plan {}", facts.plan)),
            event_id: event_id.to_owned(),
        };
        let mut found = Vec::new();
        if let Some(since) = self.past_due_since() {
            found.push(condition(ConditionKind::PastDue, since, since.0));
        }
        let trial = self
            .timeline
            .since(|f| f.status == SubscriptionStatus::Trialing);
        if let (Some(first), Some(end_s)) = (trial, facts.trial_end_s) {
            let since = (first.created_s, first.event_id.as_str());
            found.push(condition(
                ConditionKind::TrialEnding,
                since,
                end_s.saturating_sub(3 * DAY_S),
            ));
        }
        found
    }

    /// Every change of status, plan and amount, and every scheduled end, oldest first.
    pub fn transitions(&self) -> Vec<Transition> {
        let mut before: Option<&SubscriptionFacts> = None;
        let mut found = Vec::new();
        for seen in self.timeline.in_order() {
            let facts = &seen.facts;
            let mut add = |what: String, expected| {
                found.push(Transition {
                    at_s: seen.created_s,
                    event_id: seen.event_id.clone(),
                    what,
                    expected,
                });
            };
            let status = before.map(|b| &b.status);
            if status != Some(&facts.status) {
                let from = status.map_or("(new)", SubscriptionStatus::as_str);
                add(
                    format!("status {from} → {}", facts.status),
                    is_expected(status, &facts.status),
                );
            }
            if let Some(before) = before {
                let amount = |minor| {
                    Money::new(minor, self.origin.currency.as_deref().unwrap_or("")).to_string()
                };
                let (old, new) = (before.recurring_minor, facts.recurring_minor);
                if (old, &before.plan) != (new, &facts.plan) {
                    let word = if new > old { "upgrade" } else { "downgrade" };
                    let word = if new == old { "plan" } else { word };
                    let (from, to) = (amount(old), amount(new));
                    add(
                        format!(
                            "{word} {} ({from} a month) → {} ({to})",
                            before.plan, facts.plan
                        ),
                        true,
                    );
                }
                if before.cancel_scheduled() != facts.cancel_scheduled() {
                    let what = if facts.cancel_scheduled() {
                        "cancellation scheduled"
                    } else {
                        "cancellation withdrawn"
                    };
                    add(what.to_owned(), true);
                }
            }
            before = Some(facts);
        }
        found
    }
}

const DAY_S: i64 = 86_400;

/// The moves that K3 expects. Any other that Stripe reports is applied as well, and flagged.
pub fn is_expected(from: Option<&SubscriptionStatus>, to: &SubscriptionStatus) -> bool {
    use SubscriptionStatus::{Active, Canceled, PastDue, Trialing};
    match (from, to) {
        (None, Trialing | Active) => true,
        (Some(from), to) => matches!(
            (from, to),
            (Trialing, Active | Canceled)
                | (Active, PastDue | Canceled)
                | (PastDue, Active | Canceled)
        ),
        (None, _) => false,
    }
}

impl SubscriptionFacts {
    /// Monthly recurring revenue as Stripe defines it: active and past-due subscriptions count, a
    /// scheduled cancellation leaves at once.
    /// Source: <https://docs.stripe.com/billing/subscriptions/analytics>.
    pub fn mrr_minor(&self) -> i64 {
        if self.in_base() && !self.cancel_scheduled() {
            self.recurring_minor
        } else {
            0
        }
    }

    /// Whether it is part of the active base: active or past due. Trials are not.
    pub fn in_base(&self) -> bool {
        matches!(
            self.status,
            SubscriptionStatus::Active | SubscriptionStatus::PastDue
        )
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
            ("status", value_fingerprint(self.status.as_str())),
            (
                "cancel_at_period_end",
                value_fingerprint(self.cancel_at_period_end),
            ),
            ("cancel_at", value_fingerprint(self.cancel_at_s)),
            ("trial_end", value_fingerprint(self.trial_end_s)),
            ("items.data", self.items_print),
            ("discount", self.discount_prints.0),
            ("discounts", self.discount_prints.1),
        ]
    }
}
