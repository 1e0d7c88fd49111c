//! Loads rules: the built-in ones, a file, or a folder of files.

use std::path::Path;

use revwatch_runtime::config::{ConfigError, Fault};
use revwatch_runtime::files::read_toml;

use crate::rule::Rule;
use crate::rule_text::{built_in, parse};

/// Loads rules: the built-in ones, a file, or all `*.toml` of a folder. Errors name every fault.
pub fn load(path: Option<&Path>) -> Result<Vec<Rule>, ConfigError> {
    let Some(path) = path else { return built_in() };
    let files = read_toml(path).map_err(|error| {
        ConfigError::of(Fault::from(format!("rules: {error}")).about(["rules"]))
    })?;
    parse(&files)
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
        let error = load(Some(&missing)).expect_err("missing").to_string();
        let expected = format!("rules: cannot read {}: ", missing.display());
        assert!(error.starts_with(&expected), "{error}");
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
