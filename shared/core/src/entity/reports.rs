//! What the user's application says of one object: the newest value of each field, and when each step was taken.
//!
//! Invariant: merging is commutative, associative and idempotent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::merge::{keep_greater, keep_smaller};
use super::timeline::EventId;

/// Something that an event of the application says to have happened. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// `account.created_by_user`
    CreatedByUser,
    /// `account.creation_failed`
    CreationFailed,
    /// `account_link.generated`
    LinkGenerated,
    /// `account_link.clicked`
    LinkClicked,
    /// `account_link.failed`
    LinkFailed,
    /// `provider.registered`
    Registered,
    /// `job.paid`
    JobPaid,
    /// `ticket.opened`
    Opened,
    /// `ticket.responded`
    Responded,
    /// `ticket.closed`
    Closed,
    /// `usage.booking_fee`
    Charged,
    /// `member.role_changed`
    RoleChanged,
}

/// A field of `data`. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Stripe's id of the customer.
    Customer,
    /// What a ticket is about.
    Topic,
    /// The application's id of a user.
    User,
    /// Two letters.
    Country,
    /// Where a user came from.
    Source,
    /// The code of the newest error.
    ErrorCode,
    /// In the currency's minor unit.
    AmountMinor,
    /// Three letters.
    Currency,
    /// The application's id of an organisation.
    Organization,
    /// What a member may do.
    Role,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FieldValue {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// The event says that there is none.
    None(()),
}

/// What one event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What happened.
    pub step: Step,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// The id under which the event is kept.
    pub event_id: String,
    /// What it says besides.
    pub fields: Vec<(Field, FieldValue)>,
}

/// What is known of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reports {
    /// The newest value of each field: when it was said, by which event, and what.
    fields: BTreeMap<Field, (i64, String, FieldValue)>,
    /// When each step was taken.
    steps: BTreeMap<Step, Moments>,
}

/// When a step was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moments {
    /// The first time, Unix milliseconds, and its event.
    first: Option<(i64, String)>,
    /// The last time.
    last: Option<(i64, String)>,
    /// The newest ones, by a hash of the event.
    newest: BTreeSet<(i64, u64)>,
}

/// Of a step of one object, the newest are remembered one by one, so that an object stays small.
const MOMENTS_KEPT: usize = 1000;

impl Reports {
    /// Merges one event.
    pub fn merge(&mut self, report: &Report) {
        let at_ms = report.at_ms;
        for (field, value) in &report.fields {
            let said = (at_ms, report.event_id.clone(), value.clone());
            self.say(*field, &said);
        }
        let moment = (at_ms, report.event_id.clone());
        let hash = EventId::from(report.event_id.as_str()).hash();
        self.steps.entry(report.step).or_default().union(&Moments {
            first: Some(moment.clone()),
            last: Some(moment),
            newest: BTreeSet::from([(at_ms, hash)]),
        });
    }

    /// See [`super::Entity::union`].
    pub(super) fn union(&mut self, other: &Self) {
        for (field, said) in &other.fields {
            self.say(*field, said);
        }
        for (step, moments) in &other.steps {
            self.steps.entry(*step).or_default().union(moments);
        }
    }

    fn say(&mut self, field: Field, said: &(i64, String, FieldValue)) {
        let kept = self.fields.entry(field).or_insert_with(|| said.clone());
        if *said > *kept {
            kept.clone_from(said);
        }
    }

    /// Whether the application has said nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A text that the newest event with this field says.
    pub fn text(&self, field: Field) -> Option<&str> {
        match &self.fields.get(&field)?.2 {
            FieldValue::Text(text) => Some(text),
            FieldValue::Number(_) | FieldValue::None(()) => None,
        }
    }

    /// A number that the newest event with this field says.
    pub fn number(&self, field: Field) -> Option<i64> {
        match self.fields.get(&field)?.2 {
            FieldValue::Number(number) => Some(number),
            FieldValue::Text(_) | FieldValue::None(()) => None,
        }
    }

