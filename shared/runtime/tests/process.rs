//! A panicking role shuts the others down in order, and the panic is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use revwatch_runtime::config::Config;
use revwatch_runtime::process::{Process, Start};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_role_that_panics_ends_the_process_with_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::load(None, &|_| None).expect("the defaults");
    config.data = folder.path().to_owned();
    config.admin_listen = ([127, 0, 0, 1], 0).into();
    let process = Process::start(Start::fixed(config, CancellationToken::new()), "test")
        .await
        .expect("it starts");
    assert!(!process.readiness.is_ready(), "no role has started yet");
    let queue = process.open_intake().await.expect("it opens");
    process.started();
    assert!(process.readiness.is_ready());
    let metrics = process.metrics.clone();
    let (mut roles, ended_gracefully) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    let (shutdown, ended) = (process.shutdown.clone(), ended_gracefully.clone());
    roles.spawn(async move {
        shutdown.cancelled().await;
        ended.store(true, Ordering::SeqCst);
    });
    roles.spawn(async { panic!("made by this test") });
    let result = tokio::time::timeout(Duration::from_secs(30), process.join(roles, queue))
        .await
        .expect("it ends");
    assert!(result.is_err() && ended_gracefully.load(Ordering::SeqCst));
    assert_eq!(metrics.panics.get(), 1);
}
