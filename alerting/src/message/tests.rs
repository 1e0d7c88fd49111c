//! Messages from firing to resolved.

use revwatch_core::amounts::{Amounts, MoneyDoubt, UncertainMoney};
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::money::Money;
use revwatch_runtime::config::Config;
use serde_json::json;

use super::format::{clamp, in_unit};
use super::*;
use crate::alert::{Evidence, Group, Member, MetricValue, Point, RuleCount, Side, Sla, Unit};
use crate::policy::{Capabilities, Policy};
use crate::rule::Rule;

const FIRED_S: i64 = 1_790_000_300;

fn rule(severity: Severity, title: &str) -> Rule {
    let text = format!(
        "[[rule]]\nname = \"a_rule\"\nkind = \"condition\"\ncondition = \"charges_lost\"\nseverity = \"{}\"\n\
         route = \"alerts-critical\"\ntitle = \"{title}\"\nrunbook = \"https://docs.stripe.com/connect\"\n\
         labels = {{ tag = \"billing_ops\" }}\nactions = [\"Open the account.\", \"Call the provider.\"]\n",
        severity.as_str()
    );
    crate::rule_text::parse(&[("test".into(), text)])
        .expect("valid")
        .remove(0)
}

fn alert(severity: Severity, title: &str, subject: &Subject, evidence: Evidence) -> Alert {
    let rule = rule(severity, title);
    let mut alert = Alert::fire(&rule, subject, FIRED_S - 300, FIRED_S, evidence);
    let config = Config::load(None, &|_| None).expect("the defaults");
    let notifiers = vec![(
        "slack".to_owned(),
        Capabilities {
            edits: true,
            resolves: true,
        },
    )];
    Policy::new(&config.alerting, notifiers)
        .expect("valid")
        .apply(&mut alert, &rule, FIRED_S);
    alert
}

fn show(alert: &Alert) -> Message {
    render(
        alert,
        &MessageKey::main("slack"),
        &NotificationState::default(),
    )
}

fn account() -> Alert {
    let evidence = Evidence {
        account: Some("acct_1".into()),
        detail: Some("requirements.past_due".into()),
        event_ids: vec!["evt_1".into()],
        ..Evidence::default()
    };
    let subject = Subject::Entity(EntityKey::new(EntityKind::Account, "acct_1"));
    alert(
        Severity::Critical,
        "A provider can no longer take charges",
        &subject,
        evidence,
    )
}

fn pretty(blocks: &Value) -> String {
    serde_json::to_string_pretty(blocks).expect("JSON")
}

#[test]
fn one_account_from_firing_to_resolved() {
    let mut alert = account();
    insta::assert_snapshot!("fired_text", show(&alert).text);
    insta::assert_snapshot!("fired_blocks", pretty(&show(&alert).blocks));
    insta::assert_snapshot!("fired_short", show(&alert).short);
    alert.notices.push(Notice {
        number: 1,
        kind: NoticeKind::Escalated(0),
        at_s: FIRED_S + 900,
        route: alert.route.clone(),
        notifiers: vec!["slack".into()],
    });
    let key = MessageKey {
        notifier: "slack".into(),
        notice: 1,
    };
    insta::assert_snapshot!(
        "escalated_text",
        render(&alert, &key, &NotificationState::default()).text
    );
    alert.state = AlertState::Acknowledged;
    alert.acknowledged_s = Some(FIRED_S + 1000);
    alert.acknowledged_by = Some("ana".into());
    insta::assert_snapshot!("acknowledged_text", show(&alert).text);
    alert.state = AlertState::Resolved;
    alert.resolved_s = Some(FIRED_S + 7200);
    let delivered = NotificationState {
        delivered_revision: 1,
        ..NotificationState::default()
    };
    let key = MessageKey::main("slack");
    insta::assert_snapshot!("resolved_text", render(&alert, &key, &delivered).text);
}

