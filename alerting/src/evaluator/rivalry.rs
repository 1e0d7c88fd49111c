//! Looks for evaluators of other stores on the same queue; [`Rivals`] judges.

use std::convert::Infallible;
use std::time::Duration;

use revwatch_storage::failure_log::FailureLog;
use revwatch_storage::ports::QueueError;
use tokio::time::Instant;

use crate::Alerting;
use crate::rivals::Rivals;

const INTERVAL: Duration = Duration::from_secs(30);
/// While there may be another one: both answer in time.
const ANSWER_INTERVAL: Duration = Duration::from_secs(10);
/// The journal is read by the clock of its server.
const CLOCK_SKEW_MS: i64 = 600_000;

impl Alerting {
    /// Looks as long as the caller holds the lease. Every step may be interrupted. A journal that does not respond delays
    /// nothing else.
    pub(super) async fn watch_rivals(&self, rivals: &mut Rivals) -> Infallible {
        if !self.archive.is_apart() {
            // Queue and store are one.
            return std::future::pending().await;
        }
        let (began, mut from_ms) = (Instant::now(), self.clock.now_ms());
        let (mut was_lasting, failures) = (false, FailureLog::default());
        rivals.begin();
        loop {
            match self.meet(rivals, &mut from_ms, began).await {
                Ok(()) => {
                    let stores = rivals.lasting(began.elapsed());
                    self.show_rivals(&stores, &mut was_lasting);
                }
                Err(error) => {
                    if let Some(earlier) = failures.admit(&error) {
                        tracing::warn!(%error, earlier, "cannot see in the journal whether alerting of another store runs");
                    }
                }
            }
            let interval = match rivals.may_be() {
                true => ANSWER_INTERVAL,
                false => INTERVAL,
            };
            tokio::time::sleep(interval).await;
        }
    }

    /// Reads what others wrote, and answers.
    async fn meet(
        &self,
        rivals: &mut Rivals,
        from_ms: &mut i64,
        began: Instant,
    ) -> Result<(), QueueError> {
        self.write_line(rivals).await?;
        let reading_ms = self.clock.now_ms();
        let mut each = |entry| rivals.read(&entry, began.elapsed());
        self.journal
            .read_journal_since(*from_ms - CLOCK_SKEW_MS, &mut each)
            .await?;
        *from_ms = reading_ms;
        self.write_line(rivals).await
    }

    async fn write_line(&self, rivals: &mut Rivals) -> Result<(), QueueError> {
        if let Some(line) = rivals.line(self.clock.now_ms()) {
            self.journal.append_journal(vec![line]).await?;
            rivals.written();
        }
        Ok(())
    }

    fn show_rivals(&self, stores: &[&str], was_lasting: &mut bool) {
        let count = i64::try_from(stores.len()).unwrap_or(i64::MAX);
        self.metrics.alerting_other_stores.set(count);
        if !stores.is_empty() {
            self.ready
                .fail("alerting of another store runs on the same queue, and sends the same alerts: see the log");
        }
        match (
            stores.is_empty(),
            std::mem::replace(was_lasting, !stores.is_empty()),
        ) {
            (false, false) => tracing::error!(
                store = self.store_name(),
                others = stores.join("; "),
                "alerting of another store runs on the same virtual host of RabbitMQ: each alert may be sent twice, and the \
                 workers of both stores share the deliveries. Give all processes the same REVWATCH_REDIS_URL, with the same \
                 database, or give the other deployment a virtual host of its own"
            ),
            (true, true) => {
                self.ready.pass();
                tracing::info!("alerting of no other store runs any more");
            }
            _ => {}
        }
    }

    /// For people: no login.
    pub(super) fn store_name(&self) -> String {
        self.store.place().unwrap_or_default()
    }
}
