//! `revwatch replay` and `revwatch rebuild`: state from the archive.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use revwatch_core::clock::Clock as _;
use revwatch_core::mode::Mode;
use revwatch_core::view::rfc3339;
use revwatch_runtime::admin::Readiness;
use revwatch_runtime::backend::Backend;
use revwatch_runtime::config::Config;
use revwatch_runtime::reload::Reloadable;
use revwatch_runtime::supervise::Supervisor;
use revwatch_runtime::telemetry::{Metrics, Tracer};
use revwatch_storage::gaps::{Gaps, Missing};
use revwatch_storage::ports::EventQueue;
use revwatch_storage::system::{SystemClock, SystemIds};
use revwatch_worker::recovery::{
    IncompletePartition, ReplaySummary, pauses, recover, replay, restore_pauses,
};
use revwatch_worker::{BatchPermits, OtherModeCounts, Worker, live_workers};

use super::audit::{By, note};
use super::global_options::GlobalOptions;
use super::output;
use super::progress_bar;
use super::time::past;

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Start: 2026-03-01, 2026-03-01T00:00:00Z, or an age such as 36h or 7d.
    #[arg(long, value_name = "TIME")]
    from: String,
    #[command(flatten)]
    by: By,
}

/// Options of `rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Confirm: state that is older than the archive is lost.
    #[arg(long)]
    yes: bool,
    /// Rebuild although the archive lacks deliveries: what they say is lost until a backfill reads them from Stripe.
    #[arg(long)]
    despite_gaps: bool,
    #[command(flatten)]
    by: By,
}

/// The number of deliveries is not known in advance.
const DELIVERIES_READ: &str = "deliveries read, {per_sec}";

/// Runs `replay`.
pub async fn run(options: &GlobalOptions, args: &ReplayArgs) -> anyhow::Result<()> {
    args.by.name()?;
    // An age is not meant to the nanosecond: the audit names the second from which it replays.
    let from_s = past("--from", &args.from, Timestamp::now())?.as_second();
    let config = options.config()?;
    let worker = worker(&config).await?;
    has_mode_of_workers(&worker).await?;
    let queue = worker.queue.clone();
    let detail = format!("from {}", rfc3339(Some(from_s)));
    note(queue.as_ref(), &args.by, "replay", &detail).await?;
    if let Some(missing) =
        missing_in_archive(queue.as_ref(), from_s.saturating_mul(1000), true).await?
    {
        eprintln!("revwatch: {missing}");
    }
    let paused = pauses(queue.as_ref(), worker.store.as_ref()).await?.into();
    let from = (0..queue.partitions())
        .map(|partition| (partition, from_s * 1000))
        .collect::<BTreeMap<_, _>>();
    let progress = progress_bar::spinner(DELIVERIES_READ);
    let replayed = replay(&worker, from, &paused, &mut |read| {
        progress.set_position(read);
    })
    .await?;
    progress.finish_and_clear();
    queue.close().await;
    print(options, config.mode, replayed)
}

/// Runs `rebuild`.
pub async fn rebuild(options: &GlobalOptions, args: &RebuildArgs) -> anyhow::Result<()> {
    args.by.name()?;
    anyhow::ensure!(
        args.yes,
        "rebuild drops all state and rebuilds it from the archive, which reaches back 35 days: state from older \
         events is lost. Alerts, silences and the audit are kept. Confirm with --yes"
    );
    let config = options.config()?;
    let worker = worker(&config).await?;
    has_mode_of_workers(&worker).await?;
    let (queue, store) = (worker.queue.clone(), worker.store.clone());
    if let Some(missing) = missing_in_archive(queue.as_ref(), i64::MIN, args.despite_gaps).await? {
        anyhow::ensure!(
            args.despite_gaps,
            "nothing was dropped: {missing}. Then rebuild, or do so without them: --despite-gaps"
        );
        eprintln!("revwatch: {missing}");
    }
    note(
        queue.as_ref(),
        &args.by,
        "rebuild",
        "drop all state and replay the archive",
    )
    .await?;
    store.drop_state().await?;
    let progress = progress_bar::spinner(DELIVERIES_READ);
    let mut total = ReplaySummary::default();
    // Running workers recover partitions as well. The rebuild is done when all partitions are
    // complete.
    loop {
        let health = store.health().await?;
        let incomplete = (0..)
            .zip(health)
            .filter(|(_, health)| !health.is_complete());
        let partitions: Vec<IncompletePartition> = incomplete
            .map(|(partition, health)| IncompletePartition { partition, health })
            .collect();
        if partitions.is_empty() {
            break;
        }
        let paused = restore_pauses(queue.as_ref(), store.as_ref(), &SystemIds).await?;
        let replayed = recover(&worker, &partitions, &paused, &mut |read| {
            progress.set_position(read);
        })
        .await?;
        total.read += replayed.read;
        total.applied += replayed.applied;
        total.other += replayed.other;
        total.other_mode += replayed.other_mode;
        total.held_back += replayed.held_back;
    }
    progress.finish_and_clear();
    queue.close().await;
    print(options, config.mode, total)
}

