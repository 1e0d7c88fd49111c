//! What the state of every kind of entity can do.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::events::EventRef;
use super::key::EntityKey;
use super::mention::Mention;
use super::transition::Transition;
use crate::class::Class;
use crate::condition::Condition;
use crate::counters::Tally;
use crate::view::field::Fields;

/// Why stored bytes are not the state of an entity.
pub(super) type DecodeError = rmp_serde::decode::Error;

/// The state of an entity, and everything that is a function of it. Each kind implements this in its
/// own file.
pub trait EntityState: Encode + Fields {
    /// Sets what the stored bytes do not contain, because the key has it.
    fn set_key(&mut self, key: &EntityKey);

    /// What determines the partition of its events, as [`crate::event::Event::partition`] has it.
    fn partition_key(&self) -> &str;

    /// The connected account that it belongs to, or that it is.
    fn account(&self) -> Option<&str>;

    /// The newest thin event that names it, if no state since then is known.
    fn unanswered(&self) -> Option<&Mention>;

    /// Whose it is: its counters count for this class.
    fn class(&self) -> Class<'_>;

    /// See [`super::Entity::contributions`].
    fn contributions(&self, tally: &mut Tally);

    /// See [`super::Entity::conditions`].
    fn conditions(&self) -> Vec<Condition>;

    /// See [`super::Entity::history`].
    fn transitions(&self) -> Vec<Transition>;

    /// See [`super::Entity::events`].
    fn events(&self) -> Vec<EventRef>;
}

/// Encodes without knowing the type.
pub trait Encode {
    /// Appends MessagePack with fields by position.
    fn encode(&self, bytes: &mut Vec<u8>);
}

impl<T: Serialize> Encode for T {
    fn encode(&self, bytes: &mut Vec<u8>) {
        rmp_serde::encode::write(bytes, self)
            .expect("plain structs encode, and writing to a Vec cannot fail");
    }
}

/// The entity before any event about it.
pub(super) fn empty<T: EntityState + Default>(key: &EntityKey) -> T {
    let mut state = T::default();
    state.set_key(key);
    state
}

/// The output of [`Encode::encode`].
pub(super) fn decode<T: EntityState + DeserializeOwned>(
    key: &EntityKey,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    let mut state: T = rmp_serde::from_slice(bytes)?;
    state.set_key(key);
    Ok(state)
}
