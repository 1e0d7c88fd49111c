//! How far the evaluator has read, as it is stored.

use std::collections::{BTreeMap, BTreeSet};

use revwatch_storage::ports::{ChangeCursor, Health, NEVER_RECOVERED, last_recovery};
use serde::{Deserialize, Serialize};

use super::{POSITION, UnreadableDocumentError, parsed};

/// How far the evaluator has read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvaluatorPosition {
    /// Of the condition changes.
    pub cursor: ChangeCursor,
    /// Conditions that fall due up to this Unix second have been evaluated.
    pub until_s: i64,
    /// The rules for which that is true.
    pub rules: Vec<String>,
    /// Rules that skipped a condition while events were late for them: when they are not, all open conditions are
    /// evaluated.
    pub waiting: BTreeSet<String>,
    /// Unix second at which old alerts were last removed from the history.
    pub history_cut_s: i64,
    /// The store's last recovery by then; see [`revwatch_storage::ports::Health::recovery_id`].
    #[serde(default, alias = "healed_by")]
    pub recovery_id: String,
    /// Partitions that stood still for so long that they were not waited for, and the Unix millisecond up to which each
    /// was applied then: another evaluator does not wait for them again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub not_waited_for: BTreeMap<u32, Option<i64>>,
}

/// The key of the position in its space.
pub(super) const KEY: &str = "position";

impl EvaluatorPosition {
    /// The position in the documents of its space; without any, the beginning.
    pub(super) fn of(stored: &[(String, String)]) -> Result<Self, UnreadableDocumentError> {
        // An earlier evaluator may have left it under another key.
        let newest = stored.iter().find(|(key, _)| key == KEY);
        match newest.or(stored.first()) {
            Some(document) => parsed(POSITION, document),
            None => Ok(Self::default()),
        }
    }
}

/// Whether the store has every alert, silence and past alert that alerting knew before the store's last recovery: an
/// evaluator has restored them from the journal since, or nothing was ever lost. `stored` is the space
/// [`POSITION`].
pub fn are_alerts_restored(
    stored: &[(String, String)],
    health: &[Health],
) -> Result<bool, UnreadableDocumentError> {
    let is_unbroken = |health: &Health| health.recovery_id.as_deref() == Some(NEVER_RECOVERED);
    let position = EvaluatorPosition::of(stored)?;
    Ok(health.iter().all(is_unbroken) || position.recovery_id == last_recovery(health))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_restored_once_an_evaluator_has_seen_the_last_recovery() {
        let health = |ids: [&str; 2]| {
            ids.map(|id| Health {
                recovery_id: Some(id.to_owned()),
                ..Health::default()
            })
        };
        let position = |recovery_id: &str| {
            let position = EvaluatorPosition {
                recovery_id: recovery_id.to_owned(),
                ..EvaluatorPosition::default()
            };
            let older = EvaluatorPosition::default();
            [("progress", older), (KEY, position)]
                .map(|(key, position)| (key.to_owned(), super::super::json(&position)))
                .to_vec()
        };
        let unbroken = health([NEVER_RECOVERED; 2]);
        for (stored, health, expected) in [
            (Vec::new(), &unbroken, true),
            (position("new new"), &unbroken, true),
            (Vec::new(), &health(["a", "b"]), false),
            (position("a a"), &health(["a", "b"]), false),
            (position("new new"), &health(["new", "b"]), false),
            (position("a b"), &health(["a", "b"]), true),
        ] {
            let is_restored = are_alerts_restored(&stored, health).expect("readable");
            assert_eq!(is_restored, expected, "{stored:?} {health:?}");
        }
    }
}
