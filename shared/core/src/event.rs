//! The envelope of an event, parsed without its object: of Stripe's, and of the application's ([`crate::app_event`]).
//!
//! An event of Stripe's needs its id, type and time of creation, and must not name its account in a way that cannot be
//! read: a connected account's object would count as the platform's. None of its names may be longer than
//! [`MAX_ID_BYTES`]. All else costs only itself.
//!
//! Invariant: everything here is borrowed from the raw body; the body itself is never changed.

mod kinds;
mod wire;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::app_event::{AppEvent, AppEventError, Subject, is_known_type};
use crate::entity::kind::NEVER_MADE;
use crate::mode::Mode;
use crate::source::Source;

use self::kinds::thin_family;
pub use self::kinds::{NEWEST_API_VERSION, is_known_kind, kind_label, known_kinds};
use self::wire::{Created, Wire, is_array, read};
pub use crate::event_bounds::{FUTURE_MARGIN_S, MAX_ID_BYTES, MAX_S};
use crate::json_text::Text;
pub use crate::source::FETCHED;

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
    /// Unix milliseconds. Stripe says no more than the second.
    pub created_ms: i64,
    /// The connected account whose object the event is about: `account`, else the last segment of a
    /// `context` that is a path. A `context` of one id is no connected account: it names the account that
    /// made the event, which may be the platform itself, and events of API versions before 2025-04-30 lack it.
    ///
    /// Of a thin event, `context` is what a request for its object needs
    /// (<https://docs.stripe.com/api/v2/core/events/object>): with the key of an organisation, one of its accounts;
    /// with the key of a platform, the id of a connected account alone (<https://docs.stripe.com/context>). The
    /// pages do not say whether it is null or the account's own id if no other account is meant. So one id alone
    /// does not say whose the object is, and an object that is no account is taken for the platform's own.
    pub account: Option<Cow<'a, str>>,
    /// Which accounts made the event, as Stripe has it: an id or a path of ids.
    pub context: Option<Cow<'a, str>>,
    /// Live (`true`) or test mode; absent if the event does not say it as documented.
    pub livemode: Option<bool>,
    /// `data.object`: as raw JSON, or only its [`Head`].
    pub object: Option<Object>,
    /// `data.previous_attributes`: the old values of what an `*.updated` event changed.
    pub previous: Option<&'a RawValue>,
    /// The object that a thin event names. In an event that revwatch made: the object that needs this one.
    pub related_id: Option<Cow<'a, str>>,
    /// What that object is, such as `subscription`.
    pub related_type: Option<Cow<'a, str>>,
}

/// The fields of an object that determine its partition.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Head<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    invoice: Option<&'a RawValue>,
    #[serde(borrow)]
    subscription: Option<&'a RawValue>,
    #[serde(borrow)]
    coupon: Option<&'a RawValue>,
    #[serde(borrow)]
    promotion: Option<&'a RawValue>,
}

/// Of which object's state an event's object is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartOf {
    /// Its own.
    Itself,
    /// That of the invoice which it is a payment of.
    Invoice,
    /// That of the subscription which it is a discount of.
    Subscription,
    /// That of the coupon which it is a promotion code of.
    Coupon,
}

/// An object, parsed completely or in part, with the keys that determine its partition.
pub trait Keyed {
    /// The id of the object whose state it is a part of, if it has that.
    fn key(&self, part_of: PartOf) -> Option<Cow<'_, str>>;
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
    /// This field is longer than [`MAX_ID_BYTES`].
    #[error("the body is JSON but not a Stripe event: {0} is longer than {MAX_ID_BYTES} bytes")]
    TooLong(&'static str),
    /// The id is one that only revwatch gives.
    #[error(
        "the body is not an event that Stripe sends: its id begins as those that revwatch gives"
    )]
    OwnId,
    /// The body is no event of the application.
    #[error(transparent)]
    App(#[from] AppEventError),
}

impl EnvelopeError {
    /// The field of a Stripe event that it is about, if it is about one.
    pub fn field(&self) -> Option<&'static str> {
        let what = match self {
            Self::InvalidJson { .. } | Self::App(_) => return None,
            Self::OwnId => return Some("id"),
            Self::WrongShape(what) => what,
            Self::TooLong(field) => return Some(field),
        };
        match *what {
            "no id" => Some("id"),
            "no type" => Some("type"),
            "no created" | "created is not a time" | "created is out of range" => Some("created"),
            _ => None,
        }
    }
}

impl<'a> Event<'a> {
    /// Parses the envelope of an event of this source. Its object is skipped.
    pub fn read(source: Source, body: &'a [u8]) -> Result<Self, EnvelopeError> {
        match source {
            Source::App => Ok(Self::of_app(AppEvent::parse(body)?, |data| data)),
            Source::Stripe | Source::Snapshot => Self::parse(body),
        }
    }

