//! Parse, set up logging, run, print the error, exit code.

use std::process::ExitCode;

use clap::Parser;
use twotower::cli::Cli;
use twotower::error::{Error, Kind};
use twotower::job::Stop;

fn main() -> ExitCode {
    twotower::allocator::set_up();
    if let Err(error) = twotower::cpu::check() {
        eprintln!("error: {error}");
        twotower::schedulers::ended(&error);
        return ExitCode::from(error.kind.exit_code());
    }
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        if !error.use_stderr() {
            std::process::exit(0);
        }
        twotower::schedulers::ended(&Error::usage(error.to_string()));
        // clap's own code for usage errors is 2
        std::process::exit(Kind::Usage.exit_code().into());
    });
    twotower::logging::init(&cli.logging);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            return ExitCode::from(Kind::Transient.exit_code());
        }
    };
    let stop = Stop::default();
    // before anything else: what comes first may compute for long
    let told = twotower::signals::watch(runtime.handle(), stop.clone());
    let result = runtime.block_on(async {
        tokio::select! {
            result = cli.run(stop.clone()) => result,
            error = told => Err(error),
        }
    });
    let told_to_stop = matches!(&result, Err(error) if error.kind == Kind::Terminated);
    if told_to_stop {
        runtime.block_on(twotower::storage::release_held());
    }
    // a thread that still reads from a slow store must not hold the exit
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            twotower::logging::failed(&error);
            if told_to_stop {
                // faiss may be at work still
                twotower::signals::leave();
            }
            ExitCode::from(error.kind.exit_code())
        }
    }
}
