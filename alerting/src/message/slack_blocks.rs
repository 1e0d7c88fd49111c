//! An alert as Slack's blocks. Pure.

use serde_json::{Value, json};

use super::facts::Fact;
use super::format::clamp;
use super::links::stripe_url;
use super::markup::escape;
use super::text::{footer, members};
use crate::alert::{Alert, AlertState, Notice};

/// Limits: header 150 characters, section text 3,000, field 2,000, ten fields a section, context 2,000.
/// Source: <https://docs.slack.dev/reference/block-kit/blocks>.
pub(super) fn blocks(
    alert: &Alert,
    notice: Option<&Notice>,
    headline: &str,
    facts: &[Fact],
) -> Value {
    let section = |text: &str| json!({"type": "section", "text": markup(text, 3000)});
    let fields: Vec<_> = facts
        .iter()
        .map(|fact| markup(&format!("*{}*\n{}", fact.name, fact.marked), 2000))
        .collect();
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": clamp(headline, 150)}}),
    ];
    blocks.extend(
        fields
            .chunks(10)
            .map(|fields| json!({"type": "section", "fields": fields})),
    );
    if !alert.is_resolved() {
        let lines = members(alert).into_iter().map(|(line, link)| match link {
            Some(url) => format!("• <{url}|{}>", escape(&line)),
            None => format!("• {}", escape(&line)),
        });
        let lines: Vec<_> = lines.collect();
        if !lines.is_empty() {
            blocks.push(section(&lines.join("\n")));
        }
        let numbered = (1..).zip(&alert.actions);
        let numbered = numbered.map(|(n, action): (usize, _)| format!("{n}. {}", escape(action)));
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
    blocks.push(json!({"type": "context", "elements": [markup(&last, 2000)]}));
    Value::Array(blocks)
}

/// Text in Slack's markup. It is `verbatim`: Slack makes no links and no mentions of what only looks like them. Source:
/// <https://docs.slack.dev/reference/block-kit/composition-objects/text-object>.
fn markup(text: &str, max_chars: usize) -> Value {
    json!({"type": "mrkdwn", "text": clamp(text, max_chars), "verbatim": true})
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
