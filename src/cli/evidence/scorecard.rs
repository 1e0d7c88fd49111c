//! The scorecard of a review: a few values, each with the definition of the share or mean. Values
//! that revwatch cannot know are marked as not known.

use revwatch_alerting::alert::Alert;
use revwatch_alerting::rule::Severity;
use revwatch_core::alert::report::{Verdict, counts, resolution, response};
use revwatch_core::durations::duration;
use revwatch_core::kpi::Kpis;
use revwatch_core::view::kpi::PAST_DUE;

/// One line of the scorecard.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The name of the value in the CSV file.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The value; `None`: not known.
    pub value: Option<Value>,
    /// Its definition, or why it is not known.
    pub meaning: &'static str,
}

/// A value with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A share: 0.05 is 5 %.
    Share(f64),
    /// A duration.
    Seconds(i64),
    /// A count.
    Count(usize),
}

/// The columns of [`Line::row`].
pub const HEADER: [&str; 4] = ["kpi", "value", "unit", "meaning"];

/// Shown in place of an unknown value.
pub const NOT_KNOWN: &str = "not known";

/// The values at `now_s`, and those of the alerts that fired since `since_s`.
pub fn scorecard(kpis: &Kpis, alerts: &[Alert], since_s: i64, now_s: i64) -> Vec<Line> {
    let fired: Vec<&Alert> = alerts
        .iter()
        .filter(|alert| counts(alert) && alert.fired_s >= since_s)
        .collect();
    let billing = fired
        .iter()
        .filter(|alert| is_billing(alert))
        .filter_map(|a| Some(a.acknowledged_s? - a.fired_s));
    let critical: Vec<&&Alert> = fired
        .iter()
        .filter(|alert| alert.severity == Severity::Critical)
        .collect();
    let judged =
        |judge: fn(&Alert, i64) -> Verdict| share(critical.iter().map(|alert| judge(alert, now_s)));
    let application = kpis.main.application.as_ref();
    let first_response = application.and_then(|it| it.first_response_mean_seconds_7d);
    let unanswered = application.filter(|it| !it.silent).map(|it| {
        let count = it.tickets.get("unanswered").copied().unwrap_or(0);
        usize::try_from(count).unwrap_or(0)
    });
    let line = |name, title, value, meaning| Line {
        name,
        title,
        value,
        meaning,
    };
    vec![
        line(
            "past_due_share",
            PAST_DUE,
            kpis.main.billing.past_due_ratio.map(Value::Share),
            "Subscriptions past due, of those active or past due, when the review was written",
        ),
        line(
            "first_answer_mean",
            "First answer, mean",
            mean(billing).map(Value::Seconds),
            "From firing to acknowledgement, of the alerts about billing that fired in the period and were acknowledged",
        ),
        line(
            "first_answer_to_tickets_mean",
            "First answer to tickets, mean",
            first_response.map(Value::Seconds),
            "From the opening to the first response, over the responses of the last 7 days, as your application reports them; \
             not known without that, or while it is silent",
        ),
        line(
            "tickets_unanswered",
            "Tickets without a first response",
            unanswered.map(Value::Count),
            "Open support tickets that no person has answered, when the review was written; not known without events of your \
             application, or while it is silent",
        ),
        line(
            "past_due_reversed_7d",
            "Past due reversed, 7 days",
            kpis.main.billing.recovery_rate_7d.map(Value::Share),
            "Of the subscriptions that became past due 7 to 37 days ago, those active again within 7 days",
        ),
        line(
            "downgrades_retained_30d",
            "Downgrades retained, 30 days",
            kpis.main.billing.downgrade_retention_30d.map(Value::Share),
            "Of the subscriptions downgraded 30 to 60 days ago, those that stayed active or past due for 30 days",
        ),
        line(
            "critical_alerts",
            "Critical alerts",
            Some(Value::Count(critical.len())),
            "Critical alerts that fired in the period; a group counts as one",
        ),
        line(
            "critical_acknowledged_in_time",
            "Critical, acknowledged in time",
            judged(response).map(Value::Share),
            "Share acknowledged in time, of those acknowledged or overdue",
        ),
        line(
            "critical_resolved_in_time",
            "Critical, resolved in time",
            judged(resolution).map(Value::Share),
            "Share resolved in time, of those resolved or overdue",
        ),
    ]
}

