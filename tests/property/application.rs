//! Events of the user's own application, mixed with Stripe's of the same accounts and customers: any order, repeats and
//! batches give the same bytes, and the numbers of a model.

use fastrand::Rng;
use revwatch_core::bucket::Bucket;
use revwatch_core::counters::Counters;
use revwatch_core::entity::Entity;
use revwatch_core::kpi::Kpis;

use super::{END_S, Memory, recompute};
use crate::support::history::History;
use crate::support::history::application::{AppCounts, AppHistory, FAMILIES};

const SIZE: usize = 12;

/// The counters that the model covers, of all classes together. Zero is as not there.
pub(crate) fn covered(counters: &Counters) -> AppCounts {
    let mut covered = AppCounts::new();
    for (bucket, name, value) in counters.iter() {
        // What a counter's class is stands before a colon.
        let name = name.split_once(':').map_or(name, |(_, name)| name);
        let hour = match bucket {
            Bucket::Current => None,
            Bucket::Hour(hour) => Some(hour),
            Bucket::Minute(_) => continue,
        };
        let is_covered = |family: &&str| {
            let rest = name.strip_prefix(*family);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
        };
        if FAMILIES.iter().any(is_covered) {
            *covered.entry((hour, name.to_owned())).or_default() += value;
        }
    }
    covered.retain(|_, value| *value != 0);
    covered
}

/// A model that expects nothing would agree with anything.
#[test]
fn the_model_has_every_family_and_every_status() {
    let seed = fastrand::u64(..u64::MAX / 2);
    // One history may lack one of them by chance.
    let histories = (seed..seed + 20).map(|seed| AppHistory::new(seed, SIZE, 1_000, END_S));
    let names: Vec<String> = histories
        .flat_map(|history| history.expected().into_keys().map(|(_, name)| name))
        .collect();
    let has = |name: &str| names.iter().any(|it| it.starts_with(name));
    for name in FAMILIES {
        assert!(has(name), "seed {seed}: no {name}");
    }
    for name in ["tickets|closed", "members|left", "booking_fees_minor|eur"] {
        assert!(has(name), "seed {seed}: no {name}");
    }
}

#[test]
fn any_order_and_repetition_equals_the_model() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    for seed in first..first + 12 {
        let mut rng = Rng::with_seed(seed);
        let stripes = History::new(seed, SIZE, END_S);
        let count = rng.usize(1..300);
        let application = AppHistory::new(seed, SIZE, count, END_S);
        let mut events = stripes.events.clone();
        events.extend(application.bodies());
        let in_order = Memory::apply_batches(&events, &mut rng);
        assert_eq!(in_order.applied, events.len(), "seed {seed}");
        for shuffle in 0..3 {
            let mut delivered = events.clone();
            let repeats = (0..events.len() / 3).map(|_| events[rng.usize(..events.len())].clone());
            delivered.extend(repeats.collect::<Vec<_>>());
            rng.shuffle(&mut delivered);
            let shuffled = Memory::apply_batches(&delivered, &mut rng);
            assert_eq!(
                shuffled.bodies(),
                in_order.bodies(),
                "seed {seed}, shuffle {shuffle}"
            );
            assert_eq!(shuffled.open, in_order.open, "seed {seed}");
            assert_eq!(shuffled.applied, events.len(), "seed {seed}, each once");
            let counted = covered(&shuffled.counters);
            assert_eq!(counted, application.expected(), "seed {seed}");
            says_the_same_of_stripes(&stripes, &shuffled, seed);
            recounted_is_the_same(&shuffled, seed);
        }
    }
}

/// What the application says changes nothing of what Stripe says, but for the steps of accounts.
fn says_the_same_of_stripes(stripes: &History, state: &Memory, seed: u64) {
    let shown = Kpis::compute(&state.counters, END_S);
    let shown = serde_json::to_value(shown).expect("JSON");
    let expected = &stripes.expected;
    for (key, counts) in [
        ("subscriptions", &expected.subscriptions),
        ("mrr_minor", &expected.mrr_minor),
        ("invoices_open_minor", &expected.invoices_open_minor),
        ("payouts", &expected.payouts),
    ] {
        let mut counts = counts.clone();
        counts.retain(|_, count| *count != 0);
        assert_eq!(shown[key], serde_json::json!(counts), "seed {seed}: {key}");
    }
    assert_eq!(
        shown["accounts_charging"], expected.charging_accounts,
        "seed {seed}"
    );
}

fn recounted_is_the_same(state: &Memory, seed: u64) {
    let entities = state.entities.iter();
    let entities: Vec<Entity> = entities
        .map(|(key, stored)| Entity::decode(key, &stored.body).expect("readable"))
        .collect();
    assert_eq!(
        covered(&recompute(&entities)),
        covered(&state.counters),
        "seed {seed}"
    );
}
