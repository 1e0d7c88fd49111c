//! While the store is incomplete, commands say so instead of showing a part of the state.

use std::process::Output;

use revwatch_storage::ports::Recovery as _;
use revwatch_storage::sqlite::{Open, Sqlite};

use super::Deployment;
use super::crash::load;
use crate::support::history::History;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, print};
use crate::support::wait::until;

/// Commands that show state. Each takes `--partial`.
const SHOWING: [&[&str]; 11] = [
    &["metrics"],
    &["metrics", "--json"],
    &["state", "payout", "po_1"],
    &["export", "payouts"],
    &["export", "alerts"],
    &["audit", "--changes"],
    &["alerts", "list"],
    &["alerts", "history"],
    &["alerts", "report"],
    &["alerts", "silences"],
    &["alerts", "show", "al_1"],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_state_is_shown_only_on_request_embedded() {
    let mut deployment = Deployment::embedded();
    a_part_of_the_state_is_shown_only_on_request(&mut deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_state_is_shown_only_on_request_on_servers() {
    let mut deployment = Deployment::servers().await;
    a_part_of_the_state_is_shown_only_on_request(&mut deployment).await;
}

async fn a_part_of_the_state_is_shown_only_on_request(deployment: &mut Deployment) {
    let variables = deployment.variables(&[]);
    let history = History::new(51, 20, jiff::Timestamp::now().as_second());
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    load(&process, &history.events, history.events.len()).await;
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == history.events.len()).then_some(())
    })
    .await;
    process.stop();
    let payouts = print(&variables, &["export", "payouts"]);

    lose_state(deployment).await;
    let folder = tempfile::tempdir().expect("a folder");
    let evidence = folder.path().join("evidence").display().to_string();
    let evidence: &[&str] = &["evidence", "--out", &evidence];
    for (command, output) in at_once(&variables, SHOWING.iter().copied().chain([evidence])) {
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {error}");
        assert!(output.stdout.is_empty(), "{command:?}");
        assert!(
            error.contains("of 8 partitions are incomplete"),
            "{command:?}: {error}"
        );
        assert_eq!(
            error.contains("--partial"),
            command[0] != "evidence",
            "{command:?}: {error}"
        );
    }
    assert!(
        !folder.path().join("evidence").exists(),
        "nothing is written"
    );

    for command in SHOWING {
        let output = cli(&variables, &[command, &["--partial"]].concat());
        let error = text(&output.stderr);
        assert!(
            error.contains("this is a part: "),
            "{command:?} warns: {error}"
        );
        let is_missing = command[0] == "state" || command.contains(&"show");
        assert!(
            is_missing || output.status.success(),
            "{command:?}: {error}"
        );
    }
    let unknown = cli(&variables, &["alerts", "ack", "al_1", "--by", "ada"]);
    let error = text(&unknown.stderr);
    assert!(
        error.contains("no alert al_1") && error.contains("partitions are incomplete"),
        "{error}"
    );

    let process = Revwatch::serve(&variables, "ingest,worker");
    until("the state is complete", || async {
        cli(&variables, &["verify"]).status.success().then_some(())
    })
    .await;
    let shown = cli(&variables, &["export", "payouts"]);
    assert_eq!(
        (text(&shown.stdout), text(&shown.stderr)),
        (payouts, String::new())
    );
    // An alerting process has yet to restore the alerts.
    let alerts: [&[&str]; 3] = [&["alerts", "list"], &["export", "alerts"], evidence];
    for (command, output) in at_once(&variables, alerts.into_iter()) {
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {error}");
        assert!(
            error.contains("alerts and silences may be missing"),
            "{command:?}: {error}"
        );
    }
    let alerting = Revwatch::serve(&variables, "alerting");
    until("the alerts are restored", || async {
        let listed = cli(&variables, &["alerts", "list"]);
        listed.status.success().then_some(())
    })
    .await;
    alerting.stop();
    process.stop();
}

/// What `rebuild` does first, and what a Redis does that loses its memory.
async fn lose_state(deployment: &mut Deployment) {
    match deployment {
        Deployment::Embedded(folder) => {
            let store = Sqlite::open(folder.path(), Open::Existing).expect("the store");
            store.drop_state().await.expect("dropped");
        }
        Deployment::Servers(_) => deployment.redis().run::<()>("FLUSHALL"),
    }
}

/// Each command waits a while for the store to be complete.
fn at_once<'a>(
    variables: &Variables,
    commands: impl Iterator<Item = &'a [&'a str]>,
) -> Vec<(&'a [&'a str], Output)> {
    std::thread::scope(|scope| {
        let running: Vec<_> = commands
            .map(|command| (command, scope.spawn(move || cli(variables, command))))
            .collect();
        let ended = running.into_iter();
        ended
            .map(|(command, output)| (command, output.join().expect("no panic")))
            .collect()
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}
