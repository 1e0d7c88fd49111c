//! Holding queues: visiting held deliveries without removing them, and triage.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{DeliveryTag, FieldTable};
use tokio::time::Instant;
use uuid::Uuid;

use super::archiving::{Archiving, Paths, Way};
use super::error::AmqpError;
use super::link::{Link, Open, REQUEST_TIMEOUT};
use super::publish::OutboundMessage;
use super::{journal, message, topology};
use crate::ports::{Delivery, Disposition, HeldDelivery, TriageSummary};

/// Returned messages are ready again within milliseconds; if not, a visit soon after passes fewer.
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);

/// The most messages in memory at once.
const PAGE: u16 = 256;

/// Longer than RabbitMQ takes to send the messages that are ready.
const EMPTY_AFTER: Duration = Duration::from_secs(2);

const READING: &str = "reading held deliveries";

/// Passes every delivery that is in `queue` now to `visit`, until it breaks.
///
/// The messages are consumed on a separate channel and returned at the end: if they were returned earlier, RabbitMQ
/// would send them again at once. A consumer can hold at most 65,535 unacknowledged messages, and this process must not
/// keep many in memory, so each page has its own consumer. RabbitMQ does not keep the order of returned messages. A
/// concurrent visit by another process misses the messages that this one holds.
pub(super) async fn visit(
    link: &Link,
    queue: &str,
    visit: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
) -> Result<(), AmqpError> {
    let open = link.open(REQUEST_TIMEOUT).await?;
    let channel = link.channel(&open).await?;
    let ready = link.count(&open, &channel, queue).await?;
    let mut waiting = ready;
    while waiting > 0 {
        let size = u16::try_from(waiting).unwrap_or(PAGE).min(PAGE);
        if visit_page(link, &open, &channel, queue, size, visit)
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
        link.request(&open, "returning held deliveries", back)
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

/// In an acknowledgement: everything unacknowledged.
const ALL: DeliveryTag = 0;

/// Consumes up to `size` messages without acknowledging them. Returns whether to continue.
async fn visit_page(
    link: &Link,
    open: &Arc<Open>,
    channel: &Channel,
    queue: &str,
    size: u16,
    visit: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
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
            Some(message) => message::held_deliveries(message)
                .into_iter()
                .try_for_each(&mut *visit),
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
            // There are messages, and RabbitMQ is slow.
            Err(_) => {}
        }
    }
    Err(AmqpError::unavailable(format!(
        "{READING}: RabbitMQ does not send the messages of {queue}"
    )))
}

/// Applies the decision of `decide` to each delivery that is in `place` now. A delivery is first published to its
/// destination (the end of the same queue if it stays) and then removed, so an interruption leaves it in both.
pub(super) async fn triage(
    link: &Link,
    paths: &Paths,
    archiving: &Archiving,
    place: &'static str,
    decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
) -> Result<TriageSummary, AmqpError> {
    let open = link.open(REQUEST_TIMEOUT).await?;
    let channel = link.channel(&open).await?;
    // Counted once: kept deliveries move to the end and must not be decided on again.
    let waiting = link.count(&open, &channel, place).await?;
    let mut decisions = Decisions {
        place,
        archiving,
        decide,
        done: HashSet::new(),
        summary: TriageSummary::default(),
    };
    if waiting > 0 {
        triage_waiting(link, paths, &open, &channel, waiting, &mut decisions).await?;
    }
    // Prefetched messages return to the queue.
    link.request(
        &open,
        "closing a channel",
        channel.close(200, "done".into()),
    )
    .await?;
    Ok(decisions.summary)
}

