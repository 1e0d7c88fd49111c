//! What RabbitMQ lost after it had confirmed it goes back into its queue from the archive, and an alert fires.

use std::ops::Range;

use serde_json::json;

use super::Deployment;
use crate::support::providers::Settings;
use crate::support::rabbitmq::RabbitServer;
use crate::support::revwatch::{Revwatch, metrics, post, print};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_purged_queues_come_back_from_the_archive() {
    let deployment = Deployment::servers().await;
    let Deployment::Servers(servers) = &deployment else {
        unreachable!("it was started with servers")
    };
    let shipped = include_str!("../../deploy/rules/default.toml");
    let settings = Settings::new("[worker]\ncomparison_seconds = 1.0\n", shipped);
    let variables = settings.variables(deployment.variables(&[]));
    let ingest = Revwatch::serve(&variables, "ingest");
    accept_and_lose(&ingest, 0..10, &servers.0).await;
    // The store is new: the first worker recovers it from the archive. So a first one ends before the queues are purged
    // again.
    let worker = Revwatch::serve(&variables, "worker,alerting");
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == 10).then_some(())
    })
    .await;
    worker.stop();

    accept_and_lose(&ingest, 10..20, &servers.0).await;
    let worker = Revwatch::serve(&variables, "worker,alerting");
    until("the lost ones are applied", || async {
        (metrics(&variables)["events_applied"] == 20).then_some(())
    })
    .await;
    until("the worker says how many there were", || async {
        let mut lines = worker.log();
        lines.retain(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("the queue lost deliveries")
        });
        let deliveries = lines.iter().filter_map(|line| line["deliveries"].as_u64());
        (deliveries.sum::<u64>() == 10).then_some(())
    })
    .await;
    until("the metric counts them", || async {
        let page = worker.metrics_page().await?;
        page.contains("revwatch_deliveries_restored_total 10")
            .then_some(())
    })
    .await;
    until("an alert fires", || async {
        print(&variables, &["alerts", "list"])
            .contains("deliveries_lost_by_queue")
            .then_some(())
    })
    .await;
    worker.stop();
    ingest.stop();
}

/// Posts these payouts, and purges the queues.
async fn accept_and_lose(ingest: &Revwatch, numbers: Range<u32>, server: &RabbitServer) {
    let (client, url) = (reqwest::Client::new(), ingest.url("/webhooks/stripe"));
    for n in numbers {
        let status = post(&client, &url, &payout(n)).await;
        assert_eq!(status.expect("answered"), 200);
    }
    for partition in 0..8 {
        // Test servers give out virtual hosts in this order.
        let queue = format!("revwatch.events.p{partition}");
        server.ctl(&["purge_queue", "-p", "t0", &queue]).await;
    }
}

pub(super) fn payout(n: u32) -> String {
    let now_s = jiff::Timestamp::now().as_second();
    json!({"id": format!("evt_{n}"), "object": "event", "type": "payout.failed", "created": now_s, "livemode": true,
        "api_version": "2024-06-20", "data": {"object": {"id": format!("po_{n}"), "object": "payout", "amount": 100,
        "currency": "usd", "status": "failed", "created": now_s}}})
    .to_string()
}
