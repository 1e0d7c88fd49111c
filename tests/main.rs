//! Tests against real servers: adapters, and the binary as its users run it; and tests of the
//! repository's rules.

mod contract;
mod pages;
mod property;
mod purity;
mod reference;
mod repository;
mod simulation;
mod support;
mod system;
