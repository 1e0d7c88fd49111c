//! What an event says about a connected account.

use serde::Deserialize;

use super::fields::{Fingerprinted, Reference, Seconds, currency, record};
use super::object::{ObserveError, read};
use super::plans::Plans;
use super::record::{observation, recorded_state};
use crate::entity::account::{AccountFacts, AccountUpdate, CapabilityFacts, ExternalAccount};
use crate::entity::{EntityKind, Observation, Update};
use crate::event::Event;

/// The account of an event about it, its capabilities, its payout destinations or its connection.
pub(super) fn observe(event: &Event<'_>, _: &Plans) -> Result<Option<Observation>, ObserveError> {
    let event_type = event.kind.as_ref();
    if event_type.starts_with("v2.") {
        return Ok(thin(event));
    }
    match event_type.rsplit_once('.') {
        Some(("account", "updated")) => snapshot(event),
        Some(("account.application", _)) => Ok(connection(event)),
        Some(("account.external_account", _)) => external_account(event),
        Some(("capability", _)) => capability(event),
        _ => Ok(None),
    }
}

/// The account whose object an event carries: it exists. A thin event carries none, and may come in
/// another account's context.
pub(super) fn seen(event: &Event<'_>) -> Option<Observation> {
    event.object?;
    let account = event.account.as_deref()?;
    let is_account = account.starts_with("acct_");
    is_account.then(|| about_account(event, account, AccountUpdate::Seen))
}

/// The platform's own account is no connected one: its events name no connected account. Source:
/// <https://docs.stripe.com/connect/webhooks>.
fn snapshot(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let object: AccountObject = read(event)?;
    if event.account.as_deref() != Some(object.id.as_str()) {
        return Ok(None);
    }
    let requirements = object.requirements.unwrap_or_default();
    let count = |list: &Fingerprinted<String>| u32::try_from(list.0.len()).unwrap_or(u32::MAX);
    let facts = AccountFacts {
        charges_enabled: object.charges_enabled,
        payouts_enabled: object.payouts_enabled,
        details_submitted: object.details_submitted.unwrap_or(false),
        disabled_reason: requirements.disabled_reason,
        currently_due: count(&requirements.currently_due),
        past_due: count(&requirements.past_due),
        due_fingerprints: (requirements.currently_due.1, requirements.past_due.1),
    };
    let external = object.external_accounts.unwrap_or_default();
    let update = AccountUpdate::Snapshot {
        country: country(object.country.as_deref()),
        created_s: object.created.map(|s| s.0),
        state: recorded_state(event, facts)?,
        has_external_account: !external.data.unwrap_or_default().is_empty()
            || external.total_count.unwrap_or(0) > 0,
    };
    Ok(Some(about_account(event, &object.id, update)))
}

/// The object of `account.application.*` is the application; only the envelope has the account.
fn connection(event: &Event<'_>) -> Option<Observation> {
    let connected = match event.kind.as_ref() {
        "account.application.authorized" => true,
        "account.application.deauthorized" => false,
        _ => return None,
    };
    let update = AccountUpdate::Connection {
        connected,
        event_id: event.id.clone().into_owned(),
    };
    Some(about_account(event, event.account.as_deref()?, update))
}

fn external_account(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let Some(account) = event.account.as_deref() else {
        return Ok(None);
    };
    let object: ExternalAccountObject = read(event)?;
    let view = ExternalAccount {
        last_event: (event.created_s, event.id.clone().into_owned()),
        removed: event.kind == "account.external_account.deleted",
        last4: last4(object.last4.as_deref()),
        country: country(object.country.as_deref()),
        currency: object.currency.map(|code| code.to_ascii_lowercase()),
    };
    Ok(Some(about_account(
        event,
        account,
        AccountUpdate::ExternalAccount {
            id: object.id,
            view,
        },
    )))
}

/// A thin event says that an account changed, but not its new state.
fn thin(event: &Event<'_>) -> Option<Observation> {
    let id = event
        .related_id
        .as_deref()
        .or(event.account.as_deref())
        .filter(|id| id.starts_with("acct_"))?;
    Some(about_account(
        event,
        id,
        AccountUpdate::Thin {
            event_id: event.id.clone().into_owned(),
        },
    ))
}

fn capability(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let object: CapabilityObject = read(event)?;
    let facts = CapabilityFacts {
        status: object.status.into(),
    };
    // As in `snapshot`.
    let Some(account) = event.account.as_deref() else {
        return Ok(None);
    };
    if object.account.as_ref().is_some_and(|of| of.id() != account) {
        return Ok(None);
    }
    let update = AccountUpdate::Capability {
        name: object.id,
        state: recorded_state(event, facts)?,
    };
    Ok(Some(about_account(event, account, update)))
}

/// Two letters (ISO 3166-1). A country becomes a part of counters and labels, so other text is
/// unknown: unlike a currency, no amount depends on it.
fn country(text: Option<&str>) -> Option<String> {
    let is_country = |text: &&str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic());
    text.filter(is_country).map(str::to_ascii_uppercase)
}

/// The last four digits, also if a complete number was sent. Text without them is unknown.
fn last4(text: Option<&str>) -> Option<String> {
    let text = text?;
    let last = text.get(text.len().checked_sub(4)?..)?;
    let is_number = last.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| last.to_owned())
}

fn about_account(event: &Event<'_>, id: &str, update: AccountUpdate) -> Observation {
    observation(event, EntityKind::Account, id, Update::Account(update))
}

#[derive(Deserialize)]
struct AccountObject {
    id: String,
    country: Option<String>,
    created: Option<Seconds>,
    charges_enabled: bool,
    payouts_enabled: bool,
    details_submitted: Option<bool>,
    #[serde(default, deserialize_with = "record")]
    requirements: Option<Requirements>,
    external_accounts: Option<ExternalAccounts>,
}

#[derive(Deserialize, Default)]
struct Requirements {
    disabled_reason: Option<String>,
    #[serde(default)]
    currently_due: Fingerprinted<String>,
    #[serde(default)]
    past_due: Fingerprinted<String>,
}

/// Only whether there are any is read: no numbers, no holders.
#[derive(Deserialize, Default)]
struct ExternalAccounts {
    data: Option<Vec<serde::de::IgnoredAny>>,
    total_count: Option<u64>,
}

#[derive(Deserialize)]
struct CapabilityObject {
    id: String,
    status: String,
    account: Option<Reference>,
}

#[derive(Deserialize)]
struct ExternalAccountObject {
    id: String,
    last4: Option<String>,
    country: Option<String>,
    #[serde(default, deserialize_with = "currency")]
    currency: Option<String>,
}
