//! Two of the three ports: the queue that events wait in and the store that state lives in. (The
//! third, `Notifier`, stands in the alerting crate beside its only user.)
//!
//! Each has two adapters, one for a single machine ([`crate::sqlite`]) and one for many
//! ([`crate::rabbitmq`], [`crate::redis`]), and one contract suite that runs against both.
//! Errors say what the caller does next.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use revwatch_core::condition::{Condition, ConditionKey};
use revwatch_core::counters::Counters;
use revwatch_core::entity::{EntityKey, EntityKind};

/// A source of trouble, kept for the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One accepted webhook: the raw body, byte for byte, and what ingest knows about it.
///
/// Stripe may deliver one event many times; each time is a delivery with an id of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Given by ingest (UUID v7); the same however often the queue hands the delivery out.
    pub id: Uuid,
    /// `evt_…`
    pub event_id: String,
    /// For example `payout.failed`.
    pub event_type: String,
    /// The queue partition the delivery belongs to.
    pub partition: u32,
    /// Name of the endpoint that accepted it.
    pub endpoint: String,
    /// Unix milliseconds at which ingest had read it.
    pub received_ms: i64,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What Stripe sent.
    pub body: Bytes,
}

/// Where deliveries stand that are not to be applied now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldingQueue {
    /// They can never be applied as they are: the dead letters.
    DeadLetters,
    /// An operator holds them back.
    Parked,
}

/// A delivery that stands aside, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldDelivery {
    /// What was received.
    pub delivery: Delivery,
    /// For people.
    pub reason: String,
    /// Unix milliseconds at which it was set aside.
    pub at_ms: i64,
}

/// What is to become of a delivery that stands aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// It stays where it is.
    Keep,
    /// This delivery goes to its partition in its place.
    Requeue(Box<Delivery>),
    /// It is thrown away.
    Discard,
}

/// What [`EventQueue::triage`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TriageSummary {
    /// Went to their partitions.
    pub requeued: u64,
    /// Were thrown away.
    pub discarded: u64,
    /// Stay.
    pub kept: u64,
}

/// One line of the journal: what must survive a store that loses its data, beside the deliveries. Of a space
/// and key the newest line counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// For example `alert`.
    pub space: String,
    /// Unique in its space.
    pub key: String,
    /// The text (JSON), or `None`: it is no more.
    pub body: Option<String>,
}

/// The queue could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Try again later; whether the last request took effect is unknown.
    #[error("the queue is unavailable: {0}")]
    Unavailable(#[source] BoxError),
    /// Trying again will not help until somebody changes something.
    #[error("the queue cannot be used: {0}")]
    Misconfigured(String),
}

/// Where accepted deliveries wait, partition by partition, and where they are archived.
#[async_trait]
pub trait EventQueue: Send + Sync {
    /// How many partitions the deployment was created with.
    fn partitions(&self) -> u32;

    /// Returns `Ok` only once the delivery is durable. After an error it may or may not be stored.
    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError>;

    /// Starts to consume one partition. Deliveries not acknowledged when the consumer is dropped are
    /// handed out again.
    async fn consume(&self, partition: u32) -> Result<Box<dyn Consumer>, QueueError>;

    /// Sets a delivery aside; returns once it is durable there. The caller then acknowledges it.
    async fn hold(&self, place: HoldingQueue, aside: HeldDelivery) -> Result<(), QueueError>;

    /// Shows `look` all that stand aside at the call, in no particular order, until it breaks off. None is removed, and
    /// only a bounded number is in memory at once. One that was set aside twice may be shown twice; one that another
    /// process looks at or decides on at the same time may be left out.
    async fn visit_held(
        &self,
        place: HoldingQueue,
        look: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
    ) -> Result<(), QueueError>;

