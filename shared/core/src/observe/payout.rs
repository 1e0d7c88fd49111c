//! What an event says about a payout.

use serde::Deserialize;

use super::fields::{Minor, required_currency};
use super::object::{ObserveError, read};
use super::plans::Plans;
use super::record::{observation, recorded_state};
use crate::entity::payout::{PayoutFacts, PayoutOrigin};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The payout of a `payout.*` event.
pub(super) fn observe(event: &Event<'_>, _: &Plans) -> Result<Option<Observation>, ObserveError> {
    let object: PayoutObject = read(event)?;
    let facts = PayoutFacts {
        status: object.status.into(),
        failure_code: object.failure_code,
        failure_message: object.failure_message,
    };
    let origin = PayoutOrigin {
        account: event.account.as_deref().map(str::to_owned),
        amount_minor: Some(object.amount.0),
        currency: Some(object.currency.to_ascii_lowercase()),
    };
    let update = Update::Payout(origin, recorded_state(event, facts)?);
    Ok(Some(observation(
        event,
        EntityKind::Payout,
        object.id,
        update,
    )))
}

#[derive(Deserialize)]
struct PayoutObject {
    id: String,
    status: String,
    amount: Minor,
    #[serde(deserialize_with = "required_currency")]
    currency: String,
    failure_code: Option<String>,
    failure_message: Option<String>,
}
