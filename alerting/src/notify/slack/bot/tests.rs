//! A Slack app against a stub of Slack.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use revwatch_runtime::config::{Config, EgressConfig};

use super::super::super::stub::{Reply, Request, Stub, message};
use super::super::channels::Listed;
use super::*;

fn bot_of(base: &str, channels: &[(&str, &str)]) -> SlackBot {
    let config = SlackConfig {
        bot_token: Some(SecretString::from("xoxb-hidden".to_owned())),
        api_base: format!("{base}/api/"),
        channels: channels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        ..Config::load(None, &|_| None).expect("the defaults").slack
    };
    let egress = EgressClient::new(EgressConfig::default());
    SlackBot::configured(&config, &egress, 1.0)
        .expect("valid")
        .expect("configured")
}

fn bot(stub: &Stub) -> SlackBot {
    bot_of(&stub.url(), &[("default", "#alerts")])
}

fn posted() -> Reply {
    Reply::json(json!({"ok": true, "channel": "C1", "ts": "10.5"}))
}

fn error(word: &str) -> Reply {
    Reply::json(json!({"ok": false, "error": word}))
}

fn is(request: &Request, method: &str) -> bool {
    request.path.starts_with(&format!("/api/{method}"))
}

/// A page of a channel with these deliveries, as (id, revision).
fn page(deliveries: &[(&str, u32)], next: &str) -> Reply {
    let shown = deliveries.iter().zip(1..).map(|((id, revision), n)| {
        let payload = json!({"delivery_id": id, "alert_id": "al_1", "revision": revision});
        let metadata = json!({"event_type": "revwatch_alert", "event_payload": payload});
        json!({"ts": format!("{n}.0"), "text": "x", "metadata": metadata})
    });
    let mut messages: Vec<_> = shown.collect();
    messages.insert(0, json!({"ts": "0.1", "text": "a person's"}));
    messages.insert(
        0,
        json!({"ts": "0.3", "metadata": {"event_type": "revwatch_alert", "event_payload": 7}}),
    );
    let others = json!({"event_type": "other", "event_payload": {"delivery_id": "al_1-0"}});
    messages.insert(0, json!({"ts": "0.2", "metadata": others}));
    Reply::json(
        json!({"ok": true, "messages": messages, "response_metadata": {"next_cursor": next}}),
    )
}

#[tokio::test]
async fn responses_map_to_outcomes() {
    let table = [
        (posted(), "delivered", "C1:10.5"),
        (
            Reply::status(429).header("retry-after", "30"),
            "retry_after",
            "30000",
        ),
        (error("ratelimited"), "retry_after", ""),
        (Reply::status(500), "unknown", "500"),
        (Reply::status(404), "permanent", "SLACK_API_BASE"),
        (error("invalid_auth"), "permanent", "SLACK_BOT_TOKEN"),
        (error("missing_scope"), "permanent", "chat:write"),
        (error("channel_not_found"), "permanent", "[slack.channels]"),
        (error("is_archived"), "permanent", "#alerts"),
        (
            error("is_archived"),
            "permanent",
            "unarchive that channel and invite the app",
        ),
        (
            error("invalid_blocks\r\nX: y"),
            "permanent",
            "invalid_blocks for the channel #alerts:",
        ),
        (error("service_unavailable"), "failed", ""),
        (error("internal_error"), "unknown", ""),
        (Reply::ok("<html>"), "permanent", "slack.api_base"),
        (Reply::status(200), "permanent", "login page"),
        (Reply::ok("[]"), "unknown", "accepted"),
        (
            Reply::json(json!({"ok": true})),
            "unknown",
            "does not say that the message was accepted",
        ),
        (Reply::silence(), "unknown", ""),
    ];
    for (reply, expected, part) in table {
        let answer = reply.clone();
        let stub = Stub::answering(move |_| answer.clone()).await;
        let outcome = bot(&stub).deliver(&message()).await;
        let outcome_text = format!("{outcome:?}");
        assert_eq!(outcome.as_str(), expected, "{reply:?}: {outcome_text}");
        assert!(
            outcome_text.contains(part) && !outcome_text.contains("hidden"),
            "{outcome_text}"
        );
    }
    assert_eq!(
        bot_of("http://127.0.0.1:1", &[])
            .deliver(&message())
            .await
            .as_str(),
        "failed"
    );
}

