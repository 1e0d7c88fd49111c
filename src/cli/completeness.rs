//! Whether the store has everything that a command is about to show.
//!
//! After a loss of data, and during a rebuild, the store holds a part of the state, and nothing in that
//! part says so. Commands that show state therefore refuse to, unless `--partial` is given.

use std::time::{Duration, Instant};

use clap::Args;
use revwatch_storage::ports::{Health, Recovery, StoreError};

/// Option of the commands that show state.
#[derive(Debug, Clone, Copy, Args)]
pub struct Partial {
    /// Show what the store has, although it is incomplete after a loss of data or during a rebuild.
    #[arg(long)]
    partial: bool,
}

/// The store was incomplete when it was read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{incomplete} of {partitions} partitions are incomplete: their data is new, was lost or was dropped, and a running \
     worker has yet to apply the archive again. `revwatch verify` succeeds when it is done"
)]
pub struct IncompleteError {
    incomplete: usize,
    partitions: usize,
}

/// How long to wait for incomplete partitions. A new deployment, or a restarted Redis, is complete
/// within a moment.
const TIMEOUT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(250);

impl Partial {
    /// The result of `read` if the store was complete from its begin to its end. With `--partial`
    /// its result in any case, and a warning on standard error.
    pub async fn read<T>(
        self,
        store: &(impl Recovery + ?Sized),
        read: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        if !self.partial {
            let refused = |error: anyhow::Error| match error.is::<IncompleteError>() {
                true => anyhow::anyhow!("{error}; --partial shows what is there"),
                false => error,
            };
            return read_complete(store, read).await.map_err(refused);
        }
        let before = store.health().await?;
        let result = read.await;
        if let Err(incomplete) = complete_throughout(&before, &store.health().await?) {
            eprintln!("revwatch: this is a part: {incomplete}");
        }
        result
    }
}

/// The result of `read` if the store was complete from its begin to its end; otherwise an
/// [`IncompleteError`], even if `read` failed: what it did not find may be there later.
pub async fn read_complete<T>(
    store: &(impl Recovery + ?Sized),
    read: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let before = wait_until_complete(store).await?;
    complete_throughout(&before, &before)?;
    let result = read.await;
    complete_throughout(&before, &store.health().await?)?;
    result
}

/// The error of a command that acts; if the store is incomplete, that too, because it may be the
/// reason.
pub async fn explain(store: &(impl Recovery + ?Sized), error: anyhow::Error) -> anyhow::Error {
    let Ok(health) = store.health().await else {
        return error;
    };
    match complete_throughout(&health, &health) {
        Ok(()) => error,
        Err(incomplete) => anyhow::anyhow!("{error:#} ({incomplete})"),
    }
}

/// The health of the partitions once all are complete, or after a while.
pub async fn wait_until_complete(
    store: &(impl Recovery + ?Sized),
) -> Result<Vec<Health>, StoreError> {
    let began = Instant::now();
    loop {
        let health = store.health().await?;
        if health.iter().all(Health::is_complete) || began.elapsed() > TIMEOUT {
            return Ok(health);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Fails if a partition was incomplete at one of the two times, or lost data in between.
fn complete_throughout(before: &[Health], after: &[Health]) -> Result<(), IncompleteError> {
    let is_complete = |(before, after): &(&Health, &Health)| {
        before.is_complete()
            && after.is_complete()
            && before.server_run_id == after.server_run_id
            && before.recovery_id == after.recovery_id
    };
    let complete = before.iter().zip(after).filter(is_complete).count();
    match after.len() - complete {
        0 => Ok(()),
        incomplete => Err(IncompleteError {
            incomplete,
            partitions: after.len(),
        }),
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

    #[test]
    fn a_partition_that_is_incomplete_at_the_begin_or_at_the_end_is_counted() {
        let lost = Health {
            server_run_id: "run".to_owned(),
            ..Health::default()
        };
        let (whole, part) = ([complete("1"), complete("1")], [complete("1"), lost]);
        let incomplete = IncompleteError {
            incomplete: 1,
            partitions: 2,
        };
        assert_eq!(complete_throughout(&whole, &whole), Ok(()));
        for (before, after) in [(&whole, &part), (&part, &whole), (&part, &part)] {
            assert_eq!(
                complete_throughout(before, after).as_ref(),
                Err(&incomplete)
            );
        }
        assert!(
            incomplete
                .to_string()
                .starts_with("1 of 2 partitions are incomplete")
        );
    }

    #[test]
    fn a_partition_that_was_lost_and_recovered_in_between_is_counted() {
        assert!(complete_throughout(&[complete("1")], &[complete("2")]).is_err());
    }
}
