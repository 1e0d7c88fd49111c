//! The output: permanent lines on standard output, and below them a live status line if standard
//! error is a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use tokio::time::Instant;

use super::notifier::SentAlert;

/// The output of the demo.
pub struct Screen {
    began: Instant,
    status: ProgressBar,
    colors: bool,
}

const BOLD: &str = "1";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
const DIM: &str = "2";

impl Screen {
    /// Starts the clock of the demo.
    pub fn new(plain: bool) -> Self {
        let status = if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
            let bar = ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
                // An interrupt drops it without clearing it.
                .with_finish(ProgressFinish::AndClear);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            ProgressBar::hidden()
        };
        Self {
            began: Instant::now(),
            status,
            colors: !plain && io::stdout().is_terminal(),
        }
    }

    /// Seconds since the start.
    pub fn elapsed_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Changes the status line.
    pub fn status(&self, text: String) {
        self.status.set_message(text);
    }

    /// Prints a permanent line.
    pub fn print_line(&self, text: &str) -> io::Result<()> {
        // Hides the status line while it prints, so that the lines do not mix.
        self.status
            .suspend(|| writeln!(io::stdout().lock(), "{text}"))
    }

    /// Prints the next phase.
    pub fn phase(&self, text: &str) -> io::Result<()> {
        self.print_line(&format!(
            "\n{:5.1} s  {}",
            self.elapsed_s(),
            self.paint(BOLD, text)
        ))
    }

    /// Prints an alert.
    pub fn alert(&self, alert: &SentAlert) -> io::Result<()> {
        let mut lines = alert.text.lines();
        let color = if alert.resolved { GREEN } else { RED };
        let mut text = format!(
            "{:5.1} s    {}",
            self.elapsed_s(),
            self.paint(color, lines.next().unwrap_or_default())
        );
        for line in lines {
            text.push_str(&format!("\n           {} {line}", self.paint(DIM, "│")));
        }
        self.print_line(&text)
    }

    /// Removes the status line.
    pub fn close(&self) {
        self.status.finish_and_clear();
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.colors {
            format!("\x1b[{color}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