/// What the archive lacks of the deliveries received at or after `from_ms`. Fails if the archive cannot be read, and,
/// unless `despite_gaps`, if it is empty.
async fn missing_in_archive(
    queue: &dyn EventQueue,
    from_ms: i64,
    despite_gaps: bool,
) -> anyhow::Result<Option<Missing>> {
    if !queue.is_apart() {
        return Ok(None);
    }
    // Notices, too, that the archive was deleted, and writes that down.
    queue.probe().await?;
    let oldest_ms = queue.oldest_ms().await;
    let oldest_ms = oldest_ms.context("the archive cannot be read, so nothing was done")?;
    anyhow::ensure!(
        oldest_ms.is_some() || despite_gaps,
        "nothing was done: the archive is empty, so a replay brings nothing back. If RabbitMQ lost its data, read the events \
         from Stripe with `revwatch backfill`. --despite-gaps goes on"
    );
    let now_ms = SystemClock.now_ms();
    Ok(Gaps::read(queue, now_ms).await?.missing(from_ms, now_ms))
}

/// The parts of a worker that the commands need. It processes no queue.
async fn worker(config: &Config) -> anyhow::Result<Worker> {
    let Backend { queue, store } = Backend::existing(config).await?;
    Ok(Worker {
        queue,
        store,
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        config: config.worker.clone(),
        events: Reloadable::new(config.event_settings()),
        other_mode: OtherModeCounts::default(),
        metrics: Metrics::new(),
        tracer: Tracer::default(),
        ready: Readiness::default().check("worker"),
        tasks: Supervisor::new(&Readiness::default()),
        batch_permits: BatchPermits::default(),
        resolver: None,
    })
}

/// Refuses if the running workers apply the other mode: the state would be made of both.
async fn has_mode_of_workers(worker: &Worker) -> anyhow::Result<()> {
    let own = worker.events.get().modes.deployment;
    let other = own.other();
    let count = live_workers(worker.store.as_ref(), other).await?;
    anyhow::ensure!(
        count == 0,
        "{count} worker(s) run in {other} mode, but this command in {own} mode: give it REVWATCH_MODE={other}, or restart the \
         workers with REVWATCH_MODE={own} first (a worker that was killed counts for {} s)",
        worker.config.member_seconds
    );
    Ok(())
}

fn print(options: &GlobalOptions, mode: Mode, replayed: ReplaySummary) -> anyhow::Result<()> {
    let ReplaySummary {
        read,
        applied,
        other,
        other_mode,
        held_back,
    } = replayed;
    let known = read.saturating_sub(applied + other + other_mode + held_back);
    let mut out = output::stdout();
    if options.json {
        let value = serde_json::json!({"read": read, "applied": applied, "known": known, "other": other,
            "other_mode": other_mode, "mode": mode.as_str(), "held_back": held_back});
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{read} deliveries read: {applied} applied, {known} already known, {other} duplicates, ignored or dead, \
         {other_mode} of the other mode (this deployment is {mode}), {held_back} held back by a pause."
    )?;
    Ok(())
}