/// C15: without the five channels, no alert is hidden.
#[tokio::test]
async fn an_alert_for_a_missing_channel_is_posted_in_the_default_one_and_says_so() {
    for code in ["channel_not_found", "not_in_channel", "is_archived"] {
        let stub = Stub::answering(move |request| match &request.json()["channel"] {
            channel if channel == "#alerts" => posted(),
            _ => error(code),
        })
        .await;
        let channels = [("default", "#alerts"), ("alerts-high", "#missing")];
        let message = Message {
            route: "alerts-high".into(),
            ..message()
        };
        let outcome = bot_of(&stub.url(), &channels).deliver(&message).await;
        assert_eq!(outcome.as_str(), "delivered");
        let body = stub.requests()[1].json();
        for shown in [&body["text"], &body["blocks"]] {
            assert!(shown.to_string().contains("for #missing"), "{shown}");
        }
    }
    // Also the default one is missing: nothing else is tried.
    let stub = Stub::answering(|_| error("channel_not_found")).await;
    assert_eq!(bot(&stub).deliver(&message()).await.as_str(), "permanent");
    assert_eq!(stub.requests().len(), 1);
}

#[tokio::test]
async fn updates_the_existing_message() {
    let stub = Stub::answering(|_| posted()).await;
    let changed = Message {
        receipt: Some("C1:10.5".into()),
        revision: 2,
        ..message()
    };
    let outcome = bot(&stub).deliver(&changed).await;
    assert_eq!(
        outcome,
        Outcome::Delivered {
            receipt: Some("C1:10.5".into())
        }
    );
    let request = &stub.requests()[0];
    assert!(
        is(request, "chat.update") && request.method == "POST",
        "{}",
        request.path
    );
    assert_eq!(request.header("authorization"), Some("Bearer xoxb-hidden"));
    let body = request.json();
    assert_eq!(
        (&body["channel"], &body["ts"]),
        (&json!("C1"), &json!("10.5"))
    );
    let payload = json!({"delivery_id": "al_1-0", "alert_id": "al_1", "revision": 2});
    assert_eq!(
        body["metadata"],
        json!({"event_type": "revwatch_alert", "event_payload": payload})
    );

    let stub = Stub::answering(|_| error("message_not_found")).await;
    assert_eq!(bot(&stub).deliver(&changed).await, Outcome::Gone);
    assert_eq!(bot(&stub).find(&changed).await, Lookup::Repeatable);
    assert_eq!(stub.requests().len(), 1);
}

#[tokio::test]
async fn notices_go_into_the_thread_and_escalations_also_into_the_channel() {
    let stub = Stub::answering(|_| posted()).await;
    let soon = Message {
        delivery_id: "al_1-1".into(),
        notice: Some(NoticeKind::RespondSoon),
        thread: Some("C1:10.5".into()),
        ..message()
    };
    let escalated = Message {
        notice: Some(NoticeKind::Escalated(0)),
        ..soon.clone()
    };
    let one = bot(&stub);
    one.deliver(&soon).await;
    one.deliver(&escalated).await;
    // The thread does not exist in another channel.
    let two = bot_of(&stub.url(), &[("default", "C1"), ("escalation", "C2")]);
    two.deliver(&Message {
        route: "escalation".into(),
        ..escalated.clone()
    })
    .await;
    two.deliver(&escalated).await;
    one.deliver(&Message {
        notice: Some(NoticeKind::Again(2)),
        ..soon.clone()
    })
    .await;
    let bodies: Vec<_> = stub.requests().iter().map(Request::json).collect();
    let shown = |n: usize| {
        let body: &Value = &bodies[n];
        (
            body["channel"].clone(),
            body["thread_ts"].clone(),
            body["reply_broadcast"].clone(),
        )
    };
    assert_eq!(shown(0), (json!("C1"), json!("10.5"), Value::Null));
    assert_eq!(shown(1), (json!("C1"), json!("10.5"), json!(true)));
    assert_eq!(shown(2), (json!("C2"), Value::Null, Value::Null));
    assert_eq!(shown(3), (json!("C1"), json!("10.5"), json!(true)));
    assert_eq!(shown(4), (json!("C1"), json!("10.5"), json!(true)));
}

