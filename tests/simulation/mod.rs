//! A seeded simulation of ingest, worker with resolver, and alerting in one process, on the memory adapters and in
//! virtual time: a business as Stripe's events, a Stripe that reorders, repeats and retries them, a
//! Slack that fails, and crashes, stalls, rollbacks and clock jumps. A seed decides all of it. The
//! notifier for Slack is the real one, on a transport in memory.
//!
//! Once the faults end, every run must come to rest; `oracle.rs` says what must be true then.

mod discounts;
mod faults;
mod oracle;
mod panics;
mod slack;
mod stripe;
mod trace;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use revwatch_core::clock::Clock as _;
use revwatch_core::event::Event;
use revwatch_storage::ports::{Consume as _, Delivery, Publish as _, Recovery as _};
use serde_json::json;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use self::oracle::Broken;
use self::trace::Trace;
use self::world::{PARTITIONS, START_S, World};
use crate::support::history::History;
use crate::support::is_long;

/// How long events arrive and faults happen, in virtual time.
const FAULTY: Duration = Duration::from_secs(90);
/// How long a run may take to come to rest, in virtual time.
const REST_WITHIN: Duration = Duration::from_secs(1200);
/// Nothing changes for this long: the run is at rest. Longer than a lease.
const REST_SECONDS: u32 = 10;
/// Runs by default, and ten times as many, with other seeds, in long tests; `REVWATCH_SIMULATION_RUNS`
/// requests another number.
const RUNS: u64 = 200;

#[test]
fn what_is_accepted_is_applied_once_and_alerts_reach_slack_whatever_fails() {
    // The same seeds every time, so that a change that fails is the cause; long tests look further.
    let (default_first, default) = match is_long() {
        false => (1, RUNS),
        true => (fastrand::u64(..1 << 48), 10 * RUNS),
    };
    let first = variable("REVWATCH_SIMULATION_SEED").unwrap_or(default_first);
    let runs = variable("REVWATCH_SIMULATION_RUNS").unwrap_or(default);
    eprintln!("seeds {first} to {}", first + runs - 1);
    let next = AtomicU64::new(0);
    let failed: Vec<(u64, Broken)> = std::thread::scope(|scope| {
        let work = || {
            let mut failed = Vec::new();
            while failed.is_empty() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= runs {
                    break;
                }
                let seed = first + number;
                failed.extend(run(seed).err().map(|broken| (seed, broken)));
            }
            failed
        };
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        let ended = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"));
        ended.flatten().collect()
    });
    for (seed, broken) in &failed {
        eprintln!(
            "seed {seed}: {broken}\nrepeat it: REVWATCH_SIMULATION_SEED={seed} REVWATCH_SIMULATION_RUNS=1 \
             cargo test -p revwatch --test all -- simulation::what"
        );
    }
    assert!(failed.is_empty(), "{} runs failed", failed.len());
}

#[test]
fn a_seed_repeats_the_same_run() {
    for seed in 1..=3 {
        let [one, two] = [(); 2].map(|()| run(seed).expect("a run without fault"));
        let different = one
            .lines()
            .into_iter()
            .zip(two.lines())
            .find(|(a, b)| a != b);
        // The message of a panic is not shown.
        if let Some((one, two)) = &different {
            eprintln!("seed {seed}:\n{one}\n{two}");
        }
        assert_eq!(different, None, "seed {seed}");
        assert_eq!(one.hash(), two.hash(), "seed {seed}");
    }
}

/// One run on a thread and a runtime of its own.
fn run(seed: u64) -> Result<Trace, Broken> {
    let body = move || {
        // Backoffs draw from the thread's generator, and so do the names of temporary folders.
        world::read_files();
        fastrand::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (trace, result) = runtime.block_on(simulate(seed));
        drop(runtime);
        let panics = panics::take();
        let result = match panics.first() {
            Some(panic) => Err(format!("a panic: {panic}")),
            None => result,
        };
        if variable("REVWATCH_SIMULATION_TRACE").is_some() {
            eprintln!("{}", trace.lines().join("\n"));
        }
        result.map(|()| trace)
    };
    panics::record(body)
}

async fn simulate(seed: u64) -> (Trace, Result<(), Broken>) {
    let mut rng = Rng::with_seed(seed);
    let size = rng.usize(4..12);
    // The story begins twenty minutes before the run.
    let history = History::new(rng.u64(..), size, START_S - 1200 + 20_000);
    let world = World::new(&mut rng);
    let latency_ms = [0, 1, 10, 40, 150][rng.usize(..5)];
    world.faults.delay(Duration::from_millis(latency_ms));
    for process in 0..world::PROCESSES.len() {
        world.start(process);
    }
    let mut events = history.events;
    events.extend(trials(&mut rng));
    events.extend(discounts::events(&mut rng));
    let mut senders = stripe::begin(&world, &events, FAULTY, rng.u64(..));
    faults::inflict(world.clone(), rng.fork(), FAULTY).await;
    let result = async {
        let at_rest = async {
            while senders.join_next().await.is_some() {}
            come_to_rest(&world).await;
        };
        if timeout(REST_WITHIN, at_rest).await.is_err() {
            let (senders, status) = (senders.len(), Status::of(&world).await);
            return Err(format!("no rest: {senders} senders, {status:?}"));
        }
        check(&world, &events).await
    };
    let result = result.await;
    (world.trace.clone(), result)
}

