//! Health and recovery of partitions.

use async_trait::async_trait;
use revwatch_core::entity::STATE_FORMAT;

use super::handle::Memory;
use super::store_state::Derived;
use crate::lock::lock;
use crate::ports::{Health, Recovery, StoreError};

#[async_trait]
impl Recovery for Memory {
    async fn health(&self) -> Result<Vec<Health>, StoreError> {
        self.shared.pass(&self.gate).await;
        Ok(lock(&self.shared.store).health.clone())
    }

    async fn begin_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        margin_ms: i64,
    ) -> Result<(String, i64), StoreError> {
        self.shared.pass_to(&self.gate, partition).await;
        let mut state = lock(&self.shared.store);
        let health = &mut state.health[partition as usize];
        let begin = match (&health.complete_in, health.high_watermark_ms) {
            (Some(_), Some(high_watermark_ms)) => (high_watermark_ms - margin_ms).max(0),
            _ => 0,
        };
        let joined = match health.recovery.take() {
            Some((id, from_ms)) => (id, from_ms.min(begin)),
            None => (recovery_id.to_owned(), begin),
        };
        health.recovery = Some(joined.clone());
        Ok(joined)
    }

    async fn end_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError> {
        self.shared.pass_to(&self.gate, partition).await;
        let mut state = lock(&self.shared.store);
        let health = &mut state.health[partition as usize];
        let same = health
            .recovery
            .as_ref()
            .is_some_and(|(id, _)| id == recovery_id);
        if !same || health.server_run_id != server_run_id {
            return Ok(false);
        }
        health.complete_in = Some(server_run_id.to_owned());
        health.recovery_id = Some(recovery_id.to_owned());
        health.recovery = None;
        Ok(true)
    }

    async fn drop_state(&self) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.store);
        state.derived = Derived::default();
        state.log.clear();
        for health in &mut state.health {
            (health.complete_in, health.high_watermark_ms) = (None, None);
            (health.recovery, health.conversion) = (None, None);
            health.state_format = STATE_FORMAT;
        }
        Ok(())
    }
}
