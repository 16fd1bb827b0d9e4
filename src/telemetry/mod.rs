//! What machines that watch are told: figures for Prometheus, events for OpenLineage. None of it can fail a run or hold it up for
//! long: what cannot be delivered within seconds is a warning.

mod http;
mod lineage;
mod metrics;
mod places;
#[cfg(test)]
mod tests;
mod textfile;

use std::time::Instant;

use chrono::Utc;
use tokio::task::JoinHandle;
use tracing::warn;

use self::lineage::{Event, Lineage};
use self::metrics::Ended;
pub use self::places::{Given, Places};
use crate::artifacts::RunDate;
use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::pipeline::Outcome;

/// A run that is told of from its begin to its end. One that is dropped before its end was told to stop.
pub struct Telling {
    places: Places,
    name: String,
    command: &'static str,
    lineage: Lineage,
    started: Instant,
    /// The START event on its way.
    first: Option<JoinHandle<()>>,
    ended: bool,
}

impl Telling {
    /// Says that `command` begins for `dates`.
    pub fn begin(job: &Job, command: &'static str, dates: (RunDate, RunDate), places: Places) -> Telling {
        let lineage = Lineage::new(job, command, dates, &places);
        let mut telling = Telling {
            name: job.config.name.clone(),
            command,
            lineage,
            started: Instant::now(),
            first: None,
            ended: false,
            places,
        };
        if telling.places.has_lineage() {
            let (places, event) = (telling.places.clone(), telling.lineage.event(&Event::Start));
            telling.first = Some(tokio::spawn(async move { lineage::deliver(&places, &event).await }));
        }
        telling
    }

    /// Says how it ended.
    pub async fn end(mut self, outcome: &Result<Outcome>) {
        self.finish(outcome.as_ref().map(Some)).await;
    }

    /// The same for a command that is more than one date, and has no figures of one.
    pub async fn end_without_figures(mut self, outcome: Result<(), &Error>) {
        self.finish(outcome.map(|()| None)).await;
    }

    async fn finish(&mut self, outcome: Result<Option<&Outcome>, &Error>) {
        self.ended = true;
        if let Some(first) = self.first.take() {
            // its own time limit ends it
            let _ = first.await;
        }
        let event = match outcome {
            Ok(outcome) => Event::Complete(outcome),
            Err(error) if error.kind == Kind::NoData => Event::Complete(None),
            Err(error) if error.kind == Kind::Terminated => Event::Abort,
            Err(error) => Event::Fail(error),
        };
        let exit_code = outcome.err().map_or(0, |error| error.kind.exit_code());
        let figures = metrics::families(&Ended {
            name: &self.name,
            command: self.command,
            exit_code,
            seconds: self.started.elapsed().as_secs_f64(),
            at: Utc::now(),
            outcome: outcome.ok().flatten(),
        });
        let whole = exit_code == 0;
        if let Some(file) = &self.places.textfile
            && let Err(why) = textfile::write(file, &figures, &self.name, self.command, whole)
        {
            warn!("metrics are not written to {}: {why}", file.display());
        }
        let pushed = async {
            if let Some(gateway) = &self.places.pushgateway
                && let Err(why) = http::push(gateway, &metrics::text(&figures), &self.name, self.command, whole).await
            {
                warn!("metrics are not pushed to {}: {why}", http::shown(gateway));
            }
        };
        let told = async {
            if self.places.has_lineage() {
                lineage::deliver(&self.places, &self.lineage.event(&event)).await;
            }
        };
        tokio::join!(pushed, told);
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if self.ended || self.places.is_empty() {
            return;
        }
        let stopped = Error::new(Kind::Terminated, "told to stop");
        // a thread and a runtime of its own: this one may be shutting down
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Some(first) = self.first.take() {
                    first.abort();
                }
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map(|runtime| runtime.block_on(self.finish(Err(&stopped))))
            });
        });
    }
}
