//! What the archive says about the objects of a store that an older version wrote.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use revwatch_core::entity::format_1::Accounts;
use revwatch_core::entity::{Entity, EntityKey};
use revwatch_core::realm::Realm;
use revwatch_runtime::panics::catch;
use revwatch_storage::ports::{EntityWrite, StoredEntity};

use super::{Conversion, ENTITIES_PER_COMMIT, PARTITIONS_AT_ONCE, on};
use crate::Worker;
use crate::batch::{Place, observations};
use crate::partition::PartitionError;

/// Deliveries that are in memory at the same time.
const PAGE: usize = 1_000;

/// What one reading of the archive found. It is kept for the next attempt: to read it can take minutes.
#[derive(Debug, Default)]
pub struct Archived {
    /// For what format 1 has wrong.
    pub(super) accounts: Accounts,
    /// Whether an endpoint of another realm than the main one received something. Without a realm, an
    /// object counts for the main one.
    has_other_realms: bool,
}

/// Reads the archive. A state of any format needs it, also one of this version's, which is converted again
/// if an earlier version wrote to it.
pub(super) async fn read(worker: &Worker) -> Result<Archived, PartitionError> {
    let mut archived = Archived::default();
    let settings = worker.events.get();
    let (mut archive, mut deliveries) = (worker.queue.archive(0).await?, 0);
    loop {
        let page = archive.next(PAGE).await?;
        if page.is_empty() {
            tracing::info!(
                deliveries,
                "the archive was read for the platform's account and realms"
            );
            return Ok(archived);
        }
        deliveries += page.len();
        for delivery in &page {
            archived.has_other_realms |= !settings.realms.is_main_only(&delivery.endpoint);
            // One that cannot be read says nothing about accounts. The panic is in the log.
            let _ = catch(|| archived.accounts.add(&delivery.body));
        }
    }
}

/// Realms. Formats 1 and 2 had none.
impl Conversion<'_> {
    /// Gives each object of an unknown realm that of the first archived delivery about it, as if that had
    /// just been applied. The archive is read once more, because no more than a page of it is in memory.
    pub(super) async fn give_realms(&self) -> Result<(), PartitionError> {
        if !self.archived.has_other_realms {
            return Ok(());
        }
        let place = Place {
            partition: 0,
            partitions: self.partitions,
        };
        let settings = self.worker.events.get();
        let (mut archive, mut deliveries) = (self.worker.queue.archive(0).await?, 0);
        loop {
            let page = archive.next(PAGE).await?;
            if page.is_empty() {
                tracing::info!(deliveries, "the archive was read for the objects' realms");
                return Ok(());
            }
            deliveries += page.len();
            let mut by_partition = BTreeMap::<u32, BTreeMap<EntityKey, Realm>>::new();
            for observed in observations(place, &page, &settings) {
                let partition = observed.partition(self.partitions);
                let realms = by_partition.entry(partition).or_default();
                realms.entry(observed.key).or_insert(observed.realm);
            }
            let giving = by_partition.into_iter();
            stream::iter(giving.map(|(partition, realms)| self.give(partition, realms)))
                .buffer_unordered(PARTITIONS_AT_ONCE)
                .try_collect::<()>()
                .await?;
        }
    }

    async fn give(
        &self,
        partition: u32,
        realms: BTreeMap<EntityKey, Realm>,
    ) -> Result<(), PartitionError> {
        let all: Vec<_> = realms.into_iter().collect();
        for part in all.chunks(ENTITIES_PER_COMMIT) {
            self.write_in(partition, part, |key, realm, stored| {
                with_realm(key, realm, stored)
            })
            .await?;
        }
        Ok(())
    }
}

/// The entity with a realm, if it is there and has none.
fn with_realm(
    key: &EntityKey,
    realm: &Realm,
    stored: Option<StoredEntity>,
) -> Result<Option<EntityWrite>, PartitionError> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    let decoded = on(key, || Entity::decode(key, &stored.body))?;
    let mut entity = decoded.map_err(PartitionError::Unreadable)?;
    if entity.realm().is_some() {
        return Ok(None);
    }
    entity.set_realm(realm);
    Ok(Some(EntityWrite {
        key: key.clone(),
        expected: stored.version,
        body: Some(on(key, || entity.encode())?),
    }))
}
