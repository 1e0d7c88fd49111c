//! Gaps of the archive: times in which deliveries were accepted that it does not have. They are applied, but a replay
//! does not find them.
//!
//! A process that publishes without the archive writes a line to the journal when that begins, again and again while it
//! lasts, and when it ends; the newest line of a gap counts. A process that dies in a gap writes no end: a worker writes
//! it once the archive takes messages. If that process lives after all, its next line opens the gap again.
//!
//! A backfill reads the events of a gap from Stripe, and the archive takes them like any other delivery. Its own line
//! says so.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use revwatch_core::clock::Ids;
use serde::{Deserialize, Serialize};

use crate::journal::OperatorAction;
use crate::ports::{Journal, JournalEntry, QueueError};

/// The journal's space of gaps.
pub const GAPS: &str = "archive gap";
/// The journal's space of backfills that read the events of all accounts.
pub const FILLS: &str = "backfilled";

/// How many days back Stripe lists events.
pub const STRIPE_RETENTION_DAYS: i64 = 30;
/// How long the archive keeps deliveries.
pub const ARCHIVE_DAYS: i64 = 35;

/// A gap, as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Deliveries received at or after this time are missing; Unix milliseconds.
    pub since_ms: i64,
    /// Until this time. `None`: the process that wrote it still publishes without the archive, or it is dead.
    pub until_ms: Option<i64>,
    /// Why the archive took nothing.
    pub reason: String,
}

/// A backfill that has read the events of all accounts, as the journal has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Events created at or after this time; Unix seconds.
    pub since_s: i64,
    /// Before this time.
    pub until_s: i64,
    /// When it began, Unix milliseconds. It ended at the time of its line.
    pub began_ms: i64,
}

/// All gaps and backfills that the journal has, as far as they still matter.
#[derive(Debug, Default)]
pub struct Gaps {
    /// By key, with the time of the newest line.
    gaps: BTreeMap<String, (i64, Gap)>,
    /// By key, with their ends.
    fills: BTreeMap<String, (i64, Fill)>,
    /// The journal is read up to this time.
    read_ms: Option<i64>,
}

/// What the archive lacks, and no backfill has brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The number of gaps.
    pub count: usize,
    /// The beginning of the first; Unix milliseconds.
    pub since_ms: i64,
    /// The end of the last; at the latest now.
    pub until_ms: i64,
    /// The value of `revwatch backfill --since`; `None`: Stripe has none of these events any more.
    since: Option<String>,
}

const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;
/// For so long Stripe repeats a delivery that was not accepted: so much older can an event be than its receipt.
const STRIPE_RETRIES_MS: i64 = 3 * DAY_MS;
/// How often a gap that lasts is written again.
#[cfg(any(test, feature = "rabbitmq"))]
pub(crate) const REPEAT: std::time::Duration = std::time::Duration::from_mins(1);
/// A gap that was not written again for so long has a dead process.
const ABANDONED_MS: i64 = 3 * MINUTE_MS;
/// Clocks differ, and RabbitMQ's is that of the journal.
const CLOCK_SKEW_MS: i64 = 10 * MINUTE_MS;

impl Gap {
    /// What may be missing when the journal was deleted: it may have had gaps.
    pub fn of_lost_journal(now_ms: i64) -> Self {
        Self {
            since_ms: now_ms - ARCHIVE_DAYS * DAY_MS,
            until_ms: Some(now_ms),
            reason: "not known: the journal, which had the gaps of before, was deleted".to_owned(),
        }
    }

    /// Its line.
    pub fn line(&self, key: &str, at_ms: i64) -> JournalEntry {
        line(GAPS, key, at_ms, self)
    }

    /// Among the actions of the audit.
    pub(crate) fn as_action(&self, at_ms: i64) -> OperatorAction {
        let since = shown(self.since_ms);
        let until = self.until_ms.map(shown);
        let until = until.map_or_else(|| "on".to_owned(), |until| format!("until {until}"));
        OperatorAction {
            at_ms,
            who: "revwatch".to_owned(),
            what: GAPS.to_owned(),
            detail: format!(
                "deliveries accepted from {since} {until} are not in the archive: {}",
                self.reason
            ),
        }
    }