#[tokio::test]
async fn a_notice_is_posted_on_its_own_if_its_thread_was_deleted() {
    let stub = Stub::answering(|request| {
        if request.json().get("thread_ts").is_some() {
            error("thread_not_found")
        } else {
            posted()
        }
    })
    .await;
    let (notice, thread) = (Some(NoticeKind::Escalated(1)), Some("C1:1.0".into()));
    let outcome = bot(&stub)
        .deliver(&Message {
            notice,
            thread,
            ..message()
        })
        .await;
    assert_eq!(outcome.as_str(), "delivered");
    assert_eq!(stub.requests()[1].json().get("reply_broadcast"), None);
}

#[tokio::test]
async fn finds_a_delivered_message_page_by_page() {
    let stub = Stub::answering(|request| match request.parameter("cursor").as_deref() {
        _ if is(request, "chat.postMessage") => posted(),
        None => page(&[("al_1-10", 1)], "next"),
        _ => page(&[("al_2-0", 1), ("al_1-0", 1)], ""),
    })
    .await;
    let bot = bot(&stub);
    // An earlier answer has shown the channel's id.
    bot.deliver(&Message {
        delivery_id: "al_0-0".into(),
        ..message()
    })
    .await;
    assert_eq!(
        bot.find(&message()).await,
        Lookup::Found {
            receipt: Some("C1:2.0".into()),
            revision: Some(1)
        }
    );
    let requests = stub.requests();
    assert_eq!(requests.len(), 3);
    let parameter = |name: &str| requests[2].parameter(name);
    assert!(is(&requests[2], "conversations.history") && requests[2].method == "GET");
    assert_eq!(
        (parameter("channel"), parameter("cursor")),
        (Some("C1".into()), Some("next".into()))
    );
    assert_eq!(
        (parameter("include_all_metadata"), parameter("inclusive")),
        (Some("true".into()), Some("true".into()))
    );
    assert_eq!(
        parameter("oldest"),
        Some((message().fired_s - 600).to_string())
    );
    let other = Message {
        delivery_id: "al_9-0".into(),
        ..message()
    };
    assert_eq!(bot.find(&other).await, Lookup::Absent);
}

#[tokio::test]
async fn searches_for_a_notice_in_its_thread_and_then_in_the_channel() {
    let stub = Stub::answering(|request| {
        if is(request, "conversations.replies") {
            error("thread_not_found")
        } else {
            page(&[("al_1-1", 1)], "")
        }
    })
    .await;
    let bot = bot_of(&stub.url(), &[("default", "C1")]);
    let notice = Message {
        delivery_id: "al_1-1".into(),
        notice: Some(NoticeKind::RespondSoon),
        thread: Some("C1:10.5".into()),
        ..message()
    };
    assert_eq!(
        bot.find(&notice).await,
        Lookup::Found {
            receipt: Some("C1:1.0".into()),
            revision: Some(1)
        }
    );
    assert_eq!(stub.requests()[0].parameter("ts"), Some("10.5".into()));
}

#[tokio::test]
async fn an_earlier_revision_that_arrived_is_found_as_such() {
    let stub = Stub::answering(|_| page(&[("al_1-0", 1)], "")).await;
    let bot = bot_of(&stub.url(), &[("default", "C1")]);
    let later = Message {
        revision: 2,
        ..message()
    };
    let found = bot.find(&later).await;
    assert_eq!(
        found,
        Lookup::Found {
            receipt: Some("C1:1.0".into()),
            revision: Some(1)
        }
    );
}

