//! A broker that is killed, hangs or is blocked.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use revwatch_storage::ports::{Consume, EventQueue, Publish, QueueError};
use revwatch_storage::rabbitmq::RabbitQueue;

use super::setup::{connect, options, publish};
use crate::contract::fixtures::{PARTITIONS, delivery, eventually, receive, within};
use crate::support::rabbitmq::RabbitServer;

#[tokio::test(flavor = "multi_thread")]
async fn accepted_deliveries_survive_a_killed_broker() {
    const PUBLISHERS: u32 = 32;
    let server = RabbitServer::start().await;
    let queue = connect(&server.url()).await;
    server.settle().await;
    // This consumer never acknowledges what it receives.
    let mut unacknowledging = queue.consume(0).await.expect("a consumer");
    let held = delivery(0, 0);
    queue.publish(held.clone()).await.expect("published");
    assert_eq!(
        receive(&mut *unacknowledging, 1, false).await,
        std::slice::from_ref(&held)
    );
    let accepted = std::sync::Mutex::new(Vec::new());
    let count = || accepted.lock().expect("no panic while locked").len();
    let stop = AtomicBool::new(false);
    let refused = AtomicU32::new(0);

    let publisher = async |publisher: u32| {
        let mut n = publisher;
        while !stop.load(Ordering::SeqCst) {
            n += PUBLISHERS;
            let delivery = delivery(n % PARTITIONS, n);
            let id = delivery.id;
            match queue.publish(delivery).await {
                Ok(()) => accepted.lock().expect("no panic while locked").push(id),
                Err(error) => {
                    assert!(matches!(error, QueueError::Unavailable(_)), "{error}");
                    refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    };
    let killer = async {
        for _ in 0..2 {
            let before = count();
            eventually("300 more are accepted", async || count() >= before + 300).await;
            server.kill9();
            server.restart().await;
        }
        let before = count();
        eventually("publishing continues after the last restart", async || {
            count() >= before + 300
        })
        .await;
        stop.store(true, Ordering::SeqCst);
    };
    futures_util::future::join(join_all((0..PUBLISHERS).map(publisher)), killer).await;
    assert!(
        refused.load(Ordering::SeqCst) > 0,
        "the broker was killed under load"
    );

    let error = within(async {
        loop {
            if let Err(error) = unacknowledging.next(100).await {
                break error;
            }
        }
    });
    assert!(
        matches!(error.await, QueueError::Unavailable(_)),
        "its connection is gone"
    );
    assert!(
        unacknowledging.ack().await.is_err(),
        "and its deliveries are returned"
    );
    drop(unacknowledging);

    let mut missing: HashSet<_> = accepted
        .into_inner()
        .expect("no panic while locked")
        .into_iter()
        .collect();
    missing.insert(held.id);
    for partition in 0..PARTITIONS {
        let mut consumer = queue.consume(partition).await.expect("a consumer");
        // The last delivery of a partition is published now.
        let last = delivery(partition, u32::MAX);
        queue.publish(last.clone()).await.expect("published");
        loop {
            let batch = within(consumer.next(500)).await.expect("deliveries");
            batch
                .iter()
                .for_each(|delivery| _ = missing.remove(&delivery.id));
            consumer.ack().await.expect("acknowledged");
            if batch.contains(&last) {
                break;
            }
        }
    }
    assert_eq!(missing.len(), 0, "accepted deliveries are lost");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_times_out_while_the_broker_hangs_and_works_again_afterwards() {
    let server = RabbitServer::start().await;
    let mut options = options(&server.url());
    options.publish_timeout = Duration::from_secs(2);
    let queue = RabbitQueue::connect(options).await.expect("connected");
    let mut consumer = queue.consume(0).await.expect("a consumer");
    publish(&queue, 0, 0).await.expect("published");
    assert_eq!(receive(&mut *consumer, 1, true).await.len(), 1);

    server.freeze();
    for n in 1..4 {
        let error = within(publish(&queue, 0, n)).await.expect_err("no confirm");
        assert!(matches!(error, QueueError::Unavailable(_)), "{error}");
    }
    server.thaw();
    eventually("publishing works again", async || {
        publish(&queue, 0, 9).await.is_ok()
    })
    .await;
    drop(consumer);
    let mut consumer = queue.consume(0).await.expect("a consumer");
    while !within(consumer.next(100))
        .await
        .expect("deliveries")
        .iter()
        .any(|d| d.event_id == "evt_9")
    {}

    server.freeze();
    within(queue.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_fails_fast_while_the_broker_is_blocked() {
    let server = RabbitServer::start().await;
    let mut options = options(&server.url());
    // So long that no failure comes from it.
    options.publish_timeout = Duration::from_secs(3600);
    let queue = RabbitQueue::connect(options).await.expect("connected");
    publish(&queue, 0, 0).await.expect("published");

    server
        .ctl(&["set_vm_memory_high_watermark", "0.000001"])
        .await;
    // RabbitMQ reports that it is blocked when it receives a message.
    eventually("publishing fails", async || {
        publish(&queue, 0, 1).await.is_err()
    })
    .await;
    let error = within(publish(&queue, 0, 2)).await.expect_err("blocked");
    assert!(
        error
            .to_string()
            .contains("accepts no messages at present: low on memory"),
        "{error}"
    );

    let mut consumer = queue.consume(0).await.expect("consuming continues");
    assert_eq!(receive(&mut *consumer, 1, true).await[0].event_id, "evt_0");
    server.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    eventually("publishing works again", async || {
        publish(&queue, 0, 3).await.is_ok()
    })
    .await;
    queue.close().await;
}
