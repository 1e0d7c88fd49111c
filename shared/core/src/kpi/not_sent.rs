//! Families of events that Stripe never sent although the state implies them. Their figures are unknown, not zero.
//!
//! Whether a family came needs no counter of its own: an event of it makes an object of its kind, every object
//! counts, and none is ever removed. So this also holds for stores of earlier versions and after a rebuild.
//!
//! Until an event of a family comes, its figures are unknown in any case; the waits below only leave out what may
//! still come. What is rare, such as disputes, refunds or changes of coupons, proves nothing by its absence, and
//! is not in the table.

use std::fmt;

use serde::Serialize;

use super::sums::over;
use crate::class::{Owner, Scope};
use crate::counters::{Bucket, Counters, Figures, UNKNOWN, hour_of};
use crate::entity::invoice::INVOICES_OF_SUBSCRIPTIONS;
use crate::entity::{EntityKind, NEEDING_FETCH};
use crate::event_family::EventFamily;
use crate::realm::Realm;

/// How many hours before now it reads.
pub const HOURS_READ: u32 = 60 * 24;

/// Events of one moment come in any order, and Stripe repeats a delivery that failed.
pub const WAIT_HOURS: u32 = 24;

/// The longest time for which automatic payouts and monthly invoices may not come. Source:
/// <https://docs.stripe.com/api/balance-settings/update#update_balance_settings-payments-payouts-schedule-interval>.
pub const LONG_WAIT_HOURS: u32 = 31 * 24;

/// A family that never came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotSent {
    /// The types to add to the endpoint, for instance `invoice.*`.
    pub types: String,
    /// Of which of the platform's own Stripe accounts.
    #[serde(skip)]
    pub realm: Realm,
    /// Whose events: `platform` or `connected`.
    #[serde(serialize_with = "owner_name")]
    pub owner: Owner,
    /// What implies that there are such events.
    pub because: &'static str,
    /// The figures that are unknown, by their names in the JSON of `revwatch metrics`.
    pub figures: &'static [&'static str],
}

/// What the absence of a family means.
struct Absence {
    family: &'static str,
    owners: &'static [Owner],
    has_come: fn(&Evidence<'_>) -> bool,
    is_implied: fn(&Evidence<'_>) -> bool,
    because: &'static str,
    figures: &'static [&'static str],
}

const BOTH: &[Owner] = &[Owner::Platform, Owner::Connected];

const SUBSCRIPTIONS_PAY: &str = "subscriptions have paid for more than a day";

static ABSENCES: [Absence; 5] = [
    Absence {
        family: "customer.subscription",
        owners: BOTH,
        has_come: |it| it.has_any(&["subscriptions"], EntityKind::Subscription),
        is_implied: |it| it.own().get(Bucket::Current, &[INVOICES_OF_SUBSCRIPTIONS]) > 0,
        because: "invoices bill subscriptions",
        figures: &[
            "subscriptions",
            "past_due_ratio",
            "mrr_minor",
            "mrr_high_minor",
            "mrr_incomplete",
            "mrr_past_due_minor",
            "mrr_past_due_high_minor",
            "past_due_mrr_ratio",
            "subscribers",
            "churn_rate_30d",
            "recovery_rate_7d",
            "downgrade_retention_30d",
            "trial_conversion",
        ],
    },
    Absence {
        family: "invoice",
        owners: BOTH,
        has_come: |it| it.has_any(&["invoices"], EntityKind::Invoice),
        is_implied: |it| it.subscriptions_pay(),
        because: SUBSCRIPTIONS_PAY,
        figures: &[
            "invoices",
            "invoices_open_minor",
            "retry_queue",
            "retry_queue_minor",
            "invoices_uncollected",
            "invoices_uncollected_minor",
        ],
    },
    Absence {
        family: "payment_intent",
        owners: BOTH,
        has_come: |it| it.has_any(&["payment_intents"], EntityKind::Payment),
        is_implied: |it| it.subscriptions_pay(),
        because: SUBSCRIPTIONS_PAY,
        figures: &[
            "payment_intents",
            "payment_attempts",
            "payment_failure_ratio_24h",
            "payment_volume_minor_30d",
            "payment_volume_minor_previous_30d",
        ],
    },
    Absence {
        family: "payout",
        owners: &[Owner::Connected],
        has_come: |it| it.has_any(&["payouts", "payout_reversals"], EntityKind::Payout),
        is_implied: |it| it.accounts_took_payments(),
        because: "connected accounts took payments more than a month ago",
        figures: &[
            "payouts",
            "payout_failure_ratio_24h",
            "payout_volume_minor_30d",
            "payout_volume_minor_previous_30d",
            "payout_reversals",
            "payout_reversed_minor_30d",
        ],
    },
    Absence {
        family: "account",
        owners: &[Owner::Connected],
        has_come: |it| it.accounts_said_something(),
        is_implied: |it| it.accounts_did_something(),
        because: "other events of connected accounts have come for more than a month",
        figures: &[
            "accounts",
            "accounts_by_standing",
            "accounts_charging",
            "funnel",
            "onboarding_started_24h",
            "onboarding_completed_24h",
            "onboarding_conversion_7d",
            "onboarding_seconds",
            "onboarding_mean_seconds_7d",
        ],
    },
];

/// What is known of one realm.
struct Evidence<'a> {
    counters: &'a Counters,
    /// Connected accounts themselves count here.
    platform: Figures<'a>,
    connected: Figures<'a>,
    owner: Owner,
    now_hour: u32,
}

