//! One run of the job: its settings and the live things that every stage needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Span;

use crate::artifacts::RunDate;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::storage::Store;

/// One run of the job for one date.
#[derive(Clone)]
pub struct Job {
    pub config: Arc<Config>,
    /// The output folder.
    pub output: Store,
    pub date: RunDate,
    pub progress: Progress,
    pub stop: Stop,
}

impl Job {
    /// The same job for another date.
    pub fn at(&self, date: RunDate) -> Job {
        Job { date, ..self.clone() }
    }
}

/// Set by SIGTERM and Ctrl-C; long loops ask it.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the job was told to stop.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error once the job was told to stop.
    pub fn check(&self) -> Result<()> {
        if self.requested() {
            return Err(Error::new(Kind::Terminated, "told to stop; what was finished is kept, run it again to go on"));
        }
        Ok(())
    }
}

/// `configured` cores, or all of them for 0.
pub fn threads(configured: usize) -> usize {
    if configured > 0 { configured } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// Threads of one's own for `configured` cores (all of them for 0), so that other work in the process does not change their number.
/// What they log belongs to the stage that made them.
pub fn thread_pool(configured: usize) -> Result<rayon::ThreadPool> {
    let (entered, left) = (Span::current(), Span::current());
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads(configured))
        .start_handler(move |_| {
            entered.with_subscriber(|(id, dispatch)| dispatch.enter(id));
        })
        .exit_handler(move |_| {
            left.with_subscriber(|(id, dispatch)| dispatch.exit(id));
        })
        .build();
    pool.map_err(|error| Error::internal("cannot start threads").caused_by(error))
}
