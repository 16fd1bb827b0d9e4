//! Logs on standard error: text on a terminal, one JSON object a line elsewhere. And the signals that end a job.

use std::io::IsTerminal;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, Logging};
use crate::error::{Error, Kind};
use crate::job::Stop;
use crate::schedulers;

/// Seconds a job that was told to stop has to end by itself. Kubernetes kills after 30.
const GRACE_SECONDS: u64 = 25;

/// Sets up logging for the whole process. `RUST_LOG` overrides the level.
pub fn init(logging: &Logging) {
    let level = match (logging.quiet, logging.verbose) {
        (true, _) => "warn",
        (false, 0) => "warn,twotower=info",
        (false, 1) => "info,twotower=debug",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let terminal = std::io::stderr().is_terminal();
    let json = match logging.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
    } else {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none();
        builder.with_target(false).with_ansi(colours).compact().init();
    }
}

/// Says why the job failed: once, here. And once more where a scheduler looks for it.
pub fn failed(error: &Error) {
    schedulers::ended(error);
    if std::io::stderr().is_terminal() {
        eprintln!("error: {error}");
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
