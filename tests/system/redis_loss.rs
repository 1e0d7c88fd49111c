//! Recovery: when Redis loses data, the workers notice and replay the archive, and alerting repeats
//! nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::Deployment;
use super::crash::{load, same_exports};
use super::recovery::metrics_contain;
use crate::support::history::History;
use crate::support::providers::{Settings, alerts, is_notified, post_all, updated};
use crate::support::rabbitmq::RabbitServer;
use crate::support::redis::RedisServer;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, print};
use crate::support::slack::Slack;
use crate::support::wait::{until, until_within};

const SETTINGS: &str = "[alerting]\ntick_seconds = 0.1\nlease_seconds = 2.0\nmessages_per_second = 200.0\n\
                        group_above = 100000\n[worker]\nmember_seconds = 1.0\n";

/// Redis is emptied twice under load, with alerts open, acknowledged and silenced. In the end the
/// state equals that of a run without the loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_emptied_under_load_is_recovered_completely() {
    let mut deployment = Deployment::servers().await;
    let slack = Slack::start(&[]).await;
    let settings = Settings::of_providers(SETTINGS);
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let variables = settings.variables(of_deployment);
    let now_s = jiff::Timestamp::now().as_second();
    let history = History::new(21, 150, now_s);
    let provider = |n: usize, at_s: i64, charges| {
        let (event, account) = (format!("evt_p{n}_{at_s}"), format!("acct_p{n}"));
        updated(&event, &account, at_s, charges, "under_review")
    };
    let ingest = Revwatch::serve(&variables, "ingest");
    let _alerting = Revwatch::serve(&variables, "alerting");
    let _workers = [
        Revwatch::serve(&variables, "worker"),
        Revwatch::serve(&variables, "worker"),
    ];
    let url = ingest.url("/webhooks/stripe");

    let mut posted: Vec<String> = (0..30).map(|n| provider(n, now_s - 1000, true)).collect();
    posted.extend((0..12).map(|n| provider(n, now_s - 500, false)));
    post_all(&url, &posted).await;
    until("twelve alerts are notified", || async {
        (alerts(&variables)
            .iter()
            .filter(|alert| is_notified(alert, "firing"))
            .count()
            == 12)
            .then_some(())
    })
    .await;
    let id = |account: &str| {
        let found = alerts(&variables)
            .into_iter()
            .find(|a| a["account"] == account);
        found.unwrap_or_else(|| panic!("an alert of {account}"))["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let acknowledged = id("acct_p3");
    print(&variables, &["alerts", "ack", &acknowledged, "--by", "ada"]);
    print(
        &variables,
        &[
            "alerts",
            "silence",
            "--account",
            "acct_p5",
            "--for",
            "2h",
            "--reason",
            "known",
            "--by",
            "ada",
        ],
    );

    // A third of the load each, plus the requests in flight when it ends; Redis is emptied in
    // between.
    let (mut rest, third) = (history.events.clone(), history.events.len() / 3);
    for round in 0..3 {
        let accepted = load(&ingest, &rest, third.min(rest.len())).await;
        rest.retain(|event| !accepted.contains(event));
        if round < 2 {
            let more: Vec<_> = (0..3)
                .map(|n| provider(round * 3 + n, now_s - 100, true))
                .collect();
            let newer: Vec<_> = (0..3)
                .map(|n| provider(20 + round * 3 + n, now_s - 100, false))
                .collect();
            post_all(&url, &more).await;
            deployment.redis().run::<()>("FLUSHALL");
            post_all(&url, &newer).await;
            posted.extend(more.into_iter().chain(newer));
        }
    }
    load(&ingest, &rest, rest.len()).await;

    let all: Vec<String> = history.events.iter().chain(&posted).cloned().collect();
    until(
        "every event is applied, and lost state is recovered",
        || async {
            (recovered(&variables) && metrics(&variables)["events_applied"] == all.len())
                .then_some(())
        },
    )
    .await;
    // 12 + 6 fired, of which six are resolved; each was sent one time and updated in place.
    let of_providers = |alert: &Value| alert["account"].to_string().contains("acct_p");
    until("all alerts and resolutions are notified", || async {
        let found: Vec<_> = alerts(&variables)
            .into_iter()
            .filter(of_providers)
            .collect();
        let count = |state: &str| {
            found
                .iter()
                .filter(|alert| is_notified(alert, state))
                .count()
        };
        (count("firing") + count("acknowledged") == 12 && count("resolved") == 6).then_some(())
    })
    .await;
    let mut places = BTreeSet::new();
    for message in slack.messages() {
        assert!(
            places.insert(message.alert_id().to_owned()),
            "notified twice: {}",
            message.text
        );
    }
    let found = alerts(&variables);
    let ack = found
        .iter()
        .find(|alert| alert["id"] == *acknowledged)
        .expect("the silence still exists");
    assert_eq!(ack["acknowledged_by"], "ada", "{ack}");
    assert!(
        print(&variables, &["alerts", "silences"]).contains("acct_p5"),
        "the silence still exists"
    );
    let audit = print(&variables, &["audit", "--who", "ada"]);
    assert!(
        audit.contains("alert acknowledged") && audit.contains("acct_p5"),
        "{audit}"
    );
    assert!(cli(&variables, &["verify"]).status.success());
    same_exports(&variables, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_restarts_empty_or_with_older_data_is_recovered() {
    let mut deployment = Deployment::servers().await;
    let variables = deployment.variables(&[]);
    let history = History::new(22, 120, jiff::Timestamp::now().as_second());
    let ingest = Revwatch::serve(&variables, "ingest");
    let worker = Revwatch::serve(&variables, "worker");
    let (total, half) = (history.events.len(), history.events.len() / 2);
    let applied = |count: usize| {
        let variables = &variables;
        async move {
            (recovered(variables) && metrics(variables)["events_applied"] == count).then_some(())
        }
    };
    load(&ingest, &history.events[..half], half).await;
    until("half are applied", || applied(half)).await;
    deployment.redis().restart_empty();
    until("half are applied again", || applied(half)).await;
    load(&ingest, &history.events[half..], total - half).await;
    until("all are applied", || applied(total)).await;
    history.expected.assert_shown(&metrics(&variables));

    // Now without any process that remembers the progress.
    worker.stop();
    deployment.redis().restart_behind(20_000);
    let part = print(&variables, &["metrics", "--json", "--partial"]);
    let part: Value = serde_json::from_str(&part).expect("JSON");
    assert!(part["events_applied"] != total, "something is missing");
    let worker = Revwatch::serve(&variables, "worker");
    until("the missing state is recovered", || applied(total)).await;
    history.expected.assert_shown(&metrics(&variables));
    until("the metrics page shows the recovery", || async {
        let page = worker.metrics_page().await?;
        let has_line = |line: &str| page.lines().any(|found| found.starts_with(line));
        (has_line("revwatch_recoveries_total{reason=\"restarted\"}")
            && has_line("revwatch_partitions_recovering 0"))
        .then_some(())
    })
    .await;
    assert!(cli(&variables, &["verify"]).status.success());
    same_exports(&variables, &history.events).await;
}

/// The worker that recovers is killed, another continues, and Redis is emptied again during that.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_recovery_continues_and_restarts_after_another_loss() {
    let mut deployment = Deployment::servers().await;
    let settings = Settings::of_providers("[worker]\nmember_seconds = 1.0\nbatch = 1\n");
    let variables = settings.variables(deployment.variables(&[]));
    let history = History::new(23, 100, jiff::Timestamp::now().as_second());
    let ingest = Revwatch::serve(&variables, "ingest");
    let total = history.events.len();
    let applied = || async {
        (recovered(&variables) && metrics(&variables)["events_applied"] == total).then_some(())
    };
    let mut worker = Revwatch::serve(&variables, "worker");
    load(&ingest, &history.events, total).await;
    until("all are applied", applied).await;
    for _ in 0..3 {
        let before = worker.logged("replaying the archive").len();
        deployment.redis().run::<()>("FLUSHALL");
        until("it is noticed", || async {
            (worker.logged("replaying the archive").len() > before).then_some(())
        })
        .await;
        worker.kill9();
        worker = Revwatch::serve(&variables, "worker");
        until("another continues", || async {
            worker.logged("replaying the archive").pop().map(drop)
        })
        .await;
    }
    until("all are applied again", applied).await;
    history.expected.assert_shown(&metrics(&variables));
    same_exports(&variables, &history.events).await;
}

/// A pause holds later deliveries back. Those applied before it must be applied again after a loss:
/// otherwise they would be lost permanently, because no other process has them.
#[tokio::test(flavor = "multi_thread")]
async fn state_from_before_a_pause_is_recovered_during_the_pause() {
    let mut deployment = Deployment::servers().await;
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let payouts: Vec<String> = (0..20)
        .map(|n| payout(n, true, ["acct_1", "acct_2"][n % 2]))
        .collect();
    let applied = |count: usize| {
        let variables = &variables;
        async move {
            (recovered(variables) && metrics(variables)["events_applied"] == count).then_some(())
        }
    };
    let url = process.url("/webhooks/stripe");
    post_all(&url, &payouts).await;
    until("all are applied", || applied(20)).await;
    for pause in [&["pause", "--account", "acct_1"][..], &["pause"]] {
        print(&variables, pause);
        until("the worker has paused", || {
            metrics_contain(&process, "revwatch_paused 1")
        })
        .await;
        deployment.redis().run::<()>("FLUSHALL");
        until("earlier state is recovered", || applied(20)).await;
        assert!(print(&variables, &["pause", "--show"]).contains("paused"));
    }
    post_all(&url, &[payout(20, true, "acct_1")]).await;
    print(&variables, &["resume"]);
    until("the rest is applied", || applied(21)).await;
    assert_eq!(metrics(&variables)["events_duplicate"], 0);
}

/// Parked deliveries are received long before they are committed: when that commit is lost, the
/// replay must reach back far enough.
#[tokio::test(flavor = "multi_thread")]
async fn long_parked_deliveries_are_recovered_when_redis_loses_their_commit() {
    let mut deployment = Deployment::servers().await;
    let settings = Settings::of_providers("[worker]\nrecovery_margin_seconds = 0.2\n");
    let variables = settings.variables(deployment.variables(&[]));
    let process = Revwatch::serve(&variables, "ingest,worker");
    let url = process.url("/webhooks/stripe");
    // Besides, one event of the other mode, which is not paused.
    let applied = |count: usize| {
        let variables = &variables;
        async move {
            let shown = metrics(variables);
            let counted = shown["events_applied"] == count && shown["events_other_mode"] == 1;
            (recovered(variables) && counted).then_some(())
        }
    };
    // A new Redis is recovered first: a recovery applies what arrives while it reads, and a pause counts for it ten
    // minutes later. `metrics` waits until it is complete.
    assert_eq!(metrics(&variables)["events_applied"], 0);
    print(&variables, &["pause", "--mode", "live"]);
    until("the worker has paused", || {
        metrics_contain(&process, "revwatch_paused 1")
    })
    .await;
    // All belong to one account, so that they share a partition.
    let held: Vec<String> = (0..5).map(|n| payout(n, true, "acct_1")).collect();
    post_all(&url, &held).await;
    until("they are parked", || {
        metrics_contain(&process, "revwatch_parked_deliveries 5")
    })
    .await;
    let began = std::time::Instant::now();
    until("the margin has passed", || async {
        (began.elapsed().as_secs() >= 1).then_some(())
    })
    .await;
    post_all(&url, &[payout(5, false, "acct_1")]).await;
    until("the other mode is not paused", || applied(0)).await;
    let appended = deployment.redis().appended();
    print(&variables, &["resume"]);
    until("parked deliveries are applied", || applied(5)).await;
    until("nothing is parked", || {
        metrics_contain(&process, "revwatch_parked_deliveries 0")
    })
    .await;
    deployment.redis().restart_at(appended);
    until("all state is recovered", || applied(5)).await;
    assert_eq!(metrics(&variables)["events_duplicate"], 0);
}

/// Whether `revwatch verify` reports that no partition is being replayed.
fn recovered(variables: &Variables) -> bool {
    cli(variables, &["verify", "--json"]).status.success()
}

/// The promoted replica has not received the second half of the load.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_that_lagged_is_recovered() {
    let rabbitmq = RabbitServer::start().await;
    let mut primary = RedisServer::start();
    let replica = primary.start_replica();
    let sentinel = RedisServer::start_sentinel(&primary);
    until("the replica is in sync and known", || async {
        let info = primary.try_run::<String>("INFO replication").ok()?;
        let watched = sentinel.try_run::<String>("INFO sentinel").ok()?;
        (info.contains("state=online") && watched.contains("slaves=1")).then_some(())
    })
    .await;
    let variables: Variables = vec![
        (
            "REVWATCH_AMQP_URL".into(),
            rabbitmq.url().expose_secret().to_owned(),
        ),
        (
            "REVWATCH_REDIS_URL".into(),
            format!("redis-sentinel://127.0.0.1:{}/mymaster", sentinel.port()),
        ),
    ];
    let history = History::new(23, 120, jiff::Timestamp::now().as_second());
    let (total, half) = (history.events.len(), history.events.len() / 2);
    let ingest = Revwatch::serve(&variables, "ingest");
    let worker = Revwatch::serve(&variables, "worker");
    let applied = |count: usize| {
        let variables = &variables;
        async move {
            let shown = cli(variables, &["metrics", "--json"]);
            let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
            (shown["events_applied"] == count && recovered(variables)).then_some(())
        }
    };
    load(&ingest, &history.events[..half], half).await;
    until("half are applied", || applied(half)).await;
    until("the replica has them", || async {
        let length = |server: &RedisServer| {
            server
                .try_run::<i64>("HLEN revwatch:{p0}:entity:payout")
                .ok()
        };
        (length(&replica)? == length(&primary)?).then_some(())
    })
    .await;
    // The replica is detached and promoted before Sentinel can correct that.
    replica.run::<()>("REPLICAOF 127.0.0.1 1");
    load(&ingest, &history.events[half..], total - half).await;
    primary.kill9();
    until_within(
        Duration::from_secs(60),
        "state missing on the replica is recovered",
        || applied(total),
    )
    .await;
    assert!(
        replica
            .run::<String>("INFO replication")
            .contains("role:master")
    );
    let replays = worker.logged("the archive is replayed");
    assert!(
        replays
            .iter()
            .any(|replay| replay["applied"].as_u64() > Some(0)),
        "nothing was missing: {replays:?}"
    );
    history.expected.assert_shown(&metrics(&variables));
    same_exports(&variables, &history.events).await;
}

fn payout(n: usize, live: bool, account: &str) -> String {
    json!({
        "id": format!("evt_{n}"), "object": "event", "api_version": "2025-03-31.basil", "type": "payout.paid",
        "created": 1_790_000_000, "livemode": live, "account": account, "data": {"object": {
            "id": format!("po_{n}"), "object": "payout", "status": "paid", "amount": 100, "currency": "eur"}},
    })
    .to_string()
}
