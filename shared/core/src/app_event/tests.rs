use serde_json::{Value, json};

use super::*;

/// An event of each type, as its schema shows it.
fn examples() -> Vec<(&'static AppEventType, Value)> {
    let example = |row: &'static AppEventType| {
        let schema: Value = serde_json::from_str(row.schema).expect("JSON");
        (row, schema["examples"][0].clone())
    };
    TYPES.iter().map(example).collect()
}

fn event(kind: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0", "id": "1", "source": "/app", "type": kind, "time": "2026-01-31T12:00:00.5Z", "data": data,
    })
}

fn parse(event: &Value) -> Result<(String, Option<(Subject, String)>), AppEventError> {
    let body = event.to_string();
    AppEvent::parse(body.as_bytes()).map(|event| (event.key(), event.subject))
}

fn pointer(event: &Value) -> String {
    parse(event).expect_err("refused").pointer
}

#[test]
fn every_schema_has_its_file_name_and_accepts_its_example() {
    for (row, example) in examples() {
        let schema: Value = serde_json::from_str(row.schema).expect("JSON");
        let id = format!("urn:revwatch:event:{}:v{}", row.name, row.version);
        assert_eq!(schema["$id"], id);
        assert_eq!(schema["title"], row.name);
        let (_, subject) = parse(&event(row.name, &example)).expect(row.name);
        let (of, id) = subject.expect("a known type");
        assert_eq!(of, row.subject);
        assert!(id.contains(example[of.field()].as_str().expect("a text")));
        let required = schema["required"].as_array().expect("a list");
        assert!(required.iter().any(|it| it == of.field()), "{}", row.name);
    }
}

/// Every field of every type: removed, null, and of each other type.
#[test]
fn a_bad_field_is_named_with_its_path() {
    for (row, example) in examples() {
        let schema: Value = serde_json::from_str(row.schema).expect("JSON");
        let fields = schema["properties"].as_object().expect("fields");
        let required = schema["required"].as_array().expect("a list");
        for (name, field) in fields {
            let is_required = required.iter().any(|it| it == name);
            let may_be_null = field["type"].is_array();
            let path = format!("/data/{name}");
            let with = |value: Option<Value>| {
                let mut data = example.clone();
                let object = data.as_object_mut().expect("an object");
                match value {
                    Some(value) => object.insert(name.clone(), value),
                    None => object.remove(name),
                };
                event(row.name, &data)
            };
            match is_required {
                true => assert_eq!(pointer(&with(None)), path),
                false => assert!(parse(&with(None)).is_ok(), "{path} of {}", row.name),
            }
            match may_be_null {
                true => assert!(parse(&with(Some(Value::Null))).is_ok(), "{path}"),
                false => assert_eq!(pointer(&with(Some(Value::Null))), path),
            }
            let is_number = field["type"] == "integer";
            let wrong = if is_number { json!("1") } else { json!(1) };
            for wrong in [
                wrong,
                json!(true),
                json!([]),
                json!({}),
                json!(-1),
                json!(1e300),
            ] {
                assert_eq!(pointer(&with(Some(wrong))), path, "{}", row.name);
            }
            if !is_number {
                for wrong in ["", "\n", &"x".repeat(256)] {
                    assert_eq!(pointer(&with(Some(json!(wrong)))), path, "{wrong}");
                }
                // Characters are not bytes: of an object's id, bytes count.
                if name == row.subject.field() {
                    assert_eq!(pointer(&with(Some(json!("é".repeat(250))))), path);
                }
            }
            let mut more = example.clone();
            more["of_your_own"] = json!({"any": [1, null]});
            assert!(parse(&event(row.name, &more)).is_ok());
        }
        for data in [json!(null), json!([]), json!("x"), json!(1)] {
            assert_eq!(pointer(&event(row.name, &data)), "/data", "{data}");
        }
        let mut without = event(row.name, &example);
        without.as_object_mut().expect("an object").remove("data");
        assert_eq!(pointer(&without), "/data");
    }
}

