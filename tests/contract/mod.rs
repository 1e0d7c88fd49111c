//! What every adapter of a port must do: one file per port, each case one test per adapter, such as
//! `contract::documents::redis_cluster::an_outdated_fence_writes_nothing`. What a single adapter
//! promises beyond the port is tested in [`adapters`].

use std::ops::Range;

use async_trait::async_trait;
use revwatch_storage::ports::{EventQueue, StateStore};

/// The table of adapters: a row is its name in test names, and the type of an empty place for it.
macro_rules! contract {
    (queue: $cases:tt) => {
        contract!(memory, Memory: $cases);
        contract!(rabbitmq, RabbitMq: $cases);
        contract!(sqlite, SqliteFile: $cases);
    };
    (store: $cases:tt) => {
        contract!(memory, Memory: $cases);
        contract!(redis_cluster, SharedCluster: $cases);
        contract!(redis_single, SingleRedis: $cases);
        contract!(sqlite, SqliteFile: $cases);
    };
    ($adapter:ident, $place:ident: [$($case:ident),* $(,)?]) => {
        mod $adapter {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let place = $crate::contract::adapters::$place::empty().await;
                    super::$case(&place).await;
                }
            )*
        }
    };
}

mod adapters;
mod aggregates;
mod application;
mod audit;
mod conditions;
mod consume;
mod conversion;
mod coordination;
mod documents;
mod entities;
mod fixtures;
mod holding;
mod journal;
mod publish;
mod recovery;
mod replay;

/// Where a queue keeps its data; empty at first.
#[async_trait]
trait QueuePlace: Send + Sync {
    /// Opens the queue. Opened again, it has the same data.
    async fn queue(&self) -> Box<dyn EventQueue>;
}

/// Where a store keeps its data; empty at first.
#[async_trait]
trait StorePlace: Send + Sync {
    /// Opens the store. Opened again, it has the same data.
    async fn store(&self) -> Box<dyn StateStore>;

    /// Makes the store treat the present as `days.end` days from now, after `days.start` days before.
    async fn let_days_pass(&self, days: Range<u32>);

    /// Makes every partition with recorded health one of state format 1.
    async fn make_older(&self);
}