    /// The oldest `limit` of those, oldest first, one per delivery id. Looks at all of them.
    async fn oldest_held(
        &self,
        place: HoldingQueue,
        limit: usize,
    ) -> Result<Vec<HeldDelivery>, QueueError> {
        let (mut oldest, mut kept) = (BTreeMap::new(), HashMap::new());
        let mut look = |aside: HeldDelivery| {
            let (id, at_ms) = (aside.delivery.id, aside.at_ms);
            match kept.get(&id) {
                Some(earlier) if *earlier <= at_ms => return ControlFlow::Continue(()),
                Some(later) => drop(oldest.remove(&(*later, id))),
                None => {}
            }
            kept.insert(id, at_ms);
            oldest.insert((at_ms, id), aside);
            if oldest.len() > limit
                && let Some(((_, youngest), _)) = oldest.pop_last()
            {
                kept.remove(&youngest);
            }
            ControlFlow::Continue(())
        };
        self.visit_held(place, &mut look).await?;
        Ok(oldest.into_values().collect())
    }

    /// Lets `decide` say of each delivery that stands there at the call what becomes of it. One that is cut short
    /// may have handed a delivery to its partition without removing it: its mark, by delivery id, makes a repeat
    /// harmless. What goes to a partition is in the archive, and, where the store can lose it, noted in the journal
    /// before: see [`crate::journal::REQUEUED`].
    async fn triage(
        &self,
        place: HoldingQueue,
        decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
    ) -> Result<TriageSummary, QueueError>;

    /// How much waits, by partition: deliveries, or messages where one holds several. Whether those count that were handed out and not yet
    /// acknowledged depends on the adapter: RabbitMQ does not tell them.
    async fn depth(&self) -> Result<Vec<u64>, QueueError>;

    /// How many stand aside; one set aside twice may count twice, and several that the broker itself set aside
    /// together count once.
    async fn held_count(&self, place: HoldingQueue) -> Result<u64, QueueError>;

    /// Every archived delivery received at or after `from_ms`, each partition's in the order of acceptance, up to
    /// the end of the archive as it is at the call. What is accepted after it may be included.
    async fn archive(&self, from_ms: i64) -> Result<Box<dyn Archive>, QueueError>;

    /// Writes lines into the journal; returns once they are there. Safe to repeat.
    async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError>;

    /// Hands out the journal, oldest first. An adapter may leave out lines that newer ones replace.
    async fn read_journal(
        &self,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError>;

    /// Ends connections in good order, within a bounded time.
    async fn close(&self);
}

/// One partition's stream of deliveries.
#[async_trait]
pub trait Consumer: Send {
    /// Waits until there is something that [`Consumer::next`] would return at once. Cancelling it loses nothing.
    async fn ready(&mut self) -> Result<(), QueueError>;

    /// Waits until there is something, then returns what is there, at most `max` deliveries, oldest
    /// first. Never empty. Cancelling it loses nothing.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError>;

    /// Acknowledges all that [`Consumer::next`] has returned so far.
    async fn ack(&mut self) -> Result<(), QueueError>;
}

/// A walk through the archive.
#[async_trait]
pub trait Archive: Send {
    /// The next deliveries, at most `max`; none at the end.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError>;
}

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Try again later; a write may or may not have taken effect, and is safe to repeat.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] BoxError),
    /// Another process holds the lease now; stop acting as its holder.
    #[error("another process holds the lease now")]
    Fenced,
    /// Trying again will not help until somebody changes something.
    #[error("the store cannot be used: {0}")]
    Misconfigured(String),
    /// What was read is not what was written.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

/// "This delivery was dealt with": what stands between an event and being counted twice.
///
/// `key` is the event id for the delivery that was applied or ignored, and the delivery id for those
/// that repeat it or were dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupeKey {
    /// Days since 1970; marks are kept in buckets of one day and dropped bucket by bucket. A function
    /// of the event alone, so that a repeat finds the mark.
    pub day: u32,
    /// Event id or delivery id.
    pub key: String,
    /// The delivery that set it.
    pub delivery: Uuid,
}

/// What to read before a batch can be merged.
#[derive(Debug, Clone, Default)]
pub struct ReadSet {
    /// Marks by day and key.
    pub dedupe_keys: Vec<(u32, String)>,
    /// Entities by key.
    pub entities: Vec<EntityKey>,
}

/// The answer to [`ReadSet`], in the same order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadResult {
    /// The delivery that set each mark.
    pub dedupe_keys: Vec<Option<Uuid>>,
    /// The entities that exist.
    pub entities: Vec<Option<StoredEntity>>,
}

