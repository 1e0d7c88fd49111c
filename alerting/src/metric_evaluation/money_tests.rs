//! What evidence says of money that is known only between bounds.

use revwatch_core::counters::{Bucket, Counters};

use super::tests::{count, evidence_of, rule};
use super::*;
use crate::metric_value::PipelineStatus;

fn drop_of_eur(counters: &Counters) -> Option<Evidence> {
    let fields =
        "kind = \"drop\"\nmetric = \"mrr\"\nby = \"currency\"\nwindow = \"24h\"\nabove = 0.2";
    let inputs = MetricInputs {
        begun_s: None,
        counters,
        pipeline: &PipelineStatus::default(),
        now_s: 100 * 3600,
    };
    match evaluate(&rule(fields), inputs, []).remove("eur") {
        Some(Evaluation::Breached { evidence, .. }) => Some(evidence),
        _ => None,
    }
}

/// 80.00 is 0 to 80.00 now, and 40.00 was cancelled: 40.00 to 120.00 of 120.00 are lost.
#[test]
fn a_fall_between_bounds_is_shown_with_them_and_why() {
    let at_s = 99 * 3600;
    let mut counters = Counters::default();
    counters.add(Bucket::Current, &["events", "applied"], 1);
    counters.add(Bucket::Current, &["mrr_extra", "eur"], 8000);
    counters.add(Bucket::Current, &["mrr_incomplete", "discount"], 1);
    count(&mut counters, at_s, &["mrr_change", "eur"], -12_000);
    count(&mut counters, at_s, &["mrr_extra_change", "eur"], 8000);
    let evidence = drop_of_eur(&counters).expect("it certainly fell");
    let shown = evidence.metric_value.expect("a value");
    assert_eq!(shown.range, Some((Some(1.0 / 3.0), Some(1.0))));
    assert!((shown.value - 1.0 / 3.0).abs() < 1e-9, "{shown:?}");
    assert_eq!(shown.parts, Some((4000, 12_000)));
    assert_eq!(shown.parts_high, Some((Some(12_000), Some(12_000))));
    let money = "EUR 40.00 to EUR 120.00: a discount is named only by its id";
    assert_eq!(evidence.amounts().to_string(), money);
    // Without the cancellation, nothing may have fallen.
    count(&mut counters, at_s, &["mrr_change", "eur"], 4000);
    assert_eq!(drop_of_eur(&counters), None);
}

#[test]
fn a_fall_from_an_unknown_level_is_at_least_so_much() {
    let mut counters = Counters::default();
    counters.add(Bucket::Current, &["events", "applied"], 1);
    counters.add(Bucket::Current, &["mrr", "eur"], 1000);
    counters.add(Bucket::Current, &["mrr_incomplete", "tax"], 1);
    let at_s = 99 * 3600;
    count(&mut counters, at_s, &["mrr_change", "eur"], -4000);
    count(&mut counters, at_s, &["mrr_unbounded_change", "eur"], -1);
    let evidence = drop_of_eur(&counters).expect("it certainly fell");
    let shown = evidence.metric_value.expect("a value");
    assert_eq!(shown.parts, Some((4000, 5000)));
    assert_eq!(shown.parts_high, Some((None, None)));
    // What is not known now is of another currency.
    let money = "at least EUR 40.00: how much it was before is not exactly known";
    assert_eq!(evidence.amounts().to_string(), money);
}

#[test]
fn shares_and_levels_say_what_is_known_of_their_money() {
    let mut counters = Counters::default();
    counters.add(Bucket::Current, &["events", "applied"], 1);
    for (name, value) in [
        ("base|all", 20),
        ("base|past_due", 10),
        ("mrr_past_due|usd", 10_000),
        ("mrr_past_due_unbounded|usd", 10),
        ("mrr_past_due_incomplete|items", 10),
        ("mrr|usd", 10_000),
        ("mrr_unbounded|usd", 10),
        ("mrr|eur", 7),
        ("mrr|jpy", 1000),
        ("mrr_extra|jpy", 500),
        ("mrr_incomplete|items", 10),
        ("mrr_incomplete|discount", 2),
        ("invoices_retrying", 3),
        ("invoices_retrying_minor|usd", 500),
        ("amount_unknown|invoices_retrying_minor", 1),
    ] {
        let parts: Vec<&str> = name.split('|').collect();
        counters.add(Bucket::Current, &parts, value);
    }
    let pages = "10 × events have only the first page of its items";
    let discounts = "2 × a discount is named only by its id";
    for (fields, part, expected) in [
        (
            "metric = \"past_due_share\"\nabove = 0.08",
            "",
            format!("at least USD 100.00: {pages}"),
        ),
        (
            "metric = \"mrr_incomplete\"\nabove = 0",
            "",
            format!("JPY 1,000 to JPY 1,500 + at least USD 100.00: {pages}; {discounts}"),
        ),
        (
            "metric = \"mrr_incomplete\"\nabove = 0\nby = \"reason\"",
            "discount",
            format!("JPY 1,000 to JPY 1,500 + at least USD 100.00: {discounts}"),
        ),
        (
            "metric = \"mrr_past_due\"\nabove = 0\nby = \"currency\"",
            "usd",
            format!("at least USD 100.00: {pages}"),
        ),
        (
            "metric = \"mrr\"\nabove = 0\nby = \"currency\"",
            "jpy",
            format!("JPY 1,000 to JPY 1,500: {pages}; {discounts}"),
        ),
        (
            "metric = \"mrr\"\nabove = 0\nby = \"currency\"",
            "eur",
            String::new(),
        ),
        (
            "metric = \"retry_queue\"\nabove = 0",
            "",
            "USD 5.00 + an unknown amount: the event has no readable amount or currency".to_owned(),
        ),
    ] {
        let evidence = evidence_of(
            &rule(&format!("kind = \"gauge\"\n{fields}")),
            &counters,
            part,
        );
        assert_eq!(evidence.amounts().to_string(), expected, "{fields} {part}");
    }
}
