//! `revwatch evidence`: the evidence of a revenue-operations review (R9): a snapshot of
//! subscriptions, the critical cases without names, the scorecard and the decision log.

mod cases;
mod folder;
mod pseudonym;
mod scorecard;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use jiff::Timestamp;
use revwatch_core::alert::Alert;
use revwatch_core::entity::EntityKind;
use revwatch_core::kpi::{Kpis, buckets_needed};
use revwatch_core::view::rfc3339;
use revwatch_runtime::backend::Backend;
use revwatch_storage::journal::OperatorAction;
use revwatch_storage::ports::StateStore;
use serde_json::json;

use self::folder::Folder;
use self::pseudonym::Pseudonyms;
use self::scorecard::Line;
use super::alerts::stored::load_alerts;
use super::audit::{By, actions, note};
use super::completeness::{Shown, read_complete};
use super::export::{self, ExportKind};
use super::global_options::GlobalOptions;
use super::output;
use super::time::{iso_ms, time};

/// Options of `evidence`.
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    /// Parent folder. Each run makes a folder in it, named after the day (UTC).
    #[arg(long, value_name = "FOLDER", default_value = "evidence")]
    out: PathBuf,
    /// Start of the period: 2026-03-01, 2026-03-01T00:00:00Z, or an age such as 36h or 7d.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: String,
    /// Use pseudonyms in the decision log too, and leave out its details.
    #[arg(long)]
    pseudonyms: bool,
    #[command(flatten)]
    by: By,
}

/// What the store is read for.
struct State {
    /// As CSV.
    subscriptions: Vec<u8>,
    /// The same; `None`: the application sends no events.
    tickets: Option<Vec<u8>>,
    alerts: Vec<Alert>,
    kpis: Kpis,
}

impl State {
    async fn read(store: &dyn StateStore, now_s: i64) -> anyhow::Result<Self> {
        let buckets = buckets_needed(now_s);
        let kpis = Kpis::compute(&store.counters(&buckets).await?, now_s);
        let csv = async |kind| export::csv(store, ExportKind::Entities(kind)).await;
        let tickets = match kpis.main.application {
            Some(_) => Some(csv(EntityKind::Ticket).await?),
            None => None,
        };
        Ok(Self {
            subscriptions: csv(EntityKind::Subscription).await?,
            tickets,
            alerts: load_alerts(store).await?,
            kpis,
        })
    }
}

/// What a review covers, and how it is written.
struct Review<'a> {
    since_s: i64,
    now_s: i64,
    names: Pseudonyms,
    args: &'a EvidenceArgs,
}

