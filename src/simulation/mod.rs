//! Simulates revwatch in memory: events run through the worker's and the evaluator's own code with
//! a simulated clock. Pure: files, archives and terminals are in `cli/rules`.
//!
//! [`memory_store`] holds the state, [`resolver`] meets needs from it, [`simulator`] runs the evaluator, [`calendar`] knows when time
//! alone moves a metric, [`scenario_file`] reads tests, [`template`] builds their events,
//! [`runner`] runs tests in several variants, [`expectation`] checks their results, [`backtest`]
//! runs past events.

pub mod backtest;
pub mod calendar;
pub mod expectation;
pub mod memory_store;
pub mod resolver;
pub mod runner;
pub mod scenario;
pub mod scenario_file;
pub mod simulator;
pub mod template;
#[cfg(test)]
mod tests;
