//! Logs on standard error: text on a terminal, one JSON object a line elsewhere.

mod lines;
mod writer;

use std::time::Instant;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

use crate::cli::{LogFormat, Logging};
use crate::error::Error;
use crate::progress;
use crate::schedulers;

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
