//! Neither the log nor the metrics page ever holds a secret, card data or personal data, whatever
//! senders write into events, requests and commands, whatever peers answer, and however much is
//! logged.

use futures_util::StreamExt as _;
use revwatch_core::signature::SigningKey;
use revwatch_storage::ports::{COMMANDS, Documents as _};
use revwatch_storage::sqlite::{Open, Sqlite};
use serde_json::{Value, json};

use super::Deployment;
use crate::support::echo_server;
use crate::support::history::History;
use crate::support::providers::Settings;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics};
use crate::support::wait::{until, until_within};

/// A part of every secret.
const SECRET: &str = "hush";
const STRIPE: &str = "whsec_hush01stripe";
const SLACK: &str = "hush02slacksigning";

/// Personal data of customers and users, for events of all kinds.
const PERSONAL: [&str; 10] = [
    "4242424242424242",
    "4242 4242 4242 4242",
    "jane.doe@example.com",
    "Jane Q. Doewoman",
    "+351912345678",
    "221B Bakerstreet, NW1 6XE London",
    "GB29NWBK60161331926819",
    "evt_jane.doe@example.com",
    "4242-4242-4242-4242",
    "jane.doe@example.com\n{\"level\":\"INFO\"}",
];

/// Parts of it that must not appear, in any notation.
const TRACES_OF_THEM: [&str; 14] = [
    SECRET,
    "4242424242424242",
    "4242 4242",
    "4242-4242",
    "jane.doe",
    "jane%2edoe",
    "%40example",
    "Doewoman",
    "351912345678",
    "351910000001",
    "Bakerstreet",
    "29NWBK", // letters outside of hexadecimal ids
    "1331926819",
    "aHVzaA", // "hush" in Base64, at the beginning
];

/// An excessive length.
const LOG_ALL: &str = "info,lapin=warn,revwatch=trace,revwatch_ingest=trace,revwatch_worker=trace,revwatch_alerting=trace,revwatch_core=trace,revwatch_storage=trace,revwatch_runtime=trace";

/// Every notifier is configured and connects to a peer that echoes its input.
async fn variables_of(deployment: &Deployment, settings: &Settings, port: u16) -> Variables {
    let (peer, _) = echo_server::over_http().await;
    let mail = echo_server::over_smtp();
    settings.variables(deployment.variables(&[
        ("RUST_LOG", LOG_ALL),
        ("STRIPE_WEBHOOK_SECRET", STRIPE),
        ("STRIPE_KERNEL_WEBHOOK_SECRET", "whsec_hush03kernel"),
        ("STRIPE_SECRET_KEY", "sk_live_hush04key"),
        ("STRIPE_API_BASE", &peer),
        ("SLACK_BOT_TOKEN", "xoxb-hush05bot"),
        ("SLACK_API_BASE", &peer),
        ("SLACK_APP_TOKEN", "xapp-hush06app"),
        ("SLACK_SIGNING_SECRET", SLACK),
        ("SLACK_INTERACTIVITY_LISTEN", &format!("127.0.0.1:{port}")),
        (
            "SMTP_URL",
            &format!("smtp://hush07user:hush07password@{mail}"),
        ),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
        ("TWILIO_AUTH_TOKEN", "hush08twilio"),
        ("PAGERDUTY_ROUTING_KEY", "hush09pagerduty"),
        ("REVWATCH_WEBHOOK_URL", &format!("{peer}/hush10url")),
        (
            "REVWATCH_WEBHOOK_SECRET",
            "whsec_aHVzaDExd2ViaG9va2h1c2gxMXdlYmhvb2s=",
        ),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &peer),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20hush12otlp",
        ),
        ("USER", "jane.doe"),
    ]))
}

fn settings(peer: &str) -> Settings {
    let text = format!(
        "[alerting]\ntick_seconds = 0.1\nlease_seconds = 5.0\nmessages_per_second = 50.0\n\
         [email]\nfrom = \"jane.doe@example.com\"\n[email.to]\ndefault = [\"jane.doe@example.com\"]\n\
         [sms]\nfrom = \"+351910000001\"\napi_base = \"{peer}\"\n[sms.to]\ndefault = [\"+351912345678\"]\n\
         [pagerduty]\napi_base = \"{peer}\"\n"
    );
    Settings::new(&text, revwatch_alerting::rule_text::DEFAULT_RULES)
}

