//! The archive: every accepted delivery, consumed or not, in order.

use futures_util::future::join_all;
use revwatch_storage::ports::{Delivery, EventQueue};

use crate::contract::QueuePlace;
use crate::contract::fixtures::{delivery, publish_all, receive, within};

contract!(queue: [
    the_archive_is_read_in_order_from_a_time_on,
    the_oldest_delivery_is_that_of_all_partitions,
]);

async fn the_archive_is_read_in_order_from_a_time_on(place: &dyn QueuePlace) {
    async fn archived(queue: &dyn EventQueue, from_ms: i64, limit: usize) -> Vec<Delivery> {
        let mut archive = within(queue.archive(from_ms)).await.expect("the archive");
        let mut found = Vec::new();
        while found.len() < limit {
            // Fewer than an adapter may keep in one message.
            let max = (limit - found.len()).min(7);
            let page = within(archive.next(max)).await.expect("a page");
            assert!(page.len() <= max, "{} of at most {max}", page.len());
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        found
    }
    let queue = place.queue().await;
    assert_eq!(
        archived(&*queue, 0, 100).await,
        [],
        "an empty archive ends at once"
    );
    let sent: Vec<_> = (0..600).map(|n| delivery(2, n)).collect();
    for result in join_all(sent[..500].iter().map(|d| queue.publish(d.clone()))).await {
        result.expect("published");
    }
    publish_all(&*queue, &sent[500..]).await;
    let mut consumer = queue.consume(2).await.expect("a consumer");
    receive(&mut *consumer, sent.len(), true).await;
    drop(consumer);

    assert_eq!(
        archived(&*queue, 0, usize::MAX).await.len(),
        sent.len(),
        "consumed deliveries stay in the archive"
    );
    assert_eq!(
        archived(&*queue, sent[580].received_ms, usize::MAX).await,
        sent[580..],
        "in order, from the given time"
    );
    assert_eq!(
        archived(&*queue, sent[580].received_ms, 3).await,
        sent[580..583],
        "at most the requested number"
    );
    assert_eq!(archived(&*queue, i64::MAX, 10).await, []);
    queue.close().await;

    let queue = place.queue().await;
    assert_eq!(
        archived(&*queue, sent[597].received_ms, usize::MAX).await,
        sent[597..]
    );
    queue.close().await;
}

async fn the_oldest_delivery_is_that_of_all_partitions(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let oldest = within(queue.oldest_ms()).await.expect("the archive");
    assert_eq!(oldest, None, "an empty archive has none");
    // Those that arrive at the same time are archived in any order.
    publish_all(&*queue, &[delivery(2, 2), delivery(2, 1)]).await;
    let later: Vec<_> = (3..200).map(|n| delivery(0, n)).collect();
    publish_all(&*queue, &later).await;
    let mut consumer = queue.consume(2).await.expect("a consumer");
    receive(&mut *consumer, 2, true).await;
    let oldest = within(queue.oldest_ms()).await.expect("the archive");
    assert_eq!(oldest, Some(delivery(2, 1).received_ms));
    queue.close().await;
}
