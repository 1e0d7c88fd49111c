//! What an event says about a connected account.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::fields::{Currency, Fingerprinted, Minor, Reference, Seconds};
use super::lenient::Lenient;
use super::metadata::Metadata;
use super::object::{ObserveError, read};
use super::record::{observation, recorded_state};
use super::settings::ObserveSettings;
use super::ways;
use crate::entity::account::balance::Balance;
use crate::entity::account::{
    AccountFacts, AccountUpdate, CapabilityFacts, ExternalAccount, RequirementNames, Shown,
};
use crate::entity::timeline::Changes;
use crate::entity::{EntityKind, Observation, Update};
use crate::event::{Event, FETCHED};

/// The account of an event about it, its capabilities, its payout destinations or its connection.
pub(super) fn observe(
    event: &Event<'_>,
    settings: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let event_type = event.kind.as_ref();
    match event_type.rsplit_once('.') {
        Some(("account", "updated")) => snapshot(event, settings),
        Some(("account.application", _)) => Ok(connection(event)),
        Some(("account.external_account", _)) => external_account(event),
        Some(("capability", _)) => capability(event),
        Some(("balance", "available")) => balance(event),
        _ => Ok(None),
    }
}

/// The account whose object an event carries: it exists, and may have taken a payment.
pub(super) fn seen(event: &Event<'_>) -> Option<Observation> {
    event.object?;
    let account = event.account.as_deref()?;
    let update = match took_payment(event) {
        true => AccountUpdate::Paid,
        false => AccountUpdate::Seen,
    };
    let is_account = account.starts_with("acct_");
    is_account.then(|| about_account(event, account, update))
}

/// A charge that is only authorized has succeeded, too.
/// Source: <https://docs.stripe.com/api/charges/object#charge_object-captured>.
fn took_payment(event: &Event<'_>) -> bool {
    match event.kind.as_ref() {
        "payment_intent.succeeded" | "charge.captured" => true,
        "charge.succeeded" => {
            let charge = read::<ChargeObject>(event);
            charge.is_ok_and(|charge| charge.captured.known() == Some(true))
        }
        _ => false,
    }
}

/// The platform's own account is no connected one: its events name no connected account. Source:
/// <https://docs.stripe.com/connect/webhooks>.
fn snapshot(
    event: &Event<'_>,
    settings: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    let object: AccountObject = read(event)?;
    let id = object.id.id(event)?;
    if event.account.as_deref() != Some(id.as_str()) {
        return Ok(None);
    }
    let requirements = object.requirements.known().unwrap_or_default();
    let due_fingerprints = (requirements.currently_due.1, requirements.past_due.1);
    let requirement_names = requirements.names(event.created_s);
    let count = |list: Fingerprinted<Vec<String>>| {
        let list = list.0.known()?;
        Some(u32::try_from(list.len()).unwrap_or(u32::MAX))
    };
    let facts = AccountFacts {
        charges_enabled: object.charges_enabled.required(event, "charges_enabled")?,
        payouts_enabled: object.payouts_enabled.required(event, "payouts_enabled")?,
        details_submitted: object.details_submitted.known(),
        reason_is_unknown: requirements.disabled_reason.is_odd(),
        disabled_reason: requirements.disabled_reason.known(),
        currently_due: count(requirements.currently_due),
        past_due: count(requirements.past_due),
        due_fingerprints,
    };
    let external = object.external_accounts.known().unwrap_or_default();
    let state = recorded_state(event, facts);
    let update = AccountUpdate::Snapshot {
        country: country(object.country.as_known()),
        created_s: object.created.known().map(|s| s.0),
        external_account: external_account_shown(event, &external, &state.changes),
        ids: object.metadata.ids(event, &settings.metadata),
        requirement_names,
        state,
    };
    Ok(Some(about_account(event, &id, update)))
}

/// Of nested objects, `previous_attributes` has only the changed fields.
fn external_account_shown(
    event: &Event<'_>,
    external: &ExternalAccounts,
    changes: &Changes,
) -> Shown {
    let now = external.has_any();
    let previous = event.previous.filter(|_| changes.fields().is_some());
    let before = match previous.map(|p| ways::read::<Previous>(p.get())) {
        None if event.id.starts_with(FETCHED) => None,
        None | Some(Err(_)) => Some(false),
        Some(Ok(previous)) => match previous.external_accounts {
            Lenient::Known(before) => before.has_any().or(now),
            Lenient::Absent => now,
            Lenient::Odd => None,
        },
    };
    Shown { before, now }
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
        last4: last4(object.last4.as_known()),
        country: country(object.country.as_known()),
        currency: object.currency.into_code(),
    };
    let update = AccountUpdate::ExternalAccount {
        id: object.id.id(event)?,
        added: event.kind == "account.external_account.created",
        view,
    };
    Ok(Some(about_account(event, account, update)))
}

/// A thin event says that an account changed, but not its new state. A closed one has none: Stripe lets
/// nothing be done with it any more (<https://docs.stripe.com/api/v2/core/accounts/close>).
pub(super) fn mentioned(event: &Event<'_>, id: &str) -> Observation {
    let event_id = event.id.clone().into_owned();
    let update = match event.kind.as_ref() {
        "v2.core.account.closed" => AccountUpdate::Closed { event_id },
        _ => AccountUpdate::Thin { event_id },
    };
    about_account(event, id, update)
}

