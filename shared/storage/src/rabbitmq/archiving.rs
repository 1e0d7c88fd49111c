//! Whether deliveries go to the archive, and what happens while it takes nothing.
//!
//! An archive that takes nothing must not stop the intake: a stream of RabbitMQ can lose its majority, or stay down for
//! ever after the broker was killed at the wrong moment. For [`PATIENCE`] publishing waits for it, because what is not
//! archived cannot be replayed. Then deliveries go to their partitions alone, and the gap is logged and shown until the
//! archive takes messages again; its beginning and end are then written to the journal, where `revwatch audit` shows
//! them.
//!
//! Each process judges by itself: it tries the archive out now and then, and at once when a publish was not confirmed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::Confirmation;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use revwatch_core::clock::{Clock as _, Ids as _};
use tokio::time::Instant;

use super::error::{AmqpError, said};
use super::link::{Link, Open};
use super::publish::Publisher;
use super::topology::{self, Declaring};
use super::{journal, message};
use crate::journal::{ACTIONS, OperatorAction};
use crate::lock::lock;
use crate::ports::JournalEntry;
use crate::system::{SystemClock, SystemIds};

/// See the module.
pub(super) struct Archiving {
    state: Mutex<State>,
    /// A publish was not confirmed: the archive may be the reason.
    is_suspect: AtomicBool,
    /// One attempt at a time.
    trying: tokio::sync::Mutex<()>,
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

#[derive(Debug, Clone)]
struct State {
    /// When the archive was last tried out.
    tried: Option<Instant>,
    failure: Option<Failure>,
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
    /// Deliveries are no longer archived.
    Off { reason: String },
    /// They are archived again; they were not since this time.
    Back { since_ms: i64, reason: String },
}

/// How long publishing waits for an archive that takes nothing: a stream that lost its leader has another one in less.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often an archive that works is tried out, and one that does not.
const WORKING_INTERVAL: Duration = Duration::from_mins(1);
const FAILING_INTERVAL: Duration = Duration::from_secs(5);
/// For each request of an attempt.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

impl Default for Archiving {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                tried: None,
                failure: None,
            }),
            is_suspect: AtomicBool::new(false),
            trying: tokio::sync::Mutex::default(),
        }
    }
}

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
                "the archive takes nothing: {} (after {PATIENCE:?} deliveries are accepted without it)",
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
            self.note(Err(reason.to_owned()), Instant::now());
        }
    }

    /// Tries the archive out, if it is time. Fails if the broker itself does.
    pub(super) async fn keep(
        &self,
        link: &Link,
        publisher: &Arc<Publisher>,
        unplaced: &AtomicBool,
    ) -> Result<(), AmqpError> {
        let Ok(_alone) = self.trying.try_lock() else {
            return Ok(());
        };
        if !self.is_due(Instant::now()) {
            return Ok(());
        }
        let open = link.open(TRY_TIMEOUT).await?;
        open.ensure_unblocked()?;
        let result = attempt(&open, unplaced).await;
        if result.is_err() {
            // The broker may be the one that does not work.
            publisher
                .publish(message::marker_for(topology::PROBE))
                .await?;
        }
        match self.note(result, Instant::now()) {
            None => {}
            Some(Change::Off { reason }) => tracing::error!(
                reason,
                "the archive takes nothing: deliveries are accepted without it. What is accepted until it works again cannot \
                 be replayed if Redis loses its data. See RevwatchArchiveFails in docs/runbooks.md"
            ),
            Some(Change::Back { since_ms, reason }) => {
                tracing::warn!(since_ms, "the archive takes deliveries again");
                let line = gap(since_ms, &reason);
                if let Err(error) = journal::record(publisher, vec![line]).await {
                    tracing::warn!(%error, since_ms, "the gap of the archive is not in the journal");
                }
            }
        }
        Ok(())
    }

    /// Whether it does not work as far as is known, and is to be tried out now.
    pub(super) fn is_in_doubt(&self) -> bool {
        let fails = lock(&self.state).failure.is_some();
        (fails || self.is_suspect.load(Ordering::Acquire)) && self.is_due(Instant::now())
    }

    fn is_due(&self, now: Instant) -> bool {
        let state = lock(&self.state);
        let interval = match (&state.failure, self.is_suspect.load(Ordering::Acquire)) {
            (None, false) => WORKING_INTERVAL,
            (None, true) => Duration::ZERO,
            (Some(_), _) => FAILING_INTERVAL,
        };
        state
            .tried
            .is_none_or(|tried| now.duration_since(tried) >= interval)
    }

    fn note(&self, result: Result<(), String>, now: Instant) -> Option<Change> {
        self.is_suspect.store(false, Ordering::Release);
        let mut state = lock(&self.state);
        state.tried = Some(now);
        let Some(failure) = &mut state.failure else {
            state.failure = result.err().map(|reason| Failure {
                since: now,
                since_ms: SystemClock.now_ms(),
                reason,
                is_off: false,
            });
            return None;
        };
        let Err(reason) = result else {
            let ended = state.failure.take().filter(|failure| failure.is_off)?;
            return Some(Change::Back {
                since_ms: ended.since_ms,
                reason: ended.reason,
            });
        };
        failure.reason.clone_from(&reason);
        if failure.is_off || now.duration_since(failure.since) < PATIENCE {
            return None;
        }
        failure.is_off = true;
        Some(Change::Off { reason })
    }
}

