//! What is Redis's own: refusals at the start, crashes, lost data, failovers.

use revwatch_storage::ports::{ChangeCursor, DocumentUpdate, DocumentUpdated, KeyRange};
use secrecy::SecretString;

use super::conditions::open;
use super::health::make_whole;
use super::*;

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let server = RedisServer::start();
    RedisStore::connect(&server.url(), 4)
        .await
        .expect("a new deployment");
    RedisStore::connect(&server.url(), 4)
        .await
        .expect("the same again");
    let text = refusal(&server.url(), 8).await;
    assert!(
        text.contains("has 4") && text.contains("REVWATCH_PARTITIONS is 8"),
        "{text}"
    );
    assert!(text.contains("set REVWATCH_PARTITIONS=4"), "{text}");
}

#[tokio::test]
async fn a_redis_that_may_lose_state_is_refused() {
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
        .expect("good now");
}

#[tokio::test]
async fn a_redis_that_hides_its_configuration_is_used() {
    let server = RedisServer::start_with(&["--rename-command", "CONFIG", ""]);
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    applied(&store, &full(0, "po_1", Uuid::now_v7())).await;
}

#[tokio::test]
async fn the_rights_that_the_refusal_names_are_enough() {
    let server = RedisServer::start();
    server.run::<()>("ACL SETUSER revwatch on >secret +ping");
    let url: SecretString = format!("redis://revwatch:secret@127.0.0.1:{}", server.port()).into();
    let text = refusal(&url, PARTITIONS).await;
    let rights = text.split("grant it ").nth(1).expect("names the rights");
    server.run::<()>(&format!("ACL SETUSER revwatch {}", rights.trim()));
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
    assert!(text.contains("credentials"), "{text}");
    let url: SecretString = format!("redis://:correct-horse@{address}/").into();
    let store = RedisStore::connect(&url, PARTITIONS)
        .await
        .expect("connect");
    assert!(!format!("{store:?}").contains("horse"));
}

#[tokio::test]
async fn a_cluster_by_the_wrong_name_is_refused() {
    let shared = SharedCluster::lock().await;
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

#[tokio::test]
async fn forgotten_scripts_are_taught_again() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    for id in ["po_1", "po_2"] {
        applied(&store, &full(0, id, Uuid::now_v7())).await;
        server.run::<()>("SCRIPT FLUSH");
    }
}

#[tokio::test]
async fn what_was_committed_survives_a_crash() {
    let mut server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
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
    let again = until("the store is back", async || {
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

/// The client's own limit is half a second; a busy disk takes longer at times.
#[tokio::test]
async fn a_slow_answer_is_waited_for() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    server.run::<()>("CLIENT PAUSE 1500 ALL");
    applied(&store, &full(0, "po_1", Uuid::now_v7())).await;
}

/// A commit that timed out may have happened or not; sent again it has happened once.
#[tokio::test]
async fn a_commit_that_timed_out_is_safe_to_send_again() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    let commit = full(0, "po_1", Uuid::now_v7());
    server.run::<()>("CLIENT PAUSE 6000 ALL");
    let late = store.commit(&commit).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    until("the store is back", async || {
        store.commit(&commit).await.ok()
    })
    .await;
    let now = everything(&store, 0, &["po_1"]).await;
    assert_eq!(
        (now.versions, now.changes, now.audit.len()),
        (vec![Some(1)], 1, 1)
    );
    assert_eq!(now.counters, commit.counters);
}

#[tokio::test]
async fn lost_data_is_a_gap() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    for i in 0..5 {
        open(&store, 0, &condition(&format!("po_{i}"), i)).await;
    }
    let told = store
        .condition_changes(&ChangeCursor::new(), 100)
        .await
        .expect("changes");

    server.run::<()>("FLUSHALL");
    let lost = store
        .condition_changes(&told.cursor, 100)
        .await
        .expect("changes");
    assert!(lost.gap && lost.changes.is_empty());
    let after = store
        .condition_changes(&lost.cursor, 100)
        .await
        .expect("changes");
    assert!(!after.gap);

    // Even if by now there are more changes than there were.
    for i in 0..20 {
        open(&store, 0, &condition(&format!("po_{i}"), i)).await;
    }
    let late = store
        .condition_changes(&told.cursor, 100)
        .await
        .expect("changes");
    assert!(late.gap && late.changes.is_empty());
    let after = store
        .condition_changes(&late.cursor, 100)
        .await
        .expect("changes");
    assert!(!after.gap && after.changes.is_empty());
    let from_the_start = store
        .condition_changes(&lost.cursor, 100)
        .await
        .expect("changes");
    assert_eq!(from_the_start.changes.len(), 20);
}

