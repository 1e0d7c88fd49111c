//! What a subscription adds to the active base and to MRR from one state to the next.

use super::SubscriptionFacts;
use crate::counters::{Bucket, Tally, change};
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

    pub(super) fn is_paying(&self) -> bool {
        self.mrr.may_be_positive()
    }

    /// Whether its customer is a subscriber because of it: it pays, or it paid before it was paused.
    /// Source: <https://docs.stripe.com/billing/subscriptions/analytics/glossary>.
    pub(super) fn is_subscribed(&self, was_subscribed: bool) -> bool {
        self.is_paying() || self.is_paused && was_subscribed
    }

    pub(super) fn counts(&self) -> [(&'static str, i64); 3] {
        [
            ("all", self.in_base.into()),
            ("past_due", self.past_due.into()),
            ("paying", self.is_paying().into()),
        ]
    }

    pub(super) fn change_to(
        &self,
        now: &Self,
        at_s: i64,
        currency: Option<&str>,
        tally: &mut Tally,
    ) {
        // Tests store this MRR to see what becomes of an event at which revwatch panics. To a release it is an unknown
        // sum like others.
        debug_assert!(self.mrr.low_minor != i64::MIN, "an MRR of tests");
        let hour = Bucket::hour_of(at_s);
        for ((name, before), (_, now)) in self.counts().into_iter().zip(now.counts()) {
            tally.add(hour, &["base", name], change(before, now));
        }
        let Some(currency) = currency else { return };
        let ((extra, unbounded), (new_extra, new_unbounded)) =
            (self.mrr.beyond_low(), now.mrr.beyond_low());
        let minute = Bucket::minute_of(at_s);
        for (name, before, now) in [
            ("mrr_change", self.mrr.low_minor, now.mrr.low_minor),
            ("mrr_extra_change", extra, new_extra),
            ("mrr_unbounded_change", unbounded, new_unbounded),
        ] {
            tally.add(minute, &[name, currency], change(before, now));
        }
    }
}