/// The families that never came of any realm.
pub fn of_all_realms(counters: &Counters, now_s: i64) -> Vec<NotSent> {
    let realms = counters.realms().into_iter();
    realms
        .flat_map(|realm| of_realm(counters, &realm, now_s))
        .collect()
}

/// The names of all families that may be found so in the main realm.
pub fn names() -> Vec<String> {
    let owners =
        |absence: &'static Absence| absence.owners.iter().map(move |owner| (absence, owner));
    let named = ABSENCES.iter().flat_map(owners);
    named
        .map(|(absence, owner)| NotSent::of(absence, *owner, &Realm::default()).to_string())
        .collect()
}

/// The families that never came of one realm.
pub(super) fn of_realm(counters: &Counters, realm: &Realm, now_s: i64) -> Vec<NotSent> {
    let of = |owner| counters.of(&Scope::of(realm.clone(), owner));
    let mut evidence = Evidence {
        counters,
        platform: of(Owner::Platform),
        connected: of(Owner::Connected),
        owner: Owner::Platform,
        now_hour: hour_of(now_s),
    };
    let mut found = Vec::new();
    for absence in &ABSENCES {
        for owner in absence.owners {
            evidence.owner = *owner;
            let is_found = evidence.judge(absence);
            found.extend(is_found.then(|| NotSent::of(absence, *owner, realm)));
        }
    }
    found
}

impl NotSent {
    fn of(absence: &Absence, owner: Owner, realm: &Realm) -> Self {
        let family = EventFamily::named(absence.family);
        Self {
            types: family.map_or_else(String::new, EventFamily::types),
            realm: realm.clone(),
            owner,
            because: absence.because,
            figures: absence.figures,
        }
    }

    /// What is unknown, why, and what to do.
    pub fn sentence(&self) -> String {
        let whose = match self.owner {
            Owner::Platform => "",
            Owner::Connected => " of connected accounts",
        };
        format!(
            "no {types} event{whose} has ever come, although {because}. Unknown, not zero: {figures}. Add {types} to the \
             endpoint at Stripe that gets events{of}, unless it has them",
            types = self.types,
            because = self.because,
            figures = self.figures.join(", "),
            of = match self.owner {
                Owner::Platform => " of your own account",
                Owner::Connected => whose,
            },
        )
    }
}

/// The name of an alert about it, for instance `invoice.* of connected accounts in realm kernel`.
impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.types)?;
        if self.owner == Owner::Connected {
            f.write_str(" of connected accounts")?;
        }
        if !self.realm.is_main() {
            write!(f, " in realm {}", self.realm)?;
        }
        Ok(())
    }
}

impl<'a> Evidence<'a> {
    /// The cheap questions come first: most often the family has come.
    fn judge(&self, absence: &Absence) -> bool {
        !(absence.has_come)(self) && (absence.is_implied)(self) && self.received_before(WAIT_HOURS)
    }