    fn end_ms(&self, now_ms: i64) -> i64 {
        self.until_ms.unwrap_or(now_ms).max(self.since_ms)
    }
}

impl Fill {
    /// Its line, written when it has ended.
    pub fn line(&self, now_ms: i64, ids: &dyn Ids) -> JournalEntry {
        line(FILLS, &ids.fresh().to_string(), now_ms, self)
    }
}

impl Gaps {
    /// Reads the journal.
    pub async fn read(journal: &dyn Journal, now_ms: i64) -> Result<Self, QueueError> {
        let mut gaps = Self::default();
        gaps.update(journal, now_ms).await?;
        Ok(gaps)
    }

    /// Reads what was written since the last call, which costs little.
    pub async fn update(&mut self, journal: &dyn Journal, now_ms: i64) -> Result<(), QueueError> {
        if self.read_ms.is_some_and(|read_ms| read_ms > now_ms) {
            // The clock was ahead, and what seemed old was forgotten.
            *self = Self::default();
        }
        let oldest_ms = now_ms - ARCHIVE_DAYS * DAY_MS;
        let from_ms = self.read_ms.unwrap_or(oldest_ms) - CLOCK_SKEW_MS;
        let mut each = |entry| self.add(entry);
        journal.read_journal_since(from_ms, &mut each).await?;
        self.gaps
            .retain(|_, (_, gap)| gap.end_ms(now_ms) >= oldest_ms);
        self.fills.retain(|_, (ended_ms, _)| *ended_ms >= oldest_ms);
        self.read_ms = Some(now_ms);
        Ok(())
    }

    /// What of the deliveries received at or after `from_ms` is missing.
    pub fn missing(&self, from_ms: i64, now_ms: i64) -> Option<Missing> {
        let unfilled = self.gaps.values().map(|(_, gap)| gap);
        let unfilled: Vec<_> = unfilled
            .filter(|gap| gap.end_ms(now_ms) >= from_ms && !self.is_filled(gap))
            .collect();
        let since_ms = unfilled.iter().map(|gap| gap.since_ms).min()?;
        let until_ms = unfilled.iter().map(|gap| gap.end_ms(now_ms)).max()?;
        let oldest_ms = now_ms - STRIPE_RETENTION_DAYS * DAY_MS;
        let created_ms = since_ms - STRIPE_RETRIES_MS;
        Some(Missing {
            count: unfilled.len(),
            since_ms,
            until_ms,
            since: match (created_ms > oldest_ms, until_ms > oldest_ms) {
                (true, _) => Some(shown(created_ms)),
                (false, true) => Some(format!("{STRIPE_RETENTION_DAYS}d")),
                (false, false) => None,
            },
        })
    }

    /// The lines that end gaps whose processes are dead. Written once the archive takes messages: what those processes
    /// accepted, they accepted earlier.
    pub fn abandoned(&self, now_ms: i64) -> Vec<JournalEntry> {
        let is_abandoned =
            |at_ms: i64, gap: &Gap| gap.until_ms.is_none() && now_ms - at_ms > ABANDONED_MS;
        let abandoned = self
            .gaps
            .iter()
            .filter(|(_, (at_ms, gap))| is_abandoned(*at_ms, gap));
        abandoned
            .map(|(key, (_, gap))| {
                let until_ms = Some(now_ms);
                let gap = Gap {
                    until_ms,
                    ..gap.clone()
                };
                gap.line(key, now_ms)
            })
            .collect()
    }

    /// Whether a gap waits for its end.
    pub fn is_any_abandoned(&self, now_ms: i64) -> bool {
        !self.abandoned(now_ms).is_empty()
    }

