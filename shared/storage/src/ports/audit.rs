//! The audit trail: what changed, when, and because of which event.

use async_trait::async_trait;
use revwatch_core::entity::EntityKey;
use serde::{Deserialize, Serialize};

use super::error::StoreError;

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Unix seconds at which the change happened, according to Stripe.
    pub at_s: i64,
    /// The entity that changed.
    pub subject: EntityKey,
    /// The event that caused it.
    pub event_id: String,
    /// The change, for example `status active → past_due`.
    pub what: String,
}

/// Reads the audit trail.
#[async_trait]
pub trait AuditTrail: Send + Sync {
    /// The newest entries, newest first.
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError>;
}
