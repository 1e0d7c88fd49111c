//! Settings as people write them.

mod secrets;
mod syntax;

use std::collections::HashMap;

use super::variables::definitions;
use super::*;

fn load(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables: HashMap<_, _> = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).expect("written");
    }
    Config::load(file.map(|_| path.as_path()), &|name| {
        variables.get(name).cloned()
    })
    .map_err(|e| e.to_string())
}

/// File, variables, and what the error must name.
type Case<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn the_commented_file_contains_all_defaults() {
    let config = load(None, &[]).expect("valid");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.partitions, 8);
    assert!(
        config.amqp_url.is_none() && config.slack.bot_token.is_none() && config.rules.is_none()
    );
    for (name, _, _) in definitions() {
        assert!(
            DEFAULTS.contains(name),
            "{name} is not explained in the file of defaults"
        );
    }
}

#[test]
fn the_environment_overrides_the_file_and_the_file_overrides_the_defaults() {
    let file = "partitions = 16\nlisten = \"0.0.0.0:80\"\n[limits]\nbody_bytes = 9\n";
    let config = load(
        Some(file),
        &[
            ("REVWATCH_LISTEN", "127.0.0.1:0"),
            ("SLACK_API_BASE", "http://127.0.0.1:1"),
        ],
    );
    let config = config.expect("valid");
    assert_eq!(
        (
            config.partitions,
            config.limits.body_bytes,
            config.limits.in_flight
        ),
        (16, 9, 2048)
    );
    assert_eq!(config.listen.to_string(), "127.0.0.1:0");
    assert_eq!(config.slack.api_base, "http://127.0.0.1:1");
}

#[test]
fn secrets_can_come_from_files_and_can_be_several() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    std::fs::write(&path, "whsec_first,whsec_other\n").expect("written");
    let path = path.display().to_string();
    let config = load(None, &[("STRIPE_WEBHOOK_SECRET_FILE", &path)]).expect("valid");
    let endpoints = config.webhook_endpoints().expect("endpoints");
    assert_eq!(
        (
            endpoints.len(),
            endpoints[0].keys.count(),
            endpoints[0].path.as_str()
        ),
        (1, 2, "/webhooks/stripe")
    );
    assert!(
        !format!("{config:?}").contains("whsec_first"),
        "secrets are not shown"
    );
}

#[test]
fn secrets_are_used_without_the_spaces_and_line_breaks_around_them() {
    let variables = [
        ("STRIPE_SECRET_KEY", "sk_test_x\n"),
        ("SLACK_BOT_TOKEN", " xoxb-1"),
    ];
    let file = "[sms]\nauth_token = \"\\tf00d\\n\"\n[webhook]\nsecret = \" \\n\"";
    let config = load(Some(file), &variables).expect("valid");
    let text = |secret: Option<SecretString>| secret.map(|s| s.expose_secret().to_owned());
    assert_eq!(text(config.stripe_secret_key).as_deref(), Some("sk_test_x"));
    assert_eq!(text(config.slack.bot_token).as_deref(), Some("xoxb-1"));
    assert_eq!(text(config.sms.auth_token).as_deref(), Some("f00d"));
    assert_eq!(text(config.webhook.secret), None);
}

#[test]
fn slacks_secrets_are_read_and_not_shown() {
    let config = load(None, &[]).expect("valid").slack;
    assert!(config.signing_secret.is_none() && config.app_token.is_none());
    assert_eq!(config.interactivity_listen.to_string(), "127.0.0.1:8081");
    let variables = [
        ("SLACK_SIGNING_SECRET", "8f74,2b10"),
        ("SLACK_APP_TOKEN", "xapp-1-A1-2-3"),
    ];
    let config = load(
        Some("[slack]\ninteractivity_listen = \"0.0.0.0:9\""),
        &variables,
    )
    .expect("valid")
    .slack;
    assert!(config.signing_secret.is_some() && config.app_token.is_some());
    assert_eq!(config.interactivity_listen.to_string(), "0.0.0.0:9");
    assert!(
        !format!("{config:?}").contains("8f74") && !format!("{config:?}").contains("A1-2"),
        "{config:?}"
    );
}

