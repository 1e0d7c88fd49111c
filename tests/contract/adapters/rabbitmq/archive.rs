//! An archive that takes nothing: publishing goes on without it after a while, and says so.

use revwatch_storage::journal::{ACTIONS, OperatorAction};
use revwatch_storage::ports::{
    Consume as _, EventQueue as _, Journal as _, JournalEntry, Publish as _, Replay as _,
};
use revwatch_storage::rabbitmq::RabbitQueue;

use super::setup::{connect, publish};
use crate::contract::fixtures::{eventually, receive, within};
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

    let mut gaps = Vec::new();
    let mut each = |entry: JournalEntry| {
        let body = entry.body.filter(|_| entry.space == ACTIONS);
        gaps.extend(body.and_then(|body| serde_json::from_str::<OperatorAction>(&body).ok()));
    };
    within(queue.read_journal(&mut each))
        .await
        .expect("the journal");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].what, "archive gap");
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
