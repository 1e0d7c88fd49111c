//! The spaces of the journal: documents that must survive a loss of the store's data, and operators' actions.

use std::collections::BTreeMap;

use revwatch_core::clock::{Clock, Ids};
use revwatch_core::pauses::Pauses;
use serde::{Deserialize, Serialize};

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

/// All actions, oldest first.
pub async fn operator_actions(journal: &dyn Journal) -> Result<Vec<OperatorAction>, QueueError> {
    let found = newest_documents(journal, &[ACTIONS]).await?;
    let mut actions: Vec<OperatorAction> = found
        .into_values()
        .filter_map(|body| serde_json::from_str(&body).ok())
        .collect();
    actions.sort_by_key(|action| action.at_ms);
    Ok(actions)
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
