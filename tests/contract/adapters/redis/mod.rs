//! Redis: a single server, a Cluster, and what only they promise.

mod commits;
mod data_loss;
mod failover;
mod startup;

use std::ops::Range;
use std::sync::OnceLock;

use async_trait::async_trait;
use revwatch_storage::ports::StateStore;
use revwatch_storage::redis::RedisStore;
use tokio::sync::{Mutex, MutexGuard};

use crate::contract::StorePlace;
use crate::contract::fixtures::PARTITIONS;
use crate::support::redis::{RedisCluster, RedisServer};

/// A server of its own.
pub(crate) struct SingleRedis(RedisServer);

impl SingleRedis {
    pub(crate) async fn empty() -> Self {
        Self(RedisServer::start())
    }
}

#[async_trait]
impl StorePlace for SingleRedis {
    async fn store(&self) -> Box<dyn StateStore> {
        Box::new(
            RedisStore::connect(&self.0.url(), PARTITIONS)
                .await
                .expect("connect"),
        )
    }

    async fn let_days_pass(&self, days: Range<u32>) {
        self.0.run::<()>(&expire_earlier(days));
    }

    async fn make_older(&self) {
        self.0.run::<()>(&make_older());
    }
}

/// A Cluster takes seconds to form, so tests share one. It is emptied for each test, one test at a time.
pub(crate) struct SharedCluster {
    cluster: &'static RedisCluster,
    _turn: MutexGuard<'static, ()>,
}

impl SharedCluster {
    pub(crate) async fn empty() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        static CLUSTER: OnceLock<RedisCluster> = OnceLock::new();
        let turn = TURN.lock().await;
        let cluster = CLUSTER.get_or_init(|| {
            // The servers end with the thread that starts them, so it never ends.
            let (send, receive) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let _ = send.send(RedisCluster::start(3));
                loop {
                    std::thread::park();
                }
            });
            receive.recv().expect("the cluster starts")
        });
        cluster.run_everywhere("FLUSHALL");
        Self {
            cluster,
            _turn: turn,
        }
    }
}

#[async_trait]
impl StorePlace for SharedCluster {
    async fn store(&self) -> Box<dyn StateStore> {
        Box::new(
            RedisStore::connect(&self.cluster.url(), PARTITIONS)
                .await
                .expect("connect"),
        )
    }

    async fn let_days_pass(&self, days: Range<u32>) {
        self.cluster.run_everywhere(&expire_earlier(days));
    }

    async fn make_older(&self) {
        self.cluster.run_everywhere(&make_older());
    }
}

/// A command that makes every key expire earlier by these days. Its words are separated by spaces.
fn expire_earlier(days: Range<u32>) -> String {
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

/// A command that gives recorded health the names and the format of the first versions.
fn make_older() -> String {
    const SCRIPT: &str = "
        local names = {complete_in = 'whole_in', recovery_id = 'healed_by', high_watermark_ms = 'reach_ms',
          recovery = 'healing'}
        for _, key in ipairs(redis.call('KEYS', '*:health')) do
          redis.call('HDEL', key, 'state_format')
          for new, old in pairs(names) do
            local value = redis.call('HGET', key, new)
            if value then
              redis.call('HSET', key, old, value)
              redis.call('HDEL', key, new)
            end
          end
        end";
    format!("EVAL {} 0", SCRIPT.replace(' ', "\n"))
}

/// A started server and a store on it.
async fn connected() -> (RedisServer, RedisStore) {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    (server, store)
}
