//! What people read: an alert, or a notice about it, as text and as Slack blocks. Pure.

use jiff::Timestamp;
use revwatch_core::entity::EntityKind;
use revwatch_core::money::Money;
use serde_json::{Value, json};

use crate::alert::{
    Alert, AlertState, MessageKey, MetricValue, Notice, NoticeKind, NotificationState, Point, Side,
    Subject, Unit,
};
use crate::rule::Severity;

/// A message, ready for any notifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Names this message to its destination; the same for every attempt at it.
    pub delivery_id: String,
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
    /// `None` for the alert itself; else what is said about it.
    pub notice: Option<NoticeKind>,
    /// Whom it is for: chooses the channel or the addresses.
    pub route: String,
    /// Unix seconds at which the alert fired.
    pub fired_s: i64,
    /// The earlier message that is to be changed in place.
    pub receipt: Option<String>,
    /// The alert's own message by the same notifier, for a notice to be put beside it.
    pub thread: Option<String>,
    /// Readers may have had it before.
    pub possible_duplicate: bool,
    /// One line, for a subject.
    pub headline: String,
    /// Everything, as plain text.
    pub text: String,
    /// The least that makes somebody get up, in at most 300 characters.
    pub short: String,
    /// The same as `text`, as Slack's Block Kit.
    pub blocks: Value,
    /// The alert for programs: id, rule, severity, state, times, labels, money, figure.
    pub details: Value,
}

/// Ends the delivery id of a message of its own that says that an alert is over.
pub const RESOLVED: &str = "-resolved";

/// Renders an alert, or what one of its notices says of it, as it stands.
pub fn render(alert: &Alert, way: &MessageKey, progress: &NotificationState) -> Message {
    let notice = alert
        .notices
        .iter()
        .find(|notice| notice.number == way.notice);
    let facts = facts(alert, progress);
    let headline = headline(alert, notice);
    let again = if way.notice == 0
        && progress.delivered_revision > 0
        && progress.receipt.is_none()
        && alert.is_over()
    {
        RESOLVED
    } else {
        ""
    };
    let route = notice.map_or(&alert.route, |notice| &notice.route);
    let main = alert.notifications.get(&MessageKey::main(&way.notifier));
    Message {
        delivery_id: format!("{}-{}{again}", alert.id, way.notice),
        alert_id: alert.id.clone(),
        revision: alert.revision,
        rule: alert.rule.clone(),
        severity: alert.severity,
        state: alert.state,
        notice: notice.map(|notice| notice.kind),
        route: route.clone(),
        fired_s: alert.fired_s,
        receipt: progress.receipt.clone(),
        // Another route is another place, where there is no such thread.
        thread: main
            .filter(|_| notice.is_some() && *route == alert.route)
            .and_then(|main| main.receipt.clone()),
        possible_duplicate: progress.possible_duplicate,
        text: text(alert, &headline, &facts),
        short: short(alert, &headline),
        blocks: blocks(alert, notice, &headline, &facts),
        details: details(alert, notice),
        headline,
    }
}

/// For example `🔴 CRITICAL: More than 5 % of payouts are failing`.
pub fn headline(alert: &Alert, notice: Option<&Notice>) -> String {
    let severity = match alert.severity {
        Severity::Critical => "🔴 CRITICAL",
        Severity::High => "🟠 HIGH",
        Severity::Medium => "🟡 MEDIUM",
        Severity::Low => "🔵 LOW",
    };
    let word = match (alert.state, notice) {
        (_, Some(notice)) => format!("{} · {severity}", said(notice.kind)),
        (AlertState::Resolved, None) => "✅ RESOLVED".to_owned(),
        (AlertState::Acknowledged, None) => format!("{severity} (acknowledged)"),
        (AlertState::Firing, None) => severity.to_owned(),
    };
    let many = match &alert.group {
        Some(group) => format!("{} × ", group.joined),
        None => String::new(),
    };
    let part = match &alert.subject {
        Subject::Segment { value, .. } => format!(" ({value})"),
        _ => String::new(),
    };
    format!("{word}: {many}{}{part}", alert.title)
}

/// What a clock says, in the words of a headline.
fn said(kind: NoticeKind) -> String {
    match kind {
        NoticeKind::RespondSoon => "⏳ RESPONSE DUE SOON".into(),
        NoticeKind::RespondBreached => "⏰ NO RESPONSE IN TIME".into(),
        NoticeKind::Escalated(step) => format!("📣 ESCALATION {}", step + 1),
        NoticeKind::ResolveSoon => "⏳ RESOLUTION DUE SOON".into(),
        NoticeKind::ResolveBreached => "⏰ NOT RESOLVED IN TIME".into(),
    }
}

