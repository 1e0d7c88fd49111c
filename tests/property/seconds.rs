//! The order of events within one second never changes: stored aggregates depend on it. The
//! optimised search is compared with a plain form of the same search, which checks every pair and
//! sorts at every step.

use fastrand::Rng;
use revwatch_core::entity::timeline::{Before, Changes, Facts, RecordedState, Stage, Timeline};

/// Facts with few different values, so that many are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SmallFacts {
    progress: u64,
    fields: [u32; 3],
}

impl Facts for SmallFacts {
    const FIELDS: &'static [&'static str] = &["status", "requirements.due", "items"];

    fn progress(&self) -> u64 {
        self.progress
    }

    fn value(&self, place: usize) -> u32 {
        self.fields[place]
    }
}

#[test]
fn the_order_within_a_second_equals_that_of_the_plain_search() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    for seed in first..first + 1_500 {
        let mut rng = Rng::with_seed(seed);
        // Few enough for a complete search, or so many that it reaches its step limit.
        let max_states = if seed.is_multiple_of(50) { 60 } else { 11 };
        let mut timeline = Timeline::default();
        for recorded in random_states(&mut rng, max_states) {
            timeline.insert(recorded);
        }
        let ordered: Vec<&RecordedState<SmallFacts>> = timeline.in_order();
        let mut sorted = ordered.clone();
        sorted.sort_by_key(|s| (s.created_s, s.event_id.hash()));
        let ids = |states: &[&RecordedState<SmallFacts>]| {
            states
                .iter()
                .map(|s| s.event_id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&ordered), ids(&plain::in_order(&sorted)), "seed {seed}");
        assert_eq!(timeline.last(), ordered.last().copied(), "seed {seed}");
    }
}

/// The search reaches its step limit.
#[test]
fn the_order_of_many_events_equals_that_of_the_plain_search() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let states = random_states(&mut rng, 250);
    let mut timeline = Timeline::default();
    for recorded in states.iter().chain(&states) {
        timeline.insert(recorded.clone());
    }
    let ordered = timeline.in_order();
    let mut sorted = ordered.clone();
    sorted.sort_by_key(|s| (s.created_s, s.event_id.hash()));
    assert!(ordered == plain::in_order(&sorted), "seed {seed}");
}

/// A random sequence of states of an object. Of its events some are repeated, some lost, and some
/// without previous values.
fn random_states(rng: &mut Rng, max_states: usize) -> Vec<RecordedState<SmallFacts>> {
    let values = rng.u32(1..=4);
    let kinds = rng.bool();
    let share_without_changes = rng.f64();
    let mut now = SmallFacts {
        progress: 0,
        fields: [0; 3],
    };
    let mut states: Vec<RecordedState<SmallFacts>> = Vec::new();
    for _ in 0..rng.usize(1..=max_states) {
        let mut changed = Vec::new();
        for (i, value) in (0..).zip(&mut now.fields) {
            if rng.f64() < 0.4 {
                let former = std::mem::replace(value, rng.u32(0..values));
                // Of some fields, only a part changed.
                changed.push((i, (rng.f64() < 0.9).then_some(former)));
            }
        }
        if rng.f64() < 0.2 {
            now.progress = rng.u64(0..3);
        }
        let changes = (rng.f64() >= share_without_changes).then_some(changed);
        let stage = match rng.u32(0..8) {
            0 if kinds => Stage::Created,
            1 if kinds => Stage::Deleted,
            _ => Stage::Updated,
        };
        let id = format!("evt_{:08x}", rng.u32(..));
        let recorded = RecordedState {
            created_s: rng.i64(0..2),
            event_id: id.into(),
            stage,
            facts: now.clone().into(),
            changes: Changes::new(changes),
        };
        match rng.u32(0..10) {
            // Repeated by another event.
            0 => states.push(RecordedState {
                event_id: format!("{}_again", recorded.event_id).into(),
                ..recorded.clone()
            }),
            // Lost.
            1 => continue,
            _ => {}
        }
        states.push(recorded);
    }
    rng.shuffle(&mut states);
    states
}

/// The reference search.
mod plain {
    use super::*;

    const CONTRADICTING: u32 = 3;
    const REPEATED: u32 = 2;
    const MAX_STEPS: u32 = 5_000;

