//! Whether the store has everything that a command is about to show.
//!
//! After a loss of data, and during a rebuild, the store holds a part of the state, and nothing in that
//! part says so. Commands that show state therefore refuse to, unless `--partial` is given.
//!
//! Workers replay the archive; then an alerting process restores alerts from the journal.

use std::time::{Duration, Instant};

use clap::Args;
use revwatch_alerting::engine::{POSITION, are_alerts_restored};
use revwatch_core::entity::STATE_FORMAT;
use revwatch_storage::ports::{Health, StateStore};

/// Option of the commands that show state.
#[derive(Debug, Clone, Copy, Args)]
pub struct Partial {
    /// Show what the store has, although it is incomplete after a loss of data or during a rebuild.
    #[arg(long)]
    partial: bool,
}

/// What a command shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// What follows from events.
    Entities,
    /// Alerts, silences or past alerts; perhaps also what follows from events.
    Alerts,
}

/// The store was incomplete when it was read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IncompleteError {
    /// A part of what follows from events is missing.
    #[error(
        "{incomplete} of {partitions} partitions are incomplete: their data is new, was lost or was dropped, and a running \
         worker has yet to apply the archive again. `revwatch verify` succeeds when it is done"
    )]
    Partitions {
        incomplete: usize,
        partitions: usize,
    },
    /// An earlier version wrote the state, and it counts otherwise.
    #[error(
        "the state is being converted to this version's format, and nothing can be shown until then: a running worker does \
         it (`revwatch serve`; its log says how far it is)"
    )]
    Unconverted,
    /// A later version wrote the state.
    #[error(
        "the state has format {0}, and this version reads format {STATE_FORMAT}: use the version of the running workers"
    )]
    NewerFormat(u32),
    /// Alerts may be missing.
    #[error(
        "alerts and silences may be missing: no alerting process has restored them from the journal since the store was \
         last recovered or rebuilt. Start one (`revwatch serve`)"
    )]
    Alerts,
}

/// How complete the store was at one time.
#[derive(Debug, Clone)]
pub struct Completeness {
    /// Of each partition.
    pub health: Vec<Health>,
    are_alerts_restored: bool,
}

/// How long to wait until the store is complete. A new deployment, or a restarted Redis, is complete
/// within a moment.
const TIMEOUT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(250);

impl Partial {
    /// The result of `read` if the store was complete while it was read. With `--partial`
    /// its result in any case, and a warning on standard error.
    pub async fn read<T>(
        self,
        store: &dyn StateStore,
        shown: Shown,
        read: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        if !self.partial {
            let refused = |error: anyhow::Error| match error.is::<IncompleteError>() {
                true => anyhow::anyhow!("{error}; --partial shows what is there"),
                false => error,
            };
            return read_complete(store, shown, read).await.map_err(refused);
        }
        let before = Completeness::of(store, shown).await?;
        let result = read.await;
        if let Err(incomplete) = before.holds_until(&store.health().await?) {
            eprintln!("revwatch: this is a part: {incomplete}");
        }
        result
    }
}

/// The result of `read` if the store was complete while it was read; otherwise an
/// [`IncompleteError`], even if `read` failed: what it did not find may be there later.
pub async fn read_complete<T>(
    store: &dyn StateStore,
    shown: Shown,
    read: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let before = wait_until_complete(store, shown).await?;
    before.holds_until(&before.health)?;
    let result = read.await;
    before.holds_until(&store.health().await?)?;
    result
}

/// The error of a command on alerts; if the store is incomplete, that too, because it may be the
/// reason.
pub async fn explain(store: &dyn StateStore, error: anyhow::Error) -> anyhow::Error {
    let Ok(now) = Completeness::of(store, Shown::Alerts).await else {
        return error;
    };
    match now.holds_until(&now.health) {
        Ok(()) => error,
        Err(incomplete) => anyhow::anyhow!("{error:#} ({incomplete})"),
    }
}

