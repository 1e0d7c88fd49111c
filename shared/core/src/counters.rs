//! Aggregates as sums: every entity contributes a few numbers, and a total is their sum over all
//! entities. A batch adds the difference between what its entities contributed before and after. An
//! aggregate therefore never needs a search and can be recomputed from the entities at any time.
//!
//! Invariant: a counter that is zero is not stored.

use std::collections::{BTreeMap, BTreeSet};

pub use crate::bucket::{Bucket, Buckets, hour_of, minute_of};
use crate::bucket::{has_minutes, hour_of_minute};
use crate::class::{Class, Scope};
use crate::realm::Realm;

/// The part of a name for what no event has shown.
pub const UNKNOWN: &str = "unknown";

/// The counters of MRR by currency: at least this, at most so much more, and how many subscriptions have no bound.
pub const MRR: [&str; 3] = ["mrr", "mrr_extra", "mrr_unbounded"];

/// Subscriptions whose part of MRR is not exactly known, by reason.
pub const MRR_INCOMPLETE: &str = "mrr_incomplete";

/// The bounds of past-due MRR, by currency: see [`MRR`].
pub const MRR_PAST_DUE: [&str; 3] = [
    "mrr_past_due",
    "mrr_past_due_extra",
    "mrr_past_due_unbounded",
];

/// Past-due subscriptions whose part of MRR is not exactly known, by reason.
pub const MRR_PAST_DUE_INCOMPLETE: &str = "mrr_past_due_incomplete";

/// Named integers, by bucket. Names are parts joined by `|`, see [`name`], after the prefix of their
/// [`Class`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<(Bucket, String), i64>);

/// The counters of the classes of a [`Scope`], read as one: names have no prefix, and a counter is the
/// sum over the classes.
#[derive(Debug)]
pub struct Figures<'a> {
    counters: &'a Counters,
    prefixes: Vec<String>,
}

/// Additions to counters, in the order in which they were made. Cheaper to collect than sums: most
/// of an entity's contributions do not change and never become a counter of a batch.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// What every name begins with.
    prefix: String,
    /// All names, concatenated.
    names: String,
    /// The bucket, the end of the name, and the amount. What counts in a minute also counts in its hour.
    entries: Vec<(Bucket, usize, i64)>,
}

/// Joins the parts of a counter's name, for example `payouts|failed|usd`. A `|` within a part (an
/// unknown value from outside) is replaced by `_`.
pub fn name(parts: &[&str]) -> String {
    let mut name = String::with_capacity(parts.iter().map(|p| p.len().saturating_add(1)).sum());
    join(parts, &mut name);
    name
}

/// The largest sum, either way: thousands of amounts at their bound exceed it. All stores compute it exactly.
pub const LARGEST_SUM: i64 = 9_200_000_000_000_000_000;

/// A sum of two. Beyond [`LARGEST_SUM`] it is not known any more, whatever is added later: it stays at the largest
/// integer, or its negative. Stores add in the same way.
pub fn add(a: i64, b: i64) -> i64 {
    if is_beyond(a) {
        return a;
    }
    match a.saturating_add(b) {
        sum if !is_beyond(sum) => sum,
        sum if sum > 0 => i64::MAX,
        _ => -i64::MAX,
    }
}

/// By how much a sum changes. If it is not known before or afterwards, nor is that; no change is known to be 0.
pub fn change(before: i64, now: i64) -> i64 {
    match before == now {
        true => 0,
        false => add(now, before.saturating_neg()),
    }
}

/// Whether a sum is not known, because it went beyond [`LARGEST_SUM`].
pub fn is_beyond(sum: i64) -> bool {
    !(-LARGEST_SUM..=LARGEST_SUM).contains(&sum)
}

/// A sum of many. See [`add`].
pub fn sum(values: impl IntoIterator<Item = i64>) -> i64 {
    values.into_iter().fold(0, add)
}

fn join(parts: &[&str], name: &mut String) {
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            name.push('|');
        }
        for (j, piece) in part.split('|').enumerate() {
            if j > 0 {
                name.push('_');
            }
            name.push_str(piece);
        }
    }
}

impl Tally {
    /// Without an entry so far: what is added counts for `class`.
    pub fn of(class: Class<'_>) -> Self {
        Self {
            prefix: class.prefix(),
            ..Self::default()
        }
    }

    /// Adds `by` to a counter. In a minute it also counts in the hour of that minute, and only there if no minutes
    /// are kept of this counter; see [`has_minutes`].
    pub fn add(&mut self, bucket: Bucket, parts: &[&str], by: i64) {
        if by == 0 {
            return;
        }
        self.names.push_str(&self.prefix);
        let begin = self.names.len();
        join(parts, &mut self.names);
        let bucket = match bucket {
            Bucket::Minute(minute) if !has_minutes(&self.names[begin..]) => {
                Bucket::Hour(hour_of_minute(minute))
            }
            bucket => bucket,
        };
        self.entries.push((bucket, self.names.len(), by));
    }

