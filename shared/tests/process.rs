//! A role that panics takes the others with it, in good order, and is counted.

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
    assert!(!process.readiness.is_ready(), "nothing is open yet");
    let queue = process.open_intake().await.expect("it opens");
    process.started();
    assert!(process.readiness.is_ready());
    let metrics = process.metrics.clone();
    let (mut roles, ended_well) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    let (shutdown, ended) = (process.shutdown.clone(), ended_well.clone());
    roles.spawn(async move {
        shutdown.cancelled().await;
        ended.store(true, Ordering::SeqCst);
    });
    roles.spawn(async { panic!("as asked") });
    let played = tokio::time::timeout(Duration::from_secs(30), process.play(roles, queue))
        .await
        .expect("it ends");
    assert!(played.is_err() && ended_well.load(Ordering::SeqCst));
    assert_eq!(metrics.panics.get(), 1);
}
