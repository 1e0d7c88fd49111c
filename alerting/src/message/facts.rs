//! The facts of an alert, as name and value. Pure.

use revwatch_core::durations::duration;
use revwatch_core::entity::EntityKind;
use revwatch_core::entity::disabled_reason::explained;
use revwatch_core::neutral;
use revwatch_core::requirement::Detail;

use super::format::{in_unit, measured, time};
use super::links::{customer_page, event_page};
use super::markup::escape;
use crate::alert::{Alert, AlertState, NotificationState, Point, RuleCount};

/// One fact.
pub(super) struct Fact {
    pub name: &'static str,
    pub plain: String,
    /// In Slack's markup.
    pub marked: String,
}

/// Maximum number of events that a message names.
const MAX_EVENTS: usize = 3;

impl Fact {
    fn new(name: &'static str, plain: impl Into<String>) -> Self {
        Self::linked(name, plain, None)
    }

    fn linked(name: &'static str, plain: impl Into<String>, link: Option<String>) -> Self {
        let plain = neutral::line(&plain.into()).into_owned();
        let marked = link.map_or_else(
            || escape(&plain),
            |url| format!("<{url}|{}>", escape(&plain)),
        );
        Self {
            name,
            plain,
            marked,
        }
    }
}

/// All facts, in the order in which people need them. `fired_unseen`: it resolved before its readers got it.
pub(super) fn facts(alert: &Alert, state: &NotificationState, fired_unseen: bool) -> Vec<Fact> {
    let mut facts = Vec::new();
    if state.possible_duplicate {
        let what = "an earlier attempt at this message ended without an answer";
        facts.push(Fact::new("Possible duplicate", what));
    }
    facts.extend(wrong_already(alert));
    facts.extend(amounts(alert));
    facts.extend(subjects(alert));
    let at_least = if alert.evidence.began_before {
        "at least "
    } else {
        ""
    };
    if !alert.is_withdrawn() {
        facts.push(Fact::new(
            "Since",
            format!("{at_least}{}", time(alert.since_s)),
        ));
    }
    if fired_unseen {
        let fired = time(alert.fired_s);
        facts.push(Fact::new(
            "Fired",
            format!("{fired}; it resolved before this message could be delivered"),
        ));
    }
    facts.extend(trend_text(alert).map(|trend| Fact::new("Trend", trend)));
    if let Some(due_s) = alert.evidence.due_s {
        facts.push(Fact::new("Not due before", time(due_s)));
    }
    if let Some(at_s) = alert.evidence.answer_by_s.filter(|_| !alert.is_resolved()) {
        facts.push(Fact::new("Answer Stripe by", time(at_s)));
    }
    if let Some(at_s) = alert.evidence.trial_end_s.filter(|_| !alert.is_resolved()) {
        facts.push(Fact::new("Trial ends", time(at_s)));
    }
    facts.extend(response(alert));
    facts.extend(resolution(alert));
    for event_id in alert.evidence.event_ids.iter().take(MAX_EVENTS) {
        facts.push(Fact::linked("Event", event_id, event_page(event_id)));
    }
    facts
}

/// Where an alert is, and those of a group, whose beginning became known after the message was sent.
fn wrong_already(alert: &Alert) -> Option<Fact> {
    if alert.group.is_some() {
        let what = match alert.is_digest() {
            true => "what was in it turned out to be news, and is sent like any other alert",
            false => "what was in it turned out to have been wrong already when revwatch began",
        };
        return alert.is_withdrawn().then(|| Fact::new("Corrected", what));
    }
    let digest = match &alert.part_of {
        Some(id) => format!(": see {id}"),
        None => String::new(),
    };
    let what = format!("it was so when revwatch began, and has no deadlines{digest}");
    let is_open = !alert.is_resolved();
    (alert.pre_existing && is_open).then(|| Fact::new("Wrong already", what))
}

