//! `revwatch config`: the settings in effect, and all their faults.

use serde_json::Value;

use super::Deployment;
use crate::support::providers::Settings;
use crate::support::revwatch::{Revwatch, Variables, cli, print};

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
        "revwatch.toml:1: unknown key `lissten`; did you mean `listen`?",
        "revwatch.toml:3: unknown key `limits.body_bites`; did you mean `body_bytes`?",
        "revwatch.toml:4: `limits.in_flight`: invalid type: string \"many\"",
        "STRIPE_SECRET_KEY_FILE: cannot read /nowhere/key: No such file",
        "partitions (REVWATCH_PARTITIONS) must be 1 to 1024",
        "endpoint \"eu\": cannot read /nowhere/eu: No such file",
        "rules.toml:2:8: ",
        "Slack is only partly configured: slack.app_token (SLACK_APP_TOKEN) is set",
        "email is only partly configured",
        "notify names \"telegram\"",
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
