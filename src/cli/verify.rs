//! `revwatch verify`: compares the counters and conditions in the store with a recount of its
//! entities.

use std::io::Write as _;
use std::time::Duration;

use anyhow::bail;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use indicatif::ProgressBar;
use jiff::Timestamp;
use revwatch_core::bucket::Buckets;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::recount::{Comparison, Recount, StoredAggregates, compared};
use revwatch_core::view::verification::{self, Verification};
use revwatch_runtime::backend::Backend;
use revwatch_storage::ports::{StateStore, StoreError};

use super::completeness::{Shown, wait_until_complete};
use super::global_options::GlobalOptions;
use super::output;
use super::progress_bar;

/// How many recounts confirm a difference while events are applied.
const MAX_CHECKS: u32 = 10;

/// Long enough for a batch in progress to be committed.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// From this many entities on, progress is shown on a terminal.
const PROGRESS_MIN_ENTITIES: u64 = 5_000;

/// Runs `verify`.
pub async fn run(options: &GlobalOptions) -> anyhow::Result<()> {
    let store = Backend::store(&options.config()?).await?;
    let compared = compared(Timestamp::now().as_second());
    let found = wait_until_complete(store.as_ref(), Shown::Entities).await?;
    let incomplete = found
        .health
        .iter()
        .filter(|health| !health.is_complete())
        .count();
    let (mut entities, mut comparison) = recount(store.as_ref(), &compared).await?;
    let mut recounts = 1;
    while !comparison.agrees() && !comparison.undisturbed && recounts < MAX_CHECKS {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let (counted, later) = recount(store.as_ref(), &compared).await?;
        (entities, comparison) = (counted, comparison.confirmed_by(later));
        recounts += 1;
    }
    let mut out = output::stdout();
    if options.json {
        let shown = verification::describe(&Verification {
            entities,
            recounts,
            incomplete_partitions: incomplete,
            comparison: &comparison,
        });
        writeln!(out, "{shown:#}")?;
    } else if comparison.agrees() {
        let (counters, conditions) = (comparison.counters, comparison.conditions);
        let caveat = if comparison.undisturbed {
            ""
        } else {
            ", as far as visible while events are applied"
        };
        writeln!(
            out,
            "all {counters} counters and {conditions} conditions agree ({entities} entities{caveat})"
        )?;
    } else {
        writeln!(out, "{}", table(&comparison))?;
    }
    if found.health.iter().any(|health| !health.is_converted()) {
        bail!("the state is not converted to this version's format yet: a running worker does it");
    }
    if !comparison.misplaced.is_empty() {
        bail!(
            "{} object(s) are in a partition where they do not belong, or twice: `revwatch rebuild` reads the archive again \
             (objects without an event in the archive are lost then)",
            comparison.misplaced.len()
        );
    }
    match comparison.differences.len() {
        0 if incomplete > 0 => bail!(
            "{incomplete} partition(s) lost data or were dropped, and are not complete yet: a running worker replays the \
             archive (revwatch_partitions_recovering counts them)"
        ),
        0 => Ok(()),
        n if comparison.undisturbed => {
            bail!("{n} difference(s) between the store and its {entities} entities")
        }
        n => bail!(
            "{n} difference(s) between the store and its {entities} entities, the same in each of {recounts} recounts while \
             events were applied"
        ),
    }
}

/// Reads counters, conditions and entities once.
async fn recount(store: &dyn StateStore, compared: &Buckets) -> anyhow::Result<(u64, Comparison)> {
    let before = stored_values(store, compared).await?;
    let partitions = store.health().await?.len();
    let mut recount = Recount::new(u32::try_from(partitions).unwrap_or(u32::MAX));
    let mut unreadable = None;
    let progress = ProgressBar::hidden();
    for kind in EntityKind::ALL {
        store
            .entities(kind, &mut |partition, id, body| {
                let key = EntityKey::new(kind, id);
                match Entity::decode(&key, body) {
                    Ok(entity) => recount.add(partition, &key, &entity),
                    Err(error) => unreadable = Some(error),
                }
                show(&progress, recount.entities);
            })
            .await?;
    }
    progress.finish_and_clear();
    if let Some(error) = unreadable {
        bail!("an entity cannot be read: {error}");
    }
    let after = stored_values(store, compared).await?;
    Ok((recount.entities, recount.compare(&before, &after, compared)))
}

async fn stored_values(
    store: &dyn StateStore,
    compared: &Buckets,
) -> Result<StoredAggregates, StoreError> {
    Ok(StoredAggregates {
        counters: store.counters(compared).await?,
        conditions: store.conditions().await?,
    })
}

/// The total is known only at the end.
fn show(progress: &ProgressBar, entities: u64) {
    if entities == PROGRESS_MIN_ENTITIES {
        progress_bar::reveal(progress, "entities, {per_sec}");
    }
    progress.set_position(entities);
}

fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(verification::HEADER)
        .add_rows(comparison.differences.iter().map(verification::row))
        .add_rows(comparison.misplaced.iter().map(verification::misplaced_row));
    table
}