    /// Adds an amount to the counter of its currency, below `parts`. If the amount or the currency
    /// is unknown, `amount_unknown` counts it below the same parts: nothing is guessed, and amounts
    /// of different currencies are never added.
    pub fn add_amount(
        &mut self,
        bucket: Bucket,
        parts: &[&str],
        minor: Option<i64>,
        currency: Option<&str>,
    ) {
        match minor.zip(currency) {
            Some((minor, currency)) => self.add(bucket, &[parts, &[currency]].concat(), minor),
            None => self.add(bucket, &[&["amount_unknown"], parts].concat(), 1),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Bucket, &str, i64)> {
        let mut begin = 0;
        self.entries.iter().flat_map(move |(bucket, end, by)| {
            let name = &self.names[std::mem::replace(&mut begin, *end)..*end];
            let hour = match bucket {
                Bucket::Minute(minute) => Some(Bucket::Hour(hour_of_minute(*minute))),
                _ => None,
            };
            let buckets = std::iter::once(*bucket).chain(hour);
            buckets.map(move |bucket| (bucket, name, *by))
        })
    }
}

impl From<&Tally> for Counters {
    fn from(tally: &Tally) -> Self {
        let mut counters = Self::default();
        counters.add_difference(&Tally::default(), tally);
        counters
    }
}

impl Counters {
    /// Adds `by` to a counter.
    pub fn add(&mut self, bucket: Bucket, parts: &[&str], by: i64) {
        self.add_named(bucket, name(parts), by);
    }

    /// Adds `by` to a counter whose name is already joined.
    pub fn add_named(&mut self, bucket: Bucket, name: String, by: i64) {
        use std::collections::btree_map::Entry;
        if by == 0 {
            return;
        }
        match self.0.entry((bucket, name)) {
            Entry::Vacant(slot) => {
                slot.insert(add(0, by));
            }
            Entry::Occupied(mut slot) => {
                *slot.get_mut() = add(*slot.get(), by);
                if *slot.get() == 0 {
                    slot.remove();
                }
            }
        }
    }

    /// Adds every counter of `other`, multiplied by `times` (−1 subtracts).
    pub fn merge(&mut self, other: Self, times: i64) {
        for ((bucket, name), value) in other.0 {
            self.add_named(bucket, name, value.saturating_mul(times));
        }
    }

    /// Adds the contributions in `after` and subtracts those in `before`.
    pub fn add_difference(&mut self, before: &Tally, after: &Tally) {
        let removed = before
            .iter()
            .map(|(bucket, name, by)| (bucket, name, by.saturating_neg()));
        let mut all: Vec<_> = removed.chain(after.iter()).collect();
        all.sort_unstable();
        for same in all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let by = sum(same.iter().map(|(_, _, by)| *by));
            if by != 0 {
                self.add_named(same[0].0, same[0].1.to_owned(), by);
            }
        }
    }

    /// Forgets the minutes before `first`: nothing reads them, and no store keeps them.
    pub fn forget_minutes_before(&mut self, first: u32) {
        // Minutes come last.
        let mut minutes = self.0.split_off(&(Bucket::Minute(0), String::new()));
        let kept = minutes.split_off(&(Bucket::Minute(first), String::new()));
        self.0.extend(kept);
    }

    /// One counter; 0 if it is not stored.
    pub fn get(&self, bucket: Bucket, parts: &[&str]) -> i64 {
        self.0.get(&(bucket, name(parts))).copied().unwrap_or(0)
    }

