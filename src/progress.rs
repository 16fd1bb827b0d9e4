//! Progress for people: bars on a terminal, nothing elsewhere (logs say the rest).

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Draws bars on standard error when it is a terminal.
#[derive(Clone)]
pub struct Progress {
    bars: MultiProgress,
}

/// One bar; it vanishes when dropped.
pub struct Bar(ProgressBar);

impl Progress {
    /// Bars on a terminal unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        Progress { bars: MultiProgress::with_draw_target(target) }
    }

    /// A bar of `total` steps, with rate and time left.
    pub fn bar(&self, name: &str, total: u64) -> Bar {
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {per_sec} eta {eta} {msg}")
            .expect("the template is valid")
            .progress_chars("=> ");
        Bar(self.bars.add(ProgressBar::new(total)).with_style(style).with_prefix(name.to_string()))
    }

    /// A spinner for work of unknown length.
    pub fn spinner(&self, name: &str) -> Bar {
        let style =
            ProgressStyle::with_template("{prefix:>12} {spinner} {elapsed} {msg}").expect("the template is valid");
        let bar = self.bars.add(ProgressBar::new_spinner()).with_style(style).with_prefix(name.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar(bar)
    }

    /// Runs `print` with the bars out of the way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bars.suspend(print)
    }
}

impl Bar {
    pub fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    pub fn message(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
