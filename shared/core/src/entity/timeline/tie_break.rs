//! The order of sightings of one object in one second that neither kind of event nor lifecycle tells
//! apart: found by what each of them changed.
//!
//! Invariant: the order is a function of the sightings and of the one before them, whatever it costs to
//! find: the search is bounded by steps, never by time. A stored aggregate depends on it, so it never changes:
//! `tests/property/seconds.rs` keeps the plain form of the same search to compare with.

use std::collections::HashMap;

use super::{Facts, RecordedState};

/// Orders `class`, which is sorted by event id, so that as many as possible follow from their
/// predecessor; event ids break ties. The answer are indices of `class`.
pub(super) fn order<F: Facts>(
    before: Option<&RecordedState<F>>,
    class: &[&RecordedState<F>],
) -> Vec<usize> {
    if class.len() < 2 {
        return (0..class.len()).collect();
    }
    let costs = Costs::new(&looks(class.iter().copied().chain(before)), class.len());
    Search::new(&costs).best()
}

/// After so many steps the best order found by then is taken; the first one found goes from each
/// sighting to the likeliest next.
const MAX_STEPS: u32 = 5_000;

/// What a sighting is recognised by. Paths are numbered: most pairs are compared by a number or two.
struct Look {
    /// Alike in fields and changes.
    alike: usize,
    /// The values of the followed fields.
    fields: Vec<u32>,
    /// The values of the followed fields before its event; `None` where that cannot be told.
    came_from: Vec<Option<u32>>,
    /// Whether its event changed a followed field.
    changed: bool,
    /// All that its event changed: path, value before, value after.
    changes: Vec<[u32; 3]>,
    /// The same, of the fields that are not followed.
    others: Vec<[u32; 3]>,
}

/// Reads each sighting once.
fn looks<'a, F: Facts + 'a>(sightings: impl Iterator<Item = &'a RecordedState<F>>) -> Vec<Look> {
    let (mut paths, mut alike) = (HashMap::new(), HashMap::new());
    let look = |sighting: &'a RecordedState<F>| {
        let followed = sighting.facts.fields();
        let mut changes = Vec::with_capacity(sighting.changes.len());
        let mut others = Vec::new();
        for change in &sighting.changes {
            let next = paths.len();
            let number = *paths.entry(change.path.as_str()).or_insert(next);
            // At most as many as there are changes of a second's sightings, each of which takes far more memory.
            let numbered = [
                u32::try_from(number).unwrap_or(u32::MAX),
                change.from,
                change.to,
            ];
            changes.push(numbered);
            if followed.iter().all(|(path, _)| *path != change.path) {
                others.push(numbered);
            }
        }
        let mut changed = false;
        let came_from = followed.iter().map(|(path, value)| {
            if let Some(change) = sighting.changes.iter().find(|c| c.path == *path) {
                changed = true;
                return Some(change.from);
            }
            // A part of it changed, or something around it: what it was before cannot be told.
            let hidden = sighting
                .changes
                .iter()
                .any(|c| encloses(&c.path, path) || encloses(path, &c.path));
            (!hidden).then_some(*value)
        });
        let came_from = came_from.collect();
        let fields: Vec<u32> = followed.iter().map(|(_, value)| *value).collect();
        let next = alike.len();
        let alike = *alike
            .entry((fields.clone(), changes.clone()))
            .or_insert(next);
        Look {
            alike,
            fields,
            came_from,
            changed,
            changes,
            others,
        }
    };
    sightings.map(look).collect()
}

/// What it costs to go from one sighting to another.
struct Costs {
    count: usize,
    /// Row by row, `count` to a row; the last row is that of the sighting before all, if there is one.
    rows: Vec<u8>,
    has_before: bool,
}

