//! What a tick of the evaluator costs when nothing happened, with few and with many open conditions and alerts.
//!
//! `cargo bench --bench tick` lets 100 and 100,000 made-up accounts lose their charges, in a SQLite and in a Redis
//! of its own each, lets alerting look at both with the shipped rules until everything is told, and then compares
//! their idle ticks by `revwatch_rule_evaluation_seconds`, which it reads after every tick of both, side by side.
//! It ends with an error if many cost more than a fifth more than few.

#[path = "business.rs"]
#[expect(dead_code, reason = "the other benchmark needs more of it")]
mod business;
#[path = "../support"]
#[expect(dead_code, reason = "tests need more of it")]
mod support {
    pub(crate) mod redis;
    pub(crate) mod wait;
}

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use revwatch_alerting::message::Message;
use revwatch_alerting::notify::{Habits, Notifier, Outcome};
use revwatch_alerting::slack_actions::SlackActions;
use revwatch_alerting::{Alerting, Arriving, book, rules_file};
use revwatch_shared::admin::Readiness;
use revwatch_shared::config::Config;
use revwatch_shared::ports::{Committed, Delivery, StateStore};
use revwatch_shared::redis::RedisStore;
use revwatch_shared::sqlite::{Open, Sqlite};
use revwatch_shared::telemetry::Metrics;
use revwatch_worker::plan::Batch;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use self::business::Story;
use self::support::redis::RedisServer;

const PARTITIONS: u32 = 8;

/// Deliveries in one commit.
const BATCH: usize = 250;

const FEW: usize = 100;

/// Ticks that are compared, of each.
const TICKS: usize = 1500;

/// What many may cost, if few cost 1.
const MOST: f64 = 1.2;

