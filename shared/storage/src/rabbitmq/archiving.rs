//! Whether deliveries go to the archive, and what happens while it takes nothing.
//!
//! An archive that takes nothing must not stop the intake: a stream of RabbitMQ can lose its majority, or stay down for
//! ever after the broker was killed at the wrong moment. For [`GRACE_PERIOD`] publishing waits for it, because what is not
//! archived cannot be replayed. Then deliveries go to their partitions alone. The gap is logged and shown until the
//! archive takes messages again, and written to the journal: its beginning before the first such delivery if the journal
//! takes it, otherwise as soon as it does ([`crate::gaps`]).
//!
//! An archive that was deleted is a gap from the beginning of what it held to its declaration, also if it was deleted
//! while no process ran.
//!
//! Each process judges by itself: it tries the archive out now and then, and at once when a publish was not confirmed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use revwatch_core::clock::{Clock as _, Ids as _};
use tokio::time::Instant;

use super::broker::Broker;
use super::error::AmqpError;
use super::link::{self, Link, Open};
use super::own_gaps::OwnGaps;
use super::publish::Publisher;
use super::topology::{self, Presence};
use super::{journal, message};
use crate::failure_log::FailureLog;
use crate::gaps::{ARCHIVE_DAYS, Gap};
use crate::lock::lock;
use crate::system::{SystemClock, SystemIds};

/// See the module.
#[derive(Default)]
pub(super) struct Archiving {
    state: Mutex<State>,
    /// A publish was not confirmed: the archive may be the reason.
    is_suspect: AtomicBool,
    /// One attempt at a time.
    trying: tokio::sync::Mutex<()>,
    /// One write of gaps at a time.
    recording: tokio::sync::Mutex<()>,
    /// Why the journal does not take a gap.
    unrecorded: FailureLog,
}

/// The connections of a process.
pub(super) struct Paths {
    /// What deliveries are published on.
    pub(super) link: Arc<Link>,
    pub(super) publisher: Arc<Publisher>,
    /// Everything that goes to streams alone, or reads them: RabbitMQ closes a connection on which it cannot reach a
    /// stream's coordinator.
    pub(super) streams: Arc<Link>,
    pub(super) to_streams: Arc<Publisher>,
}

/// How deliveries are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// To the archive and to their partition.
    Archived,
    /// Not at present, for this reason: the archive has time to come back.
    Waiting(String),
    /// To their partition alone.
    Unarchived,
}

#[derive(Debug, Default)]
struct State {
    /// When the archive was last tried out.
    tried: Option<Instant>,
    failure: Option<Failure>,
    gaps: OwnGaps,
}

#[derive(Debug, Clone)]
struct Failure {
    since: Instant,
    since_ms: i64,
    reason: String,
    /// Deliveries are published without the archive.
    is_off: bool,
}

/// What an attempt changed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// Deliveries are to be published without the archive.
    Off { reason: String },
    /// They are archived again, after this gap.
    Back(Gap),
}

/// How long publishing waits for an archive that takes nothing: a stream that lost its leader has another one in less.
const GRACE_PERIOD: Duration = Duration::from_secs(20);
/// How often an archive that works is tried out, and one that does not.
const WORKING_INTERVAL: Duration = Duration::from_mins(1);
const FAILING_INTERVAL: Duration = Duration::from_secs(5);
/// For an attempt.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// For the end of a gap when the process stops.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
const DAY_MS: i64 = 86_400_000;

impl Way {
    /// Where a delivery that is to be archived is published.
    pub(super) fn exchange(&self) -> &'static str {
        match self {
            Self::Archived | Self::Waiting(_) => topology::INTAKE,
            Self::Unarchived => topology::EVENTS,
        }
    }
}

