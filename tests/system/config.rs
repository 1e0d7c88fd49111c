//! `revwatch config`: the settings in effect, and all their faults.

use serde_json::Value;

use super::Deployment;
use crate::support::providers::Settings;
use crate::support::revwatch::{Revwatch, Variables, cli, print};
use crate::support::wait::until;

/// Standard output of `config check`, which must fail.
fn faults(variables: &Variables, args: &[&str]) -> String {
    let output = cli(variables, &[&["config", "check"], args].concat());
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_fault_is_reported_in_one_run() {
    let settings = Settings::new(
        "lissten = \"x\"\n[limits]\nbody_bites = 1\nin_flight = \"many\"\n[[endpoints]]\nname = \"eu\"\npath = \"/eu\"\n\
         secret_file = \"/nowhere/eu\"\n[[alerting.routes]]\nnotify = [\"telegram\"]\n",
        "[[rule]]\nname = 7\n",
    );
    let variables = settings.variables(vec![
        ("REVWATCH_LISTN".into(), "127.0.0.1:1".into()),
        ("REVWATCH_PARTITIONS".into(), "0".into()),
        ("SLACK_APP_TOKEN".into(), "xapp-hidden".into()),
        ("SMTP_URL".into(), "smtp://localhost".into()),
        ("STRIPE_SECRET_KEY_FILE".into(), "/nowhere/key".into()),
    ]);
    let text = faults(&variables, &[]);
    for expected in [
        "warning: REVWATCH_LISTN is set, but revwatch has no such variable; did you mean REVWATCH_LISTEN?",
        "revwatch.toml:1:1: unknown key `lissten`; did you mean `listen`?",
        "revwatch.toml:3:1: unknown key `limits.body_bites`; did you mean `body_bytes`?",
        "revwatch.toml:4:13: `limits.in_flight` must be a whole number, 0 or more, but is \"many\"",
        "STRIPE_SECRET_KEY_FILE: cannot read /nowhere/key: No such file",
        "partitions (REVWATCH_PARTITIONS) must be 1 to 1024",
        "revwatch.toml:8:15: endpoint \"eu\": cannot read /nowhere/eu: No such file",
        "rules.toml:2:8: ",
        "Slack is only partly configured: slack.app_token (SLACK_APP_TOKEN) is set",
        "email is only partly configured",
        "revwatch.toml:10:11: alerting.routes.0: notify names \"telegram\"",
    ] {
        assert!(
            text.contains(expected),
            "{text} should contain {expected:?}"
        );
    }
    assert!(!text.contains("hidden"), "{text}");
    let shown: Value = serde_json::from_str(&faults(&variables, &["--json"])).expect("JSON");
    assert_eq!(
        (&shown["ok"], shown["warnings"].as_array().map(Vec::len)),
        (&false.into(), Some(1)),
        "{shown}"
    );
    assert!(
        shown["faults"]
            .as_array()
            .is_some_and(|faults| faults.len() >= 10),
        "{shown}"
    );
}

/// Faults of many kinds: each is found by another part of the program.
const FAULTY: &str = "\
partitions = 0
[slack]
webhook_url = \"http://hooks.example/hidden\"
[alerting.business_hours]
time_zone = \"Mars\"
days = [\"mon\", \"tuesday\"]
from = \"nine\"
holidays = [\"xmas\"]
[alerting.severity.high]
notify = [\"slak\"]
[worker]
batch = 0
";

/// The fault of the first rule is found last, after all rules have been read.
const FAULTY_RULES: &str = "\
[[rule]]
name = \"a\"
kind = \"condition\"
condition = \"charges_lost\"
severity = \"high\"
route = \"x\"
title = \"t\"
actions = [\"a\"]
inhibited_by = [\"gone\"]
[[rule]]
name = 7
kind = \"gage\"
";

#[tokio::test]
async fn the_check_the_start_and_a_reload_name_the_same_faults_in_order() {
    let (deployment, settings) = (Deployment::embedded(), Settings::of_providers(""));
    let variables = settings.variables(deployment.variables(&[]));
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    settings.write("revwatch.toml", FAULTY);
    settings.write("rules.toml", FAULTY_RULES);
    let checked = faults(&variables, &[]);
    let places: Vec<_> = checked
        .lines()
        .map(|line| {
            let (place, _) = line.split_once(": ").expect("a place");
            place.rsplit('/').next().expect("a file")
        })
        .collect();
    let expected = [
        "revwatch.toml:1:14",
        "revwatch.toml:3:15",
        "revwatch.toml:5:13",
        "revwatch.toml:6:16",
        "revwatch.toml:7:8",
        "revwatch.toml:8:13",
        "revwatch.toml:10:11",
        "revwatch.toml:12:9",
        "rules.toml:9:17",
        "rules.toml:10:1",
        "rules.toml:10:1",
        "rules.toml:10:1",
        "rules.toml:10:1",
        "rules.toml:11:8",
        "rules.toml:12:8",
    ];
    assert_eq!(places, expected, "{checked}");
    assert!(!checked.contains("hidden"), "{checked}");

    let output = cli(&variables, &["serve"]);
    let refused = String::from_utf8(output.stderr).expect("text");
    assert_eq!(refused, format!("revwatch: {checked}"));

    process.hang_up();
    let message = "settings not reloaded; the previous ones stay active";
    until("the reload is refused", || async {
        (!process.logged(message).is_empty()).then_some(())
    })
    .await;
    let logged = &process.logged(message)[0]["error"];
    assert_eq!(logged.as_str(), Some(checked.trim_end()));

    // Where the syntax is wrong, the settings are unknown, but not the rules.
    settings.write("revwatch.toml", "partitions = 0\nlisten = \n");
    let checked = faults(&variables, &[]);
    assert!(
        checked.contains("revwatch.toml:2:10: ") && checked.contains("rules.toml:12:8: "),
        "{checked}"
    );
    assert!(!checked.contains("revwatch.toml:1:"), "{checked}");
    process.stop();
}

#[test]
fn a_process_needs_only_the_settings_of_its_roles() {
    let none: Variables = vec![("STRIPE_WEBHOOK_SECRET".into(), String::new())];
    assert!(faults(&none, &[]).contains("no webhook endpoint has a signing secret"));
    assert!(
        print(&none, &["config", "check", "--roles", "worker,alerting"])
            .ends_with("The configuration is valid.\n")
    );
    let shown: Value =
        serde_json::from_str(&print(&Variables::new(), &["config", "check", "--json"]))
            .expect("JSON");
    assert_eq!(
        (&shown["ok"], &shown["endpoints"][0]["secrets"]),
        (&true.into(), &1.into()),
        "{shown}"
    );
    let half = vec![("SLACK_SIGNING_SECRET".into(), "s".into())];
    let output = cli(&half, &["serve", "--roles", "alerting"]);
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        !output.status.success() && text.contains("set SLACK_BOT_TOKEN"),
        "{text}"
    );
}

#[test]
fn settings_in_effect_are_printed_with_their_source() {
    let settings =
        Settings::of_providers("[limits]\nbody_bytes = 9\n[slack]\nbot_token = \"xoxb-hidden\"\n");
    let file = settings.write("key", "rk_hidden\n");
    let variables = settings.variables(vec![
        (
            "REVWATCH_AMQP_URL".into(),
            "amqp://me:hidden@rabbit.example/revwatch".into(),
        ),
        ("REVWATCH_REDIS_URL".into(), "redis://redis.example".into()),
        ("STRIPE_SECRET_KEY_FILE".into(), file),
    ]);
    let text = print(&variables, &["config", "print"]);
    for expected in [
        "amqp_url = \"amqp://me:***@rabbit.example/revwatch\"  # REVWATCH_AMQP_URL\n",
        "stripe_secret_key = \"***\"  # STRIPE_SECRET_KEY_FILE\n",
        "stripe_webhook_secret = \"***\"  # STRIPE_WEBHOOK_SECRET\n",
        "revwatch.toml:2\n",
        "bot_token = \"***\"  # ",
        "partitions = 8  # default\n",
    ] {
        assert!(
            text.contains(expected),
            "{text} should contain {expected:?}"
        );
    }
    let json = print(&variables, &["config", "print", "--json"]);
    assert!(
        !text.contains("hidden") && !json.contains("hidden"),
        "{text}{json}"
    );
    let shown: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (
            &shown["settings"]["limits"]["body_bytes"],
            &shown["from"]["data"]
        ),
        (&9.into(), &"default".into())
    );
    // The example file is refused unchanged: its secrets are public.
    settings.write("revwatch.toml", &text);
    assert!(faults(&variables, &[]).contains("`slack.bot_token` holds ***"));
    let defaults = print(&Variables::new(), &["config", "print", "--defaults"]);
    assert_eq!(defaults, revwatch_runtime::config::DEFAULTS);
}

/// Each of these, and `serve` says the same.
#[test]
fn what_stops_serve_at_its_start_is_found_by_the_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("file"), "x").expect("written");
    let store = path("store");
    let of_store = vec![("REVWATCH_DATA".to_owned(), store.clone())];
    Revwatch::serve(&of_store, "worker").stop();
    let before = entries(&store);
    let table: [(&[(&str, &str)], &str); 6] = [
        (&[("REVWATCH_DATA", &path("file"))], "A file has that name"),
        (
            &[("REVWATCH_DATA", &path("file/data"))],
            "A file has that name",
        ),
        (&[("REVWATCH_DATA", "$HOME/data")], "only a shell replaces"),
        (
            &[("REVWATCH_DATA", &store), ("REVWATCH_PARTITIONS", "4")],
            "set REVWATCH_PARTITIONS=8",
        ),
        (
            &[
                ("REVWATCH_DATA", &store),
                ("REVWATCH_LISTEN", "127.0.0.1:18080"),
                ("REVWATCH_ADMIN_LISTEN", "0.0.0.0:18080"),
            ],
            "Give them different ports",
        ),
        (&[("REVWATCH_DATA", "/proc/revwatch")], "takes no new files"),
    ];
    for (variables, expected) in table {
        let variables: Variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let output = cli(&variables, &["serve"]);
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(
            output.status.code() == Some(1) && error.contains(expected),
            "{expected}: {error}"
        );
        // What its file system takes is only known to one who tries it.
        if !expected.starts_with("takes") {
            let found = faults(&variables, &[]);
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }
    let new = vec![("REVWATCH_DATA".to_owned(), path("new"))];
    print(&new, &["config", "check"]);
    print(&of_store, &["config", "check"]);
    assert!(
        !folder.path().join("new").exists(),
        "the check makes nothing"
    );
    assert_eq!(entries(&store), before);
}

fn entries(folder: &str) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("read").file_name())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_unknown_variable_causes_a_warning_at_start() {
    let deployment = Deployment::embedded();
    let process = Revwatch::serve(
        &deployment.variables(&[("REVWATCH_PARTITION", "16")]),
        "worker",
    );
    let wanted = "REVWATCH_PARTITION is set, but revwatch has no such variable; did you mean REVWATCH_PARTITIONS?";
    assert_eq!(process.logged(wanted).len(), 1, "{:?}", process.log());
    process.stop();
}

#[test]
fn a_key_of_the_other_mode_causes_a_warning_at_start_and_in_the_check() {
    let deployment = Deployment::embedded();
    let key = [("STRIPE_SECRET_KEY", "rk_test_never_shown")];
    let mut variables = deployment.variables(&key);
    let is_warning = |text: &str| {
        text.contains("STRIPE_SECRET_KEY")
            && text.contains("REVWATCH_MODE=test")
            && !text.contains("never_shown")
    };
    let process = Revwatch::serve(&variables, "worker");
    let log = process.stop_and_read();
    let warned = |line: &&Value| line["message"].as_str().is_some_and(is_warning);
    assert_eq!(log.iter().filter(warned).count(), 1, "{log:?}");
    let checked = print(&variables, &["config", "check", "--roles", "worker"]);
    assert!(
        checked.starts_with("warning: ") && is_warning(&checked),
        "{checked}"
    );
    assert!(checked.contains("mode      live"), "{checked}");
    let checked = print(&variables, &["config", "check", "--roles", "alerting"]);
    assert!(!checked.contains("warning: "), "only workers read with it");
    variables.push(("REVWATCH_MODE".into(), "test".into()));
    let checked = print(&variables, &["config", "check", "--roles", "worker"]);
    assert!(!checked.contains("warning: "), "{checked}");
    variables.push(("REVWATCH_MODE".into(), "prod".into()));
    let text = faults(&variables, &["--roles", "worker"]);
    assert!(
        text.contains("REVWATCH_MODE") && text.contains("must be one of: live, test"),
        "{text}"
    );
}
