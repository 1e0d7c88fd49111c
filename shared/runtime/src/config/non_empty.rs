//! Values that count as unset if they are empty; for `#[serde(deserialize_with = …)]`.
//!
//! Secrets are trimmed here, once, wherever they come from: what is checked is what is used.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize as _, Deserializer};

pub(super) fn non_empty_secret<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<SecretString>, D::Error> {
    let secret = Option::<SecretString>::deserialize(d)?;
    let trimmed = secret.as_ref().map(|secret| secret.expose_secret().trim());
    Ok(trimmed
        .filter(|text| !text.is_empty())
        .map(SecretString::from))
}

pub(super) fn non_empty_path<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<PathBuf>::deserialize(d)?.filter(|p| p != Path::new("")))
}