#[tokio::test]
async fn changes_no_longer_kept_are_a_gap() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    open(&store, 0, &condition("po_0", 0)).await;
    open(&store, 1, &condition("po_1", 1)).await;
    let told = store
        .condition_changes(&ChangeCursor::new(), 100)
        .await
        .expect("changes");
    for i in 2..5 {
        open(&store, 0, &condition(&format!("po_{i}"), i)).await;
    }
    server.run::<()>("XTRIM revwatch:{p0}:changes MAXLEN 2");
    let news = store
        .condition_changes(&told.cursor, 100)
        .await
        .expect("changes");
    assert!(news.gap && news.changes.is_empty());
    open(&store, 0, &condition("po_9", 9)).await;
    let news = store
        .condition_changes(&news.cursor, 100)
        .await
        .expect("changes");
    assert!(!news.gap);
    assert_eq!(news.changes, [ConditionChange::Open(condition("po_9", 9))]);
}

#[tokio::test]
async fn a_fence_from_before_a_loss_is_refused() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    let old = store
        .lease("alerting", "one", 60_000)
        .await
        .expect("lease")
        .expect("free");
    server.run::<()>("FLUSHALL");
    let new = store
        .lease("alerting", "two", 60_000)
        .await
        .expect("lease")
        .expect("free");
    assert!(new > old);
    assert!(matches!(
        store.write_documents(old, &[]).await,
        Err(StoreError::Fenced)
    ));
}

#[tokio::test]
async fn what_cannot_be_written_whole_is_not_written_at_all() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    let mut huge = Counters::default();
    huge.add(Bucket::Current, &["huge"], i64::MAX - 1_000_000);
    let mut commit = full(0, "po_1", Uuid::now_v7());
    commit.counters.merge(huge.clone(), 1);
    let ids = ["po_1", "po_2"];
    let before = everything(&store, 0, &ids).await;
    let refused = store.commit(&commit).await;
    assert!(
        matches!(refused, Err(StoreError::Corrupt(_))),
        "{refused:?}"
    );
    assert_eq!(everything(&store, 0, &ids).await, before);

    for key in [
        "conditions",
        "due",
        "changes",
        "audit",
        "days",
        "counters",
        "entity:payout",
        "marks:20000",
    ] {
        server.run::<()>("FLUSHALL");
        server.run::<()>(&format!("SET revwatch:{{p0}}:{key} wrong"));
        let refused = store.commit(&full(0, "po_1", Uuid::now_v7())).await;
        assert!(
            matches!(refused, Err(StoreError::Corrupt(_))),
            "{key}: {refused:?}"
        );
        assert_eq!(server.run::<i64>("DBSIZE"), 1, "{key}");
    }
}

#[tokio::test]
async fn memory_running_out_stops_a_commit_before_it_starts() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    server.run::<()>("CONFIG SET maxmemory 1mb");
    let commit = full(0, "po_1", Uuid::now_v7());
    let refused = store.commit(&commit).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    server.run::<()>("CONFIG SET maxmemory 0");
    applied(&store, &commit).await;
}

