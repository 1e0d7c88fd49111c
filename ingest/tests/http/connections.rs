//! Who has a place when all are taken: the port's, or those of one peer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use revwatch_runtime::config::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    Behaviour, PATH, SECRET, Server, event, limits, read_answer, signed, until, within,
};

/// A request, and two connections on which the server is publishing it.
async fn two_in_progress(server: &Server) -> (Vec<u8>, [TcpStream; 2]) {
    let request = signed(PATH, SECRET, &event("evt_1", true));
    let open = [
        publishing(server, &request).await,
        publishing(server, &request).await,
    ];
    (request, open)
}

/// Sends `request` while its publish waits for `gate`; returns once that has begun.
async fn publishing(server: &Server, request: &[u8]) -> TcpStream {
    server.queue.set(Behaviour::Gated);
    let begun = server.queue.begun.load(Ordering::SeqCst);
    let stream = server.sending(request).await;
    until(|| server.queue.begun() > begun).await;
    stream
}

/// Every way to hold a place without a complete request.
#[tokio::test]
async fn idle_and_slow_senders_do_not_delay_a_webhook() {
    let request = signed(PATH, SECRET, &event("evt_1", true));
    let cases: [(&str, &[u8], &str); 3] = [
        ("silent", b"", "none"),
        (
            "half a head",
            b"POST /webhooks/stripe HTTP/1.1\r\nhost: ",
            "none",
        ),
        ("half a body", &request[..request.len() - 1], "stripe"),
    ];
    for (case, beginning, endpoint) in cases {
        for limits in [
            Limits {
                connections: 3,
                ..limits()
            },
            Limits {
                connections_per_peer: 3,
                ..limits()
            },
        ] {
            let server = Server::start(limits).await;
            let mut slow = Vec::new();
            for _ in 0..10 {
                slow.push(server.sending(beginning).await);
                assert_eq!(server.send(&request).await.status, 200, "{case}");
            }
            // Three of the ten may have places at the end.
            until(|| server.count(endpoint, "too_many_connections") >= 7).await;
            let aborted = ["none", "stripe"].map(|endpoint| server.count(endpoint, "aborted"));
            assert_eq!(aborted, [0, 0], "{case}: none of them disconnected");
        }
    }
}

#[tokio::test]
async fn a_sender_with_a_valid_signature_keeps_its_connection_before_others() {
    let server = Server::start(Limits {
        connections: 3,
        ..limits()
    })
    .await;
    let request = signed(PATH, SECRET, &event("evt_1", true));
    let mut kept = server.served(1, &request).await.remove(0);
    for _ in 0..10 {
        let mut silent = server.connect().await;
        let refused = server.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(refused.status, 404);
        drop(silent.shutdown().await);
    }
    within(kept.write_all(&request)).await.expect("open");
    assert_eq!(read_answer(&mut kept).await.status, 200);
}

#[tokio::test]
async fn requests_in_progress_make_further_connections_wait() {
    let server = Server::start(Limits {
        connections: 2,
        ..limits()
    })
    .await;
    let (request, mut open) = two_in_progress(&server).await;
    let mut third = server.sending(&request).await;
    let mut byte = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(200), third.read(&mut byte)).await;
    assert!(early.is_err(), "the third is not served while two are");
    server.queue.gate.add_permits(3);
    for stream in open.iter_mut().chain([&mut third]) {
        assert_eq!(read_answer(stream).await.status, 200);
    }
}

#[tokio::test]
async fn a_peer_with_a_request_on_each_of_its_connections_gets_no_more() {
    let server = Server::start(Limits {
        connections_per_peer: 2,
        ..limits()
    })
    .await;
    let (request, mut open) = two_in_progress(&server).await;
    assert_eq!(
        read_answer(&mut server.connect().await).await.status,
        0,
        "closed without an answer"
    );
    until(|| server.count("none", "too_many_connections") == 1).await;
    let mut other = server.connect_from([127, 0, 0, 2]).await;
    other.write_all(&request).await.expect("to send");
    server.queue.gate.add_permits(3);
    assert_eq!(
        read_answer(&mut other).await.status,
        200,
        "another address has its own places"
    );
    for stream in &mut open {
        assert_eq!(read_answer(stream).await.status, 200);
    }
}

#[tokio::test]
async fn a_trusted_proxy_has_no_limit_of_its_own() {
    let server = Server::behind(
        "127.0.0.1",
        Limits {
            connections_per_peer: 1,
            ..limits()
        },
    )
    .await;
    let request = signed(PATH, SECRET, &event("evt_1", true));
    let mut open = server.served(3, &request).await;
    for stream in &mut open {
        within(stream.write_all(&request)).await.expect("open");
        assert_eq!(read_answer(stream).await.status, 200);
    }
    assert_eq!(server.count("none", "too_many_connections"), 0);
}
