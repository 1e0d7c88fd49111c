//! The alerts that rules would have raised in the past. Pure: deliveries in, alerts out.

use anyhow::Context as _;
use revwatch_alerting::alert::{Alert, Subject};
use revwatch_storage::ports::Delivery;

use super::simulator::{SimulationConfig, Simulator};

/// The result of a backtest.
#[derive(Debug, Clone)]
pub struct Report {
    /// One entry per rule, in the order of the rules.
    pub rules: Vec<RuleReport>,
    /// All alerts, ordered by firing time.
    pub alerts: Vec<Fired>,
}

/// The result for one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleReport {
    /// The rule's name.
    pub rule: String,
    /// How often it fired.
    pub fired: usize,
    /// How many of these at the start, because the rule held already.
    pub at_start: usize,
    /// How many are still open.
    pub open: usize,
    /// Notifications that would have been sent, without deadline warnings and escalations. A group
    /// counts as one.
    pub messages: usize,
    /// Unix second at which it first fired.
    pub first_s: Option<i64>,
    /// Unix second at which it last fired.
    pub last_s: Option<i64>,
    /// The longest alert, in seconds.
    pub longest_s: Option<i64>,
    /// The mean duration in seconds, rounded.
    pub mean_s: Option<i64>,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fired {
    /// Unix seconds.
    pub fired_s: i64,
    /// The rule's name.
    pub rule: String,
    /// The subject of the alert.
    pub subject: Subject,
    /// Unix seconds; `None`: still open.
    pub resolved_s: Option<i64>,
    /// The rule held already at the start.
    pub at_start: bool,
    /// It held already when revwatch began, and was part of the digest.
    pub pre_existing: bool,
}

impl Fired {
    /// The duration in seconds, up to `until_s` if the alert is still open.
    pub fn lasted_s(&self, until_s: i64) -> i64 {
        self.resolved_s.unwrap_or(until_s) - self.fired_s
    }
}

/// Runs `deliveries`, which are in the order of receipt, and reports alerts from `since_s` to
/// `until_s`. `each` receives the number of deliveries done.
pub fn backtest(
    setting: &SimulationConfig,
    deliveries: &[Delivery],
    (since_s, until_s): (i64, i64),
    each: &mut dyn FnMut(usize),
) -> anyhow::Result<Report> {
    /// Batch size for the deliveries before the start.
    const WARM_UP_BATCH: usize = 1024;
    let mut simulator = Simulator::new(setting.clone(), since_s)?;
    simulator.set_first_delivery(deliveries.first().map(|first| first.received_ms));
    let (before, after) =
        deliveries.split_at(deliveries.partition_point(|d| d.received_ms < since_s * 1000));
    let mut played = 0;
    for part in before.chunks(WARM_UP_BATCH) {
        simulator
            .apply_unseen(part)
            .context("applying the events before --since")?;
        played += part.len();
        each(played);
    }
    simulator.tick(since_s)?;
    let step_s = setting.spacing_s.max(1);
    // The first evaluation at or after a time.
    let evaluated_s = |received_ms: i64| {
        let passed_s = (received_ms - since_s * 1000 + 999).div_euclid(1000);
        (since_s + (passed_s + step_s - 1).div_euclid(step_s) * step_s).min(until_s)
    };
    let mut remaining = after;
    while let Some(first) = remaining
        .first()
        .filter(|first| first.received_ms <= until_s * 1000)
    {
        let at_s = evaluated_s(first.received_ms);
        let (now, later) =
            remaining.split_at(remaining.partition_point(|d| evaluated_s(d.received_ms) <= at_s));
        simulator.run_to(at_s)?;
        simulator.apply_past(now)?;
        simulator.tick(at_s)?;
        played += now.len();
        each(played);
        remaining = later;
    }
    simulator.run_to(until_s)?;
    simulator.tick(until_s)?;
    Ok(report(&simulator, since_s, until_s))
}

