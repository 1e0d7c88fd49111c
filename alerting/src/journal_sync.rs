//! Copies the evaluator's documents to the journal: alerts, their history, silences, pending and dismissed rules, when
//! revwatch began, and the commands of operators. A store that loses its data gets them back from there.
//!
//! Invariant: an entry is written after its document, and the entries of one key are written in their order. A journal
//! that is unavailable delays nothing. Entries stay here until it confirms them, and count as if they were written.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use revwatch_core::backoff::Backoff;
use revwatch_storage::journal::{ACTIONS, OperatorAction};
use revwatch_storage::ports::{DocumentWrite, Documents, Journal, JournalEntry, StoreError};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use crate::alert::{Alert, Command, CommandKind, NotificationState};
use crate::engine::{ALERTS, BEGAN, HISTORY, PENDING, SILENCES};
use crate::evaluator::error::EvaluatorError;

/// The spaces of documents that are copied. The evaluator's position is not: it is found again.
const JOURNALED: [&str; 5] = [HISTORY, ALERTS, SILENCES, PENDING, BEGAN];

/// At most so many entries are written together.
const WRITE_BATCH: usize = 1000;

/// At most so many entries wait. After hours without a journal the oldest are dropped, which is logged.
const MAX_WAITING: usize = 100_000;

/// How long an evaluator that stops waits for its last entries.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// The pauses after failures.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    max: Duration::from_secs(30),
};

/// The entries that are not yet written.
#[derive(Default)]
pub(crate) struct JournalWriter {
    /// By number, in the order in which they came.
    waiting: BTreeMap<u64, JournalEntry>,
    /// The number of the entry that waits, by space and key: the newest.
    newest: HashMap<(String, String), u64>,
    /// The number of entries so far.
    noted: u64,
    in_flight: Option<InFlight>,
    /// Failures in a row.
    failures: u32,
    /// When the journal may be tried again.
    retry_at: Option<Instant>,
    /// The number of entries that were dropped since the journal last confirmed some.
    dropped: u64,
}

/// The entries that were sent to the journal and are not confirmed. There is one batch at a time, so that the entries of
/// a key stay in order.
struct InFlight {
    numbers: Vec<u64>,
    result: oneshot::Receiver<Result<(), String>>,
}

impl JournalWriter {
    /// Documents that were written.
    pub(crate) fn note(&mut self, writes: &[DocumentWrite], at_ms: i64) {
        for DocumentWrite { space, key, body } in writes
            .iter()
            .filter(|write| JOURNALED.contains(&write.space))
        {
            self.put(JournalEntry {
                at_ms,
                space: (*space).to_owned(),
                key: key.clone(),
                body: body.clone(),
            });
        }
    }

    /// A command that was carried out; `key` makes a repetition the same action.
    pub(crate) fn note_action(&mut self, key: &str, command: &Command) {
        let (what, detail) = match &command.kind {
            CommandKind::Acknowledge { alert_id } => ("alert acknowledged", alert_id.clone()),
            CommandKind::Resolve { alert_id } => ("alert resolved", alert_id.clone()),
            CommandKind::Silence(silence) => (
                "silence",
                format!(
                    "{} {}",
                    silence.id,
                    serde_json::to_string(&silence.matches).unwrap_or_default()
                ),
            ),
            CommandKind::Unsilence { silence_id } => ("silence ended", silence_id.clone()),
        };
        let at_ms = command.at_s.saturating_mul(1000);
        let detail = format!("{detail} ({})", command.via);
        let action = OperatorAction {
            at_ms,
            who: command.by.clone(),
            what: what.to_owned(),
            detail,
        };
        let body = serde_json::to_string(&action).unwrap_or_default();
        self.put(JournalEntry {
            at_ms,
            space: ACTIONS.to_owned(),
            key: key.to_owned(),
            body: Some(body),
        });
    }

