//! Which servers are accepted at startup.

use revwatch_storage::ports::StoreError;
use revwatch_storage::redis::RedisStore;
use secrecy::SecretString;
use uuid::Uuid;

use super::SharedCluster;
use crate::contract::fixtures::{PARTITIONS, applied, everything, full};
use crate::support::redis::RedisServer;

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let server = RedisServer::start();
    RedisStore::connect(&server.url(), 4)
        .await
        .expect("a new deployment");
    RedisStore::connect(&server.url(), 4)
        .await
        .expect("the same number");
    let text = refusal(&server.url(), 8).await;
    assert!(
        text.contains("has 4") && text.contains("REVWATCH_PARTITIONS is 8"),
        "{text}"
    );
    assert!(text.contains("set REVWATCH_PARTITIONS=4"), "{text}");
}

#[tokio::test]
async fn a_server_that_may_lose_state_is_refused() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let text = refusal(&server.url(), PARTITIONS).await;
    assert!(
        text.contains("maxmemory-policy is allkeys-lru") && text.contains("noeviction"),
        "{text}"
    );
    server.run::<()>("CONFIG SET maxmemory-policy noeviction appendonly no");
    let text = refusal(&server.url(), PARTITIONS).await;
    assert!(
        text.contains("appendonly is no") && text.contains("must be yes"),
        "{text}"
    );
    server.run::<()>("CONFIG SET appendonly yes");
    RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("accepted");
}

#[tokio::test]
async fn a_server_that_hides_its_configuration_is_accepted() {
    let server = RedisServer::start_with(&["--rename-command", "CONFIG", ""]);
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    applied(&store, &full(0, "po_1", Uuid::now_v7())).await;
}

#[tokio::test]
async fn the_permissions_named_by_the_refusal_are_sufficient() {
    let server = RedisServer::start();
    server.run::<()>("ACL SETUSER revwatch on >secret +ping");
    let url: SecretString = format!("redis://revwatch:secret@127.0.0.1:{}", server.port()).into();
    let text = refusal(&url, PARTITIONS).await;
    let permissions = text.split("grant it ").nth(1).expect("the permissions");
    server.run::<()>(&format!("ACL SETUSER revwatch {}", permissions.trim()));
    let store = RedisStore::connect(&url, PARTITIONS)
        .await
        .expect("connect");
    applied(&store, &full(0, "po_1", Uuid::now_v7())).await;
    everything(&store, 0, &["po_1"]).await;
}

#[tokio::test]
async fn a_wrong_password_is_not_shown() {
    let server = RedisServer::start_with(&["--requirepass", "correct-horse"]);
    let address = format!("127.0.0.1:{}", server.port());
    for url in [
        format!("redis://:battery-staple@{address}/"),
        format!("redis://{address}/"),
        format!("redis-cluster://:battery-staple@{address}"),
        format!("rediss://:battery-staple@{address}/"),
        "redis://:battery-staple@127.0.0.1:1/".to_owned(),
        "redis://:battery-staple@127.0.0.1:x/".to_owned(),
        "redis-sentinel://:battery-staple@127.0.0.1:1/mymaster".to_owned(),
    ] {
        let err = RedisStore::connect(&url.clone().into(), PARTITIONS)
            .await
            .expect_err("connected");
        let text = format!("{err} {err:?}");
        assert!(!text.contains("battery"), "{url}: {text}");
    }
    let text = refusal(
        &format!("redis://:battery-staple@{address}/").into(),
        PARTITIONS,
    )
    .await;
    assert!(
        text.contains("refuses the user or password in REVWATCH_REDIS_URL"),
        "{text}"
    );
    let url: SecretString = format!("redis://:correct-horse@{address}/").into();
    let store = RedisStore::connect(&url, PARTITIONS)
        .await
        .expect("connect");
    assert!(!format!("{store:?}").contains("horse"));
}

#[tokio::test]
async fn a_cluster_node_with_a_single_server_url_is_refused() {
    let shared = SharedCluster::empty().await;
    let mut refused = 0;
    for node in &shared.cluster.nodes {
        match RedisStore::connect(&node.url(), PARTITIONS).await {
            Err(StoreError::Misconfigured(text)) if text.contains("redis-cluster://") => {
                refused += 1;
            }
            Err(other) => panic!("{other}"),
            Ok(_) => {}
        }
    }
    assert!(refused >= 2, "{refused}");
}

async fn refusal(url: &SecretString, partitions: u32) -> String {
    match RedisStore::connect(url, partitions).await {
        Err(StoreError::Misconfigured(text)) => text,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("accepted"),
    }
}
