//! Values with what editors, shells and other programs add to them.

use super::*;

const SECRET: &str = "whsec_the_one_from_the_dashboard";

/// How many secrets the first endpoint has when `STRIPE_WEBHOOK_SECRET_FILE` names a file with these bytes; or the error.
fn secrets_of_file(bytes: &[u8]) -> Result<usize, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    std::fs::write(&path, bytes).expect("written");
    let path = path.display().to_string();
    keys(None, &[("STRIPE_WEBHOOK_SECRET_FILE", &path)])
}

fn keys(file: Option<&str>, variables: &[(&str, &str)]) -> Result<usize, String> {
    let endpoints = load(file, variables)?.webhook_endpoints();
    let endpoints = endpoints.map_err(|error| error.to_string())?;
    Ok(endpoints[0].keys.count())
}

#[test]
fn a_file_of_secrets_may_have_a_byte_order_mark_comments_and_several_lines() {
    let table: [(&str, usize); 5] = [
        ("\u{feff}whsec_the_one\r\n", 1),
        ("whsec_new_one\nwhsec_old_one\n", 2),
        ("whsec_new_one,whsec_old_one\n", 2),
        ("# production\r\n\r\nwhsec_the_one\r\n", 1),
        ("whsec_the_one\n# whsec_old_one\n", 1),
    ];
    for (text, expected) in table {
        assert_eq!(secrets_of_file(text.as_bytes()), Ok(expected), "{text:?}");
        // The file of an endpoint and the variable follow the same rule.
        assert_eq!(
            keys(None, &[("STRIPE_WEBHOOK_SECRET", text)]),
            Ok(expected),
            "{text:?}"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, text).expect("written");
        let file = format!("[[endpoints]]\nname = \"a\"\npath = \"/a\"\nsecret_file = {path:?}\n");
        assert_eq!(keys(Some(&file), &[]), Ok(expected), "{text:?}");
    }
    for text in ["\u{feff}\r\n", "# only a comment\n"] {
        let error = secrets_of_file(text.as_bytes()).expect_err("no secret");
        assert!(
            error.contains("is empty: put the secret into it"),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_signing_secret_is_refused_wherever_it_is_written() {
    let table = [
        ("\"whsec_hidden_one\"", "must not be in quotes"),
        (
            "STRIPE_WEBHOOK_SECRET=whsec_hidden",
            "must not begin with the name of a variable",
        ),
        ("${STRIPE_HIDDEN}", "which nothing has replaced"),
        ("whsec_change_me", "holds a placeholder"),
        ("sk_live_hidden", "is not a signing secret, but a key"),
        ("whsec_hidden # comment", "has a space"),
        ("hid", "is so short that anyone could guess it"),
    ];
    for (text, expected) in table {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, text).expect("written");
        let secret_file =
            format!("[[endpoints]]\nname = \"a\"\npath = \"/a\"\nsecret_file = {path:?}\n");
        let secrets =
            format!("[[endpoints]]\nname = \"a\"\npath = \"/a\"\nsecrets = ['''{text}''']\n");
        let path = path.display().to_string();
        for (file, variables) in [
            (None, vec![("STRIPE_WEBHOOK_SECRET", text)]),
            (None, vec![("STRIPE_KERNEL_WEBHOOK_SECRET", text)]),
            (None, vec![("STRIPE_WEBHOOK_SECRET_FILE", path.as_str())]),
            (Some(secret_file.as_str()), vec![]),
            (Some(secrets.as_str()), vec![]),
        ] {
            let error = keys(file, &variables).expect_err(text);
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(
                error.contains(expected) && !error.contains("hid"),
                "{error} should contain {expected}"
            );
        }
    }
}

/// Of files with the line ends of Windows, which Docker and systemd pass on.
#[test]
fn a_carriage_return_behind_a_value_is_not_part_of_it() {
    let values = [
        ("REVWATCH_LISTEN", "127.0.0.1:8080"),
        ("REVWATCH_TRUSTED_PROXIES", "10.0.0.7"),
        ("REVWATCH_DATA", "/var/lib/revwatch"),
        ("REVWATCH_AMQP_URL", "amqp://u:p@rabbit.example/revwatch"),
        ("REVWATCH_REDIS_URL", "redis://redis.example/0"),
        ("REVWATCH_PARTITIONS", "16"),
        ("REVWATCH_MODE", "test"),
        ("STRIPE_WEBHOOK_SECRET", SECRET),
        ("STRIPE_SECRET_KEY", "sk_test_x"),
        ("STRIPE_API_BASE", "https://api.stripe.com"),
        ("REVWATCH_RULES", "/etc/revwatch/rules"),
        ("SLACK_BOT_TOKEN", "xoxb-1"),
        ("OTEL_SERVICE_NAME", "revwatch"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
    ];
    let with_ends: Vec<(&str, String)> = values
        .iter()
        .map(|(name, value)| (*name, format!("{value}\r")))
        .collect();
    let with_ends: Vec<(&str, &str)> = with_ends
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let shown = |variables: &[(&str, &str)]| {
        let config = load(None, variables).expect("valid");
        let secret = |secret: &Option<SecretString>| {
            secret.as_ref().map(|text| text.expose_secret().to_owned())
        };
        (
            secret(&config.amqp_url),
            secret(&config.redis_url),
            secret(&config.stripe_webhook_secret),
            secret(&config.slack.bot_token),
            format!("{config:?}"),
        )
    };
    assert_eq!(shown(&with_ends), shown(&values));
    let file = "data = \"/var/lib/revwatch\\r\"\nlisten = \" 127.0.0.1:8080 \"\n";
    let config = load(Some(file), &[]).expect("valid");
    assert_eq!(config.data.to_str(), Some("/var/lib/revwatch"));
}

#[test]
fn a_value_that_no_trimming_mends_is_shown_as_it_is() {
    let table = [
        ("REVWATCH_DATA", "\"/var/lib/revwatch\""),
        ("REVWATCH_LISTEN", "'127.0.0.1:8080'"),
        ("REVWATCH_RULES", "/etc/\u{200b}rules"),
        ("REVWATCH_PARTITIONS", "REVWATCH_PARTITIONS=8"),
        ("REVWATCH_DATA", "${HOME}/revwatch"),
    ];
    for (name, value) in table {
        let error = load(None, &[(name, value)]).expect_err(value);
        assert!(
            error.starts_with(name) && error.contains(&format!(", but is {value:?}; give ")),
            "{error}"
        );
    }
}

/// A deployment that is copied and not adapted must not run with public secrets.
#[test]
fn the_secrets_of_the_example_deployment_are_refused() {
    const EXAMPLE: &str = "../../deploy/kubernetes/overlays/example/secrets";
    let files = [
        ("amqp_url", "REVWATCH_AMQP_URL_FILE"),
        ("redis_url", "REVWATCH_REDIS_URL_FILE"),
        ("slack_bot_token", "SLACK_BOT_TOKEN_FILE"),
        ("stripe_webhook_secret", "STRIPE_WEBHOOK_SECRET_FILE"),
    ];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
    let in_folder = std::fs::read_dir(&folder).expect("a folder");
    assert_eq!(
        in_folder.count(),
        files.len(),
        "a secret is not in this table"
    );
    for (name, variable) in files {
        let path = folder.join(name).display().to_string();
        let error = load(None, &[(variable, &path)]).expect_err(name);
        assert!(
            error.contains(variable) && error.contains("holds a placeholder"),
            "{error}"
        );
    }
}
