//! RabbitMQ as a cluster of three nodes.

use std::collections::BTreeMap;

use revwatch_storage::ports::EventQueue as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::setup::{RawChannel, connect, publish};
use crate::contract::fixtures::{PARTITIONS, within};
use crate::support::rabbitmq::RabbitServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_is_passed_over_and_leaders_are_spread() {
    let first = RabbitServer::start().await;
    let nodes = [
        first.start_replica("").await,
        first.start_replica("").await,
        first,
    ];
    let addresses: Vec<_> = nodes.iter().map(RabbitServer::address).collect();
    let url = nodes[2].url();
    let url = url.expose_secret().replace(
        &addresses[2],
        &format!("127.0.0.1:1,{}", addresses.join(",")),
    );
    let queue = connect(&SecretString::from(url)).await;
    publish(&queue, 0, 0).await.expect("published");

    let listed = nodes[0]
        .ctl(&["list_queues", "-q", "-p", "t0", "name", "leader"])
        .await;
    let mut leaders = BTreeMap::<&str, usize>::new();
    for line in listed.lines() {
        if let Some((name, leader)) = line.split_once('\t')
            && name.starts_with("revwatch.events.")
        {
            *leaders.entry(leader).or_default() += 1;
        }
    }
    assert_eq!(
        leaders.values().sum::<usize>(),
        PARTITIONS as usize,
        "{listed}"
    );
    assert_eq!(leaders.len(), 3, "{listed}");

    within(queue.close()).await;
}

/// A deployment that an earlier version made has queues without that argument, and keeps them.
#[tokio::test(flavor = "multi_thread")]
async fn queues_of_an_earlier_version_are_used_as_they_are() {
    use lapin::options::QueueDeclareOptions;
    use lapin::types::{AMQPValue, FieldTable};
    let server = RabbitServer::shared().await;
    let url = server.url();
    let raw = RawChannel::open(&url).await;
    for name in ["revwatch.unroutable", "revwatch.parked"] {
        let mut arguments = FieldTable::default();
        let quorum = AMQPValue::LongString("quorum".into());
        arguments.insert("x-queue-type".into(), quorum);
        let limit = AMQPValue::LongInt(1_000_000_000);
        arguments.insert("x-delivery-limit".into(), limit);
        let options = QueueDeclareOptions::durable();
        let declared = raw.channel.queue_declare(name.into(), options, arguments);
        declared.await.expect("declared");
    }
    let queue = connect(&url).await;
    publish(&queue, 0, 0).await.expect("published");
    assert_eq!(raw.count("revwatch.parked").await, 0);
    queue.close().await;
    // Mixed, as after a queue was deleted and declared again.
    let queue = connect(&url).await;
    publish(&queue, 0, 1).await.expect("published");
    queue.close().await;
}
