//! A real Prometheus reads every metrics page, rule and dashboard of `deploy/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use revwatch_runtime::telemetry::Metrics;
use serde_json::Value;

use super::Deployment;
use crate::support::history::History;
use crate::support::prometheus::{Prometheus, promtool};
use crate::support::providers::{Settings, alerts, is_notified_by, post_all, updated};
use crate::support::revwatch::{BEGAN_LONG_AGO, Revwatch, print};
use crate::support::wait::{until, until_within};

const SETTINGS: &str = "[alerting]\ntick_seconds = 0.05\nmessages_per_second = 100.0\n";

/// Metrics without a value in this run, with the reason.
const NOT_SHOWN: [(&str, &str); 9] = [
    (
        "revwatch_mrr_incomplete_subscriptions",
        "every amount can be read",
    ),
    (
        "kernel_billing_mrr_incomplete_subscriptions",
        "every amount can be read",
    ),
    (
        "revwatch_connected_mrr_minor",
        "only the platform has subscriptions",
    ),
    (
        "revwatch_connected_mrr_high_minor",
        "only the platform has subscriptions",
    ),
    (
        "revwatch_connected_mrr_incomplete_subscriptions",
        "only the platform has subscriptions",
    ),
    (
        "revwatch_connected_subscriptions",
        "only the platform has subscriptions",
    ),
    (
        "revwatch_own_payouts_total",
        "only connected accounts have payouts",
    ),
    ("revwatch_config_reloads_total", "nothing was reloaded"),
    ("revwatch_refreshes_total", "no API key is configured"),
];

