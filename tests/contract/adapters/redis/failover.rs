//! Crashes and failovers.

use revwatch_storage::ports::{Commit, Committed, Entities, StoreError};
use revwatch_storage::redis::RedisStore;
use secrecy::SecretString;
use uuid::Uuid;

use super::connected;
use crate::contract::fixtures::{PARTITIONS, applied, everything, full};
use crate::support::redis::{RedisCluster, RedisServer};
use crate::support::wait::until;

#[tokio::test]
async fn commits_survive_a_crash() {
    let (mut server, store) = connected().await;
    let mut commits = Vec::new();
    for i in 0..50 {
        let commit = full(i % PARTITIONS, &format!("po_{i}"), Uuid::now_v7());
        applied(&store, &commit).await;
        commits.push(commit);
    }
    let ids: Vec<&str> = commits
        .iter()
        .map(|commit| commit.entities[0].key.id.as_str())
        .collect();
    let before = everything(&store, 0, &ids).await;
    server.kill9();
    let down = store.commit(&commits[0]).await;
    assert!(matches!(down, Err(StoreError::Unavailable(_))), "{down:?}");
    server.restart();
    let again = until("the store is available again", async || {
        store.commit(&commits[0]).await.ok()
    })
    .await;
    assert_eq!(again, Committed::AlreadyApplied);
    assert_eq!(everything(&store, 0, &ids).await, before);
    for commit in &commits {
        assert_eq!(
            store.commit(commit).await.expect("commit"),
            Committed::AlreadyApplied
        );
    }
}

/// The connection to a demoted server stays open; it must not be used any longer.
#[tokio::test]
async fn a_demoted_server_is_replaced() {
    let (server, store) = connected().await;
    let commit = full(0, "po_1", Uuid::now_v7());
    server.run::<()>("REPLICAOF 127.0.0.1 1");
    for _ in 0..2 {
        let refused = store.commit(&commit).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
    }
    let text = store
        .commit(&commit)
        .await
        .expect_err("a replica")
        .to_string();
    assert!(
        text.contains("is a replica"),
        "a new connection was checked: {text}"
    );
    server.run::<()>("REPLICAOF NO ONE");
    applied(&store, &commit).await;
}

#[tokio::test]
async fn sentinel_leads_to_the_new_primary() {
    let primary = RedisServer::start();
    let replica = primary.start_replica();
    let sentinel = RedisServer::start_sentinel(&primary);
    let url: SecretString =
        format!("redis-sentinel://127.0.0.1:{}/mymaster", sentinel.port()).into();
    until("the replica is in sync and known to Sentinel", async || {
        let info: String = primary.run("INFO replication");
        let watched: String = sentinel.run("INFO sentinel");
        (info.contains("state=online") && watched.contains("slaves=1")).then_some(())
    })
    .await;

    let store = RedisStore::connect(&url, PARTITIONS)
        .await
        .expect("connect");
    let commit = full(0, "po_1", Uuid::now_v7());
    applied(&store, &commit).await;
    until("the replica has the commit", async || {
        (replica.run::<i64>("DBSIZE") == primary.run::<i64>("DBSIZE")).then_some(())
    })
    .await;
    until("Sentinel agrees to a failover", async || {
        sentinel.try_run::<()>("SENTINEL FAILOVER mymaster").ok()
    })
    .await;
    // Sentinel closes the connections of a server whose role changes.
    until("the old primary is a replica", async || {
        primary
            .try_run::<String>("INFO replication")
            .ok()?
            .contains("role:slave")
            .then_some(())
    })
    .await;

    let next = full(0, "po_2", Uuid::now_v7());
    let outcome = until("the store uses the new primary", async || {
        store.commit(&next).await.ok()
    })
    .await;
    assert_eq!(outcome, Committed::Applied);
    assert_eq!(
        store.commit(&commit).await.expect("commit"),
        Committed::AlreadyApplied
    );
    assert_eq!(replica.run::<i64>("HLEN revwatch:{p0}:entity:payout"), 2);
}

#[tokio::test]
async fn crashed_cluster_nodes_restart_with_all_commits() {
    let mut cluster = RedisCluster::start(3);
    let store = RedisStore::connect(&cluster.url(), PARTITIONS)
        .await
        .expect("connect");
    let commits: Vec<Commit> = (0..PARTITIONS)
        .map(|p| full(p, &format!("po_{p}"), Uuid::now_v7()))
        .collect();
    for commit in &commits {
        applied(&store, commit).await;
    }
    for node in &mut cluster.nodes {
        node.kill9();
        node.restart();
    }
    cluster.wait_until_ok();
    for commit in &commits {
        let again = until("the store is available again", async || {
            store.commit(commit).await.ok()
        })
        .await;
        assert_eq!(again, Committed::AlreadyApplied);
    }
}
