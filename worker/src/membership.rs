//! Which worker reads which partition: rendezvous hashing over the live workers. When a worker
//! joins or leaves, only the partitions that it gains or loses move.

use revwatch_core::event::partition_of;
use revwatch_core::mode::Mode;

/// The workers' group in the store.
pub const GROUP: &str = "workers";

/// The group of the workers of one mode, for commands that apply events next to them.
pub fn group_of(mode: Mode) -> String {
    format!("workers of {mode} mode")
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
    fn only_the_partitions_of_a_lost_member_move() {
        let all: Vec<String> = (0..4).map(|i| format!("worker-{i}")).collect();
        let rest = &all[1..];
        for (before, after) in owners(&all).into_iter().zip(owners(rest)) {
            assert!(before == after || before == Some("worker-0"));
        }
    }
}