/// How complete the store is once it is, or after a while.
pub async fn wait_until_complete(
    store: &dyn StateStore,
    shown: Shown,
) -> anyhow::Result<Completeness> {
    let began = Instant::now();
    loop {
        let now = Completeness::of(store, shown).await?;
        if now.holds_until(&now.health).is_ok() || began.elapsed() > TIMEOUT {
            return Ok(now);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

impl Completeness {
    async fn of(store: &dyn StateStore, shown: Shown) -> anyhow::Result<Self> {
        // Documents are read after the health: a loss in between shows in the next health.
        let health = store.health().await?;
        let are_alerts_restored = match shown {
            Shown::Entities => true,
            Shown::Alerts => are_alerts_restored(&store.documents(POSITION).await?, &health)?,
        };
        Ok(Self {
            health,
            are_alerts_restored,
        })
    }

    /// Fails if the store was incomplete at this time or at the later one, or lost data in between.
    fn holds_until(&self, later: &[Health]) -> Result<(), IncompleteError> {
        let is_complete = |(before, after): &(&Health, &Health)| {
            before.is_complete()
                && after.is_complete()
                && before.server_run_id == after.server_run_id
                && before.recovery_id == after.recovery_id
        };
        let unconverted = later.iter().filter(|health| !health.is_converted());
        match unconverted.map(|health| health.state_format).max() {
            Some(newer) if newer > STATE_FORMAT => {
                return Err(IncompleteError::NewerFormat(newer));
            }
            Some(_) => return Err(IncompleteError::Unconverted),
            None => {}
        }
        let complete = self.health.iter().zip(later).filter(is_complete).count();
        match later.len() - complete {
            0 if self.are_alerts_restored => Ok(()),
            0 => Err(IncompleteError::Alerts),
            incomplete => Err(IncompleteError::Partitions {
                incomplete,
                partitions: later.len(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(recovery: &str) -> Health {
        Health {
            server_run_id: "run".to_owned(),
            complete_in: Some("run".to_owned()),
            recovery_id: Some(recovery.to_owned()),
            ..Health::default()
        }
    }

    fn seen(health: &[Health], are_alerts_restored: bool) -> Completeness {
        Completeness {
            health: health.to_vec(),
            are_alerts_restored,
        }
    }

    #[test]
    fn a_partition_that_is_incomplete_at_the_begin_or_at_the_end_is_counted() {
        let lost = Health {
            server_run_id: "run".to_owned(),
            ..Health::default()
        };
        let (all, part) = ([complete("1"), complete("1")], [complete("1"), lost]);
        let incomplete = IncompleteError::Partitions {
            incomplete: 1,
            partitions: 2,
        };
        assert_eq!(seen(&all, true).holds_until(&all), Ok(()));
        for (before, after) in [(&all, &part), (&part, &all), (&part, &part)] {
            let held = seen(before, true).holds_until(after);
            assert_eq!(held.as_ref(), Err(&incomplete));
        }
        let text = incomplete.to_string();
        assert!(text.starts_with("1 of 2 partitions are incomplete"));
    }

    #[test]
    fn a_state_of_another_format_says_what_happens_to_it() {
        let of_format = |state_format| {
            [Health {
                state_format,
                ..complete("1")
            }]
        };
        for (state_format, expected) in [
            (1, Err(IncompleteError::Unconverted)),
            (STATE_FORMAT, Ok(())),
            (
                STATE_FORMAT + 1,
                Err(IncompleteError::NewerFormat(STATE_FORMAT + 1)),
            ),
        ] {
            let health = of_format(state_format);
            assert_eq!(seen(&health, true).holds_until(&health), expected);
        }
        let converting = [Health {
            conversion: Some("c".to_owned()),
            ..complete("1")
        }];
        let held = seen(&converting, true).holds_until(&converting);
        assert_eq!(held, Err(IncompleteError::Unconverted));
    }

    #[test]
    fn a_partition_that_was_lost_and_recovered_in_between_is_counted() {
        let before = seen(&[complete("1")], true);
        assert!(before.holds_until(&[complete("2")]).is_err());
    }

    #[test]
    fn alerts_that_are_not_restored_are_incomplete_although_all_partitions_are_complete() {
        let before = seen(&[complete("1")], false);
        let held = before.holds_until(&[complete("1")]);
        assert_eq!(held, Err(IncompleteError::Alerts));
    }
}
