//! Counters.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use revwatch_core::counters::{Bucket, Counters};

use super::handle::RedisStore;
use super::keys;
use crate::ports::{Aggregates, StoreError};

/// The most days that are read by name; for more, the existing days are read first.
const DAYS_BY_NAME: u32 = 62;

#[async_trait]
impl Aggregates for RedisStore {
    async fn counters(&self, from_hour: u32, to_hour: u32) -> Result<Counters, StoreError> {
        let partitions = self
            .each_partition(|partition| self.partition_counters(partition, from_hour, to_hour))
            .await?;
        let mut sum = Counters::default();
        for counters in partitions {
            sum.merge(counters, 1);
        }
        Ok(sum)
    }

    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError> {
        let partitions = self
            .each_partition(|partition| async move {
                let mut cmd = redis::cmd("HMGET");
                cmd.arg(keys::counters(partition)).arg(names);
                self.link.run::<Vec<Option<i64>>>(&cmd).await
            })
            .await?;
        Ok(partitions.into_iter().flatten().flatten().sum())
    }
}

impl RedisStore {
    pub(super) async fn partition_counters(
        &self,
        partition: u32,
        from_hour: u32,
        to_hour: u32,
    ) -> Result<Counters, StoreError> {
        let days = self.days_between(partition, from_hour, to_hour).await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(keys::counters(partition));
        for day in &days {
            pipeline.cmd("HGETALL").arg(keys::hours(partition, *day));
        }
        let answers: Vec<BTreeMap<String, i64>> = self.link.pipeline(&pipeline).await?;
        let (mut found, mut answers) = (Counters::default(), answers.into_iter());
        for (name, value) in answers.next().unwrap_or_default() {
            found.add_named(Bucket::Current, name, value);
        }
        for (day, counters) in days.into_iter().zip(answers) {
            for (field, value) in counters {
                let (hour, name) = hour_and_name(day, &field)?;
                if (from_hour..=to_hour).contains(&hour) {
                    found.add_named(Bucket::Hour(hour), name.to_owned(), value);
                }
            }
        }
        Ok(found)
    }

    async fn days_between(
        &self,
        partition: u32,
        from_hour: u32,
        to_hour: u32,
    ) -> Result<Vec<u32>, StoreError> {
        if from_hour > to_hour {
            return Ok(Vec::new());
        }
        let days = from_hour / 24..=to_hour / 24;
        if days.end() - days.start() < DAYS_BY_NAME {
            return Ok(days.collect());
        }
        let mut cmd = redis::cmd("SMEMBERS");
        cmd.arg(keys::days(partition));
        let exist: BTreeSet<u32> = self.link.run(&cmd).await?;
        Ok(exist.into_iter().filter(|day| days.contains(day)).collect())
    }
}

fn hour_and_name(day: u32, field: &str) -> Result<(u32, &str), StoreError> {
    field
        .split_once('|')
        .and_then(|(hour, name)| {
            Some((day.checked_mul(24)?.checked_add(hour.parse().ok()?)?, name))
        })
        .ok_or_else(|| StoreError::Corrupt(format!("{field:?} is not a counter of an hour")))
}
