//! A verification: the differences between a store and the recount of its entities.

use serde_json::{Value, json};

use super::text::rfc3339;
use crate::amounts::Amounts;
use crate::condition::Condition;
use crate::counters::Bucket;
use crate::recount::{Comparison, Difference, Misplaced, Misplacement};

/// The header of [`row`].
pub const HEADER: [&str; 4] = ["name", "bucket", "stored", "recomputed"];

/// What a verification did and found.
#[derive(Debug)]
pub struct Verification<'a> {
    /// How many entities were counted.
    pub entities: u64,
    /// How many recounts there were.
    pub recounts: u32,
    /// How many partitions had lost data and were not complete yet.
    pub incomplete_partitions: usize,
    /// What is different in each of the recounts.
    pub comparison: &'a Comparison,
}

/// The verification as JSON.
pub fn describe(verification: &Verification<'_>) -> Value {
    let comparison = verification.comparison;
    let mut counters = Vec::new();
    let mut conditions = Vec::new();
    for difference in &comparison.differences {
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
                ("different", Some(&**stored), Some(&**recomputed))
            }
        };
        conditions.push(json!({"what": what, "stored": stored, "recomputed": recomputed}));
    }
    let misplaced = comparison.misplaced.iter().map(|it| {
        let (what, other) = match it.why {
            Misplacement::Foreign(own) => ("foreign_partition", own),
            Misplacement::Twice(other) => ("twice", other),
        };
        json!({"kind": it.key.kind.as_str(), "id": it.key.id, "what": what, "partition": it.partition,
            "other_partition": other})
    });
    let misplaced: Vec<Value> = misplaced.collect();
    json!({
        "agree": comparison.agrees(), "entities": verification.entities,
        "counters": comparison.counters, "conditions": comparison.conditions, "recounts": verification.recounts,
        "undisturbed": comparison.undisturbed, "incomplete_partitions": verification.incomplete_partitions,
        "differences": {"counters": counters, "conditions": conditions, "entities": misplaced},
    })
}

/// One difference.
pub fn row(difference: &Difference) -> [String; HEADER.len()] {
    match difference {
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
        Difference::MissingCondition(c) => condition_row(c, "missing", &attributes(c)),
        Difference::LeftOverCondition(c) => {
            condition_row(c, &attributes(c), "left over: no entity causes it")
        }
        Difference::OtherCondition { stored, recomputed } => {
            condition_row(stored, &attributes(stored), &attributes(recomputed))
        }
    }
}

/// One misplaced entity.
pub fn misplaced_row(misplaced: &Misplaced) -> [String; HEADER.len()] {
    let expected = match misplaced.why {
        Misplacement::Foreign(own) => format!("partition {own}"),
        Misplacement::Twice(other) => format!("one partition; it is in {other}, too"),
    };
    [
        misplaced.key.to_string(),
        "entity".to_owned(),
        format!("partition {}", misplaced.partition),
        expected,
    ]
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

/// All attributes in which two conditions with the same key may differ.
fn attributes(condition: &Condition) -> String {
    let mut text = format!(
        "since {}, due {}",
        rfc3339(Some(condition.since_s)),
        rfc3339(Some(condition.due_s))
    );
    for part in [
        condition.account.clone(),
        Some(Amounts::from(condition).to_string()).filter(|text| !text.is_empty()),
        condition.detail.clone(),
        condition
            .answer_by_s
            .map(|at_s| format!("answer by {}", rfc3339(Some(at_s)))),
        condition
            .trial_end_s
            .map(|at_s| format!("trial ends {}", rfc3339(Some(at_s)))),
    ]
    .into_iter()
    .flatten()
    {
        text.push_str(", ");
        text.push_str(&part);
    }
    text + ", " + &condition.event_id
}

fn bucket_text(bucket: Bucket) -> String {
    match bucket {
        Bucket::Current => "current".to_owned(),
        Bucket::Hour(hour) => rfc3339(Some(i64::from(hour).saturating_mul(3600))),
        Bucket::Minute(minute) => format!(
            "minute {}",
            rfc3339(Some(i64::from(minute).saturating_mul(60)))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_counter_is_named_with_its_bucket_and_both_values() {
        let comparison = Comparison {
            counters: 7,
            differences: vec![Difference::Counter {
                name: "payouts|paid|usd".into(),
                bucket: Bucket::Current,
                stored: 3,
                recomputed: 2,
                excess: 1..=1,
            }],
            ..Comparison::default()
        };
        let shown = describe(&Verification {
            entities: 5,
            recounts: 2,
            incomplete_partitions: 1,
            comparison: &comparison,
        });
        assert_eq!(
            (&shown["agree"], &shown["recounts"]),
            (&json!(false), &json!(2))
        );
        assert_eq!(
            shown["differences"]["counters"],
            json!([{"name": "payouts|paid|usd", "bucket": "current", "stored": 3, "recomputed": 2}])
        );
        assert_eq!(
            row(&comparison.differences[0]),
            ["payouts|paid|usd", "current", "3", "2"]
        );
    }
}