/// Real events, each with one value replaced by an unsuitable one, and with additional fields.
fn hostile_events() -> Vec<String> {
    let history = History::new(7, 6, jiff::Timestamp::now().as_second());
    let mut kinds = std::collections::BTreeSet::new();
    let models: Vec<Value> = history
        .events
        .iter()
        .filter_map(|body| serde_json::from_str::<Value>(body).ok())
        .filter(|event| kinds.insert(event["type"].as_str().unwrap_or_default().to_owned()))
        .collect();
    assert!(models.len() > 10, "{kinds:?}");
    let mut events: Vec<Value> = Vec::new();
    for model in &models {
        let mut with_more = model.clone();
        let object = &mut with_more["data"]["object"];
        let person = json!({"email": PERSONAL[2], "name": PERSONAL[3], "phone": PERSONAL[4], "address": {"line1": PERSONAL[5]}});
        for (key, value) in [
            ("billing_details", person.clone()),
            ("customer_details", person.clone()),
            ("receipt_email", json!(PERSONAL[2])),
            ("description", json!(PERSONAL[3])),
            ("statement_descriptor", json!(PERSONAL[0])),
            ("failure_message", json!(PERSONAL[6])),
            (
                "bank_account",
                json!({"iban": PERSONAL[6], "account_holder_name": PERSONAL[3]}),
            ),
            (
                "payment_method_details",
                json!({"card": {"number": PERSONAL[0], "name": PERSONAL[3]}}),
            ),
            (
                "metadata",
                json!({PERSONAL[2]: PERSONAL[0], "name": PERSONAL[3]}),
            ),
            (PERSONAL[2], json!(PERSONAL[4])),
        ] {
            object[key] = value;
        }
        events.push(with_more);
        let mut places = Vec::new();
        pointers(model, &mut String::new(), &mut places);
        for (place, personal) in places.iter().zip(PERSONAL.iter().cycle()) {
            let mut event = model.clone();
            *event.pointer_mut(place).expect("a field of it") = json!(personal);
            events.push(event);
            // An object in place of a string.
            let mut nested = model.clone();
            *nested.pointer_mut(place).expect("a field of it") = json!({*personal: [personal]});
            events.push(nested);
        }
        // Values that are displayed, counted by, or compared: all of them in each event.
        let watched = [
            "/id",
            "/type",
            "/account",
            "/status",
            "/currency",
            "/country",
            "/failure_code",
            "/code",
            "/reason",
        ];
        for place in places
            .iter()
            .filter(|place| watched.iter().any(|end| place.ends_with(end)))
        {
            for personal in PERSONAL {
                let mut event = model.clone();
                // A new type about which nothing is known.
                event["data"]["object"]["id"] = json!(format!("new_{}", events.len()));
                *event.pointer_mut(place).expect("a field of it") = json!(personal);
                events.push(event);
            }
        }
    }
    for (n, event) in events.iter_mut().enumerate() {
        if event["id"]
            .as_str()
            .is_some_and(|id| !PERSONAL.contains(&id))
        {
            event["id"] = json!(format!("evt_spoilt_{n}"));
        }
    }
    let mut bodies: Vec<String> = events.iter().map(Value::to_string).collect();
    for personal in PERSONAL {
        let quoted = json!(personal);
        bodies.push(format!(
            "{{\"id\":{quoted},\"object\":\"event\",\"type\":{quoted},\"created\":1790000000}}"
        ));
        bodies
            .push(format!("{{\"id\":{quoted},\"object\":\"event\",\"type\":\"payout.failed\",\"created\":{quoted}}}"));
        bodies.push(format!("{{\"id\":\"evt_x\",\"object\":\"event\" {quoted}"));
        bodies.push(quoted.to_string());
    }
    bodies
}

/// A field with a value that is neither an object nor a list.
fn pointers(value: &Value, at: &mut String, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(n, value)| (n.to_string(), value))
            .collect(),
        _ => {
            found.push(at.clone());
            return;
        }
    };
    for (key, value) in children {
        let length = at.len();
        at.push('/');
        at.push_str(&key);
        pointers(value, at, found);
        at.truncate(length);
    }
}

