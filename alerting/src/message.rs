//! What people read: an alert as text and as Slack blocks. Pure.

use jiff::Timestamp;
use revwatch_shared::entity::EntityKind;
use serde_json::{Value, json};

use crate::alert::{Alert, AlertState};
use crate::rule::Severity;

/// A message, ready for any notifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Whose.
    pub alert_id: String,
    /// Which state of the alert it shows.
    pub revision: u32,
    /// The rule that fired.
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// Where the alert is in its life, at this revision.
    pub state: AlertState,
    /// Whom it is for.
    pub route: String,
    /// Everything, as plain text.
    pub text: String,
    /// The same as Slack's Block Kit.
    pub blocks: Value,
}

/// Renders an alert as it stands.
pub fn render(alert: &Alert) -> Message {
    let facts = facts(alert);
    let headline = headline(alert);
    Message {
        alert_id: alert.id.clone(),
        revision: alert.revision,
        rule: alert.rule.clone(),
        severity: alert.severity,
        state: alert.state,
        route: alert.route.clone(),
        text: text(alert, &headline, &facts),
        blocks: blocks(alert, &headline, &facts),
    }
}

/// For example `CRITICAL: More than 5 % of payouts are failing`.
pub fn headline(alert: &Alert) -> String {
    let word = match (alert.state, alert.severity) {
        (AlertState::Resolved, _) => "✅ RESOLVED",
        (_, Severity::Critical) => "🔴 CRITICAL",
        (_, Severity::High) => "🟠 HIGH",
        (_, Severity::Medium) => "🟡 MEDIUM",
        (_, Severity::Low) => "🔵 LOW",
    };
    format!("{word}: {}", alert.title)
}

struct Fact {
    name: &'static str,
    plain: String,
    /// In Slack's markup.
    marked: String,
}

fn facts(alert: &Alert) -> Vec<Fact> {
    let evidence = &alert.evidence;
    let mut facts = Vec::new();
    let mut add = |name, plain: String, link: Option<String>| {
        let marked = link.map_or_else(|| escape(&plain), |url| format!("<{url}|{}>", escape(&plain)));
        facts.push(Fact { name, plain, marked });
    };
    if let Some(share) = evidence.share {
        let percent = |value: f64| format!("{:.1} %", value * 100.0);
        let text =
            format!("{} of {} ({}), allowed {}", share.part, share.whole, percent(share.value()), percent(share.above));
        add("How much", text, None);
    }
    if !evidence.money.is_empty() {
        let amounts: Vec<_> = evidence.money.iter().map(ToString::to_string).collect();
        add("Money", amounts.join(" + "), None);
    }
    if let Some(subject) = alert.subject.as_ref().filter(|s| s.kind != EntityKind::Account) {
        add("Which", subject.to_string(), dashboard(subject.kind, &subject.id, evidence.account.as_deref()));
    }
    if let Some(account) = &evidence.account {
        add("Account", account.clone(), dashboard(EntityKind::Account, account, None));
    }
    if let Some(detail) = &evidence.detail {
        add("Reason", detail.clone(), None);
    }
    add("Since", time(alert.since_s), None);
    if let Some(resolved_s) = alert.resolved_s {
        add("Resolved", format!("{}, after {}", time(resolved_s), duration(resolved_s - alert.since_s)), None);
    }
    for event_id in evidence.event_ids.iter().take(3) {
        add("Event", event_id.clone(), Some(format!("https://dashboard.stripe.com/events/{event_id}")));
    }
    facts
}

/// Source: the URLs of Stripe's dashboard.
fn dashboard(kind: EntityKind, id: &str, account: Option<&str>) -> Option<String> {
    // Ids come from outside; what is no plain id gets no link.
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !plain(id) || !account.is_none_or(plain) {
        return None;
    }
    let base = account.map_or_else(
        || "https://dashboard.stripe.com".to_owned(),
        |account| format!("https://dashboard.stripe.com/{account}"),
    );
    Some(match kind {
        EntityKind::Subscription => format!("{base}/subscriptions/{id}"),
        EntityKind::Invoice => format!("{base}/invoices/{id}"),
        EntityKind::Payout => format!("{base}/payouts/{id}"),
        EntityKind::Account => format!("https://dashboard.stripe.com/connect/accounts/{id}"),
        EntityKind::Payment => format!("{base}/payments/{id}"),
        EntityKind::Dispute => format!("{base}/disputes/{id}"),
        EntityKind::Transfer => format!("{base}/connect/transfers/{id}"),
        // The dashboard has no page of its own for these.
        EntityKind::Checkout | EntityKind::Refund => return None,
    })
}