impl Archiving {
    /// How a delivery is published now.
    pub(super) fn way(&self) -> Way {
        match &lock(&self.state).failure {
            None => Way::Archived,
            Some(failure) if failure.is_off => Way::Unarchived,
            Some(failure) => Way::Waiting(format!(
                "the archive takes nothing: {} (after {GRACE_PERIOD:?} deliveries are accepted without it)",
                failure.reason
            )),
        }
    }

    /// Since when deliveries have been accepted without the archive, in Unix milliseconds.
    pub(super) fn unarchived_since_ms(&self) -> Option<i64> {
        let state = lock(&self.state);
        let failure = state.failure.as_ref().filter(|failure| failure.is_off);
        failure.map(|failure| failure.since_ms)
    }

    /// A publish was not confirmed.
    pub(super) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Release);
    }

    /// The archive could not be declared.
    pub(super) fn fails(&self, reason: &str) {
        if self.way() == Way::Archived {
            self.note(Err(reason.to_owned()), Instant::now(), SystemClock.now_ms());
        }
    }

    /// Tries the archive out, if it is time. Fails if the broker itself does.
    pub(super) async fn keep(&self, broker: &Arc<Broker>, paths: &Paths) -> Result<(), AmqpError> {
        let Ok(_alone) = self.trying.try_lock() else {
            return Ok(());
        };
        if !self.is_due(Instant::now()) {
            return Ok(());
        }
        let publishing = paths.link.open(TRY_TIMEOUT).await?;
        publishing.ensure_unblocked()?;
        // If RabbitMQ takes no further connection, the archive may work. Nothing is declared on the one that publishes.
        let streams = paths.streams.open(TRY_TIMEOUT).await;
        let attempt = async {
            match &streams {
                Ok(open) => self.attempt(broker, open, &paths.to_streams).await,
                Err(_) => takes_a_marker(&publishing).await,
            }
        };
        let result = match tokio::time::timeout(TRY_TIMEOUT, attempt).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {TRY_TIMEOUT:?}")),
        };
        if result.is_err() {
            // The broker may be the one that does not work.
            paths
                .publisher
                .publish(message::marker_for(topology::PROBE))
                .await?;
        }
        match self.note(result, Instant::now(), SystemClock.now_ms()) {
            None => {}
            Some(Change::Off { reason }) => {
                self.record(&paths.to_streams).await;
                self.go_off();
                tracing::error!(
                    reason,
                    "the archive takes nothing: deliveries are accepted without it. What is accepted until it works again \
                     cannot be replayed if Redis loses its data. See RevwatchArchiveFails in docs/runbooks.md"
                );
            }
            Some(Change::Back(gap)) => tracing::warn!(
                since_ms = gap.since_ms,
                until_ms = gap.until_ms,
                "the archive takes deliveries again. It lacks those of the gap: read them from Stripe, see RevwatchArchiveGap \
                 in docs/runbooks.md"
            ),
        }
        // It may take long if the journal takes nothing, too.
        let (broker, to_streams) = (Arc::clone(broker), Arc::clone(&paths.to_streams));
        if broker.archiving.recording.try_lock().is_ok() {
            tokio::spawn(async move { broker.archiving.record(&to_streams).await });
        }
        Ok(())
    }

    /// The process stops: it accepts nothing more.
    pub(super) async fn finish(&self, to_streams: &Arc<Publisher>) {
        lock(&self.state).gaps.end(SystemClock.now_ms());
        let _ = tokio::time::timeout(LAST_TIMEOUT, self.record(to_streams)).await;
    }

    /// Whether it does not work as far as is known, and is to be tried out now.
    pub(super) fn is_in_doubt(&self) -> bool {
        let now = Instant::now();
        let state = lock(&self.state);
        let is_settled = state.failure.is_none() && !state.gaps.is_any_due(now);
        drop(state);
        (!is_settled || self.is_suspect.load(Ordering::Acquire)) && self.is_due(now)
    }

    fn is_due(&self, now: Instant) -> bool {
        let state = lock(&self.state);
        let is_settled = state.failure.is_none() && !state.gaps.is_any_due(now);
        let interval = match (is_settled, self.is_suspect.load(Ordering::Acquire)) {
            (true, false) => WORKING_INTERVAL,
            (true, true) => Duration::ZERO,
            (false, _) => FAILING_INTERVAL,
        };
        state
            .tried
            .is_none_or(|tried| now.duration_since(tried) >= interval)
    }

    fn note(&self, result: Result<(), String>, now: Instant, now_ms: i64) -> Option<Change> {
        self.is_suspect.store(false, Ordering::Release);
        let state = &mut *lock(&self.state);
        state.tried = Some(now);
        let Err(reason) = result else {
            state.failure = None;
            return state.gaps.end(now_ms).map(Change::Back);
        };
        let failure = state.failure.get_or_insert_with(|| Failure {
            since: now,
            since_ms: now_ms,
            reason: String::new(),
            is_off: false,
        });
        failure.reason.clone_from(&reason);
        if failure.is_off || now.duration_since(failure.since) < GRACE_PERIOD {
            return None;
        }
        state.gaps.begin(failure.since_ms, &reason);
        Some(Change::Off { reason })
    }

    /// Deliveries are published without the archive from now on.
    fn go_off(&self) {
        if let Some(failure) = &mut lock(&self.state).failure {
            failure.is_off = true;
        }
    }

    /// Declares the archive if it is missing, and publishes something to it that its readers skip.
    async fn attempt(
        &self,
        broker: &Broker,
        open: &Open,
        to_streams: &Arc<Publisher>,
    ) -> Result<(), AmqpError> {
        if link::presence(open, topology::ARCHIVE).await? == Presence::Deleted {
            if self.note_deleted(SystemClock.now_ms()) {
                // Before it is declared: nothing would show afterwards that it is another one.
                self.record(to_streams).await;
            }
            streams_can_be_created(open).await?;
        }
        link::declare_archive(broker, open).await?;
        takes_a_marker(open).await
    }

    /// All that was in the archive is missing. Returns whether that is new.
    fn note_deleted(&self, now_ms: i64) -> bool {
        let since_ms = now_ms - ARCHIVE_DAYS * DAY_MS;
        let reason = "it was deleted, with all that it held";
        let is_new = lock(&self.state).gaps.begin(since_ms, reason);
        if is_new {
            tracing::error!(
                "RabbitMQ's stream {} was deleted, with all that it held: no earlier delivery can be replayed. It is declared \
                 again. See RevwatchArchiveGap in docs/runbooks.md",
                topology::ARCHIVE
            );
        }
        is_new
    }

    /// Writes to the journal what it has to learn of gaps. What it does not take is written at the next attempt.
    async fn record(&self, to_streams: &Arc<Publisher>) {
        // An earlier line of a gap must not overtake a later one.
        let _alone = self.recording.lock().await;
        let due = lock(&self.state).gaps.due(Instant::now());
        let at_ms = SystemClock.now_ms();
        let lines = due.iter().map(|(key, gap)| gap.line(key, at_ms));
        match journal::record(to_streams, lines.collect()).await {
            Ok(()) => lock(&self.state).gaps.recorded(&due, Instant::now()),
            Err(error) => {
                if let Some(earlier) = self.unrecorded.admit(&error) {
                    tracing::error!(%error, earlier, "the gap of the archive is not in the journal yet");
                }
            }
        }
    }
}