#[test]
fn an_alert_that_resolved_before_its_readers_got_it_says_when_it_fired() {
    let mut alert = account();
    alert.state = AlertState::Resolved;
    alert.resolved_s = Some(FIRED_S + 7200);
    insta::assert_snapshot!("fired_and_resolved_text", show(&alert).text);
    // They may have it, if an attempt ended without an answer.
    let unconfirmed = NotificationState {
        possible_duplicate: true,
        ..NotificationState::default()
    };
    let message = render(&alert, &MessageKey::main("slack"), &unconfirmed);
    assert!(message.headline.starts_with("✅ RESOLVED: "));
    assert!(!message.text.contains("Fired: "), "{}", message.text);
}

#[test]
fn a_share_of_the_business_with_money_and_trend() {
    let points = [None, Some(0.01), Some(0.02), Some(0.08)];
    let evidence = Evidence {
        metric_value: Some(MetricValue {
            value: 0.08,
            threshold: 0.05,
            side: Side::Above,
            unit: Unit::Share,
            range: None,
            parts: Some((12, 150)),
            parts_high: None,
            are_parts_money: false,
        }),
        money: vec![Money::new(1_234_500, "usd"), Money::new(90_000, "jpy")],
        trend: points
            .iter()
            .zip(0..)
            .map(|(value, n)| Point {
                at_s: n,
                value: *value,
            })
            .collect(),
        ..Evidence::default()
    };
    let alert = alert(
        Severity::High,
        "More than 5 % of payouts are failing",
        &Subject::Business,
        evidence,
    );
    insta::assert_snapshot!(show(&alert).text);
}

/// 500 are 5.00 of one currency, and 500 of another.
#[test]
fn a_share_of_money_is_shown_as_money_in_its_currency() {
    let value = |currency: &str| {
        let metric_value = MetricValue {
            value: 0.25,
            threshold: 0.2,
            side: Side::Above,
            unit: Unit::Share,
            range: None,
            parts: Some((500, 2000)),
            parts_high: None,
            are_parts_money: true,
        };
        let evidence = Evidence {
            metric_value: Some(metric_value),
            ..Evidence::default()
        };
        let subject = Subject::Segment {
            by: "currency".into(),
            value: currency.into(),
        };
        let text = show(&alert(
            Severity::Critical,
            "MRR has fallen",
            &subject,
            evidence,
        ))
        .text;
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix("Value: ").map(str::to_owned))
    };
    let of_usd = "USD 5.00 of USD 20.00 (25.0 %), at most 20.0 % allowed";
    assert_eq!(value("usd").as_deref(), Some(of_usd));
    let of_jpy = "JPY 500 of JPY 2,000 (25.0 %), at most 20.0 % allowed";
    assert_eq!(value("jpy").as_deref(), Some(of_jpy));
}

#[test]
fn a_value_and_money_between_bounds_are_shown_with_both() {
    let shown = |range, parts_high| {
        let metric_value = MetricValue {
            value: 1.0 / 3.0,
            threshold: 0.2,
            side: Side::Above,
            unit: Unit::Share,
            range: Some(range),
            parts: Some((4000, 12_000)),
            parts_high: Some(parts_high),
            are_parts_money: true,
        };
        let mut evidence = Evidence {
            metric_value: Some(metric_value),
            ..Evidence::default()
        };
        let mut amounts = Amounts::default();
        amounts.add_uncertain(&UncertainMoney {
            currency: Some("eur".into()),
            low_minor: 4000,
            high_minor: parts_high.0,
            reason: "discount".into(),
        });
        evidence.set_amounts(amounts);
        let subject = Subject::Segment {
            by: "currency".into(),
            value: "eur".into(),
        };
        // As it is stored.
        let alert = alert(Severity::High, "MRR has fallen", &subject, evidence);
        let text = serde_json::to_string(&alert).expect("JSON");
        show(&serde_json::from_str(&text).expect("an alert"))
    };
    let message = shown((Some(1.0 / 3.0), Some(1.0)), (Some(12_000), Some(12_000)));
    for line in [
        "\nValue: EUR 40.00 to EUR 120.00 of EUR 120.00 (33.3 % to 100.0 %), at most 20.0 % allowed\n",
        "\nMoney: EUR 40.00 to EUR 120.00: a discount is named only by its id\n",
    ] {
        assert!(message.text.contains(line), "{line}: {}", message.text);
    }
    assert!(
        message.short.contains(", EUR 40.00 to EUR 120.00 ["),
        "{}",
        message.short
    );
    let money =
        json!([{"currency": "eur", "amount_minor": null, "low_minor": 4000, "high_minor": 12_000}]);
    assert_eq!(message.details["money"], money);
    assert_eq!(message.details["money_unknown"], json!(["discount"]));
    let message = shown((Some(1.0 / 3.0), None), (None, None));
    let line = "\nValue: at least EUR 40.00 of at least EUR 120.00 (at least 33.3 %), at most 20.0 % allowed\n";
    assert!(message.text.contains(line), "{}", message.text);
    assert!(message.text.contains("\nMoney: at least EUR 40.00: "));
}

