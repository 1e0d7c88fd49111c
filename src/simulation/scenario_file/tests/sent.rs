//! Faults in what a test sends, each with the place of its field, and no fault hides another.

use super::*;

const BODY: &str = r#"{"id":"evt_{seq}","type":"payout.paid","created":{created_s},"data":{"object":{"id":"po_9","status":5}}}"#;

fn faults(text: &str) -> Vec<String> {
    read(text).expect_err("faulty")
}

/// The place and the text of the character after it.
fn shown<'t>(text: &'t str, fault: &str) -> &'t str {
    let place: Vec<&str> = fault.splitn(4, ':').collect();
    let number = |n: usize| place[n].parse::<usize>().expect("a number") - 1;
    let line = text.lines().nth(number(1)).expect("a line");
    &line[line.char_indices().nth(number(2)).expect("a column").0..]
}

/// Each fault has its place and says this, in this order.
fn assert_faults(faults: &[String], expected: &[(&str, &str)]) {
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, (place, what)) in faults.iter().zip(expected) {
        assert!(
            fault.starts_with(&format!("t.toml:{place}: ")) && fault.contains(what),
            "{place} {what}: {fault}"
        );
    }
}

#[test]
fn a_fault_in_a_json_event_has_the_place_of_its_field() {
    let lines = BODY.replace(",\"", ",\n  \"");
    for (json, expected) in [
        (format!("'{BODY}'"), "\"status\":5"),
        (format!("'''{BODY}'''"), "\"status\":5"),
        (format!("'''\n{lines}'''"), "\"status\":5"),
        (
            format!("\"\"\"{}\"\"\"", BODY.replace('"', "\\\"")),
            "\"\"\"{",
        ),
        // What is missing has the place of what lacks it.
        (
            format!("'{}'", BODY.replace(",\"status\":5", "")),
            "\"object\":{",
        ),
        (
            format!("'{}'", BODY.replace("{created_s}", "\"soon\"")),
            "\"created\":\"soon\"",
        ),
        (
            format!("'{}'", BODY.replace("evt_{seq}", "")),
            "\"id\":\"\"",
        ),
        (format!("'''\n{}'''", lines.replace(":5", ": x")), "x}}}"),
        (
            format!(
                "'{}'",
                BODY.replace("evt_{seq}", "{sq}").replace(":5", ":\"paid\"")
            ),
            "{sq}",
        ),
    ] {
        let text = step(&format!("send = {{ json = {json}, count = 3 }}"));
        let faults = faults(&text);
        let [fault] = faults.as_slice() else {
            panic!("{json}: {faults:#?}");
        };
        assert!(shown(&text, fault).starts_with(expected), "{json}: {fault}");
    }
}

#[test]
fn a_fault_in_an_event_made_from_fields_has_the_place_of_its_field() {
    let text = step(
        "send = [\n{ event = \"payout.failed\", object = { status = true } },\n\
         { event = \"payout.failed\", id = \"\", count = 2 },\n\
         { event = \"payout.failed\", object = { status = {} }, account = \"acct_1\" }]",
    );
    let what = "an event that cannot be applied: payout.failed: data.object";
    let expected = [
        format!("t.toml:6:39: {what}.status: does not have the documented type"),
        format!("t.toml:7:28: {what}.id: missing"),
        format!("t.toml:8:39: {what}.status: does not have the documented type"),
    ];
    assert_eq!(faults(&text), expected);
}

#[test]
fn a_line_of_a_file_that_cannot_be_applied_is_named() {
    let faults = faults(&step("send = { file = \"dead.jsonl\" }"));
    let what = "an event that cannot be applied (line 2 of dead.jsonl): payout.paid: data.object.status: missing";
    assert_eq!(faults, [format!("t.toml:5:17: {what}")]);
}

