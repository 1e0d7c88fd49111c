//! A subscription: status, plan, monthly recurring revenue.

use serde::{Deserialize, Serialize};

use super::application_ids::ApplicationIds;
use super::events::{EventRef, event_refs};
use super::key::EntityKey;
use super::kind::EntityKind;
use super::merge::{keep_greater, keep_smaller};
use super::state::EntityState;
use super::stripe_enums::SubscriptionStatus;
use super::timeline::{Before, Facts, RecordedState, Timeline, value_fingerprint};
use super::transition::{Transition, beginning};
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
}

/// The state of a subscription in one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SubscriptionFacts {
    /// Stripe's status.
    pub status: SubscriptionStatus,
    /// The plan's configured name.
    pub plan: String,
    /// The monthly sum of its items, whether or not the status counts, in minor units, if known.
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
    /// Why its part of MRR is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mrr_unknown: Option<MrrUnknown>,
}

/// The part of a subscription that could not be read, without which its part of MRR is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MrrUnknown {
    /// The list of its items.
    Items,
    /// An item, or its price.
    Price,
    /// The unit amount of a price.
    Amount,
    /// How many of an item.
    Quantity,
    /// A discount, or its coupon: for example one that a script computes.
    Coupon,
    /// Whether a cancellation is scheduled.
    Cancellation,
    /// The currency.
    Currency,
}