struct Fact {
    name: &'static str,
    plain: String,
    /// In Slack's markup.
    marked: String,
}

fn facts(alert: &Alert, progress: &NotificationState) -> Vec<Fact> {
    let evidence = &alert.evidence;
    let mut facts = Vec::new();
    let mut add = |name, plain: String, link: Option<String>| {
        let marked = link.map_or_else(
            || escape(&plain),
            |url| format!("<{url}|{}>", escape(&plain)),
        );
        facts.push(Fact {
            name,
            plain,
            marked,
        });
    };
    if progress.possible_duplicate {
        add(
            "Possible duplicate",
            "an earlier attempt at this message ended without an answer".into(),
            None,
        );
    }
    if let Some(figure) = evidence.metric_value {
        add("How much", figure_text(figure, &alert.subject), None);
    }
    if let Some(group) = &alert.group {
        let over = group.joined - group.open;
        let plain = if over == 0 {
            format!("{} alerts", group.joined)
        } else {
            format!("{} alerts, {over} of them over", group.joined)
        };
        add("How many", plain, None);
    }
    if !evidence.money.is_empty() {
        let amounts: Vec<_> = evidence.money.iter().map(ToString::to_string).collect();
        add("Money", amounts.join(" + "), None);
    }
    if let Some(key) = alert
        .subject
        .entity()
        .filter(|key| key.kind != EntityKind::Account)
    {
        add(
            "Which",
            key.to_string(),
            dashboard(key.kind, &key.id, evidence.account.as_deref()),
        );
    }
    if let Some(account) = &evidence.account {
        add(
            "Account",
            account.clone(),
            dashboard(EntityKind::Account, account, None),
        );
    }
    if let Some(customer) = &evidence.customer {
        let of = evidence
            .account
            .as_ref()
            .map_or_else(String::new, |account| format!("/{account}"));
        let link = is_plain(customer) && evidence.account.as_deref().is_none_or(is_plain);
        add(
            "Customer",
            customer.clone(),
            link.then(|| format!("https://dashboard.stripe.com{of}/customers/{customer}")),
        );
    }
    if let Some(detail) = &evidence.detail {
        add("Reason", detail.clone(), None);
    }
    add("Since", time(alert.since_s), None);
    if let Some(trend) = trend_text(alert) {
        add("Trend", trend, None);
    }
    match (alert.state, alert.acknowledged_s) {
        (AlertState::Firing, _) if !alert.sla.upcoming.is_empty() || !alert.notices.is_empty() => {
            add("Respond by", time(alert.sla.respond_due_s), None);
        }
        (_, Some(at_s)) => {
            let by = alert.acknowledged_by.as_deref().unwrap_or("somebody");
            let late = if at_s > alert.sla.respond_due_s {
                " (late)"
            } else {
                ""
            };
            add(
                "Acknowledged",
                format!("{} by {by}{late}", time(at_s)),
                None,
            );
        }
        _ => {}
    }
    match alert.resolved_s {
        None if alert.sla.resolve_due_s > 0
            && !(alert.sla.upcoming.is_empty() && alert.notices.is_empty()) =>
        {
            add("Resolve by", time(alert.sla.resolve_due_s), None);
        }
        Some(at_s) => {
            let by = alert
                .resolved_by
                .as_ref()
                .map_or_else(String::new, |by| format!(" by {by}"));
            add(
                "Resolved",
                format!(
                    "{}{by}, after {}",
                    time(at_s),
                    duration(at_s - alert.since_s)
                ),
                None,
            );
        }
        None => {}
    }
    let ids = evidence.event_ids.iter().take(3);
    for event_id in ids {
        let link =
            is_plain(event_id).then(|| format!("https://dashboard.stripe.com/events/{event_id}"));
        add("Event", event_id.clone(), link);
    }
    facts
}

fn figure_text(figure: MetricValue, subject: &Subject) -> String {
    let write = |value: f64| write_figure(value, figure.unit, subject);
    let bound = match figure.side {
        Side::Above => "allowed",
        Side::Below => "wanted at least",
    };
    let value = write(figure.value);
    let measured = match (figure.parts, figure.unit) {
        (Some((part, whole)), Unit::Share) => format!("{part} of {whole} ({value})"),
        _ => value,
    };
    format!("{measured}, {bound} {}", write(figure.threshold))
}