#[test]
fn a_bad_attribute_is_named_with_its_path() {
    let (row, example) = examples().remove(0);
    for (name, wrongs) in [
        ("specversion", vec![json!("0.3"), json!(1), Value::Null]),
        (
            "id",
            vec![json!(""), json!(5), json!("a\nb"), json!("x".repeat(256))],
        ),
        ("source", vec![json!(""), json!({}), json!("\u{7f}")]),
        ("type", vec![json!(""), json!([]), json!("x".repeat(256))]),
        (
            "time",
            vec![
                json!("yesterday"),
                json!(1_700_000_000),
                json!("2026-01-31"),
                json!("2026-01-31T12:00:00"),
                json!("1969-12-31T23:59:59Z"),
            ],
        ),
        ("datacontenttype", vec![json!("text/xml"), json!(1)]),
        ("data_base64", vec![json!("e30=")]),
    ] {
        let is_required = !name.starts_with("data");
        if is_required {
            let mut without = event(row.name, &example);
            without.as_object_mut().expect("an object").remove(name);
            assert_eq!(pointer(&without), format!("/{name}"));
        }
        for wrong in wrongs {
            let mut event = event(row.name, &example);
            event[name] = wrong.clone();
            assert_eq!(pointer(&event), format!("/{name}"), "{wrong}");
        }
    }
    for body in [
        "",
        "{",
        "[]",
        "[{}]",
        "1",
        "null",
        r#"{"id":"1","id":"2"}"#,
        "\u{1}",
    ] {
        let error = AppEvent::parse(body.as_bytes()).expect_err("refused");
        assert_eq!(error.pointer, "", "{body}");
        assert!(error.to_string().starts_with("the body is"), "{error}");
    }
}

/// What is wrong is never repeated: it may be a name or a card.
#[test]
fn errors_quote_nothing_of_the_body() {
    for (row, example) in examples() {
        for name in example.as_object().expect("fields").keys() {
            let mut data = example.clone();
            data[name] = json!("4242 4242 4242 4242\n");
            let error = parse(&event(row.name, &data)).expect_err("refused");
            assert!(!error.to_string().contains("4242"), "{error}");
        }
    }
}

#[test]
fn an_unknown_type_is_kept_and_has_no_object() {
    let unknown = event("refund.requested", &json!({"account": "acct_1"}));
    let (key, subject) = parse(&unknown).expect("kept");
    assert!(key.starts_with(APP) && subject.is_none());
}

#[test]
fn a_schema_is_chosen_by_its_file_name_and_others_are_the_users_own() {
    let (row, example) = examples().remove(0);
    let of = |schema: &str| {
        let mut event = event(row.name, &example);
        event["dataschema"] = json!(schema);
        parse(&event).map(|_| ())
    };
    let file = |version: u32| format!("https://example.com/{}.v{version}.json", row.name);
    assert_eq!(of(&file(1)), Ok(()));
    assert_eq!(of("https://example.com/ours.json"), Ok(()));
    let error = of(&file(99)).expect_err("unknown");
    assert_eq!(error.pointer, "/dataschema");
    assert!(error.what.contains("v1"), "{error}");
}

#[test]
fn two_sources_have_ids_of_their_own() {
    let keys = [
        key("/a", "1"),
        key("/b", "1"),
        key("/a", "2"),
        key("/a1", ""),
        key("", "/a1"),
    ];
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
    assert_eq!(key("/a", "1"), keys[0]);
    assert_eq!(keys[0].len(), APP.len() + 2 * KEY_BYTES);
    assert_ne!(member_id("a/b", "c"), member_id("a", "b/c"));
}

#[test]
fn a_time_more_than_a_day_ahead_is_refused() {
    let (row, example) = examples().remove(0);
    let body = event(row.name, &example).to_string();
    let event = AppEvent::parse(body.as_bytes()).expect("an event");
    let time_s = event.time_ms.div_euclid(1000);
    assert_eq!(event.check_time(time_s - FUTURE_MARGIN_S), Ok(()));
    let error = event.check_time(time_s - FUTURE_MARGIN_S - 1);
    assert_eq!(error.expect_err("refused").pointer, "/time");
}