impl Line {
    /// A row of the CSV file.
    pub fn row(&self) -> [String; 4] {
        let (value, unit) = match self.value {
            None => (NOT_KNOWN.to_owned(), ""),
            Some(Value::Share(share)) => (format!("{share:.4}"), "share"),
            Some(Value::Seconds(seconds)) => (seconds.to_string(), "seconds"),
            Some(Value::Count(count)) => (count.to_string(), "count"),
        };
        [
            self.name.to_owned(),
            value,
            unit.to_owned(),
            self.meaning.to_owned(),
        ]
    }

    /// The value as shown to people.
    pub fn shown(&self) -> String {
        match self.value {
            None => NOT_KNOWN.to_owned(),
            Some(Value::Share(share)) => format!("{:.1} %", share * 100.0),
            Some(Value::Seconds(seconds)) => duration(seconds),
            Some(Value::Count(count)) => count.to_string(),
        }
    }
}

/// Whether the alert is about a subscription or a payment for one.
fn is_billing(alert: &Alert) -> bool {
    let subject = alert.subject.entity();
    subject.is_some_and(|key| key.kind.row().is_billing)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn share(verdicts: impl Iterator<Item = Verdict>) -> Option<f64> {
    let judged: Vec<Verdict> = verdicts
        .filter(|verdict| *verdict != Verdict::Open)
        .collect();
    let within = judged
        .iter()
        .filter(|verdict| **verdict == Verdict::Within)
        .count();
    (!judged.is_empty()).then(|| within as f64 / judged.len() as f64)
}

fn mean(seconds: impl Iterator<Item = i64>) -> Option<i64> {
    let seconds: Vec<i64> = seconds.collect();
    let count = i64::try_from(seconds.len())
        .ok()
        .filter(|count| *count > 0)?;
    Some(seconds.iter().sum::<i64>() / count)
}

#[cfg(test)]
mod tests {
    use revwatch_alerting::alert::Subject;
    use revwatch_core::entity::{EntityKey, EntityKind};
    use revwatch_core::kpi::application::Application;

    use super::super::cases::tests::alert;
    use super::*;

    #[test]
    fn the_scorecard_covers_the_period_and_marks_unknown_values() {
        let empty = scorecard(&Kpis::default(), &[], 0, 5_000);
        let shown: Vec<_> = empty.iter().map(Line::shown).collect();
        assert_eq!(shown[..6], [NOT_KNOWN; 6]);
        assert_eq!(
            (&*shown[6], &*shown[7], &*shown[8]),
            ("0", NOT_KNOWN, NOT_KNOWN)
        );
        assert_eq!(empty[0].row()[1..3], [NOT_KNOWN, ""]);

        let invoice = |id: &str, fired_s: i64, after_s: i64| Alert {
            subject: Subject::Entity(EntityKey::new(EntityKind::Invoice, id)),
            acknowledged_s: Some(fired_s + after_s),
            ..alert(id, fired_s)
        };
        let before = Alert {
            acknowledged_s: Some(999),
            ..alert("before", 50)
        };
        let alerts = [
            invoice("one", 100, 30),
            invoice("two", 200, 90),
            alert("payout", 300),
            before,
        ];
        let mut kpis = Kpis::default();
        kpis.main.billing.past_due_ratio = Some(0.0825);
        kpis.main.billing.recovery_rate_7d = Some(0.5);
        kpis.main.application = Some(Application {
            tickets: [("unanswered".to_owned(), 2)].into(),
            first_response_mean_seconds_7d: Some(7200),
            ..Application::default()
        });
        let lines = scorecard(&kpis, &alerts, 100, 5_000);
        let shown: Vec<_> = lines.iter().map(Line::shown).collect();
        assert_eq!(
            shown,
            [
                "8.2 %",
                "1 min 0 s",
                "2 h 0 min",
                "2",
                "50.0 %",
                NOT_KNOWN,
                "3",
                "33.3 %",
                "0.0 %"
            ]
        );
        assert_eq!(lines[0].title, "Past due, of active and past due");
        assert_eq!(lines[0].row()[..3], ["past_due_share", "0.0825", "share"]);
        assert_eq!(lines[1].row()[1..3], ["60", "seconds"]);
    }
}
