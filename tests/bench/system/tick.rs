//! The cost of an idle tick of the evaluator, with few and with many entities and alerts.
//!
//! Generated accounts are written to a SQLite and to a separate Redis; some of them lose their
//! charges. Alerting evaluates them with the built-in rules until every notification is sent. Then
//! the idle ticks of all are compared side by side, by `revwatch_rule_evaluation_seconds`, which is
//! read after every tick.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use revwatch_alerting::message::Message;
use revwatch_alerting::notify::{Capabilities, Notifier, Outcome};
use revwatch_alerting::rule::Rule;
use revwatch_alerting::slack_actions::SlackActions;
use revwatch_alerting::{Alerting, PendingSettings, Turns, engine, rules_file};
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::config::Config;
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::ports::StateStore;
use revwatch_storage::redis::RedisStore;
use revwatch_storage::sqlite::{Open, Sqlite};
use revwatch_storage::system::{SystemClock, SystemIds};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::business::Histories;
use super::report::Values;
use super::stored_history::{PARTITIONS, store_history};
use super::support::redis::RedisServer;

/// The number of compared ticks of each.
const TICKS: usize = 1500;

/// Short tick intervals give many samples; they differ, so that the ticks of two evaluators do not
/// coincide.
const PERIODS_MS: [u64; 5] = [20, 21, 22, 23, 25];

/// The sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) entities: usize,
    /// Accounts that lost their charges; the number of alerts is this times `rules`.
    pub(crate) alerts: usize,
    /// The number of copies of each built-in rule.
    pub(crate) rules: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum StoreKind {
    Sqlite,
    Redis,
}

/// Microseconds of an idle tick for each size, and seconds of the first tick.
pub(crate) async fn idle_ticks(kind: StoreKind, sizes: &[Size]) -> Vec<Values> {
    let mut watches = Vec::new();
    for (size, period_ms) in sizes.iter().zip(PERIODS_MS) {
        let period = Duration::from_millis(period_ms);
        watches.push((Watch::begin(kind, *size, period).await, Vec::new()));
    }
    while watches.iter().any(|(_, samples)| samples.len() < TICKS) {
        for (watch, samples) in &mut watches {
            samples.extend(watch.ticked());
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let mut values = Vec::new();
    for (watch, mut samples) in watches {
        samples.sort_by(f64::total_cmp);
        values.push(vec![
            ("tick_us", samples[samples.len() / 2] * 1e6),
            ("first_s", watch.first_s),
        ]);
        watch.end().await;
    }
    values
}

/// An evaluator that has processed everything.
struct Watch {
    wanted: usize,
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
    async fn begin(kind: StoreKind, size: Size, period: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(
            folder.path(),
            Open::Create {
                partitions: PARTITIONS,
            },
        )
        .expect("a store");
        let server = match kind {
            StoreKind::Sqlite => None,
            StoreKind::Redis => Some(RedisServer::start_with(&["--appendfsync", "everysec"])),
        };
        let store: Arc<dyn StateStore> = match &server {
            None => Arc::new(sqlite.clone()),
            Some(server) => Arc::new(
                RedisStore::connect(&server.url(), PARTITIONS)
                    .await
                    .expect("a Redis"),
            ),
        };
        // No worker runs here that would report that.
        for (partition, health) in (0..).zip(store.health().await.expect("health")) {
            let (recovery_id, _) = store
                .begin_recovery(partition, "new", 0)
                .await
                .expect("begun");
            assert!(
                store
                    .end_recovery(partition, &recovery_id, &health.server_run_id)
                    .await
                    .expect("answered")
            );
        }
        store_history(store.as_ref(), &Histories::enabled(size.entities)).await;
        store_history(store.as_ref(), &Histories::lost(size.alerts / size.rules)).await;
        let mut config = Config::load(None, &|_| None)
            .expect("the defaults")
            .alerting;
        config.tick_seconds = period.as_secs_f64();
        // It outlives the first tick.
        config.lease_seconds = 300.0;
        let metrics = Metrics::new();
        let queue = Arc::new(sqlite);
        let alerting = Alerting {
            store: store.clone(),
            queue: queue.clone(),
            holding: queue.clone(),
            archive: queue.clone(),
            journal: queue,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            rules: (0..size.rules).flat_map(shipped_again).collect(),
            notifiers: vec![Arc::new(Everybody)],
            actions: SlackActions::default(),
            config,
            has_kernel: false,
            metrics: metrics.clone(),
            tracer: Default::default(),
            ready: Readiness::default().check("alerting"),
            turns: Turns::default(),
            new_settings: PendingSettings::default(),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(revwatch_alerting::run(alerting, shutdown.clone()));
        let mut watch = Self {
            wanted: size.alerts,
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

    /// Waits until there is an alert for every account, and a tick.
    async fn settle(&mut self, store: &dyn StateStore) {
        let began = Instant::now();
        while self.alerts < self.wanted {
            assert!(
                began.elapsed() < Duration::from_secs(300) && !self.running.is_finished(),
                "everything is evaluated"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.ticked().is_some() {
                self.alerts = store
                    .documents(engine::ALERTS)
                    .await
                    .expect("documents")
                    .len();
            }
        }
        self.first_s = self.seen.1;
        let notified = self
            .metrics
            .notifications
            .with_label_values(&["log", "delivered"]);
        while notified.get() == 0 {
            assert!(
                began.elapsed() < Duration::from_secs(300) && !self.running.is_finished(),
                "notifications are sent"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = self.ticked();
    }

    /// Seconds of each tick since the last call, if there was one.
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

/// The built-in rules under other names.
fn shipped_again(time: usize) -> Vec<Rule> {
    let rules = rules_file::load(None).expect("the shipped rules");
    rules
        .into_iter()
        .map(|rule| Rule {
            name: format!("{}_{time}", rule.name),
            ..rule
        })
        .collect()
}

/// Sends every notification immediately.
struct Everybody;

#[async_trait]
impl Notifier for Everybody {
    fn name(&self) -> &'static str {
        "log"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: false,
            resolves: true,
        }
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
