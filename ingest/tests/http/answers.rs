//! The answer to each request, and what reaches the queue.

use revwatch_core::event::partition_of;
use revwatch_runtime::telemetry::{Correlation, parse_traceparent};

use crate::support::{
    Behaviour, KERNEL_SECRET, PATH, SECRET, Server, chunked, event, limits, now_s, post,
    read_answer, sign, signed,
};

#[tokio::test]
async fn a_signed_event_is_stored_byte_for_byte() {
    let server = Server::start(limits()).await;
    // Spaces, escapes and a byte order that no serializer would reproduce.
    let body = format!(
        "{{ \"type\" : \"made\\u002eup\",\n\"id\":\"evt_1\", \"account\":\"acct_1\", \"created\": {}}}  \n",
        now_s()
    );
    let signature = format!("Stripe-Signature: {}", sign(SECRET, body.as_bytes()));
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = server
        .send(&post(PATH, &[&signature, trace], body.as_bytes()))
        .await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"status":"stored"}"#)
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("connection"), None);

    let stored = server.queue.stored();
    let delivery = stored.first().expect("one delivery");
    assert_eq!(delivery.body, body.as_bytes());
    assert_eq!(
        (delivery.event_id.as_str(), delivery.event_type.as_str()),
        ("evt_1", "made.up")
    );
    assert_eq!(
        (delivery.endpoint.as_str(), delivery.partition),
        ("stripe", partition_of("acct_1", 8))
    );
    // The event's own trace, regardless of the sender's header; not sampled, because traces are
    // off.
    let context = delivery
        .traceparent
        .as_deref()
        .and_then(parse_traceparent)
        .expect("a valid traceparent");
    assert_eq!(
        (context.trace_id(), context.is_sampled()),
        (Correlation::of("evt_1").trace_id, false)
    );
    assert!(
        (now_s() - delivery.received_ms / 1000).abs() <= 5 && delivery.id.get_version_num() == 7
    );
    assert_eq!(server.count("stripe", "stored"), 1);
    assert_eq!(server.metrics.ingest_publish_seconds.get_sample_count(), 1);
}

#[tokio::test]
async fn a_chunked_body_is_reassembled_and_the_connection_is_reused() {
    use tokio::io::AsyncWriteExt;
    let server = Server::start(limits()).await;
    let body = event("evt_1", true);
    let signature = format!("stripe-signature: {}", sign(SECRET, &body));
    let mut stream = server.connect().await;
    for size in [1, 7, 4096] {
        stream
            .write_all(&chunked(PATH, &[&signature], &body, size))
            .await
            .expect("to send");
        assert_eq!(
            read_answer(&mut stream).await.outcome(),
            "stored",
            "chunks of {size}"
        );
    }
    stream
        .write_all(&signed(PATH, SECRET, &body))
        .await
        .expect("to send");
    assert_eq!(read_answer(&mut stream).await.outcome(), "stored");
    assert!(
        server
            .queue
            .stored()
            .iter()
            .all(|delivery| delivery.body == body)
    );
}

#[tokio::test]
async fn endpoints_keep_their_secrets_separate_and_take_events_of_both_modes() {
    let server = Server::start(limits()).await;
    let (live, test) = (event("evt_live", true), event("evt_test", false));
    let kernel = "/webhooks/kernel/stripe";
    let table: [(&str, &str, &[u8], &str); 6] = [
        (PATH, SECRET, &live, "stored"),
        (PATH, KERNEL_SECRET, &live, "signature_mismatch"),
        (kernel, KERNEL_SECRET, &live, "stored"),
        (kernel, SECRET, &live, "signature_mismatch"),
        (PATH, SECRET, &test, "stored"),
        (kernel, KERNEL_SECRET, &test, "stored"),
    ];
    for (path, secret, body, expected) in table {
        let answer = server.send(&signed(path, secret, body)).await;
        assert_eq!(answer.outcome(), expected, "{path} {secret}");
        assert_eq!(
            answer.status,
            if expected == "signature_mismatch" {
                400
            } else {
                200
            }
        );
    }
    assert_eq!(server.queue.stored().len(), 4);
    assert_eq!(
        (
            server.count("stripe", "stored"),
            server.count("kernel", "signature_mismatch")
        ),
        (2, 1)
    );
}

