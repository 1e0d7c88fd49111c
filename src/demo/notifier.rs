//! The notifier of the demo: hands every alert to the play.

use async_trait::async_trait;
use revwatch_alerting::alert::AlertState;
use revwatch_alerting::message::Message;
use revwatch_alerting::notify::{Capabilities, Notifier, Outcome};
use tokio::sync::mpsc;

/// An alert as it was told.
#[derive(Debug)]
pub struct Told {
    /// `al_…`
    pub alert_id: String,
    /// The rule's name.
    pub rule: String,
    /// It is resolved.
    pub over: bool,
    /// The message as people read it.
    pub text: String,
}

/// See the module.
pub struct DemoNotifier(mpsc::UnboundedSender<Told>);

impl DemoNotifier {
    /// The notifier, and where its alerts come out.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (tell, told) = mpsc::unbounded_channel();
        (Self(tell), told)
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
        let told = Told {
            alert_id: message.alert_id.clone(),
            rule: message.rule.clone(),
            over: message.state == AlertState::Resolved,
            text: message.text.clone(),
        };
        match self.0.send(told) {
            Ok(()) => Outcome::Delivered { receipt: None },
            Err(_) => Outcome::Failed {
                reason: "the demo has ended".into(),
                permanent: false,
            },
        }
    }
}