impl SubscriptionOrigin {
    fn merge(&mut self, other: &Self) {
        keep_greater(&mut self.account, &other.account);
        keep_greater(&mut self.customer, &other.customer);
        keep_greater(&mut self.currency, &other.currency);
        keep_greater(&mut self.ids, &other.ids);
        if let Some(started_s) = other.started_s {
            keep_smaller(&mut self.started_s, started_s);
        }
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

    /// The current state.
    pub fn current(&self) -> Option<&SubscriptionFacts> {
        self.timeline.last().map(|s| &*s.facts)
    }

    /// The start of the current unbroken past-due period, and the event that began it.
    pub fn past_due_since(&self) -> Option<(i64, &str)> {
        let first = self.past_due()?;
        Some((first.created_s, first.event_id.as_str()))
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

    /// Current monthly recurring revenue, if known.
    pub fn mrr_minor(&self) -> Option<i64> {
        self.current()?.mrr_minor().ok()
    }

    /// The hourly changes of the active base, its past-due part and the paying subscriptions. The
    /// level at the end of any hour is the current level minus the changes since, so past days can
    /// be evaluated later.
    ///
    /// A state of unknown MRR changes nothing: it is neither gained nor lost. While the current MRR
    /// is unknown, it is in no sum of MRR, so its earlier changes are not either.
    fn levels(&self, ordered: &[&RecordedState<SubscriptionFacts>], tally: &mut Tally) {
        let names = ["all", "past_due", "paying"];
        let Some(first) = ordered.first() else { return };
        let is_mrr_known = self.mrr_minor().is_some();
        let mut known_minor = ordered.iter().filter_map(|s| s.facts.mrr_minor().ok());
        let first_known_minor = known_minor.next().unwrap_or(0);
        let (mut before, mut mrr_before_minor) = if self.timeline.is_cut() {
            // Older states were dropped: the oldest remembered one is not a gain.
            first.facts.levels(first_known_minor)
        } else {
            self.levels_before(first, first_known_minor)
        };
        for state in ordered {
            let (now, mrr_minor) = state.facts.levels(mrr_before_minor);
            let hour = Bucket::hour_of(state.created_s);
            for i in 0..names.len() {
                tally.add(hour, &["base", names[i]], now[i] - before[i]);
            }
            if now[2] > before[2] {
                tally.add(hour, &["churn", "gained"], 1);
            } else if now[2] < before[2] {
                tally.add(hour, &["churn", "lost"], 1);
            }
            if let Some(currency) = self.origin.currency.as_ref().filter(|_| is_mrr_known) {
                let by_minor = mrr_minor - mrr_before_minor;
                tally.add(hour, &["mrr_change", currency], by_minor);
            }
            (before, mrr_before_minor) = (now, mrr_minor);
        }
        for i in 0..names.len() {
            tally.add(Bucket::Current, &["base", names[i]], before[i]);
        }
    }

    /// The levels before the first event about it. What that does not say is taken to have been as in
    /// the event: the unknown is neither gained nor lost. `known_minor` stands for an MRR that is not
    /// known.
    fn levels_before(
        &self,
        first: &RecordedState<SubscriptionFacts>,
        known_minor: i64,
    ) -> ([i64; 3], i64) {
        let facts = &first.facts;
        let (now, mrr_minor) = facts.levels(known_minor);
        if matches!(
            self.before(first, "status"),
            Before::Nothing | Before::NotSaid
        ) {
            return ([0; 3], 0);
        }
        let Some(status) = self.status_before(first) else {
            return (now, mrr_minor);
        };
        let at_period_end =
            first.flag_before("cancel_at_period_end", facts.cancel_at_period_end) == Some(true);
        let cancel_at_s = match first.before("cancel_at") {
            Before::Was(from) => (from != value_fingerprint(())).then_some(0),
            _ => facts.cancel_at_s,
        };
        let before = SubscriptionFacts {
            status,
            cancel_at_period_end: at_period_end,
            cancel_at_s,
            ..SubscriptionFacts::clone(facts)
        };
        let counted = before.in_base() && !before.cancel_scheduled();
        let (mut levels, mut mrr_before_minor) = before.levels(known_minor);
        if counted && !first.was_so_before(&["items.data", "discount", "discounts"]) {
            // The amount before is unknown.
            (levels[2], mrr_before_minor) = (now[2], mrr_minor);
        }
        (levels, mrr_before_minor)
    }

    fn cohorts(&self, ordered: &[&RecordedState<SubscriptionFacts>], tally: &mut Tally) {
        use SubscriptionStatus::{Active, PastDue, Trialing};
        let is_cut = self.timeline.is_cut();
        let has_changed = |i: usize| has_changed(ordered[i - 1], ordered[i]);
        for (i, state) in ordered.iter().enumerate() {
            let hour = Bucket::hour_of(state.created_s);
            let before = i.checked_sub(1).map(|i| &ordered[i].facts);
            let after = &ordered[i + 1..];
            let changed = if i > 0 {
                has_changed(i)
            } else {
                // What the first event does not say changed is no start.
                let before = self.before(state, "status");
                !is_cut && !matches!(before, Before::Same | Before::Unknown)
            };
            let entered = |status| state.facts.status == status && changed;
            if entered(PastDue) {
                tally.add(hour, &["dunning", "entered"], 1);
                // If the next change is another start, it recovered at an unknown time.
                let next = (i + 1..ordered.len()).find(|i| has_changed(*i));
                if next.map(|i| ordered[i]).is_some_and(|s| {
                    s.facts.status == Active && s.created_s - state.created_s <= 7 * DAY_S
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
            let before = before.filter(|b| b.in_base() && state.facts.in_base());
            let before_minor = before.and_then(|before| before.recurring_minor);
            let Some((before, now)) = before_minor.zip(state.facts.recurring_minor) else {
                continue;
            };
            if now > before {
                tally.add(hour, &["plan", "upgraded"], 1);
            } else if now < before {
                tally.add(hour, &["plan", "downgraded"], 1);
                let horizon_s = state.created_s + 30 * DAY_S;
                if after
                    .iter()
                    .any(|s| s.created_s <= horizon_s && !s.facts.in_base())
                {
                    tally.add(hour, &["plan", "downgraded_lost_30d"], 1);
                }
            }
        }
    }
}

impl EntityState for Subscription {
    fn set_key(&mut self, key: &EntityKey) {
        self.id.clone_from(&key.id);
    }

    fn partition_key(&self) -> &str {
        self.origin.account.as_ref().unwrap_or(&self.id)
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
        match (last.facts.mrr_minor(), self.origin.currency.as_deref()) {
            (Err(reason), _) => mrr_incomplete(tally, reason),
            (Ok(0), _) => {}
            (Ok(_), None) => mrr_incomplete(tally, MrrUnknown::Currency),
            (Ok(mrr_minor), Some(currency)) => {
                tally.add(Bucket::Current, &["mrr", currency], mrr_minor);
                if last.facts.status == SubscriptionStatus::PastDue {
                    tally.add(Bucket::Current, &["mrr_past_due", currency], mrr_minor);
                }
            }
        }
        self.levels(&ordered, tally);
        self.cohorts(&ordered, tally);
    }

    fn conditions(&self) -> Vec<Condition> {
        let Some(facts) = self.current() else {
            return Vec::new();
        };
        // The amount owed each month, even if a scheduled cancellation removed it from MRR.
        let money = Money::known(facts.recurring_minor, self.origin.currency.as_deref());
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
            found.push(condition(
                ConditionKind::TrialEnding,
                first,
                began_before(first, &["status", "trial_end"]),
                end_s.saturating_sub(3 * DAY_S),
            ));
        }
        found
    }

    /// Every change of status, plan and amount, and every scheduled cancellation, oldest first.
    fn transitions(&self) -> Vec<Transition> {
        let mut before: Option<&SubscriptionFacts> = None;
        let mut found = Vec::new();
        for state in self.timeline.in_order() {
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
                Some(before) => Some(before.status.clone()),
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
            if let Some(before) = before {
                let amount = |minor: Option<i64>| {
                    let currency = self.origin.currency.as_deref().unwrap_or("");
                    let money = minor.map(|minor| Money::new(minor, currency).to_string());
                    money.unwrap_or_else(|| "unknown".to_owned())
                };
                let (old, new) = (before.recurring_minor, facts.recurring_minor);
                if (old, &before.plan) != (new, &facts.plan) {
                    let change = match old.zip(new) {
                        Some((old, new)) if new > old => "upgrade",
                        Some((old, new)) if new < old => "downgrade",
                        _ => "plan",
                    };
                    let (from, to) = (amount(old), amount(new));
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
            before = Some(facts);
        }
        found
    }

    fn events(&self) -> Vec<EventRef> {
        event_refs(&self.timeline, None)
    }
}

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

/// MRR lacks a subscription that may count in it.
fn mrr_incomplete(tally: &mut Tally, reason: MrrUnknown) {
    tally.add(Bucket::Current, &["mrr_incomplete", reason.as_str()], 1);
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

impl MrrUnknown {
    /// The word that counters, metrics and JSON use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Price => "price",
            Self::Amount => "amount",
            Self::Quantity => "quantity",
            Self::Coupon => "coupon",
            Self::Cancellation => "cancellation",
            Self::Currency => "currency",
        }
    }
}

impl SubscriptionFacts {
    /// What counts at a moment: whether it is in the active base, past due and paying, and its
    /// monthly recurring revenue. If that is not known: `known_minor`.
    fn levels(&self, known_minor: i64) -> ([i64; 3], i64) {
        let past_due = self.status == SubscriptionStatus::PastDue;
        let mrr_minor = self.mrr_minor().unwrap_or(known_minor);
        let levels = [self.in_base(), past_due, mrr_minor > 0].map(i64::from);
        (levels, mrr_minor)
    }

    /// Monthly recurring revenue as Stripe defines it: active and past-due subscriptions count, a
    /// scheduled cancellation removes the amount immediately.
    /// Source: <https://docs.stripe.com/billing/subscriptions/analytics>.
    pub fn mrr_minor(&self) -> Result<i64, MrrUnknown> {
        match (self.mrr_unknown, self.recurring_minor) {
            _ if !self.in_base() || self.cancel_scheduled() => Ok(0),
            (None, Some(minor)) => Ok(minor),
            (Some(reason), _) => Err(reason),
            (None, None) => Err(MrrUnknown::Amount),
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
