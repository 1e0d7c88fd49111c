//! The budget of memory that incomplete bodies share.

use std::time::Duration;

use revwatch_runtime::config::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{
    PATH, SECRET, Server, event, large_event, limits, read_answer, signed, until, within,
};

const LARGE: usize = 512 * 1024;

/// The first of `streams` that receives an answer.
async fn answered(streams: &[TcpStream]) -> usize {
    within(async {
        loop {
            for (number, stream) in streams.iter().enumerate() {
                if timeout(Duration::from_millis(2), stream.peek(&mut [0]))
                    .await
                    .is_ok()
                {
                    return number;
                }
            }
        }
    })
    .await
}

/// Opens connections, each with a large body that lacks its last thousand bytes.
async fn slow_senders(server: &Server, count: usize, request: &[u8]) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let stream = server.sending(&request[..request.len() - 1000]).await;
        streams.push(stream);
    }
    streams
}

#[tokio::test]
async fn incomplete_bodies_share_a_budget_and_one_beyond_it_is_answered_503() {
    // The deadline for bodies is so long that none of them counts as slow.
    let limits = Limits {
        body_bytes: LARGE,
        unfinished_body_bytes: 4 * LARGE,
        body_seconds: 30_000.0,
        ..limits()
    };
    let server = Server::start(limits).await;
    let large = signed(PATH, SECRET, &large_event("evt_large", LARGE));
    let mut streams = slow_senders(&server, 5, &large).await;
    until(|| server.count("stripe", "body_budget") == 1).await;
    let refused = answered(&streams).await;
    let answer = read_answer(&mut streams.swap_remove(refused)).await;
    assert_eq!(
        (answer.status, answer.outcome().as_str()),
        (503, "body_budget")
    );
    assert_eq!(
        (answer.header("retry-after"), answer.header("connection")),
        (Some("1"), Some("close"))
    );

    let small = signed(PATH, SECRET, &event("evt_small", true));
    assert_eq!(
        server.send(&small).await.outcome(),
        "stored",
        "a typical event needs no budget"
    );
    let (head, tail) = small.split_at(small.len() - 1);
    let mut stream = server.sending(head).await;
    stream.write_all(tail).await.expect("to send");
    assert_eq!(read_answer(&mut stream).await.outcome(), "stored");

    // A body that ends, in whichever way, releases its share.
    let missing = &large[large.len() - 1000..];
    streams[0].write_all(missing).await.expect("to send");
    assert_eq!(read_answer(&mut streams[0]).await.outcome(), "stored");
    assert_eq!(
        server.send(&large).await.outcome(),
        "stored",
        "three hold less than the budget"
    );
    assert_eq!(
        server.send(&large).await.outcome(),
        "stored",
        "and its memory was released again"
    );
    drop(streams.pop());
    until(|| server.count("stripe", "incomplete_body") == 1).await;
    for stream in &mut streams[1..] {
        stream.write_all(missing).await.expect("to send");
        assert_eq!(read_answer(stream).await.outcome(), "stored");
    }
    assert_eq!(
        (
            server.count("stripe", "body_budget"),
            server.count("stripe", "stored")
        ),
        (1, 7)
    );
    assert_eq!(server.counted(), 9);
}

#[tokio::test]
async fn slow_bodies_that_fill_the_budget_are_evicted_long_before_their_deadline() {
    let limits = Limits {
        body_bytes: LARGE,
        unfinished_body_bytes: 4 * LARGE,
        body_seconds: 10.0,
        ..limits()
    };
    let server = Server::start(limits).await;
    let large = signed(PATH, SECRET, &large_event("evt_large", LARGE));
    let mut slow = slow_senders(&server, 4, &large).await;
    // Another sender sends complete events, and the slow ones send a byte at a time, until one of
    // these is refused.
    let evicted = within(async {
        loop {
            let answer = server.send(&large).await;
            assert!(
                ["stored", "body_budget"].contains(&answer.outcome().as_str()),
                "{answer:?}"
            );
            for (number, stream) in slow.iter_mut().enumerate() {
                stream.write_all(b" ").await.expect("to send");
                if timeout(Duration::from_millis(2), stream.peek(&mut [0]))
                    .await
                    .is_ok()
                {
                    return number;
                }
            }
        }
    })
    .await;
    assert_eq!(
        read_answer(&mut slow.swap_remove(evicted)).await.outcome(),
        "body_budget"
    );
    assert_eq!(server.send(&large).await.outcome(), "stored");
    assert_eq!(server.count("stripe", "timeout"), 0);
}
