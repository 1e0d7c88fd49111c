//! Files that people write, and the places of faults in them.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file's name, for messages, and its text.
pub type NamedText = (String, String);

/// Files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder could not be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A folder contains no TOML file.
    #[error("there is no *.toml file in {path}")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
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
    std::fs::read_to_string(file).map_err(|source| unreadable(file, source))
}

/// The place of `span` for a message: `FILE:LINE:COLUMN`; without a span, the first character.
pub fn place((file, text): &NamedText, span: Option<Range<usize>>) -> String {
    let at = span.map_or(0, |span| span.start);
    let column = before(text, at)
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count())
        + 1;
    format!("{file}:{}:{column}", line(text, at))
}

/// The number of the line that holds the byte `at`.
pub fn line(text: &str, at: usize) -> usize {
    before(text, at).matches('\n').count() + 1
}

fn before(text: &str, at: usize) -> &str {
    &text[..at.min(text.len())]
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

fn unreadable(path: &Path, source: io::Error) -> ReadError {
    ReadError::Unreadable {
        path: path.to_owned(),
        source,
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
    fn places_count_lines_and_characters_from_one() {
        let file = ("f.toml".to_owned(), "ä = 1\nb = \"é\" # c".to_owned());
        let at = |part: &str| {
            let at = file.1.find(part).expect("in the text");
            place(&file, Some(at..at))
        };
        assert_eq!(
            [at("ä"), at("1"), at("b"), at("#")],
            ["f.toml:1:1", "f.toml:1:5", "f.toml:2:1", "f.toml:2:9"]
        );
        assert_eq!(place(&file, None), "f.toml:1:1");
        assert_eq!(place(&file, Some(999..999)), "f.toml:2:12");
    }
}
