//! The audit trail.

use async_trait::async_trait;

use super::handle::Memory;
use crate::lock::lock;
use crate::ports::{AuditEntry, AuditTrail, StoreError};

#[async_trait]
impl AuditTrail for Memory {
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        Ok(state
            .derived
            .audit
            .iter()
            .rev()
            .take(limit)
            .cloned()
            .collect())
    }
}
