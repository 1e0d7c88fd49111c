//! The accumulated state of an account, its merge, and what is a function of it alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use serde::{Deserialize, Deserializer, Serialize};

use super::balance::Balance;
use super::facts::{AccountFacts, AccountUpdate, CapabilityFacts, ExternalAccount, Shown};
use super::milestone::Milestone;
use super::requirement_names::{self, RequirementNames};
use crate::counters::UNKNOWN;
use crate::entity::application_ids::ApplicationIds;
use crate::entity::merge::{keep_greater, keep_smaller};
use crate::entity::reports::{Field, FieldValue, Report, Reports, Step};
use crate::entity::risk::{Risk, risk};
use crate::entity::signup::{Reached, Stage};
use crate::entity::timeline::{HORIZON_S, RecordedState, Timeline};
use crate::realm::Realm;

/// The state of a connected account, as known from its events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// `acct_…`
    #[serde(skip)]
    pub id: String,
    /// Two letters.
    pub country: Option<String>,
    /// `created` of the account itself, Unix seconds.
    pub created_s: Option<i64>,
    /// The earliest event that names the account (C1), Unix seconds.
    pub first_seen_s: Option<i64>,
    /// Milestones: the earliest event that shows each, Unix seconds. For when it was reached, see
    /// [`Account::milestone_s`].
    pub milestones: BTreeMap<Milestone, i64>,
    /// The latest `account.application.deauthorized`: Unix seconds and event.
    pub deauthorized: Option<(i64, String)>,
    /// The latest `account.application.authorized`.
    pub authorized: Option<(i64, String)>,
    /// Capabilities by name, such as `card_payments`.
    pub capabilities: BTreeMap<String, Timeline<CapabilityFacts>>,
    /// The states from `account.updated`.
    pub timeline: Timeline<AccountFacts>,
    /// Payout destinations by id.
    pub external_accounts: BTreeMap<String, ExternalAccount>,
    /// The latest thin event, which reports that something changed but not what: Unix seconds and
    /// event.
    pub thin: Option<(i64, String)>,
    /// Those of `milestones` of which the earliest event does not say that it was reached then.
    #[serde(default, deserialize_with = "read_doubts")]
    pub doubts: BTreeMap<Milestone, Doubt>,
    /// Milestones: the earliest state without each, Unix seconds.
    #[serde(default)]
    pub unreached: BTreeMap<Milestone, i64>,
    /// Which of the platform's own Stripe accounts it is of; unknown of what earlier versions stored.
    #[serde(default)]
    pub realm: Option<Realm>,
    /// Ids of the platform's own application, as the newest event shows them.
    #[serde(default)]
    pub ids: Option<ApplicationIds>,
    /// The first event that says that it was closed, which is for good: Unix seconds and event.
    /// Source: <https://docs.stripe.com/api/v2/core/accounts/close>.
    #[serde(default)]
    pub closed: Option<(i64, String)>,
    /// What it could be paid out, as the newest event shows it.
    #[serde(default)]
    pub balance: Option<Balance>,
    /// The earliest payment that it took itself, Unix seconds. For when it took its first one, see
    /// [`Account::first_payment_s`].
    #[serde(default)]
    pub paid_s: Option<i64>,
    /// Which requirements the newest state has; empty of what earlier versions stored.
    #[serde(default)]
    pub requirement_names: Box<RequirementNames>,
    /// By capability, its own requirements that are due as the newest event shows them: Unix seconds, and Stripe's
    /// names. Of events of one second, the greater list.
    #[serde(default)]
    pub capability_needs: BTreeMap<String, (i64, Vec<String>)>,
    /// What the user's application says of it.
    #[serde(default)]
    pub reports: Box<Reports>,
    /// The users whose account the application ever said that it created: each learns when it is another's. See
    /// [`Account::user`].
    #[serde(default)]
    pub users: BTreeSet<String>,
    /// The newest of these events: Unix milliseconds, event and user.
    #[serde(default)]
    pub created_for: Option<(i64, String, String)>,
}

