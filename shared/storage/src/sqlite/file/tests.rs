//! Files that are removed, replaced, cut or damaged under an open store, and who may read them.

use super::*;
use crate::sqlite::Sqlite;

const CREATE: Open = Open::Create { partitions: 1 };

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").mode() & 0o777
}

async fn write(sqlite: &Sqlite) -> Result<usize, SqliteError> {
    let sql = "INSERT OR REPLACE INTO meta VALUES ('a', 'x')";
    sqlite.write(move |c| c.execute(sql, [])).await
}

async fn read(sqlite: &Sqlite) -> Result<u32, SqliteError> {
    sqlite
        .read(|c| c.query_row("SELECT count(*) FROM meta", [], |row| row.get(0)))
        .await
}

#[tokio::test]
async fn nothing_is_stored_or_read_while_the_path_leads_to_another_file() {
    let (log, memory) = (format!("{FILE_NAME}-wal"), format!("{FILE_NAME}-shm"));
    for name in [FILE_NAME, &log, &memory] {
        for replaces in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let data = folder.path().join("data");
            let sqlite = Sqlite::open(&data, CREATE).expect("a store");
            write(&sqlite).await.expect("stored");
            read(&sqlite).await.expect("read");
            let (path, away) = (data.join(name), folder.path().join("away"));
            fs::rename(&path, &away).expect("moved");
            if replaces {
                fs::copy(&away, &path).expect("replaced");
            }
            let what = if replaces {
                "was replaced"
            } else {
                "was removed"
            };
            for error in [
                write(&sqlite).await.expect_err("not stored"),
                read(&sqlite).await.map(drop).expect_err("not read"),
            ] {
                let SqliteError::Misconfigured(text) = error else {
                    panic!("{error:?}")
                };
                let fix = if name == memory {
                    "Stop revwatch and start it again"
                } else {
                    "revwatch restore"
                };
                for part in [name, what, "belongs to user", fix] {
                    assert!(text.contains(part), "{part}: {text}");
                }
            }
            assert_eq!(path.exists(), replaces, "nothing is made in its place");
            fs::rename(&away, &path).expect("back");
            write(&sqlite).await.expect("stored again");
            read(&sqlite).await.expect("read again");
        }
    }
}

#[tokio::test]
async fn a_folder_that_is_removed_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let sqlite = Sqlite::open(&data, CREATE).expect("a store");
    fs::remove_dir_all(&data).expect("removed");
    write(&sqlite).await.expect_err("not stored");
    read(&sqlite).await.map(drop).expect_err("not read");
    assert!(!data.exists());
}

#[tokio::test]
async fn a_file_that_is_emptied_in_place_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = Sqlite::open(folder.path(), CREATE).expect("a store");
    fs::write(folder.path().join(FILE_NAME), "").expect("emptied");
    let error = write(&sqlite).await.expect_err("not stored").to_string();
    assert!(error.contains("overwritten or truncated"), "{error}");
}

/// What is written to it may never be read, and goes when a backup takes its place.
#[tokio::test]
async fn a_file_of_which_a_part_cannot_be_read_takes_nothing_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE_NAME);
    drop(Sqlite::open(folder.path(), CREATE).expect("a store"));
    let before = usize::try_from(fs::metadata(&path).expect("a file").len()).expect("small");
    let other = connect(&path).expect("opened");
    let fill = "CREATE TABLE filler (x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        INSERT INTO filler SELECT hex(randomblob(50)) FROM n; PRAGMA wal_checkpoint(TRUNCATE)";
    other.execute_batch(fill).expect("filled");
    drop(other);
    let mut content = fs::read(&path).expect("the file");
    content[before + 4096..].fill(0x5a);
    fs::write(&path, content).expect("damaged");
    let sqlite = Sqlite::open(folder.path(), CREATE).expect("what it reads is right");
    write(&sqlite).await.expect("not noticed yet");
    let sum = "SELECT sum(length(x)) FROM filler";
    let sum = sqlite.read(move |c| c.query_row(sum, [], |row| row.get::<_, i64>(0)));
    assert!(matches!(sum.await, Err(SqliteError::Damaged(_))));
    let error = write(&sqlite).await.expect_err("not stored").to_string();
    assert!(
        error.contains("is damaged") && error.contains("restore a backup"),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_that_another_program_compacts_is_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = Sqlite::open(folder.path(), CREATE).expect("a store");
    let fill = "INSERT INTO meta SELECT 'filler', printf('%.*c', 4000000, 'x')";
    sqlite
        .write(move |c| c.execute(fill, []))
        .await
        .expect("stored");
    drop(sqlite);
    let path = folder.path().join(FILE_NAME);
    let other = connect(&path).expect("opened");
    let bytes = || fs::metadata(&path).expect("a file").len();
    // Other connections keep one from finishing for a moment.
    let checkpoint = async |is_done: &dyn Fn() -> bool| {
        for _ in 0..3000 {
            other
                .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
                .expect("a checkpoint");
            if is_done() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{} bytes", bytes());
    };
    checkpoint(&|| bytes() > 4_000_000).await;
    let sqlite = Sqlite::open(folder.path(), CREATE).expect("a store");
    other
        .execute_batch("DELETE FROM meta WHERE key = 'filler'; VACUUM")
        .expect("compacted");
    checkpoint(&|| bytes() < 2_000_000).await;
    write(&sqlite).await.expect("stored");
    read(&sqlite).await.expect("read");
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(bytes() / 2))
        .expect("cut");
    write(&sqlite).await.expect_err("not stored");
}

#[tokio::test]
async fn folder_and_files_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("deep/data");
    let files = of_store(&data.join(FILE_NAME));
    let sqlite = Sqlite::open(&data, CREATE).expect("a store");
    write(&sqlite).await.expect("stored");
    assert_eq!(mode(&data), 0o700);
    assert_eq!(files.each_ref().map(|file| mode(file)), [0o600; 3]);

    // As an earlier version made them.
    for file in &files {
        fs::set_permissions(file, Permissions::from_mode(0o644)).expect("set");
    }
    fs::set_permissions(&data, Permissions::from_mode(0o755)).expect("set");
    let again = Sqlite::open(&data, CREATE).expect("a store");
    write(&again).await.expect("stored");
    assert_eq!(mode(&data), 0o700);
    assert_eq!(files.each_ref().map(|file| mode(file)), [0o600; 3]);
}

#[test]
fn a_folder_that_is_not_only_the_stores_keeps_its_permissions() {
    for (mode_before, holds_another) in [(0o755, true), (0o755, false), (0o1777, false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        if holds_another {
            fs::write(data.join("another"), "x").expect("written");
        }
        fs::set_permissions(data, Permissions::from_mode(mode_before)).expect("set");
        drop(Sqlite::open(data, CREATE).expect("a store"));
        assert_eq!(mode(data), mode_before & 0o777);
        assert_eq!(mode(&data.join(FILE_NAME)), 0o600);
    }
}

#[test]
fn messages_name_the_owner_of_what_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = owner(&folder.path().join("no/such/file"));
    let expected = format!("{} belongs to user ", folder.path().display());
    assert!(text.starts_with(&expected), "{text}");
    assert!(owner(Path::new("no-such-file")).starts_with(". belongs to user "));
}