    /// Parses the envelope of a snapshot or thin event of Stripe's. Its object is skipped.
    pub fn parse(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        Self::of(read(body)?, |object| object)
    }
}

impl<'a> Event<'a, Head<'a>> {
    /// [`Event::parse_head`] of an event of this source.
    pub fn read_head(source: Source, body: &'a [u8]) -> Result<Self, EnvelopeError> {
        match source {
            Source::App => Ok(Self::of_app(AppEvent::parse(body)?, Head::of)),
            Source::Stripe | Source::Snapshot => Self::parse_head(body),
        }
    }

    /// Parses the envelope and the head of the object in one pass. Refuses the same bodies as
    /// [`Event::parse`], with the same reason, and those whose object has too long an id.
    pub fn parse_head(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        let text = std::str::from_utf8(body).ok().filter(|_| !is_array(body));
        let event =
            match text.and_then(|text| serde_json::from_str::<Wire<'a, Head<'a>>>(text).ok()) {
                Some(wire) => Self::of(wire, |head| head),
                // Some field is not as documented. If it is in the object, that is no reason to refuse
                // the event.
                None => Self::of(read(body)?, Head::of),
            }?;
        let key = event
            .object
            .as_ref()
            .and_then(|head| head.key(PartOf::Itself));
        check_length("data.object.id", key.as_deref())?;
        Ok(event)
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
        let (wire_object, previous, impact) = match wire.data.0 {
            Some(data) => (data.object, data.previous_attributes, data.impact.0),
            None => (None, None, None),
        };
        let impact = impact.filter(|_| kind == NEVER_MADE);
        let (impact_context, impact_object) =
            impact.map_or((None, None), |i| (i.context.0, i.related_object.0));
        let related = wire.related_object.0.or(impact_object);
        let (related_id, related_type) = related.map_or((None, None), |r| (r.id.0, r.object.0));
        let context = text(wire.context.0);
        let event = Self {
            id,
            kind,
            created_s,
            created_ms: created_s.saturating_mul(1000),
            account: text(wire.account)
                .or_else(|| innermost_account(&text(impact_context)?))
                .or_else(|| connected_account(context.clone()?)),
            context,
            livemode: wire.livemode.0,
            object: wire_object.map(object),
            previous,
            related_id: related_id.map(|s| s.0),
            related_type: related_type.map(|s| s.0),
        };
        event.check_lengths()?;
        Ok(event)
    }

    /// An event about an account has it as a connected account's own event does; one about another object names that.
    pub fn of_app(app: AppEvent<'a>, object: impl FnOnce(&'a RawValue) -> Object) -> Self {
        let id = app.key().into();
        let data = app.data.filter(|_| app.subject.is_some());
        let (account, related_id) = match app.subject {
            Some((Subject::Account, id)) => (Some(id.into()), None),
            Some((_, id)) => (None, Some(id.into())),
            None => (None, None),
        };
        Self {
            id,
            kind: app.kind,
            created_s: app.time_ms.div_euclid(1000),
            created_ms: app.time_ms,
            account,
            context: None,
            livemode: None,
            object: data.map(object),
            previous: None,
            related_id,
            related_type: None,
        }
    }

    fn check_lengths(&self) -> Result<(), EnvelopeError> {
        check_length("id", Some(&self.id))?;
        check_length("type", Some(&self.kind))?;
        check_length("account", self.account.as_deref())?;
        check_length("related_object.id", self.related_id.as_deref())
    }

    /// The same in a deployment of this mode: an application speaks of what the deployment is about, and knows no mode.
    #[must_use]
    pub fn in_deployment(mut self, mode: Mode) -> Self {
        if self.source() == Source::App {
            self.livemode = Some(mode.livemode());
        }
        self
    }

    /// Whom it is from.
    pub fn source(&self) -> Source {
        Source::of(&self.id)
    }

    /// Whether its type is documented, by Stripe or for applications. Nothing is known of what others say.
    pub fn is_known(&self) -> bool {
        match self.source() {
            Source::App => is_known_type(&self.kind),
            // What was fetched is an update, also of what Stripe has no such event.
            Source::Snapshot => true,
            Source::Stripe => is_known_kind(&self.kind),
        }
    }

    /// Whether it only names its object.
    pub fn is_thin(&self) -> bool {
        self.source() != Source::App && thin_family(&self.kind).is_some()
    }

    /// Whether revwatch made it of an object that it fetched.
    pub fn is_fetched(&self) -> bool {
        self.source() == Source::Snapshot
    }

    /// Whether revwatch fetched its object for another one of this type, which needs it.
    pub fn is_fetched_for(&self, object: &str) -> bool {
        self.is_fetched() && self.related_type.as_deref() == Some(object)
    }

    /// The type if it is documented, else `other`: bounded, for metric labels.
    pub fn kind_label(&self) -> &str {
        type_label(self.source(), &self.kind)
    }

    /// The first account of its context: where an organisation's events arrive, the one of its accounts that
    /// the event is of.
    pub fn own_account(&self) -> Option<&str> {
        let mut segments = self.context.as_deref()?.split('/');
        segments.find(|segment| segment.starts_with("acct_"))
    }

    /// Whether it was created more than [`FUTURE_MARGIN_S`] after its delivery was received. It is compared with
    /// that and not with the present, so that a replay judges alike.
    pub fn is_created_too_late(&self, received_ms: i64) -> bool {
        let received_s = received_ms.div_euclid(1000);
        self.created_s > received_s.saturating_add(FUTURE_MARGIN_S)
    }

    /// Of which object's state its object is a part.
    pub fn part_of(&self) -> PartOf {
        match self.kind.rsplit_once('.').map(|(family, _)| family) {
            Some("invoice_payment") => PartOf::Invoice,
            Some("customer.discount") => PartOf::Subscription,
            Some("promotion_code") => PartOf::Coupon,
            _ => PartOf::Itself,
        }
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
            // Of an object that was fetched for another, which needs it; or what the application says of one.
            (None, Some(_), Some(related)) if self.source() != Source::Stripe => related,
            (None, Some(object), _) => {
                let key = object.key(self.part_of());
                return key.unwrap_or(Cow::Borrowed(&self.id));
            }
            (None, None, Some(related)) => related,
            (None, None, None) => &self.id,
        };
        Cow::Borrowed(key)
    }
}

