//! Whether each partition still has everything that was committed to it; see [`Health`].
//!
//! The server's run id changes with each restart and failover. If a managed Redis does not report it, only the loss
//! of all data is noticed.

use std::sync::LazyLock;

use super::RedisStore;
use super::keys;
use super::script::Script;
use crate::ports::{Health, StoreError};

static HEALTH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/health.lua")));
static BEGIN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/begin_healing.lua")));
static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/end_healing.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/forget.lua")));

impl RedisStore {
    pub(super) async fn look_at_health(&self) -> Result<Vec<Health>, StoreError> {
        self.each_partition(|partition| async move {
            type Told = (
                String,
                Option<String>,
                Option<String>,
                Option<i64>,
                Option<String>,
                Option<i64>,
            );
            let told: Told = self
                .link
                .call(&HEALTH.on(vec![keys::health(partition)]))
                .await?;
            let (life, whole_in, healed_by, reach_ms, healing, from_ms) = told;
            Ok(Health {
                server_run_id: life,
                complete_in: whole_in,
                recovery_id: healed_by,
                high_watermark_ms: reach_ms,
                recovery: healing.zip(from_ms),
            })
        })
        .await
    }

    pub(super) async fn note_healing(
        &self,
        partition: u32,
        healing: &str,
        margin_ms: i64,
    ) -> Result<(String, i64), StoreError> {
        let call = BEGIN
            .on(vec![keys::health(partition)])
            .arg(healing)
            .arg(margin_ms.to_string());
        self.link.call(&call).await
    }

    pub(super) async fn note_healed(
        &self,
        partition: u32,
        healing: &str,
        life: &str,
    ) -> Result<bool, StoreError> {
        self.link
            .call(&END.on(vec![keys::health(partition)]).arg(healing).arg(life))
            .await
    }

    pub(super) async fn forget_events(&self) -> Result<(), StoreError> {
        self.each_partition(|partition| async move {
            let call = FORGET
                .on(vec![keys::health(partition)])
                .arg(keys::all(partition));
            self.link.call::<()>(&call).await
        })
        .await
        .map(drop)
    }
}
