//! Leases and group membership.

use std::sync::LazyLock;

use async_trait::async_trait;

use super::handle::RedisStore;
use super::keys;
use super::script::Script;
use crate::ports::{Coordination, Fence, MEMBERS_AHEAD_MS, StoreError};

static LEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/lease.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/release.lua")));
static HEARTBEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/heartbeat.lua")));
static MEMBERS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/members.lua")));

#[async_trait]
impl Coordination for RedisStore {
    fn place(&self) -> Option<String> {
        Some(self.place.clone())
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError> {
        let keys = vec![keys::lease(name), keys::fence(name)];
        let call = LEASE.on(keys).arg(holder).arg(ttl_ms.max(1).to_string());
        Ok(self.link.call::<Option<u64>>(&call).await?.map(Fence))
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.link
            .call(&RELEASE.on(vec![keys::lease(name)]).arg(holder))
            .await
    }

    async fn heartbeat(
        &self,
        group: &str,
        member: &str,
        ttl_ms: u64,
    ) -> Result<Vec<String>, StoreError> {
        let call = HEARTBEAT
            .on(vec![keys::members(group)])
            .arg(member)
            .arg(ttl_ms.max(1).to_string());
        let mut alive: Vec<String> = self.link.call(&call).await?;
        alive.sort_unstable();
        Ok(alive)
    }

    async fn members(&self, group: &str) -> Result<Vec<String>, StoreError> {
        let call = MEMBERS
            .on(vec![keys::members(group)])
            .arg(MEMBERS_AHEAD_MS.to_string());
        let mut alive: Vec<String> = self.link.call(&call).await?;
        alive.sort_unstable();
        Ok(alive)
    }

    async fn leave(&self, group: &str, member: &str) -> Result<(), StoreError> {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(keys::members(group)).arg(member);
        self.link.run(&cmd).await
    }
}
