//! Orders the states of one object that share a second, a kind of event and a lifecycle position,
//! by the changes of their events.
//!
//! Invariant: the order is a function of the states and of the one before them, regardless of the
//! cost: the search is limited by steps, never by time. Stored aggregates depend on it, so it must
//! never change: `tests/property/seconds.rs` keeps the plain form of the same search for
//! comparison.

use std::collections::HashMap;

use super::features::{Features, features};
use super::first_order::first_order;
use super::recorded::{Facts, RecordedState};
#[cfg(test)]
use super::work;

/// Orders `class`, which is sorted by the hashes of event ids, so that as many states as possible follow
/// from their predecessor; the hashes break ties. Returns indices of `class`.
pub(super) fn order<F: Facts>(
    before: Option<&RecordedState<F>>,
    class: &[&RecordedState<F>],
) -> Vec<usize> {
    if class.len() < 2 {
        return (0..class.len()).collect();
    }
    let features = features(class.iter().copied().chain(before));
    if class.len() > MAX_SEARCHED {
        return first_order(&features, class.len());
    }
    let costs = Costs::new(&features, class.len());
    Search::new(&costs).best(MAX_STEPS)
}

/// Of more states than this, the first order found is used: the search compares each state with each. No object of
/// Stripe's has so many in one second.
const MAX_SEARCHED: usize = 1_024;

/// The limit of search steps. The best order found by then is used; the first one found goes from
/// each state to the likeliest next.
const MAX_STEPS: u32 = 5_000;

/// The cost of placing one state after another.
struct Costs {
    count: usize,
    /// Row by row, `count` to a row; the last row is that of the preceding state, if there is one.
    rows: Vec<u8>,
    has_before: bool,
}

impl Costs {
    /// `features` are those of the `count` states to order, then of the preceding state if there is
    /// one.
    fn new(features: &[Features], count: usize) -> Self {
        let mut costs = Self {
            count,
            rows: vec![CONTRADICTED; features.len().saturating_mul(count)],
            has_before: features.len() > count,
        };
        // Candidates for predecessors are found by the known values before the event. There are few
        // such masks.
        let mut masks: HashMap<Vec<bool>, HashMap<Vec<u32>, Vec<usize>>> = HashMap::new();
        let mut equivalence: HashMap<usize, Vec<usize>> = HashMap::new();
        for (a, of_state) in features.iter().enumerate() {
            equivalence.entry(of_state.equivalence).or_default().push(a);
        }
        for (b, to) in features[..count].iter().enumerate() {
            for &a in equivalence
                .get(&to.equivalence)
                .into_iter()
                .flatten()
                .filter(|a| **a != b)
            {
                let place = costs.place(a, b);
                costs.rows[place] = REPEATED;
            }
            let by_fields = masks.entry(to.mask()).or_insert_with_key(|mask| {
                let mut by_fields: HashMap<_, Vec<_>> = HashMap::new();
                for (a, of_state) in features.iter().enumerate() {
                    by_fields.entry(of_state.masked(mask)).or_default().push(a);
                }
                by_fields
            });
            let required = to.required();
            for &a in by_fields
                .get(&required)
                .into_iter()
                .flatten()
                .filter(|a| **a != b)
            {
                #[cfg(test)]
                work::count(&work::COMPARED);
                // That `b` follows `a` is clear if it changed something.
                let place = costs.place(a, b);
                costs.rows[place] = u8::from(!to.changed);
            }
        }
        costs
    }

    fn of(&self, from: usize, to: usize) -> u8 {
        self.rows[self.place(from, to)]
    }

    /// In `rows`.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "it is less than the length of `rows`"
    )]
    fn place(&self, from: usize, to: usize) -> usize {
        from * self.count + to
    }

    /// The least cost to reach each state, from any of the first `rows`.
    fn least(&self, rows: usize) -> Vec<u8> {
        let mut least = vec![CONTRADICTED; self.count];
        for row in self.rows.chunks(self.count).take(rows) {
            least
                .iter_mut()
                .zip(row)
                .for_each(|(least, cost)| *least = (*least).min(*cost));
        }
        least
    }
}

