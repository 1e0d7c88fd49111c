//! Which notifiers deliver an alert, its deadlines, and its escalation. Pure: a function of the
//! settings and the alert.

mod calendar;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use revwatch_core::redact;
use revwatch_runtime::config::{
    AlertingConfig, Clock, ConfigError, EscalationStep, Fault, Faults, NOTIFIERS, Route, Treatment,
    both,
};

use self::calendar::Calendar;
use crate::alert::{Alert, AlertState, Mute, Notice, NoticeKind, Silence, Sla};
use crate::rule::{Delay, Rule, Severity};

/// The notifications that a notifier delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Its message can be updated in place, or its reader groups messages of one alert: it delivers
    /// every change. Others deliver an alert when it fires.
    pub edits: bool,
    /// It delivers that an alert is resolved.
    pub resolves: bool,
}

/// The settings of severities, routes and business hours.
#[derive(Debug, Clone)]
pub struct Policy {
    treatments: BTreeMap<Severity, Treatment>,
    routes: Vec<Route>,
    calendar: Calendar,
    notifiers: Vec<(String, Capabilities)>,
    /// Above this number, alerts of one rule that are not yet notified become a group.
    pub group_above: usize,
    /// Seconds during which others may join such a group.
    pub group_open_s: i64,
    /// When revwatch began, if the settings say it: Unix seconds.
    pub began_s: Option<i64>,
}

/// A warning is sent after this share of the time, in percent.
const WARN_AT_PERCENT: i64 = 80;

impl Policy {
    /// `notifiers` are the configured ones, in order of preference; at least one. Errors name every
    /// fault in the settings.
    pub fn new(
        config: &AlertingConfig,
        notifiers: Vec<(String, Capabilities)>,
    ) -> Result<Self, ConfigError> {
        let severity = &config.severity;
        let treatments = BTreeMap::from([
            (Severity::Critical, severity.critical.clone()),
            (Severity::High, severity.high.clone()),
            (Severity::Medium, severity.medium.clone()),
            (Severity::Low, severity.low.clone()),
        ]);
        let mut faults = Faults::default();
        for (severity, treatment) in &treatments {
            let key = format!("alerting.severity.{}", severity.as_str());
            check_notifiers(&key, &treatment.notifiers, &mut faults);
            for (number, step) in treatment.escalate.iter().enumerate() {
                let key = format!("{key}.escalate.{number}");
                check_notifiers(&key, &step.notifiers, &mut faults);
            }
        }
        for (number, route) in config.routes.iter().enumerate() {
            check_route(&format!("alerting.routes.{number}"), route, &mut faults);
        }
        let began_s = began(&config.began).unwrap_or_else(|fault| {
            faults.add(fault);
            None
        });
        let (calendar, ()) = both(Calendar::new(&config.business_hours), faults.none())?;
        Ok(Self {
            treatments,
            routes: config.routes.clone(),
            calendar,
            notifiers,
            group_above: config.group_above.max(1),
            group_open_s: config.group_open.0,
            began_s,
        })
    }

    /// The notifications that `notifier` delivers; `None` if it is not configured.
    pub fn capabilities(&self, notifier: &str) -> Option<Capabilities> {
        self.notifiers
            .iter()
            .find(|(name, _)| name == notifier)
            .map(|(_, capabilities)| *capabilities)
    }