/// Expressions that may be empty after a run of seconds, by a part of them, with the reason.
const MAY_BE_EMPTY: [(&str, &str); 3] = [
    ("offset 24h", "the run is shorter than a day"),
    ("revwatch_config_reloads_total", "nothing was reloaded"),
    ("revwatch_refreshes_total", "no API key is configured"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_metrics_page_rule_and_dashboard_is_valid_and_has_data() {
    let deployment = Deployment::servers().await;
    let settings = Settings::of_providers(SETTINGS);
    let app_secret = (
        "REVWATCH_APP_WEBHOOK_SECRET",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    );
    let variables = settings.variables(deployment.variables(&[BEGAN_LONG_AGO, app_secret]));
    let roles =
        ["ingest", "worker", "alerting"].map(|role| (role, Revwatch::serve(&variables, role)));
    let targets = roles
        .each_ref()
        .map(|(role, process)| (*role, process.admin("")));
    let prometheus = Prometheus::start(&config(&targets));
    until("all processes are scraped", || async {
        let up = prometheus.query("up{job=\"revwatch\"} == 1").await.ok()?;
        let found: BTreeSet<&str> = up
            .iter()
            .filter_map(|series| series["metric"]["role"].as_str())
            .collect();
        (found == BTreeSet::from(["ingest", "worker", "alerting"])).then_some(())
    })
    .await;

    let now_s = jiff::Timestamp::now().as_second();
    let url = roles[0].1.url("/webhooks/stripe");
    let mut bodies = History::new(3, 60, now_s).events;
    bodies.extend((0..3).map(|n| {
        updated(
            &format!("evt_on_{n}"),
            &format!("acct_x{n}"),
            now_s - 60,
            true,
            "",
        )
    }));
    bodies.extend((0..2).map(|n| {
        updated(
            &format!("evt_off_{n}"),
            &format!("acct_x{n}"),
            now_s - 30,
            false,
            "other",
        )
    }));
    bodies.push(onboarded_now(now_s));
    post_all(&url, &bodies).await;
    let url_of_app = roles[0].1.url("/webhooks/app");
    print(
        &variables,
        &["app", "simulate", "--seed", "3", "--url", &url_of_app],
    );
    let refused = reqwest::Client::new()
        .post(&url)
        .header("content-type", "application/json");
    let refused = refused
        .header("stripe-signature", format!("t={now_s},v1=00"))
        .body("{}")
        .send()
        .await;
    assert_eq!(refused.expect("an answer").status(), 400);
    let notified = until("an alert was sent", || async {
        alerts(&variables)
            .into_iter()
            .find(|alert| is_notified_by("log", alert, "firing"))
    })
    .await;
    print(
        &variables,
        &[
            "alerts",
            "ack",
            notified["id"].as_str().expect("an id"),
            "--by",
            "ana",
            "--wait",
            "20",
        ],
    );
    let other = alerts(&variables)
        .into_iter()
        .find(|alert| alert["state"] == "firing")
        .expect("the other one");
    print(
        &variables,
        &[
            "alerts",
            "resolve",
            other["id"].as_str().expect("an id"),
            "--by",
            "ana",
            "--wait",
            "20",
        ],
    );

    // Metrics of the state are refreshed every ten seconds, and growth needs two scrapes.
    for grown in [
        "max(revwatch_payouts_total) > 0",
        "max(kernel_billing_payment_success_total) > 0",
        "max(revwatch_onboarding_seconds) >= 0",
        "max(revwatch_first_response_mean_seconds) > 0",
        "sum(rate(revwatch_worker_events_total[5m])) > 0",
        "sum(increase(revwatch_alert_acknowledge_seconds_count[5m])) > 0",
        "sum(increase(revwatch_alert_resolve_seconds_count[5m])) > 0",
        "sum(increase(revwatch_notifications_total[5m])) > 0",
    ] {
        until(grown, || async {
            (!prometheus.query(grown).await.ok()?.is_empty()).then_some(())
        })
        .await;
    }

    let mut pages = String::new();
    for (role, process) in &roles {
        let page = process.metrics_page().await.expect("a page");
        assert_eq!(
            promtool(&["check", "metrics"], &page),
            (true, String::new()),
            "{role}"
        );
        pages.push_str(&page);
    }
    let types = types(&pages);
    // docs/reference/metrics.md lists these metrics, with these types.
    for metric in Metrics::new().families() {
        let why = NOT_SHOWN.iter().find(|(name, _)| *name == metric.name);
        let shown = types.get(metric.name.as_str()).copied();
        let expected = if why.is_some() {
            None
        } else {
            Some(metric.kind)
        };
        assert_eq!(shown, expected, "{}: shown, or not ({why:?})", metric.name);
    }
    for counter in [
        "revwatch_payouts_total",
        "kernel_billing_checkout_total",
        "kernel_billing_payment_success_total",
    ] {
        assert_eq!(types[counter], "counter", "{counter}");
    }

    every_rule_is_evaluated(&prometheus).await;
    every_panel_has_data(&prometheus).await;
    for (_, process) in roles {
        process.stop();
    }
}

/// An account of an hour that may take charges now: of older ones it is not known when they could first.
fn onboarded_now(now_s: i64) -> String {
    let body = updated("evt_new", "acct_new", now_s - 60, true, "");
    let mut event: Value = serde_json::from_str(&body).expect("JSON");
    event["data"]["object"]["created"] = Value::from(now_s - 3600);
    event.to_string()
}

#[test]
fn promtool_accepts_configuration_and_rules() {
    let folder = deploy("prometheus");
    let file = |name: &str| folder.join(name).display().to_string();
    for args in [
        vec![
            "check".to_owned(),
            "config".to_owned(),
            file("prometheus.yml"),
        ],
        vec![
            "check".to_owned(),
            "rules".to_owned(),
            file("recording.rules.yml"),
            file("alerts.rules.yml"),
        ],
        ["test", "rules"]
            .map(str::to_owned)
            .into_iter()
            .chain(rule_tests().into_keys())
            .collect(),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (content, message) = promtool(&args, "");
        assert!(
            content && !message.contains("FAILED"),
            "promtool {args:?}: {message}"
        );
    }
}

#[test]
fn every_alert_has_a_severity_a_runbook_and_tests_for_firing_and_not_firing() {
    let rules = read(&deploy("prometheus/alerts.rules.yml"));
    let runbooks = read(&deploy("../docs/runbooks.md"));
    let anchors: BTreeSet<String> = runbooks
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_lowercase)
        .collect();
    let tests = rule_tests();
    let mut alerts = BTreeSet::new();
    for rule in rules.split("      - alert: ").skip(1) {
        let name = rule.lines().next().expect("a name");
        for word in ["severity: ", "summary: ", "description: "] {
            assert!(rule.contains(word), "{name} has no {word}");
        }
        let anchor = rule
            .split("runbook_url: docs/runbooks.md#")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        assert!(
            anchor.is_some_and(|anchor| anchors.contains(anchor)),
            "{name}: docs/runbooks.md has no {anchor:?}"
        );
        alerts.insert(name);
    }
    assert!(alerts.len() > 15, "{alerts:?}");
    for name in alerts {
        let heading = format!("alertname: {name}\n");
        let cases = tests.values().flat_map(|text| text.split(&heading).skip(1));
        let is_quiet: Vec<bool> = cases
            .map(|rest| rest.trim_start().starts_with("exp_alerts: []"))
            .collect();
        assert!(
            is_quiet.contains(&true) && is_quiet.contains(&false),
            "{name}: one that fires and one that does not"
        );
    }
}

#[test]
fn rules_and_dashboards_use_existing_metrics_only() {
    let recording = read(&deploy("prometheus/recording.rules.yml"));
    let recorded: BTreeSet<&str> = recording
        .split("record: ")
        .skip(1)
        .filter_map(|r| r.lines().next())
        .collect();
    let source = read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("shared/runtime/src/telemetry/metrics.rs"),
    );
    let known_metrics: BTreeSet<&str> = words(&source).collect();
    let mut files = vec![
        ("recording.rules.yml".to_owned(), recording.clone()),
        (
            "alerts.rules.yml".to_owned(),
            read(&deploy("prometheus/alerts.rules.yml")),
        ),
    ];
    files.extend(rule_tests());
    files.extend(dashboards().into_iter().map(|(name, dashboard)| {
        (
            name,
            expressions(&dashboard)
                .into_iter()
                .map(|(_, expr)| expr + "\n")
                .collect(),
        )
    }));
    for (name, text) in files {
        for word in words(&text).filter(|word| *word != "revwatch") {
            let plain = ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|end| word.strip_suffix(end))
                .unwrap_or(word);
            let known = recorded.contains(word)
                || known_metrics.contains(word)
                || known_metrics.contains(plain);
            assert!(known, "{name} names {word}, which does not exist");
        }
    }
}

