//! The folder of a review: a new one for each run, readable for its owner alone. The manifest lists the files with their
//! checksums and is written last.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use revwatch_storage::private;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The folder of one review.
pub struct Folder {
    path: PathBuf,
    files: Vec<Value>,
}

/// Written last: without it the folder is not complete.
pub const MANIFEST: &str = "manifest.json";

impl Folder {
    /// Creates `out/2026-11-20`, or `out/2026-11-20-2` and so on: never an existing folder.
    pub fn create(out: &Path, day: &str) -> anyhow::Result<Self> {
        private::make_folder(out).with_context(|| format!("cannot create {}", out.display()))?;
        for n in 1_u32.. {
            let path = out.join(if n == 1 {
                day.to_owned()
            } else {
                format!("{day}-{n}")
            });
            match private::new_folder(&path) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        files: Vec::new(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot create {}", path.display()));
                }
            }
        }
        unreachable!("some number is free")
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a new file.
    pub fn write(&mut self, name: &str, contains: &str, body: &[u8]) -> anyhow::Result<()> {
        self.put(name, body)?;
        self.files.push(json!({"name": name, "bytes": body.len(), "sha256": hex::encode(Sha256::digest(body)), "contains": contains}));
        Ok(())
    }

    /// Writes the manifest: `about` and the list of files.
    pub fn finish(self, mut about: Value) -> anyhow::Result<Value> {
        about["files"] = Value::Array(self.files.clone());
        self.put(MANIFEST, format!("{about:#}\n").as_bytes())?;
        Ok(about)
    }

    fn put(&self, name: &str, body: &[u8]) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let write = || {
            let mut file = private::new_file(&path)?;
            file.write_all(body)?;
            file.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, metadata};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn each_review_has_its_own_folder() {
        let out = tempfile::tempdir().expect("a folder");
        let create = || Folder::create(&out.path().join("deep/er"), "2026-11-20").expect("created");
        let names: Vec<_> = (0..3)
            .map(|_| create().path().file_name().map(|name| name.to_owned()))
            .collect();
        let expected = ["2026-11-20", "2026-11-20-2", "2026-11-20-3"].map(|name| Some(name.into()));
        assert_eq!(names, expected);
        let mut folder = create();
        folder.write("a.csv", "letters", b"abc").expect("written");
        assert!(
            folder.write("a.csv", "letters", b"other").is_err(),
            "nothing is overwritten"
        );
        let path = folder.path().to_owned();
        let mode = |path: &Path| metadata(path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("a.csv"))), (0o700, 0o600));
        let manifest = folder.finish(json!({"version": "1"})).expect("written");
        let read: Value =
            serde_json::from_slice(&fs::read(path.join(MANIFEST)).expect("read")).expect("JSON");
        assert_eq!(read, manifest);
        assert_eq!(
            read["files"][0]["sha256"],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