/// RabbitMQ 4 keeps the name of a stream that it cannot create because its coordinator of streams does not answer: each
/// later declaration finds it, it never takes anything, and no client can delete it. So the coordinator is asked first.
/// Only what a channel publishes to a stream for the first time does that: here to the journal, which must have the gap of
/// a deleted archive anyway.
async fn streams_can_be_created(open: &Open) -> Result<(), AmqpError> {
    let properties = message::marker_properties(SystemIds.fresh());
    link::store_in(open, topology::JOURNAL, properties, b"").await
}

async fn takes_a_marker(open: &Open) -> Result<(), AmqpError> {
    let properties = message::marker_properties(SystemIds.fresh());
    link::store_in(open, topology::ARCHIVE, properties, b"").await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Result<(), String> {
        Err("down".to_owned())
    }

    #[test]
    fn publishing_waits_for_the_archive_and_then_goes_on_without_it_until_it_works() {
        let (archiving, start) = (Archiving::default(), Instant::now());
        assert_eq!(archiving.way(), Way::Archived);
        assert!(archiving.is_due(start), "it was never tried out");
        assert_eq!(archiving.note(Ok(()), start, 0), None);
        assert!(!archiving.is_due(start));
        archiving.suspect();
        assert!(
            archiving.is_due(start),
            "at once when a publish was not confirmed"
        );

        assert_eq!(archiving.note(down(), start, 1), None);
        assert!(matches!(archiving.way(), Way::Waiting(reason) if reason.contains("down")));
        assert!(!archiving.is_due(start + FAILING_INTERVAL / 2));
        assert!(archiving.is_due(start + FAILING_INTERVAL));
        assert_eq!(archiving.note(down(), start + GRACE_PERIOD / 2, 2), None);
        assert_eq!(archiving.unarchived_since_ms(), None);
        let off = archiving.note(down(), start + GRACE_PERIOD, 3);
        assert!(matches!(off, Some(Change::Off { .. })));
        assert!(
            matches!(archiving.way(), Way::Waiting(_)),
            "until the journal has it, or cannot take it"
        );
        archiving.go_off();
        assert_eq!(archiving.way(), Way::Unarchived);
        assert_eq!(archiving.unarchived_since_ms(), Some(1));
        assert_eq!(
            archiving.note(down(), start + GRACE_PERIOD * 2, 4),
            None,
            "it is said once"
        );

        let back = archiving.note(Ok(()), start + GRACE_PERIOD * 3, 5);
        let Some(Change::Back(gap)) = back else {
            panic!("{back:?}")
        };
        assert_eq!((gap.since_ms, gap.until_ms), (1, Some(5)));
        assert_eq!(archiving.way(), Way::Archived);
    }

    #[test]
    fn an_archive_that_comes_back_in_time_has_no_gap() {
        let (archiving, start) = (Archiving::default(), Instant::now());
        archiving.note(Err("an election".to_owned()), start, 0);
        assert_eq!(archiving.note(Ok(()), start + GRACE_PERIOD / 2, 1), None);
        assert_eq!(archiving.way(), Way::Archived);
        assert!(!archiving.is_in_doubt());
    }

    #[test]
    fn a_gap_that_the_journal_has_not_taken_is_tried_again_soon_although_the_archive_works() {
        let (archiving, start) = (Archiving::default(), Instant::now());
        archiving.note(down(), start, 0);
        archiving.note(down(), start + GRACE_PERIOD, 1);
        archiving.go_off();
        let back = start + GRACE_PERIOD * 2;
        archiving.note(Ok(()), back, 2);
        assert!(archiving.is_due(back + FAILING_INTERVAL));
        let due = lock(&archiving.state).gaps.due(back);
        assert_eq!(due.len(), 1);
        lock(&archiving.state).gaps.recorded(&due, back);
        assert!(!archiving.is_due(back + FAILING_INTERVAL));
    }

    #[test]
    fn a_deleted_archive_is_a_gap_as_long_as_what_it_held() {
        let (archiving, start) = (Archiving::default(), Instant::now());
        let now_ms = ARCHIVE_DAYS * DAY_MS + 7;
        assert!(archiving.note_deleted(now_ms));
        assert!(!archiving.note_deleted(now_ms + 1), "it is said once");
        let Some(Change::Back(gap)) = archiving.note(Ok(()), start, now_ms + 1) else {
            panic!("no gap")
        };
        assert_eq!((gap.since_ms, gap.until_ms), (7, Some(now_ms + 1)));
    }
}
