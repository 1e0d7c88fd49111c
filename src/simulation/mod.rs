//! Rules tried out: a pretended revwatch in memory that plays events through the worker's and the
//! evaluator's own code by a clock of its own. Pure: files, archives and terminals are in
//! `cli/rules`.
//!
//! [`memory_store`] is the state, [`simulator`] the evaluator before it, [`scenario_file`] reads
//! tests, [`template`] makes their events, [`runner`] plays them in several variants, [`backtest`]
//! plays the past, [`describe`] says what a rule looks for.

pub mod backtest;
pub mod describe;
pub mod memory_store;
pub mod runner;
pub mod scenario;
pub mod scenario_file;
pub mod simulator;
pub mod template;
