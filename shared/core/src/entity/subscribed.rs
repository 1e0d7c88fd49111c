//! When a subscription pays, and from when until when a customer is a subscriber because of that.
//!
//! A customer is a subscriber while one of its subscriptions pays: who changes plans with a new subscription, or
//! ends one of two, stays one. Source: <https://docs.stripe.com/billing/subscriptions/analytics/glossary>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counters::{Bucket, Tally, add, sum};

/// When one subscription pays. While it is paused after it paid, it counts as paying.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subscribed {
    /// Whether it may have paid before what is remembered of it.
    pub may_have_paid: bool,
    /// Whether it paid when that begins.
    pub at_first: bool,
    /// When it began to pay and ceased to, by turns. Unix seconds, oldest first.
    pub changes_s: Vec<i64>,
}

/// The subscriptions of one customer that pay or may have paid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriptions {
    by_id: BTreeMap<String, Subscribed>,
    /// Whether one that is forgotten paid.
    have_paid: bool,
}

/// For so long before the newest change, subscriptions that ended are remembered.
const REMEMBERED_S: i64 = 400 * 86_400;

impl Subscribed {
    /// Whether it says anything.
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }

    /// Adds the state at a time, which is not before those that were added.
    pub(super) fn add(&mut self, pays: bool, at_s: i64) {
        if pays != self.pays() {
            self.changes_s.push(at_s);
        }
    }

    /// Whether it pays since its newest change.
    pub(super) fn pays(&self) -> bool {
        self.at_first ^ (self.changes_s.len() % 2 == 1)
    }

    /// By how many each change changes the subscriptions that pay.
    fn steps(&self) -> impl Iterator<Item = (i64, i64)> {
        let by = if self.at_first { [-1, 1] } else { [1, -1] };
        self.changes_s.iter().copied().zip(by.into_iter().cycle())
    }
}

impl Subscriptions {
    /// Replaces what is known of a subscription; `None`: it is of another customer.
    pub(super) fn set(&mut self, id: &str, subscribed: Option<&Subscribed>) {
        match subscribed.filter(|it| it.is_known()) {
            Some(subscribed) => drop(self.by_id.insert(id.to_owned(), subscribed.clone())),
            None => drop(self.by_id.remove(id)),
        }
        self.forget();
    }

    /// What ended long ago; that it paid is remembered.
    fn forget(&mut self) {
        let newest_s = self.by_id.values().filter_map(|it| it.changes_s.last());
        let Some(oldest_s) = newest_s
            .max()
            .map(|newest_s| newest_s.saturating_sub(REMEMBERED_S))
        else {
            return;
        };
        self.by_id.retain(|_, it| {
            let is_old = it.changes_s.last().is_some_and(|at_s| *at_s < oldest_s);
            let is_over = is_old && !it.pays();
            self.have_paid |= is_over;
            !is_over
        });
    }

