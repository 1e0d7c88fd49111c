//! What the shipped rules promise: the ten alerts of C14, calm messages, and channels that exist.

use std::collections::BTreeSet;

use revwatch_core::class::Owner;
use revwatch_core::condition::ConditionKind;
use revwatch_runtime::config::Config;

use super::built_in;
use crate::alert::{Alert, Evidence, Side, Subject};
use crate::policy::{Capabilities, Policy};
use crate::rule::{Rule, RuleKind, Severity};

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;

fn rules() -> Vec<Rule> {
    built_in().expect("valid")
}

/// C14, in the order of the source, with the own deadlines, channels and roles of each.
#[test]
fn the_ten_alerts_have_their_severity_deadlines_channel_and_actions() {
    use Severity::{Critical, High, Low, Medium};
    let config = Config::load(None, &|_| None).expect("the defaults");
    let all = Capabilities {
        edits: true,
        resolves: true,
    };
    let notifiers = ["slack", "email", "sms"].map(|name| (name.to_owned(), all));
    let policy = Policy::new(&config.alerting, notifiers.into()).expect("valid");
    let (slack_mail, mail) = (&["slack", "email"][..], &["email"][..]);
    let all = &["slack", "email", "sms"][..];
    let ten = [
        (
            "provider_lost_charges",
            Critical,
            15 * MINUTE_S,
            HOUR_S,
            all,
            "alerts-critical",
            5,
        ),
        (
            "payout_failure_rate",
            Critical,
            15 * MINUTE_S,
            2 * HOUR_S,
            all,
            "alerts-critical",
            5,
        ),
        (
            "account_deauthorized",
            Critical,
            30 * MINUTE_S,
            4 * HOUR_S,
            slack_mail,
            "alerts-churn",
            4,
        ),
        (
            "account_restricted",
            High,
            HOUR_S,
            4 * HOUR_S,
            slack_mail,
            "alerts-high",
            4,
        ),
        (
            "onboarding_abandonment",
            High,
            HOUR_S,
            DAY_S,
            slack_mail,
            "product",
            4,
        ),
        (
            "account_creation_failures",
            High,
            HOUR_S,
            4 * HOUR_S,
            slack_mail,
            "alerts-engineering",
            4,
        ),
        (
            "onboarding_not_complete_48_hours",
            Medium,
            4 * HOUR_S,
            DAY_S,
            mail,
            "alerts-growth",
            3,
        ),
        (
            "onboarding_conversion_drop",
            Medium,
            4 * HOUR_S,
            2 * DAY_S,
            mail,
            "product-and-growth",
            4,
        ),
        (
            "milestone_reached",
            Low,
            DAY_S,
            7 * DAY_S,
            &[],
            "alerts-growth",
            1,
        ),
        (
            "payout_sent",
            Low,
            DAY_S,
            7 * DAY_S,
            &[],
            "alerts-growth",
            1,
        ),
    ];
    let rules = rules();
    for (name, severity, respond_s, resolve_s, sent_by, route, actions) in ten {
        let rule = rules.iter().find(|rule| rule.name == name);
        let rule = rule.unwrap_or_else(|| panic!("there is no rule {name}"));
        let mut alert = Alert::fire(rule, &Subject::Business, 0, 0, Evidence::default());
        policy.apply(&mut alert, rule, 0);
        assert_eq!(
            (alert.severity, alert.route.as_str()),
            (severity, route),
            "{name}"
        );
        assert_eq!(
            (alert.sla.respond_s, alert.sla.resolve_s),
            (respond_s, resolve_s),
            "{name}"
        );
        assert_eq!(alert.notifiers, sent_by, "{name}");
        assert!(rule.actions.len() >= actions, "{name}");
        assert!(rule.runbook.is_some(), "{name}");
        assert!(rule.requirement.iter().any(|id| id == "C14"), "{name}");
    }
    let named: BTreeSet<&str> = ten.iter().map(|(name, ..)| *name).collect();
    let claimed = rules
        .iter()
        .filter(|rule| rule.requirement.iter().any(|id| id == "C14"));
    assert_eq!(
        claimed
            .map(|rule| rule.name.as_str())
            .collect::<BTreeSet<_>>(),
        named
    );
}