async fn post_signed(client: &reqwest::Client, url: &str, body: &str) -> u16 {
    let key = SigningKey::new(STRIPE).expect("a secret");
    let header = key.header(jiff::Timestamp::now().as_second(), body.as_bytes());
    let request = client
        .post(url)
        .header("stripe-signature", header)
        .header("content-type", "application/json");
    request
        .body(body.to_owned())
        .send()
        .await
        .expect("answered")
        .status()
        .as_u16()
}

/// Requests that are not events.
async fn knock(client: &reqwest::Client, process: &Revwatch) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let webhooks = process.url("/webhooks/stripe");
    for personal in PERSONAL {
        let one_line = personal.replace('\n', " ");
        for (path, header) in [
            (
                format!("/webhooks/{one_line}?card={one_line}"),
                "user-agent",
            ),
            ("/webhooks/stripe".to_owned(), "stripe-signature"),
            ("/webhooks/stripe".to_owned(), "traceparent"),
            ("/webhooks/stripe".to_owned(), "content-type"),
        ] {
            let request = client
                .post(process.url(&path))
                .header(header, &one_line)
                .header("x-name", &one_line);
            let _ = request.body(personal.to_owned()).send().await;
        }
        let _ = client
            .get(process.admin(&format!("/{one_line}")))
            .header("authorization", &one_line)
            .send()
            .await;
        let addr = webhooks
            .trim_start_matches("http://")
            .split('/')
            .next()
            .expect("an address");
        let mut stream = tokio::net::TcpStream::connect(addr)
            .await
            .expect("connected");
        stream
            .write_all(format!("{personal} {SECRET}\r\n\r\n").as_bytes())
            .await
            .expect("sent");
        let _ = stream.read(&mut [0; 512]).await;
    }
}

/// Requests that Slack could send, correctly signed.
async fn press(client: &reqwest::Client, port: u16) {
    let url = format!("http://127.0.0.1:{port}/slack/interactivity");
    let key = SigningKey::new(SLACK).expect("a secret");
    for personal in PERSONAL {
        let action = json!({"type": "button", "action_id": personal, "value": personal, "action_ts": personal});
        let known = json!({"type": "button", "action_id": "acknowledge", "value": personal, "action_ts": "1.1"});
        for payload in [
            json!({"type": personal}),
            json!({"type": "block_actions", "user": {"id": personal, "name": personal, "username": personal}, "actions": [action, known]}),
            json!({"type": "block_actions", "user": personal, "actions": personal}),
            json!(personal),
        ] {
            let encoded: String = payload
                .to_string()
                .bytes()
                .map(|byte| format!("%{byte:02X}"))
                .collect();
            let body = format!("payload={encoded}");
            let at = jiff::Timestamp::now().as_second().to_string();
            let signature = format!(
                "v0={}",
                key.sign(&[b"v0:", at.as_bytes(), b":", body.as_bytes()])
            );
            for signature in [signature.as_str(), "v0=00", personal] {
                let request = client.post(&url).header("x-slack-request-timestamp", &at);
                let request = request.header("x-slack-signature", signature.replace('\n', " "));
                request.body(body.clone()).send().await.expect("answered");
            }
        }
    }
}

fn assert_clean(what: &str, text: &str) {
    let holds = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        TRACES_OF_THEM
            .iter()
            .any(|trace| lower.contains(&trace.to_ascii_lowercase()))
    };
    let leaks: Vec<&str> = text.lines().filter(holds).collect();
    let some = leaks
        .iter()
        .take(20)
        .copied()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        leaks.is_empty(),
        "{} lines of {what} hold secrets or personal data, for instance\n{some}",
        leaks.len()
    );
}

