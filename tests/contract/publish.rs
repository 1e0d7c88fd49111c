//! Publishing: `Ok` means durable, and a delivery comes out as it went in.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use revwatch_storage::ports::Delivery;

use crate::contract::QueuePlace;
use crate::contract::fixtures::{PARTITIONS, delivery, publish_all, receive, within};

contract!(queue: [
    published_deliveries_survive_reopening,
    a_delivery_is_preserved_byte_for_byte,
    many_deliveries_are_published_concurrently,
    an_abandoned_publish_does_not_affect_the_others,
    an_unknown_partition_is_refused,
]);

async fn published_deliveries_survive_reopening(place: &dyn QueuePlace) {
    let sent: Vec<_> = (0..3).map(|n| delivery(1, n)).collect();
    let queue = place.queue().await;
    assert_eq!(queue.partitions(), PARTITIONS);
    publish_all(&*queue, &sent).await;
    queue.close().await;
    drop(queue);

    let queue = place.queue().await;
    let mut consumer = queue.consume(1).await.expect("a consumer");
    assert_eq!(receive(&mut *consumer, 3, true).await, sent);
    drop(consumer);
    queue.close().await;
    assert!(
        within(queue.publish(delivery(1, 9))).await.is_err(),
        "a closed queue accepts nothing"
    );
    drop(queue);

    let queue = place.queue().await;
    publish_all(&*queue, &[delivery(1, 4)]).await;
    let mut consumer = queue.consume(1).await.expect("a consumer");
    assert_eq!(
        receive(&mut *consumer, 1, true).await[0].event_id,
        "evt_4",
        "acknowledged deliveries are gone"
    );
    queue.close().await;
}

async fn a_delivery_is_preserved_byte_for_byte(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let every_byte = Bytes::from_iter(0..=u8::MAX);
    let sent = [
        Delivery {
            body: every_byte,
            ..delivery(1, 0)
        },
        Delivery {
            body: Bytes::new(),
            ..delivery(1, 1)
        },
        Delivery {
            body: Bytes::from(vec![0xa5; 512 * 1024]),
            ..delivery(1, 2)
        },
        Delivery {
            traceparent: None,
            endpoint: "second endpoint, ü".to_owned(),
            ..delivery(1, 3)
        },
        Delivery {
            event_id: "e".repeat(400),
            event_type: "t".repeat(400),
            ..delivery(1, 4)
        },
    ];
    publish_all(&*queue, &sent).await;
    let mut consumer = queue.consume(1).await.expect("a consumer");
    assert!(
        receive(&mut *consumer, sent.len(), true).await == sent,
        "differs from what was published"
    );
    queue.close().await;
}

async fn many_deliveries_are_published_concurrently(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let sent: Vec<_> = (0..256).map(|n| delivery(n % PARTITIONS, n)).collect();
    for result in within(join_all(sent.iter().map(|d| queue.publish(d.clone())))).await {
        result.expect("published");
    }
    let mut received = HashSet::new();
    for partition in 0..PARTITIONS {
        let mut consumer = queue.consume(partition).await.expect("a consumer");
        received.extend(
            receive(&mut *consumer, 64, true)
                .await
                .into_iter()
                .map(|d| d.id),
        );
    }
    assert_eq!(received, sent.iter().map(|d| d.id).collect());
    queue.close().await;
}

async fn an_abandoned_publish_does_not_affect_the_others(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let mut confirmed = Vec::new();
    for n in 0..60 {
        let delivery = delivery(0, n);
        if n % 2 == 0 {
            // Started and dropped: it may or may not be stored, but it must not affect the others.
            let _ = queue.publish(delivery).now_or_never();
        } else {
            confirmed.push(delivery.id);
            within(queue.publish(delivery)).await.expect("published");
        }
    }
    let last = delivery(0, 60);
    confirmed.push(last.id);
    publish_all(&*queue, std::slice::from_ref(&last)).await;

    let mut consumer = queue.consume(0).await.expect("a consumer");
    let mut received = Vec::new();
    while received.last() != Some(&last.id) {
        received.extend(
            within(consumer.next(100))
                .await
                .expect("deliveries")
                .into_iter()
                .map(|d| d.id),
        );
    }
    let unique: HashSet<_> = received.iter().collect();
    assert_eq!(unique.len(), received.len(), "no delivery twice");
    received.retain(|id| confirmed.contains(id));
    assert_eq!(received, confirmed, "every confirmed delivery, in order");
    queue.close().await;
}

async fn an_unknown_partition_is_refused(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    assert!(queue.publish(delivery(PARTITIONS, 0)).await.is_err());
    assert!(queue.consume(PARTITIONS).await.is_err());
    queue.close().await;
}