/// C15: five channels, unless a file has its own.
#[test]
fn a_file_with_a_default_channel_has_only_its_own_channels() {
    let channels = |file: Option<&str>| {
        let slack = load(file, &[]).expect("valid").slack;
        let channels: Vec<_> = slack.channels.into_iter().collect();
        let text = channels
            .iter()
            .map(|(route, channel)| format!("{route} {channel}"));
        text.collect::<Vec<_>>()
    };
    let shipped = channels(None);
    assert!(shipped.contains(&"alerts-churn #alerts-churn".to_owned()));
    assert_eq!(
        channels(Some("[slack.channels]\nother = \"#x\"")).len(),
        shipped.len() + 1
    );
    let own = "[slack.channels]\ndefault = \"#x\"\nalerts-high = \"#y\"";
    assert_eq!(channels(Some(own)), ["alerts-high #y", "default #x"]);
}

#[test]
fn every_fault_is_named_with_its_fix() {
    let table: &[Case<'_>] = &[
        (
            Some("lissten = 1"),
            &[],
            "my.toml:1:1: unknown key `lissten`; did you mean `listen`?",
        ),
        (Some("[limits]\nbody_bites = 1"), &[], "body_bites"),
        (
            Some("partitions = \"x\""),
            &[],
            "my.toml:1:14: `partitions` must be a whole number",
        ),
        (Some("listen = "), &[], "my.toml:1:10: "),
        (
            None,
            &[("REVWATCH_LISTEN", "here")],
            "REVWATCH_LISTEN must be an IP address and a port, such as 127.0.0.1:8080, but is \"here\"",
        ),
        (
            None,
            &[("REVWATCH_TRUSTED_PROXIES", "10.0.0.1/8")],
            "REVWATCH_TRUSTED_PROXIES: \"10.0.0.1/8\" has bits",
        ),
        (
            Some("trusted_proxies = \"proxy\""),
            &[],
            "my.toml:1:19: `trusted_proxies`: \"proxy\" must be an address",
        ),
        (
            None,
            &[("REVWATCH_PARTITIONS", "many")],
            "REVWATCH_PARTITIONS",
        ),
        (None, &[("REVWATCH_PARTITIONS", "0")], "1 to 1024"),
        (
            None,
            &[("REVWATCH_DATA", "~/data")],
            "data (REVWATCH_DATA) begins with ~, which only a shell replaces",
        ),
        (
            None,
            &[("REVWATCH_REDIS_URL", "redis://h")],
            "REVWATCH_AMQP_URL",
        ),
        (
            None,
            &[("SLACK_BOT_TOKEN", "a"), ("SLACK_BOT_TOKEN_FILE", "b")],
            "keep one",
        ),
        (
            None,
            &[("STRIPE_WEBHOOK_SECRET_FILE", "/nowhere/at/all")],
            "/nowhere/at/all",
        ),
        (
            None,
            &[("REVWATCH_CONFIG", "/nowhere.toml")],
            "/nowhere.toml",
        ),
        (
            None,
            &[("STRIPE_API_BASE", "http://api.stripe.com")],
            "https://",
        ),
        (
            None,
            &[("STRIPE_API_BASE", "http://127.0.0.1.example.com")],
            "https://",
        ),
        (None, &[("STRIPE_API_BASE", "ftp://127.0.0.1")], "https://"),
        (None, &[("STRIPE_API_BASE", "api.stripe.com")], "not a URL"),
        (
            None,
            &[("STRIPE_API_BASE", "https://me:secret@api.stripe.com")],
            "no password",
        ),
        (
            None,
            &[("STRIPE_API_BASE", "https://10.0.0.1")],
            "(STRIPE_API_BASE) names a private",
        ),
        (
            None,
            &[("STRIPE_API_BASE", "https://api.stripe.com/?x")],
            "plain base URL",
        ),
        (
            None,
            &[("STRIPE_SECRET_KEY", "pk_test_1")],
            "STRIPE_SECRET_KEY",
        ),
        (
            None,
            &[("STRIPE_SECRET_KEY", "sk_test_1\nX: y")],
            "STRIPE_SECRET_KEY: `stripe_secret_key` must have one line",
        ),
        (None, &[("SLACK_APP_TOKEN", "xoxb-1")], "connections:write"),
        (
            None,
            &[("SLACK_APP_TOKEN", "xapp-1 X: y")],
            "has a space, a line break",
        ),
        (None, &[("SLACK_SIGNING_SECRET", "a,,b")], "empty secret"),
        (
            None,
            &[("SLACK_INTERACTIVITY_LISTEN", "here")],
            "SLACK_INTERACTIVITY_LISTEN",
        ),
        (
            None,
            &[("SLACK_API_BASE", "http://slack.example/api")],
            "slack.api_base (SLACK_API_BASE) must begin with",
        ),
        (
            None,
            &[("SLACK_WEBHOOK_URL", "https://192.168.0.1/x")],
            "(SLACK_WEBHOOK_URL) names a private",
        ),
        (
            None,
            &[("REVWATCH_WEBHOOK_URL", "https://me:pw@h.example/")],
            "(REVWATCH_WEBHOOK_URL) must have no user",
        ),
        (
            Some("[sms]\napi_base = \"http://h.example\""),
            &[],
            "sms.api_base must begin with",
        ),
        (
            Some("[pagerduty]\napi_base = \"https://[::ffff:10.0.0.1]\""),
            &[],
            "pagerduty.api_base names a private",
        ),
        (
            None,
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")],
            "(OTEL_EXPORTER_OTLP_ENDPOINT) must begin with",
        ),
        (
            None,
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:pw@h.example")],
            "must be a plain base URL",
        ),
        (
            None,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h.example"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
            ],
            "(OTEL_EXPORTER_OTLP_HEADERS) go over https://",
        ),
        (
            None,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h.example"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "Bearer x"),
            ],
            "(OTEL_EXPORTER_OTLP_HEADERS) must be name=value",
        ),
        (
            None,
            &[("OTEL_TRACES_SAMPLER_ARG", "half")],
            "OTEL_TRACES_SAMPLER_ARG must be a number",
        ),
        (
            None,
            &[("OTEL_TRACES_SAMPLER_ARG", "1.5")],
            "traces.sample_ratio (OTEL_TRACES_SAMPLER_ARG) must be",
        ),
        (
            Some("[worker]\nrefreshes_per_second = 0.0"),
            &[],
            "worker.refreshes_per_second",
        ),
        (Some("[limits]\nin_flight = 0"), &[], "limits.in_flight"),
        (
            Some("[limits]\nconnections_per_peer = 0"),
            &[],
            "limits.connections_per_peer",
        ),
        (
            Some("[limits]\nunfinished_body_bytes = 1000"),
            &[],
            "must be at least limits.body_bytes",
        ),
        (
            Some("[alerting]\ntick_seconds = 6.0"),
            &[],
            "alerting.lease_seconds must be at least twice",
        ),
        (
            Some("[limits]\nsignature_tolerance_seconds = -1"),
            &[],
            "signature_tolerance_seconds",
        ),
    ];
    for (file, variables, expected) in table {
        let error = load(*file, variables).expect_err("invalid");
        assert!(
            error.contains(expected),
            "{error:?} should name {expected:?}"
        );
    }
}