/// Decides on the next `waiting` messages, page by page.
async fn triage_waiting(
    link: &Link,
    paths: &Paths,
    open: &Arc<Open>,
    channel: &Channel,
    mut waiting: u64,
    decisions: &mut Decisions<'_>,
) -> Result<(), AmqpError> {
    // Consumed, not fetched with basic.get: acknowledging many fetched messages becomes many commands to the queue,
    // and RabbitMQ drops some of them when the channel closes.
    link.request(
        open,
        "limiting prefetch",
        channel.basic_qos(PAGE, BasicQosOptions::default()),
    )
    .await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let subscription = channel.basic_consume(decisions.place.into(), "".into(), options, arguments);
    let mut messages = link.request(open, READING, subscription).await?;
    while waiting > 0 {
        let size = waiting.min(u64::from(PAGE));
        let Some(page) = read_page(link, open, &mut messages, size, decisions).await? else {
            break;
        };
        waiting -= size;
        if waiting == 0 {
            // Kept deliveries move to the end of the queue. The next reader must find them there, not in transit to
            // this consumer.
            let cancel = channel.basic_cancel(messages.tag(), BasicCancelOptions::default());
            link.request(open, "ending a consumer", cancel).await?;
        }
        journal::note_requeued(&paths.to_streams, page.requeued_ms.into_iter()).await?;
        let outbound = page.outbound.into_iter();
        futures_util::future::try_join_all(
            outbound.map(|message| paths.publisher.publish(message)),
        )
        .await?;
        let removal = channel.basic_ack(page.last, BasicAckOptions { multiple: true });
        link.request(open, "removing held deliveries", removal)
            .await?;
    }
    Ok(())
}

/// Reads and decides on at most `size` messages; `None` if none are left.
async fn read_page(
    link: &Link,
    open: &Arc<Open>,
    messages: &mut lapin::Consumer,
    size: u64,
    decisions: &mut Decisions<'_>,
) -> Result<Option<TriagedPage>, AmqpError> {
    let mut page = TriagedPage::default();
    for _ in 0..size {
        let next = async { messages.next().await.transpose() };
        // Another process may triage, too: then fewer messages are left than counted.
        let next = tokio::time::timeout(EMPTY_AFTER, link.request(open, READING, next));
        let Ok(received) = next.await else { break };
        let Some(message) = received? else { break };
        page.last = message.delivery_tag;
        for held in message::held_deliveries(message) {
            decisions.decide_on(held, &mut page);
        }
    }
    Ok((page.last != 0).then_some(page))
}

/// What is decided, and what was.
struct Decisions<'a> {
    place: &'static str,
    archiving: &'a Archiving,
    decide: &'a mut (dyn for<'b> FnMut(&'b HeldDelivery) -> Disposition + Send),
    /// A delivery whose confirm was lost was held twice; it is decided on once.
    done: HashSet<Uuid>,
    summary: TriageSummary,
}

/// The messages of a page that were decided on.
#[derive(Default)]
struct TriagedPage {
    /// The tag of the last message; tags begin with 1.
    last: DeliveryTag,
    outbound: Vec<OutboundMessage>,
    /// When the requeued deliveries were received.
    requeued_ms: Vec<i64>,
    /// Only of this page: a delivery that appears again later may be the copy published here, and must stay.
    kept: HashSet<Uuid>,
}

impl Decisions<'_> {
    fn decide_on(&mut self, held: HeldDelivery, page: &mut TriagedPage) {
        let id = held.delivery.id;
        if self.done.contains(&id) {
            return;
        }
        match (self.decide)(&held) {
            Disposition::Keep if !page.kept.insert(id) => {}
            Disposition::Keep => {
                self.summary.kept += 1;
                page.outbound.push(message_for(self.place, held));
            }
            Disposition::Requeue(delivery) => {
                self.done.insert(id);
                self.summary.requeued += 1;
                page.requeued_ms.push(delivery.received_ms);
                let way = self.archiving.way();
                page.outbound.push(requeued(id, *delivery, &way));
            }
            Disposition::Discard => {
                self.done.insert(id);
                self.summary.discarded += 1;
            }
        }
    }
}

/// The message that puts a delivery, held as `held_id`, back into its queue: through the intake if it is another one than
/// the archive has.
fn requeued(held_id: Uuid, delivery: Delivery, way: &Way) -> OutboundMessage {
    let is_archived = delivery.id == held_id;
    let back = message::put_back(delivery);
    match is_archived {
        true => back,
        false => OutboundMessage {
            exchange: way.exchange(),
            ..back
        },
    }
}

/// The message that puts a delivery into a holding queue.
pub(super) fn message_for(place: &'static str, held: HeldDelivery) -> OutboundMessage {
    OutboundMessage {
        exchange: place,
        routing_key: topology::routing_key(held.delivery.partition),
        properties: message::held_properties(&held),
        body: held.delivery.body,
    }
}
