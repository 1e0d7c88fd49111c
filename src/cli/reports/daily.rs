//! `revwatch daily`: the round of the day (R2, R3): who is past due, who was lost, who waits for an answer, and which
//! deliveries were repeats.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use revwatch_core::condition::{Condition, ConditionKind};
use revwatch_core::entity::reports::{Field, Step};
use revwatch_core::entity::{Entity, EntityKind};
use revwatch_core::kpi::{Kpis, buckets_needed};
use revwatch_core::money::Money;
use revwatch_core::view::rfc3339;
use revwatch_runtime::backend::Backend;
use revwatch_storage::ports::StateStore;
use serde_json::{Value, json};

use super::super::completeness::{Partial, Shown};
use super::super::export::each;
use super::super::global_options::GlobalOptions;
use super::super::time::past;
use super::{Section, application, money, print};

/// Options of `daily`.
#[derive(Debug, Args)]
pub struct DailyArgs {
    /// Cancellations and booking fees since: 2026-03-01, 2026-03-01T00:00:00Z, or an age such as 24h.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    since: String,
    #[command(flatten)]
    partial: Partial,
}

/// What the store is read for.
struct State {
    conditions: Vec<Condition>,
    canceled: Vec<Canceled>,
    fees: Vec<Fee>,
    kpis: Kpis,
}

/// A subscription that ended.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Canceled {
    at_s: i64,
    id: String,
    customer: Option<String>,
    account: Option<String>,
    plan: Option<String>,
}

/// A booking fee.
struct Fee {
    charged_s: i64,
    customer: Option<String>,
    /// `None`: not known.
    money: Option<Money>,
}

/// Runs `daily`.
pub async fn run(options: &GlobalOptions, args: &DailyArgs) -> anyhow::Result<()> {
    let now_s = Timestamp::now().as_second();
    let since_s = past("--since", &args.since, Timestamp::now())?.as_second();
    let config = options.config()?;
    let store = Backend::store(&config).await?;
    let reading = State::read(store.as_ref(), since_s, now_s);
    let state = args
        .partial
        .read(store.as_ref(), Shown::Entities, reading)
        .await?;
    let about = [
        ("since", json!(rfc3339(Some(since_s)))),
        ("until", json!(rfc3339(Some(now_s)))),
        ("application", json!(application(&state.kpis))),
    ];
    print(options, &about, &state.sections(now_s))
}

impl State {
    async fn read(store: &dyn StateStore, since_s: i64, now_s: i64) -> anyhow::Result<Self> {
        let mut canceled = Vec::new();
        each(store, EntityKind::Subscription, &mut |_, entity| {
            canceled.extend(Canceled::of(&entity).filter(|it| it.at_s >= since_s));
        })
        .await?;
        canceled.sort();
        let mut fees = Vec::new();
        each(store, EntityKind::BookingFee, &mut |_, entity| {
            fees.extend(Fee::of(&entity).filter(|it| (since_s..=now_s).contains(&it.charged_s)));
        })
        .await?;
        Ok(Self {
            conditions: store.conditions().await?,
            canceled,
            fees,
            kpis: Kpis::compute(&store.counters(&buckets_needed(now_s)).await?, now_s),
        })
    }

    fn sections(&self, now_s: i64) -> Vec<Section> {
        vec![
            self.past_due(now_s),
            self.canceled(),
            self.unanswered(now_s),
            fees(&self.fees),
            self.processing(),
        ]
    }

    fn of_kind(&self, kind: ConditionKind) -> Vec<&Condition> {
        let mut found: Vec<&Condition> = self
            .conditions
            .iter()
            .filter(|it| it.key.kind == kind)
            .collect();
        found.sort_by_key(|it| (it.since_s, it.key.subject.id.clone()));
        found
    }

    fn past_due(&self, now_s: i64) -> Section {
        let row = |it: &&Condition| {
            vec![
                json!(it.key.subject.id),
                json!(it.customer),
                json!(it.account),
                json!(rfc3339(Some(it.since_s))),
                json!(now_s.saturating_sub(it.since_s)),
                it.money.as_ref().map_or(Value::Null, money),
            ]
        };
        Section {
            key: "past_due",
            is_list: true,
            title: "Past due now".to_owned(),
            columns: vec![
                "subscription",
                "customer",
                "account",
                "since",
                "for_seconds",
                "monthly",
            ],
            rows: self
                .of_kind(ConditionKind::PastDue)
                .iter()
                .map(row)
                .collect(),
        }
    }

    fn canceled(&self) -> Section {
        let row = |it: &Canceled| {
            vec![
                json!(it.id),
                json!(it.customer),
                json!(it.account),
                json!(it.plan),
                json!(rfc3339(Some(it.at_s))),
            ]
        };
        Section {
            key: "canceled",
            is_list: true,
            title: "Canceled since then".to_owned(),
            columns: vec!["subscription", "customer", "account", "plan", "canceled_at"],
            rows: self.canceled.iter().map(row).collect(),
        }
    }

