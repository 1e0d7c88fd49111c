//! The envelope of a Stripe event, parsed without its object.
//!
//! An event needs its id, type and time of creation, and must not name its account in a way that cannot be
//! read: a connected account's object would count as the platform's. All else costs only itself.
//!
//! Invariant: everything here is borrowed from the raw body; the body itself is never changed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::LazyLock;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The envelope of an event, borrowed from its body.
///
/// Snapshot events (`"object": "event"`) carry their object; thin events
/// (`"object": "v2.core.event"`) only name it, and `object` is then absent.
/// Source: <https://docs.stripe.com/api/events/object>, <https://docs.stripe.com/api/v2/core/events/object>.
#[derive(Debug)]
pub struct Event<'a, Object = &'a RawValue> {
    /// `evt_…`
    pub id: Cow<'a, str>,
    /// For example `customer.subscription.updated`.
    pub kind: Cow<'a, str>,
    /// Unix seconds.
    pub created_s: i64,
    /// The connected account whose object the event is about: `account`, else the last segment of a
    /// `context` that is a path. A `context` of one id is no connected account: it names the account that
    /// made the event, which may be the platform itself, and events of API versions before 2025-04-30 lack it.
    /// Source: <https://docs.stripe.com/context>.
    pub account: Option<Cow<'a, str>>,
    /// Which accounts made the event, as Stripe has it: an id or a path of ids.
    pub context: Option<Cow<'a, str>>,
    /// Live (`true`) or test mode; absent if the event does not say it as documented.
    pub livemode: Option<bool>,
    /// `data.object`: as raw JSON, or only its [`Head`].
    pub object: Option<Object>,
    /// `data.previous_attributes`: the old values of what an `*.updated` event changed.
    pub previous: Option<&'a RawValue>,
    /// The object that a thin event names.
    pub related_id: Option<Cow<'a, str>>,
}

/// Begins the ids of the events that revwatch makes of objects that it fetched from Stripe's API. They
/// say what is, not what happened.
pub const FETCHED: &str = "evt_refresh_";

/// The fields of an object that determine its partition.
#[derive(Debug, Default, Deserialize)]
pub struct Head<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
}

/// An object, parsed completely or in part, with the key that determines its partition.
pub trait Keyed {
    /// Its own id, if it has one.
    fn key(&self) -> Option<Cow<'_, str>>;
}

/// Why a body is not a Stripe event. The text is safe to show and to log: it quotes nothing of the
/// body.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// The body is not JSON.
    #[error("the body is not valid JSON (line {line}, column {column})")]
    InvalidJson {
        /// 1-based
        line: usize,
        /// 1-based
        column: usize,
    },
    /// The body is JSON, but lacks a field that every event has.
    #[error("the body is JSON but not a Stripe event: {0}")]
    WrongShape(&'static str),
}

impl<'a> Event<'a> {
    /// Parses the envelope of a snapshot or thin event. Its object is skipped.
    pub fn parse(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        Self::of(read(body)?, |object| object)
    }
}

impl<'a> Event<'a, Head<'a>> {
    /// Parses the envelope and the head of the object in one pass. Refuses the same bodies as
    /// [`Event::parse`], with the same reason.
    pub fn parse_head(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        let text = std::str::from_utf8(body).ok().filter(|_| !is_array(body));
        match text.and_then(|text| serde_json::from_str::<Wire<'a, Head<'a>>>(text).ok()) {
            Some(wire) => Self::of(wire, |head| head),
            // Some field is not as documented. If it is in the object, that is no reason to refuse
            // the event.
            None => Self::of(read(body)?, Head::of),
        }
    }
}

