//! The shell on an embedded store, with notifiers that tests control.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use revwatch_core::clock::Clock as _;
use revwatch_core::condition::{Condition, ConditionKey, ConditionKind};
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::realm::Realm;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::config::{AlertingConfig, Config};
use revwatch_runtime::telemetry::Metrics;
use revwatch_storage::failure_log::FailureLog;
use revwatch_storage::ports::{
    Archive, Commit, ConditionChange, Coordination as _, DocumentWrite, Documents as _,
    Entities as _, Journal, JournalEntry, QueueError, Replay, StoreError,
};
use revwatch_storage::sqlite::{FILE_NAME, Sqlite};
use revwatch_storage::system::{SystemClock, SystemIds};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::*;
use crate::alert::{Alert, Evidence, Subject};
use crate::message::Message;
use crate::notify::{Capabilities, Lookup, Notifier, Outcome};
use crate::rule::Rule;
use crate::slack_actions::SlackActions;
use crate::test_support::{BrokenJournal, LONG, lease, open_sqlite};
use crate::{Turns, rules_file, run};

/// A notifier that takes as long as the test wants.
#[derive(Default)]
struct SlowNotifier {
    is_delivering: AtomicBool,
    begun: Notify,
    go_on: Notify,
    searched: Notify,
}

#[async_trait]
impl Notifier for SlowNotifier {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: true,
            resolves: true,
        }
    }

    fn destination(&self, _route: &str) -> String {
        "slack".to_owned()
    }

    fn per_second(&self) -> f64 {
        1000.0
    }

    async fn deliver(&self, _message: &Message) -> Outcome {
        self.is_delivering.store(true, Ordering::SeqCst);
        self.begun.notify_one();
        self.go_on.notified().await;
        self.is_delivering.store(false, Ordering::SeqCst);
        Outcome::Delivered { receipt: None }
    }

    async fn find(&self, _message: &Message) -> Lookup {
        if self.is_delivering.load(Ordering::SeqCst) {
            self.searched.notify_one();
        }
        Lookup::Absent
    }
}

/// A notifier that delivers every message, and keeps its text.
#[derive(Default)]
struct RecordingNotifier {
    texts: Mutex<Vec<String>>,
    delivered: Notify,
}

#[async_trait]
impl Notifier for RecordingNotifier {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: true,
            resolves: true,
        }
    }

    fn destination(&self, _route: &str) -> String {
        "slack".to_owned()
    }

    fn per_second(&self) -> f64 {
        1000.0
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        self.texts
            .lock()
            .expect("no panic")
            .push(message.text.clone());
        self.delivered.notify_one();
        Outcome::Delivered {
            receipt: Some("r".to_owned()),
        }
    }

    async fn find(&self, _message: &Message) -> Lookup {
        Lookup::Absent
    }
}

fn shipped_rules() -> Vec<Rule> {
    rules_file::load(None).expect("the shipped rules")
}

fn alerting(
    store: &Arc<Sqlite>,
    journal: Arc<dyn Journal>,
    notifier: Arc<dyn Notifier>,
) -> (Alerting, Readiness) {
    let readiness = Readiness::default();
    let alerting = Alerting {
        store: store.clone(),
        queue: store.clone(),
        holding: store.clone(),
        archive: store.clone(),
        journal,
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        rules: shipped_rules(),
        notifiers: vec![notifier],
        actions: SlackActions::default(),
        config: AlertingConfig {
            tick_seconds: 0.02,
            ..Config::load(None, &|_| None).expect("valid").alerting
        },
        has_kernel: false,
        metrics: Metrics::new(),
        tracer: Default::default(),
        ready: readiness.check("alerting"),
        turns: Turns::default(),
        new_settings: PendingSettings::default(),
    };
    (alerting, readiness)
}

/// An alert of an earlier evaluator of which no message was delivered.
async fn leave_alert(sqlite: &Sqlite) {
    let mut alert = Alert::fire(
        &shipped_rules()[0],
        &Subject::Business,
        0,
        SystemClock.now_s(),
        Evidence::default(),
    );
    alert.notifiers.push("slack".to_owned());
    let fence = lease(sqlite, "before").await;
    let body = serde_json::to_string(&alert).expect("plain data");
    let write = DocumentWrite {
        space: engine::ALERTS,
        key: alert.id,
        body: Some(body),
    };
    sqlite
        .write_documents(fence, &[write])
        .await
        .expect("written");
    sqlite.release(LEASE, "before").await.expect("released");
}

fn payout_failed(n: usize) -> Condition {
    let subject = EntityKey::new(EntityKind::Payout, format!("po_{n}"));
    Condition {
        key: ConditionKey {
            kind: ConditionKind::PayoutFailed,
            subject,
        },
        since_s: 100,
        began_before: None,
        due_s: 100,
        account: Some("acct_1".into()),
        realm: Realm::MAIN,
        customer: None,
        money: None,
        detail: None,
        event_id: format!("evt_{n}"),
        times: None,
        answer_by_s: None,
        trial_end_s: None,
        further_money: Vec::new(),
        uncertain: None,
    }
}

