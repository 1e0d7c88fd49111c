//! Files that people write, and the places of faults in them.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use revwatch_core::neutral;

/// A file's name, for messages, and its text.
pub type NamedText = (String, String);

/// Files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {}", shown(path), plain(cause))]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why. No source of the error, because the text has it already.
        cause: io::Error,
    },
    /// A folder contains no TOML file.
    #[error("there is no *.toml file in {}", shown(path))]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// A place in a file: line and column from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as it was given.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// `FILE:LINE:COLUMN`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Reads a TOML file, or all `*.toml` files of a folder: at least one, and sorted, so that messages do
/// not depend on the file system.
pub fn read_toml(path: &Path) -> Result<Vec<NamedText>, ReadError> {
    let files = if path.is_dir() {
        in_folder(path).map_err(|source| unreadable(path, source))?
    } else {
        vec![path.to_owned()]
    };
    if files.is_empty() {
        return Err(ReadError::Empty {
            path: path.to_owned(),
        });
    }
    files
        .iter()
        .map(|file| Ok((file.display().to_string(), read_text(file)?)))
        .collect()
}

/// Reads one file.
pub fn read_text(file: &Path) -> Result<String, ReadError> {
    let bytes = std::fs::read(file).map_err(|source| unreadable(file, source))?;
    String::from_utf8(bytes).map_err(|error| {
        let what = match error.as_bytes() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16: save it as UTF-8",
            _ => "it is not UTF-8 text: save it as UTF-8",
        };
        unreadable(file, io::Error::new(io::ErrorKind::InvalidData, what))
    })
}

/// The place of `span`; without a span, the first character.
pub fn place((file, text): &NamedText, span: Option<Range<usize>>) -> Place {
    let before = &text[..span.map_or(0, |span| span.start).min(text.len())];
    let of_line = before.rsplit('\n').next().unwrap_or_default();
    Place {
        file: file.clone(),
        line: before.matches('\n').count() + 1,
        column: of_line.chars().count() + 1,
    }
}

fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    paths.sort();
    Ok(paths)
}

/// A name as a terminal may show it.
fn shown(path: &Path) -> String {
    neutral::line(&path.to_string_lossy()).into_owned()
}

/// Without the number of the error.
fn plain(cause: &io::Error) -> String {
    let text = cause.to_string();
    text.split(" (os error ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn unreadable(path: &Path, cause: io::Error) -> ReadError {
    ReadError::Unreadable {
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_in_the_order_of_its_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        assert!(
            matches!(read_toml(folder.path()), Err(ReadError::Empty { path }) if path == folder.path())
        );
        for name in ["b.toml", "a.toml", "notes.md"] {
            std::fs::write(path(name), format!("text of {name}")).expect("written");
        }
        let named = |name: &str| (path(name).display().to_string(), format!("text of {name}"));
        let all = read_toml(folder.path()).expect("readable");
        assert_eq!(all, [named("a.toml"), named("b.toml")]);
        // A file that is named may have any ending.
        assert_eq!(
            read_toml(&path("notes.md")).expect("readable"),
            [named("notes.md")]
        );
        let missing = path("missing.toml");
        let error = read_toml(&missing).expect_err("missing").to_string();
        assert!(
            error.starts_with(&format!("cannot read {}: ", missing.display())),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_no_text_is_named_with_the_fix() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a\r.toml");
        for (bytes, expected) in [
            (&b"\xff\xfel\0"[..], "it is UTF-16: save it as UTF-8"),
            (b"\xe9t\xe9", "it is not UTF-8 text: save it as UTF-8"),
        ] {
            std::fs::write(&path, bytes).expect("written");
            let error = read_text(&path).expect_err("unreadable").to_string();
            assert!(
                error.ends_with(expected) && !error.contains('\r'),
                "{error:?}"
            );
        }
        let error = read_text(Path::new("/nowhere/x")).expect_err("missing");
        assert_eq!(
            error.to_string(),
            "cannot read /nowhere/x: No such file or directory"
        );
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let file = ("f.toml".to_owned(), "ä = 1\nb = \"é\" # c".to_owned());
        let at = |part: &str| {
            let at = file.1.find(part).expect("in the text");
            place(&file, Some(at..at)).to_string()
        };
        assert_eq!(
            [at("ä"), at("1"), at("b"), at("#")],
            ["f.toml:1:1", "f.toml:1:5", "f.toml:2:1", "f.toml:2:9"]
        );
        assert_eq!(place(&file, None).to_string(), "f.toml:1:1");
        let end = place(&file, Some(999..999)).to_string();
        assert_eq!(end, "f.toml:2:12");
    }
}
