//! `revwatch rules`: the built-in tests pass, faults are reported, and the archive can be
//! backtested.

use std::path::Path;

use serde_json::{Value, json};

use super::{Deployment, shipped_rules};
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, print};
use crate::support::wait::until;

const TEST: &str = r#"
[[test]]
name = "a provider loses charges"

[[test.step]]
at = "+1h"
send = { event = "account.updated" }

[[test.step]]
at = "+2h"
send = { event = "account.updated", charges_enabled = false }
expect = { rule = "provider_lost_charges", account = "acct_1", state = "firing", notified = 1 }
"#;

#[test]
fn the_built_in_rules_pass_the_built_in_tests() {
    let nothing = Variables::new();
    let text = print(&nothing, &["rules", "test"]);
    assert!(text.ends_with(" passed, 0 failed, 0 skipped\n"), "{text}");
    let shown: Value =
        serde_json::from_str(&print(&nothing, &["rules", "test", "--json"])).expect("JSON");
    assert_eq!(
        (&shown["failed"], &shown["skipped"]),
        (&0.into(), &0.into())
    );
    assert!(
        shown["tests"]
            .as_array()
            .is_some_and(|tests| tests.len() > 20),
        "{shown}"
    );
    let listed: Value =
        serde_json::from_str(&print(&nothing, &["rules", "list", "--json"])).expect("JSON");
    let of = |name: &str| {
        listed
            .as_array()
            .expect("a list")
            .iter()
            .find(|r| r["name"] == name)
            .expect(name)
            .clone()
    };
    assert_eq!(of("provider_lost_charges")["threshold"], "charges_lost");
    assert!(print(&nothing, &["rules", "list"]).contains("payout_failures in 1d above 5 %"));
    assert!(print(&nothing, &["rules", "check"]).contains("all valid"));
}

#[test]
fn a_failed_expectation_and_an_invalid_test_fail() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), "providers.toml", TEST);
    let nothing = Variables::new();
    assert_eq!(
        print(&nothing, &["rules", "test", &file]),
        "ok       a provider loses charges\n1 passed, 0 failed, 0 skipped\n"
    );

    write(
        folder.path(),
        "providers.toml",
        &TEST.replace("notified = 1", "notified = 2"),
    );
    let output = cli(&nothing, &["rules", "test", &file]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("text");
    for part in [
        "FAILED   a provider loses charges",
        "providers.toml:12:10 at 2026-01-05T02:00:00Z",
        "expected  provider_lost_charges (account acct_1): firing, notified 2",
        "seen      provider_lost_charges firing (account acct_1); notified 1",
        "🔴 CRITICAL: A provider can no longer accept charges",
        "0 passed, 1 failed",
    ] {
        assert!(text.contains(part), "{text} should contain {part:?}");
    }
    let shown: Value =
        serde_json::from_slice(&cli(&nothing, &["rules", "test", &file, "--json"]).stdout)
            .expect("JSON");
    assert_eq!(
        (&shown["failed"], &shown["tests"][0]["result"]),
        (&1.into(), &"failed".into())
    );

    write(
        folder.path(),
        "providers.toml",
        &TEST.replace("account = \"acct_1\"", "account = \"acct_2\""),
    );
    let output = cli(&nothing, &["rules", "test", &file]);
    let text = String::from_utf8(output.stderr).expect("text");
    let fault = "providers.toml:12:54: no event of this test names the account \"acct_2\"; did you mean \"acct_1\"?";
    assert!(
        output.status.code() == Some(1) && text.contains(fault),
        "{text}"
    );

    write(
        folder.path(),
        "providers.toml",
        &TEST
            .replace("notified = 1", "notifies = 1")
            .replace("+1h", "1h"),
    );
    let output = cli(&nothing, &["rules", "test", &file]);
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        output.status.code() == Some(1)
            && text.contains("providers.toml:6:6: \"1h\" is not a valid time"),
        "{text}"
    );
    assert!(
        text.contains("providers.toml:12:") && text.contains("unknown field `notifies`"),
        "{text}"
    );
    let shown: Value =
        serde_json::from_slice(&cli(&nothing, &["rules", "test", &file, "--json"]).stdout)
            .expect("JSON");
    let faults = shown["faults"].as_array().expect("a list").iter();
    let lines: Vec<_> = faults.map(|fault| fault["line"].as_u64()).collect();
    assert_eq!(lines, [Some(6), Some(12)], "{shown}");
}

