//! Nothing reads standard error, and its pipe is full: work goes on, and the end comes.

use std::io::{Write as _, pipe};
use std::process::{Command, Stdio};

use super::Deployment;
use crate::support::port::free_port;
use crate::support::providers::updated;
use crate::support::revwatch::{SECRET, metrics, post};
use crate::support::wait::{until, until_blocking};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pipe_stops_nothing() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    let (_unread, mut stderr) = pipe().expect("a pipe");
    let bytes = rustix::pipe::fcntl_getpipe_size(&stderr).expect("a size");
    stderr.write_all(&vec![b'x'; bytes]).expect("it fits");
    let (webhooks, admin) = (free_port(), free_port());
    let mut child = Command::new(env!("CARGO_BIN_EXE_revwatch"))
        .arg("serve")
        .env_clear()
        .env("STRIPE_WEBHOOK_SECRET", SECRET)
        .env("REVWATCH_LISTEN", format!("127.0.0.1:{webhooks}"))
        .env("REVWATCH_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
        .envs(variables.iter().cloned())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("revwatch starts");
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://127.0.0.1:{admin}{path}")).await;
        answer.ok().filter(|answer| answer.status() == 200)
    };
    until("it is ready", || async { get("/readyz").await }).await;
    let client = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{webhooks}/webhooks/stripe");
    for number in 0..20 {
        let (event, account) = (format!("evt_{number}"), format!("acct_{number}"));
        let body = updated(&event, &account, 1000, true, "under_review");
        assert_eq!(post(&client, &url, &body).await.expect("answered"), 200);
    }
    until("they are applied", || async {
        (metrics(&variables)["events_applied"] == 20).then_some(())
    })
    .await;
    let page = get("/metrics").await.expect("answered").text().await;
    let page = page.expect("text");
    assert!(
        page.contains("revwatch_log_lines_dropped_total 0"),
        "{page}"
    );
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status();
    assert!(sent.expect("kill runs").success());
    let status = until_blocking("revwatch ends", || child.try_wait().expect("a child"));
    assert!(status.success(), "{status}");
}
