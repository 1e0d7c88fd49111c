//! What the evaluator keeps in the journal beside the store: alerts, their history, silences, what is pending or
//! dismissed, and who asked for what. A store that loses its data gets them back from there.
//!
//! Invariant: a line is written after its document, and before anybody is told of it; one that cannot be written
//! waits, and holds up nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use revwatch_shared::journal::{ACTS, Act};
use revwatch_shared::ports::{DocumentWrite, EventQueue, JournalEntry, StateStore};

use crate::alert::Alert;
use crate::book::{ALERTS, HISTORY, PENDING, SILENCES};
use crate::command::{Ask, Command};
use crate::evaluator::Stop;
use crate::now_ms;

/// Spaces of documents that are kept. (How far was read is found out anew.)
const KEPT: [&str; 4] = [HISTORY, ALERTS, SILENCES, PENDING];

/// A journal that does not answer must not cost the lease.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lines that are still to be written.
#[derive(Default)]
pub(crate) struct Keeping {
    waiting: BTreeMap<(String, String), (i64, Option<String>)>,
}

impl Keeping {
    /// Documents that were written.
    pub(crate) fn note(&mut self, writes: &[DocumentWrite]) {
        let at_ms = now_ms();
        for DocumentWrite { space, key, body } in writes.iter().filter(|write| KEPT.contains(&write.space)) {
            self.waiting.insert(((*space).to_owned(), key.clone()), (at_ms, body.clone()));
        }
    }

    /// A command, carried out; `key` makes a repeat of it the same act.
    pub(crate) fn note_act(&mut self, key: &str, command: &Command) {
        let (what, detail) = match &command.ask {
            Ask::Acknowledge { alert_id } => ("alert acknowledged", alert_id.clone()),
            Ask::Resolve { alert_id } => ("alert resolved", alert_id.clone()),
            Ask::Silence(silence) => {
                ("silence", format!("{} {}", silence.id, serde_json::to_string(&silence.matches).unwrap_or_default()))
            }
            Ask::Unsilence { silence_id } => ("silence ended", silence_id.clone()),
        };
        let at_ms = command.at_s.saturating_mul(1000);
        let detail = format!("{detail} ({})", command.via);
        let act = Act { at_ms, who: command.by.clone(), what: what.to_owned(), detail };
        let body = serde_json::to_string(&act).unwrap_or_default();
        self.waiting.insert((ACTS.to_owned(), key.to_owned()), (at_ms, Some(body)));
    }

    /// Writes what waits.
    pub(crate) async fn flush(&mut self, queue: &dyn EventQueue) {
        if self.waiting.is_empty() {
            return;
        }
        let lines = self.waiting.iter().map(|((space, key), (at_ms, body))| JournalEntry {
            at_ms: *at_ms,
            space: space.clone(),
            key: key.clone(),
            body: body.clone(),
        });
        match tokio::time::timeout(PATIENCE, queue.record(lines.collect())).await {
            Ok(Ok(())) => self.waiting.clear(),
            Ok(Err(error)) => tracing::warn!(%error, lines = self.waiting.len(), "the journal has to wait"),
            Err(_) => tracing::warn!(lines = self.waiting.len(), "the journal has to wait: no answer in time"),
        }
    }
}

/// The documents by which a store that lost data, or has older ones, differs from the journal.
pub(crate) async fn differences(queue: &dyn EventQueue, store: &dyn StateStore) -> Result<Vec<DocumentWrite>, Stop> {
    let mut newest: BTreeMap<&'static str, BTreeMap<String, Option<String>>> = BTreeMap::new();
    let mut each = |line: JournalEntry| {
        if let Some(space) = KEPT.into_iter().find(|space| *space == line.space) {
            newest.entry(space).or_default().insert(line.key, line.body);
        }
    };
    queue.journal(&mut each).await?;
    let mut writes = Vec::new();
    let mut over: Vec<String> = Vec::new();
    for space in KEPT {
        let stored: BTreeMap<String, String> = store.documents(space).await?.into_iter().collect();
        if space == HISTORY {
            over.extend(stored.keys().cloned());
        }
        for (key, kept) in newest.get(space).into_iter().flatten() {
            let write = match (stored.get(key), kept) {
                // What is over is not open, whatever was not written down any more.
                (None, Some(_)) if space == ALERTS && over.contains(key) => false,
                (None, kept) => kept.is_some(),
                (Some(_), None) => true,
                (Some(stored), Some(kept)) => stored != kept && !is_newer(stored, kept),
            };
            if write {
                writes.push(DocumentWrite { space, key: key.clone(), body: kept.clone() });
            }
        }
    }
    Ok(writes)
}

/// Whether the first is an alert that was changed after the second.
fn is_newer(stored: &str, kept: &str) -> bool {
    let revision = |body| serde_json::from_str::<Alert>(body).ok().map(|alert| (alert.revision, alert.revised_s));
    revision(stored).zip(revision(kept)).is_some_and(|(stored, kept)| stored > kept)
}
