//! Exchanges and queues: missing, deleted, of another deployment.

use revwatch_storage::ports::{Consume, EventQueue, Holding, HoldingQueue, QueueError, Replay};
use revwatch_storage::rabbitmq::{RabbitOptions, RabbitQueue};
use secrecy::SecretString;

use super::setup::{MANY, Setup, connect, options, publish, publish_concurrently};
use crate::contract::fixtures::{PARTITIONS, eventually, receive, within};
use crate::support::rabbitmq::RabbitServer;

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_survive_the_deletion_of_a_partition_queue() {
    let setup = Setup::on_shared_server().await;
    let (queue, raw) = (&setup.queue, &setup.raw);
    let mut consumer = queue.consume(2).await.expect("a consumer");
    raw.channel
        .queue_delete("revwatch.events.p2".into(), Default::default())
        .await
        .expect("deleted");

    let error = within(consumer.next(1))
        .await
        .expect_err("its queue is gone");
    assert!(matches!(error, QueueError::Unavailable(_)), "{error}");
    drop(consumer);
    // The publishing connection does not notice it. What it accepts is kept in the unroutable queue …
    publish(queue, 2, 7).await.expect("published");
    assert_eq!(raw.count("revwatch.unroutable").await, 1);
    // … and is requeued when the partition is consumed.
    let mut consumer = queue.consume(2).await.expect("a consumer");
    assert_eq!(receive(&mut *consumer, 1, true).await[0].event_id, "evt_7");
    eventually("nothing is left there", async || {
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
async fn an_exchange_deleted_while_publishing_is_declared_again() {
    let setup = Setup::on_shared_server().await;
    let (queue, raw) = (&setup.queue, &setup.raw);
    publish(queue, 0, 0).await.expect("published");
    raw.channel
        .exchange_delete("revwatch.intake".into(), Default::default())
        .await
        .expect("deleted");
    publish(queue, 0, 1)
        .await
        .expect_err("there is no such exchange");
    eventually("publishing works again", async || {
        publish(queue, 0, 2).await.is_ok()
    })
    .await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_published_by_hand_are_delivered_or_dead_lettered() {
    let setup = Setup::on_shared_server().await;
    let (queue, raw) = (&setup.queue, &setup.raw);
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
    let first = receive(&mut *consumer, 1, false).await.remove(0);
    assert_eq!((&first.body[..], first.partition), (&b"\xff junk"[..], 1));
    drop(consumer);
    let mut consumer = queue.consume(1).await.expect("a consumer");
    assert_eq!(
        receive(&mut *consumer, 1, true).await,
        [first],
        "the same at each redelivery"
    );

    // A message for an unknown partition becomes a dead letter, where operators see it.
    eventually("it is dead", async || {
        queue.depth().await.expect("depth");
        queue
            .held_count(HoldingQueue::DeadLetters)
            .await
            .expect("a count")
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
async fn unroutable_messages_of_many_deliveries_are_requeued() {
    let setup = Setup::on_shared_server().await;
    let (queue, raw) = (&setup.queue, &setup.raw);
    raw.channel
        .queue_delete("revwatch.events.p3".into(), Default::default())
        .await
        .expect("deleted");
    let sent = publish_concurrently(queue, 3).await;
    assert!(raw.count("revwatch.unroutable").await > 0);
    let raw = connect(&setup.url).await;
    let mut consumer = raw.consume(3).await.expect("a consumer");
    let mut home = receive(&mut *consumer, MANY, true).await;
    home.sort_by_key(|delivery| delivery.received_ms);
    assert_eq!(home, sent);
    raw.close().await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_is_refused() {
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
async fn a_connect_error_states_the_reason_without_the_password() {
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

async fn connect_error(options: RabbitOptions) -> QueueError {
    within(RabbitQueue::connect(options))
        .await
        .err()
        .expect("no connection")
}
