//! Looking at the dead letters without taking them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::failure::Failure;
use super::link::{Link, Open, PATIENCE};
use super::{message, topology};
use crate::ports::DeadLetter;

/// Returned messages are back within milliseconds; if not, looking again soon shows fewer.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// Up to `limit` dead letters, oldest first, one per delivery. At most 65,535 messages are looked at: more
/// cannot be held unacknowledged.
///
/// They are consumed on a channel of their own and then returned, which puts them back where they were.
/// Whoever looks at the same moment from elsewhere does not see those that are held just then.
pub(super) async fn peek(link: &Link, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
    let open = link.open(PATIENCE).await?;
    let channel = link.channel(&open).await?;
    let ready = link.count(&open, &channel, topology::DEAD).await?;
    // Twice the limit, since some may be there twice.
    let held = usize::try_from(ready).unwrap_or(usize::MAX).min(limit.saturating_mul(2));
    let held = u16::try_from(held).unwrap_or(u16::MAX);
    if held == 0 {
        return Ok(Vec::new());
    }
    let mut letters = hold(link, &open, &channel, held, limit).await?;
    let back = channel.basic_nack(0, BasicNackOptions { multiple: true, requeue: true });
    link.ask(&open, "returning the dead letters", back).await?;
    let _ = tokio::time::timeout(BACK_WITHIN, async {
        while link.count(&open, &channel, topology::DEAD).await? < ready {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, Failure>(())
    })
    .await;
    link.ask(&open, "closing a channel", channel.close(200, "done".into())).await?;
    letters.sort_by_key(|letter| letter.died_ms);
    Ok(letters)
}

/// Consumes without acknowledging, until `held` messages have come or `limit` letters are known.
async fn hold(
    link: &Link,
    open: &Arc<Open>,
    channel: &Channel,
    held: u16,
    limit: usize,
) -> Result<Vec<DeadLetter>, Failure> {
    link.ask(open, "limiting prefetch", channel.basic_qos(held, BasicQosOptions::default())).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let subscription = channel.basic_consume(topology::DEAD.into(), "".into(), options, arguments);
    let mut messages = link.ask(open, "reading the dead letters", subscription).await?;
    let mut seen = HashSet::new();
    let mut letters = Vec::new();
    for _ in 0..held {
        if letters.len() == limit {
            break;
        }
        let next = async { messages.next().await.transpose() };
        let Some(received) = link.ask(open, "reading the dead letters", next).await? else { break };
        let letter = message::dead_letter(received);
        // A dead letter whose confirm was lost was stored again.
        if seen.insert(letter.delivery.id) {
            letters.push(letter);
        }
    }
    link.ask(open, "ending a consumer", channel.basic_cancel(messages.tag(), Default::default())).await?;
    Ok(letters)
}
