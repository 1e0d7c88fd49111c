//! Where rule and test files come from: folders, or files compiled in.

use std::path::{Path, PathBuf};

use revwatch_runtime::files::{NamedText, read_text, read_toml};

use crate::simulation::scenario_file::FileSource;

/// The tests that are compiled in.
pub const SHIPPED: &[(&str, &str)] = &[
    (
        "accounts.toml",
        include_str!("../../../deploy/rules/tests/accounts.toml"),
    ),
    (
        "application.toml",
        include_str!("../../../deploy/rules/tests/application.toml"),
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

/// The folder of a test file.
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of the test file with this name.
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
        read_toml(&self.0.join(path)).map_err(|error| error.to_string())
    }

    fn events(&self, path: &str) -> Result<String, String> {
        read_text(&self.0.join(path)).map_err(|error| error.to_string())
    }
}

/// Built-in tests refer to no other files.
pub struct Nothing;

impl FileSource for Nothing {
    fn rules(&self, path: &str) -> Result<Vec<NamedText>, String> {
        Err(format!(
            "{path:?}: a built-in test contains its rules, or tests the rules in effect"
        ))
    }

    fn events(&self, path: &str) -> Result<String, String> {
        Err(format!("{path:?}: a built-in test contains its events"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_file_is_compiled_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rules/tests");
        let there: Vec<String> = read_toml(&folder)
            .expect("readable")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let shipped: Vec<String> = SHIPPED
            .iter()
            .map(|(name, _)| folder.join(name).display().to_string())
            .collect();
        assert_eq!(there, shipped, "list every file in SHIPPED, sorted");
    }

    #[test]
    fn every_built_in_rule_has_a_built_in_test() {
        // No event reports that a request to Stripe failed, or that the queue lost something;
        // `tests/system/resolver.rs` and `tests/system/lost_deliveries.rs` cause such failures.
        let without_test = ["stripe_api_error_spike", "deliveries_lost_by_queue"];
        for rule in revwatch_alerting::rule_text::built_in().expect("valid") {
            let named = SHIPPED
                .iter()
                .any(|(_, text)| text.contains(&format!("rule = \"{}\"", rule.name)));
            assert!(
                named || without_test.contains(&rule.name.as_str()),
                "no test covers {}",
                rule.name
            );
        }
    }
}
