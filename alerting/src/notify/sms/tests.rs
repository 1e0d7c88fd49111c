//! Text messages against a stub of Twilio.

use std::sync::atomic::{AtomicBool, Ordering};

use revwatch_runtime::config::EgressConfig;
use secrecy::SecretString;
use serde_json::json;

use super::super::keep_partial_deliveries;
use super::super::stub::{Reply, Request, Stub, message};
use super::*;

const ONE: &str = "+15550101";
const TWO: &str = "+15550102";

fn config(base: &str, to: &[&str]) -> SmsConfig {
    SmsConfig {
        account_sid: "AC1".into(),
        auth_token: Some(SecretString::from("hidden".to_owned())),
        from: "+15550100".into(),
        api_base: base.into(),
        to: [(
            "default".to_owned(),
            to.iter().map(|n| (*n).to_owned()).collect(),
        )]
        .into(),
    }
}

fn configured(config: &SmsConfig) -> Result<Option<Sms>, SetupError> {
    Sms::configured(config, &EgressClient::new(EgressConfig::default()), 1.0)
}

fn sms(stub: &Stub, to: &[&str]) -> Sms {
    configured(&config(&stub.url(), to))
        .expect("valid")
        .expect("configured")
}

fn sent(request: &Request) -> Reply {
    let sid = format!(
        "SM{}",
        request
            .parameter("To")
            .unwrap_or_default()
            .trim_start_matches('+')
    );
    Reply::json(json!({"sid": sid, "status": "queued"})).with_status(201)
}

fn listed(bodies: &[&str], created: &str, next: Option<&str>) -> Reply {
    let messages: Vec<_> = bodies
        .iter()
        .map(|body| json!({"sid": "SM1", "body": body, "status": "delivered", "date_created": created}))
        .collect();
    Reply::json(json!({"messages": messages, "next_page_uri": next}))
}

const SINCE: &str = "Thu, 20 Nov 2025 10:00:01 +0000";
const BEFORE: &str = "Thu, 20 Nov 2025 08:00:00 +0000";

#[tokio::test]
async fn responses_map_to_outcomes() {
    let error_reply = |status: u16, code: i64| {
        Reply::json(json!({"code": code, "message": "The 'To' number +15550101 is not valid"}))
            .with_status(status)
    };
    let table = [
        (
            Reply::json(json!({"sid": "SM1"})).with_status(201),
            "delivered",
            "SM1",
        ),
        (
            error_reply(429, 20429).header("retry-after", "2"),
            "retry_after",
            "2000",
        ),
        (error_reply(503, 20503), "unknown", "20503"),
        (error_reply(401, 20003), "permanent", "TWILIO_AUTH_TOKEN"),
        (error_reply(404, 20404), "permanent", "TWILIO_ACCOUNT_SID"),
        (error_reply(400, 21211), "permanent", "errors/21211"),
        (Reply::status(400), "permanent", "sms.from"),
        (Reply::ok("?"), "permanent", "sms.api_base"),
        (Reply::ok("<html>"), "permanent", "login page"),
        (Reply::ok("{}"), "unknown", "accepted"),
        (Reply::silence(), "unknown", ""),
    ];
    for (reply, expected, part) in table {
        let answer = reply.clone();
        let stub = Stub::answering(move |_| answer.clone()).await;
        let outcome = sms(&stub, &[ONE]).deliver(&message()).await;
        let outcome_text = format!("{outcome:?}");
        assert_eq!(outcome.as_str(), expected, "{reply:?}: {outcome_text}");
        assert!(
            outcome_text.contains(part)
                && !outcome_text.contains("hidden")
                && !outcome_text.contains("555"),
            "{outcome_text}"
        );
    }
    let closed = configured(&config("http://127.0.0.1:1", &[ONE]))
        .expect("valid")
        .expect("configured");
    assert_eq!(closed.deliver(&message()).await.as_str(), "failed");
}

