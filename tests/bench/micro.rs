//! Micro-benchmarks of the pure code that each event passes through, on one core and without any
//! server.
//!
//! `cargo bench --bench micro` prints all times; `-- plan` those with `plan` in their name. Bodies
//! have 2650 bytes unless stated otherwise. Dropping the results is not measured.

mod bodies;
#[expect(dead_code, reason = "the other benchmarks need more of it")]
mod business;

use std::collections::BTreeMap;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use revwatch_core::entity::{Entity, EntityKey};
use revwatch_core::event::Event;
use revwatch_core::observe::observe;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Body sizes: small, typical, large.
const BYTES: [usize; 3] = [500, bodies::USUAL, 20_000];

const ACCOUNT: Option<&str> = Some("acct_1MvYkQ2eZvKYlo2C");

fn main() {
    divan::main();
}

mod signature {
    use revwatch_core::signature::{DEFAULT_TOLERANCE_S, SigningKey, verify};

    use super::*;

    const NOW_S: i64 = 1_760_000_000;

    #[divan::bench(args = BYTES)]
    fn one_secret(bencher: Bencher, bytes: usize) {
        judged(bencher, bytes, &["whsec_a"]);
    }

    #[divan::bench(args = BYTES)]
    fn second_of_two_secrets(bencher: Bencher, bytes: usize) {
        judged(bencher, bytes, &["whsec_b", "whsec_a"]);
    }

    fn judged(bencher: Bencher, bytes: usize, secrets: &[&str]) {
        let keys: Vec<_> = secrets
            .iter()
            .filter_map(|secret| SigningKey::new(secret))
            .collect();
        let body = bodies::payout_of(bytes, ACCOUNT);
        let header = keys.last().expect("a secret").header(NOW_S, &body);
        let judge = || {
            verify(
                &keys,
                Some(header.as_bytes()),
                divan::black_box(&body),
                NOW_S,
                DEFAULT_TOLERANCE_S,
            )
        };
        assert_eq!(judge(), Ok(()));
        bencher.counter(BytesCount::new(body.len())).bench(judge);
    }
}

mod parse {
    use revwatch_core::event::partition_of;
    use revwatch_runtime::telemetry::Correlation;

    use super::*;

    #[divan::bench(args = BYTES)]
    fn of_an_account(bencher: Bencher, bytes: usize) {
        parsed(bencher, bytes, ACCOUNT);
    }

    /// The object determines the partition.
    #[divan::bench(args = BYTES)]
    fn of_the_platform(bencher: Bencher, bytes: usize) {
        parsed(bencher, bytes, None);
    }

    #[divan::bench]
    fn partition_alone(bencher: Bencher) {
        bencher.bench(|| partition_of(divan::black_box("acct_1MvYkQ2eZvKYlo2C"), 8));
    }

    #[divan::bench]
    fn trace_alone(bencher: Bencher) {
        bencher.bench(|| Correlation::of(divan::black_box("evt_1PqzvT2eZvKYlo2CmU3jWk9x")));
    }

    fn parsed(bencher: Bencher, bytes: usize, account: Option<&str>) {
        let body = bodies::payout_of(bytes, account);
        let parse = || Event::parse(divan::black_box(&body)).map(|event| event.partition(8));
        assert!(parse().is_ok());
        bencher.counter(BytesCount::new(body.len())).bench(parse);
    }
}

/// For a parsed event.
#[divan::bench(args = bodies::ABOUT)]
fn observe_of(bencher: Bencher, what: &str) {
    let (body, settings) = (bodies::about(what), business::settings());
    let event = Event::parse(&body).expect("an event");
    let seen = observe(&event, &settings.observe).expect("readable");
    assert_eq!(seen.is_empty(), what == "nothing");
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| observe(divan::black_box(&event), &settings.observe));
}

/// The operations on one entity, by its number of events.
mod entity {
    use revwatch_core::entity::{EntityKind, Observation};

    use super::*;
    use crate::business::Histories;

    /// Events of a subscription; the 8 are an account's.
    const EVENTS: [usize; 3] = [3, 8, 30];

    #[divan::bench(args = EVENTS)]
    fn merge(bencher: Bencher, events: usize) {
        let (entity, _, update) = known(events);
        bencher
            .with_inputs(|| entity.clone())
            .bench_refs(|entity| entity.merge(&update));
    }

    #[divan::bench(args = EVENTS)]
    fn contributions(bencher: Bencher, events: usize) {
        let (entity, ..) = known(events);
        bencher.bench(|| divan::black_box(&entity).contributions());
    }

