//! The edge over real sockets: every answer, every limit, shutdown, and a flood of refused
//! requests. The queue is a test double; the real adapters have their own contract suite.

mod answers;
mod app;
mod bodies;
mod connections;
mod flood;
mod limits;
mod shutdown;
mod signatures;
mod support;
