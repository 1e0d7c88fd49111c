//! What a subscription adds to every sum: to MRR, to the active base, to cohorts, and to its customer.

use super::level::Level;
use super::{AMOUNT_FIELDS, DAY_S, Subscription, SubscriptionFacts, has_changed};
use crate::counters::{
    Bucket, MRR, MRR_INCOMPLETE, MRR_PAST_DUE, MRR_PAST_DUE_INCOMPLETE, Tally, UNKNOWN,
};
use crate::entity::recurring::Monthly;
use crate::entity::stripe_enums::SubscriptionStatus;
use crate::entity::subscribed::Subscribed;
use crate::entity::timeline::{Before, RecordedState, value_fingerprint};

impl Subscription {
    /// Whether one more event says the same as the newest one before, which says its amount: most often.
    pub fn only_repeats(&self, before: &Self) -> bool {
        let ends = before.timeline.last().zip(self.timeline.last());
        let more = self.timeline.len().checked_sub(before.timeline.len());
        more == Some(1)
            && self.origin.customer == before.origin.customer
            && self.origin.former_customer == before.origin.former_customer
            && ends.is_some_and(|(old, new)| {
                // Within one second, it may change the order of others.
                old.created_s < new.created_s
                    && old.facts == new.facts
                    && new.facts.recurring_minor.is_some()
            })
    }

    /// When it makes its customer a subscriber.
    pub fn subscribed(&self) -> Subscribed {
        let ordered = self.timeline.in_order();
        let Some(first) = ordered.first() else {
            return Subscribed::default();
        };
        let (before, levels) = self.levels(&ordered, &self.amounts(&ordered));
        let mut subscribed = Subscribed {
            may_have_paid: self.may_have_paid_before(first),
            at_first: before.is_paying(),
            changes_s: Vec::new(),
        };
        for (state, level) in ordered.iter().zip(&levels) {
            subscribed.add(level.is_subscribed(subscribed.pays()), state.created_s);
        }
        subscribed
    }

    /// The hourly changes of the active base, its past-due part and the paying subscriptions. The
    /// level at the end of any hour is the current level minus the changes since, so past days can
    /// be evaluated later.
    pub(super) fn count_levels(
        &self,
        ordered: &[&RecordedState<SubscriptionFacts>],
        amounts: &[Monthly],
        tally: &mut Tally,
    ) {
        let (mut before, levels) = self.levels(ordered, amounts);
        let mut was_subscribed = before.is_paying();
        for (state, level) in ordered.iter().zip(levels) {
            let currency = self.origin.currency.as_deref();
            before.change_to(&level, state.created_s, currency, tally);
            let is_subscribed = level.is_subscribed(was_subscribed);
            let is_lost = was_subscribed && !is_subscribed;
            let hour = Bucket::hour_of(state.created_s);
            tally.add(hour, &["subscriptions_lost"], is_lost.into());
            (before, was_subscribed) = (level, is_subscribed);
        }
        for (name, level) in before.counts() {
            tally.add(Bucket::Current, &["base", name], level);
        }
    }

    /// What it adds before the first of its states, and in each of them.
    ///
    /// A past state whose MRR is not exactly known changes nothing: it is neither gained nor lost.
    fn levels(
        &self,
        ordered: &[&RecordedState<SubscriptionFacts>],
        amounts: &[Monthly],
    ) -> (Level, Vec<Level>) {
        let [first, later @ ..] = ordered else {
            return (Level::NOTHING, Vec::new());
        };
        let mrr = |i: usize| ordered[i].facts.mrr(amounts[i]);
        let first_known = (0..ordered.len())
            .map(mrr)
            .find(|mrr| mrr.known().is_some());
        let first_mrr = first_known.unwrap_or_else(|| mrr(0));
        let before = if self.timeline.is_cut() {
            // Older states were dropped: the oldest remembered one is not a gain.
            Level::of(&first.facts, first_mrr)
        } else {
            self.level_before(first, first_mrr)
        };
        let last = later.len();
        let mut carried = before.mrr;
        let levels = ordered.iter().enumerate().map(|(i, state)| {
            let is_carried = i < last && mrr(i).known().is_none();
            if !is_carried {
                carried = mrr(i);
            }
            Level::of(&state.facts, carried)
        });
        let levels = levels.collect();
        (before, levels)
    }