#[tokio::test]
async fn requests_have_the_form_that_twilio_documents() {
    let stub = Stub::answering(sent).await;
    let one = sms(&stub, &[ONE, TWO, ONE]);
    let outcome = one.deliver(&message()).await;
    assert_eq!(
        outcome,
        Outcome::Delivered {
            receipt: Some("SM15550101,SM15550102".into())
        }
    );
    let requests = stub.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].path, "/2010-04-01/Accounts/AC1/Messages.json");
    assert_eq!(
        requests[0].header("authorization"),
        Some("Basic QUMxOmhpZGRlbg==")
    );
    assert_eq!(requests[0].parameter("From"), Some("+15550100".into()));
    assert_eq!(
        requests[0].parameter("Body"),
        Some("Payouts fail al_1 al_1-0".into())
    );
    let service = SmsConfig {
        from: "MG1".into(),
        ..config(&stub.url(), &[ONE])
    };
    configured(&service)
        .expect("valid")
        .expect("configured")
        .deliver(&message())
        .await;
    let request = stub.requests().pop().expect("a request");
    assert_eq!(
        (
            request.parameter("MessagingServiceSid"),
            request.parameter("From")
        ),
        (Some("MG1".into()), None)
    );
}

#[tokio::test]
async fn a_retry_skips_recipients_who_have_the_message() {
    let is_recovered = std::sync::Arc::new(AtomicBool::new(false));
    let now = is_recovered.clone();
    let stub = Stub::answering(move |request| {
        let is_two = request.parameter("To").as_deref() == Some(TWO);
        if is_two && !now.load(Ordering::Relaxed) {
            Reply::status(408)
        } else {
            sent(request)
        }
    })
    .await;
    let before: std::sync::Arc<dyn Notifier> = std::sync::Arc::new(sms(&stub, &[ONE, TWO]));
    // One has it: after a crash, the next attempt must search. Before one, nothing is searched for.
    assert_eq!(before.deliver(&message()).await.as_str(), "failed");
    assert!(before.is_partly_delivered(&message()));
    assert_eq!(before.find(&message()).await, Lookup::Absent);
    assert_eq!(stub.requests().len(), 2);
    is_recovered.store(true, Ordering::Relaxed);
    // Also after a reload.
    let after: std::sync::Arc<dyn Notifier> = std::sync::Arc::new(sms(&stub, &[ONE, TWO]));
    keep_partial_deliveries(&[before], std::slice::from_ref(&after));
    let outcome = after.deliver(&message()).await;
    assert_eq!(
        outcome,
        Outcome::Delivered {
            receipt: Some("SM15550101,SM15550102".into())
        }
    );
    let to_one = stub
        .requests()
        .iter()
        .filter(|r| r.parameter("To").as_deref() == Some(ONE))
        .count();
    assert_eq!((to_one, stub.requests().len()), (1, 3));
    assert!(!after.is_partly_delivered(&message()));
}

#[tokio::test]
async fn an_unreachable_recipient_does_not_block_the_others() {
    let stub = Stub::answering(|request| {
        let is_two = request.parameter("To").as_deref() == Some(TWO);
        if is_two {
            Reply::json(json!({"code": 21610})).with_status(400)
        } else {
            sent(request)
        }
    })
    .await;
    let outcome = sms(&stub, &[TWO, ONE]).deliver(&message()).await;
    assert_eq!(
        outcome,
        Outcome::Delivered {
            receipt: Some("SM15550101".into())
        }
    );
    assert_eq!(
        sms(&stub, &[TWO]).deliver(&message()).await.as_str(),
        "permanent"
    );
}

