//! `revwatch backfill`: past events from Stripe's API, published to the queue like any other event.

mod progress;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use indicatif::ProgressBar;
use jiff::{SignedDuration, Timestamp};
use revwatch_core::clock::Clock as _;
use revwatch_core::entity::{Entity, EntityKey, EntityKind};
use revwatch_core::realm::Realms;
use revwatch_core::view::rfc3339;
use revwatch_runtime::backend::Backend;
use revwatch_runtime::config::{Config, ExposeSecret as _, SecretString};
use revwatch_storage::gaps::{Fill, Gaps, STRIPE_RETENTION_DAYS};
use revwatch_storage::ports::{Entities, EventQueue};
use revwatch_storage::system::{SystemClock, SystemIds};
use revwatch_stripe::{ApiErrorKind, StripeApi};
use revwatch_worker::backfill::{Backfill, BackfillError, Listing, TimeRange};
use serde_json::json;

use self::progress::{Progress, ProgressFile};
use super::audit::{By, note};
use super::global_options::GlobalOptions;
use super::output;
use super::progress_bar;
use super::time::time;
use super::values::{account, rate};

/// Options of `backfill`.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// Start: 2026-03-01, 2026-03-01T00:00:00Z, or an age such as 36h or 7d; at most 30 days ago.
    #[arg(long, value_name = "TIME")]
    since: String,
    /// End (exclusive); default: now.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Read the events of this connected account instead of the key's own; can be repeated.
    #[arg(long = "account", value_name = "ACCT", value_parser = account, conflicts_with = "all_accounts")]
    accounts: Vec<String>,
    /// Read the events of the key's own account and of all connected accounts that Stripe lists or
    /// revwatch knows.
    #[arg(long)]
    all_accounts: bool,
    /// Maximum requests per second. Stripe allows 100 in live mode and 25 in a sandbox, for all
    /// your programs together.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = rate(100.0))]
    rate: f64,
    /// Start from the beginning instead of continuing an interrupted run.
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    by: By,
}

/// A listing that was given up because Stripe refuses it.
struct RefusedListing {
    account: String,
    reason: String,
}

/// Runs `backfill`.
pub async fn run(options: &GlobalOptions, args: &BackfillArgs) -> anyhow::Result<()> {
    args.by.name()?;
    let config = options.config()?;
    let api = api(&config)?;
    let now = Timestamp::now();
    let requested = range(args, now)?;
    let identity = identity(args, &config);
    let file = ProgressFile::of(
        &config.data,
        &identity.iter().map(String::as_str).collect::<Vec<_>>(),
    )?;
    if args.restart {
        file.remove()?;
    }
    // A run that ended before its first page was stored has nothing to continue.
    let saved = file.load()?.filter(Progress::has_begun);
    let backend = Backend::open(&config).await?;
    let is_resumed = saved.is_some();
    let mut backfill = Backfill::new(api, backend.queue.clone(), Arc::new(SystemClock), args.rate);
    let bar = progress_bar::spinner("events read, {msg}");
    let mut progress = match saved {
        Some(progress) => {
            eprintln!("revwatch: {}", resumed(progress.range, now));
            progress
        }
        None => {
            let (store, realms) = (backend.store.as_ref(), config.realms());
            begin(args, requested, store, &realms, &mut backfill, &bar).await?
        }
    };
    // Before the first event is published. If the file cannot be written, each run would begin again
    // with the first page.
    file.save(&progress)?;
    let (queue, again) = (
        backend.queue.as_ref(),
        if is_resumed { ", resumed" } else { "" },
    );
    let detail = format!(
        "{}, {} account(s){again}",
        events_of(progress.range),
        progress.listings.len()
    );
    note(queue, &args.by, "backfill", &detail).await?;
    let read = read_all(&mut backfill, &mut progress, &file, &bar).await;
    bar.finish_and_clear();
    if let Ok(refused) = &read {
        let detail = format!(
            "{} done: {} read, {} account(s) refused",
            events_of(progress.range),
            progress.events(),
            refused.len()
        );
        note(queue, &args.by, "backfill", &detail).await?;
        if refused.is_empty()
            // The key lists the events of one realm.
            && config.is_of_one_realm()
            && has_all_accounts(&progress, backend.store.as_ref()).await?
        {
            note_filled(queue, &progress).await?;
        }
    }
    queue.close().await;
    let refused = read?;
    file.remove()?;
    print(options, &progress, &refused, is_resumed)?;
    match refused.first() {
        None => Ok(()),
        Some(first) => bail!(
            "Stripe refuses to list the events of {} account(s), for example {}: {}",
            refused.len(),
            first.account,
            first.reason
        ),
    }
}

