//! Key performance indicators, computed from counters: `revwatch metrics` prints them, the metrics
//! page exposes them and rules compare them.

mod accounts;
pub mod application;
mod billing;
pub mod funnel;
pub mod not_sent;
mod payouts;
mod sums;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

pub use self::accounts::Accounts;
use self::application::Application;
pub use self::billing::{Billing, mrr_bounds, past_due_at, payment_failures};
use self::not_sent::NotSent;
pub use self::payouts::{Payouts, payout_failures};
pub use self::sums::{beyond, by_first};
use crate::bucket::{Bucket, Buckets, hour_of};
use crate::class::{Owner, Scope};
use crate::counters::{Counters, is_beyond};
use crate::entity::{EntityKind, NEEDING_FETCH};
use crate::mode::{LACKS_MODE, OTHER_MODE};
use crate::realm::Realm;

/// What [`Kpis::compute`] needs at `now_s` (Unix seconds): the hours of 60 days, to evaluate the
/// cohorts of the 30 days before the last 30, and the minutes at both ends of the last hour and the last 24 hours.
pub fn buckets_needed(now_s: i64) -> Buckets {
    let now = hour_of(now_s);
    Buckets {
        hours: now.saturating_sub(60 * 24)..=now,
        minutes_of: [now.saturating_sub(24), now.saturating_sub(1), now].into(),
    }
}

/// The state of the business.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Kpis {
    /// Events applied, each counted once.
    pub events_applied: i64,
    /// Deliveries of events that were applied before.
    pub events_duplicate: i64,
    /// Deliveries that became dead letters. One that is requeued and still cannot be applied counts
    /// again.
    pub events_dead: i64,
    /// Events of types that Stripe does not document.
    pub events_ignored: i64,
    /// Events of the other mode, which change nothing.
    pub events_other_mode: i64,
    /// Applied events that do not say their mode.
    pub events_without_mode: i64,
    /// The counters whose sums are too large to be known: they are in no other figure.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub sums_unknown: BTreeSet<String>,
    /// The main realm.
    #[serde(flatten)]
    pub main: RealmKpis,
    /// The other realms of which anything is known, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub realms: BTreeMap<String, RealmKpis>,
}

/// One of the platform's own Stripe accounts, with the accounts connected to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RealmKpis {
    /// Subscriptions, invoices and payments of the platform.
    #[serde(flatten)]
    pub billing: Billing,
    /// The same of the connected accounts, all together.
    pub connected: Billing,
    /// Payouts of the connected accounts.
    #[serde(flatten)]
    pub payouts: Payouts,
    /// Payouts of the platform itself.
    #[serde(flatten, with = "payouts::own")]
    pub own_payouts: Payouts,
    /// The platform's transfers to connected accounts, by status.
    pub transfers: BTreeMap<String, i64>,
    /// The connected accounts themselves.
    #[serde(flatten)]
    pub accounts: Accounts,
    /// What the user's application says; `null`: no event of it was ever applied.
    pub application: Option<Application>,
    /// Objects of any owner whose last change only Stripe's API shows, by kind.
    pub objects_needing_fetch: BTreeMap<String, i64>,
    /// Families of events that never came although the state implies them: their figures are unknown.
    pub events_not_sent: Vec<NotSent>,
}

/// A share as numerator and denominator, so that a rule can require a minimum of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ratio {
    /// The numerator.
    pub part: i64,
    /// The denominator.
    pub total: i64,
}

impl Ratio {
    /// `None` if the denominator is zero.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn value(self) -> Option<f64> {
        (self.total > 0).then(|| self.part as f64 / self.total as f64)
    }
}