impl<'a, Object> Event<'a, Object> {
    fn of<WireObject>(
        wire: Wire<'a, WireObject>,
        object: impl FnOnce(WireObject) -> Object,
    ) -> Result<Self, EnvelopeError> {
        let id = wire
            .id
            .filter(|s| !s.0.is_empty())
            .ok_or(EnvelopeError::WrongShape("no id"))?
            .0;
        let kind = wire
            .kind
            .filter(|s| !s.0.is_empty())
            .ok_or(EnvelopeError::WrongShape("no type"))?
            .0;
        let created_s = match wire.created {
            Some(Created::Seconds(s)) => s,
            Some(Created::Iso(text)) => text
                .parse::<jiff::Timestamp>()
                .map_err(|_| EnvelopeError::WrongShape("created is not a time"))?
                .as_second(),
            None => return Err(EnvelopeError::WrongShape("no created")),
        };
        if !(0..=MAX_S).contains(&created_s) {
            return Err(EnvelopeError::WrongShape("created is out of range"));
        }
        let data = wire.data.0;
        let (wire_object, previous) =
            data.map_or((None, None), |data| (data.object, data.previous_attributes));
        let context = wire.context.0.map(|s| s.0).filter(|s| !s.is_empty());
        Ok(Self {
            id,
            kind,
            created_s,
            account: wire
                .account
                .map(|s| s.0)
                .filter(|s| !s.is_empty())
                .or_else(|| connected_account(context.clone()?)),
            context,
            livemode: wire.livemode.0,
            object: wire_object.map(object),
            previous,
            related_id: wire.related_object.0.and_then(|r| r.id.0).map(|s| s.0),
        })
    }

    /// The type if Stripe documents it, else `other`: bounded, for metric labels.
    pub fn kind_label(&self) -> &str {
        kind_label(&self.kind)
    }

    /// The first account of its context: where an organisation's events arrive, the one of its accounts that
    /// the event is of.
    pub fn own_account(&self) -> Option<&str> {
        let mut segments = self.context.as_deref()?.split('/');
        segments.find(|segment| segment.starts_with("acct_"))
    }

    /// The day of `created`, counted from 1970-01-01 UTC. Dedupe keys are grouped by it.
    pub fn created_day(&self) -> u32 {
        day_of(self.created_s)
    }
}

impl<Object: Keyed> Event<'_, Object> {
    /// The partition of this event, of `partitions`. All events of one connected account, else of one object,
    /// are in one partition. Nothing that an event may lack decides it, such as the customer: Stripe sends one
    /// object with `customer`, with `customer_account` or with both, by its API version
    /// (<https://docs.stripe.com/connect/use-accounts-as-customers>).
    pub fn partition(&self, partitions: u32) -> u32 {
        partition_of(&self.partition_key(), partitions)
    }

    fn partition_key(&self) -> Cow<'_, str> {
        let key = match (&self.account, &self.object, &self.related_id) {
            // An account's own thin events may come in the platform's context or in its own.
            (_, None, Some(related)) if related.starts_with("acct_") => related,
            (Some(account), _, _) => account,
            (None, Some(object), _) => return object.key().unwrap_or(Cow::Borrowed(&self.id)),
            (None, None, Some(related)) => related,
            (None, None, None) => &self.id,
        };
        Cow::Borrowed(key)
    }
}

impl<'a> Head<'a> {
    /// What can be parsed of it.
    fn of(object: &'a RawValue) -> Self {
        #[derive(Deserialize, Default)]
        struct Fields<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
        }
        let fields: Fields<'a> = serde_json::from_str(object.get()).unwrap_or_default();
        let id = fields.id.map(RawValue::get);
        Self {
            id: id.and_then(|id| serde_json::from_str(id).ok()),
        }
    }
}

impl Keyed for Head<'_> {
    fn key(&self) -> Option<Cow<'_, str>> {
        let id = self.id.as_ref().map(|id| Cow::Borrowed(id.0.as_ref()));
        id.filter(|id| !id.is_empty())
    }
}

impl Keyed for &RawValue {
    fn key(&self) -> Option<Cow<'_, str>> {
        let head = Head::of(self);
        let key = head.key()?;
        Some(Cow::Owned(key.into_owned()))
    }
}

