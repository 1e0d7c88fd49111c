//! What every `EventQueue` must do, whatever is behind it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use revwatch_storage::ports::{
    Consumer, Delivery, Disposition, EventQueue, HeldDelivery, HoldingQueue, JournalEntry,
    TriageSummary,
};
use uuid::Uuid;

/// A place that holds one queue of [`PARTITIONS`] partitions, empty at first.
#[async_trait]
pub(crate) trait QueueHome: Send + Sync {
    /// Opens the queue, again if need be: what an earlier one stored is still there.
    async fn open(&self) -> Box<dyn EventQueue>;
}

/// What a home is to be opened with.
pub(crate) const PARTITIONS: u32 = 4;

/// Runs the whole suite, each check in a fresh home.
pub(crate) async fn check<Home: QueueHome>(fresh: impl AsyncFn() -> Home) {
    let told = |what: &str| eprintln!("queue contract: {what}");
    told("stored is stored, even after closing");
    survives_reopening(&fresh().await).await;
    told("one partition comes in order, in batches");
    keeps_order(&fresh().await).await;
    told("partitions are apart");
    keeps_partitions_apart(&fresh().await).await;
    told("what was not acknowledged comes again");
    redelivers(&fresh().await).await;
    told("waiting for a delivery can be given up");
    waits_and_can_be_cancelled(&fresh().await).await;
    told("bytes and facts come out as they went in");
    preserves_deliveries(&fresh().await).await;
    told("dead letters can be looked at");
    keeps_dead_letters(&fresh().await).await;
    looks_at_all_that_stands_aside(&fresh().await).await;
    sweeps_what_stands_aside(&fresh().await).await;
    keeps_a_journal(&fresh().await).await;
    told("depth");
    tells_depth(&fresh().await).await;
    told("the archive is read from a time on");
    reads_the_archive(&fresh().await).await;
    told("many publish at once");
    takes_many_at_once(&fresh().await).await;
    told("publishers who go away do no harm");
    suffers_no_harm_from_the_impatient(&fresh().await).await;
    told("unknown partitions are refused");
    refuses_unknown_partitions(&fresh().await).await;
}

/// A delivery like any other; `n` tells them apart.
pub(crate) fn delivery(partition: u32, n: u32) -> Delivery {
    Delivery {
        id: Uuid::now_v7(),
        event_id: format!("evt_{n}"),
        event_type: "payout.failed".to_owned(),
        partition,
        endpoint: "stripe".to_owned(),
        received_ms: 1_700_000_000_000 + i64::from(n),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: Bytes::from(format!(r#"{{"id":"evt_{n}"}}"#)),
    }
}

/// The next `count` deliveries, acknowledged or not as `ack` says.
pub(crate) async fn take(consumer: &mut dyn Consumer, count: usize, ack: bool) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = within(consumer.next(count - taken.len()))
            .await
            .expect("deliveries");
        assert!(!batch.is_empty(), "next never returns nothing");
        taken.extend(batch);
    }
    assert_eq!(taken.len(), count, "no more than asked for");
    if ack {
        consumer.ack().await.expect("acknowledged");
    }
    taken
}

/// Fails the test rather than wait for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("an answer within 30 s")
}

/// Asks again and again until the answer is yes; for what a server does in its own time.
pub(crate) async fn until(what: &str, ask: impl AsyncFn() -> bool) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(60), asking)
            .await
            .is_ok(),
        "waited 60 s in vain: {what}"
    );
}

async fn publish_all(queue: &dyn EventQueue, deliveries: &[Delivery]) {
    for delivery in deliveries {
        within(queue.publish(delivery.clone()))
            .await
            .expect("published");
    }
}

