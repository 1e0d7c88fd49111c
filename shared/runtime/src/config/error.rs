//! Why settings cannot be used.

/// The faults in the settings: each names the setting, its origin and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", faults.join("\n"))]
pub struct ConfigError {
    /// One line each; at least one.
    pub faults: Vec<String>,
}