    #[divan::bench(args = EVENTS)]
    fn conditions(bencher: Bencher, events: usize) {
        let (entity, ..) = known(events);
        bencher.bench(|| divan::black_box(&entity).conditions());
    }

    #[divan::bench(args = EVENTS)]
    fn transitions(bencher: Bencher, events: usize) {
        let (before, _, update) = known(events);
        let mut after = before.clone();
        after.merge(&update);
        bencher.bench(|| revwatch_core::entity::transitions(divan::black_box(&before), &after));
    }

    #[divan::bench(args = EVENTS)]
    fn clone(bencher: Bencher, events: usize) {
        let (entity, ..) = known(events);
        bencher.bench(|| divan::black_box(&entity).clone());
    }

    #[divan::bench(args = EVENTS)]
    fn encode(bencher: Bencher, events: usize) {
        let (entity, ..) = known(events);
        bencher
            .counter(BytesCount::new(entity.encode().len()))
            .bench(|| divan::black_box(&entity).encode());
    }

    #[divan::bench(args = EVENTS)]
    fn decode(bencher: Bencher, events: usize) {
        let (entity, key, _) = known(events);
        let bytes = entity.encode();
        bencher
            .counter(BytesCount::new(bytes.len()))
            .bench(|| Entity::decode(&key, divan::black_box(&bytes)));
    }

    /// All operations for this many updates of one subscription in one second that arrive in one
    /// batch.
    #[divan::bench(args = [30, 1_000])]
    fn crowded_second(bencher: Bencher, events: usize) {
        let settings = business::settings();
        let updates = |n: usize| {
            let items = |quantity: usize| {
                serde_json::json!({"data": [{"quantity": quantity, "price": {"unit_amount": 100, "recurring":
                    {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}}]})
            };
            // The order of the ids differs from the order of the changes.
            let body = serde_json::json!({
                "id": format!("evt_{:04}", n * 617 % events), "type": "customer.subscription.updated", "created": 5,
                "data": {"object": {"id": "sub_1", "status": "active", "currency": "usd", "items": items(n + 1)},
                         "previous_attributes": {"items": items(n)}},
            });
            let body = body.to_string();
            observe(
                &Event::parse(body.as_bytes()).expect("an event"),
                &settings.observe,
            )
            .expect("readable")
            .remove(0)
        };
        let updates: Vec<Observation> = (0..events).map(updates).collect();
        let before = Entity::new(&updates[0].key);
        bencher.bench(|| {
            let mut after = before.clone();
            divan::black_box(&updates)
                .iter()
                .for_each(|seen| after.merge(seen));
            let changed = revwatch_core::entity::transitions(&before, &after);
            (
                after.contributions(),
                after.conditions(),
                changed,
                after.encode(),
            )
        });
    }

    /// An entity with this many events, and the update of the next event.
    fn known(events: usize) -> (Entity, EntityKey, Observation) {
        let (histories, kind) = match events {
            8 => (Histories::accounts(1), EntityKind::Account),
            _ => (
                Histories::subscriptions_of_years(1),
                EntityKind::Subscription,
            ),
        };
        let settings = business::settings();
        let updates = histories.deliveries(1).take(events + 1).map(|delivery| {
            let seen = observe(
                &Event::parse(&delivery.body).expect("an event"),
                &settings.observe,
            )
            .expect("readable");
            seen.into_iter()
                .rfind(|seen| seen.key.kind == kind)
                .expect("it is about one")
        });
        let mut updates: Vec<_> = updates.collect();
        let update = updates.pop().expect("an event after them");
        let mut entity = Entity::new(&update.key);
        updates.iter().for_each(|seen| entity.merge(seen));
        (entity, update.key.clone(), update)
    }
}

/// A batch of renewals, one for each of this many subscriptions with three events each.
mod plan {
    use revwatch_core::event_settings::EventSettings;
    use revwatch_storage::ports::{Delivery, ReadResult, ReadSet, StoredEntity};
    use revwatch_storage::redis::packed;
    use revwatch_worker::batch::{Batch, Place};

    use super::*;
    use crate::business::Histories;

    const DELIVERIES: [usize; 3] = [1, 64, 256];

    #[divan::bench(args = DELIVERIES)]
    fn read(bencher: Bencher, deliveries: usize) {
        let scene = Scene::of(deliveries);
        bencher
            .counter(ItemsCount::new(deliveries))
            .counter(BytesCount::new(scene.bytes()))
            .bench(|| {
                Batch::read(
                    Place::ONLY,
                    divan::black_box(&scene.update),
                    &scene.settings,
                )
            });
    }