#[test]
fn dashboards_work_with_any_data_source_and_describe_their_panels() {
    let mut titles = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert!(
            titles.insert(dashboard["uid"].as_str().expect("a uid").to_owned()),
            "{name}: its uid is taken"
        );
        assert_eq!(
            dashboard["templating"]["list"][0]["name"], "datasource",
            "{name}"
        );
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().unwrap_or_default();
            assert!(
                !title.is_empty() && ids.insert(panel["id"].as_i64()),
                "{name}: {title:?}"
            );
            if panel["type"] == "row" {
                continue;
            }
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 5),
                "{name}: {title}: description is missing"
            );
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{name}: {title}: unit is missing"
            );
            assert_eq!(
                panel["datasource"]["uid"], "${datasource}",
                "{name}: {title}"
            );
            for target in panel["targets"].as_array().expect("targets") {
                assert_eq!(
                    target["datasource"]["uid"], "${datasource}",
                    "{name}: {title}"
                );
                let expr = target["expr"].as_str().expect("an expression");
                // A share of two amounts is a ratio.
                if expr.contains("_minor")
                    && panel["fieldConfig"]["defaults"]["unit"] != "percentunit"
                {
                    assert!(
                        title.contains("by currency (minor units)"),
                        "{name}: {title}: unit of the amounts is missing"
                    );
                    assert_eq!(target["legendFormat"], "{{currency}}", "{name}: {title}");
                    assert!(
                        expr.contains("by (currency)"),
                        "{name}: {title}: never across currencies"
                    );
                }
            }
        }
    }
    assert_eq!(titles.len(), 4);
}

/// Every rule was evaluated without an error, and recording rules have values.
async fn every_rule_is_evaluated(prometheus: &Prometheus) {
    let rules = until_within(
        std::time::Duration::from_secs(60),
        "all rules are evaluated",
        || async {
            let data = prometheus.get("rules", &[]).await.ok()?;
            let groups = data["groups"].as_array()?;
            let rules: Vec<Value> = groups
                .iter()
                .flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default())
                .collect();
            rules
                .iter()
                .all(|rule| rule["health"] != "unknown")
                .then_some(rules)
        },
    )
    .await;
    assert!(rules.len() > 20, "{rules:?}");
    for rule in &rules {
        assert_eq!(
            (rule["health"].as_str(), rule["lastError"].as_str()),
            (Some("ok"), None),
            "{rule}"
        );
        let expr = rule["query"].as_str().expect("an expression");
        let series = prometheus
            .query(expr)
            .await
            .unwrap_or_else(|error| panic!("{expr}: {error}"));
        if rule["type"] == "recording" {
            assert!(
                !series.is_empty(),
                "{} records nothing: {expr}",
                rule["name"]
            );
        }
    }
}

