//! Graceful shutdown: requests in progress finish, within bounds.

use revwatch_runtime::config::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{
    Behaviour, PATH, SECRET, Server, event, limits, post, read_answer, signed, until, within,
};

#[tokio::test]
async fn a_request_in_progress_is_finished() {
    let server = Server::start(limits()).await;
    server.queue.set(Behaviour::Gated);
    let idle = server.connect().await;
    let mut stream = server
        .sending(&signed(PATH, SECRET, &event("evt_1", true)))
        .await;
    until(|| server.queue.begun() == 1).await;

    server.shutdown.cancel();
    within(async { while TcpStream::connect(server.addr).await.is_ok() {} }).await;
    assert!(
        !server.serving.is_finished(),
        "it waits for the request in progress"
    );
    server.queue.gate.add_permits(1);
    let answer = read_answer(&mut stream).await;
    assert_eq!(answer.outcome(), "stored");
    within(server.serving).await.expect("no panic");
    drop(idle);
}

#[tokio::test]
async fn an_unfinished_request_is_cut_off_after_the_drain() {
    let server = Server::start(Limits {
        drain_seconds: 0.2,
        ..limits()
    })
    .await;
    let mut stream = server.connect().await;
    let request = post(PATH, &["expect: 100-continue"], b"{}");
    stream
        .write_all(request.strip_suffix(b"{}").expect("the body"))
        .await
        .expect("to send");
    // The 100 Continue shows that the request is in progress.
    assert_eq!(read_answer(&mut stream).await.status, 100);
    server.shutdown.cancel();
    within(server.serving).await.expect("no panic");
    assert_eq!(read_answer(&mut stream).await.status, 0);
    until(|| {
        server
            .metrics
            .render()
            .contains(r#"{endpoint="stripe",outcome="aborted"} 1"#)
    })
    .await;
}

#[tokio::test]
async fn a_publish_outlives_its_connection() {
    let server = Server::start(Limits {
        drain_seconds: 0.2,
        ..limits()
    })
    .await;
    server.queue.set(Behaviour::Gated);
    let mut stream = server
        .sending(&signed(PATH, SECRET, &event("evt_1", true)))
        .await;
    until(|| server.queue.begun() == 1).await;
    server.shutdown.cancel();
    assert_eq!(
        read_answer(&mut stream).await.status,
        0,
        "cut off after the drain"
    );
    assert!(!server.serving.is_finished(), "it waits for the publish");
    server.queue.gate.add_permits(1);
    within(server.serving).await.expect("no panic");
    assert_eq!(server.queue.stored().len(), 1);
    assert!(
        server
            .metrics
            .render()
            .contains(r#"{endpoint="stripe",outcome="stored"} 1"#)
    );
}

#[tokio::test]
async fn shutdown_waits_for_a_publish_without_a_sender() {
    let server = Server::start(limits()).await;
    server.abandoned_publish().await;
    server.shutdown.cancel();
    server.queue.gate.add_permits(1);
    within(server.serving).await.expect("no panic");
    assert_eq!(server.queue.stored().len(), 1);
}

#[tokio::test]
async fn a_hanging_publish_does_not_keep_the_process_alive() {
    let server = Server::start(Limits {
        publish_seconds: 0.2,
        drain_seconds: 0.2,
        ..limits()
    })
    .await;
    server.queue.set(Behaviour::Hang);
    let stream = server
        .sending(&signed(PATH, SECRET, &event("evt_1", true)))
        .await;
    until(|| server.queue.begun() == 1).await;
    server.shutdown.cancel();
    within(server.serving).await.expect("no panic");
    drop(stream);
}