#[test]
fn a_group_lists_its_largest_members() {
    let mut alert = account();
    alert.subject = Subject::Business;
    alert.evidence.account = None;
    let member = |n: i64| Member {
        alert_id: format!("al_{n}"),
        subject: Subject::Entity(EntityKey::new(EntityKind::Payout, format!("po_{n}"))),
        account: Some(format!("acct_{n}")),
        money: Some(Money::new(10_000 - n, "eur")),
        money_doubt: MoneyDoubt::default(),
        rule: "a_rule".into(),
    };
    alert.group = Some(Group {
        joined: 37,
        open: 35,
        top: (0..10).map(member).collect(),
        ..Group::default()
    });
    alert.evidence.money = vec![Money::new(370_000, "eur")];
    insta::assert_snapshot!("group_text", show(&alert).text);
    insta::assert_snapshot!("group_blocks", pretty(&show(&alert).blocks));
}

#[test]
fn a_digest_counts_what_was_wrong_already_by_rule() {
    let mut digest = account();
    digest.subject = Subject::Business;
    digest.title = "wrong already when revwatch began".into();
    digest.pre_existing = true;
    digest.evidence.began_before = true;
    digest.sla = Sla::default();
    let count = |rule: &str, title: &str, severity, joined| RuleCount {
        rule: rule.into(),
        title: title.into(),
        severity,
        joined,
    };
    let member = |id: &str, rule: &str| Member {
        alert_id: format!("al_{id}"),
        subject: Subject::Entity(EntityKey::new(EntityKind::Payout, id)),
        account: None,
        money: Some(Money::new(500, "eur")),
        money_doubt: MoneyDoubt::default(),
        rule: rule.into(),
    };
    digest.group = Some(Group {
        joined: 35,
        open: 34,
        rules: vec![
            count("payout_failed", "A payout failed", Severity::Critical, 30),
            count("past_due", "A customer is past due", Severity::High, 5),
        ],
        top: vec![
            member("po_1", "payout_failed"),
            // As an earlier version stored it.
            member("po_2", ""),
        ],
        ..Group::default()
    });
    let message = show(&digest);
    let headline = "35 things were wrong already when revwatch began";
    assert!(message.headline.ends_with(headline), "{}", message.headline);
    for line in [
        "Alerts: 35, 1 of them resolved",
        "Rules: 30 × A payout failed (critical); 5 × A customer is past due (high)",
        "Since: at least ",
        "- payout po_1, EUR 5.00 · payout_failed\n",
        "- payout po_2, EUR 5.00\n",
    ] {
        assert!(message.text.contains(line), "{line}: {}", message.text);
    }
    assert!(!message.text.contains("Respond by"), "{}", message.text);
    assert_eq!(message.details["respond_by"], serde_json::Value::Null);
    assert_eq!(message.details["pre_existing"], true);
    digest.group = Some(Group {
        joined: 1,
        open: 1,
        ..Group::default()
    });
    assert!(
        show(&digest)
            .headline
            .ends_with("1 thing was wrong already when revwatch began")
    );
}

