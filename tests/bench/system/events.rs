//! The load: a normal mix of webhooks by the demo's simulator, for many businesses together, signed,
//! as complete HTTP requests that are prepared before the measurement.

use bytes::Bytes;
use clap::ValueEnum;
use revwatch_core::signature::SigningKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::simulator::{SimEvent, Simulator};

/// The signing secret of every endpoint.
pub(crate) const SECRET: &str = "whsec_of_the_benchmark";

/// The average size of Stripe's objects; the simulator's lack the fields that revwatch does not
/// read.
const BYTES: usize = 2_650;

const LARGE_BYTES: usize = 32 * 1024;

/// Events of one business: its past four days, and some normal business after them.
const EACH: usize = 1_000;

/// The kinds of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Mix {
    Ordinary,
    /// Each event is sent again a little later.
    Repeats,
    /// All events belong to one connected account, and so to one partition.
    OneAccount,
    /// One in ten is a payout with an invalid amount, and becomes a dead letter.
    Unreadable,
    /// Bodies of 32 KB, like invoices with many lines; an eighth as many.
    Large,
}

impl Mix {
    /// `count` events, or the smaller number of this kind.
    pub(crate) fn bodies(self, seed: u64, count: usize, now_s: i64) -> Vec<String> {
        const LATER: usize = 50;
        match self {
            Self::Ordinary => bodies(seed, count, now_s),
            Self::Repeats => {
                let once = bodies(seed, count / 2, now_s);
                once.chunks(LATER)
                    .flat_map(|some| [some, some].concat())
                    .collect()
            }
            Self::OneAccount => {
                let account = format!("acct_1OfAll{seed:09}");
                let of_it = |body: String| {
                    let mut event: Value = serde_json::from_str(&body).expect("an event");
                    event["account"] = json!(account);
                    event.to_string()
                };
                bodies(seed, count, now_s).into_iter().map(of_it).collect()
            }
            Self::Unreadable => {
                let unreadable =
                    |(i, body): (usize, String)| if i % 10 == 0 { no_payout(&body) } else { body };
                bodies(seed, count, now_s)
                    .into_iter()
                    .enumerate()
                    .map(unreadable)
                    .collect()
            }
            Self::Large => bodies(seed, count / 8, now_s)
                .into_iter()
                .map(|body| padded(body, LARGE_BYTES))
                .collect(),
        }
    }
}

/// `count` different events, none of which another `seed` generates. Those of one business are in
/// order, interleaved with those of the others.
pub(crate) fn bodies(seed: u64, count: usize, now_s: i64) -> Vec<String> {
    let businesses = count.div_ceil(EACH).max(1) as u64;
    let mut streams: Vec<_> = (0..businesses)
        .map(|n| history((seed << 20) + n, now_s).into_iter())
        .collect();
    let mut bodies = Vec::with_capacity(count);
    while bodies.len() < count {
        for history in &mut streams {
            bodies.extend(history.next().map(|event| padded(event.body, BYTES)));
        }
    }
    bodies.truncate(count);
    bodies
}

/// One request on a keep-alive connection, as a reverse proxy in front of an endpoint sends it.
pub(crate) fn request(host: &str, path: &str, body: &str, now_s: i64) -> Bytes {
    let key = SigningKey::new(SECRET).expect("a secret");
    let (signature, length) = (key.header(now_s, body.as_bytes()), body.len());
    Bytes::from(format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json; charset=utf-8\r\n\
         user-agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nstripe-signature: {signature}\r\n\
         content-length: {length}\r\n\r\n{body}"
    ))
}

fn history(seed: u64, now_s: i64) -> Vec<SimEvent> {
    let mut simulator = Simulator::new(seed);
    let mut events = simulator.history(now_s - 3600);
    while events.len() < EACH {
        let at_s = now_s - 3600 + i64::try_from(events.len()).unwrap_or_default();
        events.extend(simulator.step(at_s));
    }
    events.truncate(EACH);
    events
}

/// An event with the same id and time, whose object is not as Stripe documents it.
fn no_payout(body: &str) -> String {
    let mut event: Value = serde_json::from_str(body).expect("an event");
    event["type"] = json!("payout.paid");
    event["data"] = json!({"object": {"id": "po_1", "object": "payout", "status": 7, "amount": 5,
        "currency": "eur"}});
    padded(format!("{event:#}"), BYTES)
}

/// With additional fields that revwatch skips, up to this size.
fn padded(body: String, bytes: usize) -> String {
    let Some((head, tail)) = body.split_once("\"object\": {") else {
        return body;
    };
    let mut filled = format!("{head}\"object\": {{");
    let mut field = 0;
    while filled.len() + tail.len() < bytes {
        filled += &format!(
            "\n      \"not_read_{field:02}\": \"{:012}\",\n      \"nor_this_{field:02}\": null,",
            field * 77_777
        );
        field += 1;
    }
    filled + tail
}