fn report(simulator: &Simulator, since_s: i64, until_s: i64) -> Report {
    let fired = |alert: &Alert| Fired {
        fired_s: alert.fired_s,
        rule: alert.rule.clone(),
        subject: alert.subject.clone(),
        resolved_s: alert.resolved_s,
        at_start: alert.fired_s == since_s,
        pre_existing: alert.pre_existing,
    };
    let open = simulator.alerts().filter(|alert| alert.group.is_none());
    let mut alerts: Vec<Fired> = simulator.resolved().chain(open).map(fired).collect();
    alerts.sort();
    let of_rule = |rule: &str| {
        let own: Vec<&Fired> = alerts.iter().filter(|alert| alert.rule == rule).collect();
        let lasted: Vec<i64> = own.iter().map(|alert| alert.lasted_s(until_s)).collect();
        let count = i64::try_from(own.len()).unwrap_or(i64::MAX);
        RuleReport {
            rule: rule.to_owned(),
            fired: own.len(),
            at_start: own.iter().filter(|alert| alert.at_start).count(),
            open: own
                .iter()
                .filter(|alert| alert.resolved_s.is_none())
                .count(),
            messages: simulator
                .log()
                .iter()
                .filter(|l| l.rule == rule && l.is_new && l.notice.is_none())
                .count(),
            first_s: own.first().map(|alert| alert.fired_s),
            last_s: own.last().map(|alert| alert.fired_s),
            longest_s: lasted.iter().max().copied(),
            mean_s: (count > 0).then(|| (lasted.iter().sum::<i64>() + count / 2) / count),
        }
    };
    let rules = simulator
        .rules()
        .iter()
        .map(|rule| of_rule(&rule.name))
        .collect();
    Report { rules, alerts }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use revwatch_alerting::policy::{Capabilities, Policy};
    use revwatch_core::event_settings::EventSettings;
    use revwatch_runtime::config::Config;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::simulation::simulator::NOTIFIER;

    const SINCE_S: i64 = 1_767_571_200;

    fn setting() -> SimulationConfig {
        setting_with("provider_lost_charges")
    }

    fn setting_with(rule: &str) -> SimulationConfig {
        let config = Config::load(None, &|_| None).expect("the defaults");
        let capabilities = Capabilities {
            edits: true,
            resolves: true,
        };
        let policy =
            Policy::new(&config.alerting, vec![(NOTIFIER.into(), capabilities)]).expect("valid");
        let mut rules = revwatch_alerting::rule_text::built_in().expect("valid");
        rules.retain(|shipped| shipped.name == rule);
        SimulationConfig {
            rules,
            policy,
            events: EventSettings::default(),
            restarts: false,
            tick_s: 60,
            spacing_s: 60,
        }
    }

    fn account(n: u128, received_s: i64, charges: bool) -> Delivery {
        let account = format!("acct_{}", n % 10);
        let body = format!(
            r#"{{"id":"evt_{n}","type":"account.updated","created":{received_s},"account":"{account}","data":{{"object":
            {{"id":"{account}","object":"account","charges_enabled":{charges},"payouts_enabled":true}}}}}}"#
        );
        Delivery {
            id: Uuid::from_u128(n),
            event_id: format!("evt_{n}"),
            event_type: "account.updated".into(),
            partition: 0,
            endpoint: "test".into(),
            received_ms: received_s * 1000 + 250,
            traceparent: None,
            body: Bytes::from(body),
        }
    }

    #[test]
    fn earlier_deliveries_are_state_and_later_ones_raise_alerts() {
        let at = |seconds: i64| SINCE_S + seconds;
        let deliveries = [
            account(1, at(-9000), true),
            account(2, at(-9000), true),
            account(3, at(-9000), true),
            // Four accounts: lost and regained between two evaluations; lost before the start,
            // regained after; lost and regained after; lost and not regained.
            account(11, at(-8000), false),
            account(12, at(-8000), false),
            account(21, at(-7000), true),
            account(22, at(3600), true),
            account(13, at(7200), false),
            account(23, at(7800), true),
            account(31, at(9000), false),
            // After the end.
            account(41, at(90_000), true),
        ];
        let mut counts = Vec::new();
        let span = (SINCE_S, SINCE_S + 86_400);
        let report = backtest(&setting(), &deliveries, span, &mut |played| {
            counts.push(played);
        })
        .expect("played");
        assert_eq!(counts, [6, 7, 8, 9, 10]);
        let alerts: Vec<_> = report
            .alerts
            .iter()
            .map(|a| {
                (
                    a.subject.to_string(),
                    a.fired_s - SINCE_S,
                    a.lasted_s(span.1),
                    a.resolved_s.is_some(),
                    a.at_start,
                )
            })
            .collect();
        assert_eq!(
            alerts,
            [
                ("account acct_2".to_owned(), 0, 3660, true, true),
                ("account acct_3".to_owned(), 7260, 600, true, false),
                (
                    "account acct_1".to_owned(),
                    9060,
                    86_400 - 9060,
                    false,
                    false
                ),
            ]
        );
        let lost = report
            .rules
            .iter()
            .find(|r| r.rule == "provider_lost_charges")
            .expect("a rule");
        assert_eq!(
            (lost.fired, lost.at_start, lost.open, lost.messages),
            (3, 1, 1, 3)
        );
        assert_eq!(
            (lost.longest_s, lost.mean_s),
            (Some(77_340), Some((3660 + 600 + 77_340) / 3))
        );
        assert_eq!(report.rules.iter().map(|r| r.fired).sum::<usize>(), 3);
    }

    /// B1, K11: the archive has a discount of which only the id is known, and later its coupon.
    #[test]
    fn needs_are_met_from_the_store() {
        const HOUR_S: i64 = 3600;
        let event = |n: u128, kind: &str, object: serde_json::Value| {
            let created_s = SINCE_S + i64::try_from(n).expect("small") * 4 * HOUR_S;
            let body = json!({"id": format!("evt_{n}"), "type": kind, "created": created_s, "livemode": true,
                "data": {"object": object}});
            Delivery {
                event_type: kind.to_owned(),
                body: Bytes::from(body.to_string()),
                ..account(n, created_s, true)
            }
        };
        let price = json!({"id": "price_1", "currency": "usd", "unit_amount": 1000,
            "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}});
        let subscription = json!({"id": "sub_1", "object": "subscription", "status": "active", "currency": "usd",
            "discounts": ["di_1"], "items": {"data": [{"id": "si_1", "quantity": 1, "price": price}]}});
        let discount =
            json!({"id": "di_1", "object": "discount", "subscription": "sub_1", "coupon": "HALF"});
        let coupon =
            json!({"id": "HALF", "object": "coupon", "percent_off": 50, "duration": "forever"});
        let deliveries = [
            event(1, "customer.subscription.created", subscription),
            event(2, "customer.discount.created", discount),
            event(3, "coupon.created", coupon),
        ];
        let span = (SINCE_S, SINCE_S + 24 * HOUR_S);
        let report = backtest(
            &setting_with("mrr_incomplete"),
            &deliveries,
            span,
            &mut |_| {},
        );
        let report = report.expect("played");
        let hours = |alert: &Fired| {
            let resolved = alert.resolved_s.map(|at_s| (at_s - SINCE_S) / HOUR_S);
            ((alert.fired_s - SINCE_S) / HOUR_S, resolved)
        };
        let fired: Vec<_> = report.alerts.iter().map(hours).collect();
        assert_eq!(fired, [(5, Some(12))]);
    }

    /// A new installation on an old account: its first deliveries are of old events.
    #[test]
    fn no_event_is_missing_in_the_time_before_revwatch_began() {
        const HOUR_S: i64 = 3600;
        let mut old = account(1, SINCE_S - 10 * 24 * HOUR_S, true);
        old.received_ms = (SINCE_S + 60) * 1000;
        // Whatever moment a person has set as the beginning.
        for began_s in [SINCE_S - HOUR_S, SINCE_S - 90 * 24 * HOUR_S] {
            let mut setting = setting_with("events_missing");
            setting.policy.began_s = Some(began_s);
            let span = (SINCE_S, SINCE_S + 48 * HOUR_S);
            let deliveries = std::slice::from_ref(&old);
            let report = backtest(&setting, deliveries, span, &mut |_| {}).expect("played");
            let fired: Vec<_> = report
                .alerts
                .iter()
                .map(|alert| (alert.fired_s - SINCE_S) / HOUR_S)
                .collect();
            assert_eq!(fired, [25], "a day after the first delivery, not at once");
        }
    }
}
