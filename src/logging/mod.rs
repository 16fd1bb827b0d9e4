//! Logs on standard error: text on a terminal, one JSON object a line elsewhere. And the signals that end a job.

mod lines;
mod writer;

use std::time::Instant;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

use crate::cli::{LogFormat, Logging};
use crate::error::{Error, Kind};
use crate::job::Stop;
use crate::progress;
use crate::schedulers;

/// Seconds a job that was told to stop has to end by itself. Kubernetes kills after 30.
const GRACE_SECONDS: u64 = 25;

/// Sets up logging for the whole process. `RUST_LOG` overrides the level.
///
/// On a terminal the live view says what is done, so that only warnings stand beside it; `-v` brings the log lines back.
pub fn init(logging: &Logging) {
    let live = progress::is_live();
    let level = match (logging.quiet, logging.verbose) {
        (true, _) => "warn",
        // but not the line that says why nothing happens
        (false, 0) if live => "warn,twotower::storage::lease=info",
        (false, 0) => "warn,twotower=info",
        (false, 1) => "info,twotower=debug",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let json = match logging.log_format {
        LogFormat::Auto => !live,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer::AboveBars::new(std::env::vars()))
        .fmt_fields(JsonFields::new())
        .event_format(lines::Lines { json, colours: progress::has_colours(), began: Instant::now() })
        .init();
}

/// Says why the job failed: once, here. And once more where a scheduler looks for it.
pub fn failed(error: &Error) {
    schedulers::ended(error);
    if progress::is_live() {
        let writer = writer::AboveBars::new(std::env::vars());
        eprintln!("error: {}", writer.without_secrets(&error.to_string()));
    } else {
        tracing::error!(kind = error.kind.name(), exit_code = error.kind.exit_code(), "{error}");
    }
}

/// Waits for SIGTERM or Ctrl-C, and sets `stop`. Work that does not come to an end within the grace time is cut off.
pub async fn stopped(handle: &Handle, stop: Stop) -> Error {
    let (tell, told) = oneshot::channel::<()>();
    // a task of its own: the main one may be deep in a computation when the signal comes
    handle.spawn(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::warn!("signals cannot be caught; a kill ends this process at once");
            return std::future::pending().await;
        };
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        stop.request();
        let _ = tell.send(());
        tokio::time::sleep(std::time::Duration::from_secs(GRACE_SECONDS)).await;
        schedulers::ended(&Error::new(Kind::Terminated, "told to stop, and cut off when the grace time was over"));
        std::process::exit(Kind::Terminated.exit_code().into());
    });
    match told.await {
        Ok(()) => Error::new(Kind::Terminated, "told to stop; what was finished is kept, run it again to go on"),
        Err(_) => std::future::pending().await,
    }
}
