//! What the evaluator keeps in the journal beside the store: alerts, their history, silences, what is pending or
//! dismissed, and who asked for what. A store that loses its data gets them back from there.
//!
//! Invariant: a line is written after its document, and before anybody is told of it; one that cannot be written
//! waits, and holds up nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use revwatch_shared::journal::{ACTS, Act};
use revwatch_shared::ports::{DocumentWrite, EventQueue, JournalEntry, StateStore, StoreError};

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
        match tokio::time::timeout(PATIENCE, queue.record(self.lines().collect())).await {
            Ok(Ok(())) => self.waiting.clear(),
            Ok(Err(error)) => tracing::warn!(%error, lines = self.waiting.len(), "the journal has to wait"),
            Err(_) => tracing::warn!(lines = self.waiting.len(), "the journal has to wait: no answer in time"),
        }
    }

    /// Another may have evaluated meanwhile: what waits is to be written as it is stored now.
    pub(crate) async fn catch_up(&mut self, store: &dyn StateStore) -> Result<(), StoreError> {
        for space in KEPT {
            if !self.waiting.keys().any(|(of, _)| of == space) {
                continue;
            }
            let stored: BTreeMap<String, String> = store.documents(space).await?.into_iter().collect();
            for ((_, key), line) in self.waiting.iter_mut().filter(|((of, _), _)| of == space) {
                *line = (now_ms(), stored.get(key).cloned());
            }
        }
        Ok(())
    }

    fn lines(&self) -> impl Iterator<Item = JournalEntry> {
        self.waiting.iter().map(|((space, key), (at_ms, body))| JournalEntry {
            at_ms: *at_ms,
            space: space.clone(),
            key: key.clone(),
            body: body.clone(),
        })
    }
}

/// The documents by which a store that lost data, or has older ones, differs from the journal.
pub(crate) async fn differences(
    queue: &dyn EventQueue,
    store: &dyn StateStore,
    keeping: &Keeping,
) -> Result<Vec<DocumentWrite>, Stop> {
    let mut newest: BTreeMap<&'static str, BTreeMap<String, (i64, Option<String>)>> = BTreeMap::new();
    let mut each = |JournalEntry { at_ms, space, key, body }: JournalEntry| {
        if let Some(space) = KEPT.into_iter().find(|kept| *kept == space) {
            newest.entry(space).or_default().insert(key, (at_ms, body));
        }
    };
    queue.journal(&mut each).await?;
    for ((space, key), line) in &keeping.waiting {
        // What waits comes after what is written, unless another evaluator wrote it since.
        if let Some(space) = KEPT.into_iter().find(|kept| kept == space) {
            let of_space = newest.entry(space).or_default();
            if of_space.get(key).is_none_or(|written| written.0 <= line.0) {
                of_space.insert(key.clone(), line.clone());
            }
        }
    }
    let mut writes = Vec::new();
    let mut over: Vec<String> = Vec::new();
    for space in KEPT {
        let stored: BTreeMap<String, String> = store.documents(space).await?.into_iter().collect();
        if space == HISTORY {
            over.extend(stored.keys().cloned());
        }
        for (key, (_, kept)) in newest.get(space).into_iter().flatten() {
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

#[cfg(test)]
mod tests {
    use revwatch_shared::sqlite::{Open, Sqlite};

    use super::*;

    /// The queue was away when a silence was ended and another set; then the store restarts, losing nothing.
    #[tokio::test]
    async fn what_the_journal_does_not_have_yet_is_not_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
        let fence = sqlite.lease("alerting", "me", 60_000).await.expect("answered").expect("free");
        let silence = |key: &str, body: Option<&str>| DocumentWrite {
            space: SILENCES,
            key: key.to_owned(),
            body: body.map(str::to_owned),
        };
        let (before, after) = (
            [silence("ended", Some("1")), silence("longer", Some("1"))],
            [silence("ended", None), silence("longer", Some("2")), silence("new", Some("3"))],
        );
        let mut keeping = Keeping::default();
        sqlite.write_documents(fence, &before).await.expect("written");
        keeping.note(&before);
        keeping.flush(&sqlite).await;
        sqlite.write_documents(fence, &after).await.expect("written");
        keeping.note(&after);
        assert_eq!(differences(&sqlite, &sqlite, &keeping).await.expect("read"), []);
        // Nor forgotten, if the store has lost it.
        sqlite.write_documents(fence, &before).await.expect("written");
        sqlite.write_documents(fence, &[silence("new", None)]).await.expect("written");
        let mut lost = differences(&sqlite, &sqlite, &keeping).await.expect("read");
        lost.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(lost, after);
    }

    /// While lines waited here, another evaluator went further, and could write.
    #[tokio::test]
    async fn what_another_wrote_meanwhile_is_not_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
        let fence = sqlite.lease("alerting", "other", 60_000).await.expect("answered").expect("free");
        let silence = |body: &str| DocumentWrite { space: SILENCES, key: "a".to_owned(), body: Some(body.to_owned()) };
        let (mut own, mut others) = (Keeping::default(), Keeping::default());
        own.note(&[silence("older")]);
        own.waiting.values_mut().for_each(|line| line.0 -= 1);
        sqlite.write_documents(fence, &[silence("newer")]).await.expect("written");
        others.note(&[silence("newer")]);
        others.flush(&sqlite).await;
        assert_eq!(differences(&sqlite, &sqlite, &own).await.expect("read"), []);
        own.catch_up(&sqlite).await.expect("read");
        own.flush(&sqlite).await;
        sqlite.write_documents(fence, &[DocumentWrite { body: None, ..silence("") }]).await.expect("written");
        assert_eq!(differences(&sqlite, &sqlite, &own).await.expect("read"), [silence("newer")]);
    }
}
