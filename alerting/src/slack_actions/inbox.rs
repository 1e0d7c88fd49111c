//! Leaves commands in the store, and says so in the log.

use std::sync::Arc;
use std::time::Duration;

use revwatch_core::redact;
use revwatch_storage::ports::{COMMANDS, StateStore, StoreError};
use tokio::time::timeout;

use super::payload::Interaction;
use crate::command::CommandKind;

/// See the module.
#[derive(Clone)]
pub(super) struct Inbox(Arc<dyn StateStore>);

/// A command may or may not be stored; whoever gave it is to give it again.
#[derive(Debug, thiserror::Error)]
pub(super) enum InboxError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store did not answer within {} ms", STORE_TIMEOUT.as_millis())]
    TooSlow,
    #[error("a command cannot be written: {0}")]
    Unwritable(#[from] serde_json::Error),
}

/// Slack tells people that something went wrong when it has no answer after three seconds:
/// <https://docs.slack.dev/interactivity/handling-user-interaction#acknowledgment_response>.
const STORE_TIMEOUT: Duration = Duration::from_millis(2500);

impl Inbox {
    pub(super) fn new(store: Arc<dyn StateStore>) -> Self {
        Self(store)
    }

    /// Returns once all that is asked is durable.
    pub(super) async fn take(&self, interaction: &Interaction) -> Result<(), InboxError> {
        for ignored in &interaction.ignored {
            tracing::debug!(reason = ignored.reason, action_id = %redact::id(&ignored.action_id), "action in Slack ignored");
        }
        timeout(STORE_TIMEOUT, self.store(interaction))
            .await
            .map_err(|_| InboxError::TooSlow)?
    }

    async fn store(&self, interaction: &Interaction) -> Result<(), InboxError> {
        for asked in &interaction.asked {
            self.0
                .submit(
                    COMMANDS,
                    &asked.key,
                    &serde_json::to_string(&asked.command)?,
                )
                .await?;
            let what = match asked.command.ask {
                CommandKind::Acknowledge { .. } => "acknowledge",
                CommandKind::Resolve { .. } => "resolve",
                CommandKind::Silence(_) => "silence",
                CommandKind::Unsilence { .. } => "unsilence",
            };
            // A name and not an id of Slack's would be a person's.
            let (alert_id, by) = (
                redact::id(&asked.alert_id),
                redact::slack_user(&asked.user_id),
            );
            tracing::info!(%alert_id, what, slack_user = %by, "action in Slack");
        }
        Ok(())
    }
}
