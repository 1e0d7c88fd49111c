//! The progress of a backfill, in a small file in the data folder, so that the same command
//! continues after an interruption.
//!
//! Invariant: the file never claims more than the queue has durably. It is replaced
//! atomically.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use revwatch_storage::private;
use revwatch_worker::backfill::{Listing, TimeRange};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A backfill that is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Fixed at the start: `7d` means the same time range when it continues tomorrow.
    pub range: TimeRange,
    /// The listings to read, in this order.
    pub listings: Vec<Listing>,
    /// Accounts that are skipped because they are no longer connected.
    pub left_out: Vec<String>,
    /// When its first run began, Unix milliseconds; 0: an earlier version began it.
    #[serde(default)]
    pub began_ms: i64,
}

impl Progress {
    /// Whether a page was stored.
    pub fn has_begun(&self) -> bool {
        self.pages() > 0
    }

    /// Pages read.
    pub fn pages(&self) -> u64 {
        self.listings.iter().map(|listing| listing.pages).sum()
    }

    /// Events read and published.
    pub fn events(&self) -> u64 {
        self.listings.iter().map(|listing| listing.events).sum()
    }
}

/// The progress file.
pub struct ProgressFile {
    path: PathBuf,
}

impl ProgressFile {
    /// The file for these arguments: each different `identity` has its own file.
    pub fn of(folder: &Path, identity: &[&str]) -> anyhow::Result<Self> {
        private::make_folder(folder)
            .with_context(|| format!("cannot create {} (REVWATCH_DATA)", folder.display()))?;
        let mut digest = Sha256::new();
        for part in identity {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let name: String = digest.finalize()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self {
            path: folder.join(format!("backfill-{name}.json")),
        })
    }

    /// The progress of an interrupted backfill, if there is one.
    pub fn load(&self) -> anyhow::Result<Option<Progress>> {
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| {
                format!(
                    "{} cannot be read: start over with --restart",
                    self.path.display()
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", self.path.display()))
            }
        }
    }

    /// Saves the progress durably.
    pub fn save(&self, progress: &Progress) -> anyhow::Result<()> {
        let temporary = self.path.with_extension("json.new");
        let write = || -> io::Result<()> {
            if temporary.exists() {
                fs::remove_file(&temporary)?;
            }
            let mut file = private::new_file(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(progress)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Removes the file: the backfill is finished, or starts over.
    pub fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_of_arguments_has_its_own_progress_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("not/there/yet");
        let file = ProgressFile::of(&inner, &["7d", "now"]).expect("a file");
        assert_eq!(file.load().expect("none yet"), None);
        let listing = Listing {
            last: Some("evt_1".into()),
            pages: 3,
            events: 300,
            ..Listing::default()
        };
        let range = TimeRange {
            since_s: 5,
            until_s: 9,
        };
        let progress = Progress {
            range,
            listings: vec![listing],
            left_out: vec!["acct_9".into()],
            began_ms: 7,
        };
        file.save(&progress).expect("written");
        assert_eq!(file.load().expect("read"), Some(progress));
        for other in [&["7d", "no", "w"][..], &["7dn", "ow"], &["7d"]] {
            assert_eq!(
                ProgressFile::of(&inner, other)
                    .expect("a file")
                    .load()
                    .expect("none"),
                None,
                "{other:?}"
            );
        }
        fs::write(&file.path, "{").expect("written");
        assert!(
            file.load()
                .expect_err("invalid")
                .to_string()
                .contains("--restart")
        );
        file.remove().expect("removed");
        file.remove().expect("nothing to remove");
        assert_eq!(file.load().expect("none any more"), None);
    }
}
