//! `alerts list`.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::io::Write as _;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_alerting::alert::{Alert, AlertState, Mute};
use revwatch_alerting::rule::Severity;
use revwatch_core::view::alert as view;
use revwatch_storage::ports::Documents;

use super::stored::load_alerts;
use super::{Common, now_s};

/// Options of `alerts list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Also resolved alerts.
    #[arg(long)]
    all: bool,
    /// Only alerts of this rule.
    #[arg(long)]
    rule: Option<String>,
    /// Only alerts of this severity.
    #[arg(long, value_parser = severity())]
    severity: Option<Severity>,
    /// Only alerts in this state; `resolved` does not need --all.
    #[arg(long)]
    state: Option<ListedState>,
    /// Only alerts on this connected account, and groups with such a member.
    #[arg(long)]
    account: Option<String>,
    /// Only the members of this group.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Also list the members of groups.
    #[arg(long)]
    members: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListedState {
    Firing,
    Acknowledged,
    Resolved,
    Silenced,
    Inhibited,
}

/// Runs `alerts list`.
pub async fn run(common: &Common, store: &dyn Documents, args: &ListArgs) -> anyhow::Result<()> {
    let mut alerts = selected(load_alerts(store).await?, args);
    alerts.sort_by_key(|a| (a.is_over(), Reverse(a.severity), a.since_s, a.id.clone()));
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(out, "{:#}", serde_json::to_value(&alerts)?)?;
        return Ok(());
    }
    if alerts.is_empty() {
        writeln!(out, "No alerts.")?;
        return Ok(());
    }
    let now_s = now_s();
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(view::LIST_HEADER);
    table.add_rows(alerts.iter().map(|alert| view::list_row(alert, now_s)));
    writeln!(out, "{table}")?;
    Ok(())
}

/// Parses a [`Severity`] by its name.
pub fn severity() -> impl TypedValueParser<Value = Severity> {
    PossibleValuesParser::new(Severity::ALL.iter().rev().map(|s| s.as_str())).map(|word| {
        let named = Severity::ALL
            .into_iter()
            .find(|severity| severity.as_str() == word);
        named.unwrap_or(Severity::Critical)
    })
}

fn selected(alerts: Vec<Alert>, args: &ListArgs) -> Vec<Alert> {
    let with_over = args.all || args.state == Some(ListedState::Resolved);
    let fits = |alert: &Alert| {
        (with_over || !alert.is_over())
            && args.rule.as_ref().is_none_or(|rule| alert.rule == *rule)
            && args
                .severity
                .is_none_or(|severity| alert.severity == severity)
            && args.state.is_none_or(|standing| standing.fits(alert))
            && args
                .group
                .as_ref()
                .is_none_or(|id| alert.part_of.as_ref() == Some(id))
    };
    let concerns = |alert: &Alert| {
        args.account
            .as_ref()
            .is_none_or(|account| alert.account() == Some(account))
    };
    let groups: HashSet<String> = alerts
        .iter()
        .filter(|a| a.group.is_some())
        .map(|a| a.id.clone())
        .collect();
    // The accounts of a group are those of its members.
    let concerned: HashSet<String> = alerts
        .iter()
        .filter(|alert| concerns(alert) && (with_over || !alert.is_over()))
        .filter_map(|alert| alert.part_of.clone())
        .collect();
    let folded = |alert: &Alert| {
        !args.members
            && args.group.is_none()
            && alert.part_of.as_ref().is_some_and(|id| groups.contains(id))
    };
    alerts
        .into_iter()
        .filter(|a| fits(a) && !folded(a) && (concerns(a) || concerned.contains(&a.id)))
        .collect()
}

impl ListedState {
    fn fits(self, alert: &Alert) -> bool {
        let is_muted =
            |by: fn(&Mute) -> bool| !alert.is_over() && alert.muted.as_ref().is_some_and(by);
        match self {
            Self::Firing => alert.state == AlertState::Firing,
            Self::Acknowledged => alert.state == AlertState::Acknowledged,
            Self::Resolved => alert.is_over(),
            Self::Silenced => is_muted(|mute| matches!(mute, Mute::Silence(_))),
            Self::Inhibited => is_muted(|mute| matches!(mute, Mute::Inhibited(_))),
        }
    }
}

#[cfg(test)]
mod tests {
    use revwatch_alerting::alert::{Evidence, Group, Subject};
    use revwatch_alerting::rule_text;

    use super::*;

    fn alert(account: &str) -> Alert {
        let text = "[[rule]]\nname = \"a\"\nkind = \"condition\"\ncondition = \"charges_lost\"\n\
                    severity = \"critical\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"Look.\"]\n";
        let rule = rule_text::parse(&[("test".into(), text.into())])
            .expect("valid")
            .remove(0);
        let evidence = Evidence {
            account: Some(account.into()),
            ..Evidence::default()
        };
        let mut alert = Alert::fire(&rule, &Subject::Business, 0, 0, evidence);
        alert.id = format!("al_{account}");
        alert
    }

    #[test]
    fn members_are_listed_if_their_group_is_not_stored() {
        let args = |given: fn(&mut ListArgs)| {
            let mut args = ListArgs {
                all: false,
                rule: None,
                severity: None,
                state: None,
                account: None,
                group: None,
                members: false,
            };
            given(&mut args);
            args
        };
        let over = |alert: Alert| Alert {
            state: AlertState::Resolved,
            ..alert
        };
        let member = |account: &str, group: &str| Alert {
            part_of: Some(group.into()),
            ..alert(account)
        };
        let group = Alert {
            group: Some(Group::default()),
            ..alert("g")
        };
        let silenced = Alert {
            muted: Some(Mute::Silence("si_1".into())),
            ..alert("a")
        };
        let all = [
            group,
            member("1", "al_g"),
            over(member("2", "al_g")),
            member("3", "al_gone"),
            silenced,
        ];
        for (given, expected) in [
            (args(|_| ()), &["al_g", "al_3", "al_a"][..]),
            (
                args(|a| a.members = true),
                &["al_g", "al_1", "al_3", "al_a"],
            ),
            (args(|a| a.group = Some("al_g".into())), &["al_1"]),
            (
                args(|a| (a.group, a.all) = (Some("al_g".into()), true)),
                &["al_1", "al_2"],
            ),
            (args(|a| a.account = Some("1".into())), &["al_g"]),
            (args(|a| a.account = Some("2".into())), &[]),
            (
                args(|a| (a.account, a.all) = (Some("2".into()), true)),
                &["al_g"],
            ),
            (args(|a| a.state = Some(ListedState::Silenced)), &["al_a"]),
            (args(|a| a.state = Some(ListedState::Inhibited)), &[]),
            (
                args(|a| (a.state, a.members) = (Some(ListedState::Resolved), true)),
                &["al_2"],
            ),
        ] {
            let listed: Vec<_> = selected(all.to_vec(), &given)
                .into_iter()
                .map(|a| a.id)
                .collect();
            assert_eq!(listed, expected, "{given:?}");
        }
    }
}
