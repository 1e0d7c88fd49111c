//! What an event says about a customer.

use serde::Deserialize;

use super::fields::Seconds;
use super::lenient::Lenient;
use super::metadata::Metadata;
use super::object::{ObserveError, read};
use super::record::{observation, recorded_state};
use super::settings::ObserveSettings;
use crate::entity::customer::{CustomerFacts, CustomerOrigin};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The customer of `customer.created`, `customer.updated` or `customer.deleted`.
pub(super) fn observe(
    event: &Event<'_>,
    settings: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: CustomerObject = read(event)?;
    let facts = CustomerFacts {
        deleted: event.kind == "customer.deleted" || object.deleted.known() == Some(true),
    };
    let origin = CustomerOrigin {
        account: event.account.as_deref().map(str::to_owned),
        ids: object.metadata.own_ids(event, &settings.metadata),
        created_s: object.created.known().map(|seconds| seconds.0),
    };
    let id = object.id.id(event)?;
    let update = Update::Customer(origin, recorded_state(event, facts));
    Ok(Some(observation(event, EntityKind::Customer, id, update)))
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct CustomerObject {
    id: Lenient<String>,
    created: Lenient<Seconds>,
    deleted: Lenient<bool>,
    metadata: Lenient<Metadata>,
}
