//! Brings simulator, play, poster and screen together, and looks at what revwatch makes of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use revwatch_core::kpi::{Kpis, hours_needed};
use revwatch_storage::ports::StateStore;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::notifier::Told;
use super::poster::Poster;
use super::scenario::{Beat, Cue, RULES, Scenario};
use super::screen::Screen;
use super::simulator::{Delivery, SimEvent, Simulator};
use super::summary;

/// See the module.
pub struct Director {
    pub screen: Screen,
    pub poster: Poster,
    pub store: Arc<dyn StateStore>,
    pub alerts: mpsc::UnboundedReceiver<Told>,
    pub simulator: Simulator,
    pub delivery: Delivery,
    pub scenario: Scenario,
    /// Events of ordinary business per second.
    pub rate: u32,
    /// Events that the simulator has made; each is delivered once or more.
    pub events: u64,
    /// The recovery that is under way, if one is.
    pub recovering: Option<Instant>,
}

/// How often the play is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often the store is.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// What is posted must be applied by then.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Rests between two waves of payouts.
const WAVE: Duration = Duration::from_millis(1000);

impl Director {
    /// Plays to the end. Fails with what was not seen.
    pub async fn play(mut self) -> anyhow::Result<()> {
        let outcome = self.beats().await;
        let kpis = match outcome {
            Ok(()) => self.settle().await,
            Err(error) => Err(error),
        };
        // Also before an error is printed: the status line would tear it.
        self.screen.close();
        let kpis = kpis?;
        self.screen.say(&summary::text(&self, &kpis))?;
        let missing = self.scenario.missing();
        if !missing.is_empty() {
            bail!("{}", missing.join(", "));
        }
        match summary::difference(&self.simulator, self.events, &kpis) {
            Some(difference) => bail!("revwatch and the simulator disagree: {difference}"),
            None => Ok(()),
        }
    }

    async fn beats(&mut self) -> anyhow::Result<()> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looked, mut budget) = (None::<Instant>, 0.0);
        loop {
            tokio::select! {
                biased;
                Some(told) = self.alerts.recv() => self.on_alert(&told)?,
                _ = ticks.tick() => {
                    if let Some(refusal) = self.poster.refusal() {
                        bail!("a webhook was refused: {refusal}");
                    }
                    match self.scenario.next(self.screen.elapsed_s()) {
                        Cue::Hold => {}
                        Cue::Begin(beat) => self.begin(beat)?,
                        Cue::Finish => return Ok(()),
                        Cue::GiveUp(reason) => bail!(reason),
                    }
                    // Ordinary business waits while the history is on its way: that is the past.
                    if self.poster.waiting() < u64::from(self.rate).max(50) {
                        budget += f64::from(self.rate) * TICK.as_secs_f64();
                        budget = self.business(budget);
                    }
                    self.wave();
                    if looked.is_none_or(|at| at.elapsed() >= POLL_INTERVAL) {
                        looked = Some(Instant::now());
                        let kpis = self.kpis().await?;
                        self.screen.status(summary::status(self, &kpis));
                    }
                }
            }
        }
    }

    /// Ordinary business for `budget` events; returns what is left of it, or owed.
    fn business(&mut self, mut budget: f64) -> f64 {
        let mut events = Vec::new();
        while budget >= 1.0 {
            let step = self.simulator.step(now_s());
            budget -= f64::from(u32::try_from(step.len()).unwrap_or(u32::MAX));
            events.extend(step);
        }
        self.send(events);
        budget
    }

    fn begin(&mut self, beat: Beat) -> anyhow::Result<()> {
        let now_s = now_s();
        let provider = self
            .simulator
            .largest()
            .map_or_else(String::new, |(name, id)| format!("{name} ({id})"));
        let (text, events) = match beat {
            Beat::History => {
                let events = self.simulator.history(now_s);
                let text = format!(
                    "Four days of business come in as {} webhooks: {} providers, {} subscriptions, {} payouts.\n         \
                     Three days ago {} cards were declined, and they still are.",
                    events.len(),
                    Simulator::PROVIDERS,
                    Simulator::SUBSCRIPTIONS,
                    Simulator::PAYOUTS,
                    Simulator::PAST_DUE
                );
                (text, events)
            }
            Beat::BankIncident => {
                // Well above the 5 % that are allowed, however much business there was.
                let (paid, _) = self.simulator.payouts();
                let count = usize::try_from((paid / 7).max(6))?;
                let text = format!(
                    "A bank closes accounts: {count} payouts come back, some after they were paid."
                );
                (text, self.simulator.fail_payouts(now_s, count))
            }
            Beat::ProviderDown => {
                let text = format!("{provider}, the largest provider, may no longer take charges.");
                (text, self.simulator.set_largest_disabled(now_s, true))
            }
            Beat::ProviderBack => {
                let text = format!("{provider} hands in its documents and takes charges again.");
                (text, self.simulator.set_largest_disabled(now_s, false))
            }
            Beat::BankBack => {
                self.recovering = Some(Instant::now());
                (
                    "The bank is well again: payouts arrive, wave by wave.".to_owned(),
                    Vec::new(),
                )
            }
            Beat::CardsBack => {
                let text = "The declined cards work again: past-due subscriptions pay.".to_owned();
                (text, self.simulator.recover_past_due(now_s))
            }
        };
        self.screen.beat(&text)?;
        self.send(events);
        Ok(())
    }

    /// Payouts that arrive, until so few of all have failed that the alert must resolve.
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

    fn on_alert(&mut self, told: &Told) -> anyhow::Result<()> {
        self.scenario.on_alert(
            &told.alert_id,
            &told.rule,
            told.over,
            self.screen.elapsed_s(),
        );
        Ok(self.screen.alert(told)?)
    }

    /// Waits until every delivery has been answered and every event has been counted.
    async fn settle(&mut self) -> anyhow::Result<Kpis> {
        let rest = self.delivery.flush();
        self.poster.post(rest);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            if let Some(refusal) = self.poster.refusal() {
                bail!("a webhook was refused: {refusal}");
            }
            let kpis = self.kpis().await?;
            self.screen.status(summary::status(self, &kpis));
            let counted = kpis.events_applied
                + kpis.events_ignored
                + kpis.events_duplicate
                + kpis.events_dead;
            if self.poster.waiting() == 0
                && u64::try_from(counted).unwrap_or(0) >= self.poster.accepted()
            {
                return Ok(kpis);
            }
            if Instant::now() > deadline {
                bail!(
                    "of {} accepted deliveries only {counted} were processed in time",
                    self.poster.accepted()
                );
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn kpis(&self) -> anyhow::Result<Kpis> {
        let now_s = now_s();
        let (from, to) = hours_needed(now_s);
        Ok(Kpis::compute(
            &self
                .store
                .counters(from, to)
                .await
                .context("cannot read the key figures")?,
            now_s,
        ))
    }

    /// Rules of the play that fire now.
    pub fn firing(&self) -> Vec<&str> {
        RULES
            .into_iter()
            .filter(|rule| self.scenario.firing().any(|firing| firing == *rule))
            .collect()
    }
}

fn now_s() -> i64 {
    Timestamp::now().as_second()
}