#[tokio::test]
async fn marks_and_hours_expire_and_nothing_else_does() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    applied(&store, &full(0, "po_1", Uuid::now_v7())).await;
    let mut expiring: Vec<(String, i64)> = Vec::new();
    for key in server.run::<Vec<String>>("KEYS revwatch:{p0}:*") {
        let seconds = server.run::<i64>(&format!("TTL {key}"));
        if seconds >= 0 {
            expiring.push((key, (seconds + 3_600) / 86_400));
        }
    }
    expiring.sort();
    let expected = [
        ("revwatch:{p0}:hours:20000".to_owned(), 400),
        ("revwatch:{p0}:marks:20000".to_owned(), 40),
    ];
    assert_eq!(expiring, expected);
}

/// The connection lives on when its server is demoted; it must not be used for ever.
#[tokio::test]
async fn a_demoted_server_is_left() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
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
        "a new connection has been examined: {text}"
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
    until("the replica is in step and known", async || {
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
    until("the replica has it", async || {
        (replica.run::<i64>("DBSIZE") == primary.run::<i64>("DBSIZE")).then_some(())
    })
    .await;
    until("Sentinel agrees to a failover", async || {
        sentinel.try_run::<()>("SENTINEL FAILOVER mymaster").ok()
    })
    .await;
    // While it changes its role, Sentinel closes its connections.
    until("the old primary is a replica", async || {
        primary
            .try_run::<String>("INFO replication")
            .ok()?
            .contains("role:slave")
            .then_some(())
    })
    .await;

    let next = full(0, "po_2", Uuid::now_v7());
    let outcome = until("the store has found the new primary", async || {
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
async fn a_cluster_node_that_crashes_comes_back_with_everything() {
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
        let again = until("the store is back", async || {
            store.commit(commit).await.ok()
        })
        .await;
        assert_eq!(again, Committed::AlreadyApplied);
    }
}

async fn refusal(url: &SecretString, partitions: u32) -> String {
    match RedisStore::connect(url, partitions).await {
        Err(StoreError::Misconfigured(text)) => text,
        Err(other) => panic!("not refused, but {other}"),
        Ok(_) => panic!("not refused"),
    }
}

/// Else a commit that comes before anybody has noticed the loss would hide it: the archive would be replayed from
/// there on.
#[tokio::test]
async fn how_far_a_partition_has_come_stands_still_from_a_restart_until_it_is_whole() {
    let mut server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    let life = make_whole(&store, "first").await.remove(1);
    let commit = |reach_ms: i64| Commit {
        high_watermark_ms: reach_ms,
        ..full(1, &format!("po_{reach_ms}"), Uuid::now_v7())
    };
    let reached = async || {
        store
            .health()
            .await
            .expect("health")
            .swap_remove(1)
            .high_watermark_ms
    };
    applied(&store, &commit(1_000)).await;
    server.restart();
    let again = until("it answers again", || async { store.health().await.ok() }).await;
    assert_ne!(again[1].server_run_id, life);
    applied(&store, &commit(9_000_000)).await;
    assert_eq!(reached().await, Some(1_000));
    make_whole(&store, "second").await;
    applied(&store, &commit(9_000_001)).await;
    assert_eq!(reached().await, Some(9_000_001));
}

/// It may lag behind by less than a second, which makes a healing begin earlier, and is never ahead.
#[tokio::test]
async fn how_far_a_partition_has_come_is_noted_once_a_second() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    make_whole(&store, "first").await;
    for (reach_ms, noted_ms) in [
        (5, 5),
        (1_004, 5),
        (1_005, 1_005),
        (900, 1_005),
        (60_000, 60_000),
    ] {
        applied(
            &store,
            &Commit {
                high_watermark_ms: reach_ms,
                ..full(1, &format!("po_{reach_ms}"), Uuid::now_v7())
            },
        )
        .await;
        assert_eq!(
            store
                .health()
                .await
                .expect("health")
                .swap_remove(1)
                .high_watermark_ms,
            Some(noted_ms),
            "after {reach_ms}"
        );
    }
}

/// What a healing begins with is what is there, not what was there a moment ago.
#[tokio::test]
async fn a_healing_of_what_was_emptied_meanwhile_begins_at_the_beginning() {
    let mut server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS)
        .await
        .expect("connect");
    make_whole(&store, "first").await;
    applied(
        &store,
        &Commit {
            high_watermark_ms: 7_200_000,
            ..full(1, "po_1", Uuid::now_v7())
        },
    )
    .await;
    server.restart();
    let seen = until("it answers again", || async { store.health().await.ok() }).await;
    assert_eq!(
        (seen[1].high_watermark_ms, seen[1].is_complete()),
        (Some(7_200_000), false)
    );
    server.run::<()>("FLUSHALL");
    let begun = store
        .begin_recovery(1, "a", 3_600_000)
        .await
        .expect("begun");
    assert_eq!(begun, ("a".to_owned(), 0));
}

#[tokio::test]
async fn of_a_cluster_only_what_was_on_the_node_that_lost_its_data_is_not_whole() {
    let place = SharedCluster::lock().await;
    let store = place.open().await;
    make_whole(&*store, "first").await;
    for partition in 0..PARTITIONS {
        applied(
            &*store,
            &Commit {
                high_watermark_ms: 1_000,
                ..full(partition, &format!("po_{partition}"), Uuid::now_v7())
            },
        )
        .await;
    }
    let whole = async || -> Vec<bool> {
        store
            .health()
            .await
            .expect("health")
            .iter()
            .map(Health::is_complete)
            .collect()
    };
    let mut lost = 0;
    for node in &place.cluster.nodes {
        node.run::<()>("FLUSHALL");
        let now = whole().await;
        lost += now.iter().filter(|whole| !**whole).count();
        for (partition, _) in (0..).zip(&now).filter(|(_, whole)| !**whole) {
            let health = store
                .health()
                .await
                .expect("health")
                .swap_remove(partition as usize);
            assert_eq!((health.high_watermark_ms, health.recovery), (None, None));
            assert_eq!(
                store
                    .begin_recovery(partition, "again", 10)
                    .await
                    .expect("begun"),
                ("again".to_owned(), 0)
            );
            assert!(
                store
                    .end_recovery(partition, "again", &health.server_run_id)
                    .await
                    .expect("answered")
            );
        }
        assert_eq!(whole().await, [true; PARTITIONS as usize]);
    }
    assert_eq!(lost, PARTITIONS as usize, "each partition is on one node");
}

#[tokio::test]
async fn documents_from_before_there_were_versions_have_version_1_and_are_on_pages() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), PARTITIONS).await;
    let store = store.expect("connect");
    for key in ["b", "a", "c"] {
        server.run::<()>(&format!("HSET revwatch:{{alerting}}:doc:alert {key} old"));
    }
    store.submit("alert", "d", "new").await.expect("written");
    let all = KeyRange::default();
    let page = store.document_page("alert", &all, None, 10).await;
    let found: Vec<_> = page
        .expect("a page")
        .documents
        .into_iter()
        .map(|d| (d.key, d.version == 1))
        .collect();
    let expected = [("a", true), ("b", true), ("c", true), ("d", false)];
    assert_eq!(found, expected.map(|(key, old)| (key.to_owned(), old)));
    let update = DocumentUpdate {
        space: "alert",
        key: "a".into(),
        expected: 1,
        body: None,
        write_id: Uuid::now_v7(),
    };
    let updated = store.update_document(&update).await.expect("an answer");
    assert_eq!(updated, DocumentUpdated::Applied(0));
    let page = store.document_page("alert", &all, None, 10).await;
    assert_eq!(page.expect("a page").documents.len(), 3);
}