/// Contradicted by a change.
const CONTRADICTED: u8 = 3;
/// Both report the same change: Stripe sometimes sends two events for one.
const REPEATED: u8 = 2;

/// A depth-first search that keeps the first of the cheapest orders.
struct Search<'a> {
    costs: &'a Costs,
    /// The least cost to reach each state.
    least: Vec<u8>,
    /// The order in which first states are tried, if there is no preceding state.
    first_order: Option<Vec<u8>>,
    /// States not in the path, sorted.
    free: Vec<usize>,
    path: Vec<Position>,
    best: Option<(u32, Vec<usize>)>,
}

/// The progress of the search at one position of the path: next states are tried from the likeliest
/// on.
struct Position {
    /// The state; at the root, the preceding one.
    at: usize,
    /// The cost of the path up to here.
    cost: u32,
    /// The least cost of the remaining states.
    rest: u32,
    /// The next one to try: its cost class, and from which state on.
    next: (u8, usize),
}

impl<'a> Search<'a> {
    fn new(costs: &'a Costs) -> Self {
        let count = costs.count;
        // Without a preceding state, a chain may begin anywhere at no cost: states that follow from
        // no other come first.
        let first_order = (!costs.has_before).then(|| {
            costs
                .least(count)
                .into_iter()
                .map(|least| CONTRADICTED.saturating_sub(least))
                .collect()
        });
        Self {
            costs,
            least: if costs.has_before {
                costs.least(count.saturating_add(1))
            } else {
                vec![0; count]
            },
            first_order,
            free: (0..count).collect(),
            path: Vec::with_capacity(count.saturating_add(1)),
            best: None,
        }
    }

    /// The indices of the cheapest order found in so many steps.
    fn best(mut self, max_steps: u32) -> Vec<usize> {
        self.run(max_steps);
        self.best
            .map_or_else(|| (0..self.costs.count).collect(), |(_, order)| order)
    }

    fn run(&mut self, max_steps: u32) {
        #[cfg(test)]
        work::count(&work::SEARCHED);
        let rest = self.least.iter().copied().map(u32::from).sum();
        self.path.push(Position {
            at: self.costs.count,
            cost: 0,
            rest,
            next: (0, 0),
        });
        let mut steps = 1_u32;
        while let Some(position) = self.path.last() {
            let (cost, rest) = (position.cost, position.rest);
            if self.free.is_empty() {
                let order = self
                    .path
                    .iter()
                    .skip(1)
                    .map(|position| position.at)
                    .collect();
                self.best = Some((cost, order));
            }
            let Some((to, by)) = self.next() else {
                self.back();
                continue;
            };
            // A first order is always completed.
            if self.best.is_some() && steps >= max_steps {
                return;
            }
            steps = steps.saturating_add(1);
            let rest = rest.saturating_sub(self.least[to].into());
            if let Ok(at) = self.free.binary_search(&to) {
                self.free.remove(at);
            }
            self.path.push(Position {
                at: to,
                cost: cost.saturating_add(by),
                rest,
                next: (0, 0),
            });
        }
    }

    /// Leaves the last position of the path.
    fn back(&mut self) {
        if let Some(left) = self.path.pop()
            && !self.path.is_empty()
        {
            let at = self.free.partition_point(|free| *free < left.at);
            self.free.insert(at, left.at);
        }
    }