    #[divan::bench(args = DELIVERIES)]
    fn decide(bencher: Bencher, deliveries: usize) {
        let scene = Scene::of(deliveries);
        let batch = Batch::read(Place::ONLY, &scene.update, &scene.settings);
        let found = scene.found(&batch.read_set);
        bencher
            .counter(ItemsCount::new(deliveries))
            .counter(BytesCount::new(scene.bytes()))
            .bench(|| batch.decide(divan::black_box(&found), scene.now_ms()));
    }

    /// The encoding of a commit for Redis.
    #[divan::bench(args = DELIVERIES)]
    fn pack(bencher: Bencher, deliveries: usize) {
        let scene = Scene::of(deliveries);
        let batch = Batch::read(Place::ONLY, &scene.update, &scene.settings);
        let decision = batch
            .decide(&scene.found(&batch.read_set), scene.now_ms())
            .expect("readable");
        let (head, bodies) = packed(&decision.commit).expect("it can be packed");
        let bytes = head.len() + bodies.iter().map(Vec::len).sum::<usize>();
        bencher
            .counter(ItemsCount::new(deliveries))
            .counter(BytesCount::new(bytes))
            .bench(|| packed(divan::black_box(&decision.commit)));
    }

    struct Scene {
        settings: EventSettings,
        stored: BTreeMap<EntityKey, StoredEntity>,
        update: Vec<Delivery>,
    }

    impl Scene {
        fn of(deliveries: usize) -> Self {
            let histories = Histories::subscriptions_of_a_year(deliveries);
            let mut earlier: Vec<_> = histories
                .deliveries(1)
                .take(4 * deliveries)
                .map(bodies::usual)
                .collect();
            let update = earlier.split_off(3 * deliveries);
            let mut scene = Self {
                settings: business::settings(),
                stored: BTreeMap::new(),
                update,
            };
            for deliveries in earlier.chunks(deliveries) {
                let batch = Batch::read(Place::ONLY, deliveries, &scene.settings);
                let decision = batch
                    .decide(&scene.found(&batch.read_set), scene.now_ms())
                    .expect("readable");
                for write in decision.commit.entities {
                    scene.stored.insert(
                        write.key,
                        StoredEntity {
                            version: write.expected + 1,
                            body: write.body.expect("a batch deletes no entity"),
                        },
                    );
                }
            }
            scene
        }

        /// The entities are known, the deliveries are new.
        fn found(&self, want: &ReadSet) -> ReadResult {
            let entities = want
                .entities
                .iter()
                .map(|key| self.stored.get(key).cloned());
            ReadResult {
                dedupe_keys: vec![None; want.dedupe_keys.len()],
                entities: entities.collect(),
            }
        }

        fn bytes(&self) -> usize {
            self.update.iter().map(|delivery| delivery.body.len()).sum()
        }

        fn now_ms(&self) -> i64 {
            self.update[0].received_ms + 90
        }
    }
}

/// The evaluator's work in a tick, without reads and writes.
mod alerting {
    use std::borrow::Cow;
    use std::time::Duration;

    use fastrand::Rng;
    use revwatch_alerting::engine::{
        CounterRead, Documents, Engine, PipelineRead, ReadResult, TickTime,
    };
    use revwatch_alerting::metric_evaluation::{Evaluation, evaluate};
    use revwatch_alerting::metric_value::{MetricInputs, PipelineStatus};
    use revwatch_alerting::notify::Capabilities;
    use revwatch_alerting::phase::{HoldTimes, Phase, next_phase};
    use revwatch_alerting::policy::Policy;
    use revwatch_alerting::rule::{MetricRule, RuleKind};
    use revwatch_alerting::rule_text::built_in;
    use revwatch_core::bucket::{Bucket, first_minute, hour_of, last_minute};
    use revwatch_core::condition::{Condition, ConditionKind};
    use revwatch_core::counters::Counters;
    use revwatch_runtime::config::Config;
    use revwatch_storage::ports::{Changes, ConditionChange, DocumentWrite};

    use super::*;
    use crate::business::Histories;

    const NOW_S: i64 = 1_780_000_000;

    /// One built-in rule for each kind of metric: ratios over a day and a week, count, mean, drop,
    /// level, absence, and closed days.
    const RULES: [&str; 8] = [
        "payout_failure_rate",
        "onboarding_abandonment_by_country",
        "deauthorizations_spike",
        "onboarding_slow",
        "mrr_drop",
        "retry_queue_long",
        "events_missing",
        "past_due_share",
    ];

