//! What every process of revwatch has, whichever roles it plays: settings ([`config`], [`reload`]), metrics,
//! logs and traces ([`telemetry`]), listeners ([`admin`], [`listen`], [`bounded`]), requests that leave
//! ([`egress`]), the queue and the store behind the ports ([`backend`]), and an orderly start and end ([`process`],
//! [`supervise`]).

pub mod admin;
pub mod backend;
pub mod bounded;
pub mod config;
pub mod egress;
pub mod listen;
pub mod process;
pub mod reload;
pub mod supervise;
pub mod telemetry;
