//! The thread that watches the file: it wakes consumers when another process wrote to it, and has old data pruned.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use revwatch_core::bucket::first_minute_kept;
use revwatch_core::recount;
use rusqlite::Connection;
use tokio::sync::{Notify, oneshot};

use super::handle::Inner;
use super::writer::Task;
use super::{aggregates, commit, queue};

/// Stripe resends for 30 days at most; the archive keeps five days more, as RabbitMQ's does.
const ARCHIVE_KEPT_MS: i64 = 35 * 86_400_000;

/// Hours are kept for a day longer than they are compared: a comparison may run past midnight.
const DAY_S: i64 = 86_400;

/// Ten days longer than Stripe resends.
const DEDUPE_KEYS_KEPT_DAYS: u32 = 40;

/// Wakes consumers when another process wrote to the file (this process wakes its own at once), and has
/// the archive pruned from time to time.
pub(super) fn watch(inner: &Weak<Inner>) {
    const CHECK_INTERVAL: Duration = Duration::from_millis(100);
    const CHECKS_PER_PRUNING: u32 = 100;
    let mut connection = None;
    let mut last = 0;
    let mut checks = 0_u32;
    // The last dedupe key that pruning checked.
    let pruned_until = Arc::<Mutex<String>>::default();
    while let Some(inner) = inner.upgrade() {
        let version = match &connection {
            None => inner.file.connect().ok().and_then(|c| {
                let version = data_version(&c);
                connection = Some(c);
                version
            }),
            Some(c) => data_version(c),
        };
        if let Some(version) = version.filter(|v| *v != last) {
            last = version;
            inner.published.iter().for_each(Notify::notify_waiters);
        }
        checks = checks.wrapping_add(1);
        if inner.prunes && checks.is_multiple_of(CHECKS_PER_PRUNING) {
            let partitions = inner.partitions;
            let pruned_until = pruned_until.clone();
            let now_s = inner.clock.now_s();
            let work = move |c: &Connection| {
                let mut until = pruned_until.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(newest_ms) = queue::newest_ms(c, partitions)? else {
                    return Ok(());
                };
                // What is old is old compared with the newest delivery: a clock that is ahead makes nothing old.
                let now_s = now_s.min(newest_ms.div_euclid(1000));
                *until = prune(c, partitions, &until, now_s).inspect_err(|error| {
                    tracing::warn!(%error, "cannot prune old data");
                })?;
                Ok(())
            };
            // A writer with a full inbox has more urgent work.
            let _ = inner.jobs.try_send(Box::new(Task {
                work,
                result: None,
                sender: oneshot::channel().0,
            }));
        }
        drop(inner);
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// Prunes old data, some rows at a time, so that the writer is not blocked for long.
pub(super) fn prune(
    connection: &Connection,
    partitions: u32,
    until: &str,
    now_s: i64,
) -> rusqlite::Result<String> {
    queue::prune(connection, partitions, now_s * 1000 - ARCHIVE_KEPT_MS)?;
    let first_hour = recount::first_hour(now_s - DAY_S);
    aggregates::prune(connection, first_hour, first_minute_kept(now_s))?;
    commit::prune_dedupe_keys(
        connection,
        until,
        revwatch_core::event::day_of(now_s).saturating_sub(DEDUPE_KEYS_KEPT_DAYS),
    )
}

fn data_version(connection: &Connection) -> Option<i64> {
    connection
        .pragma_query_value(None, "data_version", |row| row.get(0))
        .ok()
}
