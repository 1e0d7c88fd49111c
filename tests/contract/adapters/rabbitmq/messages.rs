//! Messages of several deliveries, and dead letters.

use std::collections::HashSet;
use std::ops::ControlFlow;

use futures_util::future::join_all;
use revwatch_storage::ports::{
    Consume, Disposition, EventQueue, HeldDelivery, Holding, HoldingQueue, Replay, TriageSummary,
};

use super::setup::{MANY, Setup, connect, publish, publish_concurrently};
use crate::contract::fixtures::{PARTITIONS, delivery, eventually, receive, within};
use crate::support::rabbitmq::RabbitServer;

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_published_during_a_confirm_share_a_message() {
    let setup = Setup::on_shared_server().await;
    let (queue, raw) = (&setup.queue, &setup.raw);
    let sent = publish_concurrently(queue, 1).await;
    let messages = raw.count("revwatch.events.p1").await as usize;
    assert!(
        (2..MANY / 4).contains(&messages),
        "{messages} messages for {MANY} deliveries"
    );

    // Received in parts, none is missing, and what was not received is not acknowledged.
    let mut consumer = queue.consume(1).await.expect("a consumer");
    let first = receive(&mut *consumer, 5, true).await;
    assert_eq!(first, sent[..5], "in the order of publishing");
    drop(consumer);
    let mut consumer = queue.consume(1).await.expect("a consumer");
    let mut rest = Vec::new();
    while rest.last() != sent.last() {
        rest.extend(within(consumer.next(7)).await.expect("deliveries"));
    }
    consumer.ack().await.expect("acknowledged");
    let again = MANY - rest.len();
    assert!(again <= 5, "nothing is missing: {}", rest.len());
    assert_eq!(rest, sent[again..]);
    eventually("nothing waits", async || {
        raw.count("revwatch.events.p1").await == 0
    })
    .await;

    let mut archive = queue.archive(0).await.expect("the archive");
    let mut archived = Vec::new();
    loop {
        let page = archive.next(10).await.expect("a page");
        if page.is_empty() {
            break;
        }
        archived.extend(page);
    }
    assert_eq!(archived, sent, "each on its own in the archive");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_dead_lettered_by_the_broker_are_listed() {
    let setup = Setup::on_shared_server().await;
    let (queue, raw) = (&setup.queue, &setup.raw);
    publish(queue, 3, 5).await.expect("published");
    let get = raw
        .channel
        .basic_get("revwatch.events.p3".into(), Default::default());
    let got = get.await.expect("response").expect("a message");
    got.reject(Default::default()).await.expect("rejected");

    eventually("it is dead", async || {
        queue
            .held_count(HoldingQueue::DeadLetters)
            .await
            .expect("a count")
            == 1
    })
    .await;
    let dead_letters = queue
        .oldest_held(HoldingQueue::DeadLetters, 9)
        .await
        .expect("dead letters");
    assert_eq!(
        dead_letters[0].reason,
        "dead-lettered by RabbitMQ: rejected in revwatch.events.p3"
    );
    assert_eq!(
        (
            dead_letters[0].delivery.event_id.as_str(),
            dead_letters[0].delivery.partition
        ),
        ("evt_5", 3)
    );
    assert!(
        dead_letters[0].at_ms > dead_letters[0].delivery.received_ms,
        "{dead_letters:?}"
    );
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn triage_decides_on_each_delivery_of_a_dead_lettered_message() {
    let setup = Setup::on_shared_server().await;
    let (queue, raw) = (&setup.queue, &setup.raw);
    let sent = publish_concurrently(queue, 2).await;
    loop {
        let get = raw
            .channel
            .basic_get("revwatch.events.p2".into(), Default::default())
            .await
            .expect("response");
        let Some(got) = get else { break };
        got.reject(Default::default()).await.expect("rejected");
    }
    eventually("all are dead", async || {
        queue
            .oldest_held(HoldingQueue::DeadLetters, MANY)
            .await
            .expect("dead letters")
            .len()
            == MANY
    })
    .await;
    let dead_letters = queue
        .oldest_held(HoldingQueue::DeadLetters, MANY)
        .await
        .expect("dead letters");
    assert!(
        dead_letters
            .iter()
            .all(|letter| letter.reason.ends_with("rejected in revwatch.events.p2")),
        "{dead_letters:?}"
    );
    assert_eq!(
        queue
            .oldest_held(HoldingQueue::DeadLetters, 3)
            .await
            .expect("dead letters")
            .len(),
        3,
        "no more than requested"
    );

    let mut decide = |letter: &HeldDelivery| match letter.delivery.received_ms % 3 {
        0 => Disposition::Keep,
        1 => Disposition::Discard,
        _ => Disposition::Requeue(Box::new(letter.delivery.clone())),
    };
    let expected = |rest| {
        sent.iter()
            .filter(|d| d.received_ms % 3 == rest)
            .map(|d| d.id)
            .collect::<HashSet<_>>()
    };
    let summary = within(queue.triage(HoldingQueue::DeadLetters, &mut decide))
        .await
        .expect("triage");
    let count = |rest| expected(rest).len() as u64;
    assert_eq!(
        summary,
        TriageSummary {
            kept: count(0),
            discarded: count(1),
            requeued: count(2)
        }
    );
    let kept = queue
        .oldest_held(HoldingQueue::DeadLetters, MANY)
        .await
        .expect("dead letters");
    assert_eq!(
        kept.iter()
            .map(|letter| letter.delivery.id)
            .collect::<HashSet<_>>(),
        expected(0)
    );
    let mut consumer = queue.consume(2).await.expect("a consumer");
    let requeued = receive(&mut *consumer, expected(2).len(), true).await;
    assert_eq!(
        requeued
            .iter()
            .map(|delivery| delivery.id)
            .collect::<HashSet<_>>(),
        expected(2)
    );
    queue.close().await;
}

/// RabbitMQ counts how often a message of a quorum queue is returned. Its default limit is 20.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_stay_however_often_they_are_listed() {
    let server = RabbitServer::shared().await;
    let queue = connect(&server.url()).await;
    let dead_letters: Vec<_> = (0..3).map(dead_letter).collect();
    for letter in &dead_letters {
        within(queue.hold(HoldingQueue::DeadLetters, letter.clone()))
            .await
            .expect("stored");
    }
    for _ in 0..25 {
        assert_eq!(
            within(queue.oldest_held(HoldingQueue::DeadLetters, 9))
                .await
                .expect("dead letters"),
            dead_letters
        );
    }
    queue.close().await;
}

/// More than a consumer can hold unacknowledged. Takes a minute.
#[tokio::test(flavor = "multi_thread")]
async fn more_dead_letters_than_a_consumer_can_hold_are_listed() {
    const LETTERS: u32 = 70_000;
    if !crate::support::is_long() {
        return;
    }
    let server = RabbitServer::start().await;
    let queue = connect(&server.url()).await;
    let mut expected = HashSet::new();
    for chunk in (0..LETTERS).collect::<Vec<_>>().chunks(2_000) {
        let dead_letters: Vec<_> = chunk.iter().copied().map(dead_letter).collect();
        expected.extend(dead_letters.iter().map(|letter| letter.delivery.id));
        let storing = join_all(
            dead_letters
                .into_iter()
                .map(|letter| queue.hold(HoldingQueue::DeadLetters, letter)),
        );
        within(storing)
            .await
            .into_iter()
            .collect::<Result<Vec<()>, _>>()
            .expect("stored");
    }
    for _ in 0..2 {
        let (mut found, mut count) = (HashSet::new(), 0);
        let mut visit = |letter: HeldDelivery| {
            found.insert(letter.delivery.id);
            count += 1;
            ControlFlow::Continue(())
        };
        queue
            .visit_held(HoldingQueue::DeadLetters, &mut visit)
            .await
            .expect("visit");
        assert!(
            found == expected && count == LETTERS,
            "{count} visited, {} different",
            found.len()
        );
        assert_eq!(
            queue
                .held_count(HoldingQueue::DeadLetters)
                .await
                .expect("a count"),
            u64::from(LETTERS)
        );
    }
    queue.close().await;
}

fn dead_letter(n: u32) -> HeldDelivery {
    HeldDelivery {
        delivery: delivery(n % PARTITIONS, n),
        reason: "not JSON".to_owned(),
        at_ms: i64::from(n),
    }
}
