//! The result of a batch that the store has committed.

use std::time::SystemTime;

use crate::batch::Decision;

/// A committed batch.
pub(crate) struct Applied {
    pub(crate) decision: Decision,
    /// When the batch was read.
    pub(crate) began: SystemTime,
    /// When it was decided and the commit was sent.
    pub(crate) commit_began: SystemTime,
    /// When the store confirmed the commit.
    pub(crate) commit_ended: SystemTime,
}