/// An entity at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntity {
    /// Grows by one with each write; 0 means "not there".
    pub version: u64,
    /// See [`revwatch_core::entity::Entity::encode`].
    pub body: Vec<u8>,
}

/// A new version of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityWrite {
    /// Which.
    pub key: EntityKey,
    /// The version that was read; 0 if there was none. The write stores `expected + 1`.
    pub expected: u64,
    /// See [`revwatch_core::entity::Entity::encode`].
    pub body: Vec<u8>,
}

/// A condition that began, changed or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionChange {
    /// It holds now, with these particulars (replacing earlier ones).
    Open(Condition),
    /// It no longer holds.
    Close(ConditionKey),
}

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Unix seconds at which Stripe says it happened.
    pub at_s: i64,
    /// Whom it is about.
    pub subject: EntityKey,
    /// The event that told.
    pub event_id: String,
    /// What happened, for example `status active → past_due`.
    pub what: String,
}

/// All that a batch of one partition changes. It happens whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Whose.
    pub partition: u32,
    /// Deliveries dealt with.
    pub dedupe_keys: Vec<DedupeKey>,
    /// Entities changed, each at most once.
    pub entities: Vec<EntityWrite>,
    /// To be added to the aggregates.
    pub counters: Counters,
    /// To be applied to the open conditions and told to alerting: the outbox of the worker.
    pub conditions: Vec<ConditionChange>,
    /// To be appended to the audit trail.
    pub audit: Vec<AuditEntry>,
    /// The newest `received_ms` of the deliveries: how far the partition has come. See [`Health::high_watermark_ms`].
    pub high_watermark_ms: i64,
}

/// Whether a partition still has all that was committed to it.
///
/// A store can lose data behind our back: it restarts without its file or with an older one, a replica that
/// lagged takes over, somebody empties it. What the data says of itself goes with it; so a partition remembers
/// in which life of its server it was last known to be whole, and as long as that is not the present life, it
/// may lack something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The present life of the server behind the partition: another one after each restart and failover.
    pub server_run_id: String,
    /// The life in which the partition was last made whole.
    pub complete_in: Option<String>,
    /// Which healing made it whole: another one after each.
    pub recovery_id: Option<String>,
    /// The newest `received_ms` of what was committed while it was whole; an adapter may note it up to a second late.
    pub high_watermark_ms: Option<i64>,
    /// The healing under way, and from which `received_ms` on it replays the archive.
    pub recovery: Option<(String, i64)>,
}

impl Health {
    /// Whether everything that was committed is there.
    pub fn is_complete(&self) -> bool {
        self.recovery.is_none() && self.complete_in.as_ref() == Some(&self.server_run_id)
    }
}

/// What became of a [`Commit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It happened now.
    Applied,
    /// It had happened before: every one of its marks was set by the same delivery.
    AlreadyApplied,
    /// An entity has another version, another delivery set a mark, or only some of the deliveries were
    /// dealt with before: read again and decide anew.
    Conflict,
}

/// How far alerting has read the condition changes, by partition: the sequence number of the last
/// change seen. Opaque to all but the store.
pub type ChangeCursor = std::collections::BTreeMap<u32, u64>;

/// What [`StateStore::condition_changes`] found.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// In the order in which they were committed, partition by partition.
    pub changes: Vec<ConditionChange>,
    /// Where to go on.
    pub cursor: ChangeCursor,
    /// Changes after the given cursor are no longer kept: read all open conditions instead.
    pub gap: bool,
    /// More changes stand after [`Changes::cursor`]: read on. How many came says nothing about that.
    pub more: bool,
}

/// A stretch of time in which conditions fall due, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueWindow {
    /// Not this second itself.
    pub after_s: i64,
    /// This one included.
    pub until_s: i64,
}

/// Proof of holding a lease. A write under a fence that another holder has outrun is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// One write to alerting's documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentWrite {
    /// For example `alert`.
    pub space: &'static str,
    /// Unique in its space.
    pub key: String,
    /// The new text (JSON), or `None` to delete.
    pub body: Option<String>,
}

/// Requests to the evaluator: a space of documents that anybody may [`StateStore::submit`] to.
pub const COMMANDS: &str = "command";

/// What operators hold back: the other such space.
pub const PAUSES: &str = "pause";