#[test]
fn check_reports_every_fault_of_every_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let rule = |name: &str, more: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nkind = \"condition\"\nseverity = \"high\"\nroute = \"x\"\ntitle = \"t\"\n\
             actions = [\"a\"]\n{more}\n"
        )
    };
    let good = rule("good", "condition = \"past_due\"");
    let fine = write(folder.path(), "a.toml", &good);
    let nothing = Variables::new();
    assert_eq!(
        print(&nothing, &["rules", "check", &fine]),
        "1 rule(s), all valid\n"
    );
    let bad = rule("bad", "condition = \"late\"\nafter = \"soon\"")
        + &rule("worse", "condition = \"past_due\"\nabove = 1");
    write(folder.path(), "b.toml", &(good + &bad));
    let path = folder.path().display().to_string();
    let output = cli(&nothing, &["rules", "check", &path]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("text");
    let expected = [
        "b.toml:2:8: there are two rules named \"good\"",
        "b.toml:16:13: `condition` must be one of: charges_lost, ",
        "b.toml:17:9: `after`: \"soon\" is not a duration",
        "b.toml:26:1: `above` does not apply",
    ];
    assert_eq!(text.lines().count(), expected.len(), "{text}");
    for (line, part) in text.lines().zip(expected) {
        assert!(line.contains(part), "{line:?} should contain {part:?}");
    }
    let shown: Value =
        serde_json::from_slice(&cli(&nothing, &["rules", "check", &path, "--json"]).stdout)
            .expect("JSON");
    assert_eq!(
        (
            &shown["ok"],
            &shown["faults"][1]["line"],
            &shown["faults"][1]["column"]
        ),
        (&false.into(), &16.into(), &13.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_is_backtested_with_other_rules() {
    let deployment = Deployment::embedded();
    let shipped = shipped_rules(&["provider_lost_charges", "payout_failure_rate"]);
    let variables =
        deployment.variables(&[("REVWATCH_RULES", &shipped.path().display().to_string())]);
    let Deployment::Embedded(folder) = &deployment else {
        panic!("an embedded deployment")
    };
    let process = Revwatch::serve(&variables, "ingest,worker");
    let now_s = jiff::Timestamp::now().as_second();
    let mut events = Vec::new();
    for n in 0..10 {
        for (step, charges) in [true, false].into_iter().enumerate() {
            let account = format!("acct_{n}");
            events.push(json!({"id": format!("evt_{n}_{step}"), "object": "event", "type": "account.updated",
                "created": now_s - 100 + 10 * i64::try_from(step).expect("small"), "account": account,
                "data": {"object": {"id": account, "object": "account", "charges_enabled": charges || n < 7,
                    "payouts_enabled": true, "details_submitted": true}}}));
        }
    }
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let file = write(folder.path(), "events.jsonl", &lines.join("\n"));
    let (url, mut args) = (process.url("/webhooks/stripe"), variables.clone());
    // Events go to the endpoint only, whatever the environment says. Nothing listens here.
    args.extend(["HTTP_PROXY", "http_proxy", "ALL_PROXY"].map(|name| {
        let dead_end = "http://127.0.0.1:9".to_owned();
        (name.to_owned(), dead_end)
    }));
    let sent = tokio::task::spawn_blocking(move || print(&args, &["send", &file, "--url", &url]));
    assert_eq!(sent.await.expect("sent"), "20 accepted, 0 refused\n");
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == 20).then_some(())
    })
    .await;
    process.stop();

    let backtest = |args: &[&str]| -> Value {
        let args: Vec<&str> = ["rules", "backtest", "--json"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        serde_json::from_str(&print(&variables, &args)).expect("JSON")
    };
    let of = |shown: &Value, rule: &str| {
        let rules = shown["rules"].as_array().expect("a list");
        rules
            .iter()
            .find(|r| r["rule"] == rule)
            .expect(rule)
            .clone()
    };
    let shown = backtest(&["--since", "1h", "--step", "1s"]);
    let lost = of(&shown, "provider_lost_charges");
    assert_eq!(
        (&lost["fired"], &lost["at_start"], &lost["open"]),
        (&3.into(), &0.into(), &3.into()),
        "{shown}"
    );
    assert_eq!(
        (
            &shown["events"],
            &of(&shown, "payout_failure_rate")["fired"]
        ),
        (&20.into(), &0.into())
    );
    let alerts: Vec<_> = shown["alerts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|a| a["subject"].clone())
        .collect();
    assert_eq!(alerts.len(), 3, "{shown}");
    // Earlier state is known, and marked as earlier.
    let later = backtest(&["--since", "0s"]);
    assert_eq!(
        of(&later, "provider_lost_charges")["at_start"],
        3,
        "{later}"
    );

    let rule = "[[rule]]\nname = \"busy\"\nkind = \"count\"\nmetric = \"events\"\nwindow = \"24h\"\nabove = 19\n\
                severity = \"low\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n";
    let rules = write(folder.path(), "other.toml", rule);
    let other = backtest(&["--since", "1h", "--rules", &rules]);
    assert_eq!(
        (
            other["rules"].as_array().map(Vec::len),
            &of(&other, "busy")["fired"]
        ),
        (Some(1), &1.into()),
        "{other}"
    );
    let text = print(&variables, &["rules", "backtest", "--since", "1h"]);
    assert!(
        text.starts_with("20 event(s) of the archive") && text.contains("account acct_8"),
        "{text}"
    );
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}
