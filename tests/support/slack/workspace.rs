//! Slack's channels and messages, and the methods of its API: what each does and answers, without a
//! network.

use serde_json::{Value, json};

/// The channels of an app, and their messages.
#[derive(Default)]
pub(crate) struct Workspace {
    /// The visible ones, oldest first.
    pub(crate) messages: Vec<Posted>,
    /// The app may not read channels.
    pub(crate) is_unreadable: bool,
    /// The number of messages so far, including deleted ones.
    posted: u64,
}

/// A visible message in a channel.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) text: String,
    /// As it was first posted.
    pub(crate) first_text: String,
    channel: String,
    ts: String,
    metadata: Value,
    thread_ts: Option<String>,
    is_broadcast: bool,
}

/// The parameters of a call: those of the query or of the JSON body.
struct Parameters<'a>(&'a Value);

/// What a method returns; an error is Slack's word for it.
type Answer = Result<Value, &'static str>;

/// Names and ids of the channels. The first is the one in the default settings.
const CHANNELS: [(&str, &str); 9] = [
    ("alerts-critical", "C0123456789"),
    ("general", "C0000000001"),
    ("random", "C0000000002"),
    ("billing", "C0000000003"),
    ("support", "C0000000004"),
    ("alerts-high", "C0000000005"),
    ("alerts-growth", "C0000000006"),
    ("alerts-churn", "C0000000007"),
    ("alerts-engineering", "C0000000008"),
];

/// Real pages are longer; short pages exercise the cursor more often.
const CHANNELS_PER_PAGE: usize = 2;
const MESSAGES_PER_PAGE: usize = 100;

impl Workspace {
    /// Carries out a method; `now_s` is Slack's time.
    pub(crate) fn answer(&mut self, method: &str, parameters: &Value, now_s: i64) -> Answer {
        let parameters = Parameters(parameters);
        match method {
            "hook" => Ok(json!("ok")),
            "auth.test" => Ok(json!({"ok": true, "user": "revwatch"})),
            "chat.postMessage" => self.post(&parameters, now_s),
            "chat.update" => self.update(&parameters),
            _ if self.is_unreadable => Err("missing_scope"),
            "conversations.list" => Ok(list(&parameters)),
            "conversations.history" => self.history(&parameters),
            "conversations.replies" => self.replies(&parameters),
            _ => Err("unknown_method"),
        }
    }

    fn post(&mut self, parameters: &Parameters<'_>, now_s: i64) -> Answer {
        let channel = parameters.channel()?;
        let thread_ts = parameters.0["thread_ts"].as_str().map(str::to_owned);
        if let Some(ts) = &thread_ts {
            self.find(channel, ts).ok_or("thread_not_found")?;
        }
        let (ts, text) = (
            format!("{now_s}.{:06}", self.posted % 1_000_000),
            parameters.text("text"),
        );
        self.posted += 1;
        self.messages.push(Posted {
            text: text.to_owned(),
            first_text: text.to_owned(),
            channel: channel.to_owned(),
            ts: ts.clone(),
            metadata: parameters.0["metadata"].clone(),
            thread_ts,
            is_broadcast: parameters.0["reply_broadcast"] == true,
        });
        Ok(json!({"ok": true, "channel": channel, "ts": ts, "message": {"text": text}}))
    }

    fn update(&mut self, parameters: &Parameters<'_>) -> Answer {
        let (channel, ts) = (parameters.channel()?, parameters.text("ts"));
        let posted = self.find(channel, ts).ok_or("message_not_found")?;
        parameters.text("text").clone_into(&mut posted.text);
        if parameters.0["metadata"].is_object() {
            posted.metadata = parameters.0["metadata"].clone();
        }
        Ok(json!({"ok": true, "channel": channel, "ts": ts}))
    }

