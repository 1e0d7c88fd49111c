//! Whether each partition still has everything that was committed to it; see [`Health`].
//!
//! The server's run id changes with each restart and failover. If a managed Redis does not report it, only the loss
//! of all data is noticed.

use std::sync::LazyLock;

use async_trait::async_trait;
use revwatch_core::entity::STATE_FORMAT;

use super::handle::RedisStore;
use super::keys;
use super::script::Script;
use crate::ports::{Health, Recovery, StoreError};

static HEALTH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/health.lua")));
static BEGIN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/begin_recovery.lua")));
static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/end_recovery.lua")));
static DROP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/drop_state.lua")));

#[async_trait]
impl Recovery for RedisStore {
    async fn health(&self) -> Result<Vec<Health>, StoreError> {
        self.each_partition(|partition| async move {
            type Recorded = (
                String,
                Option<String>,
                Option<String>,
                Option<i64>,
                Option<String>,
                Option<i64>,
                u32,
                Option<String>,
            );
            let call = HEALTH.on(vec![keys::health(partition)]);
            let call = call.arg(STATE_FORMAT.to_string());
            let recorded: Recorded = self.link.call(&call).await?;
            let (server_run_id, complete_in, recovery_id, high_watermark_ms, ..) = recorded;
            let (.., recovery, from_ms, state_format, conversion) = recorded;
            Ok(Health {
                server_run_id,
                complete_in,
                recovery_id,
                high_watermark_ms,
                recovery: recovery.zip(from_ms),
                state_format,
                conversion,
            })
        })
        .await
    }

    async fn begin_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        margin_ms: i64,
    ) -> Result<(String, i64), StoreError> {
        let call = BEGIN
            .on(vec![keys::health(partition)])
            .arg(recovery_id)
            .arg(margin_ms.to_string())
            .arg(STATE_FORMAT.to_string());
        self.link.call(&call).await
    }

    async fn end_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError> {
        self.link
            .call(
                &END.on(vec![keys::health(partition)])
                    .arg(recovery_id)
                    .arg(server_run_id),
            )
            .await
    }

    async fn drop_state(&self) -> Result<(), StoreError> {
        self.each_partition(|partition| async move {
            let call = DROP
                .on(vec![keys::health(partition)])
                .arg(keys::all(partition));
            self.link.call::<()>(&call).await
        })
        .await
        .map(drop)
    }
}