    /// The next state to try at the last position of the path, and its cost. States that cannot
    /// lead to a cheaper order than the best are skipped.
    fn next(&mut self) -> Option<(usize, u32)> {
        let position = self.path.last_mut()?;
        let first_order = self
            .first_order
            .as_ref()
            .filter(|_| position.at == self.costs.count);
        // The cost of this step may exceed the least by less than this.
        let left = match &self.best {
            Some((best, _)) => best.saturating_sub(position.cost.saturating_add(position.rest)),
            None => u32::MAX,
        };
        if left == 0 {
            return None;
        }
        let (cost_class, from) = position.next;
        for cost_class in cost_class..=CONTRADICTED {
            let from = if cost_class == position.next.0 {
                from
            } else {
                0
            };
            let at = self.free.partition_point(|free| *free < from);
            for &to in &self.free[at..] {
                #[cfg(test)]
                work::count(&work::TRIED);
                let (order, by) = match first_order {
                    Some(first_order) => (first_order[to], 0),
                    None => {
                        let cost = self.costs.of(position.at, to);
                        (cost, cost)
                    }
                };
                if order == cost_class && u32::from(by.saturating_sub(self.least[to])) < left {
                    position.next = (cost_class, to.saturating_add(1));
                    return Some((to, u32::from(by)));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::{COMPARED, SEARCHED, TRIED};
    use super::super::{Changes, Stage, Timeline};
    use super::*;
    use crate::entity::payout::{PayoutFacts, PayoutOrigin};
    use crate::entity::{Entity, EntityKey, EntityKind, Observation, Update, transitions};

    /// Facts with two fields whose changes are recorded.
    #[derive(Debug, Clone)]
    struct Pair(u32, u32);

    impl Facts for Pair {
        const FIELDS: &'static [&'static str] = &["status", "quantity"];

        fn progress(&self) -> u64 {
            0
        }

        fn value(&self, place: usize) -> u32 {
            [self.0, self.1][place]
        }
    }

    const MANY: usize = 1_000;

    /// Ids in another order than the numbers.
    fn id(n: usize) -> String {
        format!("evt_{:04}", n * 617 % MANY)
    }

    /// With the former quantity, if the event changed it.
    fn state(n: usize, facts: Pair, quantity: Option<usize>) -> RecordedState<Pair> {
        let former = quantity.map(|n| u32::try_from(n).expect("a small number"));
        RecordedState {
            created_s: 1,
            event_id: id(n).into(),
            stage: Stage::Updated,
            facts: facts.into(),
            changes: Changes::new(former.map(|former| vec![(1, Some(former))])),
        }
    }

    fn timeline(states: impl Iterator<Item = RecordedState<Pair>>) -> Timeline<Pair> {
        let mut timeline = Timeline::default();
        states.for_each(|state| timeline.insert(state));
        timeline
    }

    #[test]
    fn a_clear_successor_is_compared_with_nothing_else() {
        let quantity = |n: usize| Pair(7, u32::try_from(n).expect("a small number"));
        let chain = timeline((1..=MANY).map(|n| state(n, quantity(n), Some(n - 1))));
        let ordered: Vec<u32> = chain.in_order().iter().map(|s| s.facts.1).collect();
        assert!(ordered.is_sorted() && ordered.len() == MANY, "{ordered:?}");
        assert!(COMPARED.get() < MANY, "{} pairs compared", COMPARED.get());
        assert!(TRIED.get() < 2 * MANY * MANY, "{} tried", TRIED.get());
    }

    #[test]
    fn indistinguishable_states_cost_little_per_pair() {
        let indistinguishable = |n: usize| state(n, Pair(7, u32::from(n.is_multiple_of(2))), None);
        let untracked_change = |n: usize| RecordedState {
            changes: Changes::new(Some(Vec::new())),
            ..state(n, Pair(7, 7), None)
        };
        for states in [
            (0..MANY).map(indistinguishable).collect::<Vec<_>>(),
            (0..MANY).map(untracked_change).collect(),
        ] {
            COMPARED.set(0);
            TRIED.set(0);
            assert_eq!(timeline(states.into_iter()).in_order().len(), MANY);
            assert!(
                COMPARED.get() < MANY * MANY,
                "{} pairs compared",
                COMPARED.get()
            );
            assert!(TRIED.get() < 5 * MANY * MANY, "{} tried", TRIED.get());
        }
    }

    /// The first order of the search, which is completed before its steps are counted.
    #[test]
    fn of_very_many_states_the_order_is_the_one_that_the_search_finds_first() {
        let mut seed: u64 = 16;
        let mut below = |bound: u32| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u32::try_from(seed >> 33).expect("31 bits") % bound
        };
        for _ in 0..500 {
            let (values, unsaid) = (1 + below(4), below(10));
            let many = 2 + below(40) as usize;
            let states: Vec<_> = (0..many)
                .map(|n| {
                    let facts = Pair(below(values), below(values));
                    let former = (below(10) < 8).then(|| below(values));
                    let changed = vec![(u8::from(below(2) == 0), former)];
                    RecordedState {
                        facts: facts.into(),
                        changes: Changes::new((below(10) >= unsaid).then_some(changed)),
                        ..state(n, Pair(0, 0), None)
                    }
                })
                .collect();
            for count in [states.len(), states.len() - 1] {
                let all = features(states.iter());
                let costs = Costs::new(&all, count);
                assert_eq!(first_order(&all, count), Search::new(&costs).best(0));
            }
        }
    }

    #[test]
    fn six_thousand_states_of_a_second_cost_little_each() {
        const MANY: usize = 6_000;
        let small = |n: usize| u32::try_from(n).expect("a small number");
        let chain = |n: usize| state(n, Pair(7, small(n)), n.checked_sub(1));
        let part = |n: usize| RecordedState {
            changes: Changes::new(Some(vec![(1, None)])),
            ..state(n, Pair(7, small(n)), None)
        };
        let silent = |n: usize| state(n, Pair(7, 7), None);
        for states in [
            (0..MANY).map(chain).collect::<Vec<_>>(),
            (0..MANY).map(part).collect(),
            (0..MANY).map(silent).collect(),
        ] {
            TRIED.set(0);
            let all = features(states.iter());
            assert_eq!(first_order(&all, MANY).len(), MANY);
            assert!(TRIED.get() < 10 * MANY, "{} tried", TRIED.get());
        }
    }

    #[test]
    fn more_states_than_search_steps_still_give_an_order() {
        let quantity = |n: usize| Pair(7, u32::try_from(n).expect("a small number"));
        const MORE: usize = MAX_STEPS as usize + 10;
        let states = (1..=MORE).map(|n| RecordedState {
            event_id: format!("evt_{:04}", MORE - n).into(),
            ..state(n, quantity(n), Some(n - 1))
        });
        assert!(
            timeline(states)
                .in_order()
                .iter()
                .map(|s| s.facts.1)
                .is_sorted()
        );
    }

    /// Everything that a batch needs from an entity.
    #[test]
    fn an_order_is_computed_once() {
        let key = EntityKey::new(EntityKind::Payout, "po_1");
        let mut entity = Entity::new(&key);
        for n in 0..40 {
            let facts = PayoutFacts {
                status: "failed".to_owned().into(),
                failure_code: None,
                failure_message: None,
                reversed_by: None,
            };
            let failed = RecordedState {
                created_s: 1,
                event_id: id(n).into(),
                stage: Stage::Updated,
                facts: facts.into(),
                changes: Changes::default(),
            };
            let update = Update::Payout(PayoutOrigin::default(), failed);
            entity.merge(&Observation {
                key: key.clone(),
                created_s: 1,
                realm: crate::realm::Realm::MAIN,
                update,
            });
        }
        assert_eq!(SEARCHED.get(), 0, "merging does not compute it");
        entity.contributions();
        entity.conditions();
        assert!(transitions(&Entity::new(&key), &entity).len() == 1);
        assert_eq!(SEARCHED.get(), 1);
        let later = entity.clone();
        assert_eq!(later, entity);
        later.contributions();
        assert_eq!(SEARCHED.get(), 1, "not of a copy");
    }
}
