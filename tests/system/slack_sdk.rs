//! Button presses in Slack, signed by Slack's own SDK: accepted if the signature is valid and
//! recent.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Deployment;
use crate::support::port::free_port;
use crate::support::providers::{Settings, alerts, post_all, updated};
use crate::support::revwatch::Revwatch;
use crate::support::slack::Slack;
use crate::support::wait::until;

const SETTINGS: &str = "[alerting]\ntick_seconds = 0.05\nmessages_per_second = 100.0\n";
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// Signs standard input, the form that Slack posts, with the secret `argv[1]` at the time
/// `argv[2]`.
const SIGN: &str = "
import json, sys, urllib.parse
from slack_sdk.signature import SignatureVerifier
body = urllib.parse.urlencode({'payload': sys.stdin.read()})
print(json.dumps({'body': body, 'signature': SignatureVerifier(sys.argv[1]).generate_signature(timestamp=sys.argv[2], body=body)}))
";

/// Posts a payload as Slack does, signed with `secret` `age_s` seconds ago; returns the status.
async fn press(url: &str, payload: &Value, secret: &str, age_s: i64) -> u16 {
    let timestamp = (jiff::Timestamp::now().as_second() - age_s).to_string();
    let signed = sign(&payload.to_string(), secret, &timestamp);
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-slack-request-timestamp", timestamp)
        .header(
            "x-slack-signature",
            signed["signature"].as_str().expect("a signature"),
        )
        .body(signed["body"].as_str().expect("a body").to_owned());
    request.send().await.expect("an answer").status().as_u16()
}

fn sign(payload: &str, secret: &str, timestamp: &str) -> Value {
    use std::io::Write as _;
    let python = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("slack-sdk")
        .join("bin/python");
    assert!(
        python.exists(),
        "{} is missing: tests/run makes it, with Slack's Python SDK in it",
        python.display()
    );
    let mut command = Command::new(python);
    command
        .args(["-c", SIGN, secret, timestamp])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut signing = command.spawn().expect("Python runs");
    signing
        .stdin
        .take()
        .expect("a pipe")
        .write_all(payload.as_bytes())
        .expect("it reads");
    let signed = signing.wait_with_output().expect("it ends");
    assert!(signed.status.success(), "Slack's SDK signs: see above");
    serde_json::from_slice(&signed.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_signed_by_slacks_own_sdk_acknowledges_the_alert() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let (deployment, slack, settings) = (
        Deployment::embedded(),
        Slack::start(&[]).await,
        Settings::of_providers(SETTINGS),
    );
    let of_deployment = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
        ("SLACK_SIGNING_SECRET", SECRET),
        ("SLACK_INTERACTIVITY_LISTEN", &listen),
    ]);
    let variables = settings.variables(of_deployment);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let (url, now_s) = (
        process.url("/webhooks/stripe"),
        jiff::Timestamp::now().as_second(),
    );
    for (n, charges) in [(0, true), (1, false)] {
        post_all(
            &url,
            &[updated(
                &format!("evt_{n}"),
                "acct_1",
                now_s - 60 + n,
                charges,
                "under_review",
            )],
        )
        .await;
    }
    let call = until("Slack has the alert", || async { slack.accepted().pop() }).await;
    // The button as it appears in the message.
    let blocks = call.body["blocks"].as_array().expect("blocks").clone();
    let mut elements = blocks
        .iter()
        .filter_map(|block| block["elements"].as_array())
        .flatten();
    let button = elements
        .find(|e| e["action_id"] == "acknowledge")
        .expect("a button")
        .clone();
    let message = slack.messages().remove(0);
    let (channel, ts) = message.place();
    let payload = json!({
        "type": "block_actions", "api_app_id": "A0123456789", "trigger_id": "1.2.x", "team": {"id": "T0123456789"},
        "user": {"id": "U0123456789", "username": "ana.silva", "name": "Ana & Söhne", "team_id": "T0123456789"},
        "container": {"type": "message", "message_ts": ts, "channel_id": channel},
        "channel": {"id": channel, "name": "alerts-critical"},
        "actions": [{"type": "button", "block_id": "b1", "action_id": button["action_id"], "value": button["value"],
            "text": button["text"], "action_ts": format!("{now_s}.123456")}],
    });
    let interactivity = format!("http://{listen}/slack/interactivity");
    assert_eq!(
        press(&interactivity, &payload, SECRET, 6 * 60).await,
        401,
        "a replay"
    );
    assert_eq!(
        press(&interactivity, &payload, "another secret", 0).await,
        401
    );
    assert_eq!(process.logged("action in Slack").len(), 0);
    assert_eq!(alerts(&variables)[0]["state"], "firing");

    assert_eq!(press(&interactivity, &payload, SECRET, 0).await, 200);
    let shown = until("the message shows who acknowledged", || async {
        slack
            .messages()
            .pop()
            .filter(|message| message.text.contains("(acknowledged)"))
    })
    .await;
    let names_user =
        |line: &str| line.starts_with("Acknowledged: ") && line.ends_with(" by Ana &amp; Söhne");
    assert!(shown.text.lines().any(names_user), "{}", shown.text);
    assert_eq!(
        (shown.place(), slack.messages().len()),
        (message.place(), 1),
        "in place"
    );
    // A repeated press, as Slack retries it, changes nothing.
    let calls = slack.calls().len();
    assert_eq!(press(&interactivity, &payload, SECRET, 0).await, 200);
    until("the repeated press is handled", || async {
        (process.logged("action in Slack").len() >= 2).then_some(())
    })
    .await;
    let alert = alerts(&variables).remove(0);
    assert_eq!(
        (
            &alert["state"],
            &alert["acknowledged_by"],
            &alert["revision"]
        ),
        (&json!("acknowledged"), &json!("Ana & Söhne"), &json!(2))
    );
    process.stop();
    assert_eq!(slack.calls().len(), calls);
}
