//! The ports of the queue ([`EventQueue`]) and of the store ([`StateStore`]). The port of
//! notifications, `Notifier`, is in the alerting crate with its only user.
//!
//! Each is several small traits, so that a signature shows what a caller may do. The queue:
//!
//! | trait | what it does | used by |
//! |---|---|---|
//! | [`Publish`] | makes deliveries durable | ingest, backfill, the fetcher of accounts |
//! | [`Consume`] | hands out deliveries, partition by partition | the worker |
//! | [`Holding`] | keeps dead letters and parked deliveries | the worker, operators' commands |
//! | [`Replay`] | reads the archive | recovery, backtests |
//! | [`Journal`] | keeps what must survive the store | alerting, pauses, operators' commands |
//!
//! The store:
//!
//! | trait | state | written by |
//! |---|---|---|
//! | [`Entities`] | recorded Stripe objects | the worker, batch by batch |
//! | [`Aggregates`] | counters | the worker's commits |
//! | [`ConditionFeed`] | open conditions and their changes | the worker's commits |
//! | [`AuditTrail`] | what changed and why | the worker's commits |
//! | [`Documents`] | JSON by space and key | holders of a lease; any process by compare-and-set, and where it may submit |
//! | [`Coordination`] | leases, group membership | every process |
//! | [`Recovery`] | whether the data is complete | the worker |
//! | [`Conversion`] | the format of the state | the worker |
//!
//! The composition of a process holds [`EventQueue`] and [`StateStore`]; a part of a role takes the
//! traits it needs: `Arc<dyn StateStore>` coerces to `Arc<dyn Documents>`.
//!
//! One contract suite runs against every adapter. Errors state what the caller can do next.

mod aggregates;
mod audit;
mod conditions;
mod consume;
mod conversion;
mod coordination;
mod documents;
mod entities;
mod error;
mod holding;
mod journal;
mod publish;
mod recovery;
mod replay;

use async_trait::async_trait;

pub use self::aggregates::Aggregates;
pub use self::audit::{AuditEntry, AuditTrail};
pub use self::conditions::{ChangeCursor, Changes, ConditionChange, ConditionFeed, DueWindow};
pub use self::consume::{Consume, Consumer};
pub use self::conversion::{Conversion, ShardEntity, ShardPage};
pub use self::coordination::{Coordination, Fence, MEMBERS_AHEAD_MS, WORKERS};
pub use self::documents::{
    ALERTING_LEASE, COMMANDS, Document, DocumentPage, DocumentUpdate, DocumentUpdated,
    DocumentWrite, Documents, KeyRange, MAX_DOCUMENTS_PER_PAGE, PAUSES,
};
pub use self::entities::{
    Commit, Committed, DedupeKey, Entities, EntityCursor, EntityFilter, EntityPage, EntityWrite,
    MAX_ENTITIES_EXAMINED, ReadResult, ReadSet, StoredEntity,
};
pub use self::error::{BoxError, QueueError, StoreError};
pub use self::holding::{Disposition, HeldDelivery, Holding, HoldingQueue, TriageSummary};
pub use self::journal::{Journal, JournalEntry};
pub use self::publish::{Delivery, Probed, Publish};
pub use self::recovery::{Health, NEVER_RECOVERED, Recovery, last_recovery};
pub(crate) use self::replay::FIRST_DELIVERIES;
pub use self::replay::{Archive, Replay};

/// The complete queue.
#[async_trait]
pub trait EventQueue: Publish + Consume + Holding + Replay + Journal {
    /// Closes connections cleanly, within a bounded time.
    async fn close(&self);
}

/// The complete store.
pub trait StateStore:
    Entities
    + Aggregates
    + ConditionFeed
    + AuditTrail
    + Documents
    + Coordination
    + Recovery
    + Conversion
{
}

impl<T> StateStore for T where
    T: Entities
        + Aggregates
        + ConditionFeed
        + AuditTrail
        + Documents
        + Coordination
        + Recovery
        + Conversion
        + ?Sized
{
}