async fn survives_reopening(home: &dyn QueueHome) {
    let sent: Vec<_> = (0..3).map(|n| delivery(1, n)).collect();
    let queue = home.open().await;
    assert_eq!(queue.partitions(), PARTITIONS);
    publish_all(&*queue, &sent).await;
    queue.close().await;
    drop(queue);

    let queue = home.open().await;
    let mut consumer = queue.consume(1).await.expect("a consumer");
    assert_eq!(take(&mut *consumer, 3, true).await, sent);
    drop(consumer);
    queue.close().await;
    assert!(
        within(queue.publish(delivery(1, 9))).await.is_err(),
        "a closed queue takes nothing"
    );
    drop(queue);

    let queue = home.open().await;
    publish_all(&*queue, &[delivery(1, 4)]).await;
    let mut consumer = queue.consume(1).await.expect("a consumer");
    assert_eq!(
        take(&mut *consumer, 1, true).await[0].event_id,
        "evt_4",
        "acknowledged is gone for good"
    );
    queue.close().await;
}

async fn keeps_order(home: &dyn QueueHome) {
    let queue = home.open().await;
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

async fn keeps_partitions_apart(home: &dyn QueueHome) {
    let queue = home.open().await;
    let sent: Vec<_> = (0..PARTITIONS).map(|p| delivery(p, p)).collect();
    publish_all(&*queue, &sent).await;
    for partition in 0..PARTITIONS {
        let mut consumer = queue.consume(partition).await.expect("a consumer");
        assert_eq!(
            take(&mut *consumer, 1, true).await,
            [sent[partition as usize].clone()]
        );
    }
    queue.close().await;
}

async fn redelivers(home: &dyn QueueHome) {
    let queue = home.open().await;
    let sent: Vec<_> = (0..6).map(|n| delivery(2, n)).collect();
    publish_all(&*queue, &sent).await;

    let mut consumer = queue.consume(2).await.expect("a consumer");
    assert_eq!(take(&mut *consumer, 4, false).await, sent[..4]);
    drop(consumer);

    let mut consumer = queue.consume(2).await.expect("a consumer");
    assert_eq!(
        take(&mut *consumer, 2, false).await,
        sent[..2],
        "with the same delivery ids, oldest first"
    );
    assert_eq!(take(&mut *consumer, 1, false).await, sent[2..3]);
    consumer.ack().await.expect("acknowledged");
    consumer
        .ack()
        .await
        .expect("acknowledging nothing is no error");
    assert_eq!(take(&mut *consumer, 1, false).await, sent[3..4]);
    drop(consumer);

    let mut consumer = queue.consume(2).await.expect("a consumer");
    assert_eq!(
        take(&mut *consumer, 3, true).await,
        sent[3..],
        "one acknowledgement covers all batches before it"
    );
    queue.close().await;
}

async fn waits_and_can_be_cancelled(home: &dyn QueueHome) {
    let queue = home.open().await;
    let mut consumer = queue.consume(3).await.expect("a consumer");
    assert!(
        consumer.next(10).now_or_never().is_none(),
        "there is nothing yet"
    );
    let sent: Vec<_> = (0..20).map(|n| delivery(3, n)).collect();
    let mut received = Vec::new();
    let consume = async {
        while received.len() < sent.len() {
            // Polled once and dropped, again and again.
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

async fn preserves_deliveries(home: &dyn QueueHome) {
    let queue = home.open().await;
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
            endpoint: "zweite Stelle, ü".to_owned(),
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
        take(&mut *consumer, sent.len(), true).await == sent,
        "not what was published"
    );
    queue.close().await;
}

async fn keeps_dead_letters(home: &dyn QueueHome) {
    let queue = home.open().await;
    let letter = |n: u32| HeldDelivery {
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
    let letters: Vec<_> = (0..5).map(letter).collect();
    for letter in &letters {
        within(queue.hold(HoldingQueue::DeadLetters, letter.clone()))
            .await
            .expect("stored");
    }
    // What a worker does whose first attempt seemed to fail.
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
        "oldest first, still there"
    );
    assert!(
        queue
            .held_count(HoldingQueue::DeadLetters)
            .await
            .expect("a number")
            >= 5
    );
    queue.close().await;

    let queue = home.open().await;
    assert_eq!(
        within(queue.oldest_held(HoldingQueue::DeadLetters, 100))
            .await
            .expect("dead letters"),
        letters
    );
    queue.close().await;
}

async fn looks_at_all_that_stands_aside(home: &dyn QueueHome) {
    async fn looked_at(queue: &dyn EventQueue, most: usize) -> Vec<HeldDelivery> {
        let mut seen = Vec::new();
        let mut look = |aside: HeldDelivery| {
            seen.push(aside);
            if seen.len() < most {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        within(queue.visit_held(HoldingQueue::DeadLetters, &mut look))
            .await
            .expect("looked at");
        seen
    }
    let queue = home.open().await;
    assert_eq!(looked_at(&*queue, usize::MAX).await, []);
    // More than any adapter reads at once; what was set aside first need not be the oldest.
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
        seen.sort_by_key(|aside| aside.delivery.received_ms);
        seen == letters
    };
    assert!(
        is_all(looked_at(&*queue, usize::MAX).await),
        "not all that were set aside"
    );
    for most in [1, 300, 512] {
        assert_eq!(
            looked_at(&*queue, most).await.len(),
            most,
            "until it breaks off"
        );
        assert_eq!(
            queue
                .held_count(HoldingQueue::DeadLetters)
                .await
                .expect("a number"),
            600,
            "none is held any longer"
        );
    }
    assert!(
        is_all(looked_at(&*queue, usize::MAX).await),
        "none was removed"
    );
    for limit in [2, 300] {
        let mut oldest = letters[..limit].to_vec();
        oldest.sort_by_key(|aside| aside.at_ms);
        assert!(
            within(queue.oldest_held(HoldingQueue::DeadLetters, limit))
                .await
                .expect("dead letters")
                == oldest,
            "not the {limit} oldest"
        );
    }
    queue.close().await;

    let queue = home.open().await;
    assert!(is_all(looked_at(&*queue, usize::MAX).await), "still there");
    queue.close().await;
}

async fn sweeps_what_stands_aside(home: &dyn QueueHome) {
    let queue = home.open().await;
    let nothing = within(queue.triage(HoldingQueue::Parked, &mut |_| Disposition::Discard))
        .await
        .expect("swept");
    assert_eq!(nothing, TriageSummary::default());
    // More than are decided on together.
    let parked: Vec<_> = (0..600)
        .map(|n| HeldDelivery {
            delivery: delivery(n % PARTITIONS, n),
            reason: format!("held {n}"),
            at_ms: i64::from(n),
        })
        .collect();
    for aside in &parked {
        within(queue.hold(HoldingQueue::Parked, aside.clone()))
            .await
            .expect("stored");
    }
    // What a worker does whose first attempt seemed to fail: they go once all the same.
    for aside in &parked[597..] {
        within(queue.hold(HoldingQueue::Parked, aside.clone()))
            .await
            .expect("stored");
    }
    within(queue.hold(HoldingQueue::DeadLetters, parked[0].clone()))
        .await
        .expect("stored");

    // Every third goes to another partition under another id, every third is dropped, the others stay.
    let other = |aside: &HeldDelivery| Delivery {
        id: Uuid::from_u128(aside.delivery.id.as_u128() ^ 1),
        partition: 0,
        ..aside.delivery.clone()
    };
    let mut decide = |aside: &HeldDelivery| match aside.at_ms % 3 {
        0 => Disposition::Requeue(Box::new(other(aside))),
        1 => Disposition::Discard,
        _ => Disposition::Keep,
    };
    let swept = within(queue.triage(HoldingQueue::Parked, &mut decide))
        .await
        .expect("swept");
    assert_eq!(
        swept,
        TriageSummary {
            requeued: 200,
            discarded: 200,
            kept: 200
        }
    );
    let kept: Vec<_> = parked
        .iter()
        .filter(|aside| aside.at_ms % 3 == 2)
        .cloned()
        .collect();
    until("the others stay", async || {
        queue
            .held_count(HoldingQueue::Parked)
            .await
            .expect("a number")
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
        .filter(|aside| aside.at_ms % 3 == 0)
        .map(other)
        .collect();
    let mut consumer = queue.consume(0).await.expect("a consumer");
    let mut got = take(&mut *consumer, 200, true).await;
    got.sort_by_key(|delivery| delivery.received_ms);
    assert_eq!(got, sent);
    drop(consumer);
    assert_eq!(
        within(queue.oldest_held(HoldingQueue::DeadLetters, 10))
            .await
            .expect("dead letters"),
        parked[..1],
        "another place"
    );

    // What names no partition of ours is not lost.
    let nowhere = within(queue.triage(HoldingQueue::DeadLetters, &mut |aside| {
        Disposition::Requeue(Box::new(Delivery {
            partition: PARTITIONS,
            ..aside.delivery.clone()
        }))
    }))
    .await;
    drop(nowhere);
    until("it is still there", async || {
        queue
            .held_count(HoldingQueue::DeadLetters)
            .await
            .expect("a number")
            == 1
    })
    .await;
    queue.close().await;
}

async fn keeps_a_journal(home: &dyn QueueHome) {
    async fn newest(queue: &dyn EventQueue) -> Vec<(String, String, i64, String)> {
        let mut found = std::collections::BTreeMap::new();
        let mut each = |line: JournalEntry| match line.body {
            Some(body) => drop(found.insert((line.space, line.key), (line.at_ms, body))),
            None => drop(found.remove(&(line.space, line.key))),
        };
        within(queue.read_journal(&mut each))
            .await
            .expect("the journal");
        found
            .into_iter()
            .map(|((space, key), (at_ms, body))| (space, key, at_ms, body))
            .collect()
    }
    let line = |at_ms, space: &str, key: &str, body: Option<&str>| JournalEntry {
        at_ms,
        space: space.into(),
        key: key.into(),
        body: body.map(str::to_owned),
    };
    let queue = home.open().await;
    assert_eq!(newest(&*queue).await, []);
    within(queue.append_journal(vec![
        line(1, "a", "x", Some("1")),
        line(1, "a", "y", Some("1")),
    ]))
    .await
    .expect("recorded");
    let later = vec![
        line(2, "a", "x", Some("2 ü")),
        line(3, "a", "x", Some("3")),
        line(3, "b", "x", Some("4")),
    ];
    within(queue.append_journal(later.clone()))
        .await
        .expect("recorded");
    within(queue.append_journal(vec![line(4, "a", "y", None), line(4, "a", "z", None)]))
        .await
        .expect("recorded");
    within(queue.append_journal(later)).await.expect("repeated");
    let expected = [("a", "x", 3, "3"), ("b", "x", 3, "4")]
        .map(|(s, k, at, b)| (s.into(), k.into(), at, b.into()));
    assert_eq!(newest(&*queue).await, expected);
    assert_eq!(
        queue.depth().await.expect("depth"),
        [0; PARTITIONS as usize],
        "it is no delivery"
    );
    queue.close().await;
    let queue = home.open().await;
    assert_eq!(newest(&*queue).await, expected);
    // More than any adapter writes at once: none is left out, and of two for one key the later counts.
    let keys = (0..700).map(|n| format!("{n:03}"));
    let many = keys
        .clone()
        .chain(["000".to_owned(), "699".to_owned()])
        .zip(10..);
    within(
        queue.append_journal(
            many.map(|(key, at_ms)| line(at_ms, "many", &key, Some("5")))
                .collect(),
        ),
    )
    .await
    .expect("many");
    let found = newest(&*queue)
        .await
        .into_iter()
        .filter(|(space, ..)| space == "many");
    let expected = keys.zip(10..).map(|(key, at_ms)| match key.as_str() {
        "000" => (key, 710),
        "699" => (key, 711),
        _ => (key, at_ms),
    });
    assert_eq!(
        found
            .map(|(_, key, at_ms, _)| (key, at_ms))
            .collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
    queue.close().await;
}

async fn tells_depth(home: &dyn QueueHome) {
    let queue = home.open().await;
    assert_eq!(
        queue.depth().await.expect("depth"),
        [0; PARTITIONS as usize]
    );
    publish_all(&*queue, &[delivery(1, 0), delivery(1, 1), delivery(3, 2)]).await;
    until("three wait", async || {
        queue.depth().await.expect("depth") == [0, 2, 0, 1]
    })
    .await;
    let mut consumer = queue.consume(1).await.expect("a consumer");
    take(&mut *consumer, 2, true).await;
    drop(consumer);
    until("one waits", async || {
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

async fn reads_the_archive(home: &dyn QueueHome) {
    async fn archived(queue: &dyn EventQueue, from_ms: i64, at_most: usize) -> Vec<Delivery> {
        let mut archive = within(queue.archive(from_ms)).await.expect("the archive");
        let mut found = Vec::new();
        while found.len() < at_most {
            let page = within(archive.next(at_most - found.len()))
                .await
                .expect("a page");
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        found
    }
    let queue = home.open().await;
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
    take(&mut *consumer, sent.len(), true).await;
    drop(consumer);

    assert_eq!(
        archived(&*queue, 0, usize::MAX).await.len(),
        sent.len(),
        "consumed or not"
    );
    assert_eq!(
        archived(&*queue, sent[580].received_ms, usize::MAX).await,
        sent[580..],
        "in order, from a time on"
    );
    assert_eq!(
        archived(&*queue, sent[580].received_ms, 3).await,
        sent[580..583],
        "until told to stop"
    );
    assert_eq!(archived(&*queue, i64::MAX, 10).await, []);
    queue.close().await;

    let queue = home.open().await;
    assert_eq!(
        archived(&*queue, sent[597].received_ms, usize::MAX).await,
        sent[597..]
    );
    queue.close().await;
}

async fn takes_many_at_once(home: &dyn QueueHome) {
    let queue = home.open().await;
    let sent: Vec<_> = (0..256).map(|n| delivery(n % PARTITIONS, n)).collect();
    for result in within(join_all(sent.iter().map(|d| queue.publish(d.clone())))).await {
        result.expect("published");
    }
    let mut received = HashSet::new();
    for partition in 0..PARTITIONS {
        let mut consumer = queue.consume(partition).await.expect("a consumer");
        received.extend(
            take(&mut *consumer, 64, true)
                .await
                .into_iter()
                .map(|d| d.id),
        );
    }
    assert_eq!(received, sent.iter().map(|d| d.id).collect());
    queue.close().await;
}

async fn suffers_no_harm_from_the_impatient(home: &dyn QueueHome) {
    let queue = home.open().await;
    let mut kept = Vec::new();
    for n in 0..60 {
        let delivery = delivery(0, n);
        if n % 2 == 0 {
            // Begun and dropped: whether it is stored is nobody's business, but the others must not notice.
            let _ = queue.publish(delivery).now_or_never();
        } else {
            kept.push(delivery.id);
            within(queue.publish(delivery)).await.expect("published");
        }
    }
    let last = delivery(0, 60);
    kept.push(last.id);
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
    assert_eq!(unique.len(), received.len(), "nothing twice");
    received.retain(|id| kept.contains(id));
    assert_eq!(received, kept, "every kept one, in order");
    queue.close().await;
}

async fn refuses_unknown_partitions(home: &dyn QueueHome) {
    let queue = home.open().await;
    assert!(queue.publish(delivery(PARTITIONS, 0)).await.is_err());
    assert!(queue.consume(PARTITIONS).await.is_err());
    queue.close().await;
}
