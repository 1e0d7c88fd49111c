//! How an attempt to deliver a message ended.

/// What the caller does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Readers have it.
    Delivered {
        /// Where the message is, for changing it in place later.
        receipt: Option<String>,
    },
    /// It was not delivered; the destination says how long to wait.
    RetryAfter {
        /// Milliseconds.
        wait_ms: i64,
    },
    /// It was not delivered.
    Failed {
        /// For the log; no secrets and no personal data.
        reason: String,
        /// A retry is useless until a person changes something.
        permanent: bool,
    },
    /// Readers may have it: the answer did not arrive.
    Unknown {
        /// For the log.
        reason: String,
    },
    /// The message that was to be changed is no longer there.
    Gone,
    /// Nothing was sent: the earlier attempt did not arrive, and the alert is muted by now.
    Withheld,
}

/// What the search for a message found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// It arrived, at this or an earlier revision.
    Found {
        /// As of [`Outcome::Delivered`].
        receipt: Option<String>,
        /// The revision that it shows; `None`: the one that was tried.
        revision: Option<u32>,
    },
    /// It did not.
    Absent,
    /// It does not matter: the destination takes a repeat for the same message.
    Repeatable,
    /// The destination cannot be searched now; search again later.
    Later {
        /// For the log.
        reason: String,
    },
    /// No search will say: this destination has none, or its answer leaves it open.
    Inconclusive,
}

impl Outcome {
    /// The word in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::RetryAfter { .. } => "retry_after",
            Self::Failed {
                permanent: true, ..
            } => "permanent",
            Self::Failed { .. } => "failed",
            Self::Unknown { .. } => "unknown",
            Self::Gone => "gone",
            Self::Withheld => "withheld",
        }
    }

    /// Why it was not delivered; else its word.
    pub fn reason(self) -> String {
        match self {
            Self::Failed { reason, .. } | Self::Unknown { reason } => reason,
            other => other.as_str().to_owned(),
        }
    }
}
