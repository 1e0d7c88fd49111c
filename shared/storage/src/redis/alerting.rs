//! What alerting keeps: leases, documents under a fence, and who is alive.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;

use super::RedisStore;
use super::keys;
use super::script::Script;
use crate::ports::{DocumentWrite, Fence, StoreError};

/// The lease that documents are written under.
const ALERTING: &str = "alerting";

static LEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/lease.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/release.lua")));
static DOCUMENTS: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/documents.lua")));
static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/beat.lua")));

/// One write, for `documents.lua`.
#[derive(Serialize)]
struct Write<'a> {
    /// Index into KEYS, from 1.
    space: usize,
    key: &'a str,
    /// Absent to delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
}

impl RedisStore {
    pub(super) async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError> {
        let keys = vec![keys::lease(name), keys::fence(name)];
        let call = LEASE.on(keys).arg(holder).arg(ttl_ms.max(1).to_string());
        Ok(self.link.call::<Option<u64>>(&call).await?.map(Fence))
    }

    pub(super) async fn give_back_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.link
            .call(&RELEASE.on(vec![keys::lease(name)]).arg(holder))
            .await
    }

    pub(super) async fn read_documents(
        &self,
        space: &'static str,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(keys::documents(space));
        let documents: BTreeMap<String, String> = self.link.run(&cmd).await?;
        Ok(documents.into_iter().collect())
    }

    pub(super) async fn put_documents(
        &self,
        fence: Fence,
        writes: &[DocumentWrite],
    ) -> Result<(), StoreError> {
        let mut keys = vec![keys::fence(ALERTING)];
        let mut spaces = BTreeMap::new();
        let mut packed = Vec::with_capacity(writes.len());
        for write in writes {
            let space = *spaces.entry(write.space).or_insert_with(|| {
                keys.push(keys::documents(write.space));
                keys.len()
            });
            packed.push(Write {
                space,
                key: &write.key,
                body: write.body.as_deref(),
            });
        }
        let packed = rmp_serde::to_vec_named(&packed)
            .map_err(|err| StoreError::Corrupt(format!("documents cannot be packed: {err}")))?;
        let written: bool = self
            .link
            .call(&DOCUMENTS.on(keys).arg(fence.0.to_string()).arg(packed))
            .await?;
        if written {
            Ok(())
        } else {
            Err(StoreError::Fenced)
        }
    }

    pub(super) async fn put_document(
        &self,
        space: &str,
        key: &str,
        body: &str,
    ) -> Result<(), StoreError> {
        let mut cmd = redis::cmd("HSET");
        cmd.arg(keys::documents(space)).arg(key).arg(body);
        self.link.run(&cmd).await
    }

    pub(super) async fn heartbeat(
        &self,
        group: &str,
        member: &str,
        ttl_ms: u64,
    ) -> Result<Vec<String>, StoreError> {
        let call = BEAT
            .on(vec![keys::members(group)])
            .arg(member)
            .arg(ttl_ms.max(1).to_string());
        let mut alive: Vec<String> = self.link.call(&call).await?;
        alive.sort_unstable();
        Ok(alive)
    }

    pub(super) async fn leave_group(&self, group: &str, member: &str) -> Result<(), StoreError> {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(keys::members(group)).arg(member);
        self.link.run(&cmd).await
    }
}
