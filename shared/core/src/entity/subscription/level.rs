//! What a subscription adds to the active base, to MRR and to churn from one state to the next.

use super::SubscriptionFacts;
use crate::counters::{Bucket, Tally};
use crate::entity::recurring::Monthly;
use crate::entity::stripe_enums::SubscriptionStatus;

/// What counts at a moment.
pub(super) struct Level {
    in_base: bool,
    past_due: bool,
    is_paused: bool,
    pub(super) mrr: Monthly,
}

impl Level {
    pub(super) const NOTHING: Self = Self {
        in_base: false,
        past_due: false,
        is_paused: false,
        mrr: Monthly::exactly(0),
    };

    pub(super) fn of(facts: &SubscriptionFacts, mrr: Monthly) -> Self {
        Self {
            in_base: facts.in_base(),
            past_due: facts.status == SubscriptionStatus::PastDue,
            is_paused: facts.status == SubscriptionStatus::Paused,
            mrr,
        }
    }

    pub(super) fn counts(&self) -> [(&'static str, i64); 3] {
        [
            ("all", self.in_base.into()),
            ("past_due", self.past_due.into()),
            ("paying", self.mrr.may_be_positive().into()),
        ]
    }

    pub(super) fn change_to(
        &self,
        now: &Self,
        at_s: i64,
        currency: Option<&str>,
        tally: &mut Tally,
    ) {
        let hour = Bucket::hour_of(at_s);
        for ((name, before), (_, now)) in self.counts().into_iter().zip(now.counts()) {
            tally.add(hour, &["base", name], now - before);
        }
        let Some(currency) = currency else { return };
        let by_minor = now.mrr.low_minor - self.mrr.low_minor;
        let minute = Bucket::minute_of(at_s);
        tally.add(minute, &["mrr_change", currency], by_minor);
        let ((extra, unbounded), (new_extra, new_unbounded)) =
            (self.mrr.beyond_low(), now.mrr.beyond_low());
        tally.add(minute, &["mrr_extra_change", currency], new_extra - extra);
        let by = new_unbounded - unbounded;
        tally.add(minute, &["mrr_unbounded_change", currency], by);
    }
}

/// Whether the customer is subscribed: the subscription pays, or it paid before it was paused. A subscription that
/// pays again does not count as new: one whose cancellation was withdrawn, for example.
/// Source: <https://docs.stripe.com/billing/subscriptions/analytics/glossary>.
pub(super) struct Churn {
    is_subscribed: bool,
    has_paid: bool,
}

impl Churn {
    /// From a level on.
    pub(super) fn since(level: &Level, may_have_paid: bool) -> Self {
        let is_subscribed = level.mrr.may_be_positive();
        Self {
            is_subscribed,
            has_paid: is_subscribed || may_have_paid,
        }
    }

    pub(super) fn change_to(&mut self, now: &Level, at_s: i64, tally: &mut Tally) {
        let hour = Bucket::hour_of(at_s);
        let is_paying = now.mrr.may_be_positive();
        let is_subscribed = is_paying || now.is_paused && self.is_subscribed;
        match (self.is_subscribed, is_subscribed) {
            (false, true) if !self.has_paid => tally.add(hour, &["churn", "gained"], 1),
            (true, false) => tally.add(hour, &["churn", "lost"], 1),
            _ => {}
        }
        self.has_paid |= is_paying;
        self.is_subscribed = is_subscribed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The minor units that are paid, or `None` while it is paused: gained and lost.
    fn churn(levels: &[Option<i64>]) -> (i64, i64) {
        let mut churn = Churn::since(&Level::NOTHING, false);
        let mut tally = Tally::default();
        for (at_h, minor) in (0..).zip(levels) {
            let level = Level {
                is_paused: minor.is_none(),
                mrr: Monthly::exactly(minor.unwrap_or(0)),
                ..Level::NOTHING
            };
            churn.change_to(&level, at_h * 3600, &mut tally);
        }
        let counters = crate::counters::Counters::from(&tally);
        let sum = |which: &str| {
            let hours = 0..u32::try_from(levels.len()).expect("few");
            let of_hour = |hour| counters.get(Bucket::Hour(hour), &["churn", which]);
            hours.map(of_hour).sum()
        };
        (sum("gained"), sum("lost"))
    }

    #[test]
    fn paused_is_not_churned_and_withdrawn_is_not_new() {
        type Story = (&'static [Option<i64>], (i64, i64));
        let table: [Story; 7] = [
            (&[Some(0), Some(5)], (1, 0)),
            (&[Some(5), Some(0)], (1, 1)),
            // The cancellation is scheduled and withdrawn.
            (&[Some(5), Some(0), Some(5)], (1, 1)),
            (&[Some(5), None, Some(5)], (1, 0)),
            (&[Some(5), None, Some(0)], (1, 1)),
            // A trial that pauses never paid.
            (&[Some(0), None, Some(0)], (0, 0)),
            (&[None, Some(5)], (1, 0)),
        ];
        for (levels, expected) in table {
            assert_eq!(churn(levels), expected, "{levels:?}");
        }
    }
}
