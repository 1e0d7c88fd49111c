//! Thousands of refused requests at once: nothing crashes, each gets its documented answer, and the
//! counters add up.

use std::sync::Arc;

use revwatch_core::signature::SigningKey;
use revwatch_runtime::config::Limits;
use tokio::io::AsyncWriteExt;

use crate::support::{
    PATH, SECRET, Server, chunked, event, limits, now_s, post, read_answer, sign, signed, until,
    within,
};

const REQUESTS: usize = 5_000;
const SENDERS: usize = 16;

/// A request, whether the sender stops sending after it, and the expected answer.
struct Case {
    request: Vec<u8>,
    half_closes: bool,
    status: u16,
    outcome: &'static str,
}

fn cases() -> Vec<Case> {
    let body = event("evt_1", true);
    let old = SigningKey::new(SECRET)
        .expect("a secret")
        .header(now_s() - 10_000, &body);
    let nested = [
        br#"{"id":"evt_1","data":{"object":"#.as_slice(),
        &[b'['; 4000],
    ]
    .concat();
    let large = vec![b'{'; 20_000];
    let complete = signed(PATH, SECRET, &body);
    let case = |request: Vec<u8>, status, outcome| Case {
        request,
        half_closes: false,
        status,
        outcome,
    };
    let cut = |request: &[u8], status, outcome| Case {
        request: request.to_vec(),
        half_closes: true,
        status,
        outcome,
    };
    vec![
        case(post(PATH, &[], &body), 400, "signature_missing"),
        case(
            signed(PATH, "whsec_guess", &body),
            400,
            "signature_mismatch",
        ),
        case(
            post(PATH, &[&format!("stripe-signature: {old}")], &body),
            400,
            "signature_too_old",
        ),
        case(
            post(PATH, &["stripe-signature: t=1,v0=00"], &body),
            400,
            "signature_without_v1",
        ),
        case(
            signed(PATH, SECRET, &body[..body.len() / 2]),
            400,
            "invalid_json",
        ),
        case(signed(PATH, SECRET, &nested), 400, "invalid_json"),
        case(signed(PATH, SECRET, &[b'['; 4000]), 400, "not_an_event"),
        case(signed(PATH, SECRET, br#"{"id":1}"#), 400, "not_an_event"),
        case(post(PATH, &[], &large), 413, "too_large"),
        case(chunked(PATH, &[], &large, 777), 413, "too_large"),
        case(post("/", &[], &body), 404, "not_found"),
        case(
            post(PATH, &["content-type: text/xml"], &body),
            415,
            "unsupported_media_type",
        ),
        case(
            b"DELETE /webhooks/stripe HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            405,
            "method_not_allowed",
        ),
        case(
            b"\x16\x03\x01\x02\x00 a TLS client hello, say\r\n\r\n".to_vec(),
            400,
            "none",
        ),
        case(
            b"POST /webhooks/stripe HTTP/1.1\r\ncontent-length: minus\r\n\r\n".to_vec(),
            400,
            "none",
        ),
        case(
            post(PATH, &[&format!("x: {}", "y".repeat(30_000))], &body),
            431,
            "none",
        ),
        case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 0, "none"),
        cut(&complete[..complete.len() - 5], 400, "incomplete_body"),
        cut(&complete[..40], 0, "none"),
        case(complete, 200, "stored"),
        case(
            chunked(
                PATH,
                &[&format!("stripe-signature: {}", sign(SECRET, &body))],
                &body,
                50,
            ),
            200,
            "stored",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_bad_requests_are_each_answered_and_counted() {
    let server = Arc::new(Server::start(limits()).await);
    let cases = Arc::new(cases());
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let (server, cases) = (server.clone(), cases.clone());
        senders.spawn(async move {
            for number in (sender..REQUESTS).step_by(SENDERS) {
                let index = number % cases.len();
                let case = &cases[index];
                let mut stream = server.connect().await;
                let _ = within(stream.write_all(&case.request)).await;
                if case.half_closes {
                    let _ = stream.shutdown().await;
                }
                let answer = read_answer(&mut stream).await;
                assert_eq!(
                    (answer.status, answer.outcome().as_str()),
                    (case.status, case.outcome),
                    "case {index}"
                );
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.expect("every answer as documented");
    }
    let sent = u64::try_from(REQUESTS).expect("small");
    until(|| server.counted() >= sent).await;
    assert_eq!(server.counted(), sent);
    let each = sent / u64::try_from(cases.len()).expect("small");
    for (endpoint, outcome, kinds) in [
        ("stripe", "stored", 2),
        ("stripe", "too_large", 2),
        ("stripe", "signature_too_old", 1),
        ("stripe", "incomplete_body", 1),
        ("none", "malformed_http", 3),
        ("none", "header_too_large", 1),
        ("none", "aborted", 1),
        ("none", "not_found", 1),
    ] {
        assert_eq!(
            server.count(endpoint, outcome),
            kinds * each,
            "{endpoint} {outcome}"
        );
    }
    assert_eq!(
        server.queue.stored().len(),
        2 * usize::try_from(each).expect("small")
    );
    assert_eq!(
        server
            .send(&signed(PATH, SECRET, &event("evt_2", true)))
            .await
            .status,
        200,
        "and the edge still works"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_events_pass_a_flood_of_refused_ones_from_the_same_address() {
    let server = Arc::new(
        Server::start(Limits {
            refused_per_second: 1,
            refused_burst: 50,
            ..limits()
        })
        .await,
    );
    let started = std::time::Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..SENDERS {
        let server = server.clone();
        senders.spawn(async move {
            let (forged, right) = (event("evt_1", true), event("evt_2", true));
            let (forged, right) = (
                signed(PATH, "whsec_guess", &forged),
                signed(PATH, SECRET, &right),
            );
            for _ in 0..100 {
                let refused = server.send(&forged).await.status;
                assert!(refused == 429 || refused == 400, "{refused}");
                assert_eq!(server.send(&right).await.status, 200);
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.expect("every answer as documented");
    }
    let (limited, refused) = (
        server.count("stripe", "limited"),
        server.count("stripe", "signature_mismatch"),
    );
    // Fifty at once, and one more for each second that the test took.
    assert!(
        (50..=51 + started.elapsed().as_secs()).contains(&refused),
        "{refused}"
    );
    assert_eq!(limited + refused, 100 * 16);
    assert_eq!(server.count("stripe", "stored"), 100 * 16);
}
