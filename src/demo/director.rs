//! Runs the demo: connects simulator, scenario, poster and screen, and checks the result in
//! revwatch.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use revwatch_core::kpi::buckets_needed;
use revwatch_storage::ports::Aggregates;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::notifier::SentAlert;
use super::poster::Poster;
use super::scenario::{Action, Phase, Scenario};
use super::screen::Screen;
use super::simulator::{Delivery, SimEvent, Simulator};
use super::summary::{self, Counted};

/// Runs the demo to its end.
pub struct Director {
    pub screen: Screen,
    pub poster: Poster,
    pub store: Arc<dyn Aggregates>,
    pub alerts: mpsc::UnboundedReceiver<SentAlert>,
    pub simulator: Simulator,
    pub delivery: Delivery,
    pub scenario: Scenario,
    /// Normal business, in events per second.
    pub rate: u32,
    /// Events that the simulator has made; each is delivered at least once.
    pub events: u64,
    /// The wave of payouts in progress, if any.
    pub recovering: Option<Instant>,
}

/// How often the scenario advances.
const TICK: Duration = Duration::from_millis(100);
/// How often the store is read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Posted events must be applied within this time.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two waves of payouts.
const WAVE: Duration = Duration::from_millis(1000);

impl Director {
    /// Runs the scenario to its end. The error lists alerts that did not fire or resolve.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let outcome = self.run_phases().await;
        let counted = match outcome {
            Ok(()) => self.settle().await,
            Err(error) => Err(error),
        };
        // Also before an error is printed: otherwise the status line would overlap it.
        self.screen.close();
        let counted = counted?;
        let difference = summary::difference(&self.simulator, self.events, &counted);
        self.screen.print_line(&summary::text(
            &self.scenario,
            &self.poster,
            &self.delivery,
            difference.as_deref(),
            &counted,
        ))?;
        let missing = self.scenario.missing();
        if !missing.is_empty() {
            bail!("{}", missing.join(", "));
        }
        match difference {
            Some(difference) => bail!("revwatch and the simulator disagree: {difference}"),
            None => Ok(()),
        }
    }

    async fn run_phases(&mut self) -> anyhow::Result<()> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last_read, mut budget) = (None::<Instant>, 0.0);
        loop {
            tokio::select! {
                biased;
                Some(alert) = self.alerts.recv() => self.on_alert(&alert)?,
                _ = ticks.tick() => {
                    if let Some(refusal) = self.poster.refusal() {
                        bail!("a webhook was refused: {refusal}");
                    }
                    match self.scenario.next(self.screen.elapsed_s()) {
                        Action::Wait => {}
                        Action::Begin(phase) => self.begin(phase)?,
                        Action::Finish => return Ok(()),
                        Action::Fail(reason) => bail!(reason),
                    }
                    // Normal business waits until the history is delivered, because the history is
                    // older.
                    if self.poster.waiting() < u64::from(self.rate).max(50) {
                        budget += f64::from(self.rate) * TICK.as_secs_f64();
                        budget = self.business(budget);
                    }
                    self.wave();
                    if last_read.is_none_or(|at| at.elapsed() >= POLL_INTERVAL) {
                        last_read = Some(Instant::now());
                        let counted = self.counted().await?;
                        self.show_status(&counted);
                    }
                }
            }
        }
    }

    /// Normal business for `budget` events; returns the remaining budget, which may be negative.
    fn business(&mut self, mut budget: f64) -> f64 {
        let mut events = Vec::new();
        while budget >= 1.0 {
            let now_s = now_s();
            let mut step = self.simulator.step(now_s);
            step.extend(self.simulator.application(now_s));
            budget -= f64::from(u32::try_from(step.len()).unwrap_or(u32::MAX));
            events.extend(step);
        }
        self.send(events);
        budget
    }

    fn begin(&mut self, phase: Phase) -> anyhow::Result<()> {
        let now_s = now_s();
        let provider = self
            .simulator
            .largest()
            .map_or_else(String::new, |(name, id)| format!("{name} ({id})"));
        let (text, events) = match phase {
            Phase::History => {
                let mut events = self.simulator.history(now_s);
                let of_application = self.simulator.application(now_s);
                let of_application_count = of_application.len();
                events.extend(of_application);
                events.sort_by_key(|event| event.created_s);
                let text = format!(
                    "Four days of business arrive as {} webhooks: {} providers, {} subscriptions, {} payouts.\n         \
                     {of_application_count} of them are the application's: registrations, account links, jobs, tickets, fees.\n         \
                     Three days ago {} cards were declined, and they still are.",
                    events.len(),
                    Simulator::PROVIDERS,
                    Simulator::SUBSCRIPTIONS,
                    Simulator::PAYOUTS,
                    Simulator::PAST_DUE
                );
                (text, events)
            }
            Phase::BankIncident => {
                // Well above the limit of 5 %, whatever the volume of normal business.
                let (paid, _) = self.simulator.payouts();
                let count = usize::try_from((paid / 7).max(6))?;
                let text = format!(
                    "A bank closes accounts: {count} payouts fail, some after they were reported as paid."
                );
                (text, self.simulator.fail_payouts(now_s, count))
            }
            Phase::ProviderDown => {
                let text =
                    format!("{provider}, the largest provider, can no longer accept charges.");
                (text, self.simulator.set_largest_disabled(now_s, true))
            }
            Phase::ProviderBack => {
                let text = format!("{provider} submits its documents and accepts charges again.");
                (text, self.simulator.set_largest_disabled(now_s, false))
            }
            Phase::BankBack => {
                self.recovering = Some(Instant::now());
                (
                    "The bank works again: payouts succeed, wave by wave.".to_owned(),
                    Vec::new(),
                )
            }
            Phase::CardsBack => {
                let text = "The declined cards work again: past-due subscriptions pay.".to_owned();
                (text, self.simulator.recover_past_due(now_s))
            }
        };
        self.screen.phase(&text)?;
        self.send(events);
        Ok(())
    }

    /// Successful payouts, until the failure ratio is low enough for the alert to resolve.
    fn wave(&mut self) {
        let Some(last) = self.recovering.filter(|last| last.elapsed() >= WAVE) else {
            return;
        };
        let (paid, failed) = self.simulator.payouts();
        // Below 4 % it resolves: failed ÷ (paid + failed) ≤ 1/28.
        let needed = (failed * 28).saturating_sub(paid + failed);
        if needed == 0 {
            self.recovering = None;
            return;
        }
        let count = needed.min((needed / 3).max(40));
        let events = self
            .simulator
            .succeed_payouts(now_s(), usize::try_from(count).unwrap_or(40));
        self.send(events);
        self.recovering = Some(last + WAVE);
    }

    fn send(&mut self, events: Vec<SimEvent>) {
        self.events += events.len() as u64;
        self.poster.post(self.delivery.deliver(events));
    }

    fn on_alert(&mut self, alert: &SentAlert) -> anyhow::Result<()> {
        self.scenario.on_alert(
            &alert.alert_id,
            &alert.rule,
            alert.resolved,
            self.screen.elapsed_s(),
        );
        Ok(self.screen.alert(alert)?)
    }

    /// Waits until every delivery is answered and every event is counted.
    async fn settle(&mut self) -> anyhow::Result<Counted> {
        let remaining = self.delivery.flush();
        self.poster.post(remaining);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            if let Some(refusal) = self.poster.refusal() {
                bail!("a webhook was refused: {refusal}");
            }
            let counted = self.counted().await?;
            self.show_status(&counted);
            let kpis = &counted.kpis;
            let processed = kpis.events_applied
                + kpis.events_ignored
                + kpis.events_duplicate
                + kpis.events_dead;
            if self.poster.waiting() == 0
                && u64::try_from(processed).unwrap_or(0) >= self.poster.accepted()
            {
                return Ok(counted);
            }
            if Instant::now() > deadline {
                bail!(
                    "of {} accepted deliveries only {processed} were processed in time",
                    self.poster.accepted()
                );
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn show_status(&self, counted: &Counted) {
        let status = summary::status(&self.scenario, &self.poster, &counted.kpis);
        self.screen.status(status);
    }

    async fn counted(&self) -> anyhow::Result<Counted> {
        let now_s = now_s();
        let buckets = buckets_needed(now_s);
        Ok(Counted::new(
            &self
                .store
                .counters(&buckets)
                .await
                .context("cannot read the metrics")?,
            now_s,
        ))
    }
}

fn now_s() -> i64 {
    Timestamp::now().as_second()
}