#[tokio::test]
async fn an_alert_and_its_resolution_stay_one_message_after_a_deletion() {
    let stub = Stub::answering(|request| {
        if request.method == "GET" {
            page(&[("al_1-0", 3)], "")
        } else {
            posted()
        }
    })
    .await;
    let bot = bot_of(&stub.url(), &[("default", "C1")]);
    // Posted again while it fired, and it is unknown whether that arrived.
    let over = Message {
        delivery_id: format!("al_1-0{}", super::super::RESOLVED),
        revision: 3,
        ..message()
    };
    assert_eq!(
        bot.find(&over).await,
        Lookup::Found {
            receipt: Some("C1:1.0".into()),
            revision: Some(3)
        }
    );
    bot.deliver(&over).await;
    let body = stub.requests().pop().expect("a request").json();
    assert_eq!(body["metadata"]["event_payload"]["delivery_id"], "al_1-0");
}

#[tokio::test]
async fn a_channel_name_is_resolved_once() {
    let stub = Stub::answering(|request| {
        let of_page = |name: &str, id: &str, next: &str| {
            let channels = json!([{"id": id, "name": name}]);
            Reply::json(json!({"ok": true, "channels": channels, "response_metadata": {"next_cursor": next}}))
        };
        match (is(request, "conversations.list"), request.parameter("types"), request.parameter("cursor")) {
            (false, ..) => page(&[("al_1-0", 1)], ""),
            (true, Some(types), _) if types.contains("private") => error("missing_scope"),
            (true, _, None) => of_page("general", "C5", "more"),
            (true, ..) => of_page("alerts", "C7", ""),
        }
    })
    .await;
    let bot = bot(&stub);
    for _ in 0..2 {
        assert_eq!(
            bot.find(&message()).await,
            Lookup::Found {
                receipt: Some("C7:1.0".into()),
                revision: Some(1)
            }
        );
    }
    assert_eq!(
        stub.requests()
            .iter()
            .filter(|r| is(r, "conversations.list"))
            .count(),
        3
    );
    let elsewhere = bot_of(&stub.url(), &[("default", "#nowhere")]);
    assert_eq!(elsewhere.find(&message()).await, Lookup::Inconclusive);
}

/// A workspace with more channels than are read: those beyond are not called invisible.
#[tokio::test]
async fn a_list_of_channels_that_is_too_long_is_not_read_to_its_end() {
    let stub = Stub::answering(|_| {
        let channels = json!([{"id": "C5", "name": "general"}]);
        let next = json!({"next_cursor": "more"});
        Reply::json(json!({"ok": true, "channels": channels, "response_metadata": next}))
    })
    .await;
    let bot = bot(&stub);
    for _ in 0..2 {
        assert_eq!(bot.find(&message()).await, Lookup::Inconclusive);
    }
    assert_eq!(stub.requests().len(), 10, "not read again at once");
    assert_eq!(bot.channels.id("#alerts"), Id::Unknown(Listed::Partly));
}

#[tokio::test]
async fn a_failed_search_is_reported() {
    let table = [
        (Reply::status(429), "later"),
        (Reply::status(503), "later"),
        (error("ratelimited"), "later"),
        (Reply::ok("?"), "later"),
        (Reply::silence(), "later"),
        (error("missing_scope"), "inconclusive"),
        (error("not_in_channel"), "inconclusive"),
        (error("invalid_auth"), "inconclusive"),
        // More pages than the search reads.
        (page(&[], "on"), "inconclusive"),
    ];
    for (reply, expected) in table {
        let (answer, count) = (reply.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = count.clone();
        let stub = Stub::answering(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            answer.clone()
        })
        .await;
        let found = bot_of(&stub.url(), &[("default", "C1")])
            .find(&message())
            .await;
        let word = match &found {
            Lookup::Later { .. } => "later",
            Lookup::Inconclusive => "inconclusive",
            Lookup::Repeatable => "repeatable",
            _ => "else",
        };
        assert_eq!(word, expected, "{reply:?}");
        assert!(!format!("{found:?}").contains("hidden") && count.load(Ordering::Relaxed) <= 5);
    }
}
