//! What every `StateStore` must do, whatever is below it. `store_contract!` makes one test of each
//! check for an adapter.

mod commits;
mod conditions;
mod coordination;
mod counters;
mod documents;
mod health;
mod redis_only;

use std::ops::Range;
use std::sync::OnceLock;

use async_trait::async_trait;
use revwatch_core::condition::{Condition, ConditionKey, ConditionKind};
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_storage::ports::{
    AuditEntry, Commit, Committed, ConditionChange, ConditionFeed, Coordination, DedupeKey,
    Documents, DueWindow, Entities, EntityWrite, Health, ReadSet, Recovery, StateStore, StoreError,
};
use revwatch_storage::redis::RedisStore;
use revwatch_storage::sqlite::{Open, Sqlite};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::memory::InMemory;
use crate::support::redis::{RedisCluster, RedisServer};
use crate::support::wait::until;

/// How many partitions the stores under test have.
const PARTITIONS: u32 = 4;

/// A day, as marks count them.
const DAY: u32 = 20_000;

/// Somewhere a store lives; empty at first.
#[async_trait]
pub(super) trait Place: Send + Sync {
    /// Opens the store that is there; again and again the same.
    async fn open(&self) -> Box<dyn StateStore>;

    /// Has the store take the time for that of `days.end` days from now; it was last taken for that of `days.start`.
    async fn let_pass(&self, days: Range<u32>);
}

/// One test per check. `$place` is a future of a fresh [`Place`].
macro_rules! store_contract {
    ($adapter:ident, $place:expr) => {
        store_contract! { $adapter, $place;
            commits::what_was_committed_is_read,
            commits::a_commit_sent_again_is_already_applied,
            commits::a_stale_version_conflicts_and_leaves_nothing,
            commits::a_foreign_mark_conflicts_and_leaves_nothing,
            commits::a_batch_applied_in_part_conflicts_and_leaves_nothing,
            commits::one_of_two_concurrent_commits_wins,
            commits::a_large_commit_goes_through,
            commits::an_entity_is_found_in_any_partition,
            commits::every_entity_of_every_partition_is_listed,
            commits::entities_are_read_page_by_page_while_others_change,
            commits::a_filtered_page_examines_a_bounded_number_of_entities,
            commits::the_newest_audit_comes_first,
            commits::what_was_committed_outlives_the_store,
            counters::standing_counters_add_up_over_partitions,
            counters::a_counter_at_zero_is_gone,
            counters::only_the_hours_asked_for_are_counted,
            counters::large_numbers_stay_exact,
            counters::hours_are_kept_as_long_as_they_are_compared_and_then_forgotten,
            conditions::they_open_change_and_close,
            conditions::they_fall_due_in_one_window_only,
            conditions::changes_are_told_once_and_in_order,
            conditions::a_limited_reader_gets_everything_in_the_end,
            conditions::a_hot_partition_is_read_to_its_end_at_full_speed,
            conditions::a_hot_partition_leaves_the_others_their_share,
            conditions::a_cursor_outlives_the_store,
            coordination::a_lease_has_one_holder,
            coordination::an_expired_lease_is_taken_under_a_higher_fence,
            coordination::a_released_lease_is_free,
            coordination::leases_are_independent,
            documents::documents_are_sorted_replaced_and_deleted,
            documents::an_outdated_fence_writes_nothing,
            documents::a_fence_without_a_lease_writes_nothing,
            documents::any_process_submits_a_request_and_the_holder_removes_it,
            documents::the_fence_of_any_lease_guards_a_write,
            documents::a_key_range_is_read_page_by_page,
            documents::a_document_that_stays_is_on_a_page_while_others_change,
            documents::an_update_needs_the_expected_version,
            documents::of_concurrent_updates_one_wins_each_version,
            health::a_partition_is_whole_once_it_was_made_so,
            health::reach_is_the_newest_that_was_committed_while_whole,
            health::a_healing_is_shared_and_ends_under_its_own_name_and_life,
            health::what_is_forgotten_leaves_documents_and_no_partition_whole,
            coordination::members_are_alive_until_they_leave_or_expire,
        }
    };
    ($adapter:ident, $place:expr; $($group:ident::$check:ident),* $(,)?) => {
        mod $adapter {
            use super::*;
            $(
                #[tokio::test]
                async fn $check() {
                    let place = $place.await;
                    $group::$check(&place).await;
                }
            )*
        }
    };
}

store_contract!(memory, async { InMemory::new() });
store_contract!(sqlite, async {
    Folder(tempfile::tempdir().expect("a folder"))
});
store_contract!(redis_single, async { OneRedis(RedisServer::start()) });
store_contract!(redis_cluster, SharedCluster::lock());

/// A data folder of the embedded store.
struct Folder(tempfile::TempDir);

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Box<dyn StateStore> {
        Box::new(
            Sqlite::open(
                self.0.path(),
                Open::Create {
                    partitions: PARTITIONS,
                },
            )
            .expect("open"),
        )
    }

    async fn let_pass(&self, days: Range<u32>) {
        let store = Sqlite::open(self.0.path(), Open::Existing).expect("open");
        store
            .forget_old(now_s() + i64::from(days.end) * 86_400)
            .await
            .expect("forgotten");
    }
}

struct OneRedis(RedisServer);