impl Kpis {
    /// Computes from the current counters and those of [`buckets_needed`].
    pub fn compute(counters: &Counters, now_s: i64) -> Self {
        let events = |outcome: &str| counters.get(Bucket::Current, &["events", outcome]);
        let realms = counters.realms().into_iter();
        let others = realms.filter(|realm| !realm.is_main());
        let of_other = |realm: Realm| {
            let name = realm.as_str().to_owned();
            (name, RealmKpis::compute(counters, realm, now_s))
        };
        Self {
            events_applied: events("applied"),
            events_duplicate: events("duplicate"),
            events_dead: events("dead"),
            events_ignored: events("ignored"),
            events_other_mode: events(OTHER_MODE),
            events_without_mode: events(LACKS_MODE),
            sums_unknown: {
                let beyond = counters.iter().filter(|(_, _, sum)| is_beyond(*sum));
                beyond.map(|(_, name, _)| name.to_owned()).collect()
            },
            main: RealmKpis::compute(counters, Realm::MAIN, now_s),
            realms: others.map(of_other).collect(),
        }
    }

    /// As interfaces show it: figures of which Stripe sends nothing are `null`, not zero.
    pub fn json(&self) -> Value {
        let mut shown = serde_json::to_value(self).unwrap_or_default();
        self.main.hide_unknown(&mut shown);
        for (name, realm) in &self.realms {
            realm.hide_unknown(&mut shown["realms"][name]);
        }
        shown
    }
}

impl RealmKpis {
    fn compute(counters: &Counters, realm: Realm, now_s: i64) -> Self {
        let events_not_sent = not_sent::of_realm(counters, &realm, now_s);
        let platform = Scope::of(realm.clone(), Owner::Platform);
        let connected = Scope::of(realm.clone(), Owner::Connected);
        let any_owner = Scope {
            realm: Some(realm),
            owner: None,
        };
        let (platform, connected) = (counters.of(&platform), counters.of(&connected));
        let accounts = Accounts::compute(&platform, now_s);
        let mut objects_needing_fetch = sums::by_first(&counters.of(&any_owner), NEEDING_FETCH);
        if accounts.accounts_needing_refresh > 0 {
            let count = accounts.accounts_needing_refresh;
            objects_needing_fetch.insert(EntityKind::Account.plural().to_owned(), count);
        }
        Self {
            billing: Billing::compute(&platform, now_s),
            connected: Billing::compute(&connected, now_s),
            payouts: Payouts::compute(&connected, now_s),
            own_payouts: Payouts::compute(&platform, now_s),
            transfers: sums::by_first(&platform, "transfers"),
            accounts,
            application: Application::compute(counters, &platform, now_s),
            objects_needing_fetch,
            events_not_sent,
        }
    }

    /// Whether a figure of the platform itself is unknown because Stripe does not send it.
    pub fn is_unknown(&self, figure: &str) -> bool {
        let mut of_platform = self.events_not_sent.iter();
        of_platform.any(|it| it.owner == Owner::Platform && it.figures.contains(&figure))
    }

