//! `revwatch config check --connect`: each wrong setting of a server is named with its fix, in plain words and once.

use serde_json::Value;

use super::Deployment;
use crate::support::mail::MailServer;
use crate::support::providers::Settings;
use crate::support::revwatch::{Revwatch, Variables, cli};
use crate::support::slack::Slack;

/// The results by the name of the server, and the errors.
fn servers(variables: &Variables) -> Vec<(String, String, String)> {
    let output = cli(variables, &["config", "check", "--connect", "--json"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains("never_shown"), "{text}");
    let shown: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text:?}"));
    let of = |server: &Value, key: &str| server[key].as_str().unwrap_or_default().to_owned();
    let servers = shown["servers"].as_array().into_iter().flatten();
    servers
        .map(|server| {
            (
                of(server, "name"),
                of(server, "result"),
                of(server, "error"),
            )
        })
        .collect()
}

fn with(variables: &Variables, name: &str, value: &str) -> Variables {
    let mut variables = variables.clone();
    variables.push((name.to_owned(), value.to_owned()));
    variables
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_urls_of_rabbitmq_and_redis_are_named_with_the_fix() {
    let deployment = Deployment::servers().await;
    let variables = deployment.variables(&[]);
    let value = |name: &str| {
        let found = variables.iter().rfind(|(known, _)| known == name);
        found.expect("a variable").1.clone()
    };
    let parsed = |name: &str| url::Url::parse(&value(name)).expect("a URL");
    let (amqp, redis) = (parsed("REVWATCH_AMQP_URL"), parsed("REVWATCH_REDIS_URL"));
    let changed = |url: &url::Url, change: &dyn Fn(&mut url::Url)| {
        let mut url = url.clone();
        change(&mut url);
        url.to_string()
    };
    let redis_at_rabbitmq = changed(&redis, &|url| {
        url.set_port(amqp.port()).expect("a port");
    });
    let tls_at_plain = amqp.as_str().replacen("amqp://", "amqps://", 1);
    let table = [
        ("REVWATCH_AMQP_URL", amqp.to_string(), "ok", ""),
        (
            "REVWATCH_AMQP_URL",
            changed(&amqp, &|url| {
                url.set_password(Some("never_shown")).expect("set");
            }),
            "failed",
            "refuses the user name or password in REVWATCH_AMQP_URL",
        ),
        (
            "REVWATCH_AMQP_URL",
            changed(&amqp, &|url| url.set_path("/nothere")),
            "failed",
            "rabbitmqctl add_vhost nothere",
        ),
        (
            "REVWATCH_AMQP_URL",
            "amqp://u:never_shown@127.0.0.1:1/x".to_owned(),
            "failed",
            "(REVWATCH_AMQP_URL) cannot be reached: nothing listens there (connection refused)",
        ),
        (
            "REVWATCH_AMQP_URL",
            tls_at_plain,
            "failed",
            "it does not speak TLS on this port",
        ),
        (
            "REVWATCH_AMQP_URL",
            "amqp://u:never_shown@rabbit.invalid/x".to_owned(),
            "failed",
            "no address is known for this host name",
        ),
        ("REVWATCH_REDIS_URL", redis.to_string(), "ok", ""),
        (
            "REVWATCH_REDIS_URL",
            changed(&redis, &|url| url.set_path("/99999")),
            "failed",
            "Redis does not have the database",
        ),
        (
            "REVWATCH_REDIS_URL",
            redis_at_rabbitmq,
            "failed",
            "does not speak the protocol of Redis",
        ),
        (
            "REVWATCH_REDIS_URL",
            redis
                .as_str()
                .replacen("redis://", "redis-cluster://", 1)
                .trim_end_matches("/0")
                .to_owned(),
            "failed",
            "this Redis is no Cluster: write redis://",
        ),
        (
            "REVWATCH_REDIS_URL",
            "redis://redis.invalid:6379/0".to_owned(),
            "failed",
            "no address is known for this host name",
        ),
    ];
    for (name, value, result, error) in table {
        let found = servers(&with(&variables, name, &value));
        let server = if name == "REVWATCH_AMQP_URL" {
            "rabbitmq"
        } else {
            "redis"
        };
        let found = found.iter().find(|(known, ..)| known == server);
        let (_, found_result, found_error) = found.expect("the server was asked");
        assert!(
            found_result == result && found_error.contains(error),
            "{value}: {found_result} {found_error} should be {result} {error}"
        );
        for word in [
            "IO error",
            "os error",
            "AMQP soft error",
            "Incompatible",
            "protocol error",
        ] {
            assert!(!found_error.contains(word), "{found_error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_partitions_that_serve_would_refuse_is_named() {
    let deployment = Deployment::servers().await;
    // Each call of this names a virtual host of its own.
    let variables = deployment.variables(&[]);
    let number = |number: &str| with(&variables, "REVWATCH_PARTITIONS", number);
    let results = |it: &str| servers(&number(it)).into_iter().take(2).collect::<Vec<_>>();
    // Nothing is there yet, and asking makes nothing: the next number is as right.
    for any in ["8", "4"] {
        let found = results(any);
        assert!(
            found.iter().all(|(_, result, _)| result == "ok"),
            "{found:?}"
        );
    }
    Revwatch::serve(&number("8"), "worker").stop();
    let found = results("4");
    for (name, result, error) in &found {
        assert!(
            result == "failed" && error.contains("REVWATCH_PARTITIONS=8"),
            "{name}: {error}"
        );
    }
    let found = results("8");
    assert!(
        found.iter().all(|(_, result, _)| result == "ok"),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_user_that_may_run_no_scripts_is_refused_at_start() {
    let mut deployment = Deployment::servers().await;
    let rules = "ACL SETUSER limited on >never_shown ~* &* +@all -@scripting";
    deployment.redis().run::<()>(rules);
    let port = deployment.redis().port();
    let url = format!("redis://limited:never_shown@127.0.0.1:{port}/0");
    let variables = with(&deployment.variables(&[]), "REVWATCH_REDIS_URL", &url);
    let found = servers(&variables);
    let (_, result, error) = found
        .iter()
        .find(|(name, ..)| name == "redis")
        .expect("asked");
    assert!(
        result == "failed" && error.contains("lacks permissions"),
        "{error}"
    );
    let output = cli(&variables, &["serve", "--roles", "worker"]);
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(
        output.status.code() == Some(1) && error.contains("lacks permissions"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_server_and_slack_are_asked_without_a_message() {
    let (deployment, slack) = (Deployment::embedded(), Slack::start(&[]).await);
    let mail = MailServer::start();
    let text = "[email]\nfrom = \"a@example.com\"\nto = { default = [\"b@example.com\"] }\n";
    let settings = Settings::of_providers(text);
    let variables = settings.variables(deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-never_shown"),
        ("SLACK_API_BASE", &slack.url()),
        ("SMTP_URL", &mail.url()),
        ("PAGERDUTY_ROUTING_KEY", "R1"),
    ]));
    let result = |found: &[(String, String, String)], name: &str| {
        let found = found.iter().find(|(known, ..)| known == name);
        found.expect("it was asked").clone()
    };
    let found = servers(&variables);
    assert_eq!(result(&found, "email").1, "ok", "{found:?}");
    assert_eq!(result(&found, "pagerduty").1, "not_asked", "{found:?}");
    let called: Vec<String> = slack.calls().into_iter().map(|call| call.method).collect();
    assert_eq!(called, ["auth.test"]);
    assert!(mail.mails().is_empty());

    let closed = with(&variables, "SMTP_URL", "smtp://localhost:1");
    let (_, result, error) = result(&servers(&closed), "email");
    assert_eq!(
        (result.as_str(), error.as_str()),
        (
            "failed",
            "mail server localhost:1, connecting: nothing listens there (connection refused): check email.smtp_url (SMTP_URL)"
        )
    );
}