#[async_trait]
impl Place for OneRedis {
    async fn open(&self) -> Box<dyn StateStore> {
        Box::new(
            RedisStore::connect(&self.0.url(), PARTITIONS)
                .await
                .expect("connect"),
        )
    }

    async fn let_pass(&self, days: Range<u32>) {
        self.0.run::<()>(&sooner(days));
    }
}

/// A Cluster takes seconds to form: one is enough, emptied for each test, one test at a time.
struct SharedCluster {
    cluster: &'static RedisCluster,
    _turn: MutexGuard<'static, ()>,
}

impl SharedCluster {
    async fn lock() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        static CLUSTER: OnceLock<RedisCluster> = OnceLock::new();
        let turn = TURN.lock().await;
        let cluster = CLUSTER.get_or_init(|| {
            // The servers live as long as the thread that starts them, so it never ends.
            let (give, take) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let _ = give.send(RedisCluster::start(3));
                loop {
                    std::thread::park();
                }
            });
            take.recv().expect("the cluster starts")
        });
        cluster.run_everywhere("FLUSHALL");
        Self {
            cluster,
            _turn: turn,
        }
    }
}

#[async_trait]
impl Place for SharedCluster {
    async fn open(&self) -> Box<dyn StateStore> {
        Box::new(
            RedisStore::connect(&self.cluster.url(), PARTITIONS)
                .await
                .expect("connect"),
        )
    }

    async fn let_pass(&self, days: Range<u32>) {
        self.cluster.run_everywhere(&sooner(days));
    }
}

/// A command after which everything in a Redis expires so many days sooner. Its words are separated by spaces.
fn sooner(days: Range<u32>) -> String {
    const SCRIPT: &str = "
        for _, key in ipairs(redis.call('KEYS', '*')) do
          local left = redis.call('PTTL', key)
          if left > 0 then
            redis.call('PEXPIRE', key, math.max(0, left - ARGV[1] * 86400000))
          end
        end";
    format!(
        "EVAL {} 0 {}",
        SCRIPT.replace(' ', "\n"),
        days.end - days.start
    )
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn mark(key: &str, delivery: Uuid) -> DedupeKey {
    DedupeKey {
        day: DAY,
        key: key.into(),
        delivery,
    }
}

pub(super) fn payout(id: &str) -> EntityKey {
    EntityKey::new(EntityKind::Payout, id)
}

fn write(id: &str, expected: u64, body: &[u8]) -> EntityWrite {
    EntityWrite {
        key: payout(id),
        expected,
        body: body.to_vec(),
    }
}

fn window(after_s: i64, until_s: i64) -> DueWindow {
    DueWindow { after_s, until_s }
}

fn condition(id: &str, due_s: i64) -> Condition {
    Condition {
        key: ConditionKey {
            kind: ConditionKind::PayoutFailed,
            subject: payout(id),
        },
        since_s: due_s,
        due_s,
        account: Some("acct_1".into()),
        customer: None,
        money: None,
        detail: Some("account_closed".into()),
        event_id: "evt_1".into(),
    }
}

fn audit(at_s: i64, what: &str) -> AuditEntry {
    AuditEntry {
        at_s,
        subject: payout("po_1"),
        event_id: format!("evt_{at_s}"),
        what: what.into(),
    }
}

/// A commit that touches everything a commit can.
pub(super) fn full(partition: u32, id: &str, delivery: Uuid) -> Commit {
    let mut counters = Counters::default();
    counters.add(Bucket::Current, &["payouts", "failed"], 1);
    counters.add(Bucket::Hour(DAY * 24 + 5), &["payouts", "failed"], 1);
    Commit {
        partition,
        dedupe_keys: vec![mark(&format!("evt_{id}"), delivery)],
        entities: vec![write(id, 0, b"first")],
        counters,
        conditions: vec![ConditionChange::Open(condition(id, 1_000))],
        audit: vec![audit(1_000, id)],
        high_watermark_ms: 0,
    }
}

/// All of a partition's state that commits of these entities may have written.
#[derive(Debug, Clone, PartialEq)]
struct Everything {
    marks: Vec<Option<Uuid>>,
    versions: Vec<Option<u64>>,
    counters: Counters,
    conditions: Vec<Condition>,
    changes: usize,
    audit: Vec<AuditEntry>,
}

async fn everything(store: &dyn StateStore, partition: u32, ids: &[&str]) -> Everything {
    let want = ReadSet {
        dedupe_keys: ids.iter().map(|id| (DAY, format!("evt_{id}"))).collect(),
        entities: ids.iter().map(|id| payout(id)).collect(),
    };
    let found = store.read(partition, &want).await.expect("read");
    let mut conditions = store.conditions().await.expect("conditions");
    conditions.sort_by(|a, b| a.key.cmp(&b.key));
    Everything {
        marks: found.dedupe_keys,
        versions: found
            .entities
            .iter()
            .map(|e| e.as_ref().map(|e| e.version))
            .collect(),
        counters: store.counters(0, u32::MAX).await.expect("counters"),
        conditions,
        changes: store
            .condition_changes(&Default::default(), 1_000)
            .await
            .expect("changes")
            .changes
            .len(),
        audit: store.audit(100).await.expect("audit"),
    }
}

async fn applied(store: &dyn StateStore, commit: &Commit) {
    assert_eq!(
        store.commit(commit).await.expect("commit"),
        Committed::Applied
    );
}
