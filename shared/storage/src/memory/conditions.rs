//! Open conditions and their changes.

use async_trait::async_trait;
use revwatch_core::condition::Condition;

use super::handle::Memory;
use crate::lock::lock;
use crate::ports::{ChangeCursor, Changes, ConditionFeed, DueWindow, StoreError};

#[async_trait]
impl ConditionFeed for Memory {
    async fn conditions(&self) -> Result<Vec<Condition>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        Ok(state.derived.conditions.values().cloned().collect())
    }

    async fn conditions_due(&self, windows: &[DueWindow]) -> Result<Vec<Condition>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let due = |condition: &&Condition| {
            let due_s = condition.due_s;
            windows
                .iter()
                .any(|w| due_s > w.after_s && due_s <= w.until_s)
        };
        Ok(state
            .derived
            .conditions
            .values()
            .filter(due)
            .cloned()
            .collect())
    }

    async fn condition_changes(
        &self,
        cursor: &ChangeCursor,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let known = cursor.get(&0).copied();
        let after = known.unwrap_or(0);
        let lost = state
            .lost
            .iter()
            .any(|(from, to)| (from + 1..=*to).contains(&after));
        if known.is_some() && (after > state.sequence || lost) {
            return Ok(Changes {
                cursor: ChangeCursor::from([(0, state.sequence)]),
                gap: true,
                ..Changes::default()
            });
        }
        let mut found = state.derived.changes.range(after + 1..);
        let (mut changes, mut last) = (Vec::new(), after);
        for (number, change) in found.by_ref().take(limit) {
            changes.push(change.clone());
            last = *number;
        }
        Ok(Changes {
            changes,
            cursor: ChangeCursor::from([(0, last)]),
            gap: false,
            more: found.next().is_some(),
        })
    }
}