    /// Takes the journal's result, if it has come, and sends the next entries, unless a result is missing or a backoff
    /// has not ended. Waits for neither. A result that does not come `within` this time, which the lease must outlive,
    /// is a failure.
    pub(crate) fn flush(&mut self, journal: &Arc<dyn Journal>, within: Duration) {
        if let Some(in_flight) = &mut self.in_flight {
            match in_flight.result.try_recv() {
                Err(TryRecvError::Empty) => return,
                result => self.on_result(result.unwrap_or_else(|_| lost())),
            }
        }
        let is_backing_off = self.retry_at.is_some_and(|at| at > Instant::now());
        if self.waiting.is_empty() || is_backing_off {
            return;
        }
        let (numbers, entries): (Vec<u64>, Vec<JournalEntry>) = self
            .waiting
            .iter()
            .take(WRITE_BATCH)
            .map(|(n, entry)| (*n, entry.clone()))
            .unzip();
        let (sender, result) = oneshot::channel();
        self.in_flight = Some(InFlight { numbers, result });
        let journal = journal.clone();
        tokio::spawn(async move {
            let result = match tokio::time::timeout(within, journal.append_journal(entries)).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err("no response in time".to_owned()),
            };
            // An evaluator that has stopped does not need it.
            let _ = sender.send(result);
        });
    }

    /// Whether entries were sent that the journal has not confirmed.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Waits for the journal's result, and takes it. Cancelling it loses nothing.
    pub(crate) async fn take_result(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            let result = (&mut in_flight.result).await;
            self.on_result(result.unwrap_or_else(|_| lost()));
        }
    }

    /// The lease is about to be released: entries that wait are written now, or never by this process. A journal that
    /// fails is not tried again.
    pub(crate) async fn end(&mut self, journal: &Arc<dyn Journal>, within: Duration) {
        let last = async {
            self.take_result().await;
            self.retry_at = None;
            self.flush(journal, within);
            while self.is_in_flight() {
                self.take_result().await;
                self.flush(journal, within);
            }
        };
        let _ = tokio::time::timeout(LAST_WITHIN.min(within), last).await;
        if !self.waiting.is_empty() {
            tracing::warn!(
                entries = self.waiting.len(),
                "these entries were not written to the journal"
            );
        }
    }

    /// Another process may have evaluated since: entries that wait are replaced by the documents as they are stored.
    pub(crate) async fn catch_up(
        &mut self,
        store: &dyn Documents,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        for space in JOURNALED {
            let of_space = self.waiting.values().filter(|entry| entry.space == space);
            let keys: Vec<String> = of_space.map(|entry| entry.key.clone()).collect();
            if keys.is_empty() {
                continue;
            }
            let mut stored: HashMap<String, String> =
                store.documents(space).await?.into_iter().collect();
            for key in keys {
                let body = stored.remove(&key);
                self.put(JournalEntry {
                    at_ms,
                    space: space.to_owned(),
                    key,
                    body,
                });
            }
        }
        Ok(())
    }

    /// Adds an entry. An earlier entry of its key need not be written any more.
    fn put(&mut self, entry: JournalEntry) {
        self.noted += 1;
        if let Some(earlier) = self
            .newest
            .insert((entry.space.clone(), entry.key.clone()), self.noted)
        {
            self.waiting.remove(&earlier);
        }
        self.waiting.insert(self.noted, entry);
        while self.waiting.len() > MAX_WAITING {
            if let Some((_, JournalEntry { space, key, .. })) = self.waiting.pop_first() {
                self.newest.remove(&(space, key));
                self.dropped += 1;
            }
        }
    }

    fn on_result(&mut self, result: Result<(), String>) {
        let Some(InFlight { numbers, .. }) = self.in_flight.take() else {
            return;
        };
        match result {
            Ok(()) => {
                // An entry that was replaced during the write waits under another number.
                for JournalEntry { space, key, .. } in numbers
                    .iter()
                    .filter_map(|number| self.waiting.remove(number))
                {
                    self.newest.remove(&(space, key));
                }
                let dropped = std::mem::take(&mut self.dropped);
                if dropped > 0 {
                    tracing::warn!(
                        dropped,
                        "the journal is written again, but misses entries that were dropped while it was not"
                    );
                }
                (self.failures, self.retry_at) = (0, None);
            }
            Err(error) => {
                self.retry_at = Some(Instant::now() + BACKOFF.wait(self.failures));
                self.failures = self.failures.saturating_add(1);
                let (entries, dropped) = (self.waiting.len(), self.dropped);
                tracing::warn!(
                    error,
                    entries,
                    dropped,
                    "the journal cannot be written; it will be retried"
                );
            }
        }
    }
}

