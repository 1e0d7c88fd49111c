//! What alerting vouches for besides the store: that its evaluator takes turns, and that the journal takes entries.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use revwatch_runtime::probe::Probe;
use revwatch_runtime::process::Process;
use revwatch_storage::ports::{EventQueue, QueueError};
use tokio::time::Instant;

/// When the evaluator last took a turn. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<Option<Turn>>>);

#[derive(Debug, Clone, Copy)]
struct Turn {
    at: Instant,
    /// After this time without another one the evaluator stands still.
    standstill_after: Duration,
}

/// Tries out the journal.
struct JournalProbe {
    queue: Arc<dyn EventQueue>,
    written: Mutex<Option<Instant>>,
}

/// A turn takes far less, also one that waits for attempts under way.
const STANDSTILL_AFTER: Duration = Duration::from_mins(2);
/// The turns that are missing when the setting between them is longer than that.
const MISSED_TURNS: u32 = 3;
/// How often something is written to the journal, which keeps it for years. In between the queue is tried out: both are
/// one server, or one file.
const WRITE_INTERVAL: Duration = Duration::from_mins(5);

/// Watches both for as long as `process` runs.
pub(crate) async fn watch(process: &Process, queue: Arc<dyn EventQueue>, turns: Turns) {
    let journal = Arc::new(JournalProbe {
        queue,
        written: Mutex::default(),
    });
    let probe = Probe::new(process.readiness.check("journal"), move || {
        let journal = journal.clone();
        async move { journal.attempt().await }
    });
    process.watch("the journal", probe).await;
    let probe = Probe::new(process.readiness.check("evaluator"), move || {
        std::future::ready(turns.judge(Instant::now()))
    });
    process.watch("the evaluator", probe).await;
}

impl Turns {
    /// The evaluator takes one, and another one after `interval`.
    pub(crate) fn note(&self, at: Instant, interval: Duration) {
        let standstill_after = STANDSTILL_AFTER.max(interval * MISSED_TURNS);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Turn {
            at,
            standstill_after,
        });
    }

    fn judge(&self, now: Instant) -> Result<(), String> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = last.map(|turn| (now.duration_since(turn.at), turn.standstill_after));
        match stands {
            Some((stands, standstill_after)) if stands >= standstill_after => {
                Err(format!("has stood still for {} s", stands.as_secs()))
            }
            _ => Ok(()),
        }
    }
}

impl JournalProbe {
    async fn attempt(&self) -> Result<(), QueueError> {
        let written = std::mem::take(&mut *self.written());
        match written.filter(|at| at.elapsed() < WRITE_INTERVAL) {
            Some(at) => {
                self.queue.probe().await?;
                *self.written() = Some(at);
            }
            None => {
                self.queue.probe_journal().await?;
                *self.written() = Some(Instant::now());
            }
        }
        Ok(())
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluator_that_takes_no_turn_is_not_ready() {
        let (turns, start) = (Turns::default(), Instant::now());
        assert!(turns.judge(start).is_ok(), "it has not begun");
        turns.note(start, Duration::from_secs(1));
        assert!(turns.judge(start + STANDSTILL_AFTER / 2).is_ok());
        let reason = turns
            .judge(start + STANDSTILL_AFTER)
            .expect_err("it stands still");
        assert_eq!(reason, "has stood still for 120 s");
        let rarely = STANDSTILL_AFTER * 10;
        turns.note(start, rarely);
        assert!(turns.judge(start + rarely * 2).is_ok());
        assert!(turns.judge(start + rarely * 3).is_err());
    }
}
