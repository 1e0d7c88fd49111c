//! How well alerts were handled: whether an alert met its deadlines (C13), and the sums over months
//! (C18).
//!
//! Only delivered alerts count, each of them one time: a group counts and its members do not, and an
//! alert that was muted from beginning to end does not count.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::alert::{Alert, Severity};

/// Whether a deadline was met. The second of the deadline itself is in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was met.
    Within,
    /// It was missed, or is overdue.
    Breached,
    /// There is still time.
    Open,
}

/// The alerts of one severity that fired in one month.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// In UTC, for example `2026-11`.
    pub month: String,
    /// Their severity.
    pub severity: Severity,
    /// Their number.
    pub alerts: u32,
    /// The share acknowledged in time, of those that were acknowledged or are overdue.
    pub acknowledged_within: Option<f64>,
    /// The share resolved in time, of those that are resolved or overdue.
    pub resolved_within: Option<f64>,
    /// From the start of its clocks to acknowledgement, of the acknowledged ones.
    pub mean_seconds_to_acknowledge: Option<i64>,
    /// From the start of its clocks to resolution, of the resolved ones.
    pub mean_seconds_to_resolve: Option<i64>,
    /// Alerts that are overdue now.
    pub breaches_open: u32,
}

/// Whether it was acknowledged in time. An alert that is resolved before needs no acknowledgement.
pub fn response(alert: &Alert, now_s: i64) -> Verdict {
    judge(
        alert.acknowledged_s.or(alert.resolved_s),
        alert.sla.respond_due_s,
        now_s,
    )
}

/// Whether it was resolved in time.
pub fn resolution(alert: &Alert, now_s: i64) -> Verdict {
    judge(alert.resolved_s, alert.sla.resolve_due_s, now_s)
}

/// Whether the alert counts.
pub fn counts(alert: &Alert) -> bool {
    let is_delivered = alert
        .notifications
        .values()
        .any(|state| state.delivered_revision > 0);
    // The clocks of an alert start when it is not muted.
    let has_clocks = alert.sla.respond_due_s > 0;
    alert.part_of.is_none() && has_clocks && (is_delivered || alert.muted.is_none())
}

/// The deadlines that have passed on an open alert: `respond`, `resolve`.
pub fn overdue(alert: &Alert, now_s: i64) -> impl Iterator<Item = &'static str> {
    let is_open = counts(alert) && !alert.is_resolved();
    let no_response = alert.acknowledged_s.is_none() && response(alert, now_s) == Verdict::Breached;
    let no_resolution = resolution(alert, now_s) == Verdict::Breached;
    [
        ("respond", is_open && no_response),
        ("resolve", is_open && no_resolution),
    ]
    .into_iter()
    .filter_map(|(clock, is_overdue)| is_overdue.then_some(clock))
}

/// The last `months` calendar months up to `now_s`, newest first, in each the most severe first.
/// Months and severities without an alert have no line.
pub fn report<'a>(
    alerts: impl IntoIterator<Item = &'a Alert>,
    months: u32,
    now_s: i64,
) -> Vec<Line> {
    let Some(this_month) = month(now_s) else {
        return Vec::new();
    };
    let mut sums = BTreeMap::<_, Sums>::new();
    for alert in alerts.into_iter().filter(|alert| counts(alert)) {
        let Some(fired) = month(alert.fired_s)
            .filter(|fired| this_month.saturating_sub(*fired) < i64::from(months))
        else {
            continue;
        };
        sums.entry((Reverse(fired), Reverse(alert.severity)))
            .or_default()
            .add(alert, now_s);
    }
    sums.into_iter()
        .map(|((month, severity), sums)| sums.line(&name(month.0), severity.0))
        .collect()
}

#[derive(Default)]
struct Sums {
    alerts: u32,
    responses: Share,
    resolutions: Share,
    to_acknowledge: Mean,
    to_resolve: Mean,
    breaches_open: u32,
}

impl Sums {
    fn add(&mut self, alert: &Alert, now_s: i64) {
        let (response, resolution) = (response(alert, now_s), resolution(alert, now_s));
        self.alerts = self.alerts.saturating_add(1);
        self.responses.add(response);
        self.resolutions.add(resolution);
        let after_start = |at_s: i64| at_s.saturating_sub(alert.started_s());
        self.to_acknowledge
            .add(alert.acknowledged_s.map(after_start));
        self.to_resolve.add(alert.resolved_s.map(after_start));
        let is_overdue = overdue(alert, now_s).next().is_some();
        self.breaches_open = self.breaches_open.saturating_add(is_overdue.into());
    }

