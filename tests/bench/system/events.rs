//! What is sent: an ordinary mix of webhooks by the demo's simulator, for many businesses at once, signed, as whole
//! HTTP requests that were written before anything is measured.

use bytes::Bytes;
use revwatch_shared::signature::SigningKey;

use super::simulator::{SimEvent, Simulator};

/// The signing secret of every endpoint.
pub(crate) const SECRET: &str = "whsec_of_the_benchmark";

/// What Stripe's objects weigh on average; the simulator's lack the fields that revwatch does not read.
const BYTES: usize = 2_650;

/// Events of one business: its four past days, and some ordinary business after them.
const EACH: usize = 1_000;

/// `count` different events, none of which any other `seed` makes. Those of one business come in order, between those
/// of the others.
pub(crate) fn bodies(seed: u64, count: usize, now_s: i64) -> Vec<String> {
    let businesses = count.div_ceil(EACH).max(1) as u64;
    let mut histories: Vec<_> = (0..businesses).map(|n| history((seed << 20) + n, now_s).into_iter()).collect();
    let mut bodies = Vec::with_capacity(count);
    while bodies.len() < count {
        for history in &mut histories {
            bodies.extend(history.next().map(|event| padded(event.body)));
        }
    }
    bodies.truncate(count);
    bodies
}

/// One request on a connection that stays open, as a reverse proxy in front of an endpoint sends it.
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

/// With fields that revwatch has to step over, up to the usual size.
fn padded(body: String) -> String {
    let Some((head, tail)) = body.split_once("\"object\": {") else { return body };
    let mut filled = format!("{head}\"object\": {{");
    let mut field = 0;
    while filled.len() + tail.len() < BYTES {
        filled += &format!(
            "\n      \"not_read_{field:02}\": \"{:012}\",\n      \"nor_this_{field:02}\": null,",
            field * 77_777
        );
        field += 1;
    }
    filled + tail
}
