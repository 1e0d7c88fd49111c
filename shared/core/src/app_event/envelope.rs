//! The envelope of an event of the application.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::schema::{AppEventType, Version, row};
use super::{AppEvent, AppEventError};
use crate::event_bounds::{MAX_ID_BYTES, MAX_S};
use crate::json_text::Text;

/// What is read of a CloudEvent. Each attribute is read by itself, so that an error names it.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    datacontenttype: Option<&'a RawValue>,
    #[serde(borrow)]
    dataschema: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<&'a RawValue>,
}

/// The event without its subject, and the row of its type.
pub(super) fn read(
    body: &[u8],
) -> Result<(AppEvent<'_>, Option<&'static AppEventType>), AppEventError> {
    let wire = wire(body)?;
    let version = text("/specversion", wire.specversion)?;
    if version != "1.0" {
        return Err(AppEventError::at("/specversion", "must be \"1.0\""));
    }
    let id = text("/id", wire.id)?;
    let source = text("/source", wire.source)?;
    let kind = text("/type", wire.kind)?;
    let time = text("/time", wire.time)?;
    let time_ms = match time.parse::<jiff::Timestamp>() {
        Ok(time) if (0..=MAX_S).contains(&time.as_second()) => time.as_millisecond(),
        _ => {
            let what = "must be a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z";
            return Err(AppEventError::at("/time", what));
        }
    };
    if let Some(media) = some("/datacontenttype", wire.datacontenttype)?
        && !is_json(&media)
    {
        let what = "must be application/json";
        return Err(AppEventError::at("/datacontenttype", what));
    }
    if wire.data_base64.is_some() {
        let what = "is not read: write the JSON into `data`";
        return Err(AppEventError::at("/data_base64", what));
    }
    let version = Version::of(&kind, some("/dataschema", wire.dataschema)?.as_deref());
    let row = row(&kind, version)?;
    let event = AppEvent {
        id,
        source,
        kind,
        time_ms,
        data: wire.data,
        subject: None,
    };
    Ok((event, row))
}

fn wire(body: &[u8]) -> Result<Wire<'_>, AppEventError> {
    let parsed = match body.trim_ascii_start().first() {
        // serde would also read the fields of a struct from an array.
        Some(b'[') => return Err(AppEventError::at("", "is an array, not one event")),
        _ => serde_json::from_slice(body),
    };
    parsed.map_err(|error| match error.is_data() {
        true => AppEventError::at("", "is no object, or has an attribute twice"),
        false => AppEventError {
            pointer: String::new(),
            what: format!(
                "is not valid JSON (line {}, column {})",
                error.line(),
                error.column()
            ),
        },
    })
}

/// A text that must be there. Its characters are those of headers and lines.
fn text<'a>(pointer: &str, json: Option<&'a RawValue>) -> Result<Cow<'a, str>, AppEventError> {
    let text = some(pointer, json)?;
    let text = text.ok_or_else(|| AppEventError::at(pointer, "is missing"))?;
    let is_bounded = text.len() <= MAX_ID_BYTES;
    if text.is_empty() || !is_bounded || text.chars().any(char::is_control) {
        return Err(AppEventError {
            pointer: pointer.to_owned(),
            what: format!("must be a text of 1 to {MAX_ID_BYTES} bytes without control characters"),
        });
    }
    Ok(text)
}

/// A text, if it is there.
fn some<'a>(
    pointer: &str,
    json: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, AppEventError> {
    let Some(json) = json else { return Ok(None) };
    let text: Result<Option<Text<'a>>, _> = serde_json::from_str(json.get());
    let text = text.map_err(|_| AppEventError::at(pointer, "must be a text"))?;
    Ok(text.map(|text| text.0))
}

fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