/// C6, C14: requirements are words, not only their number; programs get Stripe's names.
#[test]
fn requirements_are_named_in_words() {
    let mut alert = account();
    let detail = "requirements.past_due; needs external_account, individual.dob.day, individual.dob.year, new_one";
    alert.evidence.detail = Some(detail.into());
    let message = show(&alert);
    for line in [
        "\nReason: requirements.past_due (information is missing and its deadline has passed)\n",
        "\nNeeds: bank account, date of birth of the individual, new_one\n",
    ] {
        assert!(message.text.contains(line), "{line}: {}", message.text);
    }
    assert_eq!(message.details["reason"], "requirements.past_due");
    assert_eq!(message.details["requirements"][3], "new_one");
    alert.evidence.detail = Some("; needs external_account".into());
    let message = show(&alert);
    assert!(message.text.contains("\nNeeds: bank account\n"));
    assert!(!message.text.contains("Reason"), "{}", message.text);
    assert_eq!(message.details["reason"], serde_json::Value::Null);
}

#[test]
fn metric_values_are_written_in_their_unit() {
    let usd = Subject::Segment {
        by: "currency".into(),
        value: "usd".into(),
    };
    for (value, unit, subject, expected) in [
        (0.0512, Unit::Share, &Subject::Business, "5.1 %"),
        (7.0, Unit::Count, &Subject::Business, "7"),
        (5.25, Unit::Seconds, &Subject::Business, "5.2 s"),
        (172_801.0, Unit::Seconds, &Subject::Business, "2 d 0 h"),
        (123_456.0, Unit::Minor, &usd, "USD 1,234.56"),
    ] {
        assert_eq!(in_unit(value, unit, subject), expected);
    }
}

#[test]
fn foreign_text_makes_no_markup_or_links_and_fits_slacks_limits() {
    let mut alert = account();
    alert.evidence.account = Some("acct_1|<!channel>".into());
    alert.evidence.detail = Some("<!everyone> & ".repeat(1000));
    alert.title = "t".repeat(400);
    alert.actions = vec!["a".repeat(4000)];
    let message = show(&alert);
    let json = message.blocks.to_string();
    assert!(!json.contains("<!"), "{json}");
    let blocks = message.blocks.as_array().expect("blocks");
    assert!(blocks.len() <= 50);
    for block in blocks {
        let max_chars = match block["type"].as_str() {
            Some("header") => 150,
            _ => 3000,
        };
        let text = block["text"]["text"].as_str().unwrap_or_default();
        assert!(text.chars().count() <= max_chars, "{block}");
        let fields = block["fields"].as_array().cloned().unwrap_or_default();
        assert!(fields.len() <= 10);
        assert!(
            fields
                .iter()
                .all(|f| f["text"].as_str().expect("text").chars().count() <= 2000)
        );
    }
    assert!(message.short.chars().count() <= 300 && message.short.contains(&alert.id));
    assert_eq!(clamp("abcdef", 4), "abc…");
    assert_eq!(
        (clamp("äöü", 3), clamp("äöüß", 3)),
        ("äöü".into(), "äö…".into())
    );
    assert_eq!((clamp("a", 0), clamp("ab", 1)), (String::new(), "…".into()));
}

/// What a signed sender, a Slack user or another operator may have written.
#[test]
fn foreign_text_acts_on_no_reader_of_a_message() {
    let texts = include_str!("../../../tests/fixtures/hostile_texts.json");
    let texts: Vec<String> = serde_json::from_str(texts).expect("a list of texts");
    let is_active =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    for text in texts {
        let mut alert = account();
        let lines = show(&alert).text.lines().count();
        alert.subject = Subject::Entity(EntityKey::new(EntityKind::Account, &text));
        alert.evidence.account = Some(text.clone());
        alert.evidence.detail = Some(text.clone());
        alert.evidence.event_ids = vec![text.clone()];
        alert.labels.insert("currency".into(), text.clone());
        let message = show(&alert);
        assert_eq!(message.text.lines().count(), lines, "{}", message.text);
        for shown in [&message.headline, &message.short] {
            assert!(!shown.contains(is_active), "{shown:?}");
        }
        assert!(!message.text.replace('\n', "").contains(is_active));
        let blocks = message.blocks.to_string();
        for mention in ["<!", "<@", "<#", "<script", "|click>"] {
            assert!(!blocks.contains(mention), "{blocks}");
        }
        let verbatim = blocks.matches("\"verbatim\":true").count();
        assert_eq!(verbatim, blocks.matches("\"mrkdwn\"").count());
    }
}