    fn line(&self, month: &str, severity: Severity) -> Line {
        Line {
            month: month.to_owned(),
            severity,
            alerts: self.alerts,
            acknowledged_within: self.responses.within(),
            resolved_within: self.resolutions.within(),
            mean_seconds_to_acknowledge: self.to_acknowledge.mean(),
            mean_seconds_to_resolve: self.to_resolve.mean(),
            breaches_open: self.breaches_open,
        }
    }
}

#[derive(Default)]
struct Share {
    within: u32,
    breached: u32,
}

impl Share {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Within => self.within = self.within.saturating_add(1),
            Verdict::Breached => self.breached = self.breached.saturating_add(1),
            Verdict::Open => {}
        }
    }

    fn within(&self) -> Option<f64> {
        let judged = self.within.saturating_add(self.breached);
        (judged > 0).then(|| f64::from(self.within) / f64::from(judged))
    }
}

#[derive(Default)]
struct Mean {
    seconds: i64,
    of: i64,
}

impl Mean {
    fn add(&mut self, seconds: Option<i64>) {
        if let Some(seconds) = seconds {
            self.seconds = self.seconds.saturating_add(seconds.max(0));
            self.of = self.of.saturating_add(1);
        }
    }

    fn mean(&self) -> Option<i64> {
        self.seconds.checked_div(self.of)
    }
}

fn judge(done_s: Option<i64>, due_s: i64, now_s: i64) -> Verdict {
    match done_s {
        Some(at_s) if at_s <= due_s => Verdict::Within,
        Some(_) => Verdict::Breached,
        None if now_s > due_s => Verdict::Breached,
        None => Verdict::Open,
    }
}

/// Months since the year 0.
fn month(unix_s: i64) -> Option<i64> {
    let date = Timestamp::from_second(unix_s)
        .ok()?
        .to_zoned(TimeZone::UTC)
        .date();
    let months = i64::from(date.year()).saturating_mul(12);
    Some(months.saturating_add(i64::from(date.month()).saturating_sub(1)))
}