fn main() -> ExitCode {
    let many = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(100_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut is_flat = true;
    for (name, store) in [("SQLite", StoreKind::Sqlite), ("Redis", StoreKind::Redis)] {
        let ratio = runtime.block_on(compare(name, store, many)).expect("standard output");
        is_flat &= ratio <= MOST;
    }
    if is_flat { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Clone, Copy)]
enum StoreKind {
    Sqlite,
    Redis,
}

async fn compare(name: &str, kind: StoreKind, many: usize) -> std::io::Result<f64> {
    let (few_watch, many_watch) = (Watch::begin(kind, FEW).await, Watch::begin(kind, many).await);
    let mut samples = [Vec::new(), Vec::new()];
    let mut watches = [few_watch, many_watch];
    while samples.iter().any(|s| s.len() < TICKS) {
        for (watch, samples) in watches.iter_mut().zip(&mut samples) {
            samples.extend(watch.ticked());
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let [few_us, many_us] = samples.map(|mut s| {
        s.sort_by(f64::total_cmp);
        s[s.len() / 2] * 1e6
    });
    let mut out = std::io::stdout().lock();
    for (watch, us) in watches.iter().zip([few_us, many_us]) {
        let Watch { accounts, alerts, first_s, .. } = watch;
        writeln!(
            out,
            "{name}: {accounts:>7} accounts, {alerts:>7} alerts: {us:7.0} µs a tick; the first took {first_s:.1} s"
        )?;
    }
    writeln!(out, "{name}: ratio {:.2}, at most {MOST} wanted", many_us / few_us)?;
    drop(out);
    for watch in watches {
        watch.end().await;
    }
    Ok(many_us / few_us)
}

/// An evaluator that has dealt with everything.
struct Watch {
    accounts: usize,
    alerts: usize,
    /// Seconds until all were stored.
    first_s: f64,
    metrics: Metrics,
    seen: (u64, f64),
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
    _folder: TempDir,
    _server: Option<RedisServer>,
}

impl Watch {
    async fn begin(kind: StoreKind, accounts: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: PARTITIONS }).expect("a store");
        let server = match kind {
            StoreKind::Sqlite => None,
            StoreKind::Redis => Some(RedisServer::start_with(&["--appendfsync", "everysec"])),
        };
        let store: Arc<dyn StateStore> = match &server {
            None => Arc::new(sqlite.clone()),
            Some(server) => Arc::new(RedisStore::connect(&server.url(), PARTITIONS).await.expect("a Redis")),
        };
        // No worker runs here that would say so.
        for (partition, health) in (0..).zip(store.health().await.expect("health")) {
            let (healing, _) = store.begin_healing(partition, "new", 0).await.expect("begun");
            assert!(store.end_healing(partition, &healing, &health.life).await.expect("answered"));
        }
        tell(store.as_ref(), &Story::lost(accounts)).await;
        let mut config = Config::load(None, &|_| None).expect("the defaults").alerting;
        // Ticks often enough to count many, and a lease that outlives the first.
        config.tick_seconds = 0.02;
        config.lease_seconds = 300.0;
        let metrics = Metrics::new();
        let alerting = Alerting {
            store: store.clone(),
            queue: Arc::new(sqlite),
            rules: rules_file::load(None).expect("the shipped rules"),
            notifiers: vec![Arc::new(Everybody)],
            actions: SlackActions::default(),
            config,
            metrics: metrics.clone(),
            tracer: Default::default(),
            ready: Readiness::default().check("alerting"),
            arriving: Arriving::default(),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(revwatch_alerting::run(alerting, shutdown.clone()));
        let mut watch = Self {
            accounts,
            alerts: 0,
            first_s: 0.0,
            metrics,
            seen: (0, 0.0),
            shutdown,
            running,
            _folder: folder,
            _server: server,
        };
        watch.settle(store.as_ref()).await;
        watch
    }

    /// Until there is an alert for every account and it ticks.
    async fn settle(&mut self, store: &dyn StateStore) {
        let began = Instant::now();
        while self.alerts < self.accounts {
            assert!(began.elapsed() < Duration::from_secs(300) && !self.running.is_finished(), "it looks at all");
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.ticked().is_some() {
                self.alerts = store.documents(book::ALERTS).await.expect("documents").len();
            }
        }
        self.first_s = self.seen.1;
        let told = self.metrics.notifications.with_label_values(&["log", "delivered"]);
        while told.get() == 0 {
            assert!(began.elapsed() < Duration::from_secs(300) && !self.running.is_finished(), "it tells");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = self.ticked();
    }

    /// Seconds that each tick took since the last call, if there was one.
    fn ticked(&mut self) -> Option<f64> {
        let histogram = &self.metrics.rule_evaluation_seconds;
        let now = (histogram.get_sample_count(), histogram.get_sample_sum());
        let before = std::mem::replace(&mut self.seen, now);
        (now.0 > before.0).then(|| (now.1 - before.1) / (now.0 - before.0) as f64)
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.running.await.expect("no panic");
    }
}

/// Has everything at once.
struct Everybody;

#[async_trait]
impl Notifier for Everybody {
    fn name(&self) -> &'static str {
        "log"
    }

    fn habits(&self) -> Habits {
        Habits { edits: false, resolves: true }
    }

    fn destination(&self, _route: &str) -> String {
        "everybody".to_owned()
    }

    fn per_second(&self) -> f64 {
        1e6
    }

    async fn deliver(&self, _message: &Message) -> Outcome {
        Outcome::Delivered { receipt: None }
    }
}

/// What a worker does, one batch after another.
async fn tell(store: &dyn StateStore, story: &Story) {
    let plans = business::plans();
    let mut waiting: Vec<Vec<Delivery>> = vec![Vec::new(); PARTITIONS as usize];
    for delivery in story.deliveries(PARTITIONS) {
        let queue = &mut waiting[delivery.partition as usize];
        queue.push(delivery);
        if queue.len() == BATCH {
            commit(store, &std::mem::take(queue), &plans).await;
        }
    }
    for rest in waiting.iter().filter(|rest| !rest.is_empty()) {
        commit(store, rest, &plans).await;
    }
}

async fn commit(store: &dyn StateStore, deliveries: &[Delivery], plans: &revwatch_shared::observe::Plans) {
    let batch = Batch::read(deliveries[0].partition, deliveries, plans);
    let found = store.read(deliveries[0].partition, &batch.want).await.expect("a read");
    let decision = batch.decide(&found, jiff::Timestamp::now().as_millisecond()).expect("readable");
    assert_eq!(store.commit(&decision.commit).await.expect("a commit"), Committed::Applied);
}
