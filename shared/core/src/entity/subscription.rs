//! A subscription: status, plan, monthly recurring revenue.

mod contributions;
mod level;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::application_ids::ApplicationIds;
use super::events::{EventRef, event_refs};
use super::key::EntityKey;
use super::kind::EntityKind;
use super::mention::{Mention, unanswered};
use super::merge::{keep_greater, keep_smaller};
use super::recurring::{
    Charges, INVOICES_LOOKED_UP, Known, KnownDiscounts, KnownTaxes, Monthly, MrrUnknown,
};
use super::state::EntityState;
use super::stripe_enums::SubscriptionStatus;
use super::timeline::{Before, Facts, RecordedState, Timeline, fingerprint, value_fingerprint};
use super::transition::{Transition, beginning};
use crate::amounts::UncertainMoney;
use crate::class::{Class, Owner};
use crate::condition::{Condition, ConditionKey, ConditionKind};
use crate::counters::{Bucket, Tally};
use crate::money::Money;
use crate::realm::Realm;

/// The state of a subscription, as known from its events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// `sub_…`
    #[serde(skip)]
    pub id: String,
    /// Facts that never change.
    pub origin: SubscriptionOrigin,
    /// The recorded states.
    pub timeline: Timeline<SubscriptionFacts>,
    /// Which of the platform's own Stripe accounts it is of; unknown of what earlier versions stored.
    #[serde(default)]
    pub realm: Option<Realm>,
    /// The newest thin event that names it.
    #[serde(default)]
    pub mention: Option<Mention>,
}

/// Facts that Stripe never changes during a subscription's life, and the platform's own ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionOrigin {
    /// The connected account it belongs to.
    pub account: Option<String>,
    /// `cus_…`
    pub customer: Option<String>,
    /// Lower case.
    pub currency: Option<String>,
    /// Ids of the platform's own application, as the newest event shows them.
    #[serde(default)]
    pub ids: Option<ApplicationIds>,
    /// When it began: `start_date`, else `created` of the subscription itself, Unix seconds.
    #[serde(default)]
    pub started_s: Option<i64>,
    /// What any event showed of its discounts.
    #[serde(default)]
    pub discounts: KnownDiscounts,
    /// What its invoices showed of the tax of its items.
    #[serde(default)]
    pub taxes: KnownTaxes,
    /// Another customer that an event named: Stripe may name an account, then the customer that it has.
    #[serde(default)]
    pub former_customer: Option<String>,
}

/// The state of a subscription in one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SubscriptionFacts {
    /// Stripe's status.
    pub status: SubscriptionStatus,
    /// The plan's configured name.
    pub plan: String,
    /// The monthly sum of its items, whether or not the status counts, in minor units, if the event itself says
    /// it exactly.
    pub recurring_minor: Option<i64>,
    /// `cancel_at_period_end`
    pub cancel_at_period_end: bool,
    /// `cancel_at`, Unix seconds; flexible billing sets only this one.
    pub cancel_at_s: Option<i64>,
    /// `trial_end`, Unix seconds.
    pub trial_end_s: Option<i64>,
    /// Fingerprint of `items.data`, from which plan and amount are derived.
    pub items_fingerprint: u32,
    /// Fingerprints of `discount` and `discounts`, which reduce the amount.
    #[serde(default)]
    pub discount_fingerprints: (u32, u32),
    /// Why its part of MRR is not known: its items cannot be read, or whether they count.
    #[serde(default)]
    pub mrr_unknown: Option<MrrUnknown>,
    /// What is charged, unless `recurring_minor` says it.
    #[serde(default)]
    pub charges: Option<Box<Charges>>,
}

impl SubscriptionOrigin {
    pub(super) fn merge(&mut self, other: &Self) {
        keep_greater(&mut self.account, &other.account);
        self.merge_customers(other);
        keep_greater(&mut self.currency, &other.currency);
        keep_greater(&mut self.ids, &other.ids);
        self.discounts.merge(&other.discounts);
        self.taxes.merge(&other.taxes);
        if let Some(started_s) = other.started_s {
            keep_smaller(&mut self.started_s, started_s);
        }
    }

    /// Keeps the two greatest ids.
    fn merge_customers(&mut self, other: &Self) {
        let is_same = other.customer.is_none() || other.customer == self.customer;
        if is_same && other.former_customer.is_none() {
            return;
        }
        let of = |origin: &Self| [origin.customer.clone(), origin.former_customer.clone()];
        let all: BTreeSet<String> = [of(self), of(other)]
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let mut greatest_first = all.into_iter().rev();
        self.customer = greatest_first.next();
        self.former_customer = greatest_first.next();
    }
}

