//! Rules are about the entities of an owner and a realm.

use revwatch_core::class::{Owner, Scope};
use revwatch_runtime::config::Clock;

use super::*;
use crate::rule::Delay;

/// A rule on subscriptions that are past due.
fn rule(scope: Scope) -> Rule {
    let mut rule = rules().into_iter().find(|rule| rule.name == "lost");
    let rule = rule.as_mut().expect("it is in the file");
    rule.name = "past_due".into();
    rule.kind = RuleKind::Condition {
        condition: ConditionKind::PastDue,
        after: Delay {
            seconds: 0,
            clock: Clock::Always,
        },
        scope,
    };
    rule.clone()
}

fn scope(owner: Option<Owner>, realm: Option<&str>) -> Scope {
    let realm = realm.map(|name| Realm::named(name).expect("a name"));
    Scope { realm, owner }
}

/// Of the platform, of a connected account, and of the kernel.
fn past_due() -> [Condition; 3] {
    let of = |id| condition(ConditionKind::PastDue, EntityKind::Subscription, id, "", 5);
    let connected = Condition {
        account: Some("acct_1".into()),
        ..of("sub_connected")
    };
    let kernel = Condition {
        realm: Realm::named("kernel").expect("a name"),
        ..of("sub_kernel")
    };
    [of("sub_platform"), connected, kernel]
}

fn firing(harness: &Harness) -> Vec<String> {
    let alerts = harness.engine.alerts();
    let firing = alerts.filter(|alert| alert.state == AlertState::Firing && alert.group.is_none());
    let mut subjects: Vec<_> = firing.map(|alert| alert.subject.to_string()).collect();
    subjects.sort();
    subjects
}

#[test]
fn a_rule_fires_for_the_entities_of_its_owner_and_its_realm() {
    let platform = Some(Owner::Platform);
    for (scope, expected) in [
        (scope(platform, None), vec!["kernel", "platform"]),
        (scope(platform, Some("main")), vec!["platform"]),
        (scope(Some(Owner::Connected), None), vec!["connected"]),
        (scope(None, Some("kernel")), vec!["kernel"]),
        (scope(None, None), vec!["connected", "kernel", "platform"]),
    ] {
        let rules = vec![rule(scope.clone())];
        let mut harness = Harness::open_with(rules, policy(), &Documents::default());
        harness.engine.on_scan(&[], 0);
        for condition in past_due() {
            harness.open(&condition, 10);
        }
        let expected: Vec<_> = expected
            .iter()
            .map(|id| format!("subscription sub_{id}"))
            .collect();
        assert_eq!(firing(&harness), expected, "{scope:?}");
    }
}

#[test]
fn an_alert_of_what_a_rule_is_no_longer_about_resolves() {
    let any = vec![rule(scope(None, None))];
    let mut harness = Harness::open_with(any, policy(), &Documents::default());
    harness.engine.on_scan(&past_due(), 10);
    harness.settle(10);
    assert_eq!(firing(&harness).len(), 3);
    harness.reopen_with(vec![rule(scope(Some(Owner::Platform), None))], policy());
    assert!(
        harness.engine.scan_reason(20).is_some(),
        "it is another rule"
    );
    harness.engine.on_scan(&past_due(), 20);
    let expected = ["subscription sub_kernel", "subscription sub_platform"];
    assert_eq!(firing(&harness), expected);
}
