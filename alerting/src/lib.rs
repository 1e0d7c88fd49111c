//! revwatch's alerting: looks at the state, decides what fires and what is over, tells people.
//!
//! Deciding is pure ([`reading`], [`step`], [`book`], [`message`]); this file is the shell around it:
//! it holds the lease, reads the store, writes what the book says, and lets notifiers tell.
//!
//! Invariant: an alert is durable before anybody is told, and it is told until a notifier has
//! confirmed it.

pub mod alert;
pub mod book;
pub mod message;
pub mod notify;
pub mod outcome;
pub mod reading;
pub mod rule;
pub mod rules_file;
pub mod step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use revwatch_shared::admin::Check;
use revwatch_shared::config::AlertingConfig;
use revwatch_shared::counters::hour_of;
use revwatch_shared::kpi::{Kpis, hours_needed};
use revwatch_shared::ports::{DocumentWrite, Fence, StateStore, StoreError};
use revwatch_shared::process::Process;
use revwatch_shared::telemetry::{Board, Metrics};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::book::{Book, Documents};
use self::message::Message;
use self::notify::{Notifier, Outcome};
use self::rule::Rule;
use self::rules_file::RuleError;

/// What alerting needs.
#[derive(Clone)]
pub struct Alerting {
    /// Where state is.
    pub store: Arc<dyn StateStore>,
    /// What to look for.
    pub rules: Vec<Rule>,
    /// How to tell; every alert goes to each of them.
    pub notifiers: Vec<Arc<dyn Notifier>>,
    /// Ticks and leases.
    pub config: AlertingConfig,
    /// The process's metrics.
    pub metrics: Metrics,
    /// Passes while the store answers.
    pub ready: Check,
}

/// Alerting cannot start; the text names the setting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The rules.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// Slack's client.
    #[error("cannot set up HTTPS for Slack: {0}. Are CA certificates installed (Debian: ca-certificates)?")]
    Tls(#[from] reqwest::Error),
}

impl Alerting {
    /// As `process` is configured.
    pub fn of(process: &Process) -> Result<Self, StartError> {
        Ok(Self {
            store: process.backend.store.clone(),
            rules: rules_file::load(process.config.rules.as_deref())?,
            notifiers: notify::configured(&process.config)?,
            config: process.config.alerting.clone(),
            metrics: process.metrics.clone(),
            ready: process.readiness.check("alerting"),
        })
    }
}

/// Key figures look at 60 days of hours; nobody scrapes them every second.
const KPI_PERIOD: Duration = Duration::from_secs(10);

/// The lease that makes one process of several the evaluator.
const LEASE: &str = "alerting";

/// Evaluates and tells until `shutdown`. Of several processes one works, the others stand by.
pub async fn run(alerting: Alerting, shutdown: CancellationToken) {
    let holder = format!("alerting-{}", uuid::Uuid::now_v7().simple());
    let tick = Duration::from_secs_f64(alerting.config.tick_seconds);
    tracing::info!(holder, rules = alerting.rules.len(), "alerting started");
    while !shutdown.is_cancelled() {
        if let Err(error) = alerting.hold(&holder, &shutdown).await {
            alerting.ready.fail("the store does not answer");
            tracing::warn!(%error, "alerting begins anew");
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(tick) => {}
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), alerting.store.release(LEASE, &holder)).await;
    tracing::info!(holder, "alerting stopped");
}

#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a stored alert cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// How an attempt ended, sent back by the task that made it.
struct Told {
    notifier: usize,
    alert_id: String,
    revision: u32,
    outcome: Outcome,
}

/// One notifier's turn-taking: one message at a time, not faster than its rate.
struct Turn {
    busy: bool,
    next: Instant,
}

