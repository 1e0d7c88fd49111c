//! The examples of the table that compares figures with those of Stripe, ChartMogul and ProfitWell.

use std::collections::BTreeMap;

use fastrand::Rng;
use revwatch_core::kpi::{Billing, Kpis};
use revwatch_core::money::Money;
use serde_json::{Value, json};

use super::{END_S, Memory};

const DAY_S: i64 = 86_400;
const PAGE: &str = include_str!("../../docs/reference/business-metrics.md");
const TITLE: &str = "## Compared with Stripe, ChartMogul and ProfitWell";

/// The events of a business.
#[derive(Default)]
struct Story(Vec<String>);

impl Story {
    /// A change of a subscription so many days ago. `with` replaces fields of one that costs USD 20.00 a month.
    fn add(mut self, id: &str, customer: &str, days_ago: i64, kind: &str, with: &Value) -> Self {
        let mut object = json!({"id": id, "object": "subscription", "customer": customer, "status": "active",
            "currency": "usd", "cancel_at_period_end": false, "discounts": [], "start_date": END_S - 60 * DAY_S,
            "items": {"data": [item(2000, "month", "licensed")]}});
        let fields = with.as_object().expect("fields").clone();
        object.as_object_mut().expect("an object").extend(fields);
        let previous = (kind == "updated").then(|| json!({"status": "trialing"}));
        let n = self.0.len();
        self.0.push(
            json!({"id": format!("evt_{n}"), "object": "event", "created": END_S - days_ago * DAY_S,
                "type": format!("customer.subscription.{kind}"),
                "data": {"object": object, "previous_attributes": previous}})
            .to_string(),
        );
        self
    }

    /// One subscription, since forty days.
    fn of_one(with: &Value) -> Self {
        Self::default().add("sub_1", "cus_1", 40, "created", with)
    }

    /// Two customers with a subscription each, since forty days.
    fn of_two() -> Self {
        let none = json!({});
        Self::of_one(&none).add("sub_2", "cus_2", 40, "created", &none)
    }

    fn billing(&self) -> Billing {
        let mut memory = Memory::default();
        memory.apply(&self.0, &mut Rng::with_seed(1));
        Kpis::compute(&memory.counters, END_S).main.billing
    }

    fn mrr(&self) -> String {
        let billing = self.billing();
        assert_eq!(billing.mrr_incomplete, BTreeMap::new());
        let minor = billing.mrr_minor.get("usd").copied();
        Money::new(minor.unwrap_or(0), "usd").to_string()
    }

    fn churn(&self) -> String {
        percent(self.billing().churn_rate_30d)
    }
}

fn percent(share: Option<f64>) -> String {
    format!("{:.2} %", share.expect("known") * 100.0)
}

fn item(unit_amount: i64, interval: &str, usage_type: &str) -> Value {
    json!({"id": "si_1", "quantity": 1, "price": {"id": "price_1", "currency": "usd", "unit_amount": unit_amount,
        "recurring": {"interval": interval, "interval_count": 1, "usage_type": usage_type}}})
}

fn discount(duration: &str) -> Value {
    let coupon = json!({"id": "HALF", "percent_off": 50.0, "duration": duration});
    json!({"discounts": [{"id": "di_1", "coupon": coupon, "end": null}]})
}

/// What revwatch says of the example of this row.
fn computed(row: &str) -> Option<String> {
    let ends = json!({"status": "canceled"});
    Some(match row {
        "MRR: a yearly price" => {
            Story::of_one(&json!({"items": {"data": [item(120_000, "year", "licensed")]}})).mrr()
        }
        "MRR: past due" => Story::of_one(&json!({"status": "past_due"})).mrr(),
        "MRR: a trial" => Story::of_one(&json!({"status": "trialing"})).mrr(),
        "MRR: cancellation at the end of the period" => {
            Story::of_one(&json!({"cancel_at_period_end": true})).mrr()
        }
        "MRR: a discount with `duration: forever`" => Story::of_one(&discount("forever")).mrr(),
        "MRR: a discount for some months" => Story::of_one(&discount("repeating")).mrr(),
        "MRR: metered usage" => {
            let items = [item(2000, "month", "licensed"), item(5, "month", "metered")];
            Story::of_one(&json!({"items": {"data": items}})).mrr()
        }
        "MRR: inclusive tax" => {
            let rate = json!({"id": "txr_1", "inclusive": true, "percentage": 25.0});
            Story::of_one(&json!({"default_tax_rates": [rate]})).mrr()
        }
        "churn: a new plan by a new subscription" => Story::of_two()
            .add("sub_3", "cus_2", 10, "created", &json!({}))
            .add("sub_2", "cus_2", 9, "deleted", &ends)
            .churn(),
        "churn: one of two subscriptions ends" => Story::of_two()
            .add("sub_3", "cus_2", 40, "created", &json!({}))
            .add("sub_2", "cus_2", 9, "deleted", &ends)
            .churn(),
        "churn: new and lost within the period" => Story::of_one(&json!({}))
            .add("sub_2", "cus_2", 10, "created", &json!({}))
            .add("sub_2", "cus_2", 9, "deleted", &ends)
            .churn(),
        "churn: paused after it paid" => Story::of_two()
            .add("sub_2", "cus_2", 9, "paused", &json!({"status": "paused"}))
            .churn(),
        "churn: the last subscription ends" => Story::of_two()
            .add("sub_2", "cus_2", 9, "deleted", &ends)
            .churn(),
        "recovery within 7 days" => {
            let of = |minor, status| json!({"status": status, "items": {"data": [item(minor, "month", "licensed")]}});
            let story = Story::of_one(&of(1000, "active"))
                .add("sub_2", "cus_2", 40, "created", &of(3000, "active"))
                .add("sub_1", "cus_1", 10, "updated", &of(1000, "past_due"))
                .add("sub_2", "cus_2", 10, "updated", &of(3000, "past_due"))
                .add("sub_1", "cus_1", 7, "updated", &of(1000, "active"));
            format!(
                "{}, of subscriptions",
                percent(story.billing().recovery_rate_7d)
            )
        }
        _ => return None,
    })
}

#[test]
fn the_examples_of_the_comparison_are_computed() {
    let (_, section) = PAGE.split_once(TITLE).expect("the section");
    let (section, _) = section.split_once("\n## ").expect("one follows");
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows.skip(2) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [what, _, here, ..] = cells.as_slice() else {
            panic!("{row}")
        };
        assert_eq!(computed(what).as_deref(), Some(*here), "{what}");
        count += 1;
    }
    assert_eq!(count, 14);
}
