//! `owner` and `realm`: whose entities or figures a rule is about. Pure.

use revwatch_core::class::{Owner, Scope};
use revwatch_core::condition::ConditionKind;
use revwatch_core::realm::{ANY, Realm};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::Fields;

/// What a condition or a metric is about, which decides whose it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Subscriptions, invoices, payments, disputes: the platform's, unless a rule says otherwise.
    Billing,
    /// Payouts and transfers: as figures the connected accounts', as single problems those of any owner.
    Payouts,
    /// Connected accounts themselves: they have a realm.
    Accounts,
    /// Objects that have to be fetched from Stripe: of any owner, in every realm.
    Unfetched,
    /// What only the user's own application says: it has a realm, and is the platform's.
    Application,
    /// Deliveries and revwatch itself: of all realms and owners together.
    Pipeline,
}

/// The value of `owner`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OwnerName {
    Platform,
    Connected,
    Any,
}

impl About {
    /// What a condition is about.
    pub fn condition(kind: ConditionKind) -> Self {
        use ConditionKind as Kind;
        match kind {
            Kind::ChargesLost
            | Kind::Deauthorized
            | Kind::AccountRestricted
            | Kind::AccountDisabled
            | Kind::PayoutsBlocked
            | Kind::ChargesBlocked
            | Kind::OnboardingIncomplete
            | Kind::RequirementsDue
            | Kind::CapabilityWaiting
            | Kind::CapabilityDisabled
            | Kind::AccountStale
            | Kind::BalanceBlocked => Self::Accounts,
            Kind::PayoutFailed | Kind::PayoutReversalFailed | Kind::TransferReversed => {
                Self::Payouts
            }
            Kind::PastDue
            | Kind::TrialEnding
            | Kind::InvoicePaymentFailed
            | Kind::DunningEscalation
            | Kind::RetriesExhausted
            | Kind::PaymentActionRequired
            | Kind::AttemptUnreported
            | Kind::PaymentFailed
            | Kind::DisputeOpen
            | Kind::DisputeEvidenceDue
            | Kind::RefundFailed
            | Kind::MrrIncomplete
            | Kind::InvoiceNeeded
            | Kind::CouponNeeded => Self::Billing,
            Kind::StateNeeded => Self::Unfetched,
            Kind::TicketUnanswered => Self::Application,
        }
    }

    /// Of a rule on a condition that has neither field: in every realm.
    pub fn condition_scope(self) -> Scope {
        let owner = match self {
            Self::Billing => Some(Owner::Platform),
            Self::Payouts
            | Self::Accounts
            | Self::Unfetched
            | Self::Application
            | Self::Pipeline => None,
        };
        Scope { realm: None, owner }
    }

    /// Of a rule on a metric that has neither field: what `revwatch metrics` shows first.
    pub fn metric_scope(self) -> Scope {
        match self {
            Self::Payouts => Scope::CONNECTED,
            Self::Unfetched => Scope {
                realm: None,
                owner: None,
            },
            Self::Billing | Self::Accounts | Self::Application | Self::Pipeline => Scope::PLATFORM,
        }
    }

    /// Why a field does not apply.
    fn refused(self, field: &str) -> Option<&'static str> {
        match (self, field) {
            (Self::Accounts, "owner") => {
                Some("all accounts are connected to the platform: leave it out")
            }
            (Self::Application, "owner") => {
                Some("what the application says is the platform's: leave it out")
            }
            (Self::Pipeline, _) => Some("deliveries are counted together: leave it out"),
            _ => None,
        }
    }
}

/// Reads `owner` and `realm`; `about` is `None` if what the rule is about has a fault.
pub(super) fn read(fields: &mut Fields<'_>, about: Option<About>, default: Scope) -> Scope {
    let owner: Option<OwnerName> = fields.optional("owner");
    let realm: Option<String> = fields.optional("realm");
    for field in ["owner", "realm"] {
        let refused = about.and_then(|about| about.refused(field));
        if let Some(why) = refused.filter(|_| fields.has(field)) {
            fields.fault(field, format!("`{field}` does not apply here: {why}"));
        }
    }
    Scope {
        owner: match owner {
            None => default.owner,
            Some(OwnerName::Any) => None,
            Some(OwnerName::Platform) => Some(Owner::Platform),
            Some(OwnerName::Connected) => Some(Owner::Connected),
        },
        realm: match realm.as_deref() {
            None => default.realm,
            Some(ANY) => None,
            Some(name) => named(fields, name).or(default.realm),
        },
    }
}