impl Subscription {
    /// Merges one event.
    pub fn merge(&mut self, origin: &SubscriptionOrigin, state: RecordedState<SubscriptionFacts>) {
        self.origin.merge(origin);
        self.timeline.insert(state);
    }

    /// See [`super::Entity::union`].
    pub(super) fn union(&mut self, other: &Self) {
        self.origin.merge(&other.origin);
        self.timeline.union(&other.timeline);
    }

    /// See [`super::Entity::decode`].
    pub(super) fn doubt_discounts(&mut self) {
        self.timeline
            .correct_facts(SubscriptionFacts::doubt_discounts);
    }

    /// The current state.
    pub fn current(&self) -> Option<&SubscriptionFacts> {
        self.timeline.last().map(|s| &*s.facts)
    }

    /// The start of the current unbroken past-due period, and the event that began it.
    pub fn past_due_since(&self) -> Option<(i64, &str)> {
        let first = self.past_due()?;
        Some((first.created_s, first.event_id.as_str()))
    }

    /// Since when it is canceled, in Unix seconds: as far as events are remembered.
    pub fn canceled_since_s(&self) -> Option<i64> {
        let is_so = |f: &SubscriptionFacts| f.status == SubscriptionStatus::Canceled;
        let first = self.timeline.since(is_so, |s| s.unchanged("status"))?;
        Some(first.created_s)
    }

    fn past_due(&self) -> Option<&RecordedState<SubscriptionFacts>> {
        let is_so = |f: &SubscriptionFacts| f.status == SubscriptionStatus::PastDue;
        self.timeline.since(is_so, |s| s.unchanged("status"))
    }

    /// The start of the current trial with its current end: one that is extended or cut short is due at
    /// another time since then.
    fn trial(&self) -> Option<&RecordedState<SubscriptionFacts>> {
        let end_s = self.current()?.trial_end_s;
        let is_so = |f: &SubscriptionFacts| {
            f.status == SubscriptionStatus::Trialing && f.trial_end_s == end_s
        };
        self.timeline
            .since(is_so, |s| s.all_unchanged(&["status", "trial_end"]))
    }

    /// What an event says that a field was before it. Another event may be the one that says when the
    /// subscription began, so this is known only of the merged state.
    fn before(&self, state: &RecordedState<SubscriptionFacts>, field: &str) -> Before {
        state.before_in_life(field, self.origin.started_s)
    }

    /// The status before an event, if the event says it.
    fn status_before(
        &self,
        state: &RecordedState<SubscriptionFacts>,
    ) -> Option<SubscriptionStatus> {
        match self.before(state, "status") {
            Before::Same => Some(state.facts.status.clone()),
            Before::Was(from) => SubscriptionStatus::with_fingerprint(from),
            Before::Nothing | Before::NotSaid | Before::Unknown => None,
        }
    }

    /// Current monthly recurring revenue; `None`: no event has shown a state.
    pub fn mrr(&self) -> Option<Monthly> {
        let mrr = self.current()?.mrr(self.recurring()?);
        let lacks_currency = self.origin.currency.is_none() && mrr.may_be_positive();
        Some(Monthly {
            reason: mrr
                .reason
                .or(lacks_currency.then_some(MrrUnknown::Currency)),
            ..mrr
        })
    }

    /// What it is charged each month at present, whether or not the status counts.
    pub fn recurring(&self) -> Option<Monthly> {
        let current = self.current()?;
        match current.recurring_minor {
            // Most often the newest event says it.
            Some(_) => Some(self.shown(current)),
            None => self.amounts(&self.timeline.in_order()).pop(),
        }
    }

    /// The coupons, by Stripe's id, that would make the amount of a state known. Those of past states are needed,
    /// too: whether they were when their event came depends on the order.
    pub fn coupons_needed(&self) -> BTreeSet<&str> {
        let states = self.timeline.in_order();
        let charges = states.iter().filter_map(|s| s.facts.charges.as_ref());
        charges
            .flat_map(|charges| charges.coupons_needed(&self.origin.discounts))
            .collect()
    }

    /// What a state shows of the amount each month.
    fn shown(&self, facts: &SubscriptionFacts) -> Monthly {
        let reason = facts.mrr_unknown;
        match (&facts.charges, facts.recurring_minor) {
            (Some(charges), _) => charges.monthly(&Known {
                discounts: &self.origin.discounts,
                taxes: &self.origin.taxes,
                currency: self.origin.currency.as_deref(),
            }),
            (None, Some(minor)) => Monthly::exactly(minor),
            (None, None) => Monthly::unknown(reason.unwrap_or(MrrUnknown::Amount)),
        }
    }

