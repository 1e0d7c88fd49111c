//! Holding queues: listing, visiting, triage.

use std::ops::ControlFlow;

use bytes::Bytes;
use revwatch_storage::ports::{
    Delivery, Disposition, EventQueue, HeldDelivery, HoldingQueue, TriageSummary,
};
use uuid::Uuid;

use crate::contract::QueuePlace;
use crate::contract::fixtures::{PARTITIONS, delivery, eventually, receive, within};

contract!(queue: [
    held_deliveries_are_listed_once_and_oldest_first,
    a_visit_passes_every_held_delivery_and_removes_none,
    triage_requeues_discards_or_keeps_each_delivery,
]);

async fn held_deliveries_are_listed_once_and_oldest_first(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let dead_letter = |n: u32| HeldDelivery {
        delivery: Delivery {
            body: Bytes::from_static(b"\xff\xfe"),
            ..delivery(n % PARTITIONS, n)
        },
        reason: format!("no. {n} is not JSON"),
        at_ms: 1_800_000_000_000 + i64::from(n),
    };
    assert_eq!(
        queue
            .oldest_held(HoldingQueue::DeadLetters, 10)
            .await
            .expect("dead letters"),
        []
    );
    let letters: Vec<_> = (0..5).map(dead_letter).collect();
    for letter in &letters {
        within(queue.hold(HoldingQueue::DeadLetters, letter.clone()))
            .await
            .expect("stored");
    }
    // A worker repeats a hold that seemed to fail.
    within(queue.hold(HoldingQueue::DeadLetters, letters[1].clone()))
        .await
        .expect("stored");

    assert_eq!(
        within(queue.oldest_held(HoldingQueue::DeadLetters, 100))
            .await
            .expect("dead letters"),
        letters,
        "one per delivery"
    );
    assert_eq!(
        within(queue.oldest_held(HoldingQueue::DeadLetters, 2))
            .await
            .expect("dead letters"),
        letters[..2],
        "oldest first, and still held"
    );
    assert!(
        queue
            .held_count(HoldingQueue::DeadLetters)
            .await
            .expect("a count")
            >= 5
    );
    queue.close().await;

    let queue = place.queue().await;
    assert_eq!(
        within(queue.oldest_held(HoldingQueue::DeadLetters, 100))
            .await
            .expect("dead letters"),
        letters
    );
    queue.close().await;
}