#[test]
fn faults_among_values_have_their_places_and_are_in_order() {
    let text = "[worker]\nbatch = 0\n[sms]\napi_base = \"http://h.example\"\n[alerting]\ntick_seconds = 6.0\n\
                [limits]\nunfinished_body_bytes = 1000\nin_flight = 0\n";
    let error = load(Some(text), &[("REVWATCH_PARTITIONS", "0")]).expect_err("invalid");
    let lines: Vec<_> = error.lines().collect();
    let expected = [
        "my.toml:2:9: worker.batch must be at least 1",
        "my.toml:4:12: sms.api_base must begin with https://",
        "my.toml:6:16: alerting.lease_seconds must be at least twice alerting.tick_seconds",
        "my.toml:8:25: limits.unfinished_body_bytes must be at least limits.body_bytes",
        "my.toml:9:13: limits.in_flight must be at least 1",
    ];
    assert_eq!(lines.len(), expected.len() + 1, "{error}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{line} should contain {expected}");
    }
    assert_eq!(
        lines[5],
        "partitions (REVWATCH_PARTITIONS) must be 1 to 1024, but is 0"
    );
}

#[test]
fn a_fault_that_only_follows_from_another_is_not_reported() {
    let table: &[Case<'_>] = &[
        (
            None,
            &[("STRIPE_WEBHOOK_SECRET_FILE", "/nowhere")],
            "STRIPE_WEBHOOK_SECRET_FILE: cannot read /nowhere",
        ),
        (
            None,
            &[
                ("STRIPE_WEBHOOK_SECRET", "whsec_first"),
                ("STRIPE_WEBHOOK_SECRET_FILE", "/nowhere"),
            ],
            "keep one",
        ),
        (
            Some("[[endpoints]]\nname = \"a\"\npath = 7\nsecrets = [\"whsec_first\"]"),
            &[],
            "my.toml:3:8: `endpoints.path` must be text",
        ),
        (
            Some("stripe_webhok_secret = \"whsec_first\""),
            &[],
            "did you mean `stripe_webhook_secret`?",
        ),
        (
            None,
            &[
                ("STRIPE_WEBHOOK_SECRET", "whsec_first"),
                ("REVWATCH_REDIS_URL", "redis://h"),
                ("REVWATCH_AMQP_URL_FILE", "/nowhere"),
            ],
            "REVWATCH_AMQP_URL_FILE: cannot read /nowhere",
        ),
        // Of a file that is not TOML nothing is known, so nothing else is said about its settings.
        (Some("partitions = 0\n= 7"), &[], "my.toml:2:1: "),
    ];
    for (file, variables, expected) in table {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("my.toml");
        std::fs::write(&path, file.unwrap_or_default()).expect("written");
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let served = |config: &Config| config.webhook_endpoints();
        let error = Effective::accepted(Some(&path), &lookup, served).err();
        let faults = error.expect("refused").faults;
        assert!(
            faults.len() == 1 && faults[0].to_string().contains(expected),
            "{faults:?} should only be {expected:?}"
        );
    }
}

