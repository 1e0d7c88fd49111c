//! Rules tried out: a pretended revwatch in memory that plays events through the worker's and the
//! evaluator's own code by a clock of its own. Pure: files, archives and terminals are in `cli/rules`.
//!
//! [`ledger`] is the state, [`mod@bench`] the evaluator before it, [`script_text`] reads tests, [`template`] makes
//! their events, [`play`] plays them in several variants, [`backtest`] plays the past, [`words`] says what a
//! rule looks for.

pub mod backtest;
pub mod describe;
pub mod memory_store;
pub mod runner;
pub mod scenario;
pub mod scenario_file;
pub mod simulator;
pub mod template;
