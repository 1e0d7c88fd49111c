//! A text of JSON, without a copy where there can be none.

use std::borrow::Cow;

use serde::Deserialize;

/// Borrowed where the JSON has no escapes, owned otherwise.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
