//! The types of events of the application, and their schemas. The published files are those that judge.

use std::sync::LazyLock;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{AppEventError, Subject};

/// One type of event, in one version.
pub struct AppEventType {
    /// For example `ticket.opened`.
    pub name: &'static str,
    /// From 1. A version never changes; a later one has other fields.
    pub version: u32,
    /// Whose state it changes.
    pub subject: Subject,
    /// The JSON Schema of `data`.
    pub schema: &'static str,
}

impl std::fmt::Debug for AppEventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.v{}", self.name, self.version)
    }
}

macro_rules! types {
    ($($name:literal v $version:literal of $subject:ident,)*) => {
        /// Every type in every version.
        pub static TYPES: &[AppEventType] = &[$(AppEventType {
            name: $name,
            version: $version,
            subject: Subject::$subject,
            schema: include_str!(concat!("../../../../docs/events/", $name, ".v", $version, ".json")),
        },)*];
    };
}

types! {
    "account.created_by_user" v 1 of Account,
    "account.creation_failed" v 1 of User,
    "account_link.generated" v 1 of Account,
    "account_link.clicked" v 1 of Account,
    "account_link.failed" v 1 of Account,
    "provider.registered" v 1 of User,
    "job.paid" v 1 of Account,
    "ticket.opened" v 1 of Ticket,
    "ticket.responded" v 1 of Ticket,
    "ticket.closed" v 1 of Ticket,
    "usage.booking_fee" v 1 of Booking,
    "member.role_changed" v 1 of Member,
}

/// Which version of its type's schema an event is after.
#[derive(Debug, Clone, Copy)]
pub(super) enum Version {
    /// It says nothing of it: the newest.
    Newest,
    /// `dataschema` ends with `<type>.v<version>.json`.
    Named(u32),
}

impl Version {
    /// A `dataschema` of another form is one of the user's own.
    pub(super) fn of(kind: &str, dataschema: Option<&str>) -> Self {
        let named = dataschema
            .and_then(|uri| uri.rsplit('/').next())
            .and_then(|file| file.strip_prefix(kind)?.strip_prefix(".v"))
            .and_then(|version| version.strip_suffix(".json")?.parse().ok());
        named.map_or(Self::Newest, Self::Named)
    }
}

/// The row of a type; `None`: it has no schema.
pub(super) fn row(
    kind: &str,
    version: Version,
) -> Result<Option<&'static AppEventType>, AppEventError> {
    let mut of_type = TYPES.iter().filter(|row| row.name == kind);
    match version {
        Version::Newest => Ok(of_type.max_by_key(|row| row.version)),
        Version::Named(version) => {
            let known = || of_type.clone().map(|row| format!("v{}", row.version));
            let known: Vec<_> = known().collect();
            match of_type.find(|row| row.version == version) {
                None if !known.is_empty() => Err(AppEventError {
                    pointer: "/dataschema".to_owned(),
                    what: format!("names a version that is not known: {}", known.join(", ")),
                }),
                row => Ok(row),
            }
        }
    }
}

impl AppEventType {
    /// `data`, if it is after the schema.
    pub(super) fn judged(&self, data: Option<&RawValue>) -> Result<Value, AppEventError> {
        let Some(data) = data else {
            return Err(AppEventError::at("/data", "is missing"));
        };
        let data: Value = serde_json::from_str(data.get())
            .map_err(|_| AppEventError::at("/data", "is not valid JSON"))?;
        let place = TYPES.iter().position(|row| std::ptr::eq(row, self));
        let Some(validator) = place.and_then(|place| VALIDATORS.get(place)) else {
            return Ok(data);
        };
        let Some(error) = validator.iter_errors(&data).next() else {
            return Ok(data);
        };
        let pointer = format!("/data{}", error.instance_path().as_str());
        Err(match error.kind() {
            ValidationErrorKind::Required { property } => AppEventError {
                pointer: format!("{pointer}/{}", property.as_str().unwrap_or_default()),
                what: "is missing".to_owned(),
            },
            _ => AppEventError {
                pointer,
                what: format!("is refused by its schema: {}", error.masked_with("it")),
            },
        })
    }
}

/// In the order of [`TYPES`].
static VALIDATORS: LazyLock<Vec<Validator>> = LazyLock::new(|| {
    let compiled = TYPES.iter().map(|row| {
        let schema = serde_json::from_str(row.schema).expect("a test reads every schema");
        jsonschema::validator_for(&schema).expect("a test compiles every schema")
    });
    compiled.collect()
});
