//! How an attempt to tell people ended.

/// How an attempt to tell ended: what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is told.
    Delivered {
        /// Where the message is, if it can be changed there.
        receipt: Option<String>,
    },
    /// Too fast; again after this time.
    RetryAfter {
        /// Milliseconds.
        wait_ms: i64,
    },
    /// It is not told. Again later; `permanent` when only a change of settings will help.
    Failed {
        /// For the log; without secrets.
        reason: String,
        /// Whether trying again as things are is without hope.
        permanent: bool,
    },
    /// There was no answer: it may or may not be told.
    Unknown {
        /// For the log; without secrets.
        reason: String,
    },
    /// The message to be changed is no longer there.
    Gone,
}

impl Outcome {
    /// The word in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::RetryAfter { .. } => "retry_after",
            Self::Failed { permanent: true, .. } => "permanent",
            Self::Failed { .. } => "failed",
            Self::Unknown { .. } => "unknown",
            Self::Gone => "gone",
        }
    }
}