fn lines(log: &[Value]) -> String {
    log.iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_with_every_feature_logs_no_secrets_or_personal_data() {
    logs_no_secrets_or_personal_data(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_on_rabbitmq_and_redis_log_no_secrets_or_personal_data() {
    logs_no_secrets_or_personal_data(&Deployment::servers().await).await;
}

async fn logs_no_secrets_or_personal_data(deployment: &Deployment) {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let (peer, asked) = echo_server::over_http().await;
    let settings = settings(&peer);
    let variables = variables_of(deployment, &settings, port).await;
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let client = reqwest::Client::new();
    let url = process.url("/webhooks/stripe");
    let bodies = hostile_events();
    let posts = futures_util::stream::iter(&bodies)
        .map(|body| post_signed(&client, &url, body))
        .buffer_unordered(16);
    let answers: Vec<u16> = posts.collect().await;
    let accepted = answers.iter().filter(|answer| **answer == 200).count();
    assert!(
        accepted > bodies.len() / 2 && answers.iter().all(|answer| matches!(answer, 200 | 400)),
        "{answers:?}"
    );
    knock(&client, &process).await;
    press(&client, port).await;
    until_within(
        std::time::Duration::from_secs(60),
        "all deliveries are processed",
        || async {
            let now = metrics(&variables);
            let count = |name: &str| now[name].as_u64().unwrap_or_default();
            let done = count("events_applied")
                + count("events_duplicate")
                + count("events_ignored")
                + count("events_dead");
            (done >= accepted as u64).then_some(())
        },
    )
    .await;
    assert!(!process.logged("dead letter").is_empty() && !process.logged("transition").is_empty());

    // Commands that are valid, and commands that are impossible.
    let listed = cli(&variables, &["alerts", "list", "--members", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let first = listed[0]["id"].as_str().expect("an alert").to_owned();
    let person = PERSONAL[3];
    for args in [
        &["alerts", "ack", &first, "--by", person, "--wait", "5"][..],
        &[
            "alerts",
            "silence",
            "--account",
            PERSONAL[2],
            "--for",
            "1h",
            "--reason",
            person,
            "--by",
            person,
            "--wait",
            "5",
        ],
        &["alerts", "resolve", &first, "--by", person, "--wait", "5"],
    ] {
        let output = cli(&variables, args);
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains(SECRET),
            "{output:?}"
        );
    }
    if let Deployment::Embedded(folder) = deployment {
        let store = Sqlite::open(folder.path(), Open::Existing).expect("the store");
        for (n, body) in PERSONAL
            .iter()
            .map(|personal| json!({"ask": personal, "by": personal}).to_string())
            .enumerate()
        {
            store
                .submit(COMMANDS, &format!("{}_{n}", PERSONAL[2]), &body)
                .await
                .expect("left");
        }
        until("they are discarded", || async {
            (process
                .logged("a command cannot be read; it is discarded")
                .len()
                == PERSONAL.len())
            .then_some(())
        })
        .await;
    }
    let polls = std::cell::Cell::new(0);
    until_within(
        std::time::Duration::from_secs(60),
        "every notifier was tried and failed in many ways",
        || async {
            let is_tried = |notifier: &str| {
                process
                    .log()
                    .iter()
                    .any(|line| line["notifier"] == notifier)
            };
            let all = ["slack", "email", "sms", "pagerduty", "webhook"]
                .iter()
                .all(|notifier| is_tried(notifier));
            // Permanently failed notifications are retried when settings are reloaded, and get the
            // next answer of the echo server.
            polls.set(polls.get() + 1);
            if polls.get() % 40 == 0 {
                process.hang_up();
            }
            (all && asked.load(std::sync::atomic::Ordering::SeqCst) > 10).then_some(())
        },
    )
    .await;
    // Metrics of the state are refreshed every ten seconds.
    let page = until("metrics of the state are shown", || async {
        let page = process.metrics_page().await?;
        page.contains("revwatch_payouts_total{").then_some(page)
    })
    .await;
    let ready = reqwest::get(process.admin("/readyz"))
        .await
        .expect("answered")
        .text()
        .await
        .expect("text");
    let log = process.stop_and_read();
    assert!(log.len() > 500, "{} lines", log.len());
    for text in [lines(&log), page, ready] {
        assert_clean("log and metrics page", &text);
    }
}

/// Without another notifier, alerts go to the log.
#[tokio::test(flavor = "multi_thread")]
async fn alerts_in_the_log_hold_no_personal_data() {
    let deployment = Deployment::embedded();
    let settings = Settings::new(
        "[alerting]\ntick_seconds = 0.1\nlease_seconds = 5.0\n",
        revwatch_alerting::rule_text::DEFAULT_RULES,
    );
    let variables = settings.variables(
        deployment.variables(&[("RUST_LOG", LOG_ALL), ("STRIPE_WEBHOOK_SECRET", STRIPE)]),
    );
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let (client, url) = (reqwest::Client::new(), process.url("/webhooks/stripe"));
    let bodies = hostile_events();
    let posts = futures_util::stream::iter(&bodies)
        .map(|body| post_signed(&client, &url, body))
        .buffer_unordered(16);
    let accepted = posts
        .filter(|answer| std::future::ready(*answer == 200))
        .count()
        .await;
    until_within(
        std::time::Duration::from_secs(60),
        "all deliveries are processed",
        || async {
            let now = metrics(&variables);
            let count = |name: &str| now[name].as_u64().unwrap_or_default();
            let done = count("events_applied")
                + count("events_duplicate")
                + count("events_ignored")
                + count("events_dead");
            (done >= accepted as u64).then_some(())
        },
    )
    .await;
    // Some alerts resolve by themselves, because of later events.
    let resolved = until("a notified alert is resolved by hand", || async {
        let lines = process.logged("notification");
        lines.iter().find_map(|line| {
            let id = line["alert_id"].as_str()?;
            let stderr = cli(
                &variables,
                &["alerts", "resolve", id, "--by", PERSONAL[3], "--wait", "5"],
            );
            stderr.status.success().then(|| id.to_owned())
        })
    })
    .await;
    until("its resolution is notified", || async {
        let lines = process.logged("notification");
        (lines
            .iter()
            .filter(|line| line["alert_id"] == resolved.as_str())
            .count()
            >= 2)
            .then_some(())
    })
    .await;
    assert_clean("the log", &lines(&process.stop_and_read()));
}

/// No server listens, the passwords are wrong, or the URL is not valid.
#[tokio::test(flavor = "multi_thread")]
async fn unreachable_servers_are_named_without_their_passwords() {
    let (listener, addr) = revwatch_test_servers::listen().await;
    drop(listener);
    for (amqp, redis) in [
        (
            format!("amqp://hush:hush@{addr}/x"),
            format!("redis://hush:hush@{addr}/0"),
        ),
        (
            format!("amqp://hush:hush@{addr}/x"),
            format!("redis-cluster://hush:hush@{addr}"),
        ),
        (
            format!("amqp://hush:hush@{addr}/x"),
            format!("redis-sentinel://hush:hush@{addr}/main"),
        ),
        (
            "amqp://hush:hush@[/x".to_owned(),
            format!("redis://hush:hush@{addr}/0"),
        ),
        (
            format!("amqp://hush:hush@{addr}/x"),
            "redis://hush:hush@[".to_owned(),
        ),
        ("hush".to_owned(), "hush".to_owned()),
    ] {
        let deployment = Deployment::embedded();
        let variables = deployment.variables(&[
            ("REVWATCH_AMQP_URL", &amqp),
            ("REVWATCH_REDIS_URL", &redis),
            ("RUST_LOG", LOG_ALL),
            ("STRIPE_WEBHOOK_SECRET", STRIPE),
        ]);
        let output = tokio::task::spawn_blocking(move || cli(&variables, &["serve"]))
            .await
            .expect("it ends");
        assert!(!output.status.success());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.is_empty());
        assert_clean("standard error", &stderr);
    }
    let deployment = Deployment::embedded();
    for (name, value) in [
        ("SLACK_WEBHOOK_URL", "hush"),
        ("SLACK_APP_TOKEN", "hush"),
        ("SMTP_URL", "ftp://hush:hush@h"),
        ("STRIPE_SECRET_KEY", "pk_hush"),
        ("REVWATCH_WEBHOOK_URL", "https://hush:hush@h/"),
        ("REVWATCH_WEBHOOK_SECRET", "hush"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://hush:hush@h/"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hush"),
    ] {
        let output = cli(
            &deployment.variables(&[(name, value), ("STRIPE_WEBHOOK_SECRET", STRIPE)]),
            &["config", "check"],
        );
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_clean(name, &stderr);
    }
}
