//! The spaces of the journal: documents that must survive a loss of the store's data, and operators' actions.

use std::collections::BTreeMap;

use revwatch_core::clock::{Clock, Ids};
use revwatch_core::pauses::Pauses;
use serde::{Deserialize, Serialize};

use crate::gaps::{GAPS, Gap};
use crate::ports::{Documents, Journal, JournalEntry, PAUSES, QueueError, StoreError};

/// The space of operators' actions; each has its own key.
pub const ACTIONS: &str = "act";

/// The key of the one document in [`PAUSES`].
pub const PAUSES_KEY: &str = "pauses";

/// The space of dead letters that an operator discarded or requeued, by delivery id: the archive still has them, and
/// a replay must not apply them again.
pub const DISMISSED: &str = "dead letter dismissed";

/// The space of deliveries requeued long after they were received, and thus committed out of order: the line's text is
/// the earliest `received_ms` among them, its time that of requeuing. A store that lost the commits after some time
/// finds here how much further back the replay must start.
pub const REQUEUED: &str = "sent on";

/// A line of [`REQUEUED`].
pub fn requeued(received_ms: i64, clock: &dyn Clock, ids: &dyn Ids) -> JournalEntry {
    let (key, body) = (ids.fresh().to_string(), Some(received_ms.to_string()));
    JournalEntry {
        at_ms: clock.now_ms(),
        space: REQUEUED.to_owned(),
        key,
        body,
    }
}

/// The pauses in the store. `None`: nothing was ever paused, or the store lost them.
pub async fn pauses_in_store(store: &dyn Documents) -> Result<Option<Pauses>, StoreError> {
    let found = store.documents(PAUSES).await?;
    let read = |body: &String| {
        serde_json::from_str(body)
            .map_err(|e| StoreError::Corrupt(format!("the pauses, line {}", e.line())))
    };
    found
        .iter()
        .find(|(key, _)| key == PAUSES_KEY)
        .map(|(_, body)| read(body))
        .transpose()
}

/// An action of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorAction {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The user of the machine, or of Slack.
    pub who: String,
    /// For example `pause`.
    pub what: String,
    /// Its target and outcome.
    pub detail: String,
}

/// Records an action.
pub async fn record_action(
    journal: &dyn Journal,
    action: &OperatorAction,
    ids: &dyn Ids,
) -> Result<(), QueueError> {
    let key = ids.fresh().to_string();
    let body = serde_json::to_string(action).unwrap_or_default();
    journal
        .append_journal(vec![JournalEntry {
            at_ms: action.at_ms,
            space: ACTIONS.to_owned(),
            key,
            body: Some(body),
        }])
        .await
}

/// What the journal has of operators' actions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorActions {
    /// Oldest first.
    pub actions: Vec<OperatorAction>,
    /// How many entries cannot be read.
    pub unreadable: usize,
}

/// All actions, and the gaps of the archive.
pub async fn operator_actions(journal: &dyn Journal) -> Result<OperatorActions, QueueError> {
    let mut found = OperatorActions::default();
    let mut newest = BTreeMap::new();
    let mut each = |entry: JournalEntry| {
        if [ACTIONS, GAPS].contains(&entry.space.as_str())
            && let Some(body) = entry.body
        {
            newest.insert((entry.space, entry.key), (entry.at_ms, body));
        }
    };
    journal.read_journal(&mut each).await?;
    for ((space, _), (at_ms, body)) in newest {
        let action = match space.as_str() {
            GAPS => serde_json::from_str::<Gap>(&body).map(|gap| gap.as_action(at_ms)),
            _ => serde_json::from_str(&body),
        };
        match action {
            Ok(action) => found.actions.push(action),
            Err(_) => found.unreadable += 1,
        }
    }
    found.actions.sort_by_key(|action| action.at_ms);
    Ok(found)
}

/// The newest text of each key of some spaces, without deleted keys.
pub async fn newest_documents(
    journal: &dyn Journal,
    spaces: &[&str],
) -> Result<BTreeMap<(String, String), String>, QueueError> {
    let mut found = BTreeMap::new();
    let mut each = |JournalEntry {
                        space, key, body, ..
                    }: JournalEntry| {
        if spaces.contains(&space.as_str()) {
            match body {
                Some(body) => drop(found.insert((space, key), body)),
                None => drop(found.remove(&(space, key))),
            }
        }
    };
    journal.read_journal(&mut each).await?;
    Ok(found)
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::Memory;
    use crate::system::SystemClock;

    #[tokio::test]
    async fn an_unreadable_action_is_counted_and_the_others_are_listed() {
        let journal = Memory::new(1, Arc::new(SystemClock));
        let entry = |key: &str, body: &str| JournalEntry {
            at_ms: 1,
            space: ACTIONS.to_owned(),
            key: key.to_owned(),
            body: Some(body.to_owned()),
        };
        let readable = r#"{"at_ms":1,"who":"ada","what":"pause","detail":"all"}"#;
        let entries = vec![entry("a", readable), entry("b", "{}"), entry("c", "")];
        journal.append_journal(entries).await.expect("appended");
        let found = operator_actions(&journal).await.expect("read");
        assert_eq!((found.actions.len(), found.unreadable), (1, 2));
        assert_eq!(found.actions[0].who, "ada");
    }
}
