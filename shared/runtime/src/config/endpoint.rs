//! Webhook endpoints: their paths, their secrets, and the events they accept.
use std::path::PathBuf;

use revwatch_core::signature::SigningKey;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{Config, ConfigError};
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

impl Config {
    /// The endpoints to serve, in the order of their paths. Secret files are read now.
    pub fn webhook_endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let (mut endpoints, mut faults) = (Vec::<Endpoint>::new(), Vec::new());
        let built_in = [
            (
                "stripe",
                "/webhooks/stripe",
                "STRIPE_WEBHOOK_SECRET",
                &self.stripe_webhook_secret,
            ),
            (
                "kernel",
                "/webhooks/kernel/stripe",
                "STRIPE_KERNEL_WEBHOOK_SECRET",
                &self.stripe_kernel_webhook_secret,
            ),
        ];
        for (name, path, variable, secrets) in built_in {
            let Some(secrets) = secrets else { continue };
            match keys(secrets.expose_secret().split(',')) {
                Some(keys) => endpoints.push(Endpoint {
                    name: name.into(),
                    path: path.into(),
                    keys,
                    mode: Mode::Any,
                }),
                None => faults.push(format!(
                    "{variable} holds an empty secret: separate several by single commas"
                )),
            }
        }
        for endpoint in &self.endpoints {
            match endpoint.read(&endpoints) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(error) => faults.extend(error.faults),
            }
        }
        if endpoints.is_empty() && faults.is_empty() {
            faults.push(
                "no webhook endpoint has a signing secret: set STRIPE_WEBHOOK_SECRET to the `whsec_…` that Stripe's \
                 dashboard (Developers → Webhooks) or `stripe listen --print-secret` shows"
                    .into(),
            );
        }
        ConfigError::none_of(faults).map(|()| endpoints)
    }
}

impl EndpointConfig {
    /// `before` are the endpoints read so far, whose names and paths are in use.
    fn read(&self, before: &[Endpoint]) -> Result<Endpoint, ConfigError> {
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