/// The client of Stripe's API.
fn api(config: &Config) -> anyhow::Result<StripeApi> {
    if let Some(warning) = config.key_of_other_mode(config.mode) {
        bail!("all events would be ignored: {warning}");
    }
    let api = StripeApi::of(config, Arc::new(SystemClock));
    api.context("cannot set up HTTPS for Stripe's API")?.context(
        "backfill reads from Stripe's API: set STRIPE_SECRET_KEY (a restricted key that may read events is enough, and with \
         --account or --all-accounts it must be one of the platform)",
    )
}

fn events_of(TimeRange { since_s, until_s }: TimeRange) -> String {
    format!(
        "events of {} to {}",
        rfc3339(Some(since_s)),
        rfc3339(Some(until_s))
    )
}

/// What a resumed run says first. An age such as 7d is not measured again, so the range is not the one
/// that the command would have now.
fn resumed(range: TimeRange, now: Timestamp) -> String {
    let text = format!("resumed: {}; --restart begins again", events_of(range));
    match oldest_s(now) {
        oldest_s if range.since_s < oldest_s => format!(
            "{text}. Stripe keeps events for {STRIPE_RETENTION_DAYS} days: those before {} are missing unless they were read \
             earlier",
            rfc3339(Some(oldest_s))
        ),
        _ => text,
    }
}

/// The oldest second of which Stripe still has the events.
fn oldest_s(now: Timestamp) -> i64 {
    now.as_second() - STRIPE_RETENTION_DAYS * 86_400
}

