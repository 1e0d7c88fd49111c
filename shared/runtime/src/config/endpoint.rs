//! One webhook endpoint: its path, its secrets, and the events it accepts.

use std::path::PathBuf;

use revwatch_core::signature::SigningKey;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::error::ConfigError;
use crate::files::read_text;

/// One webhook endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Shown in metrics and logs.
    pub name: String,
    /// For example `/webhooks/stripe/eu`.
    pub path: String,
    /// Signing secrets; several while one is being rotated out.
    #[serde(default)]
    pub secrets: Vec<SecretString>,
    /// A file with one secret per line, read at start.
    pub secret_file: Option<PathBuf>,
    /// The events it accepts; others are answered 200 and ignored.
    #[serde(default)]
    pub mode: Mode,
}

/// Whether an endpoint accepts live events, test events, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Both.
    #[default]
    Any,
    /// `livemode: true` only.
    Live,
    /// `livemode: false` only.
    Test,
}

impl Mode {
    /// Whether the endpoint accepts an event with this `livemode`.
    pub fn takes(self, livemode: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Live => livemode,
            Self::Test => !livemode,
        }
    }
}

/// An endpoint, ready to verify.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Shown in metrics and logs.
    pub name: String,
    /// Path of the URL.
    pub path: String,
    /// At least one.
    pub keys: Vec<SigningKey>,
    /// The events it accepts.
    pub mode: Mode,
}

impl EndpointConfig {
    /// `before` are the endpoints read so far, whose names and paths are in use.
    pub(super) fn read(&self, before: &[Endpoint]) -> Result<Endpoint, ConfigError> {
        let Self {
            name,
            path,
            secrets,
            secret_file,
            mode,
        } = self;
        let mut texts: Vec<String> = secrets
            .iter()
            .map(|s| s.expose_secret().to_owned())
            .collect();
        if let Some(file) = secret_file {
            let text = read_text(file)
                .map_err(|fault| ConfigError::of(format!("endpoint {name:?}: {fault}")))?;
            texts.extend(
                text.lines()
                    .map(str::to_owned)
                    .filter(|l| !l.trim().is_empty()),
            );
        }
        let invalid = |what: String| Err(ConfigError::of(format!("endpoint {name:?}{what}")));
        let Some(keys) = keys(texts.iter().map(String::as_str)) else {
            return invalid(
                " needs at least one secret, and none may be empty: set `secrets` or `secret_file`"
                    .to_owned(),
            );
        };
        if !path.starts_with('/') {
            return invalid(format!(": path {path:?} must begin with /"));
        }
        if before.iter().any(|e| e.path == *path || e.name == *name) {
            return invalid(format!(": its name or path {path:?} is already used"));
        }
        Ok(Endpoint {
            name: name.clone(),
            path: path.clone(),
            keys,
            mode: *mode,
        })
    }
}

/// `None` if there is no secret, or if one of them is empty.
pub(super) fn keys<'a>(secrets: impl Iterator<Item = &'a str>) -> Option<Vec<SigningKey>> {
    secrets
        .map(SigningKey::new)
        .collect::<Option<Vec<_>>>()
        .filter(|keys| !keys.is_empty())
}