    #[divan::bench(args = RULES)]
    fn metric_rule(bencher: Bencher, rule: &str) {
        let (rule, counters) = (built_in_metric_rule(rule), counters());
        let facts = MetricInputs {
            begun_s: None,
            counters: &counters,
            pipeline: &PipelineStatus::default(),
            now_s: NOW_S,
        };
        bencher.bench(|| evaluate(divan::black_box(&rule), facts, []));
    }

    /// All built-in metric rules, with unchanged values.
    #[divan::bench]
    fn all_metric_rules(bencher: Bencher) {
        let (mut engine, counters) = (engine(), counters());
        let mut evaluate = || engine.tick(Some(divan::black_box(&counters)), &[]);
        // Alerts that fire do so now.
        evaluate();
        bencher.bench_local(evaluate);
    }

    /// A condition opens while nothing else is open.
    #[divan::bench]
    fn condition_opens(bencher: Bencher) {
        let change = changes(1);
        bencher
            .with_inputs(engine)
            .bench_local_refs(|engine| engine.tick(None, divan::black_box(&change)));
    }

    /// One of this many open conditions is updated.
    #[divan::bench(args = [1, 10_000])]
    fn condition_is_updated(bencher: Bencher, open: usize) {
        let (mut engine, changes) = (engine(), changes(open));
        engine.tick(None, &changes);
        bencher.bench_local(|| engine.tick(None, divan::black_box(&changes[..1])));
    }

    /// One step of an ongoing alert.
    #[divan::bench]
    fn step_alone(bencher: Bencher) {
        let evaluation = || Evaluation::Breached {
            since_s: NOW_S,
            evidence: Default::default(),
        };
        let phase = Phase::Firing {
            clear_since_s: None,
        };
        bencher.with_inputs(evaluation).bench_values(|evaluation| {
            next_phase(
                HoldTimes::default(),
                divan::black_box(phase),
                evaluation,
                NOW_S,
            )
        });
    }

    fn built_in_metric_rule(name: &str) -> MetricRule {
        let rule = built_in()
            .expect("valid")
            .into_iter()
            .find(|rule| rule.name == name);
        match rule.expect("a built-in rule").kind {
            RuleKind::Metric(rule) => *rule,
            RuleKind::Condition { .. } => panic!("{name} has no metric"),
        }
    }

    /// An engine and the number of its ticks: there is one in every millisecond.
    struct Ticking(Engine, u32);

    impl Ticking {
        /// A tick that finds these. With counters, a delivery was processed.
        fn tick(
            &mut self,
            counters: Option<&Counters>,
            changes: &[ConditionChange],
        ) -> Vec<DocumentWrite> {
            let none = Counters::default();
            let (mut writes, mut unread) = (Vec::new(), Some(changes));
            self.1 += 1;
            let time = TickTime {
                now_s: NOW_S,
                elapsed: Duration::from_millis(self.1.into()),
            };
            loop {
                let reads = self.0.required_reads(time);
                let page = |changes: &[ConditionChange]| Changes {
                    changes: changes.to_vec(),
                    ..Changes::default()
                };
                let output = self.0.tick(
                    ReadResult {
                        pipeline: reads.pipeline.then(PipelineRead::default),
                        deliveries: reads
                            .deliveries
                            .then(|| counters.map_or(0, |_| self.1.into())),
                        counters: reads.counters.as_ref().map(|_| CounterRead {
                            counters: Cow::Borrowed(counters.unwrap_or(&none)),
                            took: Duration::ZERO,
                        }),
                        changes: reads
                            .changes
                            .as_ref()
                            .map(|_| page(unread.take().unwrap_or(&[]))),
                        conditions: reads.conditions.as_ref().map(|_| Vec::new()),
                        ..ReadResult::default()
                    },
                    time,
                );
                writes.extend(output.decisions.writes);
                if output.unfinished.is_none() {
                    return writes;
                }
            }
        }
    }

    /// A new engine with the built-in rules and settings that has ticked once.
    fn engine() -> Ticking {
        let mut engine = Ticking(unticked(), 0);
        engine.tick(None, &[]);
        engine
    }

    fn unticked() -> Engine {
        let config = Config::load(None, &|_| None)
            .expect("the defaults")
            .alerting;
        let notifiers = vec![(
            "log".to_owned(),
            Capabilities {
                edits: false,
                resolves: true,
            },
        )];
        let policy = Policy::new(&config, notifiers).expect("valid");
        Engine::open(built_in().expect("valid"), policy, &Documents::default()).expect("empty")
    }