/// The task that wrote has panicked.
fn lost() -> Result<(), String> {
    Err("the write panicked".to_owned())
}

/// The documents by which a store that lost data, or has older ones, differs from the journal.
pub(crate) async fn differences(
    journal: &dyn Journal,
    store: &dyn Documents,
    keeping: &JournalWriter,
) -> Result<Vec<DocumentWrite>, EvaluatorError> {
    let mut newest: BTreeMap<&'static str, BTreeMap<String, (i64, Option<String>)>> =
        BTreeMap::new();
    let mut each = |JournalEntry {
                        at_ms,
                        space,
                        key,
                        body,
                    }: JournalEntry| {
        if let Some(space) = JOURNALED.into_iter().find(|kept| *kept == space) {
            newest.entry(space).or_default().insert(key, (at_ms, body));
        }
    };
    journal.read_journal(&mut each).await?;
    for JournalEntry {
        at_ms,
        space,
        key,
        body,
    } in keeping.waiting.values()
    {
        // Entries that wait are newer than written ones, unless another evaluator wrote since.
        if let Some(space) = JOURNALED.into_iter().find(|kept| kept == space) {
            let of_space = newest.entry(space).or_default();
            if of_space.get(key).is_none_or(|written| written.0 <= *at_ms) {
                of_space.insert(key.clone(), (*at_ms, body.clone()));
            }
        }
    }
    let mut writes = Vec::new();
    // The entry that adds an alert to the history comes before the one that deletes the open alert, which may be missing.
    let ended = newest
        .get(HISTORY)
        .into_iter()
        .flatten()
        .filter(|(_, (_, body))| body.is_some());
    let mut ended_ids: HashSet<String> = ended.map(|(key, _)| key.clone()).collect();
    for space in JOURNALED {
        let stored: BTreeMap<String, String> = store.documents(space).await?.into_iter().collect();
        if space == HISTORY {
            ended_ids.extend(stored.keys().cloned());
        }
        for (key, (_, kept)) in newest.get(space).into_iter().flatten() {
            let stored = stored.get(key);
            // An alert in the history is not open, even if its deletion was not written.
            if stored.is_none() && space == ALERTS && ended_ids.contains(key) {
                continue;
            }
            let body = match (stored, kept) {
                (Some(stored), Some(kept)) => Some(latest(stored, kept)),
                (_, kept) => kept.clone(),
            };
            if stored != body.as_ref() {
                let key = key.clone();
                writes.push(DocumentWrite { space, key, body });
            }
        }
    }
    Ok(writes)
}

/// The document as it was last written: the journal's, unless it is an alert that was changed since.
fn latest(stored: &str, kept: &str) -> String {
    let alert = |body| serde_json::from_str::<Alert>(body).ok();
    let Some((ours, mut merged)) = alert(stored).zip(alert(kept)) else {
        return kept.to_owned();
    };
    let revision = |alert: &Alert| (alert.revision, alert.revised_s);
    match revision(&ours).cmp(&revision(&merged)) {
        Ordering::Greater => stored.to_owned(),
        Ordering::Less => kept.to_owned(),
        Ordering::Equal => {
            let mut is_behind = false;
            for (way, state) in ours.notifications {
                let kept = merged.notifications.entry(way).or_default();
                if delivery_progress(&state) > delivery_progress(kept) {
                    (*kept, is_behind) = (state, true);
                }
            }
            // Only what differs is encoded again: texts are compared.
            match serde_json::to_string(&merged) {
                Ok(body) if is_behind => body,
                _ => kept.to_owned(),
            }
        }
    }
}

/// How far a message came. An attempt that either side has is kept, also if it may have ended since:
/// without it the message would be sent again, with it the message is searched for.
fn delivery_progress(state: &NotificationState) -> (u32, Option<u32>) {
    (state.delivered_revision, state.attempting_revision)
}

#[cfg(test)]
mod tests;
