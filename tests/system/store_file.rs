//! The embedded store's file goes away under a running process, and files that are no store at its start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use revwatch_storage::sqlite::FILE_NAME;
use serde_json::Value;

use crate::support::providers::updated;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post};
use crate::support::wait::until;

const ROLES: &str = "ingest,worker,alerting";

struct Place {
    folder: tempfile::TempDir,
    data: PathBuf,
    variables: Variables,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let variables = vec![("REVWATCH_DATA".to_owned(), data.display().to_string())];
        Self {
            folder,
            data,
            variables,
        }
    }

    fn away(&self) -> PathBuf {
        self.folder.path().join("away")
    }
}

/// Posts one event; returns the status.
async fn send(process: &Revwatch, number: usize) -> u16 {
    let (event, account) = (format!("evt_{number}"), format!("acct_{number}"));
    let body = updated(&event, &account, 1000, true, "under_review");
    let url = process.url("/webhooks/stripe");
    post(&reqwest::Client::new(), &url, &body)
        .await
        .expect("answered")
}

async fn is_ready(process: &Revwatch) -> bool {
    let answer = reqwest::get(process.admin("/readyz")).await;
    answer.expect("answered").status() == 200
}

async fn applied(variables: &Variables, count: u64) {
    until("they are applied", || async {
        (metrics(variables)["events_applied"] == count).then_some(())
    })
    .await;
}

fn errors(process: &Revwatch) -> Vec<Value> {
    let mut log = process.log();
    log.retain(|line| line["level"] == "ERROR");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_while_the_folder_is_away() {
    let place = Place::new();
    let process = Revwatch::serve(&place.variables, ROLES);
    assert_eq!(send(&process, 0).await, 200);
    applied(&place.variables, 1).await;
    fs::rename(&place.data, place.away()).expect("moved");
    for number in 1..20 {
        assert_eq!(send(&process, number).await, 503);
    }
    until("it is not ready", || async {
        (!is_ready(&process).await).then_some(())
    })
    .await;
    assert!(!place.data.exists(), "nothing is made in its place");
    let said = errors(&process);
    let names_all = |line: &Value| {
        let text = line["error"].as_str().unwrap_or_default();
        [
            "removed or moved away",
            FILE_NAME,
            "belongs to user",
            "revwatch restore",
        ]
        .iter()
        .all(|part| text.contains(part))
    };
    assert!(said.iter().any(names_all), "{said:?}");

    fs::rename(place.away(), &place.data).expect("back");
    until("it is ready", || async {
        is_ready(&process).await.then_some(())
    })
    .await;
    assert_eq!(send(&process, 20).await, 200);
    applied(&place.variables, 2).await;
    process.stop();
}

/// A second process would make a shared memory of its own, and end or overwrite the log of the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_shared_memory_was_removed_takes_nothing_and_is_opened_by_no_other() {
    let place = Place::new();
    let process = Revwatch::serve(&place.variables, ROLES);
    for n in 0..20 {
        assert_eq!(send(&process, n).await, 200);
    }
    applied(&place.variables, 20).await;
    let memory = place.data.join(format!("{FILE_NAME}-shm"));
    fs::remove_file(&memory).expect("removed");
    assert_eq!(send(&process, 20).await, 503);
    until("it is not ready", || async {
        (!is_ready(&process).await).then_some(())
    })
    .await;
    for args in [&["metrics"][..], &["alerts", "list"], &["verify"]] {
        let output = cli(&place.variables, args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains("-shm"),
            "{args:?}: {error}"
        );
        assert!(error.contains("Stop that process"), "{error}");
    }
    assert!(!memory.exists(), "none was made");
    process.kill9();
    let process = Revwatch::serve(&place.variables, ROLES);
    assert_eq!(send(&process, 20).await, 200);
    applied(&place.variables, 21).await;
    process.stop();
}

/// The process that has it open has the only copy of what is not in the file yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_removed_log_is_saved_when_the_process_stops() {
    let place = Place::new();
    let process = Revwatch::serve(&place.variables, ROLES);
    for n in 0..20 {
        assert_eq!(send(&process, n).await, 200);
    }
    fs::remove_file(place.data.join(format!("{FILE_NAME}-wal"))).expect("removed");
    assert_eq!(send(&process, 20).await, 503);
    process.stop();
    let process = Revwatch::serve(&place.variables, ROLES);
    applied(&place.variables, 20).await;
    process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_after_the_file_was_replaced_until_a_restart() {
    let place = Place::new();
    let process = Revwatch::serve(&place.variables, ROLES);
    assert_eq!(send(&process, 0).await, 200);
    applied(&place.variables, 1).await;
    let backup = place.folder.path().join("backup");
    let backup = backup.to_str().expect("a name");
    assert!(cli(&place.variables, &["backup", backup]).status.success());
    assert_eq!(send(&process, 1).await, 200);
    fs::rename(backup, place.data.join(FILE_NAME)).expect("replaced");
    assert_eq!(send(&process, 2).await, 503);
    process.stop();
    let process = Revwatch::serve(&place.variables, ROLES);
    applied(&place.variables, 1).await;
    assert_eq!(send(&process, 2).await, 200);
    applied(&place.variables, 2).await;
    process.stop();
}

