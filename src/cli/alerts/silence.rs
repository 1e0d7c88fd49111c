//! `alerts silence` and `alerts unsilence`.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use jiff::Timestamp;
use revwatch_alerting::alert::{Alert, CommandKind, Matcher, Mute, Silence};
use revwatch_alerting::rule::Rule;
use revwatch_alerting::rules_file;
use revwatch_core::durations::Span;
use revwatch_core::view::alert::{matcher, silence_end};
use revwatch_core::view::rfc3339;
use revwatch_runtime::config::closest_match;
use revwatch_storage::ports::Documents;
use serde_json::json;
use uuid::Uuid;

use super::stored::{load_alerts, load_open, load_pending_silences, load_silences};
use super::submit::{CommandState, Submission, group_note};
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;
use crate::cli::time::now_s;

/// Options of `alerts silence`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["id", "rule", "account", "label"]))]
#[command(group = ArgGroup::new("end").required(true).args(["lasts", "until"]))]
pub struct SilenceArgs {
    /// One alert, or a group and its members.
    #[arg(conflicts_with_all = ["rule", "account", "label"])]
    id: Option<String>,
    /// Alerts of this rule.
    #[arg(long)]
    rule: Option<String>,
    /// Alerts that concern this connected account.
    #[arg(long)]
    account: Option<String>,
    /// Alerts with this label, for instance team=growth; if repeated, all must match.
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Duration, for instance 30m, 4h or 2d; at most a year.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Span>,
    /// End, for instance 2026-12-24T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = end_time)]
    until: Option<Timestamp>,
    /// The reason; other people see it.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    pub submission: Submission,
}

/// Options of `alerts unsilence`.
#[derive(Debug, Args)]
pub struct UnsilenceArgs {
    /// The silence, `si_…`.
    id: String,
    #[command(flatten)]
    pub submission: Submission,
}

/// Catches mistyped ends: a silence must not outlive its purpose by years.
const MAX_SILENCE_S: i64 = 366 * 86_400;