    /// Those of the classes in `scope`.
    pub fn of(&self, scope: &Scope) -> Figures<'_> {
        let prefixes = match scope.only() {
            Some(class) => vec![class.prefix()],
            None => {
                let mut known = self.prefixes();
                known.retain(|prefix| {
                    let class = Class::parse(prefix);
                    class.is_some_and(|(realm, owner)| {
                        let realm = &realm;
                        scope.includes(Class { realm, owner })
                    })
                });
                known.into_iter().map(str::to_owned).collect()
            }
        };
        Figures {
            counters: self,
            prefixes,
        }
    }

    /// The realms that anything counts for.
    pub fn realms(&self) -> BTreeSet<Realm> {
        let classes = self.prefixes().into_iter().filter_map(Class::parse);
        classes.map(|(realm, _)| realm).collect()
    }

    /// The prefixes of all classes that anything counts for: every entity has a current counter.
    fn prefixes(&self) -> BTreeSet<&str> {
        let current = self.0.range((Bucket::Current, String::new())..);
        current
            .take_while(|((bucket, _), _)| *bucket == Bucket::Current)
            .map(|((_, name), _)| Class::prefix_of(name))
            .collect()
    }

    /// Every counter, sorted by bucket and name.
    pub fn iter(&self) -> impl Iterator<Item = (Bucket, &str, i64)> {
        self.0
            .iter()
            .map(|((bucket, name), value)| (*bucket, name.as_str(), *value))
    }

    /// The counters of one bucket whose name begins with `first|`, with the rest of the name split
    /// into its parts.
    pub fn under<'a>(
        &'a self,
        bucket: Bucket,
        first: &str,
    ) -> impl Iterator<Item = (Vec<&'a str>, i64)> + use<'a> {
        self.family(bucket, format!("{first}|"))
    }

    fn family(
        &self,
        bucket: Bucket,
        begin: String,
    ) -> impl Iterator<Item = (Vec<&str>, i64)> + use<'_> {
        let length = begin.len();
        let mut found = self.0.range((bucket, begin.clone())..);
        std::iter::from_fn(move || {
            let ((b, name), value) = found.next()?;
            let is_of_family = *b == bucket && name.starts_with(&begin);
            is_of_family.then(|| (name[length..].split('|').collect(), *value))
        })
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of counters that are not zero.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'a> Figures<'a> {
    /// One counter; 0 if it is not stored.
    pub fn get(&self, bucket: Bucket, parts: &[&str]) -> i64 {
        let name = name(parts);
        let of_class = |prefix: &String| {
            let key = (bucket, format!("{prefix}{name}"));
            self.counters.0.get(&key).copied().unwrap_or(0)
        };
        sum(self.prefixes.iter().map(of_class))
    }

    /// As [`Counters::under`]. Several classes may have a counter of one name.
    pub fn under<'b>(
        &'b self,
        bucket: Bucket,
        first: &'b str,
    ) -> impl Iterator<Item = (Vec<&'a str>, i64)> + 'b {
        self.prefixes
            .iter()
            .flat_map(move |prefix| self.counters.family(bucket, format!("{prefix}{first}|")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Owner;

    #[test]
    fn a_sum_beyond_the_largest_is_not_known_any_more() {
        let table = [
            (LARGEST_SUM - 1, 1, LARGEST_SUM),
            (LARGEST_SUM, 1, i64::MAX),
            (-LARGEST_SUM, -1, -i64::MAX),
            (LARGEST_SUM, i64::MAX, i64::MAX),
            (i64::MAX, -LARGEST_SUM, i64::MAX),
            (-i64::MAX, 5, -i64::MAX),
            (5, i64::MIN, -i64::MAX),
        ];
        for (a, b, expected) in table {
            assert_eq!(add(a, b), expected, "{a} + {b}");
        }
        assert!(is_beyond(i64::MIN) && !is_beyond(LARGEST_SUM));
        let mut counters = Counters::default();
        for by in [LARGEST_SUM, 1, -LARGEST_SUM] {
            counters.add(Bucket::Current, &["mrr", "usd"], by);
        }
        assert_eq!(counters.get(Bucket::Current, &["mrr", "usd"]), i64::MAX);
    }

    #[test]
    fn a_change_is_not_known_if_a_sum_is_not_and_no_change_is_none() {
        let table = [
            (5, 3, -2),
            (-5, LARGEST_SUM, i64::MAX),
            (5, i64::MAX, i64::MAX),
            (i64::MAX, 5, -i64::MAX),
            (i64::MIN, 900, i64::MAX),
            (i64::MAX, i64::MAX, 0),
        ];
        for (before, now, expected) in table {
            assert_eq!(change(before, now), expected, "from {before} to {now}");
        }
    }

    #[test]
    fn figures_are_the_sums_of_the_classes_in_their_scope() {
        let kernel = Realm::named("kernel").expect("a name");
        let mut counters = Counters::default();
        let classes = [
            (Realm::main(), Owner::Platform, 1),
            (Realm::main(), Owner::Connected, 10),
            (&kernel, Owner::Platform, 100),
            (&kernel, Owner::Connected, 1000),
        ];
        for (realm, owner, minor) in classes {
            let mut tally = Tally::of(Class { realm, owner });
            tally.add(Bucket::Current, &["mrr", "usd"], minor);
            tally.add(Bucket::Hour(7), &["mrr_change", "usd"], minor);
            counters.add_difference(&Tally::default(), &tally);
        }
        let expected = [
            (Some(Realm::MAIN), Some(Owner::Platform), 1),
            (Some(Realm::MAIN), Some(Owner::Connected), 10),
            (Some(Realm::MAIN), None, 11),
            (None, Some(Owner::Platform), 101),
            (Some(kernel.clone()), None, 1100),
            (None, None, 1111),
        ];
        for (realm, owner, minor) in expected {
            let scope = Scope { realm, owner };
            let figures = counters.of(&scope);
            assert_eq!(
                figures.get(Bucket::Current, &["mrr", "usd"]),
                minor,
                "{scope:?}"
            );
            for (bucket, family) in [(Bucket::Current, "mrr"), (Bucket::Hour(7), "mrr_change")] {
                let all: Vec<_> = figures.under(bucket, family).collect();
                assert!(all.iter().all(|(rest, _)| *rest == ["usd"]), "{all:?}");
                assert_eq!(
                    all.iter().map(|(_, by)| by).sum::<i64>(),
                    minor,
                    "{scope:?}"
                );
            }
        }
        assert_eq!(counters.realms(), BTreeSet::from([Realm::MAIN, kernel]));
        let platform = counters.under(Bucket::Current, "mrr");
        assert_eq!(platform.collect::<Vec<_>>(), [(vec!["usd"], 1)]);
    }

    #[test]
    fn counters_add_up_and_zeros_are_not_stored() {
        let mut counters = Counters::default();
        counters.add(Bucket::Current, &["payouts", "failed", "usd"], 2);
        counters.add(Bucket::Current, &["payouts", "paid", "usd"], 1);
        counters.add(Bucket::Current, &["payouts_x", "paid", "usd"], 5);
        counters.add(Bucket::Hour(7), &["payouts", "paid", "usd"], 1);
        assert_eq!(
            counters.get(Bucket::Current, &["payouts", "failed", "usd"]),
            2
        );
        let mut inverse = Counters::default();
        inverse.merge(counters.clone(), -1);
        assert_eq!(
            counters
                .under(Bucket::Current, "payouts")
                .collect::<Vec<_>>(),
            [(vec!["failed", "usd"], 2), (vec!["paid", "usd"], 1)]
        );
        counters.merge(inverse, 1);
        assert!(counters.is_empty());
    }

    #[test]
    fn a_difference_adds_after_and_subtracts_before() {
        let (mut before, mut after) = (Tally::default(), Tally::default());
        for (tally, amount) in [(&mut before, 5), (&mut after, 7)] {
            tally.add(Bucket::Hour(7), &["payouts", "paid", "usd"], 1);
            tally.add(Bucket::Current, &["payouts", "paid", "usd"], 1);
            tally.add(Bucket::Current, &["mrr", "usd"], amount);
            tally.add(Bucket::Current, &["mrr", "usd"], 1);
            tally.add(Bucket::Current, &["mrr", "eur"], 0);
        }
        before.add(Bucket::Current, &["gone"], 1);
        after.add(Bucket::Current, &["new", "a|b"], 1);
        let mut counters = Counters::default();
        counters.add(Bucket::Current, &["gone"], 4);
        counters.add_difference(&before, &after);
        let expected = [
            (Bucket::Current, "gone", 3),
            (Bucket::Current, "mrr|usd", 2),
            (Bucket::Current, "new|a_b", 1),
        ];
        assert_eq!(counters.iter().collect::<Vec<_>>(), expected);
        assert_eq!(
            Counters::from(&after).get(Bucket::Current, &["mrr", "usd"]),
            8
        );
    }

    #[test]
    fn what_counts_in_a_minute_counts_in_its_hour_and_only_there_if_no_minutes_are_kept() {
        let mut tally = Tally::of(Class {
            realm: Realm::main(),
            owner: Owner::Connected,
        });
        for (minute, name) in [(179, "failed"), (179, "pending"), (180, "failed")] {
            tally.add(Bucket::Minute(minute), &["payouts", name], 2);
        }
        let mut counters = Counters::from(&tally);
        let hours = [
            (Bucket::Hour(2), "main/connected:payouts|failed", 2),
            (Bucket::Hour(2), "main/connected:payouts|pending", 2),
            (Bucket::Hour(3), "main/connected:payouts|failed", 2),
        ];
        let minutes = [179, 180].map(|it| (Bucket::Minute(it), hours[0].1, 2));
        let all: Vec<_> = counters.iter().collect();
        assert_eq!(all, [&hours[..], &minutes[..]].concat());
        counters.forget_minutes_before(180);
        let kept: Vec<_> = counters.iter().collect();
        assert_eq!(kept, [&hours[..], &minutes[1..]].concat());
    }

    #[test]
    fn a_separator_in_a_value_cannot_forge_a_name() {
        assert_eq!(
            name(&["subscriptions", "a|b", "PRO"]),
            "subscriptions|a_b|PRO"
        );
    }
}