    /// Chooses the notifiers of `alert`, and starts its clocks at `start_s`.
    pub fn apply(&self, alert: &mut Alert, rule: &Rule, start_s: i64) {
        let fits = |route: &&Route| {
            (route.severity.is_empty()
                || route.severity.iter().any(|s| s == alert.severity.as_str()))
                && (route.rules.is_empty() || route.rules.contains(&alert.rule))
                && route
                    .labels
                    .iter()
                    .all(|(name, value)| alert.labels.get(name) == Some(value))
        };
        let route = self.routes.iter().find(fits);
        let treatment = &self.treatments[&alert.severity];
        if let Some(name) = route.and_then(|r| r.route.as_ref()) {
            alert.route.clone_from(name);
        }
        let wanted = route
            .and_then(|r| r.notifiers.as_ref())
            .or(rule.notifiers.as_ref())
            .unwrap_or(&treatment.notifiers);
        alert.notifiers = self.available(wanted);
        // A broken notifier cannot deliver the alert about itself.
        if let Some(broken) = alert.subject.broken_notifier() {
            alert.notifiers.retain(|name| name != broken);
            if alert.notifiers.is_empty() && !wanted.is_empty() {
                alert
                    .notifiers
                    .extend(self.alternative_to(broken, &BTreeSet::new()));
            }
        }
        alert.sla = self.clocks(rule, treatment, start_s);
    }

    /// The notice that a clock causes. `rule` is the alert's own, if it is still there.
    pub fn notice(
        &self,
        alert: &Alert,
        rule: Option<&Rule>,
        kind: NoticeKind,
        now_s: i64,
    ) -> Notice {
        let step = match kind {
            NoticeKind::Escalated(step) => self.treatments[&alert.severity]
                .escalate
                .get(usize::try_from(step).unwrap_or(usize::MAX)),
            _ => None,
        };
        let notifiers = match step {
            Some(step) => self.escalation_notifiers(step, alert, rule),
            None => alert.notifiers.clone(),
        };
        let route = step
            .and_then(|step| step.route.clone())
            .unwrap_or_else(|| alert.route.clone());
        let last = alert.notices.last().map_or(0, |notice| notice.number);
        let number = last.saturating_add(1);
        Notice {
            number,
            kind,
            at_s: now_s,
            route,
            notifiers,
        }
    }

    /// Those of the step that the rule allows; if it allows none of them, those that have the alert.
    fn escalation_notifiers(
        &self,
        step: &EscalationStep,
        alert: &Alert,
        rule: Option<&Rule>,
    ) -> Vec<String> {
        let allowed = rule.and_then(|rule| rule.notifiers.as_ref());
        let is_allowed = |name: &&String| allowed.is_none_or(|names| names.contains(name));
        let names = step.notifiers.iter().filter(is_allowed);
        let names: Vec<_> = names.cloned().collect();
        if names.is_empty() && !step.notifiers.is_empty() {
            return alert.notifiers.clone();
        }
        self.available(&names)
    }

    /// The notifier to use instead of `broken`: the first that is configured and not in `used`.
    pub fn alternative_to(&self, broken: &str, used: &BTreeSet<&str>) -> Option<String> {
        let names = self.notifiers.iter().map(|(name, _)| name.as_str());
        names
            .filter(|name| *name != broken && !used.contains(name))
            .map(str::to_owned)
            .next()
    }

    /// Those of `wanted` that are configured; if there is none, the preferred one. If none is wanted,
    /// none.
    fn available(&self, wanted: &[String]) -> Vec<String> {
        let known: Vec<_> = wanted
            .iter()
            .filter(|name| self.capabilities(name).is_some())
            .cloned()
            .collect();
        if known.is_empty() && !wanted.is_empty() {
            return self
                .notifiers
                .first()
                .map(|(name, _)| name.clone())
                .into_iter()
                .collect();
        }
        known
    }

    /// Chooses other notifiers for the pending notifications of a stored alert if none of its own is
    /// configured any more. Returns whether it did.
    pub fn replace_missing(&self, alert: &mut Alert) -> bool {
        let Alert {
            notifiers,
            notices,
            notifications,
            ..
        } = alert;
        let is_resolved = alert.state == AlertState::Resolved;
        let is_delivered = |number| {
            notifications
                .iter()
                .any(|(key, state)| key.notice == number && state.delivered_revision > 0)
        };
        let main = Some(notifiers).filter(|_| !is_resolved || !is_delivered(0));
        let notices = notices
            .iter_mut()
            .filter(|notice| !is_resolved && !is_delivered(notice.number));
        let mut replaced = false;
        for list in main
            .into_iter()
            .chain(notices.map(|notice| &mut notice.notifiers))
        {
            if !list.iter().any(|name| self.capabilities(name).is_some()) {
                let known = self.available(list);
                replaced |= !known.is_empty();
                list.extend(known);
            }
        }
        replaced
    }