    /// `states` is sorted by time and id.
    pub(super) fn in_order<'a>(
        states: &[&'a RecordedState<SmallFacts>],
    ) -> Vec<&'a RecordedState<SmallFacts>> {
        let mut ordered: Vec<&RecordedState<SmallFacts>> = Vec::new();
        for second in states.chunk_by(|a, b| a.created_s == b.created_s) {
            let mut group = second.to_vec();
            group.sort_by_key(|s| (s.stage, s.facts.progress(), s.event_id.hash()));
            for class in group
                .chunk_by(|a, b| a.stage == b.stage && a.facts.progress() == b.facts.progress())
            {
                let chained = order(ordered.last().copied(), class);
                ordered.extend(chained);
            }
        }
        ordered
    }

    fn order<'a>(
        before: Option<&'a RecordedState<SmallFacts>>,
        class: &[&'a RecordedState<SmallFacts>],
    ) -> Vec<&'a RecordedState<SmallFacts>> {
        let count = class.len();
        let all: Vec<_> = class.iter().copied().chain(before).collect();
        let row = |(i, a): (usize, &&RecordedState<SmallFacts>)| {
            (0..count)
                .map(|j| {
                    if i == j {
                        CONTRADICTING
                    } else {
                        link_cost(a, all[j])
                    }
                })
                .collect()
        };
        let mut costs: Vec<Vec<u32>> = all.iter().enumerate().map(row).collect();
        if before.is_none() {
            costs.push(vec![0; count]);
        }
        let minimum_costs: Vec<u32> = (0..count)
            .map(|j| costs.iter().map(|row| row[j]).min().unwrap_or(0))
            .collect();
        let rest = minimum_costs.iter().sum();
        let has_before = before.is_some();
        let (path, used) = (Vec::new(), vec![false; count]);
        let mut search = Search {
            costs,
            minimum_costs,
            has_before,
            best: None,
            path,
            used,
            steps: 0,
        };
        search.extend(count, 0, rest);
        search.best.map_or_else(
            || class.to_vec(),
            |(_, order)| order.into_iter().map(|i| class[i]).collect(),
        )
    }

    struct Search {
        costs: Vec<Vec<u32>>,
        minimum_costs: Vec<u32>,
        has_before: bool,
        best: Option<(u32, Vec<usize>)>,
        path: Vec<usize>,
        used: Vec<bool>,
        steps: u32,
    }

    impl Search {
        fn extend(&mut self, last: usize, cost: u32, rest: u32) {
            if self
                .best
                .as_ref()
                .is_some_and(|(best, _)| cost + rest >= *best || self.steps >= MAX_STEPS)
            {
                return;
            }
            self.steps += 1;
            if self.path.len() == self.used.len() {
                self.best = Some((cost, self.path.clone()));
                return;
            }
            let mut next: Vec<usize> = (0..self.used.len()).filter(|&i| !self.used[i]).collect();
            let begins = self.path.is_empty() && !self.has_before;
            next.sort_by_key(|&i| {
                (
                    if begins {
                        CONTRADICTING - self.minimum_cost(i)
                    } else {
                        self.costs[last][i]
                    },
                    i,
                )
            });
            for i in next {
                self.used[i] = true;
                self.path.push(i);
                self.extend(i, cost + self.costs[last][i], rest - self.minimum_costs[i]);
                self.path.pop();
                self.used[i] = false;
            }
        }

        fn minimum_cost(&self, i: usize) -> u32 {
            self.costs[..self.used.len()]
                .iter()
                .map(|row| row[i])
                .min()
                .unwrap_or(0)
        }
    }

    fn link_cost(a: &RecordedState<SmallFacts>, b: &RecordedState<SmallFacts>) -> u32 {
        let (a_values, b_values) = (a.facts.values(), b.facts.values());
        let contradicting = if a_values == b_values && a.changes == b.changes {
            REPEATED
        } else {
            CONTRADICTING
        };
        let mut evidence = false;
        for (i, (value_a, value_b)) in a_values.iter().zip(b_values).enumerate() {
            let before = match b.changes.before(i) {
                Before::Nothing | Before::NotSaid | Before::Same => value_b,
                Before::Was(former) => former,
                Before::Unknown => continue,
            };
            if *value_a != before {
                return contradicting;
            }
            evidence |= matches!(b.changes.before(i), Before::Was(_));
        }
        u32::from(!evidence)
    }
}
