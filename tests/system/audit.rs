//! Commands that change or record something need a name, before they open anything.

use std::process::{Command, Output};

/// Runs revwatch where there is no store, with this `USER`.
fn run(user: Option<&str>, args: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut command = Command::new(env!("CARGO_BIN_EXE_revwatch"));
    command.env_clear().env("REVWATCH_DATA", &data).args(args);
    command.envs(user.map(|user| ("USER", user)));
    let output = command.output().expect("revwatch runs");
    assert!(!data.exists(), "{args:?} opened a store");
    output
}

#[test]
fn a_command_that_is_audited_asks_for_the_name_first() {
    let audited: &[&[&str]] = &[
        &["alerts", "ack", "al_1"],
        &["alerts", "resolve", "al_1"],
        &["alerts", "unsilence", "si_1"],
        &["alerts", "silence", "al_1", "--for", "1h", "--reason", "r"],
        &["backfill", "--since", "7d"],
        &["backup", "/nowhere/file"],
        &["restore", "/nowhere/file"],
        &["dead", "replay", "--all"],
        &["dead", "drop", "--all"],
        &["evidence", "--since", "7d", "--out", "/nowhere"],
        &["export", "alerts"],
        &["pause"],
        &["resume"],
        &["replay", "--from", "7d"],
        &["rebuild", "--yes"],
    ];
    for args in audited {
        for user in [None, Some("")] {
            let output = run(user, args);
            let printed = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{args:?}: {printed}");
            assert!(printed.contains("Give --by NAME"), "{args:?}: {printed}");
        }
    }
}

#[test]
fn a_command_that_only_shows_needs_no_name() {
    for args in [&["pause", "--show"][..], &["dead", "list"], &["audit"]] {
        let output = run(Some(""), args);
        let printed = String::from_utf8_lossy(&output.stderr);
        // There is no store to show.
        assert_eq!(output.status.code(), Some(1), "{args:?}: {printed}");
        assert!(!printed.contains("--by"), "{args:?}: {printed}");
    }
}