    /// Everything that either knows; of a subscription that both know, what is greater.
    pub(super) fn union(&mut self, other: &Self) {
        self.have_paid |= other.have_paid;
        for (id, subscribed) in &other.by_id {
            let known = self.by_id.get(id);
            if known.is_none_or(|known| known < subscribed) {
                self.by_id.insert(id.clone(), subscribed.clone());
            }
        }
        self.forget();
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many pay.
    pub fn paying(&self) -> usize {
        self.by_id.values().filter(|it| it.pays()).count()
    }

    /// Whether the customer is a subscriber, and in which hours it became one and ceased to be one. One that pays
    /// again is not new; one that is lost again is counted again.
    pub(super) fn count(&self, tally: &mut Tally) {
        let all = self.by_id.values();
        let mut changes: Vec<(i64, i64)> = all.clone().flat_map(Subscribed::steps).collect();
        changes.sort_unstable();
        let mut paying = sum(all.clone().map(|it| i64::from(it.at_first)));
        let mut has_paid = self.have_paid || all.clone().any(|it| it.may_have_paid) || paying > 0;
        for at_once in changes.chunk_by(|(one_s, _), (other_s, _)| one_s == other_s) {
            let before = paying > 0;
            paying = add(paying, sum(at_once.iter().map(|(_, step)| *step)));
            let now = paying > 0;
            let hour = Bucket::hour_of(at_once[0].0);
            tally.add(
                hour,
                &["base", "subscribers"],
                i64::from(now).saturating_sub(before.into()),
            );
            match (before, now) {
                (false, true) if !has_paid => tally.add(hour, &["churn", "gained"], 1),
                (true, false) => tally.add(hour, &["churn", "lost"], 1),
                _ => {}
            }
            has_paid |= now;
        }
        tally.add(
            Bucket::Current,
            &["base", "subscribers"],
            i64::from(paying > 0),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;

    const HOUR_S: i64 = 3600;

    fn paid(at_first: bool, changes_h: &[i64]) -> Subscribed {
        Subscribed {
            may_have_paid: false,
            at_first,
            changes_s: changes_h.iter().map(|at_h| at_h * HOUR_S).collect(),
        }
    }

    fn of(all: &[Subscribed]) -> Subscriptions {
        let mut subscriptions = Subscriptions::default();
        for (n, subscribed) in all.iter().enumerate() {
            subscriptions.set(&format!("sub_{n}"), Some(subscribed));
        }
        subscriptions
    }

    /// Subscribers now, gained, lost.
    fn counted(subscriptions: &Subscriptions) -> (i64, i64, i64) {
        let mut tally = Tally::default();
        subscriptions.count(&mut tally);
        let counters = Counters::from(&tally);
        let sum = |parts: &[&str]| {
            let hours = (0..100_000).map(Bucket::Hour);
            hours.map(|hour| counters.get(hour, parts)).sum::<i64>()
        };
        let now = counters.get(Bucket::Current, &["base", "subscribers"]);
        let began = i64::from(subscriptions.by_id.values().any(|it| it.at_first));
        assert_eq!(began + sum(&["base", "subscribers"]), now);
        (now, sum(&["churn", "gained"]), sum(&["churn", "lost"]))
    }

    #[test]
    fn a_customer_is_lost_with_its_last_subscription() {
        type Story<'a> = (&'a [Subscribed], (i64, i64, i64));
        let table: [Story<'_>; 10] = [
            (&[], (0, 0, 0)),
            (&[paid(false, &[1])], (1, 1, 0)),
            (&[paid(false, &[1, 9])], (0, 1, 1)),
            // A change of plan by a new subscription, and one of two that ends.
            (&[paid(true, &[9]), paid(false, &[8])], (1, 0, 0)),
            (&[paid(true, &[9]), paid(false, &[9])], (1, 0, 0)),
            (&[paid(true, &[]), paid(true, &[9])], (1, 0, 0)),
            // It pays again, by the same or by another one.
            (&[paid(false, &[1, 5, 9])], (1, 1, 1)),
            (&[paid(false, &[1, 5]), paid(false, &[9])], (1, 1, 1)),
            (&[paid(true, &[5]), paid(false, &[2, 9])], (0, 0, 1)),
            // A cancellation is scheduled, withdrawn and scheduled again.
            (&[paid(false, &[1, 5, 9, 12])], (0, 1, 2)),
        ];
        for (all, expected) in table {
            assert_eq!(counted(&of(all)), expected, "{all:?}");
        }
    }

    #[test]
    fn a_customer_of_which_a_subscription_may_have_paid_is_not_new() {
        let ended = Subscribed {
            may_have_paid: true,
            ..Subscribed::default()
        };
        assert_eq!(counted(&of(&[ended, paid(false, &[9])])), (1, 0, 0));
    }

    #[test]
    fn what_is_known_of_a_subscription_is_replaced_and_removed() {
        let mut subscriptions = of(&[paid(false, &[1])]);
        subscriptions.set("sub_0", Some(&paid(false, &[1, 2])));
        assert_eq!(counted(&subscriptions), (0, 1, 1));
        subscriptions.set("sub_0", None);
        assert_eq!(subscriptions, Subscriptions::default());
        subscriptions.set("sub_1", Some(&Subscribed::default()));
        assert_eq!(subscriptions, Subscriptions::default(), "it says nothing");
    }

    #[test]
    fn what_ended_long_ago_is_forgotten_in_any_order_but_the_customer_is_not_new() {
        let long_h = REMEMBERED_S / HOUR_S;
        let all = [
            paid(false, &[1, 2]),
            paid(false, &[long_h + 3]),
            paid(false, &[3]),
        ];
        let forward = of(&all);
        assert_eq!(forward.by_id.len(), 2);
        let mut backward = Subscriptions::default();
        for (n, subscribed) in all.iter().enumerate().rev() {
            backward.set(&format!("sub_{n}"), Some(subscribed));
        }
        assert_eq!(backward, forward);
        let mut new = forward;
        new.set("sub_2", None);
        assert_eq!(counted(&new), (1, 0, 0));
    }
}
