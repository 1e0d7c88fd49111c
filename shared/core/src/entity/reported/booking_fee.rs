//! A booking fee that a customer owes (B3, B7). A later event of the same booking corrects it.

use serde_json::json;

use super::{Reported, ReportedKind, id, realm};
use crate::counters::{Bucket, Tally};
use crate::entity::kind::EntityKind;
use crate::entity::reports::{Field, Reports, Step};
use crate::view::column::{Column, Unit, column, time};

/// Marks booking fees.
#[derive(Debug, Clone, Copy)]
pub struct OfBookingFee;

/// A booking fee.
pub type BookingFee = Reported<OfBookingFee>;

impl ReportedKind for OfBookingFee {
    const KIND: EntityKind = EntityKind::BookingFee;

    const COLUMNS: &'static [Column<BookingFee>] = &[
        id(),
        column("customer", Unit::Text, |f| f.text(Field::Customer)),
        column("currency", Unit::Text, |f| f.text(Field::Currency)),
        column("amount_minor", Unit::Minor, |f| {
            json!(f.reports.number(Field::AmountMinor))
        }),
        column("charged_at", Unit::Time, |f| {
            time(f.reports.first_s(Step::Charged))
        }),
        column("corrected_at", Unit::Time, |f| {
            let is_corrected = f.reports.first(Step::Charged) != f.reports.last(Step::Charged);
            let last_s = f.reports.last_s(Step::Charged);
            time(last_s.filter(|_| is_corrected))
        }),
        realm(),
    ];

    /// It counts when it was first charged, with what the newest event says.
    fn contributions(reports: &Reports, tally: &mut Tally) {
        let amount = reports.number(Field::AmountMinor);
        let currency = reports.text(Field::Currency);
        let charged_s = reports.first_s(Step::Charged);
        if let (Some(minor), Some(currency), Some(at_s)) = (amount, currency, charged_s) {
            let hour = Bucket::hour_of(at_s);
            tally.add(hour, &["booking_fees", currency], 1);
            tally.add(hour, &["booking_fees_minor", currency], minor);
        }
    }
}
