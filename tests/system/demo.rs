//! `revwatch demo`: exit code 0 means that every alert of the scenario fired and resolved, that
//! nothing was lost or dead-lettered, and that the values agree with the simulator's: also the tickets of its
//! application.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::support::wait::until_blocking;

fn demo(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revwatch"));
    command.arg("demo").args(options).env_remove("RUST_LOG");
    // The demo must ignore the user's real settings.
    command
        .env("REVWATCH_REDIS_URL", "redis://127.0.0.1:1")
        .env("SLACK_WEBHOOK_URL", "http://127.0.0.1:1/");
    command
}

#[test]
fn every_alert_fires_and_resolves() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let output = demo(&["--seconds", "15", "--seed", "1", "--keep", data])
        .output()
        .expect("it starts");
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}\n{errors}");
    assert_eq!(
        errors, "",
        "no status line without a terminal, and nothing to log"
    );
    for rule in [
        "past_due_share",
        "payout_failure_rate",
        "provider_lost_charges",
    ] {
        // A notification when the alert fires and one when it resolves, each with the alert's id
        // and rule in the last line.
        let notified = text
            .lines()
            .filter(|line| line.ends_with(&format!(" · {rule}")))
            .count();
        assert!(
            notified >= 2,
            "{rule} was notified {notified} times:\n{text}"
        );
    }
    for title in [
        "More than 5 % of payouts",
        "More than 8 % of the active base",
        "A provider can no longer",
    ] {
        assert!(
            text.contains(&format!("✅ RESOLVED: {title}")),
            "{title}:\n{text}"
        );
    }
    assert!(
        text.contains("seed 1") && !text.contains('\u{1b}'),
        "{text}"
    );
    let of_store = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_revwatch"))
            .args(args)
            .env("REVWATCH_DATA", data)
            .env("USER", "test")
            .output()
            .expect("it starts");
        String::from_utf8(output.stdout).expect("text")
    };
    let metrics: serde_json::Value =
        serde_json::from_str(&of_store(&["metrics", "--json"])).expect("JSON");
    assert!(
        metrics["events_applied"].as_i64() > Some(900) && metrics["events_dead"] == 0,
        "{metrics}"
    );
    assert!(
        text.contains("has an application") && text.contains("/webhooks/app"),
        "{text}"
    );
    let tickets = of_store(&["export", "tickets"]);
    for status in ["unanswered", "responded", "closed"] {
        assert!(
            tickets.lines().any(|row| row.contains(status)),
            "{status}: {tickets}"
        );
    }
    for kind in ["providers", "booking-fees", "members"] {
        let export = of_store(&["export", kind]);
        assert!(export.lines().count() > 3, "{kind}: {export}");
    }
}

#[test]
fn an_interrupt_stops_the_demo_and_leaves_no_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = demo(&["--seconds", "600"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first_line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    output.read_line(&mut first_line).expect("text");
    assert!(first_line.contains("--seed"), "{first_line}");
    let files = || std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files(), 1, "its store");
    let asked = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(asked.success());
    // Long before the ten minutes that it would run.
    let status = until_blocking("it has ended", || child.try_wait().expect("a child"));
    assert_eq!((status.code(), files()), (Some(1), 0));
}