/// Where state lives. Writes of the worker go through [`StateStore::commit`], writes of alerting
/// through [`StateStore::write_documents`]; there are no others but requests to alerting, leases and
/// heartbeats.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// One round trip for a batch: marks and entities of one partition.
    async fn read(&self, partition: u32, want: &ReadSet) -> Result<ReadResult, StoreError>;

    /// One atomic step. Safe to repeat.
    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError>;

    /// One entity, wherever its partition is.
    async fn entity(&self, key: &EntityKey) -> Result<Option<StoredEntity>, StoreError>;

    /// Every entity of a kind, in no order. `each` gets its id and its body. (The lifetimes are spelled
    /// out because `async_trait` would otherwise tie them to the call.)
    async fn entities(
        &self,
        kind: EntityKind,
        each: &mut (dyn for<'a, 'b> FnMut(&'a str, &'b [u8]) + Send),
    ) -> Result<(), StoreError>;

    /// The standing counters and those of the hours `from_hour..=to_hour` (hours since 1970), summed
    /// over partitions. Costs the hours asked for, not those that exist.
    async fn counters(&self, from_hour: u32, to_hour: u32) -> Result<Counters, StoreError>;

    /// The sum of some standing counters, by their joined names. Costs those asked for, not those that exist.
    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError>;

    /// Every open condition.
    async fn conditions(&self) -> Result<Vec<Condition>, StoreError>;

    /// Open conditions that fall due in one of the windows. One round trip for all of them; a condition that is in
    /// several may come several times.
    async fn conditions_due(&self, windows: &[DueWindow]) -> Result<Vec<Condition>, StoreError>;

    /// Changes of conditions committed since `cursor`, at most `limit`, or one of each partition if that is
    /// more. An empty cursor starts at the oldest change kept.
    async fn condition_changes(
        &self,
        cursor: &ChangeCursor,
        limit: usize,
    ) -> Result<Changes, StoreError>;

    /// The newest audit entries, newest first.
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError>;

    /// Takes or renews the lease `name` for `ttl_ms`. `None`: somebody else holds it.
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError>;

    /// Gives the lease back, if `holder` still has it.
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError>;

    /// Every document of a space, sorted by key.
    async fn documents(&self, space: &'static str) -> Result<Vec<(String, String)>, StoreError>;

    /// Writes all or nothing, if `fence` is still the newest of the lease `alerting`.
    async fn write_documents(
        &self,
        fence: Fence,
        writes: &[DocumentWrite],
    ) -> Result<(), StoreError>;

    /// Puts a document without a fence into one of the spaces that are not the evaluator's: [`COMMANDS`] (which he
    /// carries out and deletes) or [`PAUSES`]. Safe to repeat.
    async fn submit(&self, space: &'static str, key: &str, body: &str) -> Result<(), StoreError>;

    /// Whether each partition still has all that was committed to it.
    async fn health(&self) -> Result<Vec<Health>, StoreError>;

    /// Notes that the partition is being healed, under a name that is the same for all who heal it together, and
    /// says from which `received_ms` on they replay the archive: `margin_ms` before [`Health::high_watermark_ms`] as it is at
    /// the call, or all of it if nothing is left. Who comes later may only reach further back.
    async fn begin_recovery(
        &self,
        partition: u32,
        healing: &str,
        margin_ms: i64,
    ) -> Result<(String, i64), StoreError>;

    /// Notes that the replay is done. `false`: something was lost again meanwhile, so it must be begun anew.
    async fn end_recovery(
        &self,
        partition: u32,
        healing: &str,
        life: &str,
    ) -> Result<bool, StoreError>;

    /// Forgets what events have told: marks, entities, counters, conditions, audit trail. No partition is whole
    /// then; documents, leases and heartbeats stay. Safe to repeat.
    async fn drop_state(&self) -> Result<(), StoreError>;

    /// "I am alive for `ttl_ms`": returns all live members of `group`, sorted, this one included.
    async fn heartbeat(
        &self,
        group: &str,
        member: &str,
        ttl_ms: u64,
    ) -> Result<Vec<String>, StoreError>;

    /// Leaves the group at once.
    async fn leave(&self, group: &str, member: &str) -> Result<(), StoreError>;
}
