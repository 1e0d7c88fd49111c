//! Which alerts are members of which group, which group takes more of them, and which alerts wait to be delivered
//! one by one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use revwatch_core::money::decimals;

use crate::alert::{Alert, Member};

/// Rule and route: alerts are grouped within these.
pub(super) type Place = (String, String);

/// Which alerts are members of which group, which group takes more of them, and which alerts wait to be delivered
/// one by one.
#[derive(Default)]
pub(super) struct Groups {
    /// By group.
    members: HashMap<String, BTreeSet<String>>,
    /// The group that still takes members.
    open: HashMap<Place, String>,
    /// Alerts that are delivered one by one and of which no attempt has begun.
    waiting: HashMap<Place, BTreeSet<String>>,
    /// Groups that were found without an open member: they resolve with the next tick.
    empty: Vec<String>,
}

/// How many members a group names.
const MAX_NAMED_MEMBERS: usize = 10;

impl Groups {
    pub fn add_member(&mut self, group_id: &str, id: &str) {
        let members = self.members.entry(group_id.to_owned()).or_default();
        members.insert(id.to_owned());
    }

    pub fn members(&self, group_id: &str) -> impl Iterator<Item = &String> {
        self.members.get(group_id).into_iter().flatten()
    }

    pub fn is_group(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    pub fn remove_member(&mut self, group_id: &str, id: &str) {
        if let Some(members) = self.members.get_mut(group_id) {
            members.remove(id);
        }
    }

    /// Forgets a group; its members are members no longer.
    pub fn disband(&mut self, group_id: &str) {
        self.members.remove(group_id);
    }

    /// Forgets an alert, which may be a group or the member of one.
    pub fn forget(&mut self, alert: &Alert) {
        self.members.remove(&alert.id);
        let group = alert.part_of.as_ref();
        if let Some(members) = group.and_then(|group_id| self.members.get_mut(group_id)) {
            members.remove(&alert.id);
        }
    }

    /// The group that takes members at a place, if it may still be joined.
    pub fn open_at(&self, place: &Place) -> Option<&String> {
        self.open.get(place)
    }

    pub fn open(&mut self, place: Place, group_id: &str) {
        self.open.insert(place, group_id.to_owned());
    }

    /// The group at a place takes no more members.
    pub fn close(&mut self, place: &Place) {
        self.open.remove(place);
    }

    /// An alert waits to be delivered on its own; returns how many do at its place.
    pub fn wait(&mut self, alert: &Alert) -> usize {
        let waiting = self.waiting.entry(place(alert)).or_default();
        waiting.insert(alert.id.clone());
        waiting.len()
    }

    /// An alert is not to become the member of a group.
    pub fn stop_waiting(&mut self, alert: &Alert) {
        if let Some(waiting) = self.waiting.get_mut(&place(alert)) {
            waiting.remove(&alert.id);
        }
    }

    /// All alerts that wait at a place: they wait no longer.
    pub fn take_waiting(&mut self, place: &Place) -> BTreeSet<String> {
        self.waiting.remove(place).unwrap_or_default()
    }

    pub fn note_empty(&mut self, group_id: String) {
        self.empty.push(group_id);
    }

    pub fn take_empty(&mut self) -> Vec<String> {
        std::mem::take(&mut self.empty)
    }
}

pub(super) fn place(alert: &Alert) -> Place {
    (alert.rule.clone(), alert.route.clone())
}

/// What a group says of a member that it names.
pub(super) fn member(alert: &Alert) -> Member {
    Member {
        alert_id: alert.id.clone(),
        subject: alert.subject.clone(),
        account: alert.evidence.account.clone(),
        money: alert.evidence.money.first().cloned(),
        money_doubt: alert.evidence.money_doubt.clone(),
        rule: alert.rule.clone(),
    }
}

/// Largest first, for readers only: amounts of different currencies cannot be compared, their digits can.
pub(super) fn keep_largest(members: &mut Vec<Member>) {
    let size = |member: &Member| {
        member.money.as_ref().map(|m| {
            let places = u32::try_from(3 - decimals(&m.currency).min(3)).unwrap_or(0);
            i128::from(m.minor) * 10_i128.pow(places)
        })
    };
    members.sort_by(|a, b| {
        Reverse(size(a))
            .cmp(&Reverse(size(b)))
            .then_with(|| a.alert_id.cmp(&b.alert_id))
    });
    members.truncate(MAX_NAMED_MEMBERS);
}

#[cfg(test)]
mod tests {
    use revwatch_core::money::Money;

    use super::super::tests::rules;
    use super::*;
    use crate::alert::{Evidence, Subject};

    fn alert(id: &str) -> Alert {
        let alert = Alert::fire(&rules()[0], &Subject::Business, 0, 0, Evidence::default());
        Alert {
            id: id.into(),
            ..alert
        }
    }

    #[test]
    fn alerts_wait_at_their_place_until_they_are_taken_together() {
        let mut groups = Groups::default();
        let (a, b) = (alert("al_a"), alert("al_b"));
        let elsewhere = Alert {
            route: "elsewhere".into(),
            ..alert("al_c")
        };
        assert_eq!([&a, &b, &b].map(|alert| groups.wait(alert)), [1, 2, 2]);
        assert_eq!(groups.wait(&elsewhere), 1);
        groups.stop_waiting(&a);
        assert_eq!(
            groups.take_waiting(&place(&a)),
            BTreeSet::from(["al_b".into()])
        );
        assert!(groups.take_waiting(&place(&a)).is_empty());
    }

    #[test]
    fn a_group_is_one_until_it_is_forgotten_also_without_members() {
        let mut groups = Groups::default();
        groups.add_member("al_group", "al_a");
        let member = Alert {
            part_of: Some("al_group".into()),
            ..alert("al_a")
        };
        groups.forget(&member);
        assert_eq!(groups.members("al_group").count(), 0);
        assert!(groups.is_group("al_group"));
        groups.forget(&alert("al_group"));
        assert!(!groups.is_group("al_group"));
    }

    #[test]
    fn the_largest_members_are_named_whatever_their_currency() {
        let of = |id: &str, minor, currency| Member {
            money: Some(Money::new(minor, currency)),
            ..member(&alert(id))
        };
        // 5.00 USD, 6 JPY, 0.007 KWD; one without money comes last.
        let mut members = vec![of("a", 500, "usd"), of("b", 6, "jpy"), of("c", 7, "kwd")];
        members.push(member(&alert("d")));
        members.extend((0..9).map(|n| member(&alert(&format!("e{n}")))));
        keep_largest(&mut members);
        let ids: Vec<_> = members.iter().map(|m| m.alert_id.as_str()).collect();
        assert_eq!(ids[..5], ["b", "a", "c", "d", "e0"]);
        assert_eq!(ids.len(), MAX_NAMED_MEMBERS);
    }
}
