//! Progress: for people a live view on a terminal, one line of each stage with its memory and below it a bar of each part, and
//! elsewhere a log line now and then; for Argo a file where it asks for one.

mod memory;
mod shown;

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tracing::info;

pub use memory::{available, peak, resident};
pub use shown::{bytes, count, span_of_time};

use crate::schedulers::ProgressFile;

/// Time between two log lines of a part where no bars are drawn.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// The bars of the whole process. There is one terminal, whatever runs beside each other.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    let target = if is_live() { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
    MultiProgress::with_draw_target(target)
});

/// Whether standard error is a terminal that bars can be drawn on.
pub fn is_live() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether what goes to a terminal may have colours: `NO_COLOR`, when set to anything, forbids them.
pub fn has_colours() -> bool {
    is_live() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Runs `print` with the bars out of the way: for whoever else writes to standard error.
pub fn above_bars<T>(print: impl FnOnce() -> T) -> T {
    BARS.suspend(print)
}

/// How far a job is, for people.
#[derive(Clone)]
pub struct Progress {
    bars: MultiProgress,
    live: bool,
    quiet: bool,
    file: Option<Arc<ProgressFile>>,
}

/// The line of one stage; it vanishes when dropped.
pub struct StageLine {
    line: ProgressBar,
    name: String,
    began: Instant,
    live: bool,
}

/// One part of a stage; it vanishes when dropped.
pub struct Bar {
    bar: ProgressBar,
    name: String,
    total: Option<u64>,
    began: Instant,
    /// Milliseconds after `began` when it was last told of.
    told: AtomicU64,
    /// Whether it is told of by log lines.
    logged: bool,
    file: Option<Arc<ProgressFile>>,
}

impl Progress {
    /// A live view on a terminal and log lines elsewhere, unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        let live = !quiet && is_live();
        let hidden = || MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let file = ProgressFile::of_argo().map(Arc::new);
        Progress { bars: if live { BARS.clone() } else { hidden() }, live, quiet, file }
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

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The line of a stage that begins: time, and memory against `limit`, with what sets it.
    pub fn stage(&self, name: &str, limit: Option<(u64, &'static str)>) -> StageLine {
        let memory = move |_: &ProgressState, out: &mut dyn Write| {
            let _ = match (resident(), limit) {
                (Some(now), Some((most, what))) => write!(out, "memory {} of {} ({what})", bytes(now), bytes(most)),
                (Some(now), None) => write!(out, "memory {}", bytes(now)),
                (None, _) => write!(out, "peak memory {}", bytes(peak())),
            };
        };
        let style = ProgressStyle::with_template("{prefix:>18.bold} {elapsed_precise}  {memory}")
            .expect("the template is valid")
            .with_key("memory", memory);
        let line = self.bars.add(ProgressBar::new_spinner()).with_style(style).with_prefix(name.to_string());
        if self.live {
            line.enable_steady_tick(Duration::from_millis(500));
        }
        StageLine { line, name: name.to_string(), began: Instant::now(), live: self.live }
    }

    /// A bar of `total` steps, with rate and time left.
    pub fn bar(&self, name: &str, total: u64) -> Bar {
        let style = ProgressStyle::with_template("{prefix:>18} [{bar:24}] {human_pos}/{human_len}{rate}  {wide_msg}")
            .expect("the template is valid")
            .with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
                let (rate, left) = (state.per_sec(), state.len().unwrap_or(0).saturating_sub(state.pos()));
                if rate >= 1.0 {
                    let seconds = Duration::from_secs_f64(left as f64 / rate);
                    let _ = write!(out, "  {}/s  {} left", count(rate as u64), span_of_time(seconds));
                }
            })
            .progress_chars("=> ");
        self.part(name, Some(total), ProgressBar::new(total).with_style(style))
    }

    /// A line for work of unknown length.
    pub fn spinner(&self, name: &str) -> Bar {
        let style = ProgressStyle::with_template("{prefix:>18} {spinner} {elapsed}  {wide_msg}")
            .expect("the template is valid");
        let bar = self.part(name, None, ProgressBar::new_spinner().with_style(style));
        if self.live {
            bar.bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar
    }

    fn part(&self, name: &str, total: Option<u64>, bar: ProgressBar) -> Bar {
        let bar = self.bars.add(bar).with_prefix(name.to_string());
        let logged = !self.live && !self.quiet;
        // work of unknown length says nothing of a stage's share
        let file = self.file.clone().filter(|_| total.is_some());
        Bar { bar, name: name.to_string(), total, began: Instant::now(), told: AtomicU64::new(0), logged, file }
    }
}

impl StageLine {
    /// Leaves a line behind that stays: what the stage took and what it made.
    pub fn done(self, what: &str) {
        if !self.live {
            return;
        }
        let (bold, plain) = if has_colours() { ("\x1b[32m", "\x1b[0m") } else { ("", "") };
        let (took, peak) = (span_of_time(self.began.elapsed()), bytes(peak()));
        self.line.finish_and_clear();
        above_bars(|| eprintln!("{bold}{:>18}{plain} {took:>8}  peak memory {peak}  {what}", self.name));
    }
}

impl Drop for StageLine {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

impl Bar {
    pub fn advance(&self, by: u64) {
        self.bar.inc(by);
        if let Some(file) = &self.file {
            file.within(self.bar.position(), self.bar.length().unwrap_or(0));
        }
        self.tell();
    }

    /// What is being done, behind the bar.
    pub fn message(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
        self.tell();
    }

    /// Where nobody sees bars, a line now and then.
    fn tell(&self) {
        if !self.logged {
            return;
        }
        let now = self.began.elapsed();
        let told = self.told.load(Ordering::Relaxed);
        let due = now.as_millis() as u64 >= told + TOLD_EVERY.as_millis() as u64;
        let mine = || self.told.compare_exchange(told, now.as_millis() as u64, Ordering::Relaxed, Ordering::Relaxed);
        if !due || mine().is_err() {
            return;
        }
        let (part, done, message) = (&self.name, self.bar.position(), self.bar.message());
        let per_second = (done as f64 / now.as_secs_f64()) as u64;
        match self.total {
            Some(total) => {
                let left = total.saturating_sub(done).checked_div(per_second);
                info!(part, done, total, per_second, seconds_left = left, message, "going on");
            }
            None => info!(part, seconds = now.as_secs(), "going on: {message}"),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_told_of_after_half_a_minute_and_then_once() {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let progress = Progress { bars, live: false, quiet: false, file: None };
        let mut bar = progress.bar("rows", 100);
        bar.advance(10);
        assert_eq!(bar.told.load(Ordering::Relaxed), 0, "too early");
        bar.began = Instant::now().checked_sub(TOLD_EVERY).expect("the machine is up for longer");
        bar.advance(10);
        let told = bar.told.load(Ordering::Relaxed);
        assert!(told >= TOLD_EVERY.as_millis() as u64, "{told}");
        bar.advance(10);
        assert_eq!(bar.told.load(Ordering::Relaxed), told);
    }
}