    /// When a step was first taken, in Unix milliseconds, and the event that says it.
    pub fn first(&self, step: Step) -> Option<&(i64, String)> {
        self.steps.get(&step)?.first.as_ref()
    }

    /// When a step was last taken, as [`Reports::first`].
    pub fn last(&self, step: Step) -> Option<&(i64, String)> {
        self.steps.get(&step)?.last.as_ref()
    }

    /// [`Reports::first`] in Unix seconds, without the event.
    pub fn first_s(&self, step: Step) -> Option<i64> {
        self.first(step).map(|(at_ms, _)| at_ms.div_euclid(1000))
    }

    /// [`Reports::last`] in Unix seconds, without the event.
    pub fn last_s(&self, step: Step) -> Option<i64> {
        self.last(step).map(|(at_ms, _)| at_ms.div_euclid(1000))
    }

    /// The newest moments of a step, in Unix seconds.
    pub fn moments(&self, step: Step) -> impl Iterator<Item = i64> {
        let moments = self.steps.get(&step).into_iter();
        moments.flat_map(|it| it.newest.iter().map(|(at_ms, _)| at_ms.div_euclid(1000)))
    }

    /// First and last moment of each step, in Unix seconds, with their events, oldest first. One event is there once.
    pub fn named(&self) -> Vec<(i64, &str, Step)> {
        let mut named = BTreeSet::new();
        for (step, moments) in &self.steps {
            for (at_ms, event_id) in moments.first.iter().chain(&moments.last) {
                named.insert((*at_ms, event_id.as_str(), *step));
            }
        }
        let in_seconds =
            |(at_ms, event_id, step): (i64, _, _)| (at_ms.div_euclid(1000), event_id, step);
        named.into_iter().map(in_seconds).collect()
    }
}

impl Moments {
    fn union(&mut self, other: &Self) {
        if let Some(first) = &other.first {
            keep_smaller(&mut self.first, first.clone());
        }
        keep_greater(&mut self.last, &other.last);
        self.newest.extend(&other.newest);
        while self.newest.len() > MOMENTS_KEPT {
            self.newest.pop_first();
        }
    }
}

impl Step {
    /// What happened, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreatedByUser => "account created",
            Self::CreationFailed => "account not created",
            Self::LinkGenerated => "account link generated",
            Self::LinkClicked => "account link clicked",
            Self::LinkFailed => "account link failed",
            Self::Registered => "registered",
            Self::JobPaid => "job paid",
            Self::Opened => "opened",
            Self::Responded => "responded",
            Self::Closed => "closed",
            Self::Charged => "booking fee",
            Self::RoleChanged => "role changed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(n: usize) -> Report {
        let at_ms = i64::try_from(n % 7).expect("small");
        let value = match n % 3 {
            0 => FieldValue::None(()),
            1 => FieldValue::Number(at_ms),
            _ => FieldValue::Text(n.to_string()),
        };
        let step = [Step::Opened, Step::Closed][n % 2];
        Report {
            step,
            at_ms,
            event_id: format!("app_{n}"),
            fields: vec![(Field::Topic, value)],
        }
    }

    #[test]
    fn any_order_and_any_repetition_of_more_than_are_kept_is_the_same() {
        let n = MOMENTS_KEPT * 2 + 50;
        let (mut forward, mut back) = (Reports::default(), Reports::default());
        for report in (0..n).map(report) {
            forward.merge(&report);
        }
        for report in (0..n).rev().chain(0..n / 2).map(report) {
            back.merge(&report);
        }
        assert_eq!(forward, back);
        let mut joined = Reports::default();
        for half in [0..n / 2, n / 3..n] {
            let mut part = Reports::default();
            for report in half.map(report) {
                part.merge(&report);
            }
            joined.union(&part);
        }
        joined.union(&forward);
        assert_eq!(joined, forward);
        assert_eq!(forward.moments(Step::Opened).count(), MOMENTS_KEPT);
        assert_eq!(forward.first_s(Step::Opened), Some(0));
    }
}
