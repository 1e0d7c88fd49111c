//! One rule: the fields that every rule has, and which kinds have which others. Pure.

use std::collections::BTreeMap;

use revwatch_core::bucket::HOURS_KEPT_DAYS;
use revwatch_core::durations::Span;
use revwatch_core::kpi::application::SILENT_AFTER_HOURS;
use revwatch_core::source::Source;
use revwatch_runtime::config::{Clock, NOTIFIERS, closest_match};
use revwatch_runtime::wording;
use toml::Spanned;
use toml::de::DeValue;

use crate::rule::fields::{Fault, Fields};
use crate::rule::{KINDS, Kind, Rule, RuleKind, Severity, SlaOverride};

/// The fields that every rule has.
const COMMON: [&str; 17] = [
    "name",
    "kind",
    "severity",
    "route",
    "notify",
    "title",
    "actions",
    "runbook",
    "labels",
    "requirement",
    "inhibited_by",
    "respond",
    "resolve",
    "clock",
    "keep_firing_for",
    "reopen_within",
    "fresh_within",
];

/// Reads a rule as far as it can be read, and finds all its faults.
pub(super) fn read(item: &Spanned<DeValue<'_>>) -> (Option<Rule>, Vec<Fault>) {
    let Some(table) = item.get_ref().as_table() else {
        let fault = Fault {
            span: item.span(),
            what: "rules are written as [[rule]]".into(),
        };
        return (None, vec![fault]);
    };
    let mut fields = Fields::new(table, item.span());
    let rule = rule(&mut fields);
    (rule, fields.into_faults())
}

fn rule(fields: &mut Fields<'_>) -> Option<Rule> {
    let kind = kind(fields);
    check_names(fields, kind);
    let name = name(fields);
    let of_problem = "`title` must be one line that describes the problem";
    let title = line(fields, "title", of_problem);
    let severity: Option<Severity> = fields.required("severity");
    let of_route = "`route` must be the name of a route, in one line";
    let route = line(fields, "route", of_route);
    let notifiers = notifiers(fields);
    let actions = actions(fields);
    let runbook = runbook(fields);
    let labels = labels(fields);
    let requirement = requirement(fields);
    let inhibited_by: Option<Vec<String>> = fields.optional("inhibited_by");
    let sla = sla(fields);
    let fresh_within_s = longer_than_0(fields, "fresh_within");
    if fresh_within_s.is_some_and(|s| s > MAX_FRESH_S) {
        let what =
            format!("`fresh_within` must be at most {HOURS_KEPT_DAYS}d: older hours are not kept");
        fields.fault("fresh_within", what);
    }
    let keep_firing_for: Option<Span> = fields.optional("keep_firing_for");
    let reopen_within: Option<Span> = fields.optional("reopen_within");
    let kind = kind?;
    fields.of_kind(kind.name, kind.fields);
    let hold: Option<Span> = fields.optional("for");
    let kind = (kind.read)(fields);
    let fresh_within_s = fresh_within_s.or_else(|| default_fresh_s(kind.as_ref()?));
    // What is required and cannot be read has a fault.
    Some(Rule {
        name: name?,
        kind: kind?,
        severity: severity.unwrap_or(Severity::Low),
        route: route.unwrap_or_default(),
        notifiers,
        labels: labels.unwrap_or_default(),
        title: title.unwrap_or_default(),
        actions: actions.unwrap_or_default(),
        runbook,
        for_s: hold.map_or(0, |span| span.0),
        keep_firing_for_s: keep_firing_for.map_or(0, |span| span.0),
        reopen_within_s: reopen_within.map_or(0, |span| span.0),
        fresh_within_s,
        sla,
        inhibited_by: inhibited_by.unwrap_or_default(),
        requirement: requirement.unwrap_or_default(),
    })
}

