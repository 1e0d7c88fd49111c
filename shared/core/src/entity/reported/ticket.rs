//! A support ticket about billing or blocked access (R3, R7, R8).

use serde_json::json;

use super::{Reason, Reported, ReportedKind, id, realm};
use crate::condition::ConditionKind;
use crate::counters::{Bucket, Tally};
use crate::entity::kind::EntityKind;
use crate::entity::reports::{Field, Reports, Step};
use crate::histogram;
use crate::view::column::{Column, Unit, column, time};

/// Marks tickets.
#[derive(Debug, Clone, Copy)]
pub struct OfTicket;

/// A ticket.
pub type Ticket = Reported<OfTicket>;

impl ReportedKind for OfTicket {
    const KIND: EntityKind = EntityKind::Ticket;

    const COLUMNS: &'static [Column<Ticket>] = &[
        id(),
        column("customer", Unit::Text, |t| t.text(Field::Customer)),
        column("topic", Unit::Text, |t| t.text(Field::Topic)),
        column("status", Unit::Text, |t| json!(status(&t.reports))),
        column("opened_at", Unit::Time, |t| {
            time(t.reports.first_s(Step::Opened))
        }),
        column("responded_at", Unit::Time, |t| {
            time(t.reports.first_s(Step::Responded))
        }),
        column("closed_at", Unit::Time, |t| time(closed_s(&t.reports))),
        column("first_response_seconds", Unit::Seconds, |t| {
            json!(first_response_seconds(&t.reports))
        }),
        realm(),
    ];

    /// A first response counts when it was given.
    fn contributions(reports: &Reports, tally: &mut Tally) {
        let Some(opened_s) = reports.first_s(Step::Opened) else {
            return;
        };
        tally.add(Bucket::Current, &["tickets", status(reports)], 1);
        tally.add(Bucket::hour_of(opened_s), &["tickets_opened"], 1);
        let responded_s = reports.first_s(Step::Responded);
        if let Some((at_s, seconds)) = responded_s.zip(first_response_seconds(reports)) {
            let hour = Bucket::hour_of(at_s);
            let bucket = histogram::bucket(seconds).to_string();
            tally.add(hour, &["first_response", "count"], 1);
            tally.add(hour, &["first_response", "seconds"], seconds);
            tally.add(hour, &["first_response_bucket", &bucket], 1);
        }
    }

    /// It waits since it was opened, or opened again.
    fn condition(reports: &Reports) -> Option<Reason> {
        let (opened_ms, event_id) = reports.last(Step::Opened)?;
        (status(reports) == UNANSWERED).then(|| Reason {
            kind: ConditionKind::TicketUnanswered,
            since: (opened_ms.div_euclid(1000), event_id.clone()),
            detail: reports.text(Field::Topic).map(str::to_owned),
        })
    }
}

/// By so much the clocks of two programs may differ.
const CLOCKS_DIFFER_S: i64 = 60;

/// The status of an open ticket without a first response.
const UNANSWERED: &str = "unanswered";

/// `unknown`: no event says that it was opened.
fn status(reports: &Reports) -> &'static str {
    match reports.first_s(Step::Opened) {
        None => "unknown",
        Some(_) if closed_s(reports).is_some() => "closed",
        Some(_) if reports.first_s(Step::Responded).is_some() => "responded",
        Some(_) => UNANSWERED,
    }
}

/// When it was closed, unless it was opened again later.
fn closed_s(reports: &Reports) -> Option<i64> {
    let (closed_ms, _) = reports.last(Step::Closed)?;
    let opened = reports.last(Step::Opened);
    let is_open = opened.is_some_and(|(opened_ms, _)| opened_ms > closed_ms);
    (!is_open).then(|| closed_ms.div_euclid(1000))
}

/// From the first opening to the first response. Two programs may have clocks that differ a little; of a response that
/// came before, nothing is known.
fn first_response_seconds(reports: &Reports) -> Option<i64> {
    let opened_s = reports.first_s(Step::Opened)?;
    let responded_s = reports.first_s(Step::Responded)?;
    let seconds = responded_s.saturating_sub(opened_s);
    (seconds >= -CLOCKS_DIFFER_S).then(|| seconds.max(0))
}
