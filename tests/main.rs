//! Tests against the real thing: adapters on their servers, and the binary as its users run it.

mod contract;
mod property;
mod support;
mod system;
