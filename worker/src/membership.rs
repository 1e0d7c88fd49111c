//! Which worker reads which partition: rendezvous hashing over the live workers. When a worker
//! joins or leaves, only the partitions that it gains or loses move.

use std::collections::BTreeSet;

use revwatch_core::entity::STATE_FORMAT;
use revwatch_core::event::partition_of;
use revwatch_core::mode::Mode;
#[cfg(doc)]
use revwatch_storage::ports::Publish;
use revwatch_storage::ports::WORKERS;
use uuid::Uuid;

/// The workers as one of them sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// The partitions that it reads.
    pub partitions: BTreeSet<u32>,
    /// Members whose versions have another state format.
    pub of_other_format: Vec<String>,
}

/// The workers' group in the store.
pub const GROUP: &str = WORKERS;

/// The group of the workers of one mode, for commands that apply events next to them.
pub fn group_of(mode: Mode) -> String {
    format!("workers of {mode} mode")
}

/// A worker's name: others see in it which state format its version has, and the [place](Publish::place) of its queue.
pub fn name_of(id: Uuid, place: Option<&str>) -> String {
    let queue = place.map_or_else(String::new, |place| {
        format!("{QUEUE}{:08x}", partition_of(place, u32::MAX))
    });
    format!("worker-{}{queue}-format-{STATE_FORMAT}", id.simple())
}

/// Begins the place of the queue in a worker's name.
const QUEUE: &str = "-queue-";

/// Whether a member reads another queue than the worker called `own`: two deployments have one store, and each of them
/// leaves the partitions alone that the other one's workers have.
pub fn has_other_queue(alive: &[String], own: &str) -> bool {
    let queue = |name: &str| {
        let (_, rest) = name.split_once(QUEUE)?;
        rest.split('-').next().map(str::to_owned)
    };
    let own = queue(own);
    alive
        .iter()
        .filter_map(|member| queue(member))
        .any(|other| own.as_ref().is_some_and(|own| *own != other))
}

/// The members whose versions have another state format. Those before format 2 do not name it.
pub fn of_other_format(alive: &[String]) -> Vec<String> {
    let suffix = format!("-format-{STATE_FORMAT}");
    let others = alive.iter().filter(|member| !member.ends_with(&suffix));
    others.cloned().collect()
}

/// The member that reads `partition`: the one with the greatest weight for it.
pub fn owner(alive: &[String], partition: u32) -> Option<&str> {
    let weight = |member: &str| partition_of(&format!("{member} {partition}"), u32::MAX);
    alive
        .iter()
        .max_by_key(|member| (weight(member), member.as_str()))
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(members: &[String]) -> Vec<Option<&str>> {
        (0..64).map(|p| owner(members, p)).collect()
    }

    #[test]
    fn every_partition_has_one_owner_and_shares_are_fair() {
        let members: Vec<String> = (0..4).map(|i| format!("worker-{i}")).collect();
        let owners = owners(&members);
        for member in &members {
            let share = owners.iter().filter(|o| **o == Some(member)).count();
            assert!((6..=28).contains(&share), "{member} has {share} of 64");
        }
        assert_eq!(owner(&[], 0), None);
    }

    #[test]
    fn a_member_of_another_version_is_known_by_its_name() {
        let own = name_of(Uuid::from_u128(7), Some("/"));
        let others = ["worker-1", "worker-1-format-1", "worker-1-format-29"];
        let others = others.map(str::to_owned).to_vec();
        let alive = [vec![own], others.clone()].concat();
        assert_eq!(of_other_format(&alive), others);
    }

    #[test]
    fn a_member_with_another_queue_is_known_by_its_name() {
        let name = |n: u128, place| name_of(Uuid::from_u128(n), place);
        let own = name(1, Some("/"));
        let has = |alive: &[String]| has_other_queue(alive, &own);
        assert!(!has(&[own.clone(), name(2, Some("/")), name(3, None)]));
        assert!(has(&[own.clone(), name(2, Some("staging"))]));
        // Of a version that does not name it.
        assert!(!has(&["worker-1-format-8".to_owned()]));
        let embedded = name(1, None);
        assert!(!has_other_queue(
            &[embedded.clone(), own.clone()],
            &embedded
        ));
    }

    #[test]
    fn only_the_partitions_of_a_lost_member_move() {
        let all: Vec<String> = (0..4).map(|i| format!("worker-{i}")).collect();
        let rest = &all[1..];
        for (before, after) in owners(&all).into_iter().zip(owners(rest)) {
            assert!(before == after || before == Some("worker-0"));
        }
    }
}
