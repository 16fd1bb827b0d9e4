//! SIGTERM and Ctrl-C: a job that is told to stop leaves within the time that Kubernetes gives, and lets the next one in.

use std::io::Write;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::warn;

use crate::error::{Error, Kind};
use crate::job::Stop;
use crate::{schedulers, storage};

/// How long a job that was told to stop has to end by itself. With the time to give leases back it leaves within 25 seconds;
/// Kubernetes kills after 30.
const GRACE: Duration = Duration::from_secs(20);

/// From now on SIGTERM and Ctrl-C set `stop`; the future ends when one of them comes. Work that does not come to an end within the
/// grace time is cut off.
pub fn watch(handle: &Handle, stop: Stop) -> impl Future<Output = Error> + use<> {
    let (tell, told) = oneshot::channel::<()>();
    let _inside = handle.enter();
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        // a task of its own: the main one may be deep in a computation when the signal comes
        (Ok(mut terminate), Ok(mut interrupt)) => drop(handle.spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            stop.request();
            let _ = tell.send(());
            tokio::time::sleep(grace()).await;
            warn!("told to stop, and the work at hand cannot be interrupted: it is cut off");
            storage::release_held().await;
            schedulers::ended(&Error::new(Kind::Terminated, "told to stop, and cut off when the grace time was over"));
            leave();
        })),
        _ => warn!("signals cannot be caught; a kill ends this process at once"),
    }
    async {
        match told.await {
            Ok(()) => Error::new(Kind::Terminated, "told to stop; what was finished is kept, run it again to go on"),
            Err(_) => std::future::pending().await,
        }
    }
}

/// Ends the process with the code of [`Kind::Terminated`], whatever its other threads are doing. The usual exit would first take
/// down what libraries have at hand, under the feet of a thread that computes with it.
pub fn leave() -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: ends the process and touches nothing of it
    unsafe { libc::_exit(Kind::Terminated.exit_code().into()) }
}

fn grace() -> Duration {
    // for tests of what happens when it is over
    #[cfg(fail_points)]
    if let Some(seconds) = std::env::var("TWOTOWER_GRACE_SECONDS").ok().and_then(|text| text.parse().ok()) {
        return Duration::from_secs(seconds);
    }
    GRACE
}