fn named(fields: &mut Fields<'_>, name: &str) -> Option<Realm> {
    let realm = Realm::named(name);
    realm
        .map_err(|error| fields.fault("realm", format!("`realm`: the name {error}")))
        .ok()
}

/// `owner` and `realm` as rule files write them; null where they do not apply.
pub(super) fn fields(scope: &Scope, about: About) -> [(&'static str, Value); 2] {
    let owner = scope.owner.map_or(ANY, Owner::as_str);
    let realm = scope.realm.as_ref().map_or(ANY, Realm::as_str);
    [("owner", owner), ("realm", realm)].map(|(field, name)| {
        let applies = about.refused(field).is_none();
        (field, json!(Some(name).filter(|_| applies)))
    })
}

/// What a description adds where a scope is not the default, for instance `, of connected accounts`.
pub(super) fn describe(scope: &Scope, default: &Scope) -> String {
    let mut text = String::new();
    if scope.owner != default.owner {
        text.push_str(match scope.owner {
            None => ", of any owner",
            Some(Owner::Platform) => ", of the platform",
            Some(Owner::Connected) => ", of connected accounts",
        });
    }
    if scope.realm != default.realm {
        match &scope.realm {
            None => text.push_str(", in every realm"),
            Some(realm) => text.push_str(&format!(", in realm {realm}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use revwatch_core::counters::{Bucket, Counters};

    use super::*;
    use crate::metric_evaluation::{Evaluation, evaluate};
    use crate::metric_value::{MetricInputs, PipelineStatus};
    use crate::rule::{Rule, RuleKind};

    fn parsed(fields: &str) -> Result<Rule, String> {
        let text = format!(
            "[[rule]]\nname = \"r\"\nseverity = \"high\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n{fields}\n"
        );
        let rules = crate::rule_text::parse(&[("f.toml".into(), text)]);
        let mut rules = rules.map_err(|error| error.to_string())?;
        Ok(rules.remove(0))
    }

    fn described(fields: &str) -> String {
        parsed(fields).expect("valid").describe()
    }

    #[test]
    fn a_rule_is_about_the_platform_unless_its_subject_is_the_connected_accounts() {
        let scope = |fields: &str| match parsed(fields).expect("valid").kind {
            RuleKind::Condition { scope, .. } => scope,
            RuleKind::Metric(metric) => metric.scope,
        };
        let condition =
            |name: &str| scope(&format!("kind = \"condition\"\ncondition = \"{name}\""));
        let gauge =
            |name: &str| scope(&format!("kind = \"gauge\"\nmetric = \"{name}\"\nabove = 1"));
        let (realm, owner) = (None, Some(Owner::Platform));
        assert_eq!(condition("past_due"), Scope { realm, owner });
        for name in ["payout_failed", "transfer_reversed", "charges_lost"] {
            let (realm, owner) = (None, None);
            assert_eq!(condition(name), Scope { realm, owner }, "{name}");
        }
        assert_eq!(gauge("retry_queue"), Scope::PLATFORM);
        let payouts =
            "kind = \"ratio\"\nmetric = \"payout_failures\"\nwindow = \"24h\"\nabove = 0.05";
        assert_eq!(scope(payouts), Scope::CONNECTED);
        let (realm, owner) = (None, None);
        assert_eq!(condition("state_needed"), Scope { realm, owner });
        let (realm, owner) = (None, None);
        assert_eq!(gauge("objects_needing_fetch"), Scope { realm, owner });
        let of_kernel =
            "kind = \"condition\"\ncondition = \"past_due\"\nowner = \"any\"\nrealm = \"kernel\"";
        let (realm, owner) = (Realm::named("kernel").ok(), None);
        assert_eq!(scope(of_kernel), Scope { realm, owner });
    }

    #[test]
    fn a_description_names_an_owner_or_a_realm_that_is_not_the_default() {
        let condition = "kind = \"condition\"\ncondition = \"past_due\"\nafter = \"7d\"";
        assert_eq!(described(condition), "past_due for 7d");
        let connected = format!("{condition}\nowner = \"connected\"\nrealm = \"eu\"");
        assert_eq!(
            described(&connected),
            "past_due for 7d, of connected accounts, in realm eu"
        );
        let all = "kind = \"gauge\"\nmetric = \"retry_queue\"\nabove = 1\nowner = \"any\"\nrealm = \"any\"";
        assert_eq!(
            described(all),
            "retry_queue above 1, of any owner, in every realm"
        );
    }

    #[test]
    fn a_wrong_owner_or_realm_is_named_and_one_that_does_not_apply() {
        let metric = |name: &str, field: &str| {
            format!("kind = \"gauge\"\nmetric = \"{name}\"\nabove = 1\n{field}")
        };
        for (fields, expected) in [
            (
                metric("retry_queue", "owner = \"mine\""),
                "f.toml:10:9: `owner` must be one of: platform, connected, any",
            ),
            (
                metric("retry_queue", "realm = \"Main\""),
                "f.toml:10:1: `realm`: the name must be 1 to 32 lower-case letters",
            ),
            (
                metric("accounts", "by = \"risk\"\nowner = \"connected\""),
                "f.toml:11:1: `owner` does not apply here: all accounts are connected",
            ),
            (
                metric("queue_depth", "realm = \"kernel\""),
                "f.toml:10:1: `realm` does not apply here: deliveries are counted together",
            ),
            (
                "kind = \"condition\"\ncondition = \"deauthorized\"\nowner = \"platform\"".into(),
                "f.toml:9:1: `owner` does not apply here: all accounts are connected",
            ),
        ] {
            let error = parsed(&fields).expect_err("faulty");
            assert!(error.contains(expected), "{error}");
        }
        let of_realm = metric("accounts", "by = \"risk\"\nrealm = \"kernel\"");
        assert!(parsed(&of_realm).is_ok(), "accounts have a realm");
    }

    /// The rule on MRR of each owner sees that owner's fall and no other.
    #[test]
    fn a_metric_is_that_of_the_owner_and_the_realm() {
        let hour = 1000;
        let is_breached = |of: &str, fields: &str| {
            let mut counters = Counters::default();
            counters.add(Bucket::Current, &["events", "applied"], 1);
            for prefix in ["", "main/connected:", "kernel/platform:"] {
                let (mrr, change) = (format!("{prefix}mrr"), format!("{prefix}mrr_change"));
                let lost = if prefix == of { 900 } else { 0 };
                counters.add(Bucket::Current, &[&mrr, "usd"], 1000 - lost);
                counters.add(Bucket::Hour(hour), &[&change, "usd"], -lost);
            }
            let fields = format!(
                "kind = \"drop\"\nmetric = \"mrr\"\nby = \"currency\"\nwindow = \"24h\"\nabove = 0.5\n{fields}"
            );
            let RuleKind::Metric(rule) = parsed(&fields).expect("valid").kind else {
                panic!("a metric");
            };
            let inputs = MetricInputs {
                begun_s: None,
                counters: &counters,
                pipeline: &PipelineStatus::default(),
                now_s: i64::from(hour) * 3600,
            };
            matches!(
                evaluate(&rule, inputs, []).get("usd"),
                Some(Evaluation::Breached { .. })
            )
        };
        let (connected, kernel) = ("owner = \"connected\"", "realm = \"kernel\"");
        for (of, fields, expected) in [
            ("", "", true),
            ("main/connected:", "", false),
            ("kernel/platform:", "", false),
            ("main/connected:", connected, true),
            ("", connected, false),
            ("kernel/platform:", kernel, true),
            ("", kernel, false),
            // Of two thousand, nine hundred.
            ("", "owner = \"any\"", false),
        ] {
            assert_eq!(is_breached(of, fields), expected, "{of:?} {fields}");
        }
    }
}
