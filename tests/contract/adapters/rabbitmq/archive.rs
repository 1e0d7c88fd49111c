//! An archive that takes nothing: publishing goes on without it after a while, and says so.

use lapin::options::QueueDeleteOptions;
use revwatch_core::clock::Clock as _;
use revwatch_storage::gaps::{Gaps, Missing};
use revwatch_storage::journal::{OperatorAction, operator_actions};
use revwatch_storage::ports::{
    Consume as _, Disposition, EventQueue as _, HeldDelivery, Holding as _, HoldingQueue,
    Publish as _, Replay as _,
};
use revwatch_storage::rabbitmq::RabbitQueue;

use revwatch_storage::system::SystemClock;

use super::setup::{RawChannel, connect, publish};
use crate::contract::fixtures::{delivery, eventually, receive, within};
use crate::support::rabbitmq::RabbitServer;

/// Suspends or resumes the process that writes the archive: it confirms nothing meanwhile. The first virtual host that a
/// server gives out is `t0`.
async fn writer(server: &RabbitServer, what: &str) {
    let archive = "rabbit_misc:r(<<\"t0\">>, queue, <<\"revwatch.archive\">>)";
    let code =
        format!("{{ok, Q}} = rabbit_amqqueue:lookup({archive}), sys:{what}(amqqueue:get_pid(Q)).");
    server.ctl(&["eval", &code]).await;
}

async fn is_unarchived(queue: &RabbitQueue) -> bool {
    let probed = queue.probe().await;
    probed.is_ok_and(|probed| probed.unarchived_since_ms.is_some())
}

async fn missing(queue: &RabbitQueue) -> Option<Missing> {
    let now_ms = SystemClock.now_ms();
    let gaps = within(Gaps::read(queue, now_ms)).await;
    gaps.expect("the journal").missing(i64::MIN, now_ms)
}

async fn gaps_in_audit(queue: &RabbitQueue) -> Vec<OperatorAction> {
    let found = within(operator_actions(queue)).await.expect("the journal");
    assert_eq!(found.unreadable, 0);
    let mut gaps = found.actions;
    gaps.retain(|action| action.what == "archive gap");
    gaps
}

