//! What is written into the journal: documents that must survive a store that loses its data, and what people
//! did.
use std::collections::BTreeMap;

use revwatch_core::pauses::Pauses;
use revwatch_core::ports::{Clock, Ids};
use serde::{Deserialize, Serialize};

use crate::ports::{Documents, Journal, JournalEntry, PAUSES, QueueError, StoreError};

/// The space of acts: each has a key of its own.
pub const ACTIONS: &str = "act";

/// The key of the one document in [`PAUSES`].
pub const PAUSES_KEY: &str = "pauses";

/// The space of dead letters that somebody threw away or sent again, by delivery id: the archive still has them, and
/// they must not come back from there.
pub const DISMISSED: &str = "dead letter dismissed";

/// The space of what went to partitions long after it was received, and so is committed out of order: each line
/// says from which `received_ms` on, and its time is that of the sending. A partition takes things in their order, so
/// whoever has lost only what was committed after some time finds here how much further back it was received.
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

/// The pauses as the store has them; `None`: nobody ever paused anything, or it has lost them.
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

/// Something a person had revwatch do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorAction {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The user of the machine, or of Slack.
    pub who: String,
    /// One word or two, such as `pause`.
    pub what: String,
    /// To what, and how it went.
    pub detail: String,
}

/// Writes down an act.
pub async fn record_action(
    journal: &dyn Journal,
    act: &OperatorAction,
    ids: &dyn Ids,
) -> Result<(), QueueError> {
    let key = ids.fresh().to_string();
    let body = serde_json::to_string(act).unwrap_or_default();
    journal
        .append_journal(vec![JournalEntry {
            at_ms: act.at_ms,
            space: ACTIONS.to_owned(),
            key,
            body: Some(body),
        }])
        .await
}

/// All acts, oldest first.
pub async fn operator_actions(journal: &dyn Journal) -> Result<Vec<OperatorAction>, QueueError> {
    let found = newest_documents(journal, &[ACTIONS]).await?;
    let mut acts: Vec<OperatorAction> = found
        .into_values()
        .filter_map(|body| serde_json::from_str(&body).ok())
        .collect();
    acts.sort_by_key(|act| act.at_ms);
    Ok(acts)
}

/// The newest text of each key of some spaces; what is no more is left out.
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
