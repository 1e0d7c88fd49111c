//! Test files: what they mean, and the place of every fault.

use super::*;

/// Provides `events.jsonl` and nothing else.
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
            _ => Err(format!("{path} is not there")),
        }
    }
}

fn read(text: &str) -> Result<Vec<Scenario>, Vec<String>> {
    let rules = rule_text::built_in().expect("valid");
    parse(&("t.toml".to_owned(), text.to_owned()), &rules, &OnlyEvents)
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
            m.deliveries
                .iter()
                .map(move |d| (*at_s, String::from_utf8_lossy(&d.body).into_owned()))
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
        .map(|m| m.deliveries[0].received_ms / 1000)
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
            .map(|m| m.deliveries.len())
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
        .map(|(at_s, m)| (*at_s, m.deliveries.len()))
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

#[test]
fn every_fault_has_its_line_and_column() {
    let send = |fields: &str| step(&format!("send = {{ {fields} }}"));
    let table = [
        (String::new(), "no [[test]] in t.toml"),
        ("[[test]".to_owned(), "t.toml:1:"),
        ("x = 1".to_owned(), "t.toml:1:1: unknown field `x`"),
        (
            "rules = \"r.toml\"\n[[test]]\nname = \"t\"".to_owned(),
            "t.toml:1:9: r.toml is not there",
        ),
        (
            "[[test]]\nname = \"t\"".to_owned(),
            "test \"t\" has no [[test.step]]",
        ),
        (step("wait = 1"), "t.toml:5:1: unknown field `wait`"),
        (
            step("").replace("+1h", "soon"),
            "t.toml:4:6: \"soon\" is not a valid time",
        ),
        (
            format!("{}[[test.step]]\nat = \"+1m\"", step("")),
            "before the step above",
        ),
        (
            send("event = \"payout.lost\""),
            "t.toml:5:10: `event` \"payout.lost\" is not a Stripe event type",
        ),
        (
            send("event = \"payout.paid\", attempts = 2"),
            "t.toml:5:33: `attempts` does not apply",
        ),
        (
            send("event = \"payout.paid\", colour = 2"),
            "unknown field `colour`",
        ),
        (
            send("event = \"payout.paid\", file = \"events.jsonl\""),
            "either `event` and its fields",
        ),
        (
            send("file = \"other.jsonl\""),
            "t.toml:5:17: other.jsonl is not there",
        ),
        (send("json = \"{}\""), "t.toml:5:17: not an event"),
        (
            send("event = \"payout.paid\", count = 1000000"),
            "`count` must be at most",
        ),
        (
            step("expect = { rule = \"past_due_share\" }"),
            "needs `state`, `notified`",
        ),
        (
            step("expect = { rule = \"past_due_share\", state = \"on\" }"),
            "t.toml:5:45: must be one of: inactive, ",
        ),
        (
            step("expect = { rule = \"past_due_share\", notified = 1, count = 1 }"),
            "`count` needs `state`",
        ),
        (
            step("expect_none = false"),
            "t.toml:5:15: `expect_none` must be true",
        ),
        (
            step("command = { silence = { for = \"1h\" } }"),
            "a silence needs",
        ),
        (step("command = {}"), "a command must be one of"),
    ];
    for (text, expected) in table {
        let faults = read(&text).expect_err(expected).join("\n");
        assert!(
            faults.contains(expected),
            "{faults:?} should contain {expected:?}"
        );
    }
    let two = step(
        "send = [{ event = \"x\" }, { event = \"payout.paid\", id = 5 }]\nexpect = { rule = 1 }",
    );
    assert_eq!(read(&two).expect_err("three faults").len(), 3);
    let scenarios =
        read(&step("expect = { rule = \"gone\", state = \"inactive\" }")).expect("valid");
    assert_eq!(
        scenarios[0].missing[0].1,
        "t.toml:5:19: there is no rule \"gone\" here"
    );
}