/// So many users of one account are remembered: an account changes hands seldom, if ever.
const USERS: usize = 16;

/// Why the earliest event that shows a milestone does not say when it was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Doubt {
    /// The event does not say what happened: it was reached then if an earlier state lacks it, else at any time.
    Fetched,
    /// The event says that it was reached before.
    Before,
}

impl From<bool> for Doubt {
    fn from(is_before: bool) -> Self {
        if is_before {
            Self::Before
        } else {
            Self::Fetched
        }
    }
}

impl From<Doubt> for bool {
    fn from(doubt: Doubt) -> Self {
        doubt == Doubt::Before
    }
}

/// The stored forms of [`Account::doubts`].
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredDoubts {
    ByMilestone(BTreeMap<Milestone, Doubt>),
    /// Encoding 2 at first: those whose earliest event says that they were reached before.
    ReachedBefore(BTreeSet<Milestone>),
}

fn read_doubts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Milestone, Doubt>, D::Error> {
    Ok(match StoredDoubts::deserialize(from)? {
        StoredDoubts::ByMilestone(doubts) => doubts,
        StoredDoubts::ReachedBefore(milestones) => milestones
            .into_iter()
            .map(|it| (it, Doubt::Before))
            .collect(),
    })
}

impl Account {
    /// Merges one event, created at `created_s`.
    pub fn merge(&mut self, created_s: i64, update: AccountUpdate) {
        keep_smaller(&mut self.first_seen_s, created_s);
        match update {
            AccountUpdate::Seen => {}
            AccountUpdate::Snapshot {
                country,
                created_s: account_created_s,
                state,
                external_account,
                ids,
                requirement_names,
            } => {
                self.requirement_names.merge(&requirement_names);
                keep_greater(&mut self.ids, &ids);
                keep_greater(&mut self.country, &country);
                if let Some(account_created_s) = account_created_s {
                    keep_smaller(&mut self.created_s, account_created_s);
                }
                let is_unsure = state.is_unsure(account_created_s);
                let external = (Milestone::ExternalAccountAdded, external_account);
                for (milestone, shown) in shown(&state).into_iter().chain([external]) {
                    self.show(milestone, created_s, shown, is_unsure);
                }
                self.timeline.insert(state);
            }
            AccountUpdate::ExternalAccount { id, added, view } => {
                if !view.removed {
                    let doubt = (!added).then_some(Doubt::Before);
                    self.reach(Milestone::ExternalAccountAdded, created_s, doubt);
                }
                self.show_destination(id, view);
            }
            AccountUpdate::Thin { event_id } => {
                keep_greater(&mut self.thin, &Some((created_s, event_id)));
            }
            AccountUpdate::Closed { event_id } => {
                keep_smaller(&mut self.closed, (created_s, event_id));
            }
            AccountUpdate::Reported(report) => {
                self.merge_user(&report);
                self.reports.merge(&report);
            }
            AccountUpdate::Paid => keep_smaller(&mut self.paid_s, created_s),
            AccountUpdate::Balance(balance) => keep_greater(&mut self.balance, &Some(balance)),
            AccountUpdate::Connection {
                connected,
                event_id,
            } => {
                let latest = if connected {
                    &mut self.authorized
                } else {
                    &mut self.deauthorized
                };
                keep_greater(latest, &Some((created_s, event_id)));
            }
            AccountUpdate::Capability { name, state, needs } => {
                if let Some(needs) = needs {
                    self.show_needs(&name, &(created_s, requirement_names::kept(&needs)));
                }
                self.capabilities.entry(name).or_default().insert(state);
            }
        }
    }