#[test]
fn faults_of_rules_of_events_and_of_subjects_do_not_hide_each_other() {
    let rule = |name: &str, condition: &str| {
        format!(
            "[[rule]]\nname = {name:?}\nkind = \"condition\"\ncondition = {condition:?}\nseverity = \"high\"\n\
             title = \"t\"\nactions = [\"a\"]\n"
        )
    };
    let text = step(
        "send = [{ event = \"payout.failed\", id = \"po_1\" },\n\
         { event = \"payout.failed\", object = { status = true } },\n\
         { json = 'x' }]\n\
         expect = [\n\
         { rule = \"a\", subject = \"payout po_9\", state = \"inactive\" },\n\
         { rule = \"b\", subject = \"payout po_9\", state = \"inactive\" },\n\
         { rule = \"a\", account = \"acct_9\", state = \"fireing\" },\n\
         { rule = \"gone\", state = \"inactive\" }]",
    ) + &rule("a", "payout_failed")
        + &rule("b", "payout_faild");
    let faults = faults(&text);
    let expected = [
        ("6:39", "an event that cannot be applied"),
        ("7:11", "not an event"),
        (
            "9:25",
            "no event of this test makes \"payout po_9\"; did you mean \"payout po_1\"?",
        ),
        ("10:25", "no event of this test makes \"payout po_9\""),
        (
            "11:25",
            "no event of this test is about any payout of the account \"acct_9\"",
        ),
        ("11:43", "must be one of: inactive"),
        ("12:10", "there is no rule \"gone\" here"),
        ("13:1", "a rule needs `route`"),
        ("20:1", "a rule needs `route`"),
        ("23:13", "`condition` must be one of"),
    ];
    assert_faults(&faults, &expected);
}

/// A fault that only follows from an event that cannot be read would send people to the wrong place.
#[test]
fn what_an_event_that_cannot_be_read_may_make_is_not_unknown() {
    for (sent, named) in [
        (
            "send = { event = \"payout.faild\", id = \"po_x\" }",
            "subject = \"payout po_x\"",
        ),
        (
            "send = { event = \"payout.faild\", id = \"po_{n}x\" }",
            "subject = \"payout po_1x\"",
        ),
        (
            "send = { event = \"payout.faild\" }",
            "subject = \"payout po_1\"",
        ),
        (
            "send = { event = \"payout.failed\", acount = \"acct_x\" }",
            "account = \"acct_x\"",
        ),
        (
            "send = { file = \"gone.jsonl\" }",
            "subject = \"payout po_x\"",
        ),
        (
            "send = { json = '{\"id\":\"po_x\"' }",
            "subject = \"payout po_x\"",
        ),
        (
            "send = { event = \"payout.failed\", object = { status = true } }",
            "subject = \"payout po_1\"",
        ),
        (
            "send = { event = \"payout.failed\", id = \"\" }",
            "subject = \"payout po_x\"",
        ),
        (
            "sned = { event = \"payout.failed\", id = \"po_x\" }",
            "subject = \"payout po_x\"",
        ),
    ] {
        let expect = |named: &str| {
            format!(
                "{sent}\nexpect = {{ rule = \"payout_failed\", {named}, state = \"inactive\" }}"
            )
        };
        assert_eq!(faults(&step(&expect(named))).len(), 1, "{sent}");
        let other = step(&expect("subject = \"payout other\""));
        let is_known = !sent.contains("file") && !sent.contains("id = \"\"");
        assert_eq!(faults(&other).len(), 1 + usize::from(is_known), "{sent}");
    }
}

#[test]
fn a_misspelled_value_is_refused_with_its_place() {
    let text = step(
        "send = [{ event = \"customer.subscription.updated\", status = \"actve\" },\n\
         { event = \"customer.subscription.updated\", interval = \"fortnight\", currency = \"dollar\" },\n\
         { event = \"account.updated\", country = \"BRA\", object = { requirements = { disabled_reason = \"rejected.fruad\" } } },\n\
         { event = \"customer.subscription.updated\", previous = { status = \"trialling\" } },\n\
         { event = \"checkout.session.completed\", object = { id = \"cs_1\", status = \"completed\" } }]",
    );
    let faults = faults(&text);
    let expected = [
        ("5:61", "did you mean \"active\"?"),
        (
            "6:55",
            "`interval` must be one of: day, week, month, year; but is \"fortnight\"",
        ),
        ("6:79", "did you mean \"usd\"?"),
        ("7:40", "`country` must be the two letters"),
        ("7:93", "did you mean \"rejected.fraud\"?"),
        ("8:66", "did you mean \"trialing\"?"),
        ("9:74", "did you mean \"complete\"?"),
    ];
    assert_faults(&faults, &expected);
}

