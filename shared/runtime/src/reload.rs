//! Settings read anew while a process runs, when SIGHUP asks for it.
//!
//! Invariant: all or nothing. Every role prepares what it needs of the new settings, which may fail; only when
//! all of them could, each takes it over, which cannot.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Effective};
use crate::telemetry::Metrics;

/// Takes over what was prepared.
pub type Apply = Box<dyn FnOnce() + Send>;

/// Prepares one role for other settings, or says what is wrong with them.
pub type Prepare = Box<dyn Fn(&Config) -> Result<Apply, ConfigError> + Send + Sync>;

/// A value that many read and a reload replaces. Whoever has got it keeps what it got.
pub struct Reloadable<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Reloadable<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Reloadable<T> {
    /// The first value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// As it is now.
    pub fn get(&self) -> Arc<T> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on it is this.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// Hears SIGHUP, and knows where settings are.
pub(crate) struct Reload {
    hangups: Signal,
    file: Option<PathBuf>,
}

/// Settings in force, and who takes over others.
pub(crate) struct ActiveConfig {
    pub(crate) started: Arc<Effective>,
    pub(crate) parts: Arc<Vec<Prepare>>,
    pub(crate) metrics: Metrics,
}

impl Reload {
    /// From now on SIGHUP does not end the process. It waits to be answered until [`Reload::run`].
    pub(crate) fn listen(file: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            hangups: signal(SignalKind::hangup())?,
            file,
        })
    }

    /// Reads settings anew whenever SIGHUP asks for it, until `shutdown`.
    pub(crate) async fn run(&mut self, in_force: &ActiveConfig, shutdown: CancellationToken) {
        let mut last = in_force.started.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                heard = self.hangups.recv() => if heard.is_none() { return },
            }
            let (file, parts) = (self.file.clone(), in_force.parts.clone());
            // Files are read, and clients made: not among the tasks that answer.
            let reloading = tokio::task::spawn_blocking(move || reload(file.as_deref(), &parts));
            let result = reloading
                .await
                .unwrap_or_else(|_| Err(ConfigError::of("a role panicked; please report this")));
            in_force.tell(&result, &last);
            if let Ok(new) = result {
                last = Arc::new(new);
            }
        }
    }
}

fn reload(file: Option<&Path>, parts: &[Prepare]) -> Result<Effective, ConfigError> {
    let new = Effective::from_environment(file)?;
    take_over(&new.config, parts)?;
    Ok(new)
}

/// Has all prepare, and only then all take over.
fn take_over(config: &Config, parts: &[Prepare]) -> Result<(), ConfigError> {
    let (mut ready, mut faults) = (Vec::new(), Vec::new());
    for prepare in parts {
        match prepare(config) {
            Ok(apply) => ready.push(apply),
            Err(error) => faults.extend(error.faults),
        }
    }
    ConfigError::none_of(faults)?;
    for apply in ready {
        apply();
    }
    Ok(())
}

impl ActiveConfig {
    fn tell(&self, result: &Result<Effective, ConfigError>, last: &Effective) {
        let reloads = |outcome| {
            self.metrics
                .config_reloads
                .with_label_values(&[outcome])
                .inc();
        };
        match result {
            Ok(new) => {
                self.metrics.config_last_reload_ok.set(1);
                let waiting = new.wait_for_restart(&self.started);
                if !waiting.is_empty() {
                    tracing::warn!(
                        settings = waiting.join(", "),
                        "changed settings that wait for a restart"
                    );
                }
                // What is in the files that settings name may have changed, too.
                tracing::info!(
                    changed = new.differs_from(last).join(", "),
                    "settings reloaded"
                );
                reloads("applied");
            }
            Err(error) => {
                self.metrics.config_last_reload_ok.set(0);
                tracing::error!(%error, "settings not reloaded; the old ones stay in force");
                reloads("refused");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_role_that_cannot_keeps_all_as_they_are() {
        let config = Config::load(None, &|_| None).expect("valid");
        let current = Reloadable::new(1);
        let seen = current.get();
        let to = |new: i32| -> Prepare {
            let current = current.clone();
            Box::new(move |_| {
                let current = current.clone();
                Ok(Box::new(move || current.set(new)))
            })
        };
        let wrong =
            |fault: &'static str| -> Prepare { Box::new(move |_| Err(ConfigError::of(fault))) };
        let error =
            take_over(&config, &[to(2), wrong("a"), to(3), wrong("b")]).expect_err("refused");
        assert_eq!(
            (error.faults, *current.get()),
            (vec!["a".to_owned(), "b".to_owned()], 1)
        );
        take_over(&config, &[to(2), to(3)]).expect("nothing is wrong");
        assert_eq!(
            (*current.get(), *seen),
            (3, 1),
            "whoever has got it keeps what it got"
        );
    }
}
