//! Progress: bars on a terminal for people, a file for Argo where it asks for one, nothing elsewhere (logs say the rest).

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::schedulers::ProgressFile;

/// Draws bars on standard error when it is a terminal.
#[derive(Clone)]
pub struct Progress {
    bars: MultiProgress,
    file: Option<Arc<ProgressFile>>,
}

/// One bar; it vanishes when dropped.
pub struct Bar {
    bar: ProgressBar,
    file: Option<Arc<ProgressFile>>,
}

impl Progress {
    /// Bars on a terminal unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let file = ProgressFile::of_argo().map(Arc::new);
        Progress { bars: MultiProgress::with_draw_target(target), file }
    }

    /// So many stages more are to come.
    pub fn expect_stages(&self, stages: usize) {
        if let Some(file) = &self.file {
            file.expect(stages as u64);
        }
    }

    /// One stage is done, now or before.
    pub fn stage_done(&self) {
        if let Some(file) = &self.file {
            file.stage_done();
        }
    }

    /// A bar of `total` steps, with rate and time left.
    pub fn bar(&self, name: &str, total: u64) -> Bar {
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {per_sec} eta {eta} {msg}")
            .expect("the template is valid")
            .progress_chars("=> ");
        let bar = self.bars.add(ProgressBar::new(total)).with_style(style).with_prefix(name.to_string());
        Bar { bar, file: self.file.clone() }
    }

    /// A spinner for work of unknown length.
    pub fn spinner(&self, name: &str) -> Bar {
        let style =
            ProgressStyle::with_template("{prefix:>12} {spinner} {elapsed} {msg}").expect("the template is valid");
        let bar = self.bars.add(ProgressBar::new_spinner()).with_style(style).with_prefix(name.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { bar, file: None }
    }

    /// Runs `print` with the bars out of the way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bars.suspend(print)
    }
}

impl Bar {
    pub fn advance(&self, by: u64) {
        self.bar.inc(by);
        if let Some(file) = &self.file {
            file.within(self.bar.position(), self.bar.length().unwrap_or(0));
        }
    }

    pub fn message(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
