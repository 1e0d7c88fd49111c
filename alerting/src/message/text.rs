//! An alert as plain text, complete and short. Pure.

use revwatch_core::neutral;

use super::facts::Fact;
use super::format::clamp;

use crate::alert::Alert;

/// Maximum number of characters of the short text.
const MAX_SHORT_CHARS: usize = 300;

/// Everything.
pub(super) fn text(alert: &Alert, headline: &str, facts: &[Fact]) -> String {
    let mut lines = vec![headline.to_owned()];
    lines.extend(
        facts
            .iter()
            .map(|fact| format!("{}: {}", fact.name, fact.plain)),
    );
    if !alert.is_resolved() {
        lines.extend(
            members(alert)
                .into_iter()
                .map(|(line, _)| format!("- {line}")),
        );
        let numbered = (1..).zip(&alert.actions);
        lines.extend(numbered.map(|(n, action): (usize, _)| format!("{n}. {action}")));
    }
    if let Some(runbook) = &alert.runbook {
        lines.push(format!("Runbook: {runbook}"));
    }
    lines.push(footer(alert));
    lines.join("\n")
}

/// Id, rule and labels, for example `al_1 · payout_failed · #billing_ops`.
pub(super) fn footer(alert: &Alert) -> String {
    let labels = alert
        .labels
        .iter()
        .map(|(name, value)| match name.as_str() {
            "tag" => format!("#{value}"),
            _ => format!("{name}={value}"),
        });
    let parts = [alert.id.clone(), alert.rule.clone()];
    let parts: Vec<_> = parts.into_iter().chain(labels).collect();
    neutral::line(&parts.join(" · ")).into_owned()
}

/// For text messages: the headline, the subject and the amounts.
pub(super) fn short(alert: &Alert, headline: &str) -> String {
    let money = alert.evidence.amounts().texts();
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
        clamp(
            &neutral::line(&format!("{headline}{about}")),
            MAX_SHORT_CHARS.saturating_sub(end.chars().count())
        )
    )
}

/// The members that a group lists, one line each with a link, and the number of the others.
pub(super) fn members(alert: &Alert) -> Vec<(String, Option<String>)> {
    let Some(group) = &alert.group else {
        return Vec::new();
    };
    let mut lines: Vec<_> = group
        .top
        .iter()
        .map(|member| {
            // The first of them, as without bounds: a line is short.
            let money = member.amounts().texts().into_iter().next();
            let money = money.map_or_else(String::new, |money| format!(", {money}"));
            let link = member.subject.entity().and_then(|key| {
                key.kind.dashboard_url(
                    &key.id,
                    member
                        .account
                        .as_deref()
                        .filter(|account| *account != key.id),
                )
            });
            // Other groups are of one rule.
            let rule = match alert.is_digest() && !member.rule.is_empty() {
                true => format!(" · {}", member.rule),
                false => String::new(),
            };
            let line = format!("{}{money}{rule}", member.subject);
            (neutral::line(&line).into_owned(), link)
        })
        .collect();
    let rest = usize::try_from(group.open)
        .unwrap_or(usize::MAX)
        .saturating_sub(group.top.len());
    if rest > 0 {
        let list = match alert.is_digest() {
            // Its first action says how to list all.
            true => String::new(),
            false => format!(": `revwatch alerts list --group {}`", alert.id),
        };
        lines.push((format!("and {rest} more{list}"), None));
    }
    lines
}
