//! Realms: which of the platform's own Stripe accounts an object is of. Each has endpoints of its own,
//! and nothing else names it: bodies do not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// One of the platform's own Stripe accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Realm(
    /// Empty for [`Realm::MAIN`], which nearly everything is of: it takes one byte where it is stored.
    String,
);

/// The realms of endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Realms(BTreeMap<String, RealmsOfEndpoint>);

/// The realm of the events that come to one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RealmsOfEndpoint {
    /// Of all; of an organisation's endpoint: of the events that name no account.
    pub realm: Realm,
    /// The accounts of an organisation whose endpoint it is. Events of an account that is not among them are
    /// of [`Realm::unknown`].
    pub own_accounts: BTreeMap<String, Realm>,
}

/// Why a text is not the name of a realm.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be 1 to 32 lower-case letters, digits, `-` and `_`, and not `{ANY}`, but is {0:?}")]
pub struct RealmNameError(String);

/// The name of the realm of endpoints that do not name theirs.
const MAIN: &str = "main";

/// The realm of an account that an organisation's endpoint does not know.
const UNKNOWN: &str = "unknown";

/// The name of [`Realm::kernel`].
pub const KERNEL: &str = "kernel";

/// Where a realm is chosen, all of them: not the name of one.
pub const ANY: &str = "any";

/// The most characters that a name has.
const MAX_CHARACTERS: usize = 32;

impl Realm {
    /// The realm of endpoints that do not name theirs.
    pub const MAIN: Self = Self(String::new());

    /// [`Realm::MAIN`], as something to refer to.
    pub fn main() -> &'static Self {
        static MAIN: Realm = Realm::MAIN;
        &MAIN
    }

    /// The realm of an account that an organisation's endpoint does not know.
    pub fn unknown() -> &'static Self {
        static REALM: LazyLock<Realm> = LazyLock::new(|| Realm(UNKNOWN.to_owned()));
        &REALM
    }

    /// The realm of the kernel's billing.
    pub fn kernel() -> Self {
        Self(KERNEL.to_owned())
    }

    /// The realm of this name.
    pub fn named(name: &str) -> Result<Self, RealmNameError> {
        let is_plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let has_length = (1..=MAX_CHARACTERS).contains(&name.len());
        if !has_length || !name.chars().all(is_plain) || name == ANY {
            return Err(RealmNameError(name.chars().take(64).collect()));
        }
        Ok(if name == MAIN {
            Self::MAIN
        } else {
            Self(name.to_owned())
        })
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        if self.is_main() { MAIN } else { &self.0 }
    }

    /// Whether it is that of endpoints that do not name theirs.
    pub fn is_main(&self) -> bool {
        self.0.is_empty()
    }
}

impl RealmsOfEndpoint {
    /// Every realm of what comes to it, but the unknown one.
    pub fn all(&self) -> impl Iterator<Item = &Realm> {
        std::iter::once(&self.realm).chain(self.own_accounts.values())
    }

    /// Takes over further accounts of an organisation: until now, theirs was the unknown realm. The first ones
    /// change the realm of all others, so they are not taken over.
    fn add_accounts(&mut self, new: &Self) {
        if !self.own_accounts.is_empty() {
            for (account, realm) in &new.own_accounts {
                let known = self.own_accounts.entry(account.clone());
                known.or_insert_with(|| realm.clone());
            }
        }
    }
}