fn kind(fields: &mut Fields<'_>) -> Option<&'static Kind> {
    let name: Spanned<String> = fields.required("kind")?;
    let kind = KINDS.into_iter().find(|kind| kind.name == name.get_ref());
    if kind.is_none() {
        let known = KINDS.map(|kind| kind.name);
        let what = format!("`kind` {}", wording::one_of(&known, name.get_ref()));
        fields.fault_at(name.span(), what);
    }
    kind
}

/// Checks that every field exists, and that it applies to a rule of this kind.
fn check_names(fields: &mut Fields<'_>, kind: Option<&Kind>) {
    for (name, span) in fields.names() {
        let of_kind = |kind: &Kind| kind.fields.contains(&name);
        if COMMON.contains(&name) || kind.is_some_and(of_kind) {
            continue;
        }
        let what = match kind {
            _ if !KINDS.into_iter().any(of_kind) => format!("unknown field `{name}`"),
            Some(kind) => format!("`{name}` does not apply to a rule of kind {}", kind.name),
            None => continue,
        };
        fields.fault_at(span, format!("{what}; {}", hint(name, kind)));
    }
}

/// The field that was probably meant, and all that a rule of this kind may have; of an unknown kind, those of any.
fn hint(name: &str, kind: Option<&Kind>) -> String {
    let known = known_fields(kind);
    let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let list = list.join(", ");
    match closest_match(name, known.into_iter()) {
        Some(near) => format!("did you mean `{near}`? There are {list}"),
        None => format!("there are {list}"),
    }
}

/// The fields that a rule of this kind may have; of an unknown kind, those of any.
pub(super) fn known_fields(kind: Option<&Kind>) -> Vec<&'static str> {
    let mut known: Vec<&str> = COMMON.to_vec();
    let kinds = KINDS
        .iter()
        .filter(|of| kind.is_none_or(|kind| kind.name == of.name));
    for name in kinds.flat_map(|kind| kind.fields) {
        if !known.contains(name) {
            known.push(name);
        }
    }
    known
}

fn name(fields: &mut Fields<'_>) -> Option<String> {
    let name: String = fields.required("name")?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || name.len() > 100 || !name.chars().all(is_plain) {
        let what = "`name` must be 1 to 100 lower-case letters, digits and _";
        fields.fault("name", what.into());
    }
    Some(name)
}

/// A text that has to be one line.
fn line(fields: &mut Fields<'_>, name: &'static str, what: &str) -> Option<String> {
    let text: String = fields.required(name)?;
    if !is_line(&text) {
        fields.fault(name, what.into());
    }
    Some(text)
}

fn actions(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let actions: Vec<String> = fields.required("actions")?;
    if actions.is_empty() || !actions.iter().all(|action| is_line(action)) {
        let what = "`actions` must have at least one line; each says what to do";
        fields.fault("actions", what.into());
    }
    Some(actions)
}

fn notifiers(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let names: Vec<Spanned<String>> = fields.optional("notify")?;
    for name in &names {
        if !NOTIFIERS.contains(&name.get_ref().as_str()) {
            let what = wording::one_of(&NOTIFIERS, name.get_ref());
            fields.fault_at(name.span(), format!("a name in `notify` {what}"));
        }
    }
    Some(names.into_iter().map(Spanned::into_inner).collect())
}

fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains('\n')
}

fn runbook(fields: &mut Fields<'_>) -> Option<String> {
    let runbook: String = fields.optional("runbook")?;
    if !runbook.starts_with("https://") && !runbook.starts_with("docs/") {
        let what = "`runbook` must begin with https://, or with docs/ for a page of revwatch";
        fields.fault("runbook", what.into());
    }
    Some(runbook)
}

fn labels(fields: &mut Fields<'_>) -> Option<BTreeMap<String, String>> {
    let labels: BTreeMap<String, String> = fields.optional("labels")?;
    if labels.keys().any(|name| name.trim().is_empty()) {
        fields.fault("labels", "`labels` must have names".into());
    }
    Some(labels)
}

fn requirement(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let requirement: Vec<String> = fields.optional("requirement")?;
    if !requirement.iter().all(|name| is_line(name)) {
        let what = "`requirement` must be names, each in one line";
        fields.fault("requirement", what.into());
    }
    Some(requirement)
}

fn sla(fields: &mut Fields<'_>) -> SlaOverride {
    let respond_s = longer_than_0(fields, "respond");
    let resolve_s = longer_than_0(fields, "resolve");
    let clock: Option<Clock> = fields.optional("clock");
    if let (Some(respond_s), Some(resolve_s)) = (respond_s, resolve_s)
        && resolve_s < respond_s
    {
        let what = "`resolve` must not be shorter than `respond`";
        fields.fault("resolve", what.into());
    }
    SlaOverride {
        respond_s,
        resolve_s,
        clock,
    }
}

/// An application that is silent may be broken: what only it says is then unknown, not zero.
fn default_fresh_s(kind: &RuleKind) -> Option<i64> {
    (kind.source() == Source::App).then_some(i64::from(SILENT_AFTER_HOURS) * 3600)
}

/// Whether events are fresh is seen in the hours that are kept.
const MAX_FRESH_S: i64 = HOURS_KEPT_DAYS as i64 * 86_400;

/// A duration in seconds.
fn longer_than_0(fields: &mut Fields<'_>, name: &str) -> Option<i64> {
    let span: Span = fields.optional(name)?;
    if span == Span(0) {
        fields.fault(name, format!("`{name}` must be longer than 0"));
    }
    Some(span.0)
}