impl Costs {
    /// `looks` are the `count` sightings to order, then the one before them if there is one.
    fn new(looks: &[Look], count: usize) -> Self {
        let mut costs = Self {
            count,
            rows: vec![AGAINST; looks.len() * count],
            has_before: looks.len() > count,
        };
        // By what can be told of the values before it, each finds those that it may follow. There are few such masks.
        let mut masks: HashMap<Vec<bool>, HashMap<Vec<u32>, Vec<usize>>> = HashMap::new();
        let mut alike: HashMap<usize, Vec<usize>> = HashMap::new();
        for (a, look) in looks.iter().enumerate() {
            alike.entry(look.alike).or_default().push(a);
        }
        for (b, to) in looks[..count].iter().enumerate() {
            for &a in alike
                .get(&to.alike)
                .into_iter()
                .flatten()
                .filter(|a| **a != b)
            {
                costs.rows[a * count + b] = REPEATED;
            }
            let mask: Vec<bool> = to.came_from.iter().map(Option::is_some).collect();
            let by_fields = masks.entry(mask).or_insert_with_key(|mask| {
                let mut by_fields: HashMap<_, Vec<_>> = HashMap::new();
                for (a, look) in looks.iter().enumerate() {
                    let told = look
                        .fields
                        .iter()
                        .zip(mask)
                        .filter(|(_, told)| **told)
                        .map(|(value, _)| *value);
                    by_fields
                        .entry(told.collect::<Vec<u32>>())
                        .or_default()
                        .push(a);
                }
                by_fields
            });
            let wanted: Vec<u32> = to.came_from.iter().copied().flatten().collect();
            for &a in by_fields
                .get(&wanted)
                .into_iter()
                .flatten()
                .filter(|a| **a != b)
            {
                #[cfg(test)]
                work::done(&work::COMPARED);
                if let Some(cost) = cost_of_following(&looks[a], to) {
                    costs.rows[a * count + b] = cost;
                }
            }
        }
        costs
    }

    fn of(&self, from: usize, to: usize) -> u8 {
        self.rows[from * self.count + to]
    }

    /// The least that it costs to come to each, from any of the first `rows`.
    fn least(&self, rows: usize) -> Vec<u8> {
        let mut least = vec![AGAINST; self.count];
        for row in self.rows.chunks(self.count).take(rows) {
            least
                .iter_mut()
                .zip(row)
                .for_each(|(least, cost)| *least = (*least).min(*cost));
        }
        least
    }
}

/// Something speaks against it.
const AGAINST: u8 = 3;
/// Both tell of the same change: Stripe sometimes sends two events for one.
const REPEATED: u8 = 2;

/// 0: `b` plainly follows `a`; 1: nothing speaks for or against it; `None`: something speaks against it.
///
/// `b` follows `a` when undoing what `b` changed gives `a`, in every field that both know. Of the followed fields that
/// is known already; others are known of `a` only where it changed them itself.
fn cost_of_following(a: &Look, b: &Look) -> Option<u8> {
    let mut evidence = b.changed;
    for [path, from, _] in &b.others {
        match a.changes.iter().find(|[earlier, ..]| earlier == path) {
            Some([.., to]) if to == from => evidence = true,
            Some(_) => return None,
            None => {}
        }
    }
    Some(u8::from(!evidence))
}

fn encloses(outer: &str, inner: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// Depth first, keeping the first of the cheapest orders.
struct Search<'a> {
    costs: &'a Costs,
    /// The least that it can cost to come to each.
    least: Vec<u8>,
    /// What comes first, in this order, when nothing was before.
    begins: Option<Vec<u8>>,
    /// Not in the path, sorted.
    free: Vec<usize>,
    path: Vec<Place>,
    best: Option<(u32, Vec<usize>)>,
}

/// How far the search has come at one place of the path: what comes next is tried from the likeliest on.
struct Place {
    /// The sighting; at the root, the one before all.
    at: usize,
    /// What the path costs up to here.
    cost: u32,
    /// The least that what is left costs.
    rest: u32,
    /// Tried next: how unlikely, and from which sighting on.
    next: (u8, usize),
}