#[tokio::test]
async fn every_refusal_has_its_status_reason_and_count() {
    let server = Server::start(limits()).await;
    let body = event("evt_1", true);
    let signature = format!("stripe-signature: {}", sign(SECRET, &body));
    let with = |header: &str| post(PATH, &[&signature, header], &body);
    let large = vec![b'x'; 4097];
    let exact = vec![b'x'; 4096];
    let end = b"0\r\n\r\n";
    let bad_chunks = [
        chunked(PATH, &[], &body, 9)
            .strip_suffix(end)
            .expect("the last chunk"),
        b"zz\r\n",
    ]
    .concat();
    let table: Vec<(&str, Vec<u8>, u16, &str, &str)> = vec![
        (
            "not JSON",
            signed(PATH, SECRET, b"{\"id\":"),
            400,
            "stripe",
            "invalid_json",
        ),
        (
            "not text",
            signed(PATH, SECRET, b"\xff\x00"),
            400,
            "stripe",
            "invalid_json",
        ),
        (
            "an empty body",
            signed(PATH, SECRET, b""),
            400,
            "stripe",
            "invalid_json",
        ),
        (
            "not an event",
            signed(PATH, SECRET, b"{\"id\":\"evt_1\"}"),
            400,
            "stripe",
            "not_an_event",
        ),
        (
            "an array",
            signed(PATH, SECRET, b"[]"),
            400,
            "stripe",
            "not_an_event",
        ),
        (
            "no signature",
            post(PATH, &[], &body),
            400,
            "stripe",
            "signature_missing",
        ),
        (
            "another path",
            signed("/webhooks", SECRET, &body),
            404,
            "none",
            "not_found",
        ),
        (
            "a longer path",
            signed("/webhooks/stripe/", SECRET, &body),
            404,
            "none",
            "not_found",
        ),
        (
            "the root",
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            404,
            "none",
            "not_found",
        ),
        (
            "GET",
            b"GET /webhooks/stripe HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            405,
            "stripe",
            "method_not_allowed",
        ),
        (
            "PUT",
            [b"PUT", &with("x: y")[4..]].concat(),
            405,
            "stripe",
            "method_not_allowed",
        ),
        (
            "a form",
            with("content-type: text/plain"),
            415,
            "stripe",
            "unsupported_media_type",
        ),
        (
            "too large",
            post(PATH, &[], &large),
            413,
            "stripe",
            "too_large",
        ),
        (
            "too large, chunked",
            chunked(PATH, &[], &large, 1000),
            413,
            "stripe",
            "too_large",
        ),
        (
            "as large as allowed",
            signed(PATH, SECRET, &exact),
            400,
            "stripe",
            "invalid_json",
        ),
        ("bad chunks", bad_chunks, 400, "stripe", "incomplete_body"),
    ];
    for (case, request, status, endpoint, reason) in table {
        let before = server.count(endpoint, reason);
        let answer = server.send(&request).await;
        assert_eq!(
            (answer.status, answer.outcome().as_str()),
            (status, reason),
            "{case}: {answer:?}"
        );
        assert_eq!(server.count(endpoint, reason), before + 1, "{case}");
        assert_eq!(
            answer.header("allow"),
            (status == 405).then_some("POST"),
            "{case}"
        );
        assert!(
            !answer.body.contains("evt_1"),
            "{case}: an answer repeats no part of the body"
        );
    }
    let accepted = [
        "content-type: application/json",
        "content-type: APPLICATION/JSON;charset=utf-8",
        "x-other: 1",
    ];
    for header in accepted {
        assert_eq!(server.send(&with(header)).await.status, 200, "{header}");
    }
    assert_eq!(
        server
            .send(&signed("/webhooks/stripe?from=stripe", SECRET, &body))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_failing_queue_is_answered_503_and_the_retry_is_stored() {
    let server = Server::start(limits()).await;
    let request = signed(PATH, SECRET, &event("evt_1", true));
    for behaviour in [Behaviour::Fail, Behaviour::Misconfigured, Behaviour::Panic] {
        server.queue.set(behaviour);
        let answer = server.send(&request).await;
        assert_eq!(
            (answer.status, answer.outcome().as_str()),
            (503, "unavailable"),
            "{behaviour:?}"
        );
        assert!(answer.header("retry-after").is_some());
        assert!(
            !answer.body.contains("broker"),
            "the cause belongs in the log"
        );
    }
    server.queue.set(Behaviour::Succeed);
    assert_eq!(server.send(&request).await.outcome(), "stored");
    assert_eq!(
        (
            server.count("stripe", "unavailable"),
            server.count("stripe", "stored")
        ),
        (3, 1)
    );
}
