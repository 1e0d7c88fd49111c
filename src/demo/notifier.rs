//! The notifier of the demo: passes every alert to the director.

use async_trait::async_trait;
use revwatch_alerting::alert::AlertState;
use revwatch_alerting::message::Message;
use revwatch_alerting::notify::{Capabilities, Notifier, Outcome};
use tokio::sync::mpsc;

/// An alert as sent.
#[derive(Debug)]
pub struct SentAlert {
    /// `al_…`
    pub alert_id: String,
    /// The rule's name.
    pub rule: String,
    /// Whether it is resolved.
    pub resolved: bool,
    /// The text of the notification.
    pub text: String,
}

/// Passes alerts to a channel.
pub struct DemoNotifier(mpsc::UnboundedSender<SentAlert>);

impl DemoNotifier {
    /// The notifier, and the receiver of its alerts.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<SentAlert>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }
}

#[async_trait]
impl Notifier for DemoNotifier {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: false,
            resolves: true,
        }
    }

    fn destination(&self, _route: &str) -> String {
        "demo".to_owned()
    }

    fn per_second(&self) -> f64 {
        1000.0
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let receiver = SentAlert {
            alert_id: message.alert_id.clone(),
            rule: message.rule.clone(),
            resolved: message.state == AlertState::Resolved,
            text: message.text.clone(),
        };
        match self.0.send(receiver) {
            Ok(()) => Outcome::Delivered { receipt: None },
            Err(_) => Outcome::Failed {
                reason: "the demo has ended".into(),
                permanent: false,
            },
        }
    }
}
