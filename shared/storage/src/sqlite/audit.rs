//! The audit trail.

use async_trait::async_trait;

use super::handle::{Sqlite, store_error};
use super::json::{from_json, texts};
use crate::ports::{AuditEntry, AuditTrail, StoreError};

#[async_trait]
impl AuditTrail for Sqlite {
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let bodies = Sqlite::read(self, move |c| {
            texts(
                c,
                "SELECT body FROM audit ORDER BY seq DESC LIMIT ?1",
                [limit],
            )
        });
        from_json(&bodies.await.map_err(store_error)?, "an entry of the audit")
    }
}
