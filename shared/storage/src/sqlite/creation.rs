//! A new store. It is made under another name, and gets its own once it is complete and on disk: a process that is
//! killed while it makes one leaves no file that looks like a store that lost its content.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::error::SqliteError;
use super::file::{cannot_create, with_suffix};
use super::schema::{Open, prepare};
use crate::ports::StoreError;
use crate::private;

/// What the name of a store that is not complete yet ends with.
const CREATING: &str = ".creating";

/// Makes a store at `path`, if there is none. Of several processes that begin at the same time, one makes it.
pub(super) fn create(path: &Path, how: Open) -> Result<(), StoreError> {
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |error: std::io::Error| cannot_create("file", path, &error);
    let locked = File::open(folder).map_err(failed)?;
    // On a file system without such locks, the second of two that begin at the same time fails and is restarted.
    let _ = locked.lock();
    if path.exists() {
        return Ok(());
    }
    let unfinished = with_suffix(path, CREATING);
    remove(&unfinished);
    private::new_file(&unfinished).map_err(failed)?;
    let made = fill(&unfinished, how).and_then(|()| {
        File::open(&unfinished)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&unfinished, path))
            .and_then(|()| locked.sync_all())
            .map_err(failed)
    });
    if made.is_err() {
        remove(&unfinished);
    }
    made
}

fn fill(unfinished: &Path, how: Open) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| {
        StoreError::from(SqliteError::of(&unfinished.display().to_string(), &error))
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut new = Connection::open_with_flags(unfinished, flags).map_err(failed)?;
    prepare(&mut new, how)
        .map(drop)
        .map_err(|error| error.of_file(unfinished))
}

/// Of a process that was killed.
fn remove(unfinished: &Path) {
    for file in [unfinished.to_owned(), with_suffix(unfinished, "-journal")] {
        let _ = fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::sqlite::{FILE_NAME, Sqlite};

    const CREATE: Open = Open::Create { partitions: 1 };

    fn unfinished(data: &Path, suffix: &str) -> PathBuf {
        with_suffix(&data.join(FILE_NAME), &format!("{CREATING}{suffix}"))
    }

    #[test]
    fn what_a_killed_process_had_begun_is_begun_again() {
        for (content, journal) in [("", ""), ("half of it", "x"), ("", "x")] {
            let folder = tempfile::tempdir().expect("a folder");
            let left = [
                unfinished(folder.path(), ""),
                unfinished(folder.path(), "-journal"),
            ];
            for (file, content) in left.iter().zip([content, journal]) {
                fs::write(file, content).expect("written");
            }
            Sqlite::open(folder.path(), Open::Existing)
                .err()
                .expect("none is complete");
            drop(Sqlite::open(folder.path(), CREATE).expect("a store"));
            assert!(left.iter().all(|file| !file.exists()));
        }
    }

    #[test]
    fn what_cannot_be_completed_gets_no_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let in_the_way = unfinished(folder.path(), "");
        fs::create_dir_all(in_the_way.join("x")).expect("made");
        let error = Sqlite::open(folder.path(), CREATE).err().expect("refused");
        assert!(
            error.to_string().contains("A file has that name"),
            "{error}"
        );
        assert!(!folder.path().join(FILE_NAME).exists());
    }

    /// Whatever moment a process is killed in.
    #[test]
    fn a_store_is_never_seen_without_its_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let is_done = AtomicBool::new(false);
        let places: Vec<_> = (0..20).map(|n| folder.path().join(n.to_string())).collect();
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                while !is_done.load(Ordering::Acquire) {
                    for place in &places {
                        let file = fs::metadata(place.join(FILE_NAME));
                        assert!(file.is_err() || file.is_ok_and(|file| file.len() > 0));
                    }
                }
            });
            let stores: Vec<_> = places
                .iter()
                .map(|place| Sqlite::open(place, CREATE))
                .collect();
            is_done.store(true, Ordering::Release);
            watching.join().expect("never empty");
            assert!(stores.iter().all(Result::is_ok));
        });
    }

    #[test]
    fn of_several_that_begin_together_one_makes_the_store() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let open = || Sqlite::open(&data, CREATE).map(drop);
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            for one in all {
                one.join().expect("no panic").expect("opened");
            }
        });
        assert!(!unfinished(&data, "").exists());
    }
}