    /// Drops a beginning that is in the future: everything until then would only be listed. Returns whether it was.
    pub fn drop_future_beginning(&mut self, now_s: i64) -> bool {
        self.began_s.take_if(|began_s| *began_s > now_s).is_some()
    }

    /// The business hours in words: they change when the calendar does.
    pub fn business_hours(&self) -> String {
        self.calendar.describe()
    }

    /// When the time of a rule comes for what began at a Unix second.
    pub fn due_s(&self, Delay { seconds, clock }: Delay, began_s: i64) -> i64 {
        match clock {
            Clock::Always => began_s.saturating_add(seconds),
            Clock::BusinessHours => self.calendar.after(began_s, seconds),
        }
    }

    /// The latest beginning for which that time has come by `now_s`.
    pub fn begun_s(&self, Delay { seconds, clock }: Delay, now_s: i64) -> i64 {
        match clock {
            Clock::Always => now_s.saturating_sub(seconds),
            Clock::BusinessHours => self.calendar.before(now_s, seconds),
        }
    }

    fn clocks(&self, rule: &Rule, treatment: &Treatment, started_s: i64) -> Sla {
        let clock = rule.sla.clock.unwrap_or(treatment.clock);
        let after = |seconds: i64| self.due_s(Delay { seconds, clock }, started_s);
        let respond_s = rule.sla.respond_s.unwrap_or(treatment.respond.0);
        let resolve_s = rule.sla.resolve_s.unwrap_or(treatment.resolve.0);
        let reminders = [
            (respond_s * WARN_AT_PERCENT / 100, NoticeKind::RespondSoon),
            (respond_s, NoticeKind::RespondBreached),
            (resolve_s * WARN_AT_PERCENT / 100, NoticeKind::ResolveSoon),
            (resolve_s, NoticeKind::ResolveBreached),
        ];
        let mut upcoming = Vec::new();
        if treatment.remind {
            upcoming.extend(reminders.map(|(seconds, kind)| (after(seconds), kind)));
        }
        for (step, number) in treatment.escalate.iter().zip(0..) {
            upcoming.push((
                after(respond_s.saturating_add(step.after.0)),
                NoticeKind::Escalated(number),
            ));
        }
        upcoming.sort_unstable();
        Sla {
            respond_s,
            resolve_s,
            respond_due_s: after(respond_s),
            resolve_due_s: after(resolve_s),
            upcoming,
            started_s,
        }
    }
}

/// A value in a fault: as it was written if it is one plain word, a date, a time or a time zone. Anything else may be an
/// address or a secret in the wrong place.
fn shown(text: &str) -> String {
    let is_number_or_zone = || {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let has_only = |of: &str| {
            let is_of = |b: u8| b.is_ascii_alphanumeric() || of.as_bytes().contains(&b);
            text.bytes().all(is_of)
        };
        match digits {
            0 => has_only("/_"),
            1..=8 => has_only("/:.-") && !text.contains("//"),
            _ => false,
        }
    };
    let is_shown =
        redact::word(text) == text || ((1..=30).contains(&text.len()) && is_number_or_zone());
    match is_shown {
        true => format!("{text:?}"),
        false => "(not shown)".to_owned(),
    }
}

/// Checks the names in the list `notify` of the table `key`.
fn check_notifiers(key: &str, list: &[String], faults: &mut Faults) {
    for (number, name) in list.iter().enumerate() {
        if !NOTIFIERS.contains(&name.as_str()) {
            let known = NOTIFIERS.join(", ");
            let what = format!("{key}: notify names {}; there are {known}", shown(name));
            faults.add(Fault::from(what).about([format!("{key}.notify.{number}").as_str()]));
        }
    }
}