    /// The amount each month of every state. What an event lacks is as in the state before it if the event says
    /// that it did not change that, and as in an object that was fetched right after it. Tax is not among that: what
    /// is known of it is known of all states, and Stripe may begin to calculate it while nothing else changes.
    fn amounts(&self, ordered: &[&RecordedState<SubscriptionFacts>]) -> Vec<Monthly> {
        let mut amounts: Vec<_> = ordered.iter().map(|s| self.shown(&s.facts)).collect();
        let is_same = |i: usize| ordered[i].was_so_before(&AMOUNT_FIELDS);
        // Whether tax is computed automatically is no such field.
        let has_unknown_tax = |i: usize| {
            let charges = ordered[i].facts.charges.as_ref();
            charges.is_some_and(|charges| charges.has_unknown_tax())
        };
        let is_lacking =
            |amounts: &[Monthly], i: usize| amounts[i].known().is_none() && !has_unknown_tax(i);
        for (before, i) in (1..amounts.len()).enumerate() {
            if is_lacking(&amounts, i) && is_same(i) {
                amounts[i] = amounts[before];
            }
        }
        for (before, i) in (1..amounts.len()).enumerate().rev() {
            let is_fetched = ordered[i].event_id.is_fetched();
            if is_lacking(&amounts, before) && (is_fetched || is_same(i)) {
                amounts[before] = amounts[i];
            }
        }
        amounts
    }

    /// The first state of those for which MRR is not exactly known, up to the current one, and why it is not.
    fn incomplete(&self) -> Option<(&RecordedState<SubscriptionFacts>, MrrUnknown)> {
        let reason = self.mrr()?.reason?;
        let ordered = self.timeline.in_order();
        let amounts = self.amounts(&ordered);
        let lacks_currency = reason == MrrUnknown::Currency;
        let is_so = |(state, amount): &(&&RecordedState<SubscriptionFacts>, Monthly)| {
            let mrr = state.facts.mrr(*amount);
            mrr.known().is_none() || lacks_currency && mrr.may_be_positive()
        };
        let newest_first = ordered.iter().zip(amounts).rev();
        let (first, _) = newest_first.take_while(is_so).last()?;
        Some((first, reason))
    }

    /// The first past state with a coupon that is not known. Whether it was the newest state when the coupon came depends
    /// on the order of events.
    fn coupon_needed(&self) -> Option<&RecordedState<SubscriptionFacts>> {
        let ordered = self.timeline.in_order();
        let (_, past) = ordered.split_last()?;
        let lacks_coupon = |state: &&&RecordedState<SubscriptionFacts>| {
            let charges = state.facts.charges.as_ref();
            charges.is_some_and(|it| !it.coupons_needed(&self.origin.discounts).is_empty())
        };
        past.iter().find(lacks_coupon).copied()
    }

    /// The newest invoice, if its tax counts and it has not shown it yet, and the first state that has it. While it
    /// does not say the tax of an item, as one of a proration, or a draft, also the ones before it that may say it.
    fn invoices_needed(&self) -> Option<(&RecordedState<SubscriptionFacts>, Vec<&str>)> {
        let charges = self.current().filter(|facts| facts.counts())?;
        let charges = charges.charges.as_ref()?;
        let newest = charges.latest_invoice.as_deref()?;
        let taxes = &self.origin.taxes;
        let mut invoices = vec![newest];
        let unsaid = charges.items_without_tax(taxes);
        for state in self.timeline.in_order().into_iter().rev() {
            let earlier = state.facts.charges.as_ref();
            let earlier = earlier.filter(|it| it.lines.iter().any(|line| line.is_one_of(&unsaid)));
            let Some(invoice) = earlier.and_then(|it| it.latest_invoice.as_deref()) else {
                continue;
            };
            if !invoices.contains(&invoice) && invoices.len() < INVOICES_LOOKED_UP {
                invoices.push(invoice);
            }
        }
        invoices.retain(|invoice| !taxes.is_of(invoice));
        if invoices.is_empty() {
            return None;
        }
        let is_so = |facts: &SubscriptionFacts| {
            let charges = facts.charges.as_ref();
            charges.is_some_and(|it| it.latest_invoice.as_deref() == Some(newest))
        };
        Some((self.timeline.since(is_so, |_| None)?, invoices))
    }
}