impl From<Realm> for RealmsOfEndpoint {
    fn from(realm: Realm) -> Self {
        Self {
            realm,
            ..Self::default()
        }
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Realms {
    /// `endpoints` are all of them. A later one replaces an earlier one of the same name.
    pub fn new(endpoints: impl IntoIterator<Item = (String, RealmsOfEndpoint)>) -> Self {
        Self(endpoints.into_iter().collect())
    }

    /// The realm of what comes to an endpoint. `own_account` is [`crate::event::Event::own_account`].
    pub fn of(&self, endpoint: &str, own_account: Option<&str>) -> &Realm {
        let Some(of_endpoint) = self.0.get(endpoint) else {
            return Realm::main();
        };
        match own_account.filter(|_| !of_endpoint.own_accounts.is_empty()) {
            Some(account) => of_endpoint
                .own_accounts
                .get(account)
                .unwrap_or(Realm::unknown()),
            None => &of_endpoint.realm,
        }
    }

    /// The realm of an account that is one of the platform's own, as an organisation's endpoint has it.
    pub fn of_own_account(&self, account: &str) -> Option<&Realm> {
        let mut endpoints = self.0.values();
        endpoints.find_map(|endpoint| endpoint.own_accounts.get(account))
    }

    /// Whether all that comes to an endpoint is of the main realm.
    pub fn is_main_only(&self, endpoint: &str) -> bool {
        self.0.get(endpoint).is_none_or(|of_endpoint| {
            of_endpoint.realm.is_main() && of_endpoint.own_accounts.is_empty()
        })
    }

    /// Takes over new endpoints, and new accounts of known ones. Returns the endpoints whose realm, or that of a
    /// known account, is another one in `new`: they keep theirs, which the stored objects have.
    pub fn add(&mut self, new: Self) -> Vec<String> {
        let mut changed = Vec::new();
        for (endpoint, realms) in new.0 {
            let known = self.0.entry(endpoint.clone());
            let known = known.or_insert_with(|| realms.clone());
            known.add_accounts(&realms);
            if *known != realms {
                changed.push(endpoint);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_has_a_short_plain_name() {
        assert_eq!(Realm::named("main"), Ok(Realm::MAIN));
        let kernel = Realm::named("kernel").expect("a name");
        assert_eq!((kernel.as_str(), kernel.is_main()), ("kernel", false));
        for name in ["", "any", "Kernel", "a/b", "a:b", "a|b", &"a".repeat(33)] {
            let error = Realm::named(name).expect_err(name);
            assert!(error.to_string().contains("lower-case letters"), "{error}");
        }
    }

    #[test]
    fn an_endpoint_without_a_realm_is_of_the_main_one() {
        let realm = |name| Realm::named(name).expect("a name");
        let of = |name: &str, of| (name.to_owned(), realm(of).into());
        let realms = Realms::new([of("kernel", "kernel"), of("eu", "eu")]);
        assert_eq!(realms.of("kernel", None), &realm("kernel"));
        assert_eq!(realms.of("kernel", Some("acct_1")), &realm("kernel"));
        assert_eq!(realms.of("stripe", None), Realm::main());
        assert!(realms.is_main_only("stripe") && !realms.is_main_only("kernel"));
        let mut reloaded = realms;
        let new = Realms::new([of("kernel", "main"), of("us", "us")]);
        assert_eq!(reloaded.add(new), ["kernel"]);
        let expected = [of("kernel", "kernel"), of("eu", "eu"), of("us", "us")];
        assert_eq!(reloaded, Realms::new(expected));
    }

    #[test]
    fn an_organisations_endpoint_has_a_realm_for_each_of_its_accounts() {
        let realm = |name| Realm::named(name).expect("a name");
        let accounts = [("acct_1", "main"), ("acct_2", "eu")];
        let accounts = accounts.map(|(id, name)| (id.to_owned(), realm(name)));
        let of_organisation = RealmsOfEndpoint {
            realm: Realm::MAIN,
            own_accounts: accounts.into(),
        };
        let realms = Realms::new([("org".to_owned(), of_organisation)]);
        assert!(!realms.is_main_only("org"));
        for (own_account, expected) in [
            (Some("acct_1"), "main"),
            (Some("acct_2"), "eu"),
            (Some("acct_3"), "unknown"),
            (None, "main"),
        ] {
            assert_eq!(realms.of("org", own_account).as_str(), expected);
        }
        assert_eq!(realms.of("stripe", Some("acct_3")), Realm::main());
        assert_eq!(realms.of_own_account("acct_2"), Some(&realm("eu")));
        assert_eq!(realms.of_own_account("acct_3"), None);
    }

    #[test]
    fn a_further_account_of_an_organisation_is_taken_over_and_a_changed_one_is_not() {
        let realm = |name: &str| Realm::named(name).expect("a name");
        let of = |accounts: &[(&str, &str)]| {
            let accounts = accounts
                .iter()
                .map(|(id, name)| ((*id).to_owned(), realm(name)));
            let of_endpoint = RealmsOfEndpoint {
                realm: Realm::MAIN,
                own_accounts: accounts.collect(),
            };
            Realms::new([("org".to_owned(), of_endpoint)])
        };
        let mut realms = of(&[("acct_1", "eu")]);
        assert_eq!(
            realms.add(of(&[("acct_1", "eu"), ("acct_2", "us")])),
            [""; 0]
        );
        assert_eq!(realms.of("org", Some("acct_2")), &realm("us"));
        assert_eq!(
            realms.add(of(&[("acct_1", "us"), ("acct_2", "us")])),
            ["org"]
        );
        assert_eq!(realms.of("org", Some("acct_1")), &realm("eu"));
        let mut without = of(&[]);
        assert_eq!(without.add(of(&[("acct_1", "eu")])), ["org"]);
        assert_eq!(without.of("org", Some("acct_2")), Realm::main());
    }
}
