//! Values that count as unset if they are empty; for `#[serde(deserialize_with = …)]`.
//!
//! Secrets are trimmed here, once, wherever they come from: what is checked is what is used.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize as _, Deserializer};

use super::written::{items, lines};

/// One secret.
pub(super) fn non_empty_secret<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<SecretString>, D::Error> {
    // Several lines are a fault, which `suspect.rs` names.
    secret(d, |text| lines(text).collect::<Vec<_>>().join("\n"))
}

/// Secrets that may be several, separated by commas.
pub(super) fn non_empty_secrets<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<SecretString>, D::Error> {
    secret(d, |text| items(text).collect::<Vec<_>>().join(","))
}

pub(super) fn non_empty_path<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<PathBuf>::deserialize(d)?.filter(|p| p != Path::new("")))
}

fn secret<'de, D: Deserializer<'de>>(
    d: D,
    read: impl Fn(&str) -> String,
) -> Result<Option<SecretString>, D::Error> {
    let written = Option::<SecretString>::deserialize(d)?;
    let secret = written.map(|written| read(written.expose_secret()));
    Ok(secret
        .filter(|text| !text.is_empty())
        .map(SecretString::from))
}
