//! What operators do after a fault: pause and resume, dead letters, replay, rebuild; and the audit
//! of it.

use revwatch_storage::sqlite::FILE_NAME;
use serde_json::{Value, json};

use super::Deployment;
use super::crash::{load, same_exports};
use crate::support::history::History;
use crate::support::providers::{Settings, alerts, is_notified, post_all, updated};
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post, print};
use crate::support::slack::Slack;
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_events_back_and_loses_none_embedded() {
    pausing_holds_back_and_loses_nothing(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_events_back_and_loses_none_on_servers() {
    pausing_holds_back_and_loses_nothing(&Deployment::servers().await).await;
}

/// K15: everything is paused; then test mode resumes, then one account, then everything. The deployment
/// is live: what it applies is of live mode.
async fn pausing_holds_back_and_loses_nothing(deployment: &Deployment) {
    let variables = deployment.variables(&[]);
    let payout = |n: usize, live: bool, account: &str| {
        json!({
            "id": format!("evt_{n}"), "object": "event", "api_version": "2025-03-31.basil", "type": "payout.paid",
            "created": 1_790_000_000, "livemode": live, "account": account, "data": {"object": {
                "id": format!("po_{n}"), "object": "payout", "status": "paid", "amount": 100, "currency": "eur"}},
        })
        .to_string()
    };
    let events: Vec<String> = (0..90)
        .map(|n| payout(n, n % 3 > 0, ["acct_0", "acct_1", "acct_2"][n % 3]))
        .collect();
    let process = Revwatch::serve(&variables, "ingest,worker");
    // A new Redis is recovered first, from the archive: a recovery applies what arrives while it reads, and a pause
    // counts for it ten minutes later.
    // `metrics` waits until it is complete.
    assert_eq!(metrics(&variables)["events_applied"], 0);
    assert!(print(&variables, &["pause", "--by", "ada"]).contains("all paused"));
    until("the worker has paused", || async {
        metrics_contain(&process, "revwatch_everything_paused 1").await
    })
    .await;
    load(&process, &events, events.len()).await;
    let applied = || metrics(&variables)["events_applied"].as_u64();
    let shown: Value =
        serde_json::from_str(&print(&variables, &["pause", "--show", "--json"])).expect("JSON");
    assert_eq!(
        (&shown["all"], &shown["parked"]),
        (&true.into(), &0.into()),
        "{shown}"
    );
    assert_eq!(applied(), Some(0));

    print(&variables, &["resume", "--mode", "test", "--by", "ada"]);
    until("test mode resumes", || async {
        (metrics(&variables)["events_other_mode"] == 30).then_some(())
    })
    .await;
    until("the others are parked", || async {
        let shown: Value =
            serde_json::from_str(&print(&variables, &["pause", "--show", "--json"])).expect("JSON");
        (shown["parked"] == 60 && shown["waiting"] == 0).then_some(())
    })
    .await;
    assert!(
        metrics_contain(&process, "revwatch_paused 1")
            .await
            .is_some()
    );
    assert!(
        metrics_contain(&process, "revwatch_everything_paused 0")
            .await
            .is_some(),
        "test mode runs"
    );
    print(
        &variables,
        &[
            "resume",
            "--account",
            "acct_1",
            "--by",
            "ada",
            "--reason",
            "fixed",
        ],
    );
    until("one account resumes", || async {
        (applied() == Some(30)).then_some(())
    })
    .await;
    assert!(
        cli(&variables, &["state", "payout", "po_1"])
            .status
            .success()
    );
    assert!(
        !cli(&variables, &["state", "payout", "po_2"])
            .status
            .success(),
        "acct_2 is still held back"
    );
    // Neither a replay nor a restart applies paused events.
    let replayed: Value =
        serde_json::from_str(&print(&variables, &["replay", "--from", "1h", "--json"]))
            .expect("JSON");
    assert_eq!(
        (&replayed["applied"], &replayed["held_back"]),
        (&0.into(), &30.into()),
        "{replayed}"
    );
    process.kill9();
    let process = Revwatch::serve(&variables, "ingest,worker");
    until("the worker knows the pauses", || async {
        metrics_contain(&process, "revwatch_parked_deliveries 30").await
    })
    .await;
    assert_eq!(applied(), Some(30));

    let resumed = print(&variables, &["resume", "--by", "ada"]);
    assert!(
        resumed.starts_with("Nothing is paused.") && resumed.contains("Workers follow"),
        "{resumed}"
    );
    let shown = print(&variables, &["pause", "--show"]);
    assert!(
        shown.starts_with("Nothing is paused.") && !shown.contains("Workers follow"),
        "{shown}"
    );
    until("everything resumes", || async {
        (applied() == Some(60)).then_some(())
    })
    .await;
    until("nothing is parked", || async {
        metrics_contain(&process, "revwatch_parked_deliveries 0").await
    })
    .await;
    assert_eq!(metrics(&variables)["events_duplicate"], 0);
    process.stop();
    let live: Vec<String> = (0..90)
        .filter(|n| n % 3 > 0)
        .map(|n| events[n].clone())
        .collect();
    same_exports(&variables, &live).await;
    let acts: Value = serde_json::from_str(&print(&variables, &["audit", "--json"])).expect("JSON");
    let acts: Vec<_> = acts
        .as_array()
        .expect("a list")
        .iter()
        .map(|a| (a["what"].clone(), a["detail"].clone()))
        .collect();
    let expected = [
        ("pause", "everything"),
        ("resume", "test mode"),
        ("resume", "account acct_1: fixed"),
    ];
    for (n, (what, detail)) in expected.into_iter().enumerate() {
        assert_eq!(acts[n], (what.into(), detail.into()));
    }
    assert_eq!(acts[3].0, "replay");
    let from = acts[3].1.as_str().expect("text");
    assert_eq!(
        from.len(),
        "from 2026-03-01T00:00:00Z".len(),
        "whole seconds: {from}"
    );
    assert_eq!(acts[4], ("resume".into(), "everything".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pauses_do_not_undo_each_other() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    Revwatch::serve(&variables, "ingest,worker").stop();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let variables = &variables;
            scope.spawn(move || print(variables, &["pause", "--account", &format!("acct_{n}")]));
        }
    });
    let shown: Value =
        serde_json::from_str(&print(&variables, &["pause", "--show", "--json"])).expect("JSON");
    assert_eq!(
        shown["accounts"].as_object().map(serde_json::Map::len),
        Some(8),
        "{shown}"
    );
}

/// A new pause is added to the existing ones, although the store has lost them.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_added_to_pauses_that_the_store_has_lost() {
    let mut deployment = Deployment::servers().await;
    let variables = deployment.variables(&[]);
    Revwatch::serve(&variables, "ingest,worker").stop();
    print(&variables, &["pause", "--mode", "live"]);
    deployment.redis().run::<()>("FLUSHALL");
    print(&variables, &["pause", "--account", "acct_1"]);
    let shown: Value =
        serde_json::from_str(&print(&variables, &["pause", "--show", "--json"])).expect("JSON");
    assert_eq!(
        (&shown["modes"]["live"], &shown["accounts"]["acct_1"]),
        (&true.into(), &true.into()),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_while_serving_sends_no_notification_embedded() {
    rebuild_while_serving_notifies_nothing(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_while_serving_sends_no_notification_on_servers() {
    rebuild_while_serving_notifies_nothing(&Deployment::servers().await).await;
}

/// Between the drop and the last replayed event no condition holds; no notification may result.
async fn rebuild_while_serving_notifies_nothing(deployment: &Deployment) {
    let slack = Slack::start(&[]).await;
    let text =
        "[alerting]\ntick_seconds = 0.05\nmessages_per_second = 200.0\ngroup_above = 100000\n";
    let settings = Settings::of_providers(text);
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let variables = settings.variables(of_deployment);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let url = process.url("/webhooks/stripe");
    let now_s = jiff::Timestamp::now().as_second();
    let provider = |n: usize, at_s: i64, charges| {
        updated(
            &format!("evt_{n}_{at_s}"),
            &format!("acct_{n}"),
            at_s,
            charges,
            "under_review",
        )
    };
    let lost = |n: usize| provider(n, now_s - 500, false);
    let losses: Vec<String> = (0..21)
        .map(|n| provider(n, now_s - 1000, true))
        .chain((0..20).map(lost))
        .collect();
    post_all(&url, &losses).await;
    let firing = |count: usize| {
        let variables = &variables;
        async move {
            (alerts(variables)
                .iter()
                .filter(|alert| is_notified(alert, "firing"))
                .count()
                == count)
                .then_some(())
        }
    };
    until("all are notified", || firing(20)).await;
    let messages = slack.messages();
    for _ in 0..2 {
        print(&variables, &["rebuild", "--yes"]);
    }
    // One more alert shows that alerting works again.
    post_all(&url, &[lost(20)]).await;
    until("one more is notified", || firing(21)).await;
    let after = slack.messages();
    assert_eq!(after.len(), 21);
    for (before, after) in messages.iter().zip(&after) {
        assert_eq!(before.text, after.text);
    }
    assert!(
        alerts(&variables)
            .iter()
            .all(|alert| alert["state"] == "firing")
    );
}

#[test]
fn a_rebuild_that_is_not_confirmed_opens_nothing() {
    // There is no store yet. The missing confirmation is found first.
    let output = cli(&Deployment::embedded().variables(&[]), &["rebuild"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("--yes"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_requeued_and_discarded_embedded() {
    dead_letters_are_listed_requeued_and_discarded(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_requeued_and_discarded_on_servers() {
    dead_letters_are_listed_requeued_and_discarded(&Deployment::servers().await).await;
}

async fn dead_letters_are_listed_requeued_and_discarded(deployment: &Deployment) {
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let client = reqwest::Client::new();
    for n in 0..3 {
        assert_eq!(
            post(&client, &process.url("/webhooks/stripe"), &unreadable(n))
                .await
                .expect("answered"),
            200
        );
    }
    let list = || -> Vec<Value> {
        serde_json::from_str(&print(&variables, &["dead", "list", "--json"])).expect("JSON")
    };
    until("three are dead letters", || async {
        (list().len() == 3).then_some(())
    })
    .await;
    let shown = print(&variables, &["dead", "show", "evt_1"]);
    assert!(
        shown.contains("\"status\":true") && shown.contains("payout.paid"),
        "{shown}"
    );
    let by_delivery = list()[0]["delivery_id"].as_str().expect("an id").to_owned();
    assert!(print(&variables, &["dead", "show", &by_delivery]).contains(&by_delivery));
    assert!(!cli(&variables, &["dead", "show", "evt_9"]).status.success());

    // A requeued delivery becomes a dead letter again, is counted again, and has a new delivery id.
    let before = list();
    let replayed = print(&variables, &["dead", "replay", "evt_1"]);
    assert!(replayed.contains("1 requeued, 2 left"), "{replayed}");
    until("it is a dead letter again", || async {
        (metrics(&variables)["events_dead"] == 4).then_some(())
    })
    .await;
    until("all three are listed", || async {
        (list().len() == 3).then_some(())
    })
    .await;
    let ids = |letters: &[Value]| -> Vec<Value> {
        letters.iter().map(|l| l["delivery_id"].clone()).collect()
    };
    let after = list();
    assert_eq!(
        ids(&before)
            .iter()
            .filter(|id| ids(&after).contains(id))
            .count(),
        2
    );

    assert!(
        print(&variables, &["dead", "drop", "evt_0", "--by", "ada"])
            .contains("1 discarded, 2 left")
    );
    let unknown = cli(&variables, &["dead", "drop", "evt_0"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no dead letter has the id evt_0"));
    for command in ["drop", "replay"] {
        let nothing = cli(&variables, &["dead", command]);
        let error = String::from_utf8_lossy(&nothing.stderr).into_owned();
        assert!(error.contains("<ID|--all>"), "{error}");
    }
    assert!(
        print(
            &variables,
            &["dead", "drop", "--all", "--reason", "nothing like it"]
        )
        .contains("0 discarded")
    );
    assert!(print(&variables, &["dead", "drop", "--all"]).contains("2 discarded, 0 left"));
    until("no dead letter is left", || async {
        list().is_empty().then_some(())
    })
    .await;
    assert!(print(&variables, &["audit"]).contains("evt_0: 1 dead letter(s) discarded"));

    // The archive has all of them. A replay does not bring handled dead letters back, and every
    // other delivery counts one time.
    assert_eq!(
        post(&client, &process.url("/webhooks/stripe"), &unreadable(3))
            .await
            .expect("answered"),
        200
    );
    until("one is a dead letter", || async {
        (list().len() == 1).then_some(())
    })
    .await;
    print(&variables, &["rebuild", "--yes"]);
    until("they are counted again", || async {
        (metrics(&variables)["events_dead"] == 5).then_some(())
    })
    .await;
    assert_eq!(list()[0]["event_id"], "evt_3");
    assert!(print(&variables, &["dead", "drop", "--all"]).contains("1 discarded, 0 left"));
    process.stop();
}

fn unreadable(n: usize) -> String {
    json!({
        "id": format!("evt_{n}"), "object": "event", "type": "payout.paid", "created": 1_790_000_000,
        "data": {"object": {"id": format!("po_{n}"), "object": "payout", "status": true, "amount": 1, "currency": "eur"}},
    })
    .to_string()
}

/// An entity that cannot be decoded blocks its partition, which is reported; other partitions
/// continue.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_partition_is_reported() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    let Deployment::Embedded(folder) = &deployment else {
        panic!("an embedded deployment")
    };
    let history = History::new(61, 8, jiff::Timestamp::now().as_second());
    let process = Revwatch::serve(&variables, "ingest,worker");
    load(&process, &history.events, history.events.len()).await;
    let all = history.events.len();
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == all).then_some(())
    })
    .await;
    until("nothing fails", || async {
        metrics_contain(&process, "revwatch_partition_failing{partition=\"0\"} 0").await
    })
    .await;
    process.stop();
    let file = rusqlite::Connection::open(folder.path().join(FILE_NAME)).expect("the file");
    let corrupt = "UPDATE entities SET body = x'ff' WHERE kind = 'payout' AND id = 'po_1' RETURNING partition";
    let partition: u32 = file
        .query_row(corrupt, [], |row| row.get(0))
        .expect("a payout");
    drop(file);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let of_payout = history
        .events
        .iter()
        .find(|event| event.contains("\"po_1\""))
        .expect("an event of it");
    let again = of_payout.replacen("evt_", "evt_again_", 1);
    load(&process, &[again], 1).await;
    let fails = format!("revwatch_partition_failing{{partition=\"{partition}\"}} 1");
    until("the failing partition is reported", || async {
        metrics_contain(&process, &fails).await
    })
    .await;
    let page = process.metrics_page().await.expect("a page");
    let failing = page
        .lines()
        .filter(|line| line.starts_with("revwatch_partition_failing{") && line.ends_with(" 1"));
    assert_eq!(failing.count(), 1, "{page}");
    // A retry does not help: this is not a temporary outage.
    let ready = async || {
        let answer = reqwest::get(process.admin("/readyz"))
            .await
            .expect("answered");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let reason = format!("partition {partition}: the store holds unreadable data, see the log");
    until("the process is not ready", || async {
        let (status, text) = ready().await;
        (status == 503 && text.contains(&reason)).then_some(())
    })
    .await;
    let is_error =
        |line: &Value| line["level"] == "ERROR" && line["error"].to_string().contains("po_1");
    assert!(
        process.logged("partition backs off").iter().all(is_error),
        "{:?}",
        process.logged("partition backs off")
    );

    let repair = "DELETE FROM entities WHERE kind = 'payout' AND id = 'po_1'";
    rusqlite::Connection::open(folder.path().join(FILE_NAME))
        .expect("the file")
        .execute(repair, [])
        .expect("fixed");
    until("it is ready again", || async {
        (ready().await.0 == 200).then_some(())
    })
    .await;
    process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_rebuilt_from_the_archive_embedded() {
    state_is_rebuilt_from_the_archive(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_rebuilt_from_the_archive_on_servers() {
    state_is_rebuilt_from_the_archive(&Deployment::servers().await).await;
}

/// Without a running process, and while processes run and receive more.
async fn state_is_rebuilt_from_the_archive(deployment: &Deployment) {
    let variables = deployment.variables(&[]);
    let history = History::new(31, 60, jiff::Timestamp::now().as_second());
    let deliveries = history.delivered(5);
    let repeats = deliveries.len() - history.events.len();
    let process = Revwatch::serve(&variables, "ingest,worker");
    load(&process, &deliveries, deliveries.len()).await;
    let all = |variables: &Variables| {
        let shown = metrics(variables);
        shown["events_applied"] == history.events.len() && shown["events_duplicate"] == repeats
    };
    until("all are applied", || async {
        all(&variables).then_some(())
    })
    .await;
    let refused = cli(&variables, &["rebuild"]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("--yes"),
        "the error names the option"
    );
    let known: Value =
        serde_json::from_str(&print(&variables, &["replay", "--from", "1h", "--json"]))
            .expect("JSON");
    assert_eq!(
        (&known["read"], &known["known"]),
        (&deliveries.len().into(), &deliveries.len().into()),
        "{known}"
    );

    print(&variables, &["rebuild", "--yes"]);
    until("everything is rebuilt while a worker runs", || async {
        all(&variables).then_some(())
    })
    .await;
    process.stop();
    let rebuilt: Value =
        serde_json::from_str(&print(&variables, &["rebuild", "--yes", "--json"])).expect("JSON");
    assert_eq!(
        (&rebuilt["read"], &rebuilt["applied"]),
        (&deliveries.len().into(), &history.events.len().into())
    );
    assert!(all(&variables), "{}", metrics(&variables));
    history.expected.assert_shown(&metrics(&variables));
    assert!(cli(&variables, &["verify"]).status.success());
    same_exports(&variables, &history.events).await;
}

pub(super) async fn metrics_contain(process: &Revwatch, line: &str) -> Option<()> {
    let page = process.metrics_page().await?;
    page.lines().any(|found| found == line).then_some(())
}
