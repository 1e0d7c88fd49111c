//! Holding queues: one table.

use std::ops::ControlFlow;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::handle::{Sqlite, queue_error};
use super::queue::{DELIVERY, delivery, insert};
use crate::ports::{Disposition, HeldDelivery, Holding, HoldingQueue, QueueError, TriageSummary};

#[async_trait]
impl Holding for Sqlite {
    async fn hold(&self, place: HoldingQueue, held: HeldDelivery) -> Result<(), QueueError> {
        self.write(move |c| insert_held(c, place, &held))
            .await
            .map(drop)
            .map_err(queue_error)
    }

    async fn visit_held(
        &self,
        place: HoldingQueue,
        visit: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
    ) -> Result<(), QueueError> {
        const PAGE: i64 = 100;
        let (mut after, last) = (0, self.last_held(place).await?);
        while after < last {
            let page = self
                .read(move |c| held_page(c, place, after, PAGE))
                .await
                .map_err(queue_error)?;
            let Some((seq, _)) = page.last() else { break };
            after = *seq;
            for (_, held) in page.into_iter().take_while(|(seq, _)| *seq <= last) {
                if visit(held).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn triage(
        &self,
        place: HoldingQueue,
        decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
    ) -> Result<TriageSummary, QueueError> {
        const PAGE: i64 = 500;
        let (mut after, mut summary, last) =
            (0, TriageSummary::default(), self.last_held(place).await?);
        while after < last {
            let page = self
                .read(move |c| held_page(c, place, after, PAGE))
                .await
                .map_err(queue_error)?;
            let Some((seq, _)) = page.last() else { break };
            after = *seq;
            let mut done = Vec::new();
            for (seq, held) in page.into_iter().filter(|(seq, _)| *seq <= last) {
                let requeued = match decide(&held) {
                    Disposition::Keep => {
                        summary.kept += 1;
                        continue;
                    }
                    Disposition::Requeue(delivery) => {
                        self.takes(delivery.partition)?;
                        summary.requeued += 1;
                        Some(*delivery)
                    }
                    Disposition::Discard => {
                        summary.discarded += 1;
                        None
                    }
                };
                done.push((seq, requeued));
            }
            // Deleted here and inserted into the queue in one transaction.
            let touched: Vec<u32> = done
                .iter()
                .filter_map(|(_, d)| d.as_ref().map(|d| d.partition))
                .collect();
            self.write(move |c| {
                for (seq, requeued) in &done {
                    if let Some(delivery) = requeued {
                        insert(c, delivery)?;
                    }
                    c.prepare_cached("DELETE FROM aside WHERE seq = ?1")?
                        .execute([seq])?;
                }
                Ok(())
            })
            .await
            .map_err(queue_error)?;
            touched
                .into_iter()
                .for_each(|p| self.0.published[p as usize].notify_waiters());
        }
        Ok(summary)
    }

    async fn held_count(&self, place: HoldingQueue) -> Result<u64, QueueError> {
        self.read(move |c| {
            c.query_row(
                "SELECT count(*) FROM aside WHERE place = ?1",
                [column_value(place)],
                |row| row.get::<_, u64>(0),
            )
        })
        .await
        .map_err(queue_error)
    }
}

impl Sqlite {
    /// The sequence number of the last held delivery.
    async fn last_held(&self, place: HoldingQueue) -> Result<i64, QueueError> {
        let last = "SELECT ifnull(max(seq), 0) FROM aside WHERE place = ?1";
        self.read(move |c| c.query_row(last, [column_value(place)], |row| row.get(0)))
            .await
            .map_err(queue_error)
    }
}

fn column_value(place: HoldingQueue) -> &'static str {
    match place {
        HoldingQueue::DeadLetters => "dead",
        HoldingQueue::Parked => "parked",
    }
}

fn insert_held(
    c: &Connection,
    place: HoldingQueue,
    held: &HeldDelivery,
) -> rusqlite::Result<usize> {
    let d = &held.delivery;
    c.prepare_cached(
        "INSERT OR IGNORE INTO aside (place, delivery, event_id, event_type, partition, endpoint, received_ms,
         traceparent, body, reason, at_ms) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
    )?
    .execute(params![
        column_value(place),
        d.id.as_bytes(),
        d.event_id,
        d.event_type,
        d.partition,
        d.endpoint,
        d.received_ms,
        d.traceparent,
        d.body.as_ref(),
        held.reason,
        held.at_ms
    ])
}

fn held_page(
    c: &Connection,
    place: HoldingQueue,
    after: i64,
    limit: i64,
) -> rusqlite::Result<Vec<(i64, HeldDelivery)>> {
    c.prepare_cached(&format!(
        "SELECT seq, partition, reason, at_ms, {DELIVERY} FROM aside WHERE place = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
    ))?
    .query_map(params![column_value(place), after, limit], |row| {
        let delivery = delivery(row, 4, row.get(1)?)?;
        Ok((row.get(0)?, HeldDelivery { delivery, reason: row.get(2)?, at_ms: row.get(3)? }))
    })?
    .collect()
}