/// Stripe may add values: a complete event may have any.
#[test]
fn a_value_in_json_that_stripe_does_not_document_is_only_warned_of() {
    let json = BODY.replace("\"status\":5", "\"status\":\"payd\",\"currency\":\"usd\"");
    let text = step(&format!("send = {{ json = '{json}', count = 2 }}"));
    let warnings = &read(&text).expect("valid")[0].warnings;
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:#?}");
    };
    let warning = warning.to_string();
    assert!(
        shown(&text, &warning).starts_with("\"status\":\"payd\""),
        "{warning}"
    );
    assert!(
        warning.contains("but is \"payd\"; did you mean \"paid\"?"),
        "{warning}"
    );
    let file = read(&step("send = { file = \"events.jsonl\" }")).expect("valid");
    assert_eq!(file[0].warnings, []);
}

#[test]
fn a_segment_that_no_object_of_the_test_is_in_is_refused() {
    for object in [
        "metadata = { currency = \"eur\" }",
        "destination = { id = \"ba_1\", currency = \"eur\" }",
    ] {
        let text = step(&format!(
            "send = {{ event = \"payout.failed\", id = \"po_1\", currency = \"brl\", object = {{ {object} }}, \
             previous = {{ currency = \"jpy\" }} }}\n\
             expect = [{{ rule = \"mrr_drop\", segment = \"eur\", state = \"inactive\" }},\n\
             {{ rule = \"mrr_drop\", segment = \"jpy\", state = \"inactive\" }},\n\
             {{ rule = \"mrr_drop\", segment = \"brl\", state = \"inactive\" }}]"
        ));
        let what = |name: &str| {
            format!(
                "no event of this test is about an object of the currency {name:?}; there are brl"
            )
        };
        let expected = [
            format!("t.toml:6:42: {}", what("eur")),
            format!("t.toml:7:32: {}", what("jpy")),
        ];
        assert_eq!(faults(&text), expected, "{object}");
    }
    // The country of an account, not that of its bank account.
    let text = step(
        "send = [{ event = \"account.updated\", country = \"BR\" },\n\
         { event = \"account.external_account.created\", account = \"acct_1\",\n\
         object = { id = \"ba_1\", object = \"bank_account\", country = \"PT\" } }]\n\
         expect = { rule = \"onboarding_abandonment_by_country\", segment = \"PT\", state = \"inactive\" }",
    );
    let faults = faults(&text);
    assert!(
        faults.len() == 1 && faults[0].ends_with("of the country \"PT\"; there are BR"),
        "{faults:#?}"
    );
}

#[test]
fn an_account_that_only_metadata_names_is_refused() {
    let text = step(
        "send = { event = \"payout.failed\", account = \"acct_1\", object = { metadata = { account = \"acct_x\" } } }\n\
         expect = { rule = \"payout_failed\", account = \"acct_x\", state = \"inactive\" }",
    );
    let what = "no event of this test is about any payout of the account \"acct_x\"";
    let faults = faults(&text);
    assert!(
        faults.len() == 1 && faults[0].starts_with(&format!("t.toml:6:46: {what}")),
        "{faults:#?}"
    );
}

#[test]
fn a_silence_names_accounts_and_labels_that_there_are() {
    let silence = |fields: &str| {
        step(&format!(
            "send = {{ event = \"payout.failed\", account = \"acct_1\" }}\n\
             command = {{ silence = {{ {fields}, for = \"1h\" }} }}"
        ))
    };
    for right in [
        "account = \"acct_1\"",
        "labels = { tag = \"billing_ops\" }",
        "labels = { currency = \"usd\" }",
        "labels = { weekday = \"mon\" }",
    ] {
        read(&silence(right)).expect(right);
    }
    for (wrong, expected) in [
        (
            "account = \"acct_2\"",
            "t.toml:6:35: no event of this test names the account \"acct_2\"; did you mean \"acct_1\"?",
        ),
        (
            "labels = { tag = \"biling_ops\" }",
            "t.toml:6:42: no rule has a label \"tag\" of \"biling_ops\"; did you mean \"billing_ops\"?",
        ),
        (
            "labels = { tga = \"billing_ops\" }",
            "t.toml:6:42: no rule has a label \"tga\"; ",
        ),
        (
            "labels = { currency = \"eur\" }",
            "t.toml:6:47: no event of this test is about an object of the currency \"eur\"",
        ),
    ] {
        let faults = faults(&silence(wrong));
        assert!(
            faults.len() == 1 && faults[0].starts_with(expected),
            "{wrong}: {faults:#?}"
        );
    }
}