    /// This many accounts can no longer take charges.
    fn changes(accounts: usize) -> Vec<ConditionChange> {
        let (settings, mut entities) = (business::settings(), BTreeMap::new());
        let deliveries = Histories::enabled(accounts)
            .deliveries(1)
            .chain(Histories::lost(accounts).deliveries(1));
        for delivery in deliveries {
            for seen in observe(
                &Event::parse(&delivery.body).expect("an event"),
                &settings.observe,
            )
            .expect("readable")
            {
                entities
                    .entry(seen.key.clone())
                    .or_insert_with_key(Entity::new)
                    .merge(&seen);
            }
        }
        let open = entities.values().flat_map(Entity::conditions);
        let is_lost = |condition: &Condition| condition.key.kind == ConditionKind::ChargesLost;
        let changes: Vec<_> = open.filter(is_lost).map(ConditionChange::Open).collect();
        assert_eq!(changes.len(), accounts);
        changes
    }

    /// A business with three currencies and four countries, for the hours that the built-in rules
    /// read. Each hour has realistic values of every family of counters.
    fn counters() -> Counters {
        const STAGES: [&str; 4] = [
            "account_created",
            "onboarding_started",
            "external_account_added",
            "charges_enabled",
        ];
        let mut rng = Rng::with_seed(7);
        let mut counters = Counters::default();
        let now = hour_of(NOW_S);
        for hour in now - unticked().hours_needed()..=now {
            let hour = Bucket::Hour(hour);
            let mut some = |parts: &[&str], most: i64| counters.add(hour, parts, rng.i64(1..=most));
            some(&["events", "created"], 5000);
            for bound in ["10", "50", "100", "250", "500"] {
                some(&["events", "processing", bound], 2000);
            }
            for currency in ["usd", "eur", "brl"] {
                for (family, succeeded) in [("payouts", "paid"), ("payments", "succeeded")] {
                    some(&[family, succeeded, currency], 400);
                    some(&[family, "failed", currency], 4);
                }
                some(
                    &["main/connected:payouts_minor", "paid", currency],
                    9_000_000,
                );
                some(
                    &["main/connected:payouts_minor", "failed", currency],
                    90_000,
                );
                some(&["mrr_change", currency], 100_000);
            }
            for (i, stage) in STAGES.iter().enumerate() {
                for country in ["DE", "PT", "BR", "US"] {
                    some(&["cohort", stage, country], 20 - 5 * i as i64);
                }
                some(&["milestone", stage], 20);
                some(&["stage", stage, "count"], 20);
                some(&["stage", stage, "seconds"], 200_000);
                for bucket in ["60", "72", "84", "96"] {
                    some(&["stage_bucket", stage, bucket], 10);
                    some(&["onboarded_bucket", bucket], 10);
                }
            }
            some(&["onboarded", "count"], 20);
            some(&["onboarded", "seconds"], 900_000);
            some(&["deauthorized"], 1);
            for (part, most) in [("all", 50), ("paying", 40), ("past_due", 5)] {
                some(&["base", part], most);
            }
            some(&["charging_change"], 20);
        }
        for hour in unticked().buckets_needed(NOW_S).minutes_of {
            for minute in first_minute(hour)..=last_minute(hour) {
                let minute = Bucket::Minute(minute);
                let mut some =
                    |parts: &[&str], most: i64| counters.add(minute, parts, rng.i64(1..=most));
                for currency in ["usd", "eur", "brl"] {
                    some(&["main/connected:payouts", "paid", currency], 7);
                    some(&["payments", "succeeded", currency], 7);
                    some(&["mrr_change", currency], 2_000);
                }
                some(&["cohort", "account_created", "PT"], 2);
            }
        }
        let current = [
            (&["events", "applied"][..], 9_000_000),
            (&["mrr", "usd"], 900_000_000),
            (&["mrr", "eur"], 400_000_000),
            (&["mrr", "brl"], 300_000_000),
            (&["mrr_past_due", "usd"], 4_000_000),
            (&["base", "all"], 500_000),
            (&["base", "paying"], 450_000),
            (&["base", "past_due"], 9000),
            (&["accounts_charging"], 80_000),
            (&["invoices_retrying"], 300),
            (&["invoices_open_minor", "usd"], 7_000_000),
        ];
        for (parts, value) in current {
            counters.add(Bucket::Current, parts, value);
        }
        counters
    }
}
