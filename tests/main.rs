//! Tests against the real thing: adapters on their servers, and the binary as its users run it; and
//! of the rules that the sources keep.

mod contract;
mod pages;
mod property;
mod purity;
mod reference;
mod repository;
mod support;
mod system;