    fn own(&self) -> &Figures<'a> {
        match self.owner {
            Owner::Platform => &self.platform,
            Owner::Connected => &self.connected,
        }
    }

    /// Whether an object of this kind is known, or was named by a thin event.
    fn has_any(&self, families: &[&'static str], kind: EntityKind) -> bool {
        let is_there = |family: &&'static str| has_counter(self.own(), family);
        families.iter().any(is_there)
            || self
                .own()
                .get(Bucket::Current, &[NEEDING_FETCH, kind.plural()])
                > 0
    }

    /// A subscription began to pay more than a day ago. Of those that paid before their first event, one that is
    /// billed monthly has had an invoice after a month. A first invoice may come as late, with a fixed billing
    /// date and no proration: see <https://docs.stripe.com/billing/subscriptions/billing-cycle>.
    fn subscriptions_pay(&self) -> bool {
        let begun = over(self.own(), &self.before(WAIT_HOURS), &["churn", "gained"]);
        let paying = |it: &Figures<'_>| it.get(Bucket::Current, &["base", "paying"]);
        let since = over(
            self.own(),
            &self.since(LONG_WAIT_HOURS),
            &["base", "paying"],
        );
        begun > 0 || paying(self.own()) > since.max(0) && self.received_before(LONG_WAIT_HOURS)
    }

    /// Accounts with automatic payouts are paid out every month at least.
    fn accounts_took_payments(&self) -> bool {
        // Not what the application says: those payments need not be Stripe's.
        let paid = self.platform.get(Bucket::Current, &["took_payment"]);
        let since = self.since(LONG_WAIT_HOURS);
        paid > over(&self.platform, &since, &["took_payment"])
            && self.received_before(LONG_WAIT_HOURS)
    }

    /// An account of which only other events came has no standing, unless it was disconnected.
    fn accounts_said_something(&self) -> bool {
        let is_stale = self.platform.get(Bucket::Current, &["accounts_stale"]) > 0;
        let mut standings = self.platform.under(Bucket::Current, "standing");
        is_stale || standings.any(|(rest, _)| ![UNKNOWN, "disconnected"].contains(&rest[0]))
    }

    /// An account that does not change has no `account.updated`; in a month of activity, some account does.
    fn accounts_did_something(&self) -> bool {
        let families = ["subscriptions", "invoices", "payment_intents", "payouts"];
        let is_there = |family: &&'static str| has_counter(&self.connected, family);
        families.iter().any(is_there) && self.received_before(LONG_WAIT_HOURS)
    }

    /// Whether webhooks came so long ago: before, nothing could.
    fn received_before(&self, hours: u32) -> bool {
        let mut hours = self.before(hours);
        hours.any(|hour| {
            self.counters
                .get(Bucket::Hour(hour), &["events", "received"])
                > 0
        })
    }

    fn before(&self, hours: u32) -> std::ops::RangeInclusive<u32> {
        let last = self.now_hour.saturating_sub(hours.saturating_add(1));
        self.now_hour.saturating_sub(HOURS_READ)..=last
    }

    fn since(&self, hours: u32) -> std::ops::RangeInclusive<u32> {
        self.now_hour.saturating_sub(hours)..=self.now_hour
    }
}

fn has_counter(figures: &Figures<'_>, family: &'static str) -> bool {
    figures.under(Bucket::Current, family).next().is_some()
}

