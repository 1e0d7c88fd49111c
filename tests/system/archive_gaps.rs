//! What the archive lacks: people see it, no rebuild loses it silently, and a backfill brings it back.

use std::time::Duration;

use revwatch_storage::gaps::{GAPS, Gap};
use revwatch_storage::ports::{EventQueue as _, Journal as _, JournalEntry};
use revwatch_storage::rabbitmq::{RabbitOptions, RabbitQueue};
use secrecy::SecretString;

use super::Deployment;
use super::lost_deliveries::payout;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post, print};
use crate::support::stripe::Stripe;
use crate::support::wait::{until, until_within};

const KEY: &str = "sk_live_never_shown";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_in_a_gap_of_a_killed_process_is_not_lost_by_a_rebuild() {
    let deployment = Deployment::servers().await;
    let Deployment::Servers(servers) = &deployment else {
        unreachable!("it was started with servers")
    };
    let stripe = Stripe::start(&[]).await;
    let variables = deployment.variables(&[
        ("STRIPE_SECRET_KEY", KEY),
        ("STRIPE_API_BASE", &stripe.url()),
    ]);
    let ingest = Revwatch::serve(&variables, "ingest");
    let (client, url) = (reqwest::Client::new(), ingest.url("/webhooks/stripe"));
    let (before, within) = (payout(0), payout(1));
    assert_eq!(post(&client, &url, &before).await.expect("answered"), 200);
    let archive = "rabbit_misc:r(<<\"t0\">>, queue, <<\"revwatch.archive\">>)";
    let writer = async |what: &str| {
        let code = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup({archive}), sys:{what}(amqqueue:get_pid(Q))."
        );
        servers.0.ctl(&["eval", &code]).await;
    };
    writer("suspend").await;
    // Publishing waits for the archive for 20 seconds.
    let deadline = Duration::from_secs(90);
    until_within(deadline, "it goes on without the archive", || async {
        let status = post(&client, &url, &within).await.ok()?;
        let log = ingest.log();
        let mut messages = log.iter().filter_map(|line| line["message"].as_str());
        let is_off = messages.any(|it| it.starts_with("the archive takes nothing"));
        (status == 200 && is_off).then_some(())
    })
    .await;
    // This one was accepted without the archive for certain.
    let last = payout(2);
    assert_eq!(post(&client, &url, &last).await.expect("answered"), 200);
    ingest.kill9();
    stripe.add_events(&[before, within, last], KEY);
    writer("resume").await;

    let audit = print(&variables, &["audit", "--what", "archive gap", "--json"]);
    assert!(audit.contains(" on are not in the archive"), "{audit}");
    let refused = cli(&variables, &["rebuild", "--yes"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("nothing was dropped"),
        "{text}"
    );
    assert!(text.contains("--despite-gaps"), "{text}");

    // A worker ends the gap of a process that has not written for a while.
    let amqp = variables
        .iter()
        .find(|(name, _)| name == "REVWATCH_AMQP_URL");
    grow_old(&amqp.expect("a setting").1).await;
    let worker = Revwatch::serve(&variables, "worker");
    until("the gap has its end", || async {
        let audit = print(&variables, &["audit", "--what", "archive gap", "--json"]);
        audit.contains(" until ").then_some(())
    })
    .await;
    until("the metric shows it", || async {
        (worker.metric("revwatch_archive_gaps").await? >= 1.0).then_some(())
    })
    .await;
    // The store was new. The recovery of its partitions and the search for gaps do not wait for each other.
    until("the worker recovered it, and says without what", || async {
        let logged = worker.logged("the state is recovered without some deliveries");
        (!logged.is_empty()).then_some(())
    })
    .await;

    let refused = cli(&variables, &["rebuild", "--yes"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    let command = text.split('`').nth(1).expect("a command");
    let command: Vec<_> = command.split(' ').skip(1).collect();
    assert_eq!(command[0], "backfill", "{text}");
    print(&variables, &command);
    all_are_applied(&variables).await;
    worker.stop();
    let known = cli(&variables, &["rebuild", "--yes"]);
    let text = String::from_utf8_lossy(&known.stderr).into_owned();
    assert!(known.status.success(), "{text}");
    all_are_applied(&variables).await;
    let worker = Revwatch::serve(&variables, "worker");
    until("the metric forgets it", || async {
        (worker.metric("revwatch_archive_gaps").await? < 0.5).then_some(())
    })
    .await;
    worker.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_journal_is_named_once_and_begun_again() {
    let deployment = Deployment::servers().await;
    let Deployment::Servers(servers) = &deployment else {
        unreachable!("it was started with servers")
    };
    let variables = deployment.variables(&[]);
    let said = |process: Revwatch| {
        let log = process.stop_and_read();
        let lines = log.iter().filter_map(|line| line["message"].as_str());
        lines
            .filter(|it| it.starts_with("RabbitMQ's stream revwatch.journal was deleted"))
            .count()
    };
    assert_eq!(said(Revwatch::serve(&variables, "ingest")), 0);
    let journal = "rabbit_misc:r(<<\"t0\">>, queue, <<\"revwatch.journal\">>)";
    let code = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup({journal}), rabbit_amqqueue:delete(Q, false, false, <<\"test\">>)."
    );
    servers.0.ctl(&["eval", &code]).await;
    let process = Revwatch::serve(&variables, "ingest");
    until("the log names it", || async {
        let log = process.log();
        let mut lines = log.iter().filter_map(|line| line["message"].as_str());
        lines
            .any(|it| it.contains("revwatch.journal was deleted"))
            .then_some(())
    })
    .await;
    drop(process);
    assert_eq!(said(Revwatch::serve(&variables, "ingest")), 0);
    // Whether the archive lacks something is not known any more.
    let audit = print(&variables, &["audit", "--what", "archive gap", "--json"]);
    assert!(audit.contains("not known: the journal"), "{audit}");
    let refused = cli(&variables, &["rebuild", "--yes"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("--despite-gaps"),
        "{text}"
    );
}

async fn all_are_applied(variables: &Variables) {
    until("all are applied", || async {
        (metrics(variables)["events_applied"] == 3).then_some(())
    })
    .await;
}

/// Writes the line of each gap again, as if that had been an hour ago.
async fn grow_old(url: &str) {
    let options = RabbitOptions {
        url: SecretString::from(url),
        partitions: 8,
        publish_timeout: Duration::from_secs(10),
        prefetch: 10,
        name: "test".to_owned(),
    };
    let queue = RabbitQueue::connect(options).await.expect("connected");
    let mut lines = Vec::new();
    let mut each = |entry: JournalEntry| lines.extend(Some(entry).filter(|it| it.space == GAPS));
    queue.read_journal(&mut each).await.expect("the journal");
    for line in &mut lines {
        let body = line.body.as_deref().expect("a gap");
        let gap: Gap = serde_json::from_str(body).expect("a gap");
        *line = gap.line(&line.key, line.at_ms - 3_600_000);
    }
    queue.append_journal(lines).await.expect("written");
    queue.close().await;
}
