//! While the store lacks data, nothing is decided: alerts would resolve and fire again.

use revwatch_storage::ports::{Health, last_recovery};

use super::error::EvaluatorError;
use crate::Alerting;

impl Alerting {
    /// The store's last recovery.
    pub(super) async fn recovery_id(&self) -> Result<String, EvaluatorError> {
        Ok(last_recovery(&self.complete_health().await?))
    }

    /// The health of each partition; all are complete, and no recovery came after `recovery_id`.
    pub(super) async fn health_since(
        &self,
        recovery_id: &str,
    ) -> Result<Vec<Health>, EvaluatorError> {
        let health = self.complete_health().await?;
        match last_recovery(&health) == recovery_id {
            true => Ok(health),
            false => Err(EvaluatorError::Incomplete),
        }
    }

    /// The health of each partition; all are complete.
    async fn complete_health(&self) -> Result<Vec<Health>, EvaluatorError> {
        let health = self.store.health().await?;
        let incomplete = health.iter().filter(|health| !health.is_complete()).count();
        self.metrics
            .partitions_recovering
            .set(i64::try_from(incomplete).unwrap_or(i64::MAX));
        match incomplete {
            0 => Ok(health),
            _ => Err(EvaluatorError::Incomplete),
        }
    }
}