/// The id of a body that claims to be an event (`"object": "event"` or `"v2.core.event"`), even if
/// it is otherwise invalid.
pub fn event_id_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
        object: String,
    }
    if is_array(body) {
        return None;
    }
    let named: Named = serde_json::from_slice(body).ok()?;
    let is_event =
        matches!(named.object.as_str(), "event" | "v2.core.event") && !named.id.is_empty();
    is_event.then_some(named.id)
}

/// The last account of a path such as `acct_PLATFORM/acct_CONNECTED`. An organisation is no account, and
/// `acct_PLATFORM/acct_PLATFORM` is the platform itself.
pub(crate) fn connected_account(context: Cow<'_, str>) -> Option<Cow<'_, str>> {
    match context {
        Cow::Borrowed(context) => last_account(context).map(Cow::Borrowed),
        Cow::Owned(context) => last_account(&context).map(|last| Cow::Owned(last.to_owned())),
    }
}

fn last_account(context: &str) -> Option<&str> {
    let is_account = |segment: &&str| segment.starts_with("acct_");
    let mut accounts = context.split('/').filter(is_account);
    let first = accounts.next()?;
    accounts.next_back().filter(|last| *last != first)
}

/// Days since 1970-01-01 UTC.
pub fn day_of(unix_s: i64) -> u32 {
    u32::try_from(unix_s.div_euclid(86_400)).unwrap_or(0)
}

/// A stable hash of `key` in `0..partitions`. It must never change: queues and stored keys depend
/// on it.
pub fn partition_of(key: &str, partitions: u32) -> u32 {
    let digest = Sha256::digest(key.as_bytes());
    let head = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    u32::try_from(head % u64::from(partitions.max(1))).expect("smaller than a u32")
}

/// Whether Stripe documents this event type (268 snapshot types, and the v2 families).
pub fn is_known_kind(kind: &str) -> bool {
    KNOWN.contains(kind) || kind.starts_with("v2.")
}

/// The type itself if it is a documented snapshot type, `v2` for a thin one, else `other`.
pub fn kind_label(kind: &str) -> &str {
    match KNOWN.get(kind) {
        Some(known) => known,
        None if kind.starts_with("v2.") => "v2",
        None => "other",
    }
}

/// All documented snapshot event types, sorted (Stripe API 2026-09-30.endive).
pub fn known_kinds() -> impl Iterator<Item = &'static str> {
    include_str!("event_types.txt").lines()
}

static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| known_kinds().collect());

/// The last second of the year 9999: our calendar arithmetic is not meant to work beyond it.
pub(crate) const MAX_S: i64 = 253_402_300_799;

fn read<'a, Object: Deserialize<'a>>(body: &'a [u8]) -> Result<Wire<'a, Object>, EnvelopeError> {
    if is_array(body) && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        return Err(EnvelopeError::WrongShape("it is an array"));
    }
    serde_json::from_slice(body).map_err(|e| {
        if e.is_data() {
            EnvelopeError::WrongShape(
                "id, type, created or account has the wrong type, or a field is there twice",
            )
        } else {
            EnvelopeError::InvalidJson {
                line: e.line(),
                column: e.column(),
            }
        }
    })
}

/// serde would also parse the fields of a struct from an array.
fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "Object: Deserialize<'de>"))]
struct Wire<'a, Object> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    created: Option<Created<'a>>,
    #[serde(borrow)]
    account: Option<Text<'a>>,
    #[serde(borrow, default)]
    context: IfDocumented<Text<'a>>,
    #[serde(default)]
    livemode: IfDocumented<bool>,
    #[serde(borrow, default = "IfObject::absent")]
    data: IfObject<WireData<'a, Object>>,
    #[serde(borrow, default = "IfObject::absent")]
    related_object: IfObject<Related<'a>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "Object: Deserialize<'de>"))]
struct WireData<'a, Object> {
    object: Option<Object>,
    #[serde(borrow)]
    previous_attributes: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Related<'a> {
    #[serde(borrow, default)]
    id: IfDocumented<Text<'a>>,
}

/// A text or a flag. Of another type, it counts as absent.
struct IfDocumented<T>(Option<T>);

