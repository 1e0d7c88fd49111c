//! Counters.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use async_trait::async_trait;
use revwatch_core::bucket::{Bucket, Buckets};
use revwatch_core::counters::{Counters, sum};

use super::handle::RedisStore;
use super::keys;
use crate::ports::{Aggregates, StoreError};

/// The most days that are read by name; for more, the existing days are read first.
const DAYS_BY_NAME: u32 = 62;

#[async_trait]
impl Aggregates for RedisStore {
    async fn counters(&self, buckets: &Buckets) -> Result<Counters, StoreError> {
        let partitions = self
            .each_partition(|partition| self.partition_counters(partition, buckets))
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
        Ok(sum(partitions.into_iter().flatten().flatten()))
    }
}

impl RedisStore {
    pub(super) async fn partition_counters(
        &self,
        partition: u32,
        buckets: &Buckets,
    ) -> Result<Counters, StoreError> {
        let days = self.days_between(partition, &buckets.hours).await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(keys::counters(partition));
        for day in &days {
            pipeline.cmd("HGETALL").arg(keys::hours(partition, *day));
        }
        for hour in &buckets.minutes_of {
            pipeline.cmd("HGETALL").arg(keys::minutes(partition, *hour));
        }
        let answers: Vec<BTreeMap<String, i64>> = self.link.pipeline(&pipeline).await?;
        let (mut found, mut answers) = (Counters::default(), answers.into_iter());
        for (name, value) in answers.next().unwrap_or_default() {
            found.add_named(Bucket::Current, name, value);
        }
        for (day, counters) in days.into_iter().zip(answers.by_ref()) {
            for (field, value) in counters {
                let (hour, name) = place_and_name(day, 24, &field)?;
                if buckets.hours.contains(&hour) {
                    found.add_named(Bucket::Hour(hour), name.to_owned(), value);
                }
            }
        }
        for (hour, counters) in buckets.minutes_of.iter().zip(answers) {
            for (field, value) in counters {
                let (minute, name) = place_and_name(*hour, 60, &field)?;
                found.add_named(Bucket::Minute(minute), name.to_owned(), value);
            }
        }
        Ok(found)
    }

    async fn days_between(
        &self,
        partition: u32,
        hours: &RangeInclusive<u32>,
    ) -> Result<Vec<u32>, StoreError> {
        if hours.is_empty() {
            return Ok(Vec::new());
        }
        let days = hours.start() / 24..=hours.end() / 24;
        if days.end() - days.start() < DAYS_BY_NAME {
            return Ok(days.collect());
        }
        let mut cmd = redis::cmd("SMEMBERS");
        cmd.arg(keys::days(partition));
        let exist: BTreeSet<u32> = self.link.run(&cmd).await?;
        Ok(exist.into_iter().filter(|day| days.contains(day)).collect())
    }
}

/// The hour of a day's field, or the minute of an hour's: each hash holds `length` of them.
fn place_and_name(of: u32, length: u32, field: &str) -> Result<(u32, &str), StoreError> {
    field
        .split_once('|')
        .and_then(|(place, name)| {
            let first = of.checked_mul(length)?;
            Some((first.checked_add(place.parse().ok()?)?, name))
        })
        .ok_or_else(|| {
            StoreError::Corrupt(format!("{field:?} is not a counter of an hour or a minute"))
        })
}
