//! The thread that watches the file: it wakes consumers when another process wrote to it, has old data pruned, and
//! keeps the note next to the file.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use revwatch_core::bucket::first_minute_kept;
use revwatch_core::recount;
use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::{Notify, oneshot};

use super::handle::Inner;
use super::refusals::refuse_links;
use super::writer::Task;
use super::{aggregates, commit, queue};

/// Stripe resends for 30 days at most; the archive keeps five days more, as RabbitMQ's does.
const ARCHIVE_KEPT_MS: i64 = 35 * 86_400_000;

/// Hours are kept for a day longer than they are compared: a comparison may run past midnight.
const DAY_S: i64 = 86_400;

/// Ten days longer than Stripe resends.
const DEDUPE_KEYS_KEPT_DAYS: u32 = 40;

/// How many times as fast as this process's own time the time of pruning may follow the clock. With a clock
/// that is a year ahead, revwatch keeps what arrived today for 35 hours more. It refuses every signature meanwhile, so
/// operators have that long to set the clock right.
const CATCHES_UP: u32 = 24;

/// How far pruning got.
struct Pruning {
    /// The last dedupe key that was checked.
    until: String,
    /// The time by which data is old, in Unix seconds; `None`: it has not been read yet.
    time_s: Option<i64>,
    at: Instant,
    /// The time that is stored.
    stored_s: i64,
}

/// Wakes consumers when another process wrote to the file (this process wakes its own at once), and has
/// the archive pruned from time to time.
pub(super) fn watch(inner: &Weak<Inner>) {
    const CHECK_INTERVAL: Duration = Duration::from_millis(100);
    const CHECKS_PER_PRUNING: u32 = 100;
    let mut connection = None;
    let mut last = 0;
    let mut checks = 0_u32;
    let mut has_link = false;
    let pruning = Arc::new(Mutex::new(Pruning {
        until: String::new(),
        time_s: None,
        at: Instant::now(),
        stored_s: i64::MIN,
    }));
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
        if inner.prunes {
            inner.file.note();
        }
        checks = checks.wrapping_add(1);
        if inner.prunes && !has_link && checks.is_multiple_of(CHECKS_PER_PRUNING) {
            has_link = warn_of_link(inner.file.path());
        }
        if inner.prunes && checks.is_multiple_of(CHECKS_PER_PRUNING) {
            let partitions = inner.partitions;
            let pruning = pruning.clone();
            let now_s = inner.clock.now_s();
            let work = move |c: &Connection| {
                let mut pruning = pruning.lock().unwrap_or_else(PoisonError::into_inner);
                let pruned = pruning
                    .time_s(c, partitions, now_s)
                    .and_then(|time_s| prune(c, partitions, &pruning.until, time_s));
                pruning.until = pruned.inspect_err(|error| {
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
        std::thread::park_timeout(CHECK_INTERVAL);
    }
}

/// Says once that the file got another name: it goes on, but nothing else opens it, and neither does the next start.
fn warn_of_link(path: &Path) -> bool {
    let link = refuse_links(path).err();
    if let Some(error) = &link {
        tracing::warn!(%error, "commands and the next start refuse the store");
    }
    link.is_some()
}

impl Pruning {
    /// The time by which data is old: the clock's, but never far ahead of what it was. It is stored once an hour.
    fn time_s(&mut self, c: &Connection, partitions: u32, now_s: i64) -> rusqlite::Result<i64> {
        const STORED_EVERY_S: i64 = 3600;
        let before_s = match self.time_s {
            Some(time_s) => time_s,
            None => match stored_s(c)? {
                Some(stored_s) => stored_s,
                None => queue::newest_ms(c, partitions)?
                    .map_or(now_s, |newest_ms| newest_ms.div_euclid(1000)),
            },
        };
        let passed_s = (self.at.elapsed() * CATCHES_UP).as_secs();
        let time_s = now_s.min(before_s.saturating_add_unsigned(passed_s));
        if time_s.abs_diff(self.stored_s) >= STORED_EVERY_S.unsigned_abs() {
            c.execute(
                "INSERT OR REPLACE INTO meta VALUES ('pruning_time_s', ?1)",
                [time_s.to_string()],
            )?;
            self.stored_s = time_s;
        }
        // Parts of a second are not lost.
        if self.time_s != Some(time_s) {
            self.at = Instant::now();
        }
        self.time_s = Some(time_s);
        Ok(time_s)
    }
}

fn stored_s(c: &Connection) -> rusqlite::Result<Option<i64>> {
    let text: Option<String> = c
        .query_row(
            "SELECT value FROM meta WHERE key = 'pruning_time_s'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok(text.and_then(|text| text.parse().ok()))
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_800_000_000;
    const YEAR_S: i64 = 365 * 86_400;

    fn begun_ago(seconds: u64) -> Pruning {
        Pruning {
            until: String::new(),
            time_s: None,
            at: Instant::now() - Duration::from_secs(seconds),
            stored_s: i64::MIN,
        }
    }

    #[test]
    fn a_clock_that_is_a_year_ahead_makes_nothing_old_at_once() {
        let c = Connection::open_in_memory().expect("a database");
        c.execute_batch(include_str!("schema.sql"))
            .expect("the schema");
        let time = |pruning: &mut Pruning, now_s| pruning.time_s(&c, 1, now_s).expect("a time");
        let mut pruning = begun_ago(0);
        assert_eq!(time(&mut pruning, NOW_S), NOW_S);
        pruning.at -= Duration::from_secs(10);
        assert_eq!(time(&mut pruning, NOW_S + YEAR_S), NOW_S + 240);
        assert_eq!(
            time(&mut begun_ago(10), NOW_S + YEAR_S),
            NOW_S + 240,
            "the same after a restart"
        );
        assert_eq!(
            time(&mut pruning, NOW_S + 1),
            NOW_S + 1,
            "it is right again"
        );
        assert_eq!(time(&mut begun_ago(86_400), NOW_S + 86_400), NOW_S + 86_400);
    }
}