async fn hold_letter(queue: &RabbitQueue) {
    let held = HeldDelivery {
        delivery: delivery(0, 7),
        reason: "unreadable".to_owned(),
        at_ms: 1,
    };
    let holding = queue.hold(HoldingQueue::DeadLetters, held);
    within(holding).await.expect("held");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_accepted_without_an_archive_that_confirms_nothing_and_the_gap_is_written_down()
 {
    let server = RabbitServer::start().await;
    let queue = connect(&server.url()).await;
    publish(&queue, 0, 0).await.expect("published");
    assert!(!is_unarchived(&queue).await);

    writer(&server, "suspend").await;
    publish(&queue, 0, 1)
        .await
        .expect_err("the archive does not confirm");
    eventually("it goes on without the archive", async || {
        publish(&queue, 0, 2).await.is_ok() && is_unarchived(&queue).await
    })
    .await;
    // What was published before, and not confirmed, may be archived later.
    publish(&queue, 0, 4).await.expect("published");

    writer(&server, "resume").await;
    eventually("it is archived again", async || {
        !is_unarchived(&queue).await && queue.probe().await.is_ok()
    })
    .await;
    publish(&queue, 0, 3).await.expect("published");
    let mut archive = queue.archive(0).await.expect("the archive");
    let archived = archive.next(1000).await.expect("a page");
    let is_archived = |id: &str| archived.iter().any(|delivery| delivery.event_id == id);
    assert!(is_archived("evt_0") && is_archived("evt_3") && !is_archived("evt_4"));

    // It is written down after it is known.
    eventually("the gap has its end in the audit", async || {
        let gaps = gaps_in_audit(&queue).await;
        matches!(&gaps[..], [gap] if gap.detail.contains(" until "))
    })
    .await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_written_down_before_anything_is_accepted_without_the_archive() {
    let server = RabbitServer::start().await;
    let url = server.url();
    let queue = connect(&url).await;
    publish(&queue, 0, 0).await.expect("published");
    hold_letter(&queue).await;
    writer(&server, "suspend").await;
    eventually("it goes on without the archive", async || {
        publish(&queue, 0, 1).await.is_ok() && is_unarchived(&queue).await
    })
    .await;
    // A dead letter that an operator changed is another delivery: it does not wait for the archive, either.
    let mut requeue = |_: &HeldDelivery| Disposition::Requeue(Box::new(delivery(0, 8)));
    let triaged = within(queue.triage(HoldingQueue::DeadLetters, &mut requeue)).await;
    assert_eq!(triaged.expect("requeued").requeued, 1);
    // As if it were killed: nothing is written when it goes.
    drop(queue);

    let queue = connect(&url).await;
    let missing = missing(&queue).await.expect("the gap is known");
    assert_eq!(missing.count, 1);
    let later_ms = SystemClock.now_ms() + 3_600_000;
    let gaps = Gaps::read(&queue, later_ms).await.expect("the journal");
    assert_eq!(gaps.abandoned(later_ms).len(), 1, "it waits for its end");
    writer(&server, "resume").await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_in_a_gap_ends_it() {
    let server = RabbitServer::start().await;
    let url = server.url();
    let queue = connect(&url).await;
    publish(&queue, 0, 0).await.expect("published");
    writer(&server, "suspend").await;
    eventually("it goes on without the archive", async || {
        publish(&queue, 0, 1).await.is_ok() && is_unarchived(&queue).await
    })
    .await;
    queue.close().await;
    let queue = connect(&url).await;
    let gaps = gaps_in_audit(&queue).await;
    assert!(
        matches!(&gaps[..], [gap] if gap.detail.contains(" until ")),
        "{gaps:?}"
    );
    writer(&server, "resume").await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_archive_is_a_gap_and_a_new_deployment_has_none() {
    let server = RabbitServer::shared().await;
    let url = server.url();
    // Two at once: neither takes what the other has not declared yet for deleted.
    let (queue, other) = tokio::join!(connect(&url), connect(&url));
    for queue in [&queue, &other] {
        queue.probe().await.expect("it works");
        assert_eq!(missing(queue).await, None);
    }
    publish(&queue, 0, 0).await.expect("published");
    queue.close().await;
    other.close().await;

    let raw = RawChannel::open(&url).await;
    let options = QueueDeleteOptions::default();
    let deleted = raw.channel.queue_delete("revwatch.archive".into(), options);
    deleted.await.expect("deleted");
    // A reader does not hide it.
    let reader = connect(&url).await;
    assert!(reader.archive(0).await.is_err());
    reader.close().await;

    let queue = connect(&url).await;
    eventually("it is archived again", async || {
        publish(&queue, 0, 1).await.is_ok()
            && queue.probe().await.is_ok()
            && queue.archive(0).await.is_ok()
    })
    .await;
    let missing = missing(&queue).await.expect("all that it held");
    let days = (SystemClock.now_ms() - missing.since_ms) / 86_400_000;
    assert_eq!((missing.count, days), (1, 35), "{missing}");
    let command = missing.backfill().expect("Stripe has some");
    assert!(command.contains("--since 30d"), "{command}");
    queue.close().await;
}

/// RabbitMQ cannot create a stream without its coordinator, and closes the connection that asks for one. RabbitMQ 4 then
/// keeps the name of a stream that will never be there: it must not be asked too early.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_deleted_and_cannot_be_declared_stops_no_delivery() {
    let server = RabbitServer::start().await;
    let url = server.url();
    let queue = connect(&url).await;
    publish(&queue, 0, 0).await.expect("published");
    queue.close().await;
    let archive = "rabbit_misc:r(<<\"t0\">>, queue, <<\"revwatch.archive\">>)";
    // RabbitMQ 3 deletes by name, RabbitMQ 4 by record.
    let code = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup({archive}), \
         case catch rabbit_amqqueue:internal_delete({archive}, <<\"test\">>) of \
         {{'EXIT', _}} -> rabbit_amqqueue:internal_delete(Q, <<\"test\">>); _ -> ok end, \
         application:set_env(rabbit, stream_cmd_timeout, 200), sys:suspend(rabbit_stream_coordinator)."
    );
    server.ctl(&["eval", &code]).await;

    let queue = connect(&url).await;
    eventually("it goes on without the archive", async || {
        publish(&queue, 0, 1).await.is_ok() && is_unarchived(&queue).await
    })
    .await;
    let code = "sys:resume(rabbit_stream_coordinator).";
    server.ctl(&["eval", code]).await;
    eventually("it is archived again", async || {
        queue.probe().await.is_ok() && !is_unarchived(&queue).await
    })
    .await;
    // The journal is a stream, too: it takes the gap when it can.
    eventually("the gap is written down", async || {
        missing(&queue).await.is_some_and(|gap| gap.count == 1)
    })
    .await;
    queue.close().await;
}

/// RabbitMQ 3.10 never restores streams that it has not registered yet when it is killed, and RabbitMQ 4 not always.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_right_after_the_first_start_takes_deliveries_again() {
    let server = RabbitServer::start().await;
    let url = server.url();
    let queue = connect(&url).await;
    publish(&queue, 0, 0).await.expect("published");
    server.kill9();
    server.restart().await;
    eventually("it takes deliveries again, and is ready", async || {
        publish(&queue, 0, 1).await.is_ok() && queue.probe().await.is_ok()
    })
    .await;
    queue.close().await;
    // A process that starts now does the same.
    let queue = connect(&url).await;
    eventually("a new process takes deliveries, and is ready", async || {
        publish(&queue, 0, 2).await.is_ok() && queue.probe().await.is_ok()
    })
    .await;
    let mut consumer = queue.consume(0).await.expect("a consumer");
    let received = receive(&mut *consumer, 2, true).await;
    assert!(received.iter().any(|delivery| delivery.event_id == "evt_0"));
    queue.close().await;
}