    fn unanswered(&self, now_s: i64) -> Section {
        let row = |it: &&Condition| {
            vec![
                json!(it.key.subject.id),
                json!(it.customer),
                json!(it.detail),
                json!(rfc3339(Some(it.since_s))),
                json!(now_s.saturating_sub(it.since_s)),
            ]
        };
        let waiting = self.of_kind(ConditionKind::TicketUnanswered);
        Section {
            key: "tickets_unanswered",
            is_list: true,
            title: "Tickets without a first response".to_owned(),
            columns: vec!["ticket", "customer", "topic", "opened_at", "waits_seconds"],
            rows: waiting.iter().map(row).collect(),
        }
    }

    /// The proof that nothing is counted twice is in two parts: repeats that were recognised, and `revwatch verify`.
    fn processing(&self) -> Section {
        let kpis = &self.kpis;
        let counted = [
            ("applied, each once", kpis.events_applied),
            ("repeats that were recognised", kpis.events_duplicate),
            ("of types that change nothing", kpis.events_ignored),
            ("became dead letters", kpis.events_dead),
        ];
        Section {
            key: "deliveries",
            is_list: false,
            title: "Deliveries since the beginning (`revwatch verify` recounts what they made)"
                .to_owned(),
            columns: vec!["deliveries", "count"],
            rows: counted
                .map(|(name, count)| vec![json!(name), json!(count)])
                .into(),
        }
    }
}

impl Canceled {
    fn of(entity: &Entity) -> Option<Self> {
        let Entity::Subscription(subscription) = entity else {
            return None;
        };
        Some(Self {
            at_s: subscription.canceled_since_s()?,
            id: subscription.id.clone(),
            customer: subscription.origin.customer.clone(),
            account: subscription.origin.account.clone(),
            plan: subscription.current().map(|facts| facts.plan.clone()),
        })
    }
}

impl Fee {
    fn of(entity: &Entity) -> Option<Self> {
        let Entity::BookingFee(fee) = entity else {
            return None;
        };
        let reports = &fee.reports;
        Some(Self {
            charged_s: reports.first_s(Step::Charged)?,
            customer: reports.text(Field::Customer).map(str::to_owned),
            money: Money::known(
                reports.number(Field::AmountMinor),
                reports.text(Field::Currency),
            ),
        })
    }
}

/// By customer and day (UTC). Amounts that are not known are in a row of their own.
fn fees(fees: &[Fee]) -> Section {
    type Key<'a> = (String, Option<&'a str>, Option<&'a str>);
    let mut sums = BTreeMap::<Key<'_>, (i64, i64)>::new();
    for Fee {
        charged_s,
        customer,
        money,
    } in fees
    {
        let day = rfc3339(Some(*charged_s))[..10].to_owned();
        let currency = money.as_ref().map(|it| it.currency.as_str());
        let key = (day, customer.as_deref(), currency);
        let (count, minor) = sums.entry(key).or_default();
        *count = count.saturating_add(1);
        *minor = minor.saturating_add(money.as_ref().map_or(0, |it| it.minor));
    }
    let row = |((day, customer, currency), (count, minor)): (Key<'_>, (i64, i64))| {
        let amount = currency.map(|currency| money(&Money::new(minor, currency)));
        vec![json!(day), json!(customer), json!(count), json!(amount)]
    };
    Section {
        key: "booking_fees",
        is_list: false,
        title: "Booking fees since then, by day and customer".to_owned(),
        columns: vec!["day", "customer", "count", "amount"],
        rows: sums.into_iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_add_up_by_day_customer_and_currency() {
        let fee = |charged_s, customer: &str, minor, currency| Fee {
            charged_s,
            customer: Some(customer.to_owned()),
            money: Some(Money::new(minor, currency)),
        };
        let unknown = Fee {
            charged_s: 0,
            customer: None,
            money: None,
        };
        let all = [
            fee(0, "cus_1", 250, "usd"),
            fee(86_399, "cus_1", 50, "usd"),
            fee(86_400, "cus_1", 7, "usd"),
            fee(0, "cus_1", 9, "brl"),
            fee(0, "cus_2", 1, "usd"),
            unknown,
        ];
        let amount =
            |minor: i64, currency: &str| json!({"amount_minor": minor, "currency": currency});
        let row = |day: &str, customer: &str, count: i64, amount| {
            vec![json!(day), json!(customer), json!(count), amount]
        };
        assert_eq!(
            fees(&all).rows,
            [
                vec![json!("1970-01-01"), Value::Null, json!(1), Value::Null],
                row("1970-01-01", "cus_1", 1, amount(9, "brl")),
                row("1970-01-01", "cus_1", 2, amount(300, "usd")),
                row("1970-01-01", "cus_2", 1, amount(1, "usd")),
                row("1970-01-02", "cus_1", 1, amount(7, "usd")),
            ]
        );
    }
}
