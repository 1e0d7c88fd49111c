//! What an event of the user's application says. Its `data` is after the schema of its type.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::record::observation;
use crate::entity::account::AccountUpdate;
use crate::entity::reports::{Field, FieldValue, Report, Step};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// What an event of a type is, which object it is about, and the fields that are kept of it.
fn shape(kind: &str) -> Option<(Step, EntityKind, &'static [Field])> {
    use EntityKind as Of;
    use Field as F;
    Some(match kind {
        "account.created_by_user" => (
            Step::CreatedByUser,
            Of::Account,
            &[F::User, F::Country, F::Source],
        ),
        "account.creation_failed" => (
            Step::CreationFailed,
            Of::Provider,
            &[F::Country, F::Source, F::ErrorCode],
        ),
        "account_link.generated" => (Step::LinkGenerated, Of::Account, &[F::User]),
        "account_link.clicked" => (Step::LinkClicked, Of::Account, &[F::User]),
        "account_link.failed" => (Step::LinkFailed, Of::Account, &[F::User, F::ErrorCode]),
        "provider.registered" => (Step::Registered, Of::Provider, &[F::Country, F::Source]),
        "job.paid" => (Step::JobPaid, Of::Account, &[F::AmountMinor, F::Currency]),
        "ticket.opened" => (Step::Opened, Of::Ticket, &[F::Customer, F::Topic]),
        "ticket.responded" => (Step::Responded, Of::Ticket, &[]),
        "ticket.closed" => (Step::Closed, Of::Ticket, &[]),
        "usage.booking_fee" => (
            Step::Charged,
            Of::BookingFee,
            &[F::Customer, F::AmountMinor, F::Currency],
        ),
        "member.role_changed" => (
            Step::RoleChanged,
            Of::Member,
            &[F::Organization, F::User, F::Role],
        ),
        _ => return None,
    })
}

/// The observation of the object that it is about.
pub(super) fn observe(event: &Event<'_>) -> Option<Observation> {
    let (step, kind, fields) = shape(&event.kind)?;
    let data: BTreeMap<String, Value> =
        serde_json::from_str(event.object.map(RawValue::get)?).ok()?;
    let kept = fields.iter().filter_map(|field| {
        let value = data.get(name(*field))?;
        Some((*field, kept(*field, value)?))
    });
    let report = Report {
        step,
        at_ms: event.created_ms,
        event_id: event.id.clone().into_owned(),
        fields: kept.collect(),
    };
    Some(match kind {
        EntityKind::Account => {
            let update = Update::Account(AccountUpdate::Reported(report));
            observation(event, kind, event.account.as_deref()?, update)
        }
        _ => observation(
            event,
            kind,
            event.related_id.as_deref()?,
            Update::Reported(report),
        ),
    })
}

/// The name in `data`.
fn name(field: Field) -> &'static str {
    match field {
        Field::Customer => "customer",
        Field::Topic => "topic",
        Field::User => "user",
        Field::Country => "country",
        Field::Source => "source",
        Field::ErrorCode => "error_code",
        Field::AmountMinor => "amount_minor",
        Field::Currency => "currency",
        Field::Organization => "organization",
        Field::Role => "role",
    }
}

/// JSON may write a whole number as 1000.0 or 1e3.
fn whole(number: &Number) -> Option<i64> {
    let written = || format!("{:.0}", number.as_f64()?).parse().ok();
    number.as_i64().or_else(written)
}

/// Codes are written in one way. Null says something only of a role: there is none any more.
fn kept(field: Field, value: &Value) -> Option<FieldValue> {
    Some(match value {
        Value::String(text) => FieldValue::Text(match field {
            Field::Currency => text.to_ascii_lowercase(),
            Field::Country => text.to_ascii_uppercase(),
            _ => text.clone(),
        }),
        Value::Number(number) => FieldValue::Number(whole(number)?),
        Value::Null if field == Field::Role => FieldValue::None(()),
        _ => return None,
    })
}