impl<'a> Search<'a> {
    fn new(costs: &'a Costs) -> Self {
        let count = costs.count;
        // With nothing before it, a chain begins anywhere at no cost: first at what follows from none of the others.
        let begins = (!costs.has_before).then(|| {
            costs
                .least(count)
                .into_iter()
                .map(|least| AGAINST - least)
                .collect()
        });
        Self {
            costs,
            least: if costs.has_before {
                costs.least(count + 1)
            } else {
                vec![0; count]
            },
            begins,
            free: (0..count).collect(),
            path: Vec::with_capacity(count + 1),
            best: None,
        }
    }

    /// The indices of the cheapest order that is found.
    fn best(mut self) -> Vec<usize> {
        self.run();
        self.best
            .map_or_else(|| (0..self.costs.count).collect(), |(_, order)| order)
    }

    fn run(&mut self) {
        #[cfg(test)]
        work::done(&work::SEARCHED);
        let rest = self.least.iter().copied().map(u32::from).sum();
        self.path.push(Place {
            at: self.costs.count,
            cost: 0,
            rest,
            next: (0, 0),
        });
        let mut steps = 1;
        while let Some(place) = self.path.last() {
            let (cost, rest) = (place.cost, place.rest);
            if self.free.is_empty() {
                let order = self.path.iter().skip(1).map(|place| place.at).collect();
                self.best = Some((cost, order));
            }
            let Some((to, by)) = self.next() else {
                self.back();
                continue;
            };
            // A first order is found whatever it takes.
            if self.best.is_some() && steps >= MAX_STEPS {
                return;
            }
            steps += 1;
            let rest = rest - u32::from(self.least[to]);
            if let Ok(at) = self.free.binary_search(&to) {
                self.free.remove(at);
            }
            self.path.push(Place {
                at: to,
                cost: cost + by,
                rest,
                next: (0, 0),
            });
        }
    }

    /// Leaves the last place of the path.
    fn back(&mut self) {
        if let Some(left) = self.path.pop()
            && !self.path.is_empty()
        {
            let at = self.free.partition_point(|free| *free < left.at);
            self.free.insert(at, left.at);
        }
    }

    /// What is to be tried next at the last place of the path, and what it costs to go there. What cannot lead to a
    /// cheaper order than the best is left out.
    fn next(&mut self) -> Option<(usize, u32)> {
        let place = self.path.last_mut()?;
        let begins = self
            .begins
            .as_ref()
            .filter(|_| place.at == self.costs.count);
        // Less than this may be spent beyond the least, for this step.
        let left = match &self.best {
            Some((best, _)) => best.saturating_sub(place.cost + place.rest),
            None => u32::MAX,
        };
        if left == 0 {
            return None;
        }
        let (unlikely, from) = place.next;
        for unlikely in unlikely..=AGAINST {
            let from = if unlikely == place.next.0 { from } else { 0 };
            let at = self.free.partition_point(|free| *free < from);
            for &to in &self.free[at..] {
                #[cfg(test)]
                work::done(&work::TRIED);
                let (order, by) = match begins {
                    Some(begins) => (begins[to], 0),
                    None => {
                        let cost = self.costs.of(place.at, to);
                        (cost, cost)
                    }
                };
                if order == unlikely && u32::from(by - self.least[to]) < left {
                    place.next = (unlikely, to + 1);
                    return Some((to, u32::from(by)));
                }
            }
        }
        None
    }
}

/// What a search costs, counted: time is not for tests to measure.
#[cfg(test)]
mod work {
    use std::cell::Cell;
    use std::thread::LocalKey;