#[tokio::test]
async fn after_a_crash_it_finds_delivered_messages_and_sends_the_rest() {
    let stub = Stub::answering(|request| {
        let is_two = request.parameter("To").as_deref() == Some(TWO);
        match request.method.as_str() {
            "POST" => sent(request),
            _ if is_two => listed(&["x al_1-10", "x al_1-01"], SINCE, None),
            _ => listed(&["Payouts fail al_1 al_1-0"], SINCE, None),
        }
    })
    .await;
    let sms = sms(&stub, &[ONE, TWO]);
    assert_eq!(sms.find(&message()).await, Lookup::Absent);
    let asked = stub.requests()[0].clone();
    assert_eq!(
        (asked.method.as_str(), asked.parameter("To").is_some()),
        ("GET", true)
    );
    let outcome = sms.deliver(&message()).await;
    assert_eq!(
        outcome,
        Outcome::Delivered {
            receipt: Some("SM1,SM15550102".into())
        }
    );
    assert_eq!(
        stub.requests()
            .iter()
            .filter(|r| r.method == "POST")
            .count(),
        1
    );
}

#[tokio::test]
async fn the_search_is_bounded() {
    let path = "/2010-04-01/Accounts/AC1/Messages.json?Page=1";
    let table = [
        (listed(&["al_1-0"], SINCE, None), "found", 1),
        (listed(&["x"], SINCE, None), "absent", 1),
        (listed(&["x"], BEFORE, Some(path)), "absent", 1),
        (listed(&["x"], SINCE, Some(path)), "inconclusive", 3),
        (
            listed(&["x"], SINCE, Some("//elsewhere.example/")),
            "inconclusive",
            1,
        ),
        (Reply::status(429), "later", 1),
        (Reply::status(500), "later", 1),
        (Reply::ok("?"), "later", 1),
        (Reply::silence(), "later", 1),
        (Reply::status(401), "inconclusive", 1),
    ];
    for (reply, expected, requests) in table {
        let answer = reply.clone();
        let stub = Stub::answering(move |_| answer.clone()).await;
        let found = sms(&stub, &[ONE]).find(&message()).await;
        let word = match &found {
            Lookup::Found { .. } => "found",
            Lookup::Absent => "absent",
            Lookup::Repeatable => "repeatable",
            Lookup::Later { .. } => "later",
            Lookup::Inconclusive => "inconclusive",
        };
        assert_eq!(
            (word, stub.requests().len()),
            (expected, requests),
            "{reply:?}"
        );
        assert!(!format!("{found:?}").contains("555"), "{found:?}");
    }
    let lost = json!({"messages": [{"sid": "SM1", "body": "al_1-0", "status": "failed"}]});
    let stub = Stub::answering(move |_| Reply::json(lost.clone())).await;
    assert_eq!(sms(&stub, &[ONE]).find(&message()).await, Lookup::Absent);
}

#[test]
fn missing_or_invalid_settings_are_named() {
    let nothing = SmsConfig {
        account_sid: String::new(),
        auth_token: None,
        from: String::new(),
        ..config("https://h.example", &[])
    };
    assert!(configured(&nothing).expect("valid").is_none());
    type Case = (fn(&mut SmsConfig), &'static str);
    let table: [Case; 8] = [
        (
            |c| c.auth_token = None,
            "sms.auth_token (TWILIO_AUTH_TOKEN) is missing",
        ),
        (
            |c| c.account_sid = " ".into(),
            "sms.account_sid (TWILIO_ACCOUNT_SID) is missing",
        ),
        (|c| c.from.clear(), "sms.from is missing"),
        (|c| c.to.clear(), "sms.to (a list of numbers) is missing"),
        (
            |c| c.account_sid = "AC1/../AC2".into(),
            "TWILIO_ACCOUNT_SID",
        ),
        (
            |c| c.to = [("default".into(), vec!["5559999".into()])].into(),
            "[sms.to] default: entry 1",
        ),
        (
            |c| c.to = [("x".into(), vec![ONE.into()])].into(),
            "[sms.to] has no default",
        ),
        (
            |c| c.to.extend([("x".into(), Vec::new())]),
            "[sms.to] x is empty",
        ),
    ];
    for (spoil, expected) in table {
        let mut invalid = config("https://h.example", &[ONE]);
        spoil(&mut invalid);
        let Err(error) = configured(&invalid) else {
            panic!("{expected}")
        };
        let error = error.to_string();
        assert!(
            error.contains(expected) && !error.contains("9999") && !error.contains("hidden"),
            "{error}"
        );
    }
}
