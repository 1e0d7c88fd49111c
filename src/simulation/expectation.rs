//! Whether a simulation is as a test expects. Pure.

use std::collections::BTreeMap;

use revwatch_alerting::alert::{Alert, DIGEST, NoticeKind};
use revwatch_alerting::stage::Stage;

use super::scenario::{Expect, SubjectMatch, Want};
use super::simulator::{SentMessage, Simulator, View};

/// Checks an expectation. The error is the actual state.
pub fn check_want(simulator: &Simulator, want: &Want) -> Result<(), String> {
    match want {
        Want::Quiet(rules) => check_quiet(&simulator.views(), rules.as_ref()),
        Want::Expect(expect) => check_expect(simulator, expect),
    }
}

/// No alert of these rules, or of any rule, may be open.
fn check_quiet(views: &[View], rules: Option<&Vec<String>>) -> Result<(), String> {
    let is_loud = |view: &&View| {
        let is_open = matches!(
            view.stage,
            Stage::Pending | Stage::Firing | Stage::Acknowledged
        );
        is_open && rules.is_none_or(|rules| rules.contains(&view.key.rule))
    };
    let loud: Vec<View> = views.iter().filter(is_loud).cloned().collect();
    match loud.is_empty() {
        true => Ok(()),
        false => Err(view_summary(&loud)),
    }
}

fn check_expect(simulator: &Simulator, expect: &Expect) -> Result<(), String> {
    let subject = &expect.subject;
    let views: Vec<View> = simulator
        .views()
        .into_iter()
        .filter(|view| subject.fits(&view.key.rule, &view.key.subject, view.account.as_deref()))
        .collect();
    let sent: Vec<_> = simulator
        .log()
        .iter()
        .filter(|l| subject.fits(&l.rule, &l.subject, l.account.as_deref()))
        .collect();
    // That it happened again is a notification, not one of the notices that clocks cause.
    let new = |is_of_a_clock: bool| {
        let of_a_clock = |line: &SentMessage| line.notice.is_some_and(NoticeKind::is_of_a_clock);
        let chosen = sent
            .iter()
            .filter(|line| line.is_new && of_a_clock(line) == is_of_a_clock);
        chosen.count()
    };
    let (notified, notices) = (new(false), new(true));
    let last = sent.last();
    let says_fit = expect
        .says
        .as_ref()
        .is_none_or(|text| last.is_some_and(|l| l.text.contains(text.as_str())));
    let fits = says_fit
        && stage_fits(&views, expect)
        && expect.notified.is_none_or(|n| n == notified)
        && expect.notices.is_none_or(|n| n == notices);
    if fits {
        return Ok(());
    }
    let mut seen = format!("notified {notified}, notices {notices}");
    // The digest has no stage.
    if subject.rule != DIGEST {
        let inactive = match (expect.stage, expect.count) {
            (Some(Stage::Inactive), Some(_)) => {
                let counted = views.iter().filter(|view| view.stage == Stage::Inactive);
                let counted = counted.count();
                format!(" ({counted} inactive: what was never pending or firing is not counted)")
            }
            _ => String::new(),
        };
        seen = format!("{}{inactive}; {seen}", view_summary(&views));
        let mut alerts = simulator.alerts();
        if alerts.any(|alert| alert.pre_existing && is_about(subject, alert)) {
            seen.push_str("; wrong already when revwatch began, see `began`");
        }
    }
    if let Some(line) = last.filter(|_| !says_fit) {
        seen.push_str(&format!("; says {:?}", line.text));
    }
    Err(seen)
}

fn is_about(subject: &SubjectMatch, alert: &Alert) -> bool {
    subject.fits(&alert.rule, &alert.subject, alert.account())
}

fn stage_fits(views: &[View], expect: &Expect) -> bool {
    let Some(stage) = expect.stage else {
        return true;
    };
    let in_stage = views.iter().filter(|view| view.stage == stage).count();
    match expect.count {
        Some(count) => in_stage == count,
        None if views.is_empty() => stage == Stage::Inactive,
        None => in_stage == views.len(),
    }
}

/// The state of all subjects. Many subjects of one rule and stage are counted.
pub fn view_summary(views: &[View]) -> String {
    const MAX_NAMED: usize = 5;
    let mut by_stage: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for view in views {
        let subject = view.key.subject.to_string();
        by_stage
            .entry((&view.key.rule, view.stage.as_str()))
            .or_default()
            .push(subject);
    }
    let parts: Vec<String> = by_stage
        .into_iter()
        .map(|((rule, stage), subjects)| {
            let named: Vec<_> = subjects
                .iter()
                .filter(|s| !s.is_empty())
                .take(MAX_NAMED)
                .map(String::as_str)
                .collect();
            match (named.as_slice(), subjects.len()) {
                ([], _) => format!("{rule} {stage}"),
                (named, n) if n > named.len() => {
                    format!("{rule} {n} × {stage} ({}, …)", named.join(", "))
                }
                (named, _) => format!("{rule} {stage} ({})", named.join(", ")),
            }
        })
        .collect();
    if parts.is_empty() {
        "inactive".to_owned()
    } else {
        parts.join(", ")
    }
}