/// The moment at which revwatch began, as the settings say it.
fn began(text: &str) -> Result<Option<i64>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let moment: Result<Timestamp, _> = text.parse();
    let what = || {
        let text = shown(text);
        let what = format!(
            "alerting.began {text} is not a moment: write it like \"2026-01-01T00:00:00Z\""
        );
        Fault::from(what).about(["alerting.began"])
    };
    moment.map(|at| Some(at.as_second())).map_err(|_| what())
}

fn check_route(key: &str, route: &Route, faults: &mut Faults) {
    check_notifiers(key, route.notifiers.as_deref().unwrap_or_default(), faults);
    for (number, name) in route.severity.iter().enumerate() {
        if !Severity::ALL.iter().any(|s| s.as_str() == name) {
            let known = Severity::ALL.map(Severity::as_str).join(", ");
            let what = format!(
                "{key}: severity {} is unknown; there are {known}",
                shown(name)
            );
            faults.add(Fault::from(what).about([format!("{key}.severity.{number}").as_str()]));
        }
    }
}

/// The silence that mutes `alert` now.
pub fn silenced<'a>(
    alert: &Alert,
    silences: impl IntoIterator<Item = &'a Silence>,
    now_s: i64,
) -> Option<Mute> {
    let active = |s: &&Silence| s.is_active(now_s) && s.matches.fits(alert);
    silences
        .into_iter()
        .find(active)
        .map(|silence| Mute::Silence(silence.id.clone()))
}

#[cfg(test)]
mod tests {
    use revwatch_runtime::config::Config;

    use super::*;
    use crate::alert::{Evidence, Subject};

    #[test]
    fn the_beginning_is_a_moment_or_not_set() {
        let mut config = Config::load(None, &|_| None)
            .expect("the defaults")
            .alerting;
        let mut began_s = |text: &str| {
            config.began = text.to_owned();
            Policy::new(&config, Vec::new()).map(|policy| policy.began_s)
        };
        assert_eq!(began_s("").expect("valid"), None);
        let moment = "1970-01-01T01:00:00+01:00";
        assert_eq!(began_s(moment).expect("valid"), Some(0));
        let error = began_s("yesterday").expect_err("no moment").to_string();
        assert!(error.contains("alerting.began"), "{error}");
        assert!(error.contains("2026-01-01T00:00:00Z"), "{error}");
    }

    #[test]
    fn a_beginning_in_the_future_is_none() {
        let alerting = Config::load(None, &|_| None)
            .expect("the defaults")
            .alerting;
        let mut policy = Policy::new(&alerting, Vec::new()).expect("valid");
        for (began_s, expected) in [(Some(7), Some(7)), (Some(8), None), (None, None)] {
            policy.began_s = began_s;
            let is_dropped = policy.drop_future_beginning(7);
            assert_eq!(
                (policy.began_s, is_dropped),
                (expected, began_s != expected)
            );
        }
    }

    #[test]
    fn only_the_alert_about_a_notifier_avoids_it() {
        let config = Config::load(None, &|_| None)
            .expect("the defaults")
            .alerting;
        let all = Capabilities {
            edits: true,
            resolves: true,
        };
        let names = ["slack", "email"];
        let policy = Policy::new(&config, names.map(|name| (name.to_owned(), all)).into());
        let policy = policy.expect("valid");
        let rule = crate::rule_text::built_in().expect("valid").remove(0);
        let about_slack = Subject::Segment {
            by: "notifier".into(),
            value: "slack".into(),
        };
        for (subject, avoids_slack) in [(about_slack, true), (Subject::Business, false)] {
            let mut alert = Alert::fire(&rule, &subject, 0, 0, Evidence::default());
            alert.labels.insert("notifier".into(), "slack".into());
            policy.apply(&mut alert, &rule, 0);
            assert_eq!(
                !alert.notifiers.contains(&"slack".to_owned()),
                avoids_slack,
                "{subject:?}"
            );
        }
    }

