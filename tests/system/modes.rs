//! A deployment shows one mode: events of the other are stored and change nothing.

use serde_json::{Value, json};

use super::{Deployment, shipped_rules};
use crate::support::providers::{Settings, alerts, post_all};
use crate::support::revwatch::{Revwatch, SECRET, Variables, cli, metrics, print};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_shows_one_mode_embedded() {
    only_the_own_mode_counts(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_shows_one_mode_on_servers() {
    only_the_own_mode_counts(&Deployment::servers().await).await;
}

/// Live and test events of a connected account come to one endpoint, as Stripe sends them. Later the
/// mode of the deployment is corrected.
async fn only_the_own_mode_counts(deployment: &Deployment) {
    let rules = shipped_rules(&["account_disabled", "payout_failed"]);
    let rules = rules.path().display().to_string();
    let mut variables = deployment.variables(&[("REVWATCH_RULES", &rules)]);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let url = process.url("/webhooks/stripe");
    // The test events first: once the live payout has alerted, the test payout has not.
    let events = [of_mode("test", 7700), of_mode("live", 1000)].concat();
    post_all(&url, &events).await;
    shows(&variables, "live", 1000).await;
    until(
        "the log names the ignored events and the setting",
        || async {
            let said = |line: &Value| {
                let text = line["message"].as_str().unwrap_or_default();
                text.contains("of test mode ignored") && text.contains("REVWATCH_MODE")
            };
            process.log().iter().any(said).then_some(())
        },
    )
    .await;
    let outcome = "revwatch_worker_events_total{outcome=\"other_mode\",type=\"payout.failed\"}";
    assert_eq!(process.metric(outcome).await, Some(1.0));
    process.stop();

    variables.push(("REVWATCH_MODE".into(), "test".into()));
    let process = Revwatch::serve(&variables, "worker,alerting");
    let mut of_live = variables.clone();
    of_live.push(("REVWATCH_MODE".into(), "live".into()));
    let is_refused = |args: &[&str]| {
        let output = cli(&of_live, &[args, &["--by", "ada"]].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        !output.status.success() && text.contains("1 worker(s) run in test mode")
    };
    // Until the worker is known, this replay changes nothing: the state is still that of live mode.
    until("a replay in live mode is refused", || async {
        is_refused(&["replay", "--from", "1h"]).then_some(())
    })
    .await;
    assert!(is_refused(&["rebuild", "--yes"]));
    // Whatever mode a command is given: the workers' is shown.
    assert_eq!(metrics(&of_live)["mode"], "test");
    print(&variables, &["rebuild", "--yes", "--by", "ada"]);
    shows(&variables, "test", 7700).await;
    let replayed = print(&variables, &["replay", "--from", "1h", "--by", "ada"]);
    assert!(replayed.contains("this deployment is test"), "{replayed}");
    process.stop();
    assert_eq!(
        metrics(&of_live)["mode"],
        "live",
        "without workers, the setting's"
    );
}

/// A live deployment with an endpoint for test events only, which a reload opens.
#[tokio::test(flavor = "multi_thread")]
async fn the_mode_of_an_endpoint_narrows_that_of_the_deployment_and_is_reloaded() {
    let endpoint = |mode: &str| {
        format!(
            "[[endpoints]]\nname = \"eu\"\npath = \"/eu\"\nsecrets = [\"{SECRET}\"]\nmode = \"{mode}\"\n"
        )
    };
    let settings = Settings::of_providers(&endpoint("test"));
    let deployment = Deployment::embedded();
    let variables = settings.variables(deployment.variables(&[]));
    let process = Revwatch::serve(&variables, "ingest,worker");
    let url = process.url("/eu");
    let counts = |applied: u64, other_mode: u64| {
        let variables = &variables;
        async move {
            let shown = metrics(variables);
            let (own, other) = (&shown["events_applied"], &shown["events_other_mode"]);
            (*own == applied && *other == other_mode).then_some(())
        }
    };
    let live = of_mode("live", 1000);
    post_all(&url, &live[..1]).await;
    until("the endpoint's mode is another", || counts(0, 1)).await;
    settings.write("revwatch.toml", &endpoint("any"));
    process.hang_up();
    until("the settings are reloaded", || async {
        (process.logged("settings reloaded").len() == 1).then_some(())
    })
    .await;
    // The first one again: it is another delivery, which is judged by itself.
    post_all(&url, &live).await;
    until("both are applied", || counts(2, 1)).await;
    until("the log names the endpoint's mode", || async {
        let said = |line: &Value| {
            let text = line["message"].as_str().unwrap_or_default();
            text.contains("1 events of live mode ignored") && text.contains("[[endpoints]]")
        };
        process.log().iter().any(said).then_some(())
    })
    .await;
    process.stop();
}

/// Waits until exactly the events of `mode` are applied and their failed payout has alerted.
async fn shows(variables: &Variables, mode: &str, mrr_minor: u64) {
    let shown = until("all events are counted", || async {
        let shown = metrics(variables);
        let counted = shown["events_applied"] == 2 && shown["events_other_mode"] == 2;
        counted.then_some(shown)
    })
    .await;
    let connected = &shown["connected"]["mrr_minor"];
    assert_eq!(*connected, json!({"eur": mrr_minor}), "{shown}");
    assert_eq!(shown["payouts"], json!({"failed": 1}), "{shown}");
    until("the failed payout alerts, and no other", || async {
        let firing = alerts(variables);
        let subjects: Vec<_> = firing
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| alert["subject"].to_string())
            .collect();
        (subjects.len() == 1 && subjects[0].contains(&format!("po_{mode}"))).then_some(())
    })
    .await;
    assert!(cli(variables, &["verify"]).status.success());
    let backtest = ["rules", "backtest", "--since", "1h", "--json"];
    let played: Value = serde_json::from_str(&print(variables, &backtest)).expect("JSON");
    let fired = played["alerts"].as_array().expect("a list");
    let is_own = |alert: &Value| alert["subject"].to_string().contains(&format!("po_{mode}"));
    assert!(fired.len() == 1 && fired.iter().all(is_own), "{played}");
}

/// A subscription and a failed payout of one account.
fn of_mode(mode: &str, mrr_minor: u64) -> Vec<String> {
    let price = json!({"id": "price_1", "unit_amount": mrr_minor, "recurring": {"interval": "month", "interval_count": 1}});
    let subscription = json!({
        "id": format!("sub_{mode}"), "object": "subscription", "customer": "cus_1", "status": "active", "currency": "eur",
        "items": {"data": [{"price": price, "quantity": 1}]}});
    let payout = json!({
        "id": format!("po_{mode}"), "object": "payout", "status": "failed", "amount": mrr_minor, "currency": "eur",
        "failure_code": "account_closed"});
    let event = |kind: &str, object: Value| {
        json!({
            "id": format!("evt_{mode}_{kind}"), "object": "event", "api_version": "2025-03-31.basil", "type": kind,
            "created": jiff::Timestamp::now().as_second(), "account": "acct_1", "livemode": mode == "live",
            "data": {"object": object}})
        .to_string()
    };
    vec![
        event("customer.subscription.created", subscription),
        event("payout.failed", payout),
    ]
}
