//! Consuming: order, redelivery, cancellation, depth.

use std::time::Duration;

use futures_util::FutureExt;
use revwatch_storage::ports::HoldingQueue;

use crate::contract::QueuePlace;
use crate::contract::fixtures::{PARTITIONS, delivery, eventually, publish_all, receive, within};

contract!(queue: [
    a_partition_is_consumed_in_order_and_in_batches,
    partitions_are_independent,
    unacknowledged_deliveries_are_redelivered,
    a_cancelled_wait_loses_nothing,
    depth_counts_waiting_deliveries_by_partition,
]);

async fn a_partition_is_consumed_in_order_and_in_batches(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let sent: Vec<_> = (0..50).map(|n| delivery(0, n)).collect();
    publish_all(&*queue, &sent).await;
    let mut consumer = queue.consume(0).await.expect("a consumer");
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let batch = within(consumer.next(7)).await.expect("deliveries");
        assert!((1..=7).contains(&batch.len()), "a batch of {}", batch.len());
        received.extend(batch);
        consumer.ack().await.expect("acknowledged");
    }
    assert_eq!(received, sent);
    queue.close().await;
}

async fn partitions_are_independent(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let sent: Vec<_> = (0..PARTITIONS).map(|p| delivery(p, p)).collect();
    publish_all(&*queue, &sent).await;
    for partition in 0..PARTITIONS {
        let mut consumer = queue.consume(partition).await.expect("a consumer");
        assert_eq!(
            receive(&mut *consumer, 1, true).await,
            [sent[partition as usize].clone()]
        );
    }
    queue.close().await;
}

async fn unacknowledged_deliveries_are_redelivered(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let sent: Vec<_> = (0..6).map(|n| delivery(2, n)).collect();
    publish_all(&*queue, &sent).await;

    let mut consumer = queue.consume(2).await.expect("a consumer");
    assert_eq!(receive(&mut *consumer, 4, false).await, sent[..4]);
    drop(consumer);

    let mut consumer = queue.consume(2).await.expect("a consumer");
    assert_eq!(
        receive(&mut *consumer, 2, false).await,
        sent[..2],
        "the same delivery ids, oldest first"
    );
    assert_eq!(receive(&mut *consumer, 1, false).await, sent[2..3]);
    consumer.ack().await.expect("acknowledged");
    consumer
        .ack()
        .await
        .expect("acknowledging nothing is not an error");
    assert_eq!(receive(&mut *consumer, 1, false).await, sent[3..4]);
    drop(consumer);

    let mut consumer = queue.consume(2).await.expect("a consumer");
    assert_eq!(
        receive(&mut *consumer, 3, true).await,
        sent[3..],
        "one acknowledgement covers all batches before it"
    );
    queue.close().await;
}

async fn a_cancelled_wait_loses_nothing(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let mut consumer = queue.consume(3).await.expect("a consumer");
    assert!(
        consumer.next(10).now_or_never().is_none(),
        "the queue is empty"
    );
    let sent: Vec<_> = (0..20).map(|n| delivery(3, n)).collect();
    let mut received = Vec::new();
    let consume = async {
        while received.len() < sent.len() {
            // Each wait is polled once and dropped.
            match consumer.next(3).now_or_never() {
                Some(batch) => received.extend(batch.expect("deliveries")),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    within(futures_util::future::join(
        publish_all(&*queue, &sent),
        consume,
    ))
    .await;
    assert_eq!(received, sent);
    queue.close().await;
}

async fn depth_counts_waiting_deliveries_by_partition(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    assert_eq!(
        queue.depth().await.expect("depth"),
        [0; PARTITIONS as usize]
    );
    publish_all(&*queue, &[delivery(1, 0), delivery(1, 1), delivery(3, 2)]).await;
    eventually("three deliveries are counted", async || {
        queue.depth().await.expect("depth") == [0, 2, 0, 1]
    })
    .await;
    let mut consumer = queue.consume(1).await.expect("a consumer");
    receive(&mut *consumer, 2, true).await;
    drop(consumer);
    eventually("one delivery is counted", async || {
        queue.depth().await.expect("depth") == [0, 0, 0, 1]
    })
    .await;
    assert_eq!(
        queue
            .held_count(HoldingQueue::DeadLetters)
            .await
            .expect("a number"),
        0
    );
    queue.close().await;
}
