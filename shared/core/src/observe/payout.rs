//! What an event says about a payout.

use serde::Deserialize;

use super::fields::{Currency, Minor, Reference};
use super::lenient::Lenient;
use super::object::{ObserveError, read};
use super::record::{observation, recorded_state};
use super::settings::ObserveSettings;
use crate::entity::payout::{PayoutFacts, PayoutOrigin};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The payout of a `payout.*` event.
pub(super) fn observe(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: PayoutObject = read(event)?;
    let facts = PayoutFacts {
        status: object.status.required(event, "status")?.into(),
        failure_code: object.failure_code.known(),
        failure_message: object.failure_message.known(),
        reversed_by: object.reversed_by.into_id(),
    };
    let origin = PayoutOrigin {
        account: event.account.as_deref().map(str::to_owned),
        amount_minor: object.amount.amount(event, "amount")?,
        currency: object.currency.into_code(),
        original: object.original_payout.into_id(),
    };
    let id = object.id.id(event)?;
    let update = Update::Payout(origin, recorded_state(event, facts));
    Ok(Some(observation(event, EntityKind::Payout, id, update)))
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct PayoutObject {
    id: Lenient<String>,
    status: Lenient<String>,
    amount: Lenient<Minor>,
    currency: Lenient<Currency>,
    failure_code: Lenient<String>,
    failure_message: Lenient<String>,
    original_payout: Lenient<Reference>,
    reversed_by: Lenient<Reference>,
}
