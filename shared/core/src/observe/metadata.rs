//! `metadata`: what the platform itself wrote into Stripe's objects.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::lenient::Lenient;
use crate::class::Owner;
use crate::entity::application_ids::ApplicationIds;
use crate::event::Event;

/// The keys under which the platform's application writes its ids.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataKeys {
    /// The key of the application's id.
    pub app_id: String,
    /// The key of the id of a user of it.
    pub user_id: String,
}

impl Default for MetadataKeys {
    fn default() -> Self {
        Self {
            app_id: "app_id".to_owned(),
            user_id: "user_id".to_owned(),
        }
    }
}

/// `metadata`. What is not text is left out: no amount depends on it.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Metadata(BTreeMap<String, Lenient<String>>);

impl Lenient<Metadata> {
    /// The ids in the metadata of an object of the platform's own. A connected account writes what it likes
    /// into that of its objects.
    pub(super) fn own_ids(&self, event: &Event<'_>, keys: &MetadataKeys) -> Option<ApplicationIds> {
        match Owner::of(event.account.as_deref()) {
            Owner::Platform => self.ids(event, keys),
            Owner::Connected => None,
        }
    }

    /// The ids in it; `None` if the event does not show metadata.
    pub(super) fn ids(&self, event: &Event<'_>, keys: &MetadataKeys) -> Option<ApplicationIds> {
        let Metadata(values) = self.as_known()?;
        let value = |key: &String| values.get(key).and_then(Lenient::as_known);
        let id = |key: &String| value(key).filter(|id| is_id(id)).cloned();
        Some(ApplicationIds {
            at_s: event.created_s,
            app_id: id(&keys.app_id),
            user_id: id(&keys.user_id),
        })
    }
}

/// The most characters that an id has.
const MAX_CHARACTERS: usize = 64;

/// Other text is no id: people write what they like into metadata.
fn is_id(text: &str) -> bool {
    let is_shown = |c: char| !c.is_control() && !c.is_whitespace();
    (1..=MAX_CHARACTERS).contains(&text.chars().count()) && text.chars().all(is_shown)
}
