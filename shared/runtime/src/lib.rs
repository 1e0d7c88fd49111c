//! The parts common to every process of revwatch, whichever roles it runs: settings ([`config`],
//! [`reload`]), metrics, logs and traces ([`telemetry`]), listeners ([`public`], [`admin`],
//! [`listen`]), outgoing requests (`egress`, with the feature `client`), the queue and the store
//! behind the ports ([`backend`]), readiness that is tried out ([`probe`]), files that people write ([`files`]), pauses between attempts
//! ([`retries`]), the limit of open files ([`open_files`]), and orderly start and shutdown ([`arguments`], [`process`], [`failure`],
//! [`panics`], [`supervise`]). [`wording`] has the words for faults in TOML files.

pub mod admin;
pub mod arguments;
pub mod backend;
pub mod config;
#[cfg(feature = "client")]
pub mod egress;
pub mod failure;
pub mod files;
pub mod listen;
pub mod open_files;
pub mod panics;
pub mod probe;
pub mod process;
pub mod public;
pub mod reload;
pub mod retries;
pub mod supervise;
pub mod telemetry;
pub mod wording;
