//! Queue and store in memory, for tests and simulations: the same contract as the other adapters, and
//! failures on request.
//!
//! It is deterministic: time comes from a [`Clock`](revwatch_core::clock::Clock), server run ids are
//! numbered, and nothing is random. What it holds lives as long as its handles; [`Memory::reopen`] stands for a restarted process.

mod aggregates;
mod audit;
mod conditions;
mod conversion;
mod coordination;
mod documents;
mod entities;
mod fakes;
mod gate;
mod handle;
mod queue;
mod queue_state;
mod recovery;
mod store_state;

pub use self::fakes::{NumberedIds, VirtualClock};
pub use self::gate::{Gate, GateState};
pub use self::handle::{Faults, Memory};