async fn every_panel_has_data(prometheus: &Prometheus) {
    let mut excused = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        for (title, expr) in expressions(&dashboard) {
            let mut asked = expr
                .replace("$__rate_interval", "5m")
                .replace("$__range", "1h");
            for variable in dashboard["templating"]["list"]
                .as_array()
                .expect("variables")
            {
                asked = asked.replace(
                    &format!("${}", variable["name"].as_str().expect("a name")),
                    ".*",
                );
            }
            assert!(!asked.contains('$'), "{name}: {title}: {asked}");
            let series = prometheus
                .query(&asked)
                .await
                .unwrap_or_else(|error| panic!("{name}: {title}: {asked}: {error}"));
            if let Some((part, _)) = MAY_BE_EMPTY.iter().find(|(part, _)| expr.contains(part)) {
                excused.insert(*part);
            } else {
                assert!(!series.is_empty(), "{name}: {title} shows nothing: {asked}");
            }
        }
    }
    assert_eq!(
        excused.len(),
        MAY_BE_EMPTY.len(),
        "every listed reason applies to a panel"
    );
}

/// `deploy/prometheus/prometheus.yml` with these targets and short intervals.
fn config(targets: &[(&str, String)]) -> String {
    let shipped = read(&deploy("prometheus/prometheus.yml"));
    let (before, discovery) = shipped
        .split_once("    dns_sd_configs:\n")
        .expect("the service discovery");
    let (_, after) = discovery
        .split_once("    relabel_configs:\n")
        .expect("the replaced targets");
    let mut text = before
        .replace(
            "scrape_interval: 15s",
            "scrape_interval: 200ms\n  scrape_timeout: 200ms",
        )
        .replace("evaluation_interval: 15s", "evaluation_interval: 500ms");
    for file in ["recording.rules.yml", "alerts.rules.yml"] {
        let path = deploy("prometheus").join(file).display().to_string();
        assert!(text.contains(&format!("- {file}\n")));
        text = text.replace(&format!("- {file}\n"), &format!("- {path}\n"));
    }
    assert!(text.contains("200ms") && text.contains("500ms"));
    text.push_str("    static_configs:\n");
    for (role, address) in targets {
        let address = address.trim_start_matches("http://");
        text.push_str(&format!(
            "      - targets: [\"{address}\"]\n        labels: {{ __meta_dns_name: {role} }}\n"
        ));
    }
    format!("{text}    relabel_configs:\n{after}")
}

/// The type of each metric according to the metrics pages.
fn types(pages: &str) -> BTreeMap<&str, &str> {
    pages
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect()
}

/// The dashboards, by file name.
fn dashboards() -> Vec<(String, Value)> {
    let texts = texts(&deploy("grafana/dashboards"), "json");
    texts
        .into_iter()
        .map(|(name, text)| (name, serde_json::from_str(&text).expect("JSON")))
        .collect()
}

/// Every expression of a dashboard, with the title of its panel.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let with_targets =
        panels.filter_map(|panel| Some((panel["title"].as_str()?, panel["targets"].as_array()?)));
    with_targets
        .flat_map(|(title, targets)| {
            targets.iter().map(move |t| {
                (
                    title.to_owned(),
                    t["expr"].as_str().expect("an expression").to_owned(),
                )
            })
        })
        .collect()
}

/// Rule tests, by their full paths.
fn rule_tests() -> BTreeMap<String, String> {
    texts(&deploy("prometheus/tests"), "yml")
}

fn texts(folder: &Path, ending: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == ending));
    let texts: BTreeMap<_, _> = files
        .map(|path| (path.display().to_string(), read(&path)))
        .collect();
    assert!(!texts.is_empty(), "{} has no .{ending}", folder.display());
    texts
}

/// Names of metrics and of recording rules.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .map(|word| word.trim_end_matches(':'))
        .filter(|word| {
            ["revwatch_", "revwatch:", "kernel_billing_"]
                .iter()
                .any(|start| word.starts_with(start))
        })
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}