#[test]
fn faults_of_variables_are_named_although_the_file_is_not_toml() {
    let variables = [
        ("STRIPE_SECRET_KEY", "whsec_hidden"),
        ("SLACK_BOT_TOKEN", "***"),
        ("REVWATCH_PARTITIONS", "0"),
    ];
    let error = load(Some("listen = "), &variables).expect_err("refused");
    for expected in [
        "my.toml:1:10: ",
        "(STRIPE_SECRET_KEY) is not a secret key",
        "SLACK_BOT_TOKEN: `slack.bot_token` holds ***",
        "(REVWATCH_PARTITIONS) must be 1 to 1024",
    ] {
        assert!(error.contains(expected), "{error} should name {expected}");
    }
}

#[test]
fn a_credential_of_another_kind_is_refused_without_quoting_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "xoxp-hidden").expect("written");
    let path = path.display().to_string();
    let table = [
        ("SLACK_BOT_TOKEN", "xoxp-hidden", "`xoxb-…`"),
        ("SLACK_BOT_TOKEN_FILE", &path, "SLACK_BOT_TOKEN_FILE: "),
        ("SLACK_APP_TOKEN", "xoxb-hidden", "`xapp-…`"),
        ("SLACK_SIGNING_SECRET", "a,xoxb-hidden", "Signing Secret"),
        ("STRIPE_SECRET_KEY", "whsec_hidden", "`sk_…` or `rk_…`"),
        ("STRIPE_WEBHOOK_SECRET", "sk_live_hidden", "`whsec_…`"),
        ("STRIPE_KERNEL_WEBHOOK_SECRET", "a,we_hidden", "`whsec_…`"),
        ("PAGERDUTY_ROUTING_KEY", "u+hidden", "integration key"),
        ("TWILIO_AUTH_TOKEN", "SKhidden", "Auth Token"),
        ("TWILIO_AUTH_TOKEN", "hid hidden", "AUTH_TOKEN) has a space"),
        ("STRIPE_SECRET_KEY", "sk_x hidden", "_KEY) has a space"),
    ];
    for (name, value, expected) in table {
        let error = load(None, &[(name, value)]).expect_err("refused");
        assert!(
            error.contains(name) && error.contains(expected) && !error.contains("hidden"),
            "{error} should contain {expected}"
        );
    }
}

