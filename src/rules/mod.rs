//! Rules tried out: a pretended revwatch in memory that plays events through the worker's and the
//! evaluator's own code by a clock of its own. Pure: files, archives and terminals are in `cli/rules`.
//!
//! [`ledger`] is the state, [`mod@bench`] the evaluator before it, [`script_text`] reads tests, [`template`] makes
//! their events, [`play`] plays them in several variants, [`backtest`] plays the past, [`words`] says what a
//! rule looks for.

pub mod backtest;
pub mod bench;
pub mod ledger;
pub mod play;
pub mod script;
pub mod script_text;
pub mod template;
pub mod words;