impl Alerting {
    /// Takes the lease and works until it is lost, something fails, or `shutdown`.
    async fn hold(&self, holder: &str, shutdown: &CancellationToken) -> Result<(), Stop> {
        self.show_kpis().await?;
        self.ready.pass();
        let Some(fence) = self.renew(holder).await? else { return Ok(()) };
        let mut book = self.open_book().await?;
        tracing::info!(holder, fence = fence.0, "this process evaluates");
        let (tell, mut told) = mpsc::channel::<Told>(64);
        let mut turns: Vec<Turn> = self.notifiers.iter().map(|_| Turn { busy: false, next: Instant::now() }).collect();
        let mut ticks = interval(Duration::from_secs_f64(self.config.tick_seconds));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lease = Duration::from_secs_f64(self.config.lease_seconds);
        let (mut renewed, mut shown) = (Instant::now(), Instant::now());
        loop {
            let next_turn = turns.iter().filter(|t| !t.busy).map(|t| t.next).min().filter(|n| *n > Instant::now());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(Told { notifier, alert_id, revision, outcome }) = told.recv() => {
                    turns[notifier].busy = false;
                    let name = self.notifiers[notifier].name();
                    self.metrics.notifications.with_label_values(&[name, outcome.as_str()]).inc();
                    log_outcome(name, &alert_id, &outcome);
                    let writes = book.on_told(&alert_id, name, revision, &outcome, now_ms());
                    self.store.write_documents(fence, &writes).await?;
                }
                _ = ticks.tick() => {
                    if renewed.elapsed() > lease / 3 {
                        if self.renew(holder).await? != Some(fence) {
                            return Err(StoreError::Fenced.into());
                        }
                        renewed = Instant::now();
                    }
                    let started = Instant::now();
                    self.evaluate(&mut book, fence).await?;
                    self.metrics.rule_evaluation_seconds.observe(started.elapsed().as_secs_f64());
                    self.show_alerts(&book);
                    if shown.elapsed() > KPI_PERIOD {
                        self.show_kpis().await?;
                        shown = Instant::now();
                    }
                }
                () = tokio::time::sleep_until(next_turn.unwrap_or_else(Instant::now)), if next_turn.is_some() => {}
            }
            self.take_turns(&book, &mut turns, &tell);
        }
        // What is being told may still be confirmed, so that the next evaluator does not repeat it.
        let deadline = Instant::now() + Duration::from_secs(5);
        while turns.iter().any(|t| t.busy) {
            let Ok(Some(Told { notifier, alert_id, revision, outcome })) =
                tokio::time::timeout_at(deadline, told.recv()).await
            else {
                break;
            };
            turns[notifier].busy = false;
            let writes = book.on_told(&alert_id, self.notifiers[notifier].name(), revision, &outcome, now_ms());
            self.store.write_documents(fence, &writes).await?;
        }
        Ok(())
    }

    async fn renew(&self, holder: &str) -> Result<Option<Fence>, StoreError> {
        let ttl_ms = Duration::from_secs_f64(self.config.lease_seconds).as_millis();
        self.store.lease(LEASE, holder, u64::try_from(ttl_ms).unwrap_or(u64::MAX)).await
    }

    async fn open_book(&self) -> Result<Book, Stop> {
        let stored = Documents {
            alerts: self.store.documents(book::ALERTS).await?,
            pending: self.store.documents(book::PENDING).await?,
            progress: self.store.documents(book::PROGRESS).await?,
        };
        let names: Vec<_> = self.notifiers.iter().map(|n| n.name().to_owned()).collect();
        Ok(Book::open(self.rules.clone(), &names, &stored)?)
    }

    /// One tick. Costs what changed since the last one, plus the rules.
    async fn evaluate(&self, book: &mut Book, fence: Fence) -> Result<(), Stop> {
        const PAGE: usize = 1000;
        let now_s = now_ms().div_euclid(1000);
        let read_before = book.read.clone();
        let mut writes = Vec::new();
        let mut scan = book.needs_scan();
        loop {
            let found = self.store.condition_changes(&book.read.cursor, PAGE).await?;
            let caught_up = found.changes.len() < PAGE;
            scan |= found.gap;
            book.read.cursor = found.cursor;
            if !scan {
                writes.extend(book.on_changes(&found.changes, now_s));
            }
            if caught_up {
                break;
            }
        }
        if scan {
            let open = self.store.conditions().await?;
            tracing::info!(conditions = open.len(), "looking at all open conditions");
            writes.extend(book.on_scan(&open, now_s));
        } else {
            for delay_s in book.delays_s() {
                let due = self.store.conditions_due(book.read.until_s - delay_s, now_s - delay_s).await?;
                writes.extend(due.iter().flat_map(|condition| book.on_open(condition, now_s)));
            }
        }
        book.read.until_s = now_s;
        let hour = hour_of(now_s);
        let counters = self.store.counters(hour.saturating_sub(book.hours_needed()), hour).await?;
        writes.extend(book.on_counters(&counters, now_s));
        if !writes.is_empty() || book.read.cursor != read_before.cursor || book.read.rules != read_before.rules {
            writes.push(book.progress());
            log_writes(&writes);
            self.store.write_documents(fence, &writes).await?;
        }
        Ok(())
    }

    /// Lets every notifier that is free and rested tell its next message.
    fn take_turns(&self, book: &Book, turns: &mut [Turn], tell: &mpsc::Sender<Told>) {
        let now = Instant::now();
        for (index, (notifier, turn)) in self.notifiers.iter().zip(turns).enumerate() {
            if turn.busy || turn.next > now {
                continue;
            }
            let Some(alert) = book.next_to_tell(notifier.name(), now_ms()) else { continue };
            let message = message::render(alert);
            let receipt = alert.deliveries.get(notifier.name()).and_then(|p| p.receipt.clone());
            turn.busy = true;
            turn.next = now + Duration::from_secs_f64(1.0 / notifier.per_second().max(0.001));
            let (notifier, tell) = (notifier.clone(), tell.clone());
            tokio::spawn(async move {
                let outcome = notifier.deliver(&message, receipt.as_deref()).await;
                let Message { alert_id, revision, .. } = message;
                // The evaluator may have lost its lease meanwhile; the next one tells again.
                let _ = tell.send(Told { notifier: index, alert_id, revision, outcome }).await;
            });
        }
    }

    /// A stand-by shows the key figures too: every process can be scraped.
    async fn show_kpis(&self) -> Result<(), StoreError> {
        let now_s = now_ms().div_euclid(1000);
        let (from, to) = hours_needed(now_s);
        self.set_kpis(&Kpis::compute(&self.store.counters(from, to).await?, now_s));
        Ok(())
    }

    fn set_kpis(&self, kpis: &Kpis) {
        let m = &self.metrics;
        let one = |counts: &BTreeMap<String, i64>, board: &Board| {
            board.show(counts.iter().map(|(label, count)| (vec![label.as_str()], *count)));
        };
        let two = |counts: &[(String, String, i64)], board: &Board| {
            board.show(counts.iter().map(|(a, b, count)| (vec![a.as_str(), b], *count)));
        };
        two(&kpis.subscriptions_by_plan, &m.subscriptions);
        two(&kpis.payouts_by_currency, &m.payouts);
        one(&kpis.accounts, &m.accounts);
        one(&kpis.funnel, &m.onboarding_funnel);
        one(&kpis.mrr_minor, &m.mrr_minor);
        let total = |counts: &BTreeMap<String, i64>, key: &str| counts.get(key).copied().unwrap_or(0);
        m.kernel_checkouts.set(total(&kpis.checkout_sessions, "complete"));
        m.kernel_payments_succeeded.set(total(&kpis.payment_attempts, "succeeded"));
        m.kernel_payments_failed.set(total(&kpis.payment_attempts, "failed"));
        one(&kpis.mrr_minor, &m.kernel_mrr);
        m.kernel_churn_rate.set(kpis.churn_rate_30d.unwrap_or(0.0));
        m.past_due_ratio.set(kpis.past_due_ratio.unwrap_or(0.0));
        m.payout_failure_ratio.with_label_values(&["24h"]).set(kpis.payout_failure_ratio_24h.unwrap_or(0.0));
    }

    fn show_alerts(&self, book: &Book) {
        let mut counts: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
        for rule in &self.rules {
            counts.insert((&rule.name, rule.severity.as_str(), "firing"), 0);
        }
        for alert in book.alerts() {
            *counts.entry((&alert.rule, alert.severity.as_str(), alert.state.as_str())).or_default() += 1;
        }
        let counts = counts.into_iter().map(|((rule, severity, state), count)| (vec![rule, severity, state], count));
        self.metrics.alerts.show(counts);
    }
}

fn log_outcome(notifier: &str, alert_id: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Delivered { .. } => tracing::info!(notifier, alert_id, outcome = outcome.as_str(), "notification"),
        Outcome::Failed { reason, permanent: true } => {
            tracing::error!(notifier, alert_id, reason, "notification failed for good; tried again from time to time");
        }
        Outcome::Failed { reason, .. } | Outcome::Unknown { reason } => {
            tracing::warn!(notifier, alert_id, outcome = outcome.as_str(), reason, "notification is tried again");
        }
        Outcome::RetryAfter { wait_ms } => tracing::warn!(notifier, alert_id, wait_ms, "notification must wait"),
        Outcome::Gone => tracing::warn!(notifier, alert_id, "the message is gone and is posted anew"),
    }
}

fn log_writes(writes: &[DocumentWrite]) {
    let alerts = writes.iter().filter(|w| w.space == book::ALERTS).count();
    if alerts > 0 {
        tracing::info!(alerts, "alerts changed");
    }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