/// Reads every listing to its end. Progress is saved after each page.
async fn read_all(
    backfill: &mut Backfill,
    progress: &mut Progress,
    file: &ProgressFile,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<RefusedListing>> {
    let (range, count) = (progress.range, progress.listings.len());
    let mut refused = Vec::new();
    for n in 0..count {
        while !progress.listings[n].is_done {
            let step = backfill
                .step(range, &mut progress.listings[n], &mut report_retry(bar))
                .await;
            let listing = &progress.listings[n];
            match (step, &listing.account) {
                (Ok(()), _) => {
                    file.save(progress)?;
                    show(bar, progress, n);
                }
                // With many accounts, one that is no longer connected does not stop the others.
                (Err(BackfillError::Api(error)), Some(account))
                    if count > 1
                        && matches!(
                            error.kind,
                            ApiErrorKind::Forbidden | ApiErrorKind::NotFound
                        )
                        && listing.last.is_none() =>
                {
                    refused.push(RefusedListing {
                        account: account.clone(),
                        reason: error.reason,
                    });
                    break;
                }
                (Err(error), _) => return Err(with_hint(&error, listing)),
            }
        }
    }
    Ok(refused)
}

/// Reports a request that is retried.
fn report_retry(bar: &ProgressBar) -> impl FnMut(&str, Duration) + Send {
    move |reason, wait| {
        bar.suspend(|| {
            eprintln!(
                "revwatch: {reason}; trying again in {:.1} s",
                wait.as_secs_f64()
            );
        });
    }
}

/// Adds a hint about what to do.
fn with_hint(error: &BackfillError, listing: &Listing) -> anyhow::Error {
    let of = listing
        .account
        .as_deref()
        .unwrap_or("the key's own account");
    let hint = match error.kind() {
        Some(ApiErrorKind::WrongKey) => {
            ". Set STRIPE_SECRET_KEY to a key of Stripe's API (sk_… or rk_…)"
        }
        Some(ApiErrorKind::Forbidden) if listing.account.is_some() => {
            ". It must be a key of the platform that the account is connected to, and may read events"
        }
        Some(ApiErrorKind::Forbidden) => ". It needs the permission to read events",
        Some(ApiErrorKind::NotFound | ApiErrorKind::Refused) if listing.last.is_some() => {
            ". Stripe may no longer have the event to continue from: start over with --restart"
        }
        _ => "",
    };
    let saved = match listing.pages {
        0 => "",
        _ => ". Events read so far are stored; the same command continues from there",
    };
    anyhow::anyhow!("cannot read from Stripe's API as {of}: {error}{hint}{saved}")
}

/// The time range of the events to read.
fn range(args: &BackfillArgs, now: Timestamp) -> anyhow::Result<TimeRange> {
    let since = time("--since", &args.since, now)?;
    let until = match &args.until {
        Some(text) => time("--until", text, now)?,
        // The current second is included.
        None => now.checked_add(SignedDuration::from_secs(1))?,
    };
    ensure!(since < now, "--since {} is not in the past", args.since);
    ensure!(
        since < until,
        "--since {} is not before --until {}",
        args.since,
        args.until.as_deref().unwrap_or("now")
    );
    let oldest_s = oldest_s(now);
    // One minute of slack: `30d` is accepted although time has passed since it was typed.
    ensure!(
        since.as_second() >= oldest_s - 60,
        "Stripe keeps events for {STRIPE_RETENTION_DAYS} days: --since cannot be before {}, and {} is. Older events are only in \
         revwatch's own archive (`revwatch replay`)",
        rfc3339(Some(oldest_s)),
        rfc3339(Some(since.as_second())),
    );
    Ok(TimeRange {
        since_s: since.as_second(),
        until_s: until.as_second(),
    })
}

/// The identity of a backfill: only a command with the same arguments, API, key and queue continues
/// an interrupted one. (The file name holds a part of the digest only.)
fn identity(args: &BackfillArgs, config: &Config) -> Vec<String> {
    let secret = |secret: Option<&SecretString>| {
        secret.map_or_else(String::new, |s| s.expose_secret().to_owned())
    };
    let mut accounts = args.accounts.clone();
    accounts.sort();
    accounts.dedup();
    let mut identity = vec![
        config.stripe_api_base.clone(),
        secret(config.stripe_secret_key.as_ref()),
        secret(config.amqp_url.as_ref()),
        args.since.clone(),
        args.until.clone().unwrap_or_default(),
        args.all_accounts.to_string(),
    ];
    identity.extend(accounts);
    identity
}

/// Starts a backfill: lists the accounts to read.
async fn begin(
    args: &BackfillArgs,
    range: TimeRange,
    store: &dyn Entities,
    realms: &Realms,
    backfill: &mut Backfill,
    bar: &ProgressBar,
) -> anyhow::Result<Progress> {
    let (mut connected, mut left_out) = (args.accounts.clone(), Vec::new());
    if args.all_accounts {
        (connected, left_out) = known_accounts(store).await?;
        match backfill.connected_accounts(&mut report_retry(bar)).await {
            Ok(listed) => connected.extend(listed),
            // If the key may not list accounts, the known accounts are read.
            Err(BackfillError::Api(error)) if error.kind == ApiErrorKind::Forbidden => bar.suspend(|| {
                eprintln!(
                    "revwatch: the key may not list connected accounts: accounts unknown to revwatch are skipped"
                );
            }),
            Err(error) => return Err(with_hint(&error, &Listing::default())),
        }
    }
    connected.sort();
    connected.dedup();
    let is_own = |id: &mut String| realms.of_own_account(id).is_some();
    for id in connected.extract_if(.., is_own) {
        bar.suspend(|| {
            eprintln!("revwatch: {id} is left out: it is an account of your own (`own_accounts`)");
        });
    }
    left_out.retain(|id| !connected.contains(id));
    let own = args.accounts.is_empty().then(Listing::default);
    let connected = connected.into_iter().map(|id| Listing {
        account: Some(id),
        ..Listing::default()
    });
    Ok(Progress {
        range,
        listings: own.into_iter().chain(connected).collect(),
        left_out,
        began_ms: SystemClock.now_ms(),
    })
}

/// Whether the events of all accounts that revwatch knows are read.
async fn has_all_accounts(progress: &Progress, store: &dyn Entities) -> anyhow::Result<bool> {
    let has = |account: Option<&String>| {
        let mut listings = progress.listings.iter();
        listings.any(|listing| listing.account.as_ref() == account)
    };
    let (connected, _) = known_accounts(store).await?;
    Ok(has(None) && connected.iter().all(|id| has(Some(id))))
}

/// Writes down which gaps of the archive may be filled, and says which are not.
async fn note_filled(queue: &dyn EventQueue, progress: &Progress) -> anyhow::Result<()> {
    if !queue.is_apart() {
        return Ok(());
    }
    let now_ms = SystemClock.now_ms();
    let fill = Fill {
        since_s: progress.range.since_s,
        until_s: progress.range.until_s,
        began_ms: progress.began_ms,
    };
    queue
        .append_journal(vec![fill.line(now_ms, &SystemIds)])
        .await?;
    let gaps = Gaps::read(queue, now_ms).await?;
    if let Some(missing) = gaps.missing(i64::MIN, now_ms) {
        eprintln!("revwatch: {missing}");
    }
    Ok(())
}

/// Connected accounts and disconnected ones. Requests for a disconnected account fail.
async fn known_accounts(store: &dyn Entities) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut connected, mut disconnected, mut unreadable) = (Vec::new(), Vec::new(), None);
    store
        .entities(
            EntityKind::Account,
            &mut |_, id, body| match Entity::decode(&EntityKey::new(EntityKind::Account, id), body)
            {
                Ok(Entity::Account(account)) if !account.connected() => {
                    disconnected.push(id.to_owned());
                }
                Ok(_) => connected.push(id.to_owned()),
                Err(error) => unreadable = Some(error),
            },
        )
        .await?;
    disconnected.sort();
    match unreadable {
        Some(error) => Err(anyhow::Error::msg(error)),
        None => Ok((connected, disconnected)),
    }
}

