//! `revwatch backup` while serving, and `revwatch restore`.

use revwatch_storage::sqlite::FILE_NAME;

use super::Deployment;
use crate::support::providers::{post_all, updated};
use crate::support::revwatch::{Revwatch, Variables, cli, metrics};
use crate::support::wait::until;

const ROLES: &str = "ingest,worker";

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_while_serving_is_restored() {
    let deployment = Deployment::embedded();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("backup");
    let file = file.to_str().expect("a name");
    let variables = deployment.variables(&[]);
    let events = |from: usize| {
        (from..from + 5)
            .map(|n| {
                updated(
                    &format!("evt_{n}"),
                    &format!("acct_{n}"),
                    1000,
                    true,
                    "under_review",
                )
            })
            .collect::<Vec<_>>()
    };
    let applied = async |count: u64| {
        until("they are applied", || async {
            (metrics(&variables)["events_applied"] == count).then_some(())
        })
        .await;
    };
    let process = Revwatch::serve(&variables, ROLES);
    post_all(&process.url("/webhooks/stripe"), &events(0)).await;
    applied(5).await;
    let output = cli(&variables, &["backup", file, "--json"]);
    assert!(output.status.success(), "{output:?}");
    post_all(&process.url("/webhooks/stripe"), &events(5)).await;
    applied(10).await;

    let error = |args: &[&str]| {
        let output = cli(&variables, args);
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(error(&["restore", file]).contains("--force"));
    assert!(error(&["restore", file, "--force"]).contains("stop revwatch first"));
    process.stop();
    let output = cli(&variables, &["restore", file, "--force"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(printed.contains("revwatch backfill --since"), "{printed}");

    let process = Revwatch::serve(&variables, ROLES);
    applied(5).await;
    let output = cli(&variables, &["audit"]);
    let audit = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        audit.contains("backup") && audit.contains("restore"),
        "{audit}"
    );
    process.stop();
}

#[test]
fn on_servers_the_error_says_how_to_back_up() {
    let variables = vec![
        (
            "REVWATCH_AMQP_URL".to_owned(),
            "amqp://user:pass@host/".to_owned(),
        ),
        ("REVWATCH_REDIS_URL".to_owned(), "redis://host".to_owned()),
    ];
    for command in ["backup", "restore"] {
        let output = cli(&variables, &[command, "file"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("deploy/README.md"), "{error}");
    }
}

/// Whatever has become of the file: SQLite, asked for a lock, would take an emptied one for a new one.
#[test]
fn a_store_in_use_is_neither_replaced_nor_restored_from() {
    for change in ["none", "emptied", "removed"] {
        let deployment = Deployment::embedded();
        let folder = tempfile::tempdir().expect("a folder");
        let backup = folder.path().join("backup");
        let backup = backup.to_str().expect("a name");
        let variables = deployment.variables(&[]);
        let process = Revwatch::serve(&variables, ROLES);
        assert!(cli(&variables, &["backup", backup]).status.success());
        let data = variables.iter().find(|(name, _)| name == "REVWATCH_DATA");
        let store = std::path::Path::new(&data.expect("set").1).join(FILE_NAME);
        match change {
            "emptied" => drop(std::fs::write(&store, "")),
            "removed" => std::fs::remove_file(&store).expect("removed"),
            _ => {}
        }
        let refused = |variables: &Variables, from: &str, expected: &str| {
            let output = cli(variables, &["restore", from, "--force"]);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{change}: {output:?}");
            for part in [expected, "is in use (process "] {
                assert!(error.contains(part), "{change}: {part}: {error}");
            }
        };
        refused(&variables, backup, "stop revwatch first");
        if change == "none" {
            let other = Deployment::embedded();
            let store = store.to_str().expect("a name");
            refused(&other.variables(&[]), store, "revwatch backup");
        }
        process.stop();
        let output = cli(&variables, &["restore", backup, "--force"]);
        assert!(output.status.success(), "{change}: {output:?}");
    }
}
