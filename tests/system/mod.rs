//! End-to-end tests: the binary, real HTTP, real servers.

mod alerts;
mod app;
mod app_snippets;
mod archive_gaps;
mod attempts;
mod audit;
mod backfill;
mod backlog;
mod backup;
mod beginning;
mod completeness;
mod config;
mod config_connect;
mod conversion;
mod crash;
mod demo;
mod deploy;
mod entities;
mod event_endpoints;
mod evidence;
mod failing_events;
mod formats;
mod identity;
mod localstripe;
mod log_reader;
mod lost_deliveries;
mod mail;
mod modes;
mod mrr;
mod order;
mod other_ways;
mod owners;
mod prometheus;
mod readiness;
mod recovery;
mod redaction;
mod redis_loss;
mod reload;
mod resolver;
mod roles;
mod rules;
mod slack;
mod slack_chaos;
mod slack_sdk;
mod store_file;
mod storm;
mod tls;
mod traces;
mod two_evaluators;
mod verify;

use tempfile::TempDir;

use crate::support::rabbitmq::RabbitServer;
use crate::support::redis::RedisServer;
use crate::support::revwatch::Variables;

/// A deployment of revwatch: the store and the queue, removed at the end of the test.
pub(crate) enum Deployment {
    Embedded(TempDir),
    Servers(Box<(RabbitServer, RedisServer)>),
}

impl Deployment {
    pub(crate) fn embedded() -> Self {
        Self::Embedded(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) async fn servers() -> Self {
        Self::Servers(Box::new((
            RabbitServer::start().await,
            RedisServer::start(),
        )))
    }

    /// The Redis of a deployment on servers.
    pub(crate) fn redis(&mut self) -> &mut RedisServer {
        match self {
            Self::Servers(servers) => &mut servers.1,
            Self::Embedded(_) => panic!("an embedded deployment has no Redis"),
        }
    }

    /// The variables for this deployment, and `more`.
    pub(crate) fn variables(&self, more: &[(&str, &str)]) -> Variables {
        use secrecy::ExposeSecret as _;
        let mut variables: Variables = more
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        match self {
            Self::Embedded(folder) => {
                variables.push(("REVWATCH_DATA".into(), folder.path().display().to_string()));
            }
            Self::Servers(servers) => {
                variables.push((
                    "REVWATCH_AMQP_URL".into(),
                    servers.0.url().expose_secret().to_owned(),
                ));
                variables.push((
                    "REVWATCH_REDIS_URL".into(),
                    servers.1.url().expose_secret().to_owned(),
                ));
            }
        }
        variables
    }
}

/// A file with some of the built-in rules, for tests that count alerts; removed on drop. Rules that are not in it
/// inhibit nothing.
pub(crate) fn shipped_rules(names: &[&str]) -> tempfile::NamedTempFile {
    use std::io::Write as _;
    let mut file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a file");
    for name in names {
        let wanted = format!("\nname = \"{name}\"\n");
        let rule = revwatch_alerting::rule_text::DEFAULT_RULES
            .split("[[rule]]")
            .find(|rule| rule.contains(&wanted));
        let is_alone = |line: &&str| match line.strip_prefix("inhibited_by = ") {
            Some(others) => others
                .split('"')
                .skip(1)
                .step_by(2)
                .all(|it| names.contains(&it)),
            None => true,
        };
        let lines = rule.expect("a shipped rule").lines().filter(is_alone);
        let rule = lines.collect::<Vec<_>>().join("\n");
        writeln!(file, "[[rule]]{rule}").expect("written");
    }
    file
}