/// The thresholds that the requirements name.
#[test]
fn thresholds_are_those_of_the_requirements() {
    use Side::{Above, Below};
    let table = [
        ("new_accounts_spike", "C1", Above, 10.0),
        ("deauthorizations_spike", "C3", Above, 3.0),
        ("payout_failure_rate", "C6", Above, 0.05),
        ("payout_failure_rate", "C11", Above, 0.05),
        ("onboarding_slow", "C11", Above, 172_800.0),
        ("onboarding_abandonment", "C11", Above, 0.20),
        ("onboarding_abandonment_by_country", "C11", Above, 0.20),
        ("onboarding_abandonment_by_weekday", "C11", Above, 0.20),
        ("accounts_charging_decrease", "C11", Above, 0.0),
        ("onboarding_conversion_drop", "C14", Below, 0.60),
        ("onboarding_abandonment_by_source", "C11", Above, 0.20),
        ("stripe_api_error_spike", "C10", Above, 10.0),
        ("account_creation_failures", "C10", Above, 10.0),
        ("account_creation_failures", "C14", Above, 10.0),
        ("account_link_failures", "C10", Above, 5.0),
        ("account_creation_success", "C11", Below, 0.90),
        ("account_created_floor", "C16", Below, 0.90),
        ("onboarding_started_floor", "C16", Below, 0.80),
        ("external_account_floor", "C16", Below, 0.75),
        ("charges_enabled_floor", "C16", Below, 0.70),
        ("onboarding_started_slow", "C16", Above, 86_400.0),
        ("external_account_slow", "C16", Above, 7200.0),
        ("charges_enabled_slow", "C16", Above, 3600.0),
        ("payment_failure_rate", "K12", Above, 0.10),
        ("mrr_drop", "K12", Above, 0.20),
        ("webhook_processing_slow", "K12", Above, 5.0),
        ("retry_queue_long", "K12", Above, 100.0),
        ("past_due_share", "R8", Above, 0.08),
        ("dead_letters", "R8", Above, 0.0),
    ];
    let rules = rules();
    for (name, requirement, side, limit) in table {
        let rule = rules.iter().find(|rule| rule.name == name);
        let rule = rule.unwrap_or_else(|| panic!("there is no rule {name}"));
        let RuleKind::Metric(metric) = &rule.kind else {
            panic!("{name} is on a condition");
        };
        let threshold = metric.threshold;
        assert_eq!(threshold.side, side, "{name}");
        assert!(
            (threshold.limit - limit).abs() < 1e-9,
            "{name}: {}",
            threshold.limit
        );
        assert!(
            rule.requirement.iter().any(|id| id == requirement),
            "{name}: {requirement}"
        );
    }
}

/// Each problem that revwatch knows of one object is shown to someone. Of objects that have to be fetched, and of MRR
/// that is incomplete, one alert says how many there are.
#[test]
fn every_condition_has_a_rule() {
    let counted = [
        ConditionKind::AccountStale,
        ConditionKind::StateNeeded,
        ConditionKind::MrrIncomplete,
        // The invoice before counts until then; without one, its MRR is incomplete.
        ConditionKind::InvoiceNeeded,
        // It is about the past.
        ConditionKind::CouponNeeded,
    ];
    let rules = rules();
    for kind in ConditionKind::ALL {
        let is_shown = rules.iter().any(
            |rule| matches!(rule.kind, RuleKind::Condition { condition, .. } if condition == kind),
        );
        assert_ne!(is_shown, counted.contains(&kind), "{}", kind.as_str());
    }
}

