//! Reports that were written, found again.

use crate::artifacts::{Release, RunDate, keys};
use crate::error::{Error, Result};
use crate::storage::Store;

use super::Report;

/// A report, and the key of its page.
pub struct Found {
    pub report: Report,
    pub page: String,
}

/// The report of a release.
///
/// # Errors
/// When it has none, or one that cannot be read.
pub async fn of_release(output: &Store, release: &Release) -> Result<Found> {
    let entry = |name| release.publication.report.iter().find(|file| file.key.ends_with(name));
    let (Some(json), Some(page)) = (entry(keys::REPORT_JSON), entry(keys::REPORT_HTML)) else {
        return Err(Error::usage(format!(
            "release {} has no report: it was published by an earlier version; run its date again with this one",
            release.release
        )));
    };
    let report = read(output, &json.key, &output.get_file(json).await?)?;
    Ok(Found { report, page: page.key.clone() })
}

/// The newest report of the newest candidate of `date` that has any, published or not.
pub async fn of_date(output: &Store, date: RunDate) -> Result<Found> {
    let (runs, _) = output.list_level(&keys::runs(date)).await?;
    // run ids ascend with time
    for run_id in runs.iter().rev() {
        if let Some(found) = newest(output, date, run_id).await? {
            return Ok(found);
        }
    }
    Err(Error::usage(format!(
        "there is no report for {date}: none of its {} candidates was held against the gates; `twotower run --date {date}` does that",
        runs.len()
    )))
}

/// The newest report of one candidate, published or not.
pub async fn of_run(output: &Store, run_id: &str) -> Result<Found> {
    let (days, _) = output.list_level(keys::RUNS).await?;
    for date in days.iter().rev().filter_map(|day| day.strip_prefix("dt=")?.parse::<RunDate>().ok()) {
        let (runs, _) = output.list_level(&keys::runs(date)).await?;
        if runs.iter().any(|run| run == run_id) {
            return newest(output, date, run_id).await?.ok_or_else(|| {
                Error::usage(format!(
                    "run {run_id} of {date} has no report: it was not held against the gates; `twotower publish --date {date}` does that"
                ))
            });
        }
    }
    Err(Error::usage(format!("there is no run {run_id} below {}", output.url_of(keys::RUNS))))
}

async fn newest(output: &Store, date: RunDate, run_id: &str) -> Result<Option<Found>> {
    let folder = format!("{}/{}", keys::run(date, run_id), keys::REPORT);
    let objects = output.list(&folder).await?;
    let pages = objects.iter().filter(|object| object.key.ends_with(&format!("/{}", keys::REPORT_HTML)));
    let mut pages: Vec<_> = pages.collect();
    pages.sort_by_key(|page| (page.modified, &page.key));
    for page in pages.into_iter().rev() {
        // written after the page: a writer that was killed between the two left none
        let json = page.key.replace(keys::REPORT_HTML, keys::REPORT_JSON);
        if let Some(bytes) = output.get(&json).await? {
            return Ok(Some(Found { report: read(output, &json, &bytes)?, page: page.key.clone() }));
        }
    }
    Ok(None)
}

fn read(output: &Store, key: &str, bytes: &[u8]) -> Result<Report> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = format!("{} is not a report that this version reads; run its date again", output.url_of(key));
        Error::config(text).caused_by(error)
    })
}
