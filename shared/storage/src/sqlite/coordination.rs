//! Leases and group membership.

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, params};

use super::handle::{Sqlite, store_error};
use super::json::texts;
use crate::ports::{Coordination, Fence, MEMBERS_AHEAD_MS, StoreError};

#[async_trait]
impl Coordination for Sqlite {
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let clock = self.0.clock.clone();
        self.write(move |c| {
            let now_ms = clock.now_ms();
            let until_ms = now_ms.saturating_add_unsigned(ttl_ms);
            let latest_ms = until_ms.saturating_add_unsigned(ttl_ms);
            c.prepare_cached(
                "INSERT INTO leases VALUES (?1, ?2, 1, ?3) ON CONFLICT (name) DO UPDATE SET
                   fence = fence + (holder <> excluded.holder OR until_ms < ?4), holder = excluded.holder,
                   until_ms = excluded.until_ms
                 WHERE holder = excluded.holder OR until_ms < ?4 OR until_ms > ?5
                 RETURNING fence",
            )?
            .query_row(params![name, holder, until_ms, now_ms, latest_ms], |row| row.get(0).map(Fence))
            .optional()
        })
        .await
        .map_err(store_error)
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(move |c| {
            c.execute(
                "UPDATE leases SET until_ms = 0 WHERE name = ?1 AND holder = ?2",
                [&name, &holder],
            )
        })
        .await
        .map(drop)
        .map_err(store_error)
    }

    async fn heartbeat(
        &self,
        group: &str,
        member: &str,
        ttl_ms: u64,
    ) -> Result<Vec<String>, StoreError> {
        let (group, member) = (group.to_owned(), member.to_owned());
        let clock = self.0.clock.clone();
        self.write(move |c| {
            let now_ms = clock.now_ms();
            let until_ms = now_ms.saturating_add_unsigned(ttl_ms);
            c.execute(
                "DELETE FROM members WHERE grp = ?1 AND until_ms NOT BETWEEN ?2 AND ?3",
                params![group, now_ms, until_ms.saturating_add_unsigned(ttl_ms)],
            )?;
            c.execute(
                "INSERT INTO members VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET until_ms = excluded.until_ms",
                params![group, member, until_ms],
            )?;
            texts(c, "SELECT member FROM members WHERE grp = ?1 ORDER BY member", [&group])
        })
        .await
        .map_err(store_error)
    }

    async fn members(&self, group: &str) -> Result<Vec<String>, StoreError> {
        let group = group.to_owned();
        let now_ms = self.0.clock.now_ms();
        let latest_ms = now_ms.saturating_add_unsigned(MEMBERS_AHEAD_MS);
        self.read(move |c| {
            c.prepare_cached(
                "SELECT member FROM members WHERE grp = ?1 AND until_ms BETWEEN ?2 AND ?3 ORDER BY member",
            )?
            .query_map(params![group, now_ms, latest_ms], |row| row.get(0))?
            .collect()
        })
        .await
        .map_err(store_error)
    }

    async fn leave(&self, group: &str, member: &str) -> Result<(), StoreError> {
        let (group, member) = (group.to_owned(), member.to_owned());
        self.write(move |c| {
            c.execute(
                "DELETE FROM members WHERE grp = ?1 AND member = ?2",
                [&group, &member],
            )
        })
        .await
        .map(drop)
        .map_err(store_error)
    }
}
