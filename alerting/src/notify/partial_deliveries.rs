//! Who has had a message that not everybody has had: a message to several people is told to each of them,
//! and what was refused for one must not be told to the others again.
//!
//! In memory: after a crash, a notifier that can look what arrived fills it again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Receipts by message and place in the list of recipients.
#[derive(Default)]
pub struct PartialDeliveries(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    receipts: BTreeMap<String, BTreeMap<String, String>>,
    /// Oldest first.
    order: VecDeque<String>,
}

/// Messages remembered, at most; the oldest are forgotten first. Those that everybody had are not kept.
const MAX_MESSAGES: usize = 1000;

impl PartialDeliveries {
    /// `recipient` has `message`.
    pub fn remember(&self, message: &str, recipient: &str, receipt: String) {
        let mut memory = self.memory();
        if !memory.receipts.contains_key(message) {
            memory.order.push_back(message.to_owned());
            if memory.order.len() > MAX_MESSAGES
                && let Some(oldest) = memory.order.pop_front()
            {
                memory.receipts.remove(&oldest);
            }
        }
        memory
            .receipts
            .entry(message.to_owned())
            .or_default()
            .insert(recipient.to_owned(), receipt);
    }

    /// The receipts of those who have `message`, by recipient.
    pub fn of(&self, message: &str) -> BTreeMap<String, String> {
        self.memory()
            .receipts
            .get(message)
            .cloned()
            .unwrap_or_default()
    }

    /// Everybody has `message`.
    pub fn forget(&self, message: &str) {
        let mut memory = self.memory();
        if memory.receipts.remove(message).is_some() {
            memory.order.retain(|known| known != message);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing panics while it is locked; if something did, what it holds is still true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_told_to_forget_and_only_so_much() {
        let told = PartialDeliveries::default();
        told.remember("m", "a", "1".into());
        told.remember("m", "b", "2".into());
        assert_eq!(told.of("m").into_values().collect::<Vec<_>>(), ["1", "2"]);
        told.forget("m");
        assert!(told.of("m").is_empty());
        for n in 0..=MAX_MESSAGES {
            told.remember(&n.to_string(), "a", String::new());
        }
        assert!(told.of("0").is_empty());
        assert_eq!(
            (told.of("1").len(), told.memory().order.len()),
            (1, MAX_MESSAGES)
        );
    }
}
