//! The critical cases of a review: when they fired, who responded, and whether in time. They do not
//! identify anyone.

use revwatch_alerting::alert::{Alert, Subject};
use revwatch_alerting::rule::Severity;
use revwatch_core::alert::report::{Verdict, counts, resolution, response};
use revwatch_core::view::rfc3339;

use super::pseudonym::Pseudonyms;

/// The columns of [`row`].
pub const HEADER: [&str; 19] = [
    "case",
    "group",
    "rule",
    "severity",
    "state",
    "subject",
    "account",
    "customer",
    "money",
    "since",
    "fired_at",
    "respond_by",
    "acknowledged_at",
    "acknowledged_by",
    "response",
    "resolve_by",
    "resolved_at",
    "resolved_by",
    "resolution",
];

/// Critical alerts that fired, were acknowledged or were resolved in the period, and open ones;
/// oldest first.
pub fn handled(alerts: &[Alert], since_s: i64) -> Vec<&Alert> {
    let last_s = |alert: &Alert| {
        alert
            .resolved_s
            .max(alert.acknowledged_s)
            .max(Some(alert.fired_s))
    };
    let mut cases: Vec<&Alert> = alerts
        .iter()
        .filter(|alert| {
            alert.severity == Severity::Critical
                && (!alert.is_resolved() || last_s(alert) >= Some(since_s))
        })
        .collect();
    cases.sort_by_key(|alert| (alert.fired_s, &alert.id));
    cases
}

/// One row. Text from Stripe and from people is left out, because it may hold names.
pub fn row(alert: &Alert, names: &Pseudonyms, now_s: i64) -> Vec<String> {
    let named =
        |kind: &str, name: Option<&str>| name.map_or_else(String::new, |name| names.of(kind, name));
    let due = |at_s: i64| rfc3339(Some(at_s).filter(|at_s| *at_s > 0));
    let judged = |verdict: Verdict| match verdict {
        _ if !counts(alert) => "",
        Verdict::Within => "within",
        Verdict::Breached => "breached",
        Verdict::Open => "open",
    };
    let subject = match &alert.subject {
        Subject::Business => "business".to_owned(),
        // A currency identifies no one.
        Subject::Segment { by, value } if by == "currency" => format!("{by} {value}"),
        Subject::Segment { by, value } => names.of(by, value),
        Subject::Entity(key) => names.of(key.kind.as_str(), &key.id),
    };
    vec![
        names.of("case", &alert.id),
        named("case", alert.part_of.as_deref()),
        alert.rule.clone(),
        alert.severity.as_str().to_owned(),
        alert.state.as_str().to_owned(),
        subject,
        named("account", alert.evidence.account.as_deref()),
        named("customer", alert.evidence.customer.as_deref()),
        alert.evidence.amounts().to_string(),
        rfc3339(Some(alert.since_s)),
        rfc3339(Some(alert.fired_s)),
        due(alert.sla.respond_due_s),
        rfc3339(alert.acknowledged_s),
        named("person", alert.acknowledged_by.as_deref()),
        judged(response(alert, now_s)).to_owned(),
        due(alert.sla.resolve_due_s),
        rfc3339(alert.resolved_s),
        named("person", alert.resolved_by.as_deref()),
        judged(resolution(alert, now_s)).to_owned(),
    ]
}

#[cfg(test)]
pub mod tests {
    use revwatch_alerting::alert::{AlertState, Evidence, Sla};
    use revwatch_core::entity::{EntityKey, EntityKind};
    use revwatch_core::money::Money;

    use super::*;

    /// A critical alert on a payout, with every field that could identify a person.
    pub fn alert(id: &str, fired_s: i64) -> Alert {
        let rules = revwatch_alerting::rule_text::built_in().expect("valid");
        let rule = rules
            .iter()
            .find(|rule| rule.name == "payout_failed")
            .expect("a shipped rule");
        let evidence = Evidence {
            money: vec![Money::new(15_000, "brl"), Money::new(500, "jpy")],
            account: Some("acct_Secret".into()),
            customer: Some("cus_Secret".into()),
            detail: Some("The account of Maria Secret <maria@secret.example> is closed".into()),
            event_ids: vec!["evt_Secret".into()],
            ..Evidence::default()
        };
        let subject = Subject::Entity(EntityKey::new(EntityKind::Payout, "po_Secret"));
        let mut alert = Alert::fire(rule, &subject, fired_s, fired_s, evidence);
        alert.id = id.to_owned();
        alert.severity = Severity::Critical;
        alert.title = "Payout of Secret Ltd".into();
        alert.sla = Sla {
            respond_due_s: fired_s + 60,
            resolve_due_s: fired_s + 600,
            ..Sla::default()
        };
        alert
    }

    #[test]
    fn a_case_holds_its_course_but_no_names() {
        let names = Pseudonyms::draw().expect("chance");
        let mut case = alert("al_Secret", 1_000);
        case.part_of = None;
        case.state = AlertState::Resolved;
        (case.acknowledged_s, case.acknowledged_by) = (Some(1_061), Some("Ana Secret".into()));
        case.resolved_s = Some(1_600);
        let row = row(&case, &names, 5_000);
        assert_eq!(row.len(), HEADER.len());
        let column =
            |name: &str| row[HEADER.iter().position(|n| *n == name).expect("a column")].as_str();
        assert_eq!(column("money"), "BRL 150.00 + JPY 500");
        assert_eq!(
            (column("response"), column("resolution")),
            ("breached", "within")
        );
        assert_eq!(
            (column("rule"), column("state"), column("resolved_by")),
            ("payout_failed", "resolved", "")
        );
        assert_eq!(column("account"), names.of("account", "acct_Secret"));
        assert_eq!(column("subject"), names.of("payout", "po_Secret"));
        assert_eq!(column("acknowledged_by"), names.of("person", "Ana Secret"));
        assert!(!row.join(",").to_lowercase().contains("secret"), "{row:?}");
    }

    #[test]
    fn a_review_holds_cases_of_its_period_and_open_ones() {
        let over = |id: &str, fired_s: i64, resolved_s: i64| Alert {
            state: AlertState::Resolved,
            resolved_s: Some(resolved_s),
            ..alert(id, fired_s)
        };
        let high = Alert {
            severity: Severity::High,
            ..alert("high", 150)
        };
        let alerts = [
            over("new", 120, 130),
            over("long", 5, 100),
            over("old", 5, 99),
            alert("open", 1),
            high,
        ];
        let cases: Vec<_> = handled(&alerts, 100)
            .iter()
            .map(|alert| alert.id.as_str())
            .collect();
        assert_eq!(cases, ["open", "long", "new"]);
    }
}
