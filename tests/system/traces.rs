//! One trace per event, from the webhook to the resulting notification, across all processes.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use revwatch_core::signature::SigningKey;
use revwatch_runtime::telemetry::{Correlation, SpanContext, parse_traceparent};
use serde_json::json;

use super::{Deployment, shipped_rules};
use crate::support::collector::{Collector, Span};
use crate::support::revwatch::{Revwatch, SECRET, Variables, metrics, post};
use crate::support::slack::Slack;
use crate::support::wait::until;

/// The sender's own trace header.
const SENDERS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn payout(event: &str, number: u32) -> String {
    json!({
        "id": event, "object": "event", "type": "payout.failed", "created": jiff::Timestamp::now().as_second() - 5,
        "account": "acct_1", "livemode": true,
        "data": {"object": {"id": format!("po_{number}"), "object": "payout", "amount": 5000, "currency": "usd",
            "status": "failed", "failure_code": "account_closed"}},
    })
    .to_string()
}

/// Posts as a sender with its own trace.
async fn post_with_trace(url: &str, body: &str) {
    let header = SigningKey::new(SECRET)
        .expect("a secret")
        .header(jiff::Timestamp::now().as_second(), body.as_bytes());
    let request = reqwest::Client::new()
        .post(url)
        .header("stripe-signature", header)
        .header("traceparent", SENDERS);
    assert_eq!(
        request
            .body(body.to_owned())
            .send()
            .await
            .expect("answered")
            .status(),
        200
    );
}

fn spans<'a>(all: &'a [Span], event: &str, name: &str) -> Vec<&'a Span> {
    let trace_id = Correlation::of(event).to_string();
    all.iter()
        .filter(|span| span.trace_id == trace_id && span.name == name)
        .collect()
}

/// The log lines about an event, all with its trace id.
fn assert_logged(processes: &[&Revwatch], event: &str, message: &str, times: usize) {
    let trace_id = Correlation::of(event).to_string();
    let lines: Vec<_> = processes
        .iter()
        .flat_map(|process| process.logged(message))
        .collect();
    let of_event: Vec<_> = lines
        .iter()
        .filter(|line| line["event_id"] == event)
        .collect();
    assert_eq!(of_event.len(), times, "{message}: {lines:?}");
    assert!(
        of_event
            .iter()
            .all(|line| line["trace_id"] == trace_id.as_str()),
        "{of_event:?}"
    );
}

