//! `revwatch verify`: do the sums and conditions in the store follow from its entities?

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::bail;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use revwatch_core::condition::Condition;
use revwatch_core::counters::Bucket;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::recount::{Comparison, Difference, Held, Recount, first_hour};
use revwatch_runtime::backend::Backend;
use revwatch_storage::ports::{StateStore, StoreError};
use serde_json::{Value, json};

use super::Common;
use super::export::iso;

/// How often a difference is looked at before it is believed while commits go on.
const MAX_CHECKS: u32 = 10;

/// Long enough for a batch that was under way to be committed.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// What takes longer than this to be made whole is worth an exit code.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(10);

/// From how many entities on somebody at a terminal wants to see that it goes on.
const MANY: u64 = 5_000;

/// Runs `verify`.
pub async fn run(common: &Common) -> anyhow::Result<()> {
    let store = Backend::store(&common.config()?).await?;
    let first_hour = first_hour(Timestamp::now().as_second());
    let unwell = wait_until_whole(store.as_ref()).await?;
    let (mut entities, mut found) = look(store.as_ref(), first_hour).await?;
    let mut looks = 1;
    while !found.differences.is_empty() && !found.undisturbed && looks < MAX_CHECKS {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let (counted, later) = look(store.as_ref(), first_hour).await?;
        (entities, found) = (counted, found.confirmed_by(later));
        looks += 1;
    }
    let mut out = std::io::stdout().lock();
    if common.json {
        let mut value = describe(entities, looks, &found);
        value["partitions_not_whole"] = unwell.into();
        writeln!(out, "{value:#}")?;
    } else if found.differences.is_empty() {
        let (counters, conditions) = (found.counters, found.conditions);
        let beside = if found.undisturbed {
            ""
        } else {
            ", as far as can be seen while events are applied"
        };
        writeln!(
            out,
            "all {counters} counters and {conditions} conditions agree ({entities} entities{beside})"
        )?;
    } else {
        writeln!(out, "{}", table(&found.differences))?;
    }
    match found.differences.len() {
        0 if unwell > 0 => bail!(
            "{unwell} partition(s) lost data, or were forgotten, and are not whole yet: a worker that runs replays the \
             archive (revwatch_partitions_recovering shows how many are left)"
        ),
        0 => Ok(()),
        n if found.undisturbed => {
            bail!("{n} difference(s) between the store and its {entities} entities")
        }
        n => bail!(
            "{n} difference(s) between the store and its {entities} entities, the same in each of {looks} looks while \
             events were applied"
        ),
    }
}

/// How many partitions are not whole, and stay so: a new deployment, or a restarted Redis, is
/// within a moment.
async fn wait_until_whole(store: &dyn StateStore) -> anyhow::Result<usize> {
    let began = Instant::now();
    loop {
        let unwell = store
            .health()
            .await?
            .iter()
            .filter(|health| !health.is_complete())
            .count();
        if unwell == 0 || began.elapsed() > COMPLETE_TIMEOUT {
            return Ok(unwell);
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Reads everything once.
async fn look(store: &dyn StateStore, first_hour: u32) -> anyhow::Result<(u64, Comparison)> {
    let before = held(store, first_hour).await?;
    let mut recount = Recount::default();
    let mut unreadable = None;
    let progress = ProgressBar::hidden();
    for kind in EntityKind::ALL {
        store
            .entities(kind, &mut |id, body| {
                match Entity::decode(&EntityKey::new(kind, id), body) {
                    Ok(entity) => recount.add(&entity),
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
    let after = held(store, first_hour).await?;
    Ok((
        recount.entities,
        recount.compare(&before, &after, first_hour),
    ))
}

async fn held(store: &dyn StateStore, first_hour: u32) -> Result<Held, StoreError> {
    // To the end of time: Stripe's clock may be ahead of this one.
    Ok(Held {
        counters: store.counters(first_hour, u32::MAX).await?,
        conditions: store.conditions().await?,
    })
}

/// How many there are is known only at the end. Only a terminal gets to see anything.
fn show(progress: &ProgressBar, entities: u64) {
    if entities == MANY {
        let style = ProgressStyle::with_template("{spinner} {human_pos} entities, {per_sec}");
        progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        progress.set_draw_target(ProgressDrawTarget::stderr());
    }
    if entities >= MANY {
        progress.set_position(entities);
    }
}

fn table(differences: &[Difference]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(["name", "bucket", "stored", "recomputed"]);
    for difference in differences {
        table.add_row(match difference {
            Difference::Counter {
                name,
                bucket,
                stored,
                recomputed,
                ..
            } => [
                name.clone(),
                bucket_text(*bucket),
                stored.to_string(),
                recomputed.to_string(),
            ],
            Difference::MissingCondition(c) => condition_row(c, "missing", &particulars(c)),
            Difference::LeftOverCondition(c) => {
                condition_row(c, &particulars(c), "left over: no entity is in it")
            }
            Difference::OtherCondition { stored, recomputed } => {
                condition_row(stored, &particulars(stored), &particulars(recomputed))
            }
        });
    }
    table
}

fn condition_row(condition: &Condition, stored: &str, recomputed: &str) -> [String; 4] {
    let name = format!(
        "{} of {}",
        condition.key.kind.as_str(),
        condition.key.subject
    );
    [
        name,
        "condition".to_owned(),
        stored.to_owned(),
        recomputed.to_owned(),
    ]
}

/// Everything in which two of one name may differ.
fn particulars(condition: &Condition) -> String {
    let mut text = format!(
        "since {}, due {}",
        iso(Some(condition.since_s)),
        iso(Some(condition.due_s))
    );
    for part in [
        condition.account.clone(),
        condition.money.as_ref().map(ToString::to_string),
        condition.detail.clone(),
    ]
    .into_iter()
    .flatten()
    {
        text.push_str(", ");
        text.push_str(&part);
    }
    text + ", " + &condition.event_id
}

fn describe(entities: u64, looks: u32, found: &Comparison) -> Value {
    let mut counters = Vec::new();
    let mut conditions = Vec::new();
    for difference in &found.differences {
        let (what, stored, recomputed) = match difference {
            Difference::Counter {
                name,
                bucket,
                stored,
                recomputed,
                ..
            } => {
                let bucket = bucket_text(*bucket);
                counters.push(json!({"name": name, "bucket": bucket, "stored": stored, "recomputed": recomputed}));
                continue;
            }
            Difference::MissingCondition(condition) => ("missing", None, Some(condition)),
            Difference::LeftOverCondition(condition) => ("left_over", Some(condition), None),
            Difference::OtherCondition { stored, recomputed } => {
                ("different", Some(stored), Some(recomputed))
            }
        };
        conditions.push(json!({"what": what, "stored": stored, "recomputed": recomputed}));
    }
    json!({
        "agree": found.differences.is_empty(), "entities": entities, "counters": found.counters,
        "conditions": found.conditions, "looks": looks, "undisturbed": found.undisturbed,
        "differences": {"counters": counters, "conditions": conditions},
    })
}

fn bucket_text(bucket: Bucket) -> String {
    match bucket {
        Bucket::Current => "standing".to_owned(),
        Bucket::Hour(hour) => iso(Some(i64::from(hour) * 3600)),
    }
}
