//! Readiness exercises what it vouches for: each role by itself, with a broker that takes nothing or is gone.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::Deployment;
use crate::support::redis::RedisServer;
use crate::support::revwatch::{Revwatch, cli};
use crate::support::wait::{until_or, until_within};

/// An outage of the broker is no reason to be unready for ten seconds, and the others add up to less.
const WITHIN: Duration = Duration::from_secs(60);
/// Alerting of another store counts after a minute, and is looked for every half of one.
const NOTICED_WITHIN: Duration = Duration::from_mins(4);

/// Waits until `/readyz` says that `check` passes, or fails.
async fn until_check(process: &Revwatch, check: &str, passes: bool) {
    let what = format!(
        "the check {check} {}",
        ["fails", "passes"][usize::from(passes)]
    );
    until_or(WITHIN, &what, || async {
        let answer = reqwest::get(process.admin("/readyz")).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let is_ready = answer.status() == 200;
        let report: serde_json::Value = answer.json().await.map_err(|error| error.to_string())?;
        let found = report["checks"][check] == "ok";
        match found == passes && (passes || !is_ready) {
            true => Ok(()),
            false => Err(report.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_is_ready_only_while_the_broker_works() {
    let deployment = Deployment::servers().await;
    let Deployment::Servers(servers) = &deployment else {
        unreachable!("it was started with servers")
    };
    let rabbit = &servers.0;
    let variables = deployment.variables(&[]);
    let ingest = Revwatch::serve(&variables, "ingest");
    let worker = Revwatch::serve(&variables, "worker");
    let alerting = Revwatch::serve(&variables, "alerting");
    for (process, check) in [
        (&ingest, "ingest"),
        (&worker, "worker"),
        (&alerting, "journal"),
    ] {
        until_check(process, check, true).await;
    }
    rabbit.settle().await;

    // No webhook is posted: the alarm is noticed without one.
    rabbit.ctl(&["set_vm_memory_high_watermark", "0"]).await;
    until_check(&ingest, "ingest", false).await;
    until_check(&alerting, "journal", false).await;
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.9"]).await;
    until_check(&ingest, "ingest", true).await;
    until_check(&alerting, "journal", true).await;

    rabbit.kill9();
    for (process, check) in [
        (&ingest, "ingest"),
        (&worker, "worker"),
        (&alerting, "journal"),
    ] {
        until_check(process, check, false).await;
    }
    let admin = ingest.admin("").trim_start_matches("http://").to_owned();
    let at = |address: String| vec![("REVWATCH_ADMIN_LISTEN".to_owned(), address)];
    assert!(!cli(&at(admin.clone()), &["health"]).status.success());
    rabbit.restart().await;
    for (process, check) in [
        (&ingest, "ingest"),
        (&worker, "worker"),
        (&alerting, "journal"),
    ] {
        until_check(process, check, true).await;
    }
    assert!(cli(&at(admin), &["health"]).status.success());
    for process in [ingest, worker, alerting] {
        process.stop();
    }
}

/// Each of the two would leave the partitions alone that the other one's worker has.
#[tokio::test(flavor = "multi_thread")]
async fn workers_of_two_virtual_hosts_on_one_redis_say_so() {
    let deployment = Deployment::servers().await;
    // Each call names a virtual host of its own.
    let (one, other) = (deployment.variables(&[]), deployment.variables(&[]));
    let first = Revwatch::serve(&one, "worker");
    until_check(&first, "worker", true).await;
    let second = Revwatch::serve(&other, "worker");
    for process in [&first, &second] {
        until_check(process, "worker", false).await;
        let log = process.log();
        let lines = log.iter().filter_map(|line| line["message"].as_str());
        let said = lines.filter(|it| it.starts_with("workers of another virtual host"));
        assert_eq!(said.count(), 1, "{log:?}");
    }
    second.stop();
    until_check(&first, "worker", true).await;
    first.stop();
}

/// Each store has a lease of its own: both evaluate.
#[tokio::test(flavor = "multi_thread")]
async fn alerting_of_two_stores_on_one_virtual_host_says_so() {
    let deployment = Deployment::servers().await;
    let other_redis = RedisServer::start();
    let one = deployment.variables(&[]);
    let mut other = one.clone();
    let url = other_redis.url().expose_secret().to_owned();
    other.retain(|(name, _)| name != "REVWATCH_REDIS_URL");
    other.push(("REVWATCH_REDIS_URL".into(), url));
    let processes = [&one, &other].map(|it| Revwatch::serve(it, "worker,alerting"));
    for process in &processes {
        until_within(NOTICED_WITHIN, "another store is noticed", || async {
            let stores = process.metric("revwatch_alerting_other_stores").await?;
            (stores > 0.0).then_some(())
        })
        .await;
        until_check(process, "alerting", false).await;
        let log = process.log();
        let said = log.iter().find(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("alerting of another store runs")
        });
        let said = said.expect("it is logged");
        assert_eq!(said["level"], "ERROR");
        let (store, others) = (said["store"].as_str(), said["others"].as_str());
        let is_named =
            |it: Option<&str>| it.is_some_and(|it| it.starts_with("Redis at 127.0.0.1:"));
        assert!(
            is_named(store) && is_named(others) && store != others,
            "{said}"
        );
    }
    let [first, second] = processes;
    second.stop();
    until_within(NOTICED_WITHIN, "it is alone again", || async {
        let stores = first.metric("revwatch_alerting_other_stores").await?;
        (stores == 0.0).then_some(())
    })
    .await;
    until_check(&first, "alerting", true).await;
    first.stop();
}