    /// Whether it may have paid before the first event about it. One that was on trial before may have been active
    /// before that.
    fn may_have_paid_before(&self, first: &RecordedState<SubscriptionFacts>) -> bool {
        let before = self.before(first, "status");
        // `incomplete` is only ever the start.
        let is_beginning = matches!(before, Before::Nothing | Before::NotSaid)
            || self.status_before(first) == Some(SubscriptionStatus::Incomplete);
        self.timeline.is_cut() || !is_beginning
    }

    /// The level before the first event about it. What that does not say is taken to have been as in
    /// the event: the unknown is neither gained nor lost. `known` stands for an MRR that is not known.
    fn level_before(&self, first: &RecordedState<SubscriptionFacts>, known: Monthly) -> Level {
        let facts = &first.facts;
        let now = Level::of(facts, known);
        if matches!(
            self.before(first, "status"),
            Before::Nothing | Before::NotSaid
        ) {
            return Level::NOTHING;
        }
        let Some(status) = self.status_before(first) else {
            return now;
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
        let recurring = self.shown(facts);
        let mrr = match recurring.known() {
            // The amount before is unknown if the event changed it.
            Some(_) if before.counts() && !first.was_so_before(&AMOUNT_FIELDS) => now.mrr,
            Some(_) => before.mrr(recurring),
            None => known,
        };
        Level::of(&before, mrr)
    }

    /// The current MRR: its lower bound, how much more it may be, and why.
    pub(super) fn count_mrr(&self, is_past_due: bool, mrr: Monthly, tally: &mut Tally) {
        if let Some(reason) = mrr.reason {
            tally.add(Bucket::Current, &[MRR_INCOMPLETE, reason.as_str()], 1);
            let of_past_due = i64::from(is_past_due);
            tally.add(
                Bucket::Current,
                &[MRR_PAST_DUE_INCOMPLETE, reason.as_str()],
                of_past_due,
            );
        }
        let currency = self.origin.currency.as_deref();
        let (extra_minor, is_unbounded) = match currency {
            Some(_) => mrr.beyond_low(),
            None => (0, i64::from(mrr.may_be_positive())),
        };
        let low_minor = currency.map_or(0, |_| mrr.low_minor);
        let mut add = |families: [&str; 3]| {
            let amounts = [low_minor, extra_minor, is_unbounded];
            for (family, amount) in families.into_iter().zip(amounts) {
                let currency = currency.unwrap_or(UNKNOWN);
                tally.add(Bucket::Current, &[family, currency], amount);
            }
        };
        add(MRR);
        if is_past_due {
            add(MRR_PAST_DUE);
        }
    }

    pub(super) fn cohorts(
        &self,
        ordered: &[&RecordedState<SubscriptionFacts>],
        amounts: &[Monthly],
        tally: &mut Tally,
    ) {
        use SubscriptionStatus::{Active, PastDue, Trialing};
        let is_cut = self.timeline.is_cut();
        let has_changed =
            |i: usize| matches!(ordered[..=i], [.., before, state] if has_changed(before, state));
        for (i, state) in ordered.iter().enumerate() {
            let hour = Bucket::hour_of(state.created_s);
            let after = &ordered[i..][1..];
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
                let next = (i..ordered.len()).skip(1).find(|i| has_changed(*i));
                if next.map(|i| ordered[i]).is_some_and(|s| {
                    s.facts.status == Active
                        && s.created_s.saturating_sub(state.created_s) <= 7 * DAY_S
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
            let before = i.checked_sub(1);
            let before = before.filter(|b| ordered[*b].facts.in_base() && state.facts.in_base());
            let before_minor = before.and_then(|before| amounts[before].known());
            let Some((before, now)) = before_minor.zip(amounts[i].known()) else {
                continue;
            };
            if now > before {
                tally.add(hour, &["plan", "upgraded"], 1);
            } else if now < before {
                tally.add(hour, &["plan", "downgraded"], 1);
                let horizon_s = state.created_s.saturating_add(30 * DAY_S);
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