    fn history(&self, parameters: &Parameters<'_>) -> Answer {
        let (channel, oldest) = (parameters.channel()?, parameters.oldest());
        let in_range = |m: &&Posted| {
            m.channel == channel && (m.thread_ts.is_none() || m.is_broadcast) && m.at_s() >= oldest
        };
        let found = self.messages.iter().rev().filter(in_range);
        let found = found.map(|m| m.shown(parameters)).collect();
        Ok(page("messages", found, parameters, MESSAGES_PER_PAGE))
    }

    fn replies(&mut self, parameters: &Parameters<'_>) -> Answer {
        let (channel, ts) = (parameters.channel()?, parameters.text("ts"));
        self.find(channel, ts).ok_or("thread_not_found")?;
        let oldest = parameters.oldest();
        let of_thread = |m: &&Posted| {
            let is_reply = m.thread_ts.as_deref() == Some(ts) && m.at_s() >= oldest;
            m.channel == channel && (m.ts == ts || is_reply)
        };
        let found = self.messages.iter().filter(of_thread);
        let found = found.map(|m| m.shown(parameters)).collect();
        Ok(page("messages", found, parameters, MESSAGES_PER_PAGE))
    }

    fn find(&mut self, channel: &str, ts: &str) -> Option<&mut Posted> {
        self.messages
            .iter_mut()
            .find(|m| m.channel == channel && m.ts == ts)
    }
}

impl Posted {
    /// The alert of the message.
    pub(crate) fn alert_id(&self) -> &str {
        self.payload()["alert_id"].as_str().unwrap_or_default()
    }

    /// What the app recorded with the message.
    pub(crate) fn payload(&self) -> &Value {
        &self.metadata["event_payload"]
    }

    /// `channel:ts`
    pub(crate) fn place(&self) -> (&str, &str) {
        (&self.channel, &self.ts)
    }

    fn at_s(&self) -> f64 {
        self.ts.parse().unwrap_or(0.0)
    }

    fn shown(&self, parameters: &Parameters<'_>) -> Value {
        let mut shown = json!({"type": "message", "ts": self.ts, "text": self.text});
        if let Some(thread_ts) = &self.thread_ts {
            shown["thread_ts"] = thread_ts.as_str().into();
        }
        if parameters.text("include_all_metadata") == "true" {
            shown["metadata"] = self.metadata.clone();
        }
        shown
    }
}

impl Parameters<'_> {
    /// Empty if it is missing.
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// The id of the channel, which may be given by name.
    fn channel(&self) -> Result<&'static str, &'static str> {
        let wanted = self.text("channel").trim_start_matches('#');
        let found = CHANNELS
            .iter()
            .find(|(name, id)| *name == wanted || *id == wanted);
        found.map(|(_, id)| *id).ok_or("channel_not_found")
    }

    fn oldest(&self) -> f64 {
        self.text("oldest").parse().unwrap_or(0.0)
    }
}

fn list(parameters: &Parameters<'_>) -> Value {
    // The wanted channel comes last.
    let all = CHANNELS
        .iter()
        .rev()
        .map(|(name, id)| json!({"id": id, "name": name, "is_channel": true}))
        .collect();
    page("channels", all, parameters, CHANNELS_PER_PAGE)
}

/// The page at the cursor, and the cursor of the next page.
fn page(name: &str, all: Vec<Value>, parameters: &Parameters<'_>, most: usize) -> Value {
    let number = |name: &str| {
        let text = parameters.text(name);
        text.trim_start_matches("from-").parse().ok()
    };
    let (from, limit) = (
        number("cursor").unwrap_or(0),
        number("limit").unwrap_or(most).min(most),
    );
    let next = if from + limit < all.len() {
        format!("from-{}", from + limit)
    } else {
        String::new()
    };
    let items: Vec<Value> = all.into_iter().skip(from).take(limit).collect();
    json!({"ok": true, name: items, "has_more": !next.is_empty(), "response_metadata": {"next_cursor": next}})
}
