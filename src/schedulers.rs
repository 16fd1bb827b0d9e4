//! What schedulers look for at places of their own: a task's result (Airflow's XCom), why a container ended (Kubernetes), and
//! how far it is (Argo). Each is written only where its place is there, and a failure of any of them never fails the job.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// Where Airflow's KubernetesPodOperator reads a pod's result; `TWOTOWER_XCOM` names another folder.
const XCOM: &str = "/airflow/xcom";
/// Where Kubernetes reads why a container ended; `TWOTOWER_TERMINATION_LOG` names another file.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Kubernetes keeps the last 4,096 bytes; the mark stands at the beginning.
const TERMINATION_BYTES: usize = 4000;

/// Writes `result` to `return.json` in the XCom folder, where there is one.
pub fn xcom(result: &str) {
    let folder = place("TWOTOWER_XCOM", XCOM);
    if folder.is_dir() {
        let file = folder.join("return.json");
        if let Err(error) = std::fs::write(&file, result) {
            tracing::warn!("the result is not passed on to Airflow, {} cannot be written: {error}", file.display());
        }
    }
}

/// Writes why the job failed, and whether a retry can help, to the container's termination log, where there is one.
pub fn ended(error: &Error) {
    let file = place("TWOTOWER_TERMINATION_LOG", TERMINATION_LOG);
    if file.is_file()
        && let Err(failure) = std::fs::write(&file, termination(error))
    {
        tracing::warn!("{} cannot be written: {failure}", file.display());
    }
}

fn termination(error: &Error) -> String {
    let mark = if error.kind.retry_can_help() { "[transient]" } else { "[permanent]" };
    let mut text = format!("{mark} {error}");
    if text.len() > TERMINATION_BYTES {
        text.truncate(text.floor_char_boundary(TERMINATION_BYTES));
    }
    text
}

fn place(variable: &str, usual: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| usual.into(), PathBuf::from)
}

/// The file that `ARGO_PROGRESS_FILE` names: one line `N/M`, N of M parts done. A part is a hundredth of a stage.
pub struct ProgressFile {
    path: PathBuf,
    /// Stages in all, and those that are done.
    stages: AtomicU64,
    done: AtomicU64,
    written: Mutex<Written>,
}

/// What stands in the file.
#[derive(Default, PartialEq, Clone, Copy)]
struct Written {
    parts: u64,
    of: u64,
}

const PARTS_OF_A_STAGE: u64 = 100;

impl ProgressFile {
    /// The file of this process, if Argo asks for one.
    pub fn of_argo() -> Option<ProgressFile> {
        std::env::var_os("ARGO_PROGRESS_FILE").filter(|path| !path.is_empty()).map(|path| Self::at(Path::new(&path)))
    }

    fn at(path: &Path) -> ProgressFile {
        ProgressFile {
            path: path.to_path_buf(),
            stages: AtomicU64::new(0),
            done: AtomicU64::new(0),
            written: Mutex::default(),
        }
    }

    /// So many stages more are to come.
    pub fn expect(&self, stages: u64) {
        self.stages.fetch_add(stages, Ordering::SeqCst);
        self.write(0);
    }

    /// One stage is done.
    pub fn stage_done(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
        self.write(0);
    }

    /// `position` of `total` steps of the current stage are done.
    pub fn within(&self, position: u64, total: u64) {
        // the last part is the stage's manifest
        self.write((position.min(total) * (PARTS_OF_A_STAGE - 1)).checked_div(total).unwrap_or(0));
    }

    fn write(&self, parts: u64) {
        let (stages, done) = (self.stages.load(Ordering::SeqCst), self.done.load(Ordering::SeqCst));
        let of = stages * PARTS_OF_A_STAGE;
        let mut written = self.written.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // a stage may have several bars, each from 0: what was said is not taken back
        let now = Written { parts: (done * PARTS_OF_A_STAGE + parts).max(written.parts).min(of), of };
        if of == 0 || now == *written {
            return;
        }
        *written = now;
        if let Err(error) = std::fs::write(&self.path, format!("{}/{}\n", now.parts, now.of)) {
            tracing::debug!("{} cannot be written: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_termination_log_says_whether_a_retry_can_help() {
        let says = |kind| termination(&Error::new(kind, "why").context("doing so"));
        for kind in [Kind::Transient, Kind::Terminated] {
            assert_eq!(says(kind), "[transient] why\n  while doing so");
        }
        for kind in [Kind::NoData, Kind::Usage, Kind::GateRefused, Kind::Internal, Kind::Config] {
            assert_eq!(says(kind), "[permanent] why\n  while doing so");
        }
        let long = termination(&Error::config("é".repeat(9000)));
        assert!(long.len() <= TERMINATION_BYTES && long.starts_with("[permanent] é"), "{} bytes", long.len());
    }

    #[test]
    fn progress_counts_stages_and_what_is_done_of_the_current_one_and_never_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("progress");
        let file = ProgressFile::at(&path);
        let says = || std::fs::read_to_string(&path).unwrap();
        file.within(3, 10);
        assert!(!path.exists(), "nothing is known before the stages are");
        file.expect(2);
        assert_eq!(says(), "0/200\n");
        file.within(5, 10);
        assert_eq!(says(), "49/200\n");
        // a second bar of the same stage
        file.within(1, 10);
        assert_eq!(says(), "49/200\n");
        file.within(10, 10);
        assert_eq!(says(), "99/200\n");
        file.stage_done();
        assert_eq!(says(), "100/200\n");
        file.within(0, 0);
        file.stage_done();
        assert_eq!(says(), "200/200\n");
        file.expect(1);
        assert_eq!(says(), "200/300\n");
    }
}
