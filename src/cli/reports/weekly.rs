//! `revwatch weekly`: the review of the week (R10): trials that became paid, downgrades, losses, the funnel of providers,
//! and the support tickets.

use clap::Args;
use jiff::Timestamp;
use revwatch_core::bucket::{Buckets, hour_of};
use revwatch_core::class::Scope;
use revwatch_core::counters::{Bucket, Counters, sum};
use revwatch_core::kpi::Kpis;
use revwatch_core::kpi::funnel::Funnel;
use revwatch_core::realm::Realm;
use revwatch_core::view::rfc3339;
use revwatch_runtime::backend::Backend;
use serde_json::{Value, json};

use super::super::completeness::{Partial, Shown};
use super::super::global_options::GlobalOptions;
use super::daily::application;
use super::{Section, print};

/// Options of `weekly`.
#[derive(Debug, Args)]
pub struct WeeklyArgs {
    #[command(flatten)]
    partial: Partial,
}

/// Of the last week, of the week before, and of the 30 days that ended 30 days ago: their outcomes are known.
const PERIODS: [(u32, u32); 3] = [(7, 0), (14, 7), (60, 30)];

/// Runs `weekly`.
pub async fn run(options: &GlobalOptions, args: &WeeklyArgs) -> anyhow::Result<()> {
    let now_s = Timestamp::now().as_second();
    let config = options.config()?;
    let store = Backend::store(&config).await?;
    let buckets: Buckets = revwatch_core::kpi::buckets_needed(now_s);
    let counters = async { Ok(store.counters(&buckets).await?) };
    let counters = args
        .partial
        .read(store.as_ref(), Shown::Entities, counters)
        .await?;
    let kpis = Kpis::compute(&counters, now_s);
    let week_ago_s = now_s - 7 * 86_400;
    let about = [
        ("since", json!(rfc3339(Some(week_ago_s)))),
        ("until", json!(rfc3339(Some(now_s)))),
        ("application", json!(application(&kpis))),
        (
            "avoidable_churn",
            json!("not known: the reasons of cancellations are not kept"),
        ),
    ];
    let sections = [
        billing(&counters, &kpis, now_s),
        funnel(&counters, now_s),
        support(&kpis),
    ];
    print(options, &about, &sections)
}

/// What began in each period, and what became of it.
fn billing(counters: &Counters, kpis: &Kpis, now_s: i64) -> Section {
    let figures = counters.of(&Scope::PLATFORM);
    let ago = |days: u32| hour_of(now_s).saturating_sub(days * 24);
    let count = |(from, to): (u32, u32), parts: &[&str]| {
        let hours = ago(from)..ago(to).saturating_add(u32::from(to == 0));
        sum(hours.map(|hour| figures.get(Bucket::Hour(hour), parts)))
    };
    let all: [(&str, &[&str]); 8] = [
        ("trials started", &["trial", "started"]),
        ("of them converted to paid", &["trial", "converted"]),
        ("subscribers gained", &["churn", "gained"]),
        ("subscribers lost", &["churn", "lost"]),
        ("downgrades", &["plan", "downgraded"]),
        (
            "of them lost within 30 days",
            &["plan", "downgraded_lost_30d"],
        ),
        ("became past due", &["dunning", "entered"]),
        (
            "of them active again within 7 days",
            &["dunning", "recovered_7d"],
        ),
    ];
    let subscriptions = "subscriptions";
    let is_unknown = kpis.main.is_unknown(subscriptions);
    let row = |(name, parts): (&str, &[&str])| -> Vec<Value> {
        let counts = PERIODS.map(|period| match is_unknown {
            true => Value::Null,
            false => json!(count(period, parts)),
        });
        std::iter::once(json!(name)).chain(counts).collect()
    };
    Section {
        key: "billing",
        title: "Subscriptions".to_owned(),
        columns: vec![
            "what",
            "last_7_days",
            "the_7_days_before",
            "60_to_30_days_ago",
        ],
        rows: all.into_iter().map(row).collect(),
    }
}

fn funnel(counters: &Counters, now_s: i64) -> Section {
    let now = hour_of(now_s);
    let of = |from: u32, to: u32| {
        let hours = now.saturating_sub(from * 24)..=now.saturating_sub(to * 24);
        Funnel::compute(counters, Realm::MAIN, hours, None)
    };
    let periods = PERIODS.map(|(from, to)| of(from, to));
    let stages = periods[0].stages.iter().enumerate();
    let row = |(n, stage): (usize, &revwatch_core::kpi::funnel::StageFigures)| -> Vec<Value> {
        let reached = periods.iter().map(|it| json!(it.stages[n].reached));
        let shares = [json!(stage.of_previous), json!(stage.floor)];
        std::iter::once(json!(stage.stage))
            .chain(reached)
            .chain(shares)
            .collect()
    };
    Section {
        key: "funnel",
        title: "Providers who began in these days, by stage (more: `revwatch funnel`)".to_owned(),
        columns: vec![
            "stage",
            "last_7_days",
            "the_7_days_before",
            "60_to_30_days_ago",
            "of_previous_share",
            "floor_share",
        ],
        rows: stages.map(row).collect(),
    }
}

fn support(kpis: &Kpis) -> Section {
    let application = kpis.main.application.as_ref();
    let tickets = |status: &str| application.map(|it| it.tickets.get(status).copied().unwrap_or(0));
    let percentile = |name: &str| application.and_then(|it| it.first_response_seconds_7d.get(name));
    let mean = application.and_then(|it| it.first_response_mean_seconds_7d);
    Section {
        key: "tickets",
        title: "Tickets on billing and access".to_owned(),
        columns: vec![
            "unanswered",
            "responded",
            "closed",
            "first_response_mean_seconds",
            "p50_seconds",
            "p90_seconds",
        ],
        rows: vec![vec![
            json!(tickets("unanswered")),
            json!(tickets("responded")),
            json!(tickets("closed")),
            json!(mean),
            json!(percentile("p50")),
            json!(percentile("p90")),
        ]],
    }
}
