//! Stores commands for the evaluator and logs them.

use std::sync::Arc;
use std::time::Duration;

use revwatch_core::redact;
use revwatch_storage::ports::{COMMANDS, Documents, StoreError};
use tokio::time::timeout;

use super::payload::Interaction;
use crate::alert::CommandKind;

/// See the module's documentation.
#[derive(Clone)]
pub(super) struct Inbox(Arc<dyn Documents>);

/// The command may or may not be stored; the sender must repeat it.
#[derive(Debug, thiserror::Error)]
pub(super) enum InboxError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store did not answer within {} ms", STORE_TIMEOUT.as_millis())]
    TooSlow,
    #[error("the command cannot be encoded: {0}")]
    Unwritable(#[from] serde_json::Error),
}

/// Slack shows people an error if there is no answer within three seconds:
/// <https://docs.slack.dev/interactivity/handling-user-interaction#acknowledgment_response>.
const STORE_TIMEOUT: Duration = Duration::from_millis(2500);

impl Inbox {
    pub(super) fn new(store: Arc<dyn Documents>) -> Self {
        Self(store)
    }

    /// Returns once all requested commands are durable.
    pub(super) async fn take(&self, interaction: &Interaction) -> Result<(), InboxError> {
        for ignored in &interaction.ignored {
            tracing::debug!(reason = ignored.reason, action_id = %redact::id(&ignored.action_id), "action in Slack ignored");
        }
        timeout(STORE_TIMEOUT, self.store(interaction))
            .await
            .map_err(|_| InboxError::TooSlow)?
    }

    async fn store(&self, interaction: &Interaction) -> Result<(), InboxError> {
        for action in &interaction.requested {
            self.0
                .submit(
                    COMMANDS,
                    &action.key,
                    &serde_json::to_string(&action.command)?,
                )
                .await?;
            let what = match action.command.kind {
                CommandKind::Acknowledge { .. } => "acknowledge",
                CommandKind::Resolve { .. } => "resolve",
                CommandKind::Silence(_) => "silence",
                CommandKind::Unsilence { .. } => "unsilence",
            };
            // Slack's user id is logged; a name would be personal data.
            let (alert_id, by) = (
                redact::id(&action.alert_id),
                redact::slack_user(&action.user_id),
            );
            tracing::info!(%alert_id, what, slack_user = %by, "action in Slack");
        }
        Ok(())
    }
}