    /// A line that cannot be read is of another version.
    fn add(&mut self, entry: JournalEntry) {
        let Some(body) = entry.body else { return };
        match entry.space.as_str() {
            GAPS => {
                if let Ok(gap) = serde_json::from_str(&body) {
                    self.gaps.insert(entry.key, (entry.at_ms, gap));
                }
            }
            FILLS => {
                if let Ok(fill) = serde_json::from_str(&body) {
                    self.fills.insert(entry.key, (entry.at_ms, fill));
                }
            }
            _ => {}
        }
    }

    /// Whether a backfill read all that can be missing, as far as Stripe had it, and was archived itself.
    fn is_filled(&self, gap: &Gap) -> bool {
        let Some(until_ms) = gap.until_ms else {
            return false;
        };
        self.fills.values().any(|(ended_ms, fill)| {
            let oldest_ms = ended_ms - STRIPE_RETENTION_DAYS * DAY_MS;
            let created_ms = (gap.since_ms - STRIPE_RETRIES_MS).max(oldest_ms);
            let had_some = until_ms > oldest_ms;
            let overlaps = |other: &Gap| {
                other.since_ms <= *ended_ms && other.end_ms(*ended_ms) >= fill.began_ms
            };
            had_some
                && fill.since_s.saturating_mul(1000) <= created_ms
                && fill.until_s.saturating_mul(1000) >= until_ms
                && !self.gaps.values().any(|(_, other)| overlaps(other))
        })
    }
}

impl Missing {
    /// The command that reads from Stripe what is missing, as far as Stripe has it.
    pub fn backfill(&self) -> Option<String> {
        let since = self.since.as_ref()?;
        // To the second, and not before the end.
        let until = shown(self.until_ms + 999);
        Some(format!(
            "revwatch backfill --since {since} --until {until} --all-accounts"
        ))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (since, until) = (shown(self.since_ms), shown(self.until_ms));
        write!(
            f,
            "the archive lacks deliveries accepted from {since} until {until}; "
        )?;
        match self.backfill() {
            Some(command) => write!(
                f,
                "`{command}` reads them from Stripe, as far as Stripe still has them ({STRIPE_RETENTION_DAYS} days)"
            ),
            None => write!(
                f,
                "Stripe, which lists events for {STRIPE_RETENTION_DAYS} days, has them no more"
            ),
        }
    }
}

fn line(space: &str, key: &str, at_ms: i64, body: &impl Serialize) -> JournalEntry {
    JournalEntry {
        at_ms,
        space: space.to_owned(),
        key: key.to_owned(),
        body: Some(serde_json::to_string(body).unwrap_or_default()),
    }
}