fn write_figure(value: f64, unit: Unit, subject: &Subject) -> String {
    match (unit, subject) {
        (Unit::Share, _) => format!("{:.1} %", value * 100.0),
        (Unit::Seconds, _) if value < 60.0 => format!("{value:.1} s"),
        (Unit::Seconds, _) => duration(whole(value)),
        (
            Unit::Minor,
            Subject::Segment {
                value: currency, ..
            },
        ) => Money::new(whole(value), currency).to_string(),
        (Unit::Minor | Unit::Count, _) => format!("{value:.0}"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "figures made of whole numbers far below 2^53"
)]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

/// For example `1.0 % → 2.0 % → 8.0 %`; nothing where nothing is known of the past.
fn trend_text(alert: &Alert) -> Option<String> {
    let figure = alert.evidence.metric_value?;
    let known: Vec<&Point> = alert
        .evidence
        .trend
        .iter()
        .skip_while(|point| point.value.is_none())
        .collect();
    if known.len() < 2 {
        return None;
    }
    let write = |point: &&Point| match point.value {
        Some(value) => write_figure(value, figure.unit, &alert.subject),
        None => "?".to_owned(),
    };
    Some(known.iter().map(write).collect::<Vec<_>>().join(" → "))
}

fn is_plain(text: &str) -> bool {
    // Ids come from outside; what is no plain id gets no link.
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Source: the URLs of Stripe's dashboard.
fn dashboard(kind: EntityKind, id: &str, account: Option<&str>) -> Option<String> {
    if !is_plain(id) || !account.is_none_or(is_plain) {
        return None;
    }
    let base = account.map_or_else(
        || "https://dashboard.stripe.com".to_owned(),
        |account| format!("https://dashboard.stripe.com/{account}"),
    );
    Some(match kind {
        EntityKind::Account => format!("https://dashboard.stripe.com/connect/accounts/{id}"),
        EntityKind::Payout => format!("{base}/payouts/{id}"),
        EntityKind::Subscription => format!("{base}/subscriptions/{id}"),
        EntityKind::Invoice => format!("{base}/invoices/{id}"),
        EntityKind::Payment => format!("{base}/payments/{id}"),
        EntityKind::Dispute => format!("{base}/disputes/{id}"),
        EntityKind::Transfer => format!("{base}/connect/transfers/{id}"),
        // The dashboard has no page of its own for these.
        EntityKind::Checkout | EntityKind::Refund => return None,
    })
}

/// Where "Open in Stripe" leads.
fn stripe_url(alert: &Alert) -> Option<String> {
    match alert.subject.entity() {
        Some(key) => dashboard(
            key.kind,
            &key.id,
            alert.evidence.account.as_deref().filter(|a| *a != key.id),
        ),
        None => alert
            .evidence
            .event_ids
            .first()
            .filter(|id| is_plain(id))
            .map(|id| format!("https://dashboard.stripe.com/events/{id}")),
    }
}

/// The members that a group names, one line each, and how many it does not.
fn named(alert: &Alert) -> Vec<(String, Option<String>)> {
    let Some(group) = &alert.group else {
        return Vec::new();
    };
    let mut lines: Vec<_> = group
        .top
        .iter()
        .map(|member| {
            let money = member
                .money
                .as_ref()
                .map_or_else(String::new, |money| format!(", {money}"));
            let link = member.subject.entity().and_then(|key| {
                dashboard(
                    key.kind,
                    &key.id,
                    member
                        .account
                        .as_deref()
                        .filter(|account| *account != key.id),
                )
            });
            (format!("{}{money}", member.subject), link)
        })
        .collect();
    let rest = usize::try_from(group.open)
        .unwrap_or(usize::MAX)
        .saturating_sub(group.top.len());
    if rest > 0 {
        lines.push((
            format!(
                "and {rest} more: `revwatch alerts list --group {}`",
                alert.id
            ),
            None,
        ));
    }
    lines
}

fn text(alert: &Alert, headline: &str, facts: &[Fact]) -> String {
    let mut lines = vec![headline.to_owned()];
    lines.extend(
        facts
            .iter()
            .map(|fact| format!("{}: {}", fact.name, fact.plain)),
    );
    if !alert.is_over() {
        lines.extend(
            named(alert)
                .into_iter()
                .map(|(line, _)| format!("- {line}")),
        );
        lines.extend(
            alert
                .actions
                .iter()
                .enumerate()
                .map(|(i, action)| format!("{}. {action}", i + 1)),
        );
    }
    if let Some(runbook) = &alert.runbook {
        lines.push(format!("Runbook: {runbook}"));
    }
    lines.push(footer(alert));
    lines.join("\n")
}

/// Id, rule and labels, for instance `al_1 · payout_failed · #billing_ops`.
fn footer(alert: &Alert) -> String {
    let labels = alert
        .labels
        .iter()
        .map(|(name, value)| match name.as_str() {
            "tag" => format!("#{value}"),
            _ => format!("{name}={value}"),
        });
    [alert.id.clone(), alert.rule.clone()]
        .into_iter()
        .chain(labels)
        .collect::<Vec<_>>()
        .join(" · ")
}

/// For a telephone that lies beside a bed.
fn short(alert: &Alert, headline: &str) -> String {
    let money: Vec<_> = alert
        .evidence
        .money
        .iter()
        .map(ToString::to_string)
        .collect();
    let about = [
        alert
            .evidence
            .account
            .clone()
            .unwrap_or_else(|| alert.subject_text()),
        money.join(" + "),
    ];
    let about: Vec<_> = about.into_iter().filter(|text| !text.is_empty()).collect();
    let about = if about.is_empty() {
        String::new()
    } else {
        format!(" – {}", about.join(", "))
    };
    let end = format!(" [{}]", alert.id);
    format!(
        "{}{end}",
        clamp(&format!("{headline}{about}"), 300 - end.chars().count())
    )
}

/// Limits: header 150 characters, section text 3,000, field 2,000, ten fields a section, context 2,000.
/// Source: <https://docs.slack.dev/reference/block-kit/blocks>.
fn blocks(alert: &Alert, notice: Option<&Notice>, headline: &str, facts: &[Fact]) -> Value {
    let section = |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": clamp(text, 3000)}});
    let fields: Vec<_> = facts
        .iter()
        .map(|fact| json!({"type": "mrkdwn", "text": clamp(&format!("*{}*\n{}", fact.name, fact.marked), 2000)}))
        .collect();
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": clamp(headline, 150)}}),
    ];
    blocks.extend(
        fields
            .chunks(10)
            .map(|fields| json!({"type": "section", "fields": fields})),
    );
    if !alert.is_over() {
        let lines = named(alert).into_iter().map(|(line, link)| match link {
            Some(url) => format!("• <{url}|{}>", escape(&line)),
            None => format!("• {}", escape(&line)),
        });
        let lines: Vec<_> = lines.collect();
        if !lines.is_empty() {
            blocks.push(section(&lines.join("\n")));
        }
        let numbered = alert
            .actions
            .iter()
            .enumerate()
            .map(|(i, action)| format!("{}. {}", i + 1, escape(action)));
        blocks.push(section(&format!(
            "*What to do*\n{}",
            numbered.collect::<Vec<_>>().join("\n")
        )));
        if notice.is_none() {
            blocks.push(json!({"type": "actions", "elements": buttons(alert)}));
        }
    }
    let mut last = escape(&footer(alert));
    if let Some(runbook) = alert
        .runbook
        .as_ref()
        .filter(|url| url.starts_with("https://"))
    {
        last = format!("<{}|Runbook> · {last}", escape(runbook));
    }
    blocks.push(
        json!({"type": "context", "elements": [{"type": "mrkdwn", "text": clamp(&last, 2000)}]}),
    );
    Value::Array(blocks)
}

/// Source: <https://docs.slack.dev/reference/block-kit/block-elements/button-element>.
fn buttons(alert: &Alert) -> Vec<Value> {
    let label = |text: &str| json!({"type": "plain_text", "text": text});
    let mut buttons = Vec::new();
    if alert.state == AlertState::Firing {
        buttons.push(
            json!({"type": "button", "action_id": "acknowledge", "style": "primary",
            "text": label("Acknowledge"), "value": alert.id}),
        );
    }
    let silences = [
        ("1 hour", 3600),
        ("4 hours", 4 * 3600),
        ("1 day", 86_400),
        ("1 week", 7 * 86_400),
    ];
    let options: Vec<_> = silences
        .iter()
        .map(|(text, seconds)| json!({"text": label(text), "value": format!("{} {seconds}", alert.id)}))
        .collect();
    buttons.push(json!({"type": "static_select", "action_id": "silence", "placeholder": label("Silence for …"),
        "options": options}));
    if let Some(url) = stripe_url(alert) {
        buttons.push(json!({"type": "button", "action_id": "open", "text": label("Open in Stripe"), "url": url}));
    }
    buttons
}

/// The alert for programs.
fn details(alert: &Alert, notice: Option<&Notice>) -> Value {
    let iso = |unix_s: Option<i64>| {
        unix_s
            .and_then(|s| Timestamp::from_second(s).ok())
            .map(|t| t.to_string())
    };
    let money: Vec<_> = alert
        .evidence
        .money
        .iter()
        .map(|m| json!({"amount_minor": m.minor, "currency": m.currency}))
        .collect();
    json!({
        "id": alert.id, "rule": alert.rule, "severity": alert.severity, "state": alert.state, "route": alert.route,
        "title": alert.title, "subject": alert.subject_text(), "account": alert.evidence.account, "customer": alert.evidence.customer,
        "labels": alert.labels, "since": iso(Some(alert.since_s)), "fired_at": iso(Some(alert.fired_s)),
        "acknowledged_at": iso(alert.acknowledged_s), "acknowledged_by": alert.acknowledged_by,
        "resolved_at": iso(alert.resolved_s), "respond_by": iso(Some(alert.sla.respond_due_s)),
        "resolve_by": iso(Some(alert.sla.resolve_due_s)), "figure": alert.evidence.metric_value, "money": money,
        "reason": alert.evidence.detail, "event_ids": alert.evidence.event_ids, "actions": alert.actions,
        "runbook": alert.runbook, "stripe_url": stripe_url(alert), "revision": alert.revision,
        "group": alert.group.as_ref().map(|group| json!({"joined": group.joined, "open": group.open})),
        "notice": notice.map(|notice| notice.kind),
    })
}

/// Source: <https://docs.slack.dev/messaging/formatting-message-text#escaping>.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn clamp(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn time(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(
        |_| unix_s.to_string(),
        |t| t.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

/// For example `3 h 20 min`: the two largest units.
pub fn duration(seconds: i64) -> String {
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
    use revwatch_core::entity::EntityKey;
    use revwatch_runtime::config::Config;

    use super::*;
    use crate::alert::{Evidence, Group, Member};
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
        let way = MessageKey {
            notifier: "slack".into(),
            notice: 1,
        };
        insta::assert_snapshot!(
            "escalated_text",
            render(&alert, &way, &NotificationState::default()).text
        );
        alert.state = AlertState::Acknowledged;
        alert.acknowledged_s = Some(FIRED_S + 1000);
        alert.acknowledged_by = Some("ana".into());
        insta::assert_snapshot!("acknowledged_text", show(&alert).text);
        alert.state = AlertState::Resolved;
        alert.resolved_s = Some(FIRED_S + 7200);
        insta::assert_snapshot!("resolved_text", show(&alert).text);
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
                parts: Some((12, 150)),
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

    #[test]
    fn a_group_names_the_largest() {
        let mut alert = account();
        alert.subject = Subject::Business;
        alert.evidence.account = None;
        let member = |n: i64| Member {
            alert_id: format!("al_{n}"),
            subject: Subject::Entity(EntityKey::new(EntityKind::Payout, format!("po_{n}"))),
            account: Some(format!("acct_{n}")),
            money: Some(Money::new(10_000 - n, "eur")),
        };
        alert.group = Some(Group {
            joined: 37,
            open: 35,
            top: (0..10).map(member).collect(),
            money: Vec::new(),
        });
        alert.evidence.money = vec![Money::new(370_000, "eur")];
        insta::assert_snapshot!("group_text", show(&alert).text);
        insta::assert_snapshot!("group_blocks", pretty(&show(&alert).blocks));
    }

    #[test]
    fn figures_are_written_in_their_unit() {
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
            assert_eq!(write_figure(value, unit, subject), expected);
        }
    }

    #[test]
    fn what_comes_from_outside_cannot_make_markup_or_links_and_fits_slacks_limits() {
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
            let most = match block["type"].as_str() {
                Some("header") => 150,
                _ => 3000,
            };
            let text = block["text"]["text"].as_str().unwrap_or_default();
            assert!(text.chars().count() <= most, "{block}");
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
    }
}