/// The headers of an event's message, before a worker consumes it.
async fn traceparent_in_the_queue(variables: &Variables) -> SpanContext {
    let url = &variables
        .iter()
        .find(|(name, _)| name == "REVWATCH_AMQP_URL")
        .expect("a RabbitMQ")
        .1;
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default())
        .await
        .expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    for partition in 0..8 {
        let queue = format!("revwatch.events.p{partition}");
        let message = channel
            .basic_get(queue.as_str().into(), Default::default())
            .await
            .expect("answered");
        let Some(message) = message else { continue };
        let header = message
            .properties
            .headers()
            .as_ref()
            .and_then(|h| h.inner().get("traceparent").cloned());
        let Some(lapin::types::AMQPValue::LongString(text)) = header else {
            panic!("{:?}", message.properties)
        };
        // The message is not acknowledged and returns to the queue.
        connection.close(200, "seen".into()).await.expect("closed");
        return parse_traceparent(&text.to_string())
            .unwrap_or_else(|| panic!("{text:?} is not a traceparent"));
    }
    panic!("no message waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_spans_three_processes_to_the_notification() {
    one_trace_to_the_notification(
        &Deployment::servers().await,
        &["ingest", "worker", "alerting"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_spans_one_process_to_the_notification() {
    one_trace_to_the_notification(&Deployment::embedded(), &["ingest,worker,alerting"]).await;
}

async fn one_trace_to_the_notification(deployment: &Deployment, roles: &[&str]) {
    let (slack, collector) = (Slack::start(&[]).await, Collector::start().await);
    let rules = shipped_rules(&["payout_failed", "account_disabled"]);
    let variables = deployment.variables(&[
        ("SLACK_BOT_TOKEN", "xoxb-of-the-test"),
        ("SLACK_API_BASE", &slack.url()),
        ("REVWATCH_RULES", &rules.path().display().to_string()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20t0ken"),
    ]);
    let mut processes = vec![Revwatch::serve(&variables, roles[0])];
    let url = processes[0].url("/webhooks/stripe");
    let body = payout("evt_first", 1);
    post_with_trace(&url, &body).await;
    let is_alone = roles.len() == 1;
    let carried = if is_alone {
        None
    } else {
        Some(traceparent_in_the_queue(&variables).await)
    };
    processes.extend(
        roles[1..]
            .iter()
            .map(|role| Revwatch::serve(&variables, role)),
    );
    until("Slack has the alert", || async {
        (!slack.accepted().is_empty()).then_some(())
    })
    .await;
    // Stripe delivers it again.
    for _ in 0..2 {
        assert_eq!(
            post(&reqwest::Client::new(), &url, &body)
                .await
                .expect("posted"),
            200
        );
    }
    until("the repeats are counted", || async {
        (metrics(&variables)["events_duplicate"] == 2).then_some(())
    })
    .await;
    until("the collector has them", || async {
        let all = collector.spans();
        let count = |name| spans(&all, "evt_first", name).len();
        ((count("webhook"), count("apply"), count("notify")) == (3, 3, 1)).then_some(())
    })
    .await;

    let all = collector.spans();
    let of = Correlation::of("evt_first");
    assert!(
        all.iter().all(|span| span.trace_id == of.to_string()),
        "one event, one trace: {all:?}"
    );
    assert_eq!(
        all.iter()
            .map(|span| &span.id)
            .collect::<BTreeSet<_>>()
            .len(),
        all.len(),
        "ids are unique"
    );
    assert!(
        all.iter()
            .all(|span| !span.has_failed && span.began > 0 && span.began <= span.ended)
    );
    // The duplicates were received and applied nothing.
    let (applied, repeats): (Vec<_>, Vec<_>) = spans(&all, "evt_first", "apply")
        .into_iter()
        .partition(|span| span.get("revwatch.outcome") == "applied");
    assert!(
        applied.len() == 1
            && repeats
                .iter()
                .all(|span| span.get("revwatch.outcome") == "duplicate"),
        "{all:?}"
    );

    let apply = applied[0];
    let by_id = |id: &str| {
        all.iter()
            .find(|span| span.id == id)
            .unwrap_or_else(|| panic!("no span {id}: {all:?}"))
    };
    let webhook = by_id(&apply.parent);
    let within = |name: &str, parent: &Span| -> Span {
        let found = spans(&all, "evt_first", name)
            .into_iter()
            .find(|span| span.parent == parent.id);
        found
            .unwrap_or_else(|| panic!("no {name} within {parent:?}: {all:?}"))
            .clone()
    };
    let (publish, commit, notify) = (
        within("publish", webhook),
        within("commit", apply),
        within("notify", apply),
    );
    let kinds = [webhook, &publish, apply, &commit, &notify].map(|span| span.kind);
    assert_eq!(
        kinds,
        [
            SpanKind::Server,
            SpanKind::Producer,
            SpanKind::Consumer,
            SpanKind::Client,
            SpanKind::Client
        ]
    );
    assert_eq!(
        (webhook.name.as_str(), webhook.parent.as_str()),
        ("webhook", "")
    );
    assert_eq!(
        (apply.id.as_str(), webhook.get("revwatch.outcome")),
        (of.applied.to_string().as_str(), "stored")
    );
    assert_eq!(
        (
            webhook.get("revwatch.endpoint"),
            webhook.get("revwatch.event.type")
        ),
        ("stripe", "payout.failed")
    );
    assert_eq!(
        webhook.get("http.request.body.size"),
        body.len().to_string()
    );
    assert_eq!(
        (notify.get("revwatch.rule"), notify.get("revwatch.notifier")),
        ("payout_failed", "slack")
    );
    assert_eq!(
        (notify.get("revwatch.outcome"), notify.links.len()),
        ("delivered", 0)
    );
    // The sender's own trace is linked, if there was one.
    let senders = parse_traceparent(SENDERS).expect("valid");
    assert_eq!(
        webhook.links,
        [(
            senders.trace_id().to_string(),
            senders.span_id().to_string()
        )]
    );
    assert!(
        repeats
            .iter()
            .all(|repeat| by_id(&repeat.parent).name == "webhook" && repeat.parent != webhook.id)
    );
    let services: Vec<_> = [webhook, apply, &notify]
        .iter()
        .map(|span| span.service.as_str())
        .collect();
    if let Some(carried) = carried {
        assert_eq!(
            (carried.span_id().to_string(), carried.is_sampled()),
            (webhook.id.clone(), true)
        );
        assert_eq!(carried.trace_id(), of.trace_id);
        assert_eq!(
            services,
            ["revwatch-ingest", "revwatch-worker", "revwatch-alerting"]
        );
    } else {
        assert_eq!(services, ["revwatch"; 3]);
    }
    assert!(
        collector
            .authorizations()
            .iter()
            .all(|header| header == "Bearer t0ken")
    );

    let running: Vec<&Revwatch> = processes.iter().collect();
    for (message, times) in [
        ("webhook", 3),
        ("commit", 3),
        ("transition", 1),
        ("notification", 1),
        ("alert", 1),
    ] {
        assert_logged(&running, "evt_first", message, times);
    }
    for process in processes {
        process.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_spans_are_exported_at_shutdown_unless_not_sampled() {
    let collector = Collector::start().await;
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ("OTEL_SERVICE_NAME", "billing"),
    ]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let events: Vec<String> = (0..40).map(|n| format!("evt_{n}")).collect();
    for (event, n) in events.iter().zip(0..) {
        post_with_trace(&process.url("/webhooks/stripe"), &payout(event, n)).await;
    }
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == 40).then_some(())
    })
    .await;
    until("all are notified", || async {
        (process.logged("commit").len() == 40).then_some(())
    })
    .await;
    process.stop();
    let all = collector.spans();
    let kept = events
        .iter()
        .filter(|event| !spans(&all, event, "apply").is_empty());
    let kept: Vec<_> = kept.collect();
    assert!((8..=32).contains(&kept.len()), "{} of 40", kept.len());
    for event in &kept {
        let counts =
            ["webhook", "publish", "apply", "commit"].map(|name| spans(&all, event, name).len());
        assert_eq!(counts, [1; 4], "{event}: all of a trace, or nothing");
    }
    assert_eq!(all.len(), kept.len() * 4);
    assert!(all.iter().all(|span| span.service == "billing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_or_silent_collector_has_no_effect() {
    // One collector refuses connections, one accepts them and never responds.
    let (refusing, addr) = revwatch_test_servers::listen().await;
    let refusing_url = format!("http://{addr}");
    drop(refusing);
    let (_silent, addr) = revwatch_test_servers::listen().await;
    let silent_url = format!("http://{addr}");
    for (url, is_answered) in [(refusing_url, true), (silent_url, false)] {
        let deployment = Deployment::embedded();
        let variables = deployment.variables(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]);
        let process = Revwatch::serve(&variables, "ingest,worker,alerting");
        let client = reqwest::Client::new();
        for n in 0..20 {
            let body = payout(&format!("evt_{n}"), n);
            assert_eq!(
                post(&client, &process.url("/webhooks/stripe"), &body)
                    .await
                    .expect("posted"),
                200
            );
        }
        until("all are applied", || async {
            (metrics(&variables)["events_applied"] == 20).then_some(())
        })
        .await;
        if is_answered {
            until("lost spans are counted", || async {
                let dropped = process.metric("revwatch_spans_dropped_total").await?;
                (dropped > 0.0).then_some(())
            })
            .await;
            assert_eq!(
                process.logged("the collector did not accept spans; they are lost (OTEL_EXPORTER_OTLP_ENDPOINT)").len(),
                1
            );
        }
        // The shutdown does not wait for the collector: `stop` fails if a process takes too long.
        process.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_collector_rejects_in_a_success_are_counted_and_logged() {
    let collector = Collector::rejecting(1, "the quota is used up").await;
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let (client, url) = (reqwest::Client::new(), process.url("/webhooks/stripe"));
    let posted = post(&client, &url, &payout("evt_1", 1)).await;
    assert_eq!(posted.expect("posted"), 200);
    until("a rejected span is counted", || async {
        let dropped = process.metric("revwatch_spans_dropped_total").await?;
        (dropped >= 1.0).then_some(())
    })
    .await;
    let said = process
        .logged("the collector did not accept spans; they are lost (OTEL_EXPORTER_OTLP_ENDPOINT)");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["spans"], 1);
    assert_eq!(said[0]["reason"], "it says: the quota is used up");
    process.stop();
}