/// To the second.
fn shown(at_ms: i64) -> String {
    Timestamp::from_second(at_ms.div_euclid(1000))
        .map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemIds;

    /// 2026-11-20T12:00:00Z.
    const NOW_MS: i64 = 1_795_176_000_000;
    const HOUR_MS: i64 = 60 * MINUTE_MS;

    fn gap(since_ms: i64, until_ms: Option<i64>) -> Gap {
        Gap {
            since_ms,
            until_ms,
            reason: "down".to_owned(),
        }
    }

    fn fill(since_ms: i64, until_ms: i64, began_ms: i64) -> Fill {
        Fill {
            since_s: since_ms / 1000,
            until_s: until_ms / 1000,
            began_ms,
        }
    }

    fn read(lines: &[JournalEntry]) -> Gaps {
        let mut gaps = Gaps::default();
        lines.iter().cloned().for_each(|line| gaps.add(line));
        gaps
    }

    #[test]
    fn a_gap_is_missing_until_a_backfill_has_read_what_can_be_in_it() {
        let (since, until) = (NOW_MS - 2 * HOUR_MS, NOW_MS - HOUR_MS);
        let line = gap(since, Some(until)).line("a", until);
        let missing = read(std::slice::from_ref(&line)).missing(i64::MIN, NOW_MS);
        let missing = missing.expect("a gap");
        assert_eq!(
            missing.to_string(),
            "the archive lacks deliveries accepted from 2026-11-20T10:00:00Z until 2026-11-20T11:00:00Z; `revwatch backfill \
             --since 2026-11-17T10:00:00Z --until 2026-11-20T11:00:00Z --all-accounts` reads them from Stripe, as far as \
             Stripe still has them (30 days)"
        );
        let since_created = since - STRIPE_RETRIES_MS;
        for (fill, is_filled) in [
            (fill(since_created, until, NOW_MS), true),
            (fill(since, until, NOW_MS), false),
            (fill(since_created, until - 1000, NOW_MS), false),
            // It began in the gap: some of it is in no archive.
            (fill(since_created, until, until), false),
        ] {
            let filled = read(&[line.clone(), fill.line(NOW_MS, &SystemIds)]);
            let missing = filled.missing(i64::MIN, NOW_MS);
            assert_eq!(missing.is_none(), is_filled, "{fill:?}");
        }
    }

    #[test]
    fn only_gaps_in_the_range_that_is_read_count() {
        let (since, until) = (NOW_MS - 2 * HOUR_MS, NOW_MS - HOUR_MS);
        let gaps = read(&[gap(since, Some(until)).line("a", until)]);
        assert!(gaps.missing(until, NOW_MS).is_some());
        assert_eq!(gaps.missing(until + 1, NOW_MS), None);
    }

    #[test]
    fn of_a_gap_that_is_older_than_stripes_events_as_much_is_read_as_there_is() {
        let (since, until) = (NOW_MS - 33 * DAY_MS, NOW_MS - 29 * DAY_MS);
        let line = gap(since, Some(until)).line("a", until);
        let missing = read(std::slice::from_ref(&line)).missing(0, NOW_MS);
        let command = missing.expect("a gap").backfill().expect("a command");
        assert!(command.contains("--since 30d "), "{command}");
        let began_ms = NOW_MS - MINUTE_MS;
        let fill = fill(began_ms - STRIPE_RETENTION_DAYS * DAY_MS, until, began_ms);
        let filled = read(&[line, fill.line(NOW_MS, &SystemIds)]);
        assert_eq!(filled.missing(0, NOW_MS), None);

        let until = NOW_MS - 31 * DAY_MS;
        let line = gap(since, Some(until)).line("a", until);
        let old = read(&[line, fill.line(NOW_MS, &SystemIds)]);
        let missing = old.missing(0, NOW_MS).expect("nothing can fill it");
        assert!(
            missing.to_string().ends_with("has them no more"),
            "{missing}"
        );
    }

    #[test]
    fn a_gap_whose_process_is_dead_is_ended_and_opened_again_if_it_lives() {
        let open = gap(NOW_MS, None);
        let mut gaps = read(&[open.line("a", NOW_MS)]);
        let later_ms = NOW_MS + HOUR_MS;
        assert!(!gaps.is_any_abandoned(NOW_MS + MINUTE_MS));
        let missing = gaps.missing(0, later_ms).expect("a gap");
        assert_eq!(missing.until_ms, later_ms, "it lasts as far as is known");
        let [end] = &gaps.abandoned(later_ms)[..] else {
            panic!("one end")
        };
        gaps.add(end.clone());
        assert!(!gaps.is_any_abandoned(later_ms + DAY_MS));
        let missing = gaps.missing(0, later_ms + DAY_MS).expect("a gap");
        assert_eq!(missing.until_ms, later_ms);
        gaps.add(open.line("a", later_ms + MINUTE_MS));
        let missing = gaps.missing(0, later_ms + DAY_MS).expect("a gap");
        assert_eq!(missing.until_ms, later_ms + DAY_MS);
    }

    #[test]
    fn gaps_of_several_processes_are_named_together() {
        let lines = [
            gap(NOW_MS - 2 * HOUR_MS, Some(NOW_MS - HOUR_MS)).line("a", NOW_MS),
            gap(NOW_MS - 3 * HOUR_MS, Some(NOW_MS - 2 * HOUR_MS)).line("b", NOW_MS),
        ];
        let missing = read(&lines).missing(0, NOW_MS).expect("gaps");
        assert_eq!(
            (missing.count, missing.since_ms, missing.until_ms),
            (2, NOW_MS - 3 * HOUR_MS, NOW_MS - HOUR_MS)
        );
    }
}
