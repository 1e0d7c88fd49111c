//! Reloads the settings of a running process on SIGHUP.
//!
//! Invariant: all or nothing. Every role prepares the new settings, which may fail. Only if all
//! succeed, each applies them, which cannot fail.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Effective, Faults};
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

/// Applies the settings only if all roles could prepare them. Otherwise every fault is named.
fn reload(file: Option<&Path>, parts: &[Prepare]) -> Result<Effective, ConfigError> {
    let prepared = |config: &Config| prepare_all(config, parts);
    let (new, ready) = Effective::accepted_from_environment(file, prepared)?;
    ready.into_iter().for_each(|apply| apply());
    Ok(new)
}

/// Prepares all roles, or finds all their faults.
fn prepare_all(config: &Config, parts: &[Prepare]) -> Result<Vec<Apply>, ConfigError> {
    let mut faults = Faults::default();
    let ready = parts
        .iter()
        .filter_map(|prepare| faults.of(prepare(config)))
        .collect();
    faults.none().map(|()| ready)
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
                match new.take_effect(last, &self.started).join(", ") {
                    // Rules and secrets in files may have changed all the same.
                    changed if changed.is_empty() => tracing::info!(
                        "settings reloaded: no changed setting takes effect; the files of rules and secrets were read again"
                    ),
                    changed => tracing::info!(changed, "settings reloaded"),
                }
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
        let error = prepare_all(&config, &[to(2), failing("a"), to(3), failing("b")])
            .err()
            .expect("refused");
        assert_eq!((error.to_string(), *current.get()), ("a\nb".to_owned(), 1));
        for apply in prepare_all(&config, &[to(2), to(3)]).expect("all succeed") {
            apply();
        }
        assert_eq!(
            (*current.get(), *seen),
            (3, 1),
            "a reader keeps the value it obtained"
        );
    }
}
