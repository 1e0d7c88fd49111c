//! Compares pages that describe the program's behaviour with the program.

use std::path::Path;

use revwatch_alerting::alert::{
    Alert, AlertState, Evidence, Group, Member, MessageKey, MetricValue, NoticeKind,
    NotificationState, Point, Side, Subject, Unit,
};
use revwatch_alerting::message::render;
use revwatch_alerting::policy::{Capabilities, Policy};
use revwatch_alerting::rule::Rule;
use revwatch_alerting::rule_text::built_in;
use revwatch_alerting::stage::diagram;
use revwatch_core::amounts::MoneyDoubt;
use revwatch_core::app_event::TYPES;
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::money::Money;
use revwatch_runtime::config::Config;

/// 2026-11-20 03:04 UTC.
const FIRED_S: i64 = 1_795_143_840;

#[test]
fn the_diagram_of_an_alerts_lifecycle_matches_the_transitions_in_the_code() {
    let page = std::fs::read_to_string(root().join("docs/alerting.md")).expect("the page");
    let picture = format!("```mermaid\n{}\n```", diagram());
    assert!(
        page.contains(&picture),
        "docs/alerting.md should show\n{picture}"
    );
}

#[test]
fn the_page_about_the_application_has_every_type() {
    let page = std::fs::read_to_string(root().join("docs/application.md")).expect("the page");
    for row in TYPES {
        let link = format!("| [`{0}`](events/{0}.v{1}.json) |", row.name, row.version);
        assert!(
            page.contains(&link),
            "docs/application.md should have {link}"
        );
    }
    let files = std::fs::read_dir(root().join("docs/events")).expect("the schemas");
    assert_eq!(files.count(), TYPES.len(), "each schema is one of a type");
}

#[test]
fn the_examples_of_messages_match_the_messages_sent() {
    let page = examples();
    if std::fs::read_to_string(root().join("docs/messages.md")).unwrap_or_default() != page {
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("messages.md");
        std::fs::write(&fresh, &page).expect("written");
        panic!(
            "messages have changed: read {}, and if that is how they should be, make it docs/messages.md",
            fresh.display()
        );
    }
}

fn examples() -> String {
    let mut page =
        "# Messages\n\nWhat people read, by severity: the text as mail has it. Slack shows the same with links and \
                    buttons (acknowledge, silence, open in Stripe). A test renders this page.\n"
            .to_owned();
    let mut add = |title: &str, alert: &Alert, way: &MessageKey, delivered_revision: u32| {
        let state = NotificationState {
            delivered_revision,
            ..NotificationState::default()
        };
        let message = render(alert, way, &state);
        page.push_str(&format!("\n## {title}\n\n```text\n{}\n```\n", message.text));
        if title == "Critical" {
            page.push_str(&format!(
                "\nThe same as an SMS:\n\n```text\n{}\n```\n",
                message.short
            ));
        }
    };
    let main = MessageKey::main("email");
    let mut critical = critical();
    add("Critical", &critical, &main, 0);
    let policy = policy();
    critical.notices.push(policy.notice(
        &critical,
        None,
        NoticeKind::RespondBreached,
        FIRED_S + 1800,
    ));
    add(
        "Not acknowledged in time",
        &critical,
        &MessageKey {
            notifier: "email".into(),
            notice: 1,
        },
        0,
    );
    critical.state = AlertState::Acknowledged;
    critical.acknowledged_s = Some(FIRED_S + 1860);
    critical.acknowledged_by = Some("ana".into());
    add(
        "Acknowledged (changed in place in Slack)",
        &critical,
        &main,
        1,
    );
    critical.state = AlertState::Resolved;
    critical.resolved_s = Some(FIRED_S + 3000);
    add("Resolved", &critical, &main, 1);
    let mut unseen = self::critical();
    unseen.state = AlertState::Resolved;
    unseen.resolved_s = Some(FIRED_S + 900);
    add("Resolved before it could be delivered", &unseen, &main, 0);
    add("High", &high(), &main, 0);
    add("Medium", &medium(), &main, 0);
    add("Low (listed, not sent by default)", &low(), &main, 0);
    add("A group of alerts", &many(), &main, 0);
    page
}