    thread_local! {
        /// Searches.
        pub(super) static SEARCHED: Cell<usize> = const { Cell::new(0) };
        /// Pairs of sightings compared.
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
        /// Sightings looked at as the next of an order.
        pub(super) static TRIED: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn done(what: &'static LocalKey<Cell<usize>>) {
        what.set(what.get() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Stage, Timeline};
    use super::work::{COMPARED, SEARCHED, TRIED};
    use super::*;
    use crate::entity::payout::{PayoutFacts, PayoutOrigin};
    use crate::entity::{Entity, EntityKey, EntityKind, Observation, Update, transitions};

    /// Two followed fields.
    #[derive(Debug, Clone)]
    struct Pair(u32, u32);

    impl Facts for Pair {
        fn progress(&self) -> u64 {
            0
        }

        fn fields(&self) -> Vec<(&'static str, u32)> {
            vec![("status", self.0), ("quantity", self.1)]
        }
    }

    const MANY: usize = 1_000;

    /// In an order that is not that of their ids.
    fn id(n: usize) -> String {
        format!("evt_{:04}", n * 617 % MANY)
    }

    fn sighting(n: usize, facts: Pair, change: Option<(&str, usize)>) -> RecordedState<Pair> {
        let number = |n| u32::try_from(n).expect("a small number");
        let changes = change.map(|(path, from)| Change {
            path: path.into(),
            from: number(from),
            to: number(from + 1),
        });
        RecordedState {
            created_s: 1,
            event_id: id(n),
            stage: Stage::Updated,
            facts,
            changes: changes.into_iter().collect(),
        }
    }

    fn timeline(told: impl Iterator<Item = RecordedState<Pair>>) -> Timeline<Pair> {
        let mut timeline = Timeline::default();
        told.for_each(|sighting| timeline.insert(sighting));
        timeline
    }

    #[test]
    fn what_follows_plainly_is_compared_with_nothing_else() {
        let quantity = |n: usize| Pair(7, u32::try_from(n).expect("a small number"));
        let chain =
            timeline((1..=MANY).map(|n| sighting(n, quantity(n), Some(("quantity", n - 1)))));
        let ordered: Vec<u32> = chain.in_order().iter().map(|s| s.facts.1).collect();
        assert!(ordered.is_sorted() && ordered.len() == MANY, "{ordered:?}");
        assert!(COMPARED.get() < MANY, "{} pairs compared", COMPARED.get());
        assert!(TRIED.get() < 2 * MANY * MANY, "{} tried", TRIED.get());
    }

    #[test]
    fn what_nothing_tells_apart_costs_little_for_each_pair() {
        let alike = |n: usize| sighting(n, Pair(7, u32::from(n.is_multiple_of(2))), None);
        let of_other_fields = |n: usize| sighting(n, Pair(7, 7), Some(("metadata.visits", n)));
        for told in [
            (0..MANY).map(alike).collect::<Vec<_>>(),
            (0..MANY).map(of_other_fields).collect(),
        ] {
            COMPARED.set(0);
            TRIED.set(0);
            assert_eq!(timeline(told.into_iter()).in_order().len(), MANY);
            assert!(
                COMPARED.get() < MANY * MANY,
                "{} pairs compared",
                COMPARED.get()
            );
            assert!(TRIED.get() < 5 * MANY * MANY, "{} tried", TRIED.get());
        }
    }

    #[test]
    fn of_more_than_the_search_has_steps_a_first_order_is_found() {
        let quantity = |n: usize| Pair(7, u32::try_from(n).expect("a small number"));
        const MORE: usize = MAX_STEPS as usize + 10;
        let told = (1..=MORE).map(|n| RecordedState {
            event_id: format!("evt_{:04}", MORE - n),
            ..sighting(n, quantity(n), Some(("quantity", n - 1)))
        });
        assert!(
            timeline(told)
                .in_order()
                .iter()
                .map(|s| s.facts.1)
                .is_sorted()
        );
    }

    /// All that a batch asks of an entity.
    #[test]
    fn an_order_is_found_once_however_often_it_is_asked_for() {
        let key = EntityKey::new(EntityKind::Payout, "po_1");
        let mut entity = Entity::new(&key);
        for n in 0..40 {
            let facts = PayoutFacts {
                status: "failed".to_owned().into(),
                failure_code: None,
                failure_message: None,
            };
            let seen = RecordedState {
                created_s: 1,
                event_id: id(n),
                stage: Stage::Updated,
                facts,
                changes: Vec::new(),
            };
            let news = Update::Payout(PayoutOrigin::default(), seen);
            entity.merge(&Observation {
                key: key.clone(),
                created_s: 1,
                news,
            });
        }
        assert_eq!(SEARCHED.get(), 0, "by merging alone");
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
