//! One process per role, two of the worker, on RabbitMQ and Redis.

use futures_util::StreamExt as _;

use secrecy::ExposeSecret as _;

use super::Deployment;
use crate::support::history::History;
use crate::support::port::free_port;
use crate::support::rabbitmq::RabbitServer;
use crate::support::redis::RedisServer;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post, print};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_partitions_and_one_takes_over_when_the_other_stops() {
    let deployment = Deployment::servers().await;
    let variables = deployment.variables(&[]);
    let ingest = Revwatch::serve(&variables, "ingest");
    let alerting = Revwatch::serve(&variables, "alerting");
    let workers = [
        Revwatch::serve(&variables, "worker"),
        Revwatch::serve(&variables, "worker"),
    ];
    let partitions = |n: usize| {
        let started = workers[n].logged("partition started").len();
        started - workers[n].logged("partition moves to another worker").len()
    };
    until("both have partitions, and all have an owner", || async {
        let shares = [partitions(0), partitions(1)];
        (shares.iter().all(|s| *s > 0) && shares.iter().sum::<usize>() == 8).then_some(())
    })
    .await;
    let history = History::new(9, 80, jiff::Timestamp::now().as_second());
    let (client, url) = (reqwest::Client::new(), ingest.url("/webhooks/stripe"));
    let posts = futures_util::stream::iter(&history.events).map(|body| post(&client, &url, body));
    let answers: Vec<_> = posts.buffer_unordered(16).collect().await;
    assert!(
        answers
            .iter()
            .all(|a| *a.as_ref().expect("answered") == 200)
    );
    let (half, rest) = (history.events.len(), history.delivered(10));
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == half).then_some(())
    })
    .await;
    assert!(
        workers.iter().all(|w| !w.logged("commit").is_empty()),
        "both have worked"
    );
    let [first, second] = workers;
    first.stop();
    // Duplicates go to every partition; the remaining worker must process all of them.
    let posts = futures_util::stream::iter(&rest).map(|body| post(&client, &url, body));
    assert!(
        posts
            .buffer_unordered(16)
            .all(|a| async { a.expect("answered") == 200 })
            .await
    );
    until("the repeats are counted", || async {
        (metrics(&variables)["events_duplicate"] == rest.len()).then_some(())
    })
    .await;
    history.expected.assert_shown(&metrics(&variables));
    // Metrics of the state are refreshed every ten seconds.
    until("alerting shows metrics of the state", || async {
        let page = alerting.metrics_page().await?;
        page.contains("revwatch_payouts_total{").then_some(())
    })
    .await;
    assert_eq!(
        print(&variables, &["dead", "list"]).trim(),
        "No dead letters."
    );
    for process in [ingest, alerting, second] {
        process.stop();
    }
}

/// `ingest` receives webhooks and restarts in any state of Redis, and without Redis's credentials.
#[tokio::test(flavor = "multi_thread")]
async fn ingest_starts_and_receives_webhooks_without_redis() {
    let rabbit = RabbitServer::start().await;
    let amqp: (String, String) = (
        "REVWATCH_AMQP_URL".into(),
        rabbit.url().expose_secret().to_owned(),
    );
    let redis_at = |url: String| vec![amqp.clone(), ("REVWATCH_REDIS_URL".into(), url)];
    let without = vec![amqp.clone()];
    let dead = redis_at(format!("redis://127.0.0.1:{}", free_port()));
    let history = History::new(17, 4, jiff::Timestamp::now().as_second());
    let (client, mut sent) = (reqwest::Client::new(), 0);
    for variables in [&without, &without, &dead, &dead] {
        let ingest = Revwatch::serve(variables, "ingest");
        let body = &history.events[sent];
        assert_eq!(
            post(&client, &ingest.url("/webhooks/stripe"), body)
                .await
                .expect("answered"),
            200
        );
        let ready = reqwest::get(ingest.admin("/readyz"))
            .await
            .expect("answered");
        assert_eq!(ready.status(), 200);
        sent += 1;
        ingest.stop();
    }

    // Commands that read state name the missing setting, and do not use another store instead.
    for args in [
        &["serve", "--roles", "worker"][..],
        &["serve", "--roles", "ingest,worker"],
        &["serve"],
        &["metrics"],
    ] {
        let output = cli(&without, args);
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(
            !output.status.success() && text.contains("redis_url (REVWATCH_REDIS_URL) is not"),
            "{args:?}: {text}"
        );
    }
    assert!(
        print(&without, &["config", "check", "--roles", "ingest"]).contains("backend   RabbitMQ\n")
    );
    assert!(!cli(&without, &["config", "check"]).status.success());

    // RabbitMQ itself records the number of partitions.
    let other: Variables = vec![amqp.clone(), ("REVWATCH_PARTITIONS".into(), "4".into())];
    let output = cli(&other, &["serve", "--roles", "ingest"]);
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        !output.status.success() && text.contains("REVWATCH_PARTITIONS=8"),
        "{text}"
    );

    let redis = RedisServer::start();
    let variables = redis_at(redis.url().expose_secret().to_owned());
    let worker = Revwatch::serve(&variables, "worker");
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == sent).then_some(())
    })
    .await;
    worker.stop();
}

/// Every command that needs both opens Redis first, which refuses another number of partitions.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_a_wrong_number_of_partitions_sets_up_no_rabbitmq() {
    let deployment = Deployment::servers().await;
    Revwatch::serve(&deployment.variables(&[]), "worker").stop();
    let empty = RabbitServer::start().await;
    let url = empty.url().expose_secret().to_owned();
    let with = |partitions: &str| {
        let mut variables = deployment.variables(&[("REVWATCH_PARTITIONS", partitions)]);
        variables.retain(|(name, _)| name != "REVWATCH_AMQP_URL");
        variables.push(("REVWATCH_AMQP_URL".into(), url.clone()));
        variables
    };
    for args in [
        &["export", "subscriptions"][..],
        &["pause", "--mode", "test"],
        &["replay", "--from", "1h"],
        &["rebuild", "--yes"],
    ] {
        let output = cli(&with("4"), args);
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success(), "{args:?}: {text}");
    }
    print(&with("8"), &["pause", "--show"]);
}
