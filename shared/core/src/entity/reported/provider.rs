//! A user of the application who registered as a provider, and may get a connected account (C10, C11, C16).

use serde_json::json;

use super::{Reported, ReportedKind, id, realm};
use crate::counters::{Bucket, Tally, UNKNOWN};
use crate::entity::reports::{Field, Reports, Step};
use crate::view::column::{Column, Unit, column, time};

/// Marks providers.
#[derive(Debug, Clone, Copy)]
pub struct OfProvider;

/// A provider.
pub type Provider = Reported<OfProvider>;

impl ReportedKind for OfProvider {
    const COLUMNS: &'static [Column<Provider>] = &[
        id(),
        column("country", Unit::Text, |p| p.text(Field::Country)),
        column("source", Unit::Text, |p| p.text(Field::Source)),
        column("registered_at", Unit::Time, |p| {
            time(p.reports.first_s(Step::Registered))
        }),
        column("creation_failures", Unit::Count, |p| {
            json!(p.reports.moments(Step::CreationFailed).count())
        }),
        column("last_failure_at", Unit::Time, |p| {
            time(p.reports.last_s(Step::CreationFailed))
        }),
        column("error_code", Unit::Text, |p| p.text(Field::ErrorCode)),
        realm(),
    ];

    fn contributions(reports: &Reports, tally: &mut Tally) {
        let country = reports.text(Field::Country).unwrap_or(UNKNOWN);
        if let Some(registered_s) = reports.first_s(Step::Registered) {
            tally.add(Bucket::Current, &["funnel", "provider_registered"], 1);
            let hour = Bucket::hour_of(registered_s);
            tally.add(hour, &["providers_registered", country], 1);
        }
        for failed_s in reports.moments(Step::CreationFailed) {
            let minute = Bucket::minute_of(failed_s);
            tally.add(minute, &["account_creation_failures"], 1);
        }
    }
}
