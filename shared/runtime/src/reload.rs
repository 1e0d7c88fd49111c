//! Reloads the settings of a running process on SIGHUP.
//!
//! Invariant: all or nothing. Every role prepares the new settings, which may fail. Only if all
//! succeed, each applies them, which cannot fail.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Effective};
use crate::telemetry::Metrics;

/// Applies what was prepared.
pub type Apply = Box<dyn FnOnce() + Send>;

/// Prepares one role for new settings, or reports their faults.
pub type Prepare = Box<dyn Fn(&Config) -> Result<Apply, ConfigError> + Send + Sync>;

/// A value with many readers that a reload replaces. Readers keep the value they obtained.
pub struct Reloadable<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Reloadable<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Reloadable<T> {
    /// The initial value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// The current value.
    pub fn get(&self) -> Arc<T> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// Receives SIGHUP, and knows the settings file.
pub(crate) struct Reload {
    hangups: Signal,
    file: Option<PathBuf>,
}

/// The active settings, and the handlers that apply new ones.
pub(crate) struct ActiveConfig {
    pub(crate) started: Arc<Effective>,
    pub(crate) parts: Arc<Vec<Prepare>>,
    pub(crate) metrics: Metrics,
}

impl Reload {
    /// From now on SIGHUP does not end the process. It stays pending until [`Reload::run`].
    pub(crate) fn listen(file: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            hangups: signal(SignalKind::hangup())?,
            file,
        })
    }

    /// Reloads the settings on every SIGHUP, until `shutdown`.
    pub(crate) async fn run(&mut self, active: &ActiveConfig, shutdown: CancellationToken) {
        let mut last = active.started.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                received = self.hangups.recv() => if received.is_none() { return },
            }
            let (file, parts) = (self.file.clone(), active.parts.clone());
            // It reads files and creates clients, so it runs outside the tasks that serve requests.
            let reloading = tokio::task::spawn_blocking(move || reload(file.as_deref(), &parts));
            let result = reloading
                .await
                .unwrap_or_else(|_| Err(ConfigError::of("a role panicked; please report this")));
            active.report(&result, &last);
            if let Ok(new) = result {
                last = Arc::new(new);
            }
        }
    }
}

fn reload(file: Option<&Path>, parts: &[Prepare]) -> Result<Effective, ConfigError> {
    let new = Effective::from_environment(file)?;
    apply_to_all(&new.config, parts)?;
    Ok(new)
}

/// Prepares all roles, and applies the settings only if all succeeded.
fn apply_to_all(config: &Config, parts: &[Prepare]) -> Result<(), ConfigError> {
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
    fn report(&self, result: &Result<Effective, ConfigError>, last: &Effective) {
        let reloads = |outcome| {
            self.metrics
                .config_reloads
                .with_label_values(&[outcome])
                .inc();
        };
        match result {
            Ok(new) => {
                self.metrics.config_last_reload_ok.set(1);
                let need_restart = new.need_restart(&self.started);
                if !need_restart.is_empty() {
                    tracing::warn!(
                        settings = need_restart.join(", "),
                        "some changed settings need a restart"
                    );
                }
                // The contents of files that settings name may have changed too.
                tracing::info!(
                    changed = new.differs_from(last).join(", "),
                    "settings reloaded"
                );
                reloads("applied");
            }
            Err(error) => {
                self.metrics.config_last_reload_ok.set(0);
                tracing::error!(%error, "settings not reloaded; the previous ones stay active");
                reloads("refused");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failing_role_keeps_all_settings_unchanged() {
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
        let failing =
            |fault: &'static str| -> Prepare { Box::new(move |_| Err(ConfigError::of(fault))) };
        let error = apply_to_all(&config, &[to(2), failing("a"), to(3), failing("b")])
            .expect_err("refused");
        assert_eq!(
            (error.faults, *current.get()),
            (vec!["a".to_owned(), "b".to_owned()], 1)
        );
        apply_to_all(&config, &[to(2), to(3)]).expect("all succeed");
        assert_eq!(
            (*current.get(), *seen),
            (3, 1),
            "a reader keeps the value it obtained"
        );
    }
}
