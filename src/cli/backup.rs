//! `revwatch backup` and `revwatch restore`: a copy of the embedded store, and one in its place.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use revwatch_core::view::rfc3339;
use revwatch_runtime::config::Config;
use revwatch_storage::ports::EventQueue as _;
use revwatch_storage::sqlite::{self, Backup, Open, Sqlite};
use serde_json::json;

use super::audit::{By, note};
use super::global_options::GlobalOptions;
use super::output;

/// Options of `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The new file.
    file: PathBuf,
    #[command(flatten)]
    by: By,
}

/// Options of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file that `revwatch backup` wrote, or another copy of a store.
    file: PathBuf,
    /// Replace the store that is there; it is kept under another name.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    by: By,
}

/// Runs `backup`.
pub async fn run(options: &GlobalOptions, args: &BackupArgs) -> anyhow::Result<()> {
    args.by.name()?;
    let config = embedded(options)?;
    let store = Sqlite::open(&config.data, Open::Existing)?;
    let file = args.file.display().to_string();
    // The audit entry comes first, as that of an export does: a backup holds everything.
    note(&store, &args.by, "backup", &file).await?;
    let backup = store.back_up(&args.file).await?;
    store.close().await;
    print(options, &format!("wrote {file}"), &file, &backup)
}

/// Runs `restore`.
pub async fn restore(options: &GlobalOptions, args: &RestoreArgs) -> anyhow::Result<()> {
    args.by.name()?;
    let config = embedded(options)?;
    let (from, data, force) = (args.file.clone(), config.data.clone(), args.force);
    let backup =
        tokio::task::spawn_blocking(move || sqlite::restore(&from, &data, force)).await??;
    // A backup of an earlier format is converted by the next `serve`, and has no audit to add to until then.
    if let Ok(store) = Sqlite::open(&config.data, Open::Existing) {
        let detail = args.file.display().to_string();
        note(&store, &args.by, "restore", &detail).await?;
        store.close().await;
    }
    let store = config.data.join(sqlite::FILE_NAME).display().to_string();
    let done = format!("restored {store} from {}", args.file.display());
    print(options, &done, &store, &backup)?;
    if !options.json {
        let mut out = output::stdout();
        if let Some(replaced) = &backup.replaced {
            let replaced = replaced.display();
            writeln!(
                out,
                "the store that was there is {replaced} now: delete it when you no longer need it"
            )?;
        }
        writeln!(
            out,
            "start `revwatch serve`, then read what came later from Stripe: revwatch backfill --since {} \
             --all-accounts (and what Stripe could not deliver in the three days before: an earlier --since reads that, too)",
            newest(&backup).unwrap_or_else(|| "30d".to_owned())
        )?;
    }
    Ok(())
}

/// The settings of a deployment whose store is a file.
fn embedded(options: &GlobalOptions) -> anyhow::Result<Config> {
    let config = options.config()?;
    anyhow::ensure!(
        config.servers()?.is_none(),
        "this deployment keeps its data in RabbitMQ and Redis (REVWATCH_AMQP_URL, REVWATCH_REDIS_URL), not in a file: \
         copy Redis' snapshot, and let a cluster of three RabbitMQ nodes replicate the queue; see \"Back up and restore\" \
         in deploy/README.md"
    );
    Ok(config)
}

fn newest(backup: &Backup) -> Option<String> {
    let newest_ms = backup.newest_ms?;
    Some(rfc3339(Some(newest_ms.div_euclid(1000))))
}

fn print(options: &GlobalOptions, done: &str, file: &str, backup: &Backup) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let until = newest(backup);
    if options.json {
        let replaced = backup
            .replaced
            .as_ref()
            .map(|path| path.display().to_string());
        let report = json!({"file": file, "bytes": backup.bytes, "newest_delivery": until, "replaced": replaced});
        writeln!(out, "{report:#}")?;
        return Ok(());
    }
    let until = until.map_or_else(
        || "no deliveries".to_owned(),
        |until| format!("deliveries until {until}"),
    );
    writeln!(out, "{done}: {} bytes, {until}", backup.bytes)?;
    Ok(())
}
