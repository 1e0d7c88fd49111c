//! Two processes with the alerting role, one of which is killed repeatedly: nothing is lost and
//! nothing is sent twice.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Deployment;
use crate::support::is_long;
use crate::support::providers::{Settings, alerts, is_notified, post_all, updated};
use crate::support::revwatch::{Revwatch, Variables, metrics};
use crate::support::slack::Slack;
use crate::support::wait::{until, until_or};

const ACCOUNTS: usize = 30;
const SETTINGS: &str = "[alerting]\ntick_seconds = 0.05\nlease_seconds = 0.8\nmessages_per_second = 200.0\n\
                        group_above = 100000\n";
/// The seed of the kill times and of the process to kill.
const SEED: u64 = 20_261_119;

/// The posted events and the resulting state of the accounts.
struct Business {
    rng: Rng,
    url: String,
    begin_s: i64,
    rounds: i64,
    posted: usize,
    lost: [bool; ACCOUNTS],
    /// How often an account lost its charges.
    losses: usize,
}

impl Business {
    /// These accounts lose or regain charges, one second after the previous round.
    async fn toggle(&mut self, accounts: &[usize]) {
        self.rounds += 1;
        let mut bodies = Vec::new();
        for &n in accounts {
            let (event, created_s) = (format!("evt_{}", self.posted), self.begin_s + self.rounds);
            bodies.push(updated(
                &event,
                &format!("acct_{n}"),
                created_s,
                self.lost[n],
                "under_review",
            ));
            self.lost[n] = !self.lost[n];
            self.losses += usize::from(self.lost[n]);
            self.posted += 1;
        }
        post_all(&self.url, &bodies).await;
    }

    /// A loss lasts until an evaluator has seen it, and so does a recovery: a shorter one makes no difference.
    fn some(&mut self, variables: &Variables) -> Vec<usize> {
        let unseen = self.unseen(variables);
        let others = (0..ACCOUNTS)
            .filter(|n| !unseen.contains(n))
            .collect::<Vec<_>>();
        self.rng.choose_multiple(others, 3)
    }

    /// The accounts that have lost charges and have no alert, or have one and no longer lack them.
    fn unseen(&self, variables: &Variables) -> Vec<usize> {
        let alerts = alerts(variables);
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let seen: HashSet<&str> = firing
            .filter_map(|alert| alert["account"].as_str())
            .collect();
        (0..ACCOUNTS)
            .filter(|n| self.lost[*n] != seen.contains(format!("acct_{n}").as_str()))
            .collect()
    }

    /// Two changes of one account in one batch would cancel out.
    async fn applied(&self, variables: &Variables) {
        let applied =
            || async { (metrics(variables)["events_applied"] == self.posted).then_some(()) };
        until("posted events are applied", applied).await;
    }
}

/// The process that evaluates: the latest one that became the leader.
fn evaluator(pair: &[Revwatch]) -> Option<usize> {
    let fence =
        |process: &Revwatch| process.logged("this process evaluates").pop()?["fence"].as_u64();
    (0..pair.len())
        .filter_map(|i| Some((fence(&pair[i])?, i)))
        .max()
        .map(|(_, i)| i)
}

/// Whether it has evaluated and stored its position.
async fn has_evaluated(process: &Revwatch) -> Option<()> {
    let ticks = process
        .metric("revwatch_rule_evaluation_seconds_count")
        .await?;
    (ticks > 0.0).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standby_takes_over_from_a_killed_leader_without_loss_or_duplicates() {
    let kills = if is_long() { 200 } else { 15 };
    eprintln!("seed {SEED}, {kills} kills");
    let deployment = Deployment::servers().await;
    let slack = Slack::start(&[]).await;
    // A kill meets an attempt that has not arrived, or one that has arrived and is unanswered.
    slack.dawdle(SEED, Duration::from_millis(40));
    let settings = Settings::of_providers(SETTINGS);
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let variables = settings.variables(of_deployment);
    let front = Revwatch::serve(&variables, "ingest,worker");
    let mut pair = vec![
        Revwatch::serve(&variables, "alerting"),
        Revwatch::serve(&variables, "alerting"),
    ];
    let mut business = Business {
        rng: Rng::with_seed(SEED),
        url: front.url("/webhooks/stripe"),
        begin_s: jiff::Timestamp::now().as_second() - 1000,
        rounds: 0,
        posted: 0,
        lost: [true; ACCOUNTS],
        losses: 0,
    };
    // At first all accounts can take charges.
    business.toggle(&(0..ACCOUNTS).collect::<Vec<_>>()).await;
    // Before the first complete evaluation it is unknown which accounts lost charges and regained
    // them.
    until("one of them has evaluated", || async {
        has_evaluated(&pair[0])
            .await
            .or(has_evaluated(&pair[1]).await)
    })
    .await;
    let (began, mut evaluators_killed) = (Instant::now(), 0);
    for _ in 0..kills {
        business.applied(&variables).await;
        let accounts = business.some(&variables);
        business.toggle(&accounts).await;
        // The time of the crash; nothing is expected to have happened by then.
        tokio::time::sleep(Duration::from_millis(business.rng.u64(..600))).await;
        let evaluator = evaluator(&pair);
        let victim = evaluator
            .filter(|_| business.rng.u8(..4) > 0)
            .unwrap_or_else(|| business.rng.usize(..2));
        evaluators_killed += usize::from(evaluator == Some(victim));
        pair.swap_remove(victim).kill9();
        pair.push(Revwatch::serve(&variables, "alerting"));
    }
    let took = began.elapsed();
    business.applied(&variables).await;
    until("every loss has been seen", || async {
        business.unseen(&variables).is_empty().then_some(())
    })
    .await;
    let rest: Vec<usize> = (0..ACCOUNTS).filter(|n| business.lost[*n]).collect();
    business.toggle(&rest).await;
    let all = until_or(Duration::from_secs(60), "all are notified", || async {
        let alerts = alerts(&variables);
        let open: Vec<_> = alerts
            .iter()
            .filter(|alert| !is_notified(alert, "resolved"))
            .collect();
        if alerts.len() < business.losses || !open.is_empty() {
            let count = alerts.len();
            return Err(format!(
                "{count} alerts of {} losses, of which these are not resolved and notified: {open:#?}",
                business.losses
            ));
        }
        Ok(alerts)
    })
    .await;
    let calls = slack.calls().len();
    eprintln!(
        "{evaluators_killed} of {kills} kills were the evaluator's, {took:.0?}; {} alerts, {calls} calls",
        all.len()
    );
    assert_eq!(all.len(), business.losses, "one alert for each loss");
    let mut messages = BTreeMap::<String, Vec<String>>::new();
    for message in slack.messages() {
        messages
            .entry(message.alert_id().to_owned())
            .or_default()
            .push(message.text);
    }
    assert_eq!(messages.len(), all.len());
    for alert in &all {
        let sent = &messages[alert["id"].as_str().expect("an id")];
        assert!(
            sent.len() == 1 && sent[0].contains("RESOLVED"),
            "{alert} was notified with: {sent:#?}"
        );
    }
    for process in pair.into_iter().chain([front]) {
        process.stop();
    }
}
