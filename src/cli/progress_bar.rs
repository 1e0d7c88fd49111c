//! Progress on standard error. It is shown only on a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar, if there are many of `what`.
pub fn bar(length: usize, min_length: usize, what: &str) -> ProgressBar {
    if length < min_length || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what}, {{per_sec}}, {{eta}} left");
    ProgressBar::new(length as u64).with_style(style(&template, ProgressStyle::default_bar))
}

/// A spinner: the total is not known in advance. `what` is the text after the count.
pub fn spinner(what: &str) -> ProgressBar {
    let progress = ProgressBar::hidden();
    reveal(&progress, what);
    progress
}

/// Shows a hidden spinner from now on, when it turns out that there is much to do.
pub fn reveal(progress: &ProgressBar, what: &str) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let template = format!("{{spinner}} {{human_pos}} {what}, {{elapsed}}");
    progress.set_style(style(&template, ProgressStyle::default_spinner));
    progress.set_draw_target(ProgressDrawTarget::stderr());
    progress.enable_steady_tick(Duration::from_millis(200));
}

fn style(template: &str, default: fn() -> ProgressStyle) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| default())
}
