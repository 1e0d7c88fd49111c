//! One attempt to tell somebody.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::engine::{Attempt, AttemptResult};
use crate::notify::{Lookup, Notifier, Outcome};

/// One attempt: looks first where an earlier one may have arrived. A panic ends it like an answer that was lost: without
/// an outcome its destination would be busy for good.
pub(crate) async fn attempt(
    notifier: &dyn Notifier,
    job: Attempt,
    within: Duration,
) -> AttemptResult {
    let Attempt {
        alert_id,
        message_key: way,
        revision,
        message,
        unconfirmed: doubtful,
        may_defer: may_wait,
        ..
    } = job;
    let mut possible_duplicate = false;
    let tried = async {
        if let Some((doubtful, tried_revision)) = &doubtful {
            match notifier.find(&message).await {
                // What changed since is still to be told.
                Lookup::Found { receipt, revision } => {
                    return (
                        Outcome::Delivered { receipt },
                        revision.unwrap_or(*tried_revision),
                    );
                }
                Lookup::Absent => {}
                Lookup::Later { reason } if may_wait => {
                    return (Outcome::Unknown { reason }, revision);
                }
                Lookup::Later { .. } | Lookup::CannotTell => {
                    possible_duplicate = true;
                    return (notifier.deliver(doubtful).await, revision);
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
            Ok(Ok(told)) => told,
            Ok(Err(_)) => unknown("it panicked: a bug in revwatch"),
            Err(_) => unknown("no answer in time"),
        };
    AttemptResult {
        alert_id,
        message_key: way,
        revision,
        outcome,
        possible_duplicate,
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

    /// A destination that says this when it is asked, and counts what it is sent.
    struct Stubborn(Lookup, AtomicUsize);

    #[async_trait]
    impl Notifier for Stubborn {
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
            assert_ne!(message.text, "panic", "as asked");
            self.1.fetch_add(1, Ordering::SeqCst);
            Outcome::Delivered { receipt: None }
        }

        async fn find(&self, _message: &Message) -> Lookup {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn a_doubtful_message_is_looked_for_and_not_for_ever() {
        let rule = crate::rule_text::built_in().expect("valid").remove(0);
        let alert = Alert::fire(&rule, &Subject::Business, 0, 0, Evidence::default());
        let way = MessageKey::main("slack");
        let message = render(&alert, &way, &NotificationState::default());
        let later = || Lookup::Later {
            reason: "429".into(),
        };
        for (answer, may_wait, sent, possible_duplicate) in [
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
            (Lookup::CannotTell, true, 1, true),
            (later(), true, 0, false),
            (later(), false, 1, true),
        ] {
            let notifier = Stubborn(answer.clone(), AtomicUsize::new(0));
            let job = Attempt {
                alert_id: alert.id.clone(),
                message_key: way.clone(),
                revision: 1,
                message: message.clone(),
                unconfirmed: Some((message.clone(), 1)),
                may_defer: may_wait,
                origin: Origin::default(),
            };
            let told = attempt(&notifier, job, ATTEMPT_TIMEOUT).await;
            assert_eq!(
                (notifier.1.into_inner(), told.possible_duplicate),
                (sent, possible_duplicate),
                "{answer:?}"
            );
            assert_eq!(
                matches!(told.outcome, Outcome::Unknown { .. }),
                sent == 0 && may_wait && answer == later()
            );
        }
    }
    #[tokio::test]
    async fn a_notifier_that_panics_leaves_an_outcome() {
        let rule = crate::rule_text::built_in().expect("valid").remove(0);
        let alert = Alert::fire(&rule, &Subject::Business, 0, 0, Evidence::default());
        let way = MessageKey::main("slack");
        let message = Message {
            text: "panic".into(),
            ..render(&alert, &way, &NotificationState::default())
        };
        let job = Attempt {
            alert_id: alert.id.clone(),
            message_key: way,
            revision: 1,
            message,
            unconfirmed: None,
            may_defer: true,
            origin: Origin::default(),
        };
        let told = attempt(
            &Stubborn(Lookup::Absent, AtomicUsize::new(0)),
            job,
            ATTEMPT_TIMEOUT,
        )
        .await;
        assert_eq!(told.alert_id, alert.id);
        assert!(matches!(told.outcome, Outcome::Unknown { reason } if reason.contains("panicked")));
    }
}
