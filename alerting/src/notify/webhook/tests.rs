//! Webhooks against a stub of a receiver.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use revwatch_runtime::config::EgressConfig;

use super::super::stub::{Reply, Stub, message};
use super::*;
use crate::alert::{AlertState, NoticeKind};

/// From the specification's own tests.
const SECRET_OF_SPEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn configured(url: &str, secret: &str) -> Result<Option<Webhook>, SetupError> {
    let some = |text: &str| (!text.is_empty()).then(|| SecretString::from(text.to_owned()));
    let config = WebhookConfig {
        url: some(url),
        secret: some(secret),
    };
    Webhook::configured(&config, &EgressClient::new(EgressConfig::default()), 1.0)
}

fn webhook(url: &str, secret: &str) -> Webhook {
    configured(url, secret).expect("valid").expect("configured")
}

/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/go/webhook_test.go>
#[test]
fn the_signature_matches_the_specification() {
    let webhook = webhook("https://hooks.example", SECRET_OF_SPEC);
    let signature = webhook.signatures(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
    );
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn attempts_share_an_id_states_have_their_own_and_every_secret_signs() {
    let stub = Stub::answering(|_| Reply::status(204)).await;
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    let webhook = webhook(&stub.url(), &format!("{SECRET_OF_SPEC}, {other}"));
    let changed = Message {
        revision: 2,
        receipt: Some("x".into()),
        ..message()
    };
    let resolved = Message {
        revision: 3,
        state: AlertState::Resolved,
        ..changed.clone()
    };
    let taken = Message {
        revision: 3,
        state: AlertState::Acknowledged,
        ..changed.clone()
    };
    let notice = Message {
        delivery_id: "al_1-1".into(),
        notice: Some(NoticeKind::Escalated(0)),
        ..message()
    };
    for message in [message(), message(), changed, resolved, taken, notice] {
        let outcome = webhook.deliver(&message).await;
        assert_eq!(
            outcome,
            Outcome::Delivered {
                receipt: Some(id(&message))
            }
        );
    }
    let requests = stub.requests();
    let of = |name: &str| -> Vec<String> {
        requests
            .iter()
            .map(|r| r.header(name).expect("there").to_owned())
            .collect()
    };
    assert_eq!(
        of("webhook-id"),
        [
            "al_1-0_1", "al_1-0_1", "al_1-0_2", "al_1-0_3", "al_1-0_3", "al_1-1_1"
        ]
    );
    let kinds: Vec<_> = requests
        .iter()
        .map(|r| r.json()["type"].as_str().map(str::to_owned))
        .collect();
    let expected = [
        "firing",
        "firing",
        "changed",
        "resolved",
        "acknowledged",
        "notice",
    ];
    assert_eq!(kinds, expected.map(|kind| Some(format!("alert.{kind}"))));
    for request in &requests {
        let (id, at) = (
            request.header("webhook-id").expect("id"),
            request.header("webhook-timestamp").expect("time"),
        );
        let expected = webhook.signatures(id, at.parse().expect("seconds"), &request.body);
        assert_eq!(request.header("webhook-signature"), Some(expected.as_str()));
        assert_eq!(expected.split(' ').count(), 2);
        assert_eq!(request.json()["data"]["text"], message().text);
    }
    assert_eq!(requests[0].json()["timestamp"], "2025-11-20T10:00:00Z");
}

#[tokio::test]
async fn responses_map_to_outcomes() {
    let table = [
        (Reply::ok("thanks"), "delivered"),
        (
            Reply::ok("thanks").header("content-type", "text/html"),
            "delivered",
        ),
        (
            Reply::status(200).header("content-type", "text/html"),
            "delivered",
        ),
        (Reply::ok("\n<!DOCTYPE html><html>"), "permanent"),
        (
            Reply::ok("<title>log in").header("content-type", "Text/HTML; charset=utf-8"),
            "permanent",
        ),
        (Reply::status(429).header("retry-after", "9"), "retry_after"),
        (Reply::status(502), "unknown"),
        (Reply::status(501), "failed"),
        (Reply::status(408), "failed"),
        (Reply::status(301).header("location", "/x"), "permanent"),
        (Reply::status(401), "permanent"),
        (Reply::status(410), "permanent"),
        (Reply::silence(), "unknown"),
    ];
    for (reply, expected) in table {
        let answer = reply.clone();
        let stub = Stub::answering(move |_| answer.clone()).await;
        let outcome = webhook(&format!("{}/hidden", stub.url()), SECRET_OF_SPEC)
            .deliver(&message())
            .await;
        let outcome_text = format!("{outcome:?}");
        assert_eq!(outcome.as_str(), expected, "{reply:?}: {outcome_text}");
        assert!(
            !outcome_text.contains("hidden")
                && (expected != "permanent" || outcome_text.contains("REVWATCH_WEBHOOK_URL"))
        );
    }
}

#[test]
fn a_partial_configuration_and_weak_secrets_are_refused() {
    assert!(configured("", "").expect("valid").is_none());
    let table = [
        (
            "https://hooks.example",
            "",
            "webhook.secret (REVWATCH_WEBHOOK_SECRET) is missing",
        ),
        (
            "",
            SECRET_OF_SPEC,
            "webhook.url (REVWATCH_WEBHOOK_URL) is missing",
        ),
        ("https://hooks.example", "whsec_aGlkZGVu", "24 to 64"),
        ("https://hooks.example", "hidden", "24 to 64"),
        ("https://hooks.example", ",", "24 to 64"),
        ("https://10.0.0.1/hidden", SECRET_OF_SPEC, "private"),
    ];
    for (url, secret, expected) in table {
        let Err(error) = configured(url, secret) else {
            panic!("{url} {secret}")
        };
        let error = error.to_string();
        assert!(
            error.contains(expected) && !error.contains("hidden"),
            "{error}"
        );
    }
}
