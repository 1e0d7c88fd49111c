//! A member of an organisation, as the application says it. It never changes seats.

use serde_json::json;

use super::{Reported, ReportedKind, id, realm};
use crate::counters::{Bucket, Tally};
use crate::entity::kind::EntityKind;
use crate::entity::reports::{Field, Reports, Step};
use crate::view::column::{Column, Unit, column, time};

/// Marks members.
#[derive(Debug, Clone, Copy)]
pub struct OfMember;

/// A member.
pub type Member = Reported<OfMember>;

impl ReportedKind for OfMember {
    const KIND: EntityKind = EntityKind::Member;

    const COLUMNS: &'static [Column<Member>] = &[
        id(),
        column("organization", Unit::Text, |m| m.text(Field::Organization)),
        column("user_id", Unit::Text, |m| m.text(Field::User)),
        column("role", Unit::Text, |m| m.text(Field::Role)),
        column("status", Unit::Text, |m| json!(status(&m.reports))),
        column("changed_at", Unit::Time, |m| {
            time(m.reports.last_s(Step::RoleChanged))
        }),
        realm(),
    ];

    fn contributions(reports: &Reports, tally: &mut Tally) {
        if !reports.is_empty() {
            tally.add(Bucket::Current, &["members", status(reports)], 1);
        }
    }
}

/// One without a role has left.
fn status(reports: &Reports) -> &'static str {
    match reports.text(Field::Role) {
        Some(_) => "member",
        None => "left",
    }
}
