//! Whether a simulation is as a test expects. Pure.

use std::collections::BTreeMap;

use revwatch_alerting::stage::Stage;

use super::scenario::{Expect, Want};
use super::simulator::{Simulator, View};

/// Checks an expectation. The error is the actual state.
pub fn check_want(simulator: &Simulator, want: &Want) -> Result<(), String> {
    let is_open = |view: &&View| {
        matches!(
            view.stage,
            Stage::Pending | Stage::Firing | Stage::Acknowledged
        )
    };
    let views = simulator.views();
    match want {
        Want::Quiet(rules) => {
            let is_meant = |view: &&View| {
                rules
                    .as_ref()
                    .is_none_or(|rules| rules.contains(&view.key.rule))
            };
            let loud: Vec<View> = views
                .iter()
                .filter(is_open)
                .filter(is_meant)
                .cloned()
                .collect();
            if loud.is_empty() {
                Ok(())
            } else {
                Err(view_summary(&loud))
            }
        }
        Want::Expect(Expect {
            whom,
            stage,
            count,
            notified,
            notices,
            says,
        }) => {
            let fits = |view: &&View| {
                whom.fits(&view.key.rule, &view.key.subject, view.account.as_deref())
            };
            let views: Vec<View> = views.iter().filter(fits).cloned().collect();
            let sent = || {
                simulator
                    .log()
                    .iter()
                    .filter(|l| whom.fits(&l.rule, &l.subject, l.account.as_deref()))
                    .rev()
            };
            let in_stage = views
                .iter()
                .filter(|view| Some(view.stage) == *stage)
                .count();
            let stage_fits = match (stage, count) {
                (None, _) => true,
                (Some(_), Some(count)) => in_stage == *count,
                (Some(Stage::Inactive), None) if views.is_empty() => true,
                (Some(_), None) => in_stage == views.len() && !views.is_empty(),
            };
            let now_notified = sent()
                .filter(|line| line.is_new && line.notice.is_none())
                .count();
            let now_noticed = sent()
                .filter(|line| line.is_new && line.notice.is_some())
                .count();
            let last = sent().next();
            let says_fit = says
                .as_ref()
                .is_none_or(|text| last.is_some_and(|l| l.text.contains(text.as_str())));
            let all = stage_fits
                && notified.is_none_or(|n| n == now_notified)
                && notices.is_none_or(|n| n == now_noticed);
            if all && says_fit {
                return Ok(());
            }
            let mut seen = format!(
                "{}; notified {now_notified}, notices {now_noticed}",
                view_summary(&views)
            );
            if let Some(line) = last.filter(|_| !says_fit) {
                seen.push_str(&format!("; says {:?}", line.text));
            }
            Err(seen)
        }
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
