//! Bodies as Stripe sends them, and as it does not.

use super::*;
use crate::observe::{ObserveSettings, observe};

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

/// It goes where the object is that needs what was fetched; what Stripe sends does not.
#[test]
fn a_fetched_event_that_names_an_object_has_its_partition() {
    for (id, account, expected) in [
        ("evt_refresh_1", "null", "sub_1"),
        ("evt_refresh_1", r#""acct_1""#, "acct_1"),
        ("evt_1", "null", "coupon_1"),
    ] {
        let body = format!(
            r#"{{"id":"{id}","type":"coupon.updated","created":1,"account":{account},"data":{{"object":{{"id":"coupon_1"}}}},
                "related_object":{{"id":"sub_1","type":"subscription"}}}}"#
        );
        let event = Event::parse(body.as_bytes()).expect("an event");
        assert_eq!(event.partition(64), partition_of(expected, 64), "{body}");
        let head = Event::parse_head(body.as_bytes()).expect("an event");
        assert_eq!(head.partition(64), event.partition(64));
    }
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

/// Queues and stores cannot keep longer names.
#[test]
fn an_event_whose_names_are_longer_than_those_of_stripe_is_refused() {
    let body = |field: &str, length: usize| {
        let value = |name: &str, begin: &str| match name == field {
            true => begin.to_owned() + &"x".repeat(length - begin.len()),
            false => begin.to_owned(),
        };
        format!(
            r#"{{"id":"{}","type":"{}","created":1,"account":"{}","context":"{}",
                "related_object":{{"id":"{}"}},"data":{{"object":{{"id":"{}","status":"paid"}}}}}}"#,
            value("id", "evt_1"),
            value("type", "payout.paid"),
            value("account", ""),
            value("context", "acct_1/acct_2"),
            value("related_object.id", "po_1"),
            value("data.object.id", "po_2"),
        )
    };
    let too_long = |field| Some(EnvelopeError::TooLong(field));
    for field in [
        "id",
        "type",
        "account",
        "related_object.id",
        "data.object.id",
    ] {
        let (longest, longer) = (body(field, 255), body(field, 256));
        assert_eq!(Event::parse_head(longest.as_bytes()).err(), None, "{field}");
        assert_eq!(Event::parse_head(longer.as_bytes()).err(), too_long(field));
    }
    let of_context = body("context", 300);
    assert_eq!(
        Event::parse_head(of_context.as_bytes()).err(),
        too_long("account")
    );
    let whole = body("data.object.id", 256);
    let whole = Event::parse(whole.as_bytes()).expect("its object is not read");
    let error = observe(&whole, &ObserveSettings::default()).expect_err("too long");
    assert!(
        error
            .to_string()
            .contains("data.object.id: longer than 255 bytes"),
        "{error}"
    );
    let long = body("id", 70_000);
    let error = Event::parse(long.as_bytes()).expect_err("too long");
    assert_eq!(error.field(), Some("id"));
    assert!(
        error.to_string().ends_with("id is longer than 255 bytes"),
        "{error}"
    );
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
    // The odd values with which the event is applied nevertheless.
    let harmless = |field: &str| -> &[&str] {
        match field {
            "id" | "type" => &[r#""x""#],
            "created" => &["7"],
            "account" => &["null", r#""x""#, r#""""#],
            _ => &odd,
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
            let is_refused = value.map_or(is_needed, |odd| !harmless(field).contains(&odd));
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
        let body = format!(r#"{{"id":"e","type":"t","created":1,"data":{{"object":{object}}}}}"#);
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
fn a_payment_of_an_invoice_is_in_the_partition_of_the_invoice() {
    let keys = |kind: &str, object: &str| {
        let body =
            format!(r#"{{"id":"e","type":"{kind}","created":1,"data":{{"object":{object}}}}}"#);
        let event = Event::parse(body.as_bytes()).expect("an event");
        let head = Event::parse_head(body.as_bytes()).expect("an event");
        [event.partition_key(), head.partition_key()].map(Cow::into_owned)
    };
    let paid = "invoice_payment.paid";
    for invoice in [r#""in_1""#, r#"{"id":"in_1","object":"invoice"}"#] {
        let object = format!(r#"{{"id":"inpay_1","invoice":{invoice}}}"#);
        assert_eq!(keys(paid, &object), ["in_1", "in_1"]);
        assert_eq!(
            keys("payment_intent.succeeded", &object),
            ["inpay_1", "inpay_1"]
        );
    }
    for odd in ["null", "7", "[]", r#""""#, "{}"] {
        let object = format!(r#"{{"id":"inpay_1","invoice":{odd}}}"#);
        assert_eq!(keys(paid, &object), ["e", "e"], "{odd}");
        assert_eq!(
            keys("charge.updated", &object),
            ["inpay_1", "inpay_1"],
            "{odd}"
        );
    }
    let table = [
        (
            "customer.discount.created",
            r#"{"id":"di_1","subscription":"sub_1"}"#,
            "sub_1",
        ),
        (
            "customer.discount.deleted",
            r#"{"id":"di_1","subscription":null}"#,
            "e",
        ),
        (
            "promotion_code.created",
            r#"{"id":"promo_1","coupon":{"id":"SUMMER"}}"#,
            "SUMMER",
        ),
        (
            "promotion_code.updated",
            r#"{"id":"promo_1","promotion":{"type":"coupon","coupon":"SUMMER"}}"#,
            "SUMMER",
        ),
        (
            "promotion_code.updated",
            r#"{"id":"promo_1","promotion":7,"coupon":[]}"#,
            "e",
        ),
    ];
    for (kind, object, expected) in table {
        assert_eq!(keys(kind, object), [expected, expected], "{kind} {object}");
    }
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
    let head = include_str!("../event_types.txt").lines().next();
    assert!(head.is_some_and(|head| head.contains(NEWEST_API_VERSION)));
    assert!(is_known_kind("payout.failed") && !is_known_kind("transfer.failed"));
    assert_eq!(kind_label("made.up"), "other");
    // Of thin events, also those without a snapshot event.
    for (kind, label) in [
        ("v1.payout.failed", "v1"),
        ("v1.customer.subscription.past_due", "v1"),
        ("v2.core.account.created", "v2"),
    ] {
        assert_eq!((is_known_kind(kind), kind_label(kind)), (true, label));
    }
    assert!(!is_known_kind("v1") && !is_known_kind("v10.payout.failed"));
}