    /// See [`crate::entity::Entity::union`].
    pub(in crate::entity) fn union(&mut self, other: &Self) {
        keep_greater(&mut self.country, &other.country);
        keep_greater(&mut self.ids, &other.ids);
        self.requirement_names.merge(&other.requirement_names);
        for (name, needs) in &other.capability_needs {
            self.show_needs(name, needs);
        }
        let times = [
            (&mut self.created_s, other.created_s),
            (&mut self.first_seen_s, other.first_seen_s),
            (&mut self.paid_s, other.paid_s),
        ];
        for (kept, new) in times {
            if let Some(new) = new {
                keep_smaller(kept, new);
            }
        }
        for (milestone, at_s) in &other.milestones {
            let doubt = other.doubts.get(milestone).copied();
            self.reach(*milestone, *at_s, doubt);
        }
        for (milestone, at_s) in &other.unreached {
            let first_s = self.unreached.entry(*milestone).or_insert(*at_s);
            *first_s = (*first_s).min(*at_s);
        }
        keep_greater(&mut self.deauthorized, &other.deauthorized);
        keep_greater(&mut self.authorized, &other.authorized);
        keep_greater(&mut self.thin, &other.thin);
        keep_greater(&mut self.balance, &other.balance);
        if let Some(closed) = &other.closed {
            keep_smaller(&mut self.closed, closed.clone());
        }
        for (name, timeline) in &other.capabilities {
            let kept = self.capabilities.entry(name.clone()).or_default();
            kept.union(timeline);
        }
        for (id, view) in &other.external_accounts {
            self.show_destination(id.clone(), view.clone());
        }
        self.timeline.union(&other.timeline);
        self.reports.union(&other.reports);
        keep_greater(&mut self.created_for, &other.created_for);
        self.add_users(&other.users);
    }

    /// A link may be opened by another person: only the creation says whose account it is.
    fn merge_user(&mut self, report: &Report) {
        for (field, value) in &report.fields {
            if let (Step::CreatedByUser, Field::User, FieldValue::Text(user)) =
                (report.step, field, value)
            {
                let new = (report.at_ms, report.event_id.clone(), user.clone());
                keep_greater(&mut self.created_for, &Some(new));
                self.add_users([user]);
            }
        }
    }

