//! Reads a hash page by page.

use std::collections::HashSet;

use super::handle::RedisStore;
use crate::ports::StoreError;

/// The number of fields requested per scan step: some hundred kilobytes of entities.
pub(super) const SCAN: usize = 1_000;

/// The position in a hash.
pub(super) struct Scan {
    key: String,
    cursor: Option<u64>,
    seen: HashSet<String>,
}

impl Scan {
    pub(super) fn new(key: String) -> Self {
        Self {
            key,
            cursor: Some(0),
            seen: HashSet::new(),
        }
    }
}

impl RedisStore {
    /// One page of a hash, without the fields that were in earlier pages: Redis repeats some when the
    /// hash is resized in between.
    pub(super) async fn next_page(
        &self,
        scan: &mut Scan,
    ) -> Result<Option<Vec<(String, Vec<u8>)>>, StoreError> {
        let Some(cursor) = scan.cursor else {
            return Ok(None);
        };
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(&scan.key).arg(cursor).arg("COUNT").arg(SCAN);
        let (next, page): (u64, Vec<(String, Vec<u8>)>) = self.link.run(&cmd).await?;
        scan.cursor = (next != 0).then_some(next);
        Ok(Some(
            page.into_iter()
                .filter(|(field, _)| scan.seen.insert(field.clone()))
                .collect(),
        ))
    }
}
