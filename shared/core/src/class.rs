//! Whose money a number is: the class of a counter is a realm and an owner, never an account.

use std::fmt;

use crate::realm::Realm;

/// Who owns an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The platform itself.
    #[default]
    Platform,
    /// One of its connected accounts.
    Connected,
}

/// Whose an object is. Counters have it in their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class<'a> {
    /// Which of the platform's own Stripe accounts it came from.
    pub realm: &'a Realm,
    /// Who owns it there.
    pub owner: Owner,
}

/// The classes that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `None`: all.
    pub realm: Option<Realm>,
    /// `None`: both.
    pub owner: Option<Owner>,
}

impl Owner {
    /// The owner of an object that belongs to this connected account, if it belongs to one.
    pub fn of(account: Option<&str>) -> Self {
        account.map_or(Self::Platform, |_| Self::Connected)
    }

    /// The name in settings, rules and exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Connected => "connected",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> Class<'a> {
    /// Of an object. One of which the realm is unknown counts for the main one, as it did when it was
    /// stored.
    pub fn of(realm: Option<&'a Realm>, owner: Owner) -> Self {
        let realm = realm.unwrap_or(Realm::main());
        Self { realm, owner }
    }
}

impl Class<'_> {
    /// What the names of its counters begin with: nothing for the platform's own in the main realm,
    /// else for instance `main/connected:`.
    pub fn prefix(self) -> String {
        if self.realm.is_main() && self.owner == Owner::Platform {
            return String::new();
        }
        format!("{}/{}:", self.realm, self.owner)
    }

    /// The prefix of a counter's name, as [`Class::prefix`] has it.
    pub(crate) fn prefix_of(name: &str) -> &str {
        let family = name.split('|').next().unwrap_or(name);
        family.find(':').map_or("", |end| &name[..=end])
    }

    /// The realm and the owner that a prefix names.
    pub(crate) fn parse(prefix: &str) -> Option<(Realm, Owner)> {
        if prefix.is_empty() {
            return Some((Realm::MAIN, Owner::Platform));
        }
        let (realm, owner) = prefix.strip_suffix(':')?.split_once('/')?;
        let owners = [Owner::Platform, Owner::Connected];
        let owner = owners.into_iter().find(|known| known.as_str() == owner)?;
        Some((Realm::named(realm).ok()?, owner))
    }
}

impl Scope {
    /// The platform's own in the main realm.
    pub const PLATFORM: Self = Self::of(Realm::MAIN, Owner::Platform);

    /// The connected accounts' in the main realm.
    pub const CONNECTED: Self = Self::of(Realm::MAIN, Owner::Connected);

    /// One class.
    pub const fn of(realm: Realm, owner: Owner) -> Self {
        Self {
            realm: Some(realm),
            owner: Some(owner),
        }
    }

    /// Whether a class belongs to it.
    pub fn includes(&self, class: Class<'_>) -> bool {
        let is_realm = self.realm.as_ref().is_none_or(|realm| realm == class.realm);
        is_realm && self.owner.is_none_or(|owner| owner == class.owner)
    }

    /// The only class that belongs to it, if it is one.
    pub(crate) fn only(&self) -> Option<Class<'_>> {
        Some(Class {
            realm: self.realm.as_ref()?,
            owner: self.owner?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_its_class_and_the_platforms_has_none() {
        let kernel = Realm::named("kernel").expect("a name");
        for (realm, owner, expected) in [
            (Realm::main(), Owner::Platform, ""),
            (Realm::main(), Owner::Connected, "main/connected:"),
            (&kernel, Owner::Platform, "kernel/platform:"),
            (&kernel, Owner::Connected, "kernel/connected:"),
        ] {
            let prefix = Class { realm, owner }.prefix();
            assert_eq!(prefix, expected);
            assert_eq!(Class::parse(&prefix), Some((realm.clone(), owner)));
            // A plan's name may contain what separates a prefix.
            let name = format!("{prefix}subscriptions|active|a/b:c");
            assert_eq!(Class::prefix_of(&name), prefix);
        }
        assert_eq!(Class::parse("main/other:"), None);
    }

    #[test]
    fn a_scope_includes_its_realm_and_its_owner() {
        let kernel = Realm::named("kernel").expect("a name");
        let class = |realm, owner| Class { realm, owner };
        let connected = class(Realm::main(), Owner::Connected);
        let of_kernel = class(&kernel, Owner::Platform);
        assert!(Scope::CONNECTED.includes(connected) && !Scope::CONNECTED.includes(of_kernel));
        assert!(!Scope::PLATFORM.includes(connected) && !Scope::PLATFORM.includes(of_kernel));
        let (realm, owner) = (None, Some(Owner::Platform));
        let scope = Scope { realm, owner };
        assert!(scope.includes(of_kernel) && !scope.includes(connected));
        let (realm, owner) = (None, None);
        let scope = Scope { realm, owner };
        assert!(scope.includes(of_kernel) && scope.includes(connected));
    }
}
