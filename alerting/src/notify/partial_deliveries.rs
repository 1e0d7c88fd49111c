//! Remembers which recipients have received a message that others have not: a message with several
//! recipients is sent to each of them, and a failure for one must not cause a second delivery to
//! the others.
//!
//! In memory: a reload keeps it, a crash or another leader does not. Text messages are then searched for. Mails cannot
//! be searched for: all recipients get the mail again, marked as a possible duplicate.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Outcome;

/// Receipts by message and recipient.
#[derive(Default)]
pub struct PartialDeliveries(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    messages: BTreeMap<String, Partial>,
    /// Oldest first.
    order: VecDeque<String>,
}

/// A message that some recipients have.
#[derive(Default)]
struct Partial {
    /// By recipient.
    receipts: BTreeMap<String, String>,
    /// The others lack it: the last attempt has ended, and nothing about it is unknown.
    is_complete: bool,
}

/// Maximum number of messages remembered; the oldest are dropped first. Messages that all
/// recipients have are not kept.
const MAX_MESSAGES: usize = 1000;

impl PartialDeliveries {
    /// An attempt begins: until it ends, it is unknown who else has `message`.
    pub fn begin(&self, message: &str) {
        if let Some(partial) = self.memory().messages.get_mut(message) {
            partial.is_complete = false;
        }
    }

    /// The attempt has ended.
    pub fn end(&self, message: &str, outcome: &Outcome) {
        if let Some(partial) = self.memory().messages.get_mut(message) {
            partial.is_complete = !matches!(outcome, Outcome::Unknown { .. });
        }
    }

    /// Whether some recipients have `message` and others may lack it.
    pub fn is_partly_delivered(&self, message: &str) -> bool {
        self.memory().messages.contains_key(message)
    }

    /// Whether it is known who has `message` and who lacks it.
    pub fn is_complete(&self, message: &str) -> bool {
        let memory = self.memory();
        let partial = memory.messages.get(message);
        partial.is_some_and(|partial| partial.is_complete)
    }

    /// Records that `recipient` has received `message`.
    pub fn remember(&self, message: &str, recipient: &str, receipt: String) {
        let mut memory = self.memory();
        if !memory.messages.contains_key(message) {
            memory.order.push_back(message.to_owned());
            if memory.order.len() > MAX_MESSAGES
                && let Some(oldest) = memory.order.pop_front()
            {
                memory.messages.remove(&oldest);
            }
        }
        let partial = memory.messages.entry(message.to_owned()).or_default();
        partial.receipts.insert(recipient.to_owned(), receipt);
    }

    /// The receipts of the recipients who have `message`.
    pub fn receipts(&self, message: &str) -> BTreeMap<String, String> {
        let memory = self.memory();
        let partial = memory.messages.get(message);
        partial.map_or_else(BTreeMap::new, |partial| partial.receipts.clone())
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
        if memory.messages.remove(message).is_some() {
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
        let failed = Outcome::RetryAfter { wait_ms: 1 };
        assert!(!deliveries.is_complete("m"), "an attempt is under way");
        deliveries.end("m", &failed);
        assert!(deliveries.is_complete("m"));
        deliveries.begin("m");
        assert!(!deliveries.is_complete("m"));
        deliveries.end(
            "m",
            &Outcome::Unknown {
                reason: String::new(),
            },
        );
        assert!(!deliveries.is_complete("m") && deliveries.is_partly_delivered("m"));
        deliveries.forget("m");
        deliveries.end("m", &failed);
        assert!(!deliveries.is_complete("m") && !deliveries.is_partly_delivered("m"));
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
