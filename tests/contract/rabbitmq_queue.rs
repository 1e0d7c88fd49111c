//! The queue contract on RabbitMQ, and what only a server can suffer: being killed, frozen, out of
//! memory, or set up wrongly by people.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use revwatch_storage::ports::{
    Consume, Delivery, Disposition, EventQueue, HeldDelivery, Holding, HoldingQueue, Publish,
    QueueError, Replay, TriageSummary,
};
use revwatch_storage::rabbitmq::{RabbitOptions, RabbitQueue};
use secrecy::{ExposeSecret, SecretString};

use super::queue::{self, PARTITIONS, QueueHome, delivery, take, until, within};
use crate::support::rabbitmq::RabbitServer;

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_keeps_the_queue_contract() {
    let server = RabbitServer::shared().await;
    queue::check(async || VirtualHost(server.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_loses_nothing_it_accepted_when_the_broker_is_killed() {
    const PUBLISHERS: u32 = 32;
    let server = RabbitServer::start().await;
    let queue = connect(&server.url()).await;
    server.settle().await;
    // A consumer that holds what it never acknowledges.
    let mut holding = queue.consume(0).await.expect("a consumer");
    let held = delivery(0, 0);
    queue.publish(held.clone()).await.expect("published");
    assert_eq!(
        take(&mut *holding, 1, false).await,
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
            until("300 more are accepted", async || count() >= before + 300).await;
            server.kill9();
            server.restart().await;
        }
        let before = count();
        until("publishing goes on after the last restart", async || {
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
            if let Err(error) = holding.next(100).await {
                break error;
            }
        }
    });
    assert!(
        matches!(error.await, QueueError::Unavailable(_)),
        "its connection is gone"
    );
    assert!(
        holding.ack().await.is_err(),
        "and what it held is no longer its own"
    );
    drop(holding);

    let mut missing: HashSet<_> = accepted
        .into_inner()
        .expect("no panic while locked")
        .into_iter()
        .collect();
    missing.insert(held.id);
    for partition in 0..PARTITIONS {
        let mut consumer = queue.consume(partition).await.expect("a consumer");
        // What ends a partition is a delivery published now.
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
    assert_eq!(missing.len(), 0, "accepted, but lost");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_gives_up_in_time_on_a_broker_that_hangs_and_recovers() {
    let server = RabbitServer::start().await;
    let mut options = options(&server.url());
    options.publish_timeout = Duration::from_secs(2);
    let queue = RabbitQueue::connect(options).await.expect("connected");
    let mut consumer = queue.consume(0).await.expect("a consumer");
    publish(&queue, 0, 0).await.expect("published");
    assert_eq!(take(&mut *consumer, 1, true).await.len(), 1);

    server.freeze();
    for n in 1..4 {
        let error = within(publish(&queue, 0, n))
            .await
            .expect_err("nobody confirms");
        assert!(matches!(error, QueueError::Unavailable(_)), "{error}");
    }
    server.thaw();
    until("publishing works again", async || {
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
async fn a_rabbitmq_queue_fails_fast_while_the_broker_takes_no_messages() {
    let server = RabbitServer::start().await;
    let mut options = options(&server.url());
    // So long that what fails does not fail because of it.
    options.publish_timeout = Duration::from_secs(3600);
    let queue = RabbitQueue::connect(options).await.expect("connected");
    publish(&queue, 0, 0).await.expect("published");

    server
        .ctl(&["set_vm_memory_high_watermark", "0.000001"])
        .await;
    // RabbitMQ says that it is blocked when it is sent something.
    until("publishing fails", async || {
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

    let mut consumer = queue.consume(0).await.expect("consuming goes on");
    assert_eq!(take(&mut *consumer, 1, true).await[0].event_id, "evt_0");
    server.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    until("publishing works again", async || {
        publish(&queue, 0, 3).await.is_ok()
    })
    .await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_survives_the_deletion_of_a_partitions_queue() {
    let server = RabbitServer::shared().await;
    let url = server.url();
    let queue = connect(&url).await;
    let mut consumer = queue.consume(2).await.expect("a consumer");
    let raw = RawChannel::open(&url).await;
    raw.channel
        .queue_delete("revwatch.events.p2".into(), Default::default())
        .await
        .expect("deleted");

    let error = within(consumer.next(1))
        .await
        .expect_err("its queue is gone");
    assert!(matches!(error, QueueError::Unavailable(_)), "{error}");
    drop(consumer);
    // The publishing connection knows nothing of it: what it accepts is kept aside …
    publish(&queue, 2, 7).await.expect("published");
    assert_eq!(raw.count("revwatch.unroutable").await, 1);
    // … and comes home once somebody consumes.
    let mut consumer = queue.consume(2).await.expect("a consumer");
    assert_eq!(take(&mut *consumer, 1, true).await[0].event_id, "evt_7");
    until("nothing is left aside", async || {
        raw.count("revwatch.unroutable").await == 0
    })
    .await;
    let archived = queue
        .archive(0)
        .await
        .expect("the archive")
        .next(10)
        .await
        .expect("a page");
    assert_eq!(archived.len(), 1, "and the archive has it once");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_declares_again_what_was_deleted_under_a_publisher() {
    let server = RabbitServer::shared().await;
    let url = server.url();
    let queue = connect(&url).await;
    publish(&queue, 0, 0).await.expect("published");
    let raw = RawChannel::open(&url).await;
    raw.channel
        .exchange_delete("revwatch.intake".into(), Default::default())
        .await
        .expect("deleted");
    publish(&queue, 0, 1)
        .await
        .expect_err("there is no such exchange");
    until("publishing works again", async || {
        publish(&queue, 0, 2).await.is_ok()
    })
    .await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_takes_what_people_publish_by_hand() {
    let server = RabbitServer::shared().await;
    let url = server.url();
    let queue = connect(&url).await;
    let raw = RawChannel::open(&url).await;
    for (key, body) in [("p1", &b"\xff junk"[..]), ("p77", br#"{"id":"evt_lost"}"#)] {
        let publish = raw.channel.basic_publish(
            "revwatch.intake".into(),
            key.into(),
            Default::default(),
            body,
            Default::default(),
        );
        publish.await.expect("sent");
    }
    let mut consumer = queue.consume(1).await.expect("a consumer");
    let first = take(&mut *consumer, 1, false).await.remove(0);
    assert_eq!((&first.body[..], first.partition), (&b"\xff junk"[..], 1));
    drop(consumer);
    let mut consumer = queue.consume(1).await.expect("a consumer");
    assert_eq!(
        take(&mut *consumer, 1, true).await,
        [first],
        "the same at each reading"
    );

    // What names no partition of ours ends among the dead letters, where people look.
    until("it is dead", async || {
        queue.depth().await.expect("depth");
        queue
            .held_count(HoldingQueue::DeadLetters)
            .await
            .expect("a number")
            == 1
    })
    .await;
    assert_eq!(
        &queue
            .oldest_held(HoldingQueue::DeadLetters, 9)
            .await
            .expect("dead letters")[0]
            .delivery
            .body[..],
        br#"{"id":"evt_lost"}"#
    );
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_shows_what_the_broker_itself_dead_lettered() {
    let server = RabbitServer::shared().await;
    let url = server.url();
    let queue = connect(&url).await;
    publish(&queue, 3, 5).await.expect("published");
    let raw = RawChannel::open(&url).await;
    let get = raw
        .channel
        .basic_get("revwatch.events.p3".into(), Default::default());
    let got = get.await.expect("an answer").expect("a message");
    got.reject(Default::default()).await.expect("rejected");

    until("it is dead", async || {
        queue
            .held_count(HoldingQueue::DeadLetters)
            .await
            .expect("a number")
            == 1
    })
    .await;
    let letters = queue
        .oldest_held(HoldingQueue::DeadLetters, 9)
        .await
        .expect("dead letters");
    assert_eq!(
        letters[0].reason,
        "dead-lettered by RabbitMQ: rejected in revwatch.events.p3"
    );
    assert_eq!(
        (
            letters[0].delivery.event_id.as_str(),
            letters[0].delivery.partition
        ),
        ("evt_5", 3)
    );
    assert!(
        letters[0].at_ms > letters[0].delivery.received_ms,
        "{letters:?}"
    );
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_packs_what_comes_while_a_message_is_unconfirmed() {
    let server = RabbitServer::shared().await;
    let url = server.url();
    let queue = connect(&url).await;
    let raw = RawChannel::open(&url).await;
    let sent = publish_at_once(&queue, 1).await;
    let messages = raw.count("revwatch.events.p1").await as usize;
    assert!(
        (2..MANY / 4).contains(&messages),
        "{messages} messages for {MANY} deliveries"
    );

    // Handed out in parts, none is left out, and what was not handed out is not acknowledged.
    let mut consumer = queue.consume(1).await.expect("a consumer");
    let first = take(&mut *consumer, 5, true).await;
    assert_eq!(
        first,
        sent[..5],
        "in the order in which they were published"
    );
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
    until("nothing waits", async || {
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
    assert_eq!(archived, sent, "each by itself in the archive");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_decides_on_each_delivery_of_a_message_that_the_broker_set_aside() {
    let server = RabbitServer::shared().await;
    let url = server.url();
    let queue = connect(&url).await;
    let sent = publish_at_once(&queue, 2).await;
    let raw = RawChannel::open(&url).await;
    loop {
        let get = raw
            .channel
            .basic_get("revwatch.events.p2".into(), Default::default())
            .await
            .expect("an answer");
        let Some(got) = get else { break };
        got.reject(Default::default()).await.expect("rejected");
    }
    until("all are dead", async || {
        queue
            .oldest_held(HoldingQueue::DeadLetters, MANY)
            .await
            .expect("letters")
            .len()
            == MANY
    })
    .await;
    let letters = queue
        .oldest_held(HoldingQueue::DeadLetters, MANY)
        .await
        .expect("letters");
    assert!(
        letters
            .iter()
            .all(|letter| letter.reason.ends_with("rejected in revwatch.events.p2")),
        "{letters:?}"
    );
    assert_eq!(
        queue
            .oldest_held(HoldingQueue::DeadLetters, 3)
            .await
            .expect("letters")
            .len(),
        3,
        "no more than asked for"
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
    let swept = within(queue.triage(HoldingQueue::DeadLetters, &mut decide))
        .await
        .expect("swept");
    let count = |rest| expected(rest).len() as u64;
    assert_eq!(
        swept,
        TriageSummary {
            kept: count(0),
            discarded: count(1),
            requeued: count(2)
        }
    );
    let kept = queue
        .oldest_held(HoldingQueue::DeadLetters, MANY)
        .await
        .expect("letters");
    assert_eq!(
        kept.iter()
            .map(|letter| letter.delivery.id)
            .collect::<HashSet<_>>(),
        expected(0)
    );
    let mut consumer = queue.consume(2).await.expect("a consumer");
    let back = take(&mut *consumer, expected(2).len(), true).await;
    assert_eq!(
        back.iter()
            .map(|delivery| delivery.id)
            .collect::<HashSet<_>>(),
        expected(2)
    );
    queue.close().await;
}

/// RabbitMQ counts how often a message of a quorum queue is returned; 20 are too many unless it is told otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_shows_the_same_dead_letters_however_often_they_are_looked_at() {
    let server = RabbitServer::shared().await;
    let queue = connect(&server.url()).await;
    let letters: Vec<_> = (0..3).map(dead).collect();
    for letter in &letters {
        within(queue.hold(HoldingQueue::DeadLetters, letter.clone()))
            .await
            .expect("stored");
    }
    for _ in 0..25 {
        assert_eq!(
            within(queue.oldest_held(HoldingQueue::DeadLetters, 9))
                .await
                .expect("letters"),
            letters
        );
    }
    queue.close().await;
}

/// More than any consumer can hold. Takes a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_shows_more_dead_letters_than_a_consumer_can_hold() {
    const LETTERS: u32 = 70_000;
    if !crate::support::is_long() {
        return;
    }
    let server = RabbitServer::start().await;
    let queue = connect(&server.url()).await;
    let mut expected = HashSet::new();
    for chunk in (0..LETTERS).collect::<Vec<_>>().chunks(2_000) {
        let letters: Vec<_> = chunk.iter().copied().map(dead).collect();
        expected.extend(letters.iter().map(|letter| letter.delivery.id));
        let storing = join_all(
            letters
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
        let mut look = |letter: HeldDelivery| {
            found.insert(letter.delivery.id);
            count += 1;
            ControlFlow::Continue(())
        };
        queue
            .visit_held(HoldingQueue::DeadLetters, &mut look)
            .await
            .expect("looked at");
        assert!(
            found == expected && count == LETTERS,
            "{count} shown, {} different",
            found.len()
        );
        assert_eq!(
            queue
                .held_count(HoldingQueue::DeadLetters)
                .await
                .expect("a number"),
            u64::from(LETTERS)
        );
    }
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_brings_home_messages_of_many_deliveries() {
    let server = RabbitServer::shared().await;
    let url = server.url();
    let queue = connect(&url).await;
    let raw = RawChannel::open(&url).await;
    raw.channel
        .queue_delete("revwatch.events.p3".into(), Default::default())
        .await
        .expect("deleted");
    let sent = publish_at_once(&queue, 3).await;
    assert!(raw.count("revwatch.unroutable").await > 0);
    let raw = connect(&url).await;
    let mut consumer = raw.consume(3).await.expect("a consumer");
    let mut home = take(&mut *consumer, MANY, true).await;
    home.sort_by_key(|delivery| delivery.received_ms);
    assert_eq!(home, sent);
    raw.close().await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_refuses_another_number_of_partitions() {
    let server = RabbitServer::shared().await;
    let url = server.url();
    connect(&url).await.close().await;
    for other in [PARTITIONS - 1, PARTITIONS + 1] {
        let error = connect_error(RabbitOptions {
            partitions: other,
            ..options(&url)
        })
        .await;
        assert!(matches!(error, QueueError::Misconfigured(_)), "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("set `partitions = {PARTITIONS}`")),
            "{error}"
        );
    }
    connect(&url).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_queue_tells_why_it_cannot_connect_but_not_the_password() {
    let server = RabbitServer::shared().await;
    let refused = connect_error(options(&server.url_with_wrong_password())).await;
    assert!(matches!(refused, QueueError::Misconfigured(_)), "{refused}");
    let no_such_host = SecretString::from("amqp://revwatch:wr0ng@127.0.0.1:1/x");
    let unreachable = connect_error(options(&no_such_host)).await;
    assert!(
        matches!(unreachable, QueueError::Unavailable(_)),
        "{unreachable}"
    );
    for (error, address) in [
        (refused, server.address()),
        (unreachable, "127.0.0.1:1".to_owned()),
    ] {
        let text = format!("{error} {error:?}");
        assert!(
            error.to_string().contains(&address) && !text.contains("wr0ng"),
            "{text}"
        );
    }
}

/// A RabbitMQ virtual host, as good as new.
struct VirtualHost(SecretString);

#[async_trait]
impl QueueHome for VirtualHost {
    async fn open(&self) -> Box<dyn EventQueue> {
        Box::new(connect(&self.0).await)
    }
}

/// What somebody else does with the same virtual host.
struct RawChannel {
    channel: Channel,
    _connection: Connection,
}

impl RawChannel {
    async fn open(url: &SecretString) -> Self {
        let connecting = Connection::connect(url.expose_secret(), ConnectionProperties::default());
        let connection = connecting.await.expect("connected");
        Self {
            channel: connection.create_channel().await.expect("a channel"),
            _connection: connection,
        }
    }

    async fn count(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions::default().passive();
        let declared = self
            .channel
            .queue_declare(queue.into(), options, FieldTable::default());
        declared.await.expect("the queue is there").message_count()
    }
}

/// So many that most have to wait for others.
const MANY: usize = 100;

/// Published side by side, in this order, each received a millisecond after the one before.
async fn publish_at_once(queue: &RabbitQueue, partition: u32) -> Vec<Delivery> {
    let sent: Vec<_> = (0..).take(MANY).map(|n| delivery(partition, n)).collect();
    let publishing = join_all(sent.iter().map(|delivery| queue.publish(delivery.clone())));
    within(publishing)
        .await
        .into_iter()
        .collect::<Result<Vec<()>, _>>()
        .expect("published");
    sent
}

fn dead(n: u32) -> HeldDelivery {
    HeldDelivery {
        delivery: delivery(n % PARTITIONS, n),
        reason: "not JSON".to_owned(),
        at_ms: i64::from(n),
    }
}

fn options(url: &SecretString) -> RabbitOptions {
    RabbitOptions {
        url: url.clone(),
        partitions: PARTITIONS,
        publish_timeout: Duration::from_secs(5),
        prefetch: 1000,
        name: "revwatch-test".to_owned(),
    }
}

async fn connect(url: &SecretString) -> RabbitQueue {
    RabbitQueue::connect(options(url)).await.expect("connected")
}

async fn connect_error(options: RabbitOptions) -> QueueError {
    within(RabbitQueue::connect(options))
        .await
        .err()
        .expect("no connection")
}

async fn publish(queue: &RabbitQueue, partition: u32, n: u32) -> Result<(), QueueError> {
    within(queue.publish(delivery(partition, n))).await
}
