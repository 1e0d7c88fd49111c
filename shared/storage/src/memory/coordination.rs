//! Leases and group membership.

use async_trait::async_trait;

use super::handle::Memory;
use super::store_state::Lease;
use crate::lock::lock;
use crate::ports::{Coordination, Fence, MEMBERS_AHEAD_MS, StoreError};

#[async_trait]
impl Coordination for Memory {
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError> {
        self.shared.pass(&self.gate).await;
        let now_ms = self.shared.clock.now_ms();
        let until_ms = now_ms.saturating_add_unsigned(ttl_ms);
        let latest_ms = until_ms.saturating_add_unsigned(ttl_ms);
        let mut state = lock(&self.shared.store);
        let found = state.leases.get(name);
        let fence = match found {
            Some(lease) if lease.until_ms >= now_ms && lease.holder == holder => lease.fence,
            Some(lease) if (now_ms..=latest_ms).contains(&lease.until_ms) => return Ok(None),
            Some(lease) => lease.fence + 1,
            None => 1,
        };
        let lease = Lease {
            holder: holder.to_owned(),
            fence,
            until_ms,
        };
        state.leases.insert(name.to_owned(), lease);
        Ok(Some(Fence(fence)))
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.store);
        if let Some(lease) = state.leases.get_mut(name).filter(|l| l.holder == holder) {
            lease.until_ms = i64::MIN;
        }
        Ok(())
    }

    async fn heartbeat(
        &self,
        group: &str,
        member: &str,
        ttl_ms: u64,
    ) -> Result<Vec<String>, StoreError> {
        self.shared.pass(&self.gate).await;
        let now_ms = self.shared.clock.now_ms();
        let mut state = lock(&self.shared.store);
        let until_ms = now_ms.saturating_add_unsigned(ttl_ms);
        let latest_ms = until_ms.saturating_add_unsigned(ttl_ms);
        state
            .members
            .retain(|(found, _), until| found != group || (now_ms..=latest_ms).contains(until));
        state
            .members
            .insert((group.to_owned(), member.to_owned()), until_ms);
        let of_group = state.members.keys().filter(|(found, _)| found == group);
        Ok(of_group.map(|(_, member)| member.clone()).collect())
    }

    async fn members(&self, group: &str) -> Result<Vec<String>, StoreError> {
        self.shared.pass(&self.gate).await;
        let now_ms = self.shared.clock.now_ms();
        let alive_ms = now_ms..=now_ms.saturating_add_unsigned(MEMBERS_AHEAD_MS);
        let state = lock(&self.shared.store);
        let members = state.members.iter();
        let alive =
            members.filter(|((found, _), until)| found == group && alive_ms.contains(until));
        Ok(alive.map(|((_, member), _)| member.clone()).collect())
    }

    async fn leave(&self, group: &str, member: &str) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let key = (group.to_owned(), member.to_owned());
        lock(&self.shared.store).members.remove(&key);
        Ok(())
    }
}