impl EntityState for Subscription {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        self.origin.account.as_ref().unwrap_or(&self.id)
    }

    fn account(&self) -> Option<&str> {
        self.origin.account.as_deref()
    }

    fn unanswered(&self) -> Option<&Mention> {
        unanswered(self.mention.as_ref(), self.timeline.newest_s())
    }

    fn class(&self) -> Class<'_> {
        Class::of(
            self.realm.as_ref(),
            Owner::of(self.origin.account.as_deref()),
        )
    }

    /// Events count in the hour in which they happened. The outcome of a start (did the past-due
    /// subscription recover, did the trial convert, was the downgraded one lost) counts in the hour
    /// of that start, next to its cohort.
    fn contributions(&self, tally: &mut Tally) {
        let ordered = self.timeline.in_order();
        let Some(last) = ordered.last() else { return };
        tally.add(
            Bucket::Current,
            &["subscriptions", last.facts.status.label(), &last.facts.plan],
            1,
        );
        if let Some(mrr) = self.mrr() {
            self.count_mrr(last.facts.status == SubscriptionStatus::PastDue, mrr, tally);
        }
        let amounts = self.amounts(&ordered);
        self.count_levels(&ordered, &amounts, tally);
        self.cohorts(&ordered, &amounts, tally);
    }

    fn conditions(&self) -> Vec<Condition> {
        let Some(facts) = self.current() else {
            return Vec::new();
        };
        // The amount owed each month, even if a scheduled cancellation removed it from MRR.
        let recurring = self.recurring();
        let currency = self.origin.currency.as_deref();
        let money = Money::known(recurring.and_then(Monthly::known), currency);
        let uncertain = |monthly| UncertainMoney::monthly(monthly, currency);
        let condition = |kind, first: &RecordedState<_>, began_before, due_s| Condition {
            key: ConditionKey {
                kind,
                subject: EntityKey::new(EntityKind::Subscription, &self.id),
            },
            since_s: first.created_s,
            began_before,
            due_s,
            account: self.origin.account.clone(),
            customer: self.origin.customer.clone(),
            realm: self.realm.clone().unwrap_or_default(),
            money: money.clone(),
            detail: Some(format!("plan {}", facts.plan)),
            event_id: first.event_id.to_string(),
            times: None,
            answer_by_s: None,
            trial_end_s: None,
            further_money: Vec::new(),
            uncertain: recurring.and_then(uncertain),
        };
        // Stripe says it when one of these changes: what does not say so is about something else.
        let began_before = |first, fields: &[&str]| {
            let was_so = |s: &RecordedState<_>| {
                let is_unsure = s.is_unsure(self.origin.started_s);
                is_unsure.then_some(true).or(s.all_unchanged(fields))
            };
            self.timeline.began_before(first, was_so)
        };
        let mut found = Vec::new();
        if let Some(first) = self.past_due() {
            found.push(condition(
                ConditionKind::PastDue,
                first,
                began_before(first, &["status"]),
                first.created_s,
            ));
        }
        if let (Some(first), Some(end_s)) = (self.trial(), facts.trial_end_s) {
            let due_s = end_s.saturating_sub(3 * DAY_S);
            let began_before = began_before(first, &["status", "trial_end"]);
            found.push(Condition {
                trial_end_s: Some(end_s),
                ..condition(ConditionKind::TrialEnding, first, began_before, due_s)
            });
        }
        if let Some((first, reason)) = self.incomplete() {
            found.push(Condition {
                money: None,
                uncertain: self.mrr().and_then(uncertain),
                detail: Some(reason.as_str().to_owned()),
                ..condition(ConditionKind::MrrIncomplete, first, None, first.created_s)
            });
        }
        if let Some(first) = self.coupon_needed() {
            found.push(Condition {
                money: None,
                uncertain: None,
                ..condition(ConditionKind::CouponNeeded, first, None, first.created_s)
            });
        }
        if let Some((first, invoices)) = self.invoices_needed() {
            found.push(Condition {
                money: None,
                uncertain: None,
                detail: Some(invoices.join(",")),
                ..condition(ConditionKind::InvoiceNeeded, first, None, first.created_s)
            });
        }
        found
    }

    /// Every change of status, plan and amount, and every scheduled cancellation, oldest first.
    fn transitions(&self) -> Vec<Transition> {
        let mut before: Option<(&SubscriptionFacts, Monthly)> = None;
        let mut found = Vec::new();
        let ordered = self.timeline.in_order();
        for (state, amount) in ordered.iter().zip(self.amounts(&ordered)) {
            let facts = &state.facts;
            let mut add = |what: String, expected| {
                found.push(Transition {
                    at_s: state.created_s,
                    event_id: state.event_id.clone(),
                    what,
                    expected,
                });
            };
            let status = match before {
                Some((before, _)) => Some(before.status.clone()),
                None => self.status_before(state),
            };
            if before.is_none() || status.as_ref() != Some(&facts.status) {
                let known = status.as_ref().filter(|status| **status != facts.status);
                let said = self.before(state, "status");
                let is_first_sight =
                    before.is_none() && matches!(said, Before::Same | Before::Unknown);
                let unknown = beginning(said);
                add(
                    format!(
                        "status {} → {}",
                        known.map_or(unknown, SubscriptionStatus::as_str),
                        facts.status
                    ),
                    is_first_sight || is_expected(known, &facts.status),
                );
            }
            if let Some((before, amount_before)) = before {
                let text = |minor: Option<i64>| {
                    let currency = self.origin.currency.as_deref().unwrap_or("");
                    let money = minor.map(|minor| Money::new(minor, currency).to_string());
                    money.unwrap_or_else(|| "unknown".to_owned())
                };
                let (old, new) = (amount_before.known(), amount.known());
                if (old, &before.plan) != (new, &facts.plan) {
                    let change = match old.zip(new) {
                        Some((old, new)) if new > old => "upgrade",
                        Some((old, new)) if new < old => "downgrade",
                        _ => "plan",
                    };
                    let (from, to) = (text(old), text(new));
                    add(
                        format!(
                            "{change} {} ({from} a month) → {} ({to})",
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
            before = Some((facts, amount));
        }
        found
    }

    fn events(&self) -> Vec<EventRef> {
        event_refs(&self.timeline, None)
    }
}

/// The fields that decide the amount each month.
const AMOUNT_FIELDS: [&str; 3] = ["items.data", "discount", "discounts"];

const DAY_S: i64 = 86_400;

/// Whether the status changed between two states that are neighbours: they differ, or the later event
/// says it. Of one second, both events may report one change.
fn has_changed(
    before: &RecordedState<SubscriptionFacts>,
    state: &RecordedState<SubscriptionFacts>,
) -> bool {
    before.facts.status != state.facts.status
        || before.created_s < state.created_s && state.unchanged("status") == Some(false)
}

/// The transitions that K3 expects. Any other that Stripe reports is applied too, and flagged.
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
    /// scheduled cancellation removes the amount immediately. `recurring` is what is charged each month.
    /// Source: <https://docs.stripe.com/billing/subscriptions/analytics/glossary>.
    pub fn mrr(&self, recurring: Monthly) -> Monthly {
        match self.mrr_unknown {
            _ if !self.counts() => Monthly::exactly(0),
            Some(reason @ MrrUnknown::Cancellation) => Monthly {
                low_minor: 0,
                reason: Some(reason),
                ..recurring
            },
            _ => recurring,
        }
    }

    /// Whether its amount is part of MRR.
    fn counts(&self) -> bool {
        self.in_base() && !self.cancel_scheduled()
    }

    /// Encodings before 4 left out discounts that an event names only by its id: the amount without them is a
    /// bound.
    fn doubt_discounts(&mut self) {
        let none = ["null", "[]"].map(fingerprint);
        let (one, list) = self.discount_fingerprints;
        let has_none = none.contains(&one) && none.contains(&list);
        if let Some(minor) = self.recurring_minor.take_if(|_| !has_none) {
            self.charges = Some(Box::new(Charges::with_unknown_discount(minor)));
        }
    }

    /// Whether it is part of the active base: active or past due. Trials are not.
    pub fn in_base(&self) -> bool {
        matches!(
            self.status,
            SubscriptionStatus::Active | SubscriptionStatus::PastDue
        )
    }

    /// Whether its cancellation is scheduled, in either of Stripe's two forms.
    pub fn cancel_scheduled(&self) -> bool {
        self.cancel_at_period_end || self.cancel_at_s.is_some()
    }
}

impl Facts for SubscriptionFacts {
    const FIELDS: &'static [&'static str] = &[
        "status",
        "cancel_at_period_end",
        "cancel_at",
        "trial_end",
        "items.data",
        "discount",
        "discounts",
    ];

    /// `incomplete` is only ever the start; terminal statuses are never left; the others can change
    /// back and forth.
    fn progress(&self) -> u64 {
        match self.status {
            SubscriptionStatus::Incomplete => 0,
            SubscriptionStatus::Canceled | SubscriptionStatus::IncompleteExpired => 2,
            _ => 1,
        }
    }

    fn value(&self, place: usize) -> u32 {
        match place {
            0 => value_fingerprint(self.status.as_str()),
            1 => value_fingerprint(self.cancel_at_period_end),
            2 => value_fingerprint(self.cancel_at_s),
            3 => value_fingerprint(self.trial_end_s),
            4 => self.items_fingerprint,
            5 => self.discount_fingerprints.0,
            _ => self.discount_fingerprints.1,
        }
    }
}