    /// Beyond the limit, the first by name are kept, and the current one.
    fn add_users<'a>(&mut self, users: impl IntoIterator<Item = &'a String>) {
        self.users.extend(users.into_iter().cloned());
        let current = self.user().map(str::to_owned);
        while self.users.len() > USERS {
            let mut from_last = self.users.iter().rev();
            let last = from_last.find(|it| Some(*it) != current.as_ref()).cloned();
            let Some(last) = last else { break };
            self.users.remove(&last);
        }
    }

    /// The newest list of a capability wins.
    fn show_needs(&mut self, capability: &str, needs: &(i64, Vec<String>)) {
        let kept = self
            .capability_needs
            .entry(capability.to_owned())
            .or_default();
        if needs > kept {
            kept.clone_from(needs);
        }
    }

    /// The latest state of a payout destination wins; within one second the greater one, which is the
    /// same in any order.
    fn show_destination(&mut self, id: String, view: ExternalAccount) {
        let kept = self
            .external_accounts
            .entry(id)
            .or_insert_with(|| view.clone());
        if view > *kept {
            *kept = view;
        }
    }

    /// The application's id of its user: from its metadata, else from the application's events.
    pub fn user_id(&self) -> Option<&str> {
        let of_metadata = self.ids.as_ref().and_then(|ids| ids.user_id.as_deref());
        of_metadata
            .or_else(|| self.user())
            .or_else(|| self.reports.text(Field::User))
    }

    /// Whose account it is, as the newest `account.created_by_user` says.
    pub fn user(&self) -> Option<&str> {
        let (_, _, user) = self.created_for.as_ref()?;
        Some(user)
    }

    /// The current state, as far as it is known: what an event does not say is as it was before the event.
    pub fn current(&self) -> Option<Cow<'_, AccountFacts>> {
        let last = &*self.timeline.last()?.facts;
        if last.is_complete() {
            return Some(Cow::Borrowed(last));
        }
        self.known_states().pop().map(|(_, facts)| facts)
    }

    /// The states in their order, with what is known of each: what an event does not say is as it was
    /// before the event.
    pub(super) fn known_states(
        &self,
    ) -> Vec<(&RecordedState<AccountFacts>, Cow<'_, AccountFacts>)> {
        let mut known: Vec<(_, Cow<'_, AccountFacts>)> = Vec::new();
        for state in self.timeline.in_order() {
            let before = known.last().filter(|_| !state.facts.is_complete());
            let facts = match before {
                Some((_, before)) => Cow::Owned(state.facts.or(before)),
                None => Cow::Borrowed(&*state.facts),
            };
            known.push((state, facts));
        }
        known
    }

    /// Whether the platform is still connected. If authorization and removal have the same second:
    /// removed.
    pub fn connected(&self) -> bool {
        self.connected_at(i64::MAX)
    }

    /// The risk, if the account's state is known. A disconnected account can earn nothing through
    /// the platform; a closed one has no risk any more.
    pub fn risk(&self) -> Option<Risk> {
        match self.connected() {
            _ if self.closed.is_some() => None,
            true => self.current().and_then(|facts| risk(&facts)),
            false => Some(Risk::Critical),
        }
    }

    /// The risk as exports and counters name it.
    pub fn risk_label(&self) -> &'static str {
        match &self.closed {
            Some(_) => "closed",
            None => self.risk().map_or(UNKNOWN, Risk::as_str),
        }
    }

    /// When it removed the platform, unless it is connected again: Unix seconds and event. What comes with
    /// or after its closing is a consequence of that.
    pub(super) fn removed(&self) -> Option<&(i64, String)> {
        let closed_s = self.closed.as_ref().map(|(closed_s, _)| *closed_s);
        let removed = self.deauthorized.as_ref()?;
        let before_closing = closed_s.is_none_or(|closed_s| removed.0 < closed_s);
        let last_s = closed_s.map_or(i64::MAX, |closed_s| closed_s.saturating_sub(1));
        (before_closing && !self.connected_at(last_s)).then_some(removed)
    }

    /// Whether a thin event reported a change that no later state has shown. A removed account is
    /// never stale: its state can no longer be fetched.
    pub fn is_stale(&self) -> bool {
        let state_s = self.timeline.newest_s();
        self.connected()
            && self
                .thin
                .as_ref()
                .is_some_and(|(reported_s, _)| state_s.is_none_or(|v| v < *reported_s))
    }

    /// As far as the latest removal and the latest authorization show: disconnected from the
    /// removal to the authorization, or for good, and connected at all other times before it was closed.
    pub(super) fn connected_at(&self, at_s: i64) -> bool {
        match (&self.deauthorized, &self.authorized) {
            _ if self.closed.as_ref().is_some_and(|(s, _)| *s <= at_s) => false,
            (Some((removed_s, _)), _) if at_s < *removed_s => true,
            (Some((removed_s, _)), Some((authorized_s, _))) => {
                authorized_s > removed_s && *authorized_s <= at_s
            }
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

/// Onboarding.
impl Account {
    /// The furthest milestone reached.
    pub fn stage(&self) -> Milestone {
        self.milestones
            .last_key_value()
            .map_or(Milestone::AccountCreated, |(m, _)| *m)
    }

    /// When onboarding began: the account's creation, else the connection to the platform, else when the application
    /// says that it created the account. The first event that names an account is no beginning: it may have been
    /// onboarded long ago.
    pub fn began_s(&self) -> Option<i64> {
        let authorized_s = self.authorized.as_ref().map(|(at_s, _)| *at_s);
        let of_stripe_s = self.created_s.or(authorized_s);
        of_stripe_s.or_else(|| self.reports.first_s(Step::CreatedByUser))
    }

    /// When it reached a milestone, if that is known; the first milestone is the start of
    /// onboarding.
    pub fn milestone_s(&self, milestone: Milestone) -> Option<i64> {
        if milestone == Milestone::AccountCreated {
            return self.began_s();
        }
        let at_s = *self.milestones.get(&milestone)?;
        let is_known = match self.doubts.get(&milestone) {
            None => !self.is_old_at(at_s) || self.lacked_before(milestone, at_s),
            Some(Doubt::Fetched) => self.lacked_before(milestone, at_s),
            Some(Doubt::Before) => false,
        };
        is_known.then_some(at_s)
    }

    /// Whether a state before this time shows that the account never had the milestone: one of when the
    /// account was not old, or one in which its holder had not submitted the details yet, without which
    /// it cannot take charges.
    fn lacked_before(&self, milestone: Milestone, at_s: i64) -> bool {
        let first_s = |milestone| self.unreached.get(&milestone).filter(|s| **s < at_s);
        first_s(milestone).is_some_and(|s| !self.is_old_at(*s))
            || milestone != Milestone::ExternalAccountAdded
                && first_s(Milestone::OnboardingStarted).is_some()
    }

    /// Whether onboarding began so long before this time that no event may be known of it: Stripe lists
    /// those of 30 days. Such an account may have reached a milestone and lost it again. When it gets
    /// its charges back, the event says only that it had none just before.
    pub(super) fn is_old_at(&self, at_s: i64) -> bool {
        let old_s = at_s.saturating_sub(HORIZON_S);
        self.began_s().is_some_and(|began_s| began_s < old_s)
    }

    /// The earliest payment, as Stripe's events or the application say it: a provider that was paid for a job is active,
    /// by whatever means (C16).
    pub fn earliest_payment_s(&self) -> Option<i64> {
        let job_s = self.reports.first_s(Step::JobPaid);
        self.paid_s.into_iter().chain(job_s).min()
    }

    /// When it took its first payment (C16), if that is known: an earlier one would have been seen only since its
    /// charges were enabled. A job that was paid by other means before counts for nothing here.
    pub fn first_payment_s(&self) -> Option<i64> {
        let enabled_s = self.milestone_s(Milestone::ChargesEnabled)?;
        let is_since = |job_s: &i64| *job_s >= enabled_s;
        // Of very many, only the newest are remembered besides the first.
        let first_s = self.reports.first_s(Step::JobPaid).filter(is_since);
        let job_s = first_s.or_else(|| self.reports.moments(Step::JobPaid).find(is_since));
        self.took_payment_s().into_iter().chain(job_s).min()
    }

    /// Whether it took a payment since its charges were enabled, and when it took the first one, if that is known.
    pub(super) fn reached_first_payment(&self) -> Option<Option<i64>> {
        match self.milestone_s(Milestone::ChargesEnabled) {
            Some(_) => self.first_payment_s().map(Some),
            None => {
                let has_charged = self.milestones.contains_key(&Milestone::ChargesEnabled);
                (has_charged && self.earliest_payment_s().is_some()).then_some(None)
            }
        }
    }

    /// When Stripe's events first show a payment of its own, if that was the first one.
    pub fn took_payment_s(&self) -> Option<i64> {
        let enabled_s = self.milestone_s(Milestone::ChargesEnabled)?;
        self.paid_s.filter(|paid_s| *paid_s >= enabled_s)
    }

    /// The stages of the funnel after the registration (C16), and when it reached them, if that is known. One whose
    /// link was opened, or whose form was submitted, has started.
    pub fn stages_reached(&self) -> Reached {
        let mut reached = Reached::default();
        reached.add(Stage::AccountCreated, self.began_s());
        let clicked_s = self.reports.first_s(Step::LinkClicked);
        let submitted_s = self.milestone_s(Milestone::OnboardingStarted);
        if clicked_s.is_some() || self.stage() >= Milestone::OnboardingStarted {
            let started_s = clicked_s.into_iter().chain(submitted_s).min();
            reached.add(Stage::Started, started_s);
        }
        for (stage, milestone) in [
            (Stage::ExternalAccount, Milestone::ExternalAccountAdded),
            (Stage::ChargesEnabled, Milestone::ChargesEnabled),
        ] {
            if self.stage() >= milestone {
                reached.add(stage, self.milestone_s(milestone));
            }
        }
        if let Some(paid_s) = self.reached_first_payment() {
            reached.add(Stage::FirstPayment, paid_s);
        }
        reached
    }

    /// From the start of onboarding to charges enabled, if both are known.
    pub fn onboarding_seconds(&self) -> Option<i64> {
        let done_s = self.milestone_s(Milestone::ChargesEnabled)?;
        Some(done_s.saturating_sub(self.began_s()?).max(0))
    }

    /// The earliest event that shows a milestone counts. Of two in one second: the one that says
    /// that it was reached then.
    fn reach(&mut self, milestone: Milestone, at_s: i64, doubt: Option<Doubt>) {
        let kept = self.milestones.get(&milestone);
        let kept = kept.map(|kept_s| (*kept_s, self.doubts.get(&milestone).copied()));
        if kept.is_some_and(|kept| kept <= (at_s, doubt)) {
            return;
        }
        self.milestones.insert(milestone, at_s);
        match doubt {
            Some(doubt) => self.doubts.insert(milestone, doubt),
            None => self.doubts.remove(&milestone),
        };
    }

    /// Reads the milestones from the remembered states once more: in encoding 1, what an event says of the
    /// time before it was not read, so a stored time may be that of an event which says that the milestone
    /// was reached before; in encoding 2, at first, that of an event which says nothing of it. A time that no
    /// state explains stays, and so does its doubt.
    pub(in crate::entity) fn read_milestones_again(&mut self) {
        let stored = mem::take(&mut self.milestones);
        let doubts = mem::take(&mut self.doubts);
        let timeline = mem::take(&mut self.timeline);
        for state in timeline.in_order() {
            let is_unsure = state.is_unsure(self.created_s);
            for (milestone, shown) in shown(state) {
                self.show(milestone, state.created_s, shown, is_unsure);
            }
        }
        self.timeline = timeline;
        for (milestone, at_s) in stored {
            if self.milestones.get(&milestone) != Some(&at_s) {
                self.reach(milestone, at_s, doubts.get(&milestone).copied());
            }
        }
    }

    /// What one event says of a milestone counts as the event or as the time before it.
    fn show(&mut self, milestone: Milestone, at_s: i64, shown: Shown, is_unsure: bool) {
        match (shown.before, shown.now) {
            (_, Some(true)) if is_unsure => self.reach(milestone, at_s, Some(Doubt::Fetched)),
            (Some(false), Some(true)) => self.reach(milestone, at_s, None),
            (Some(true), _) | (None, Some(true)) => {
                self.reach(milestone, at_s, Some(Doubt::Before));
            }
            (_, Some(false) | None) => {}
        }
        if shown.now == Some(false) {
            let first_s = self.unreached.entry(milestone).or_insert(at_s);
            *first_s = at_s.min(*first_s);
        }
    }
}

/// What the state in an event shows of each milestone, except of the payout destination.
fn shown(state: &RecordedState<AccountFacts>) -> [(Milestone, Shown); 3] {
    let flag = |field, now: Option<bool>| Shown {
        before: now.and_then(|now| state.flag_before(field, now)),
        now,
    };
    let both_of = |(a, b): (Option<bool>, Option<bool>)| a.zip(b).map(|(a, b)| a && b);
    let facts = &state.facts;
    let charges = flag("charges_enabled", Some(facts.charges_enabled));
    let payouts = flag("payouts_enabled", Some(facts.payouts_enabled));
    let both = Shown {
        before: both_of((charges.before, payouts.before)),
        now: both_of((charges.now, payouts.now)),
    };
    let details = flag("details_submitted", facts.details_submitted);
    [
        (Milestone::OnboardingStarted, details),
        (Milestone::ChargesEnabled, charges),
        (Milestone::OnboardingCompleted, both),
    ]
}
