//! SIGHUP: secrets, rules, routes and tokens change while revwatch runs. No request is refused, and
//! nothing is lost or sent twice.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use revwatch_core::signature::SigningKey;
use revwatch_storage::sqlite::FILE_NAME;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Deployment;
use crate::support::port::free_port;
use crate::support::providers::{Settings, alerts, is_notified, post_all, updated};
use crate::support::revwatch::{Revwatch, SECRET, Variables, post_signed};
use crate::support::slack::{ScriptedFault, Slack};
use crate::support::stripe::{Stripe, account};
use crate::support::wait::until;

/// Short intervals, with a high rate limit, so that notifications are not delayed.
const ALERTING: &str = "[alerting]\ntick_seconds = 0.1\nmessages_per_second = 100.0\n";

/// The value of a series; 0 if it is not on the metrics page.
async fn metric(process: &Revwatch, series: &str) -> f64 {
    process.metric(series).await.unwrap_or_default()
}

/// Makes `process` reload its settings, and waits for the result.
async fn reload(process: &Revwatch, outcome: &str) {
    let name = format!("revwatch_config_reloads_total{{outcome=\"{outcome}\"}}");
    let before = metric(process, &name).await;
    process.hang_up();
    until(&format!("a reload is {outcome}"), || async {
        (metric(process, &name).await > before).then_some(())
    })
    .await;
    let ok = f64::from(outcome == "applied");
    assert_eq!(
        metric(process, "revwatch_config_last_reload_ok").await,
        ok,
        "{:?}",
        process.log()
    );
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn event(id: &str) -> String {
    json!({"id": id, "object": "event", "type": "made.up", "created": now_s(), "livemode": true})
        .to_string()
}

/// Clients that post without a pause; each event is signed with one of the secrets valid at that
/// time.
struct Senders {
    valid: Arc<Mutex<Vec<&'static str>>>,
    stop: Arc<AtomicBool>,
    sent: Vec<Arc<AtomicUsize>>,
    tasks: Vec<tokio::task::JoinHandle<Vec<(&'static str, u16)>>>,
}

impl Senders {
    const MAX_REQUESTS: usize = 20_000;

    fn start(url: &str, valid: &[&'static str]) -> Self {
        let (valid, stop) = (
            Arc::new(Mutex::new(valid.to_vec())),
            Arc::new(AtomicBool::new(false)),
        );
        let sent: Vec<_> = (0..6).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let send = |(number, sent): (usize, &Arc<AtomicUsize>)| {
            let (url, valid, stop, sent) =
                (url.to_owned(), valid.clone(), stop.clone(), sent.clone());
            tokio::spawn(async move {
                let (client, mut answers) = (reqwest::Client::new(), Vec::new());
                while !stop.load(Ordering::SeqCst) && answers.len() < Self::MAX_REQUESTS {
                    let n = answers.len();
                    let secret = {
                        let valid = valid.lock().expect("no panic");
                        valid[n % valid.len()]
                    };
                    let body = event(&format!("evt_{number}_{n}"));
                    answers.push((
                        secret,
                        post_signed(&client, &url, &body, secret)
                            .await
                            .expect("answered"),
                    ));
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                answers
            })
        };
        let tasks = sent.iter().enumerate().map(send).collect();
        Self {
            valid,
            stop,
            sent,
            tasks,
        }
    }

    /// Changes the signing secrets. Returns when no request signed with another secret is in
    /// flight.
    async fn sign_with(&self, secrets: &[&'static str]) {
        *self.valid.lock().expect("no panic") = secrets.to_vec();
        let counts = || {
            self.sent
                .iter()
                .map(|sent| sent.load(Ordering::SeqCst))
                .collect::<Vec<_>>()
        };
        let before = counts();
        until("every sender has continued", || async {
            counts()
                .iter()
                .zip(&before)
                .all(|(now, before)| *now >= before + 5)
                .then_some(())
        })
        .await;
    }

    /// All responses.
    async fn stop(self) -> Vec<(&'static str, u16)> {
        self.stop.store(true, Ordering::SeqCst);
        let mut answers = Vec::new();
        for task in self.tasks {
            answers.extend(task.await.expect("no panic"));
        }
        answers
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_under_load_without_refusing_an_event() {
    rotated_under_load(&Deployment::embedded(), "ingest,worker,alerting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_under_load_on_rabbitmq_and_redis() {
    let deployment = Deployment::servers().await;
    let others =
        ["worker", "alerting"].map(|roles| Revwatch::serve(&deployment.variables(&[]), roles));
    rotated_under_load(&deployment, "ingest").await;
    others.into_iter().for_each(Revwatch::stop);
}

async fn rotated_under_load(deployment: &Deployment, roles: &str) {
    const OLD: &str = "whsec_old";
    const NEW: &str = "whsec_new";
    let settings = Settings::of_providers("");
    let eu = settings.write("eu", "whsec_eu\n");
    let file = settings.write("secret", OLD);
    let mut variables =
        settings.variables(deployment.variables(&[("STRIPE_WEBHOOK_SECRET_FILE", &file)]));
    variables.push(("STRIPE_WEBHOOK_SECRET".into(), String::new()));
    let process = Revwatch::serve(&variables, roles);
    let (client, url) = (reqwest::Client::new(), process.url("/webhooks/stripe"));
    let post = async |path: &str, id: &str, secret: &str| {
        post_signed(&client, &process.url(path), &event(id), secret)
            .await
            .expect("answered")
    };
    assert_eq!(post("/webhooks/stripe", "evt_early", NEW).await, 400);
    let senders = Senders::start(&url, &[OLD]);
    senders.sign_with(&[OLD]).await;
    settings.write("secret", &format!("{OLD},{NEW}\n"));
    reload(&process, "applied").await;
    senders.sign_with(&[OLD, NEW]).await;
    // A reload that changes nothing or is refused must not affect them either.
    reload(&process, "applied").await;
    settings.write("secret", "");
    reload(&process, "refused").await;
    senders.sign_with(&[OLD, NEW]).await;
    senders.sign_with(&[NEW]).await;
    settings.write("secret", NEW);
    settings.write(
        "revwatch.toml",
        &format!("[[endpoints]]\nname = \"eu\"\npath = \"/webhooks/eu\"\nsecret_file = \"{eu}\"\n"),
    );
    assert_eq!(post("/webhooks/eu", "evt_eu_0", "whsec_eu").await, 404);
    reload(&process, "applied").await;
    assert_eq!(
        post("/webhooks/stripe", "evt_late", OLD).await,
        400,
        "the old one is refused immediately"
    );
    senders.sign_with(&[NEW]).await;
    let answers = senders.stop().await;
    let refused: Vec<_> = answers
        .iter()
        .filter(|(_, status)| *status != 200)
        .collect();
    assert!(refused.is_empty(), "of {}: {refused:?}", answers.len());
    for secret in [OLD, NEW] {
        assert!(
            answers
                .iter()
                .filter(|(signed, _)| *signed == secret)
                .count()
                > 50,
            "{secret}: {}",
            answers.len()
        );
    }
    let stored = metric(
        &process,
        "revwatch_ingest_requests_total{endpoint=\"stripe\",outcome=\"stored\"}",
    )
    .await;
    let answered = u32::try_from(answers.len()).expect("few");
    assert_eq!(stored, f64::from(answered));
    // An endpoint's file is read again as well, and a removed endpoint is gone.
    assert_eq!(post("/webhooks/eu", "evt_eu_1", "whsec_eu").await, 200);
    settings.write("eu", "whsec_eu_new");
    reload(&process, "applied").await;
    assert_eq!(post("/webhooks/eu", "evt_eu_2", "whsec_eu").await, 400);
    assert_eq!(post("/webhooks/eu", "evt_eu_3", "whsec_eu_new").await, 200);
    settings.write("revwatch.toml", "partitions = 16\n");
    reload(&process, "applied").await;
    assert_eq!(post("/webhooks/eu", "evt_eu_4", "whsec_eu_new").await, 404);
    let waiting = process.logged("some changed settings need a restart");
    assert_eq!(waiting.last().expect("a warning")["settings"], "partitions");
    let log = format!("{:?}", process.log());
    assert!(
        !log.contains(OLD) && !log.contains(NEW),
        "secrets are in no log"
    );
    process.stop();
}

/// Sends the head of a request, runs an action, then sends the body; returns the status.
async fn post_around(
    process: &Revwatch,
    id: &str,
    secret: &str,
    between: impl AsyncFnOnce(),
) -> String {
    let (body, url) = (event(id), process.url(""));
    let address = url.strip_prefix("http://").expect("a loopback address");
    let signature = SigningKey::new(secret)
        .expect("a secret")
        .header(now_s(), body.as_bytes());
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connected");
    let head = format!(
        "POST /webhooks/stripe HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         stripe-signature: {signature}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    // The body is requested: the endpoint has been selected.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.expect("asked");
    assert!(
        asked.starts_with(b"HTTP/1.1 100 Continue"),
        "{}",
        String::from_utf8_lossy(&asked)
    );
    between().await;
    stream.write_all(body.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_in_flight_may_use_the_old_or_the_new_secret() {
    let (deployment, settings) = (Deployment::embedded(), Settings::of_providers(""));
    let file = settings.write("secret", "whsec_first");
    let mut variables =
        settings.variables(deployment.variables(&[("STRIPE_WEBHOOK_SECRET_FILE", &file)]));
    variables.push(("STRIPE_WEBHOOK_SECRET".into(), String::new()));
    let process = Revwatch::serve(&variables, "ingest,worker");
    let swap = async |secret: &str| {
        settings.write("secret", secret);
        reload(&process, "applied").await;
    };
    assert_eq!(
        post_around(&process, "evt_1", "whsec_first", async || swap(
            "whsec_second"
        )
        .await)
        .await,
        "200"
    );
    assert_eq!(
        post_around(&process, "evt_2", "whsec_third", async || swap(
            "whsec_third"
        )
        .await)
        .await,
        "200"
    );
    assert_eq!(
        post_around(&process, "evt_3", "whsec_first", async || swap(
            "whsec_second"
        )
        .await)
        .await,
        "400"
    );
    process.stop();
}

/// A rule about accounts that cannot take charges.
fn rule(name: &str, title: &str) -> String {
    format!(
        "[[rule]]\nname = \"{name}\"\nkind = \"condition\"\ncondition = \"charges_lost\"\nseverity = \"critical\"\n\
         route = \"alerts-critical\"\ntitle = \"{title}\"\nactions = [\"Call the provider.\"]\n"
    )
}

/// The alerts of a rule, newest last.
fn of_rule(variables: &Variables, rule: &str) -> Vec<Value> {
    alerts(variables)
        .into_iter()
        .filter(|alert| alert["rule"] == rule)
        .collect()
}

/// Accounts that lost the right to take charges.
fn losing(accounts: &[&str]) -> Vec<String> {
    let event = |account: &&str| {
        [true, false].map(|charges| {
            let created_s = now_s() - 60 + i64::from(!charges);
            updated(
                &format!("evt_{account}_{charges}"),
                account,
                created_s,
                charges,
                "under_review",
            )
        })
    };
    accounts.iter().flat_map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_survive_changes_of_rules_routes_and_tokens() {
    let deployment = Deployment::embedded();
    rules_change(&deployment, |variables| {
        let all = Revwatch::serve(variables, "ingest,worker,alerting");
        (vec![], all)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_survive_changes_of_rules_on_rabbitmq_and_redis() {
    let deployment = Deployment::servers().await;
    rules_change(&deployment, |variables| {
        let others = ["ingest", "worker"].map(|roles| Revwatch::serve(variables, roles));
        (others.into(), Revwatch::serve(variables, "alerting"))
    })
    .await;
}

/// `start` returns the other processes, the one with the ingest role first, and the one that
/// alerts.
async fn rules_change(
    deployment: &Deployment,
    start: impl FnOnce(&Variables) -> (Vec<Revwatch>, Revwatch),
) {
    let slack = Slack::start(&[]).await;
    let settings = Settings::new(ALERTING, &(rule("goes", "Goes") + &rule("stays", "Stays")));
    let token = settings.write("token", "xoxb-old");
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN_FILE", &token),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let variables = settings.variables(of_deployment);
    let (others, process) = start(&variables);
    let url = others.first().unwrap_or(&process).url("/webhooks/stripe");
    post_all(&url, &losing(&["acct_1"])).await;
    let both_fired = |variables: &Variables| {
        alerts(variables)
            .iter()
            .filter(|alert| is_notified(alert, "firing"))
            .count()
            == 2
    };
    until("both rules have fired", || async {
        both_fired(&variables).then_some(())
    })
    .await;
    let stays = of_rule(&variables, "stays").remove(0);
    assert_eq!(slack.messages().len(), 2);
    assert!(
        slack
            .calls()
            .iter()
            .all(|call| call.authorization == "Bearer xoxb-old")
    );

    // A file with a fault changes nothing, and the fault is logged.
    settings.write(
        "rules.toml",
        &(rule("comes", "Comes") + "[[rule]]\nname = 7\n"),
    );
    settings.write("token", "xoxb-never");
    reload(&process, "refused").await;
    let refused = process.logged("settings not reloaded; the previous ones stay active");
    let why = refused[0]["error"].as_str().expect("a reason").to_owned();
    assert!(why.contains("rules.toml:10:8"), "{why}");
    post_all(&url, &losing(&["acct_2"])).await;
    until("the old rules have fired", || async {
        let notified = |name: &str| {
            of_rule(&variables, name)
                .iter()
                .filter(|alert| is_notified(alert, "firing"))
                .count()
        };
        (notified("goes") == 2 && notified("stays") == 2).then_some(())
    })
    .await;
    assert!(
        slack
            .calls()
            .iter()
            .all(|call| call.authorization == "Bearer xoxb-old")
    );

    let before = slack.calls().len();
    settings.write(
        "rules.toml",
        &(rule("comes", "Comes") + &rule("stays", "Another title")),
    );
    settings.write("token", "xoxb-new");
    let routes = "[[alerting.routes]]\nrules = [\"comes\"]\nroute = \"billing\"\n[slack.channels]\nbilling = \"#billing\"\n";
    settings.write("revwatch.toml", &format!("{ALERTING}{routes}"));
    reload(&process, "applied").await;
    until(
        "the new rule has fired, and the alert of the old one is resolved",
        || async {
            let all = |name: &str, state: &str| {
                let found = of_rule(&variables, name);
                found.len() == 2 && found.iter().all(|alert| is_notified(alert, state))
            };
            (all("comes", "firing") && all("goes", "resolved") && all("stays", "firing"))
                .then_some(())
        },
    )
    .await;
    let later = slack.calls().split_off(before);
    assert!(
        later
            .iter()
            .all(|call| call.authorization == "Bearer xoxb-new"),
        "{later:?}"
    );
    let posted: Vec<_> = later
        .iter()
        .filter(|call| call.method == "chat.postMessage")
        .collect();
    assert_eq!(
        posted.len(),
        2,
        "unchanged alerts are not sent again: {later:?}"
    );
    assert!(
        posted.iter().all(|call| call.body["channel"] == "#billing"),
        "{posted:?}"
    );
    let same = of_rule(&variables, "stays")
        .into_iter()
        .find(|alert| alert["id"] == stays["id"])
        .expect("the same");
    assert_eq!(
        (&same["fired_at"], &same["notifications"]),
        (&stays["fired_at"], &stays["notifications"])
    );
    process.stop();
    others.into_iter().for_each(Revwatch::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_in_flight_during_a_reload_is_sent_one_time() {
    let (deployment, slack) = (Deployment::embedded(), Slack::start(&[]).await);
    slack.dawdle(7, Duration::from_millis(150));
    // An aborted attempt could not be verified, and its message would be repeated.
    slack.forbid_reading();
    let settings = Settings::of_providers(&format!("{ALERTING}group_above = 100\n"));
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let variables = settings.variables(of_deployment);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let accounts: Vec<String> = (0..25).map(|n| format!("acct_{n}")).collect();
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    post_all(&process.url("/webhooks/stripe"), &losing(&names)).await;
    let reloads = || process.logged("alerting uses new settings").len();
    for round in 1..=5 {
        let notified = slack.messages().len();
        until("a notification arrives", || async {
            (slack.messages().len() > notified || notified == 25).then_some(())
        })
        .await;
        reload(&process, "applied").await;
        until("alerting uses the new settings", || async {
            (reloads() >= round).then_some(())
        })
        .await;
    }
    until("all are notified", || async {
        let found = alerts(&variables);
        (found.len() == 25 && found.iter().all(|alert| is_notified(alert, "firing"))).then_some(())
    })
    .await;
    process.stop();
    let mut notified: Vec<_> = slack
        .messages()
        .iter()
        .map(|message| message.alert_id().to_owned())
        .collect();
    notified.sort();
    notified.dedup();
    assert_eq!((notified.len(), slack.messages().len()), (25, 25));
    let repeats = slack
        .calls()
        .iter()
        .filter(|call| call.body.to_string().contains("may have been sent"))
        .count();
    assert_eq!(repeats, 0, "{:?}", slack.calls());
}

#[tokio::test]
async fn failed_notifications_are_retried_immediately_with_the_new_token() {
    let (deployment, slack) = (
        Deployment::embedded(),
        Slack::start(&[ScriptedFault::Error("token_revoked")]).await,
    );
    let settings = Settings::of_providers(ALERTING);
    let token = settings.write("token", "xoxb-revoked");
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN_FILE", &token),
        ("SLACK_API_BASE", &slack.url()),
    ]);
    let variables = settings.variables(of_deployment);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    post_all(&process.url("/webhooks/stripe"), &losing(&["acct_1"])).await;
    until("Slack has refused it permanently", || async {
        alerts(&variables)
            .pop()
            .filter(|alert| !alert["notifications"]["slack"]["broken"].is_null())
    })
    .await;
    settings.write("token", "xoxb-new");
    reload(&process, "applied").await;
    until("Slack has it", || async {
        alerts(&variables)
            .pop()
            .filter(|alert| is_notified(alert, "firing"))
    })
    .await;
    let tokens: Vec<_> = slack
        .calls()
        .into_iter()
        .map(|call| call.authorization)
        .collect();
    assert_eq!(tokens, ["Bearer xoxb-revoked", "Bearer xoxb-new"]);
    process.stop();
}

#[tokio::test]
async fn slacks_signing_secret_is_rotated() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let (deployment, settings) = (Deployment::embedded(), Settings::of_providers(ALERTING));
    let file = settings.write("signing", "old");
    let variables = settings.variables(deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", "http://127.0.0.1:9"),
        ("SLACK_SIGNING_SECRET_FILE", &file),
        ("SLACK_INTERACTIVITY_LISTEN", &listen),
    ]));
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let press = async |secret: &str| {
        let (body, signed_s) = ("payload=%7B%7D", now_s().to_string());
        let key = SigningKey::new(secret).expect("a secret");
        let signature = key.sign(&[b"v0:", signed_s.as_bytes(), b":", body.as_bytes()]);
        let request = reqwest::Client::new()
            .post(format!("http://{listen}/slack/interactivity"))
            .body(body);
        let request = request.header("x-slack-request-timestamp", &signed_s);
        let answer = request
            .header("x-slack-signature", format!("v0={signature}"))
            .send()
            .await
            .expect("an answer");
        answer.status().as_u16()
    };
    // 400: the signature is valid and the request is empty.
    assert_eq!((press("old").await, press("new").await), (400, 401));
    for (secrets, old, new) in [("old,new", 400, 400), ("new", 401, 400)] {
        settings.write("signing", secrets);
        reload(&process, "applied").await;
        assert_eq!(
            (press("old").await, press("new").await),
            (old, new),
            "{secrets}"
        );
    }
    process.stop();
}

#[tokio::test]
async fn accounts_are_fetched_with_the_reloaded_key() {
    let (deployment, stripe, settings) = (
        Deployment::embedded(),
        Stripe::start(&[]).await,
        Settings::of_providers(ALERTING),
    );
    stripe.set_account(account("acct_1", true));
    let variables = settings.variables(deployment.variables(&[("STRIPE_API_BASE", &stripe.url())]));
    let process = Revwatch::serve(&variables, "ingest,worker");
    let url = process.url("/webhooks/stripe");
    let thin = |event: &str| {
        json!({
            "id": event, "object": "v2.core.event", "type": "v2.core.account[requirements].updated",
            "created": jiff::Timestamp::from_second(now_s()).expect("a time").to_string(), "livemode": true,
            "related_object": {"id": "acct_1", "type": "v2.core.account", "url": "/v2/core/accounts/acct_1"},
        })
        .to_string()
    };
    post_all(&url, &[thin("evt_1")]).await;
    for (n, key) in ["rk_live_first", "rk_live_second"].into_iter().enumerate() {
        settings.write(
            "revwatch.toml",
            &format!("stripe_secret_key = \"{key}\"\n{ALERTING}"),
        );
        reload(&process, "applied").await;
        // The first request is already waiting.
        if n > 0 {
            post_all(&url, &[thin(&format!("evt_{}", n + 1))]).await;
        }
        until("the account is requested", || async {
            let call = stripe.calls().pop()?;
            (call.authorization == format!("Bearer {key}") && call.status == 200).then_some(())
        })
        .await;
    }
    process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_during_startup_is_handled_after_it() {
    let deployment = Deployment::embedded();
    let Deployment::Embedded(folder) = &deployment else {
        panic!("an embedded deployment")
    };
    let variables = deployment.variables(&[]);
    Revwatch::serve(&variables, "ingest,worker").stop();
    let store = rusqlite::Connection::open(folder.path().join(FILE_NAME)).expect("the file");
    store
        .execute_batch("BEGIN IMMEDIATE")
        .expect("no request can begin");
    let mut process = Revwatch::spawn(&variables, "ingest,worker");
    until("it handles SIGHUP", || async {
        process.handles_hangups().then_some(())
    })
    .await;
    assert_eq!(process.logged("started").len(), 0);
    process.hang_up();
    store.execute_batch("ROLLBACK").expect("go on");
    process.has_started("ingest,worker");
    let name = "revwatch_config_reloads_total{outcome=\"applied\"}";
    until("it is answered", || async {
        (metric(&process, name).await == 1.0).then_some(())
    })
    .await;
    let status = post_signed(
        &reqwest::Client::new(),
        &process.url("/webhooks/stripe"),
        &event("evt_1"),
        SECRET,
    )
    .await;
    assert_eq!(status.expect("answered"), 200);
    process.stop();
}
