//! Remembers which recipients have received a message that others have not: a message with several
//! recipients is sent to each of them, and a failure for one must not cause a second delivery to
//! the others.
//!
//! In memory: a reload keeps it, a crash or another leader does not. Text messages are then searched for, if their last
//! attempt left it unknown who has them. Mails cannot be searched for: all recipients get the mail again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Receipts by message and recipient.
#[derive(Default)]
pub struct PartialDeliveries(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    receipts: BTreeMap<String, BTreeMap<String, String>>,
    /// Oldest first.
    order: VecDeque<String>,
}

/// Maximum number of messages remembered; the oldest are dropped first. Messages that all
/// recipients have are not kept.
const MAX_MESSAGES: usize = 1000;

impl PartialDeliveries {
    /// Records that `recipient` has received `message`.
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

    /// The receipts of the recipients who have `message`.
    pub fn receipts(&self, message: &str) -> BTreeMap<String, String> {
        self.memory()
            .receipts
            .get(message)
            .cloned()
            .unwrap_or_default()
    }

    /// Continues with what `before` remembers.
    pub fn take_over(&self, before: &Self) {
        if !std::ptr::eq(self, before) {
            let memory = std::mem::take(&mut *before.memory());
            *self.memory() = memory;
        }
    }

    /// All recipients have `message`.
    pub fn forget(&self, message: &str) {
        let mut memory = self.memory();
        if memory.receipts.remove(message).is_some() {
            memory.order.retain(|known| known != message);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing panics while it is locked; if something did, the contents would still be valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_receipts_until_forgotten_and_within_its_limit() {
        let deliveries = PartialDeliveries::default();
        deliveries.remember("m", "a", "1".into());
        deliveries.remember("m", "b", "2".into());
        assert_eq!(
            deliveries.receipts("m").into_values().collect::<Vec<_>>(),
            ["1", "2"]
        );
        deliveries.forget("m");
        assert!(deliveries.receipts("m").is_empty());
        for n in 0..=MAX_MESSAGES {
            deliveries.remember(&n.to_string(), "a", String::new());
        }
        assert!(deliveries.receipts("0").is_empty());
        assert_eq!(
            (
                deliveries.receipts("1").len(),
                deliveries.memory().order.len()
            ),
            (1, MAX_MESSAGES)
        );
    }
}
