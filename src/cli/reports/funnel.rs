//! `revwatch funnel`: from a registered provider to its first payment.

use std::collections::BTreeSet;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use revwatch_core::bucket::{Buckets, HOURS_KEPT_DAYS, hour_of};
use revwatch_core::kpi::application::{is_silent, newest_received_hour};
use revwatch_core::kpi::funnel::{By, Funnel, StageFigures};
use revwatch_core::realm::Realm;
use revwatch_core::view::rfc3339;
use revwatch_runtime::backend::Backend;
use serde_json::{Value, json};

use super::super::completeness::{Partial, Shown};
use super::super::global_options::GlobalOptions;
use super::super::time::past;
use super::{Section, print};

/// Options of `funnel`.
#[derive(Debug, Args)]
pub struct FunnelArgs {
    /// Of those who began since: 2026-03-01, 2026-03-01T00:00:00Z, or an age such as 36h or 7d, at most 399d.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: String,
    /// Of those who began until then.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    until: String,
    /// Divide it.
    #[arg(long, value_enum)]
    by: Option<Dimension>,
    /// Of which of your own Stripe accounts.
    #[arg(long, value_name = "NAME", default_value = "main")]
    realm: String,
    #[command(flatten)]
    partial: Partial,
}

/// What divides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dimension {
    /// Two letters.
    Country,
    /// Where the providers came from, as your application says it.
    Source,
    /// The day of the week on which they registered (UTC).
    Weekday,
    /// The day on which they registered (UTC).
    Day,
}

/// Counters of older hours are not kept.
const MAX_DAYS: i64 = HOURS_KEPT_DAYS as i64 - 1;

/// Runs `funnel`.
pub async fn run(options: &GlobalOptions, args: &FunnelArgs) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let [since, until] = [("--since", &args.since), ("--until", &args.until)]
        .map(|(option, text)| past(option, text, now));
    let (since_s, until_s) = (since?.as_second(), until?.as_second());
    ensure!(since_s < until_s, "--since must be before --until");
    let oldest_s = now.as_second() - MAX_DAYS * 86_400;
    ensure!(
        since_s >= oldest_s,
        "--since must be at most {MAX_DAYS}d ago: older hours are not kept"
    );
    let realm = Realm::named(&args.realm)
        .map_err(|error| anyhow::anyhow!("--realm {:?}: {error}", args.realm))?;
    let config = options.config()?;
    let store = Backend::store(&config).await?;
    // An hour that begins with `until` is no part of the period.
    let hours = hour_of(since_s)..=hour_of(until_s - 1);
    let buckets = Buckets {
        // Until now: whether the application speaks today decides what is known.
        hours: *hours.start()..=hour_of(now.as_second()),
        minutes_of: BTreeSet::new(),
    };
    let counters = async { Ok(store.counters(&buckets).await?) };
    let partial = args.partial;
    let counters = partial
        .read(store.as_ref(), Shown::Entities, counters)
        .await?;
    let known = counters.realms();
    ensure!(
        realm == Realm::MAIN || known.contains(&realm),
        "--realm {:?} is not known: there are {}",
        args.realm,
        realms(&known)
    );
    let funnel = Funnel::compute(&counters, realm, hours, args.by.map(By::from));
    let is_silent = is_silent(newest_received_hour(&counters), now.as_second());
    let about = [
        ("since", json!(rfc3339(Some(since_s)))),
        ("until", json!(rfc3339(Some(until_s)))),
        ("conversion_share", json!(funnel.conversion)),
        ("conversion_target_share", json!(funnel.conversion_target)),
        ("status", json!(status(&funnel))),
        (
            "completeness",
            json!(completeness(&funnel, since_s, is_silent)),
        ),
    ];
    print(options, &about, &sections(&funnel, args.by))
}

impl From<Dimension> for By {
    fn from(dimension: Dimension) -> Self {
        match dimension {
            Dimension::Country => Self::Country,
            Dimension::Source => Self::Source,
            Dimension::Weekday => Self::Weekday,
            Dimension::Day => Self::Day,
        }
    }
}

/// `main`, and those of which anything is known.
fn realms(known: &BTreeSet<Realm>) -> String {
    let names: BTreeSet<&str> = known
        .iter()
        .map(Realm::as_str)
        .chain([Realm::main().as_str()])
        .collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn status(funnel: &Funnel) -> &'static str {
    match funnel.conversion {
        None => "not known: nothing began in this period",
        Some(share) if share < funnel.conversion_target => "attention: below the target",
        Some(_) => "good",
    }
}

fn completeness(funnel: &Funnel, since_s: i64, is_silent: bool) -> String {
    const DAY_S: i64 = 86_400;
    if !funnel.has_registrations {
        let what = "begins with the account, and has begun when Stripe's form was submitted: no provider.registered is known of \
                    this period (docs/application.md)";
        return what.to_owned();
    }
    if is_silent {
        let what =
            "the application has been silent for a day: what it did not say since then is missing";
        return what.to_owned();
    }
    match funnel.registrations_since_s {
        Some(at_s) if at_s > since_s + DAY_S => {
            let at = rfc3339(Some(at_s));
            format!(
                "who registered before {at} may be missing: no registration is known of the time before"
            )
        }
        _ => "complete, for accounts whose providers registered".to_owned(),
    }
}

fn sections(funnel: &Funnel, by: Option<Dimension>) -> Vec<Section> {
    let mut sections = vec![Section {
        key: "stages",
        is_list: false,
        title: "Stages".to_owned(),
        columns: vec![
            "stage",
            "reached",
            "of_first_share",
            "target_share",
            "of_previous_share",
            "floor_share",
            "not_reached",
            "mean_seconds",
            "target_seconds",
            "alert_above_seconds",
            "action",
        ],
        rows: funnel.stages.iter().map(stage_row).collect(),
    }];
    if by.is_some() {
        let names = funnel.stages.iter().map(|it| it.stage);
        let rows = funnel.segments.iter().map(|(segment, stages)| {
            let last = stages.last().and_then(|it| it.of_first);
            let reached = stages.iter().map(|it| json!(it.reached));
            let segment = std::iter::once(json!(segment));
            segment.chain(reached).chain([json!(last)]).collect()
        });
        sections.push(Section {
            key: "segments",
            is_list: false,
            title: "Segments".to_owned(),
            columns: std::iter::once("segment")
                .chain(names)
                .chain(["conversion_share"])
                .collect(),
            rows: rows.collect(),
        });
    }
    sections
}

fn stage_row(it: &StageFigures) -> Vec<Value> {
    vec![
        json!(it.stage),
        json!(it.reached),
        json!(it.of_first),
        json!(it.target),
        json!(it.of_previous),
        json!(it.floor),
        json!(it.lost),
        json!(it.mean_seconds),
        json!(it.target_seconds),
        json!(it.alert_seconds),
        json!(it.action),
    ]
}