impl<T> Default for IfDocumented<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for IfDocumented<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(json.get()).ok()))
    }
}

/// An object. Anything else counts as absent.
struct IfObject<T>(Option<T>);

impl<T> IfObject<T> {
    fn absent() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for IfObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(ObjectOrNot(PhantomData))
            .map(Self)
    }
}

struct ObjectOrNot<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectOrNot<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<T>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Option<T>, E> {
        Ok(None)
    }
}

/// `created` is a number in snapshot events and ISO 8601 in thin ones.
#[derive(Deserialize)]
#[serde(untagged)]
enum Created<'a> {
    Seconds(i64),
    Iso(#[serde(borrow)] Cow<'a, str>),
}

/// Borrowed where the JSON has no escapes, owned otherwise.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_event_is_parsed() {
        let body = br#"{"id":"evt_1","object":"event","type":"payout.paid","created":1700000000,
            "account":"acct_1","livemode":true,"data":{"object":{"id":"po_1"},"previous_attributes":{"status":"x"}}}"#;
        let event = Event::parse(body).expect("an event");
        assert_eq!(
            (event.id.as_ref(), event.kind.as_ref(), event.created_s),
            ("evt_1", "payout.paid", 1_700_000_000)
        );
        assert_eq!(event.account.as_deref(), Some("acct_1"));
        assert!(event.livemode == Some(true) && event.object.is_some() && event.previous.is_some());
        assert_eq!(event.partition(64), partition_of("acct_1", 64));
    }

    #[test]
    fn a_thin_event_is_parsed() {
        let body = br#"{"id":"evt_2","object":"v2.core.event","type":"v2.core.account.created",
            "created":"2026-09-30T10:00:00.000Z","context":"acct_7","related_object":{"id":"acct_7","type":"v2.core.account","url":"/v2/x"}}"#;
        let event = Event::parse(body).expect("an event");
        assert_eq!(event.created_s, 1_790_762_400);
        assert_eq!(event.account, None, "the context may be the platform's");
        assert_eq!(event.partition(64), partition_of("acct_7", 64));
        assert!(event.object.is_none());
        assert_eq!(event.kind_label(), "v2");
    }

    /// From API version 2025-04-30 on, events have a `context`: an object keeps its partition.
    #[test]
    fn only_a_path_of_contexts_names_a_connected_account() {
        let account = |account: &str, context: &str| {
            let body = format!(
                r#"{{"id":"e","type":"t","created":1,"account":{account},"context":{context},
                    "data":{{"object":{{"id":"sub_1","object":"subscription","customer":"cus_1"}}}}}}"#
            );
            let event = Event::parse_head(body.as_bytes()).expect("an event");
            let account = event.account.as_deref().map(str::to_owned);
            let key = account.as_deref().unwrap_or("sub_1");
            assert_eq!(event.partition(64), partition_of(key, 64), "{body}");
            account
        };
        let connected = Some("acct_C".to_owned());
        for context in [
            "null",
            r#""""#,
            r#""acct_P""#,
            r#""org_O/acct_P""#,
            r#""org_O""#,
            r#""/""#,
            r#""acct_P/""#,
            r#""acct_P/acct_P""#,
        ] {
            assert_eq!(account("null", context), None, "{context}");
            assert_eq!(account(r#""acct_C""#, context), connected, "{context}");
        }
        for context in [
            r#""acct_P/acct_C""#,
            r#""org_O/acct_P/acct_C""#,
            r#""acct_P\/acct_C""#,
            r#""acct_P/acct_C/""#,
            r#""acct_P\/acct_C\/""#,
            r#""acct_P/acct_P/acct_C""#,
        ] {
            assert_eq!(account("null", context), connected, "{context}");
            assert_eq!(account(r#""""#, context), connected, "{context}");
        }
    }

    #[test]
    fn a_body_that_is_not_an_event_is_refused_with_a_reason() {
        let table: &[(&[u8], &str)] = &[
            (b"", "not valid JSON"),
            (b"{\"id\":\"evt_1\"", "not valid JSON"),
            (b"\xff\xfe", "not valid JSON"),
            (b"[]", "it is an array"),
            (
                br#"["evt_1","payout.paid",1,null,null,true,null,null]"#,
                "it is an array",
            ),
            (b"7", "wrong type"),
            (br#"{"type":"x","created":1}"#, "no id"),
            (br#"{"id":"","type":"x","created":1}"#, "no id"),
            (br#"{"id":"evt_1","created":1}"#, "no type"),
            (br#"{"id":"evt_1","type":"x"}"#, "no created"),
            (br#"{"id":"evt_1","type":"x","created":-1}"#, "out of range"),
            (
                br#"{"id":"evt_1","type":"x","created":"soon"}"#,
                "not a time",
            ),
            (br#"{"id":7,"type":"x","created":1}"#, "wrong type"),
            (
                br#"{"id":"evt_1","type":"x","created":1,"livemode":true,"livemode":false}"#,
                "a field is there twice",
            ),
        ];
        for (body, expected) in table {
            let error = Event::parse(body).expect_err("not an event");
            assert!(
                error.to_string().contains(expected),
                "{error:?} should say {expected:?}"
            );
            assert_eq!(Event::parse_head(body).expect_err("not an event"), error);
        }
    }

    /// What each field of the envelope costs if it has none of its documented values: the event, if it
    /// cannot do without; else only itself.
    #[test]
    fn an_odd_field_costs_the_event_only_if_nothing_can_be_said_without_it() {
        let odd = [
            "null",
            "7",
            "-1.5",
            "true",
            r#""x""#,
            r#""""#,
            "[]",
            r#"["x"]"#,
            "{}",
            r#"{"id":7}"#,
        ];
        // The field, and the odd values with which the event is a dead letter.
        let costs = |field: &str| -> &[&str] {
            match field {
                "id" | "type" => &[
                    "null",
                    "7",
                    "-1.5",
                    "true",
                    r#""""#,
                    "[]",
                    r#"["x"]"#,
                    "{}",
                    r#"{"id":7}"#,
                ],
                "created" => &[
                    "null",
                    "-1.5",
                    "true",
                    r#""x""#,
                    r#""""#,
                    "[]",
                    r#"["x"]"#,
                    "{}",
                    r#"{"id":7}"#,
                ],
                "account" => &["7", "-1.5", "true", "[]", r#"["x"]"#, "{}", r#"{"id":7}"#],
                _ => &[],
            }
        };
        let fields = [
            ("id", r#""evt_1""#),
            ("object", r#""event""#),
            ("type", r#""payout.paid""#),
            ("created", "1000"),
            ("account", r#""acct_1""#),
            ("context", r#""acct_1""#),
            ("livemode", "true"),
            ("api_version", r#""2026-09-30.endive""#),
            ("pending_webhooks", "1"),
            ("request", "null"),
            (
                "data",
                r#"{"object":{"id":"po_1"},"previous_attributes":{}}"#,
            ),
            ("related_object", r#"{"id":"acct_1"}"#),
        ];
        let with = |field: &str, value: Option<&str>| {
            let fields = fields.iter().filter_map(|(name, documented)| {
                let value = if *name == field { value? } else { documented };
                Some(format!("{name:?}:{value}"))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        };
        let shown = |body: &str| -> Option<[String; 9]> {
            let event = Event::parse(body.as_bytes());
            let head = Event::parse_head(body.as_bytes());
            assert_eq!(event.as_ref().err(), head.as_ref().err(), "{body}");
            let (event, head) = (event.ok()?, head.ok()?);
            assert_eq!(event.partition(64), head.partition(64), "{body}");
            assert_eq!(event.livemode, head.livemode, "{body}");
            let text = |text: &Option<Cow<'_, str>>| format!("{text:?}");
            Some([
                event.id.to_string(),
                event.kind.to_string(),
                event.created_s.to_string(),
                text(&event.account),
                text(&event.context),
                format!("{:?}", event.livemode),
                format!("{:?}", event.object.map(RawValue::get)),
                format!("{:?}", event.previous.map(RawValue::get)),
                text(&event.related_id),
            ])
        };
        let whole = shown(&with("", None)).expect("an event");
        for (field, _) in fields {
            // What is read of each field is unknown without it, and nothing else is.
            let of_field: &[usize] = match field {
                "id" => &[0],
                "type" => &[1],
                "created" => &[2],
                "account" => &[3],
                "context" => &[4],
                "livemode" => &[5],
                "data" => &[6, 7],
                "related_object" => &[8],
                _ => &[],
            };
            let odd = odd.iter().map(|odd| Some(*odd)).chain([None]);
            for value in odd {
                let body = with(field, value);
                let is_needed = matches!(field, "id" | "type" | "created");
                let is_refused = value.map_or(is_needed, |odd| costs(field).contains(&odd));
                let Some(found) = shown(&body) else {
                    assert!(is_refused, "{body}");
                    continue;
                };
                assert!(!is_refused, "{body}");
                for (at, (found, whole)) in found.iter().zip(&whole).enumerate() {
                    let is_documented = match field {
                        "id" | "type" => value == Some(r#""x""#),
                        "created" => value == Some("7"),
                        "account" | "context" => value == Some(r#""x""#),
                        "livemode" => value == Some("true"),
                        _ => false,
                    };
                    if !of_field.contains(&at) {
                        assert_eq!(found, whole, "{body}");
                    } else if !is_documented {
                        assert_eq!(found, "None", "{body}");
                    }
                }
            }
        }
    }

    /// Stripe sends the customer of one object in several forms, by API version.
    #[test]
    fn an_objects_own_id_decides_whatever_else_is_there() {
        let key = |object: &str| {
            let body =
                format!(r#"{{"id":"e","type":"t","created":1,"data":{{"object":{object}}}}}"#);
            let key = Event::parse(body.as_bytes())
                .expect("an event")
                .partition_key()
                .into_owned();
            let head = Event::parse_head(body.as_bytes()).expect("an event");
            assert_eq!(head.partition_key(), key, "both parsers agree: {object}");
            key
        };
        for customer in [
            r#""customer":"cus_1""#,
            r#""customer":{"id":"cus_1","object":"customer"}"#,
            r#""customer":null,"customer_account":"acct_1""#,
            r#""customer":7"#,
            r#""customer":["cus_1"]"#,
            r#""object":7"#,
        ] {
            let object = format!(r#"{{"id":"sub_1",{customer}}}"#);
            assert_eq!(key(&object), "sub_1");
        }
        assert_eq!(key(r#"{"id":"in_\u0031","x":"\ud800"}"#), "in_1");
        assert_eq!(key("null"), "e");
        assert_eq!(key("7"), "e");
        // Errors inside an object are for the worker to report.
        assert_eq!(key(r#"{"id":7,"object":"invoice"}"#), "e");
    }

    #[test]
    fn a_body_that_is_not_utf8_is_refused_by_both_parsers() {
        let body =
            b"{\"id\":\"e\",\"type\":\"t\",\"created\":1,\"data\":{\"object\":{\"id\":\"po_1\",\"x\":\"\xff\"}}}";
        let error = Event::parse(body).expect_err("not an event");
        assert!(matches!(error, EnvelopeError::InvalidJson { .. }));
        assert_eq!(Event::parse_head(body).expect_err("not an event"), error);
    }

    #[test]
    fn the_partition_of_a_key_never_changes() {
        assert_eq!(
            [
                partition_of("acct_1", 8),
                partition_of("acct_2", 8),
                partition_of("cus_1", 8)
            ],
            [2, 7, 0]
        );
    }

    #[test]
    fn documented_types_are_known() {
        assert_eq!(known_kinds().count(), 268);
        assert!(is_known_kind("payout.failed") && !is_known_kind("transfer.failed"));
        assert_eq!(kind_label("made.up"), "other");
    }
}
