//! `revwatch weekly`: the review of the week (R10): trials that became paid, downgrades, losses, the funnel of providers,
//! and the support tickets.

use std::ops::RangeInclusive;

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
use super::{Section, application, print};

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

/// The hours of a period; no hour is in two of them.
fn hours((from, to): (u32, u32), now_s: i64) -> RangeInclusive<u32> {
    let now = hour_of(now_s);
    let ago = |days: u32| now.saturating_sub(days * 24);
    ago(from).saturating_add(1)..=ago(to)
}

/// What began in each period, and what became of it.
fn billing(counters: &Counters, kpis: &Kpis, now_s: i64) -> Section {
    let figures = counters.of(&Scope::PLATFORM);
    let count = |period, parts: &[&str]| {
        let hours = hours(period, now_s);
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
        is_list: false,
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
    let of = |period| Funnel::compute(counters, Realm::MAIN, hours(period, now_s), None);
    let periods = PERIODS.map(of);
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
        is_list: false,
        title: "Providers who began in these days, by stage (more: `revwatch funnel`)".to_owned(),
        columns: vec![
            "stage",
            "last_7_days",
            "the_7_days_before",
            "60_to_30_days_ago",
            "of_previous_stage_in_the_last_7_days_share",
            "floor_share",
        ],
        rows: stages.map(row).collect(),
    }
}

fn support(kpis: &Kpis) -> Section {
    let application = kpis.main.application.as_ref();
    let tickets = |status: &str| application.map(|it| it.tickets.get(status).copied().unwrap_or(0));
    let responses = application.and_then(|it| it.first_response_seconds_7d.as_ref());
    let percentile = |name: &str| responses.and_then(|it| it.get(name));
    let mean = application.and_then(|it| it.first_response_mean_seconds_7d);
    Section {
        key: "tickets",
        is_list: false,
        title: "Tickets on billing and access now, and first responses of the last 7 days"
            .to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_periods_share_no_hour_and_leave_none_out() {
        let now_s = 1000 * 3600 + 1800;
        let [week, before, _] = PERIODS.map(|period| hours(period, now_s));
        assert_eq!((week.end(), week.clone().count()), (&1000, 7 * 24));
        assert_eq!(before.end() + 1, *week.start());
        assert_eq!(before.count(), 7 * 24);
    }
}