async fn a_visit_passes_every_held_delivery_and_removes_none(place: &dyn QueuePlace) {
    async fn visited(queue: &dyn EventQueue, limit: usize) -> Vec<HeldDelivery> {
        let mut seen = Vec::new();
        let mut visit = |held: HeldDelivery| {
            seen.push(held);
            if seen.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        within(queue.visit_held(HoldingQueue::DeadLetters, &mut visit))
            .await
            .expect("visit");
        seen
    }
    let queue = place.queue().await;
    assert_eq!(visited(&*queue, usize::MAX).await, []);
    // More than any adapter reads at once. The first one held need not be the oldest.
    let letters: Vec<_> = (0..600)
        .map(|n| HeldDelivery {
            delivery: delivery(n % PARTITIONS, n),
            reason: format!("no. {n}"),
            at_ms: i64::from(n ^ 1),
        })
        .collect();
    for letter in &letters {
        within(queue.hold(HoldingQueue::DeadLetters, letter.clone()))
            .await
            .expect("stored");
    }
    within(queue.hold(HoldingQueue::Parked, letters[0].clone()))
        .await
        .expect("stored");
    let is_all = |mut seen: Vec<HeldDelivery>| {
        seen.sort_by_key(|held| held.delivery.received_ms);
        seen == letters
    };
    assert!(
        is_all(visited(&*queue, usize::MAX).await),
        "some held deliveries are missing"
    );
    for limit in [1, 300, 512] {
        assert_eq!(
            visited(&*queue, limit).await.len(),
            limit,
            "until the visitor breaks"
        );
        assert_eq!(
            queue
                .held_count(HoldingQueue::DeadLetters)
                .await
                .expect("a count"),
            600,
            "the visit removes none"
        );
    }
    assert!(
        is_all(visited(&*queue, usize::MAX).await),
        "a delivery was removed"
    );
    for limit in [2, 300] {
        let mut oldest = letters[..limit].to_vec();
        oldest.sort_by_key(|held| held.at_ms);
        assert!(
            within(queue.oldest_held(HoldingQueue::DeadLetters, limit))
                .await
                .expect("dead letters")
                == oldest,
            "these are not the {limit} oldest"
        );
    }
    queue.close().await;

    let queue = place.queue().await;
    assert!(
        is_all(visited(&*queue, usize::MAX).await),
        "held after reopening"
    );
    queue.close().await;
}

async fn triage_requeues_discards_or_keeps_each_delivery(place: &dyn QueuePlace) {
    let queue = place.queue().await;
    let summary = within(queue.triage(HoldingQueue::Parked, &mut |_| Disposition::Discard))
        .await
        .expect("triage");
    assert_eq!(summary, TriageSummary::default());
    // More than any adapter decides on at once.
    let parked: Vec<_> = (0..600)
        .map(|n| HeldDelivery {
            delivery: delivery(n % PARTITIONS, n),
            reason: format!("parked {n}"),
            at_ms: i64::from(n),
        })
        .collect();
    for held in &parked {
        within(queue.hold(HoldingQueue::Parked, held.clone()))
            .await
            .expect("stored");
    }
    // A worker repeats a hold that seemed to fail: they are requeued once.
    for held in &parked[597..] {
        within(queue.hold(HoldingQueue::Parked, held.clone()))
            .await
            .expect("stored");
    }
    within(queue.hold(HoldingQueue::DeadLetters, parked[0].clone()))
        .await
        .expect("stored");

    // One third is requeued to another partition with another id, one third is discarded, the rest stays.
    let other = |held: &HeldDelivery| Delivery {
        id: Uuid::from_u128(held.delivery.id.as_u128() ^ 1),
        partition: 0,
        ..held.delivery.clone()
    };
    let mut decide = |held: &HeldDelivery| match held.at_ms % 3 {
        0 => Disposition::Requeue(Box::new(other(held))),
        1 => Disposition::Discard,
        _ => Disposition::Keep,
    };
    let summary = within(queue.triage(HoldingQueue::Parked, &mut decide))
        .await
        .expect("triage");
    assert_eq!(
        summary,
        TriageSummary {
            requeued: 200,
            discarded: 200,
            kept: 200
        }
    );
    let kept: Vec<_> = parked
        .iter()
        .filter(|held| held.at_ms % 3 == 2)
        .cloned()
        .collect();
    eventually("the kept ones are counted", async || {
        queue
            .held_count(HoldingQueue::Parked)
            .await
            .expect("a count")
            == 200
    })
    .await;
    assert_eq!(
        within(queue.oldest_held(HoldingQueue::Parked, 1000))
            .await
            .expect("parked"),
        kept,
        "oldest first, unchanged"
    );
    let sent: Vec<_> = parked
        .iter()
        .filter(|held| held.at_ms % 3 == 0)
        .map(other)
        .collect();
    let mut consumer = queue.consume(0).await.expect("a consumer");
    let mut requeued = receive(&mut *consumer, 200, true).await;
    requeued.sort_by_key(|delivery| delivery.received_ms);
    assert_eq!(requeued, sent);
    drop(consumer);
    assert_eq!(
        within(queue.oldest_held(HoldingQueue::DeadLetters, 10))
            .await
            .expect("dead letters"),
        parked[..1],
        "the other holding queue is unchanged"
    );

    // A delivery for an unknown partition stays held, and the decisions on the others are carried out.
    within(queue.hold(HoldingQueue::DeadLetters, parked[1].clone()))
        .await
        .expect("stored");
    let mut decide = |held: &HeldDelivery| match held.at_ms {
        0 => Disposition::Requeue(Box::new(Delivery {
            partition: PARTITIONS,
            ..held.delivery.clone()
        })),
        _ => Disposition::Discard,
    };
    let summary = within(queue.triage(HoldingQueue::DeadLetters, &mut decide))
        .await
        .expect("triage");
    assert_eq!(
        summary,
        TriageSummary {
            requeued: 0,
            discarded: 1,
            kept: 1
        }
    );
    eventually("it is still held", async || {
        within(queue.oldest_held(HoldingQueue::DeadLetters, 10))
            .await
            .expect("dead letters")
            == parked[..1]
    })
    .await;
    queue.close().await;
}
