//! A scripted Slack behind the port [`Notifier`]: it accepts, refuses, fails, and loses answers.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use revwatch_alerting::message::Message;
use revwatch_alerting::notify::{Capabilities, Lookup, Notifier, Outcome};
use revwatch_storage::memory::Gate;
use tokio::time::sleep;

use super::trace::{Trace, lock};

/// The simulated workspace. It keeps every message, also those of processes that crashed later.
pub(super) struct Slack {
    seed: u64,
    state: Mutex<State>,
    trace: Trace,
}

struct State {
    /// How often each message was called for.
    calls: BTreeMap<String, u64>,
    /// Whether it misbehaves.
    faulty: bool,
    /// By delivery id, each message that was posted for it.
    posts: BTreeMap<String, Vec<Post>>,
}

/// A posted message as it reads now.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) receipt: String,
    pub(super) revision: u32,
    /// As it was first posted.
    pub(super) possible_duplicate: bool,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
enum Script {
    Accept,
    AcceptWithoutAnswer,
    LoseRequest,
    TooMany,
    ServerError,
}

/// The workspace as one process reaches it.
pub(super) struct SlackOfProcess {
    pub(super) slack: Arc<Slack>,
    /// A killed process sends nothing.
    pub(super) gate: Gate,
}

impl Slack {
    pub(super) fn new(seed: u64, trace: Trace) -> Arc<Self> {
        Arc::new(Self {
            seed,
            state: Mutex::new(State {
                calls: BTreeMap::new(),
                faulty: true,
                posts: BTreeMap::new(),
            }),
            trace,
        })
    }

    /// From now on it accepts everything.
    pub(super) fn behave(&self) {
        lock(&self.state).faulty = false;
    }

    pub(super) fn posts(&self) -> BTreeMap<String, Vec<Post>> {
        lock(&self.state).posts.clone()
    }

    /// Drawn for each message by itself, so that the order of messages does not matter.
    fn script(&self, message: &Message) -> (Script, Duration) {
        let state = &mut *lock(&self.state);
        let calls = state.calls.entry(message.delivery_id.clone()).or_default();
        *calls += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, &message.delivery_id, *calls).hash(&mut hasher);
        let mut rng = Rng::with_seed(hasher.finish());
        let delay = Duration::from_millis(rng.u64(5..300));
        let script = match rng.u8(..20) {
            _ if !state.faulty => Script::Accept,
            0..=1 => Script::TooMany,
            2..=3 => Script::ServerError,
            4..=5 => Script::AcceptWithoutAnswer,
            6 => Script::LoseRequest,
            _ => Script::Accept,
        };
        (script, delay)
    }

    /// The message takes effect; returns its receipt.
    fn arrive(&self, message: &Message) -> String {
        let state = &mut *lock(&self.state);
        let posts = state.posts.entry(message.delivery_id.clone()).or_default();
        let edited = posts
            .iter_mut()
            .find(|post| message.receipt.as_ref() == Some(&post.receipt));
        if let Some(post) = edited {
            post.revision = message.revision;
            return post.receipt.clone();
        }
        let receipt = format!("{}:{}", message.delivery_id, posts.len());
        posts.push(Post {
            receipt: receipt.clone(),
            revision: message.revision,
            possible_duplicate: message.possible_duplicate,
        });
        receipt
    }

    fn note(&self, what: &str, message: &Message) {
        self.trace.add(&format!(
            "slack {what} {} r{} {}",
            message.delivery_id,
            message.revision,
            message.receipt.as_deref().unwrap_or("new"),
        ));
    }
}

#[async_trait]
impl Notifier for SlackOfProcess {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edits: true,
            resolves: true,
        }
    }

    fn destination(&self, route: &str) -> String {
        route.to_owned()
    }

    fn per_second(&self) -> f64 {
        20.0
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        self.gate.pass().await;
        let (script, delay) = self.slack.script(message);
        self.slack.note(&format!("{script:?}"), message);
        match script {
            Script::TooMany => {
                sleep(delay).await;
                Outcome::RetryAfter { wait_ms: 1000 }
            }
            Script::ServerError => {
                sleep(delay).await;
                Outcome::Failed {
                    reason: "Slack answered 500".to_owned(),
                    permanent: false,
                }
            }
            Script::LoseRequest => std::future::pending().await,
            Script::Accept | Script::AcceptWithoutAnswer => {
                // A request on its way arrives even if its sender dies.
                let (slack, sent) = (self.slack.clone(), message.clone());
                let arrival = tokio::spawn(async move {
                    sleep(delay).await;
                    slack.arrive(&sent)
                });
                let receipt = arrival.await.ok();
                if matches!(script, Script::AcceptWithoutAnswer) {
                    std::future::pending::<()>().await;
                }
                sleep(delay).await;
                Outcome::Delivered { receipt }
            }
        }
    }

    async fn find(&self, message: &Message) -> Lookup {
        self.gate.pass().await;
        let (script, delay) = self.slack.script(message);
        sleep(delay).await;
        let found = {
            let state = lock(&self.slack.state);
            let posts = state.posts.get(&message.delivery_id);
            posts.and_then(|posts| posts.last().cloned())
        };
        let lookup = match (script, found) {
            (Script::TooMany | Script::ServerError, _) => Lookup::Later {
                reason: "Slack limits how often it may be read".to_owned(),
            },
            (Script::LoseRequest, _) => Lookup::Inconclusive,
            (_, Some(post)) => Lookup::Found {
                receipt: Some(post.receipt),
                revision: Some(post.revision),
            },
            (_, None) => Lookup::Absent,
        };
        self.slack.note(&format!("{lookup:?}"), message);
        lookup
    }
}
