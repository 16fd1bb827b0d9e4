//! The report of one candidate as it was held against the gates: `report.json` for programs, `report.html` for people, one
//! self-contained file each, and the second is made from the first alone.
//!
//! It tells times and earlier releases, which no stage's result may depend on. So it is written by publishing, into a folder named by its
//! content: a candidate that is judged again gets another report, and no report is ever written over.

mod charts;
mod compare;
mod figures;
mod find;
mod html;
mod page;
mod sections;

use tracing::warn;

pub use compare::{Comparison, SharedList, compare};
pub use figures::{Before, Past, Report, Samples, StageCost, TableFigures, Verdict};
pub use find::{Found, of_date, of_release, of_run};
pub use page::page;

use crate::artifacts::{Evaluated, Portrait, Release, keys};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::publish::{Candidate, Judged, newest_ones};
use crate::storage::{FileEntry, Store, sha256_hex};

/// Releases in the trend, this one not counted.
const HISTORY: usize = 30;

/// Writes the report of a candidate that was just judged.
pub async fn write(job: &Job, candidate: &Candidate<'_>, judged: &Judged) -> Result<Vec<FileEntry>> {
    let output = &job.output;
    let portrait = portrait(output, candidate.evaluated).await?;
    let history = earlier(output).await;
    let before = match &judged.current {
        Some(current) => before(output, current).await,
        None => Vec::new(),
    };
    let report = Report::new(job, candidate, judged, portrait, &history, before);
    let html = page(&report);
    let json = serde_json::to_string(&report).expect("a report is JSON") + "\n";
    let folder = format!("{}/{}", candidate.evaluated.folder, &sha256_hex(html.as_bytes())[..12]);
    let mut files = Vec::new();
    for (name, text) in [(keys::REPORT_HTML, html), (keys::REPORT_JSON, json)] {
        files.push(output.put_file(format!("{folder}/{name}"), text, None).await?);
    }
    Ok(files)
}

async fn portrait(output: &Store, evaluated: &Evaluated) -> Result<Portrait> {
    let key = format!("{}/{}", evaluated.folder, keys::PORTRAIT);
    let entry = FileEntry::find(&evaluated.record.files, output, &key, "run the evaluation again")?;
    serde_json::from_slice(&output.get_file(entry).await?).map_err(|error| {
        let text = format!("{} is not readable; remove its folder to run the evaluation again", output.url_of(&key));
        Error::config(text).caused_by(error)
    })
}

/// The releases before. A candidate is not lost for a trend that cannot be drawn.
async fn earlier(output: &Store) -> Vec<Release> {
    newest_ones(output, HISTORY).await.unwrap_or_else(|error| {
        warn!("the report goes without the releases before: {error}");
        Vec::new()
    })
}

/// What users got from the published release, as its report has it.
async fn before(output: &Store, current: &Release) -> Vec<Before> {
    match of_release(output, current).await {
        Ok(found) => {
            let users = found.report.portrait.users.into_iter();
            users.map(|user| Before { user: user.user, gets: user.gets }).collect()
        }
        Err(error) => {
            warn!("the report goes without what users got before: {error}");
            Vec::new()
        }
    }
}
