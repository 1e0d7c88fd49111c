//! How fast the state of an earlier version is converted.

use std::sync::Arc;
use std::time::Instant;

use revwatch_core::entity::EntityKind;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::config::Config;
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::supervise::Supervisor;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::memory::Memory;
use revwatch_storage::ports::{Commit, Committed, EntityWrite, StateStore};
use revwatch_storage::redis::RedisStore;
use revwatch_storage::sqlite::{Open, Sqlite};
use revwatch_storage::system::{SystemClock, SystemIds};
use revwatch_worker::conversion::convert;
use revwatch_worker::{BatchPermits, OtherModeCounts, Worker};

use super::business::Histories;
use super::report::Values;
use super::stored_history::{PARTITIONS, store_history};
use super::support::redis::RedisServer;

/// Entities per second, in both stores. Every entity has an older encoding.
pub(crate) async fn conversions(count: usize) -> Vec<(&'static str, Values)> {
    let server = RedisServer::start_with(&["--appendfsync", "everysec"]);
    let redis = RedisStore::connect(&server.url(), PARTITIONS).await;
    let folder = tempfile::tempdir().expect("a folder");
    let create = Open::Create {
        partitions: PARTITIONS,
    };
    let sqlite = Sqlite::open(folder.path(), create);
    let (redis, sqlite) = (redis.expect("a Redis"), sqlite.expect("a store"));
    vec![
        ("conversion: Redis", converted(Arc::new(redis), count).await),
        (
            "conversion: SQLite",
            converted(Arc::new(sqlite), count).await,
        ),
    ]
}

async fn converted(store: Arc<dyn StateStore>, count: usize) -> Values {
    store_history(store.as_ref(), &Histories::subscriptions(count)).await;
    make_older(store.as_ref()).await;
    let health = store.health().await.expect("health");
    let worker = worker(store);
    let began = Instant::now();
    convert(&worker, &health, &mut None)
        .await
        .expect("converted");
    let seconds = began.elapsed().as_secs_f64();
    vec![
        ("entities_per_s", count as f64 / seconds),
        ("entities", count as f64),
    ]
}

async fn make_older(store: &dyn StateStore) {
    for shard in 0..store.shards() {
        let mut after = None;
        loop {
            let page = store.shard_page(shard, EntityKind::Subscription, after.as_ref());
            let page = page.await.expect("a page");
            let mut commits: Vec<Commit> = (0..PARTITIONS)
                .map(|partition| Commit {
                    partition,
                    ..Commit::default()
                })
                .collect();
            for found in page.entities {
                let mut body = found.stored.body;
                body[0] = 1;
                commits[found.partition as usize]
                    .entities
                    .push(EntityWrite {
                        key: found.key,
                        expected: found.stored.version,
                        body: Some(body),
                    });
            }
            for commit in commits {
                let committed = store.commit(&commit).await.expect("a commit");
                assert_eq!(committed, Committed::Applied);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
}

/// With an empty archive.
fn worker(store: Arc<dyn StateStore>) -> Worker {
    let readiness = Readiness::default();
    Worker {
        queue: Arc::new(Memory::new(PARTITIONS, Arc::new(SystemClock))),
        store,
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        config: Config::load(None, &|_| None).expect("the defaults").worker,
        events: Reloadable::new(Default::default()),
        other_mode: OtherModeCounts::default(),
        metrics: Metrics::new(),
        tracer: Tracer::default(),
        ready: readiness.check("worker"),
        tasks: Supervisor::new(&readiness),
        batch_permits: BatchPermits::default(),
        resolver: None,
    }
}
