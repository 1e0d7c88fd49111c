//! What stands aside: looking at it without taking it, and deciding what becomes of it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{DeliveryTag, FieldTable};

use super::error::AmqpError;
use super::link::{Link, Open, REQUEST_TIMEOUT};
use super::publish::{OutboundMessage, Publisher};
use super::{journal, message, topology};
use crate::ports::{Disposition, HeldDelivery, TriageSummary};

/// Returned messages are back within milliseconds; if not, looking again soon shows fewer.
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages held in memory, or decided on, together.
const PAGE: u16 = 256;

/// Longer than RabbitMQ takes to send what is there.
const EMPTY_AFTER: Duration = Duration::from_secs(2);

const READING: &str = "reading what stands aside";

/// Shows `look` all that stand in `queue` now, until it breaks off.
///
/// They are consumed on a channel of their own and returned at the end: returned earlier, they would come again at once.
/// No consumer can hold more than 65,535 messages, and the memory of this process must not hold many; so there is one
/// for each page. RabbitMQ does not keep the order of what is returned. A process that looks at the same moment does
/// not see those that are held just then.
pub(super) async fn look(
    link: &Link,
    queue: &str,
    look: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
) -> Result<(), AmqpError> {
    let open = link.open(REQUEST_TIMEOUT).await?;
    let channel = link.channel(&open).await?;
    let ready = link.count(&open, &channel, queue).await?;
    let mut waiting = ready;
    while waiting > 0 {
        let size = u16::try_from(waiting).unwrap_or(PAGE).min(PAGE);
        if look_at_page(link, &open, &channel, queue, size, look)
            .await?
            .is_break()
        {
            break;
        }
        waiting -= u64::from(size);
    }
    if ready > 0 {
        let back = channel.basic_nack(
            ALL,
            BasicNackOptions {
                multiple: true,
                requeue: true,
            },
        );
        link.request(&open, "returning what stands aside", back)
            .await?;
        let _ = tokio::time::timeout(RETURN_TIMEOUT, async {
            while link.count(&open, &channel, queue).await? < ready {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok::<_, AmqpError>(())
        })
        .await;
    }
    link.request(
        &open,
        "closing a channel",
        channel.close(200, "done".into()),
    )
    .await
}

/// In an acknowledgement: everything that was not acknowledged yet.
const ALL: DeliveryTag = 0;

/// Consumes up to `size` messages without acknowledging. Whether to go on.
async fn look_at_page(
    link: &Link,
    open: &Arc<Open>,
    channel: &Channel,
    queue: &str,
    size: u16,
    look: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
) -> Result<ControlFlow<()>, AmqpError> {
    link.request(
        open,
        "limiting prefetch",
        channel.basic_qos(size, BasicQosOptions::default()),
    )
    .await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let subscription = channel.basic_consume(queue.into(), "".into(), options, arguments);
    let mut messages = link.request(open, READING, subscription).await?;
    let mut flow = ControlFlow::Continue(());
    for _ in 0..size {
        flow = match next(link, open, channel, queue, &mut messages).await? {
            Some(message) => message::asides(message)
                .into_iter()
                .try_for_each(&mut *look),
            None => ControlFlow::Break(()),
        };
        if flow.is_break() {
            break;
        }
    }
    link.request(
        open,
        "ending a consumer",
        channel.basic_cancel(messages.tag(), Default::default()),
    )
    .await?;
    Ok(flow)
}

/// The next message of those that were ready; `None` once another process has taken the rest.
async fn next(
    link: &Link,
    open: &Arc<Open>,
    channel: &Channel,
    queue: &str,
    messages: &mut lapin::Consumer,
) -> Result<Option<lapin::message::Delivery>, AmqpError> {
    let began = Instant::now();
    while began.elapsed() < REQUEST_TIMEOUT {
        match tokio::time::timeout(EMPTY_AFTER, messages.next()).await {
            Ok(Some(message)) => {
                return link
                    .request(open, READING, async { message })
                    .await
                    .map(Some);
            }
            Ok(None) => break,
            Err(_) if link.count(open, channel, queue).await? == 0 => return Ok(None),
            // It has some and is slow.
            Err(_) => {}
        }
    }
    Err(AmqpError::unavailable(format!(
        "{READING}: RabbitMQ does not send what is in {queue}"
    )))
}

/// Lets `decide` say of each delivery that is in `place` now what becomes of it. Each is first published to where it
/// is to be, the end of the same queue if it stays, and then removed: cut short in between it is there twice.
pub(super) async fn sweep(
    link: &Link,
    publisher: &Arc<Publisher>,
    place: &'static str,
    decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
) -> Result<TriageSummary, AmqpError> {
    let open = link.open(REQUEST_TIMEOUT).await?;
    let channel = link.channel(&open).await?;
    // Counted once: what stays comes to the end, and must not be decided on for ever.
    let mut waiting = link.count(&open, &channel, place).await?;
    let mut swept = TriageSummary::default();
    if waiting == 0 {
        link.request(
            &open,
            "closing a channel",
            channel.close(200, "done".into()),
        )
        .await?;
        return Ok(swept);
    }
    // Consumed, not fetched one by one: an acknowledgement of many of those becomes many commands to the queue, and
    // RabbitMQ drops some of them when the channel ends.
    link.request(
        &open,
        "limiting prefetch",
        channel.basic_qos(PAGE, BasicQosOptions::default()),
    )
    .await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let subscription = channel.basic_consume(place.into(), "".into(), options, arguments);
    let mut messages = link.request(&open, READING, subscription).await?;
    // A delivery whose confirm was lost was stored again, and is dealt with once.
    let mut gone = HashSet::new();
    while waiting > 0 {
        let (mut parcels, mut sent_on) = (Vec::new(), Vec::new());
        // Of this round only: what comes again later may be what was published here, and must stay.
        let mut kept = HashSet::new();
        let mut last = 0;
        for _ in 0..waiting.min(u64::from(PAGE)) {
            let next = async { messages.next().await.transpose() };
            // Somebody else may sweep, too: then there are fewer than there were.
            let next = tokio::time::timeout(EMPTY_AFTER, link.request(&open, READING, next));
            let Ok(received) = next.await else { break };
            let Some(message) = received? else { break };
            last = message.delivery_tag;
            for aside in message::asides(message) {
                let id = aside.delivery.id;
                if gone.contains(&id) {
                    continue;
                }
                match decide(&aside) {
                    Disposition::Keep if !kept.insert(id) => {}
                    Disposition::Keep => {
                        swept.kept += 1;
                        parcels.push(parcel_of(place, aside));
                    }
                    Disposition::Requeue(delivery) => {
                        gone.insert(id);
                        swept.requeued += 1;
                        sent_on.push(delivery.received_ms);
                        // Not by way of the intake if the archive has it already.
                        let is_archived = delivery.id == id;
                        parcels.push(OutboundMessage {
                            exchange: if is_archived {
                                topology::EVENTS
                            } else {
                                topology::INTAKE
                            },
                            routing_key: topology::routing_key(delivery.partition),
                            properties: message::properties(&delivery),
                            body: delivery.body,
                        });
                    }
                    Disposition::Discard => {
                        gone.insert(id);
                        swept.discarded += 1;
                    }
                }
            }
        }
        if last == 0 {
            break;
        }
        waiting = waiting.saturating_sub(u64::from(PAGE));
        if waiting == 0 {
            // What stays comes to the end of the queue, where whoever looks next must find it: not on its way to us.
            let cancel = channel.basic_cancel(messages.tag(), BasicCancelOptions::default());
            link.request(&open, "ending a consumer", cancel).await?;
        }
        journal::note_sent_on(publisher, sent_on.into_iter()).await?;
        futures_util::future::try_join_all(
            parcels.into_iter().map(|parcel| publisher.publish(parcel)),
        )
        .await?;
        let done = channel.basic_ack(last, BasicAckOptions { multiple: true });
        link.request(&open, "removing what stood aside", done)
            .await?;
    }
    // What was sent ahead goes back to where it was.
    link.request(
        &open,
        "closing a channel",
        channel.close(200, "done".into()),
    )
    .await?;
    Ok(swept)
}

/// To be published to where it stands aside.
pub(super) fn parcel_of(place: &'static str, aside: HeldDelivery) -> OutboundMessage {
    OutboundMessage {
        exchange: place,
        routing_key: topology::routing_key(aside.delivery.partition),
        properties: message::aside_properties(&aside),
        body: aside.delivery.body,
    }
}