fn policy() -> Policy {
    let config = Config::load(None, &|_| None).expect("the defaults");
    Policy::new(
        &config.alerting,
        vec![(
            "email".to_owned(),
            Capabilities {
                edits: false,
                resolves: true,
            },
        )],
    )
    .expect("valid")
}

fn rule(name: &str) -> Rule {
    built_in()
        .expect("valid")
        .into_iter()
        .find(|rule| rule.name == name)
        .expect("a shipped rule")
}

fn fire(name: &str, subject: &Subject, since_s: i64, evidence: Evidence) -> Alert {
    let rule = rule(name);
    let mut alert = Alert::fire(&rule, subject, since_s, FIRED_S, evidence);
    policy().apply(&mut alert, &rule, FIRED_S);
    alert
}

fn entity(kind: EntityKind, id: &str) -> Subject {
    Subject::Entity(EntityKey::new(kind, id))
}

fn critical() -> Alert {
    let evidence = Evidence {
        money: vec![Money::new(15_000, "brl")],
        account: Some("acct_1Nv0FG".into()),
        detail: Some("account_closed: The bank account has been closed.".into()),
        event_ids: vec!["evt_1Q2w3E".into()],
        ..Evidence::default()
    };
    fire(
        "payout_failed",
        &entity(EntityKind::Payout, "po_1Oa2Bc"),
        FIRED_S - 40,
        evidence,
    )
}

fn high() -> Alert {
    let shares = [0.031, 0.034, 0.052, 0.083, 0.091, 0.094];
    let trend = shares.iter().zip(0..).map(|(share, n)| Point {
        at_s: FIRED_S - (5 - n) * 86_400,
        value: Some(*share),
    });
    let evidence = Evidence {
        metric_value: Some(MetricValue {
            value: 0.094,
            threshold: 0.08,
            side: Side::Above,
            unit: Unit::Share,
            range: None,
            parts: Some((141, 1500)),
            parts_high: None,
            are_parts_money: false,
        }),
        money: vec![Money::new(1_269_000, "eur"), Money::new(98_700, "usd")],
        trend: trend.collect(),
        ..Evidence::default()
    };
    fire(
        "past_due_share",
        &Subject::Business,
        FIRED_S - 3 * 86_400,
        evidence,
    )
}

fn medium() -> Alert {
    let evidence = Evidence {
        money: vec![Money::new(49_900, "brl")],
        customer: Some("cus_9Zx8Yw".into()),
        detail: Some("1 attempt(s)".into()),
        event_ids: vec!["evt_1Q2w3F".into()],
        ..Evidence::default()
    };
    fire(
        "invoice_payment_failed",
        &entity(EntityKind::Invoice, "in_1Pq3Rs"),
        FIRED_S - 60,
        evidence,
    )
}

fn low() -> Alert {
    let subject = Subject::Segment {
        by: "currency".into(),
        value: "brl".into(),
    };
    let metric_value = MetricValue {
        value: 42.0,
        threshold: 0.0,
        side: Side::Above,
        unit: Unit::Count,
        range: None,
        parts: None,
        parts_high: None,
        are_parts_money: false,
    };
    fire(
        "payout_sent",
        &subject,
        FIRED_S,
        Evidence {
            metric_value: Some(metric_value),
            ..Evidence::default()
        },
    )
}

fn many() -> Alert {
    let member = |n: i64| Member {
        alert_id: format!("al_{n}"),
        subject: entity(EntityKind::Payout, &format!("po_{n}")),
        account: Some(format!("acct_{n}")),
        money: Some(Money::new(250_000 - n * 13_000, "brl")),
        money_doubt: MoneyDoubt::default(),
        rule: "payout_failed".into(),
    };
    let evidence = Evidence {
        money: vec![Money::new(3_141_500, "brl")],
        ..Evidence::default()
    };
    let mut alert = fire("payout_failed", &Subject::Business, FIRED_S - 120, evidence);
    alert.group = Some(Group {
        joined: 37,
        open: 37,
        top: (0..10).map(member).collect(),
        ..Group::default()
    });
    alert
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