/// Trials whose ends are moved: their alerts are due before or within the run, or a month after it.
fn trials(rng: &mut Rng) -> Vec<String> {
    const WARNED_BEFORE_S: i64 = 3 * 86_400;
    let mut events = Vec::new();
    for trial in 0..3 {
        for number in 0..rng.i64(1..5) {
            let due_s = match rng.bool() {
                true => START_S + rng.i64(-600..900),
                false => START_S + 30 * 86_400,
            };
            let action = if number == 0 { "created" } else { "updated" };
            let event = json!({
                "id": format!("evt_trial_{trial}_{number}"), "object": "event",
                "type": format!("customer.subscription.{action}"),
                "created": START_S - 1000 + 60 * number, "livemode": true,
                "data": {"object": {
                    "id": format!("sub_trial_{trial}"), "object": "subscription",
                    "customer": format!("cus_trial_{trial}"), "currency": "usd", "status": "trialing",
                    "trial_end": due_s + WARNED_BEFORE_S, "items": {"object": "list", "data": []},
                }},
            });
            events.push(event.to_string());
        }
    }
    events
}

async fn check(world: &Arc<World>, events: &[String]) -> Result<(), Broken> {
    let applied = oracle::applied(world, events).await?;
    oracle::state(&world.memory, &applied).await?;
    oracle::audit(&world.memory, &applied).await?;
    let alerts = oracle::alerts(&world.memory).await;
    oracle::messages(world, &alerts)?;
    let (found, expected) = (oracle::firing(&alerts), undisturbed(world, &applied).await?);
    if found != expected {
        return Err(format!("firing are {found:#?} instead of {expected:#?}"));
    }
    Ok(())
}

/// What fires when a new deployment receives the same events in order and without faults.
async fn undisturbed(after: &World, applied: &[String]) -> Result<BTreeSet<String>, Broken> {
    let world = World::new(&mut Rng::with_seed(0));
    world.slack.behave();
    let passed_s = after.clock.now_s() - START_S;
    world
        .clock
        .jump(Duration::from_secs(u64::try_from(passed_s).unwrap_or(0)));
    for (number, body) in (1..).zip(applied) {
        let event = Event::parse(body.as_bytes()).expect("an event");
        // It makes its own.
        if event.is_fetched() {
            continue;
        }
        let delivery = Delivery {
            id: Uuid::from_u128(number),
            event_id: event.id.clone().into_owned(),
            event_type: event.kind.clone().into_owned(),
            partition: event.partition(PARTITIONS),
            endpoint: "stripe".into(),
            received_ms: world.clock.now_ms(),
            traceparent: None,
            body: Bytes::from(body.clone()),
        };
        world.memory.publish(delivery).await.expect("published");
    }
    // The worker first: what fires and resolves before it is done is of no interest.
    world.start(1);
    nothing_changes(&world).await;
    world.start(3);
    if timeout(REST_WITHIN, come_to_rest(&world)).await.is_err() {
        let status = Status::of(&world).await;
        return Err(format!("no rest without faults: {status:?}"));
    }
    let alerts = oracle::alerts(&world.memory).await;
    Ok(oracle::firing(&alerts))
}

/// What must not change any more.
#[derive(Debug, PartialEq)]
struct Status {
    waiting: u64,
    incomplete: usize,
    /// Needs that the store could meet.
    unmet: usize,
    alerts: Vec<serde_json::Value>,
}

impl Status {
    async fn of(world: &World) -> Self {
        let depth = world.memory.depth().await.expect("read");
        let health = world.memory.health().await.expect("read");
        Self {
            waiting: depth.iter().sum(),
            incomplete: health.iter().filter(|health| !health.is_complete()).count(),
            unmet: discounts::unmet(&world.memory).await,
            alerts: oracle::alerts(&world.memory).await,
        }
    }

    /// Whether everything is processed and delivered.
    fn is_done(&self) -> bool {
        let is_settled = self.waiting == 0 && self.incomplete == 0 && self.unmet == 0;
        is_settled && self.alerts.iter().all(oracle::is_delivered)
    }
}

/// Waits until nothing changes any more, and ends the processes.
async fn come_to_rest(world: &World) {
    loop {
        nothing_changes(world).await;
        (0..world::PROCESSES.len()).for_each(|process| world.kill(process));
        // A deadline may have passed at this very moment.
        if Status::of(world).await.is_done() {
            return;
        }
        (0..world::PROCESSES.len()).for_each(|process| world.start(process));
    }
}

async fn nothing_changes(world: &World) {
    let (mut last, mut unchanged) = (None, 0);
    while unchanged < REST_SECONDS {
        sleep(Duration::from_secs(1)).await;
        let now = Status::of(world).await;
        let same = now.is_done() && last.as_ref() == Some(&now);
        unchanged = if same { unchanged + 1 } else { 0 };
        last = Some(now);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no setting of revwatch: it is about the tests themselves"
)]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
