//! One attempt to deliver a message.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::engine::{Attempt, AttemptResult};
use crate::notify::{Lookup, Notifier, Outcome};

/// Makes one attempt. If an earlier one may have arrived, it searches first. A panic counts as a lost response:
/// an attempt without an outcome would block its destination.
pub(crate) async fn attempt(
    notifier: &dyn Notifier,
    job: Attempt,
    within: Duration,
) -> AttemptResult {
    let Attempt {
        alert_id,
        message_key: key,
        revision,
        message,
        unconfirmed,
        is_muted,
        may_defer,
        ..
    } = job;
    let mut possible_duplicate = false;
    let tried = async {
        if let Some((unconfirmed, tried_revision)) = &unconfirmed {
            match notifier.find(&message).await {
                // If the alert has changed since that revision, the next attempt delivers the change.
                Lookup::Found { receipt, revision } => {
                    return (
                        Outcome::Delivered { receipt },
                        revision.unwrap_or(*tried_revision),
                    );
                }
                Lookup::Absent if is_muted => return (Outcome::Withheld, revision),
                Lookup::Absent | Lookup::Repeatable => {}
                Lookup::Later { reason } if may_defer => {
                    return (Outcome::Unknown { reason }, revision);
                }
                Lookup::Later { .. } | Lookup::Inconclusive => {
                    possible_duplicate = true;
                    return (notifier.deliver(unconfirmed).await, revision);
                }
            }
        }
        (notifier.deliver(&message).await, revision)
    };
    let unknown = |reason: &str| {
        (
            Outcome::Unknown {
                reason: reason.to_owned(),
            },
            revision,
        )
    };
    let (outcome, revision) =
        match tokio::time::timeout(within, AssertUnwindSafe(tried).catch_unwind()).await {
            Ok(Ok(tried)) => tried,
            Ok(Err(_)) => unknown("the notifier panicked: a bug in revwatch"),
            Err(_) => unknown("no response in time"),
        };
    AttemptResult {
        alert_id,
        message_key: key,
        revision,
        outcome,
        possible_duplicate,
        is_partly_delivered: notifier.is_partly_delivered(&message),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::alert::{Alert, Evidence, MessageKey, NotificationState, Subject};
    use crate::engine::Origin;
    use crate::message::{Message, render};
    use crate::notify::{ATTEMPT_TIMEOUT, Capabilities};

    /// A destination that gives this when it is searched, and counts the messages that it gets.
    struct Scripted(Lookup, AtomicUsize);

    #[async_trait]
    impl Notifier for Scripted {
        fn name(&self) -> &'static str {
            "slack"
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities {
                edits: true,
                resolves: true,
            }
        }

        fn destination(&self, _route: &str) -> String {
            String::new()
        }

        fn per_second(&self) -> f64 {
            1.0
        }

        async fn deliver(&self, message: &Message) -> Outcome {
            assert_ne!(message.text, "panic", "on request");
            self.1.fetch_add(1, Ordering::SeqCst);
            Outcome::Delivered { receipt: None }
        }

        async fn find(&self, _message: &Message) -> Lookup {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn an_unconfirmed_message_is_searched_for_but_not_for_ever() {
        let rule = crate::rule_text::built_in().expect("valid").remove(0);
        let alert = Alert::fire(&rule, &Subject::Business, 0, 0, Evidence::default());
        let key = MessageKey::main("slack");
        let message = render(&alert, &key, &NotificationState::default());
        let later = || Lookup::Later {
            reason: "429".into(),
        };
        for (answer, may_defer, sent, possible_duplicate) in [
            (
                Lookup::Found {
                    receipt: None,
                    revision: None,
                },
                true,
                0,
                false,
            ),
            (Lookup::Absent, true, 1, false),
            (Lookup::Repeatable, true, 1, false),
            (Lookup::Inconclusive, true, 1, true),
            (later(), true, 0, false),
            (later(), false, 1, true),
        ] {
            let notifier = Scripted(answer.clone(), AtomicUsize::new(0));
            let job = Attempt {
                alert_id: alert.id.clone(),
                message_key: key.clone(),
                revision: 1,
                message: message.clone(),
                unconfirmed: Some((message.clone(), 1)),
                is_muted: false,
                may_defer,
                origin: Origin::default(),
            };
            let result = attempt(&notifier, job, ATTEMPT_TIMEOUT).await;
            assert_eq!(
                (notifier.1.into_inner(), result.possible_duplicate),
                (sent, possible_duplicate),
                "{answer:?}"
            );
            assert_eq!(
                matches!(result.outcome, Outcome::Unknown { .. }),
                sent == 0 && may_defer && answer == later()
            );
        }
    }
    #[tokio::test]
    async fn the_end_of_a_muted_alert_is_sent_unless_its_message_did_not_arrive() {
        let rule = crate::rule_text::built_in().expect("valid").remove(0);
        let alert = Alert::fire(&rule, &Subject::Business, 0, 0, Evidence::default());
        let key = MessageKey::main("slack");
        let message = render(&alert, &key, &NotificationState::default());
        for (answer, sent, outcome) in [
            (Lookup::Absent, 0, "withheld"),
            (Lookup::Inconclusive, 1, "delivered"),
            (Lookup::Repeatable, 1, "delivered"),
        ] {
            let notifier = Scripted(answer.clone(), AtomicUsize::new(0));
            let job = Attempt {
                alert_id: alert.id.clone(),
                message_key: key.clone(),
                revision: 1,
                message: message.clone(),
                unconfirmed: Some((message.clone(), 1)),
                is_muted: true,
                may_defer: true,
                origin: Origin::default(),
            };
            let result = attempt(&notifier, job, ATTEMPT_TIMEOUT).await;
            assert_eq!(
                (notifier.1.into_inner(), result.outcome.as_str()),
                (sent, outcome),
                "{answer:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_notifier_that_panics_leaves_an_outcome() {
        let rule = crate::rule_text::built_in().expect("valid").remove(0);
        let alert = Alert::fire(&rule, &Subject::Business, 0, 0, Evidence::default());
        let key = MessageKey::main("slack");
        let message = Message {
            text: "panic".into(),
            ..render(&alert, &key, &NotificationState::default())
        };
        let job = Attempt {
            alert_id: alert.id.clone(),
            message_key: key,
            revision: 1,
            message,
            unconfirmed: None,
            is_muted: false,
            may_defer: true,
            origin: Origin::default(),
        };
        let result = attempt(
            &Scripted(Lookup::Absent, AtomicUsize::new(0)),
            job,
            ATTEMPT_TIMEOUT,
        )
        .await;
        assert_eq!(result.alert_id, alert.id);
        assert!(
            matches!(result.outcome, Outcome::Unknown { reason } if reason.contains("panicked"))
        );
    }
}
