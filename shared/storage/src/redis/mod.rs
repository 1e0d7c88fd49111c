//! The store on Redis: a single server, behind Sentinel, or a Cluster.
//!
//! All keys of partition N share one hash tag, `{pN}`, so that a batch is one read round trip and one
//! script, in a Cluster, too. What alerting writes is under `{alerting}`. `keys.rs` lists the keys. Each
//! write is one Lua script that checks everything before it changes anything, because an error in a
//! script does not undo its writes. Each write is safe to repeat, because a write that timed out may have
//! been applied and Cluster connections resend.
//!
//! Sequence numbers and fences start at the server's clock instead of 1 and only grow. Those issued after
//! a data loss are higher than all issued before it, so an old cursor or fence is never taken for a new
//! one.

mod aggregates;
mod audit;
mod commit;
mod conditions;
mod conversion;
mod coordination;
mod documents;
mod entities;
mod error;
mod handle;
mod keys;
mod link;
mod recovery;
mod requirements;
mod scan;
mod script;
mod streams;
mod target;

#[doc(hidden)]
pub use self::commit::packed;
pub use self::handle::RedisStore;