/// Declares the archive if it is missing, and publishes something to it that its readers skip. On channels of its own:
/// a channel ends with an error.
async fn attempt(open: &Open, unplaced: &AtomicBool) -> Result<(), String> {
    let trying = async {
        let mut declaring = Declaring::new(open, unplaced).await?;
        topology::declare_archive(&mut declaring).await?;
        let channel = declaring.channel;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let properties = message::marker_properties(SystemIds.fresh());
        let confirm = channel
            .basic_publish(
                "".into(),
                topology::ARCHIVE.into(),
                options,
                b"",
                properties,
            )
            .await?
            .await?;
        // It closes when it is dropped, too.
        let _ = channel.close(200, "done".into()).await;
        Ok::<_, lapin::Error>(confirm)
    };
    match tokio::time::timeout(TRY_TIMEOUT, trying).await {
        Ok(Ok(Confirmation::Ack(None))) => Ok(()),
        Ok(Ok(_)) => Err("RabbitMQ could not store a message in it".to_owned()),
        Ok(Err(error)) => Err(said(&error)),
        Err(_) => Err(format!("no confirm within {TRY_TIMEOUT:?}")),
    }
}

/// A line of the journal, among the actions that `revwatch audit` shows.
fn gap(since_ms: i64, reason: &str) -> JournalEntry {
    let at_ms = SystemClock.now_ms();
    let shown = |ms| {
        jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
    };
    let detail = format!(
        "deliveries accepted from {} until {} are not in the archive: {reason}",
        shown(since_ms),
        shown(at_ms)
    );
    let action = OperatorAction {
        at_ms,
        who: "revwatch".to_owned(),
        what: "archive gap".to_owned(),
        detail,
    };
    JournalEntry {
        at_ms,
        space: ACTIONS.to_owned(),
        key: SystemIds.fresh().to_string(),
        body: Some(serde_json::to_string(&action).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_waits_for_the_archive_and_then_goes_on_without_it_until_it_works() {
        let (archiving, start) = (Archiving::default(), Instant::now());
        let down = || Err("down".to_owned());
        assert_eq!(archiving.way(), Way::Archived);
        assert!(archiving.is_due(start), "it was never tried out");
        assert_eq!(archiving.note(Ok(()), start), None);
        assert!(!archiving.is_due(start));
        archiving.suspect();
        assert!(
            archiving.is_due(start),
            "at once when a publish was not confirmed"
        );

        assert_eq!(archiving.note(down(), start), None);
        assert!(matches!(archiving.way(), Way::Waiting(reason) if reason.contains("down")));
        assert!(!archiving.is_due(start + FAILING_INTERVAL / 2));
        assert!(archiving.is_due(start + FAILING_INTERVAL));
        assert_eq!(archiving.note(down(), start + PATIENCE / 2), None);
        assert_eq!(archiving.unarchived_since_ms(), None);
        let off = archiving.note(down(), start + PATIENCE);
        assert!(matches!(off, Some(Change::Off { .. })));
        assert_eq!(archiving.way(), Way::Unarchived);
        let since_ms = archiving.unarchived_since_ms().expect("a gap");
        assert_eq!(
            archiving.note(down(), start + PATIENCE * 2),
            None,
            "it is said once"
        );

        let back = archiving.note(Ok(()), start + PATIENCE * 3);
        let reason = "down".to_owned();
        assert_eq!(back, Some(Change::Back { since_ms, reason }));
        assert_eq!(archiving.way(), Way::Archived);
    }

    #[test]
    fn an_archive_that_comes_back_in_time_has_no_gap() {
        let (archiving, start) = (Archiving::default(), Instant::now());
        archiving.note(Err("an election".to_owned()), start);
        assert_eq!(archiving.note(Ok(()), start + PATIENCE / 2), None);
        assert_eq!(archiving.way(), Way::Archived);
    }
}
