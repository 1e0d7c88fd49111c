//! What the application sends: one event, or a batch of them.

use revwatch_core::app_event;
use revwatch_core::event::partition_of;
use serde_json::{Value, json};

use crate::support::{
    APP_PATH, Answered, Behaviour, PATH, SECRET, Server, app_key, event, limits, now_s, post,
    signed,
};

const BATCH: &str = "/webhooks/app/batch";

fn opened(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/support", "type": "ticket.opened",
        "time": jiff::Timestamp::now().to_string(),
        "data": {"ticket": "T-1", "customer": "cus_1", "topic": "billing"},
    })
}

/// A request that was signed this many seconds ago.
fn signed_ago(path: &str, age_s: i64, more: &[&str], body: &[u8]) -> Vec<u8> {
    let at_s = now_s() - age_s;
    let signature = app_key().sign("msg_1", at_s, body);
    let headers = [
        "webhook-id: msg_1".to_owned(),
        format!("webhook-timestamp: {at_s}"),
        format!("webhook-signature: v1,AAAA {signature}"),
    ];
    let headers = headers.iter().map(String::as_str);
    post(
        path,
        &headers.chain(more.iter().copied()).collect::<Vec<_>>(),
        body,
    )
}

async fn send(server: &Server, path: &str, body: &Value) -> Answered {
    let body = body.to_string();
    server
        .send(&signed_ago(path, 0, &[], body.as_bytes()))
        .await
}

fn pointer(answer: &Answered) -> Value {
    let json: Value = serde_json::from_str(&answer.body).expect("JSON");
    json["error"]["pointer"].clone()
}

#[tokio::test]
async fn a_signed_event_of_the_application_is_stored_byte_for_byte() {
    let server = Server::start(limits()).await;
    let body = format!("{}  \n", opened("1"));
    let answer = server
        .send(&signed_ago(APP_PATH, 0, &[], body.as_bytes()))
        .await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"status":"stored"}"#)
    );
    let stored = server.queue.stored();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].body, body.as_bytes());
    assert_eq!(stored[0].event_id, app_event::key("/support", "1"));
    assert_eq!(
        (stored[0].event_type.as_str(), stored[0].endpoint.as_str()),
        ("ticket.opened", "app")
    );
    assert_eq!(stored[0].partition, partition_of("T-1", 8));
    assert_eq!(server.count("app", "stored"), 1);
}

#[tokio::test]
async fn the_media_types_of_cloud_events_are_accepted_where_they_belong() {
    let server = Server::start(limits()).await;
    let (one, batch) = (
        "application/cloudevents+json",
        "application/cloudevents-batch+json; charset=utf-8",
    );
    for (path, media, expected) in [
        (APP_PATH, one, 200),
        (APP_PATH, "application/json", 200),
        (APP_PATH, batch, 415),
        (APP_PATH, "text/plain", 415),
        (BATCH, batch, 200),
        (BATCH, "application/json", 200),
        (BATCH, one, 415),
        (PATH, one, 415),
    ] {
        let body = if path == BATCH {
            json!([opened("1")])
        } else {
            opened("1")
        };
        let header = format!("content-type: {media}");
        let answer = server
            .send(&signed_ago(
                path,
                0,
                &[&header],
                body.to_string().as_bytes(),
            ))
            .await;
        assert_eq!(answer.status, expected, "{path} {media}: {}", answer.body);
    }
}

#[tokio::test]
async fn what_is_not_signed_by_the_application_is_refused_as_stripes_is() {
    let server = Server::start(limits()).await;
    let body = opened("1").to_string();
    let body = body.as_bytes();
    for (request, status, outcome) in [
        (post(APP_PATH, &[], body), 400, "signature_missing"),
        (
            post(
                APP_PATH,
                &[
                    "webhook-id: 1",
                    "webhook-timestamp: soon",
                    "webhook-signature: v1,a",
                ],
                body,
            ),
            400,
            "signature_without_timestamp",
        ),
        (
            post(
                APP_PATH,
                &[
                    "webhook-id: 1",
                    "webhook-timestamp: 1",
                    "webhook-signature: v2,a",
                ],
                body,
            ),
            400,
            "signature_without_v1",
        ),
        (
            post(
                APP_PATH,
                &[
                    "webhook-id: 1",
                    "webhook-timestamp: 1",
                    "webhook-signature: v1,AAAA",
                ],
                body,
            ),
            400,
            "signature_mismatch",
        ),
        (signed(APP_PATH, SECRET, body), 400, "signature_missing"),
        (signed_ago(PATH, 0, &[], body), 400, "signature_missing"),
        (
            signed_ago(APP_PATH, 400, &[], body),
            400,
            "signature_too_old",
        ),
        (
            signed_ago(APP_PATH, -400, &[], body),
            503,
            "signature_from_future",
        ),
        (signed_ago("/webhooks/app/", 0, &[], body), 404, "not_found"),
        (
            signed_ago("/webhooks/stripe/batch", 0, &[], body),
            404,
            "not_found",
        ),
        (
            signed_ago(APP_PATH, 0, &[], &vec![b' '; 5000]),
            413,
            "too_large",
        ),
    ] {
        let answer = server.send(&request).await;
        assert_eq!(
            (answer.status, answer.outcome().as_str()),
            (status, outcome),
            "{}",
            answer.body
        );
    }
    assert!(server.queue.stored().is_empty());
}

