//! What stands aside: looking at it without taking it, and deciding what becomes of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::failure::Failure;
use super::link::{Link, Open, PATIENCE};
use super::publish::{Parcel, Publisher};
use super::{journal, message, topology};
use crate::ports::{Fate, SetAside, Swept};

/// Returned messages are back within milliseconds; if not, looking again soon shows fewer.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// Messages decided on together.
const SWEEP: u16 = 256;

/// Longer than RabbitMQ takes to send what is there.
const NONE_LEFT_AFTER: Duration = Duration::from_secs(2);

/// Up to `limit` that stand in `queue`, oldest first, one per delivery. At most 65,535 messages are looked at: more
/// cannot be held unacknowledged.
///
/// They are consumed on a channel of their own and then returned, which puts them back where they were.
/// Whoever looks at the same moment from elsewhere does not see those that are held just then.
pub(super) async fn peek(link: &Link, queue: &str, limit: usize) -> Result<Vec<SetAside>, Failure> {
    let open = link.open(PATIENCE).await?;
    let channel = link.channel(&open).await?;
    let ready = link.count(&open, &channel, queue).await?;
    // Twice the limit, since some may be there twice.
    let held = usize::try_from(ready).unwrap_or(usize::MAX).min(limit.saturating_mul(2));
    let held = u16::try_from(held).unwrap_or(u16::MAX);
    if held == 0 {
        return Ok(Vec::new());
    }
    let mut letters = hold(link, &open, &channel, queue, held, limit).await?;
    let back = channel.basic_nack(0, BasicNackOptions { multiple: true, requeue: true });
    link.ask(&open, "returning what stands aside", back).await?;
    let _ = tokio::time::timeout(BACK_WITHIN, async {
        while link.count(&open, &channel, queue).await? < ready {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, Failure>(())
    })
    .await;
    link.ask(&open, "closing a channel", channel.close(200, "done".into())).await?;
    letters.sort_by_key(|letter| letter.at_ms);
    Ok(letters)
}

/// Lets `decide` say of each delivery that is in `place` now what becomes of it. Each is first published to where it
/// is to be, the end of the same queue if it stays, and then removed: cut short in between it is there twice.
pub(super) async fn sweep(
    link: &Link,
    publisher: &Arc<Publisher>,
    place: &'static str,
    decide: &mut (dyn for<'a> FnMut(&'a SetAside) -> Fate + Send),
) -> Result<Swept, Failure> {
    let open = link.open(PATIENCE).await?;
    let channel = link.channel(&open).await?;
    // Counted once: what stays comes to the end, and must not be decided on for ever.
    let mut waiting = link.count(&open, &channel, place).await?;
    let mut swept = Swept::default();
    if waiting == 0 {
        link.ask(&open, "closing a channel", channel.close(200, "done".into())).await?;
        return Ok(swept);
    }
    // Consumed, not fetched one by one: an acknowledgement of many of those becomes many commands to the queue, and
    // RabbitMQ drops some of them when the channel ends.
    link.ask(&open, "limiting prefetch", channel.basic_qos(SWEEP, BasicQosOptions::default())).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let subscription = channel.basic_consume(place.into(), "".into(), options, arguments);
    let mut messages = link.ask(&open, "reading what stands aside", subscription).await?;
    // A delivery whose confirm was lost was stored again, and is dealt with once.
    let mut gone = HashSet::new();
    while waiting > 0 {
        let (mut parcels, mut sent_on) = (Vec::new(), Vec::new());
        // Of this round only: what comes again later may be what was published here, and must stay.
        let mut kept = HashSet::new();
        let mut last = 0;
        for _ in 0..waiting.min(u64::from(SWEEP)) {
            let next = async { messages.next().await.transpose() };
            // Somebody else may sweep, too: then there are fewer than there were.
            let next = tokio::time::timeout(NONE_LEFT_AFTER, link.ask(&open, "reading what stands aside", next));
            let Ok(received) = next.await else { break };
            let Some(message) = received? else { break };
            last = message.delivery_tag;
            for aside in message::asides(message) {
                let id = aside.delivery.id;
                if gone.contains(&id) {
                    continue;
                }
                match decide(&aside) {
                    Fate::Keep if !kept.insert(id) => {}
                    Fate::Keep => {
                        swept.kept += 1;
                        parcels.push(parcel_of(place, aside));
                    }
                    Fate::Process(delivery) => {
                        gone.insert(id);
                        swept.processed += 1;
                        sent_on.push(delivery.received_ms);
                        // Not by way of the intake if the archive has it already.
                        let is_archived = delivery.id == id;
                        parcels.push(Parcel {
                            exchange: if is_archived { topology::EVENTS } else { topology::INTAKE },
                            routing_key: topology::routing_key(delivery.partition),
                            properties: message::properties(&delivery),
                            body: delivery.body,
                        });
                    }
                    Fate::Drop => {
                        gone.insert(id);
                        swept.dropped += 1;
                    }
                }
            }
        }
        if last == 0 {
            break;
        }
        waiting = waiting.saturating_sub(u64::from(SWEEP));
        if waiting == 0 {
            // What stays comes to the end of the queue, where whoever looks next must find it: not on its way to us.
            let cancel = channel.basic_cancel(messages.tag(), BasicCancelOptions::default());
            link.ask(&open, "ending a consumer", cancel).await?;
        }
        journal::note_sent_on(publisher, sent_on.into_iter()).await?;
        futures_util::future::try_join_all(parcels.into_iter().map(|parcel| publisher.publish(parcel))).await?;
        let done = channel.basic_ack(last, BasicAckOptions { multiple: true });
        link.ask(&open, "removing what stood aside", done).await?;
    }
    // What was sent ahead goes back to where it was.
    link.ask(&open, "closing a channel", channel.close(200, "done".into())).await?;
    Ok(swept)
}

/// To be published to where it stands aside.
pub(super) fn parcel_of(place: &'static str, aside: SetAside) -> Parcel {
    Parcel {
        exchange: place,
        routing_key: topology::routing_key(aside.delivery.partition),
        properties: message::aside_properties(&aside),
        body: aside.delivery.body,
    }
}

/// Consumes without acknowledging, until `held` messages have come or `limit` letters are known.
async fn hold(
    link: &Link,
    open: &Arc<Open>,
    channel: &Channel,
    queue: &str,
    held: u16,
    limit: usize,
) -> Result<Vec<SetAside>, Failure> {
    link.ask(open, "limiting prefetch", channel.basic_qos(held, BasicQosOptions::default())).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let subscription = channel.basic_consume(queue.into(), "".into(), options, arguments);
    let mut messages = link.ask(open, "reading what stands aside", subscription).await?;
    let mut seen = HashSet::new();
    let mut letters = Vec::new();
    for _ in 0..held {
        if letters.len() >= limit {
            break;
        }
        let next = async { messages.next().await.transpose() };
        let Some(received) = link.ask(open, "reading what stands aside", next).await? else { break };
        // One whose confirm was lost was stored again.
        letters.extend(message::asides(received).into_iter().filter(|letter| seen.insert(letter.delivery.id)));
    }
    link.ask(open, "ending a consumer", channel.basic_cancel(messages.tag(), Default::default())).await?;
    letters.truncate(limit);
    Ok(letters)
}