impl<'a> Head<'a> {
    /// What can be parsed of it.
    pub fn of(object: &'a RawValue) -> Self {
        serde_json::from_str(object.get()).unwrap_or_default()
    }

    /// Since 2025-09-30.clover, the coupon of a promotion code is below `promotion`.
    fn coupon(&self) -> Option<&'a RawValue> {
        #[derive(Deserialize)]
        struct Promotion<'a> {
            #[serde(borrow)]
            coupon: Option<&'a RawValue>,
        }
        let promotion = self.promotion.map(RawValue::get);
        let promotion = promotion.and_then(|json| serde_json::from_str::<Promotion<'a>>(json).ok());
        promotion.and_then(|it| it.coupon).or(self.coupon)
    }
}

impl Keyed for Head<'_> {
    fn key(&self, part_of: PartOf) -> Option<Cow<'_, str>> {
        let key = match part_of {
            PartOf::Itself => text_of(self.id?),
            PartOf::Invoice => id_of(self.invoice?),
            PartOf::Subscription => id_of(self.subscription?),
            PartOf::Coupon => id_of(self.coupon()?),
        };
        key.filter(|key| !key.is_empty())
    }
}

impl Keyed for &RawValue {
    fn key(&self, part_of: PartOf) -> Option<Cow<'_, str>> {
        let head = Head::of(self);
        let key = head.key(part_of)?;
        Some(Cow::Owned(key.into_owned()))
    }
}

/// The id of an object that is there only by its id, or completely if it was expanded.
fn id_of(json: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Identified<'a> {
        #[serde(borrow)]
        id: Text<'a>,
    }
    let expanded = || serde_json::from_str(json.get()).ok();
    text_of(json).or_else(|| expanded().map(|object: Identified<'_>| object.id.0))
}

fn text_of(json: &RawValue) -> Option<Cow<'_, str>> {
    let text: Option<Text<'_>> = serde_json::from_str(json.get()).ok();
    text.map(|text| text.0)
}

fn check_length(field: &'static str, text: Option<&str>) -> Result<(), EnvelopeError> {
    match text {
        Some(text) if text.len() > MAX_ID_BYTES => Err(EnvelopeError::TooLong(field)),
        _ => Ok(()),
    }
}

/// At most so many bytes of a text, from its beginning.
pub fn beginning(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
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

/// The last account of a context that names the owner of an object, also if it is the only one.
fn innermost_account<'a>(context: &str) -> Option<Cow<'a, str>> {
    let last = context.rsplit('/').find(is_account)?;
    Some(Cow::Owned(last.to_owned()))
}

fn text(text: Option<Text<'_>>) -> Option<Cow<'_, str>> {
    text.map(|text| text.0).filter(|text| !text.is_empty())
}

fn is_account(segment: &&str) -> bool {
    segment.starts_with("acct_")
}

fn last_account(context: &str) -> Option<&str> {
    let mut accounts = context.split('/').filter(is_account);
    let first = accounts.next()?;
    accounts.next_back().filter(|last| *last != first)
}

/// The type of an event of this source if it is documented, else `other`: bounded, for metric labels.
pub fn type_label(source: Source, kind: &str) -> &str {
    match source {
        Source::App if is_known_type(kind) => kind,
        Source::App => "other",
        Source::Stripe | Source::Snapshot => kind_label(kind),
    }
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
    let partition = head.checked_rem(partitions.into()).unwrap_or(0);
    u32::try_from(partition).expect("smaller than a u32")
}

#[cfg(test)]
mod tests;
