//! What is at the path of a store and is none, or is one under another name.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::FILE_NAME;
use super::file::{memory_of, of_store, owner};
use super::in_use::user_of;
use crate::ports::StoreError;

/// An empty file is what a failed restore leaves, not a store.
pub(super) fn refuse_empty(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(file) if file.len() == 0 => Err(StoreError::Misconfigured(format!(
            "{} (in the folder of REVWATCH_DATA) is empty, 0 bytes: something has emptied it, such as a restore on a \
             full disk. Put a backup in its place with `revwatch restore`, or delete it to begin with an empty store \
             ({})",
            path.display(),
            owner(path),
        ))),
        _ => Ok(()),
    }
}

/// SQLite keeps the log next to the name under which it opens the file. A process that opens it under another name
/// does not see what is in that log, and writes into the file at the same time.
pub(super) fn refuse_links(path: &Path) -> Result<(), StoreError> {
    for file in of_store(path) {
        let Ok(found) = fs::symlink_metadata(&file) else {
            continue;
        };
        let shown = file.display();
        if found.is_symlink() {
            let target = fs::canonicalize(&file).or_else(|_| fs::read_link(&file));
            let target =
                target.map_or_else(|_| "elsewhere".to_owned(), |it| it.display().to_string());
            return Err(StoreError::Misconfigured(format!(
                "{shown} (in the folder of REVWATCH_DATA) is a symbolic link to {target}, and revwatch opens no store \
                 through a link to a file, because its log would be elsewhere: set REVWATCH_DATA to the folder of the \
                 target, where the file is named {FILE_NAME}, or link or mount that folder ({})",
                owner(&file),
            )));
        }
        if found.is_file() && found.nlink() > 1 {
            return Err(StoreError::Misconfigured(format!(
                "{shown} (in the folder of REVWATCH_DATA) has {} names, which are hard links: a program that opens it \
                 by another name does not see its log and damages it. `find {} -xdev -samefile {shown}` finds names: delete the \
                 others, or make them copies with `cp` ({})",
                found.nlink(),
                mount_of(&file).display(),
                owner(&file),
            )));
        }
    }
    Ok(())
}

/// A process that opens the store without the memory that another one shares makes one of its own. Then neither sees the
/// other's locks, and both write into one log. While a process opens or closes the file, that memory is missing for a
/// moment.
pub(super) fn refuse_shared(path: &Path) -> Result<(), StoreError> {
    const LOOKS: u32 = 40;
    const PAUSE: Duration = Duration::from_millis(50);
    let memory = memory_of(path);
    for _ in 0..LOOKS {
        if memory.exists() || user_of(path).is_none() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    let Some(user) = user_of(path).filter(|_| !memory.exists()) else {
        return Ok(());
    };
    Err(StoreError::Misconfigured(format!(
        "{} (in the folder of REVWATCH_DATA) is missing, although {user} has the store open: it was removed, and opening the \
         store now would damage it. Stop that process and start it again ({})",
        memory.display(),
        owner(path),
    )))
}

/// The highest folder above `path` on the same file system, where all names of a file are.
fn mount_of(path: &Path) -> PathBuf {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let own = path.parent().and_then(device);
    let above = path.ancestors().skip(1);
    above
        .take_while(|folder| device(folder) == own)
        .last()
        .unwrap_or(&path)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema::Open;
    use crate::sqlite::{Sqlite, SqliteError};

    const CREATE: Open = Open::Create { partitions: 1 };

    async fn write(sqlite: &Sqlite) -> Result<usize, SqliteError> {
        let sql = "INSERT OR REPLACE INTO meta VALUES ('a', 'x')";
        sqlite.write(move |c| c.execute(sql, [])).await
    }

    #[test]
    fn an_empty_file_and_a_log_without_its_file_are_not_begun_with() {
        for (name, content, expected) in [
            (FILE_NAME.to_owned(), "", "is empty, 0 bytes"),
            (format!("{FILE_NAME}-wal"), "x", "without its file"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join(&name);
            fs::write(&path, content).expect("written");
            let error = Sqlite::open(folder.path(), CREATE).err().expect("refused");
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains(&name), "{text}");
            assert_eq!(fs::read_to_string(&path).expect("kept"), content);
        }
    }

    #[tokio::test]
    async fn a_file_with_another_name_is_not_opened() {
        let log = format!("{FILE_NAME}-wal");
        for (name, is_symbolic) in [(FILE_NAME, true), (FILE_NAME, false), (&log, false)] {
            let folder = tempfile::tempdir().expect("a folder");
            let (data, other) = (folder.path().join("data"), folder.path().join("other"));
            let path = data.join(name);
            let kept = Sqlite::open(&data, CREATE).expect("a store");
            if is_symbolic {
                fs::rename(&path, &other).expect("moved");
                std::os::unix::fs::symlink(&other, &path).expect("linked");
                write(&kept).await.expect_err("its log is elsewhere now");
            } else {
                fs::hard_link(&path, &other).expect("linked");
            }
            let fix = if is_symbolic {
                "set REVWATCH_DATA to the folder"
            } else {
                "delete the others"
            };
            for how in [CREATE, Open::Existing] {
                let error = Sqlite::open(&data, how).err().expect("refused").to_string();
                for part in [name, fix, "belongs to user"] {
                    assert!(error.contains(part), "{part}: {error}");
                }
                assert_eq!(
                    error.contains(&other.display().to_string()),
                    is_symbolic,
                    "{error}"
                );
            }
        }
        // A link whose target is not there yet.
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        std::os::unix::fs::symlink(&target, folder.path().join(FILE_NAME)).expect("linked");
        let error = Sqlite::open(folder.path(), CREATE)
            .err()
            .expect("refused")
            .to_string();
        assert!(
            error.contains("symbolic link") && !target.exists(),
            "{error}"
        );
    }
}
