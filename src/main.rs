//! Parse, set up logging, run, print the error, exit code.

use std::process::ExitCode;

use clap::Parser;
use twotower::cli::Cli;
use twotower::error::Kind;
use twotower::job::Stop;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Err(message) = twotower::cpu::check() {
        eprintln!("error: {message}");
        return ExitCode::from(Kind::Config.exit_code());
    }
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        // clap's own code for usage errors is 2
        std::process::exit(if error.use_stderr() { Kind::Usage.exit_code().into() } else { 0 });
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
    let result = runtime.block_on(async {
        tokio::select! {
            result = cli.run(stop.clone()) => result,
            error = twotower::logging::stopped(runtime.handle(), stop.clone()) => Err(error),
        }
    });
    // a thread that still reads from a slow store must not hold the exit
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            twotower::logging::failed(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}