/// Runs `evidence`.
pub async fn run(options: &GlobalOptions, args: &EvidenceArgs) -> anyhow::Result<()> {
    // Nothing is written for someone who cannot be named in the audit.
    args.by.name()?;
    let now = Timestamp::now();
    let since = time("--since", &args.since, now)?;
    ensure!(since < now, "--since {} is not in the past", args.since);
    let review = Review {
        since_s: since.as_second(),
        now_s: now.as_second(),
        names: Pseudonyms::draw().context("the operating system returned no random numbers")?,
        args,
    };
    let config = options.config()?;
    let Backend { queue, store } = Backend::existing(&config).await?;
    let store = store.as_ref();
    // Before anything is written: evidence of a part of the state would be wrong.
    let state = read_complete(store, Shown::Alerts, State::read(store, review.now_s)).await?;
    let mut folder = Folder::create(&args.out, &rfc3339(Some(review.now_s))[..10])?;
    // Written before the files, so that it is in the log of this review.
    let (from, path) = (rfc3339(Some(review.since_s)), folder.path().to_owned());
    let detail = format!("review since {from} into {}", path.display());
    note(queue.as_ref(), &args.by, "evidence", &detail).await?;
    let acts = actions(queue.as_ref()).await?;
    queue.close().await;

    folder.write(
        "subscriptions.csv",
        "Every subscription and its status now, with Stripe's ids",
        &state.subscriptions,
    )?;
    if let Some(tickets) = &state.tickets {
        let what = "Every support ticket that the application reported, with its ids";
        folder.write("tickets.csv", what, tickets)?;
    }
    let critical_cases = review.write_cases(&mut folder, &state.alerts)?;
    let (since_s, now_s) = (review.since_s, review.now_s);
    let lines = scorecard::scorecard(&state.kpis, &state.alerts, since_s, now_s);
    review.write_scorecard(&mut folder, &lines)?;
    review.write_decisions(&mut folder, &acts)?;
    folder.write(
        "README.txt",
        "What is in this folder",
        readme(args.pseudonyms).as_bytes(),
    )?;
    let manifest = folder.finish(json!({
        "made_at": rfc3339(Some(review.now_s)), "since": rfc3339(Some(review.since_s)),
        "until": rfc3339(Some(review.now_s)), "revwatch": env!("CARGO_PKG_VERSION"), "critical_cases": critical_cases,
    }))?;
    let mut out = output::stdout();
    if options.json {
        let value = json!({"folder": path.display().to_string(), "manifest": manifest});
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    writeln!(out, "{}: {critical_cases} critical case(s)", path.display())?;
    for line in &lines {
        writeln!(out, "{:<33} {}", line.title, line.shown())?;
    }
    Ok(())
}

impl Review<'_> {
    /// Returns the number of cases.
    fn write_cases(&self, folder: &mut Folder, alerts: &[Alert]) -> anyhow::Result<usize> {
        let handled = cases::handled(alerts, self.since_s);
        let rows = handled
            .iter()
            .map(|alert| cases::row(alert, &self.names, self.now_s));
        folder.write(
            "critical-cases.csv",
            "Critical alerts of the review, under pseudonyms",
            &output::csv(cases::HEADER, rows)?,
        )?;
        Ok(handled.len())
    }

    fn write_scorecard(&self, folder: &mut Folder, lines: &[Line]) -> anyhow::Result<()> {
        let rows = lines.iter().map(|line| line.row().to_vec());
        folder.write(
            "scorecard.csv",
            "KPIs",
            &output::csv(scorecard::HEADER, rows)?,
        )?;
        let mut page = format!(
            "# Scorecard\n\n{} to {}\n\n| kpi | value | meaning |\n|---|---|---|\n",
            rfc3339(Some(self.since_s)),
            rfc3339(Some(self.now_s))
        );
        for line in lines {
            page.push_str(&format!(
                "| {} | {} | {} |\n",
                line.title,
                line.shown(),
                line.meaning
            ));
        }
        folder.write("scorecard.md", "KPIs, for people", page.as_bytes())
    }

    fn write_decisions(&self, folder: &mut Folder, acts: &[OperatorAction]) -> anyhow::Result<()> {
        let pseudonyms = self.args.pseudonyms;
        let rows = acts
            .iter()
            .filter(|act| act.at_ms >= self.since_s * 1000)
            .map(|act| decision(act, pseudonyms, &self.names));
        let contains = match pseudonyms {
            true => "Who did what, under pseudonyms and without details",
            false => "Who did what, with names: internal",
        };
        folder.write(
            "decision-log.csv",
            contains,
            &output::csv(["at", "who", "what", "detail"], rows)?,
        )
    }
}

/// One row of the decision log. Details hold ids and text that people wrote.
fn decision(act: &OperatorAction, pseudonyms: bool, names: &Pseudonyms) -> Vec<String> {
    let (who, detail) = match pseudonyms {
        true => (names.of("person", &act.who), String::new()),
        false => (act.who.clone(), act.detail.clone()),
    };
    vec![iso_ms(act.at_ms), who, act.what.clone(), detail]
}

fn readme(pseudonyms: bool) -> String {
    let log = match pseudonyms {
        true => "under the pseudonyms of critical-cases.csv, and without details.",
        false => {
            "with the names of people, ids and texts that people wrote: INTERNAL.\n                     With --pseudonyms it is written without them."
        }
    };
    format!(
        "\
Evidence of one review of revenue operations, written by revwatch. manifest.json has
the time, the version and the SHA-256 of each file, and is written last: without it
the folder is not complete.

subscriptions.csv    Every subscription and its status, in the columns of
                     `revwatch export subscriptions`. HOLDS STRIPE IDS: internal.
tickets.csv          Every support ticket, in the columns of `revwatch export tickets`, if your
                     application reports them. HOLDS IDS: internal.
critical-cases.csv   Critical alerts that fired, were acknowledged or were resolved in the
                     period, and open ones: times, deadlines met or missed, amounts.
                     Subjects, accounts, customers and people are pseudonyms: the same
                     within this folder, different in the next. Their key was not kept.
                     Text from Stripe and from people is left out. Times and amounts are
                     real: with access to the business's own records, a case can still be
                     identified by them. Consider that before you hand the file on.
scorecard.csv, .md   KPIs; `not known` where revwatch cannot know.
decision-log.csv     Who acknowledged, silenced, replayed, paused, exported in the period,
                     {log}
"
    )
}