    /// C14: the third alert is sent without SMS, also when it escalates. C17: a low one is sent by mail.
    #[test]
    fn a_rule_may_choose_its_notifiers_and_a_route_of_the_settings_is_above_it() {
        let mut config = Config::load(None, &|_| None)
            .expect("the defaults")
            .alerting;
        let all = Capabilities {
            edits: true,
            resolves: true,
        };
        let names = ["slack", "email", "sms", "pagerduty"];
        let notifiers = names.map(|name| (name.to_owned(), all));
        let rules = crate::rule_text::built_in().expect("valid");
        let sent = |config: &AlertingConfig, rule: &str| {
            let policy = Policy::new(config, notifiers.clone().into()).expect("valid");
            let rule = rules.iter().find(|it| it.name == rule).expect("a rule");
            let mut alert = Alert::fire(rule, &Subject::Business, 0, 0, Evidence::default());
            policy.apply(&mut alert, rule, 0);
            let step = policy.notice(&alert, Some(rule), NoticeKind::Escalated(0), 0);
            (alert.notifiers, step.notifiers)
        };
        let (by, escalated) = sent(&config, "account_deauthorized");
        assert_eq!(
            (by, escalated),
            (
                vec!["slack".to_owned(), "email".into()],
                vec!["slack".into()]
            )
        );
        let (by, _) = sent(&config, "onboarding_not_complete_24_hours");
        assert_eq!(by, ["email"]);
        let (by, escalated) = sent(&config, "provider_lost_charges");
        assert_eq!(by, names);
        assert_eq!(escalated, ["slack", "sms", "pagerduty"]);
        config.routes = vec![Route {
            severity: Vec::new(),
            rules: vec!["account_deauthorized".into()],
            labels: BTreeMap::new(),
            notifiers: Some(vec!["sms".into()]),
            route: None,
        }];
        let (by, escalated) = sent(&config, "account_deauthorized");
        assert_eq!(
            (by, escalated),
            (vec!["sms".to_owned()], vec!["slack".into()])
        );
        // Without a step that the rule allows, those who have the alert hear of it.
        config.routes.clear();
        config.severity.critical.escalate[0].notifiers = vec!["sms".into()];
        let (by, escalated) = sent(&config, "account_deauthorized");
        assert_eq!(by, escalated);
    }

    #[test]
    fn a_fault_quotes_a_value_only_if_it_is_a_plain_word() {
        let secret = "https://hooks.slack.com/services/T0/B0/x";
        let mut config = Config::load(None, &|_| None)
            .expect("the defaults")
            .alerting;
        config.routes = vec![Route {
            severity: vec!["urgent".into(), secret.into()],
            notifiers: Some(vec!["ana@example.com".into(), "telegram".into()]),
            rules: Vec::new(),
            labels: BTreeMap::new(),
            route: None,
        }];
        let error = Policy::new(&config, Vec::new()).expect_err("invalid");
        let error = error.to_string();
        for part in [
            "names (not shown)",
            "names \"telegram\"",
            "severity \"urgent\"",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(
            !error.contains("ana") && !error.contains("hooks"),
            "{error}"
        );
    }

    #[test]
    fn dates_times_and_zones_are_shown_and_addresses_and_secrets_are_not() {
        for text in [
            "25/12/2026",
            "2026-02-30",
            "24:00",
            "America/Sao_Paolo",
            "UTC-3",
            "BRT",
            "tuesday",
        ] {
            assert_eq!(shown(text), format!("{text:?}"));
        }
        for text in [
            "",
            "ana@example.com",
            "+15550101",
            "15550101234",
            "https://hooks.slack.com/services/T0/B0/x",
            "sk_live_51MrABC",
            "whsec_a1",
            "a\u{1b}[2J",
        ] {
            assert_eq!(shown(text), "(not shown)", "{text:?}");
        }
    }
}