fn capability(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let object: CapabilityObject = read(event)?;
    let requirements = object.requirements.known().unwrap_or_default();
    let needs = requirements.currently_due.known();
    let facts = CapabilityFacts {
        status: object.status.required(event, "status")?.into(),
        disabled_reason: requirements.disabled_reason.known(),
        requested: object.requested.known(),
    };
    let name = object.id.id(event)?;
    // As in `snapshot`.
    let Some(account) = event.account.as_deref() else {
        return Ok(None);
    };
    let of = object.account.as_known();
    if of.is_some_and(|of| of.id() != account) {
        return Ok(None);
    }
    let update = AccountUpdate::Capability {
        name,
        state: recorded_state(event, facts),
        needs,
    };
    Ok(Some(about_account(event, account, update)))
}

/// Of a connected account: the platform's own names none. One that cannot be read says nothing.
fn balance(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let object: BalanceObject = read(event)?;
    let (Some(account), Some(available)) = (event.account.as_deref(), object.available.known())
    else {
        return Ok(None);
    };
    let mut available_minor = BTreeMap::new();
    for amount in available {
        let amount = amount.known().unwrap_or_default();
        let minor = amount.amount.amount(event, "available.amount")?;
        let known = minor.zip(amount.currency.into_code());
        let Some((minor, currency)) = known else {
            return Ok(None);
        };
        available_minor.insert(currency, minor);
    }
    let update = AccountUpdate::Balance(Balance {
        last_event: (event.created_s, event.id.clone().into_owned()),
        available_minor,
    });
    Ok(Some(about_account(event, account, update)))
}

/// Two letters (ISO 3166-1). A country becomes a part of counters and labels, so other text is
/// unknown: unlike a currency, no amount depends on it.
fn country(text: Option<&String>) -> Option<String> {
    let is_country = |text: &&str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic());
    text.map(String::as_str)
        .filter(is_country)
        .map(str::to_ascii_uppercase)
}

/// The last four digits, also if a complete number was sent. Text without them is unknown.
fn last4(text: Option<&String>) -> Option<String> {
    let text = text?;
    let last = text.get(text.len().checked_sub(4)?..)?;
    let is_number = last.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| last.to_owned())
}

fn about_account(event: &Event<'_>, id: &str, update: AccountUpdate) -> Observation {
    observation(event, EntityKind::Account, id, Update::Account(update))
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct AccountObject {
    id: Lenient<String>,
    country: Lenient<String>,
    created: Lenient<Seconds>,
    charges_enabled: Lenient<bool>,
    payouts_enabled: Lenient<bool>,
    details_submitted: Lenient<bool>,
    requirements: Lenient<Requirements>,
    external_accounts: Lenient<ExternalAccounts>,
    /// That of an account is written by the platform.
    metadata: Lenient<Metadata>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Requirements {
    /// Null: there is none. Absent: unknown.
    disabled_reason: Lenient<String>,
    currently_due: Fingerprinted<Vec<String>>,
    past_due: Fingerprinted<Vec<String>>,
}

impl Requirements {
    fn names(&self, created_s: i64) -> RequirementNames {
        let lists = [&self.currently_due, &self.past_due];
        let lists = lists.map(|Fingerprinted(list, of)| (*of, list.as_known().map(Vec::as_slice)));
        RequirementNames::of(created_s, lists)
    }
}

impl Default for Requirements {
    fn default() -> Self {
        Self {
            disabled_reason: Lenient::odd(),
            currently_due: Fingerprinted::default(),
            past_due: Fingerprinted::default(),
        }
    }
}

/// Only whether there are any is read: no numbers, no holders.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct ExternalAccounts {
    data: Lenient<Vec<IgnoredAny>>,
    total_count: Lenient<u64>,
}

impl ExternalAccounts {
    /// `None`: it does not say.
    fn has_any(&self) -> Option<bool> {
        let listed = self.data.as_known().map(|list| !list.is_empty());
        let counted = self.total_count.as_known().map(|count| *count > 0);
        match (listed, counted) {
            (Some(a), Some(b)) => Some(a || b),
            (a, b) => a.or(b),
        }
    }
}

/// What an account was before an event.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Previous {
    external_accounts: Lenient<ExternalAccounts>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct CapabilityObject {
    id: Lenient<String>,
    status: Lenient<String>,
    account: Lenient<Reference>,
    requested: Lenient<bool>,
    requirements: Lenient<CapabilityRequirements>,
}

/// Those of the capability itself.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct CapabilityRequirements {
    disabled_reason: Lenient<String>,
    currently_due: Lenient<Vec<String>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct ChargeObject {
    captured: Lenient<bool>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct BalanceObject {
    available: Lenient<Vec<Lenient<AmountObject>>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct AmountObject {
    amount: Lenient<Minor>,
    currency: Lenient<Currency>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct ExternalAccountObject {
    id: Lenient<String>,
    last4: Lenient<String>,
    country: Lenient<String>,
    currency: Lenient<Currency>,
}
