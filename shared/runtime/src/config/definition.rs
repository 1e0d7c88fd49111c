//! What defines an environment variable.

/// How the text of a variable is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Ratio,
    Secret,
}

/// An environment variable and the key that it sets. Secret ones can also be given as `NAME_FILE`.
pub(super) type Definition = (&'static str, &'static [&'static str], Kind);