#[test]
fn rabbitmq_alone_is_enough_for_ingest_only() {
    let ingest = load(None, &[("REVWATCH_AMQP_URL", "amqp://h")]).expect("valid");
    assert!(ingest.queue_server().expect("enough").is_some());
    let error = ingest.servers().expect_err("Redis is missing").to_string();
    assert!(
        error.contains("(REVWATCH_REDIS_URL) is not") && error.contains("`ingest`"),
        "{error}"
    );
    let embedded = load(None, &[]).expect("valid");
    assert!(
        embedded.servers().expect("valid").is_none()
            && embedded.queue_server().expect("valid").is_none()
    );
    let both = load(
        None,
        &[
            ("REVWATCH_AMQP_URL", "amqp://h"),
            ("REVWATCH_REDIS_URL", "redis://h"),
        ],
    )
    .expect("valid");
    assert!(both.servers().expect("valid").is_some());
}

#[test]
fn stripes_api_base_must_use_tls_or_loopback() {
    assert_eq!(
        load(None, &[]).expect("valid").stripe_api_base,
        "https://api.stripe.com"
    );
    for base in [
        "http://127.0.0.1:9",
        "http://[::1]:9",
        "http://localhost:9/",
        "https://proxy.example/stripe",
    ] {
        let variables = [
            ("STRIPE_API_BASE", base),
            ("STRIPE_SECRET_KEY", "sk_test_1"),
        ];
        let config = load(None, &variables).expect("valid");
        assert_eq!(config.stripe_api_base, base);
        assert!(
            !format!("{config:?}").contains("sk_test_1"),
            "secrets are not shown"
        );
    }
}

#[test]
fn notifier_settings_hide_their_secrets() {
    let mut variables = vec![
        ("SLACK_BOT_TOKEN", "xoxb-hidden"),
        ("TWILIO_AUTH_TOKEN", "hidden"),
        ("PAGERDUTY_ROUTING_KEY", "hidden"),
        ("REVWATCH_WEBHOOK_SECRET", "hidden"),
    ];
    variables.push(("SMTP_URL", "smtps://me:hidden@mail.example"));
    variables.push(("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hidden"));
    variables.push(("REVWATCH_WEBHOOK_URL", "https://10.0.0.9/hidden"));
    let config = load(Some("[egress]\nallow_private_addresses = true"), &variables).expect("valid");
    assert!(config.egress.allow_private_addresses && config.email.smtp_url.is_some());
    assert!(
        !format!("{config:?}").contains("hidden"),
        "secrets are not shown"
    );
}

#[test]
fn an_endpoint_needs_a_secret() {
    let table: &[Case<'_>] = &[
        (None, &[], "STRIPE_WEBHOOK_SECRET"),
        (
            None,
            &[("STRIPE_WEBHOOK_SECRET", "whsec_first,,whsec_other")],
            "empty secret",
        ),
        (
            Some("[[endpoints]]\nname = \"x\"\npath = \"/x\""),
            &[],
            "at least one secret",
        ),
        (
            Some("[[endpoints]]\nname = \"x\"\npath = \"x\"\nsecrets = [\"a\"]"),
            &[],
            "begin with /",
        ),
        (
            Some("[[endpoints]]\nname = \"x\"\npath = \"/x?y=1\"\nsecrets = [\"a\"]"),
            &[],
            "without host, query",
        ),
        (
            Some("[[endpoints]]\nname = \"x\"\npath = \"/webhooks/stripe\"\nsecrets = [\"a\"]"),
            &[("STRIPE_WEBHOOK_SECRET", "whsec_first")],
            "is already used",
        ),
    ];
    for (file, variables, expected) in table {
        let config = load(*file, variables).expect("valid so far");
        let error = config
            .webhook_endpoints()
            .expect_err("no endpoint")
            .to_string();
        assert!(
            error.contains(expected),
            "{error:?} should name {expected:?}"
        );
    }
}
