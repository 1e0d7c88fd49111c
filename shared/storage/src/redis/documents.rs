//! Documents: for each space a hash, a hash of versions and a sorted index of the keys.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use serde::Serialize;

use super::handle::RedisStore;
use super::keys;
use super::script::Script;
use crate::ports::{
    Document, DocumentPage, DocumentUpdate, DocumentUpdated, DocumentWrite, Documents, Fence,
    KeyRange, StoreError,
};

static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/documents.lua")));
static UPDATE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/update_document.lua")));
static PAGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/document_page.lua")));
static INDEX: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/index_documents.lua")));

/// How often an index is rebuilt for a page while another process keeps making it incomplete.
const MAX_INDEX_ATTEMPTS: u32 = 5;

#[async_trait]
impl Documents for RedisStore {
    async fn documents(&self, space: &'static str) -> Result<Vec<(String, String)>, StoreError> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(keys::documents(space));
        let documents: BTreeMap<String, String> = self.link.run(&cmd).await?;
        Ok(documents.into_iter().collect())
    }

    async fn documents_by_key(
        &self,
        space: &'static str,
        keys: &[String],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let [hash, versions, _] = keys::document_space(space);
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("HMGET").arg(hash).arg(keys);
        pipeline.cmd("HMGET").arg(versions).arg(keys);
        let (bodies, versions): (Vec<Option<String>>, Vec<Option<String>>) =
            self.link.pipeline(&pipeline).await?;
        keys.iter()
            .zip(bodies.into_iter().zip(versions))
            .map(|(key, (body, version))| {
                body.map(|body| document(key.clone(), version.as_deref().unwrap_or("1"), body))
                    .transpose()
            })
            .collect()
    }

    async fn document_page(
        &self,
        space: &'static str,
        range: &KeyRange,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DocumentPage, StoreError> {
        let from = match after {
            Some(after) if after >= range.from.as_str() => format!("({after}"),
            _ => format!("[{}", range.from),
        };
        let before = match &range.before {
            Some(before) => format!("({before}"),
            None => "+".to_owned(),
        };
        let [hash, versions, index] = keys::document_space(space);
        let call = PAGE
            .on(vec![hash.clone(), versions, index.clone()])
            .arg(from)
            .arg(before)
            .arg(DocumentPage::rows_to_read(limit).to_string());
        let mut attempts = 0;
        let flat = loop {
            if let Some(flat) = self.link.call::<Option<Vec<String>>>(&call).await? {
                break flat;
            }
            attempts += 1;
            if attempts > MAX_INDEX_ATTEMPTS {
                return Err(StoreError::Unavailable(
                    format!("the index of the documents {space:?} stays incomplete: does an older revwatch write to this store?")
                        .into(),
                ));
            }
            self.link
                .call::<()>(&INDEX.on(vec![hash.clone(), index.clone()]))
                .await?;
        };
        let mut documents = Vec::with_capacity(flat.len() / 3);
        let mut flat = flat.into_iter();
        while let (Some(key), Some(version), Some(body)) = (flat.next(), flat.next(), flat.next()) {
            documents.push(document(key, &version, body)?);
        }
        Ok(DocumentPage::of(documents, limit))
    }

    async fn write_documents_under(
        &self,
        lease: &str,
        fence: Fence,
        writes: &[DocumentWrite],
    ) -> Result<(), StoreError> {
        let writes = writes
            .iter()
            .map(|write| (write.space, write.key.as_str(), write.body.as_deref()));
        if self.write_all(lease, &fence.0.to_string(), writes).await? {
            Ok(())
        } else {
            Err(StoreError::Fenced)
        }
    }

    async fn update_document(
        &self,
        update: &DocumentUpdate,
    ) -> Result<DocumentUpdated, StoreError> {
        let mut keys = vec![keys::document_sequence()];
        keys.extend(keys::document_space(update.space));
        let mut call = UPDATE
            .on(keys)
            .arg(update.key.as_str())
            .arg(update.expected.to_string())
            .arg(update.write_id.to_string());
        if let Some(body) = &update.body {
            call = call.arg(body.as_str());
        }
        let (outcome, version): (String, u64) = self.link.call(&call).await?;
        match outcome.as_str() {
            "applied" => Ok(DocumentUpdated::Applied(version)),
            "already applied" => Ok(DocumentUpdated::AlreadyApplied(version)),
            "conflict" => Ok(DocumentUpdated::Conflict(version)),
            other => Err(StoreError::Corrupt(format!(
                "update_document.lua answered {other:?}"
            ))),
        }
    }

    async fn submit(&self, space: &'static str, key: &str, body: &str) -> Result<(), StoreError> {
        self.write_all("none", "", [(space, key, Some(body))].into_iter())
            .await
            .map(drop)
    }
}

impl RedisStore {
    /// `fence` is empty for a write without one. Returns whether the fence is the newest.
    async fn write_all<'a>(
        &self,
        lease: &str,
        fence: &str,
        writes: impl Iterator<Item = (&'static str, &'a str, Option<&'a str>)> + Send,
    ) -> Result<bool, StoreError> {
        let mut keys = vec![keys::fence(lease), keys::document_sequence()];
        let mut spaces = BTreeMap::new();
        let mut packed = Vec::new();
        for (space, key, body) in writes {
            let space = *spaces.entry(space).or_insert_with(|| {
                keys.extend(keys::document_space(space));
                keys.len() - 2
            });
            packed.push(Write { space, key, body });
        }
        let packed = rmp_serde::to_vec_named(&packed)
            .map_err(|err| StoreError::Corrupt(format!("documents cannot be packed: {err}")))?;
        self.link.call(&WRITE.on(keys).arg(fence).arg(packed)).await
    }
}

/// One write, for `documents.lua`.
#[derive(Serialize)]
struct Write<'a> {
    /// Index of the space's first key in KEYS, from 1.
    space: usize,
    key: &'a str,
    /// Absent to delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
}

/// `version` may be followed by the id of the write.
fn document(key: String, version: &str, body: String) -> Result<Document, StoreError> {
    let number = version.split(' ').next().and_then(|text| text.parse().ok());
    let version = number.ok_or_else(|| {
        StoreError::Corrupt(format!("{version:?} is not the version of a document"))
    })?;
    Ok(Document { key, version, body })
}
