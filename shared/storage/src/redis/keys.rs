//! Names of keys, and how long they are kept.
//!
//! | key | value |
//! |---|---|
//! | `revwatch:{pN}:entity:<kind>` | hash: Stripe's id → version (8 bytes, big endian), then the body |
//! | `revwatch:{pN}:marks:<day>` | hash: event or delivery id → delivery id (16 bytes); expires |
//! | `revwatch:{pN}:counters` | hash: name → value of the current counters; never a zero |
//! | `revwatch:{pN}:hours:<day>` | hash: `<hour of the day>\|<name>` → value; never a zero; expires |
//! | `revwatch:{pN}:minutes:<hour>` | hash: `<minute of the hour>\|<name>` → value; never a zero; expires |
//! | `revwatch:{pN}:days` | set of the days that have, or had, a `hours:<day>` |
//! | `revwatch:{pN}:conditions` | hash: `<kind> <entity kind> <id>` → the open condition as JSON |
//! | `revwatch:{pN}:due` | sorted set of the same members by `due_s` |
//! | `revwatch:{pN}:changes` | stream of condition changes, ids `<sequence number>-0`; bounded |
//! | `revwatch:{pN}:audit` | stream of audit entries; bounded |
//! | `revwatch:{pN}:health` | hash: `complete_in`, the run id under which the partition was last complete; `high_watermark_ms`; `recovery_id`, its last recovery; `recovery` and `from_ms`, a recovery in progress; `state_format`; `conversion`, a conversion in progress |
//! | `revwatch:{alerting}:lease:<name>` | `<fence> <holder>`; expires |
//! | `revwatch:{alerting}:fence:<name>` | the newest fence issued |
//! | `revwatch:{alerting}:doc:<space>` | hash: key → JSON |
//! | `revwatch:{alerting}:doc-version:<space>` | hash: key → `<version> <write id>`; absent: version 1 |
//! | `revwatch:{alerting}:doc-index:<space>` | sorted set of the keys, all with score 0; rebuilt when it is incomplete |
//! | `revwatch:{alerting}:doc-sequence` | the newest version of any document |
//! | `revwatch:{alerting}:members:<group>` | sorted set: member by the Unix millisecond at which it expires |
//! | `revwatch:{meta}:partitions` | how many partitions the deployment was created with |

use revwatch_core::bucket::{HOURS_KEPT_DAYS, MINUTES_KEPT_HOURS};
use revwatch_core::condition::ConditionKey;
use revwatch_core::entity::EntityKind;

/// How long dedupe keys are kept: longer than the 30 days in which an event can be sent again.
pub(super) const MARK_SECONDS: u64 = 40 * 86_400;

/// How long hours are kept, from the first count in their day.
pub(super) const HOUR_SECONDS: u64 = HOURS_KEPT_DAYS as u64 * 86_400;

/// How long minutes are kept, from the first count in their hour.
pub(super) const MINUTE_SECONDS: u64 = (MINUTES_KEPT_HOURS as u64 + 1) * 3600;

/// About how many condition changes each partition keeps for alerting to catch up on.
pub(super) const CHANGES_KEPT: u64 = 100_000;

/// About how many audit entries each partition keeps.
pub(super) const AUDIT_KEPT: u64 = 100_000;

/// The field of a stream entry that holds its JSON.
pub(super) const STREAM_FIELD: &str = "j";

/// The number of partitions the deployment was created with.
pub(super) const PARTITIONS: &str = "revwatch:{meta}:partitions";

fn of_partition(partition: u32, what: std::fmt::Arguments<'_>) -> String {
    format!("revwatch:{{p{partition}}}:{what}")
}

pub(super) fn entities(partition: u32, kind: EntityKind) -> String {
    of_partition(partition, format_args!("entity:{}", kind.as_str()))
}

pub(super) fn marks(partition: u32, day: u32) -> String {
    of_partition(partition, format_args!("marks:{day}"))
}

pub(super) fn counters(partition: u32) -> String {
    of_partition(partition, format_args!("counters"))
}

pub(super) fn hours(partition: u32, day: u32) -> String {
    of_partition(partition, format_args!("hours:{day}"))
}

pub(super) fn minutes(partition: u32, hour: u32) -> String {
    of_partition(partition, format_args!("minutes:{hour}"))
}

pub(super) fn days(partition: u32) -> String {
    of_partition(partition, format_args!("days"))
}

pub(super) fn conditions(partition: u32) -> String {
    of_partition(partition, format_args!("conditions"))
}

pub(super) fn due(partition: u32) -> String {
    of_partition(partition, format_args!("due"))
}

pub(super) fn changes(partition: u32) -> String {
    of_partition(partition, format_args!("changes"))
}

pub(super) fn audit(partition: u32) -> String {
    of_partition(partition, format_args!("audit"))
}

pub(super) fn health(partition: u32) -> String {
    of_partition(partition, format_args!("health"))
}

/// A pattern of all keys of a partition. Only its star is special.
pub(super) fn all(partition: u32) -> String {
    of_partition(partition, format_args!("*"))
}

pub(super) fn lease(name: &str) -> String {
    format!("revwatch:{{alerting}}:lease:{name}")
}

pub(super) fn fence(name: &str) -> String {
    format!("revwatch:{{alerting}}:fence:{name}")
}

pub(super) fn documents(space: &str) -> String {
    format!("revwatch:{{alerting}}:doc:{space}")
}

/// The hash of a space, its versions and its index.
pub(super) fn document_space(space: &str) -> [String; 3] {
    [
        documents(space),
        format!("revwatch:{{alerting}}:doc-version:{space}"),
        format!("revwatch:{{alerting}}:doc-index:{space}"),
    ]
}

pub(super) fn document_sequence() -> String {
    "revwatch:{alerting}:doc-sequence".to_owned()
}

pub(super) fn members(group: &str) -> String {
    format!("revwatch:{{alerting}}:members:{group}")
}

/// The member for a condition in `conditions` and `due`.
pub(super) fn condition_member(key: &ConditionKey) -> String {
    format!("{} {}", key.kind.as_str(), key.subject)
}