/// How much is affected.
fn amounts(alert: &Alert) -> Vec<Fact> {
    let evidence = &alert.evidence;
    let mut facts = Vec::new();
    if let Some(metric_value) = evidence.metric_value {
        facts.push(Fact::new("Value", measured(metric_value, &alert.subject)));
    }
    if let Some(group) = alert.group.as_ref().filter(|_| !alert.is_withdrawn()) {
        let text = match group.joined.saturating_sub(group.open) {
            0 => group.joined.to_string(),
            resolved => format!("{}, {resolved} of them resolved", group.joined),
        };
        facts.push(Fact::new("Alerts", text));
    }
    let rules = alert.group.as_ref().map_or(&[][..], |group| &group.rules);
    if !rules.is_empty() {
        let text = |count: &RuleCount| {
            let severity = count.severity.as_str();
            format!("{} × {} ({severity})", count.joined, count.title)
        };
        let rules: Vec<_> = rules.iter().map(text).collect();
        facts.push(Fact::new("Rules", rules.join("; ")));
    }
    let amounts = evidence.amounts().to_string();
    if !amounts.is_empty() {
        facts.push(Fact::new("Money", amounts));
    }
    facts
}

/// Who is affected, and why.
fn subjects(alert: &Alert) -> Vec<Fact> {
    let evidence = &alert.evidence;
    let account = evidence.account.as_deref();
    let mut facts = Vec::new();
    let entity = alert.subject.entity();
    if let Some(key) = entity.filter(|key| key.kind != EntityKind::Account) {
        let page = key.kind.dashboard_url(&key.id, account);
        facts.push(Fact::linked("Object", key.to_string(), page));
    }
    if let Some(account) = account {
        let page = EntityKind::Account.dashboard_url(account, None);
        facts.push(Fact::linked("Account", account, page));
    }
    if let Some(customer) = &evidence.customer {
        let page = customer_page(customer, account);
        facts.push(Fact::linked("Customer", customer, page));
    }
    if let Some(detail) = &evidence.detail {
        let is_account = entity.is_none_or(|key| key.kind == EntityKind::Account);
        facts.extend(reason(Detail::of(detail), is_account));
    }
    facts
}

/// Stripe's reason, with what it means for an account, and what the account's holder must provide (C6, C14).
fn reason(detail: Detail<'_>, is_account: bool) -> impl Iterator<Item = Fact> {
    let reason = match is_account {
        true => explained(detail.reason),
        false => detail.reason.to_owned(),
    };
    let reason = Fact::new("Reason", reason);
    let needs = Fact::new("Needs", detail.needs().join(", "));
    let facts = [reason, needs].into_iter();
    facts.filter(|fact| !fact.plain.is_empty())
}

/// The deadline to respond, or the response.
fn response(alert: &Alert) -> Option<Fact> {
    match (alert.state, alert.acknowledged_s) {
        (AlertState::Firing, _) if has_deadlines(alert) => {
            Some(Fact::new("Respond by", time(alert.sla.respond_due_s)))
        }
        (_, Some(at_s)) => {
            let by = person(alert.acknowledged_by.as_ref());
            let due_s = alert.sla.respond_due_s;
            let is_late = due_s > 0 && at_s > due_s;
            let late = if is_late { " (late)" } else { "" };
            Some(Fact::new(
                "Acknowledged",
                format!("{}{by}{late}", time(at_s)),
            ))
        }
        _ => None,
    }
}

/// The deadline to resolve, or the end.
fn resolution(alert: &Alert) -> Option<Fact> {
    match alert.resolved_s {
        None if alert.sla.resolve_due_s > 0 && has_deadlines(alert) => {
            Some(Fact::new("Resolve by", time(alert.sla.resolve_due_s)))
        }
        Some(_) if alert.is_withdrawn() => None,
        Some(at_s) => {
            let by = person(alert.resolved_by.as_ref());
            let lasted = duration(at_s.saturating_sub(alert.since_s));
            Some(Fact::new(
                "Resolved",
                format!("{}{by}, after {lasted}", time(at_s)),
            ))
        }
        None => None,
    }
}

fn has_deadlines(alert: &Alert) -> bool {
    !alert.pre_existing && alert.part_of.is_none() && alert.sla.respond_due_s > 0
}

fn person(name: Option<&String>) -> String {
    name.map_or_else(String::new, |name| format!(" by {name}"))
}

/// For example `1.0 % → 2.0 % → 8.0 %`; `None` if no earlier value is known.
fn trend_text(alert: &Alert) -> Option<String> {
    let unit = alert.evidence.metric_value?.unit;
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
        Some(value) => in_unit(value, unit, &alert.subject),
        None => "?".to_owned(),
    };
    Some(known.iter().map(write).collect::<Vec<_>>().join(" → "))
}