fn text(alert: &Alert, headline: &str, facts: &[Fact]) -> String {
    let mut lines = vec![headline.to_owned()];
    lines.extend(facts.iter().map(|fact| format!("{}: {}", fact.name, fact.plain)));
    if alert.state != AlertState::Resolved {
        lines.extend(alert.actions.iter().enumerate().map(|(i, action)| format!("{}. {action}", i + 1)));
    }
    if let Some(runbook) = &alert.runbook {
        lines.push(format!("Runbook: {runbook}"));
    }
    lines.push(format!("{} · {}", alert.id, alert.rule));
    lines.join("\n")
}

/// Limits: header 150 characters, section text 3,000, field 2,000, ten fields a section.
/// Source: <https://docs.slack.dev/reference/block-kit/blocks>.
fn blocks(alert: &Alert, headline: &str, facts: &[Fact]) -> Value {
    let fields: Vec<_> = facts
        .iter()
        .take(10)
        .map(|fact| json!({"type": "mrkdwn", "text": clamp(&format!("*{}*\n{}", fact.name, fact.marked), 2000)}))
        .collect();
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": clamp(headline, 150)}}),
        json!({"type": "section", "fields": fields}),
    ];
    if alert.state != AlertState::Resolved {
        let numbered = alert.actions.iter().enumerate().map(|(i, action)| format!("{}. {}", i + 1, escape(action)));
        let text = format!("*What to do*\n{}", numbered.collect::<Vec<_>>().join("\n"));
        blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": clamp(&text, 3000)}}));
    }
    let mut footer = format!("{} · {}", alert.id, alert.rule);
    if let Some(runbook) = alert.runbook.as_ref().filter(|url| url.starts_with("https://")) {
        footer = format!("<{}|Runbook> · {footer}", escape(runbook));
    }
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": clamp(&footer, 2000)}]}));
    Value::Array(blocks)
}

/// Source: <https://docs.slack.dev/messaging/formatting-message-text#escaping>.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn clamp(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn time(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| unix_s.to_string(), |t| t.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

/// The two largest units.
fn duration(seconds: i64) -> String {
    let s = seconds.max(0);
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use revwatch_shared::entity::EntityKey;
    use revwatch_shared::money::Money;

    use super::*;
    use crate::alert::{Evidence, Share};
    use crate::step::resolve;

    fn alert(rule: usize, subject: Option<EntityKey>, evidence: Evidence) -> Alert {
        let rule = &crate::rule::built_in().expect("valid")[rule];
        Alert::fire(rule, subject, 1_790_000_000, 1_790_000_300, evidence)
    }

    #[test]
    fn a_share_of_the_business() {
        let evidence = Evidence {
            share: Some(Share { part: 12, whole: 150, above: 0.05 }),
            money: vec![Money::new(1_234_500, "usd"), Money::new(90_000, "jpy")],
            ..Evidence::default()
        };
        insta::assert_snapshot!(render(&alert(0, None, evidence)).text);
    }

    #[test]
    fn one_account_and_its_resolution() {
        let evidence = Evidence {
            account: Some("acct_1".into()),
            detail: Some("requirements.past_due".into()),
            event_ids: vec!["evt_1".into()],
            ..Evidence::default()
        };
        let alert = alert(2, Some(EntityKey::new(EntityKind::Account, "acct_1")), evidence);
        insta::assert_snapshot!("fired_text", render(&alert).text);
        insta::assert_snapshot!("fired_blocks", serde_json::to_string_pretty(&render(&alert).blocks).expect("JSON"));
        insta::assert_snapshot!("resolved_text", render(&resolve(alert, 1_790_007_500)).text);
    }

    #[test]
    fn what_comes_from_outside_cannot_make_markup_or_links_and_fits_slacks_limits() {
        let evidence = Evidence {
            account: Some("acct_1|<!channel>".into()),
            detail: Some("<!everyone> & ".repeat(1000)),
            ..Evidence::default()
        };
        let message = render(&alert(2, None, evidence));
        let json = message.blocks.to_string();
        assert!(!json.contains("<!"), "{json}");
        let fields = message.blocks[1]["fields"].as_array().expect("fields");
        assert!(fields.iter().all(|f| f["text"].as_str().expect("text").chars().count() <= 2000));
        assert_eq!(clamp("abcdef", 4), "abc…");
    }
}