/// What costs money unless finance acts leads to finance.
#[test]
fn disputes_and_failed_refunds_lead_to_finance() {
    let rules = rules();
    for name in ["dispute_open", "dispute_evidence_due", "refund_failed"] {
        let rule = rules.iter().find(|rule| rule.name == name);
        let rule = rule.unwrap_or_else(|| panic!("there is no rule {name}"));
        assert_eq!(rule.route, "billing-ops", "{name}");
        let tag = rule.labels.get("tag").map(String::as_str);
        assert_eq!(tag, Some("billing_ops"), "{name}");
    }
}

/// B1: finance reads that MRR is not exactly known, and it has neither reminders nor escalation.
#[test]
fn incomplete_mrr_leads_to_finance_and_wakes_no_person() {
    let config = Config::load(None, &|_| None).expect("the defaults");
    let all = Capabilities {
        edits: true,
        resolves: true,
    };
    let names = ["slack", "email", "sms", "pagerduty", "webhook"];
    let notifiers = names.map(|name| (name.to_owned(), all));
    let policy = Policy::new(&config.alerting, notifiers.into()).expect("valid");
    let rules = rules();
    let rule = rules.iter().find(|rule| rule.name == "mrr_incomplete");
    let rule = rule.expect("a rule");
    let mut alert = Alert::fire(rule, &Subject::Business, 0, 0, Evidence::default());
    policy.apply(&mut alert, rule, 0);
    assert_eq!(alert.route, "billing-ops");
    assert_eq!(alert.notifiers, ["slack", "email", "webhook"]);
    assert_eq!(alert.sla.upcoming, [], "no reminder, no escalation");
    // It counts no subscription of a connected account.
    let RuleKind::Metric(metric) = &rule.kind else {
        panic!("{} is on a condition", rule.name);
    };
    assert_eq!(metric.scope.owner, Some(Owner::Platform));
    assert!(rule.title.contains("platform's own"), "{}", rule.title);
}

/// C15: without editing, each rule's route leads to one of the five channels.
#[test]
fn every_route_leads_to_one_of_the_five_channels() {
    let config = Config::load(None, &|_| None).expect("the defaults");
    let channels = &config.slack.channels;
    let five = ["critical", "high", "growth", "churn", "engineering"];
    let five: BTreeSet<String> = five.iter().map(|it| format!("#alerts-{it}")).collect();
    assert_eq!(channels.values().cloned().collect::<BTreeSet<_>>(), five);
    for rule in rules() {
        assert!(
            channels.contains_key(&rule.route),
            "{}: {}",
            rule.name,
            rule.route
        );
    }
}

/// What comes and goes around a threshold, or within minutes, is notified once. These need nothing: they are sent to
/// no person, or evaluated once a day, or end with the first event.
#[test]
fn rules_that_can_flap_are_damped() {
    let exceptions = [
        "milestone_reached",
        "payout_sent",
        "past_due_share",
        "events_missing",
        // It counts a day.
        "deliveries_lost_by_queue",
    ];
    for rule in rules() {
        let RuleKind::Metric(metric) = &rule.kind else {
            continue;
        };
        let holds = rule.for_s > 0 || rule.keep_firing_for_s > 0 || rule.reopen_within_s > 0;
        let threshold = metric.threshold;
        let has_hysteresis = (threshold.clear - threshold.limit).abs() > f64::EPSILON;
        let is_damped = holds || has_hysteresis;
        let is_exception = exceptions.contains(&rule.name.as_str());
        assert!(is_damped || is_exception, "{} flaps", rule.name);
    }
    // Of what one event begins and another ends, the account of a provider changes within minutes.
    let conditions = [
        "provider_lost_charges",
        "account_disabled",
        "charges_blocked",
        "capability_disabled",
        "account_restricted",
        "payouts_blocked",
        "payment_failed",
    ];
    for rule in rules()
        .iter()
        .filter(|rule| conditions.contains(&rule.name.as_str()))
    {
        assert_eq!(
            (rule.for_s, rule.reopen_within_s),
            (0, 600),
            "{}: at once, and for a while",
            rule.name
        );
    }
}