fn name(month: i64) -> String {
    format!(
        "{:04}-{:02}",
        month.div_euclid(12),
        month.rem_euclid(12).saturating_add(1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{
        AlertState, AlertTemplate, Evidence, Group, MessageKey, Mute, NotificationState, Sla,
        Subject,
    };

    /// 1 November 2026, 00:00 UTC.
    const NOVEMBER_S: i64 = 1_793_491_200;
    /// Every alert must be acknowledged within ten minutes and resolved within an hour.
    const RESPOND_S: i64 = 600;
    const RESOLVE_S: i64 = 3600;

    fn alert(fired_s: i64, acknowledged_after: Option<i64>, resolved_after: Option<i64>) -> Alert {
        let mut alert = Alert::fire(
            AlertTemplate::sample(),
            &Subject::Business,
            fired_s,
            fired_s,
            Evidence::default(),
        );
        alert.sla = Sla {
            respond_s: RESPOND_S,
            resolve_s: RESOLVE_S,
            respond_due_s: fired_s + RESPOND_S,
            resolve_due_s: fired_s + RESOLVE_S,
            upcoming: Vec::new(),
            started_s: 0,
        };
        alert.acknowledged_s = acknowledged_after.map(|s| fired_s + s);
        alert.resolved_s = resolved_after.map(|s| fired_s + s);
        alert.state = match (alert.acknowledged_s, alert.resolved_s) {
            (_, Some(_)) => AlertState::Resolved,
            (Some(_), None) => AlertState::Acknowledged,
            (None, None) => AlertState::Firing,
        };
        alert
    }

    #[test]
    fn a_deadline_is_met_until_its_second_has_passed() {
        use Verdict::{Breached, Open, Within};
        // Seconds until acknowledged, resolved and evaluated; response, resolution, open breaches.
        for (acknowledged, resolved, evaluated, responded, ended, open) in [
            (Some(600), Some(3600), 9000, Within, Within, 0),
            (Some(601), Some(3601), 9000, Breached, Breached, 0),
            (None, Some(600), 9000, Within, Within, 0),
            (None, Some(601), 9000, Breached, Within, 0),
            (None, None, 600, Open, Open, 0),
            (None, None, 601, Breached, Open, 1),
            (None, None, 3601, Breached, Breached, 1),
            (Some(5), None, 3600, Within, Open, 0),
            (Some(5), None, 3601, Within, Breached, 1),
            (Some(700), None, 3600, Breached, Open, 0),
        ] {
            let alert = alert(NOVEMBER_S, acknowledged, resolved);
            let now_s = NOVEMBER_S + evaluated;
            let found = (response(&alert, now_s), resolution(&alert, now_s));
            assert_eq!(
                found,
                (responded, ended),
                "{acknowledged:?} {resolved:?} {evaluated}"
            );
            assert_eq!(
                report([&alert], 1, now_s)[0].breaches_open,
                open,
                "{acknowledged:?} {resolved:?} {evaluated}"
            );
        }
    }

    #[test]
    fn times_count_from_the_start_of_the_clocks() {
        let mut alert = alert(NOVEMBER_S, Some(7200), Some(9000));
        let means = |alert: &Alert| {
            let line = &report([alert], 1, NOVEMBER_S)[0];
            (
                line.mean_seconds_to_acknowledge,
                line.mean_seconds_to_resolve,
            )
        };
        assert_eq!(means(&alert), (Some(7200), Some(9000)));
        alert.sla.started_s = NOVEMBER_S + 7000;
        assert_eq!(means(&alert), (Some(200), Some(2000)));
    }

    #[test]
    fn only_delivered_alerts_count_and_groups_count_as_one() {
        let member = Alert {
            part_of: Some("al_group".into()),
            ..alert(NOVEMBER_S, None, None)
        };
        let group = Alert {
            group: Some(Group::default()),
            ..alert(NOVEMBER_S, None, None)
        };
        let silenced = Alert {
            muted: Some(Mute::Silence("si_1".into())),
            ..alert(NOVEMBER_S, None, None)
        };
        let delivered = NotificationState {
            delivered_revision: 1,
            ..NotificationState::default()
        };
        let silenced_later = Alert {
            notifications: [(MessageKey::main("slack"), delivered)].into(),
            ..silenced.clone()
        };
        let never_started = Alert {
            sla: Sla::default(),
            ..alert(NOVEMBER_S, None, Some(5))
        };
        let inhibited = Alert {
            muted: Some(Mute::Inhibited("al_1".into())),
            ..alert(NOVEMBER_S, None, Some(5))
        };
        for (what, alert, expected) in [
            ("alone", alert(NOVEMBER_S, None, None), true),
            ("group", group, true),
            ("member", member, false),
            ("silenced from the beginning", silenced, false),
            ("silenced after it was delivered", silenced_later, true),
            ("resolved while it was muted", inhibited, false),
            ("its clocks never started", never_started, false),
        ] {
            assert_eq!(counts(&alert), expected, "{what}");
            assert_eq!(
                report([&alert], 1, NOVEMBER_S).len(),
                usize::from(expected),
                "{what}"
            );
        }
    }

    #[test]
    fn sums_are_by_calendar_month_and_severity() {
        let december_s = NOVEMBER_S + 30 * 86_400;
        let high = Alert {
            severity: Severity::High,
            ..alert(december_s + 5, None, None)
        };
        let alerts = [
            alert(NOVEMBER_S - 1, Some(60), Some(120)),
            alert(NOVEMBER_S, Some(60), Some(120)),
            alert(december_s - 1, Some(600), Some(4000)),
            alert(december_s - 1, None, Some(5)),
            alert(december_s, None, None),
            high,
        ];
        let lines = report(&alerts, 2, december_s + 10);
        let keys: Vec<_> = lines
            .iter()
            .map(|l| (l.month.as_str(), l.severity, l.alerts))
            .collect();
        assert_eq!(
            keys,
            [
                ("2026-12", Severity::Critical, 1),
                ("2026-12", Severity::High, 1),
                ("2026-11", Severity::Critical, 3)
            ]
        );
        assert_eq!(
            lines[0],
            Line {
                month: "2026-12".into(),
                severity: Severity::Critical,
                alerts: 1,
                acknowledged_within: None,
                resolved_within: None,
                mean_seconds_to_acknowledge: None,
                mean_seconds_to_resolve: None,
                breaches_open: 0,
            }
        );
        let november = &lines[2];
        assert_eq!(
            (november.acknowledged_within, november.resolved_within),
            (Some(1.0), Some(2.0 / 3.0))
        );
        let means = (
            november.mean_seconds_to_acknowledge,
            november.mean_seconds_to_resolve,
        );
        assert_eq!(means, (Some(330), Some((120 + 4000 + 5) / 3)));
        assert_eq!(
            report(&alerts, 3, december_s + 10)
                .last()
                .map(|l| l.month.clone()),
            Some("2026-10".into())
        );
        assert!(report(&alerts, 0, december_s + 10).is_empty());
    }
}