fn rename(folder: &Path, from: &str, to: &str) {
    let other = rusqlite::Connection::open(folder.join(FILE_NAME)).expect("the file");
    other.busy_timeout(LONG).expect("set");
    other
        .execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}"))
        .expect("renamed");
}

#[tokio::test]
async fn a_message_is_not_searched_for_while_its_delivery_is_under_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = open_sqlite(&folder);
    leave_alert(&sqlite).await;

    let (slow, shutdown) = (Arc::new(SlowNotifier::default()), CancellationToken::new());
    let (alerting, readiness) = alerting(&sqlite, sqlite.clone(), slow.clone());
    let running = tokio::spawn(run(alerting, shutdown.clone()));
    timeout(LONG, slow.begun.notified())
        .await
        .expect("it is delivered");
    rename(folder.path(), "documents", "elsewhere");
    let fails = async {
        while readiness.is_ready() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, fails).await.expect("the store fails");
    rename(folder.path(), "elsewhere", "documents");
    let searched = timeout(Duration::from_millis(500), slow.searched.notified()).await;
    assert!(
        searched.is_err(),
        "searched for, and perhaps sent twice, while it was being sent"
    );
    slow.go_on.notify_one();
    timeout(LONG, slow.begun.notified())
        .await
        .expect("it was not found, and is sent again");
    slow.go_on.notify_one();
    shutdown.cancel();
    timeout(LONG, running)
        .await
        .expect("it ends")
        .expect("no panic");
}

#[tokio::test]
async fn a_silent_journal_delays_no_alert() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = open_sqlite(&folder);
    leave_alert(&sqlite).await;
    let (silent, recording) = (
        Arc::new(BrokenJournal::default()),
        Arc::new(RecordingNotifier::default()),
    );
    let (mut alerting, _readiness) = alerting(&sqlite, silent.clone(), recording.clone());
    // It does not end within the test: an alert that waits for the journal is never delivered.
    alerting.config.lease_seconds = 3_000.0;
    let running = tokio::spawn(run(alerting, CancellationToken::new()));
    timeout(LONG, recording.delivered.notified())
        .await
        .expect("it is delivered");
    assert!(!silent.is_cancelled(), "the alert waited for the journal");
    let written = async {
        while silent.requests().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, written)
        .await
        .expect("the journal is written to");
    running.abort();
}

/// More than a page of payouts failed and were paid while no evaluator ran.
#[tokio::test]
async fn conditions_that_closed_before_they_were_read_notify_no_one() {
    const PAYOUTS: usize = 1_100;
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = open_sqlite(&folder);
    let evaluating = |recording: &Arc<RecordingNotifier>| {
        let (alerting, readiness) = alerting(&sqlite, sqlite.clone(), recording.clone());
        let shutdown = CancellationToken::new();
        (
            tokio::spawn(run(alerting, shutdown.clone())),
            shutdown,
            readiness,
        )
    };
    let recording = Arc::new(RecordingNotifier::default());
    let (running, shutdown, _readiness) = evaluating(&recording);
    let has_ticked = async {
        while sqlite
            .documents(engine::POSITION)
            .await
            .expect("answered")
            .is_empty()
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, has_ticked)
        .await
        .expect("it has evaluated everything once");
    shutdown.cancel();
    timeout(LONG, running)
        .await
        .expect("it ends")
        .expect("no panic");

    let failed = (0..PAYOUTS).map(|n| ConditionChange::Open(payout_failed(n)));
    let paid = (0..PAYOUTS).map(|n| ConditionChange::Close(payout_failed(n).key));
    let fails = [ConditionChange::Open(payout_failed(PAYOUTS))];
    let conditions = failed.chain(paid).chain(fails).collect();
    sqlite
        .commit(&Commit {
            conditions,
            ..Commit::default()
        })
        .await
        .expect("committed");

    let (running, shutdown, _readiness) = evaluating(&recording);
    timeout(LONG, recording.delivered.notified())
        .await
        .expect("one still fails");
    shutdown.cancel();
    timeout(LONG, running)
        .await
        .expect("it ends")
        .expect("no panic");
    let texts = recording.texts.lock().expect("no panic").clone();
    assert!(
        texts.len() == 1 && texts[0].contains(&format!("po_{PAYOUTS}")),
        "{texts:#?}"
    );
    assert_eq!(
        sqlite
            .documents(engine::ALERTS)
            .await
            .expect("answered")
            .len(),
        1
    );
    assert_eq!(
        sqlite
            .documents(engine::HISTORY)
            .await
            .expect("answered")
            .len(),
        0
    );
}