    /// Payouts and accounts are always those of connected accounts; of the rest, both owners have figures.
    fn hide_unknown(&self, shown: &mut Value) {
        for not_sent in &self.events_not_sent {
            for figure in not_sent.figures {
                let is_connected =
                    not_sent.owner == Owner::Connected && shown["connected"].get(figure).is_some();
                let place = if is_connected {
                    &mut shown["connected"]
                } else {
                    &mut *shown
                };
                place[*figure] = Value::Null;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::class::Class;
    use crate::counters::Tally;
    use crate::entity::Entity;
    use crate::event::Event;
    use crate::observe::{ObserveSettings, observe};

    /// Counts in a minute and in its hour.
    fn count(counters: &mut Counters, at_s: i64, parts: &[&str], n: i64) {
        counters.add(Bucket::minute_of(at_s), parts, n);
        counters.add(Bucket::hour_of(at_s), parts, n);
    }

    #[test]
    fn a_past_level_is_the_current_level_minus_the_changes_since() {
        let mut c = Counters::default();
        // Ten active since hour 1; three past due at hour 30; one of them recovered at hour 60.
        c.add(Bucket::Current, &["base", "all"], 10);
        c.add(Bucket::Current, &["base", "past_due"], 2);
        c.add(Bucket::Hour(1), &["base", "all"], 10);
        c.add(Bucket::Hour(30), &["base", "past_due"], 3);
        c.add(Bucket::Hour(60), &["base", "past_due"], -1);
        let at = |hour| past_due_at(&c.of(&Scope::PLATFORM), hour, 70);
        assert_eq!(at(70), Ratio { part: 2, total: 10 });
        assert_eq!(at(59), Ratio { part: 3, total: 10 });
        assert_eq!(at(30), Ratio { part: 3, total: 10 });
        assert_eq!(at(29), Ratio { part: 0, total: 10 });
        assert_eq!(at(0).value(), None);
    }

    #[test]
    fn churn_and_cohorts_use_their_windows() {
        let mut c = Counters::default();
        let now_s = 100 * 86_400;
        let ago = |days: i64| Bucket::hour_of(now_s - days * 86_400);
        // 8 paying now: 10 a month ago, 3 lost and 1 new since then.
        c.add(Bucket::Current, &["base", "subscribers"], 8);
        c.add(ago(40), &["churn", "gained"], 10);
        c.add(ago(20), &["churn", "lost"], 3);
        c.add(ago(20), &["base", "subscribers"], -3);
        c.add(ago(10), &["churn", "gained"], 1);
        c.add(ago(10), &["base", "subscribers"], 1);
        c.add(ago(10), &["dunning", "entered"], 4);
        c.add(ago(10), &["dunning", "recovered_7d"], 3);
        c.add(ago(2), &["dunning", "entered"], 50);
        c.add(ago(45), &["plan", "downgraded"], 5);
        c.add(ago(45), &["plan", "downgraded_lost_30d"], 1);
        c.add(ago(45), &["trial", "started"], 2);
        c.add(ago(45), &["trial", "converted"], 1);
        let kpis = Kpis::compute(&c, now_s);
        assert_eq!(kpis.main.billing.churn_rate_30d, Some(3.0 / 11.0));
        assert_eq!(kpis.main.billing.recovery_rate_7d, Some(0.75));
        assert_eq!(kpis.main.billing.downgrade_retention_30d, Some(0.8));
        assert_eq!(kpis.main.billing.trial_conversion, Some(0.5));
        c.add(ago(3), &["cohort", "account_created", "BR"], 4);
        count(&mut c, now_s, &["cohort", "account_created", "PT"], 1);
        c.add(ago(3), &["cohort", "charges_enabled", "BR"], 2);
        let kpis = Kpis::compute(&c, now_s);
        let conversion: Vec<_> = kpis
            .main
            .accounts
            .onboarding_conversion_7d
            .iter()
            .map(|(k, v)| (k.as_str(), *v))
            .collect();
        assert_eq!(conversion, [("BR", 0.5), ("PT", 0.0), ("all", 0.4)]);
        assert_eq!(kpis.main.accounts.onboarding_started_24h, 1);
        assert_eq!(Kpis::compute(&Counters::default(), now_s), Kpis::default());
    }

    #[test]
    fn each_figure_is_that_of_its_owner_and_its_realm() {
        let kernel = Realm::named("kernel").expect("a name");
        let mut c = Counters::default();
        for (realm, owner, n) in [
            (Realm::main(), Owner::Platform, 1),
            (Realm::main(), Owner::Connected, 20),
            (&kernel, Owner::Platform, 300),
        ] {
            let mut tally = Tally::of(Class { realm, owner });
            tally.add(Bucket::Current, &["mrr", "usd"], n);
            tally.add(Bucket::Current, &["base", "all"], n * 2);
            tally.add(Bucket::Current, &["base", "past_due"], n);
            tally.add(Bucket::Current, &["payouts", "failed", "usd"], n);
            c.add_difference(&Tally::default(), &tally);
        }
        let shown = serde_json::to_value(Kpis::compute(&c, 0)).expect("JSON");
        assert_eq!(shown["mrr_minor"], json!({"usd": 1}));
        assert_eq!(shown["connected"]["mrr_minor"], json!({"usd": 20}));
        assert_eq!(shown["connected"]["past_due_ratio"], json!(0.5));
        assert_eq!(shown["payouts"], json!({"failed": 20}));
        assert_eq!(shown["own_payouts"], json!({"failed": 1}));
        let of_kernel = &shown["realms"]["kernel"];
        assert_eq!(of_kernel["mrr_minor"], json!({"usd": 300}));
        assert_eq!(of_kernel["own_payouts"], json!({"failed": 300}));
        assert_eq!(of_kernel["connected"]["mrr_minor"], json!({}));
        // Without other realms there are none.
        let none = serde_json::to_value(Kpis::default()).expect("JSON");
        assert_eq!(none.get("realms"), None);
    }

    #[test]
    fn mrr_and_its_past_due_part_have_bounds() {
        let mut c = Counters::default();
        for (name, value) in [
            ("mrr|usd", 500),
            ("mrr_extra|usd", 200),
            ("mrr_past_due|usd", 100),
            ("mrr_past_due_extra|usd", 50),
            ("mrr|eur", 7),
            ("mrr_past_due_unbounded|eur", 1),
        ] {
            let parts: Vec<&str> = name.split('|').collect();
            c.add(Bucket::Current, &parts, value);
        }
        let shown = |c: &Counters| serde_json::to_value(Kpis::compute(c, 0)).expect("JSON");
        let bounds = shown(&c);
        assert_eq!(bounds["mrr_minor"], json!({"eur": 7, "usd": 500}));
        assert_eq!(bounds["mrr_high_minor"], json!({"eur": 7, "usd": 700}));
        let (low, high) = (
            &bounds["mrr_past_due_minor"],
            &bounds["mrr_past_due_high_minor"],
        );
        assert_eq!(*low, json!({"eur": 0, "usd": 100}));
        assert_eq!(*high, json!({"eur": null, "usd": 150}));
        c.add(Bucket::Current, &["mrr_past_due_unbounded", "unknown"], 1);
        let unbounded = json!({"eur": null, "usd": null});
        assert_eq!(shown(&c)["mrr_past_due_high_minor"], unbounded);
        assert_eq!(shown(&c)["mrr_high_minor"], bounds["mrr_high_minor"]);
    }

    #[test]
    fn what_is_not_fetched_is_shown_by_kind_of_any_owner() {
        let mut c = Counters::default();
        c.add(Bucket::Current, &["accounts_stale"], 1);
        for prefix in ["", "main/connected:", "kernel/platform:"] {
            let name = format!("{prefix}{NEEDING_FETCH}");
            c.add(Bucket::Current, &[&name, "payouts"], 2);
        }
        let kpis = Kpis::compute(&c, 0);
        let shown = |kpis: &RealmKpis| json!(kpis.objects_needing_fetch);
        assert_eq!(shown(&kpis.main), json!({"accounts": 1, "payouts": 4}));
        assert_eq!(shown(&kpis.realms["kernel"]), json!({"payouts": 2}));
    }

    #[test]
    fn the_payout_failure_share_counts_only_the_window() {
        let mut c = Counters::default();
        let minute = |hour: i64, minute: i64| hour * 3600 + minute * 60;
        count(&mut c, minute(100, 20), &["payouts", "failed", "usd"], 1);
        count(&mut c, minute(100, 21), &["payouts", "failed", "usd"], 2);
        count(&mut c, minute(110, 0), &["payouts", "paid", "eur"], 18);
        count(&mut c, minute(124, 21), &["payouts", "failed", "usd"], 1);
        count(
            &mut c,
            minute(124, 21),
            &["payouts", "in_transit", "usd"],
            50,
        );
        for (now_s, hours, part, total) in [
            (minute(124, 20), 24, 3, 21),
            (minute(124, 21), 24, 3, 21),
            (minute(124, 22), 24, 1, 19),
            (minute(124, 22), 1, 1, 1),
            (minute(124, 22), 30, 4, 22),
            // No minutes are kept for so long.
            (minute(149, 59), 49, 4, 22),
        ] {
            let ratio = payout_failures(&c.of(&Scope::PLATFORM), now_s, hours);
            assert_eq!(ratio, Ratio { part, total }, "{hours} h before {now_s}");
        }
        let later = Kpis::compute(&c, 500 * 3600);
        assert_eq!(later.main.own_payouts.payout_failure_ratio_24h, None);
    }

    /// C12: the volume is that of payments, of the platform and of connected accounts apart.
    #[test]
    fn the_volume_of_payments_is_that_of_thirty_days_and_of_the_thirty_before() {
        const DAY_S: i64 = 86_400;
        let now_s = 100 * DAY_S;
        let mut counters = Counters::default();
        let mut paid = |id: &str, account: Option<&str>, days_ago: i64, amount: i64| {
            let body = json!({"id": format!("evt_{id}"), "type": "payment_intent.succeeded", "account": account,
                "created": now_s - days_ago * DAY_S, "data": {"object": {"id": id, "object": "payment_intent",
                    "status": "succeeded", "amount": amount, "currency": "usd"}}});
            let body = body.to_string();
            let event = Event::parse(body.as_bytes()).expect("an event");
            let observed = observe(&event, &ObserveSettings::default()).expect("readable");
            let payment = observed.last().expect("a payment");
            let mut entity = Entity::new(&payment.key);
            entity.merge(payment);
            for (bucket, name, value) in entity.contributions().iter() {
                counters.add_named(bucket, name.to_owned(), value);
            }
        };
        paid("pi_1", None, 1, 500);
        paid("pi_2", None, 29, 200);
        paid("pi_3", None, 31, 40);
        paid("pi_4", None, 61, 3);
        paid("pi_5", Some("acct_1"), 2, 7000);
        let main = Kpis::compute(&counters, now_s).main;
        let volumes = |of: &Billing| {
            let before = &of.payment_volume_minor_previous_30d;
            json!([of.payment_volume_minor_30d, before])
        };
        assert_eq!(volumes(&main.billing), json!([{"usd": 700}, {"usd": 40}]));
        assert_eq!(volumes(&main.connected), json!([{"usd": 7000}, {}]));
    }

    /// Those that are read at some time give the same as all.
    #[test]
    fn the_buckets_that_are_needed_are_enough() {
        let now_s = 1000 * 3600 + 34 * 60;
        let mut all = Counters::default();
        for ago_min in (0..26 * 60).step_by(7) {
            count(
                &mut all,
                now_s - ago_min * 60,
                &["payouts", "failed", "usd"],
                1,
            );
            count(
                &mut all,
                now_s - ago_min * 60,
                &["payouts", "paid", "usd"],
                ago_min,
            );
        }
        let buckets = buckets_needed(now_s);
        let mut read = Counters::default();
        let needed = all.iter().filter(|(bucket, ..)| buckets.contains(*bucket));
        needed.for_each(|(bucket, name, n)| read.add_named(bucket, name.to_owned(), n));
        assert!(read.len() < all.len());
        assert_eq!(Kpis::compute(&read, now_s), Kpis::compute(&all, now_s));
    }

    #[test]
    fn amounts_at_their_limit_do_not_wrap() {
        let mut c = Counters::default();
        for part in ["a", "b"] {
            c.add(
                Bucket::Current,
                &["invoices_open_minor", "idr", part],
                i64::MAX,
            );
        }
        for hour in [699, 700] {
            c.add(
                Bucket::Hour(hour),
                &["main/connected:payouts_minor", "paid", "idr"],
                i64::MAX,
            );
            c.add(Bucket::Hour(hour), &["onboarded", "seconds"], i64::MAX);
            c.add(Bucket::Hour(hour), &["onboarded", "count"], 1);
        }
        c.add(Bucket::Current, &["mrr", "idr"], i64::MAX);
        let all = Kpis::compute(&c, 700 * 3600);
        let paid = "main/connected:payouts_minor|paid|idr";
        assert!(all.sums_unknown.contains(paid));
        let kpis = all.main;
        assert_eq!(kpis.billing.invoices_open_minor, BTreeMap::new());
        assert_eq!(kpis.payouts.payout_volume_minor_30d, BTreeMap::new());
        let unbounded = BTreeMap::from([("idr".to_owned(), None)]);
        assert_eq!(kpis.billing.mrr_high_minor, unbounded);
        assert_eq!(kpis.accounts.onboarding_mean_seconds_7d, Some(i64::MAX / 2));
    }
}
