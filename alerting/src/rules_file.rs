//! Loads rules: the built-in ones, a file, or a folder of files.

use std::path::{Path, PathBuf};

use crate::rule::Rule;
use crate::rule_text::{NamedText, RulesError, built_in, parse};

/// Rules could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// A file or folder could not be read.
    #[error("cannot read rules from {path}: {source}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A folder contains no rule file.
    #[error("there is no *.toml file in {path}")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The files contain invalid rules.
    #[error(transparent)]
    Invalid(#[from] RulesError),
}

/// Loads rules: the built-in ones, a file, or all `*.toml` of a folder.
pub fn load(path: Option<&Path>) -> Result<Vec<Rule>, RuleError> {
    let Some(path) = path else {
        return Ok(built_in()?);
    };
    let files = if path.is_dir() {
        in_folder(path)?
    } else {
        vec![path.to_owned()]
    };
    if files.is_empty() {
        return Err(RuleError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(parse(
        &files
            .iter()
            .map(|file| text(file))
            .collect::<Result<Vec<_>, _>>()?,
    )?)
}

/// Sorted, so that error messages do not depend on the file system.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, RuleError> {
    let entries = std::fs::read_dir(folder).map_err(|source| cannot_read(folder, source))?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|e| e.path())).collect();
    let mut paths = paths.map_err(|source| cannot_read(folder, source))?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    paths.sort();
    Ok(paths)
}

fn text(file: &Path) -> Result<NamedText, RuleError> {
    let text = std::fs::read_to_string(file).map_err(|source| cannot_read(file, source))?;
    Ok((file.display().to_string(), text))
}

fn cannot_read(path: &Path, source: std::io::Error) -> RuleError {
    RuleError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> String {
        format!(
            "[[rule]]\nname = \"{name}\"\nkind = \"condition\"\ncondition = \"past_due\"\nseverity = \"high\"\n\
             route = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n"
        )
    }

    #[test]
    fn a_folder_contributes_all_its_toml_files_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        for (file, text) in [
            ("b.toml", rule("second")),
            ("a.toml", rule("first")),
            ("notes.md", "not a rule".into()),
        ] {
            std::fs::write(folder.path().join(file), text).expect("written");
        }
        let names: Vec<_> = load(Some(folder.path()))
            .expect("valid")
            .into_iter()
            .map(|r| r.name)
            .collect();
        assert_eq!(names, ["first", "second"]);
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("missing.toml");
        let error = load(Some(&missing)).expect_err("missing");
        assert!(
            matches!(&error, RuleError::Unreadable { path, .. } if *path == missing),
            "{error}"
        );
        let error = load(Some(folder.path())).expect_err("an empty folder");
        assert!(
            matches!(&error, RuleError::Empty { path } if path == folder.path()),
            "{error}"
        );
        let twice = [("a.toml", rule("same")), ("b.toml", rule("same"))];
        for (file, text) in twice {
            std::fs::write(folder.path().join(file), text).expect("written");
        }
        let error = load(Some(folder.path()))
            .expect_err("two of the same name")
            .to_string();
        assert!(
            error.contains("b.toml:2:8: there are two rules named"),
            "{error}"
        );
    }
}