/// Runs `alerts silence`.
pub async fn silence(
    options: &GlobalOptions,
    store: &dyn Documents,
    args: &SilenceArgs,
) -> anyhow::Result<()> {
    let alert = load_open(store, args.id.as_slice()).await?.pop();
    let silence = args.silence(now_s())?;
    if let Some(rule) = &args.rule {
        warn_of_unknown_rule(options, rule)?;
    }
    let outcome = args
        .submission
        .submit(store, vec![CommandKind::Silence(silence.clone())])
        .await?;
    let muted = muted_by(store, &silence).await?;
    let mut out = output::stdout();
    if options.json {
        let value = json!({
            "id": silence.id, "matches": silence.matches, "until": rfc3339(Some(silence.until_s)), "reason": silence.reason,
            "by": silence.by, "mutes": muted.iter().map(|a| &a.id).collect::<Vec<_>>(), "applied": outcome == CommandState::Applied,
        });
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    let Silence { id, .. } = &silence;
    let member = alert.as_ref().map(group_note).unwrap_or_default();
    writeln!(
        out,
        "{id} silences {}{member} {}",
        matcher(&silence.matches),
        silence_end(&silence)
    )?;
    match outcome {
        CommandState::Applied => {
            writeln!(
                out,
                "It mutes {} alert(s) now. To end it: revwatch alerts unsilence {id}",
                muted.len()
            )?;
        }
        CommandState::Pending => writeln!(out, "{}", args.submission.pending_message())?,
    }
    Ok(())
}

/// Runs `alerts unsilence`.
pub async fn unsilence(
    options: &GlobalOptions,
    store: &dyn Documents,
    args: &UnsilenceArgs,
) -> anyhow::Result<()> {
    let UnsilenceArgs { id, submission } = args;
    // A silence that the evaluator has not applied yet can be ended too.
    let pending = load_pending_silences(store).await?;
    let mut silences = load_silences(store).await?.into_iter().chain(pending);
    let silence = silences
        .find(|silence| silence.id == *id)
        .with_context(|| {
            format!("no silence {id}: `revwatch alerts silences` lists the silences")
        })?;
    if silence.until_s <= now_s() {
        bail!(
            "{id} has ended already, at {}",
            rfc3339(Some(silence.until_s))
        );
    }
    let outcome = submission
        .submit(
            store,
            vec![CommandKind::Unsilence {
                silence_id: id.clone(),
            }],
        )
        .await?;
    let mut out = output::stdout();
    if options.json {
        writeln!(
            out,
            "{:#}",
            json!({"id": id, "applied": outcome == CommandState::Applied})
        )?;
        return Ok(());
    }
    match outcome {
        CommandState::Applied => writeln!(
            out,
            "{id} has ended. Alerts that it muted and that still fire are sent."
        )?,
        CommandState::Pending => writeln!(
            out,
            "{id} {}\n{}",
            silence_end(&silence),
            submission.pending_message()
        )?,
    }
    Ok(())
}

impl SilenceArgs {
    fn silence(&self, now_s: i64) -> anyhow::Result<Silence> {
        let until_s = match (self.lasts, self.until) {
            (Some(span), _) => now_s + span.0,
            (None, Some(until)) => until.as_second(),
            (None, None) => bail!("a silence needs an end: give --for or --until"),
        };
        if until_s <= now_s {
            bail!("--until {} is in the past", rfc3339(Some(until_s)));
        }
        if until_s > now_s + MAX_SILENCE_S {
            bail!(
                "--until {} is more than a year ahead: give an earlier end",
                rfc3339(Some(until_s))
            );
        }
        let random = Uuid::now_v7().simple().to_string();
        Ok(Silence {
            id: format!("si_{}", &random[16..]),
            matches: Matcher {
                alert_id: self.id.clone(),
                rule: self.rule.clone(),
                account: self.account.clone(),
                labels: self.label.iter().cloned().collect(),
            },
            from_s: now_s,
            until_s,
            ahead_until_s: None,
            reason: self.reason.clone(),
            by: self.submission.by.name()?.to_owned(),
        })
    }
}

/// The alerts that the silence mutes now.
async fn muted_by(store: &dyn Documents, silence: &Silence) -> anyhow::Result<Vec<Alert>> {
    let by = Some(Mute::Silence(silence.id.clone()));
    Ok(load_alerts(store)
        .await?
        .into_iter()
        .filter(|alert| !alert.is_resolved() && alert.muted == by)
        .collect())
}

/// A silence of a rule that does not exist mutes nothing. The rule may come later, and rules that cannot
/// be read are no reason to refuse a silence.
fn warn_of_unknown_rule(options: &GlobalOptions, name: &str) -> anyhow::Result<()> {
    if let Ok(rules) = rules_file::load(options.config()?.rules.as_deref())
        && let Some(warning) = unknown_rule(name, &rules)
    {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

fn unknown_rule(name: &str, rules: &[Rule]) -> Option<String> {
    let names = || rules.iter().map(|rule| rule.name.as_str());
    if names().any(|known| known == name) {
        return None;
    }
    let hint = match closest_match(name, names()) {
        Some(closest) => format!("did you mean {closest}?"),
        None => "`revwatch rules list` lists the rules".to_owned(),
    };
    Some(format!("no rule is named {name:?}; {hint}"))
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

fn duration(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    match span.0 {
        ..=0 => Err("a silence must last longer than zero".to_owned()),
        1..=MAX_SILENCE_S => Ok(span),
        _ => Err("a silence must end within a year".to_owned()),
    }
}

fn end_time(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|_| "write the time with its zone, for instance 2026-12-24T18:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_does_not_exist_is_named_with_the_one_probably_meant() {
        let rules = rules_file::load(None).expect("the built-in rules");
        let warning = |name| unknown_rule(name, &rules);
        assert_eq!(warning("charges_blocked"), None);
        assert_eq!(
            warning("charges_bloked").as_deref(),
            Some("no rule is named \"charges_bloked\"; did you mean charges_blocked?")
        );
        assert_eq!(
            warning("nope").as_deref(),
            Some("no rule is named \"nope\"; `revwatch rules list` lists the rules")
        );
    }

    #[test]
    fn invalid_labels_durations_and_times_are_refused() {
        assert_eq!(
            label("team=growth=2"),
            Ok(("team".into(), "growth=2".into()))
        );
        for text in ["team", "=growth", ""] {
            assert!(label(text).is_err(), "{text}");
        }
        assert_eq!(duration("4h"), Ok(Span(4 * 3600)));
        assert_eq!(duration("366d"), Ok(Span(MAX_SILENCE_S)));
        for text in ["0s", "367d", "4", "-1h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(end_time("2026-12-24T18:00:00+01:00").is_ok());
        for text in ["2026-12-24", "2026-12-24T18:00:00", "tomorrow"] {
            assert!(end_time(text).is_err(), "{text}");
        }
    }
}
