//! Slow senders, full queues, hanging queues, too many connections, too many refusals.

use std::sync::Arc;

use revwatch_ingest::{Ingest, Settings, StartError};
use revwatch_runtime::config::Limits;
use revwatch_storage::system::{SystemClock, SystemIds};
use tokio::io::AsyncWriteExt;

use crate::support::{
    Behaviour, PATH, SECRET, Server, chunked, event, limits, post, read_answer, signed, until,
    within,
};

#[tokio::test]
async fn a_sender_with_slow_headers_is_disconnected() {
    let server = Server::start(Limits {
        header_seconds: 0.2,
        ..limits()
    })
    .await;
    let mut stream = server
        .sending(b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\n")
        .await;
    assert_eq!(read_answer(&mut stream).await.status, 0);
    until(|| server.count("none", "header_timeout") == 1).await;

    // One that sends nothing is disconnected as well, but it is not a request.
    let mut silent = server.connect().await;
    assert_eq!(read_answer(&mut silent).await.status, 0);
    assert_eq!(server.counted(), 1);
}

#[tokio::test]
async fn a_connection_that_has_served_a_request_may_be_idle_longer_than_headers_may_take() {
    let server = Server::start(Limits {
        header_seconds: 0.2,
        ..limits()
    })
    .await;
    let request = signed(PATH, SECRET, &event("evt_1", true));
    let mut kept = server.served(1, &request).await.remove(0);
    let mut silent = server.connect().await;
    assert_eq!(read_answer(&mut silent).await.status, 0);
    // More than the time of the headers has passed.
    kept.write_all(&request).await.expect("it is still open");
    assert_eq!(read_answer(&mut kept).await.status, 200);
    // The second request on a connection has no more time for its headers than the first.
    kept.write_all(b"POST /webhooks/stripe HTTP/1.1\r\n")
        .await
        .expect("it is still open");
    assert_eq!(read_answer(&mut kept).await.status, 0);
    until(|| server.count("none", "header_timeout") == 1).await;
}

#[tokio::test]
async fn a_connection_that_is_idle_too_long_is_closed_and_not_counted() {
    let server = Server::start(Limits {
        idle_seconds: 0.2,
        ..limits()
    })
    .await;
    let request = signed(PATH, SECRET, &event("evt_1", true));
    let mut idle = server.served(1, &request).await.remove(0);
    assert_eq!(read_answer(&mut idle).await.status, 0);
    assert_eq!(server.counted(), 1);
}

#[tokio::test]
async fn a_sender_with_a_slow_body_is_answered_408() {
    let server = Server::start(Limits {
        body_seconds: 0.2,
        ..limits()
    })
    .await;
    let request = signed(PATH, SECRET, &event("evt_1", true));
    let mut stream = server.sending(&request[..request.len() - 1]).await;
    let answer = read_answer(&mut stream).await;
    assert_eq!((answer.status, answer.outcome().as_str()), (408, "timeout"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(server.count("stripe", "timeout"), 1);
}

/// Pipelines requests and never reads: the edge must neither collect answers in memory nor keep the
/// connection forever.
#[tokio::test]
async fn a_sender_that_does_not_read_its_answers_is_disconnected() {
    let server = Server::start(Limits {
        body_seconds: 0.3,
        ..limits()
    })
    .await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(server.addr).await.expect("the listener");
    let requests = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    within(async { while stream.write_all(&requests).await.is_ok() {} }).await;
}

#[tokio::test]
async fn headers_that_are_too_large_are_answered_431() {
    let server = Server::start(limits()).await;
    let answer = server
        .send(&post(
            PATH,
            &[&format!("x: {}", "y".repeat(200_000))],
            b"{}",
        ))
        .await;
    assert_eq!(answer.status, 431, "{answer:?}");
    let many: Vec<String> = (0..200).map(|n| format!("x-{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(server.send(&post(PATH, &many, b"{}")).await.status, 431);
    until(|| server.count("none", "header_too_large") == 2).await;
}

/// The sender writes everything before it reads: the answer must survive what is still sent. The
/// body exceeds the kernel's buffers, so that a reset would be noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_413_reaches_senders_that_keep_writing() {
    let server = Server::start(limits()).await;
    let body = vec![b'x'; 12 * 1024 * 1024];
    for request in [post(PATH, &[], &body), chunked(PATH, &[], &body, 10_000)] {
        for _ in 0..5 {
            let mut stream = server.connect().await;
            within(stream.write_all(&request))
                .await
                .expect("the complete request is accepted");
            let answer = read_answer(&mut stream).await;
            assert_eq!(
                (answer.status, answer.header("connection")),
                (413, Some("close"))
            );
        }
    }
    // The same through an ordinary client.
    let client = reqwest::Client::new();
    let answer = client
        .post(format!("http://{}{PATH}", server.addr))
        .body(body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 413);
    assert_eq!(server.count("stripe", "too_large"), 11);
}

/// A sender that asks for permission is refused before it sends its body.
#[tokio::test]
async fn a_413_replaces_100_continue() {
    let server = Server::start(limits()).await;
    let mut stream = server.connect().await;
    let head = "POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("to send");
    assert_eq!(read_answer(&mut stream).await.status, 413);
}

#[tokio::test]
async fn too_many_in_flight_is_answered_503_at_once() {
    let server = Server::start(Limits {
        in_flight: 2,
        ..limits()
    })
    .await;
    server.queue.set(Behaviour::Gated);
    let request = signed(PATH, SECRET, &event("evt_1", true));
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let stream = server.sending(&request).await;
        waiting.push(stream);
    }
    until(|| server.queue.begun() == 2).await;
    let answer = server.send(&request).await;
    assert_eq!(
        (
            answer.status,
            answer.outcome().as_str(),
            answer.header("retry-after")
        ),
        (503, "overloaded", Some("1"))
    );
    server.queue.gate.add_permits(3);
    for stream in &mut waiting {
        assert_eq!(read_answer(stream).await.status, 200);
    }
    assert_eq!(server.send(&request).await.status, 200);
    assert_eq!(
        (
            server.count("stripe", "overloaded"),
            server.count("stripe", "stored")
        ),
        (1, 3)
    );
}

#[tokio::test]
async fn a_hanging_queue_is_answered_503_and_blocks_nothing() {
    let server = Server::start(Limits {
        publish_seconds: 0.2,
        in_flight: 1,
        ..limits()
    })
    .await;
    server.queue.set(Behaviour::Hang);
    let request = signed(PATH, SECRET, &event("evt_1", true));
    let answer = server.send(&request).await;
    assert_eq!(
        (answer.status, answer.outcome().as_str()),
        (503, "unavailable")
    );
    assert_eq!(answer.header("retry-after"), Some("5"));
    // The hanging publish is abandoned after a while, and then even the only permit is available
    // again.
    server.queue.set(Behaviour::Succeed);
    within(async { while server.send(&request).await.status != 200 {} }).await;
}

#[tokio::test]
async fn a_publish_confirmed_after_the_answer_is_counted_as_unavailable() {
    let server = Server::start(Limits {
        publish_seconds: 0.5,
        ..limits()
    })
    .await;
    server.queue.set(Behaviour::Gated);
    assert_eq!(
        server
            .send(&signed(PATH, SECRET, &event("evt_1", true)))
            .await
            .status,
        503
    );
    server.queue.gate.add_permits(1);
    until(|| server.queue.stored().len() == 1).await;
    assert_eq!(
        (
            server.count("stripe", "unavailable"),
            server.count("stripe", "stored")
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn a_disconnecting_sender_does_not_cancel_its_publish() {
    let server = Server::start(limits()).await;
    server.abandoned_publish().await;
    server.queue.gate.add_permits(1);
    until(|| server.queue.stored().len() == 1).await;
    until(|| server.count("stripe", "stored") == 1).await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_refusals_are_limited_by_the_reported_client() {
    let limits = || Limits {
        refused_per_second: 1,
        refused_burst: 2,
        ..limits()
    };
    let server = Server::behind("127.0.0.1", limits()).await;
    let body = event("evt_1", true);
    let send = async |server: &Server, lines: &[&str]| {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| format!("X-Forwarded-For: {line}"))
            .collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        server.send(&post(PATH, &lines, &body)).await.status
    };
    let table: [(&[&str], u16); 8] = [
        (&["198.51.100.1"], 400),
        // What the client itself wrote precedes what the proxy added.
        (&["203.0.113.1, 198.51.100.1"], 400),
        (&["203.0.113.2", "198.51.100.1, 127.0.0.1"], 429),
        (&["198.51.100.2"], 400),
        // Without a valid value the proxy's own address is used.
        (&[], 400),
        (&["198.51.100.3, junk"], 400),
        (&["junk"], 429),
        (&["198.51.100.2"], 400),
    ];
    for (lines, expected) in table {
        assert_eq!(send(&server, lines).await, expected, "{lines:?}");
    }
    // From an untrusted peer the header is ignored.
    let server = Server::start(limits()).await;
    for (client, expected) in [
        ("198.51.100.1", 400),
        ("198.51.100.2", 400),
        ("198.51.100.3", 429),
    ] {
        assert_eq!(send(&server, &[client]).await, expected, "{client}");
    }
}

#[tokio::test]
async fn refusals_are_limited_by_address_and_signed_events_are_not() {
    let server = Server::start(Limits {
        refused_per_second: 1,
        refused_burst: 3,
        ..limits()
    })
    .await;
    let (body, large) = (event("evt_1", true), vec![b'x'; 5000]);
    let unsigned = post(PATH, &[], &body);
    for _ in 0..3 {
        assert_eq!(server.send(&unsigned).await.status, 400);
    }
    let not_found = post("/nowhere", &[], &body);
    for request in [&unsigned, &not_found, &post(PATH, &[], &large), &unsigned] {
        let answer = server.send(request).await;
        assert_eq!((answer.status, answer.outcome().as_str()), (429, "limited"));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(server.send(&signed(PATH, SECRET, &body)).await.status, 200);
    }
    // A valid signature is enough, whatever was signed.
    assert_eq!(server.send(&signed(PATH, SECRET, b"{}")).await.status, 400);
    assert_eq!(
        server.count("stripe", "limited") + server.count("none", "limited"),
        4
    );
    assert_eq!(server.count("stripe", "stored"), 4);
}

#[tokio::test]
async fn limits_out_of_range_are_refused_at_start() {
    let server = Server::start(limits()).await;
    let start = |limits: Limits| {
        Ingest::bind(Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            trusted_proxies: Default::default(),
            endpoints: Vec::new(),
            limits,
            queue: server.queue.clone(),
            metrics: server.metrics.clone(),
            tracer: Default::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        })
    };
    for (limits, expected) in [
        (
            Limits {
                header_seconds: -1.0,
                ..limits()
            },
            "header_seconds",
        ),
        (
            Limits {
                idle_seconds: 0.0,
                ..limits()
            },
            "idle_seconds",
        ),
        (
            Limits {
                body_seconds: f64::NAN,
                ..limits()
            },
            "body_seconds",
        ),
        (
            Limits {
                publish_seconds: f64::INFINITY,
                ..limits()
            },
            "publish_seconds",
        ),
        (
            Limits {
                in_flight: 0,
                ..limits()
            },
            "in_flight",
        ),
        (
            Limits {
                connections_per_peer: 0,
                ..limits()
            },
            "connections_per_peer",
        ),
        (
            Limits {
                unfinished_body_bytes: 4095,
                ..limits()
            },
            "unfinished_body_bytes",
        ),
    ] {
        let error = start(limits).await.err().expect("a refusal");
        assert!(
            matches!(error, StartError::Limit { name, .. } if name == expected),
            "{error}"
        );
    }
}
