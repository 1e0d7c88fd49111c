//! Where rule and test files are: in folders, or compiled in.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use revwatch_alerting::rule_text::NamedText;

use crate::simulation::scenario_file::FileSource;

/// The tests that revwatch ships with.
pub const SHIPPED: &[(&str, &str)] = &[
    (
        "accounts.toml",
        include_str!("../../../deploy/rules/tests/accounts.toml"),
    ),
    (
        "billing.toml",
        include_str!("../../../deploy/rules/tests/billing.toml"),
    ),
    (
        "data_gap.toml",
        include_str!("../../../deploy/rules/tests/data_gap.toml"),
    ),
    (
        "itself.toml",
        include_str!("../../../deploy/rules/tests/itself.toml"),
    ),
    (
        "onboarding.toml",
        include_str!("../../../deploy/rules/tests/onboarding.toml"),
    ),
    (
        "past_due_share.toml",
        include_str!("../../../deploy/rules/tests/past_due_share.toml"),
    ),
    (
        "payout_failure_rate.toml",
        include_str!("../../../deploy/rules/tests/payout_failure_rate.toml"),
    ),
    (
        "provider_lost_charges.toml",
        include_str!("../../../deploy/rules/tests/provider_lost_charges.toml"),
    ),
];

/// A file, or all `*.toml` of a folder, sorted.
pub fn texts(path: &Path) -> anyhow::Result<Vec<NamedText>> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries =
            std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        files = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<PathBuf>>>()?;
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "toml")
        });
        files.sort();
        if files.is_empty() {
            bail!("there is no *.toml file in {}", path.display());
        }
    }
    files
        .iter()
        .map(|file| Ok((file.display().to_string(), text(file)?)))
        .collect()
}

/// The files beside a test file.
pub struct Folder(PathBuf);

impl Folder {
    /// Of the test file of this name.
    pub fn of(file: &str) -> Self {
        Self(
            Path::new(file)
                .parent()
                .map(Path::to_owned)
                .unwrap_or_default(),
        )
    }
}

impl FileSource for Folder {
    fn rules(&self, path: &str) -> Result<Vec<NamedText>, String> {
        texts(&self.0.join(path)).map_err(|error| format!("{error:#}"))
    }

    fn events(&self, path: &str) -> Result<String, String> {
        text(&self.0.join(path)).map_err(|error| format!("{error:#}"))
    }
}

/// Shipped tests name no other files.
pub struct Nothing;

impl FileSource for Nothing {
    fn rules(&self, path: &str) -> Result<Vec<NamedText>, String> {
        Err(format!(
            "{path:?}: a shipped test has its rules in it, or is about those in effect"
        ))
    }

    fn events(&self, path: &str) -> Result<String, String> {
        Err(format!("{path:?}: a shipped test has its events in it"))
    }
}

fn text(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_tests_is_shipped() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rules/tests");
        let there: Vec<String> = texts(&folder)
            .expect("readable")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let shipped: Vec<String> = SHIPPED
            .iter()
            .map(|(name, _)| folder.join(name).display().to_string())
            .collect();
        assert_eq!(there, shipped, "name every file in SHIPPED, sorted");
    }

    #[test]
    fn every_shipped_rule_has_a_shipped_test() {
        // No event says that a request of ours failed; `tests/system/refresh.rs` makes some.
        let untold = ["stripe_api_error_spike"];
        for rule in revwatch_alerting::rule_text::built_in().expect("valid") {
            let named = SHIPPED
                .iter()
                .any(|(_, text)| text.contains(&format!("rule = \"{}\"", rule.name)));
            assert!(
                named || untold.contains(&rule.name.as_str()),
                "no test speaks of {}",
                rule.name
            );
        }
    }
}