fn owner_name<S: serde::Serializer>(owner: &Owner, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(owner.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::class::Class;
    use crate::counters::Tally;
    use crate::kpi::Kpis;

    const NOW_S: i64 = 100 * 86_400;

    fn ago(days: i64) -> Bucket {
        Bucket::hour_of(NOW_S - days * 86_400)
    }

    /// Counters of one class, of a store that has received webhooks for so many days.
    fn store(owner: Owner, days: i64, counts: &[(Bucket, &str, i64)]) -> Counters {
        let realm = Realm::main();
        let mut tally = Tally::of(Class { realm, owner });
        for (bucket, name, n) in counts {
            tally.add(*bucket, &name.split('|').collect::<Vec<_>>(), *n);
        }
        let mut counters = Counters::from(&tally);
        counters.add(ago(days), &["events", "received"], 1);
        counters
    }

    fn names(counters: &Counters) -> Vec<String> {
        let found = of_all_realms(counters, NOW_S);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn invoices_and_payments_are_missing_once_subscriptions_have_paid_for_a_day() {
        let current = Bucket::Current;
        let active = (current, "subscriptions|active|pro", 1);
        let missing = ["invoice.*", "payment_intent.*"];
        let none: [&str; 0] = [];
        let of = |days, counts: &[(Bucket, &str, i64)]| {
            let all = [&[active], counts].concat();
            names(&store(Owner::Platform, days, &all))
        };
        assert_eq!(of(3, &[(ago(2), "churn|gained", 1)]), missing);
        assert_eq!(
            of(3, &[(ago(0), "churn|gained", 1)]),
            none,
            "may still come"
        );
        let paying = (current, "base|paying", 1);
        assert_eq!(of(32, &[paying]), missing, "paid before the first event");
        assert_eq!(of(30, &[paying]), none, "may be billed monthly");
        assert_eq!(of(32, &[paying, (ago(5), "base|paying", 1)]), none);
        // The store is a new one, and what it shows is a backfill's.
        assert_eq!(of(0, &[(ago(2), "churn|gained", 1)]), none);
        let seen = [
            (ago(2), "churn|gained", 1),
            (current, "invoices|paid", 1),
            (current, "objects_needing_fetch|payment_intents", 1),
        ];
        assert_eq!(of(3, &seen), none, "one of each came, or was named");
        let connected = [active, (ago(2), "churn|gained", 1)];
        let connected = names(&store(Owner::Connected, 3, &connected));
        let expected = missing.map(|types| format!("{types} of connected accounts"));
        assert_eq!(connected, expected);
    }

    #[test]
    fn subscriptions_are_missing_if_invoices_bill_them() {
        let invoices = (Bucket::Current, "invoices|paid", 2);
        let of = |counts: &[_]| names(&store(Owner::Platform, 3, &[&[invoices], counts].concat()));
        let bills = (Bucket::Current, INVOICES_OF_SUBSCRIPTIONS, 1);
        assert_eq!(of(&[]), [""; 0], "one may bill without subscriptions");
        assert_eq!(of(&[bills]), ["customer.subscription.*"]);
        let known = (Bucket::Current, "subscriptions|active|pro", 1);
        assert_eq!(of(&[bills, known]), [""; 0]);
    }

    #[test]
    fn payouts_and_accounts_are_missing_after_a_month_of_activity() {
        let current = Bucket::Current;
        let took = [
            (current, "standing|active", 1),
            (current, "took_payment", 2),
        ];
        let took_since = [&took[..], &[(ago(3), "took_payment", 2)]].concat();
        let payouts = |days, counts: &[_]| names(&store(Owner::Platform, days, counts));
        assert_eq!(payouts(40, &took), ["payout.* of connected accounts"]);
        assert_eq!(payouts(40, &took_since), [""; 0]);
        assert_eq!(payouts(20, &took), [""; 0]);
        let paid = [(current, "payouts|paid|usd", 1)];
        let accounts = |days| names(&store(Owner::Connected, days, &paid));
        assert_eq!(accounts(40), ["account.updated of connected accounts"]);
        assert_eq!(accounts(20), [""; 0]);
        let mut known = store(Owner::Connected, 40, &paid);
        known.add(current, &["standing", "active"], 1);
        assert_eq!(names(&known), [""; 0]);
    }

    #[test]
    fn figures_of_what_is_not_sent_are_null_with_the_reason() {
        let counts = [
            (Bucket::Current, "subscriptions|active|pro", 1),
            (ago(2), "churn|gained", 1),
        ];
        let kpis = Kpis::compute(&store(Owner::Platform, 3, &counts), NOW_S);
        let shown = kpis.json();
        assert_eq!(
            [&shown["retry_queue"], &shown["invoices"]],
            [&Value::Null; 2]
        );
        assert_eq!(shown["connected"]["retry_queue"], json!(0));
        assert_eq!(shown["events_not_sent"][0]["types"], "invoice.*");
        assert_eq!(shown["subscriptions"], json!({"active": 1}));
        assert!(kpis.main.is_unknown("payment_attempts") && !kpis.main.is_unknown("mrr_minor"));
        let of_connected = Kpis::compute(&store(Owner::Connected, 3, &counts), NOW_S).json();
        assert_eq!(of_connected["connected"]["invoices"], Value::Null);
        assert_eq!(of_connected["retry_queue"], json!(0));
        let sentence = kpis.main.events_not_sent[0].sentence();
        assert!(
            sentence.starts_with("no invoice.* event has ever come"),
            "{sentence}"
        );
    }

    /// A name that `metrics` does not have would hide nothing.
    #[test]
    fn every_figure_is_one_of_its_owner() {
        let shown = serde_json::to_value(Kpis::default()).expect("JSON");
        for absence in &ABSENCES {
            assert!(EventFamily::named(absence.family).is_some());
            for figure in absence.figures {
                assert!(shown.get(figure).is_some(), "{figure}");
                let in_both = absence.owners.len() == 2;
                assert_eq!(
                    shown["connected"].get(figure).is_some(),
                    in_both,
                    "{figure}"
                );
            }
        }
    }
}