/// As `cp other.db store.db` does it. What was accepted is in the log, which is kept for the file that it belongs to.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_or_lost_after_the_file_was_overwritten_in_place() {
    let (place, other) = (Place::new(), Place::new());
    let larger = Revwatch::serve(&other.variables, ROLES);
    for number in 0..50 {
        assert_eq!(send(&larger, number).await, 200);
    }
    applied(&other.variables, 50).await;
    larger.stop();
    let process = Revwatch::serve(&place.variables, ROLES);
    assert_eq!(send(&process, 0).await, 200);
    applied(&place.variables, 1).await;
    // That command may have copied all of the log into the file, and no log is no foreign one.
    assert_eq!(send(&process, 1).await, 200);
    let store = place.data.join(FILE_NAME);
    fs::copy(&store, place.away()).expect("copied");
    let bytes = |path: &Path| fs::metadata(path).expect("a file").len();
    assert!(bytes(&other.data.join(FILE_NAME)) > bytes(&store));
    fs::copy(other.data.join(FILE_NAME), &store).expect("overwritten");
    assert_eq!(send(&process, 2).await, 503);
    until("it is not ready", || async {
        (!is_ready(&process).await).then_some(())
    })
    .await;
    process.kill9();
    for args in [&["serve"][..], &["metrics"]] {
        let output = cli(&place.variables, args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        for part in ["log of another store", FILE_NAME, "revwatch restore"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    fs::copy(place.away(), &store).expect("put back");
    let process = Revwatch::serve(&place.variables, ROLES);
    applied(&place.variables, 2).await;
    assert_eq!(send(&process, 2).await, 200);
    applied(&place.variables, 3).await;
    process.stop();
}

#[test]
fn a_file_of_another_program_and_a_folder_are_refused_at_the_start() {
    let place = Place::new();
    fs::create_dir(&place.data).expect("a folder");
    let path = place.data.join(FILE_NAME);
    let other = rusqlite::Connection::open(&path).expect("a file");
    other
        .execute_batch("CREATE TABLE customers (id)")
        .expect("a table");
    drop(other);
    let refused = |what: &str| {
        let output = cli(&place.variables, &["serve"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(what), "{error}");
    };
    refused("another program's");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a folder");
    refused("is a folder, and must be a file");
}

#[test]
fn an_empty_file_is_refused_at_the_start() {
    let place = Place::new();
    fs::create_dir(&place.data).expect("made");
    fs::write(place.data.join(FILE_NAME), "").expect("written");
    for args in [&["serve"][..], &["metrics"]] {
        let output = cli(&place.variables, args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        for part in ["is empty, 0 bytes", "revwatch restore", "belongs to user"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

/// Root can write what is another user's.
#[test]
fn a_file_that_cannot_be_written_is_refused_at_the_start() {
    let place = Place::new();
    Revwatch::serve(&place.variables, "ingest").stop();
    let file = place.data.join(FILE_NAME);
    fs::set_permissions(&file, Permissions::from_mode(0o444)).expect("set");
    fs::set_permissions(&place.data, Permissions::from_mode(0o755)).expect("set");
    fs::set_permissions(place.folder.path(), Permissions::from_mode(0o755)).expect("set");
    let Some(output) = as_another_user(&place.variables) else {
        return;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in ["write permission", "belongs to user", "runs as user 65534"] {
        assert!(error.contains(part), "{error}");
    }
}

/// Runs `serve` as another user, if the tester may do that and that user may read the program.
fn as_another_user(variables: &Variables) -> Option<std::process::Output> {
    let binary = Path::new(env!("CARGO_BIN_EXE_revwatch"));
    let run = |program: &Path, args: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(program).args(args).env_clear();
        command
            .env("STRIPE_WEBHOOK_SECRET", crate::support::revwatch::SECRET)
            .env("REVWATCH_LISTEN", "127.0.0.1:0")
            .env("REVWATCH_ADMIN_LISTEN", "127.0.0.1:0")
            .envs(variables.iter().cloned());
        command.output().expect("setpriv runs")
    };
    run(binary, &["--version"])
        .status
        .success()
        .then(|| run(binary, &["serve"]))
}