/// A proxy may split a list of signatures into lines, or join lines.
#[tokio::test]
async fn signatures_in_several_lines_are_one_list() {
    let server = Server::start(limits()).await;
    let body = opened("1").to_string();
    let (body, at_s) = (body.as_bytes(), now_s());
    let signature = app_key().sign("msg_1", at_s, body);
    let (id, time) = ("webhook-id: msg_1", format!("webhook-timestamp: {at_s}"));
    for lines in [
        vec![
            "webhook-signature: v1,AAAA".to_owned(),
            format!("webhook-signature: {signature}"),
        ],
        vec![format!("webhook-signature: {signature}, v1,AAAA")],
        vec![format!("webhook-signature: v1,AAAA, {signature}")],
    ] {
        let mut headers = vec![id, &time];
        headers.extend(lines.iter().map(String::as_str));
        let answer = server.send(&post(APP_PATH, &headers, body)).await;
        assert_eq!(answer.status, 200, "{lines:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_malformed_event_is_refused_with_a_pointer() {
    let server = Server::start(limits()).await;
    let with = |place: &str, value: Value| {
        let mut event = opened("1");
        *event.pointer_mut(place).expect("a field") = value;
        event
    };
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(25);
    for (event, place) in [
        (with("/data/ticket", json!(7)), "/data/ticket"),
        (with("/data", json!({"ticket": "T-1"})), "/data/customer"),
        (with("/time", json!("yesterday")), "/time"),
        (with("/time", json!(later.to_string())), "/time"),
        (with("/specversion", json!("2.0")), "/specversion"),
        (json!([opened("1")]), ""),
    ] {
        let answer = send(&server, APP_PATH, &event).await;
        assert_eq!(
            (answer.status, answer.outcome().as_str()),
            (400, "not_an_event")
        );
        assert_eq!(pointer(&answer), place, "{}", answer.body);
    }
    let answer = server.send(&signed_ago(APP_PATH, 0, &[], b"{")).await;
    assert_eq!((answer.status, pointer(&answer)), (400, json!("")));
    let mut unknown = opened("2");
    unknown["type"] = json!("ticket.escalated");
    assert_eq!(send(&server, APP_PATH, &unknown).await.status, 200);
    let stored = server.queue.stored();
    assert_eq!(stored.len(), 1, "only that of an unknown type");
}

/// Each event is kept under the id of its source, so that one of Stripe's could replace it.
#[tokio::test]
async fn an_event_of_stripes_cannot_have_an_id_that_another_source_makes() {
    let server = Server::start(limits()).await;
    for id in [app_event::key("/support", "1"), "evt_refresh_1".to_owned()] {
        let bare = format!(r#"{{"id":"{id}","object":"event"}}"#);
        for body in [event(&id, true), bare.into_bytes()] {
            let answer = server.send(&signed(PATH, SECRET, &body)).await;
            assert_eq!(
                (answer.status, answer.outcome().as_str()),
                (400, "not_an_event")
            );
        }
    }
    assert!(server.queue.stored().is_empty());
}

#[tokio::test]
async fn a_batch_is_answered_for_each_event() {
    let server = Server::start(limits()).await;
    let mut bad = opened("2");
    bad["data"]["topic"] = Value::Null;
    let batch = json!([opened("1"), bad, opened("3"), [], opened("1")]);
    let answer = send(&server, BATCH, &batch).await;
    assert_eq!(answer.status, 200);
    let json: Value = serde_json::from_str(&answer.body).expect("JSON");
    let events = json["events"].as_array().expect("a list");
    let stored = json!({"status": "stored"});
    assert_eq!(events.len(), 5);
    for place in [0, 2, 4] {
        assert_eq!(events[place], stored);
    }
    assert_eq!(events[1]["error"]["pointer"], "/data/topic");
    assert_eq!(events[3]["error"]["pointer"], "");
    let deliveries = server.queue.stored();
    let bodies: Vec<Value> = deliveries
        .iter()
        .map(|it| serde_json::from_slice(&it.body).expect("JSON"))
        .collect();
    assert!(
        [opened("1"), opened("3"), opened("1")]
            .iter()
            .map(|it| &it["id"])
            .eq(bodies.iter().map(|it| &it["id"]))
    );
    let ids: std::collections::BTreeSet<_> = deliveries.iter().map(|it| it.id).collect();
    assert_eq!(ids.len(), 3, "each is a delivery of its own");
    assert_eq!(
        (
            server.count("app", "stored"),
            server.count("app", "not_an_event")
        ),
        (3, 2)
    );
    assert_eq!(server.counted(), 5);
}

#[tokio::test]
async fn a_batch_without_an_event_or_with_too_many_stores_nothing() {
    let server = Server::start(limits()).await;
    let answer = send(&server, BATCH, &json!([])).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"events":[]}"#)
    );
    for body in [json!({}), opened("1"), json!(vec![1; 101])] {
        let answer = send(&server, BATCH, &body).await;
        assert_eq!(
            (answer.status, answer.outcome().as_str()),
            (400, "not_an_event")
        );
        assert_eq!(pointer(&answer), "");
    }
    let answer = server.send(&signed_ago(BATCH, 0, &[], b"[{]")).await;
    assert_eq!(answer.status, 400);
    assert!(server.queue.stored().is_empty());
}

/// It may be larger than the number of deliveries that may be published at one time.
#[tokio::test]
async fn all_of_a_batch_is_durable_before_it_is_answered() {
    let server = Server::start(revwatch_runtime::config::Limits {
        in_flight: 2,
        body_bytes: 65_536,
        ..limits()
    })
    .await;
    let batch: Vec<Value> = (0..7).map(|n| opened(&n.to_string())).collect();
    let answer = send(&server, BATCH, &json!(batch)).await;
    assert_eq!((answer.status, server.queue.stored().len()), (200, 7));
    server.queue.set(Behaviour::Fail);
    let answer = send(&server, BATCH, &json!(batch)).await;
    assert_eq!(
        (answer.status, answer.outcome().as_str()),
        (503, "unavailable")
    );
    assert_eq!(server.count("app", "unavailable"), 7);
}
