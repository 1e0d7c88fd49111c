//! How processes share work: leases with fences, and group membership.

use async_trait::async_trait;

use super::error::StoreError;

/// Proof of holding a lease. The store refuses a write under a fence once a newer one was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// The group of the workers: they fill the store.
pub const WORKERS: &str = "workers";

/// No live member's deadline is further ahead.
pub const MEMBERS_AHEAD_MS: u64 = 3_600_000;

/// Leases and membership.
///
/// All who ask for one lease, and all members of one group, use the same `ttl_ms`. A deadline more than twice as far
/// ahead was written while the clock was ahead, and has expired: else its writer, which may be gone, would keep the lease
/// or its membership until the clock gets there. One that is a little ahead may be right: clocks are corrected by seconds.
#[async_trait]
pub trait Coordination: Send + Sync {
    /// What tells this store from others, for people: Redis's servers and its database, without a login.
    fn place(&self) -> Option<String> {
        None
    }

    /// Takes or renews the lease `name` for `ttl_ms`. `None`: another holder has it.
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError>;

    /// Releases the lease if `holder` still has it.
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError>;

    /// Keeps `member` in `group` for `ttl_ms`. Returns all live members, sorted, this one included.
    async fn heartbeat(
        &self,
        group: &str,
        member: &str,
        ttl_ms: u64,
    ) -> Result<Vec<String>, StoreError>;

    /// All live members, sorted. The caller is none. A deadline more than [`MEMBERS_AHEAD_MS`] ahead was written while
    /// the clock was ahead.
    async fn members(&self, group: &str) -> Result<Vec<String>, StoreError>;

    /// Leaves the group at once.
    async fn leave(&self, group: &str, member: &str) -> Result<(), StoreError>;
}