fn show(bar: &ProgressBar, progress: &Progress, n: usize) {
    let listing = &progress.listings[n];
    let back_to = listing.oldest_s.map_or_else(String::new, |at_s| {
        format!(", back to {}", rfc3339(Some(at_s)))
    });
    bar.set_position(progress.events());
    bar.set_message(format!(
        "{} pages, account {} of {}{back_to}",
        progress.pages(),
        n + 1,
        progress.listings.len()
    ));
}

fn print(
    options: &GlobalOptions,
    progress: &Progress,
    refused: &[RefusedListing],
    is_resumed: bool,
) -> anyhow::Result<()> {
    let Progress {
        range,
        listings,
        left_out,
        ..
    } = progress;
    let (events, pages) = (progress.events(), progress.pages());
    let oldest = listings.iter().filter_map(|l| l.oldest_s).min();
    let reason = |l: &Listing| {
        refused
            .iter()
            .find(|refused| l.account.as_ref() == Some(&refused.account))
            .map(|refused| refused.reason.clone())
    };
    let some = |at_s: Option<i64>| at_s.map(|at_s| rfc3339(Some(at_s)));
    let mut out = output::stdout();
    if options.json {
        let rows: Vec<_> = listings
            .iter()
            .map(|l| {
                json!({"account": l.account, "read": l.events, "published": l.events, "pages": l.pages,
                    "oldest": some(l.oldest_s), "refused": reason(l)})
            })
            .collect();
        let value = json!({
            "since": rfc3339(Some(range.since_s)), "until": rfc3339(Some(range.until_s)), "read": events, "published": events,
            "pages": pages, "oldest": some(oldest), "resumed": is_resumed, "accounts": rows, "disconnected": left_out,
        });
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(["account", "events", "pages", "oldest"]);
    for listing in listings {
        table.add_row([
            listing
                .account
                .clone()
                .unwrap_or_else(|| "the key's own".to_owned()),
            reason(listing).unwrap_or_else(|| listing.events.to_string()),
            listing.pages.to_string(),
            some(listing.oldest_s).unwrap_or_else(|| "–".to_owned()),
        ]);
    }
    writeln!(out, "{table}")?;
    writeln!(
        out,
        "{events} events read and published. Workers apply them. Known events count as duplicates."
    )?;
    if !left_out.is_empty() {
        writeln!(
            out,
            "Skipped, because no longer connected: {}.",
            left_out.join(", ")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(since: &str, until: Option<&str>) -> BackfillArgs {
        BackfillArgs {
            since: since.to_owned(),
            until: until.map(str::to_owned),
            accounts: Vec::new(),
            all_accounts: false,
            rate: 10.0,
            restart: false,
            by: By {
                who: Some("ada".to_owned()),
            },
        }
    }

    #[test]
    fn the_range_must_lie_within_stripes_retention() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().expect("a time");
        let offsets = |since, until| {
            let TimeRange { since_s, until_s } =
                range(&args(since, until), now).map_err(|e| e.to_string())?;
            Ok::<_, String>((now.as_second() - since_s, until_s - now.as_second()))
        };
        assert_eq!(offsets("30d", None), Ok((30 * 86_400, 1)));
        assert_eq!(offsets("2026-11-19", Some("12h")), Ok((129_600, -43_200)));
        for (since, until, expected) in [
            ("31d", None, "30 days"),
            ("2026-03-01", None, "cannot be before 2026-10-21T12:00:00Z"),
            ("2026-12-01", None, "not in the past"),
            ("1h", Some("2h"), "not before"),
            ("yesterday", None, "--since"),
            ("1h", Some("soon"), "--until"),
        ] {
            let error = offsets(since, until).expect_err(since);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_resumed_run_names_its_time_range() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().expect("a time");
        let range = |days: i64| TimeRange {
            since_s: now.as_second() - days * 86_400,
            until_s: now.as_second(),
        };
        assert_eq!(
            resumed(range(7), now),
            "resumed: events of 2026-11-13T12:00:00Z to 2026-11-20T12:00:00Z; --restart begins again"
        );
        let old = resumed(range(31), now);
        assert!(old.contains("those before 2026-10-21T12:00:00Z"), "{old}");
    }
}