/// A slot that is busy without an attempt would stop everything until its result is overdue.
#[tokio::test]
async fn an_attempt_that_cannot_be_stored_is_not_under_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = open_sqlite(&folder);
    leave_alert(&sqlite).await;
    let recording = Arc::new(RecordingNotifier::default());
    let (alerting, _readiness) = alerting(&sqlite, sqlite.clone(), recording.clone());
    let (fence, renewed) = alerting
        .take_lease("me")
        .await
        .expect("answered")
        .expect("free");
    let mut engine = alerting.stored_engine().await.expect("opened");
    let recovery_id = alerting.recovery_id().await.expect("complete");
    let (mut attempts, mut journal) = (InFlight::new(), JournalWriter::default());
    let mut held = LeaseGuard::new("me", fence, renewed, recovery_id, &mut journal);
    sqlite.release(LEASE, "me").await.expect("released");
    lease(&sqlite, "another").await;
    let dispatched = alerting
        .dispatch_due(&mut engine, &mut attempts, &mut held)
        .await;
    assert!(dispatched.is_err(), "another process holds the lease");
    assert!(!attempts.is_any_pending());
}

#[tokio::test]
async fn readiness_names_what_fails_and_a_lost_lease_is_no_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = open_sqlite(&folder);
    let (alerting, readiness) = alerting(
        &sqlite,
        sqlite.clone(),
        Arc::new(RecordingNotifier::default()),
    );
    alerting.ready.pass();
    alerting.report(
        Err(StoreError::Fenced.into()),
        &mut false,
        &FailureLog::default(),
    );
    assert!(readiness.is_ready());
    let journal = QueueError::Misconfigured("out of order".into());
    assert_eq!(
        EvaluatorError::from(journal).unready(),
        Some("the journal cannot be read")
    );
    alerting.report(
        Err(StoreError::Corrupt("x".into()).into()),
        &mut false,
        &FailureLog::default(),
    );
    assert!(!readiness.is_ready());
}

#[tokio::test]
async fn a_store_that_no_worker_fills_is_named_after_a_minute() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_sqlite(&folder);
    let notifier = Arc::new(RecordingNotifier::default());
    let (alerting, readiness) = alerting(&store, store.clone(), notifier);
    alerting.ready.pass();
    let ago = |seconds| Incomplete {
        since: Instant::now().checked_sub(Duration::from_secs(seconds)),
        has_said: false,
    };
    let is_named = || !readiness.is_ready();
    alerting.miss_workers(true, &mut ago(50)).await;
    assert!(!is_named(), "it may be starting");
    alerting.miss_workers(false, &mut ago(70)).await;
    assert!(!is_named(), "the state is complete");
    alerting.miss_workers(true, &mut ago(70)).await;
    assert!(is_named());
    alerting.ready.pass();
    store
        .heartbeat(WORKERS, "worker-1", 60_000)
        .await
        .expect("a member");
    alerting.miss_workers(true, &mut ago(70)).await;
    assert!(!is_named(), "a worker is filling it");
}

/// The journal of a virtual host, whose archive is apart from the queue.
#[derive(Default)]
struct VirtualHost(Mutex<Vec<JournalEntry>>);

#[async_trait]
impl Journal for VirtualHost {
    async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError> {
        self.0.lock().expect("no panic").extend(entries);
        Ok(())
    }

    async fn probe_journal(&self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn read_journal(
        &self,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError> {
        let lines = self.0.lock().expect("no panic").clone();
        lines.into_iter().for_each(each);
        Ok(())
    }
}

#[async_trait]
impl Replay for VirtualHost {
    async fn archive(&self, _: i64) -> Result<Box<dyn Archive>, QueueError> {
        Err(QueueError::Unavailable("not read here".into()))
    }

    fn is_apart(&self) -> bool {
        true
    }

    async fn oldest_ms(&self) -> Result<Option<i64>, QueueError> {
        Ok(None)
    }
}

#[tokio::test(start_paused = true)]
async fn alerting_of_two_stores_on_one_virtual_host_is_not_ready_until_one_ends() {
    let host = Arc::new(VirtualHost::default());
    let of_store = |key: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let notifier = Arc::new(RecordingNotifier::default());
        let (mut alerting, readiness) = alerting(&open_sqlite(&folder), host.clone(), notifier);
        alerting.archive = host.clone();
        alerting.ready.pass();
        let mut rivals = Rivals::new(key, format!("the Redis of {key}"));
        let metrics = alerting.metrics.clone();
        let watching = async move { alerting.watch_rivals(&mut rivals).await };
        // The store is not used.
        drop(folder);
        (watching, readiness, metrics)
    };
    // One of before, of the same store.
    let (watching, ..) = of_store("before");
    assert!(timeout(Duration::from_mins(5), watching).await.is_err());
    let (watching, readiness, metrics) = of_store("a");
    let mut watching = std::pin::pin!(watching);
    assert!(
        timeout(Duration::from_mins(5), &mut watching)
            .await
            .is_err()
    );
    assert!(readiness.is_ready(), "it is alone");

    let (other, others_readiness, _) = of_store("b");
    {
        let both = async { tokio::join!(&mut watching, other) };
        assert!(timeout(Duration::from_mins(3), both).await.is_err());
    }
    assert!(!readiness.is_ready() && !others_readiness.is_ready());
    assert_eq!(metrics.alerting_other_stores.get(), 1);
    assert!(
        timeout(Duration::from_mins(2), &mut watching)
            .await
            .is_err()
    );
    assert!(readiness.is_ready(), "the other one has ended");
    assert_eq!(metrics.alerting_other_stores.get(), 0);
}
