//! Test files: what they mean, and the place of every fault.

mod sent;

use super::*;

/// Provides `events.jsonl`, `dead.jsonl`, `bad.jsonl` and nothing else.
struct OnlyEvents;

impl FileSource for OnlyEvents {
    fn rules(&self, path: &str) -> Result<Vec<NamedText>, String> {
        Err(format!("{path} is not there"))
    }

    fn events(&self, path: &str) -> Result<String, String> {
        match path {
            "events.jsonl" => {
                Ok("{\"id\":\"evt_a\",\"type\":\"x\",\"created\":1767574800}\n\n{\"id\":\"evt_b\",\"type\":\"x\",\"created\":5}\n".into())
            }
            "dead.jsonl" => {
                Ok("\n{\"id\":\"evt_9\",\"type\":\"payout.paid\",\"created\":5,\"data\":{\"object\":{\"id\":\"po_9\"}}}\n".into())
            }
            "bad.jsonl" => {
                Ok("{\"id\":\"evt_a\",\"type\":\"x\",\"created\":5}\n\n{}\nno JSON\n".into())
            }
            _ => Err(format!("{path} is not there")),
        }
    }
}

fn read(text: &str) -> Result<Vec<Scenario>, Vec<String>> {
    let rules = rule_text::built_in().expect("valid");
    let read = parse(&("t.toml".to_owned(), text.to_owned()), &rules, &OnlyEvents);
    read.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn step(fields: &str) -> String {
    format!("[[test]]\nname = \"t\"\n[[test.step]]\nat = \"+1h\"\n{fields}\n")
}

#[test]
fn copies_are_spread_numbered_and_may_arrive_late() {
    let text = step(
        "send = [{ event = \"payout.paid\", count = 3, first = 7, every = \"1h\", created = \"-30m\", took = \"9s\" },\n\
         { json = '{\"id\":\"evt_{seq}_{n}\",\"type\":\"x\",\"created\":{created_s}}' }]",
    );
    let scenarios = read(&text).expect("valid");
    let hour = |n: i64| scenarios[0].start_s + n * 3600;
    let bodies: Vec<_> = scenarios[0]
        .moments
        .iter()
        .flat_map(|(at_s, m)| {
            m.arrivals.iter().map(move |a| {
                (
                    *at_s,
                    String::from_utf8_lossy(&a.delivery.body).into_owned(),
                )
            })
        })
        .collect();
    let times: Vec<_> = bodies.iter().map(|(at_s, _)| *at_s).collect();
    assert_eq!(times, [hour(1), hour(1), hour(2), hour(3)]);
    assert!(
        bodies[0].1.contains("acct_7") && bodies[0].1.contains(&(hour(1) - 1800).to_string()),
        "{bodies:?}"
    );
    assert_eq!(
        bodies[1].1,
        format!(
            "{{\"id\":\"evt_4_1\",\"type\":\"x\",\"created\":{}}}",
            hour(1)
        )
    );
    assert!(bodies[3].1.contains("acct_9"), "{bodies:?}");
    let received: Vec<_> = scenarios[0]
        .moments
        .values()
        .map(|m| m.arrivals[0].delivery.received_ms / 1000)
        .collect();
    assert_eq!(received, [hour(1) - 9, hour(2) - 9, hour(3) - 9]);
}

#[test]
fn events_of_a_file_arrive_together_or_when_created() {
    let together = read(&step("send = { file = \"events.jsonl\" }")).expect("valid");
    assert_eq!(
        together[0]
            .moments
            .values()
            .map(|m| m.arrivals.len())
            .collect::<Vec<_>>(),
        [2]
    );
    let apart = read(&step(
        "send = { file = \"events.jsonl\", arrive = \"created\" }",
    ))
    .expect("valid");
    let counts: Vec<_> = apart[0]
        .moments
        .iter()
        .map(|(at_s, m)| (*at_s, m.arrivals.len()))
        .collect();
    assert_eq!(
        counts,
        [(DEFAULT_START_S, 1), (DEFAULT_START_S + 3600, 1)],
        "not before the start"
    );
}

#[test]
fn inline_rules_report_faults_at_their_place() {
    let rule = "[[rule]]\nname = \"r\"\nkind = \"condition\"\ncondition = \"past_due\"\nseverity = \"high\"\n\
                route = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n[rule.labels]\nteam = \"x\"\n";
    let text = format!(
        "{}\n{rule}",
        step("expect = { rule = \"r\", state = \"inactive\" }")
    );
    let scenarios = read(&text).expect("valid");
    assert_eq!(
        (scenarios[0].rules.len(), scenarios[0].missing.len()),
        (1, 0)
    );
    let faults = read(&text.replace("\"past_due\"", "\"x\"")).expect_err("no such condition");
    assert!(
        faults[0].starts_with("t.toml:10:13: `condition` must be one of: charges_lost, "),
        "{faults:?}"
    );
}

/// What people read for each mistake, with its line and column.
#[test]
fn every_fault_has_its_line_and_column() {
    let mut shown = String::new();
    for (mistake, text) in mistakes() {
        let faults = read(&text).expect_err(mistake);
        shown.push_str(&format!("{mistake}\n"));
        for fault in faults {
            assert!(
                fault.starts_with("t.toml:") || !text.contains('='),
                "{fault}"
            );
            shown.push_str(&format!("    {fault}\n"));
        }
    }
    insta::assert_snapshot!(shown);
}

fn mistakes() -> Vec<(&'static str, String)> {
    let send = |fields: &str| step(&format!("send = {{ {fields} }}"));
    let paid = |fields: &str| send(&format!("event = \"payout.paid\", {fields}"));
    let expect = |fields: &str| step(&format!("expect = {{ {fields} }}"));
    // A payout of acct_1 in euros, and an expectation about it.
    let about = |fields: &str| {
        let sent = "event = \"payout.failed\", id = \"po_1\", currency = \"eur\"";
        step(&format!("send = {{ {sent} }}\nexpect = {{ {fields} }}"))
    };
    [file_mistakes(), step_mistakes()].concat().into_iter().chain([
        ("an unknown type", send("event = \"payout.lost\"")),
        ("a misspelled type", send("event = \"payout.payed\"")),
("a type without a template", send("event = \"product.created\"")),
        ("a field of other types", paid("attempts = 2")),
        ("an unknown field of an event", paid("colour = 2")),
        ("a misspelled field of an event", paid("acount = \"acct_1\"")),
        ("the beginning of a field of an event", paid("amount = 5")),
        ("a misspelled `event`", send("evnt = \"payout.paid\"")),
        ("a field of files", paid("arrive = \"created\"")),
        ("two sources", paid("file = \"events.jsonl\"")),
        ("a file that is not there", send("file = \"other.jsonl\"")),
        ("no event", send("json = \"{}\"")),
        ("a complete event has no other fields", send("json = \"{}\", status = \"paid\"")),
        ("too many copies", paid("count = 1000000")),
        ("a misspelled field of an expectation", expect("rule = \"past_due_share\", notifies = 1")),
        ("an earlier name and today's", expect("rule = \"past_due_share\", told = 1, notified = 1")),
        ("nothing expected", expect("rule = \"past_due_share\"")),
        ("an unknown state", expect("rule = \"past_due_share\", state = \"on\"")),
        ("a count of nothing", expect("rule = \"past_due_share\", notified = 1, count = 1")),
        ("the state of the digest", expect("rule = \"pre-existing\", state = \"firing\"")),
        ("a wrong `expect_none`", step("expect_none = false")),
        ("a command without a command", step("command = {}")),
        ("a misspelled command", step("command = { acknowlege = { rule = \"past_due_share\" } }")),
        ("a misspelled field of a command", step("command = { resolve = { rule = \"past_due_share\", acount = \"acct_1\" } }")),
        ("a silence of everything", step("command = { silence = { for = \"1h\" } }")),
        ("a misspelled field of a silence", step("command = { silence = { rule = \"past_due_share\", four = \"1h\" } }")),
        ("a misspelled field of the pipeline", step("pipeline = { queue_dept = 1 }")),
        ("an unknown subject", about("rule = \"payout_failed\", subject = \"payout po_2\", state = \"inactive\"")),
        ("the id alone", about("rule = \"payout_failed\", subject = \"po_1\", state = \"inactive\"")),
        ("a subject before any event", expect("rule = \"payout_failed\", subject = \"payout po_2\", state = \"inactive\"")),
        ("an unknown account", about("rule = \"payout_failed\", account = \"acct_2\", state = \"inactive\"")),
        ("a segment of a condition", about("rule = \"payout_failed\", segment = \"eur\", state = \"inactive\"")),
        ("an unknown segment", about("rule = \"mrr_drop\", segment = \"usd\", state = \"inactive\"")),
        ("the subject of another dimension", about("rule = \"mrr_drop\", subject = \"country US\", state = \"inactive\"")),
        ("a subject of all of the business", about("rule = \"payout_failure_rate\", subject = \"payout po_1\", state = \"inactive\"")),
        ("an account of a metric", about("rule = \"payout_failure_rate\", account = \"acct_1\", state = \"inactive\"")),
        ("a subject of another kind", about("rule = \"payout_failed\", subject = \"account acct_1\", state = \"inactive\"")),
        ("an account of other objects", about("rule = \"invoice_payment_failed\", account = \"acct_1\", state = \"inactive\"")),
        ("an unknown milestone", expect("rule = \"milestone_reached\", segment = \"frist_payment\", state = \"inactive\"")),
        ("an unknown kind", expect("rule = \"objects_not_fetched\", segment = \"subscription\", state = \"inactive\"")),
        ("an unknown notifier", expect("rule = \"notifier_broken\", segment = \"emial\", state = \"inactive\"")),
        ("unknown types", expect("rule = \"events_not_sent\", segment = \"invioce.*\", state = \"inactive\"")),
        ("an unknown weekday", expect("rule = \"onboarding_abandonment_by_weekday\", segment = \"mondy\", state = \"inactive\"")),
        ("a subject that names an unknown weekday", expect("rule = \"onboarding_abandonment_by_weekday\", subject = \"weekday mondy\", state = \"inactive\"")),
        ("a rule that `only` leaves out", step("expect = { rule = \"mrr_drop\", notified = 0 }").replace("[[test.step]]", "only = [\"payout_failed\"]\n[[test.step]]")),
        ("a misspelled state", expect("rule = \"past_due_share\", state = \"fireing\"")),
        ("a misspelled arrival", send("file = \"events.jsonl\", arrive = \"creatd\"")),
        ("a misspelled notifier of the pipeline", step("pipeline = { broken_notifiers = [\"emial\"] }")),
        ("a thin event", send("event = \"v2.core.account.closed\", account = \"acct_1\"")),
        ("an unknown placeholder", paid("account = \"acct_{num}\", object = { metadata = { of = [\"{N}\"] } }")),
        ("an unknown placeholder in JSON", send("json = '{\"id\":\"evt_{no}\",\"type\":\"x\",\"created\":5}'")),
        ("no copy", paid("count = 0")),
        ("a file with lines that are no events", send("file = \"bad.jsonl\"")),
        ("several mistakes", step("send = [{ event = \"x\" }, { event = \"payout.paid\", id = 5 }]\nexpect = { rule = 1 }")),
    ]).collect()
}

fn file_mistakes() -> Vec<(&'static str, String)> {
    vec![
        ("no test", String::new()),
        ("no TOML", "[[test]".to_owned()),
        ("an unknown field of the file", "x = 1".to_owned()),
        (
            "a misspelled field of the file",
            "[[tests]]\nname = \"t\"".to_owned(),
        ),
        (
            "rules that are not there",
            "rules = \"r.toml\"\n[[test]]\nname = \"t\"".to_owned(),
        ),
        ("no step", "[[test]]\nname = \"t\"".to_owned()),
        (
            "a misspelled field of a test",
            step("expect_none = true").replace("name", "nam"),
        ),
        (
            "a start after the start",
            format!("start = \"+1h\"\n{}", step("expect_none = true")),
        ),
        (
            "mistakes at every level",
            "strat = 1\ntick = 5\n[[test]]\nnmae = \"t\"\nonly = []\n[[test.step]]\natt = \"+1h\"\n\
             send = { event = \"payout.paid\", id = 5, idd = 5, currency = 6 }\n\
             expect = { rule = \"gone\", notifies = 1, count = \"many\", says = 2 }\n"
                .to_owned(),
        ),
        (
            "what follows a syntax error",
            "[[test]]\nname: \"t\"\nwhat = 1\nx y\n".to_owned(),
        ),
        (
            "rules and tests with mistakes",
            format!("rules = \"r.toml\"\n{}", step("wait = 1")),
        ),
        (
            "an empty `only`",
            step("expect_none = true").replace("[[test.step]]", "only = []\n[[test.step]]"),
        ),
        (
            "two tests of one name",
            step("expect_none = true").repeat(2),
        ),
    ]
}

fn step_mistakes() -> Vec<(&'static str, String)> {
    vec![
        (
            "an unknown field of a step",
            step("expect_none = true\nwait = 1"),
        ),
        (
            "a misspelled field of a step",
            step("expct = { rule = \"past_due_share\", state = \"firing\" }"),
        ),
        ("no time", step("expect_none = true").replace("+1h", "soon")),
        (
            "a time before the step above",
            format!(
                "{0}[[test.step]]\nat = \"+1m\"\nexpect_none = true",
                step("expect_none = true")
            ),
        ),
        ("an empty step", step("")),
        ("a step with empty lists", step("send = []\nexpect = []")),
        ("no rule that must be silent", step("expect_none = []")),
    ]
}

#[test]
fn a_rule_that_is_named_may_be_missing() {
    let missing = |rule: &str| {
        let text = step(&format!(
            "expect = {{ rule = {rule:?}, state = \"inactive\" }}"
        ));
        let missing = read(&text).expect("valid").remove(0).missing;
        let missing = missing.into_iter();
        missing
            .map(|(rule, fault)| (rule, fault.to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        missing("gone"),
        [(
            "gone".to_owned(),
            "t.toml:5:19: there is no rule \"gone\" here".to_owned()
        )]
    );
    assert_eq!(
        missing("past_due_shares")[0].1,
        "t.toml:5:19: there is no rule \"past_due_shares\" here; did you mean \"past_due_share\"?"
    );
}

#[test]
fn subjects_of_later_steps_and_those_that_events_only_name_are_known() {
    let text = step(
        "expect = [{ rule = \"payout_failed\", subject = \"payout po_later\", state = \"inactive\" },\n\
         { rule = \"transfer_reversed\", account = \"acct_7\", state = \"inactive\" },\n\
         { rule = \"mrr_drop\", subject = \"currency jpy\", state = \"inactive\" },\n\
         { rule = \"mrr_drop\", segment = \"unknown\", state = \"inactive\" }]\n\
         [[test.step]]\nat = \"+2h\"\n\
         send = [{ event = \"payout.failed\", id = \"po_later\" },\n\
         { event = \"transfer.reversed\", account = \"acct_7\", currency = \"JPY\" }]",
    );
    read(&text).expect("valid");
}

/// A step says only what changes.

#[test]
fn what_stripe_replaces_in_texts_is_no_placeholder() {
    let text = step(
        "send = { event = \"payout.paid\", object = { url = \"https://a.example/{CHECKOUT_SESSION_ID}\", x = \"{ n }\" } }",
    );
    read(&text).expect("valid");
}

#[test]
fn the_earlier_name_of_notified_is_still_read() {
    let wants = |field: &str| {
        let text = step(&format!(
            "expect = {{ rule = \"past_due_share\", {field} = 2 }}"
        ));
        let scenarios = read(&text).expect("valid");
        scenarios[0].moments.values().next().expect("a step").checks[0]
            .want
            .to_string()
    };
    assert_eq!(wants("told"), wants("notified"));
}

#[test]
fn revwatch_begins_an_hour_before_the_start_unless_the_test_says_when() {
    let began_s = |of_file: &str, of_test: &str| {
        let text = step("expect_none = true")
            .replace("[[test]]", &format!("{of_file}\n[[test]]\n{of_test}"));
        read(&text).expect("valid")[0].began_s - DEFAULT_START_S
    };
    assert_eq!(began_s("", ""), -3600);
    assert_eq!(began_s("began = \"+1h\"", ""), 3600);
    assert_eq!(began_s("began = \"+1h\"", "began = \"-30d\""), -30 * 86400);
    assert_eq!(began_s("", "began = \"2026-01-05T00:00:07Z\""), 7);
}
